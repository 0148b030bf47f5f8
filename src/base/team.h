/* team.h - the team of OpenMP threads of a host's thread. OpenMP makes it at the first region and
 * keeps it for that thread. OpenMP ends the process if it cannot make a thread. In a forked child
 * it waits for ever for the parent's team. So both cases are ruled out here before any region. */
#ifndef KD_TEAM_H
#define KD_TEAM_H
#include "base/base.h"

/* For a new context: lower *threads to the number that the calling thread can have, at least 1, and
 * that OMP_THREAD_LIMIT allows.
 * KDAS_ESTATE: more than one was requested, and the calling thread's team exists only in the
 * parent process. */
kdas_status kd_team_open(int32_t *threads);
/* Call before regions of that many threads. KDAS_ESTATE as above; KDAS_EBACKEND: so many cannot be
 * made here. The result is cached for the calling thread until the number changes. */
kdas_status kd_team_start(int32_t threads);
/* The same without a sentence, for work that one thread can do as well. */
bool kd_team_try(int32_t threads);

#endif

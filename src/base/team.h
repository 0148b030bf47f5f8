/* team.h - the team of OpenMP threads that a host's thread computes with. OpenMP makes it at the first region and keeps
 * it for that thread. It ends the process where it cannot make a thread, and waits for ever for a team that stayed
 * behind in a parent process: so it is asked for nothing before that has been ruled out here. */
#ifndef KD_TEAM_H
#define KD_TEAM_H
#include "base/base.h"

/* For a new context: lower *threads to as many as can be had in the calling thread, 1 at least. KDAS_ESTATE: more than
 * one was asked for, and the calling thread's team stayed behind in the parent. */
kdas_status kd_team_open(int32_t *threads);
/* Before regions of that many threads. KDAS_ESTATE as above; KDAS_EBACKEND: so many cannot be made here. What has been
 * found out is remembered for the calling thread until the number changes. */
kdas_status kd_team_start(int32_t threads);
/* The same without a sentence, for what can be done by one thread as well. */
bool kd_team_try(int32_t threads);

#endif

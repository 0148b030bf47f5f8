/* team.h - the compute threads of a context. A job is cut into parts; the calling thread and the team's own threads take
 * parts until none is left, so that a thread that the system gives no processor delays no part that it has not begun.
 * Which thread runs a part is open. What a part computes must not depend on it.
 *
 * The team's threads are created at its first job. Between jobs they look for the next one for a short time, and then
 * sleep. All libraries below are called with one OpenMP thread, so that OpenMP never makes threads beside these. */
#ifndef KD_TEAM_H
#define KD_TEAM_H
#include <pthread.h>
#include "base/base.h"

typedef struct kd_team kd_team;
typedef void (*kd_part_fn)(void *job, int part);

/* A team of `threads`, the caller included, 2 or more; `wait`: a kdas_wait. KDAS_ENOMEM. */
kdas_status kd_team_create(kd_team **out, kdas_context *ctx, int32_t threads, int32_t wait);
/* Ends its threads. In a forked child, which has none of them, it only frees memory. NULL is fine. */
void kd_team_destroy(kd_team *team);

/* Create the threads that are missing. If the system refuses some, the others do their parts; that is logged once, and
 * the next call tries again. NULL is fine. */
void kd_team_start(kd_team *team);

/* A job has at most so many parts for each thread. */
enum { KD_TEAM_PARTS = 4 };
/* fn(job, part) for each part of 0 .. parts-1; returns when all are done. The calling thread runs all of them, in order,
 * without a team, inside a part of any team, in a forked child, and while another thread uses the team. */
void kd_team_run(kd_team *team, int parts, kd_part_fn fn, void *job);

/* fn(job, thread) once on each thread that exists, the caller's (0) included: for what is a matter of threads, such as the
 * CPUs that they may use. Only the caller's where kd_team_run() would run all parts on it. */
void kd_team_each(kd_team *team, kd_part_fn fn, void *job);

/* The team that kernels in the calling thread use from here on, NULL for none; see regions.h. */
void kd_team_use(kd_team *team);
/* A job of kernels: kd_team_run() with that team. */
void kd_team_do(int parts, kd_part_fn fn, void *job);
/* How many parts use all threads of that team; 1 where one thread would run them. */
int kd_team_parts(void);

int       kd_team_made(const kd_team *team);          /* threads that exist, without the caller's */
pthread_t kd_team_thread(const kd_team *team, int i); /* number i of them, 1 .. made */

/* Nanoseconds since the team was created, while times are taken: all threads together in parts, and the
 * caller's in jobs, from their posting until all parts are done. NULL: zeros. */
typedef struct kd_team_times {
    int64_t parts, jobs;
} kd_team_times;
void          kd_team_take_times(kd_team *team, bool on); /* NULL is fine */
kd_team_times kd_team_read_times(const kd_team *team);

/* ---- for tests ---- */
int     kd_team_sleeping(const kd_team *team);      /* of these, how many sleep now              */
int64_t kd_team_spin(const kd_team *team);          /* nanoseconds that they look before that    */
void kd_team_shuffle(kd_team *team, uint64_t seed); /* claim parts in a random order; 0: not     */

#endif

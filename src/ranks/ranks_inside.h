/* ranks_inside.h - what the files of this folder share. */
#ifndef KD_RANKS_INSIDE_H
#define KD_RANKS_INSIDE_H
#include <pthread.h>
#include "base/plugin.h"
#include "ranks/ranks.h"

enum { KD_RANKS_TEXT = 512 };

struct kdas_ranks {
    kdas_context        *ctx;
    kdas_collective      table; /* a copy */
    kdas_collective_host host;  /* borrowed by the collective */
    kd_plugin            plugin;
    void                *group; /* NULL: not open; the thread's until it ends */
    int32_t              rank, count;
    bool                 alone; /* a group of one, which needs no thread */
    double               timeout;
    const void          *communicator;
    char                 text[256]; /* describe() */

    pthread_t       thread;
    bool            has_thread;
    pthread_mutex_t lock;
    pthread_cond_t  work, done;
    kd_ranks_job   *first, *last; /* waiting for the thread */
    bool            ended;
    bool            broken;
    char            why[KD_RANKS_TEXT]; /* the sentence of the first failure */
    kdas_status     status;             /* its status */
    double          waited, worked;
    double         *ballot; /* count + KD_RANKS_VALUES numbers */
};

/* The thread: started and ended with the group. (thread.c) */
kdas_status kd_ranks_thread_start(kdas_ranks *ranks);
void        kd_ranks_thread_end(kdas_ranks *ranks);
/* The collective cannot be relied on: KDAS_EBACKEND with this sentence, for this call and all that follow. */
kdas_status kd_ranks_break(kdas_ranks *ranks, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif

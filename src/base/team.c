/* team.c - see team.h. */
#include "base/team.h"
#include <omp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include "base/process.h"
#include "base/text.h"

enum { MOST = 1024 }; /* threads of a context */

typedef enum answer { READY, LEFT_BEHIND, TOO_FEW } answer;

static _Thread_local struct team {
    unsigned forks;   /* of the process that the rest is of        */
    int32_t  started; /* threads of the last region; 0: none yet   */
    int32_t  sure;    /* as many can be had; 0: not found out      */
} mine;

/* ---- can threads be made? ---- */

/* The stack size of OpenMP's threads; 0: the system's default. A number, and B, K, M or G; K if
 * none is named. */
static size_t stack_size(void)
{
    const char *text = getenv("OMP_STACKSIZE"), *end;
    int64_t     size;
    int         shift = 10;

    if (!text) text = getenv("GOMP_STACKSIZE");
    if (!text || !kd_parse_whole(text, &end, &size) || size < 1) return 0;
    while (*end == ' ')
        end++;
    switch (*end) {
    case 'b':
    case 'B': shift = 0; break;
    case 'm':
    case 'M': shift = 20; break;
    case 'g':
    case 'G': shift = 30; break;
    default: break;
    }
    return size > INT64_MAX >> shift ? 0 : (size_t)size << shift;
}

static void *wait_at_gate(void *gate)
{
    while (sem_wait(gate) != 0)
        continue;
    return NULL;
}

/* How many of `count` threads can exist at once. The threads are created and joined as a test. */
static int32_t make_threads(int32_t count)
{
    pthread_t      thread[MOST];
    pthread_attr_t attr;
    sigset_t       all, before;
    sem_t          gate;
    size_t         stack = stack_size();
    int32_t        made  = 0;

    if (pthread_attr_init(&attr) != 0) return 0;
    if (sem_init(&gate, 0, 0) != 0) {
        pthread_attr_destroy(&attr);
        return 0;
    }
    if (stack) pthread_attr_setstacksize(&attr, stack); /* OpenMP ignores a refused size */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the host's threads */
    while (made < count && pthread_create(&thread[made], &attr, wait_at_gate, &gate) == 0)
        made++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (int32_t i = 0; i < made; i++)
        sem_post(&gate);
    for (int32_t i = 0; i < made; i++)
        pthread_join(thread[i], NULL);
    sem_destroy(&gate);
    pthread_attr_destroy(&attr);
    return made;
}

/* ---- the calling thread's OpenMP threads ---- */

/* As many as OpenMP would take for a region of `threads`. */
static int32_t region_size(int32_t threads)
{
    if (omp_get_active_level() >= omp_get_max_active_levels()) return 1;
    return KD_MIN(KD_MIN(threads, (int32_t)omp_get_thread_limit()), MOST);
}

/* Whether `size` OpenMP threads exist or can be made. *most: the number that can be made. */
static answer ask(int32_t size, int32_t *most)
{
    int32_t alive;

    *most = 1;
    if (size <= 1) return READY;
    if (mine.forks != kd_process_forks()) {
        if (mine.started > 1) return LEFT_BEHIND;
        mine = (struct team){ .forks = kd_process_forks() };
    }
    if (mine.sure != size) {
        alive     = KD_MAX(mine.started, 1);
        mine.sure = size <= alive ? size : alive + make_threads(size - alive);
    }
    *most = mine.sure;
    return mine.sure == size ? READY : TOO_FEW;
}

static answer start(int32_t threads, int32_t *most)
{
    int32_t size  = region_size(threads);
    answer  found = ask(size, most);

    if (found == READY && size > 1) mine.started = size;
    return found;
}

static kdas_status left_behind(void)
{
    return kd_fail(KDAS_ESTATE,
                   "this thread's compute threads stayed behind in the parent process when it was "
                   "forked: a context of 1 thread can be used here, one of more in a new thread");
}

kdas_status kd_team_open(int32_t *threads)
{
    int32_t most;

    *threads = KD_MIN(*threads, (int32_t)omp_get_thread_limit());
    switch (ask(region_size(*threads), &most)) {
    case LEFT_BEHIND: return left_behind();
    case TOO_FEW: *threads = most; break;
    case READY: break;
    }
    return KDAS_OK;
}

kdas_status kd_team_start(int32_t threads)
{
    int32_t most;

    switch (start(threads, &most)) {
    case LEFT_BEHIND: return left_behind();
    case TOO_FEW:
        return kd_fail(KDAS_EBACKEND,
                       "%d compute threads are wanted, and the system lets this thread have %d "
                       "(limits of processes or of memory)",
                       threads, most);
    case READY: break;
    }
    return KDAS_OK;
}

bool kd_team_try(int32_t threads)
{
    int32_t most;

    return start(threads, &most) == READY;
}

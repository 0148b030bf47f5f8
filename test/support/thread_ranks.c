/* thread_ranks.c - see thread_ranks.h. A call has two meetings: after the first, each rank's operand can be read by all;
 * after the second, none is read any more. */
#include "support/thread_ranks.h"
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/base.h"
#include "support/check_util.h"

enum { JOINING = -1000 }; /* calls that are made to join are not counted */

struct kd_test_group {
    kd_test_group_options options;
    pthread_mutex_t       lock;
    pthread_cond_t        meet;
    int                   present;
    long                  meetings;
    bool                  waits; /* for a lost rank, as long as the test says */
    bool                  left;  /* a rank has given up: no meeting is complete any more */
    const void           *operand[KD_TEST_RANKS];
    size_t                size[KD_TEST_RANKS]; /* of each rank's operand in its call */
    const char           *what[KD_TEST_RANKS];
    long                  calls[KD_TEST_RANKS];
    double                bytes;
    int                   aborted;
};

/* What the collective calls a group: a seat, and what the library lends. */
typedef struct side {
    kd_test_seat               *seat;
    const kdas_collective_host *host;
} side;

kd_test_group_options kd_test_group_of(int count)
{
    return (kd_test_group_options){ .count = count, .lost = -1, .slow = -1 };
}

kdas_ranks_options kd_test_group_of_one(void)
{
    static kd_test_group group; /* only its options are read */
    static kd_test_seat  seat = { .group = &group };
    kdas_ranks_options   o;

    group.options = kd_test_group_of(1);
    kdas_ranks_options_init(&o, sizeof o);
    o.table        = &kd_test_collective;
    o.communicator = &seat;
    return o;
}

static struct timespec in_seconds(double seconds)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    seconds += (double)t.tv_nsec * 1e-9;
    t.tv_sec += (time_t)seconds;
    t.tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9);
    return t;
}

/* The last rank that comes. */
static void let_go(kd_test_group *g)
{
    g->present = 0;
    g->meetings++;
    pthread_cond_broadcast(&g->meet);
}

/* Wait for all ranks, up to the timeout, or until one is lost; then nobody meets any more. */
static bool meet(kd_test_group *g)
{
    struct timespec until = in_seconds(g->options.timeout);
    long            own;
    bool            met;

    pthread_mutex_lock(&g->lock);
    own = g->meetings;
    if (!g->left && ++g->present == g->options.count) let_go(g);
    while (g->meetings == own && !g->left)
        if (pthread_cond_timedwait(&g->meet, &g->lock, &until) == ETIMEDOUT) g->left = true;
    met = g->meetings != own;
    if (!met) pthread_cond_broadcast(&g->meet);
    pthread_mutex_unlock(&g->lock);
    return met;
}

/* The end of a call for which all have met: each comes, however slow the machine is, and until then reads what the others lend. */
static void finish_call(kd_test_group *g)
{
    long own;

    pthread_mutex_lock(&g->lock);
    own = g->meetings;
    if (++g->present == g->options.count) let_go(g);
    while (g->meetings == own)
        pthread_cond_wait(&g->meet, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

/* A collective of processes fails, or worse, where ranks make different calls. */
static void assert_same_call(const kd_test_group *g)
{
    for (int r = 1; r < g->options.count; r++)
        ck_assert_msg(strcmp(g->what[r], g->what[0]) == 0 && g->size[r] == g->size[0],
                      "rank %d: %s of %zu bytes; rank 0: %s of %zu bytes", r, g->what[r],
                      g->size[r], g->what[0], g->size[0]);
}

/* The others' timeouts are over at once. */
static void lose(kd_test_group *g)
{
    pthread_mutex_lock(&g->lock);
    g->left = true;
    pthread_cond_broadcast(&g->meet);
    pthread_mutex_unlock(&g->lock);
}

static kdas_status come(side *s, const char *what, const void *operand, size_t size)
{
    kd_test_group *g    = s->seat->group;
    int            rank = s->seat->rank;

    if (rank == g->options.slow) {
        struct timespec t = { (time_t)g->options.late,
                              (long)((g->options.late - (double)(time_t)g->options.late) * 1e9) };

        nanosleep(&t, NULL);
    }
    if (rank == g->options.lost && g->calls[rank] >= g->options.calls) {
        if (!g->waits) lose(g);
        return (s->host->fail)(KDAS_EBACKEND, "rank %d is lost", rank);
    }
    g->calls[rank]++;
    g->operand[rank] = operand;
    g->size[rank]    = size;
    g->what[rank]    = what;
    if (meet(g)) {
        assert_same_call(g);
        return KDAS_OK;
    }
    return (s->host->fail)(KDAS_EBACKEND, "%s: a rank did not answer within %g seconds", what,
                           g->options.timeout);
}

static kdas_status open_side(void **out, const kdas_collective_host *host,
                             const kdas_collective_options *options)
{
    side *s = host->alloc(host->user, sizeof *s);

    if (!s) return KDAS_ENOMEM;
    s->seat = (kd_test_seat *)options->communicator;
    s->host = host;
    *out    = s;
    return KDAS_OK;
}

static void close_side(void *group)
{
    side *s = group;

    s->host->free(s->host->user, s);
}

static int32_t rank_of(void *group) { return ((side *)group)->seat->rank; }
static int32_t count_of(void *group) { return ((side *)group)->seat->group->options.count; }
static void    describe(void *group, char *text, size_t size)
{
    snprintf(text, size, "%d threads of a test", count_of(group));
}

static kdas_status sum(void *group, void *values, size_t count, int32_t type)
{
    side          *s     = group;
    kd_test_group *g     = s->seat->group;
    size_t         bytes = count * (type == KDAS_COLLECTIVE_F64 ? 8 : 4);
    void          *own   = malloc(bytes + 1);
    kdas_status    st;

    memcpy(own, values, bytes);
    st = come(s, type == KDAS_COLLECTIVE_F64 ? "sum of f64" : "sum", own, bytes);
    for (size_t i = 0; st == KDAS_OK && i < count; i++) {
        double wide = 0;
        float  f    = 0;

        for (int r = 0; r < g->options.count; r++) {
            if (type == KDAS_COLLECTIVE_F64)
                wide += ((const double *)g->operand[r])[i];
            else
                f += ((const float *)g->operand[r])[i];
        }
        if (type == KDAS_COLLECTIVE_F64)
            ((double *)values)[i] = wide;
        else
            ((float *)values)[i] = f;
    }
    if (st == KDAS_OK && s->seat->rank == 0) g->bytes += (double)bytes;
    if (st == KDAS_OK) finish_call(g);
    free(own);
    return st;
}

static kdas_status broadcast(void *group, void *bytes, size_t count, int32_t root)
{
    side *s = group;

    KD_RETURN(come(s, "broadcast", bytes, count));
    if (s->seat->rank != root) memcpy(bytes, s->seat->group->operand[root], count);
    finish_call(s->seat->group);
    return KDAS_OK;
}

static kdas_status barrier(void *group)
{
    KD_RETURN(come(group, "barrier", NULL, 0));
    finish_call(((side *)group)->seat->group);
    return KDAS_OK;
}

static void abort_all(void *group, int32_t code) { ((side *)group)->seat->group->aborted = code; }

const kdas_collective kd_test_collective = {
    .abi       = KDAS_COLLECTIVE_ABI,
    .size      = sizeof kd_test_collective,
    .name      = "threads",
    .open      = open_side,
    .close     = close_side,
    .rank      = rank_of,
    .count     = count_of,
    .describe  = describe,
    .sum       = sum,
    .broadcast = broadcast,
    .barrier   = barrier,
    .abort     = abort_all,
};

/* ---- threads ---- */

typedef struct runner {
    kd_test_seat  seat;
    kd_test_meter meter;
    void (*fn)(kd_test_seat *seat);
    pthread_t thread;
} runner;

static void *run(void *user)
{
    runner            *r      = user;
    const char        *device = r->seat.group->options.device;
    kdas_ranks_options o;

    r->seat.ctx = kd_test_device(device ? device : "cpu", &r->meter);
    kdas_ranks_options_init(&o, sizeof o);
    o.table                            = &kd_test_collective;
    o.communicator                     = &r->seat;
    o.timeout                          = r->seat.group->options.timeout;
    r->seat.group->calls[r->seat.rank] = JOINING;
    kd_assert_ok(kdas_ranks_create(&r->seat.ranks, r->seat.ctx, &o));
    r->seat.group->calls[r->seat.rank] = 0;
    r->fn(&r->seat);
    kdas_ranks_destroy(r->seat.ranks);
    kdas_context_destroy(r->seat.ctx);
    kd_test_assert_given_back(&r->meter);
    return NULL;
}

void kd_test_on_ranks(const kd_test_group_options *options, void (*fn)(kd_test_seat *seat),
                      void                        *user)
{
    kd_test_group g = { .options = *options };
    runner        r[KD_TEST_RANKS];

    ck_assert_int_le(options->count, KD_TEST_RANKS);
    g.waits = options->timeout > 0;
    if (!g.waits) g.options.timeout = 60;
    pthread_mutex_init(&g.lock, NULL);
    pthread_cond_init(&g.meet, NULL);
    memset(r, 0, sizeof r);
    for (int i = 0; i < options->count; i++) {
        r[i].seat = (kd_test_seat){ .group = &g, .rank = i, .user = user };
        r[i].fn   = fn;
        ck_assert_int_eq(pthread_create(&r[i].thread, NULL, run, &r[i]), 0);
    }
    for (int i = 0; i < options->count; i++)
        ck_assert_int_eq(pthread_join(r[i].thread, NULL), 0);
    pthread_mutex_destroy(&g.lock);
    pthread_cond_destroy(&g.meet);
}

long   kd_test_group_calls(const kd_test_seat *seat) { return seat->group->calls[seat->rank]; }
double kd_test_group_bytes(const kd_test_seat *seat) { return seat->group->bytes; }
int    kd_test_group_aborted(const kd_test_seat *seat) { return seat->group->aborted; }

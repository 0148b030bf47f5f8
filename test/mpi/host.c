/* host.c - a host that joins the ranks and does one thing:
 *
 *   host COLLECTIVE SCENARIO [TIMEOUT]
 *
 * Built three times: linked with libkdas; with -DLOADED="path", libkdas is loaded by dlopen and nothing is global; with
 * -DOWN_MPI, by an MPI's compiler, the host starts MPI itself. Each line that it prints begins with "rank N:". */
#include <kdas/kdas.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef OWN_MPI
#include <mpi.h>
#endif
#ifdef LOADED
#include <dlfcn.h>
static void *library;
static void *get(const char *name)
{
    void *address = dlsym(library, name);

    if (!address) exit(printf("%s\n", dlerror()));
    return address;
}
#define kdas_last_error      ((const char *(*)(void))get("kdas_last_error"))
#define kdas_context_create  ((__typeof__(&kdas_context_create))get("kdas_context_create"))
#define kdas_context_destroy ((__typeof__(&kdas_context_destroy))get("kdas_context_destroy"))
#define kdas_ranks_options_init \
    ((__typeof__(&kdas_ranks_options_init))get("kdas_ranks_options_init"))
#define kdas_ranks_create    ((__typeof__(&kdas_ranks_create))get("kdas_ranks_create"))
#define kdas_ranks_destroy   ((__typeof__(&kdas_ranks_destroy))get("kdas_ranks_destroy"))
#define kdas_ranks_rank      ((__typeof__(&kdas_ranks_rank))get("kdas_ranks_rank"))
#define kdas_ranks_count     ((__typeof__(&kdas_ranks_count))get("kdas_ranks_count"))
#define kdas_ranks_describe  ((__typeof__(&kdas_ranks_describe))get("kdas_ranks_describe"))
#define kdas_ranks_broken    ((__typeof__(&kdas_ranks_broken))get("kdas_ranks_broken"))
#define kdas_ranks_agree     ((__typeof__(&kdas_ranks_agree))get("kdas_ranks_agree"))
#define kdas_ranks_vote      ((__typeof__(&kdas_ranks_vote))get("kdas_ranks_vote"))
#define kdas_ranks_sum       ((__typeof__(&kdas_ranks_sum))get("kdas_ranks_sum"))
#define kdas_ranks_broadcast ((__typeof__(&kdas_ranks_broadcast))get("kdas_ranks_broadcast"))
#define kdas_ranks_barrier   ((__typeof__(&kdas_ranks_barrier))get("kdas_ranks_barrier"))
#define kdas_ranks_abort     ((__typeof__(&kdas_ranks_abort))get("kdas_ranks_abort"))
#endif

static kdas_context *ctx;
static kdas_ranks   *ranks;
static int           rank, count;

static void say(const char *text)
{
    printf("rank %d: %s\n", rank, text);
    fflush(stdout);
}

static int expect(int holds, const char *what)
{
    if (!holds) say(what), say(kdas_last_error());
    return !holds;
}

static void wait_for(double seconds)
{
    struct timespec t = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

    nanosleep(&t, NULL);
}

/* ---- scenarios: each returns the exit status ---- */

static int all_is_well(void)
{
    enum { MANY = 40000 };
    static double v[MANY];
    char          name[8] = "";
    double        sum     = 0;
    int           bad     = 0;

    for (int i = 0; i < MANY; i++)
        v[i] = 0.1 * (rank + 1) + i;
    if (rank == count - 1) strcpy(name, "last");
    bad += expect(kdas_ranks_sum(ranks, v, MANY) == KDAS_OK, "no sum");
    for (int r = 0; r < count; r++)
        sum += 0.1 * (r + 1) + 7;
    bad += expect(v[7] == sum, "the sum has other bits");
    bad += expect(kdas_ranks_broadcast(ranks, name, sizeof name, count - 1) == KDAS_OK,
                  "no broadcast");
    bad += expect(strcmp(name, "last") == 0, "the broadcast has other bytes");
    bad += expect(kdas_ranks_barrier(ranks) == KDAS_OK, "no barrier");
    bad += expect(kdas_ranks_agree(ranks, "batch", "8") == KDAS_OK, "no agreement");
    bad += expect(kdas_ranks_vote(ranks, KDAS_OK) == KDAS_OK, "no vote");
    bad += expect(kdas_ranks_broken(ranks) == 0, "it is broken");
    return bad;
}

static int disagree(void)
{
    kdas_status st = kdas_ranks_agree(ranks, "batch", rank == count - 1 ? "16" : "8");

    return expect(st == KDAS_EINVAL, "they agree") || (say(kdas_last_error()), 0);
}

static int fail_alone(void)
{
    double value = 1;
    int    root  = rank == count - 1 ? 99 : 0;

    return expect(kdas_ranks_broadcast(ranks, &value, sizeof value, root) == KDAS_EINVAL,
                  "no failure") ||
           (say(kdas_last_error()), 0) || expect(kdas_ranks_broken(ranks) == 0, "it is broken") ||
           expect(kdas_ranks_sum(ranks, &value, rank == 0 ? 1 : 0) == KDAS_ESTATE, "they agree") ||
           (say(kdas_last_error()), 0) || all_is_well();
}

/* The others, after rank 1 is gone. */
static int wait_in_vain(void)
{
    double *v = malloc(1000000 * sizeof *v);
    int     failed;

    memset(v, 0, 1000000 * sizeof *v);
    failed = kdas_ranks_sum(ranks, v, 1000000) == KDAS_EBACKEND && kdas_ranks_broken(ranks);
    free(v);
    say(failed ? kdas_last_error() : "the sum did not fail");
    if (rank == 0) wait_for(0.5), say("has saved");
    if (rank == 0) printf("rank 0: last words, in a buffer\n");
    return 3;
}

static int lose_one(void (*lose)(void))
{
    if (kdas_ranks_barrier(ranks) != KDAS_OK) return 4;
    if (rank == 1) lose();
    return wait_in_vain();
}

static void be_killed(void) { raise(SIGKILL); }
static void be_stopped(void) { raise(SIGSTOP); }
static void leave(void) { exit(0); }
static void leave_with_error(void) { exit(5); }

static int abort_all(void)
{
    if (rank == 1) kdas_ranks_abort(ranks, 9);
    if (rank == 1) say("abort returned");
    kdas_ranks_barrier(ranks);
    return 0;
}

static int leave_to_join_again(void)
{
    kdas_ranks_destroy(ranks);
    ranks = NULL;
    return 0;
}

/* A child's exit must not end MPI for its parent. */
static int fork_one(void)
{
    pid_t child = fork();

    if (child == 0) exit(0);
    wait_for(0.2);
    return all_is_well();
}

/* A second handle over the same processes, with a context of its own, which another thread uses at the same time. */
static void *sum_often(void *handle)
{
    enum { TIMES = 300 };
    long bad = 0;

    for (int i = 0; i < TIMES; i++) {
        double v[2] = { rank, i };

        bad += kdas_ranks_sum(handle, v, 2) != KDAS_OK || v[0] != count * (count - 1) / 2.0 ||
               v[1] != count * i;
    }
    return (void *)bad;
}

static int use_two_at_once(const char *collective)
{
    kdas_context      *other_ctx = NULL;
    kdas_ranks        *other     = NULL;
    kdas_ranks_options o;
    pthread_t          thread;
    void              *bad_there = NULL;
    int                bad;

    kdas_ranks_options_init(&o, sizeof o);
    o.collective = collective;
    o.timeout    = 20;
    bad          = expect(kdas_context_create(&other_ctx, NULL) == KDAS_OK, "no second context") ||
          expect(kdas_ranks_create(&other, other_ctx, &o) == KDAS_OK, "no second handle") ||
          expect(pthread_create(&thread, NULL, sum_often, other) == 0, "no thread");
    if (!bad) {
        bad = expect(sum_often(ranks) == NULL, "sums of the first handle are wrong");
        pthread_join(thread, &bad_there);
        bad += expect(bad_there == NULL, "sums of the second handle are wrong");
    }
    kdas_ranks_destroy(other);
    kdas_context_destroy(other_ctx);
    return bad || all_is_well();
}

static int run(const char *scenario, const char *collective)
{
    if (!strcmp(scenario, "fine")) return all_is_well();
    if (!strcmp(scenario, "disagree")) return disagree();
    if (!strcmp(scenario, "vote")) return fail_alone();
    if (!strcmp(scenario, "killed")) return lose_one(be_killed);
    if (!strcmp(scenario, "stopped")) return lose_one(be_stopped);
    if (!strcmp(scenario, "early")) return lose_one(leave);
    if (!strcmp(scenario, "early_error")) return lose_one(leave_with_error);
    if (!strcmp(scenario, "abort")) return abort_all();
    if (!strcmp(scenario, "again")) return leave_to_join_again();
    if (!strcmp(scenario, "fork")) return fork_one();
    if (!strcmp(scenario, "twice")) return use_two_at_once(collective);
    say("there is no such scenario");
    return 2;
}

/* ---- joining ---- */

static kdas_status join(const char *collective, double timeout, const void *communicator)
{
    kdas_ranks_options o;

    kdas_ranks_options_init(&o, sizeof o);
    o.collective   = collective;
    o.timeout      = timeout;
    o.communicator = communicator;
    if (kdas_ranks_create(&ranks, ctx, &o) != KDAS_OK) {
        say(kdas_last_error());
        return KDAS_EBACKEND;
    }
    rank  = kdas_ranks_rank(ranks);
    count = kdas_ranks_count(ranks);
    say(kdas_ranks_describe(ranks));
    return KDAS_OK;
}

#ifdef OWN_MPI
/* "single": MPI without threads. "over": MPI has ended. "split": two groups. Others: the host's MPI, all processes. */
static const void *own_mpi(const char *scenario)
{
    static MPI_Comm half;
    int             level, me;

    MPI_Init_thread(NULL, NULL,
                    strcmp(scenario, "single") ? MPI_THREAD_SERIALIZED : MPI_THREAD_SINGLE, &level);
    if (!strcmp(scenario, "over")) MPI_Finalize();
    if (strcmp(scenario, "split")) return NULL;
    MPI_Comm_rank(MPI_COMM_WORLD, &me);
    MPI_Comm_split(MPI_COMM_WORLD, me % 2, me, &half);
    return &half;
}
#endif

int main(int words, char **word)
{
    const char *scenario     = words > 2 ? word[2] : "";
    double      timeout      = words > 3 ? atof(word[3]) : 20;
    const void *communicator = NULL;
    int         bad;

#ifdef OWN_MPI
    communicator = own_mpi(scenario);
    if (!strcmp(scenario, "split") || !strcmp(scenario, "own")) scenario = "fine";
#endif
#ifdef LOADED
    library = dlopen(LOADED, RTLD_NOW | RTLD_LOCAL);
    if (!library) return printf("%s\n", dlerror());
#endif
    if (kdas_context_create(&ctx, NULL) != KDAS_OK) return 2;
    /* a process that never joins */
    if (!strcmp(scenario, "absent") && atoi(getenv("RANK_HERE")) == 1) wait_for(60);
    /* MPI may take its time to start; then each call has the timeout */
    if (words > 3 && strcmp(scenario, "absent")) {
        if (join(word[1], 30, communicator) != KDAS_OK) return 3;
        kdas_ranks_destroy(ranks);
        ranks = NULL;
    }
    if (join(word[1], timeout, communicator) != KDAS_OK) {
        kdas_context_destroy(ctx);
        return 3;
    }
    bad = run(scenario, word[1]);
    if (!strcmp(scenario, "again") && !bad)
        bad = join(word[1], timeout, communicator) != KDAS_OK || all_is_well();
    kdas_ranks_destroy(ranks);
    kdas_context_destroy(ctx);
#ifdef LOADED
    dlclose(library);
#endif
#ifdef OWN_MPI
    MPI_Finalize();
#endif
    if (!bad) say("fine");
    return bad;
}

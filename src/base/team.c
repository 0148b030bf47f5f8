/* team.c - see team.h.
 *
 * A job is posted by one word, its number and its count of parts. Each part has a seat, which keeps the number of the last job
 * in which the part was taken: whoever raises it to the present number runs the part. A thread that comes late, with an
 * old number, finds all seats raised and takes nothing, so it never sees the function and the data of another job. */
#define _GNU_SOURCE
#include "base/team.h"
#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <omp.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <xmmintrin.h>
#include "base/context.h"
#include "base/cores.h"
#include "base/process.h"
#include "base/text.h"

/* A job's word: its number, a bit that says that each thread takes the part of its own number, and its count of parts. */
enum { PART_BITS = 16, OWN = 1 << 15 };

/* Nanoseconds. A thread looks so long for what it waits for, before it sleeps: AUTO is longer than most work of one
 * thread between two jobs. On a crowded machine AUTO does not look at all, since that is time that others need. A team is on a
 * crowded machine while the system takes the processor away from its threads, before they sleep, more often than one time
 * in SELDOM for each thread. */
enum {
    AUTO_SPIN = 500 * 1000,
    LONG_SPIN = 20 * 1000 * 1000,
    SELDOM    = 8 * 1000 * 1000,
    ASK_AFTER = 1000 * 1000 /* between two questions how often that was */
};

typedef atomic_uint_fast64_t word;

typedef struct seat {
    _Alignas(KD_ALIGN) word taken; /* the last job in which the part was taken */
} seat;

typedef struct member {
    kd_team  *team;
    pthread_t thread;
    int       number; /* 1 .. threads-1; the caller's is 0 */
} member;

struct kd_team {
    kdas_context *ctx;
    member       *member; /* threads-1 of them; `made` exist */
    int           threads;
    atomic_int    made;
    unsigned      forks;
    bool          warned;
    int64_t       spin;   /* nanoseconds that a thread looks around before it sleeps */
    bool          adapts; /* it is 0 while the machine is crowded */
    word          seed;   /* of kd_team_shuffle() */
    bool          timed;  /* kd_team_take_times() */
    word          in_parts, in_jobs;
    atomic_bool   busy;

    /* the job */
    kd_part_fn fn;
    void      *job;
    unsigned   csr; /* how the caller rounds */

    _Alignas(KD_ALIGN) word posted; /* number << PART_BITS | parts */
    atomic_uint bell;               /* counts jobs and the end: threads sleep on it */
    atomic_int  sleeping;
    atomic_bool ended;

    _Alignas(KD_ALIGN) atomic_int left; /* parts that are not done: the caller sleeps on it */
    atomic_bool caller_sleeps;

    _Alignas(KD_ALIGN) atomic_int_fast64_t crowded; /* a time: see notice_crowd() */

    seat seat[]; /* one for each part */
};

static _Thread_local struct {
    kd_team *team;
    bool     inside; /* a part of a job is running, or the thread is a team's own */
    int64_t  asked;  /* when it asked for the next */
    long     taken;  /* how often the system has taken its processor away */
} mine;

/* ---- waiting ---- */

static void sleep_on(void *word32, unsigned value)
{
    syscall(SYS_futex, word32, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(void *word32, int count)
{
    syscall(SYS_futex, word32, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Each time adds a share of SELDOM to team->crowded, from which the time itself takes away; twice that is a crowd, and
 * more than four times is not counted. */
static void notice_crowd(kd_team *team)
{
    struct rusage usage;
    int64_t       time, level, step = SELDOM / team->threads;

    if (!team->adapts) return;
    time = now();
    if (time - mine.asked < ASK_AFTER || getrusage(RUSAGE_THREAD, &usage) != 0) return;
    if (mine.asked && usage.ru_nivcsw > mine.taken) {
        level = atomic_load_explicit(&team->crowded, memory_order_relaxed);
        level = KD_MAX(level, time) + KD_MIN(usage.ru_nivcsw - mine.taken, 4) * step;
        atomic_store_explicit(&team->crowded, KD_MIN(level, time + 4 * step), memory_order_relaxed);
    }
    mine.asked = time;
    mine.taken = usage.ru_nivcsw;
}

static bool is_crowded(const kd_team *team, int64_t time)
{
    return atomic_load_explicit(&team->crowded, memory_order_relaxed) - time >
           2 * SELDOM / team->threads;
}

/* Look until there is what is waited for, or the time is over: then false. */
typedef bool (*condition)(const kd_team *team, uint64_t seen);

static bool look(const kd_team *team, condition is, uint64_t seen)
{
    int64_t time, end;

    if (is(team, seen)) return true;
    if (team->spin <= 0) return false;
    time = now();
    end  = time + team->spin;
    if (is_crowded(team, time)) return false;
    do
        for (int i = 0; i < 32; i++) {
            _mm_pause();
            if (is(team, seen)) return true;
        }
    while (now() < end);
    return false;
}

static bool is_new(const kd_team *team, uint64_t seen)
{
    return atomic_load_explicit(&team->posted, memory_order_acquire) != seen ||
           atomic_load_explicit(&team->ended, memory_order_acquire);
}

static bool is_done(const kd_team *team, uint64_t seen)
{
    (void)seen;
    return atomic_load_explicit(&team->left, memory_order_acquire) == 0;
}

/* The bell is read before the last look: if it rings in between, the sleep ends at once. */
static void wait_for_job(kd_team *team, uint64_t seen)
{
    if (look(team, is_new, seen)) return;
    atomic_fetch_add(&team->sleeping, 1);
    for (;;) {
        unsigned bell = atomic_load(&team->bell);

        if (is_new(team, seen)) break;
        sleep_on(&team->bell, bell);
    }
    atomic_fetch_sub(&team->sleeping, 1);
}

static void wait_for_others(kd_team *team)
{
    int left;

    if (look(team, is_done, 0)) return;
    atomic_store(&team->caller_sleeps, true);
    while ((left = atomic_load(&team->left)) != 0)
        sleep_on(&team->left, (unsigned)left);
    atomic_store(&team->caller_sleeps, false);
}

/* ---- parts ---- */

static bool take(seat *s, uint64_t number)
{
    uint64_t last = atomic_load_explicit(&s->taken, memory_order_relaxed);

    return last < number && atomic_compare_exchange_strong(&s->taken, &last, number);
}

static int parts_of(uint64_t job) { return (int)(job & (OWN - 1)); }

static void round_as_caller(const kd_team *team)
{
    if (_mm_getcsr() != team->csr) _mm_setcsr(team->csr);
}

static int take_own(kd_team *team, uint64_t job, int thread)
{
    if (thread >= parts_of(job) || !take(&team->seat[thread], job >> PART_BITS)) return 0;
    round_as_caller(team);
    team->fn(team->job, thread);
    return 1;
}

/* Run parts until all are taken, first those that the thread ran in the jobs before: their data may still be in its cache.
 * Returns the number of parts. */
static int take_parts(kd_team *team, uint64_t job, int thread)
{
    const uint64_t number = job >> PART_BITS;
    const int      parts  = parts_of(job);
    const uint64_t seed   = atomic_load_explicit(&team->seed, memory_order_relaxed);
    int            done = 0, at = (int)((int64_t)thread * parts / team->threads);
    const int64_t  start = team->timed ? now() : 0;

    if (job & OWN) return take_own(team, job, thread);
    if (seed) at = (int)(kd_mix64(seed ^ number << 8 ^ (uint64_t)thread) % (uint64_t)parts);
    for (int i = 0; i < parts; i++, at = at + 1 < parts ? at + 1 : 0) {
        if (!take(&team->seat[at], number)) continue;
        if (!done++) round_as_caller(team);
        team->fn(team->job, at);
    }
    if (start && done) atomic_fetch_add(&team->in_parts, (uint64_t)(now() - start));
    return done;
}

static void *work(void *what)
{
    member  *m    = what;
    kd_team *team = m->team;
    uint64_t seen = 0;
    int      done;

    mine.inside = true;
    omp_set_num_threads(1);
    for (;;) {
        wait_for_job(team, seen);
        if (atomic_load(&team->ended)) return NULL;
        seen = atomic_load(&team->posted);
        done = take_parts(team, seen, m->number);
        if (done && atomic_fetch_sub(&team->left, done) == done &&
            atomic_load(&team->caller_sleeps))
            wake(&team->left, 1);
        notice_crowd(team);
    }
}

/* ---- jobs ---- */

static bool can_share(const kd_team *team)
{
    return team && team->made && !mine.inside && team->forks == kd_process_forks();
}

/* Threads that look for a job need no call; of the others, as many are woken as there are parts left for them. */
static void post(kd_team *team, int parts, int own)
{
    uint64_t number = (atomic_load(&team->posted) >> PART_BITS) + 1;
    int      asleep, wanted;

    atomic_store(&team->left, parts);
    atomic_store(&team->posted, number << PART_BITS | (uint64_t)(own | parts));
    atomic_fetch_add(&team->bell, 1);
    asleep = atomic_load(&team->sleeping);
    wanted = parts - 1 - (team->made - asleep);
    if (asleep > 0 && wanted > 0) wake(&team->bell, KD_MIN(wanted, asleep));
}

static void share(kd_team *team, int parts, int own, kd_part_fn fn, void *job)
{
    const int64_t start = team->timed ? now() : 0;
    int           done;

    team->fn    = fn;
    team->job   = job;
    team->csr   = _mm_getcsr();
    mine.inside = true;
    notice_crowd(team);
    post(team, parts, own);
    done = take_parts(team, atomic_load(&team->posted), 0);
    if (atomic_fetch_sub(&team->left, done) != done) wait_for_others(team);
    if (start) atomic_fetch_add(&team->in_jobs, (uint64_t)(now() - start));
    mine.inside = false;
}

void kd_team_run(kd_team *team, int parts, kd_part_fn fn, void *job)
{
    if (parts > 1 && can_share(team) && !atomic_exchange(&team->busy, true)) {
        assert(parts <= KD_TEAM_PARTS * team->threads);
        share(team, parts, 0, fn, job);
        atomic_store(&team->busy, false);
        return;
    }
    for (int part = 0; part < parts; part++)
        fn(job, part);
}

void kd_team_each(kd_team *team, kd_part_fn fn, void *job)
{
    if (!can_share(team) || atomic_exchange(&team->busy, true)) {
        fn(job, 0);
        return;
    }
    share(team, team->made + 1, OWN, fn, job);
    atomic_store(&team->busy, false);
}

void kd_team_use(kd_team *team) { mine.team = team; }
void kd_team_do(int parts, kd_part_fn fn, void *job) { kd_team_run(mine.team, parts, fn, job); }
int  kd_team_parts(void) { return can_share(mine.team) ? mine.team->threads : 1; }

/* ---- threads ---- */

/* OMP_STACKSIZE, as OpenMP reads it: a number, and B, K, M or G; K if none is named. 0: the system's default. */
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

static bool make_member(kd_team *team, const pthread_attr_t *attr)
{
    member *m = &team->member[team->made];

    *m = (member){ .team = team, .number = team->made + 1 };
    if (pthread_create(&m->thread, attr, work, m) != 0) return false;
    team->made++;
    return true;
}

/* Signals are for the host's threads. A stack size that the system refuses is ignored, as OpenMP does. */
static void make_members(kd_team *team)
{
    pthread_attr_t attr;
    sigset_t       all, before;
    size_t         stack = stack_size();

    if (pthread_attr_init(&attr) != 0) return;
    if (stack) pthread_attr_setstacksize(&attr, stack);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (team->made < team->threads - 1 && make_member(team, &attr))
        continue;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
}

void kd_team_start(kd_team *team)
{
    if (!team || mine.inside || team->made == team->threads - 1 ||
        team->forks != kd_process_forks())
        return;
    if (atomic_exchange(&team->busy, true)) return;
    make_members(team);
    if (team->made < team->threads - 1 && !team->warned) {
        team->warned = true;
        kd_warn(team->ctx,
                "%d of %d compute threads can be had, the system refuses more (limits of processes "
                "or of memory): "
                "they do the work of all",
                team->made + 1, team->threads);
    }
    atomic_store(&team->busy, false);
}

/* Is it the word (in small letters), whatever letters it has? */
static bool is_word(const char *text, const char *small)
{
    while (*small && (*text == *small || *text + 'a' - 'A' == *small))
        text++, small++;
    return !*small && !*text;
}

/* More threads than processors only take time from each other by looking. */
static int64_t spin_of(const kd_team *team, int32_t wait)
{
    const char *policy = getenv("OMP_WAIT_POLICY");

    if (wait == KDAS_WAIT_AUTO && policy && is_word(policy, "passive")) wait = KDAS_WAIT_SLEEP;
    if (wait == KDAS_WAIT_AUTO && policy && is_word(policy, "active")) wait = KDAS_WAIT_SPIN;
    switch (wait) {
    case KDAS_WAIT_SPIN: return LONG_SPIN;
    case KDAS_WAIT_SLEEP: return 0;
    default: return team->threads > kd_affinity_cpus() ? 0 : AUTO_SPIN;
    }
}

kdas_status kd_team_create(kd_team **out, kdas_context *ctx, int32_t threads, int32_t wait)
{
    const size_t seats = (size_t)threads * KD_TEAM_PARTS;
    kd_team     *team  = kd_calloc(ctx, 1, sizeof *team + seats * sizeof(seat));
    member      *m     = kd_calloc(ctx, (size_t)threads, sizeof *m);

    *out = NULL;
    if (!team || !m) {
        kd_free(ctx, team);
        kd_free(ctx, m);
        return KDAS_ENOMEM;
    }
    team->ctx     = ctx;
    team->member  = m;
    team->threads = threads;
    team->forks   = kd_process_forks();
    team->spin    = spin_of(team, wait);
    team->adapts  = team->spin == AUTO_SPIN;
    *out          = team;
    return KDAS_OK;
}

void kd_team_destroy(kd_team *team)
{
    if (!team) return;
    if (team->forks == kd_process_forks()) {
        atomic_store(&team->ended, true);
        atomic_fetch_add(&team->bell, 1);
        wake(&team->bell, INT_MAX);
        for (int i = 0; i < team->made; i++)
            pthread_join(team->member[i].thread, NULL);
    }
    if (mine.team == team) mine.team = NULL;
    kd_free(team->ctx, team->member);
    kd_free(team->ctx, team);
}

void kd_team_take_times(kd_team *team, bool on)
{
    if (team) team->timed = on;
}

kd_team_times kd_team_read_times(const kd_team *team)
{
    if (!team) return (kd_team_times){ 0 };
    return (kd_team_times){ (int64_t)atomic_load(&team->in_parts),
                            (int64_t)atomic_load(&team->in_jobs) };
}

pthread_t kd_team_thread(const kd_team *team, int i) { return team->member[i - 1].thread; }

int     kd_team_made(const kd_team *team) { return team->made; }
int     kd_team_sleeping(const kd_team *team) { return atomic_load(&team->sleeping); }
int64_t kd_team_spin(const kd_team *team) { return team->spin; }
void    kd_team_shuffle(kd_team *team, uint64_t seed) { atomic_store(&team->seed, seed); }

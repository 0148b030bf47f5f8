/* pin.c - see pin.h. */
#define _GNU_SOURCE
#include "base/pin.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include "base/context.h"
#include "base/team.h"
#include "base/text.h"

typedef struct kd_pin {
    kd_cpu_set set;                 /* that `cpu` was chosen from */
    int        cpu[KD_PIN_THREADS]; /* of each thread */
    bool       usable;              /* there is one for each thread */
    bool       refused;             /* by the system */
    int        bound;               /* so many threads of the team are, as `cpu` says */
} kd_pin;

static _Thread_local struct caller {
    int        depth; /* of kd_pin_enter() */
    int        cpu;   /* that this thread is bound to, if `bound` */
    bool       bound;
    kd_cpu_set before; /* its mask while it is not bound */
} mine;

/* ---- sets ---- */

static bool has(const kd_cpu_set *set, int cpu)
{
    return set->bits[cpu / KD_PIN_BITS] >> cpu % KD_PIN_BITS & 1;
}

static kd_cpu_set only(int cpu)
{
    kd_cpu_set set = { { 0 } };

    set.bits[cpu / KD_PIN_BITS] = 1ul << cpu % KD_PIN_BITS;
    return set;
}

static bool same(const kd_cpu_set *a, const kd_cpu_set *b) { return !memcmp(a, b, sizeof *a); }

/* The calling thread's mask. */
static bool read_mask(kd_cpu_set *set)
{
    memset(set, 0, sizeof *set);
    return sched_getaffinity(0, sizeof *set, (cpu_set_t *)set) == 0;
}

static bool write_mask(const kd_cpu_set *set)
{
    return sched_setaffinity(0, sizeof *set, (const cpu_set_t *)set) == 0;
}

/* ---- the order of CPUs ---- */

/* How many allowed CPUs of the same core come before `cpu`, from a line such as "0,64" or "2-3". */
static int rank_in(const char *siblings, int cpu, const kd_cpu_set *set)
{
    const char *at   = siblings;
    int64_t     rank = 0, first, last;

    while (kd_parse_whole(at, &at, &first)) {
        last = first;
        if (*at == '-' && !kd_parse_whole(at + 1, &at, &last)) return 0;
        for (int64_t i = KD_MAX(first, 0); i <= last && i < cpu; i++)
            rank += has(set, (int)i);
        if (*at != ',') break;
        at++;
    }
    return (int)rank;
}

static int rank_of(int cpu, const kd_cpu_set *set, const char *root)
{
    char  path[512], line[4096];
    FILE *file;
    int   rank = 0;

    snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
             root, cpu);
    file = fopen(path, "re");
    if (!file) return 0;
    if (fgets(line, sizeof line, file)) rank = rank_in(line, cpu, set);
    fclose(file);
    return rank;
}

int kd_pin_order(int *cpu, int most, const kd_cpu_set *set, const char *root)
{
    int count = 0, left = 0;

    for (int rank = 0; rank == 0 || left > 0; rank++) {
        left = 0;
        for (int i = 0; i < KD_PIN_CPUS; i++) {
            int own = has(set, i) ? rank_of(i, set, root) : -1;

            left += own > rank;
            if (own != rank) continue;
            if (count == most) return count;
            cpu[count++] = i;
        }
    }
    return count;
}

/* ---- a context ---- */

/* Choose for the mask; a line in the log where that is not possible. */
static void choose(kdas_context *ctx, const kd_cpu_set *set)
{
    int found = kd_pin_order(ctx->pin->cpu, ctx->threads, set, "");

    ctx->pin->set    = *set;
    ctx->pin->usable = found == ctx->threads;
    if (!ctx->pin->usable)
        kd_warn(ctx,
                "pin_threads: %d threads, and the calling thread may run on %d CPUs: threads are "
                "not bound to CPUs",
                (int)ctx->threads, found);
}

static void refuse(kdas_context *ctx, int error)
{
    char why[128];

    ctx->pin->refused = true;
    kd_warn(ctx,
            "pin_threads: the system does not let threads choose their CPUs (%s): they are not "
            "bound",
            strerror_r(error, why, sizeof why));
}

kdas_status kd_pin_open(kdas_context *ctx)
{
    kd_cpu_set set;

    ctx->pin = kd_calloc(ctx, 1, sizeof *ctx->pin);
    if (!ctx->pin) return KDAS_ENOMEM;
    if (!read_mask(&set) || !write_mask(&set))
        refuse(ctx, errno);
    else
        choose(ctx, &set);
    return KDAS_OK;
}

void kd_pin_close(kdas_context *ctx)
{
    kd_free(ctx, ctx->pin);
    ctx->pin = NULL;
}

bool kd_pin_holds(const kdas_context *ctx)
{
    return ctx->pin && ctx->pin->usable && !ctx->pin->refused;
}

/* ---- binding ---- */

/* errno, or 0. */
static int write_mask_of(pthread_t thread, const kd_cpu_set *set)
{
    return pthread_setaffinity_np(thread, sizeof *set, (const cpu_set_t *)set);
}

static void set_free(kdas_context *ctx)
{
    for (int i = 1; i <= ctx->pin->bound; i++)
        write_mask_of(kd_team_thread(ctx->team, i), &mine.before);
    ctx->pin->bound = 0;
}

/* The team's threads that are not bound yet, then the calling thread; errno, or 0. Threads are made
 * before: they would inherit its CPU. */
static int bind_all(kdas_context *ctx)
{
    kd_pin    *pin = ctx->pin;
    kd_cpu_set set;
    int        error;

    kd_team_start(ctx->team);
    for (int i = pin->bound + 1; ctx->team && i <= kd_team_made(ctx->team); i++) {
        set   = only(pin->cpu[i]);
        error = write_mask_of(kd_team_thread(ctx->team, i), &set);
        if (error) return error;
        pin->bound = i;
    }
    set = only(pin->cpu[0]);
    return write_mask(&set) ? 0 : errno;
}

static void enter(kdas_context *ctx)
{
    int error;

    if (!ctx->pin || ctx->pin->refused || !read_mask(&mine.before)) return;
    if (!same(&mine.before, &ctx->pin->set)) {
        set_free(ctx);
        choose(ctx, &mine.before);
    }
    if (!ctx->pin->usable) return;
    error = bind_all(ctx);
    if (error) {
        set_free(ctx);
        refuse(ctx, error);
        return;
    }
    mine.bound = true;
    mine.cpu   = ctx->pin->cpu[0];
}

void kd_pin_enter(kdas_context *ctx)
{
    if (mine.depth++ == 0) enter(ctx);
}

/* Whoever has changed the mask meanwhile keeps his. */
void kd_pin_leave(void)
{
    kd_cpu_set now, ours;

    if (--mine.depth > 0 || !mine.bound) return;
    mine.bound = false;
    ours       = only(mine.cpu);
    if (read_mask(&now) && same(&now, &ours)) write_mask(&mine.before);
}

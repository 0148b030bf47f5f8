/* profile_rows.c - the rows of a context's profile: made once, summed into, read by the host. */
#include "base/profile_rows.h"
#include <string.h>
#include "base/context.h"
#include "base/pool.h"
#include "base/team.h"

typedef struct row {
    uint64_t         key; /* hash of the names and the part */
    kdas_profile_row sum;
} row;

struct kd_profile {
    kd_pool names;
    row    *row;
    size_t  rows, row_capacity;
    /* Rows with a call since the reset, in the order of first calls; room for all. */
    int32_t      *called;
    size_t        calls, called_capacity;
    kd_team_times before; /* at the last kd_profile_begin() */
};

const char *kdas_profile_part_name(kdas_profile_part part)
{
    static const char *const names[] = { "forward", "backward", "pack", "zero", "update" };

    return (unsigned)part < KD_COUNT(names) ? names[part] : NULL;
}

kdas_status kdas_context_profile(kdas_context *ctx, int32_t on)
{
    if (!ctx) return kd_fail(KDAS_EINVAL, "kdas_context_profile: the context is NULL");
    if (on && !ctx->profile) {
        ctx->profile = kd_calloc(ctx, 1, sizeof *ctx->profile);
        if (!ctx->profile) return KDAS_ENOMEM;
        kd_pool_init(&ctx->profile->names, ctx);
    }
    ctx->profiling = on != 0;
    kd_team_take_times(ctx->team, ctx->profiling);
    return KDAS_OK;
}

void kd_profile_finish(kdas_context *ctx)
{
    if (!ctx->profile) return;
    kd_pool_finish(&ctx->profile->names);
    kd_free(ctx, ctx->profile->row);
    kd_free(ctx, ctx->profile->called);
    kd_free(ctx, ctx->profile);
    ctx->profile = NULL;
}

/* ---- making rows, and summing ---- */

static uint64_t key_of(const char *program, const char *op, const char *node,
                       kdas_profile_part part)
{
    uint64_t key = kd_mix64(kd_hash64(program) + (uint64_t)part);

    key = kd_mix64(key ^ kd_hash64(op));
    return kd_mix64(key ^ kd_hash64(node));
}

kdas_status kd_profile_row(int32_t *out, kdas_context *ctx, const char *program, const char *op,
                           const char *node, kdas_profile_part part, kdas_precision precision)
{
    kd_profile *p   = ctx->profile;
    uint64_t    key = key_of(program, op, node, part);
    row new         = { .key = key, .sum = { .size = sizeof new.sum, .op = op, .part = part } };

    for (size_t i = 0; i < p->rows; i++) {
        const kdas_profile_row *r = &p->row[i].sum;

        if (p->row[i].key != key || r->part != (int32_t)part || strcmp(r->node, node) ||
            strcmp(r->program, program) || strcmp(r->op, op))
            continue;
        *out = (int32_t)i;
        return KDAS_OK;
    }
    KD_RETURN(kd_grow(ctx, (void **)&p->row, &p->row_capacity, p->rows + 1, sizeof *p->row));
    KD_RETURN(
        kd_grow(ctx, (void **)&p->called, &p->called_capacity, p->rows + 1, sizeof *p->called));
    new.sum.precision = precision;
    new.sum.program   = kd_pool_strdup(&p->names, program);
    new.sum.node      = kd_pool_strdup(&p->names, node);
    if (!new.sum.program || !new.sum.node) return KDAS_ENOMEM;
    p->row[p->rows] = new;
    *out            = (int32_t)p->rows++;
    return KDAS_OK;
}

double kd_profile_begin(const kdas_context *ctx)
{
    ctx->profile->before = kd_team_read_times(ctx->team);
    return kd_now();
}

/* Outside of jobs the calling thread is busy, and the others are not. A job that one thread could do
 * is no job. */
static double idle_of(const kdas_context *ctx, double seconds)
{
    kd_team_times now = kd_team_read_times(ctx->team), was = ctx->profile->before;
    double        jobs = 1e-9 * (double)(now.jobs - was.jobs),
           parts       = 1e-9 * (double)(now.parts - was.parts);
    double idle        = seconds * ctx->threads - parts - KD_MAX(seconds - jobs, 0.0);

    return ctx->team && ctx->host_memory ? KD_MAX(idle, 0.0) : 0;
}

void kd_profile_add(kdas_context *ctx, int32_t i, double seconds, double flop, double bytes)
{
    kd_profile       *p   = ctx->profile;
    kdas_profile_row *sum = &p->row[i].sum;

    if (sum->calls++ == 0) p->called[p->calls++] = i;
    sum->seconds += seconds;
    sum->idle += idle_of(ctx, seconds);
    sum->flop += flop;
    sum->bytes += bytes;
}

/* ---- for hosts ---- */

int32_t kdas_profile_count(const kdas_context *ctx)
{
    return ctx && ctx->profile ? (int32_t)ctx->profile->calls : 0;
}

kdas_status kdas_profile_at(const kdas_context *ctx, int32_t i, kdas_profile_row *out)
{
    if (!ctx || !out) return kd_fail(KDAS_EINVAL, "kdas_profile_at: context or out is NULL");
    KD_RETURN(kd_check_report(&out->size, "kdas_profile_row"));
    if (i < 0 || i >= kdas_profile_count(ctx))
        return kd_fail(KDAS_ENOTFOUND, "the profile has %d rows, none with number %d",
                       kdas_profile_count(ctx), i);
    return kd_give_options(out, &ctx->profile->row[ctx->profile->called[i]].sum, sizeof *out,
                           "kdas_profile_row");
}

kdas_status kdas_profile_reset(kdas_context *ctx)
{
    kd_profile *p;

    if (!ctx) return kd_fail(KDAS_EINVAL, "kdas_profile_reset: the context is NULL");
    p = ctx->profile;
    for (size_t i = 0; p && i < p->calls; i++) {
        kdas_profile_row *sum = &p->row[p->called[i]].sum;

        sum->calls   = 0;
        sum->seconds = sum->flop = sum->bytes = 0;
    }
    if (p) p->calls = 0;
    return KDAS_OK;
}

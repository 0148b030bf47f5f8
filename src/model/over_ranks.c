/* over_ranks.c - see over_ranks.h. */
#include "model/over_ranks.h"
#include <assert.h>
#include <math.h>
#include <string.h>
#include "ranks/ranks.h"

static bool is_collective(const kdas_model *m, kd_mode mode)
{
    return mode == KD_TRAIN && kdas_ranks_count(m->options.ranks) > 1;
}

/* ---- votes ---- */

enum { SIZES = 4 };

/* Whether all have the same number, by the sum of the numbers and that of their squares. */
static bool all_same(double count, double sum, double squares)
{
    return count * squares == sum * sum;
}

static kdas_status vote(kdas_model *m, kdas_status mine, double h, double w)
{
    double v[SIZES] = { h, h * h, w, w * w }, n = kdas_ranks_count(m->options.ranks);

    m->ballots++;
    KD_RETURN(kd_ranks_meet(m->options.ranks, KD_RANKS_AT_MODEL, 0, mine, v, SIZES));
    if (all_same(n, v[0], v[1]) && all_same(n, v[2], v[3])) return KDAS_OK;
    return kd_fail(KDAS_ESHAPE,
                   "'%s': images are %.0fx%.0f here and not on every rank; batch norms over ranks "
                   "need images of one size",
                   m->def->name, h, w);
}

kdas_status kd_model_begin_forward(kdas_model *m, kd_mode mode, kdas_status mine, int64_t h,
                                   int64_t w)
{
    return is_collective(m, mode) ? vote(m, mine, (double)h, (double)w) : mine;
}

kdas_status kd_model_begin_backward(kdas_model *m, kdas_status mine)
{
    return is_collective(m, m->mode) ? vote(m, mine, 0, 0) : mine;
}

kdas_status kd_model_decline(kdas_model *m, kdas_status mine)
{
    return is_collective(m, KD_TRAIN) ? vote(m, mine, 0, 0) : mine;
}

/* ---- ranges of grids ---- */

static bool moves_ranges(const kdas_model *m)
{
    return m->options.quantize == KDAS_QUANTIZE_INT8 && !kdas_model_ranges_held(m);
}

static size_t count_ranges(const kdas_model *m)
{
    size_t n = 0;

    for (int i = 0; i < kd_params_count(m->params); i++)
        n += kd_param_is_range(kd_params_at(m->params, i));
    return n;
}

kdas_status kd_model_prepare_ranks(kdas_model *m, kd_mode mode)
{
    size_t ranks = (size_t)kdas_ranks_count(m->options.ranks);

    if (!is_collective(m, mode) || !moves_ranges(m)) return KDAS_OK;
    if (!m->ranges) m->ranges = kd_alloc(m->ctx, 2 * ranks * count_ranges(m) * sizeof *m->ranges);
    if (m->ranges && !m->statistics && !m->ctx->host_memory)
        m->statistics =
            kd_alloc(m->ctx, (size_t)kd_params_running(m->params) * sizeof *m->statistics);
    return m->ranges && (m->statistics || m->ctx->host_memory) ? KDAS_OK : KDAS_ENOMEM;
}

void kd_model_finish_ranks(kdas_model *m)
{
    kd_free(m->ctx, m->ranges);
    kd_free(m->ctx, m->statistics);
}

/* What training forwards change, where the host can read it: `m->statistics`, or the block itself. */
static float *statistics(kdas_model *m)
{
    return kd_params_values(m->params) + kd_params_trainable(m->params);
}

static kdas_status read_statistics(float **out, kdas_model *m)
{
    *out = m->ctx->host_memory ? statistics(m) : m->statistics;
    if (m->ctx->host_memory) return KDAS_OK;
    return kd_device_download(m->ctx, *out, statistics(m),
                              (size_t)kd_params_running(m->params) * sizeof **out);
}

/* A range moves by the least and the largest value of a batch. So the least low and the largest high of all ranks are
 * those that one rank with the whole batch would have. */
static void join(float *range, const double *of_all, size_t ranks, size_t stride)
{
    double low = of_all[0], high = of_all[1];

    assert(range);

    for (size_t r = 1; r < ranks; r++) {
        low  = fmin(low, of_all[r * stride]);
        high = fmax(high, of_all[r * stride + 1]);
    }
    range[0] = (float)low;
    range[1] = (float)high;
}

/* Every rank fills its row of a table of zeros; the sum over the ranks is the whole table. */
static kdas_status join_ranges(kdas_model *m, float *values)
{
    size_t ranks = (size_t)kdas_ranks_count(m->options.ranks), stride = 2 * count_ranges(m), at = 0;
    double *own  = m->ranges + (size_t)kdas_ranks_rank(m->options.ranks) * stride;
    int64_t base = kd_params_trainable(m->params);

    assert(values);
    memset(m->ranges, 0, ranks * stride * sizeof *m->ranges);
    for (int i = 0; i < kd_params_count(m->params); i++) {
        const kd_param_entry *e = kd_params_at(m->params, i);

        if (!kd_param_is_range(e)) continue;
        own[at++] = values[e->offset - base];
        own[at++] = values[e->offset - base + 1];
    }
    KD_RETURN(kd_ranks_do(m->options.ranks, KD_RANKS_SUM_F64, m->ranges, ranks * stride, 0));
    at = 0;
    for (int i = 0; i < kd_params_count(m->params); i++) {
        const kd_param_entry *e = kd_params_at(m->params, i);

        if (!kd_param_is_range(e)) continue;
        join(values + (e->offset - base), m->ranges + at, ranks, stride);
        at += 2;
    }
    kd_params_touch_stats(m->params);
    return m->ctx->host_memory
               ? KDAS_OK
               : kd_device_upload(m->ctx, statistics(m), values,
                                  (size_t)kd_params_running(m->params) * sizeof *values);
}

kdas_status kd_model_end_forward(kdas_model *m, kd_mode mode, kdas_status mine)
{
    float *values = NULL;

    if (!is_collective(m, mode)) return mine;
    if (mine == KDAS_OK && moves_ranges(m)) mine = read_statistics(&values, m);
    KD_RETURN(kdas_ranks_vote(m->options.ranks, mine));
    return moves_ranges(m) ? join_ranges(m, values) : KDAS_OK;
}

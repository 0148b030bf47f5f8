/* exchange.c - see exchange.h. A rank has n values of each channel; of N of all ranks, the share w = n / N. With sums over
 * the ranks, in f64:
 *   mean = sum w m,  var = sum w (v + m^2) - mean^2;
 *   dm = w (dmean + 2 (m - mean) dvar),  dv = w dvar,
 * where dmean and dvar are the sums of the gradients that all ranks have for them. f64 has 29 bits more than the moments:
 * the difference in var loses none of theirs, unless |mean| is more than 10000 deviations. */
#include "graph/exchange.h"
#include <assert.h>
#include <string.h>
#include "graph/device.h"
#include "ranks/ranks.h"

enum { FLAG = 1 }; /* numbers before the data */

/* ---- memory ---- */

static int64_t size_of(const kd_program *p, int i)
{
    return kd_elements(&p->graph->node[i]->desc.out);
}

kdas_status kd_exchanges_create(kd_program *p)
{
    struct kd_exchanges *e;
    size_t               most = 0;

    for (int i = 0; i < p->nodes; i++)
        if (p->graph->node[i]->kind == KD_NODE_OP && p->graph->node[i]->op == &kd_op_exchange)
            most = KD_MAX(most, (size_t)size_of(p, i));
    if (!most) return KDAS_OK;
    e = p->exchanges = kd_calloc(p->ctx, 1, sizeof *e);
    if (!e) return KDAS_ENOMEM;
    e->sum   = kd_alloc(p->ctx, (FLAG + most) * sizeof *e->sum);
    e->own   = kd_alloc(p->ctx, 4 * most * sizeof *e->own);
    e->share = kd_calloc(p->ctx, (size_t)p->nodes, sizeof *e->share);
    return e->sum && e->own && e->share ? KDAS_OK : KDAS_ENOMEM;
}

void kd_exchanges_destroy(kd_program *p)
{
    if (!p->exchanges) return;
    kd_free(p->ctx, p->exchanges->sum);
    kd_free(p->ctx, p->exchanges->own);
    kd_free(p->ctx, p->exchanges->share);
    kd_free(p->ctx, p->exchanges);
}

/* ---- operands on the host ---- */

/* The n numbers of an operand, in copy number k unless the host can read them where they are. */
static kdas_status fetch(kd_program *p, float **out, int k, const void *from, int64_t n)
{
    *out = (float *)from;
    if (p->ctx->host_memory) return KDAS_OK;
    *out = p->exchanges->own + k * n;
    return kd_device_download(p->ctx, *out, from, (size_t)n * sizeof(float));
}

/* Where to write an operand, and writing it. */
static float *place(kd_program *p, int k, void *at, int64_t n)
{
    return p->ctx->host_memory ? at : p->exchanges->own + k * n;
}

static kdas_status put(kd_program *p, void *to, const float *from, int64_t n)
{
    return p->ctx->host_memory ? KDAS_OK
                               : kd_device_upload(p->ctx, to, from, (size_t)n * sizeof(float));
}

/* ---- the sum over the ranks ---- */

/* Sum the n numbers behind the flag. */
static kdas_status sum_ranks(kd_program *p, int64_t n, kdas_status mine, bool *all)
{
    kdas_ranks *ranks = p->graph->ranks;
    double     *sum   = p->exchanges->sum;
    kdas_status st;

    *all   = true;
    sum[0] = mine != KDAS_OK;
    if (mine != KDAS_OK) memset(sum + FLAG, 0, (size_t)n * sizeof *sum);
    if (!ranks) {
        *all = mine != KDAS_OK;
        return mine;
    }
    KD_RETURN(kd_ranks_do(ranks, KD_RANKS_SUM_F64, sum, (size_t)(FLAG + n), 0));
    st = sum[0] > 0 ? kdas_ranks_vote(ranks, mine) : KDAS_OK;
    if (st == KDAS_OK) *all = false;
    return st;
}

/* Whether the exchange i runs. */
static bool runs(const kd_program *p, int i, bool backward)
{
    return kd_is_exchange(p, i) && p->slot[i].kernel &&
           (!backward || (p->graph->node[i]->desc.wants && p->slot[i].backward.dout));
}

kdas_status kd_exchange_decline(kd_program *p, bool backward, kdas_status mine)
{
    int  i = backward ? p->nodes - 1 : 0, step = backward ? -1 : 1;
    bool all;

    while (i >= 0 && i < p->nodes && !runs(p, i, backward))
        i += step;
    return i >= 0 && i < p->nodes ? sum_ranks(p, size_of(p, i), mine, &all) : mine;
}

/* ---- forward ---- */

static void weigh(double *sum, const float *m, int64_t channels)
{
    double count = m[2 * channels];

    for (int64_t c = 0; c < channels; c++) {
        sum[c]            = count * m[c];
        sum[channels + c] = count * (m[channels + c] + (double)m[c] * m[c]);
    }
    sum[2 * channels] = count;
}

static void divide(float *out, const double *sum, int64_t channels)
{
    double count = sum[2 * channels];

    for (int64_t c = 0; c < channels; c++) {
        double mean = sum[c] / count, var = sum[channels + c] / count - mean * mean;

        out[c]            = (float)mean;
        out[channels + c] = (float)(var < 0 ? 0 : var); /* NaN stays */
    }
    out[2 * channels] = (float)count;
}

kdas_status kd_exchange_forward(kd_program *p, int i, kdas_status mine, bool *all)
{
    const kdas_call *call = &p->slot[i].forward;
    int64_t          n = size_of(p, i), channels = n / 2;
    double          *sum   = p->exchanges->sum + FLAG;
    float           *m     = NULL, *out;
    double           count = 0;

    if (mine == KDAS_OK) mine = fetch(p, &m, 0, call->in[0], n);
    if (mine == KDAS_OK) {
        count = m[2 * channels];
        weigh(sum, m, channels);
    }
    KD_RETURN(sum_ranks(p, n, mine, all));
    p->exchanges->share[i] = count / sum[2 * channels];
    out                    = place(p, 1, call->out, n);
    divide(out, sum, channels);
    return put(p, call->out, out, n);
}

/* ---- backward ---- */

typedef struct operands {
    float *m, *out, *dout, *din;
} operands;

static kdas_status fetch_all(kd_program *p, operands *o, const kdas_call *call, int64_t n)
{
    o->din = place(p, 3, call->din[0], n);
    KD_RETURN(fetch(p, &o->m, 0, call->in[0], n));
    KD_RETURN(fetch(p, &o->out, 1, call->out, n));
    KD_RETURN(fetch(p, &o->dout, 2, call->dout, n));
    return call->add & 1 ? fetch(p, &o->din, 3, call->din[0], n) : KDAS_OK;
}

static void spread(const operands *o, const double *sum, double share, int64_t channels, bool add)
{
    for (int64_t c = 0; c < channels; c++) {
        double dvar = sum[channels + c], off = (double)o->m[c] - o->out[c];
        float  dm = (float)(share * (sum[c] + 2 * off * dvar)), dv = (float)(share * dvar);

        o->din[c]            = add ? o->din[c] + dm : dm;
        o->din[channels + c] = add ? o->din[channels + c] + dv : dv;
    }
    if (!add) o->din[2 * channels] = 0;
}

kdas_status kd_exchange_backward(kd_program *p, int i, const kdas_call *call, kdas_status mine,
                                 bool *all)
{
    int64_t  n   = size_of(p, i);
    double  *sum = p->exchanges->sum + FLAG;
    operands o   = { 0 };

    if (mine == KDAS_OK) mine = fetch_all(p, &o, call, n);
    for (int64_t k = 0; mine == KDAS_OK && k < n; k++)
        sum[k] = o.dout[k];
    KD_RETURN(sum_ranks(p, n, mine, all));
    assert(o.m && o.out && o.din); /* otherwise this rank has told so */
    spread(&o, sum, p->exchanges->share[i], n / 2, call->add & 1);
    return put(p, call->din[0], o.din, n);
}

/* onednn_run.c - runs convolutions: each part of a pass on one of the context's threads. */
#include <assert.h>
#include "backend/cpu/onednn_pass.h"
#include "base/team.h"

/* Run it; the pointers are in the order of the operands, scratch first. */
static dnnl_status_t exec_run(exec *e, dnnl_stream_t stream, void *const *pointer)
{
    dnnl_status_t s;

    for (int i = 0; i < e->args; i++) {
        s = dnnl_memory_set_data_handle(e->arg[i].memory, pointer[i]);
        if (s) return s;
    }
    s = dnnl_primitive_execute(e->primitive, stream, e->args, e->arg);
    return s ? s : dnnl_stream_wait(stream);
}

/* ---- running ---- */

/* A pass as a job. Of the operands, x and out lie at the slab's rows, weights at their layout's place, fresh gradients one
 * slab's after the other. */
typedef struct job {
    kd_conv   *c;
    pass      *p;
    char      *scratch, *x, *out, *w, *b;
    bool       fresh; /* w and b are */
    atomic_int failed;
} job;

static void run_part(void *what, int part)
{
    job *j = what;

    for (int i = 0; i < j->p->pieces; i++) {
        piece        *it        = &j->p->piece[i];
        void         *pointer[] = { j->scratch + (size_t)part * j->p->scratch, j->x + it->x_at,
                                    j->out + it->out_at,
                                    j->w + (j->fresh ? (size_t)i * j->c->fresh : j->p->order[it->order].at),
                                    j->b + (j->fresh ? (size_t)i * j->c->fresh_bias : 0) };
        dnnl_status_t s;

        if (it->part != part) continue;
        assert(it->e.args <= (int)KD_COUNT(pointer));
        s = exec_run(&it->e, j->c->dnn->stream[part], pointer);
        if (s) atomic_store(&j->failed, (int)s);
    }
}

static kdas_status run(job *j, const char *what)
{
    int s;

    kd_team_do(j->p->parts, run_part, j);
    s = atomic_load(&j->failed);
    return s ? kd_onednn_failed(&j->c->dnn->host, (dnnl_status_t)s, what, j->c->name) : KDAS_OK;
}

static kdas_status move(kd_conv *c, order *o, void *scratch, const void *from, void *to,
                        const char *what)
{
    void         *pointer[] = { scratch, (void *)from, to };
    dnnl_status_t s;

    assert(o->move.args <= (int)KD_COUNT(pointer));
    s = exec_run(&o->move, c->dnn->stream[0], pointer);
    return s ? kd_onednn_failed(&c->dnn->host, s, what, c->name) : KDAS_OK;
}

static kdas_status pack(kd_conv *c, pass *p, const float *w, char *packed)
{
    for (int i = 0; i < p->orders; i++)
        KD_RETURN(move(c, &p->order[i], NULL, w, packed + p->order[i].at, "pack the weights of "));
    return KDAS_OK;
}

kdas_status kd_conv_pack(kd_conv *c, const float *w, void *packed)
{
    KD_RETURN(pack(c, &c->forward, w, packed));
    return pack(c, &c->data, w, (char *)packed + c->packed_forward);
}

kdas_status kd_conv_forward(kd_conv *c, const void *x, const void *packed, const float *b,
                            void *out, void *work)
{
    job j = { .c       = c,
              .p       = &c->forward,
              .scratch = work,
              .x       = (char *)x,
              .out     = out,
              .w       = (char *)packed,
              .b       = (char *)b };

    return run(&j, "run ");
}

kdas_status kd_conv_backward_data(kd_conv *c, const void *dout, const void *packed, void *dx,
                                  void *work)
{
    job j = { .c       = c,
              .p       = &c->data,
              .scratch = work,
              .x       = dx,
              .out     = (char *)dout,
              .w       = (char *)packed + c->packed_forward };

    return run(&j, "compute the gradient of x of ");
}

/* ---- the slabs' gradients of the weights, summed in their order ---- */

typedef struct sums {
    const kd_conv *c;
    float         *fresh;
    int            first; /* the slab whose gradient becomes the sum of those of its layout */
    int            parts;
} sums;

static void sum_part(void *what, int part)
{
    const sums *s     = what;
    const pass *p     = &s->c->weights;
    int64_t     n     = (int64_t)(p->order[p->piece[s->first].order].bytes / sizeof(float));
    int64_t     begin = n * part / s->parts, end = n * (part + 1) / s->parts;
    float      *sum = s->fresh + (size_t)s->first * s->c->fresh / sizeof(float);

    for (int i = s->first + 1; i < p->pieces; i++) {
        const float *one = s->fresh + (size_t)i * s->c->fresh / sizeof(float);

        if (p->piece[i].order != p->piece[s->first].order) continue;
#pragma omp simd
        for (int64_t k = begin; k < end; k++)
            sum[k] += one[k];
    }
}

static bool is_first(const pass *p, int i)
{
    for (int k = 0; k < i; k++)
        if (p->piece[k].order == p->piece[i].order) return false;
    return true;
}

static kdas_status add_weights(kd_conv *c, float *fresh, float *dw, void *scratch)
{
    pass *p = &c->weights;

    for (int i = 0; i < p->pieces; i++) {
        sums s = { c, fresh, i, c->fresh > 1 << 16 ? c->dnn->threads : 1 };

        if (!is_first(p, i)) continue;
        if (p->pieces > 1) kd_team_do(s.parts, sum_part, &s);
        KD_RETURN(move(c, &p->order[p->piece[i].order], scratch,
                       (char *)fresh + (size_t)i * c->fresh, dw,
                       "add the gradient of the weights of "));
    }
    return KDAS_OK;
}

/* The gradient of the bias of a transposed convolution: columns of dout. */
typedef struct columns {
    const kd_conv *c;
    const void    *dout;
    char          *sums;
} columns;

static void sum_columns(void *what, int part)
{
    const columns  *j = what;
    const int64_t  *d = j->c->g.out;
    const int64_t   n = d[1], rows = d[0] * d[2] * d[3];
    float          *sum   = (float *)(j->sums + (size_t)part * j->c->fresh_bias);
    const float    *f     = j->dout;
    const uint16_t *h     = j->dout;
    const int       parts = j->c->dnn->threads;

    memset(sum, 0, (size_t)n * sizeof *sum);
    for (int64_t r = rows * part / parts; r < rows * (part + 1) / parts; r++)
        for (int64_t o = 0; o < n; o++) {
            uint32_t bits;
            float    v;

            if (j->c->g.type == dnnl_bf16) {
                bits = (uint32_t)h[r * n + o] << 16;
                memcpy(&v, &bits, sizeof v);
            } else {
                v = f[r * n + o];
            }
            sum[o] += v;
        }
}

kdas_status kd_conv_backward_weights(kd_conv *c, const void *x, const void *dout, float *dw,
                                     float *db, void *work)
{
    const size_t pieces  = (size_t)c->weights.pieces;
    char        *fresh_b = (char *)work + pieces * c->fresh;
    char        *scratch = fresh_b + (size_t)kd_conv_biases(c) * c->fresh_bias;
    job          j       = { .c       = c,
                             .p       = &c->weights,
                             .scratch = scratch,
                             .x       = (char *)x,
                             .out     = (char *)dout,
                             .w       = work,
                             .b       = fresh_b,
                             .fresh   = true };

    KD_RETURN(run(&j, "compute the gradient of the weights of "));
    if (db && c->g.transposed) {
        columns parts = { c, dout, fresh_b };

        kd_team_do(c->dnn->threads, sum_columns, &parts);
    }
    for (int i = 0; db && i < kd_conv_biases(c); i++)
        for (int64_t o = 0; o < c->g.b[0]; o++)
            db[o] += ((const float *)(fresh_b + (size_t)i * c->fresh_bias))[o];
    return dw ? add_weights(c, work, dw, scratch) : KDAS_OK;
}

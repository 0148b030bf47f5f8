/* arith.c - ADD, SUB and MUL of a (N,H,W,C) with b, whose axes are a's or 1.
 *
 * Axes are merged first: neighbours that b shares with a become one axis, so do neighbours that b
 * lacks. Equal shapes end as one long row, a value for each channel as (pixels, C), one for each
 * pixel as (pixels, C) with a single value to a row. */
#include "backend/cpu/simd/simd.h"

typedef enum operation { SUM, DIFFERENCE, PRODUCT } operation;

typedef struct shape {
    int64_t dim[4];  /* of a and out; merged, with leading ones */
    int64_t step[4]; /* of b: 0 where it repeats                */
    int64_t b_numel;
    bool    equal;
} shape;

static shape shape_of(const kdas_node_desc *node)
{
    const int64_t *a = node->in[0].dim, *b = node->in[1].dim;
    shape          s         = { { 1, 1, 1, 1 }, { 0 }, numel(&node->in[1]), true };
    bool           shared[4] = { true, true, true, true };
    int            at        = 4;
    int64_t        step      = 1;

    for (int i = 3; i >= 0; i--) {
        if (a[i] == 1) continue;
        if (at == 4 || shared[at] != (b[i] == a[i])) shared[--at] = b[i] == a[i];
        s.dim[at] *= a[i];
    }
    for (int i = 3; i >= 0; i--) {
        s.step[i] = shared[i] && s.dim[i] > 1 ? step : 0;
        if (shared[i])
            step *= s.dim[i];
        else
            s.equal = false;
    }
    return s;
}

INLINE int64_t b_offset(const shape *s, int64_t row)
{
    int64_t i2 = row % s->dim[2], i1 = row / s->dim[2] % s->dim[1],
            i0 = row / s->dim[2] / s->dim[1];

    return i0 * s->step[0] + i1 * s->step[1] + i2 * s->step[2];
}

/* Rows are cut in segments where there are too few of them for the threads. */
typedef struct segments {
    int64_t rows, in_row, total;
} segments;

static segments segments_of(const shape *s, int threads)
{
    segments g = { s->dim[0] * s->dim[1] * s->dim[2], 1, 0 };

    if (g.rows < 4 * threads) g.in_row = threads;
    g.total = g.rows * g.in_row;
    return g;
}

INLINE float combine(operation op, float a, float b)
{
    return op == SUM ? a + b : op == DIFFERENCE ? a - b : a * b;
}

/* Sums for b are made in f32, of halves beside its gradient. */
static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape s = shape_of(node);

    (void)device;
    if (HALF && !s.equal && (node->wants & 2)) plan->work_backward = floats(s.b_numel);
    return KDAS_OK;
}

/* ---- forward ---- */

INLINE void forward(kdas_device *device, const kdas_call *call, operation op)
{
    shape       s = shape_of(call->node);
    segments    g = segments_of(&s, device->threads);
    int64_t     n = s.dim[3];
    const elem *a = call->in[0], *b = call->in[1];
    elem       *out = call->out;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < g.total; i++) {
        int64_t     row = i / g.in_row, part = i % g.in_row;
        int64_t     begin = part_of_line(n, (int)part, (int)g.in_row);
        int64_t     end   = part_of_line(n, (int)part + 1, (int)g.in_row);
        const elem *x = a + row * n, *y = b + b_offset(&s, row);
        elem       *to = out + row * n;

        if (s.step[3])
#pragma omp simd
            for (int64_t c = begin; c < end; c++)
                set(to[c], combine(op, num(x[c]), num(y[c])));
        else
#pragma omp simd
            for (int64_t c = begin; c < end; c++)
                set(to[c], combine(op, num(x[c]), num(y[0])));
    }
}

/* ---- backward ---- */

INLINE void give(elem *to, const float *fresh, int64_t n, bool add)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        set(to[i], add ? num(to[i]) + fresh[i] : fresh[i]);
}

/* Equal shapes: both gradients in one pass. They may be one array (x op x), which is added to
 * second. */
INLINE void backward_equal(kdas_device *device, const kdas_call *call, operation op)
{
    const elem *a = call->in[0], *b = call->in[1], *g = call->dout;
    elem       *da = call->din[0], *db = call->din[1];
    bool        add_a = adds(call, 0), add_b = adds(call, 1);
    int64_t     n = numel(&call->node->out);

#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++)
        for (int64_t i   = part_of_line(n, t, device->threads),
                     end = part_of_line(n, t + 1, device->threads);
             i < end; i += 256) {
            int64_t m = end - i < 256 ? end - i : 256;
            float   fresh_a[256], fresh_b[256];

#pragma omp simd
            for (int64_t j = 0; j < m; j++) {
                float d = num(g[i + j]);

                fresh_a[j] = op == PRODUCT ? d * num(b[i + j]) : d;
                fresh_b[j] = op == PRODUCT ? d * num(a[i + j]) : op == SUM ? d : -d;
            }
            if (da) give(da + i, fresh_a, m, add_a);
            if (db) give(db + i, fresh_b, m, add_b);
        }
}

/* da = dout, or dout b. */
INLINE void backward_a(kdas_device *device, const kdas_call *call, const shape *s, operation op)
{
    segments    g = segments_of(s, device->threads);
    int64_t     n = s->dim[3];
    const elem *b = call->in[1], *dout = call->dout;
    elem       *da  = call->din[0];
    bool        add = adds(call, 0);

    if (op != PRODUCT && !add && da == dout) return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < g.total; i++) {
        int64_t     row = i / g.in_row, part = i % g.in_row;
        int64_t     begin = part_of_line(n, (int)part, (int)g.in_row);
        int64_t     end   = part_of_line(n, (int)part + 1, (int)g.in_row);
        const elem *from = dout + row * n, *y = op == PRODUCT ? b + b_offset(s, row) : NULL;
        elem       *to = da + row * n;

#pragma omp simd
        for (int64_t c = begin; c < end; c++) {
            float d = num(from[c]);

            if (op == PRODUCT) d *= s->step[3] ? num(y[c]) : num(y[0]);
            set(to[c], add ? num(to[c]) + d : d);
        }
    }
}

/* Add what columns begin .. end-1 of a row send to b. */
INLINE void reduce_row(float *db, const elem *dout, const elem *a, int64_t begin, int64_t end,
                       bool single, operation op)
{
    float sum = 0, sign = op == DIFFERENCE ? -1.0f : 1.0f;

    if (single) {
#pragma omp simd reduction(+ : sum)
        for (int64_t c = begin; c < end; c++)
            sum += op == PRODUCT ? num(dout[c]) * num(a[c]) : num(dout[c]);
        db[0] += sign * sum;
        return;
    }
#pragma omp      simd
    for (int64_t c = begin; c < end; c++)
        db[c] += op == PRODUCT ? num(dout[c]) * num(a[c]) : sign * num(dout[c]);
}

/* db sums over the axes that b lacks. Threads divide the outermost axis that it has, so that none
 * writes what another does; a single value for all is summed by one. */
INLINE void backward_b(kdas_device *device, const kdas_call *call, const shape *s, operation op)
{
    const elem *a = call->in[0], *dout = call->dout;
    float      *db   = HALF ? call->work : call->din[1];
    int         axis = 0;

    while (axis < 3 && !s->step[axis])
        axis++;
    if (HALF || !adds(call, 1)) memset(db, 0, (size_t)s->b_numel * sizeof(float));
#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t low[4] = { 0 }, high[4] = { s->dim[0], s->dim[1], s->dim[2], s->dim[3] };

        if (s->step[axis]) {
            low[axis]  = PART(s->dim[axis], t, device->threads);
            high[axis] = PART(s->dim[axis], t + 1, device->threads);
        } else if (t > 0) {
            continue;
        }
        for (int64_t i0 = low[0]; i0 < high[0]; i0++)
            for (int64_t i1 = low[1]; i1 < high[1]; i1++)
                for (int64_t i2 = low[2]; i2 < high[2]; i2++) {
                    int64_t row = (i0 * s->dim[1] + i1) * s->dim[2] + i2, at = row * s->dim[3];

                    reduce_row(db + b_offset(s, row), dout + at, op == PRODUCT ? a + at : NULL,
                               low[3], high[3], !s->step[3], op);
                }
    }
    if (HALF) give(call->din[1], db, s->b_numel, adds(call, 1));
}

INLINE void backward(kdas_device *device, const kdas_call *call, operation op)
{
    shape s = shape_of(call->node);

    if (s.equal) {
        backward_equal(device, call, op);
        return;
    }
    /* b first: din[0] may be the memory of dout */
    if (call->din[1]) backward_b(device, call, &s, op);
    if (call->din[0]) backward_a(device, call, &s, op);
}

#define ARITH(name, op)                                                            \
    static kdas_status name##_forward(kdas_device *device, const kdas_call *call)  \
    {                                                                              \
        forward(device, call, op);                                                 \
        return KDAS_OK;                                                            \
    }                                                                              \
    static kdas_status name##_backward(kdas_device *device, const kdas_call *call) \
    {                                                                              \
        backward(device, call, op);                                                \
        return KDAS_OK;                                                            \
    }                                                                              \
    const kd_cpu_kernel KD_SIMD(                                                   \
        name) = { .prepare = prepare, .forward = name##_forward, .backward = name##_backward };

ARITH(add, SUM)
ARITH(sub, DIFFERENCE)
ARITH(mul, PRODUCT)

/* arith.c - ADD, SUB and MUL of a (N,H,W,C) with b, whose axes are a's or 1.
 *
 * Axes are merged first: neighbouring axes that b shares with a become one, and so do neighbouring axes along which b is
 * broadcast. Equal shapes become one long row, a value for each channel (pixels, C), and one for each pixel (pixels, C)
 * with a single b to a row. */
#include "backend/cpu/simd/simd.h"

typedef enum operation { SUM, DIFFERENCE, PRODUCT } operation;

typedef struct shape {
    int64_t dim[4];  /* of a and out; merged, with leading 1 */
    int64_t step[4]; /* of b: 0 where it is broadcast        */
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

/* The part of a thread: some rows, or where there are few rows, a part of every row. */
typedef struct share {
    int64_t row, rows_end, column, columns;
} share;

static share share_of(const shape *s, int t, int threads)
{
    int64_t rows = s->dim[0] * s->dim[1] * s->dim[2], n = s->dim[3];
    int64_t column = line_part_begin(n, t, threads);

    if (rows < 4 * threads)
        return (share){ 0, rows, column, line_part_begin(n, t + 1, threads) - column };
    return (share){ part_begin(rows, t, threads), part_begin(rows, t + 1, threads), 0, n };
}

/* A run of rows of a along which b moves by `step`, and the offset of its first row in both. */
typedef struct run {
    int64_t rows, a, b, step;
} run;

/* The next run of a part: up to the end of axis 2. */
INLINE run next_run(const shape *s, share *h)
{
    int64_t rows = s->dim[2] - h->row % s->dim[2];
    run     at   = { rows, h->row * s->dim[3] + h->column, b_offset(s, h->row), s->step[2] };

    if (s->step[3]) at.b += h->column;
    if (at.rows > h->rows_end - h->row) at.rows = h->rows_end - h->row;
    h->row += at.rows;
    return at;
}

INLINE vec combine(vec a, vec b, operation op)
{
    return op == SUM ? a + b : op == DIFFERENCE ? a - b : a * b;
}

/* The gradient of b is summed in f32; in the bf16 copy, in scratch. */
static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape s = shape_of(node);

    (void)device;
    if (HALF && !s.equal && (node->wants & 2)) plan->work_backward = float_bytes(s.b_numel);
    return KDAS_OK;
}

/* ---- forward ---- */

/* n values of a row; a single b is broadcast to a vector first. */
INLINE void forward_row(const elem *x, const elem *y, elem *to, int64_t n, bool single,
                        operation op)
{
    vec b = (vec){ 0 } + (single ? num(y[0]) : 0);

    EACH_VECTOR(c, left, whole, n)
    {
        if (!single) b = load_some(y + c, whole, left);
        store_some(to + c, combine(load_some(x + c, whole, left), b, op), whole, left);
    }
}

INLINE void forward(kdas_device *device, const kdas_call *call, operation op)
{
    shape       s = shape_of(call->node);
    const elem *a = call->in[0], *b = call->in[1];
    elem       *out = call->out;

#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++)
        for (share h = share_of(&s, t, device->threads); h.row < h.rows_end;) {
            run at = next_run(&s, &h);

            for (int64_t r = 0; r < at.rows; r++, at.a += s.dim[3], at.b += at.step)
                if (s.step[3])
                    forward_row(a + at.a, b + at.b, out + at.a, h.columns, false, op);
                else
                    forward_row(a + at.a, b + at.b, out + at.a, h.columns, true, op);
        }
}

/* ---- backward ---- */

/* to = fresh, or to += fresh where `add`. */
INLINE void accumulate_some(elem *to, vec fresh, bool add, bool whole, int64_t left)
{
    if (add) fresh += load_some(to, whole, left);
    store_some(to, fresh, whole, left);
}

/* Equal shapes: both gradients in one pass. They may be one array (x op x): the second is then added. */
INLINE void backward_equal(kdas_device *device, const kdas_call *call, operation op)
{
    const elem *a = call->in[0], *b = call->in[1], *g = call->dout;
    elem       *da = call->din[0], *db = call->din[1];
    bool        add_a = adds(call, 0), add_b = adds(call, 1);
    int64_t     n = numel(&call->node->out);

#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++) {
        int64_t begin = line_part_begin(n, t, device->threads);

        EACH_VECTOR(c, left, whole, line_part_begin(n, t + 1, device->threads) - begin)
        {
            int64_t i = begin + c;
            vec     d = load_some(g + i, whole, left), fresh_a = d, fresh_b = d;

            if (op == PRODUCT) {
                fresh_a *= load_some(b + i, whole, left);
                fresh_b *= load_some(a + i, whole, left);
            } else if (op == DIFFERENCE) {
                fresh_b = -d;
            }
            if (da) accumulate_some(da + i, fresh_a, add_a, whole, left);
            if (db) accumulate_some(db + i, fresh_b, add_b, whole, left);
        }
    }
}

/* da = dout, or dout b. */
INLINE void backward_row(const elem *dout, const elem *y, elem *da, int64_t n, bool single,
                         bool add, operation op)
{
    vec b = (vec){ 0 } + (op == PRODUCT && single ? num(y[0]) : 0);

    EACH_VECTOR(c, left, whole, n)
    {
        vec d = load_some(dout + c, whole, left);

        if (op == PRODUCT) d *= single ? b : load_some(y + c, whole, left);
        accumulate_some(da + c, d, add, whole, left);
    }
}

INLINE void backward_a(kdas_device *device, const kdas_call *call, const shape *s, operation op)
{
    const elem *b = call->in[1], *dout = call->dout;
    elem       *da  = call->din[0];
    bool        add = adds(call, 0);

    if (op != PRODUCT && !add && da == dout) return;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < device->threads; t++)
        for (share h = share_of(s, t, device->threads); h.row < h.rows_end;) {
            run at = next_run(s, &h);

            for (int64_t r = 0; r < at.rows; r++, at.a += s->dim[3], at.b += at.step)
                if (s->step[3])
                    backward_row(dout + at.a, b + at.b, da + at.a, h.columns, false, add, op);
                else
                    backward_row(dout + at.a, b + at.b, da + at.a, h.columns, true, add, op);
        }
}

/* db += the gradient from columns begin .. end-1 of a row. */
INLINE void reduce_row(float *db, const elem *dout, const elem *a, int64_t begin, int64_t end,
                       bool single, operation op)
{
    vec sum = { 0 };

    dout += begin;
    a += op == PRODUCT ? begin : 0;
    EACH_VECTOR(c, left, whole, end - begin)
    {
        vec d = load_some(dout + c, whole, left);

        if (op == PRODUCT) d *= load_some(a + c, whole, left);
        if (op == DIFFERENCE) d = -d;
        if (single)
            sum += d;
        else
            store_some(db + begin + c, load_some(db + begin + c, whole, left) + d, whole, left);
    }
    if (single) db[0] += lanes_sum(sum);
}

/* db sums over the axes along which b is broadcast. Threads divide the outermost axis that b has, so that no two write to
 * one place. If b is a single value, one thread sums it. */
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
            low[axis]  = part_begin(s->dim[axis], t, device->threads);
            high[axis] = part_begin(s->dim[axis], t + 1, device->threads);
        } else if (t > 0) {
            continue;
        }
        for (int64_t i0 = low[0]; i0 < high[0]; i0++)
            for (int64_t i1 = low[1]; i1 < high[1]; i1++)
                for (int64_t i2 = low[2]; i2 < high[2]; i2++) {
                    int64_t row = (i0 * s->dim[1] + i1) * s->dim[2] + i2, at = row * s->dim[3];

                    float *to = db + i0 * s->step[0] + i1 * s->step[1] + i2 * s->step[2];

                    if (s->step[3])
                        reduce_row(to, dout + at, op == PRODUCT ? a + at : NULL, low[3], high[3],
                                   false, op);
                    else
                        reduce_row(to, dout + at, op == PRODUCT ? a + at : NULL, low[3], high[3],
                                   true, op);
                }
    }
    if (!HALF) return;
    EACH_VECTOR(c, left, whole, s->b_numel)
    accumulate_some((elem *)call->din[1] + c, load_some(db + c, whole, left), adds(call, 1), whole,
                    left);
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

/* deconv2d.c - DECONV2D whose filters lie side by side: x (N,H,W,C), w (C,O,s,s), [b (O)], stride s, no padding. oneDNN has
 * the others (cpu/conv.c).
 *
 * Each tap t of the filter is a linear layer from the pixels of x to every s-th pixel of every s-th row of y. A row of x
 * is an operand A of C columns; the pixels of y that it makes with one tap are s O elements apart.
 *
 * packed, for each tap: w as panels (C,O) for y | bias, padded | for each tap, w as panels (O,C) for dx, if that is wanted.
 *
 * dw sums over many pixels. They are divided into pixel_parts parts, each with its own sums, (taps,C,O), which are added up
 * in a fixed order; large weights are divided along C instead, into wide_parts. */
#include "backend/cpu/simd/gemm.h"

enum { BLOCK = 256 }; /* most pixels that are packed at a time for dw */

typedef struct shape {
    int64_t rows, W, C, O, s, taps; /* rows: N H */
    int     pixel_parts, wide_parts;
} shape;

static shape shape_of(const kdas_node_desc *node, int threads)
{
    const int64_t *x = node->in[0].dim;
    shape          s = { .rows       = x[0] * x[1],
                         .W          = x[2],
                         .C          = x[3],
                         .O          = node->out.dim[3],
                         .s          = ((const kdas_conv_attr *)node->attr)->stride,
                         .wide_parts = 1 };

    s.taps = s.s * s.s;
    while (s.wide_parts * 2 <= threads && threads % (s.wide_parts * 2) == 0 &&
           s.taps * s.C * s.O / s.wide_parts > 65536)
        s.wide_parts *= 2;
    s.pixel_parts = threads / s.wide_parts;
    return s;
}

/* Bytes of the panels of one tap, for y and for dx. */
static size_t forward_bytes(const shape *s) { return float_bytes(packed_numel(s->C, s->O)); }
static size_t data_bytes(const shape *s) { return float_bytes(packed_numel(s->O, s->C)); }
static size_t bias_bytes(const shape *s) { return float_bytes(round_up(s->O, LANES)); }

/* Sums of one part of the pixels; scratch of one task. */
static size_t sums_bytes(const shape *s)
{
    return float_bytes(s->taps * s->C * s->O) + float_bytes(s->O);
}
static size_t task_bytes(const shape *s)
{
    return elem_bytes(BLOCK * s->O) + float_bytes(packed_numel(BLOCK, s->O)) +
           (UNIT_DEPTH > 1 ? float_bytes(units_of(BLOCK) * s->C) : 0);
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape  s    = shape_of(node, device->threads);
    size_t data = HALF ? float_bytes(s.W * s.C) * (size_t)device->threads : 0, weights = 0;

    plan->packed = forward_bytes(&s) * (size_t)s.taps + bias_bytes(&s);
    if (node->wants & 1) plan->packed += data_bytes(&s) * (size_t)s.taps;
    plan->pack_key = 1 + (node->wants & 1);
    if (node->wants & 6)
        weights = sums_bytes(&s) * (size_t)s.pixel_parts +
                  task_bytes(&s) * (size_t)(s.pixel_parts * s.wide_parts);
    plan->work_backward = data > weights ? data : weights;
    return KDAS_OK;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    shape        s = shape_of(call->node, device->threads);
    const float *w = call->in[1], *b = call->node->inputs > 2 ? call->in[2] : NULL;
    void        *at = call->packed;
    float       *bias;

    for (int64_t t = 0; t < s.taps; t++)
        pack_panels((unit *)bump_alloc(&at, forward_bytes(&s)), w + t, s.C, s.O, s.O * s.taps,
                    s.taps, 1.0f);
    bias = bump_alloc(&at, bias_bytes(&s));
    memset(bias, 0, bias_bytes(&s));
    if (b) memcpy(bias, b, (size_t)s.O * sizeof(float));
    for (int64_t t = 0; t < s.taps && (call->node->wants & 1); t++)
        pack_panels((unit *)bump_alloc(&at, data_bytes(&s)), w + t, s.O, s.C, s.taps, s.O * s.taps,
                    1.0f);
    return KDAS_OK;
}

/* Offset in y of what tap t makes of pixel q of row r of x. */
INLINE int64_t tap_offset(const shape *s, int64_t r, int64_t q, int64_t t)
{
    return (((r * s->s + t / s->s) * s->W + q) * s->s + t % s->s) * s->O;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    shape        s      = shape_of(call->node, device->threads);
    const elem  *x      = call->in[0];
    const char  *packed = call->packed;
    const float *bias   = (const float *)(packed + forward_bytes(&s) * (size_t)s.taps);
    elem        *y      = call->out;
    store_mode   mode   = SET;

    if (PANEL >= LINE && s.O % PANEL == 0 &&
        streams(device, y, s.O, (size_t)numel(&call->node->out) * sizeof *y))
        mode = STREAM;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s.rows; r++) {
        for (int64_t t = 0; t < s.taps; t++) {
            const unit *w = (const unit *)(packed + forward_bytes(&s) * (size_t)t);

            gemm(s.W, s.O, s.C, x + r * s.W * s.C, s.C, 1, w, bias, y + tap_offset(&s, r, 0, t),
                 s.s * s.O, mode);
        }
        stream_done();
    }
    return KDAS_OK;
}

/* ---- the gradient of x ---- */

/* Row r of dx. In bf16 its terms are summed up in `sum`, floats, and rounded once. */
static void data_row(const shape *s, const elem *dy, const char *packed, elem *dx, float *sum,
                     int64_t r, bool add)
{
    elem  *row = dx + r * s->W * s->C;
    float *to  = HALF ? sum : (float *)row;

    for (int64_t t = 0; t < s->taps; t++)
        gemm(s->W, s->C, s->O, dy + tap_offset(s, r, 0, t), s->s * s->O, 1,
             (const unit *)(packed + data_bytes(s) * (size_t)t), NULL, to, s->C,
             store_mode_of(t > 0 || (!HALF && add)));
    if (HALF)
#pragma omp simd
        for (int64_t i = 0; i < s->W * s->C; i++)
            set(row[i], add ? num(row[i]) + sum[i] : sum[i]);
}

static void backward_data(kdas_device *device, const kdas_call *call, const shape *s)
{
    const char *packed =
        (const char *)call->packed + forward_bytes(s) * (size_t)s->taps + bias_bytes(s);
    int parts = device->threads;

#pragma omp parallel for schedule(static)
    for (int p = 0; p < parts; p++) {
        float *sum = (float *)((char *)call->work + float_bytes(s->W * s->C) * (size_t)p);

        for (int64_t r = part_begin(s->rows, p, parts); r < part_begin(s->rows, p + 1, parts); r++)
            data_row(s, call->dout, packed, call->din[0], sum, r, adds(call, 0));
    }
}

/* ---- the gradients of w and b ---- */

/* Sums of a part of the pixels: dw (taps,C,O) and db. */
static float *sums_of(const shape *s, void *work, int pixel_part)
{
    return (float *)((char *)work + sums_bytes(s) * (size_t)pixel_part);
}

static float *db_of(const shape *s, float *dw)
{
    return (float *)((char *)dw + float_bytes(s->taps * s->C * s->O));
}

/* The gradients of y where tap t put n pixels of x, from pixel p (over N,H,W) on: (n,O). */
static void collect(const shape *s, const elem *dy, elem *to, int64_t p, int64_t n, int64_t t)
{
    for (int64_t k = p; k < p + n; k++, to += s->O)
        memcpy(to, dy + tap_offset(s, k / s->W, k % s->W, t), (size_t)s->O * sizeof *to);
}

/* Scratch of one task. */
typedef struct task {
    elem *dense;         /* (BLOCK,O) */
    unit *panel, *units; /* the same as a panel; in bf16, pixels of x as units */
} task;

static task task_of(const shape *s, void *work, int number)
{
    void *at =
        (char *)work + sums_bytes(s) * (size_t)s->pixel_parts + task_bytes(s) * (size_t)number;
    task t;

    t.dense = bump_alloc(&at, elem_bytes(BLOCK * s->O));
    t.panel = bump_alloc(&at, float_bytes(packed_numel(BLOCK, s->O)));
    t.units = at;
    return t;
}

/* dw of channels c0 .. c1-1 of x += the products of n pixels, from pixel p on. */
static void weights_block(const kdas_call *call, const shape *s, const task *job, float *dw,
                          int64_t p, int64_t n, int64_t c0, int64_t c1, store_mode mode)
{
    const elem *x = (const elem *)call->in[0] + p * s->C + c0;

#ifdef KD_HALF
    transpose_rows(job->units, x, n, c1 - c0, s->C);
#endif
    for (int64_t t = 0; t < s->taps; t++) {
        float *to = dw + (t * s->C + c0) * s->O;

        collect(s, call->dout, job->dense, p, n, t);
        if (call->din[2] && c0 == 0) add_columns(db_of(s, dw), job->dense, n, s->O);
        if (!call->din[1]) continue;
        pack_panels(job->panel, job->dense, n, s->O, s->O, 1, 1.0f);
#ifdef KD_HALF
        gemm_transposed_a(c1 - c0, s->O, n, job->units, job->panel, to, s->O, mode);
#else
        gemm(c1 - c0, s->O, n, x, 1, s->C, job->panel, NULL, to, s->O, mode);
#endif
    }
}

static void weights_task(const kdas_call *call, const shape *s, int number)
{
    int     pixel_part = number / s->wide_parts, wide_part = number % s->wide_parts;
    task    job    = task_of(s, call->work, number);
    float  *dw     = sums_of(s, call->work, pixel_part);
    int64_t pixels = s->rows * s->W;
    int64_t begin  = part_begin(pixels, pixel_part, s->pixel_parts),
            end    = part_begin(pixels, pixel_part + 1, s->pixel_parts);
    int64_t c0     = part_begin(s->C, wide_part, s->wide_parts),
            c1     = part_begin(s->C, wide_part + 1, s->wide_parts);

    if (c0 == 0 && c1 > 0) memset(db_of(s, dw), 0, (size_t)s->O * sizeof(float));
    if (begin == end)
        for (int64_t t = 0; t < s->taps; t++)
            memset(dw + (t * s->C + c0) * s->O, 0, (size_t)((c1 - c0) * s->O) * sizeof(float));
    for (int64_t p = begin; p < end && c0 < c1; p += BLOCK)
        weights_block(call, s, &job, dw, p, end - p < BLOCK ? end - p : BLOCK, c0, c1,
                      store_mode_of(p > begin));
}

/* Add up the sums of all parts in order; those of w go to PyTorch's (C,O,taps). */
static void reduce_weights(const kdas_call *call, const shape *s)
{
    float *dw = call->din[1], *db = call->din[2];

#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < (dw ? s->C : 0); c++)
        for (int part = 0; part < s->pixel_parts; part++)
            for (int64_t t = 0; t < s->taps; t++) {
                const float *from = sums_of(s, call->work, part) + (t * s->C + c) * s->O;

                for (int64_t o = 0; o < s->O; o++)
                    dw[(c * s->O + o) * s->taps + t] += from[o];
            }
    for (int part = 0; db && part < s->pixel_parts; part++) {
        const float *from = db_of(s, sums_of(s, call->work, part));

        for (int64_t o = 0; o < s->O; o++)
            db[o] += from[o];
    }
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    shape s = shape_of(call->node, device->threads);

    if (call->din[0]) backward_data(device, call, &s);
    if (!call->din[1] && !call->din[2]) return KDAS_OK;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < s.pixel_parts * s.wide_parts; i++)
        weights_task(call, &s, i);
    reduce_weights(call, &s);
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(deconv2d) = {
    .prepare  = prepare,
    .pack     = pack,
    .forward  = forward,
    .backward = backward,
};

/* linear.c - LINEAR: y (rows,O) = x (rows,C) W^T + b, W (O,C).
 *
 * packed: W^T as panels for y = x W^T | bias, padded | W as panels for dx = dy W, if that is wanted.
 *
 * dW = dy^T x sums over many rows into few elements. The wider of dy and x is the A operand (transposed, not packed), the
 * narrower is packed as B. So the sums are (wide,narrow): dW transposed where x is the wider. In bf16 the A operand is
 * made of units of two rows first (transpose_rows()). The rows are divided into row_parts parts, each with its own sums,
 * which are added up in a fixed order; large weights are divided along the wide axis instead, into wide_parts. */
#include "backend/cpu/simd/gemm.h"

enum { BLOCK = 256 }; /* most rows that are packed at a time for dW */

typedef struct shape {
    int64_t rows, in, out;
    int64_t wide, narrow;          /* of in and out, the larger and the smaller */
    bool    swapped;               /* x is the wider: sums are (in,out)         */
    int     row_parts, wide_parts; /* division of dW's work                     */
} shape;

static shape shape_of(const kdas_node_desc *node, int threads)
{
    shape s = { .rows       = row_count(&node->out),
                .in         = node->in[0].dim[3],
                .out        = node->out.dim[3],
                .wide_parts = 1 };

    s.swapped = s.in > s.out;
    s.wide    = s.swapped ? s.in : s.out;
    s.narrow  = s.swapped ? s.out : s.in;
    while (s.wide_parts * 2 <= threads && threads % (s.wide_parts * 2) == 0 &&
           s.in * s.out / s.wide_parts > 65536)
        s.wide_parts *= 2;
    s.row_parts = threads / s.wide_parts;
    if (s.rows < s.row_parts) s.row_parts = 1;
    return s;
}

static bool has_bias(const kdas_node_desc *node) { return node->inputs > 2 && node->in[2].dim[0]; }

/* Scratch of one task for dW: packed rows, its sums for W and b, and units of the wide operand. */
static size_t part_bytes(const shape *s)
{
    return float_bytes(packed_numel(BLOCK, s->narrow)) + float_bytes(s->in * s->out) +
           float_bytes(s->out) + (UNIT_DEPTH > 1 ? float_bytes(units_of(BLOCK) * s->wide) : 0);
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape s = shape_of(node, device->threads);

    plan->packed = float_bytes(packed_numel(s.in, s.out)) + float_bytes(round_up(s.out, LANES));
    if (node->wants & 1) plan->packed += float_bytes(packed_numel(s.out, s.in));
    plan->pack_key = 1 + (node->wants & 1);
    if (node->wants & 6)
        plan->work_backward = part_bytes(&s) * (size_t)(s.row_parts * s.wide_parts);
    return KDAS_OK;
}

/* pack_panels(), the panels divided over the threads where there are many. */
static void pack_by_all(unit *to, const float *b, int64_t K, int64_t N, int64_t rs_b, int64_t cs_b)
{
    const bool many = K * N >= 32768;

#pragma omp parallel for schedule(static) if (many)
    for (int64_t n = 0; n < N; n += PANEL)
        pack_panels(to + n * units_of(K), b + n * cs_b, K, KD_MIN(N - n, PANEL), rs_b, cs_b, 1.0f);
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    shape        s       = shape_of(call->node, device->threads);
    void        *at      = call->packed;
    unit        *forward = bump_alloc(&at, float_bytes(packed_numel(s.in, s.out)));
    float       *bias    = bump_alloc(&at, float_bytes(round_up(s.out, LANES)));
    const float *w       = call->in[1];

    pack_by_all(forward, w, s.in, s.out, 1, s.in);
    memset(bias, 0, float_bytes(round_up(s.out, LANES)));
    if (has_bias(call->node)) memcpy(bias, call->in[2], (size_t)s.out * sizeof(float));
    if (call->node->wants & 1) pack_by_all(at, w, s.out, s.in, s.in, 1);
    return KDAS_OK;
}

/* C (rows,n) = A (rows,k) B (+ bias), the rows divided over the threads. Large results are streamed where a row of a panel
 * is a whole cache line, as it is but for the shortest vectors. */
static void by_rows(const kdas_device *device, int64_t rows, int64_t n, int64_t k, const elem *a,
                    const unit *packed, const float *bias, elem *c, bool add, int32_t post)
{
    int        parts = device->threads;
    store_mode mode  = store_mode_of(add);

    if (!add && PANEL >= LINE && n % PANEL == 0 &&
        streams(device, c, n, (size_t)(rows * n) * sizeof *c))
        mode = STREAM;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++) {
        int64_t m = part_begin(rows, t, parts), end = part_begin(rows, t + 1, parts);

        gemm_from(end - m, n, k, a + m * k, k, 1, false, packed, bias, c + m * n, n, mode, post);
        stream_done();
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    shape       s  = shape_of(call->node, device->threads);
    void       *at = call->packed;
    const unit *w  = bump_alloc(&at, float_bytes(packed_numel(s.in, s.out)));

    by_rows(device, s.rows, s.out, s.in, call->in[0], w, at, call->out, false, call->node->post);
    return KDAS_OK;
}

/* Scratch of one task; db is used where wide_part is 0. */
typedef struct part_sums {
    unit  *panel, *wide_units;
    float *dw, *db;
} part_sums;

static part_sums sums_of(const shape *s, char *work, int row_part, int wide_part)
{
    void     *at = work + part_bytes(s) * (size_t)(row_part * s->wide_parts + wide_part);
    part_sums p;

    p.panel      = bump_alloc(&at, float_bytes(packed_numel(BLOCK, s->narrow)));
    p.dw         = bump_alloc(&at, float_bytes(s->in * s->out));
    p.db         = bump_alloc(&at, float_bytes(s->out));
    p.wide_units = at;
    return p;
}

static void weights_part(const kdas_call *call, const shape *s, int row_part, int wide_part,
                         char *work)
{
    part_sums   p = sums_of(s, work, row_part, wide_part);
    const elem *x = call->in[0], *dy = call->dout, *wide = s->swapped ? x : dy,
               *narrow = s->swapped ? dy : x;
    int64_t w0         = part_begin(s->wide, wide_part, s->wide_parts),
            w1         = part_begin(s->wide, wide_part + 1, s->wide_parts);
    int64_t r0         = part_begin(s->rows, row_part, s->row_parts),
            r1         = part_begin(s->rows, row_part + 1, s->row_parts);
    int64_t block      = 131072 / (s->narrow + w1 - w0);

    block = block < 64 ? 64 : block > BLOCK ? BLOCK : block;
    memset(p.db, 0, (size_t)s->out * sizeof(float));
    for (int64_t r = r0; r < r1; r += block) {
        int64_t n = r1 - r < block ? r1 - r : block;

        if (call->din[2] && wide_part == 0) add_columns(p.db, dy + r * s->out, n, s->out);
        if (!call->din[1]) continue;
        pack_panels(p.panel, narrow + r * s->narrow, n, s->narrow, s->narrow, 1, 1.0f);
#ifdef KD_HALF
        transpose_rows(p.wide_units, wide + r * s->wide + w0, n, w1 - w0, s->wide);
        gemm_transposed_a(w1 - w0, s->narrow, n, p.wide_units, p.panel, p.dw + w0 * s->narrow,
                          s->narrow, store_mode_of(r > r0));
#else
        gemm(w1 - w0, s->narrow, n, wide + r * s->wide + w0, 1, s->wide, p.panel, NULL,
             p.dw + w0 * s->narrow, s->narrow, store_mode_of(r > r0));
#endif
    }
}

/* `columns` columns of dw (out,in) += the sums (columns,out) of every part of the rows. */
static void add_transposed(float *dw, const float *sums, const shape *s, int64_t columns,
                           int64_t ld)
{
#pragma omp parallel for schedule(static)
    for (int64_t i0 = 0; i0 < columns; i0 += 16) {
        int64_t i1 = i0 + 16 < columns ? i0 + 16 : columns;

        for (int d = 0; d < s->row_parts; d++)
            for (int64_t o = 0; o < s->out; o++)
                for (int64_t i = i0; i < i1; i++)
                    dw[o * s->in + i] += sums[d * ld + i * s->out + o];
    }
}

/* Add up the sums of all parts of the rows, in order, for each part of the wide axis. */
static void reduce_parts(const kdas_call *call, const shape *s, char *work)
{
    int64_t ld = (int64_t)(part_bytes(s) / sizeof(float)) * s->wide_parts;
    float  *dw = call->din[1], *db = call->din[2];

    for (int a = 0; dw && a < s->wide_parts; a++) {
        int64_t w0       = part_begin(s->wide, a, s->wide_parts),
                w1       = part_begin(s->wide, a + 1, s->wide_parts);
        const float *own = sums_of(s, work, 0, a).dw + w0 * s->narrow;

        if (!s->swapped)
            add_parts(dw + w0 * s->narrow, own, (w1 - w0) * s->narrow, ld, s->row_parts);
        else
            add_transposed(dw + w0, own, s, w1 - w0, ld);
    }
    if (db) add_parts(db, sums_of(s, work, 0, 0).db, s->out, ld, s->row_parts);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    shape s  = shape_of(call->node, device->threads);
    void *at = call->packed;

    if (call->din[0]) {
        at = (char *)at + float_bytes(packed_numel(s.in, s.out)) +
             float_bytes(round_up(s.out, LANES));
        by_rows(device, s.rows, s.in, s.out, call->dout, at, NULL, call->din[0], adds(call, 0),
                KDAS_POST_NONE);
    }
    if (!call->din[1] && !call->din[2]) return KDAS_OK;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < s.row_parts * s.wide_parts; t++)
        weights_part(call, &s, t / s.wide_parts, t % s.wide_parts, call->work);
    reduce_parts(call, &s, call->work);
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(linear) = {
    .prepare  = prepare,
    .pack     = pack,
    .forward  = forward,
    .backward = backward,
};

/* linear.c - LINEAR: y (rows,O) = x (rows,C) W^T + b, W (O,C).
 *
 * packed: W^T as panels for y = x W^T | bias, padded | W as panels for dx = dy W, if wanted.
 *
 * dW = dy^T x sums over many rows into few elements. The wider of dy and x is read where it lies,
 * the narrower is packed, so that dW comes out transposed if x is the wider (in bf16 the wider is
 * first brought into units of two rows). Threads divide the rows in `depth` parts, each with sums of its own that are joined in order, times `across` parts
 * of the wide axis: large weights are divided across alone. */
#include "backend/cpu/simd/gemm.h"

enum { BLOCK = 256 }; /* most rows that are packed at a time for dW */

typedef struct shape {
    int64_t rows, in, out;
    int64_t wide, narrow;  /* of in and out, the larger and the smaller */
    bool    flip;          /* x is the wide one: sums are (in,out)       */
    int     depth, across; /* how backward divides the work for dW       */
} shape;

static shape shape_of(const kdas_node_desc *node, int threads)
{
    shape s = { .rows   = row_count(&node->out),
                .in     = node->in[0].dim[3],
                .out    = node->out.dim[3],
                .across = 1 };

    s.flip   = s.in > s.out;
    s.wide   = s.flip ? s.in : s.out;
    s.narrow = s.flip ? s.out : s.in;
    while (s.across * 2 <= threads && threads % (s.across * 2) == 0 &&
           s.in * s.out / s.across > 65536)
        s.across *= 2;
    s.depth = threads / s.across;
    if (s.rows < s.depth) s.depth = 1;
    return s;
}

static bool has_bias(const kdas_node_desc *node) { return node->inputs > 2 && node->in[2].dim[0]; }

/* One part's scratch for dW: packed rows, then its own sums for W and b. */
static size_t part_bytes(const shape *s)
{
    return floats(packed_numel(BLOCK, s->narrow)) + floats(s->in * s->out) + floats(s->out) +
           (DEPTH > 1 ? floats(units_of(BLOCK) * s->wide) : 0);
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape s = shape_of(node, device->threads);

    plan->packed = floats(packed_numel(s.in, s.out)) + floats(round_up(s.out, LANES));
    if (node->wants & 1) plan->packed += floats(packed_numel(s.out, s.in));
    plan->pack_key = 1 + (node->wants & 1);
    if (node->wants & 6) plan->work_backward = part_bytes(&s) * (size_t)(s.depth * s.across);
    return KDAS_OK;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    shape        s       = shape_of(call->node, device->threads);
    void        *at      = call->packed;
    unit        *forward = carve(&at, floats(packed_numel(s.in, s.out)));
    float       *bias    = carve(&at, floats(round_up(s.out, LANES)));
    const float *w       = call->in[1];

    pack_panels(forward, w, s.in, s.out, 1, s.in, 1.0f);
    memset(bias, 0, floats(round_up(s.out, LANES)));
    if (has_bias(call->node)) memcpy(bias, call->in[2], (size_t)s.out * sizeof(float));
    if (call->node->wants & 1) pack_panels(at, w, s.out, s.in, s.in, 1, 1.0f);
    return KDAS_OK;
}

/* C (rows,n) = A (rows,k) B (+ bias), rows divided over the threads. A panel of a row is a whole
 * cache line but for the shortest vectors, so large results can be streamed. */
static void by_rows(const kdas_device *device, int64_t rows, int64_t n, int64_t k, const elem *a,
                    const unit *packed, const float *bias, elem *c, bool add)
{
    int      parts = device->threads;
    put_mode put   = put_of(add);

    if (!add && PANEL >= LINE && n % PANEL == 0 &&
        streams(device, c, n, (size_t)(rows * n) * sizeof *c))
        put = STREAM;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++) {
        int64_t m = part_begin(rows, t, parts), end = part_begin(rows, t + 1, parts);

        gemm(end - m, n, k, a + m * k, k, 1, packed, bias, c + m * n, n, put);
        stream_done();
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    shape       s  = shape_of(call->node, device->threads);
    void       *at = call->packed;
    const unit *w  = carve(&at, floats(packed_numel(s.in, s.out)));

    by_rows(device, s.rows, s.out, s.in, call->in[0], w, at, call->out, false);
    return KDAS_OK;
}

/* sum (n) += the rows of dy */
static void add_columns(float *sum, const elem *dy, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++)
#pragma omp simd
        for (int64_t o = 0; o < n; o++)
            sum[o] += num(dy[r * n + o]);
}

/* A part's own sums: for W (wide,narrow) and, where across is 0, for b. */
typedef struct part_sums {
    unit  *panel, *pairs;
    float *dw, *db;
} part_sums;

static part_sums sums_of(const shape *s, char *work, int depth, int across)
{
    void     *at = work + part_bytes(s) * (size_t)(depth * s->across + across);
    part_sums p;

    p.panel = carve(&at, floats(packed_numel(BLOCK, s->narrow)));
    p.dw    = carve(&at, floats(s->in * s->out));
    p.db    = carve(&at, floats(s->out));
    p.pairs = at;
    return p;
}

static void weights_part(const kdas_call *call, const shape *s, int depth, int across, char *work)
{
    part_sums   p = sums_of(s, work, depth, across);
    const elem *x = call->in[0], *dy = call->dout, *wide = s->flip ? x : dy,
               *narrow = s->flip ? dy : x;
    int64_t w0         = part_begin(s->wide, across, s->across),
            w1         = part_begin(s->wide, across + 1, s->across);
    int64_t r0         = part_begin(s->rows, depth, s->depth),
            r1         = part_begin(s->rows, depth + 1, s->depth);
    int64_t block      = 131072 / (s->narrow + w1 - w0);

    block = block < 64 ? 64 : block > BLOCK ? BLOCK : block;
    memset(p.db, 0, (size_t)s->out * sizeof(float));
    for (int64_t r = r0; r < r1; r += block) {
        int64_t n = r1 - r < block ? r1 - r : block;

        if (call->din[2] && across == 0) add_columns(p.db, dy + r * s->out, n, s->out);
        if (!call->din[1]) continue;
        pack_panels(p.panel, narrow + r * s->narrow, n, s->narrow, s->narrow, 1, 1.0f);
#ifdef KD_HALF
        turn_rows(p.pairs, wide + r * s->wide + w0, n, w1 - w0, s->wide);
        gemm_turned(w1 - w0, s->narrow, n, p.pairs, p.panel, p.dw + w0 * s->narrow, s->narrow,
                    put_of(r > r0));
#else
        gemm(w1 - w0, s->narrow, n, wide + r * s->wide + w0, 1, s->wide, p.panel, NULL,
             p.dw + w0 * s->narrow, s->narrow, put_of(r > r0));
#endif
    }
}

/* `columns` columns of dw (out,in) += the sums (columns,out) of every depth. */
static void add_flipped(float *dw, const float *sums, const shape *s, int64_t columns, int64_t ld)
{
#pragma omp parallel for schedule(static)
    for (int64_t i0 = 0; i0 < columns; i0 += 16) {
        int64_t i1 = i0 + 16 < columns ? i0 + 16 : columns;

        for (int d = 0; d < s->depth; d++)
            for (int64_t o = 0; o < s->out; o++)
                for (int64_t i = i0; i < i1; i++)
                    dw[o * s->in + i] += sums[d * ld + i * s->out + o];
    }
}

/* Each part `across` holds its own rows of the sums; they are gathered depth by depth. */
static void join_parts(const kdas_call *call, const shape *s, char *work)
{
    int64_t ld = (int64_t)(part_bytes(s) / sizeof(float)) * s->across;
    float  *dw = call->din[1], *db = call->din[2];

    for (int a = 0; dw && a < s->across; a++) {
        int64_t w0 = part_begin(s->wide, a, s->across), w1 = part_begin(s->wide, a + 1, s->across);
        const float *own = sums_of(s, work, 0, a).dw + w0 * s->narrow;

        if (!s->flip)
            add_parts(dw + w0 * s->narrow, own, (w1 - w0) * s->narrow, ld, s->depth);
        else
            add_flipped(dw + w0, own, s, w1 - w0, ld);
    }
    if (db) add_parts(db, sums_of(s, work, 0, 0).db, s->out, ld, s->depth);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    shape s  = shape_of(call->node, device->threads);
    void *at = call->packed;

    if (call->din[0]) {
        at = (char *)at + floats(packed_numel(s.in, s.out)) + floats(round_up(s.out, LANES));
        by_rows(device, s.rows, s.in, s.out, call->dout, at, NULL, call->din[0], adds(call, 0));
    }
    if (!call->din[1] && !call->din[2]) return KDAS_OK;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < s.depth * s.across; t++)
        weights_part(call, &s, t / s.across, t % s.across, call->work);
    join_parts(call, &s, call->work);
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(linear) = {
    .prepare  = prepare,
    .pack     = pack,
    .forward  = forward,
    .backward = backward,
};

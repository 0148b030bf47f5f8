/* linear.c - LINEAR: y (rows,O) = x (rows,C) W^T + b, W (O,C).
 *
 * packed: W^T as panels for y = x W^T | bias, padded | W as panels for dx = dy W, if wanted.
 * dW = dy^T x sums over many rows into few elements, so its threads divide the rows as well as W's rows:
 * `depth` parts of the rows, each with sums of its own that are joined in order, times `across` parts of
 * O. Large weights are divided across alone and need no sums of their own. */
#include "backend/cpu/simd/gemm.h"

enum { BLOCK = 256 }; /* rows of x that are packed at a time for dW */

typedef struct shape {
    int64_t rows, in, out;
    int     depth, across; /* how backward divides the work for dW */
} shape;

static shape shape_of(const kdas_node_desc *node, int threads)
{
    shape s = { row_count(&node->out), node->in[0].dim[3], node->out.dim[3], 1, 1 };

    while (s.across * 2 <= threads && threads % (s.across * 2) == 0 &&
           s.in * s.out / s.across > 65536)
        s.across *= 2;
    s.depth = threads / s.across;
    if (s.rows < s.depth) s.depth = 1;
    return s;
}

static bool has_bias(const kdas_node_desc *node) { return node->inputs > 2 && node->in[2].dim[0]; }

/* One part's scratch for dW: packed x, then its own sums for W and b. */
static size_t part_bytes(const shape *s)
{
    return floats(packed_numel(BLOCK, s->in)) + floats(s->in * s->out) + floats(s->out);
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape s = shape_of(node, device->threads);

    plan->packed = floats(packed_numel(s.in, s.out)) + floats(round_up(s.out, LANES));
    if (node->wants & 1) plan->packed += floats(packed_numel(s.out, s.in));
    if (node->wants & 6) plan->work_backward = part_bytes(&s) * (size_t)(s.depth * s.across);
    return KDAS_OK;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    shape        s  = shape_of(call->node, device->threads);
    void        *at = call->packed;
    float       *forward = carve(&at, floats(packed_numel(s.in, s.out)));
    float       *bias    = carve(&at, floats(round_up(s.out, LANES)));
    const float *w       = call->in[1];

    pack_panels(forward, w, s.in, s.out, 1, s.in, 1.0f);
    memset(bias, 0, floats(round_up(s.out, LANES)));
    if (has_bias(call->node)) memcpy(bias, call->in[2], (size_t)s.out * sizeof(float));
    if (call->node->wants & 1) pack_panels(at, w, s.out, s.in, s.in, 1, 1.0f);
    return KDAS_OK;
}

/* C (rows,n) = A (rows,k) B (+ bias), rows divided over the threads. A panel of a row is a whole cache line
 * but for the shortest vectors, so large results can be streamed. */
static void by_rows(const kdas_device *device, int64_t rows, int64_t n, int64_t k, const float *a,
                    const float *packed, const float *bias, float *c, bool add)
{
    int      parts = device->threads;
    put_mode put   = put_of(add);

    if (!add && PANEL >= 16 && n % PANEL == 0 && streams(device, c, n, (size_t)(rows * n) * sizeof *c))
        put = STREAM;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++) {
        int64_t m = PART(rows, t, parts), end = PART(rows, t + 1, parts);

        gemm(end - m, n, k, a + m * k, k, 1, packed, bias, c + m * n, n, put);
        stream_done();
    }
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    shape        s  = shape_of(call->node, device->threads);
    void        *at = call->packed;
    const float *w  = carve(&at, floats(packed_numel(s.in, s.out)));

    by_rows(device, s.rows, s.out, s.in, call->in[0], w, at, call->out, false);
    return KDAS_OK;
}

/* Sums of columns first .. end-1 of dy's rows. */
static void add_columns(float *sum, const float *dy, int64_t rows, int64_t ld, int64_t first,
                        int64_t end)
{
    for (int64_t r = 0; r < rows; r++)
#pragma omp simd
        for (int64_t o = first; o < end; o++)
            sum[o] += dy[r * ld + o];
}

/* dW and db of one part: rows of x and dy against columns o0 .. o1-1 of dy. The sums of the columns come
 * first: they bring the block of dy into the cache in order, where the product then reads it across. */
static void weights_part(const kdas_call *call, const shape *s, int depth, int across, char *work)
{
    void        *at    = work + part_bytes(s) * (size_t)(depth * s->across + across);
    float       *panel = carve(&at, floats(packed_numel(BLOCK, s->in)));
    bool         own   = s->depth > 1; /* else straight into the gradients */
    float       *dw    = own ? carve(&at, floats(s->in * s->out)) : call->din[1];
    float       *db    = own ? at : call->din[2];
    const float *x = call->in[0], *dy = call->dout;
    int64_t      o0 = PART(s->out, across, s->across), o1 = PART(s->out, across + 1, s->across);
    int64_t      r0 = PART(s->rows, depth, s->depth), r1 = PART(s->rows, depth + 1, s->depth);
    int64_t      block = 131072 / (s->in + o1 - o0);

    block = block < 64 ? 64 : block > BLOCK ? BLOCK : block;
    if (own) memset(db + o0, 0, (size_t)(o1 - o0) * sizeof(float));
    for (int64_t r = r0; r < r1; r += block) {
        int64_t n = r1 - r < block ? r1 - r : block;

        if (db) add_columns(db, dy + r * s->out, n, s->out, o0, o1);
        if (!call->din[1]) continue;
        pack_panels(panel, x + r * s->in, n, s->in, s->in, 1, 1.0f);
        gemm(o1 - o0, s->in, n, dy + r * s->out + o0, 1, s->out, panel, NULL, dw + o0 * s->in, s->in,
             put_of(!own || r > r0));
    }
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    shape s  = shape_of(call->node, device->threads);
    void *at = call->packed, *work = call->work;

    if (call->din[0]) {
        at = (char *)at + floats(packed_numel(s.in, s.out)) + floats(round_up(s.out, LANES));
        by_rows(device, s.rows, s.in, s.out, call->dout, at, NULL, call->din[0],
                adds(call, 0));
    }
    if (!call->din[1] && !call->din[2]) return KDAS_OK;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < s.depth * s.across; t++)
        weights_part(call, &s, t / s.across, t % s.across, work);
    if (s.depth == 1) return KDAS_OK;
    for (int a = 0; a < s.across; a++) {
        int64_t      o0 = PART(s.out, a, s.across), o1 = PART(s.out, a + 1, s.across);
        int64_t      ld = (int64_t)(part_bytes(&s) / sizeof(float)) * s.across;
        const float *own = (float *)((char *)work + part_bytes(&s) * (size_t)a +
                                     floats(packed_numel(BLOCK, s.in)));
        const float *own_b = (const float *)((const char *)own + floats(s.in * s.out));

        if (call->din[1])
            add_parts((float *)call->din[1] + o0 * s.in, own + o0 * s.in, (o1 - o0) * s.in, ld, s.depth);
        if (call->din[2]) add_parts((float *)call->din[2] + o0, own_b + o0, o1 - o0, ld, s.depth);
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(linear) = {
    .prepare = prepare, .pack = pack, .forward = forward, .backward = backward,
};

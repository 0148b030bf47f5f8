/* arith.cu - ADD, SUB and MUL of a (N,H,W,C) with b, whose axes are a's or 1; SCALE, DROP_PATH and DROPOUT.
 *
 * Axes are merged first: neighbouring axes that b shares with a become one, and so do neighbouring axes along which b is
 * broadcast. Equal shapes become one long row. Shared and broadcast axes then alternate, so the gradient of b is a sum down
 * columns (b has the last axis) or along rows (it has not). */
#include "backend/cuda/wide.h"

enum { SUM, DIFFERENCE, PRODUCT };
enum { SHORT_ROW = 1024, PIECE = 4096, MOST_PIECES = 256 };

typedef struct shape {
    int64_t dim[4];  /* of a and out; merged, with leading 1 */
    int64_t step[4]; /* of b: 0 where it is broadcast        */
} shape;

static __device__ __forceinline__ float combine(int op, float a, float b)
{
    return op == SUM ? a + b : op == DIFFERENCE ? a - b : a * b;
}

/* The offset of b for a row over the first three axes. */
static __device__ __forceinline__ int64_t b_offset(const shape *s, int64_t row)
{
    int64_t i0, i1;

    if (s->dim[1] == 1 && s->dim[0] == 1) return row * s->step[2];
    i1 = over(row, s->dim[2]);
    row -= i1 * s->dim[2];
    i0 = over(i1, s->dim[1]);
    return i0 * s->step[0] + (i1 - i0 * s->dim[1]) * s->step[1] + row * s->step[2];
}

/* ---- forward ---- */

static __device__ __forceinline__ void equal(const elem *a, const elem *b, elem *y, int64_t groups,
                                             int op, const int width)
{
    EACH(i, groups)
    {
        quad x = load(a + i * width, width), z = load(b + i * width, width);

        EACH_VALUE(k, width) x.v[k] = combine(op, x.v[k], z.v[k]);
        store(y + i * width, x, width);
    }
}

KERNEL(arith_equal)(const elem *a, const elem *b, elem *y, int64_t groups, int op, int width)
{
    DISPATCH_WIDTH(width, equal, a, b, y, groups, op);
}

static __device__ __forceinline__ quad b_values(const elem *b, const shape *s, int64_t r, int64_t c,
                                                const int width)
{
    int64_t at = b_offset(s, r);
    quad    z;

    if (s->step[3]) return load(b + at + c, width);
    z.v[0] = z.v[1] = z.v[2] = z.v[3] = num(b[at]);
    return z;
}

static __device__ __forceinline__ void spread(const elem *a, const elem *b, elem *y, const shape *s,
                                              int64_t rows, int op, const int width)
{
    int64_t n  = s->dim[3];
    cell    at = cell_of(rows, n, width);

    EACH_ROW(r, at, rows)
    {
        quad x = load(a + r * n + at.c, width), z = b_values(b, s, r, at.c, width);

        EACH_VALUE(k, width) x.v[k] = combine(op, x.v[k], z.v[k]);
        store(y + r * n + at.c, x, width);
    }
}

KERNEL(arith_spread)
(const elem *a, const elem *b, elem *y, shape s, int64_t rows, int op, int width)
{
    DISPATCH_WIDTH(width, spread, a, b, y, &s, rows, op);
}

/* ---- backward ---- */

/* Equal shapes: both gradients in one pass. They may be one array (x op x): the second is then added. */
typedef struct gradients {
    const elem *a, *b, *dy; /* a, b: read only by PRODUCT */
    elem       *da, *db;    /* NULL: not wanted           */
    int         add_a, add_b;
} gradients;

static __device__ __forceinline__ void equal_backward(const gradients *g, int64_t groups, int op,
                                                      const int width)
{
    EACH(j, groups)
    {
        int64_t i = j * width;
        quad    a, b, d = load(g->dy + i, width), da = d, db = d;

        if (op == PRODUCT) {
            a = load(g->a + i, width);
            b = load(g->b + i, width);
            EACH_VALUE(k, width) da.v[k] *= b.v[k];
            EACH_VALUE(k, width) db.v[k] *= a.v[k];
        } else if (op == DIFFERENCE) {
            EACH_VALUE(k, width) db.v[k] = -d.v[k];
        }
        if (g->da) accumulate_quad(g->da + i, da, g->add_a, width);
        if (g->db) accumulate_quad(g->db + i, db, g->add_b, width);
    }
}

KERNEL(arith_equal_backward)(gradients g, int64_t groups, int op, int width)
{
    DISPATCH_WIDTH(width, equal_backward, &g, groups, op);
}

/* da = dy, or dy b. */
static __device__ __forceinline__ void spread_backward(const elem *dy, const elem *b, elem *da,
                                                       const shape *s, int64_t rows, int op,
                                                       int add, const int width)
{
    int64_t n  = s->dim[3];
    cell    at = cell_of(rows, n, width);

    EACH_ROW(r, at, rows)
    {
        quad d = load(dy + r * n + at.c, width), z;

        if (op == PRODUCT) {
            z = b_values(b, s, r, at.c, width);
            EACH_VALUE(k, width) d.v[k] *= z.v[k];
        }
        accumulate_quad(da + r * n + at.c, d, add, width);
    }
}

KERNEL(arith_spread_backward)
(const elem *dy, const elem *b, elem *da, shape s, int64_t rows, int op, int add, int width)
{
    DISPATCH_WIDTH(width, spread_backward, dy, b, da, &s, rows, op, add);
}

/* The gradient of b from element i, but for the sign. */
static __device__ __forceinline__ float sent(const elem *dy, const elem *a, int64_t i, int op)
{
    return op == PRODUCT ? num(dy[i]) * num(a[i]) : num(dy[i]);
}

/* b has axes 1 and 3: parts[p][i1][c] = the sum over part p of axes 0 and 2. A block has 32 columns by 8 rows of such a
 * sum. */
KERNEL(arith_columns)
(const elem *dy, const elem *a, float *parts, shape s, int64_t part_rows, int op)
{
    __shared__ float sums[8][33];
    int              lane = threadIdx.x % 32, row = threadIdx.x / 32;
    int64_t          c = (int64_t)blockIdx.x * 32 + lane, first = (int64_t)blockIdx.y * part_rows;
    int64_t          rows = s.dim[0] * s.dim[2];
    int64_t          end  = first + part_rows < rows ? first + part_rows : rows;

    for (int64_t i1 = blockIdx.z; i1 < s.dim[1]; i1 += gridDim.z) {
        float sum = 0;

        for (int64_t q = first + row; c < s.dim[3] && q < end; q += 8) {
            int64_t i0 = s.dim[0] == 1 ? 0 : over(q, s.dim[2]);
            int64_t r  = (i0 * s.dim[1] + i1) * s.dim[2] + q - i0 * s.dim[2];

            sum += sent(dy, a, r * s.dim[3] + c, op);
        }
        __syncthreads(); /* the previous sums have been read */
        sums[row][lane] = sum;
        __syncthreads();
        if (row > 0 || c >= s.dim[3]) continue;
        for (int i = 1; i < 8; i++)
            sum += sums[i][lane];
        parts[(blockIdx.y * s.dim[1] + i1) * s.dim[3] + c] = sum;
    }
}

/* b has axes 0 and 2: parts[p][i0][i2] = the sum over piece p of axes 1 and 3. */
static __device__ __forceinline__ void sum_rows(const elem *dy, const elem *a, float *parts,
                                                const shape *s, int64_t piece, int op,
                                                const int threads)
{
    int64_t outs = s->dim[0] * s->dim[2], n = s->dim[1] * s->dim[3];
    int64_t pieces = (n + piece - 1) / piece;

    EACH_ROW_BY(j, outs * pieces, threads)
    {
        int64_t p = over(j, outs), o = j - p * outs, i0 = over(o, s->dim[2]),
                i2    = o - i0 * s->dim[2];
        int64_t first = p * piece, count = first + piece < n ? piece : n - first;
        float   sum = 0;

        EACH_IN_ROW(k, count, threads)
        {
            int64_t q = first + k, i1 = s->dim[1] == 1 ? 0 : over(q, s->dim[3]);
            int64_t r = (i0 * s->dim[1] + i1) * s->dim[2] + i2;

            sum += sent(dy, a, r * s->dim[3] + q - i1 * s->dim[3], op);
        }
        sum = row_sum(sum, threads);
        if (threadIdx.x % threads == 0) parts[j] = sum;
    }
}

KERNEL(arith_rows)
(const elem *dy, const elem *a, float *parts, shape s, int64_t piece, int op, int threads)
{
    DISPATCH_THREADS(threads, sum_rows, dy, a, parts, &s, piece, op);
}

/* db = or += the sum of the parts. */
KERNEL(arith_finish)(const float *parts, elem *db, int64_t count, int64_t n, int minus, int add)
{
    EACH(j, n)
    {
        float sum = 0;

        for (int64_t p = 0; p < count; p++)
            sum += parts[p * n + j];
        accumulate(&db[j], minus ? -sum : sum, add);
    }
}

/* ---- one operand ---- */

static __device__ __forceinline__ void scale(const elem *x, elem *y, int64_t groups, float factor,
                                             float offset, int add, const int width)
{
    EACH(i, groups)
    {
        quad v = load(x + i * width, width);

        EACH_VALUE(k, width) v.v[k] = v.v[k] * factor + offset;
        accumulate_quad(y + i * width, v, add, width);
    }
}

KERNEL(scale_accumulate)
(const elem *x, elem *y, int64_t groups, float factor, float offset, int add, int width)
{
    DISPATCH_WIDTH(width, scale, x, y, groups, factor, offset, add);
}

/* Random number n of a seed, the same as kdas_unit(). */
static __device__ __forceinline__ float unit(uint64_t seed, uint64_t n)
{
    uint64_t z = seed + (n + 1) * 0x9E3779B97F4A7C15u;

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z = z ^ (z >> 31);
    return (float)(uint32_t)(z >> 40) / 16777216.0f;
}

/* An image is a row of n. */
static __device__ __forceinline__ void drop_path(const elem *x, elem *y, int64_t images, int64_t n,
                                                 float keep, uint64_t seed, int add,
                                                 const int width)
{
    cell at = cell_of(images, n, width);

    EACH_ROW(r, at, images)
    {
        quad  v      = load(x + r * n + at.c, width);
        float factor = unit(seed, (uint64_t)r) < keep ? 1 / keep : 0;

        EACH_VALUE(k, width) v.v[k] *= factor;
        accumulate_quad(y + r * n + at.c, v, add, width);
    }
}

KERNEL(drop_path_accumulate)
(const elem *x, elem *y, int64_t images, int64_t n, float keep, uint64_t seed,
 const uint64_t *seed_at, int add, int width)
{
    if (seed_at) seed = *seed_at;
    DISPATCH_WIDTH(width, drop_path, x, y, images, n, keep, seed, add);
}

static __device__ __forceinline__ void drop(const elem *x, elem *y, int64_t groups, float keep,
                                            uint64_t seed, int add, const int width)
{
    EACH(i, groups)
    {
        quad v = load(x + i * width, width);

        EACH_VALUE(k, width)
        v.v[k] *= unit(seed, (uint64_t)(i * width + k)) < keep ? 1 / keep : 0;
        accumulate_quad(y + i * width, v, add, width);
    }
}

KERNEL(dropout_accumulate)
(const elem *x, elem *y, int64_t groups, float keep, uint64_t seed, const uint64_t *seed_at,
 int add, int width)
{
    if (seed_at) seed = *seed_at;
    DISPATCH_WIDTH(width, drop, x, y, groups, keep, seed, add);
}

#ifdef KD_HOST

static bool same_shapes(const kdas_node_desc *node)
{
    const int64_t *a = node->in[0].dim, *b = node->in[1].dim;

    return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static shape shape_of(const kdas_node_desc *node)
{
    const int64_t *a = node->in[0].dim, *b = node->in[1].dim;
    shape          s         = { { 1, 1, 1, 1 }, { 0, 0, 0, 0 } };
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
        if (shared[i]) step *= s.dim[i];
    }
    return s;
}

static int64_t piece_of(const shape *s)
{
    int64_t n = s->dim[1] * s->dim[3];

    return n <= SHORT_ROW ? n : KD_MAX((int64_t)PIECE, KD_CEIL(n, (int64_t)MOST_PIECES));
}

/* The number of partial sums for each value of b's gradient. */
static int64_t parts_of(const shape *s)
{
    if (s->step[3]) return kd_cuda_parts(s->dim[0] * s->dim[2]);
    return KD_CEIL(s->dim[1] * s->dim[3], piece_of(s));
}

static kdas_status arith_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape s = shape_of(node);

    (void)device;
    if (node->wants & 2 && !same_shapes(node))
        plan->work_backward = (size_t)(parts_of(&s) * elements(&node->in[1])) * sizeof(float);
    return KDAS_OK;
}

static kdas_status arith_forward(kdas_device *device, const kdas_call *call, int op)
{
    const elem *a = (const elem *)call->in[0], *b = (const elem *)call->in[1];
    elem       *y     = (elem *)call->out;
    shape       s     = shape_of(call->node);
    int64_t     n     = elements(&call->node->out);
    int64_t     rows  = s.dim[0] * s.dim[1] * s.dim[2];
    int         width = width_of(s.dim[3], a, s.step[3] ? b : NULL, y, NULL);

    if (same_shapes(call->node))
        return LAUNCH_EACH(device, arith_equal, n / width, a, b, y, n / width, op, width);
    return LAUNCH_MATRIX(device, arith_spread, rows, s.dim[3], width, a, b, y, s, rows, op, width);
}

static kdas_status backward_b(kdas_device *device, const kdas_call *call, const shape *s, int op)
{
    const elem *a = (const elem *)call->in[0], *dy = (const elem *)call->dout;
    float      *parts = (float *)call->work;
    int64_t     rows = s->dim[0] * s->dim[2], count = parts_of(s);
    int64_t     n = elements(&call->node->in[1]), piece;
    int         threads;

    if (s->step[3]) {
        dim3 grid((unsigned)KD_CEIL(s->dim[3], 32), (unsigned)count,
                  (unsigned)KD_MIN(s->dim[1], (int64_t)65535));

        KD_RETURN(LAUNCH(device, arith_columns, grid, KD_BLOCK, dy, a, parts, *s,
                         kd_cuda_part_rows(rows), op));
    } else {
        piece   = piece_of(s);
        threads = threads_per_row(piece);
        KD_RETURN(LAUNCH_ROWS(device, arith_rows, count * n, threads, dy, a, parts, *s, piece, op,
                              threads));
    }
    return LAUNCH_EACH(device, arith_finish, n, parts, (elem *)call->din[1], count, n,
                       op == DIFFERENCE, adds(call, 1));
}

static kdas_status backward_a(kdas_device *device, const kdas_call *call, const shape *s, int op)
{
    const elem *b = (const elem *)call->in[1], *dy = (const elem *)call->dout;
    elem       *da    = (elem *)call->din[0];
    int64_t     rows  = s->dim[0] * s->dim[1] * s->dim[2];
    bool        reads = op == PRODUCT && s->step[3];
    int         width = width_of(s->dim[3], reads ? b : NULL, dy, da, NULL);

    if (op != PRODUCT && !adds(call, 0) && da == dy) return KDAS_OK;
    return LAUNCH_MATRIX(device, arith_spread_backward, rows, s->dim[3], width, dy, b, da, *s, rows,
                         op, adds(call, 0), width);
}

static kdas_status backward_equal(kdas_device *device, const kdas_call *call, int op)
{
    gradients g = { (const elem *)call->in[0],
                    (const elem *)call->in[1],
                    (const elem *)call->dout,
                    (elem *)call->din[0],
                    (elem *)call->din[1],
                    adds(call, 0),
                    adds(call, 1) };
    int64_t   n = elements(&call->node->out);
    int width   = KD_MIN(width_of(n, g.dy, g.da, g.db, NULL), width_of(n, g.a, g.b, NULL, NULL));

    if (op != PRODUCT && !g.db && !g.add_a && g.da == g.dy) return KDAS_OK;
    return LAUNCH_EACH(device, arith_equal_backward, n / width, g, n / width, op, width);
}

static kdas_status arith_backward(kdas_device *device, const kdas_call *call, int op)
{
    shape s = shape_of(call->node);

    if (same_shapes(call->node)) return backward_equal(device, call, op);
    /* b first: din[0] may be the memory of dout */
    if (call->din[1]) KD_RETURN(backward_b(device, call, &s, op));
    return call->din[0] ? backward_a(device, call, &s, op) : KDAS_OK;
}

#define ARITH(name, op)                                                            \
    static kdas_status name##_forward(kdas_device *device, const kdas_call *call)  \
    {                                                                              \
        return arith_forward(device, call, op);                                    \
    }                                                                              \
    static kdas_status name##_backward(kdas_device *device, const kdas_call *call) \
    {                                                                              \
        return arith_backward(device, call, op);                                   \
    }                                                                              \
    KD_OP(name, arith_prepare, NULL, NULL, name##_forward, name##_backward)

ARITH(add, SUM)
ARITH(sub, DIFFERENCE)
ARITH(mul, PRODUCT)

/* to = or += from * factor + offset. */
static kdas_status scaled(kdas_device *device, const kdas_call *call, void *to, const void *from,
                          float offset, int add)
{
    const kdas_scale_attr *attr  = (const kdas_scale_attr *)call->node->attr;
    int64_t                n     = elements(&call->node->out);
    int                    width = width_of(n, to, from, NULL, NULL);

    return LAUNCH_EACH(device, scale_accumulate, n / width, (const elem *)from, (elem *)to,
                       n / width, attr->factor, offset, add, width);
}

static kdas_status scale_forward(kdas_device *device, const kdas_call *call)
{
    return scaled(device, call, call->out, call->in[0],
                  ((const kdas_scale_attr *)call->node->attr)->offset, 0);
}

static kdas_status scale_backward(kdas_device *device, const kdas_call *call)
{
    if (!call->din[0]) return KDAS_OK;
    return scaled(device, call, call->din[0], call->dout, 0, adds(call, 0));
}

KD_OP(scale, NULL, NULL, NULL, scale_forward, scale_backward)

/* to = or += from, each image times its drop-path factor. */
static kdas_status dropped(kdas_device *device, const kdas_call *call, void *to, const void *from,
                           int add)
{
    const kdas_drop_attr *attr   = (const kdas_drop_attr *)call->node->attr;
    bool                  train  = call->node->flags & KDAS_NODE_TRAIN;
    int64_t               images = call->node->out.dim[0], n = elements(&call->node->out) / images;
    int                   width = width_of(n, to, from, NULL, NULL);

    return LAUNCH_MATRIX(device, drop_path_accumulate, images, n, width, (const elem *)from,
                         (elem *)to, images, n, train ? 1 - attr->p : 1.0f, call->seed,
                         call->seed_at, add, width);
}

static kdas_status drop_path_forward(kdas_device *device, const kdas_call *call)
{
    return dropped(device, call, call->out, call->in[0], 0);
}

static kdas_status drop_path_backward(kdas_device *device, const kdas_call *call)
{
    if (!call->din[0]) return KDAS_OK;
    return dropped(device, call, call->din[0], call->dout, adds(call, 0));
}

KD_OP(drop_path, NULL, NULL, NULL, drop_path_forward, drop_path_backward)

/* to = or += from, each element times its factor. */
static kdas_status thinned(kdas_device *device, const kdas_call *call, void *to, const void *from,
                           int add)
{
    const kdas_drop_attr *attr  = (const kdas_drop_attr *)call->node->attr;
    bool                  train = call->node->flags & KDAS_NODE_TRAIN;
    int64_t               n     = elements(&call->node->out);
    int                   width = width_of(n, to, from, NULL, NULL);

    return LAUNCH_EACH(device, dropout_accumulate, n / width, (const elem *)from, (elem *)to,
                       n / width, train ? 1 - attr->p : 1.0f, call->seed, call->seed_at, add,
                       width);
}

static kdas_status dropout_forward(kdas_device *device, const kdas_call *call)
{
    return thinned(device, call, call->out, call->in[0], 0);
}

static kdas_status dropout_backward(kdas_device *device, const kdas_call *call)
{
    if (!call->din[0]) return KDAS_OK;
    return thinned(device, call, call->din[0], call->dout, adds(call, 0));
}

KD_OP(dropout, NULL, NULL, NULL, dropout_forward, dropout_backward)

#endif

/* shape.cu - CONCAT, SLICE, CROP and TRANSPOSE: ops that move values. */
#include "backend/cuda/wide.h"

enum { TILE = 32 };

/* `images` images of `lines` lines of n values; lines are `line` apart in memory, images `image`. */
typedef struct stack {
    int64_t image, line;
} stack;

/* The offset of line r, counted over all images. */
static __device__ __forceinline__ int64_t start_of(stack s, int64_t r, int64_t lines)
{
    int64_t i = lines == 1 ? r : over(r, lines);

    return i * s.image + (r - i * lines) * s.line;
}

static __device__ __forceinline__ void move(elem *to, stack to_at, const elem *from, stack from_at,
                                            int64_t rows, int64_t lines, int64_t n, int add,
                                            const int width)
{
    cell at = cell_of(rows, n, width);

    EACH_ROW(r, at, rows)
    {
        quad v = load(from + start_of(from_at, r, lines) + at.c, width);

        accumulate_quad(to + start_of(to_at, r, lines) + at.c, v, add, width);
    }
}

KERNEL(shape_move)
(elem *to, stack to_at, const elem *from, stack from_at, int64_t rows, int64_t lines, int64_t n,
 int add, int width)
{
    DISPATCH_WIDTH(width, move, to, to_at, from, from_at, rows, lines, n, add);
}

/* A window in each of dense images of `lines` by n values: where it begins and how large it is. */
typedef struct window {
    int64_t top, height, left, wide;
} window;

/* to = from inside of the window, 0 around it. */
static __device__ __forceinline__ void place(elem *to, const elem *from, window w, int64_t rows,
                                             int64_t lines, int64_t n, const int width)
{
    cell at     = cell_of(rows, n, width);
    bool within = at.c >= w.left && at.c < w.left + w.wide;

    EACH_ROW(r, at, rows)
    {
        int64_t i = lines == 1 ? r : over(r, lines), line = r - i * lines - w.top;
        quad    v = { { 0, 0, 0, 0 } };

        if (within && line >= 0 && line < w.height)
            v = load(from + (i * w.height + line) * w.wide + at.c - w.left, width);
        store(to + r * n + at.c, v, width);
    }
}

KERNEL(shape_place)
(elem *to, const elem *from, window w, int64_t rows, int64_t lines, int64_t n, int width)
{
    DISPATCH_WIDTH(width, place, to, from, w, rows, lines, n);
}

/* to (C,R) = or += the transposed from (R,C), for each matrix; by tiles in shared memory, so that reads and writes are
 * coalesced. */
KERNEL(shape_transpose)
(elem *to, const elem *from, int64_t matrices, int64_t rows, int64_t columns, int add)
{
    __shared__ float tile[TILE][TILE + 1];
    int              lane = threadIdx.x % TILE, first = threadIdx.x / TILE, step = KD_BLOCK / TILE;
    int64_t          wide = (columns + TILE - 1) / TILE, high = (rows + TILE - 1) / TILE;

    for (int64_t t = blockIdx.x; t < matrices * high * wide; t += gridDim.x) {
        int64_t m = over(t, high * wide), rest = t - m * high * wide, y = over(rest, wide);
        int64_t r0 = y * TILE, c0 = (rest - y * wide) * TILE, at = m * rows * columns;

        __syncthreads(); /* the previous tile has been read */
        for (int i = first; i < TILE; i += step)
            if (r0 + i < rows && c0 + lane < columns)
                tile[i][lane] = num(from[at + (r0 + i) * columns + c0 + lane]);
        __syncthreads();
        for (int i = first; i < TILE; i += step)
            if (c0 + i < columns && r0 + lane < rows)
                accumulate(&to[at + (c0 + i) * rows + r0 + lane], tile[lane][i], add);
    }
}

#ifdef KD_HOST

/* Rows of n, `to_ld` and `from_ld` apart. */
static kdas_status move_rows(kdas_device *device, void *to, int64_t to_ld, const void *from,
                             int64_t from_ld, int64_t rows, int64_t n, int add)
{
    stack to_at = { to_ld, 0 }, from_at = { from_ld, 0 };
    int   width = KD_MIN(width_of(n, to, from, NULL, NULL), to_ld % 4 || from_ld % 4 ? 1 : 4);

    return LAUNCH_MATRIX(device, shape_move, rows, n, width, (elem *)to, to_at, (const elem *)from,
                         from_at, rows, (int64_t)1, n, add, width);
}

/* ---- concat ---- */

static kdas_status concat_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    int64_t               C    = node->out.dim[3];
    elem                 *y    = (elem *)call->out;

    for (int i = 0; i < node->inputs && node->in[i].dim[0]; i++) {
        int64_t n = node->in[i].dim[3];

        KD_RETURN(move_rows(device, y, C, call->in[i], n, rows_of(&node->out), n, 0));
        y += n;
    }
    return KDAS_OK;
}

static kdas_status concat_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    int64_t               C    = node->out.dim[3];
    const elem           *dy   = (const elem *)call->dout;

    for (int i = 0; i < node->inputs && node->in[i].dim[0]; i++) {
        int64_t n = node->in[i].dim[3];

        if (call->din[i])
            KD_RETURN(
                move_rows(device, call->din[i], n, dy, C, rows_of(&node->out), n, adds(call, i)));
        dy += n;
    }
    return KDAS_OK;
}

KD_OP(concat, NULL, NULL, NULL, concat_forward, concat_backward)

/* ---- slice ---- */

static kdas_status slice_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_slice_attr *a = (const kdas_slice_attr *)call->node->attr;

    return move_rows(device, call->out, a->count, (const elem *)call->in[0] + a->start,
                     call->node->in[0].dim[3], rows_of(&call->node->out), a->count, 0);
}

/* dx, dense images of `lines` by n values, gets a window of values, and zeros around it. */
static kdas_status place_window(kdas_device *device, const kdas_call *call, window w, int64_t rows,
                                int64_t lines, int64_t n)
{
    elem *to    = (elem *)call->din[0];
    int   width = KD_MIN(width_of(n, to, call->dout, NULL, NULL), w.left % 4 || w.wide % 4 ? 1 : 4);

    return LAUNCH_MATRIX(device, shape_place, rows, n, width, to, (const elem *)call->dout, w, rows,
                         lines, n, width);
}

static kdas_status slice_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_slice_attr *a    = (const kdas_slice_attr *)call->node->attr;
    int64_t                rows = rows_of(&call->node->out), C = call->node->in[0].dim[3];
    window                 w = { 0, 1, a->start, a->count };

    if (!call->din[0]) return KDAS_OK;
    if (!adds(call, 0)) return place_window(device, call, w, rows, 1, C);
    return move_rows(device, (elem *)call->din[0] + a->start, C, call->dout, a->count, rows,
                     a->count, 1);
}

KD_OP(slice, NULL, NULL, NULL, slice_forward, slice_backward)

/* ---- crop: lines are the rows of an image, all their channels one after the other ---- */

/* Copies between the inside of x, or dx, and the dense window. */
static kdas_status move_window(kdas_device *device, const kdas_call *call, bool inside, int add)
{
    const kdas_crop_attr *a = (const kdas_crop_attr *)call->node->attr;
    const int64_t        *x = call->node->in[0].dim, *y = call->node->out.dim;
    int64_t               n = y[2] * y[3], first = (a->top * x[2] + a->left) * x[3];
    stack                 whole = { x[1] * x[2] * x[3], x[2] * x[3] }, dense = { y[1] * n, n };
    elem                 *to = inside ? (elem *)call->din[0] + first : (elem *)call->out;
    const elem *from = inside ? (const elem *)call->dout : (const elem *)call->in[0] + first;
    int         width =
        KD_MIN(width_of(n, to, from, NULL, NULL), whole.image % 4 || whole.line % 4 ? 1 : 4);

    return LAUNCH_MATRIX(device, shape_move, y[0] * y[1], n, width, to, inside ? whole : dense,
                         from, inside ? dense : whole, y[0] * y[1], y[1], n, add, width);
}

static kdas_status crop_forward(kdas_device *device, const kdas_call *call)
{
    return move_window(device, call, false, 0);
}

static kdas_status crop_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_crop_attr *a = (const kdas_crop_attr *)call->node->attr;
    const int64_t        *x = call->node->in[0].dim;
    window                w = { a->top, a->height, a->left * x[3], a->width * x[3] };

    if (!call->din[0]) return KDAS_OK;
    if (adds(call, 0)) return move_window(device, call, true, 1);
    return place_window(device, call, w, x[0] * x[1], x[1], x[2] * x[3]);
}

KD_OP(crop, NULL, NULL, NULL, crop_forward, crop_backward)

/* ---- transpose ---- */

static kdas_status transposed(kdas_device *device, void *to, const void *from, int64_t matrices,
                              int64_t rows, int64_t columns, int add)
{
    int64_t tiles = matrices * KD_CEIL(rows, TILE) * KD_CEIL(columns, TILE);

    return LAUNCH(device, shape_transpose, kd_cuda_grid(device, tiles * KD_BLOCK), KD_BLOCK,
                  (elem *)to, (const elem *)from, matrices, rows, columns, add);
}

static kdas_status transpose_forward(kdas_device *device, const kdas_call *call)
{
    const int64_t *x = call->node->in[0].dim;

    return transposed(device, call->out, call->in[0], x[0] * x[1], x[2], x[3], 0);
}

static kdas_status transpose_backward(kdas_device *device, const kdas_call *call)
{
    const int64_t *x = call->node->in[0].dim;

    if (!call->din[0]) return KDAS_OK;
    return transposed(device, call->din[0], call->dout, x[0] * x[1], x[3], x[2], adds(call, 0));
}

KD_OP(transpose, NULL, NULL, NULL, transpose_forward, transpose_backward)

#endif

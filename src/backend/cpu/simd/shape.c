/* shape.c - CONCAT, SLICE, CROP and TRANSPOSE: ops that move values. */
#include "backend/cpu/simd/simd.h"

/* Copy a row of n elements, or add it to what is there. */
INLINE void move_row(elem *to, const elem *from, int64_t n, bool add)
{
    if (!add)
        memcpy(to, from, (size_t)n * sizeof(elem));
    else
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            set(to[i], num(to[i]) + num(from[i]));
}

static void move_rows(elem *to, int64_t to_ld, const elem *from, int64_t from_ld, int64_t rows,
                      int64_t n, bool add)
{
    if (n == 0) return; /* an absent input */
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        move_row(to + r * to_ld, from + r * from_ld, n, add);
}

static void zero_rows(elem *to, int64_t ld, int64_t rows, int64_t n)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        memset(to + r * ld, 0, (size_t)n * sizeof(elem));
}

/* Copy rows past the caches: n and to_ld are multiples of LINE, and `to` is aligned to a cache line. Elements are moved
 * as the bits of floats, whatever they are. */
static void stream_rows(elem *to, int64_t to_ld, const elem *from, int64_t from_ld, int64_t rows,
                        int64_t n, int threads)
{
    int64_t floats = n * (int64_t)sizeof(elem) / (int64_t)sizeof(float);

#pragma omp parallel for schedule(static)
    for (int t = 0; t < threads; t++) {
        for (int64_t r = part_begin(rows, t, threads); r < part_begin(rows, t + 1, threads); r++) {
            const float *row = (const float *)(from + r * from_ld);

            for (int64_t c = 0; c < floats; c += LANES)
                stream_f((float *)(to + r * to_ld) + c, load_f(row + c));
        }
        stream_done();
    }
}

/* ---- concat ---- */

/* Is the output so large that it is streamed, and do all inputs begin at a cache line of it? */
static bool concat_streams(const kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;

    for (int i = 0; i < node->inputs; i++)
        if (node->in[i].dim[3] % LINE) return false;
    return streams(device, call->out, node->out.dim[3], (size_t)numel(&node->out) * sizeof(elem));
}

static kdas_status concat_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    int64_t               rows = row_count(&node->out), C = node->out.dim[3], at = 0;

    if (concat_streams(device, call)) {
        for (int i = 0; i < node->inputs; at += node->in[i].dim[3], i++)
            stream_rows((elem *)call->out + at, C, call->in[i], node->in[i].dim[3], rows,
                        node->in[i].dim[3], device->threads);
        return KDAS_OK;
    }
    for (int i = 0; i < node->inputs; at += node->in[i].dim[3], i++)
        move_rows((elem *)call->out + at, C, call->in[i], node->in[i].dim[3], rows,
                  node->in[i].dim[3], false);
    return KDAS_OK;
}

static kdas_status concat_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    int64_t               rows = row_count(&node->out), C = node->out.dim[3], at = 0;

    for (int i = 0; i < node->inputs; at += node->in[i].dim[3], i++) {
        const elem *from = (const elem *)call->dout + at;
        int64_t     n    = node->in[i].dim[3];
        elem       *to   = call->din[i];

        if (!to) continue;
        if (!adds(call, i) && streams(device, to, n, (size_t)(rows * n) * sizeof *to))
            stream_rows(to, n, from, C, rows, n, device->threads);
        else
            move_rows(to, n, from, C, rows, n, adds(call, i));
    }
    return KDAS_OK;
}

/* ---- slice ---- */

static kdas_status slice_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_slice_attr *a = call->node->attr;

    (void)device;
    move_rows(call->out, a->count, (const elem *)call->in[0] + a->start, call->node->in[0].dim[3],
              row_count(&call->node->out), a->count, false);
    return KDAS_OK;
}

static kdas_status slice_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_slice_attr *a = call->node->attr;
    int64_t                C = call->node->in[0].dim[3], rows = row_count(&call->node->out);
    elem                  *dx = call->din[0];

    (void)device;
    if (!adds(call, 0)) zero_rows(dx, C, rows, C);
    move_rows(dx + a->start, C, call->dout, a->count, rows, a->count, true);
    return KDAS_OK;
}

/* ---- crop ---- */

/* Offset in x of row r of the output. */
static int64_t crop_offset(const kdas_node_desc *node, int64_t r)
{
    const kdas_crop_attr *a = node->attr;
    const int64_t        *x = node->in[0].dim;
    int64_t               n = r / a->height, y = r % a->height + a->top;

    return ((n * x[1] + y) * x[2] + a->left) * x[3];
}

static kdas_status crop_forward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const elem           *x    = call->in[0];
    elem                 *y    = call->out;
    int64_t               n    = node->out.dim[2] * node->out.dim[3];

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < node->out.dim[0] * node->out.dim[1]; r++)
        move_row(y + r * n, x + crop_offset(node, r), n, false);
    return KDAS_OK;
}

static kdas_status crop_backward(kdas_device *device, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    const elem           *dy   = call->dout;
    elem                 *dx   = call->din[0];
    int64_t               n    = node->out.dim[2] * node->out.dim[3];

    (void)device;
    if (!adds(call, 0)) {
        int64_t wide = node->in[0].dim[2] * node->in[0].dim[3];
        zero_rows(dx, wide, node->in[0].dim[0] * node->in[0].dim[1], wide);
    }
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < node->out.dim[0] * node->out.dim[1]; r++)
        move_row(dx + crop_offset(node, r), dy + r * n, n, true);
    return KDAS_OK;
}

/* ---- transpose ---- */

enum { TILE = 16 };

/* Transpose `batches` matrices (rows,cols), by tiles, so that reads and writes use whole cache lines. */
static void transpose(elem *to, const elem *from, int64_t batches, int64_t rows, int64_t cols,
                      bool add)
{
    int64_t tiles = ceil_div(cols, TILE);

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < batches * tiles; i++) {
        int64_t     c0 = i % tiles * TILE, c1 = c0 + TILE < cols ? c0 + TILE : cols;
        const elem *x = from + i / tiles * rows * cols;
        elem       *y = to + i / tiles * rows * cols;

        for (int64_t r0 = 0; r0 < rows; r0 += TILE) {
            int64_t r1 = r0 + TILE < rows ? r0 + TILE : rows;

            for (int64_t c = c0; c < c1; c++)
                for (int64_t r = r0; r < r1; r++)
                    accumulate(y[c * rows + r], num(x[r * cols + c]), add);
        }
    }
}

static kdas_status transpose_forward(kdas_device *device, const kdas_call *call)
{
    const int64_t *d = call->node->in[0].dim;

    (void)device;
    transpose(call->out, call->in[0], d[0] * d[1], d[2], d[3], false);
    return KDAS_OK;
}

static kdas_status transpose_backward(kdas_device *device, const kdas_call *call)
{
    const int64_t *d = call->node->out.dim;

    (void)device;
    transpose(call->din[0], call->dout, d[0] * d[1], d[2], d[3], adds(call, 0));
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(concat)    = { .forward = concat_forward, .backward = concat_backward };
const kd_cpu_kernel KD_SIMD(slice)     = { .forward = slice_forward, .backward = slice_backward };
const kd_cpu_kernel KD_SIMD(crop)      = { .forward = crop_forward, .backward = crop_backward };
const kd_cpu_kernel KD_SIMD(transpose) = { .forward  = transpose_forward,
                                           .backward = transpose_backward };

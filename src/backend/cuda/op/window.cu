/* window.cu - WINDOW_MAX and WINDOW_AVG: square windows that slide over x (N,H,W,C). The maximum saves which pixel of its window
 * receives the gradient: the first of the largest; a NaN counts as the largest. A pixel of a gradient sums over the windows
 * that cover it, in their order. */
#include "backend/cuda/wide.h"

/* x (N,H,W,C) -> y (N,P,Q,C). */
typedef struct window_shape {
    int64_t n, c;
    int     h, w, p, q, size, stride, pad, padded;
} window_shape;

/* A range of rows or columns of x, `end` excluded; or of windows. */
typedef struct span {
    int first, end;
} span;

static __device__ __forceinline__ span inside(int at, const window_shape *s, int side)
{
    int  first = at * s->stride - s->pad, end = first + s->size;
    span t = { first > 0 ? first : 0, end < side ? end : side };

    return t;
}

/* The windows that cover row or column `at`; there are `count`. */
static __device__ __forceinline__ span covering(int at, const window_shape *s, int count)
{
    int  h = at + s->pad, last = h / s->stride;
    span t = { h < s->size ? 0 : (h - s->size) / s->stride + 1, last < count ? last + 1 : count };

    return t;
}

/* Its rows or columns with the padding, without what lies beyond it. */
static __device__ __forceinline__ int whole(int at, const window_shape *s, int side)
{
    int first = at * s->stride - s->pad;

    return first + s->size < side + s->pad ? s->size : side + s->pad - first;
}

/* What one pixel of window (p,q) counts. */
static __device__ __forceinline__ float share_of(const window_shape *s, int p, int q)
{
    span y = inside(p, s, s->h), x = inside(q, s, s->w);

    if (s->padded) return 1.0f / ((float)whole(p, s, s->h) * (float)whole(q, s, s->w));
    return 1.0f / ((float)(y.end - y.first) * (float)(x.end - x.first));
}

/* Row r over images of high x wide pixels: image, and y and x in it. */
typedef struct pixel {
    int64_t n;
    int     y, x;
} pixel;

static __device__ __forceinline__ pixel pixel_of(int64_t r, int high, int wide)
{
    int64_t line = over(r, wide), n = over(line, high);
    pixel   t = { n, (int)(line - n * high), (int)(r - line * wide) };

    return t;
}

/* ---- maximum ---- */

typedef struct alignas(8) places4 {
    uint16_t v[4];
} places4;

static __device__ __forceinline__ void store_places(uint16_t *to, const int place[4],
                                                    const int width)
{
    places4 all;

    if (width == 4) {
        EACH_VALUE(k, 4) all.v[k] = (uint16_t)place[k];
        *(places4 *)to            = all;
    } else {
        *to = (uint16_t)place[0];
    }
}

static __device__ __forceinline__ places4 load_places(const uint16_t *from, const int width)
{
    places4 all = { { 0, 0, 0, 0 } };

    if (width == 4)
        all = *(const places4 *)from;
    else
        all.v[0] = *from;
    return all;
}

/* saved (N,P,Q,C): the place in the window, row by row; NULL: nobody wants it. */
static __device__ __forceinline__ void largest(const elem *x, elem *y, uint16_t *saved,
                                               int64_t rows, const window_shape *s, const int width)
{
    cell at = cell_of(rows, s->c, width);

    EACH_ROW(r, at, rows)
    {
        pixel o    = pixel_of(r, s->p, s->q);
        span  high = inside(o.y, s, s->h), wide = inside(o.x, s, s->w);
        int   top = o.y * s->stride - s->pad, left = o.x * s->stride - s->pad;
        quad  best     = { { 0, 0, 0, 0 } };
        int   place[4] = { -1, -1, -1, -1 };

        for (int i = high.first; i < high.end; i++)
            for (int j = wide.first; j < wide.end; j++) {
                quad v = load(x + ((o.n * s->h + i) * s->w + j) * s->c + at.c, width);

                EACH_VALUE(k, width)
                {
                    bool nan = v.v[k] != v.v[k] && best.v[k] == best.v[k];

                    if (place[k] >= 0 && !(v.v[k] > best.v[k]) && !nan) continue;
                    best.v[k] = v.v[k];
                    place[k]  = (i - top) * s->size + j - left;
                }
            }
        store(y + r * s->c + at.c, best, width);
        if (saved) store_places(saved + r * s->c + at.c, place, width);
    }
}

KERNEL(window_max_forward)
(const elem *x, elem *y, uint16_t *saved, int64_t rows, window_shape s, int width)
{
    DISPATCH_WIDTH(width, largest, x, y, saved, rows, &s);
}

static __device__ __forceinline__ void largest_dx(const elem *dy, elem *dx, const uint16_t *saved,
                                                  int64_t rows, int add, const window_shape *s,
                                                  const int width)
{
    cell at = cell_of(rows, s->c, width);

    EACH_ROW(r, at, rows)
    {
        pixel i = pixel_of(r, s->h, s->w);
        span  p = covering(i.y, s, s->p), q = covering(i.x, s, s->q);
        quad  sum = { { 0, 0, 0, 0 } };

        for (int y = p.first; y < p.end; y++)
            for (int x = q.first; x < q.end; x++) {
                int64_t from = ((i.n * s->p + y) * s->q + x) * s->c + at.c;
                int own = (i.y + s->pad - y * s->stride) * s->size + i.x + s->pad - x * s->stride;
                places4 place = load_places(saved + from, width);
                quad    d     = load(dy + from, width);

                EACH_VALUE(k, width) sum.v[k] += place.v[k] == own ? d.v[k] : 0;
            }
        accumulate_quad(dx + r * s->c + at.c, sum, add, width);
    }
}

KERNEL(window_max_backward)
(const elem *dy, elem *dx, const uint16_t *saved, int64_t rows, int add, window_shape s, int width)
{
    DISPATCH_WIDTH(width, largest_dx, dy, dx, saved, rows, add, &s);
}

/* ---- mean ---- */

static __device__ __forceinline__ void mean(const elem *x, elem *y, int64_t rows,
                                            const window_shape *s, const int width)
{
    cell at = cell_of(rows, s->c, width);

    EACH_ROW(r, at, rows)
    {
        pixel o    = pixel_of(r, s->p, s->q);
        span  high = inside(o.y, s, s->h), wide = inside(o.x, s, s->w);
        float share = share_of(s, o.y, o.x);
        quad  sum   = { { 0, 0, 0, 0 } };

        for (int i = high.first; i < high.end; i++)
            for (int j = wide.first; j < wide.end; j++) {
                quad v = load(x + ((o.n * s->h + i) * s->w + j) * s->c + at.c, width);

                EACH_VALUE(k, width) sum.v[k] += v.v[k];
            }
        EACH_VALUE(k, width) sum.v[k] *= share;
        store(y + r * s->c + at.c, sum, width);
    }
}

KERNEL(window_avg_forward)(const elem *x, elem *y, int64_t rows, window_shape s, int width)
{
    DISPATCH_WIDTH(width, mean, x, y, rows, &s);
}

static __device__ __forceinline__ void mean_dx(const elem *dy, elem *dx, int64_t rows, int add,
                                               const window_shape *s, const int width)
{
    cell at = cell_of(rows, s->c, width);

    EACH_ROW(r, at, rows)
    {
        pixel i = pixel_of(r, s->h, s->w);
        span  p = covering(i.y, s, s->p), q = covering(i.x, s, s->q);
        quad  sum = { { 0, 0, 0, 0 } };

        for (int y = p.first; y < p.end; y++)
            for (int x = q.first; x < q.end; x++) {
                quad  d     = load(dy + ((i.n * s->p + y) * s->q + x) * s->c + at.c, width);
                float share = share_of(s, y, x);

                EACH_VALUE(k, width) sum.v[k] += d.v[k] * share;
            }
        accumulate_quad(dx + r * s->c + at.c, sum, add, width);
    }
}

KERNEL(window_avg_backward)
(const elem *dy, elem *dx, int64_t rows, int add, window_shape s, int width)
{
    DISPATCH_WIDTH(width, mean_dx, dy, dx, rows, add, &s);
}

#ifdef KD_HOST

static window_shape shape_of(const kdas_node_desc *node)
{
    const kdas_window_attr *a = (const kdas_window_attr *)node->attr;
    const int64_t          *x = node->in[0].dim, *y = node->out.dim;
    window_shape            s;

    s.n      = x[0];
    s.c      = x[3];
    s.h      = (int)x[1];
    s.w      = (int)x[2];
    s.p      = (int)y[1];
    s.q      = (int)y[2];
    s.size   = a->size;
    s.stride = a->stride;
    s.pad    = a->pad;
    s.padded = a->padded;
    return s;
}

/* Places along a side are counted in ints. */
static kdas_status check(kdas_device *device, const kdas_node_desc *node)
{
    const kdas_window_attr *a = (const kdas_window_attr *)node->attr;
    const int64_t          *x = node->in[0].dim;

    if (a->stride > INT32_MAX / 4 || x[1] > INT32_MAX / 4 || x[2] > INT32_MAX / 4)
        return device->host.fail(KDAS_EUNSUPPORTED,
                                 "cuda:%d: %s: a stride of %d on a map of %lld x %lld is too large",
                                 device->index, device->op, a->stride, (long long)x[1],
                                 (long long)x[2]);
    return KDAS_OK;
}

static kdas_status window_max_prepare(kdas_device *device, const kdas_node_desc *node,
                                      kdas_plan *plan)
{
    KD_RETURN(check(device, node));
    if (node->wants) plan->saved = (size_t)elements(&node->out) * sizeof(uint16_t);
    return KDAS_OK;
}

static kdas_status window_max_forward(kdas_device *device, const kdas_call *call)
{
    window_shape s     = shape_of(call->node);
    int64_t      rows  = rows_of(&call->node->out);
    const elem  *x     = (const elem *)call->in[0];
    elem        *y     = (elem *)call->out;
    uint16_t    *saved = call->node->wants ? (uint16_t *)call->saved : NULL;
    int          width = width_of(s.c, x, y, saved, NULL);

    return LAUNCH_MATRIX(device, window_max_forward, rows, s.c, width, x, y, saved, rows, s, width);
}

static kdas_status window_max_backward(kdas_device *device, const kdas_call *call)
{
    window_shape    s     = shape_of(call->node);
    int64_t         rows  = rows_of(&call->node->in[0]);
    const elem     *dy    = (const elem *)call->dout;
    elem           *dx    = (elem *)call->din[0];
    const uint16_t *saved = (const uint16_t *)call->saved;
    int             width = width_of(s.c, dy, dx, saved, NULL);

    if (!dx) return KDAS_OK;
    return LAUNCH_MATRIX(device, window_max_backward, rows, s.c, width, dy, dx, saved, rows,
                         adds(call, 0), s, width);
}

KD_OP(window_max, window_max_prepare, NULL, NULL, window_max_forward, window_max_backward)

static kdas_status window_avg_prepare(kdas_device *device, const kdas_node_desc *node,
                                      kdas_plan *plan)
{
    (void)plan;
    return check(device, node);
}

static kdas_status window_avg_forward(kdas_device *device, const kdas_call *call)
{
    window_shape s     = shape_of(call->node);
    int64_t      rows  = rows_of(&call->node->out);
    const elem  *x     = (const elem *)call->in[0];
    elem        *y     = (elem *)call->out;
    int          width = width_of(s.c, x, y, NULL, NULL);

    return LAUNCH_MATRIX(device, window_avg_forward, rows, s.c, width, x, y, rows, s, width);
}

static kdas_status window_avg_backward(kdas_device *device, const kdas_call *call)
{
    window_shape s     = shape_of(call->node);
    int64_t      rows  = rows_of(&call->node->in[0]);
    const elem  *dy    = (const elem *)call->dout;
    elem        *dx    = (elem *)call->din[0];
    int          width = width_of(s.c, dy, dx, NULL, NULL);

    if (!dx) return KDAS_OK;
    return LAUNCH_MATRIX(device, window_avg_backward, rows, s.c, width, dy, dx, rows, adds(call, 0),
                         s, width);
}

KD_OP(window_avg, window_avg_prepare, NULL, NULL, window_avg_forward, window_avg_backward)

#endif

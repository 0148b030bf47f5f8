/* window.c - WINDOW_MAX and WINDOW_AVG: square windows that slide over x (N,H,W,C). The inner loops run along C, the dense
 * axis. Forward computes each output from the pixels of its window; backward, each pixel from the windows that cover it, in
 * order, so that every gradient has one writer.
 *
 * saved of WINDOW_MAX: for each output, the place of its maximum in the window, row * size + column, as 16 bits. The work
 * of WINDOW_AVG: what each row and each column of outputs is multiplied with. */
#include "backend/cpu/simd/simd.h"

typedef int32_t  ints __attribute__((vector_size(sizeof(vec))));
typedef uint16_t places __attribute__((vector_size(LANES * sizeof(uint16_t))));

typedef struct shape {
    int64_t N, H, W, C, Ho, Wo, size, stride, pad;
    bool    padded;
} shape;

typedef struct span {
    int64_t begin, end;
} span;

static shape shape_of(const kdas_node_desc *node)
{
    const kdas_window_attr *a = node->attr;
    const int64_t          *x = node->in[0].dim, *y = node->out.dim;

    return (
        shape){ x[0], x[1], x[2], x[3], y[1], y[2], a->size, a->stride, a->pad, a->padded != 0 };
}

/* The rows (or columns) of window i that lie inside a side of n pixels, counted from the window's first. */
INLINE span inside(int64_t i, int64_t n, const shape *s)
{
    int64_t first = i * s->stride - s->pad;

    return (span){ first < 0 ? -first : 0, first + s->size > n ? n - first : s->size };
}

/* The windows, of n along a side, that cover pixel p of it. */
INLINE span covering(int64_t p, int64_t n, const shape *s)
{
    int64_t at = p + s->pad, end = at / s->stride + 1;

    return (span){ at < s->size ? 0 : (at - s->size) / s->stride + 1, end < n ? end : n };
}

/* Lane by lane: a where `yes` has all bits, b where it has none. */
INLINE ints pick(ints yes, ints a, ints b) { return (a & yes) | (b & ~yes); }

INLINE ints load_places(const uint16_t *from, bool whole, int64_t left)
{
    places p = { 0 };

    memcpy(&p, from, whole ? sizeof p : (size_t)left * sizeof *from);
    return __builtin_convertvector(p, ints);
}

INLINE void store_places(uint16_t *to, ints v, bool whole, int64_t left)
{
    places p = __builtin_convertvector(v, places);

    memcpy(to, &p, whole ? sizeof p : (size_t)left * sizeof *to);
}

INLINE void store_gradient(elem *dx, vec v, store_mode mode, bool whole, int64_t left)
{
    if (mode == STREAM)
        stream(dx, v);
    else
        store_some(dx, v, whole, left);
}

static store_mode mode_of(const kdas_device *device, const kdas_call *call)
{
    const kdas_desc *x  = &call->node->in[0];
    const elem      *dx = call->din[0];

    if (adds(call, 0)) return ADD;
    return streams(device, dx, x->dim[3], (size_t)numel(x) * sizeof *dx) ? STREAM : SET;
}

/* ---- maximum ---- */

static kdas_status max_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    (void)device;
    plan->saved = ((size_t)numel(&node->out) * sizeof(uint16_t) + 63) & ~(size_t)63;
    return KDAS_OK;
}

/* One output, all channels. `at`: the window's first pixel, which may lie outside of the image. */
static void max_window(const elem *at, span rows, span cols, elem *y, uint16_t *won, const shape *s)
{
    EACH_VECTOR(c, left, whole, s->C)
    {
        vec  most  = load_some(at + (rows.begin * s->W + cols.begin) * s->C + c, whole, left);
        ints place = (ints){ 0 } + (int32_t)(rows.begin * s->size + cols.begin);

        for (int64_t i = rows.begin; i < rows.end; i++)
            for (int64_t j = cols.begin; j < cols.end; j++) {
                vec  v    = load_some(at + (i * s->W + j) * s->C + c, whole, left);
                ints more = (v > most) | ((v != v) & (most == most));

                most  = (vec)pick(more, (ints)v, (ints)most);
                place = pick(more, (ints){ 0 } + (int32_t)(i * s->size + j), place);
            }
        store_some(y + c, most, whole, left);
        store_places(won + c, place, whole, left);
    }
}

static kdas_status max_forward(kdas_device *device, const kdas_call *call)
{
    shape       s     = shape_of(call->node);
    const elem *x     = call->in[0];
    elem       *y     = call->out;
    uint16_t   *saved = call->saved;

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s.N * s.Ho; r++) {
        int64_t top  = r % s.Ho * s.stride - s.pad;
        span    rows = inside(r % s.Ho, s.H, &s);

        for (int64_t q = 0; q < s.Wo; q++) {
            int64_t pixel = (r / s.Ho * s.H + top) * s.W + q * s.stride - s.pad;
            int64_t to    = (r * s.Wo + q) * s.C;

            max_window(x + pixel * s.C, rows, inside(q, s.W, &s), y + to, saved + to, &s);
        }
    }
    return KDAS_OK;
}

/* dx of pixel (py,px), all channels; dy and won are those of its image. */
INLINE void max_pixel_backward(const elem *dy, const uint16_t *won, elem *dx, int64_t py,
                               int64_t px, span rows, const shape *s, store_mode mode)
{
    span cols = covering(px, s->Wo, s);

    EACH_VECTOR(c, left, whole, s->C)
    {
        vec sum = { 0 };

        if (mode == ADD) sum = load_some(dx + c, whole, left);
        for (int64_t i = rows.begin; i < rows.end; i++)
            for (int64_t j = cols.begin; j < cols.end; j++) {
                int64_t at = (i * s->Wo + j) * s->C + c;
                int64_t place =
                    (py + s->pad - i * s->stride) * s->size + px + s->pad - j * s->stride;
                ints wins = load_places(won + at, whole, left) == (int32_t)place;

                sum += (vec)((ints)load_some(dy + at, whole, left) & wins);
            }
        store_gradient(dx + c, sum, mode, whole, left);
    }
}

static kdas_status max_backward(kdas_device *device, const kdas_call *call)
{
    shape           s     = shape_of(call->node);
    const elem     *dy    = call->dout;
    const uint16_t *saved = call->saved;
    elem           *dx    = call->din[0];
    store_mode      mode  = mode_of(device, call);

#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s.N * s.H; r++) {
        int64_t from = r / s.H * s.Ho * s.Wo * s.C;
        span    rows = covering(r % s.H, s.Ho, &s);

        for (int64_t px = 0; px < s.W; px++)
            max_pixel_backward(dy + from, saved + from, dx + (r * s.W + px) * s.C, r % s.H, px,
                               rows, &s, mode);
        stream_done();
    }
    return KDAS_OK;
}

/* ---- mean ---- */

static kdas_status avg_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    (void)device;
    plan->work_forward = plan->work_backward =
        float_bytes(node->out.dim[1]) + float_bytes(node->out.dim[2]);
    return KDAS_OK;
}

/* 1 / the pixels that each of n windows has along a side of `pixels`. */
static void fill_shares(float *share, int64_t n, int64_t pixels, const shape *s)
{
    for (int64_t i = 0; i < n; i++) {
        span    in    = inside(i, pixels, s);
        int64_t whole = pixels + 2 * s->pad - i * s->stride; /* from here to the padding's end */

        if (s->padded)
            share[i] = 1.0f / (float)(whole < s->size ? whole : s->size);
        else
            share[i] = 1.0f / (float)(in.end - in.begin);
    }
}

typedef struct shares {
    float *row, *col;
} shares;

static shares shares_of(const kdas_call *call, const shape *s)
{
    void  *at    = call->work;
    float *row   = bump_alloc(&at, float_bytes(s->Ho));
    shares share = { row, at };

    fill_shares(share.row, s->Ho, s->H, s);
    fill_shares(share.col, s->Wo, s->W, s);
    return share;
}

static void avg_window(const elem *at, span rows, span cols, elem *y, float share, const shape *s)
{
    EACH_VECTOR(c, left, whole, s->C)
    {
        vec sum = { 0 };

        for (int64_t i = rows.begin; i < rows.end; i++)
            for (int64_t j = cols.begin; j < cols.end; j++)
                sum += load_some(at + (i * s->W + j) * s->C + c, whole, left);
        store_some(y + c, sum * share, whole, left);
    }
}

static kdas_status avg_forward(kdas_device *device, const kdas_call *call)
{
    shape       s     = shape_of(call->node);
    shares      share = shares_of(call, &s);
    const elem *x     = call->in[0];
    elem       *y     = call->out;

    (void)device;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s.N * s.Ho; r++) {
        int64_t top  = r % s.Ho * s.stride - s.pad;
        span    rows = inside(r % s.Ho, s.H, &s);

        for (int64_t q = 0; q < s.Wo; q++) {
            int64_t pixel = (r / s.Ho * s.H + top) * s.W + q * s.stride - s.pad;

            avg_window(x + pixel * s.C, rows, inside(q, s.W, &s), y + (r * s.Wo + q) * s.C,
                       share.row[r % s.Ho] * share.col[q], &s);
        }
    }
    return KDAS_OK;
}

INLINE void avg_pixel_backward(const elem *dy, elem *dx, span rows, span cols, const shares *share,
                               const shape *s, store_mode mode)
{
    EACH_VECTOR(c, left, whole, s->C)
    {
        vec sum = { 0 };

        if (mode == ADD) sum = load_some(dx + c, whole, left);
        for (int64_t i = rows.begin; i < rows.end; i++)
            for (int64_t j = cols.begin; j < cols.end; j++)
                sum += share->row[i] * share->col[j] *
                       load_some(dy + (i * s->Wo + j) * s->C + c, whole, left);
        store_gradient(dx + c, sum, mode, whole, left);
    }
}

static kdas_status avg_backward(kdas_device *device, const kdas_call *call)
{
    shape       s     = shape_of(call->node);
    shares      share = shares_of(call, &s);
    const elem *dy    = call->dout;
    elem       *dx    = call->din[0];
    store_mode  mode  = mode_of(device, call);

#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s.N * s.H; r++) {
        const elem *image = dy + r / s.H * s.Ho * s.Wo * s.C;
        span        rows  = covering(r % s.H, s.Ho, &s);

        for (int64_t px = 0; px < s.W; px++)
            avg_pixel_backward(image, dx + (r * s.W + px) * s.C, rows, covering(px, s.Wo, &s),
                               &share, &s, mode);
        stream_done();
    }
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(window_max) = {
    .prepare  = max_prepare,
    .forward  = max_forward,
    .backward = max_backward,
};
const kd_cpu_kernel KD_SIMD(window_avg) = {
    .prepare  = avg_prepare,
    .forward  = avg_forward,
    .backward = avg_backward,
};

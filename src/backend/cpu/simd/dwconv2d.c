/* dwconv2d.c - DWCONV2D: x (N,H,W,C), w (C,1,k,k), [b (C)], a filter for each channel.
 *
 * packed: w as (k*k, C), b (zeros if absent), w rotated by 180 degrees. All loops run along C, the dense axis. The common
 * filter (3x3, stride 1, pad 1) computes strips of neighbouring outputs, so that a value of x and of w is loaded once for
 * several products (dwconv.h); so do 3x3 of stride 2 and 5x5 (dwconv_strips.h). Others go tap by tap; so do those that are
 * padded differently above and on the left.
 * The gradient of x is the same convolution of dout with the rotated filter. For that of w, each part of the rows (n,y) has
 * its own sums, (k*k + 1, C) with db last, which are added up in a fixed order. */
#include "backend/cpu/simd/dwconv_strips.h"

typedef struct shape {
    int64_t N, H, W, C, Ho, Wo, kh, kw, stride, ld; /* ld: C in whole cache lines */
    int64_t top, left, pad; /* padding before; pad: both, where they are equal */
    bool    common;
    int     strips; /* 10 k + stride if dwconv_strips.h handles it, else 0 */
    int32_t post;   /* of the forward */
} shape;

static shape shape_of(const kdas_node_desc *node)
{
    const kdas_conv_attr *a = node->attr;
    const int64_t        *x = node->in[0].dim, *w = node->in[1].dim, *y = node->out.dim;
    shape                 s = { .N      = x[0],
                                .H      = x[1],
                                .W      = x[2],
                                .C      = x[3],
                                .Ho     = y[1],
                                .Wo     = y[2],
                                .kh     = w[2],
                                .kw     = w[3],
                                .stride = a->stride,
                                .ld     = round_up(x[3], 16),
                                .top    = a->pad[0],
                                .left   = a->pad[1],
                                .pad    = a->pad[0],
                                .post   = node->post };

    if (s.top != s.left) return s;
    s.common = s.kh == 3 && s.kw == 3 && s.stride == 1 && s.pad == 1 && s.Ho == s.H && s.Wo == s.W;
    if (s.kh == s.kw && (s.kh == 5 ? s.stride <= 2 : s.kh == 3 && s.stride == 2))
        s.strips = (int)(10 * s.kh + s.stride);
    return s;
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    shape s = shape_of(node);

    plan->packed   = float_bytes((2 * s.kh * s.kw + 1) * s.ld);
    plan->pack_key = 1;
    if (node->wants & 6)
        plan->work_backward = float_bytes((s.kh * s.kw + 1) * s.ld) * (size_t)device->threads;
    return KDAS_OK;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    shape        s = shape_of(call->node);
    const float *w = call->in[1], *b = call->node->inputs > 2 ? call->in[2] : NULL;
    int64_t      taps = s.kh * s.kw;
    float       *to = call->packed, *rotated = to + (taps + 1) * s.ld;

    (void)device;
    for (int64_t c = 0; c < s.C; c++) {
        for (int64_t k = 0; k < taps; k++)
            to[k * s.ld + c] = rotated[(taps - 1 - k) * s.ld + c] = w[c * taps + k];
        to[taps * s.ld + c] = b ? b[c] : 0;
    }
    return KDAS_OK;
}

/* ---- 3x3, stride 1, pad 1 ---- */

/* Rows y-1, y and y+1 of an image; NULL outside of it. */
INLINE void three_rows(const elem *row[3], const elem *image, int64_t y, const shape *s)
{
    for (int i = 0; i < 3; i++) {
        int64_t at = y - 1 + i;

        row[i] = at >= 0 && at < s->H ? image + at * s->W * s->C : NULL;
    }
}

/* LANES channels from c on, of n outputs from column x on. */
INLINE void strip_lanes(const int n, const elem *const row[3], const float *w, const float *b,
                        elem *out, int64_t x, int64_t c, const shape *s, store_mode mode,
                        bool whole)
{
    const elem *at[3] = { row[0] ? row[0] + c : NULL, row[1] + c, row[2] ? row[2] + c : NULL };
    int64_t     m     = s->C - c;
    vec         sum[STRIP], taps[9];

#pragma GCC unroll 9
    for (int k = 0; k < 9; k++)
        taps[k] = load(w + k * s->ld + c);
#pragma GCC unroll 4
    for (int j = 0; j < n; j++) {
        sum[j] = b ? load(b + c) : (vec){ 0 };
        if (mode == ADD) sum[j] += load_some(out + (x + j) * s->C + c, whole, m);
    }
    add_taps(sum, n, at, taps, x, (line){ s->W, s->C }, whole, m);
    if (s->post != KDAS_POST_NONE)
#pragma GCC unroll 4
        for (int j = 0; j < n; j++)
            sum[j] = clamp_v(sum[j], limits_of(s->post));
#pragma GCC unroll 4
    for (int j = 0; j < n; j++)
        if (mode == STREAM)
            stream(out + (x + j) * s->C + c, sum[j]);
        else
            store_some(out + (x + j) * s->C + c, sum[j], whole, m);
}

/* All channels of n outputs from column x on. */
INLINE void strip(const int n, const elem *const row[3], const float *w, const float *b, elem *out,
                  int64_t x, const shape *s, store_mode mode)
{
    int64_t c = 0;

    for (; c + LANES <= s->C; c += LANES)
        strip_lanes(n, row, w, b, out, x, c, s, mode, true);
    if (c < s->C) strip_lanes(n, row, w, b, out, x, c, s, mode, false);
}

/* One row of outputs; b may be NULL. */
static void common_row(const elem *image, const float *w, const float *b, elem *out, int64_t y,
                       const shape *s, store_mode mode)
{
    const elem *row[3];
    int64_t     x = 0;

    three_rows(row, image, y, s);
    for (; x + STRIP <= s->W; x += STRIP)
        strip(STRIP, row, w, b, out, x, s, mode);
    if (x + 2 <= s->W) {
        strip(2, row, w, b, out, x, s, mode);
        x += 2;
    }
    if (x < s->W) strip(1, row, w, b, out, x, s, mode);
}

/* LANES channels of the sums for w (9, then db): += n output gradients times the values that each tap read. */
INLINE void weights_strip_lanes(const int n, const elem *const row[3], const elem *dy, float *sum,
                                int64_t x, int64_t c, const shape *s, bool whole)
{
    int64_t m = s->C - c;
    vec     g[WEIGHTS_STRIP], all = load(sum + 9 * s->ld + c);

#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        g[j] = load_some(dy + (x + j) * s->C + c, whole, m);
        all += g[j];
    }
    store(sum + 9 * s->ld + c, all);
    for (int i = 0; i < 3; i++) {
        float *to   = sum + 3 * i * s->ld + c;
        vec    w[3] = { load(to), load(to + s->ld), load(to + 2 * s->ld) };

        if (!row[i]) continue;
        add_products(w, n, row[i] + c, g, x, (line){ s->W, s->C }, whole, m);
        for (int k = 0; k < 3; k++)
            store(to + k * s->ld, w[k]);
    }
}

INLINE void weights_strip(const int n, const elem *const row[3], const elem *dy, float *sum,
                          int64_t x, const shape *s)
{
    int64_t c = 0;

    for (; c + LANES <= s->C; c += LANES)
        weights_strip_lanes(n, row, dy, sum, x, c, s, true);
    if (c < s->C) weights_strip_lanes(n, row, dy, sum, x, c, s, false);
}

static void common_weights_row(const elem *image, const elem *dy, float *sum, int64_t y,
                               const shape *s)
{
    const elem *row[3];
    int64_t     x = 0;

    three_rows(row, image, y, s);
    for (; x + WEIGHTS_STRIP <= s->W; x += WEIGHTS_STRIP)
        weights_strip(WEIGHTS_STRIP, row, dy, sum, x, s);
    if (WEIGHTS_STRIP > 4 && x + 4 <= s->W) {
        weights_strip(4, row, dy, sum, x, s);
        x += 4;
    }
    if (x + 2 <= s->W) {
        weights_strip(2, row, dy, sum, x, s);
        x += 2;
    }
    if (x < s->W) weights_strip(1, row, dy, sum, x, s);
}

/* ---- 3x3 of stride 2, 5x5 ---- */

static void strips_row(const elem *image, const float *w, const float *b, elem *out, int64_t y,
                       const shape *s, store_mode mode)
{
    strips job = { image, out, w, b, s->H, s->W, s->Wo, s->C, s->ld, s->pad, mode, s->post };

    switch (s->strips) {
    case 32: filter_row(3, 2, &job, y); break;
    case 51: filter_row(5, 1, &job, y); break;
    default: filter_row(5, 2, &job, y); break;
    }
}

/* Is the padding one that transposed_row() handles, or the stride 1, for which the rotated filter does? */
static bool strips_data(const shape *s)
{
    return s->strips && (s->stride == 1 || s->pad == (s->kh - 2) / 2);
}

static void strips_data_row(const elem *dimage, const float *w, const float *rotated, elem *dx,
                            int64_t y, const shape *s, store_mode mode)
{
    strips job = { dimage, dx, w, NULL, s->Ho, s->Wo, s->W, s->C, s->ld, s->kh - 1 - s->pad, mode, KDAS_POST_NONE };

    switch (s->strips) {
    case 32: transposed_row(3, &job, y); break;
    case 52: transposed_row(5, &job, y); break;
    default:
        job.w = rotated;
        filter_row(5, 1, &job, y);
        break;
    }
}

static void strips_weights_row(const elem *image, const elem *dy, float *sum, int64_t y,
                               const shape *s)
{
    int64_t ld = s->ld, outputs = s->Wo, pad = s->pad;

    switch (s->strips) {
    case 32: filter_grad_row(3, 2, sum, ld, image, dy, y, outputs, s->H, s->W, pad, s->C); break;
    case 51: filter_grad_row(5, 1, sum, ld, image, dy, y, outputs, s->H, s->W, pad, s->C); break;
    default: filter_grad_row(5, 2, sum, ld, image, dy, y, outputs, s->H, s->W, pad, s->C); break;
    }
}

/* ---- any filter: CHUNK channels at a time ---- */

enum { CHUNK = 64 };

/* sum (m) += w times the m values at `from` */
INLINE void add_tap(float *sum, const float *w, const elem *from, int64_t m)
{
#pragma omp simd
    for (int64_t c = 0; c < m; c++)
        sum[c] += w[c] * num(from[c]);
}

static void any_row(const elem *image, const float *w, const float *b, elem *out, int64_t y,
                    const shape *s)
{
    for (int64_t i = 0; i < s->Wo * ceil_div(s->C, CHUNK); i++) {
        int64_t x = i % s->Wo, c = i / s->Wo * CHUNK, m = s->C - c < CHUNK ? s->C - c : CHUNK;
        float   sum[CHUNK];

        memcpy(sum, b + c, (size_t)m * sizeof(float));
        for (int64_t k = 0; k < s->kh * s->kw; k++) {
            int64_t iy = y * s->stride - s->top + k / s->kw,
                    ix = x * s->stride - s->left + k % s->kw;

            if (iy < 0 || iy >= s->H || ix < 0 || ix >= s->W) continue;
            add_tap(sum, w + k * s->ld + c, image + (iy * s->W + ix) * s->C + c, m);
        }
#pragma omp simd
        for (int64_t j = 0; j < m; j++)
            set(out[x * s->C + c + j], post_f(sum[j], s->post));
    }
}

/* Row y of the gradient of x: each pixel sums over the outputs that read it. */
static void any_data_row(const elem *dimage, const float *w, elem *dx, int64_t y, const shape *s,
                         bool add)
{
    for (int64_t i = 0; i < s->W * ceil_div(s->C, CHUNK); i++) {
        int64_t x = i % s->W, c = i / s->W * CHUNK, m = s->C - c < CHUNK ? s->C - c : CHUNK;
        float   sum[CHUNK] = { 0 };

        for (int64_t k = 0; k < s->kh * s->kw; k++) {
            int64_t ty = y + s->top - k / s->kw, tx = x + s->left - k % s->kw;
            int64_t oy = ty / s->stride, ox = tx / s->stride;

            if (ty < 0 || tx < 0 || ty % s->stride || tx % s->stride || oy >= s->Ho || ox >= s->Wo)
                continue;
            add_tap(sum, w + k * s->ld + c, dimage + (oy * s->Wo + ox) * s->C + c, m);
        }
#pragma omp simd
        for (int64_t j = 0; j < m; j++)
            accumulate(dx[x * s->C + c + j], sum[j], add);
    }
}

static void any_weights_row(const elem *image, const elem *dy, float *sum, int64_t y,
                            const shape *s)
{
    float *db = sum + s->kh * s->kw * s->ld;

    for (int64_t x = 0; x < s->Wo; x++, dy += s->C) {
#pragma omp simd
        for (int64_t c = 0; c < s->C; c++)
            db[c] += num(dy[c]);
        for (int64_t k = 0; k < s->kh * s->kw; k++) {
            int64_t iy = y * s->stride - s->top + k / s->kw,
                    ix = x * s->stride - s->left + k % s->kw;

            if (iy < 0 || iy >= s->H || ix < 0 || ix >= s->W) continue;
#pragma omp simd
            for (int64_t c = 0; c < s->C; c++)
                sum[k * s->ld + c] += num(dy[c]) * num(image[(iy * s->W + ix) * s->C + c]);
        }
    }
}

/* ---- the op ---- */

static store_mode mode_for(const kdas_device *device, const elem *to, const kdas_desc *d, bool add)
{
    if (add) return ADD;
    return streams(device, to, d->dim[3], (size_t)numel(d) * sizeof *to) ? STREAM : SET;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    shape        s = shape_of(call->node);
    const elem  *x = call->in[0];
    const float *w = call->packed, *b = w + s.kh * s.kw * s.ld;
    elem        *out  = call->out;
    store_mode   mode = mode_for(device, out, &call->node->out, false);

#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s.N * s.Ho; r++) {
        const elem *image = x + r / s.Ho * s.H * s.W * s.C;
        elem       *to    = out + r * s.Wo * s.C;

        if (s.common)
            common_row(image, w, b, to, r % s.Ho, &s, mode);
        else if (s.strips)
            strips_row(image, w, b, to, r % s.Ho, &s, mode);
        else
            any_row(image, w, b, to, r % s.Ho, &s);
        stream_done();
    }
    return KDAS_OK;
}

static void backward_data(kdas_device *device, const kdas_call *call, const shape *s)
{
    const elem  *dout = call->dout;
    const float *w = call->packed, *rotated = w + (s->kh * s->kw + 1) * s->ld;
    elem        *dx   = call->din[0];
    bool         add  = adds(call, 0);
    store_mode   mode = mode_for(device, dx, &call->node->in[0], add);

#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s->N * s->H; r++) {
        const elem *image = dout + r / s->H * s->Ho * s->Wo * s->C;
        elem       *to    = dx + r * s->W * s->C;

        if (s->common)
            common_row(image, rotated, NULL, to, r % s->H, s, mode);
        else if (strips_data(s))
            strips_data_row(image, w, rotated, to, r % s->H, s, mode);
        else
            any_data_row(image, w, to, r % s->H, s, add);
        stream_done();
    }
}

/* Add up the sums of all parts; those of w go to PyTorch's (C, k*k). */
static void reduce_weights(const kdas_call *call, const shape *s, const float *sums, int parts)
{
    int64_t taps = s->kh * s->kw, part = (taps + 1) * s->ld;
    float  *dw = call->din[1], *db = call->din[2];

    for (int t = 0; t < parts; t++, sums += part) {
        for (int64_t c = 0; dw && c < s->C; c++)
            for (int64_t k = 0; k < taps; k++)
                dw[c * taps + k] += sums[k * s->ld + c];
        for (int64_t c = 0; db && c < s->C; c++)
            db[c] += sums[taps * s->ld + c];
    }
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    shape       s = shape_of(call->node);
    const elem *x = call->in[0], *dout = call->dout;
    int64_t     rows = s.N * s.Ho, part = (s.kh * s.kw + 1) * s.ld;
    int         parts = device->threads;

    if (call->din[0]) backward_data(device, call, &s);
    if (!call->din[1] && !call->din[2]) return KDAS_OK;
#pragma omp parallel for schedule(static)
    for (int t = 0; t < parts; t++) {
        float *sum = (float *)call->work + t * part;

        memset(sum, 0, (size_t)part * sizeof(float));
        for (int64_t r = part_begin(rows, t, parts); r < part_begin(rows, t + 1, parts); r++) {
            const elem *image = x + r / s.Ho * s.H * s.W * s.C, *dy = dout + r * s.Wo * s.C;

            if (s.common)
                common_weights_row(image, dy, sum, r % s.Ho, &s);
            else if (s.strips)
                strips_weights_row(image, dy, sum, r % s.Ho, &s);
            else
                any_weights_row(image, dy, sum, r % s.Ho, &s);
        }
    }
    reduce_weights(call, &s, call->work, parts);
    return KDAS_OK;
}

const kd_cpu_kernel KD_SIMD(dwconv2d) = {
    .prepare  = prepare,
    .pack     = pack,
    .forward  = forward,
    .backward = backward,
};

/* onnx_products.c - products and windows of ONNX, by their definition. */
#include <math.h>
#include "support/onnx_call.h"

void kd_test_onnx_matmul(call *c)
{
    const value *a = c->in[0], *b   = c->in[1];
    int64_t      dims[WALK_RANK], m = a->dim[a->rank - 2], k = a->dim[a->rank - 1],
                             n = b->dim[b->rank - 1];
    int     rank               = joined(c, dims, 2);
    double *y;

    ck_assert_msg(b->dim[b->rank - 2] == k, "%s: %d and %d", c->n->name, (int)k,
                  (int)b->dim[b->rank - 2]);
    dims[rank - 2] = m;
    dims[rank - 1] = n;
    y              = shape(c, rank, dims);
    for (int64_t r = 0; r < c->y.count / n; r++) {
        int64_t       batch = r / m;
        const double *p     = a->v + (broadcast(a, &c->y, batch, 2) * m + r % m) * k;
        const double *q     = b->v + broadcast(b, &c->y, batch, 2) * k * n;

        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < n; j++)
                y[r * n + j] += p[i] * q[i * n + j];
    }
}

/* The window of a convolution or a pool: rows, then columns. */
typedef struct window {
    const int64_t *size, *stride, *pad, *gap; /* pad: top, left, bottom, right */
} window;

static window window_of(const call *c, const int64_t *size)
{
    static const int64_t          ones[2] = { 1, 1 }, zeros[4] = { 0 };
    const kd_test_onnx_attribute *strides = kd_test_onnx_attribute_of(c->n, "strides"),
                                 *pads    = kd_test_onnx_attribute_of(c->n, "pads"),
                                 *gaps    = kd_test_onnx_attribute_of(c->n, "dilations");

    ck_assert_msg(!kd_test_onnx_attribute_of(c->n, "ceil_mode") &&
                      !kd_test_onnx_attribute_of(c->n, "auto_pad"),
                  "%s: runtimes differ in this", c->n->name);
    return (window){ size, strides ? strides->ints : ones, pads ? pads->ints : zeros,
                     gaps ? gaps->ints : ones };
}

/* Windows along axis k of `in` rows or columns. */
static int64_t windows(const window *w, int64_t in, int k)
{
    return (in + w->pad[k] + w->pad[k + 2] - w->gap[k] * (w->size[k] - 1) - 1) / w->stride[k] + 1;
}

/* Row or column of tap i of window p; -1: outside. */
static int64_t tap(const window *w, int64_t in, int k, int64_t p, int64_t i)
{
    int64_t at = p * w->stride[k] + i * w->gap[k] - w->pad[k];

    return at < in ? at : -1;
}

/* One plane of the output gets one plane of the input through one filter; or `back`, the other way. */
static void convolve(double *y, const int64_t *out, double *x, const int64_t *in, const double *f,
                     const window *w, bool back)
{
    for (int64_t i = 0; i < w->size[0] * w->size[1]; i++)
        for (int64_t p = 0; p < out[0] * out[1]; p++) {
            int64_t row    = tap(w, in[0], 0, p / out[1], i / w->size[1]);
            int64_t column = tap(w, in[1], 1, p % out[1], i % w->size[1]);

            if (row < 0 || column < 0) continue;
            if (back)
                x[row * in[1] + column] += f[i] * y[p];
            else
                y[p] += f[i] * x[row * in[1] + column];
        }
}

void kd_test_onnx_conv(call *c)
{
    const value   *x = c->in[0], *f = c->in[1], *b = c->in[2];
    const int64_t *in     = &x->dim[2];
    window         w      = window_of(c, &f->dim[2]);
    const int64_t  out[2] = { windows(&w, in[0], 0), windows(&w, in[1], 1) };
    int64_t        group = x->dim[1] / whole(c, "group", 1), o = f->dim[0], plane = out[0] * out[1];
    double        *y = shape(c, 4, (int64_t[]){ x->dim[0], o, out[0], out[1] });

    ck_assert_int_eq(f->dim[1], group);
    for (int64_t i = 0; i < x->dim[0] * o; i++, y += plane) {
        int64_t k = i % o, first = k / (o / whole(c, "group", 1)) * group;

        for (int64_t j = 0; b && j < plane; j++)
            y[j] = b->v[k];
        for (int64_t ch = 0; ch < group; ch++)
            convolve(y, out, x->v + (i / o * x->dim[1] + first + ch) * in[0] * in[1], in,
                     f->v + (k * group + ch) * w.size[0] * w.size[1], &w, false);
    }
}

void kd_test_onnx_deconv(call *c)
{
    const value *x = c->in[0], *f = c->in[1], *b = c->in[2];
    window       w = window_of(c, &f->dim[2]);
    int64_t      o = f->dim[1], out[2];
    double      *y;

    ck_assert_int_eq(f->dim[0], x->dim[1]);
    for (int k = 0; k < 2; k++)
        out[k] = (x->dim[2 + k] - 1) * w.stride[k] + w.gap[k] * (w.size[k] - 1) + 1 - w.pad[k] -
                 w.pad[k + 2];
    y = shape(c, 4, (int64_t[]){ x->dim[0], o, out[0], out[1] });
    for (int64_t i = 0; i < x->dim[0] * o; i++, y += out[0] * out[1]) {
        for (int64_t j = 0; b && j < out[0] * out[1]; j++)
            y[j] = b->v[i % o];
        for (int64_t ch = 0; ch < x->dim[1]; ch++)
            convolve(x->v + (i / o * x->dim[1] + ch) * x->dim[2] * x->dim[3], &x->dim[2], y, out,
                     f->v + (ch * o + i % o) * w.size[0] * w.size[1], &w, true);
    }
}

/* MaxPool and AveragePool */
void kd_test_onnx_pool(call *c)
{
    const value   *x      = c->in[0];
    const int64_t *in     = &x->dim[2];
    window         w      = window_of(c, list(c, "kernel_shape")->ints);
    const int64_t  out[2] = { windows(&w, in[0], 0), windows(&w, in[1], 1) };
    bool           most = !strcmp(c->n->type, "MaxPool"), all = whole(c, "count_include_pad", 0);
    double        *y = shape(c, 4, (int64_t[]){ x->dim[0], x->dim[1], out[0], out[1] });

    for (int64_t i = 0; i < c->y.count; i++) {
        const double *plane = x->v + i / (out[0] * out[1]) * in[0] * in[1];
        double        best = -INFINITY, sum = 0;
        int64_t       count = 0, taps = w.size[0] * w.size[1];

        for (int64_t k = 0; k < taps; k++) {
            int64_t row    = tap(&w, in[0], 0, i / out[1] % out[0], k / w.size[1]);
            int64_t column = tap(&w, in[1], 1, i % out[1], k % w.size[1]);

            if (row < 0 || column < 0) continue;
            best = fmax(best, plane[row * in[1] + column]);
            sum += plane[row * in[1] + column];
            count++;
        }
        ck_assert_int_gt(count, 0);
        y[i] = most ? best : sum / (double)(all ? taps : count);
    }
}

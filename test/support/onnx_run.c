/* onnx_run.c - see onnx_run.h. */
#include <math.h>
#include "support/onnx_call.h"

/* ---- Elementwise ------------------------------------------------------------------------------ */

static double of_one(const char *type, double x)
{
    if (!strcmp(type, "Relu")) return x > 0 ? x : 0;
    if (!strcmp(type, "Sigmoid")) return 1 / (1 + exp(-x));
    if (!strcmp(type, "Erf")) return erf(x);
    if (!strcmp(type, "Abs")) return fabs(x);
    if (!strcmp(type, "Not")) return !x;
    return x; /* Identity, Cast */
}

static void one(call *c)
{
    double *y = like(c, c->in[0]);

    for (int64_t i = 0; i < c->y.count; i++)
        y[i] = of_one(c->n->type, c->in[0]->v[i]);
}

/* LeakyRelu and Elu, below 0 */
static void leaky(call *c)
{
    double alpha = list(c, "alpha")->f, *y = like(c, c->in[0]);
    bool   bent = !strcmp(c->n->type, "Elu");

    for (int64_t i = 0; i < c->y.count; i++) {
        double x = c->in[0]->v[i];

        y[i] = x >= 0 ? x : alpha * (bent ? expm1(x) : x);
    }
}

static void clip(call *c)
{
    double *y = like(c, c->in[0]);

    for (int64_t i = 0; i < c->y.count; i++)
        y[i] = fmin(fmax(c->in[0]->v[i], c->in[1]->v[0]), c->in[2]->v[0]);
}

static double of_two(const char *type, double a, double b, bool quotient)
{
    if (!strcmp(type, "Add")) return a + b;
    if (!strcmp(type, "Sub")) return a - b;
    if (!strcmp(type, "Mul")) return a * b;
    if (!strcmp(type, "Less")) return a < b;
    if (!strcmp(type, "And")) return a && b;
    return quotient ? trunc(a / b) : a / b;
}

static void two(call *c)
{
    const value *a = c->in[0], *b = c->in[1];
    int64_t      dims[WALK_RANK];
    double      *y;

    ck_assert_msg(a->type == b->type, "%s: two types", c->n->name);
    y = shape(c, joined(c, dims, 0), dims);
    for (int64_t i = 0; i < c->y.count; i++)
        y[i] = of_two(c->n->type, a->v[broadcast(a, &c->y, i, 0)], b->v[broadcast(b, &c->y, i, 0)],
                      a->type == 7);
}

/* Of a DequantizeLinear: the place of element i of x in its scales; a scalar has one. */
static int64_t scale_of(const call *c, int64_t i)
{
    const value *x = c->in[0], *scale = c->in[1];
    int          axis;

    ck_assert_msg(!c->in[2] || scale->count == c->in[2]->count, "%s: zeros", c->n->name);
    if (scale->rank == 0) return 0;
    axis = axis_of(x, whole(c, "axis", 1));
    ck_assert_msg(scale->rank == 1 && axis < x->rank && scale->count == x->dim[axis],
                  "%s: %d scales", c->n->name, (int)scale->count);
    return i / behind(x, axis) % x->dim[axis];
}

/* In f32, as the operator's text has it: the rounding is what counts. The type of the result is the
 * zero's. */
static void quantize_linear(call *c)
{
    const value *x = c->in[0], *zero = c->in[2];
    double       low = zero->type == 2 ? 0 : -128, *y = like(c, x);
    float        scale = (float)c->in[1]->v[0];

    ck_assert_msg(c->in[1]->rank == 0 && scale > 0 && zero->rank == 0, "%s: one grid", c->n->name);
    ck_assert(x->type == 1 && (zero->type == 2 || zero->type == 3));
    c->y.type = zero->type;
    for (int64_t i = 0; i < x->count; i++) {
        double n = rint((double)((float)x->v[i] / scale)) + zero->v[0];

        y[i] = fmin(fmax(n, low), low + 255);
    }
}

static void dequantize_linear(call *c)
{
    const value *x = c->in[0];
    double      *y = like(c, x);

    ck_assert(x->type == 2 || x->type == 3 || x->type == 6);
    ck_assert(!c->in[2] || c->in[2]->type == x->type);
    c->y.type = 1;
    for (int64_t i = 0; i < x->count; i++) {
        int64_t k = scale_of(c, i);

        ck_assert(c->in[1]->v[k] > 0);
        y[i] = (x->v[i] - (c->in[2] ? c->in[2]->v[k] : 0)) * c->in[1]->v[k];
    }
}

/* ---- Norms and sums --------------------------------------------------------------------------- */

static void batch_norm(call *c)
{
    const value *x   = c->in[0];
    double       eps = list(c, "epsilon")->f, *y = like(c, x);
    int64_t      plane = behind(x, 1);

    for (int64_t i = 0; i < x->count; i++) {
        int64_t k = i / plane % x->dim[1];

        y[i] = (x->v[i] - c->in[3]->v[k]) / sqrt(c->in[4]->v[k] + eps) * c->in[1]->v[k] +
               c->in[2]->v[k];
    }
}

static void layer_norm(call *c)
{
    const value *x   = c->in[0];
    double       eps = list(c, "epsilon")->f, *y = like(c, x);
    int64_t      n = x->dim[x->rank - 1];

    ck_assert_int_eq(axis_of(x, whole(c, "axis", 0)), x->rank - 1);
    for (int64_t r = 0; r < x->count; r += n) {
        double mean = 0, square = 0;

        for (int64_t i = 0; i < n; i++)
            mean += x->v[r + i] / (double)n;
        for (int64_t i = 0; i < n; i++)
            square += (x->v[r + i] - mean) * (x->v[r + i] - mean) / (double)n;
        for (int64_t i = 0; i < n; i++)
            y[r + i] = (x->v[r + i] - mean) / sqrt(square + eps) * c->in[1]->v[i] + c->in[2]->v[i];
    }
}

static void softmax(call *c)
{
    const value *x    = c->in[0];
    int          axis = axis_of(x, whole(c, "axis", -1));
    int64_t      step = behind(x, axis), n = x->dim[axis];
    double      *y = like(c, x);

    for (int64_t i = 0; i < x->count; i++) {
        int64_t first = i - i / step % n * step;
        double  sum   = 0;

        for (int64_t k = 0; k < n; k++)
            sum += exp(x->v[first + k * step] - x->v[i]);
        y[i] = 1 / sum;
    }
}

static void reduce(call *c)
{
    const value                  *x    = c->in[0];
    const kd_test_onnx_attribute *axes = list(c, "axes");
    bool                          most = !strcmp(c->n->type, "ReduceMax");
    int64_t                       dims[WALK_RANK];
    double                       *y;

    memcpy(dims, x->dim, sizeof dims);
    for (int i = 0; i < axes->count; i++)
        dims[axes->ints[i]] = 1;
    y = shape(c, x->rank, dims);
    for (int64_t i = 0; most && i < c->y.count; i++)
        y[i] = -INFINITY;
    for (int64_t i = 0; i < x->count; i++) {
        int64_t at = broadcast(&c->y, x, i, 0);

        y[at] =
            most ? fmax(y[at], x->v[i]) : y[at] + x->v[i] * (double)c->y.count / (double)x->count;
    }
}

/* ---- Moving data ------------------------------------------------------------------------------ */

static void transpose(call *c)
{
    const value                  *x    = c->in[0];
    const kd_test_onnx_attribute *perm = list(c, "perm");
    int64_t                       dims[WALK_RANK];
    double                       *y;

    for (int k = 0; k < x->rank; k++)
        dims[k] = x->dim[perm->ints[k]];
    y = shape(c, x->rank, dims);
    for (int64_t i = 0; i < c->y.count; i++) {
        int64_t rest = i, at = 0;

        for (int k = x->rank - 1; k >= 0; k--) {
            at += rest % dims[k] * behind(x, (int)perm->ints[k]);
            rest /= dims[k];
        }
        y[i] = x->v[at];
    }
}

static void reshape(call *c)
{
    const value *x = c->in[0];
    int64_t      dims[WALK_RANK], known = 1;
    int          rank = (int)c->in[1]->count;

    for (int k = 0; k < rank; k++) {
        dims[k] = (int64_t)c->in[1]->v[k];
        if (dims[k] == 0) dims[k] = x->dim[k];
        if (dims[k] > 0) known *= dims[k];
    }
    for (int k = 0; k < rank; k++)
        if (dims[k] < 0) dims[k] = x->count / known;
    shape(c, rank, dims);
    ck_assert_msg(c->y.count == x->count, "%s: %d values as %d", c->n->name, (int)x->count,
                  (int)c->y.count);
    memcpy(c->y.v, x->v, (size_t)x->count * sizeof *x->v);
}

static void squeeze(call *c)
{
    ck_assert_int_eq(c->in[0]->count, 1);
    shape(c, 0, NULL)[0] = c->in[0]->v[0];
}

static void concat(call *c)
{
    int     axis = axis_of(c->in[0], whole(c, "axis", 0));
    int64_t dims[WALK_RANK], at = 0, step;
    double *y;

    memcpy(dims, c->in[0]->dim, sizeof dims);
    for (int i = 1; i < c->n->inputs; i++)
        dims[axis] += c->in[i]->dim[axis];
    y    = shape(c, c->in[0]->rank, dims);
    step = behind(&c->y, axis) * dims[axis];
    for (int i = 0; i < c->n->inputs; i++) {
        int64_t part = behind(c->in[i], axis) * c->in[i]->dim[axis];

        for (int64_t j = 0; j < c->in[i]->count; j++)
            y[j / part * step + at + j % part] = c->in[i]->v[j];
        at += part;
    }
}

static void slice(call *c)
{
    const value *x = c->in[0];
    int64_t      dims[WALK_RANK], first[WALK_RANK] = { 0 };
    double      *y;

    memcpy(dims, x->dim, sizeof dims);
    for (int64_t k = 0; k < c->in[3]->count; k++) {
        int     axis = axis_of(x, (int64_t)c->in[3]->v[k]);
        int64_t end  = (int64_t)c->in[2]->v[k];

        first[axis] = (int64_t)c->in[1]->v[k];
        dims[axis]  = (end < x->dim[axis] ? end : x->dim[axis]) - first[axis];
    }
    y = shape(c, x->rank, dims);
    for (int64_t i = 0; i < c->y.count; i++) {
        int64_t rest = i, at = 0;

        for (int k = x->rank - 1; k >= 0; k--) {
            at += (rest % dims[k] + first[k]) * behind(x, k);
            rest /= dims[k];
        }
        y[i] = x->v[at];
    }
}

/* By a constant: before each axis, then after each. */
static void pad(call *c)
{
    const value *x = c->in[0], *pads = c->in[1];
    int64_t      dims[WALK_RANK];
    double      *y;

    for (int k = 0; k < x->rank; k++)
        dims[k] = x->dim[k] + (int64_t)(pads->v[k] + pads->v[x->rank + k]);
    y = shape(c, x->rank, dims);
    for (int64_t i = 0; i < c->y.count; i++) {
        int64_t rest = i, at = 0;
        bool    outside = false;

        for (int k = x->rank - 1; k >= 0; k--) {
            int64_t j = rest % dims[k] - (int64_t)pads->v[k];

            outside = outside || j < 0 || j >= x->dim[k];
            at += j * behind(x, k);
            rest /= dims[k];
        }
        y[i] = outside ? c->in[2]->v[0] : x->v[at];
    }
}

/* Where sample i of `out` lies in `in`. */
static double source(int64_t i, int64_t in, int64_t out, double scale, bool align)
{
    double s = align ? out > 1 ? (double)(i * (in - 1)) / (double)(out - 1) : 0
                     : ((double)i + 0.5) / scale - 0.5;

    return fmin(fmax(s, 0), (double)(in - 1));
}

/* Bilinear, by ratios or sizes. */
static void resize(call *c)
{
    const value *x     = c->in[0];
    bool         align = !strcmp(list(c, "coordinate_transformation_mode")->s, "align_corners");
    double       scale[2], *y;
    int64_t      out[2], h = x->dim[2], w = x->dim[3];

    ck_assert_str_eq(list(c, "mode")->s, "linear");
    for (int k = 0; k < 2; k++) {
        out[k]   = c->in[2] ? (int64_t)floor((double)x->dim[2 + k] * c->in[2]->v[2 + k])
                            : (int64_t)c->in[3]->v[2 + k];
        scale[k] = c->in[2] ? c->in[2]->v[2 + k] : (double)out[k] / (double)x->dim[2 + k];
    }
    y = shape(c, 4, (int64_t[]){ x->dim[0], x->dim[1], out[0], out[1] });
    for (int64_t i = 0; i < c->y.count; i++) {
        const double *p = x->v + i / (out[0] * out[1]) * h * w;
        double        v = source(i / out[1] % out[0], h, out[0], scale[0], align),
               s        = source(i % out[1], w, out[1], scale[1], align);
        int64_t r = (int64_t)v, q = (int64_t)s, below = r + 1 < h ? r + 1 : r,
                right = q + 1 < w ? q + 1 : q;

        v -= (double)r;
        s -= (double)q;
        y[i] = (1 - v) * ((1 - s) * p[r * w + q] + s * p[r * w + right]) +
               v * ((1 - s) * p[below * w + q] + s * p[below * w + right]);
    }
}

/* ---- Sizes ------------------------------------------------------------------------------------ */

static void shape_of(call *c)
{
    int64_t n = c->in[0]->rank;
    double *y = shape(c, 1, &n);

    for (int64_t i = 0; i < n; i++)
        y[i] = (double)c->in[0]->dim[i];
}

static void gather(call *c) /* by a list of places along an axis */
{
    const value *x    = c->in[0];
    int          axis = axis_of(x, whole(c, "axis", 0));
    int64_t      step = behind(x, axis), n = c->in[1]->count, dims[WALK_RANK];
    double      *y;

    ck_assert_int_eq(c->in[1]->rank, 1);
    memcpy(dims, x->dim, sizeof dims);
    dims[axis] = n;
    y          = shape(c, x->rank, dims);
    for (int64_t i = 0; i < c->y.count; i++) {
        int64_t from = (int64_t)c->in[1]->v[i / step % n];

        ck_assert(from >= 0 && from < x->dim[axis]);
        y[i] = x->v[(i / step / n * x->dim[axis] + from) * step + i % step];
    }
}

static void range(call *c)
{
    double  first = c->in[0]->v[0], step = c->in[2]->v[0];
    int64_t n = (int64_t)ceil((c->in[1]->v[0] - first) / step);
    double *y = shape(c, 1, &n);

    for (int64_t i = 0; i < n; i++)
        y[i] = first + (double)i * step;
}

/* ---- The walk --------------------------------------------------------------------------------- */

static const struct {
    const char *type;
    void (*run)(call *c);
} ops[] = {
    { "Abs", one },
    { "Add", two },
    { "And", two },
    { "AveragePool", kd_test_onnx_pool },
    { "BatchNormalization", batch_norm },
    { "Cast", one },
    { "Clip", clip },
    { "Concat", concat },
    { "Conv", kd_test_onnx_conv },
    { "ConvTranspose", kd_test_onnx_deconv },
    { "DequantizeLinear", dequantize_linear },
    { "Div", two },
    { "Elu", leaky },
    { "Erf", one },
    { "Gather", gather },
    { "Identity", one },
    { "LayerNormalization", layer_norm },
    { "LeakyRelu", leaky },
    { "Less", two },
    { "MatMul", kd_test_onnx_matmul },
    { "MaxPool", kd_test_onnx_pool },
    { "Mul", two },
    { "Not", one },
    { "Pad", pad },
    { "QuantizeLinear", quantize_linear },
    { "Range", range },
    { "ReduceMax", reduce },
    { "ReduceMean", reduce },
    { "Relu", one },
    { "Reshape", reshape },
    { "Resize", resize },
    { "Shape", shape_of },
    { "Sigmoid", one },
    { "Slice", slice },
    { "Softmax", softmax },
    { "Squeeze", squeeze },
    { "Sub", two },
    { "Transpose", transpose },
};

const kd_test_onnx_value *kd_test_onnx_value_of(const kd_test_onnx_run *run, const char *name)
{
    for (int i = run->values - 1; i >= 0; i--)
        if (strcmp(run->value[i].name, name) == 0) return &run->value[i];
    ck_abort_msg("there is no value '%s'", name);
    return NULL;
}

static void add_tensor(kd_test_onnx_run *run, const kd_test_onnx_tensor *t)
{
    value *to = &run->value[run->values++];

    to->name  = t->name;
    to->type  = (int)t->type;
    to->rank  = t->rank;
    to->count = t->count;
    to->v     = calloc((size_t)t->count + 1, sizeof *to->v);
    for (int i = 0; i < WALK_RANK; i++)
        to->dim[i] = i < t->rank ? t->dim[i] : 1;
    for (int64_t i = 0; i < t->count; i++) {
        int64_t n;
        int32_t k;
        float   f;

        switch (t->type) {
        case 1:
            memcpy(&f, t->values + 4 * i, 4);
            to->v[i] = (double)f;
            break;
        case 2: to->v[i] = t->values[i]; break;
        case 3: to->v[i] = (signed char)t->values[i]; break;
        case 6:
            memcpy(&k, t->values + 4 * i, 4);
            to->v[i] = k;
            break;
        default: memcpy(&n, t->values + 8 * i, 8); to->v[i] = (double)n;
        }
    }
}

static void run_node(kd_test_onnx_run *run, const node *n)
{
    call c = { .n = n };

    for (int i = 0; i < n->inputs; i++)
        c.in[i] = n->in[i][0] ? kd_test_onnx_value_of(run, n->in[i]) : NULL;
    c.y.type = c.in[0]->type;
    if (!strcmp(n->type, "Shape")) c.y.type = 7;
    if (!strcmp(n->type, "Cast")) c.y.type = 1;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (strcmp(ops[i].type, n->type) == 0) ops[i].run(&c);
    ck_assert_msg(c.y.v != NULL, "%s: '%s' is not known here", n->name, n->type);
    c.y.name                  = n->out;
    run->value[run->values++] = c.y;
}

kd_test_onnx_run kd_test_onnx_forward(const kd_test_onnx *o, const float *image,
                                      const int64_t dims[4])
{
    kd_test_onnx_run run = { .value =
                                 calloc((size_t)(o->tensors + o->nodes + 1), sizeof *run.value) };
    value           *x   = &run.value[run.values++];

    x->name  = o->input[0].name;
    x->rank  = 4;
    x->type  = 1;
    x->count = 1;
    for (int i = 0; i < 4; i++)
        x->count *= x->dim[i] = dims[i];
    x->v = calloc((size_t)x->count, sizeof *x->v);
    for (int64_t i = 0; i < x->count; i++)
        x->v[i] = image[i];
    for (int i = 0; i < o->tensors; i++)
        add_tensor(&run, &o->tensor[i]);
    for (int i = 0; i < o->nodes; i++)
        run_node(&run, &o->node[i]);
    return run;
}

void kd_test_onnx_run_free(kd_test_onnx_run *run)
{
    for (int i = 0; i < run->values; i++)
        free(run->value[i].v);
    free(run->value);
}

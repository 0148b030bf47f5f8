/* check_onnx_grids.c - networks on 8-bit grids as ONNX files: what stands in them, and that they compute what the
 * library's simulation does, layer by layer and whole. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "export/export.h"
#include "graph/build.h"
#include "graph/program.h"
#include "nn/nn.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/onnx_run.h"
#include "support/onnx_walk.h"
#include "support/run_util.h"

static kdas_context *ctx;

static void open_context(void)
{
    ctx = kd_test_device("cpu", NULL);
    kd_test_folder_make();
}
static void close_context(void)
{
    kdas_context_destroy(ctx);
    kd_test_folder_remove();
}

static int count_of(const kd_test_onnx *f, const char *type)
{
    int n = 0;

    for (int i = 0; i < f->nodes; i++)
        n += strcmp(f->node[i].type, type) == 0;
    return n;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);

    return n >= k && strcmp(text + n - k, end) == 0;
}

/* ---- Layers ----------------------------------------------------------------------------------- */

enum { N = 2, H = 7, W = 5, C = 6, OUT = 9 };

static kd_node *norm(kd_graph *g, kd_node *x)
{
    return kd_batch_norm_layer(g, "bn", x, 1e-3f, 0.1f);
}

static kd_node *conv(kd_graph *g, const char *name, kd_node *x, bool bias)
{
    return kd_conv_layer(g, name, x, OUT, 3, 2, 1, bias, KD_STYLE_TORCH);
}

static kd_node *linear(kd_graph *g, kd_node *x, bool bias)
{
    return kd_linear_layer(g, "l", x, OUT, bias, KD_STYLE_TORCH);
}

static kd_node *conv_norm(kd_graph *g, kd_node *x) { return norm(g, conv(g, "c", x, false)); }
static kd_node *conv_bias(kd_graph *g, kd_node *x) { return conv(g, "c", x, true); }
static kd_node *conv_bias_norm(kd_graph *g, kd_node *x) { return norm(g, conv(g, "c", x, true)); }
static kd_node *conv_alone(kd_graph *g, kd_node *x) { return conv(g, "c", x, false); }
static kd_node *wide_conv(kd_graph *g, kd_node *x) { return norm(g, conv(g, "wide", x, true)); }
static kd_node *linear_bias(kd_graph *g, kd_node *x) { return linear(g, x, true); }
static kd_node *linear_alone(kd_graph *g, kd_node *x) { return linear(g, x, false); }
static kd_node *linear_norm(kd_graph *g, kd_node *x) { return norm(g, linear(g, x, true)); }
static kd_node *depthwise(kd_graph *g, kd_node *x) { return kd_dwconv_layer(g, "d", x); }
static kd_node *gelu(kd_graph *g, kd_node *x) { return kd_gelu_layer(g, "g", x); }

static kd_node *depthwise_norm(kd_graph *g, kd_node *x)
{
    return norm(g, kd_same_dwconv_layer(g, "d", x, 3, 2));
}

/* One grid in both layouts. */
static kd_node *two_layers(kd_graph *g, kd_node *x)
{
    kd_node *y = kd_conv_layer(g, "c", x, OUT, 3, 1, 1, true, KD_STYLE_TORCH);

    return kd_add(g, y, linear(g, x, true));
}

static kd_node *read_twice(kd_graph *g, kd_node *x)
{
    kd_node *y = conv(g, "c", x, true);

    return kd_add(g, norm(g, y), y);
}

static kd_node *read_from_outside(kd_graph *g, kd_node *x)
{
    kd_node *y = conv(g, "c", x, true);

    kd_output(g, "inside", y);
    return norm(g, y);
}

/* The file has so many QuantizeLinear in NCHW and in NHWC, DequantizeLinear of weights and, in NCHW and in NHWC, of biases,
 * and batch norms. A linear layer in NHWC has its bias as floats. */
static const struct {
    const char *name;
    kd_node *(*add)(kd_graph *g, kd_node *x);
    int grids[2], weights, biases[2], norms;
} layers[] = {
    { "conv, norm", conv_norm, { 1, 1 }, 1, { 1, 1 }, 0 },
    { "conv with a bias", conv_bias, { 1, 1 }, 1, { 1, 1 }, 0 },
    { "conv with a bias, norm", conv_bias_norm, { 1, 1 }, 1, { 1, 1 }, 0 },
    { "conv", conv_alone, { 1, 1 }, 1, { 0, 0 }, 0 },
    { "wide conv, norm", wide_conv, { 0, 0 }, 0, { 0, 0 }, 1 },
    { "linear with a bias", linear_bias, { 1, 1 }, 1, { 1, 0 }, 0 },
    { "linear", linear_alone, { 1, 1 }, 1, { 0, 0 }, 0 },
    { "linear, norm", linear_norm, { 1, 1 }, 1, { 1, 0 }, 0 },
    { "depthwise", depthwise, { 1, 1 }, 1, { 1, 1 }, 0 },
    { "depthwise, norm", depthwise_norm, { 1, 1 }, 1, { 1, 1 }, 0 },
    { "gelu", gelu, { 1, 1 }, 0, { 0, 0 }, 0 },
    { "two layers of one grid", two_layers, { 1, 2 }, 2, { 2, 1 }, 0 },
    { "read twice", read_twice, { 1, 1 }, 1, { 1, 1 }, 1 },
    { "read from outside", read_from_outside, { 1, 1 }, 1, { 1, 1 }, 1 },
};

static kd_graph *graph_of(kd_params *params, int k)
{
    kd_graph *g = kd_graph_create(ctx, params, KD_INFER);

    kd_graph_use_grids(g, 0, "wide");
    kd_output(g, "y", layers[k].add(g, kd_input(g, "image", kd_desc(N, H, W, C), false)));
    kd_assert_ok(kd_graph_status(g));
    return g;
}

/* Scales of both signs and 0, a channel of zeros, biases, ranges that cut some values off. */
static void fill(kd_params *params)
{
    for (int i = 0; i < kd_params_count(params); i++) {
        const kd_param_entry *p = kd_params_at(params, i);
        float                *v = kd_params_values(params) + p->offset;

        if (ends_with(p->name, "num_batches_tracked")) continue;
        kd_test_fill(v, p->count, p->name, 0.8, ends_with(p->name, "running_var") ? 1 : 0);
        if (ends_with(p->name, "bn.weight")) v[1] = 0;
        if (ends_with(p->name, ".weight") && p->rank > 1)
            memset(v, 0, (size_t)(p->count / p->dim[0]) * sizeof *v);
        if (ends_with(p->name, "input_range")) memcpy(v, (float[]){ -1.4f, 1.7f }, 2 * sizeof *v);
    }
}

/* What the library computes, in f32. */
static float *simulated(kd_params *params, int k, float *image, int64_t *dims)
{
    kd_arena      *arena = kd_arena_create(ctx);
    kd_program    *p;
    const kd_node *y;
    float         *out;

    kd_assert_ok(kd_program_create(&p, graph_of(params, k), arena));
    kd_program_bind(p, kd_find(kd_program_graph(p), "image"), image, NULL);
    kd_assert_ok(kd_program_forward(p, 1));
    y = kd_find(kd_program_graph(p), "y");
    memcpy(dims, y->desc.out.dim, 4 * sizeof *dims);
    out = malloc((size_t)kd_elements(&y->desc.out) * sizeof *out);
    memcpy(out, kd_program_value(p, y), (size_t)kd_elements(&y->desc.out) * sizeof *out);
    kd_program_destroy(p);
    kd_arena_destroy(arena);
    return out;
}

static kd_test_onnx *file_of(const kd_graph *g, kd_params *params, kdas_onnx_layout layout,
                             bool floats)
{
    kd_export      e = { .ctx = ctx, .graph = g, .layout = layout, .floats = floats };
    const kd_node *y = kd_find(g, "y");
    kd_test_onnx  *f;

    e.value = calloc((size_t)kd_graph_nodes(g), sizeof *e.value);
    kd_assert_ok(kd_onnx_create(&e.file, ctx, params, "one"));
    kd_assert_ok(kd_export_extents(&e, (int64_t[]){ N, H, W }, NULL, 0));
    kd_export_image(&e, KDAS_ONNX_NORMALISED);
    kd_export_need(&e, y);
    kd_assert_ok(kd_export_nodes(&e));
    kd_export_output(&e, "y", y, kd_export_in(&e, y, layout), false);
    kd_assert_ok(kd_onnx_save(e.file, kd_test_path("one.onnx")));
    kd_onnx_destroy(e.file);
    free(e.value);
    f = kd_test_onnx_read(kd_test_path("one.onnx"));
    kd_test_onnx_assert_sound(f);
    return f;
}

/* Into the layout, or as it is. */
static void lay_out(float *to, int64_t dims[4], const float *x, const int64_t *d, bool nchw)
{
    memcpy(to, x, (size_t)(d[0] * d[1] * d[2] * d[3]) * sizeof *to);
    memcpy(dims, d, 4 * sizeof *dims);
    if (!nchw) return;
    kd_test_to_nchw(to, x, d[0], d[3], d[1], d[2]);
    memcpy(dims, (int64_t[]){ d[0], d[3], d[1], d[2] }, 4 * sizeof *dims);
}

static void assert_gives(const kd_test_onnx *f, const float *x, const float *y, const int64_t *out,
                         bool nchw)
{
    const int64_t             in[4] = { N, H, W, C };
    int64_t                   dims[4];
    float                     image[N * H * W * C], want[N * H * W * OUT], got[N * H * W * OUT];
    const kd_test_onnx_value *v;
    kd_test_onnx_run          run;

    lay_out(image, dims, x, in, nchw);
    run = kd_test_onnx_forward(f, image, dims);
    v   = kd_test_onnx_value_of(&run, "y");
    lay_out(want, dims, y, out, nchw);
    for (int k = 0; k < 4; k++)
        ck_assert_int_eq(v->dim[k], dims[k]);
    for (int64_t i = 0; i < v->count; i++)
        got[i] = (float)v->v[i];
    kd_assert_close(got, want, v->count, 5e-5); /* biases are rounded */
    kd_test_onnx_run_free(&run);
}

typedef struct one {
    kd_params *params;
    kd_graph  *g;
    float      image[N * H * W * C];
    int        layer;
    bool       nchw;
} one;

static void open_one(one *o, int k)
{
    o->layer = k / 2;
    o->nchw  = k % 2 == 0;
    kd_assert_ok(kd_params_create(&o->params, ctx));
    kd_graph_destroy(graph_of(o->params, o->layer)); /* declares the parameters */
    kd_assert_ok(kd_params_seal(o->params, false));
    fill(o->params);
    o->g = graph_of(o->params, o->layer);
    kd_test_fill(o->image, N * H * W * C, "image", 2, 0);
}

static void close_one(one *o)
{
    kd_graph_destroy(o->g);
    kd_params_destroy(o->params);
}

START_TEST(a_layer_computes_what_the_simulation_does)
{
    one              o;
    int64_t          dims[4];
    float           *y;
    kd_test_onnx    *f;
    kdas_onnx_layout layout = _i % 2 ? KDAS_ONNX_NHWC : KDAS_ONNX_NCHW;

    open_one(&o, _i);
    y = simulated(o.params, o.layer, o.image, dims);
    f = file_of(o.g, o.params, layout, false);
    ck_assert_int_eq(count_of(f, "QuantizeLinear"), layers[o.layer].grids[_i % 2]);
    ck_assert_int_eq(count_of(f, "DequantizeLinear"), layers[o.layer].grids[_i % 2] +
                                                          layers[o.layer].weights +
                                                          layers[o.layer].biases[_i % 2]);
    ck_assert_int_eq(count_of(f, "BatchNormalization"), layers[o.layer].norms);
    assert_gives(f, o.image, y, dims, o.nchw);
    kd_test_onnx_free(f);
    free(y);
    close_one(&o);
}
END_TEST

/* A simulation without ranges rounds weights alone. */
START_TEST(as_floats_a_layer_has_rounded_weights)
{
    one           o;
    int64_t       dims[4];
    float        *y;
    kd_test_onnx *f;

    open_one(&o, _i);
    for (int i = 0; i < kd_params_count(o.params); i++)
        if (ends_with(kd_params_at(o.params, i)->name, "input_range"))
            memset(kd_params_values(o.params) + kd_params_at(o.params, i)->offset, 0, 8);
    y = simulated(o.params, o.layer, o.image, dims);
    f = file_of(o.g, o.params, o.nchw ? KDAS_ONNX_NCHW : KDAS_ONNX_NHWC, true);
    ck_assert_int_eq(count_of(f, "QuantizeLinear"), 0);
    ck_assert_int_eq(count_of(f, "DequantizeLinear"), 0);
    assert_gives(f, o.image, y, dims, o.nchw);
    kd_test_onnx_free(f);
    free(y);
    close_one(&o);
}
END_TEST

/* ---- Networks --------------------------------------------------------------------------------- */

enum { ROWS = 64, COLUMNS = 96, IMAGES = 2, PIXELS = ROWS * COLUMNS };

static kdas_batch *images(void)
{
    kdas_batch *x;

    kd_assert_ok(kdas_batch_create(&x, ctx, IMAGES, ROWS, COLUMNS));
    kd_test_fill(kdas_batch_images(x), 3 * PIXELS * IMAGES, "image", 2, 0);
    return x;
}

/* Vectors other than the zeros and ones that they begin as. */
static void stir(kdas_model *m)
{
    int64_t dims[4];
    int32_t rank;
    float   v[1024];

    for (int32_t i = 0; i < kdas_model_tensors(m); i++) {
        const char *name = kdas_model_tensor(m, i, &rank, dims, NULL);
        bool        ones = ends_with(name, "running_var") || ends_with(name, "weight");

        if (rank != 1 || dims[0] > 1024 || ends_with(name, "input_range")) continue;
        kd_test_fill(v, dims[0], name, 0.5, ones ? 1 : 0);
        kd_assert_ok(kdas_model_write(m, i, v));
    }
}

/* With the ranges that a training forward finds, or with empty ones. */
static kdas_model *make(const char *name, bool ranges)
{
    kdas_model_options o;
    kdas_model        *m;
    kdas_batch        *x = images();

    kdas_model_options_init(&o, sizeof o);
    o.quantize       = KDAS_QUANTIZE_INT8;
    o.range_momentum = 1;
    o.drop_path      = 0;
    o.trainable      = ranges;
    kd_assert_ok(kdas_model_create(&m, ctx, name, &o));
    stir(m);
    if (ranges) kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, x));
    kdas_batch_destroy(x);
    return m;
}

static kdas_onnx_options usual(void)
{
    kdas_onnx_options o;

    kdas_onnx_options_init(&o, sizeof o);
    o.batch  = IMAGES;
    o.height = ROWS;
    o.width  = COLUMNS;
    o.layout = KDAS_ONNX_NHWC;
    return o;
}

static kd_test_onnx *exported(const kdas_model *m, const kdas_onnx_options *o)
{
    kd_test_onnx *f;

    kd_assert_ok(kdas_model_export_onnx(m, kd_test_path("m.onnx"), o));
    f = kd_test_onnx_read(kd_test_path("m.onnx"));
    kd_test_onnx_assert_sound(f);
    return f;
}

/* What is compared: the answer, or a feature. `apart`: the network without grids is this many times further. A value at the
 * edge of two steps may be rounded to either, and changes many after it; in polyp_pvt_b0 with random weights that is as much
 * as all rounding. */
typedef struct shown {
    const char *network, *output;
    int         values;
    double      apart;
} shown;

static const shown shows[] = {
    { "lite_fpn0", "logits", IMAGES *PIXELS, 20 },
    { "pvt_v2_b0", "x1", IMAGES *PIXELS * 2, 4 },
    { "polyp_pvt_b0", "logits", IMAGES *PIXELS, 0 },
};

enum { MOST = IMAGES * PIXELS * 2 };

/* By the library, of the images times a factor. */
static void answer(float *sum, kdas_model *m, const shown *s, float factor)
{
    static float map[MOST];
    kdas_batch  *x    = images();
    bool         maps = kdas_model_maps(m) > 0;

    for (int i = 0; i < 3 * PIXELS * IMAGES; i++)
        kdas_batch_images(x)[i] *= factor;
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, x));
    memset(sum, 0, MOST * sizeof *sum);
    for (int k = maps ? kdas_model_answer(m) : 0; k < (maps ? kdas_model_maps(m) : 1); k++) {
        kd_assert_ok(kdas_model_read_output(m, kdas_model_output(m, k, NULL), map));
        for (int i = 0; i < s->values; i++)
            sum[i] += map[i];
    }
    kdas_batch_destroy(x);
}

static void answer_of_file(float *to, const kd_test_onnx *f, const shown *s)
{
    const int64_t             dims[4] = { IMAGES, ROWS, COLUMNS, 3 };
    kdas_batch               *x       = images();
    kd_test_onnx_run          run     = kd_test_onnx_forward(f, kdas_batch_images(x), dims);
    const kd_test_onnx_value *v       = kd_test_onnx_value_of(&run, s->output);

    ck_assert_int_eq(v->count, s->values);
    for (int i = 0; i < s->values; i++)
        to[i] = (float)v->v[i];
    kd_test_onnx_run_free(&run);
    kdas_batch_destroy(x);
}

/* Root mean square of x - y, over the deviation of y. */
static double difference(const float *x, const float *y, int n)
{
    double mean = 0, sum = 0, own = 0;

    for (int i = 0; i < n; i++)
        mean += (double)y[i] / n;
    for (int i = 0; i < n; i++) {
        sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        own += ((double)y[i] - mean) * ((double)y[i] - mean);
    }
    return sqrt(sum / own);
}

/* Two correct ways differ by about what one way gives for images that differ by 1e-5; biases in 32 bits add to that. */
START_TEST(a_network_computes_what_the_simulation_does)
{
    static float      ours[MOST], changed[MOST], got[MOST], floats[MOST];
    const shown      *s = &shows[_i / 2];
    kdas_model       *m = make(s->network, true);
    kdas_onnx_options o = usual();
    kd_test_onnx     *f;
    double            off;

    if (_i % 2) o.batch = o.height = o.width = KDAS_ONNX_FREE;
    f = exported(m, &o);
    ck_assert_int_gt(count_of(f, "QuantizeLinear"), 40);
    ck_assert_str_eq(kd_test_onnx_metadata(f, "quantization"), "int8");
    answer_of_file(got, f, s);
    kd_test_onnx_free(f);
    o.floats = 1;
    f        = exported(m, &o);
    ck_assert_ptr_null(kd_test_onnx_metadata(f, "quantization"));
    answer_of_file(floats, f, s);
    kd_test_onnx_free(f);
    answer(ours, m, s, 1);
    answer(changed, m, s, 1 + 1e-5f);
    off = difference(got, ours, s->values);
    ck_assert_double_lt(off, 3 * difference(changed, ours, s->values) + 0.002);
    ck_assert_double_gt(difference(floats, ours, s->values), s->apart * off);
    kdas_model_destroy(m);
}
END_TEST

/* Each rounded layer reads its grid and its weights directly; their numbers and scales are the library's. */
START_TEST(integers_reach_their_layers)
{
    static const char *const names[] = { "lite_fpn0", "polyp_pvt_b0" };
    kdas_model              *m       = make(names[_i], true);
    kdas_onnx_options        o       = usual();
    kd_test_onnx            *f       = exported(m, &o);
    static const int         twice[] = { 0, 2 }; /* ca.fc1 and ca.fc2 */
    int                      layer = 0, tensors = 0;

    for (int i = 0; i < f->tensors; i++)
        tensors += f->tensor[i].type == 3 && f->tensor[i].rank > 1;
    for (int i = 0; i < f->nodes; i++) {
        const kd_test_onnx_node *n = &f->node[i], *x, *w;

        if (strcmp(n->type, "Conv") != 0 && strcmp(n->type, "MatMul") != 0) continue;
        x = kd_test_onnx_maker(f, n->in[0]);
        w = kd_test_onnx_maker(f, n->in[1]);
        if (!w || strcmp(w->type, "DequantizeLinear") != 0) continue;
        layer++;
        ck_assert_str_eq(x->type, "DequantizeLinear");
        ck_assert_str_eq(kd_test_onnx_maker(f, x->in[0])->type, "QuantizeLinear");
        ck_assert_int_eq(kd_test_onnx_tensor_of(f, w->in[0])->type, 3);
        ck_assert_int_eq(kd_test_onnx_attribute_of(w, "axis")->i, strcmp(n->type, "MatMul") == 0);
    }
    ck_assert_int_eq(layer, tensors + twice[_i]);
    ck_assert_int_gt(layer, 50);
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(layers_that_stay_wide_are_floats)
{
    kdas_model        *m = make("lite_fpn0", true);
    kdas_onnx_options  o = usual();
    kd_test_onnx      *f = exported(m, &o);
    const char *const *names =
        (const char *const[]){ "backbone._conv_stem.weight", "out.weight", NULL };

    for (; *names; names++) {
        const kd_test_onnx_tensor *t = kd_test_onnx_tensor_of(f, *names);

        ck_assert_ptr_nonnull(t);
        ck_assert_int_eq(t->type, 1);
    }
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(empty_ranges_are_refused_but_as_floats)
{
    static float      ours[MOST], got[MOST];
    kdas_model       *m = make("lite_fpn0", false);
    kdas_onnx_options o = usual();
    kd_test_onnx     *f;

    kd_test_write(kd_test_path("m.onnx"), "before", 6);
    kd_assert_status(kdas_model_export_onnx(m, kd_test_path("m.onnx"), &o), KDAS_ESTATE);
    kd_assert_sentence(".input_range' is empty");
    kd_test_assert_text(kd_test_path("m.onnx"), "before");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
    o.floats = 1;
    f        = exported(m, &o);
    answer(ours, m, &shows[0], 1);
    answer_of_file(got, f, &shows[0]);
    kd_assert_close(got, ours, shows[0].values, 1e-4);
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
}
END_TEST

/* Casts of a context in 16 bits leave no trace. */
START_TEST(a_context_in_16_bits_writes_the_same_file)
{
    kdas_context_options o;
    kdas_onnx_options    how = usual();
    kdas_context        *half;
    kdas_model          *a, *b;
    unsigned char       *x, *y;
    size_t               n, k;

    if (!kd_test_can_half()) return;
    a = make("polyp_pvt_b0", true);
    kd_assert_ok(kdas_model_save(a, kd_test_path("a.safetensors")));
    kdas_context_options_init(&o, sizeof o);
    o.precision = KDAS_PRECISION_BF16;
    kd_assert_ok(kdas_context_create(&half, &o));
    kd_assert_ok(kdas_model_open(&b, half, NULL, kd_test_path("a.safetensors"), NULL, NULL));
    kd_assert_ok(kdas_model_export_onnx(a, kd_test_path("a"), &how));
    kd_assert_ok(kdas_model_export_onnx(b, kd_test_path("b"), &how));
    x = kd_test_read(kd_test_path("a"), &n);
    y = kd_test_read(kd_test_path("b"), &k);
    ck_assert_uint_eq(n, k);
    ck_assert(memcmp(x, y, n) == 0);
    free(x);
    free(y);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
    kdas_context_destroy(half);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("onnx: grids");
    TCase   *layer = tcase_create("layers"), *network = tcase_create("networks");
    SRunner *runner = srunner_create(suite);
    int      failed, count = 2 * (int)KD_COUNT(layers);

    tcase_add_checked_fixture(layer, open_context, close_context);
    tcase_add_loop_test(layer, a_layer_computes_what_the_simulation_does, 0, count);
    tcase_add_loop_test(layer, as_floats_a_layer_has_rounded_weights, 0, count);
    suite_add_tcase(suite, layer);
    tcase_add_checked_fixture(network, open_context, close_context);
    tcase_add_loop_test(network, a_network_computes_what_the_simulation_does, 0,
                        2 * KD_COUNT(shows));
    tcase_add_loop_test(network, integers_reach_their_layers, 0, 2);
    tcase_add_test(network, layers_that_stay_wide_are_floats);
    tcase_add_test(network, empty_ranges_are_refused_but_as_floats);
    tcase_add_test(network, a_context_in_16_bits_writes_the_same_file);
    suite_add_tcase(suite, network);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_onnx.c - networks as ONNX files: what stands in them, and what they compute, by a parser and plain ops of the tests;
 * options. check_onnx_errors.c has what is refused. test/onnx/compare.py runs them in ONNX Runtime and OpenVINO. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <kdas/kdas.h>
#include "export/export.h"
#include "graph/build.h"
#include "model/model.h"
#include "nn/nn.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/onnx_run.h"
#include "support/onnx_walk.h"
#include "support/run_util.h"
#include "support/thin.h"

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

static kdas_model *make(const char *name)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&m, ctx, name, &o));
    return m;
}

static kdas_onnx_options usual(void)
{
    kdas_onnx_options o;

    kdas_onnx_options_init(&o, sizeof o);
    return o;
}

static kdas_onnx_options all_free(void)
{
    kdas_onnx_options o = usual();

    o.batch = o.height = o.width = KDAS_ONNX_FREE;
    return o;
}

/* The model's file by these options. */
static kd_test_onnx *exported(const kdas_model *m, const kdas_onnx_options *o)
{
    kd_test_onnx *file;

    kd_assert_ok(kdas_model_export_onnx(m, kd_test_path("m.onnx"), o));
    file = kd_test_onnx_read(kd_test_path("m.onnx"));
    kd_test_onnx_assert_sound(file);
    return file;
}

/* ---- Structure -------------------------------------------------------------------------------- */

static void assert_head(const kd_test_onnx *f, const char *network)
{
    ck_assert_int_eq(f->ir, 8);
    ck_assert_int_eq(f->opset, 17);
    ck_assert_ptr_null(f->domain);
    ck_assert_str_eq(f->producer, "libkdas");
    ck_assert_str_eq(f->version, kdas_version_string());
    ck_assert_str_eq(f->name, network);
    ck_assert_int_eq(f->inputs, 1);
    ck_assert_str_eq(f->input[0].name, "image");
    ck_assert_str_eq(kd_test_onnx_metadata(f, "network"), network);
    ck_assert_str_eq(kd_test_onnx_metadata(f, "version"), kdas_version_string());
}

/* Every network of the table, all free (_i odd), the smaller ones fixed as well. */
START_TEST(every_network_gives_a_sound_file)
{
    const char       *name = kdas_model_name(_i / 2);
    kdas_model       *m    = make(name);
    kdas_onnx_options o    = _i % 2 ? all_free() : usual();
    kd_test_onnx     *f    = NULL;
    int               maps = kdas_model_maps(m), side = kd_model_def_find(name)->rules->side;

    if (side) o.height = o.width = side;
    if (_i % 2 == 0 && kdas_model_parameters(m) > 20000000) {
        kdas_model_destroy(m);
        return;
    }
    f = exported(m, &o);

    assert_head(f, name);
    ck_assert_int_eq(f->outputs, maps ? 1 : kdas_model_outputs(m));
    ck_assert_str_eq(f->output[0].name, maps ? "logits" : "x1");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
}
END_TEST

/* The model's tensor as the file has it, the matrix perhaps transposed. */
static void assert_values(const kd_test_onnx *f, const char *name, const float *want, int64_t rows,
                          int64_t count)
{
    char                       transposed[256];
    const kd_test_onnx_tensor *t = kd_test_onnx_tensor_of(f, name);
    float                     *got;

    snprintf(transposed, sizeof transposed, "%s.transposed", name);
    got = malloc((size_t)count * sizeof *got);
    if (t) {
        ck_assert_int_eq(t->count, count);
        memcpy(got, t->values, t->bytes);
    } else {
        t = kd_test_onnx_tensor_of(f, transposed);
        ck_assert_msg(t != NULL, "the file lacks '%s'", name);
        ck_assert_int_eq(t->rank, 2);
        ck_assert_int_eq(t->dim[1], rows);
        ck_assert_int_eq(t->count, count);
        for (int64_t i = 0; i < count; i++)
            memcpy(&got[i % rows * t->dim[0] + i / rows], t->values + 4 * i, 4);
    }
    ck_assert_msg(kd_test_same_bits(got, want, (size_t)count * sizeof *want), "'%s' differs", name);
    free(got);
}

static void fill_apart(kdas_model *m)
{
    int64_t dims[4];

    for (int32_t i = 0; i < kdas_model_tensors(m); i++) {
        const char *name  = kdas_model_tensor(m, i, NULL, dims, NULL);
        int64_t     count = dims[0] * dims[1] * dims[2] * dims[3];
        float      *v     = malloc((size_t)count * sizeof *v);

        kd_test_fill(v, count, name, 0.2, strstr(name, "running_var") ? 1 : 0);
        if (!strstr(name, "num_batches")) kd_assert_ok(kdas_model_write(m, i, v));
        free(v);
    }
}

/* Vectors other than the zeros and ones that they begin as; filters keep their scale. */
static void fill_gently(kdas_model *m)
{
    int64_t dims[4];
    int32_t rank;
    float   v[1024];

    for (int32_t i = 0; i < kdas_model_tensors(m); i++) {
        const char *name = kdas_model_tensor(m, i, &rank, dims, NULL);
        bool        ones = strstr(name, "running_var") || strstr(name, "weight");

        if (rank != 1 || dims[0] > 1024) continue;
        kd_test_fill(v, dims[0], name, 0.3, ones ? 1 : 0);
        kd_assert_ok(kdas_model_write(m, i, v));
    }
}

START_TEST(every_tensor_is_in_the_file_bit_for_bit)
{
    static const char *const names[] = { "polyp_pvt_b0", "lite_fpn0" };
    kdas_model              *m       = make(names[_i]);
    int64_t                  dims[4], floats = 0, weights = 0;
    kdas_onnx_options        o = usual();
    kd_test_onnx            *f;

    fill_apart(m);
    f = exported(m, &o);
    for (int32_t i = 0; i < kdas_model_tensors(m); i++) {
        const char *name  = kdas_model_tensor(m, i, NULL, dims, NULL);
        int64_t     count = dims[0] * dims[1] * dims[2] * dims[3];
        float      *want  = malloc((size_t)count * sizeof *want);

        kd_assert_ok(kdas_model_read(m, i, want));
        if (!strstr(name, "num_batches")) {
            assert_values(f, name, want, dims[0], count);
            floats += count;
        }
        free(want);
    }
    for (int i = 0; i < f->tensors; i++)
        if (!strstr(f->tensor[i].name, "/")) weights += f->tensor[i].count;
    ck_assert_int_eq(weights, floats); /* none is there twice */
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
}
END_TEST

static void assert_ints(const kd_test_onnx_node *n, const char *name, int count,
                        const int64_t *want)
{
    const kd_test_onnx_attribute *a = kd_test_onnx_attribute_of(n, name);

    ck_assert_ptr_nonnull(a);
    ck_assert_int_eq(a->type, 7);
    ck_assert_int_eq(a->count, count);
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(a->ints[i], want[i]);
}

START_TEST(attributes_are_those_of_the_ops)
{
    kdas_model              *m      = make("lite_fpn0");
    kdas_onnx_options        o      = usual();
    kd_test_onnx            *f      = exported(m, &o);
    const kd_test_onnx_node *stem   = kd_test_onnx_first(f, "Conv"),
                            *norm   = kd_test_onnx_first(f, "BatchNormalization"),
                            *resize = kd_test_onnx_first(f, "Resize");
    bool depthwise                  = false;

    assert_ints(stem, "pads", 4, (int64_t[]){ 0, 0, 1, 1 }); /* SAME of an even size */
    assert_ints(stem, "strides", 2, (int64_t[]){ 2, 2 });
    ck_assert_str_eq(stem->in[0], "image"); /* no transpose in between */
    ck_assert_str_eq(stem->in[1], "backbone._conv_stem.weight");
    ck_assert(fabsf(kd_test_onnx_attribute_of(norm, "epsilon")->f - 1e-3f) < 1e-9f);
    ck_assert_str_eq(kd_test_onnx_attribute_of(resize, "coordinate_transformation_mode")->s,
                     "half_pixel");
    for (int i = 0; i < f->nodes; i++) {
        const kd_test_onnx_attribute *group = kd_test_onnx_attribute_of(&f->node[i], "group");

        ck_assert_str_ne(f->node[i].type, "Transpose"); /* all in NCHW, as the field has it */
        depthwise = depthwise || (group && group->i == 32);
    }
    ck_assert(depthwise);
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(resize_keeps_aligned_corners)
{
    kdas_model       *m       = make("polyp_pvt_b0");
    kdas_onnx_options o       = usual();
    kd_test_onnx     *f       = exported(m, &o);
    int               aligned = 0, half = 0;

    for (int i = 0; i < f->nodes; i++) {
        if (strcmp(f->node[i].type, "Resize") != 0) continue;
        if (strcmp(kd_test_onnx_attribute_of(&f->node[i], "coordinate_transformation_mode")->s,
                   "align_corners") == 0)
            aligned++;
        else
            half++;
    }
    ck_assert_int_eq(aligned, 5); /* 4 in the cascade, 1 of the shallow map */
    ck_assert_int_eq(half, 2);    /* of the two maps */
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(a_context_in_16_bits_writes_the_same_file)
{
    kdas_context_options o;
    kdas_context        *half;
    kdas_model          *a = make("polyp_pvt_b0"), *b;
    unsigned char       *x, *y;
    size_t               n, k;

    if (!kd_test_can_half()) {
        kdas_model_destroy(a);
        return;
    }
    kdas_context_options_init(&o, sizeof o);
    o.precision = KDAS_PRECISION_BF16;
    kd_assert_ok(kdas_context_create(&half, &o));
    kd_assert_ok(kdas_model_create(&b, half, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_model_export_onnx(a, kd_test_path("a"), NULL));
    kd_assert_ok(kdas_model_export_onnx(b, kd_test_path("b"), NULL));
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

/* ---- What it computes ------------------------------------------------------------------------- */

typedef struct shown {
    const char *network;
    bool        free;
    int32_t     layout, input;
} shown;

static const shown shows[] = { { "lite_fpn0", false, KDAS_ONNX_NCHW, KDAS_ONNX_NORMALISED },
                               { "lite_fpn0", true, KDAS_ONNX_NHWC, KDAS_ONNX_NORMALISED },
                               { "polyp_pvt_b0", false, KDAS_ONNX_NHWC, KDAS_ONNX_NORMALISED },
                               { "polyp_pvt_b0", true, KDAS_ONNX_NCHW, KDAS_ONNX_UNIT },
                               { "pefnet", false, KDAS_ONNX_NHWC, KDAS_ONNX_NORMALISED },
                               { "pefnet", true, KDAS_ONNX_NCHW, KDAS_ONNX_UNIT } };

enum { ROWS = 64, COLUMNS = 96, IMAGES = 2, PIXELS = ROWS * COLUMNS };

/* The image as it is fed: `normal`, or what the network makes that of. */
static void feed(float *to, const float *normal, const shown *s)
{
    static const float mean[3] = { 0.485f, 0.456f, 0.406f }, std[3] = { 0.229f, 0.224f, 0.225f };
    static float       x[3 * PIXELS * IMAGES];

    for (int i = 0; i < 3 * PIXELS * IMAGES; i++)
        x[i] = s->input == KDAS_ONNX_UNIT ? normal[i] * std[i % 3] + mean[i % 3] : normal[i];
    if (s->layout == KDAS_ONNX_NCHW)
        kd_test_to_nchw(to, x, IMAGES, 3, ROWS, COLUMNS);
    else
        memcpy(to, x, sizeof x);
}

START_TEST(the_file_computes_what_the_network_does)
{
    static float fed[3 * PIXELS * IMAGES], map[PIXELS * IMAGES], sum[PIXELS * IMAGES],
        got[PIXELS * IMAGES];
    const shown      *s    = &shows[_i];
    kdas_model       *m    = make(s->network);
    kdas_onnx_options o    = s->free ? all_free() : usual();
    const bool        nchw = s->layout == KDAS_ONNX_NCHW;
    const int64_t dims[4]  = { IMAGES, nchw ? 3 : ROWS, nchw ? ROWS : COLUMNS, nchw ? COLUMNS : 3 };
    kdas_batch   *x;
    kd_test_onnx *f;
    kd_test_onnx_run run;

    if (!s->free) {
        o.batch  = IMAGES;
        o.height = ROWS;
        o.width  = COLUMNS;
    }
    o.layout = s->layout;
    o.input  = s->input;
    fill_gently(m);
    f = exported(m, &o);
    kd_assert_ok(kdas_batch_create(&x, ctx, IMAGES, ROWS, COLUMNS));
    kd_test_fill(kdas_batch_images(x), 3 * PIXELS * IMAGES, "image", 2, 0);
    feed(fed, kdas_batch_images(x), s);
    run = kd_test_onnx_forward(f, fed, dims);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, x));
    memset(sum, 0, sizeof sum);
    for (int k = kdas_model_answer(m); k < kdas_model_maps(m); k++) {
        kd_assert_ok(kdas_model_read_output(m, kdas_model_output(m, k, NULL), map));
        for (int i = 0; i < PIXELS * IMAGES; i++)
            sum[i] += map[i];
    }
    for (int i = 0; i < PIXELS * IMAGES; i++)
        got[i] = (float)kd_test_onnx_value_of(&run, "logits")->v[i];
    kd_assert_close(got, sum, PIXELS * IMAGES, 1e-4);
    kd_test_onnx_run_free(&run);
    kd_test_onnx_free(f);
    kdas_batch_destroy(x);
    kdas_model_destroy(m);
}
END_TEST

/* ---- Options ---------------------------------------------------------------------------------- */

START_TEST(ends_have_the_sizes_asked_for)
{
    kdas_model       *m = make("polyp_pvt_b0"), *features = make("pvt_v2_b0");
    kdas_onnx_options o = usual();
    kd_test_onnx     *f;

    o.batch  = 2;
    o.height = 64;
    o.width  = 96;
    f        = exported(m, &o);
    kd_test_onnx_assert_end(&f->input[0], "2 3 64 96");
    kd_test_onnx_assert_end(&f->output[0], "2 1 64 96");
    ck_assert_str_eq(kd_test_onnx_metadata(f, "height"), "64");
    ck_assert_str_eq(kd_test_onnx_metadata(f, "width"), "96");
    ck_assert_str_eq(kd_test_onnx_metadata(f, "batch"), "2");
    kd_test_onnx_free(f);
    o        = all_free();
    o.layout = KDAS_ONNX_NHWC;
    f        = exported(features, &o);
    kd_test_onnx_assert_end(&f->input[0], "batch height width 3");
    kd_test_onnx_assert_end(&f->output[0], "batch height/4 width/4 32");
    kd_test_onnx_assert_end(&f->output[3], "batch height/32 width/32 256");
    ck_assert_str_eq(kd_test_onnx_metadata(f, "height"), "free");
    kd_test_onnx_free(f);
    o        = usual();
    o.height = KDAS_ONNX_FREE;
    f        = exported(features, &o);
    kd_test_onnx_assert_end(&f->input[0], "1 3 height 352");
    kd_test_onnx_assert_end(&f->output[1], "1 64 height/8 44");
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
    kdas_model_destroy(features);
}
END_TEST

START_TEST(what_weights_know_is_in_the_file)
{
    kdas_model       *m = make("lite_fpn0");
    kdas_onnx_options o = usual();
    kd_test_onnx     *f;

    kd_assert_ok(kdas_model_set_fact(m, "height", "96"));
    kd_assert_ok(kdas_model_set_fact(m, "width", "128"));
    kd_assert_ok(kdas_model_set_fact(m, "threshold", "0.4"));
    f = exported(m, &o);
    kd_test_onnx_assert_end(&f->input[0], "1 3 96 128");
    ck_assert_str_eq(kd_test_onnx_metadata(f, "height"), "96");
    ck_assert_str_eq(kd_test_onnx_metadata(f, "threshold"), "0.4");
    kd_test_onnx_free(f);
    o.width = 64;
    f       = exported(m, &o);
    kd_test_onnx_assert_end(&f->output[0], "1 1 96 64");
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(a_file_of_fixed_size_reads_no_shapes)
{
    kdas_model       *m = make("polyp_pvt_b0");
    kdas_onnx_options o = usual();
    kd_test_onnx     *f;

    for (int free_batch = 0; free_batch < 2; free_batch++) {
        o.batch = free_batch ? KDAS_ONNX_FREE : 1;
        f       = exported(m, &o);
        for (int i = 0; i < f->nodes; i++)
            ck_assert_str_ne(f->node[i].type, "Shape");
        kd_test_onnx_free(f);
    }
    kdas_model_destroy(m);
}
END_TEST

START_TEST(outputs_are_sum_or_maps_as_logits_or_probabilities)
{
    kdas_model       *m = make("polyp_pvt_b0");
    kdas_onnx_options o = usual();
    kd_test_onnx     *f = exported(m, &o);

    ck_assert_str_eq(kd_test_onnx_metadata(f, "output"), "logits");
    kd_test_onnx_free(f);
    o.sigmoid = 1;
    f         = exported(m, &o);
    ck_assert_int_eq(f->outputs, 1);
    ck_assert_str_eq(f->output[0].name, "probability");
    ck_assert_str_eq(kd_test_onnx_maker(f, "probability")->type, "Sigmoid");
    ck_assert_str_eq(kd_test_onnx_maker(f, kd_test_onnx_maker(f, "probability")->in[0])->type,
                     "Add");
    ck_assert_str_eq(kd_test_onnx_metadata(f, "output"), "probability");
    kd_test_onnx_free(f);
    o.maps = KDAS_ONNX_EACH;
    f      = exported(m, &o);
    ck_assert_int_eq(f->outputs, 2);
    ck_assert_str_eq(f->output[0].name, "P1");
    ck_assert_str_eq(f->output[1].name, "P2");
    ck_assert_str_eq(kd_test_onnx_maker(f, "P2")->type, "Sigmoid");
    kd_test_onnx_free(f);
    kdas_model_destroy(m);
}
END_TEST

/* Value c of a constant that a node reads as input k. */
static float constant_of(const kd_test_onnx *f, const kd_test_onnx_node *n, int k, int c)
{
    const kd_test_onnx_tensor *t = kd_test_onnx_tensor_of(f, n->in[k]);
    float                      v;

    ck_assert_ptr_nonnull(t);
    ck_assert_int_eq(t->count, 3);
    memcpy(&v, t->values + 4 * c, 4);
    return v;
}

START_TEST(normalisation_inside_is_that_of_batches)
{
    static const float range[] = { 1, 1, 255 };
    kdas_model        *m       = make("lite_fpn0");
    kdas_onnx_options  o       = usual();
    uint8_t            pixels[32 * 32 * 3];
    kdas_view          view = { pixels, 32, 32, 0, KDAS_PIXEL_RGB8 };
    kdas_batch        *batch;
    kd_test_onnx      *f;

    for (int i = 0; i < 32 * 32 * 3; i++)
        pixels[i] = (uint8_t)(50 + i % 3 * 70);
    kd_assert_ok(kdas_batch_create(&batch, ctx, 1, 32, 32));
    kd_assert_ok(kdas_batch_set(batch, 0, &view, NULL));
    o.input = _i;
    f       = exported(m, &o);
    ck_assert_str_eq(kd_test_onnx_metadata(f, "mean"), KDAS_INPUT_MEAN);
    ck_assert_str_eq(kd_test_onnx_metadata(f, "deviation"), KDAS_INPUT_DEVIATION);
    ck_assert_str_eq(kd_test_onnx_metadata(f, "colour"), KDAS_INPUT_COLOUR);
    if (_i == KDAS_ONNX_NORMALISED) ck_assert_ptr_null(kd_test_onnx_tensor_of(f, "image/Sub.1"));
    for (int c = 0; c < 3 && _i != KDAS_ONNX_NORMALISED; c++) {
        const kd_test_onnx_node *less = kd_test_onnx_first(f, "Sub"),
                                *over = kd_test_onnx_first(f, "Div");
        float v                       = (float)pixels[c] / 255 * range[_i];

        ck_assert_str_eq(less->in[0], "image");
        ck_assert_str_eq(over->in[0], less->out);
        v = (v - constant_of(f, less, 1, c)) / constant_of(f, over, 1, c);
        ck_assert(fabsf(v - kdas_batch_images(batch)[c]) < 1e-5f);
    }
    kd_test_onnx_free(f);
    kdas_batch_destroy(batch);
    kdas_model_destroy(m);
}
END_TEST

int main(void)
{
    Suite *suite     = suite_create("onnx");
    TCase *structure = tcase_create("structure"), *options = tcase_create("options"),
          *values = tcase_create("values");
    SRunner *runner;
    int      failed, networks = 0;

    kd_test_quick_values(true);
    while (kdas_model_name(networks))
        networks++;
    tcase_add_checked_fixture(structure, open_context, close_context);
    tcase_add_loop_test(structure, every_network_gives_a_sound_file, 0, 2 * networks);
    tcase_add_loop_test(structure, every_tensor_is_in_the_file_bit_for_bit, 0, 2);
    tcase_add_test(structure, attributes_are_those_of_the_ops);
    tcase_add_test(structure, resize_keeps_aligned_corners);
    tcase_add_test(structure, a_context_in_16_bits_writes_the_same_file);
    suite_add_tcase(suite, structure);
    tcase_add_checked_fixture(values, open_context, close_context);
    tcase_add_loop_test(values, the_file_computes_what_the_network_does, 0, KD_COUNT(shows));
    suite_add_tcase(suite, values);
    tcase_add_checked_fixture(options, open_context, close_context);
    tcase_add_test(options, ends_have_the_sizes_asked_for);
    tcase_add_test(options, what_weights_know_is_in_the_file);
    tcase_add_test(options, a_file_of_fixed_size_reads_no_shapes);
    tcase_add_test(options, outputs_are_sum_or_maps_as_logits_or_probabilities);
    tcase_add_loop_test(options, normalisation_inside_is_that_of_batches, 0, 3);
    suite_add_tcase(suite, options);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_model.c - models by name: what they cost, their tensors, files, modes and taps. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "base/context.h"
#include "support/check_util.h"
#include "support/files.h"
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

static kdas_model *make(const char *name)
{
    kdas_model *m;

    kd_assert_ok(kdas_model_create(&m, ctx, name, NULL));
    return m;
}

static kdas_batch *draw(int64_t n, int64_t h, int64_t w)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, n, h, w));
    kd_test_fill(kdas_batch_images(b), n * h * w * 3, "image", 1, 0);
    return b;
}

/* ---- What there is and what it costs ---- */

/* Parameters, G multiply-accumulates, thop's G and fvcore's G at 352 or at `side`; 0: not
 * published. */
static const struct {
    const char *name;
    int64_t     parameters;
    double      macs, thop, fvcore;
    int64_t     side; /* 0: 352 */
} known[] = {
    { "pvt_v2_b0", 3409760, 1.5355, 0 },
    { "pvt_v2_b1", 13496000, 5.4816, 0 },
    { "pvt_v2_b2", 24849856, 10.4597, 0 },
    { "pvt_v2_b3", 44725696, 17.8159, 0 },
    { "pvt_v2_b4", 62043072, 26.0708, 0 },
    { "pvt_v2_b5", 81443008, 30.2803, 0 },
    { "polyp_pvt_b0", 3650740, 1.9041, 1.6898, 1.923 },
    { "polyp_pvt_b2", 25107604, 10.8437, 10.0184 },
    { "pranet", 32547319, 13.0022, 13.1496 },
    { "msnet", 29741329, 16.8440, 17.0049 },
    { "hardnet_mseg", 33343244, 11.3484, 11.4005 },
    /* from the channels, filters and repeats of the published tables, and the pyramid's */
    { "lite_fpn0", 3138881, 1.3009, 0 },
    { "lite_fpn1", 3903553, 1.5905, 0 },
    { "lite_fpn2", 4541057, 1.7699, 0 },
    { "lite_fpn3", 6608705, 2.4502, 0 },
    { "lite_fpn4", 11342401, 3.6662, 0 },
    /* counted in the publishers' own code */
    { "unet", 7852545, 26.3747, 26.6592 },
    { "unetpp", 9163329, 65.1993, 65.9893 },
    { "unetpp_ds", 9163428, 65.2112, 66.0012 },
    { "unet_milesial", 31037633, 91.0665, 103.4886 },
    { "unet_milesial_bilinear", 17262977, 75.5874, 75.9769 },
    { "colonsegnet", 5014049, 74.4653, 117.5249 },
    { "transnetr", 27269441, 10.5112, 10.0868, 10.580, 256 },
    /* counted by golden/make_networks.py */
    { "resunetpp", 4062993, 29.6240, 0 },
    { "ddanet", 6835638, 32.9860, 0 },
    /* from the published Keras code */
    { "pefnet", 10404297, 4.3881, 0 },
    { "pefnet", 10404297, 2.3215, 0, 0, 256 },
};

START_TEST(costs_equal_the_published_ones)
{
    const char *name = known[_i].name;
    int64_t     side = known[_i].side ? known[_i].side : 352, parameters;
    double      macs, thop, fvcore;

    kd_assert_ok(kdas_model_cost(ctx, name, side, side, KDAS_COUNT_MACS, &parameters, &macs));
    kd_assert_ok(kdas_model_cost(ctx, name, side, side, KDAS_COUNT_THOP, NULL, &thop));
    ck_assert_int_eq(parameters, known[_i].parameters);
    ck_assert_double_eq_tol(macs / 1e9, known[_i].macs, 0.6e-4);
    if (known[_i].thop > 0) ck_assert_double_eq_tol(thop / 1e9, known[_i].thop, 0.6e-4);
    kd_assert_ok(kdas_model_cost(ctx, name, side, side, KDAS_COUNT_FVCORE, NULL, &fvcore));
    if (known[_i].fvcore > 0) ck_assert_double_eq_tol(fvcore / 1e9, known[_i].fvcore, 0.6e-3);
    ck_assert(fvcore > macs);
}
END_TEST

/* What the paper prints of its student, 3.7 M and 2.01 G, is thop's at 384. */
START_TEST(the_papers_cost_is_that_at_384)
{
    double thop, fvcore;

    kd_assert_ok(kdas_model_cost(ctx, "polyp_pvt_b0", 384, 384, KDAS_COUNT_THOP, NULL, &thop));
    kd_assert_ok(kdas_model_cost(ctx, "polyp_pvt_b0", 384, 384, KDAS_COUNT_FVCORE, NULL, &fvcore));
    ck_assert_double_eq_tol(thop / 1e9, 2.0110, 0.6e-4);
    ck_assert_double_eq_tol(fvcore / 1e9, 2.342, 0.6e-3);
    kd_assert_status(
        kdas_model_cost(ctx, "polyp_pvt_b0", 384, 384, (kdas_count_rule)3, NULL, &thop),
        KDAS_EINVAL);
}
END_TEST

enum {
    LISTED = 0
#define MODEL(name, function, variant, rules) +1
#include "model/models.def"
#undef MODEL
};

START_TEST(every_listed_model_can_be_costed_at_any_size)
{
    const char *name;
    int         count = 0;

    for (; (name = kdas_model_name(count)); count++) {
        kdas_network n = { .size = sizeof n };
        double       small, large;

        kd_assert_ok(kdas_network_describe(name, &n));
        if (n.fixed) continue; /* check_rules.c */
        kd_assert_ok(kdas_model_cost(ctx, name, 32, 96, KDAS_COUNT_MACS, NULL, &small));
        kd_assert_ok(kdas_model_cost(ctx, name, 96, 96, KDAS_COUNT_MACS, NULL, &large));
        ck_assert(small > 0 && large > small);
    }
    ck_assert_int_eq(count, LISTED);
    ck_assert_ptr_null(kdas_model_name(-1));
}
END_TEST

START_TEST(layers_add_up_to_the_whole)
{
    kdas_model  *m = make("polyp_pvt_b0");
    kdas_layers *layers;
    kdas_layer   l    = { .size = sizeof l };
    double       macs = 0, thop = 0, fvcore = 0;

    kd_assert_ok(kdas_layers_create(&layers, m, 352, 352));
    kdas_model_destroy(m); /* the list does not need it */
    ck_assert_int_gt(kdas_layers_count(layers), 150);
    for (int i = 0; i < kdas_layers_count(layers); i++) {
        kd_assert_ok(kdas_layers_at(layers, i, &l));
        macs += l.macs;
        thop += l.thop;
        fvcore += l.fvcore;
        if (i > 0) continue;
        ck_assert_str_eq(l.name, "backbone.patch_embed1.proj.conv2d");
        ck_assert_str_eq(l.op, "conv2d");
        ck_assert(l.dims[0] == 1 && l.dims[1] == 88 && l.dims[2] == 88 && l.dims[3] == 32);
        ck_assert_int_eq(l.parameters, 32 * 3 * 7 * 7 + 32);
    }
    ck_assert_double_eq_tol(macs / 1e9, 1.9041, 0.6e-4);
    ck_assert_double_eq_tol(thop / 1e9, 1.6898, 0.6e-4);
    ck_assert_double_eq_tol(fvcore / 1e9, 1.923, 0.6e-3);
    kdas_layers_destroy(layers);
}
END_TEST

START_TEST(layers_are_listed_from_one_graph)
{
    kd_test_meter meter   = { 0 };
    kdas_context *counted = kd_test_device("reference", &meter);
    kdas_model   *m;
    kdas_layers  *layers, *none = (kdas_layers *)&meter;
    kdas_layer    l    = { .size = sizeof l };
    const char   *last = NULL;
    long          before, costs;
    int64_t       parameters;

    kd_assert_ok(kdas_model_create(&m, counted, "pvt_v2_b0", NULL));
    before = meter.taken;
    kd_assert_ok(kdas_model_cost(counted, "pvt_v2_b0", 64, 64, KDAS_COUNT_MACS, &parameters, NULL));
    costs  = meter.taken - before; /* of one graph, and the parameters that it declares */
    before = meter.taken;
    kd_assert_ok(kdas_layers_create(&layers, m, 64, 64));
    ck_assert_int_le(meter.taken - before, costs + 3);
    before = meter.taken;
    for (int i = 0; i < kdas_layers_count(layers); i++) {
        kd_assert_ok(kdas_layers_at(layers, i, &l));
        ck_assert(l.name != last && l.size == sizeof l);
        last = l.name;
    }
    ck_assert_int_eq(meter.taken, before);
    kd_assert_status(kdas_layers_at(layers, kdas_layers_count(layers), &l), KDAS_ENOTFOUND);
    kd_assert_status(kdas_layers_at(layers, -1, &l), KDAS_ENOTFOUND);
    l.size = 0;
    kd_assert_status(kdas_layers_at(layers, 0, &l), KDAS_EINVAL);
    l = (kdas_layer){ .size = offsetof(kdas_layer, op), .op = "mine" }; /* an older program's */
    kd_assert_ok(kdas_layers_at(layers, 0, &l));
    ck_assert_uint_eq(l.size, offsetof(kdas_layer, op));
    ck_assert_str_eq(l.op, "mine");
    kd_assert_status(kdas_layers_create(&none, m, 64, 65), KDAS_ESHAPE);
    ck_assert_ptr_null(none);
    for (long k = 1; k <= costs; k += 1 + costs / 50) {
        meter.fail_at = meter.taken + k;
        if (kdas_layers_create(&none, m, 64, 64) == KDAS_OK) break;
        ck_assert_ptr_null(none);
    }
    meter.fail_at = 0;
    kdas_layers_destroy(none);
    kdas_layers_destroy(layers);
    kdas_model_destroy(m);
    kdas_context_destroy(counted);
    kd_test_assert_given_back(&meter);
}
END_TEST

/* ---- Tensors ---- */

START_TEST(initial_values_follow_the_published_rule)
{
    kdas_model *m = make("polyp_pvt_b0");
    static const struct {
        const char *name;
        double      mean, deviation;
    } rows[] = {
        { "backbone.block4.0.mlp.fc1.weight", 0, 0.02 },
        { "backbone.patch_embed4.proj.weight", 0, 0.029463 },          /* sqrt(2 / (9 * 256)) */
        { "backbone.block4.0.mlp.dwconv.dwconv.weight", 0, 0.471405 }, /* sqrt(2 / 9)         */
        { "CFM.conv4.conv.weight", 0, 0.019642 },                      /* 1 / sqrt(3 * 864)   */
        { "CFM.conv4.bn.weight", 1, 0 },
        { "backbone.norm1.weight", 1, 0 },
        { "CFM.conv4.bn.running_var", 1, 0 },
        { "backbone.block1.0.attn.q.bias", 0, 0 },
    };

    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        int32_t i = kdas_model_find(m, rows[r].name);
        int64_t dims[4], n;
        float  *v;
        double  sum = 0, squares = 0;

        ck_assert_int_ge(i, 0);
        kdas_model_tensor(m, i, NULL, dims, NULL);
        n = dims[0] * dims[1] * dims[2] * dims[3];
        v = malloc((size_t)n * sizeof *v);
        kd_assert_ok(kdas_model_read(m, i, v));
        for (int64_t k = 0; k < n; k++) {
            sum += (double)v[k];
            squares += ((double)v[k] - rows[r].mean) * ((double)v[k] - rows[r].mean);
        }
        ck_assert_double_eq_tol(sum / (double)n, rows[r].mean,
                                4 * rows[r].deviation / sqrt((double)n) + 1e-12);
        ck_assert_double_eq_tol(sqrt(squares / (double)n), rows[r].deviation,
                                0.03 * rows[r].deviation + 1e-12);
        free(v);
    }
    kdas_model_destroy(m);
}
END_TEST

START_TEST(seed_decides_the_initial_values)
{
    kdas_model_options o;
    kdas_model        *a = make("pvt_v2_b0"), *b = make("pvt_v2_b0"), *c;
    float              va[4704], vb[4704], vc[4704];

    kdas_model_options_init(&o, sizeof o);
    o.seed = 2;
    kd_assert_ok(kdas_model_create(&c, ctx, "pvt_v2_b0", &o));
    kd_assert_ok(kdas_model_read(a, 0, va));
    kd_assert_ok(kdas_model_read(b, 0, vb));
    kd_assert_ok(kdas_model_read(c, 0, vc));
    ck_assert(kd_test_same_bits(va, vb, sizeof va));
    ck_assert(!kd_test_same_bits(va, vc, sizeof va));
    kd_assert_ok(kdas_model_copy(c, a));
    kd_test_assert_same_weights(a, c);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
    kdas_model_destroy(c);
}
END_TEST

/* ---- Files ---- */

START_TEST(saved_model_loads_back_with_the_same_bits)
{
    kdas_model_options o;
    kdas_model        *a       = make("polyp_pvt_b0"), *b;
    kdas_batch        *x       = draw(2, 32, 32);
    int32_t            counter = kdas_model_find(a, "CFM.conv4.bn.num_batches_tracked");
    float              seen    = 0;

    kd_assert_ok(
        kdas_model_forward(a, KDAS_MODE_TRAIN, x)); /* moves running statistics and counters */
    kd_assert_ok(kdas_model_save(a, kd_test_path("a.safetensors")));
    kdas_model_options_init(&o, sizeof o);
    o.seed = 9;
    kd_assert_ok(kdas_model_create(&b, ctx, "polyp_pvt_b0", &o));
    kd_assert_ok(kdas_model_load(b, kd_test_path("a.safetensors"), NULL));
    kd_test_assert_same_weights(a, b);
    kd_assert_ok(kdas_model_read(b, counter, &seen));
    ck_assert(seen == 1);
    for (int i = 0; i < 4; i++) {
        const float no_counts[] = { -1, 1e30f, INFINITY, NAN };

        kd_assert_status(kdas_model_write(b, counter, &no_counts[i]), KDAS_EINVAL);
        kd_assert_ok(kdas_model_read(b, counter, &seen));
        ck_assert(seen == 1);
    }
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1); /* no temporary file is left */
    kdas_batch_destroy(x);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
}
END_TEST

START_TEST(file_that_does_not_fit_changes_nothing)
{
    kdas_model *student = make("polyp_pvt_b0"), *keep = make("polyp_pvt_b0"),
               *backbone    = make("pvt_v2_b0");
    kdas_model       *other = make("polyp_pvt_b1");
    kdas_load_options o;

    kd_assert_ok(kdas_model_save(backbone, kd_test_path("backbone")));
    kd_assert_ok(kdas_model_save(other, kd_test_path("b1")));
    kd_assert_status(kdas_model_load(student, kd_test_path("none"), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("none");
    kd_assert_status(kdas_model_load(student, kd_test_path("b1"), NULL), KDAS_ESHAPE);
    kd_assert_sentence("b1");
    kd_assert_status(kdas_model_load(student, kd_test_path("backbone"), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("has no tensor 'block1.0");
    kdas_load_options_init(&o, sizeof o);
    o.prefix = "backbone.";
    kd_assert_status(kdas_model_load(student, kd_test_path("backbone"), &o), KDAS_ENOTFOUND);
    kd_assert_sentence("lacks the tensor");
    o.prefix  = NULL;
    o.partial = 1;
    kd_assert_status(kdas_model_load(student, kd_test_path("backbone"), &o), KDAS_ENOTFOUND);
    kd_test_assert_same_weights(student, keep);
    kdas_model_destroy(student);
    kdas_model_destroy(keep);
    kdas_model_destroy(backbone);
    kdas_model_destroy(other);
}
END_TEST

START_TEST(backbone_file_loads_into_the_network_by_prefix)
{
    kdas_model_options mo;
    kdas_model        *backbone, *student = make("polyp_pvt_b0");
    kdas_load_options  o;
    float              a[4704], b[4704];

    kdas_model_options_init(&mo, sizeof mo);
    mo.seed = 5;
    kd_assert_ok(kdas_model_create(&backbone, ctx, "pvt_v2_b0", &mo));
    kd_assert_ok(kdas_model_save(backbone, kd_test_path("backbone")));
    kdas_load_options_init(&o, sizeof o);
    o.prefix  = "backbone.";
    o.partial = 1;
    kd_assert_ok(kdas_model_load(student, kd_test_path("backbone"), &o));
    kd_assert_ok(
        kdas_model_read(backbone, kdas_model_find(backbone, "patch_embed1.proj.weight"), a));
    kd_assert_ok(
        kdas_model_read(student, kdas_model_find(student, "backbone.patch_embed1.proj.weight"), b));
    ck_assert(kd_test_same_bits(a, b, sizeof a));
    kdas_model_destroy(backbone);
    kdas_model_destroy(student);
}
END_TEST

/* ---- Running ---- */

START_TEST(outputs_have_the_batchs_size_whatever_it_is)
{
    static const int64_t sizes[][3] = {
        { 1, 32, 32 }, { 3, 32, 96 }, { 1, 160, 64 }, { 2, 64, 64 }
    };
    kdas_model *m = make("polyp_pvt_b0");

    for (size_t s = 0; s < 4; s++) {
        kdas_batch *x = draw(sizes[s][0], sizes[s][1], sizes[s][2]);
        int64_t     dims[4];

        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, x));
        ck_assert_str_eq(kdas_model_output(m, 0, dims), "P1");
        ck_assert_str_eq(kdas_model_output(m, 1, NULL), "P2");
        ck_assert_ptr_null(kdas_model_output(m, 2, NULL));
        ck_assert(dims[0] == sizes[s][0] && dims[1] == sizes[s][1] && dims[2] == sizes[s][2] &&
                  dims[3] == 1);
        kdas_batch_destroy(x);
    }
    kdas_model_destroy(m);
}
END_TEST

START_TEST(images_of_a_batch_do_not_mix_in_inference)
{
    kdas_model *m   = make("polyp_pvt_b0");
    kdas_batch *two = draw(2, 64, 32), *one = draw(1, 64, 32);
    float       both[2 * 64 * 32], alone[64 * 32];

    memcpy(kdas_batch_images(one), kdas_batch_images(two) + 64 * 32 * 3,
           64 * 32 * 3 * sizeof(float));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, two));
    kd_assert_ok(kdas_model_read_output(m, "P2", both));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, one));
    kd_assert_ok(kdas_model_read_output(m, "P2", alone));
    kd_assert_close(alone, both + 64 * 32, 64 * 32, 2e-5);
    kdas_batch_destroy(two);
    kdas_batch_destroy(one);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(infer_and_eval_agree_and_train_differs)
{
    kdas_model *m = make("polyp_pvt_b0");
    kdas_batch *x = draw(2, 32, 32);
    float       infer[2048], eval[2048], train[2048];

    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, x)); /* statistics that are not 0 and 1 */
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, x));
    kd_assert_ok(kdas_model_read_output(m, "P1", infer));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, x));
    kd_assert_ok(kdas_model_read_output(m, "P1", eval));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, x));
    kd_assert_ok(kdas_model_read_output(m, "P1", train));
    kd_assert_close(infer, eval, 2048, 1e-4);
    ck_assert(kd_test_rms_error(train, eval, 2048) > 1e-2);
    kdas_batch_destroy(x);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(taps_are_read_and_take_gradients)
{
    kdas_model  *m       = make("polyp_pvt_b0");
    kdas_batch  *x       = draw(1, 32, 64);
    const float *none[2] = { NULL, NULL };
    float        value[8 * 16 * 32], push[8 * 16 * 32], grad[4704];
    int64_t      dims[4];
    int          count = 0;
    double       sum   = 0;

    while (kdas_model_tap(m, count))
        count++;
    ck_assert_int_ge(count, 4);
    kd_assert_status(kdas_model_keep_tap(m, "nowhere"), KDAS_ENOTFOUND);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, x));
    kd_assert_status(kdas_model_read_output(m, "backbone.x1", value), KDAS_ESTATE);
    kd_assert_ok(kdas_model_keep_tap(m, "backbone.x1"));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, x));
    kd_assert_ok(kdas_model_tap_dims(m, "backbone.x1", dims));
    ck_assert(dims[0] == 1 && dims[1] == 8 && dims[2] == 16 && dims[3] == 32);
    kd_assert_ok(kdas_model_read_output(m, "backbone.x1", value));
    for (int i = 0; i < 8 * 16 * 32; i++)
        push[i] = value[i];
    kd_assert_ok(kdas_model_add_gradient(m, "backbone.x1", push));
    kd_assert_ok(kdas_model_backward(m, none));
    kd_assert_ok(
        kdas_model_read_gradient(m, kdas_model_find(m, "backbone.patch_embed1.proj.weight"), grad));
    for (int i = 0; i < 4704; i++)
        sum += fabs((double)grad[i]);
    ck_assert(sum > 0);
    kdas_batch_destroy(x);
    kdas_model_destroy(m);
}
END_TEST

/* What the host hands in is copied there, and must not stand where the images are. */
START_TEST(a_gradient_at_a_tap_is_the_same_on_a_device_with_memory_of_its_own)
{
    static float grad[2][4704], push[8 * 16 * 32];
    const float *none[2] = { NULL, NULL };

    kd_test_fill(push, KD_COUNT(push), "push", 1, 0);
    for (int own = 0; own < 2; own++) {
        kdas_model *m = make("polyp_pvt_b0");
        kdas_batch *x = draw(1, 32, 64);

        ctx->host_memory = !own;
        kd_assert_ok(kdas_model_keep_tap(m, "backbone.x1"));
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, x));
        kd_assert_ok(kdas_model_add_gradient(m, "backbone.x1", push));
        kd_assert_ok(kdas_model_backward(m, none));
        kd_assert_ok(kdas_model_read_gradient(
            m, kdas_model_find(m, "backbone.patch_embed1.proj.weight"), grad[own]));
        kdas_batch_destroy(x);
        kdas_model_destroy(m);
        ctx->host_memory = true;
    }
    ck_assert_float_ne(grad[0][0], 0);
    ck_assert(kd_test_same_bits(grad[0], grad[1], sizeof grad[0]));
}
END_TEST

START_TEST(misuse_is_refused_with_a_sentence)
{
    kdas_model_options o;
    kdas_model        *m = (kdas_model *)&o, *frozen;
    kdas_batch        *x;
    const float       *none[2] = { NULL, NULL };
    float              v[4];

    kd_assert_status(kdas_model_create(&m, ctx, "polyp_pvt_b9", NULL), KDAS_ENOTFOUND);
    ck_assert_ptr_null(m);
    kd_assert_sentence("polyp_pvt_b9");
    kd_assert_status(kdas_model_create(&m, ctx, "Polyp-pvt-bo", NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("the nearest name is 'polyp_pvt_b0'");
    kdas_model_options_init(&o, sizeof o);
    o.drop_path = 1;
    kd_assert_status(kdas_model_create(&m, ctx, "polyp_pvt_b0", &o), KDAS_EINVAL);
    kd_assert_sentence("drop_path");
    m = make("polyp_pvt_b0");
    kd_assert_status(kdas_model_backward(m, none), KDAS_ESTATE);
    kd_assert_ok(kdas_batch_create(&x, ctx, 1, 64, 64));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, x));
    kd_assert_status(kdas_model_backward(m, none), KDAS_ESTATE);
    kd_assert_status(kdas_model_forward(m, (kdas_mode)7, x), KDAS_EINVAL);
    kd_assert_status(kdas_model_read(m, 100000, v), KDAS_EINVAL);
    kd_assert_status(kdas_model_memory(m, KDAS_MODE_TRAIN, 1, 100, 352, NULL, NULL), KDAS_ESHAPE);
    kd_assert_sentence("100x352");
    o.drop_path = 0;
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&frozen, ctx, "polyp_pvt_b0", &o));
    kd_assert_status(kdas_model_forward(frozen, KDAS_MODE_TRAIN, x), KDAS_ESTATE);
    kd_assert_status(kdas_model_zero_gradients(frozen), KDAS_ESTATE);
    kdas_batch_destroy(x);
    kdas_model_destroy(frozen);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(failing_allocations_leak_nothing)
{
    bool done = false;

    for (long k = 1; k < 20000 && !done; k += 1 + k / 16) { /* create, save, load, compile, run */
        kd_test_meter m     = { 0 };
        kdas_context *c     = kd_test_device("cpu", &m);
        kdas_model   *model = NULL;
        kdas_batch   *x     = NULL;
        kdas_status   st;

        m.fail_at = m.taken + k;
        st        = kdas_model_create(&model, c, "polyp_pvt_b0", NULL);
        if (st == KDAS_OK) st = kdas_batch_create(&x, c, 1, 32, 32);
        if (st == KDAS_OK) st = kdas_model_save(model, kd_test_path("m"));
        if (st == KDAS_OK) st = kdas_model_load(model, kd_test_path("m"), NULL);
        if (st == KDAS_OK) st = kdas_model_forward(model, KDAS_MODE_TRAIN, x);
        done = st == KDAS_OK;
        ck_assert_msg(done || st == KDAS_ENOMEM, "allocation %ld: %d %s", k, st, kdas_last_error());
        kdas_batch_destroy(x);
        kdas_model_destroy(model);
        kdas_context_destroy(c);
        kd_test_assert_given_back(&m);
    }
    ck_assert(done);
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("model");
    TCase   *tensors = tcase_create("tensors"), *run = tcase_create("run");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(tensors, open_context, close_context);
    tcase_add_loop_test(tensors, costs_equal_the_published_ones, 0,
                        (int)(sizeof known / sizeof known[0]));
    tcase_add_test(tensors, every_listed_model_can_be_costed_at_any_size);
    tcase_add_test(tensors, the_papers_cost_is_that_at_384);
    tcase_add_test(tensors, layers_add_up_to_the_whole);
    tcase_add_test(tensors, layers_are_listed_from_one_graph);
    tcase_add_test(tensors, initial_values_follow_the_published_rule);
    tcase_add_test(tensors, seed_decides_the_initial_values);
    tcase_add_test(tensors, saved_model_loads_back_with_the_same_bits);
    tcase_add_test(tensors, file_that_does_not_fit_changes_nothing);
    tcase_add_test(tensors, backbone_file_loads_into_the_network_by_prefix);
    suite_add_tcase(suite, tensors);
    tcase_add_checked_fixture(run, open_context, close_context);
    tcase_add_test(run, outputs_have_the_batchs_size_whatever_it_is);
    tcase_add_test(run, images_of_a_batch_do_not_mix_in_inference);
    tcase_add_test(run, infer_and_eval_agree_and_train_differs);
    tcase_add_test(run, taps_are_read_and_take_gradients);
    tcase_add_test(run, a_gradient_at_a_tap_is_the_same_on_a_device_with_memory_of_its_own);
    tcase_add_test(run, misuse_is_refused_with_a_sentence);
    tcase_add_test(run, failing_allocations_leak_nothing);
    suite_add_tcase(suite, run);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

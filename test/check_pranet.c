/* check_pranet.c - PraNet and its relatives MSNet and HarDNet-MSEG: taps, initial values, gradients, and a
 * step of each as student and as teacher. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "io/safetensors.h"
#include "model/model.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"
#include "support/slope.h"
#include "support/thin.h"
#include "support/zoo_golden.h"

enum { SIDE = 64, IMAGES = 2, PIXELS = SIDE * SIDE, NETWORKS = 3, SLOPES = 12 };

static kdas_context *ctx;

static void open_context(void) { ctx = kd_test_device("cpu", NULL); }
static void close_context(void) { kdas_context_destroy(ctx); }

/* `tap`, `channels`: at the strides 4, 8, 16, 32. `slope`: tensors of every part. */
static const struct {
    const char *name;
    int         outputs;
    const char *tap[4];
    int64_t     channels[4];
    const char *slope[SLOPES];
} networks[NETWORKS] = {
    { "pranet",
      4,
      { "resnet.layer1", "resnet.layer2", "resnet.layer3", "resnet.layer4" },
      { 256, 512, 1024, 2048 },
      { "resnet.conv1.3.weight", "resnet.layer1.0.convs.1.weight", "resnet.layer2.0.convs.2.weight",
        "resnet.layer2.0.downsample.1.weight", "resnet.layer3.1.convs.0.weight",
        "resnet.layer4.0.bns.1.bias", "rfb2_1.branch2.1.conv.weight",
        "rfb3_1.branch3.3.conv.weight", "agg1.conv_upsample5.conv.weight", "ra4_conv2.conv.weight",
        "ra3_conv4.bn.weight", "ra2_conv1.conv.weight" } },
    { "msnet",
      1,
      { "resnet.layer1", "resnet.layer2", "resnet.layer3", "resnet.layer4" },
      { 256, 512, 1024, 2048 },
      { "resnet.conv1.0.weight", "resnet.layer1.2.convs.2.weight", "resnet.layer3.0.bn3.weight",
        "x5_dem_1.0.weight", "x2_dem_1.0.weight", "x5_x4.1.bias", "x2_x1.0.weight",
        "x5_x4_x3_x2.0.weight", "x5_dem_4.0.weight", "level3.1.weight", "output4.0.weight",
        "output1.0.weight" } },
    { "hardnet_mseg",
      1,
      { "hardnet.x1", "hardnet.x2", "hardnet.x3", "hardnet.x4" },
      { 128, 320, 640, 1024 },
      { "hardnet.base.0.conv.weight", "hardnet.base.3.layers.3.conv.weight",
        "hardnet.base.6.layers.7.conv.weight", "hardnet.base.8.layers.15.norm.bias",
        "hardnet.base.11.layers.0.conv.weight", "hardnet.base.14.layers.3.conv.weight",
        "hardnet.base.15.norm.weight", "rfb2_1.conv_res.conv.weight",
        "rfb4_1.branch1.2.conv.weight", "agg1.conv_concat2.conv.weight", "agg1.conv4.conv.weight",
        "agg1.conv5.weight" } },
};

static kdas_model *make(const char *name, uint64_t seed)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.seed = seed;
    kd_assert_ok(kdas_model_create(&m, ctx, name, &o));
    return m;
}

static kdas_batch *draw(kdas_context *c)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, c, IMAGES, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), IMAGES * PIXELS * 3, "image", 2, 0);
    kd_test_ellipses(kdas_batch_masks(b), IMAGES, SIDE, SIDE, "mask");
    return b;
}

START_TEST(taps_and_outputs_have_their_sizes)
{
    kdas_model *m = make(networks[_i].name, 1);
    kdas_batch *b = draw(ctx);
    char        name[16];
    int64_t     dims[4];

    for (int i = 0; i < 4; i++)
        kd_assert_ok(kdas_model_keep_tap(m, networks[_i].tap[i]));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    for (int i = 0; i < 4; i++) {
        kd_assert_ok(kdas_model_tap_dims(m, networks[_i].tap[i], dims));
        ck_assert(dims[1] == SIDE >> (i + 2) && dims[3] == networks[_i].channels[i]);
    }
    ck_assert_int_eq(kdas_model_maps(m), networks[_i].outputs);
    for (int i = 0; i < networks[_i].outputs; i++) {
        snprintf(name, sizeof name, "P%d", i + 1);
        ck_assert_str_eq(kdas_model_output(m, i, dims), name);
        ck_assert(dims[0] == IMAGES && dims[1] == SIDE && dims[2] == SIDE && dims[3] == 1);
    }
    ck_assert_ptr_null(kdas_model_output(m, networks[_i].outputs, NULL));
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

/* Only PraNet supervises maps that are no part of its answer. */
START_TEST(pranet_answers_with_its_last_map)
{
    for (int i = 0; i < NETWORKS; i++) {
        kdas_model *m = make(networks[i].name, 1);

        ck_assert_int_eq(kdas_model_answer(m), networks[i].outputs - 1);
        kdas_model_destroy(m);
    }
}
END_TEST

/* The published rules: `bound` of a uniform draw, or deviation of a normal one. */
static const struct {
    const char *network, *tensor;
    bool        normal;
    int         fan;
} draws[] = {
    { "pranet", "resnet.conv1.6.weight", true, 9 * 64 },
    { "pranet", "resnet.layer2.0.convs.0.weight", true, 9 * 52 },
    { "pranet", "resnet.layer4.0.downsample.1.weight", true, 2048 },
    { "pranet", "resnet.fc.weight", false, 2048 },
    { "pranet", "resnet.fc.bias", false, 2048 },
    { "pranet", "rfb3_1.branch2.1.conv.weight", false, 5 * 32 },
    { "pranet", "ra4_conv3.conv.weight", false, 25 * 256 },
    { "pranet", "agg1.conv5.weight", false, 96 },
    { "msnet", "x5_dem_1.0.weight", false, 9 * 2048 },
    { "msnet", "level1.0.bias", false, 9 * 64 },
    { "hardnet_mseg", "hardnet.base.8.layers.7.conv.weight", false, 9 * 368 },
    { "hardnet_mseg", "conv5.conv.weight", false, 9 * 1024 },
    { "hardnet_mseg", "conv6.weight", false, 1024 },
    { "hardnet_mseg", "hardnet.base.16.3.weight", false, 1024 },
};

START_TEST(initial_values_follow_the_published_rules)
{
    const char *network = NULL;
    kdas_model *m       = NULL;

    kd_test_quick_values(false);
    for (size_t i = 0; i < sizeof draws / sizeof *draws; i++) {
        double  want    = draws[i].normal ? sqrt(2.0 / draws[i].fan) : 1 / sqrt(draws[i].fan);
        double  squares = 0, most = 0;
        int64_t n;
        float  *v;

        if (!network || strcmp(network, draws[i].network) != 0) {
            kdas_model_destroy(m);
            network = draws[i].network;
            m       = make(network, 2);
        }
        v = kd_test_values(m, draws[i].tensor, &n);
        for (int64_t k = 0; k < n; k++) {
            squares += (double)v[k] * (double)v[k];
            most = fmax(most, fabs((double)v[k]));
        }
        if (draws[i].normal)
            ck_assert_double_eq_tol(sqrt(squares / (double)n), want, 0.05 * want);
        else
            ck_assert_msg(most <= want * (1 + 1e-6) && most > 0.9 * want, "%s: up to %g, not %g",
                          draws[i].tensor, most, want);
        free(v);
    }
    kdas_model_destroy(m);
}
END_TEST

START_TEST(gradients_follow_finite_differences)
{
    kdas_model *m = make(networks[_i].name, 3);
    kdas_batch *b = draw(ctx);

    kd_zoo_fill(m); /* gradients of initial values are very small in some parts */
    /* a few training forwards bring the running statistics near those of these images */
    for (int i = 0; i < 4; i++)
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    for (int i = 0; i < SLOPES; i++)
        kd_test_assert_slope(m, b, networks[_i].slope[i], 0.05);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

/* ---- A backbone from a file ---- */

/* Write the backbone of a PraNet under the names of its ImageNet weights. */
static void save_res2net(const kdas_model *m, const char *path)
{
    static float *kept[600]; /* a file's values stay until it is saved */
    kd_st_writer *writer;
    const char   *name;
    int32_t       rank;
    int64_t       dims[4];
    int           count = 0;

    kd_assert_ok(kd_st_writer_create(&writer, ctx));
    for (int32_t i = 0; (name = kdas_model_tensor(m, i, &rank, dims, NULL)); i++) {
        int64_t n;

        if (strncmp(name, "resnet.", 7) != 0 || strstr(name, "num_batches_tracked")) continue;
        kept[count] = kd_test_values(m, name, &n);
        kd_assert_ok(kd_st_writer_put(writer, name + 7, KD_ST_F32, rank, dims, kept[count++]));
    }
    kd_assert_ok(kd_st_writer_save(writer, path, false));
    kd_st_writer_destroy(writer);
    while (count)
        free(kept[--count]);
}

static bool same_values(const kdas_model *a, const kdas_model *b, const char *name)
{
    int64_t n, k;
    float  *va = kd_test_values(a, name, &n), *vb = kd_test_values(b, name, &k);
    bool    same = n == k && kd_test_same_bits(va, vb, (size_t)n * sizeof *va);

    free(va);
    free(vb);
    return same;
}

START_TEST(a_published_backbone_loads_into_both_of_its_networks)
{
    kdas_model       *from = make("pranet", 7), *to = make("msnet", 8), *keep = make("msnet", 8);
    kdas_load_options o;

    kd_test_folder_make();
    save_res2net(from, kd_test_path("res2net.safetensors"));
    kd_assert_status(kdas_model_load(to, kd_test_path("res2net.safetensors"), NULL),
                     KDAS_ENOTFOUND);
    kd_assert_sentence("kdas_load_options.part = \"backbone.\"");
    kdas_load_options_init(&o, sizeof o);
    o.part = "backbone.";
    kd_assert_ok(kdas_model_load(to, kd_test_path("res2net.safetensors"), &o));
    ck_assert(same_values(to, from, "resnet.conv1.0.weight"));
    ck_assert(same_values(to, from, "resnet.layer4.2.conv3.weight"));
    ck_assert(same_values(to, from, "resnet.fc.bias"));
    ck_assert(!same_values(to, keep, "resnet.conv1.0.weight"));
    ck_assert(same_values(to, keep, "x5_dem_1.0.weight"));
    kd_test_folder_remove();
    kdas_model_destroy(from);
    kdas_model_destroy(to);
    kdas_model_destroy(keep);
}
END_TEST

/* ---- One step ---- */

static kdas_step_report step(kd_test_rig *rig)
{
    kdas_step_report r = { .size = sizeof r };
    kdas_batch      *b = draw(rig->ctx);

    kd_assert_ok(kdas_distiller_step(rig->distiller, b, &r));
    kdas_batch_destroy(b);
    return r;
}

static kd_test_rig_options with_guidance(const char *teacher, const char *student)
{
    kd_test_rig_options o = kd_test_rig_usual();

    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    o.loss.guidance = "kl";
    o.loss.feature  = "normalised";
    o.teacher       = teacher;
    o.student       = student;
    return o;
}

/* A step moves every trainable tensor and every running statistic, counts every batch norm that runs, and
 * leaves alone what never runs. */
START_TEST(a_step_trains_what_runs_and_leaves_the_rest)
{
    kd_test_rig_options o = with_guidance("polyp_pvt_b0", networks[_i].name);
    kd_test_rig         rig;
    kdas_step_report    r;
    kdas_model         *before;
    const char         *name;
    int                 idle = 0;

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_model_create(&before, rig.ctx, o.student, &o.model));
    kd_test_assert_same_weights(before, rig.student);
    r = step(&rig);
    ck_assert(r.updated && isfinite(r.total) && r.raw[KDAS_TERM_FEATURE] > 0);
    for (int32_t i = 0; (name = kdas_model_tensor(before, i, NULL, NULL, NULL)); i++) {
        const kd_init *init = &kd_params_at(rig.student->params, i)->init;
        bool           runs = init->kind != KD_IDLE && !init->idle;
        int64_t        n;
        float *a = kd_test_values(before, name, &n), *b = kd_test_values(rig.student, name, &n);

        ck_assert_msg(kd_test_same_bits(a, b, (size_t)n * sizeof *a) != runs, "%s has%s changed",
                      name, runs ? " not" : "");
        if (init->kind == KD_COUNTER) ck_assert(*a == 0 && *b == (runs ? 1 : 0));
        idle += !runs;
        free(a);
        free(b);
    }
    ck_assert_int_eq(idle, strcmp(o.student, "hardnet_mseg") == 0 ? 106 : 2);
    kdas_model_destroy(before);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(each_teaches_a_small_student)
{
    kd_test_rig_options o = with_guidance(networks[_i].name, "polyp_pvt_b0");
    kd_test_rig         rig;
    kdas_model         *before;
    kdas_step_report    r;

    kd_test_rig_make(&rig, &o);
    o.model.seed = 8; /* as the rig makes teachers */
    kd_assert_ok(kdas_model_create(&before, rig.ctx, o.teacher, &o.model));
    r = step(&rig);
    ck_assert(r.updated && r.raw[KDAS_TERM_FEATURE] > 0 && r.gradient[KDAS_TERM_FEATURE] > 0);
    ck_assert(r.raw[KDAS_TERM_KD] > 0 && r.gradient[KDAS_TERM_KD] > 0);
    kd_test_assert_same_weights(before, rig.teacher);
    kdas_model_destroy(before);
    kd_test_rig_finish(&rig);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("pranet");
    TCase   *t = tcase_create("all");
    SRunner *r;
    int      failed;

    kd_test_quick_values(true);
    tcase_add_checked_fixture(t, open_context, close_context);
    tcase_add_loop_test(t, taps_and_outputs_have_their_sizes, 0, NETWORKS);
    tcase_add_test(t, pranet_answers_with_its_last_map);
    tcase_add_test(t, initial_values_follow_the_published_rules);
    tcase_add_loop_test(t, gradients_follow_finite_differences, 0, NETWORKS);
    tcase_add_test(t, a_published_backbone_loads_into_both_of_its_networks);
    tcase_add_loop_test(t, a_step_trains_what_runs_and_leaves_the_rest, 0, NETWORKS);
    tcase_add_loop_test(t, each_teaches_a_small_student, 0, NETWORKS);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

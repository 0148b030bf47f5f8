/* check_unet.c - U-Net, U-Net++, ColonSegNet, ResUNet++ and DDANet: taps, gradients, a step as
 * student and as teacher, and the input in their own colours. check_zoo.c compares their outputs
 * with those of the published code. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "model/colours.h"
#include "support/check_util.h"
#include "support/run_util.h"
#include "support/slope.h"
#include "support/thin.h"
#include "support/zoo_golden.h"

enum { SIDE = 64, IMAGES = 2, PIXELS = SIDE * SIDE, TAPS = 16, TENSORS = 6 };

/* Taps with their strides and channels, and tensors whose gradients are tested: of the first layer,
 * of norms and biases, of the deepest layer, of the way up, of the last layer. */
static const struct {
    const char *name;
    int         maps;
    struct {
        const char *name;
        int64_t     stride, channels;
    } tap[TAPS];
    const char *tensor[TENSORS];
} networks[] = {
    { "unet",
      1,
      { { "conv2_0", 4, 128 },
        { "conv3_0", 8, 256 },
        { "conv4_0", 16, 512 },
        { "conv3_1", 8, 256 },
        { "conv2_2", 4, 128 } },
      { "conv0_0.conv1.weight", "conv1_0.bn2.bias", "conv4_0.conv2.weight", "conv2_2.conv1.weight",
        "conv0_4.bn1.weight", "final.bias" } },
    { "unetpp",
      1,
      { { "conv2_0", 4, 128 },
        { "conv3_0", 8, 256 },
        { "conv4_0", 16, 512 },
        { "conv3_1", 8, 256 },
        { "conv2_1", 4, 128 },
        { "conv2_2", 4, 128 } },
      { "conv0_0.conv1.weight", "conv1_0.bn2.bias", "conv4_0.conv2.weight", "conv1_2.conv1.weight",
        "conv0_4.bn1.weight", "final.bias" } },
    { "unetpp_ds",
      4,
      { { "conv2_0", 4, 128 },
        { "conv3_0", 8, 256 },
        { "conv4_0", 16, 512 },
        { "conv3_1", 8, 256 },
        { "conv2_1", 4, 128 },
        { "conv2_2", 4, 128 } },
      { "conv0_0.conv1.weight", "conv0_1.bn2.bias", "conv4_0.conv2.weight", "conv0_3.conv1.weight",
        "final1.weight", "final4.bias" } },
    { "unet_milesial",
      1,
      { { "s4", 4, 256 },
        { "s8", 8, 512 },
        { "s16", 16, 1024 },
        { "up8", 8, 512 },
        { "up4", 4, 256 } },
      { "inc.double_conv.0.weight", "down2.maxpool_conv.1.double_conv.1.bias",
        "down4.maxpool_conv.1.double_conv.3.weight", "up1.up.weight", "up4.up.bias",
        "outc.conv.weight" } },
    { "unet_milesial_bilinear",
      1,
      { { "s4", 4, 256 },
        { "s8", 8, 512 },
        { "s16", 16, 512 },
        { "up8", 8, 256 },
        { "up4", 4, 128 } },
      { "inc.double_conv.0.weight", "down2.maxpool_conv.1.double_conv.1.bias",
        "down4.maxpool_conv.1.double_conv.3.weight", "up1.conv.double_conv.0.weight",
        "up4.conv.double_conv.4.bias", "outc.conv.weight" } },
    { "colonsegnet",
      1,
      { { "s4", 4, 256 }, { "s8", 8, 256 } },
      { "e1.residual_block1.conv1.weight", "r4.se.fc.0.weight", "t1.weight", "t4.bias",
        "r3.se.fc.2.weight", "output.bias" } },
    { "resunetpp",
      1,
      { { "c1", 1, 16 },
        { "c2", 2, 32 },
        { "c3", 4, 64 },
        { "c4", 8, 128 },
        { "b1", 8, 256 },
        { "d1", 4, 128 },
        { "d2", 2, 64 },
        { "d3", 1, 32 } },
      { "c1.c1.0.weight", "c2.attn.net.0.weight", "b1.c2.0.weight", "d1.a1.g_conv.2.weight",
        "d3.r1.c1.0.bias", "aspp.c4.1.weight" } },
    { "ddanet",
      1,
      { { "e1", 1, 32 },
        { "e2", 2, 64 },
        { "e3", 4, 128 },
        { "e4", 8, 256 },
        { "p4", 16, 256 },
        { "s1", 8, 128 },
        { "a1", 8, 128 },
        { "s2", 4, 64 },
        { "a2", 4, 64 },
        { "s3", 2, 32 },
        { "a3", 2, 32 },
        { "s4", 1, 16 },
        { "a4", 1, 16 } },
      { "e1.r1.conv1.weight", "s4.r1.se.fc.2.weight", "s3.upsample.weight", "a4.r1.conv1.weight",
        "m4.0.weight", "output1.bias" } },
};

static kdas_context *ctx;

static void open_context(void) { ctx = kd_test_device("cpu", NULL); }
static void close_context(void) { kdas_context_destroy(ctx); }

static kdas_model *make(const char *name)
{
    kdas_model *m;

    kd_assert_ok(kdas_model_create(&m, ctx, name, NULL));
    return m;
}

static kdas_batch *draw(kdas_context *context, int64_t side)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, context, IMAGES, side, side));
    kd_test_fill(kdas_batch_images(b), IMAGES * side * side * 3, "image", 2, 0);
    kd_test_ellipses(kdas_batch_masks(b), IMAGES, side, side, "mask");
    return b;
}

START_TEST(maps_and_taps_are_what_the_documents_say)
{
    kdas_model *m = make(networks[_i].name);
    kdas_batch *b = draw(ctx, SIDE);
    int64_t     dims[4];
    char        map[16];
    int         taps = 0;

    for (; taps < TAPS && networks[_i].tap[taps].name; taps++) {
        ck_assert_str_eq(kdas_model_tap(m, taps), networks[_i].tap[taps].name);
        kd_assert_ok(kdas_model_keep_tap(m, networks[_i].tap[taps].name));
    }
    ck_assert_ptr_null(kdas_model_tap(m, taps));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    for (int i = 0; i < taps; i++) {
        kd_assert_ok(kdas_model_tap_dims(m, networks[_i].tap[i].name, dims));
        ck_assert_int_eq(dims[1], SIDE / networks[_i].tap[i].stride);
        ck_assert_int_eq(dims[2], SIDE / networks[_i].tap[i].stride);
        ck_assert_int_eq(dims[3], networks[_i].tap[i].channels);
    }
    ck_assert_int_eq(kdas_model_maps(m), networks[_i].maps);
    ck_assert_int_eq(kdas_model_outputs(m), networks[_i].maps);
    for (int i = 0; i < networks[_i].maps; i++) {
        snprintf(map, sizeof map, "P%d", i + 1);
        ck_assert_str_eq(kdas_model_output(m, i, dims), map);
        ck_assert(dims[1] == SIDE && dims[2] == SIDE && dims[3] == 1);
    }
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(gradients_follow_finite_differences)
{
    kdas_model *m = make(networks[_i].name);
    kdas_batch *b = kd_zoo_batch(m, IMAGES, SIDE / 2, SIDE / 2);

    /* initial values of PyTorch make networks that hardly depend on the first layers */
    kd_zoo_fill(m);
    /* a few training forwards bring the running statistics near those of these images */
    for (int i = 0; i < 4; i++)
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    for (int i = 0; i < TENSORS; i++)
        kd_test_assert_slope(m, b, networks[_i].tensor[i], 0.01);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

/* One step of a pair, guided by maps and by features. */
static void step(const char *teacher, const char *student)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kdas_step_report    r = { .size = sizeof r };
    kd_test_rig         rig;
    kdas_batch         *b;

    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    o.teacher       = teacher;
    o.student       = student;
    o.loss.guidance = "kl";
    o.loss.feature  = "normalised";
    kd_test_rig_make(&rig, &o);
    b = draw(rig.ctx, SIDE / 2);
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
    ck_assert(r.updated && isfinite(r.total));
    ck_assert(r.raw[KDAS_TERM_SEG] > 0 && r.gradient[KDAS_TERM_SEG] > 0);
    ck_assert(r.raw[KDAS_TERM_KD] > 0 && r.gradient[KDAS_TERM_KD] > 0);
    ck_assert(r.raw[KDAS_TERM_FEATURE] > 0 && r.gradient[KDAS_TERM_FEATURE] > 0);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}

START_TEST(it_learns_from_a_teacher) { step("polyp_pvt_b0", networks[_i].name); }
END_TEST

START_TEST(it_teaches_a_student) { step(networks[_i].name, "polyp_pvt_b0"); }
END_TEST

START_TEST(steps_lower_the_loss_of_one_batch)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    double              first, last = 0;

    o.student = networks[_i].name;
    o.teacher = NULL;
    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    kd_test_rig_make(&rig, &o);
    first = kd_test_rig_step(&rig, 0);
    for (int i = 0; i < 7; i++)
        last = kd_test_rig_step(&rig, 0);
    ck_assert_msg(last < 0.9 * first, "from %g to %g", first, last);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- Colours ---- */

/* What the networks get of a pixel (r,g,b) of 0 .. 255. */
START_TEST(colours_are_those_that_the_networks_were_trained_on)
{
    static const double mean[3] = { 0.485, 0.456, 0.406 }, deviation[3] = { 0.229, 0.224, 0.225 };
    static const double pixel[3] = { 200, 30, 90 };
    static const struct {
        const kdas_recolour_attr *colours;
        double                    want[3];
    } rows[] = {
        { &kd_colours_rgb, { 200 / 255., 30 / 255., 90 / 255. } },
        { &kd_colours_bgr, { 90 / 255., 30 / 255., 200 / 255. } },
        { &kd_colours_bgr_twice,
          { (90 / 255. - 0.485) / 0.229 / 255, (30 / 255. - 0.456) / 0.224 / 255,
            (200 / 255. - 0.406) / 0.225 / 255 } },
    };

    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
        for (int c = 0; c < 3; c++) {
            int    from = rows[r].colours->source[c];
            double v    = (pixel[from] / 255 - mean[from]) / deviation[from];

            v = (double)rows[r].colours->factor[c] * v + (double)rows[r].colours->offset[c];
            ck_assert_double_eq_tol(v, rows[r].want[c], 1e-6 * fabs(rows[r].want[c]));
        }
}
END_TEST

int main(void)
{
    enum { NETWORKS = sizeof networks / sizeof networks[0] };
    Suite *s = suite_create("unet");
    TCase *t = tcase_create("networks"), *steps = tcase_create("steps"),
          *colours = tcase_create("colours");
    SRunner *r;
    int      failed;

    kd_test_quick_values(true);
    tcase_add_checked_fixture(t, open_context, close_context);
    tcase_add_loop_test(t, maps_and_taps_are_what_the_documents_say, 0, NETWORKS);
    tcase_add_loop_test(t, gradients_follow_finite_differences, 0, NETWORKS);
    suite_add_tcase(s, t);
    tcase_add_loop_test(steps, it_learns_from_a_teacher, 0, NETWORKS);
    tcase_add_loop_test(steps, it_teaches_a_student, 0, NETWORKS);
    tcase_add_loop_test(steps, steps_lower_the_loss_of_one_batch, 0, NETWORKS);
    suite_add_tcase(s, steps);
    tcase_add_test(colours, colours_are_those_that_the_networks_were_trained_on);
    suite_add_tcase(s, colours);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_lite_fpn.c - the networks lite_fpn*: their gradients, one step, and backbones from
 * files. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "io/safetensors.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"
#include "support/slope.h"

enum { SIDE = 64, IMAGES = 2, PIXELS = SIDE * SIDE };

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

static kdas_model *make(const char *name, uint64_t seed)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.seed      = seed;
    o.drop_path = 0;
    kd_assert_ok(kdas_model_create(&m, ctx, name, &o));
    return m;
}

static kdas_batch *draw(void)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, IMAGES, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), IMAGES * PIXELS * 3, "image", 2, 0);
    kd_test_ellipses(kdas_batch_masks(b), IMAGES, SIDE, SIDE, "mask");
    return b;
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

/* ---- The network ---- */

START_TEST(taps_have_the_strides_they_are_named_for)
{
    static const struct {
        const char *name;
        int64_t     stride, channels;
    } taps[]      = { { "s4", 4, 24 }, { "s8", 8, 40 }, { "s16", 16, 112 }, { "s32", 32, 320 } };
    kdas_model *m = make("lite_fpn1", 1);
    kdas_batch *b = draw();
    int64_t     dims[4];

    for (int i = 0; i < 4; i++) {
        ck_assert_str_eq(kdas_model_tap(m, i), taps[i].name);
        kd_assert_ok(kdas_model_keep_tap(m, taps[i].name));
    }
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    for (int i = 0; i < 4; i++) {
        kd_assert_ok(kdas_model_tap_dims(m, taps[i].name, dims));
        ck_assert(dims[1] == SIDE / taps[i].stride && dims[3] == taps[i].channels);
    }
    ck_assert_str_eq(kdas_model_output(m, 0, dims), "P1");
    ck_assert(dims[1] == SIDE && dims[2] == SIDE && dims[3] == 1);
    ck_assert_ptr_null(kdas_model_output(m, 1, NULL));
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(gradients_follow_finite_differences)
{
    static const char *const names[] = { "backbone._conv_stem.weight",
                                         "backbone._bn0.bias",
                                         "backbone._blocks.0._depthwise_conv.weight",
                                         "backbone._blocks.3._expand_conv.weight",
                                         "backbone._blocks.3._depthwise_conv.weight",
                                         "backbone._blocks.4._depthwise_conv.weight",
                                         "backbone._blocks.11._depthwise_conv.weight",
                                         "backbone._blocks.12._bn1.weight",
                                         "backbone._blocks.15._project_conv.weight",
                                         "lateral.0.weight",
                                         "lateral.3.bias",
                                         "smooth.2.0.weight",
                                         "smooth.0.1.bias",
                                         "out.weight" };
    kdas_model              *m       = make("lite_fpn0", 3);
    kdas_batch              *b       = draw();

    /* a few training forwards bring the running statistics near those of these images */
    for (int i = 0; i < 4; i++)
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        kd_test_assert_slope(m, b, weight, names[i], 0.01);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(folded_batch_norms_give_what_they_give_apart)
{
    static float folded[IMAGES * PIXELS], apart[IMAGES * PIXELS];
    kdas_model  *m = make("lite_fpn0", 4);
    kdas_batch  *b = draw();

    for (int i = 0; i < 3; i++)
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    kd_assert_ok(kdas_model_read_output(m, "P1", folded));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, b));
    kd_assert_ok(kdas_model_read_output(m, "P1", apart));
    kd_assert_close(folded, apart, IMAGES * PIXELS, 1e-4);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(steps_lower_the_loss_of_one_batch)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    double              first, last = 0;

    o.student = "lite_fpn0";
    o.teacher = NULL;
    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    kd_test_rig_make(&rig, &o);
    first = kd_test_rig_step(&rig, 0);
    for (int i = 0; i < 11; i++)
        last = kd_test_rig_step(&rig, 0);
    ck_assert_msg(last < 0.8 * first, "from %g to %g", first, last);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- A backbone from a file ---- */

/* Write the tensors of m whose names begin with "backbone.", without it, and a classifier's
 * beside them; but not the one called `without`. */
static void save_backbone(const kdas_model *m, const char *path, const char *without,
                          const char *prefix)
{
    kd_st_writer *writer;
    const char   *name;
    int32_t       rank;
    int64_t       dims[4], head[2] = { 10, 4 };
    float         zeros[40] = { 0 }, *kept[400]; /* a file's values stay until it is saved */
    int           count     = 0;

    kd_assert_ok(kd_st_writer_create(&writer, ctx));
    for (int32_t i = 0; (name = kdas_model_tensor(m, i, &rank, dims, NULL)); i++) {
        char    text[256];
        int64_t n;
        float  *v;

        if (strncmp(name, "backbone.", 9) != 0 || strcmp(name + 9, without) == 0) continue;
        if (strstr(name, "num_batches_tracked")) continue;
        snprintf(text, sizeof text, "%s%s", prefix, name + 9);
        v = kd_test_values(m, name, &n);
        kd_assert_ok(kd_st_writer_put(writer, text, KD_ST_F32, rank, dims, v));
        kept[count++] = v;
    }
    kd_assert_ok(kd_st_writer_put(writer, "_fc.weight", KD_ST_F32, 2, head, zeros));
    kd_assert_ok(kd_st_writer_save(writer, path, false));
    kd_st_writer_destroy(writer);
    while (count)
        free(kept[--count]);
}

static kdas_status load_part(kdas_model *m, const char *file, const char *part)
{
    kdas_load_options o;

    kdas_load_options_init(&o, sizeof o);
    o.part = part;
    return kdas_model_load(m, kd_test_path(file), &o);
}

START_TEST(part_of_a_model_is_loaded_and_the_rest_is_left)
{
    static const char *const prefixes[] = { "", "backbone." };
    kdas_model              *from = make("lite_fpn0", 7), *to = make("lite_fpn0", 8),
               *keep = make("lite_fpn0", 8);

    save_backbone(from, kd_test_path("b"), "", prefixes[_i]);
    kd_assert_ok(load_part(to, "b", "backbone."));
    ck_assert(same_values(to, from, "backbone._conv_stem.weight"));
    ck_assert(same_values(to, from, "backbone._blocks.15._bn2.running_var"));
    ck_assert(same_values(to, keep, "lateral.0.weight"));
    ck_assert(same_values(to, keep, "out.bias"));
    ck_assert(!same_values(to, from, "out.bias"));
    kdas_model_destroy(from);
    kdas_model_destroy(to);
    kdas_model_destroy(keep);
}
END_TEST

START_TEST(part_that_does_not_fit_changes_nothing)
{
    kdas_model       *from = make("lite_fpn0", 7), *to = make("lite_fpn0", 8);
    kdas_model       *keep = make("lite_fpn0", 8), *other = make("lite_fpn2", 1);
    kdas_model       *pvt = make("pvt_v2_b0", 1);
    kdas_load_options o;

    save_backbone(from, kd_test_path("lacks"), "_blocks.3._bn1.running_mean", "");
    save_backbone(from, kd_test_path("whole"), "", "");
    save_backbone(other, kd_test_path("other"), "", "");
    kd_assert_ok(kdas_model_save(pvt, kd_test_path("pvt")));
    kd_assert_status(load_part(to, "lacks", "backbone."), KDAS_ENOTFOUND);
    kd_assert_sentence("lacks the tensor 'backbone._blocks.3._bn1.running_mean'");
    kd_assert_status(load_part(to, "other", "backbone."), KDAS_ESHAPE);
    kd_assert_sentence("other");
    kd_assert_status(load_part(to, "pvt", "backbone."), KDAS_ENOTFOUND);
    kd_assert_sentence("has no tensor of the part 'backbone.' of model 'lite_fpn0'");
    kd_assert_status(load_part(to, "whole", "trunk."), KDAS_ENOTFOUND);
    kd_assert_sentence("'lite_fpn0' has no part 'trunk.'");
    kd_assert_status(load_part(pvt, "whole", "backbone."), KDAS_ENOTFOUND);
    kd_assert_status(load_part(to, "whole", ""), KDAS_EINVAL);
    kdas_load_options_init(&o, sizeof o);
    o.part = o.prefix = "backbone.";
    kd_assert_status(kdas_model_load(to, kd_test_path("whole"), &o), KDAS_EINVAL);
    kd_assert_sentence("exclude each other");
    kd_test_assert_same_weights(to, keep);
    kdas_model_destroy(from);
    kdas_model_destroy(to);
    kdas_model_destroy(keep);
    kdas_model_destroy(other);
    kdas_model_destroy(pvt);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("lite_fpn");
    TCase   *t = tcase_create("all");
    SRunner *r;
    int      failed;

    tcase_add_checked_fixture(t, open_context, close_context);
    tcase_add_test(t, taps_have_the_strides_they_are_named_for);
    tcase_add_test(t, gradients_follow_finite_differences);
    tcase_add_test(t, folded_batch_norms_give_what_they_give_apart);
    tcase_add_test(t, steps_lower_the_loss_of_one_batch);
    tcase_add_loop_test(t, part_of_a_model_is_loaded_and_the_rest_is_left, 0, 2);
    tcase_add_test(t, part_that_does_not_fit_changes_nothing);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

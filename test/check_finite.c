/* check_finite.c - a weight that is not finite is found before it makes a mask or an update, by the
 * name of its tensor, wherever the network would hide it. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "model/model.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"
#include "support/thin.h"
#include "support/train_util.h"

static kd_test_meter meter;
static kdas_context *ctx;

/* The device of the loop: that of the host's memory, and one with its own. */
static void setup_device(int i)
{
    memset(&meter, 0, sizeof meter);
    ctx = kd_test_device(i ? "far" : "cpu", &meter);
}

static void teardown_device(void)
{
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}

static int32_t find(const kdas_model *m, const char *name)
{
    int32_t i = kdas_model_find(m, name);

    ck_assert_msg(i >= 0, "%s", name);
    return i;
}

/* Put `value` into the last element of a tensor. */
static void put(kdas_model *m, const char *name, float value)
{
    const kd_param_entry *e   = kd_params_at(m->params, find(m, name));
    float                *all = malloc((size_t)e->count * sizeof *all);

    kd_assert_ok(kdas_model_read(m, find(m, name), all));
    all[e->count - 1] = value;
    kd_assert_ok(kdas_model_write(m, find(m, name), all));
    free(all);
}

static kdas_model *make(const char *network, bool trainable)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.trainable = trainable;
    kd_assert_ok(kdas_model_create(&m, ctx, network, &o));
    return m;
}

static kdas_status open_segmenter(kdas_segmenter **out, kdas_model *m)
{
    kdas_segmenter_options o;

    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = 32;
    return kdas_segmenter_create(out, m, &o);
}

static const struct {
    const char *network, *tensor;
} hidden[] = {
    { "lite_fpn0", "backbone._bn0.weight" }, /* before a ReLU6 */
    { "lite_fpn0", "backbone._conv_stem.weight" },
    { "unet", NULL }, /* its first tensor: before a ReLU and a maximum */
    { "polyp_pvt_b0", "backbone.block1.0.attn.q.weight" },
    { "polyp_pvt_b0", "Translayer2_0.bn.running_mean" },
    { "polyp_pvt_b0", "out_CFM.bias" },
};

START_TEST(a_segmenter_names_the_tensor)
{
    kdas_segmenter *s, *none;
    kdas_view       frame = { (uint8_t[32 * 32 * 3]){ 0 }, 32, 32, 0, KDAS_PIXEL_RGB8 };
    uint8_t         mask[32 * 32];

    setup_device(_i);
    for (size_t k = 0; k < KD_COUNT(hidden); k++) {
        kdas_model *m    = make(hidden[k].network, false);
        const char *name = hidden[k].tensor;
        float       bad  = k % 2 ? INFINITY : NAN;

        if (!name) name = kdas_model_tensor(m, 0, NULL, NULL, NULL);
        kd_assert_ok(open_segmenter(&s, m));
        kd_assert_ok(kdas_segmenter_mask(s, &frame, mask, 0));
        put(m, name, bad);
        memset(mask, 9, sizeof mask);
        for (int again = 0; again < 2; again++) {
            kd_assert_status(kdas_segmenter_mask(s, &frame, mask, 0), KDAS_ENUMERIC);
            kd_assert_sentence(name);
            kd_assert_sentence(k % 2 ? "an infinity" : "a NaN");
        }
        ck_assert_int_eq(mask[0], 9);
        kd_assert_status(open_segmenter(&none, m), KDAS_ENUMERIC);
        kd_assert_sentence(name);
        put(m, name, 0.25f);
        kd_assert_ok(kdas_segmenter_mask(s, &frame, mask, 0));
        kdas_segmenter_destroy(s);
        kdas_model_destroy(m);
    }
    teardown_device();
}
END_TEST

START_TEST(every_mode_names_the_tensor)
{
    static const kdas_mode modes[] = { KDAS_MODE_INFER, KDAS_MODE_EVAL, KDAS_MODE_TRAIN };
    kdas_model            *m;
    kdas_batch            *b;

    setup_device(_i);
    m = make("lite_fpn0", true);
    b = kd_test_batch(ctx, 1, 32, 1);
    put(m, "backbone._bn0.weight", NAN);
    for (size_t k = 0; k < KD_COUNT(modes); k++) {
        kd_assert_status(kdas_model_forward(m, modes[k], b), KDAS_ENUMERIC);
        kd_assert_sentence("backbone._bn0.weight");
    }
    put(m, "backbone._bn0.weight", 1);
    for (size_t k = 0; k < KD_COUNT(modes); k++)
        kd_assert_ok(kdas_model_forward(m, modes[k], b));
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    teardown_device();
}
END_TEST

START_TEST(a_step_names_the_tensor_of_student_and_teacher)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kdas_batch         *b;

    o.device = _i ? "far" : NULL;
    kd_test_rig_make(&rig, &o);
    b = kd_test_batch(rig.ctx, 2, 32, 1);
    for (int who = 0; who < 2; who++) {
        kdas_model *m = who ? rig.teacher : rig.student;

        put(m, "backbone.block1.0.attn.q.weight", NAN);
        kd_assert_status(kdas_distiller_step(rig.distiller, b, NULL), KDAS_ENUMERIC);
        kd_assert_sentence("backbone.block1.0.attn.q.weight");
        put(m, "backbone.block1.0.attn.q.weight", 0.01f);
    }
    ck_assert_int_eq(kdas_optim_updates(rig.optim), 0);
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(a_run_and_an_evaluation_name_the_tensor)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_training    s;
    kdas_evaluator     *e;
    const char         *name = "backbone.block1.0.attn.q.weight";

    kd_test_train_make(&s, &o, kd_test_path("out"));
    kd_assert_ok(kdas_evaluator_create(&e, s.rig.ctx));
    put(s.rig.student, name, NAN);
    kd_assert_status(kdas_evaluate(e, s.rig.student, s.validation, 64, 64, 0), KDAS_ENUMERIC);
    kd_assert_sentence(name);
    kd_assert_status(kd_test_train(&s), KDAS_ENUMERIC);
    kd_assert_sentence(name);
    kdas_evaluator_destroy(e);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(no_file_is_written_that_could_not_be_loaded)
{
    const char *name  = "backbone._bn0.running_var";
    float       bad[] = { NAN, INFINITY, -1 };
    kdas_model *m;

    setup_device(0);
    m = make("lite_fpn0", false);
    for (size_t k = 0; k < KD_COUNT(bad); k++) {
        put(m, name, bad[k]);
        kd_assert_status(kdas_model_save(m, kd_test_path("w.safetensors")), KDAS_ENUMERIC);
        kd_assert_sentence(name);
        if (k < 2) {
            kd_assert_status(kdas_model_export_onnx(m, kd_test_path("w.onnx"), NULL),
                             KDAS_ENUMERIC);
            kd_assert_sentence(name);
        }
    }
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
    put(m, name, 1);
    kd_assert_ok(kdas_model_save(m, kd_test_path("w.safetensors")));
    kdas_model_destroy(m);
    teardown_device();
}
END_TEST

/* What no op reads may be anything. */
START_TEST(an_idle_tensor_does_not_stop_a_forward)
{
    kdas_model *m;
    kdas_batch *b;
    int32_t     idle = 0;

    setup_device(_i);
    m = make("hardnet_mseg", false);
    b = kd_test_batch(ctx, 1, 32, 1);
    while (kdas_model_tensor(m, idle, NULL, NULL, NULL) && !kdas_model_idle(m, idle))
        idle++;
    ck_assert_ptr_nonnull(kdas_model_tensor(m, idle, NULL, NULL, NULL));
    put(m, kdas_model_tensor(m, idle, NULL, NULL, NULL), NAN);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    teardown_device();
}
END_TEST

/* Large numbers have infinite squares, and are no fault. */
START_TEST(a_large_weight_is_finite)
{
    kdas_model *m;

    setup_device(_i);
    m = make("lite_fpn0", false);
    put(m, "backbone._bn0.running_mean", 3e38f);
    kd_assert_ok(kd_params_check(m->params, "lite_fpn0", false));
    kdas_model_destroy(m);
    teardown_device();
}
END_TEST

/* The values change here without a word: a second look would find it. */
START_TEST(values_are_looked_at_once_after_a_change)
{
    kdas_model *m;
    float      *value;

    setup_device(0);
    m     = make("lite_fpn0", true);
    value = kd_params_values(m->params);
    kd_assert_ok(kd_params_check(m->params, "lite_fpn0", false));
    value[0] = NAN;
    kd_assert_ok(kd_params_check(m->params, "lite_fpn0", false));
    kd_params_touch_update(m->params);
    kd_assert_ok(kd_params_check(m->params, "lite_fpn0", true));
    kd_assert_status(kd_params_check(m->params, "lite_fpn0", false), KDAS_ENUMERIC);
    kd_params_touch(m->params);
    kd_assert_status(kd_params_check(m->params, "lite_fpn0", true), KDAS_ENUMERIC);
    kdas_model_destroy(m);
    teardown_device();
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("finite");
    TCase   *t      = tcase_create("weights");
    SRunner *runner = srunner_create(suite);
    int      failed;

    kd_test_thin_networks();
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(t, a_segmenter_names_the_tensor, 0, 2);
    tcase_add_loop_test(t, every_mode_names_the_tensor, 0, 2);
    tcase_add_loop_test(t, a_step_names_the_tensor_of_student_and_teacher, 0, 2);
    tcase_add_test(t, a_run_and_an_evaluation_name_the_tensor);
    tcase_add_test(t, no_file_is_written_that_could_not_be_loaded);
    tcase_add_loop_test(t, an_idle_tensor_does_not_stop_a_forward, 0, 2);
    tcase_add_loop_test(t, a_large_weight_is_finite, 0, 2);
    tcase_add_test(t, values_are_looked_at_once_after_a_change);
    suite_add_tcase(suite, t);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

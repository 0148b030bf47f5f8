/* check_feature_pairs.c - which taps and maps are paired; memory and devices. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "distill/distiller.h"
#include "distill/feature_inside.h"
#include "model/model.h"
#include "optim/optim.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/feature_util.h"
#include "support/small_nets.h"
#include "support/thin.h"

enum { SIDE = 32, AREA = SIDE * SIDE };

/* ---- pairs ---- */

static void assert_pairs(const char *teacher, const char *student, const char *text,
                         const char *want)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kdas_model   *t, *s;
    kd_feature    f = { 0 };
    char          got[KD_FEATURE_PAIRS];

    kd_assert_ok(kdas_model_create(&t, ctx, teacher, NULL));
    kd_assert_ok(kdas_model_create(&s, ctx, student, NULL));
    kd_assert_ok(kd_pair_taps(f.pair, &f.pairs, t, s, text));
    kd_feature_pairs(got, &f);
    ck_assert_str_eq(got, want);
    kdas_model_destroy(t);
    kdas_model_destroy(s);
    kdas_context_destroy(ctx);
}

START_TEST(taps_of_one_stride_are_paired)
{
    assert_pairs("polyp_pvt_b1", "polyp_pvt_b0", NULL,
                 "backbone.x1:backbone.x1,backbone.x2:backbone.x2,backbone.x3:backbone.x3,"
                 "backbone.x4:backbone.x4");
    assert_pairs("pvt_v2_b0", "polyp_pvt_b0", NULL,
                 "x1:backbone.x1,x2:backbone.x2,x3:backbone.x3,x4:backbone.x4");
    assert_pairs("polyp_pvt_b0", "polyp_pvt_b0", "cfm:sam,backbone.x4:backbone.x1",
                 "cfm:sam,backbone.x4:backbone.x1");
}
END_TEST

static const struct {
    const char *taps, *sentence;
    kdas_status status;
} slips[] = {
    { "backbone.x1", "'backbone.x1' (pair 1) is not teacher's tap:student's tap", KDAS_EINVAL },
    { "backbone.x1:backbone.x1,", "'' (pair 2)", KDAS_EINVAL },
    { "a:b:c", "'a:b:c' (pair 1)", KDAS_EINVAL },
    { "neck:backbone.x1", "'polyp_pvt_b0' has no tap 'neck'; it has: backbone.x1,",
      KDAS_ENOTFOUND },
    { "backbone.x1:", "has no tap ''", KDAS_ENOTFOUND },
    { "cim:cim,cim:cim,cim:cim,cim:cim,cim:cim,cim:cim,cim:cim,cim:cim,cim:cim",
      "more than 8 pairs", KDAS_EINVAL },
};

/* Make a distiller of such parts; what it says is left in kdas_last_error(). */
static kdas_status try_create(const kd_test_rig_options *o)
{
    kd_test_rig        rig     = { .ctx = kd_test_device("cpu", NULL) };
    kdas_model_options teacher = o->model;
    kdas_distiller    *d       = (kdas_distiller *)&rig;
    kdas_status        st;

    teacher.trainable = 0;
    if (o->teacher) kd_assert_ok(kdas_model_create(&rig.teacher, rig.ctx, o->teacher, &teacher));
    kd_assert_ok(kdas_model_create(&rig.student, rig.ctx, o->student, &o->model));
    kd_assert_ok(kdas_loss_create(&rig.loss, rig.ctx, &o->loss));
    kd_assert_ok(kdas_optim_create(&rig.optim, rig.student, &o->optim));
    st = kdas_distiller_create(&d, rig.teacher, rig.student, rig.loss, rig.optim, &o->distiller);
    if (st != KDAS_OK) {
        ck_assert_ptr_null(d);
        ck_assert_ptr_null(rig.optim->side);
    }
    rig.distiller = d;
    kd_test_rig_finish(&rig);
    return st;
}

START_TEST(bad_taps_are_named)
{
    kd_test_rig_options o = kd_test_with_feature("normalised");

    o.loss.feature_taps = slips[_i].taps;
    kd_assert_status(try_create(&o), slips[_i].status);
    kd_assert_sentence(slips[_i].sentence);
}
END_TEST

START_TEST(features_want_a_teacher_model)
{
    kd_test_rig_options o = kd_test_with_feature("normalised");

    o.teacher = NULL;
    kd_assert_status(try_create(&o), KDAS_EINVAL);
    kd_assert_sentence("feature guidance \"normalised\" needs a teacher model");
    o.loss.feature_weight = 0;
    kd_assert_ok(try_create(&o));
}
END_TEST

START_TEST(networks_without_maps_give_and_learn_features_alone)
{
    kd_test_rig_options o = kd_test_with_feature("normalised");

    o.teacher = "pvt_v2_b0";
    kd_assert_ok(try_create(&o));
    o.loss.guidance = "kl";
    kd_assert_status(try_create(&o), KDAS_EINVAL);
    kd_assert_sentence("teacher 'pvt_v2_b0' has no one-channel maps for guidance \"kl\"");
    o         = kd_test_with_feature("normalised");
    o.student = "pvt_v2_b0";
    kd_assert_status(try_create(&o), KDAS_EINVAL);
    kd_assert_sentence("'pvt_v2_b0' has no one-channel maps to learn masks with");
    ck_assert_ptr_null(strstr(kdas_last_error(), "student")); /* it may be a teacher that learns */
    o.loss.seg_weight = 0;
    kd_assert_ok(try_create(&o));
    o.loss.feature = "none";
    kd_assert_status(try_create(&o), KDAS_EINVAL);
}
END_TEST

START_TEST(an_optimizer_trains_the_projections_of_one_distiller)
{
    kd_test_rig_options o = kd_test_with_feature("normalised");
    kd_test_rig         rig;
    kdas_distiller     *second;

    kd_test_rig_make(&rig, &o);
    kd_assert_status(
        kdas_distiller_create(&second, rig.teacher, rig.student, rig.loss, rig.optim, NULL),
        KDAS_EINVAL);
    kd_assert_sentence("projections of another distiller");
    kd_test_rig_step(&rig, 0);
    kdas_distiller_destroy(rig.distiller);
    kd_assert_ok(
        kdas_distiller_create(&rig.distiller, rig.teacher, rig.student, rig.loss, rig.optim, NULL));
    kd_test_rig_step(&rig, 1);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- strides ---- */

/* The taps that a network of the first strides and one of the second pair; NULL: none. */
static const struct {
    int         teacher, student;
    const char *pairs;
} strides[] = {
    { 4 | 8 | 16 | 32, 4 | 8 | 16 | 32, "s4:s4,s8:s8,s16:s16,s32:s32" },
    { 1 | 2 | 4 | 8 | 16, 4 | 8 | 16 | 32, "s4:s4,s8:s8,s16:s16" },
    { 4 | 8 | 16 | 32, 1 | 2 | 4 | 8 | 16, "s4:s4,s8:s8,s16:s16" },
    { 1 | 2 | 4 | 8 | 16, 1 | 2 | 4 | 8 | 16, "s4:s4,s8:s8,s16:s16" },
    { 1 | 2, 1 | 2 | 32, "s2:s2" },
    { 1, 1 | 2, "s1:s1" },
    { 1 | 2, 4 | 8, NULL },
    { 0, 4 | 8, NULL },
};

START_TEST(taps_of_shared_strides_are_paired_from_4_on)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kd_model_def  teach =
        kd_test_small_def("teach", KD_TEST_SMALL(1, strides[_i].teacher), &kd_rules_common);
    kd_model_def learn =
        kd_test_small_def("learn", KD_TEST_SMALL(1, strides[_i].student), &kd_rules_common);
    kdas_model *t, *s;
    kd_feature  f = { 0 };
    char        got[KD_FEATURE_PAIRS];

    kd_assert_ok(kd_model_create(&t, ctx, &teach, NULL));
    kd_assert_ok(kd_model_create(&s, ctx, &learn, NULL));
    if (strides[_i].pairs) {
        kd_assert_ok(kd_pair_taps(f.pair, &f.pairs, t, s, NULL));
        kd_feature_pairs(got, &f);
        ck_assert_str_eq(got, strides[_i].pairs);
    } else {
        kd_assert_status(kd_pair_taps(f.pair, &f.pairs, t, s, NULL), KDAS_EINVAL);
        kd_assert_sentence(strides[_i].teacher
                               ? "no tap of teacher 'teach' (s1, s2) has the stride of one of "
                                 "student 'learn' (s4, s8), from 1 to 32: feature_taps names pairs"
                               : "no tap of teacher 'teach' (none)");
    }
    kdas_model_destroy(t);
    kdas_model_destroy(s);
    kdas_context_destroy(ctx);
}
END_TEST

/* The shape by which a network of one size is known is of that size. */
START_TEST(strides_are_those_of_a_networks_own_size)
{
    static const kd_model_rules at256 = { .side = 256 };
    kdas_context               *ctx   = kd_test_device("cpu", NULL);
    kd_model_def teach = kd_test_small_def("teach", KD_TEST_SMALL(1, 4 | 8 | 16 | 32), &at256);
    kdas_model  *t, *s;
    kd_feature   f = { 0 };
    char         got[KD_FEATURE_PAIRS];

    kd_assert_ok(kd_model_create(&t, ctx, &teach, NULL));
    kd_assert_ok(kdas_model_create(&s, ctx, "lite_fpn0", NULL));
    kd_assert_ok(kd_pair_taps(f.pair, &f.pairs, t, s, NULL));
    kd_feature_pairs(got, &f);
    ck_assert_str_eq(got, "s4:s4,s8:s8,s16:s16,s32:s32");
    kdas_model_destroy(t);
    kdas_model_destroy(s);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- maps of another number ---- */

START_TEST(maps_of_another_number_are_matched_from_the_deepest_on)
{
    static const int want[4][4] = {
        { 0, 0, 0, 0 }, { 1, 0, 0, 0 }, { 2, 1, 0, 0 }, { 3, 2, 1, 0 }
    };

    /* from the deepest of the student: T 1 .. 4 */
    for (int teacher = 1; teacher <= 4; teacher++)
        for (int student = 1; student <= 4; student++)
            for (int i = 0; i < student; i++)
                ck_assert_int_eq(kd_paired_map(KD_PAIR_DEEP, teacher, student, student - 1 - i),
                                 want[teacher - 1][i]);
}
END_TEST

START_TEST(a_host_with_one_map_guides_all)
{
    kd_test_rig_options o = kd_test_with_feature("none");
    kd_test_rig         one, two;
    static float        map[2 * AREA];
    const float        *maps[] = { map, map };

    o.loss.guidance = "kl";
    o.teacher       = NULL;
    kd_test_fill(map, 2 * AREA, "map", 2, 0);
    kd_test_rig_make(&one, &o);
    kd_test_rig_make(&two, &o);
    kd_assert_ok(
        kdas_distiller_set_teacher_maps(one.distiller, &(kdas_maps){ maps, 1, 2, SIDE, SIDE }));
    kd_assert_ok(
        kdas_distiller_set_teacher_maps(two.distiller, &(kdas_maps){ maps, 2, 2, SIDE, SIDE }));
    ck_assert(kd_test_rig_step(&one, 0) == kd_test_rig_step(&two, 0));
    kd_test_assert_same_weights(one.student, two.student);
    kd_test_rig_finish(&one);
    kd_test_rig_finish(&two);
}
END_TEST

START_TEST(a_loss_takes_maps_of_another_number)
{
    static float map[4][AREA], g[2][2][AREA], y[AREA];
    const float *s[] = { map[0], map[1] }, *deep[] = { map[2] },
                *more[] = { map[3], map[2], map[2] };
    float *const       *to[2];
    float              *g0[] = { g[0][0], g[0][1] }, *g1[] = { g[1][0], g[1][1] };
    kd_test_rig_options o   = kd_test_with_feature("none");
    kdas_context       *ctx = kd_test_device("cpu", NULL);
    kdas_loss          *loss;
    kdas_loss_report    r[2] = { { .size = sizeof *r }, { .size = sizeof *r } };

    to[0] = g0;
    to[1] = g1;
    for (int i = 0; i < 4; i++)
        kd_test_fill(map[i], AREA, (const char *[]){ "a", "b", "c", "d" }[i], 2, 0);
    o.loss.guidance = "attention+sgm";
    kd_assert_ok(kdas_loss_create(&loss, ctx, &o.loss));
    kd_assert_ok(kdas_loss_evaluate(loss, &(kdas_maps){ s, 2, 1, SIDE, SIDE },
                                    &(kdas_maps){ deep, 1, 1, SIDE, SIDE }, y, to[0], &r[0]));
    kd_assert_ok(kdas_loss_evaluate(loss, &(kdas_maps){ s, 2, 1, SIDE, SIDE },
                                    &(kdas_maps){ more, 3, 1, SIDE, SIDE }, y, to[1], &r[1]));
    ck_assert(r[0].total == r[1].total);
    ck_assert(kd_test_same_bits(g[0], g[1], sizeof g[0]));
    kdas_loss_destroy(loss);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- memory, devices ---- */

START_TEST(second_step_of_a_size_allocates_nothing)
{
    kd_test_meter       meter = { 0 };
    kd_test_rig_options o     = kd_test_with_feature(kd_test_features[_i]);
    kd_test_rig         rig;
    kdas_batch         *small, *large;
    long                taken;

    o.meter = &meter;
    kd_test_rig_make(&rig, &o);
    small = kd_test_feature_batch(rig.ctx, 1, "s");
    large = kd_test_feature_batch(rig.ctx, 3, "l");
    kd_assert_ok(kdas_distiller_step(rig.distiller, small, NULL));
    kd_assert_ok(kdas_distiller_step(rig.distiller, large, NULL));
    taken = meter.taken;
    for (int i = 0; i < 2; i++) {
        kd_assert_ok(kdas_distiller_step(rig.distiller, small, NULL));
        kd_assert_ok(kdas_distiller_step(rig.distiller, large, NULL));
    }
    ck_assert_int_eq(meter.taken, taken);
    kdas_batch_destroy(small);
    kdas_batch_destroy(large);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

START_TEST(failing_allocation_in_create_gives_nothing)
{
    for (long k = 1, done = 0; !done; k++) {
        kd_test_meter       meter = { 0 };
        kd_test_rig_options o     = kd_test_with_feature("normalised");
        kd_test_rig         rig;
        kdas_status         st;

        o.meter = &meter;
        kd_test_rig_make(&rig, &o);
        kdas_distiller_destroy(rig.distiller);
        meter.fail_at = meter.taken + k;
        st   = kdas_distiller_create(&rig.distiller, rig.teacher, rig.student, rig.loss, rig.optim,
                                     &o.distiller);
        done = st == KDAS_OK;
        meter.fail_at = 0;
        ck_assert_msg(done || st == KDAS_ENOMEM, "allocation %ld: %d %s", k, st, kdas_last_error());
        if (!done) ck_assert_ptr_null(rig.distiller);
        if (!done) ck_assert_ptr_null(rig.optim->side);
        kd_test_rig_finish(&rig);
        kd_test_assert_given_back(&meter);
    }
}
END_TEST

START_TEST(failing_allocation_in_a_step_leaves_it_to_be_tried_again)
{
    for (long k = 1, done = 0; !done; k += 1 + k / 8) {
        kd_test_meter       meter = { 0 };
        kd_test_rig_options o     = kd_test_with_feature("channel");
        kd_test_rig         rig;
        kdas_batch         *b;
        kdas_status         st;

        o.meter = &meter;
        kd_test_rig_make(&rig, &o);
        b             = kd_test_feature_batch(rig.ctx, 1, "b");
        meter.fail_at = meter.taken + k;
        st            = kdas_distiller_step(rig.distiller, b, NULL);
        done          = st == KDAS_OK;
        ck_assert_msg(done || st == KDAS_ENOMEM, "allocation %ld: %d %s", k, st, kdas_last_error());
        meter.fail_at = 0;
        kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
        kdas_batch_destroy(b);
        kd_test_rig_finish(&rig);
        kd_test_assert_given_back(&meter);
    }
}
END_TEST

START_TEST(far_away_it_gives_the_bits_of_the_cpu)
{
    kd_test_rig_options o = kd_test_with_feature(kd_test_features[_i % KD_TEST_FEATURES]);
    kd_test_rig         near, far;

    o.loss.feature_share   = _i < KD_TEST_FEATURES ? KDAS_SHARE_OFF : 0.5f;
    o.distiller.accumulate = 1 + _i % 2;
    kd_test_rig_make(&near, &o);
    o.device = "far";
    kd_test_rig_make(&far, &o);
    for (int t = 0; t < 4; t++) {
        kdas_step_report want = kd_test_rig_report(&near, t), got = kd_test_rig_report(&far, t);

        ck_assert(got.total == want.total);
        for (int k = 0; k < KDAS_TERMS; k++) {
            ck_assert(got.raw[k] == want.raw[k] && got.weighted[k] == want.weighted[k]);
            ck_assert(got.gradient[k] == want.gradient[k]);
        }
    }
    kd_test_assert_same_weights(near.student, far.student);
    if (near.distiller->feature->params) kd_test_assert_same_projections(&near, &far);
    kd_test_rig_finish(&near);
    kd_test_rig_finish(&far);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(in_bf16_the_term_is_near_that_of_f32)
{
    kd_test_rig_options o = kd_test_with_feature(kd_test_features[_i]);
    kd_test_rig         rig[2];
    double              raw[2];

    if (!kd_test_can_half()) return;
    for (int i = 0; i < 2; i++) {
        o.precision = i ? KDAS_PRECISION_BF16 : KDAS_PRECISION_F32;
        kd_test_rig_make(&rig[i], &o);
        raw[i] = kd_test_rig_report(&rig[i], 0).raw[KDAS_TERM_FEATURE];
        kd_test_rig_finish(&rig[i]);
    }
    ck_assert_double_eq_tol(raw[1], raw[0], 0.05 * raw[0]); /* taps round to 2^-8 */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("feature pairs");
    TCase *pairs = tcase_create("pairs"), *maps = tcase_create("maps"),
          *memory = tcase_create("memory");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_test(pairs, taps_of_one_stride_are_paired);
    tcase_add_loop_test(pairs, bad_taps_are_named, 0, (int)KD_COUNT(slips));
    tcase_add_test(pairs, features_want_a_teacher_model);
    tcase_add_test(pairs, networks_without_maps_give_and_learn_features_alone);
    tcase_add_test(pairs, an_optimizer_trains_the_projections_of_one_distiller);
    tcase_add_loop_test(pairs, taps_of_shared_strides_are_paired_from_4_on, 0,
                        (int)KD_COUNT(strides));
    tcase_add_test(pairs, strides_are_those_of_a_networks_own_size);
    suite_add_tcase(suite, pairs);

    tcase_add_test(maps, maps_of_another_number_are_matched_from_the_deepest_on);
    tcase_add_test(maps, a_host_with_one_map_guides_all);
    tcase_add_test(maps, a_loss_takes_maps_of_another_number);
    suite_add_tcase(suite, maps);

    tcase_add_loop_test(memory, second_step_of_a_size_allocates_nothing, 0, KD_TEST_FEATURES);
    tcase_add_test(memory, failing_allocation_in_create_gives_nothing);
    tcase_add_test(memory, failing_allocation_in_a_step_leaves_it_to_be_tried_again);
    tcase_add_loop_test(memory, far_away_it_gives_the_bits_of_the_cpu, 0, 2 * KD_TEST_FEATURES);
    tcase_add_loop_test(memory, in_bf16_the_term_is_near_that_of_f32, 0, 3);
    suite_add_tcase(suite, memory);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

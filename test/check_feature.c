/* check_feature.c - feature guidance: pairs of taps, the gradient that the student gets, projections that are trained,
 * resumed and left alone, any model as a teacher of any other. Values are compared with golden ones by check_golden. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "distill/distiller.h"
#include "distill/feature_inside.h"
#include "model/model.h"
#include "optim/optim.h"
#include "support/check_util.h"
#include "support/feature_util.h"
#include "support/files.h"
#include "support/thin.h"

enum { SIDE = 32, AREA = SIDE * SIDE };

/* ---- learning ---- */

START_TEST(the_term_falls_and_is_part_of_the_total)
{
    kd_test_rig_options o = kd_test_with_feature(kd_test_features[_i]);
    kd_test_rig         rig;
    kdas_step_report    r = { .size = sizeof r };
    kdas_batch         *b;
    double              first = 0;

    /* energies are small: alone, they fall */
    o.loss.seg_weight     = o.loss.feature_taps ? 0 : 0.5f;
    o.loss.feature_weight = 3;
    kd_test_rig_make(&rig, &o);
    b = kd_test_feature_batch(rig.ctx, 2, "falls");
    for (int i = 0; i < 12; i++) {
        kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
        if (i == 0) first = r.raw[KDAS_TERM_FEATURE];
        ck_assert(r.raw[KDAS_TERM_FEATURE] > 0 && r.gradient[KDAS_TERM_FEATURE] > 0);
        ck_assert_double_eq_tol(r.weighted[KDAS_TERM_FEATURE], 3 * r.raw[KDAS_TERM_FEATURE], 1e-9);
        ck_assert_double_eq_tol(r.total, 0.5 * r.raw[KDAS_TERM_SEG] + r.weighted[KDAS_TERM_FEATURE],
                                1e-6);
    }
    ck_assert_msg(r.raw[KDAS_TERM_FEATURE] < 0.9 * first, "%s: from %g to %g", kd_test_features[_i],
                  first, r.raw[KDAS_TERM_FEATURE]);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(projections_are_trained_and_not_part_of_the_student)
{
    kd_test_rig_options o     = kd_test_with_feature("normalised"),
                        alone = kd_test_with_feature("none");
    kd_test_rig rig, plain;
    int64_t     n;
    float      *before, *after, most = 0;

    kd_test_rig_make(&rig, &o);
    kd_test_rig_make(&plain, &alone);
    ck_assert_ptr_null(plain.distiller->feature);
    ck_assert_int_eq(kdas_model_tensors(rig.student), kdas_model_tensors(plain.student));
    before = kd_test_projections(&rig, &n);
    kd_test_rig_step(&rig, 0);
    after = kd_test_projections(&rig, &n);
    for (int64_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(after[i] - before[i]));
    ck_assert_float_eq_tol(most, 1e-3f, 1e-4f); /* AdamW's first step is the rate, 1e-3 */
    free(before);
    free(after);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&plain);
}
END_TEST

/* ---- the gradient is that of a host that adds it by itself ---- */

static float *tap_value(kdas_model *m, const char *tap, kdas_desc *d)
{
    int64_t dims[4];
    float  *x;

    kd_assert_ok(kdas_model_tap_dims(m, tap, dims));
    *d = kd_desc(dims[0], dims[1], dims[2], dims[3]);
    x  = malloc((size_t)kd_elements(d) * sizeof *x);
    kd_assert_ok(kdas_model_read_output(m, tap, x));
    return x;
}

/* The gradient of `weight` times the term at the student's tap, for one pair, by a program of the test's own with the
 * projection of the rig. */
static void hand_gradient(kd_test_rig *rig, kdas_model *student, const char *kind, float weight)
{
    const char     *tap   = "backbone.x3";
    kd_feature_pair pair  = { .teacher = tap, .student = tap };
    float          *t     = tap_value(rig->teacher, tap, &pair.teacher_shape);
    float          *s     = tap_value(student, tap, &pair.student_shape);
    float          *g     = malloc((size_t)kd_elements(&pair.student_shape) * sizeof *g);
    kd_graph       *graph = kd_graph_create(rig->ctx, rig->distiller->feature->params, KD_EVAL);
    kd_arena       *arena = kd_arena_create(rig->ctx);
    kd_program     *p;
    const kd_node  *in;

    kd_feature_build(graph, kd_feature_find(kind), &rig->loss->options, &pair, 1);
    kd_assert_ok(kd_program_create(&p, graph, arena));
    in = kd_find(graph, "student.backbone.x3");
    kd_program_bind(p, in, s, g);
    kd_program_bind(p, kd_find(graph, "teacher.backbone.x3"), t, NULL);
    kd_assert_ok(kd_program_forward(p, 0));
    *kd_program_grad(p, kd_find(graph, "feature")) = weight;
    kd_assert_ok(kd_program_backward(p));
    kd_assert_ok(kdas_model_add_gradient(student, tap, g));
    kd_program_destroy(p);
    kd_arena_destroy(arena);
    free(t);
    free(s);
    free(g);
}

/* Gradients of a student's tensors, one after the other. */
static float *gradients_of(const kdas_model *m, size_t *count)
{
    int64_t n   = kd_params_trainable(m->params);
    float  *all = malloc((size_t)n * sizeof *all);

    memcpy(all, kd_params_grads(m->params), (size_t)n * sizeof *all);
    *count = (size_t)n;
    return all;
}

START_TEST(the_gradient_is_that_of_a_host_that_adds_it_at_the_tap)
{
    kd_test_rig_options o = kd_test_with_feature(kd_test_features[_i]);
    kd_test_rig         rig;
    kdas_model         *student;
    kdas_batch         *b;
    float               zeros[2 * AREA] = { 0 };
    const float        *outputs[]       = { zeros, zeros };
    float              *got, *want;
    size_t              n;

    o.loss.seg_weight     = 0;
    o.loss.feature_taps   = "backbone.x3:backbone.x3";
    o.loss.feature_weight = 2;
    kd_test_rig_make(&rig, &o);
    b = kd_test_feature_batch(rig.ctx, 2, "b");
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    got = gradients_of(rig.student, &n);

    kd_assert_ok(kdas_model_create(&student, rig.ctx, o.student, &o.model));
    kd_assert_ok(kdas_model_keep_tap(student, "backbone.x3"));
    kd_assert_ok(kdas_model_forward(student, KDAS_MODE_TRAIN, b));
    hand_gradient(&rig, student, kd_test_features[_i], 2);
    kd_assert_ok(kdas_model_backward(student, outputs));
    want = gradients_of(student, &n);
    kd_assert_close(got, want, (int64_t)n, 1e-6);
    ck_assert(got[7] != 0 || got[100] != 0);
    free(got);
    free(want);
    kdas_model_destroy(student);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(what_a_host_adds_at_a_tap_stays)
{
    kd_test_rig_options o = kd_test_with_feature("normalised");
    kd_test_rig         rig[2];
    static float        g[2 * 8 * 8 * 32];
    float              *a, *b;
    size_t              n;

    kd_test_fill(g, 2 * 8 * 8 * 32, "g", 1, 0);
    for (int i = 0; i < 2; i++) {
        kdas_batch *batch;

        kd_test_rig_make(&rig[i], &o);
        batch = kd_test_feature_batch(rig[i].ctx, 2, "b");
        kd_assert_ok(kdas_distiller_forward(rig[i].distiller, batch));
        if (i) kd_assert_ok(kdas_model_add_gradient(rig[i].student, "backbone.x1", g));
        kd_assert_ok(kdas_distiller_backward(rig[i].distiller, NULL));
        kdas_batch_destroy(batch);
    }
    a = gradients_of(rig[0].student, &n);
    b = gradients_of(rig[1].student, &n);
    ck_assert(!kd_test_same_bits(a, b, n * sizeof *a));
    free(a);
    free(b);
    for (int i = 0; i < 2; i++)
        kd_test_rig_finish(&rig[i]);
}
END_TEST

START_TEST(the_gradient_of_a_projection_is_its_finite_difference)
{
    kd_test_rig_options o = kd_test_with_feature(kd_test_features[_i]);
    kd_test_rig         rig;
    kdas_batch         *b;
    kd_params          *p;
    float               h = 0.01f, w[4096], g[4096];
    int64_t             n;

    o.loss.feature_taps = "backbone.x1:backbone.x1";
    o.model.drop_path   = 0; /* the taps are the same each time */
    kd_test_rig_make(&rig, &o);
    p = rig.distiller->feature->params;
    n = kd_params_at(p, 0)->count;
    b = kd_test_feature_batch(rig.ctx, 2, "b");
    kd_assert_ok(kd_params_read(p, 0, w));
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    kd_assert_ok(kd_params_read_grad(p, 0, g));
    for (int64_t i = 3; i < n; i += n / 5) {
        double value[2];
        float  keep = w[i];

        for (int k = 0; k < 2; k++) {
            kdas_step_report r = { .size = sizeof r };

            w[i] = keep + (k ? h : -h);
            kd_assert_ok(kd_params_write(p, 0, w));
            kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
            kd_assert_ok(kdas_distiller_backward(rig.distiller, &r));
            value[k] = r.raw[KDAS_TERM_FEATURE];
        }
        w[i] = keep;
        ck_assert_double_eq_tol((value[1] - value[0]) / (2 * (double)h), (double)g[i],
                                2e-3 * fmax(1e-2, fabs((double)g[i])) + 2e-5);
    }
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- gathering, skipping, resuming ---- */

START_TEST(micro_batches_gather_the_mean)
{
    kd_test_rig_options o = kd_test_with_feature("normalised");
    kd_test_rig         rig[2];
    float              *g[2];
    int64_t             n = 0;

    o.model.drop_path = 0;
    for (int i = 0; i < 2; i++) {
        kd_params *p;

        o.distiller.accumulate = i ? 2 : 1;
        kd_test_rig_make(&rig[i], &o);
        p = rig[i].distiller->feature->params;
        n = kd_params_trainable(p);
        for (int k = 0; k <= i; k++) {
            kdas_batch *b = kd_test_feature_batch(rig[i].ctx, 2, "same");

            kd_assert_ok(kdas_distiller_forward(rig[i].distiller, b));
            kd_assert_ok(kdas_distiller_backward(rig[i].distiller, NULL));
            kdas_batch_destroy(b);
        }
        g[i] = malloc((size_t)n * sizeof(float));
        memcpy(g[i], kd_params_grads(p), (size_t)n * sizeof(float));
    }
    kd_assert_close(g[1], g[0], n, 1e-5);
    for (int i = 0; i < 2; i++) {
        free(g[i]);
        kd_test_rig_finish(&rig[i]);
    }
}
END_TEST

START_TEST(gradients_that_the_host_drops_are_dropped_here_too)
{
    kd_test_rig_options o = kd_test_with_feature("normalised");
    kd_test_rig         clean, dirty;
    kdas_batch         *b, *other;

    o.model.drop_path = 0;
    kd_test_rig_make(&clean, &o);
    kd_test_rig_make(&dirty, &o);
    other = kd_test_feature_batch(dirty.ctx, 2, "other");
    kd_assert_ok(kdas_distiller_forward(dirty.distiller, other));
    kd_assert_ok(kdas_distiller_backward(dirty.distiller, NULL));
    kd_assert_ok(kdas_model_zero_gradients(dirty.student));
    kdas_batch_destroy(other);
    b = kd_test_feature_batch(clean.ctx, 2, "b");
    kd_assert_ok(kdas_distiller_step(clean.distiller, b, NULL));
    kd_assert_ok(kdas_distiller_step(dirty.distiller, b, NULL));
    kd_test_assert_same_projections(&clean, &dirty);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&clean);
    kd_test_rig_finish(&dirty);
}
END_TEST

static void poison_projection(kd_test_rig *rig, float value)
{
    kd_assert_ok(kd_device_upload(rig->ctx, kd_params_grads(rig->distiller->feature->params),
                                  &value, sizeof value));
}

START_TEST(an_overflow_in_a_projection_skips_the_update_of_all)
{
    kd_test_rig_options o = kd_test_with_feature("normalised");
    kd_test_rig         rig, fresh;
    kdas_step_report    r = { .size = sizeof r };
    kdas_batch         *b;
    float              *after;
    size_t              n;

    o.optim.loss_scale = 1024;
    kd_test_rig_make(&rig, &o);
    kd_test_rig_make(&fresh, &o);
    b = kd_test_feature_batch(rig.ctx, 2, "b");
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    poison_projection(&rig, INFINITY);
    kd_assert_ok(kdas_distiller_update(rig.distiller, &r));
    ck_assert_int_eq(r.skipped, 1);
    ck_assert_int_eq(r.updated, 0);
    ck_assert_double_eq(kdas_optim_loss_scale(rig.optim), 512);
    kd_test_assert_same_projections(&rig, &fresh);
    after = gradients_of(rig.student, &n);
    for (size_t i = 0; i < n; i++)
        ck_assert(after[i] == 0); /* the next step starts clean */
    kd_assert_ok(kdas_distiller_step(rig.distiller, b, &r));
    ck_assert_int_eq(r.updated, 1);
    free(after);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&fresh);
}
END_TEST

START_TEST(a_projection_whose_gradient_is_not_finite_is_named)
{
    kd_test_rig_options o = kd_test_with_feature("normalised");
    kd_test_rig         rig, fresh;
    kdas_batch         *b;

    kd_test_rig_make(&rig, &o);
    kd_test_rig_make(&fresh, &o);
    b = kd_test_feature_batch(rig.ctx, 2, "b");
    kd_assert_ok(kdas_distiller_forward(rig.distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, NULL));
    poison_projection(&rig, NAN);
    kd_assert_status(kdas_distiller_update(rig.distiller, NULL), KDAS_ENUMERIC);
    kd_assert_sentence("projection0.weight");
    kd_test_assert_same_projections(&rig, &fresh);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&fresh);
}
END_TEST

START_TEST(clipping_is_by_norms_of_their_own)
{
    kd_test_rig_options o = kd_test_with_feature("none");
    kd_test_rig         alone, both;
    kdas_batch         *b;

    /* The same gradients at the student, the one with projections beside them: nothing else may change. */
    o.optim.clip_norm = 1e-3f;
    kd_test_rig_make(&alone, &o);
    o.loss.feature        = "normalised";
    o.loss.feature_weight = 1;
    kd_test_rig_make(&both, &o);
    kd_assert_ok(kdas_loss_set_guidance_factor(both.loss, 0));
    b = kd_test_feature_batch(alone.ctx, 2, "b");
    kd_assert_ok(kdas_distiller_forward(alone.distiller, b));
    kd_assert_ok(kdas_distiller_backward(alone.distiller, NULL));
    kd_assert_ok(kdas_distiller_forward(both.distiller, b));
    kd_assert_ok(kdas_distiller_backward(both.distiller, NULL));
    poison_projection(&both, 1e3f);
    kd_assert_ok(kdas_distiller_update(alone.distiller, NULL));
    kd_assert_ok(kdas_distiller_update(both.distiller, NULL));
    kd_test_assert_same_weights(alone.student, both.student);
    kdas_batch_destroy(b);
    kd_test_rig_finish(&alone);
    kd_test_rig_finish(&both);
}
END_TEST

static const struct {
    const char *feature, *rule;
    int         accumulate, before, after;
    float       share;
    int         precision;
} resumes[] = {
    { "normalised", "adamw", 1, 2, 2, KDAS_SHARE_OFF, KDAS_PRECISION_F32 },
    { "channel", "sgd", 1, 2, 2, 0.5f, KDAS_PRECISION_F32 },
    { "cosine", "adamw", 3, 4, 3, KDAS_SHARE_OFF, KDAS_PRECISION_F32 }, /* one micro-batch waits */
    { "attention", "adamw", 1, 2, 2, KDAS_SHARE_OFF, KDAS_PRECISION_F32 },
    { "normalised", "adamw", 3, 4, 3, 0.5f, KDAS_PRECISION_BF16 },
    { "normalised", "adamw", 3, 4, 3, 0.5f, KDAS_PRECISION_F32 },
    { "normalised", "adamw", 3, 4, 3, KDAS_SHARE_OFF, KDAS_PRECISION_BF16 },
};

START_TEST(a_resumed_run_gives_the_bits_of_an_unbroken_one)
{
    kd_test_rig_options o = kd_test_with_feature(resumes[_i].feature);
    kd_test_rig         whole, part;
    double              last = 0;
    int                 t, end = resumes[_i].before + resumes[_i].after;

    o.optim.rule           = resumes[_i].rule;
    o.distiller.accumulate = resumes[_i].accumulate;
    o.loss.feature_share   = resumes[_i].share;
    o.precision            = (kdas_precision)resumes[_i].precision;
    if (o.precision != KDAS_PRECISION_F32 && !kd_test_can_half()) return;
    kd_test_rig_make(&whole, &o);
    for (t = 0; t < end; t++)
        last = kd_test_rig_step(&whole, t);
    kd_test_rig_make(&part, &o);
    for (t = 0; t < resumes[_i].before; t++)
        kd_test_rig_step(&part, t);
    kd_assert_ok(kdas_checkpoint_save(part.distiller, kd_test_path("f.kdas"), NULL, NULL));
    kd_test_rig_finish(&part);

    o.model.seed = 4711; /* projections that the file replaces */
    kd_test_rig_make(&part, &o);
    kd_assert_ok(kdas_checkpoint_load(part.distiller, kd_test_path("f.kdas"), NULL));
    for (t = resumes[_i].before; t < end - 1; t++)
        kd_test_rig_step(&part, t);
    ck_assert_double_eq(kd_test_rig_step(&part, t), last);
    kd_test_assert_same_weights(part.student, whole.student);
    if (whole.distiller->feature->params) kd_test_assert_same_projections(&part, &whole);
    kd_test_rig_finish(&part);
    kd_test_rig_finish(&whole);
}
END_TEST

START_TEST(a_checkpoint_of_other_pairs_is_refused)
{
    kd_test_rig_options o = kd_test_with_feature("normalised");
    kd_test_rig         rig;

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_checkpoint_save(rig.distiller, kd_test_path("p.kdas"), NULL, NULL));
    kd_test_rig_finish(&rig);
    o.teacher = "polyp_pvt_b1";
    kd_test_rig_make(&rig, &o);
    kd_assert_status(kdas_checkpoint_load(rig.distiller, kd_test_path("p.kdas"), NULL),
                     KDAS_EINVAL);
    kd_assert_sentence("teacher of features is 'polyp_pvt_b0', here it is 'polyp_pvt_b1'");
    kd_test_rig_finish(&rig);
    o = kd_test_with_feature("none");
    kd_test_rig_make(&rig, &o);
    kd_assert_status(kdas_checkpoint_load(rig.distiller, kd_test_path("p.kdas"), NULL),
                     KDAS_EINVAL);
    kd_assert_sentence("is of another run");
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- how much ---- */

/* The factor is 0.25 of the running mean of seg's norms over that of the term's own. The first step measures before it sends;
 * later ones send by the means of the steps before. */
START_TEST(a_share_limits_what_is_sent)
{
    kd_test_rig_options o   = kd_test_with_feature("normalised");
    double              seg = 0, term = 0;
    kd_test_rig         rig;

    o.loss.feature_share  = 0.25f;
    o.loss.feature_weight = 50; /* far above seg by itself */
    kd_test_rig_make(&rig, &o);
    for (int t = 0; t < 4; t++) {
        kdas_step_report r      = kd_test_rig_report(&rig, t);
        double           factor = r.weighted[KDAS_TERM_FEATURE] / (50 * r.raw[KDAS_TERM_FEATURE]);
        double           own    = r.gradient[KDAS_TERM_FEATURE] / factor; /* its norm without it */
        double           now    = r.gradient[KDAS_TERM_SEG];

        if (t == 0) {
            seg  = now;
            term = own;
        }
        ck_assert_double_lt(factor, 0.5);
        ck_assert_double_eq_tol(factor, 0.25 * seg / term, 1e-4 * factor);
        seg  = t ? 0.9 * seg + 0.1 * now : now;
        term = t ? 0.9 * term + 0.1 * own : own;
    }
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(under_a_factor_of_zero_nothing_is_computed)
{
    kd_test_rig_options o = kd_test_with_feature("normalised"), none = kd_test_with_feature("none");
    kd_test_rig         rig, plain;

    kd_test_rig_make(&rig, &o);
    kd_test_rig_make(&plain, &none);
    kd_assert_ok(kdas_loss_set_guidance_factor(rig.loss, 0));
    for (int t = 0; t < 2; t++) {
        kdas_step_report r = kd_test_rig_report(&rig, t);

        ck_assert(r.total == kd_test_rig_step(&plain, t));
        ck_assert(r.raw[KDAS_TERM_FEATURE] == 0 && r.gradient[KDAS_TERM_FEATURE] == 0);
    }
    ck_assert_ptr_null(rig.teacher->current); /* it was not asked */
    kd_test_assert_same_weights(rig.student, plain.student);
    kd_test_rig_finish(&rig);
    kd_test_rig_finish(&plain);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("feature");
    TCase   *learn = tcase_create("learning"), *state = tcase_create("state");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_loop_test(learn, the_term_falls_and_is_part_of_the_total, 0, KD_TEST_FEATURES);
    tcase_add_test(learn, projections_are_trained_and_not_part_of_the_student);
    tcase_add_loop_test(learn, the_gradient_is_that_of_a_host_that_adds_it_at_the_tap, 0,
                        KD_TEST_FEATURES);
    tcase_add_test(learn, what_a_host_adds_at_a_tap_stays);
    tcase_add_loop_test(learn, the_gradient_of_a_projection_is_its_finite_difference, 0, 3);
    tcase_add_test(learn, a_share_limits_what_is_sent);
    tcase_add_test(learn, under_a_factor_of_zero_nothing_is_computed);
    suite_add_tcase(suite, learn);

    tcase_add_checked_fixture(state, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(state, micro_batches_gather_the_mean);
    tcase_add_test(state, gradients_that_the_host_drops_are_dropped_here_too);
    tcase_add_test(state, an_overflow_in_a_projection_skips_the_update_of_all);
    tcase_add_test(state, a_projection_whose_gradient_is_not_finite_is_named);
    tcase_add_test(state, clipping_is_by_norms_of_their_own);
    tcase_add_loop_test(state, a_resumed_run_gives_the_bits_of_an_unbroken_one, 0,
                        (int)KD_COUNT(resumes));
    tcase_add_test(state, a_checkpoint_of_other_pairs_is_refused);
    suite_add_tcase(suite, state);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_guidance.c - guidance beyond the paper: gradients of every combination, what is refused, the share and the
 * factor. check_golden compares the values with float64. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "loss/loss.h"
#include "support/check_util.h"
#include "support/run_util.h"

#define N     2
#define SIDE  16 /* square, for sym "sum" */
#define COUNT (N * SIDE * SIDE)

static kdas_context *ctx;
static float         s1[COUNT], s2[COUNT], t1[COUNT], t2[COUNT], y[COUNT], g1[COUNT], g2[COUNT];
static const float *const student_maps[] = { s1, s2 }, *const teacher_maps[] = { t1, t2 };
static float *const    gradients[] = { g1, g2 };
static const kdas_maps student     = { student_maps, 2, N, SIDE, SIDE },
                       teacher     = { teacher_maps, 2, N, SIDE, SIDE };

static void fill_maps(const char *what)
{
    static const char *const names[] = { "s1", "s2", "t1", "t2" };
    float *const             maps[]  = { s1, s2, t1, t2 };

    for (int i = 0; i < 4; i++) {
        char name[64];

        snprintf(name, sizeof name, "guidance.%s.%s", what, names[i]);
        kd_test_fill(maps[i], COUNT, name, 2, 0);
    }
}

static void open_context(void)
{
    ctx = kd_test_device("cpu", NULL);
    fill_maps("first");
    kd_test_ellipses(y, N, SIDE, SIDE, "y");
}
static void close_context(void) { kdas_context_destroy(ctx); }

static kdas_loss *make(const kdas_loss_options *o)
{
    kdas_loss *loss;

    kd_assert_ok(kdas_loss_create(&loss, ctx, o));
    return loss;
}

static kdas_loss_report evaluate(kdas_loss *loss)
{
    kdas_loss_report r = { .size = sizeof r };

    kd_assert_ok(kdas_loss_evaluate(loss, &student, &teacher, y, gradients, &r));
    return r;
}

/* ---- gradients ---- */

static const struct {
    const char *guidance, *sym, *axis, *input, *similarity, *distance;
} rows[] = {
    { "kl", "covariance", "spatial", "probability", "dot", "kl" },
    { "kl", "covariance", "spatial", "standardised", "dot", "kl" },
    { "kl", "covariance", "row", "standardised", "dot", "kl" },
    { "kl", "covariance", "pixel", "logits", "dot", "kl" },
    { "kl", "covariance", "spatial", "logits", "dot", "squared" },
    { "kl", "covariance", "spatial", "probability", "dot", "squared" },
    { "kl", "covariance", "spatial", "logits", "dot", "pearson" },
    { "kl", "covariance", "row", "probability", "dot", "pearson" },
    { "attention", "covariance", "spatial", "logits", "cosine", "kl" },
    { "attention", "covariance", "pixel", "logits", "cosine", "kl" },
    { "attention", "covariance", "row", "logits", "cosine", "kl" },
    { "attention", "covariance", "spatial", "logits", "cosine", "squared" },
    { "attention", "covariance", "spatial", "probability", "cosine", "pearson" },
    { "attention", "covariance", "spatial", "standardised", "dot", "kl" },
    { "attention+sgm", "correlation", "spatial", "logits", "cosine", "kl" },
    { "attention+sgm", "correlation", "spatial", "logits", "dot", "squared" },
    { "attention+sgm", "correlation", "row", "logits", "cosine", "pearson" },
    { "attention+sgm", "covariance", "spatial", "standardised", "cosine", "kl" },
    { "attention+sgm", "sum", "spatial", "probability", "cosine", "squared" },
    { "published", "sum", "channel", "standardised", "dot", "kl" },
};

static kdas_loss_options options_of(int i)
{
    kdas_loss_options o;

    kdas_loss_options_init(&o, sizeof o);
    o.guidance        = rows[i].guidance;
    o.sym             = rows[i].sym;
    o.axis            = rows[i].axis;
    o.input           = rows[i].input;
    o.similarity      = rows[i].similarity;
    o.distance        = rows[i].distance;
    o.seg_weight      = 0; /* what is compared is the guidance alone */
    o.guidance_weight = 1;
    o.kd_weight       = 0.75f;
    o.sgm_weight      = 1.5f;
    return o;
}

/* The total where both maps have gone `h` along a direction. */
static double total_at(kdas_loss *loss, float direction[2][COUNT], float h)
{
    static float     moved[2][COUNT];
    const float     *maps[] = { moved[0], moved[1] };
    kdas_maps        s      = { maps, 2, N, SIDE, SIDE };
    kdas_loss_report r      = { .size = sizeof r };

    for (int m = 0; m < 2; m++)
        for (int i = 0; i < COUNT; i++)
            moved[m][i] = student_maps[m][i] + h * direction[m][i];
    kd_assert_ok(kdas_loss_evaluate(loss, &s, &teacher, y, NULL, &r));
    return r.total;
}

/* Along the gradient itself and along two drawn directions; fourth order, so that a step is long enough for the
 * rounding of a total in f32. */
START_TEST(gradient_matches_finite_difference_along_directions)
{
    static float      d[2][COUNT];
    kdas_loss_options o    = options_of(_i);
    kdas_loss        *loss = make(&o);
    double            norm = 0;

    evaluate(loss);
    for (int m = 0; m < 2; m++)
        for (int i = 0; i < COUNT; i++)
            norm += pow((double)gradients[m][i], 2);
    norm = sqrt(norm);
    ck_assert_double_gt(norm, 0);
    for (int k = 0; k < 3; k++) {
        double want = 0, found;
        float  h    = k ? 0.05f : 0.4f; /* of a unit along the gradient; of each element */

        for (int m = 0; m < 2; m++) {
            char name[32];

            snprintf(name, sizeof name, "direction.%d.%d", k, m);
            kd_test_fill(d[m], COUNT, name, 1, 0);
            for (int i = 0; i < COUNT; i++) {
                if (!k) d[m][i] = (float)((double)gradients[m][i] / norm);
                want += (double)gradients[m][i] * (double)d[m][i];
            }
        }
        found = 8 * (total_at(loss, d, h) - total_at(loss, d, -h)) -
                (total_at(loss, d, 2 * h) - total_at(loss, d, -2 * h));
        found /= 12 * (double)h;
        ck_assert_msg(fabs(found - want) <= 1e-2 * norm, "direction %d: %g, not %g of a norm %g", k,
                      found, want, norm);
    }
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(a_student_equal_to_its_teacher_has_no_guidance)
{
    kdas_loss_options o    = options_of(_i);
    kdas_loss        *loss = make(&o);
    kdas_loss_report  r    = { .size = sizeof r };

    kd_assert_ok(kdas_loss_evaluate(loss, &student, &student, y, NULL, &r));
    ck_assert_double_eq_tol(r.raw[KDAS_TERM_KD], 0, 2e-6);
    ck_assert_double_eq_tol(r.raw[KDAS_TERM_SGM], 0, 2e-6);
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(each_weight_is_that_of_its_term)
{
    kdas_loss_options o;
    kdas_loss        *loss;
    kdas_loss_report  r;

    kdas_loss_options_init(&o, sizeof o);
    o.kd_weight  = 3;
    o.sgm_weight = 0.5f;
    loss         = make(&o);
    r            = evaluate(loss);
    ck_assert_double_eq(r.weighted[KDAS_TERM_KD], (double)0.2f * 3 * r.raw[KDAS_TERM_KD]);
    ck_assert_double_eq(r.weighted[KDAS_TERM_SGM], (double)0.2f * 0.5 * r.raw[KDAS_TERM_SGM]);
    kdas_loss_destroy(loss);
    o.kd_weight = 0;
    loss        = make(&o);
    r           = evaluate(loss);
    ck_assert_int_eq(r.on[KDAS_TERM_KD], 0);
    ck_assert_int_eq(r.on[KDAS_TERM_SGM], 1);
    kdas_loss_destroy(loss);
}
END_TEST

/* ---- What a preset is, and what is refused ---- */

START_TEST(presets_say_whether_they_need_maps_or_taps)
{
    static const struct {
        const char *name;
        int         teacher, taps;
    } want[] = { { "paper", 1, 0 },         { "baseline", 0, 0 }, { "kl", 1, 0 },
                 { "attention", 1, 0 },     { "feature", 0, 1 },  { "kdas", 1, 1 },
                 { "published_code", 1, 0 } };

    for (size_t i = 0; i < KD_COUNT(want); i++) {
        kdas_loss_options o, defaults;
        kdas_loss        *loss;

        memset(&o, 0xAA, sizeof o); /* nothing is left of what was there */
        o.size = sizeof o;
        kd_assert_ok(kdas_loss_options_preset(&o, want[i].name));
        kdas_loss_options_init(&defaults, sizeof defaults);
        if (i == 0) ck_assert_mem_eq(&o, &defaults, sizeof o);
        ck_assert_ptr_null(o.feature_taps);
        loss = make(&o);
        ck_assert_int_eq(kdas_loss_needs_teacher(loss), want[i].teacher);
        ck_assert_int_eq(kdas_loss_needs_taps(loss), want[i].taps);
        kdas_loss_destroy(loss);
    }
    ck_assert_int_eq(kdas_loss_needs_taps(NULL), 0);
}
END_TEST

START_TEST(a_preset_for_a_program_of_before_writes_no_further_than_it_knows)
{
    kdas_loss_options o;

    memset(&o, 0xAA, sizeof o);
    o.size = offsetof(kdas_loss_options, input); /* as 0.3 had it */
    kd_assert_ok(kdas_loss_options_preset(&o, "kdas"));
    ck_assert_str_eq(o.axis, "pixel");
    for (const unsigned char *p = (unsigned char *)&o.input; p < (unsigned char *)(&o + 1); p++)
        ck_assert_int_eq(*p, 0xAA);
}
END_TEST

START_TEST(options_are_refused_with_a_sentence)
{
    kdas_loss_options o;
    kdas_loss        *loss;

#define REFUSED(change, status, word)                           \
    kdas_loss_options_init(&o, sizeof o);                       \
    change;                                                     \
    loss = (kdas_loss *)&o;                                     \
    kd_assert_status(kdas_loss_create(&loss, ctx, &o), status); \
    ck_assert_ptr_null(loss);                                   \
    kd_assert_sentence(word)
    REFUSED(o.input = "pixels", KDAS_ENOTFOUND, "pixels");
    REFUSED(o.similarity = "angle", KDAS_ENOTFOUND, "angle");
    REFUSED(o.distance = "", KDAS_ENOTFOUND, "distance");
    REFUSED(o.distance = "k", KDAS_ENOTFOUND, "'k'");
    REFUSED(o.feature = "hint", KDAS_ENOTFOUND, "hint");
    REFUSED(o.input = NULL, KDAS_EINVAL, "NULL");
    REFUSED(o.kd_weight = -1, KDAS_EINVAL, "kd_weight");
    REFUSED(o.sgm_weight = NAN, KDAS_EINVAL, "sgm_weight");
    REFUSED(o.feature_weight = -2, KDAS_EINVAL, "feature_weight");
    REFUSED(o.feature_tau = 0, KDAS_EINVAL, "feature_tau");
    REFUSED(o.share = 0, KDAS_EINVAL, "share is 0");
    REFUSED(o.feature_share = 0, KDAS_EINVAL, "feature_share is 0");
    REFUSED(o.share = -0.5f, KDAS_EINVAL, "KDAS_SHARE_OFF");
    REFUSED(o.share = NAN, KDAS_EINVAL, "share");
    REFUSED((o.share = 0.5f, o.seg_weight = 0), KDAS_EINVAL, "seg_weight is 0");
    REFUSED(o.axis = "pixel", KDAS_EINVAL, "SGM");
    REFUSED((o.axis = "pixel", o.guidance = "kl", o.input = "probability"), KDAS_EINVAL, "logits");
    REFUSED((o.axis = "pixel", o.distance = "pearson"), KDAS_EINVAL, "pearson");
    REFUSED((o.axis = "channel", o.distance = "pearson"), KDAS_EINVAL, "pearson");
    REFUSED((o.guidance = "published", o.distance = "squared"), KDAS_EINVAL, "published");
}
END_TEST

/* ---- The share ---- */

/* kd alone, `weight` times as strong as seg or so. */
static kdas_loss_options strong(float weight, float share)
{
    kdas_loss_options o;

    kdas_loss_options_init(&o, sizeof o);
    o.guidance        = "kl";
    o.guidance_weight = weight;
    o.share           = share;
    return o;
}

/* What seg and kd send by themselves under a weight. */
static void parts(float weight, float seg[2][COUNT], float kd[2][COUNT], double norm[2])
{
    for (int k = 0; k < 2; k++) {
        kdas_loss_options o = strong(k ? weight : 0, KDAS_SHARE_OFF);
        kdas_loss        *loss;
        kdas_loss_report  r;

        o.seg_weight = k ? 0 : 1;
        loss         = make(&o);
        r            = evaluate(loss);
        norm[k]      = r.gradient[k ? KDAS_TERM_KD : KDAS_TERM_SEG];
        for (int m = 0; m < 2; m++)
            memcpy(k ? kd[m] : seg[m], gradients[m], sizeof g1);
        kdas_loss_destroy(loss);
    }
}

START_TEST(a_term_sends_its_share_of_seg_from_the_first_evaluation_on)
{
    static float      seg[2][COUNT], kd[2][COUNT];
    kdas_loss_options o    = strong(50, 0.5f);
    kdas_loss        *loss = make(&o);
    double            norm[2], factor;

    parts(50, seg, kd, norm);
    ck_assert_double_gt(norm[1], 5 * norm[0]); /* it would drive, not guide */
    factor = 0.5 * norm[0] / norm[1];
    for (int time = 0; time < 3; time++) { /* the same maps: the means stay where they are */
        kdas_loss_report r = evaluate(loss);

        ck_assert_double_eq_tol(r.gradient[KDAS_TERM_SEG], norm[0], 1e-9 * norm[0]);
        ck_assert_double_eq_tol(r.gradient[KDAS_TERM_KD], 0.5 * norm[0], 1e-9 * norm[0]);
        ck_assert_double_eq_tol(r.weighted[KDAS_TERM_KD], 50 * factor * r.raw[KDAS_TERM_KD],
                                1e-9 * r.total);
        ck_assert_double_eq_tol(r.total, r.weighted[KDAS_TERM_SEG] + r.weighted[KDAS_TERM_KD],
                                1e-12);
        for (int m = 0; m < 2; m++)
            for (int i = 0; i < COUNT; i++)
                ck_assert_double_eq_tol(gradients[m][i], seg[m][i] + factor * (double)kd[m][i],
                                        2e-7 * norm[0]); /* two roundings of parts below a norm */
    }
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(a_term_below_its_share_is_left_alone)
{
    static float      free_gradient[COUNT];
    kdas_loss_options o       = strong(1e-3f, 1);
    kdas_loss        *limited = make(&o), *unlimited;
    kdas_loss_report  a, b;

    o.share   = KDAS_SHARE_OFF;
    unlimited = make(&o);
    a         = evaluate(unlimited);
    memcpy(free_gradient, g2, sizeof g2);
    b = evaluate(limited);
    ck_assert_double_lt(b.gradient[KDAS_TERM_KD], b.gradient[KDAS_TERM_SEG]);
    ck_assert_mem_eq(&a, &b, sizeof a);
    ck_assert_mem_eq(free_gradient, g2, sizeof g2);
    kdas_loss_destroy(limited);
    kdas_loss_destroy(unlimited);
}
END_TEST

START_TEST(the_limit_is_that_of_the_means_of_the_steps_before)
{
    static const char *const what[] = { "one", "two", "three", "four" };
    kdas_loss_options        o = strong(50, 0.25f), off = strong(50, KDAS_SHARE_OFF);
    kdas_loss               *loss = make(&o), *plain = make(&off), *twin = make(&o);
    double                   seg = 0, kd = 0;

    for (int i = 0; i < 4; i++) {
        kdas_loss_report want, got, same;
        static float     kept[COUNT];

        fill_maps(what[i]);
        for (int k = 0; k < COUNT; k++) /* so that the norms differ */
            s1[k] *= (float)(1 + i);
        want = evaluate(plain);
        if (i == 0) {
            seg = want.gradient[KDAS_TERM_SEG];
            kd  = want.gradient[KDAS_TERM_KD];
        }
        got = evaluate(loss);
        memcpy(kept, g1, sizeof g1);
        ck_assert_double_eq_tol(got.gradient[KDAS_TERM_KD],
                                want.gradient[KDAS_TERM_KD] * 0.25 * seg / kd, 1e-9);
        same = evaluate(twin);
        ck_assert_mem_eq(&same, &got, sizeof got); /* and so it is every time */
        ck_assert_mem_eq(kept, g1, sizeof g1);
        if (i == 0) continue;
        seg = 0.9 * seg + 0.1 * want.gradient[KDAS_TERM_SEG];
        kd  = 0.9 * kd + 0.1 * want.gradient[KDAS_TERM_KD];
    }
    kdas_loss_destroy(loss);
    kdas_loss_destroy(plain);
    kdas_loss_destroy(twin);
}
END_TEST

START_TEST(each_term_has_a_share_of_its_own)
{
    kdas_loss_options o;
    kdas_loss        *loss;
    kdas_loss_report  r;

    kdas_loss_options_init(&o, sizeof o);
    o.guidance_weight = 100;
    o.share           = 0.5f;
    loss              = make(&o);
    r                 = evaluate(loss);
    for (int t = KDAS_TERM_KD; t <= KDAS_TERM_SGM; t++)
        ck_assert_double_eq_tol(r.gradient[t], 0.5 * r.gradient[KDAS_TERM_SEG], 1e-9);
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(what_sends_nothing_or_fails_leaves_the_means_alone)
{
    kdas_loss_options o    = strong(50, 0.5f);
    kdas_loss        *loss = make(&o);
    kdas_loss_report  r    = { .size = sizeof r };
    kd_share          before[KDAS_TERMS];
    float             kept;

    kd_assert_ok(kdas_loss_evaluate(loss, &student, &teacher, y, NULL, &r));
    ck_assert_int_eq(loss->share[KDAS_TERM_KD].count, 0); /* no gradients were asked for */
    kept  = s2[7];
    s2[7] = NAN; /* the first evaluation measures before it sends, and fails in between */
    kd_assert_status(kdas_loss_evaluate(loss, &student, &teacher, y, gradients, &r), KDAS_ENUMERIC);
    ck_assert_int_eq(loss->share[KDAS_TERM_KD].count, 0);
    s2[7] = kept;
    evaluate(loss);
    ck_assert_int_eq(loss->share[KDAS_TERM_KD].count, 1);
    memcpy(before, loss->share, sizeof before);
    s2[7] = NAN;
    kd_assert_status(kdas_loss_evaluate(loss, &student, &teacher, y, gradients, &r), KDAS_ENUMERIC);
    ck_assert_mem_eq(before, loss->share, sizeof before);
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(failing_allocations_leak_nothing_and_move_no_mean)
{
    bool              done = false;
    kdas_loss_options o    = strong(50, 0.5f);

    o.guidance     = "attention+sgm";
    o.sym          = "correlation";
    o.similarity   = "cosine";
    o.input        = "standardised";
    o.distance     = "pearson";
    o.feature_taps = "a:b";
    for (long k = 1; k < 3000 && !done; k++) {
        kd_test_meter    m    = { 0 };
        kdas_context    *c    = kd_test_device("cpu", &m);
        kdas_loss       *loss = NULL;
        kdas_loss_report r    = { .size = sizeof r };
        kdas_status      st;

        m.fail_at = m.taken + k;
        st        = kdas_loss_create(&loss, c, &o);
        if (st == KDAS_OK) {
            st = kdas_loss_evaluate(loss, &student, &teacher, y, gradients, &r);
            ck_assert_int_eq(loss->share[KDAS_TERM_KD].count, st == KDAS_OK);
        }
        done = st == KDAS_OK;
        ck_assert(done || st == KDAS_ENOMEM);
        kdas_loss_destroy(loss);
        kdas_context_destroy(c);
        kd_test_assert_given_back(&m);
    }
    ck_assert(done);
}
END_TEST

/* ---- The factor ---- */

START_TEST(a_factor_multiplies_all_guidance)
{
    static float      seg[2][COUNT], kd[2][COUNT];
    double            norm[2];
    kdas_loss_options o    = strong(4, KDAS_SHARE_OFF);
    kdas_loss        *loss = make(&o);
    kdas_loss_report  r;

    parts(4, seg, kd, norm);
    kd_assert_ok(kdas_loss_set_guidance_factor(loss, 0.25));
    r = evaluate(loss);
    ck_assert_double_eq_tol(r.weighted[KDAS_TERM_KD], r.raw[KDAS_TERM_KD], 1e-12);
    ck_assert_double_eq_tol(r.gradient[KDAS_TERM_KD], 0.25 * norm[1], 1e-6 * norm[1]);
    for (int i = 0; i < COUNT; i++)
        ck_assert_double_eq_tol(g1[i], seg[0][i] + 0.25 * (double)kd[0][i], 1e-6 * norm[1]);
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(a_factor_comes_after_the_share)
{
    kdas_loss_options o    = strong(50, 0.5f);
    kdas_loss        *loss = make(&o);
    kdas_loss_report  r;

    kd_assert_ok(kdas_loss_set_guidance_factor(loss, 0.5));
    r = evaluate(loss);
    ck_assert_double_eq_tol(r.gradient[KDAS_TERM_KD], 0.25 * r.gradient[KDAS_TERM_SEG], 1e-9);
    kdas_loss_destroy(loss);
}
END_TEST

START_TEST(under_factor_0_guidance_is_not_computed)
{
    kdas_loss_options o = strong(50, 0.5f), base = strong(0, KDAS_SHARE_OFF);
    kdas_loss        *loss = make(&o), *baseline;
    kdas_loss_report  r    = { .size = sizeof r }, want;
    static float      kept[COUNT];

    base.guidance = "none";
    baseline      = make(&base);
    want          = evaluate(baseline);
    memcpy(kept, g1, sizeof g1);
    kd_assert_ok(kdas_loss_set_guidance_factor(loss, 0));
    kd_assert_ok(kdas_loss_evaluate(loss, &student, NULL, y, gradients, &r)); /* no teacher */
    ck_assert_mem_eq(&r, &want, sizeof r);
    ck_assert_mem_eq(kept, g1, sizeof g1);
    ck_assert_int_eq(kdas_loss_needs_teacher(loss), 1);
    ck_assert_int_eq(loss->share[KDAS_TERM_KD].count, 0);
    kd_assert_ok(kdas_loss_set_guidance_factor(loss, 1));
    ck_assert_double_gt(evaluate(loss).raw[KDAS_TERM_KD], 0);
    kd_assert_status(kdas_loss_set_guidance_factor(loss, -1), KDAS_EINVAL);
    kd_assert_status(kdas_loss_set_guidance_factor(loss, NAN), KDAS_EINVAL);
    kd_assert_sentence("factor");
    kd_assert_status(kdas_loss_set_guidance_factor(NULL, 1), KDAS_EINVAL);
    kdas_loss_destroy(baseline);
    kdas_loss_destroy(loss);
}
END_TEST

/* ---- Large logits: see check_conditioning.c, too ---- */

/* Cosine attention follows the size of the logits in proportion, and so Pearson's distance does not see it. */
START_TEST(cosine_attention_does_not_change_with_the_size_of_logits)
{
    kdas_loss_options o;
    kdas_loss        *loss;
    kdas_loss_report  small, large;

    kdas_loss_options_init(&o, sizeof o);
    o.guidance   = "attention+sgm";
    o.similarity = "cosine";
    o.sym        = "correlation";
    o.distance   = "pearson";
    loss         = make(&o);
    small        = evaluate(loss);
    for (int i = 0; i < COUNT; i++) {
        s1[i] *= 8;
        s2[i] *= 8;
    }
    large = evaluate(loss);
    for (int t = KDAS_TERM_KD; t <= KDAS_TERM_SGM; t++) {
        ck_assert_double_eq_tol(large.raw[t], small.raw[t], 1e-5);
        ck_assert_double_eq_tol(large.gradient[t], small.gradient[t] / 8, 1e-5 * small.gradient[t]);
    }
    kdas_loss_destroy(loss);
}
END_TEST

static Suite *guidance_suite(void)
{
    const int R      = KD_COUNT(rows);
    Suite    *s      = suite_create("guidance");
    TCase    *values = tcase_create("values"), *share = tcase_create("share and factor");

    tcase_add_checked_fixture(values, open_context, close_context);
    tcase_add_loop_test(values, gradient_matches_finite_difference_along_directions, 0, R);
    tcase_add_loop_test(values, a_student_equal_to_its_teacher_has_no_guidance, 0, R);
    tcase_add_test(values, each_weight_is_that_of_its_term);
    tcase_add_test(values, presets_say_whether_they_need_maps_or_taps);
    tcase_add_test(values, a_preset_for_a_program_of_before_writes_no_further_than_it_knows);
    tcase_add_test(values, options_are_refused_with_a_sentence);
    tcase_add_test(values, cosine_attention_does_not_change_with_the_size_of_logits);
    suite_add_tcase(s, values);
    tcase_add_checked_fixture(share, open_context, close_context);
    tcase_add_test(share, a_term_sends_its_share_of_seg_from_the_first_evaluation_on);
    tcase_add_test(share, a_term_below_its_share_is_left_alone);
    tcase_add_test(share, the_limit_is_that_of_the_means_of_the_steps_before);
    tcase_add_test(share, each_term_has_a_share_of_its_own);
    tcase_add_test(share, what_sends_nothing_or_fails_leaves_the_means_alone);
    tcase_add_test(share, failing_allocations_leak_nothing_and_move_no_mean);
    tcase_add_test(share, a_factor_multiplies_all_guidance);
    tcase_add_test(share, a_factor_comes_after_the_share);
    tcase_add_test(share, under_factor_0_guidance_is_not_computed);
    suite_add_tcase(s, share);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(guidance_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

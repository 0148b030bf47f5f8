/* check_optim.c - optimizers against plain double-precision rules, and schedules against closed
 * forms. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "optim/optim.h"
#include "support/check_util.h"
#include "support/run_util.h"

static const char *const devices[] = { "reference", "cpu" };

/* ---- a model of four parameters and a buffer, none of a size that fills its place ---- */

static const struct {
    const char *name;
    int64_t     dims[2];
    int         rank, kind;
} entries[] = {
    { "stem.weight", { 7, 5 }, 2, KD_TRAINABLE }, { "stem.bias", { 7 }, 1, KD_TRAINABLE },
    { "stem.running_mean", { 7 }, 1, KD_BUFFER }, { "head.weight", { 33, 31 }, 2, KD_TRAINABLE },
    { "norm.gain", { 3 }, 1, KD_TRAINABLE },
};
#define LARGEST (33 * 31)

typedef struct subject {
    kdas_context *ctx;
    kd_params    *params;
    kdas_optim   *optim;
} subject;

static void make_params(subject *s, const char *device, kd_test_meter *memory)
{
    float values[LARGEST];

    s->ctx = kd_test_device(device, memory);
    kd_assert_ok(kd_params_create(&s->params, s->ctx));
    for (size_t i = 0; i < KD_COUNT(entries); i++) {
        kd_init init = { .kind = (kd_param_kind)entries[i].kind };

        ck_assert_int_ge(
            kd_params_declare(s->params, entries[i].name, init, entries[i].rank, entries[i].dims),
            0);
    }
    kd_assert_ok(kd_params_seal(s->params, true));
    for (int i = 0; i < kd_params_count(s->params); i++) {
        const kd_param_entry *e = kd_params_at(s->params, i);

        kd_test_fill(values, e->count, e->name, 1, 0);
        kd_assert_ok(kd_params_write(s->params, i, values));
    }
}

static void make(subject *s, const char *device, const kdas_optim_options *options)
{
    make_params(s, device, NULL);
    kd_assert_ok(kd_optim_create_for(&s->optim, s->ctx, s->params, options));
}

static void finish(subject *s)
{
    kdas_optim_destroy(s->optim);
    kd_params_destroy(s->params);
    kdas_context_destroy(s->ctx);
}

/* Gradients of step t, different for each parameter. */
static void set_gradients(subject *s, int t, double scale)
{
    float g[LARGEST];

    for (int i = 0; i < kd_params_count(s->params); i++) {
        const kd_param_entry *e = kd_params_at(s->params, i);
        char                  name[64];

        if (e->init.kind != KD_TRAINABLE) continue;
        snprintf(name, sizeof name, "%s.%d", e->name, t);
        kd_test_fill(g, e->count, name, scale, 0.1 * scale);
        kd_assert_ok(kd_device_upload(s->ctx, kd_params_grads(s->params) + e->offset, g,
                                      (size_t)e->count * sizeof *g));
    }
}

static kdas_optim_options options_of(const char *rule)
{
    kdas_optim_options o;

    kdas_optim_options_init(&o, sizeof o);
    o.rule = rule;
    return o;
}

/* ---- the rules in double, one number at a time ---- */

typedef struct exact {
    double p, m, v;
} exact;

static void exact_adamw(exact *x, double g, const kdas_optim_options *o, double wd, double lr,
                        int t)
{
    x->p -= lr * wd * x->p;
    x->m = o->beta1 * x->m + (1 - (double)o->beta1) * g;
    x->v = o->beta2 * x->v + (1 - (double)o->beta2) * g * g;
    x->p -= lr * (x->m / (1 - pow(o->beta1, t))) / (sqrt(x->v / (1 - pow(o->beta2, t))) + o->eps);
}

static void exact_sgd(exact *x, double g, const kdas_optim_options *o, double wd, double lr, int t)
{
    g += wd * x->p;
    x->m = t == 1 ? g : o->momentum * x->m + g;
    x->p -= lr * (o->nesterov ? g + o->momentum * x->m : x->m);
}

typedef void (*exact_fn)(exact *, double, const kdas_optim_options *, double, double, int);

/* The norm of the gradients that set_gradients made, from host memory. */
static double exact_norm(subject *s)
{
    float  g[LARGEST];
    double sum = 0;

    for (int i = 0; i < kd_params_count(s->params); i++) {
        const kd_param_entry *e = kd_params_at(s->params, i);

        if (e->init.kind != KD_TRAINABLE) continue;
        kd_assert_ok(kd_params_read_grad(s->params, i, g));
        for (int64_t k = 0; k < e->count; k++)
            sum += (double)g[k] * g[k];
    }
    return sqrt(sum);
}

static void exact_update(exact (*state)[LARGEST], subject *s, const kdas_optim_options *o,
                         exact_fn rule, int t)
{
    double clip = o->clip_norm > 0 ? fmin(1, o->clip_norm / exact_norm(s)) : 1;
    double lr   = kdas_schedule_lr(o, t - 1);
    float  g[LARGEST];

    for (int i = 0; i < kd_params_count(s->params); i++) {
        const kd_param_entry *e = kd_params_at(s->params, i);
        double wd               = o->no_decay && strstr(e->name, o->no_decay) ? 0 : o->weight_decay;

        if (e->init.kind != KD_TRAINABLE) continue;
        kd_assert_ok(kd_params_read_grad(s->params, i, g));
        for (int64_t k = 0; k < e->count; k++) {
            double d = clip * g[k];

            if (o->clamp > 0) d = fmax(fmin(d, o->clamp), -o->clamp);
            rule(&state[i][k], d, o, wd, lr, t);
        }
    }
}

/* Make `updates` updates in both precisions and compare every number. */
static void follow(const char *device, const kdas_optim_options *o, exact_fn rule, int updates)
{
    exact(*state)[LARGEST] = calloc(KD_COUNT(entries), sizeof *state);
    subject s;
    float   got[LARGEST], want[LARGEST];

    make(&s, device, o);
    for (int i = 0; i < kd_params_count(s.params); i++) {
        kd_assert_ok(kd_params_read(s.params, i, got));
        for (int64_t k = 0; k < kd_params_at(s.params, i)->count; k++)
            state[i][k].p = got[k];
    }
    for (int t = 1; t <= updates; t++) {
        set_gradients(&s, t, 1);
        exact_update(state, &s, o, rule, t);
        kd_assert_ok(kdas_optim_step(s.optim));
        ck_assert_int_eq(kdas_optim_updates(s.optim), t);
    }
    for (int i = 0; i < kd_params_count(s.params); i++) {
        int64_t n = kd_params_at(s.params, i)->count;

        kd_assert_ok(kd_params_read(s.params, i, got));
        for (int64_t k = 0; k < n; k++)
            want[k] = (float)state[i][k].p;
        kd_assert_close(got, want, n, 2e-6 * sqrt(updates));
    }
    finish(&s);
    free(state);
}

START_TEST(adamw_follows_its_rule_in_double)
{
    kdas_optim_options o = options_of("adamw");

    o.lr           = 0.01f;
    o.weight_decay = 0.05f;
    follow(devices[_i], &o, exact_adamw, 50);
    o.no_decay = "bias";
    o.clamp    = 0;
    o.beta1    = 0.8f;
    o.schedule = "cosine";
    o.total    = 40;
    o.warmup   = 5;
    follow(devices[_i], &o, exact_adamw, 50);
}
END_TEST

START_TEST(sgd_follows_its_rule_in_double)
{
    kdas_optim_options o = options_of("sgd");

    o.lr           = 0.01f;
    o.weight_decay = 0.05f;
    follow(devices[_i], &o, exact_sgd, 50);
    o.nesterov = 1;
    follow(devices[_i], &o, exact_sgd, 50);
    o.nesterov = 0;
    o.momentum = 0;
    o.no_decay = "norm";
    follow(devices[_i], &o, exact_sgd, 50);
}
END_TEST

/* ---- decay by name ---- */

START_TEST(parameters_named_in_no_decay_keep_their_values_without_gradient)
{
    kdas_optim_options o = options_of("adamw");
    subject            s;
    float              before[LARGEST], after[LARGEST];

    o.lr           = 0.5f;
    o.weight_decay = 0.5f;
    o.no_decay     = ",bias,,norm";
    make(&s, devices[_i], &o);
    kd_assert_ok(kdas_optim_step(s.optim)); /* gradients are zero */
    for (int i = 0; i < kd_params_count(s.params); i++) {
        const kd_param_entry *e    = kd_params_at(s.params, i);
        bool                  kept = strstr(e->name, "weight") == NULL;

        kd_test_fill(before, e->count, e->name, 1, 0);
        kd_assert_ok(kd_params_read(s.params, i, after));
        for (int64_t k = 0; k < e->count; k++)
            ck_assert_float_eq(after[k], kept ? before[k] : 0.75f * before[k]);
    }
    finish(&s);
}
END_TEST

START_TEST(ranges_cover_the_block_and_are_as_few_as_can_be)
{
    kdas_optim_options o = options_of("adamw");
    subject            s;

    make(&s, "reference", &o);
    ck_assert_uint_eq(s.optim->ranges, 1); /* all decay: one call */
    ck_assert_int_eq(s.optim->range[0].count, kd_params_trainable(s.params));
    finish(&s);

    o.no_decay = "bias,gain"; /* weight | bias | weight | gain */
    make(&s, "reference", &o);
    ck_assert_uint_eq(s.optim->ranges, 4);
    for (size_t i = 0, at = 0; i < 4; at += (size_t)s.optim->range[i++].count) {
        ck_assert_int_eq(s.optim->range[i].first, (int64_t)at);
        ck_assert_int_eq(s.optim->range[i].decay, i % 2 == 0);
    }
    ck_assert_int_eq(s.optim->range[3].first + s.optim->range[3].count,
                     kd_params_trainable(s.params));
    finish(&s);

    o.no_decay = "weight,bias,norm";
    make(&s, "reference", &o);
    ck_assert_uint_eq(s.optim->ranges, 1);
    ck_assert(!s.optim->range[0].decay);
    finish(&s);
}
END_TEST

START_TEST(gaps_between_parameters_stay_zero)
{
    kdas_optim_options o = options_of("adamw");
    subject            s;
    float             *block;
    int64_t            total, used = 0;

    make(&s, devices[_i], &o);
    for (int t = 1; t <= 3; t++) {
        set_gradients(&s, t, 1);
        kd_assert_ok(kdas_optim_step(s.optim));
    }
    total = kd_params_trainable(s.params);
    block = malloc((size_t)total * sizeof *block);
    kd_assert_ok(kd_device_download(s.ctx, block, kd_params_values(s.params),
                                    (size_t)total * sizeof *block));
    for (int i = 0; i < kd_params_count(s.params); i++) {
        const kd_param_entry *e = kd_params_at(s.params, i);

        if (e->init.kind != KD_TRAINABLE) continue;
        memset(block + e->offset, 0, (size_t)e->count * sizeof *block);
        used += e->count;
    }
    ck_assert_int_lt(used, total);
    for (int64_t k = 0; k < total; k++)
        ck_assert_float_eq(block[k], 0);
    free(block);
    finish(&s);
}
END_TEST

/* ---- gradients: norm, clip, clamp, scale ---- */

/* What an update subtracts from stem.weight with plain descent at rate 1, over its gradient. */
static void subtracted(float out[35], float g[35], const char *device, float clip_norm, float clamp)
{
    kdas_optim_options o = options_of("sgd");
    subject            s;
    float              before[35];

    o.lr           = 1;
    o.momentum     = 0;
    o.weight_decay = 0;
    o.clip_norm    = clip_norm;
    o.clamp        = clamp;
    make(&s, device, &o);
    memset(before, 0, sizeof before);
    kd_assert_ok(kd_params_write(s.params, 0, before));
    set_gradients(&s, 1, 1);
    kd_assert_ok(kdas_optim_step(s.optim));
    kd_assert_ok(kd_params_read(s.params, 0, out));
    kd_assert_ok(kd_params_read_grad(s.params, 0, g));
    for (int k = 0; k < 35; k++)
        out[k] = -out[k];
    finish(&s);
}

START_TEST(the_norm_is_that_of_all_gradients)
{
    kdas_optim_options o = options_of("adamw");
    subject            s;
    double             norm;

    make(&s, devices[_i], &o);
    kd_assert_ok(kdas_optim_gradient_norm(s.optim, &norm));
    ck_assert_double_eq(norm, 0);
    set_gradients(&s, 1, 3);
    kd_assert_ok(kdas_optim_gradient_norm(s.optim, &norm));
    ck_assert_double_eq_tol(norm, exact_norm(&s), 1e-6 * norm);
    finish(&s);
}
END_TEST

START_TEST(clipping_scales_all_gradients_to_the_norm_asked_for)
{
    float  step[35], g[35], free_step[35];
    double norm;

    subtracted(free_step, g, devices[_i], 0, 0);
    kd_assert_close(free_step, g, 35, 0);
    subtracted(step, g, devices[_i], 1e6f, 0); /* a limit that is not reached changes nothing */
    kd_assert_close(step, g, 35, 0);
    subtracted(step, g, devices[_i], 0.5f, 0);
    norm = g[0] / step[0] * 0.5;
    ck_assert_double_gt(norm, 10); /* of about 1100 numbers within +-1 */
    for (int k = 0; k < 35; k++)
        ck_assert_double_eq_tol(step[k], g[k] * 0.5 / norm, 1e-6);
}
END_TEST

START_TEST(the_clamp_holds_each_number_after_the_clip)
{
    float step[35], g[35], clipped[35];

    subtracted(step, g, devices[_i], 0, 0.25f);
    for (int k = 0; k < 35; k++)
        ck_assert_float_eq(step[k], fmaxf(fminf(g[k], 0.25f), -0.25f));
    subtracted(clipped, g, devices[_i], 5, 0);
    subtracted(step, g, devices[_i], 5, 0.1f);
    for (int k = 0; k < 35; k++)
        ck_assert_float_eq(step[k], fmaxf(fminf(clipped[k], 0.1f), -0.1f));
}
END_TEST

START_TEST(a_gradient_that_is_not_finite_is_named_and_changes_nothing)
{
    const float        bad[] = { NAN, INFINITY, -INFINITY };
    kdas_optim_options o     = options_of("adamw");
    subject            s;
    float              before[LARGEST], after[LARGEST];
    double             norm = -1;

    make(&s, devices[_i], &o);
    set_gradients(&s, 1, 1);
    kd_assert_ok(kdas_optim_step(s.optim));
    kd_assert_ok(kd_params_read(s.params, 3, before));
    for (size_t k = 0; k < KD_COUNT(bad); k++) {
        const kd_param_entry *e = kd_params_at(s.params, 3); /* head.weight */

        set_gradients(&s, 2, 1);
        kd_assert_ok(kd_device_upload(s.ctx, kd_params_grads(s.params) + e->offset + 100, &bad[k],
                                      sizeof bad[k]));
        kd_assert_status(kdas_optim_step(s.optim), KDAS_ENUMERIC);
        kd_assert_sentence("head.weight");
        kd_assert_status(kdas_optim_gradient_norm(s.optim, &norm), KDAS_ENUMERIC);
        ck_assert_double_eq(norm, -1);
        kd_assert_ok(kd_params_read(s.params, 3, after));
        ck_assert(kd_test_same_bits(before, after, sizeof before));
        ck_assert_int_eq(kdas_optim_updates(s.optim), 1);
    }
    finish(&s);
}
END_TEST

START_TEST(gradients_that_are_huge_but_finite_are_taken)
{
    kdas_optim_options o = options_of("adamw");
    subject            s;
    float              after[LARGEST];
    double             norm;

    make(&s, devices[_i], &o);
    set_gradients(&s, 1, 1e30);
    kd_assert_ok(kdas_optim_gradient_norm(s.optim, &norm));
    ck_assert_double_eq_tol(norm / exact_norm(&s), 1, 1e-6);
    kd_assert_ok(kdas_optim_step(s.optim));
    kd_assert_ok(kd_params_read(s.params, 3, after));
    for (int k = 0; k < LARGEST; k++)
        ck_assert(isfinite(after[k]));
    finish(&s);
}
END_TEST

/* ---- schedules ---- */

START_TEST(a_constant_rate_stays)
{
    kdas_optim_options o = options_of("adamw");

    ck_assert_double_eq(kdas_schedule_lr(&o, 0), (double)1e-4f);
    ck_assert_double_eq(kdas_schedule_lr(&o, 123456), (double)1e-4f);
    ck_assert_double_eq(kdas_schedule_lr(NULL, 7), (double)1e-4f);
}
END_TEST

START_TEST(a_step_schedule_drops_at_its_intervals)
{
    kdas_optim_options o = options_of("adamw");

    o.schedule    = "step";
    o.lr          = 1;
    o.step_every  = 10;
    o.step_factor = 0.5f;
    for (int64_t t = 0; t < 45; t++)
        ck_assert_double_eq(kdas_schedule_lr(&o, t), pow(0.5, (double)(t / 10)));
}
END_TEST

START_TEST(a_cosine_falls_from_the_base_to_the_least_and_stays_there)
{
    kdas_optim_options o = options_of("adamw");

    o.schedule = "cosine";
    o.lr       = 1;
    o.lr_min   = 0.25f;
    o.total    = 100;
    ck_assert_double_eq(kdas_schedule_lr(&o, 0), 1);
    ck_assert_double_eq_tol(kdas_schedule_lr(&o, 50), 0.625, 1e-12);
    ck_assert_double_eq_tol(kdas_schedule_lr(&o, 25), 0.25 + 0.375 * (1 + sqrt(0.5)), 1e-12);
    ck_assert_double_eq_tol(kdas_schedule_lr(&o, 100), 0.25, 1e-12);
    ck_assert_double_eq_tol(kdas_schedule_lr(&o, 1000), 0.25, 1e-12);
}
END_TEST

START_TEST(a_poly_schedule_is_a_power_of_what_is_left)
{
    kdas_optim_options o = options_of("adamw");

    o.schedule = "poly";
    o.lr       = 1;
    o.power    = 2;
    o.total    = 100;
    for (int64_t t = 0; t <= 100; t += 10)
        ck_assert_double_eq_tol(kdas_schedule_lr(&o, t), (1 - t / 100.0) * (1 - t / 100.0), 1e-12);
    ck_assert_double_eq(kdas_schedule_lr(&o, 200), 0);
    o.lr_min = 0.125f;
    ck_assert_double_eq(kdas_schedule_lr(&o, 99), 0.125);
}
END_TEST

START_TEST(a_warm_up_rises_in_equal_steps_and_the_schedule_starts_at_its_end)
{
    kdas_optim_options o = options_of("adamw");

    o.lr     = 1;
    o.warmup = 8;
    for (int64_t t = 0; t < 8; t++)
        ck_assert_double_eq(kdas_schedule_lr(&o, t), (double)(t + 1) / 8);
    ck_assert_double_eq(kdas_schedule_lr(&o, 8), 1);
    o.schedule = "poly";
    o.power    = 1;
    o.total    = 18;
    ck_assert_double_eq(kdas_schedule_lr(&o, 3), 0.5);
    ck_assert_double_eq(kdas_schedule_lr(&o, 8), 1);
    ck_assert_double_eq_tol(kdas_schedule_lr(&o, 13), 0.5, 1e-12);
    ck_assert_double_eq_tol(kdas_schedule_lr(&o, 18), 0, 1e-12);
}
END_TEST

START_TEST(a_schedule_of_nonsense_is_not_a_number)
{
    kdas_optim_options o = options_of("adamw");

    ck_assert_double_nan(kdas_schedule_lr(&o, -1));
    o.schedule = "cosine"; /* without a total */
    ck_assert_double_nan(kdas_schedule_lr(&o, 0));
    ck_assert_double_nan(kdas_optim_lr(NULL));
}
END_TEST

START_TEST(the_optimizer_follows_the_schedule_and_a_new_base_rate)
{
    kdas_optim_options o = options_of("sgd");
    subject            s;

    o.schedule = "poly";
    o.power    = 1;
    o.lr       = 1;
    o.total    = 4;
    make(&s, "reference", &o);
    for (int t = 0; t < 4; t++) {
        ck_assert_double_eq_tol(kdas_optim_lr(s.optim), 1 - t / 4.0, 1e-12);
        kd_assert_ok(kdas_optim_step(s.optim));
    }
    ck_assert_double_eq(kdas_optim_lr(s.optim), 0);
    s.optim->updates = 2;
    kd_assert_ok(kdas_optim_set_lr(s.optim, 3));
    ck_assert_double_eq_tol(kdas_optim_lr(s.optim), 1.5, 1e-12);
    kd_assert_status(kdas_optim_set_lr(s.optim, 0), KDAS_EINVAL);
    kd_assert_status(kdas_optim_set_lr(s.optim, NAN), KDAS_EINVAL);
    kd_assert_status(kdas_optim_set_lr(NULL, 1), KDAS_EINVAL);
    ck_assert_double_eq_tol(kdas_optim_lr(s.optim), 1.5, 1e-12);
    finish(&s);
}
END_TEST

/* ---- arguments, memory ---- */

/* Set a member by its offset, and what the sentence must name. */
static const struct {
    size_t at;
    enum { FLOAT, WHOLE, TEXT } type;
    double      value;
    const char *text, *named;
    int         status;
} refused[] = {
#define MEMBER(m) offsetof(kdas_optim_options, m)
    { MEMBER(rule), TEXT, 0, "lion", "lion", KDAS_ENOTFOUND },
    { MEMBER(rule), TEXT, 0, NULL, "rule", KDAS_EINVAL },
    { MEMBER(schedule), TEXT, 0, "zigzag", "zigzag", KDAS_ENOTFOUND },
    { MEMBER(schedule), TEXT, 0, NULL, "schedule", KDAS_EINVAL },
    { MEMBER(schedule), TEXT, 0, "poly", "total", KDAS_EINVAL },
    { MEMBER(lr), FLOAT, 0, NULL, "lr", KDAS_EINVAL },
    { MEMBER(lr), FLOAT, -1, NULL, "lr", KDAS_EINVAL },
    { MEMBER(lr), FLOAT, NAN, NULL, "lr", KDAS_EINVAL },
    { MEMBER(lr), FLOAT, INFINITY, NULL, "lr", KDAS_EINVAL },
    { MEMBER(weight_decay), FLOAT, -0.1, NULL, "weight_decay", KDAS_EINVAL },
    { MEMBER(weight_decay), FLOAT, INFINITY, NULL, "weight_decay", KDAS_EINVAL },
    { MEMBER(beta1), FLOAT, 1, NULL, "beta1", KDAS_EINVAL },
    { MEMBER(beta2), FLOAT, -0.5, NULL, "beta2", KDAS_EINVAL },
    { MEMBER(eps), FLOAT, 0, NULL, "eps", KDAS_EINVAL },
    { MEMBER(momentum), FLOAT, 1.5, NULL, "momentum", KDAS_EINVAL },
    { MEMBER(clamp), FLOAT, -1, NULL, "clamp", KDAS_EINVAL },
    { MEMBER(clip_norm), FLOAT, NAN, NULL, "clip_norm", KDAS_EINVAL },
    { MEMBER(warmup), WHOLE, -1, NULL, "warmup", KDAS_EINVAL },
    { MEMBER(total), WHOLE, -1, NULL, "total", KDAS_EINVAL },
    { MEMBER(step_every), WHOLE, 0, NULL, "step_every", KDAS_EINVAL },
    { MEMBER(step_factor), FLOAT, 0, NULL, "step_factor", KDAS_EINVAL },
    { MEMBER(power), FLOAT, -1, NULL, "power", KDAS_EINVAL },
    { MEMBER(lr_min), FLOAT, 1, NULL, "lr_min", KDAS_EINVAL },
    { MEMBER(size), WHOLE, 0, NULL, "size", KDAS_EINVAL },
};

START_TEST(options_out_of_range_are_refused_by_name)
{
    kdas_optim_options o      = options_of("adamw");
    char              *member = (char *)&o + refused[_i].at;
    float              number = (float)refused[_i].value;
    int64_t            whole  = (int64_t)refused[_i].value;
    subject            s;

    make_params(&s, "reference", NULL);
    switch (refused[_i].type) {
    case FLOAT: memcpy(member, &number, sizeof number); break;
    case WHOLE: memcpy(member, &whole, sizeof whole); break;
    case TEXT: memcpy(member, &refused[_i].text, sizeof refused[_i].text); break;
    }
    s.optim = (kdas_optim *)&s;
    kd_assert_status(kd_optim_create_for(&s.optim, s.ctx, s.params, &o), refused[_i].status);
    ck_assert_ptr_null(s.optim);
    kd_assert_sentence(refused[_i].named);
    finish(&s);
}
END_TEST

START_TEST(handles_that_are_null_are_refused)
{
    kdas_optim *optim = (kdas_optim *)&optim;
    double      norm;

    kd_assert_status(kdas_optim_create(&optim, NULL, NULL), KDAS_EINVAL);
    ck_assert_ptr_null(optim);
    kd_assert_status(kdas_optim_create(NULL, NULL, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_optim_step(NULL), KDAS_EINVAL);
    kd_assert_status(kdas_optim_gradient_norm(NULL, &norm), KDAS_EINVAL);
    ck_assert_int_eq(kdas_optim_updates(NULL), 0);
    kdas_optim_destroy(NULL);
}
END_TEST

START_TEST(parameters_without_gradients_cannot_be_optimized)
{
    kdas_optim *optim = (kdas_optim *)&optim;
    subject     s     = { .ctx = kd_test_device("reference", NULL) };

    kd_assert_ok(kd_params_create(&s.params, s.ctx));
    kd_params_declare(s.params, "w", (kd_init){ 0 }, 1, (int64_t[]){ 4 });
    kd_assert_ok(kd_params_seal(s.params, false));
    kd_assert_status(kd_optim_create_for(&optim, s.ctx, s.params, NULL), KDAS_ESTATE);
    ck_assert_ptr_null(optim);
    finish(&s);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    kdas_optim_options o      = options_of("adamw");
    kd_test_meter     memory = { 0 };
    subject            s      = { 0 };
    kdas_status        st     = KDAS_ENOMEM;
    long               held;
    int                tries = 0;

    o.no_decay = "bias,gain";
    make_params(&s, devices[_i], &memory);
    for (; st != KDAS_OK; tries++) {
        held           = memory.taken - memory.given_back;
        memory.fail_at = memory.taken + 1 + tries;
        st             = kd_optim_create_for(&s.optim, s.ctx, s.params, &o);
        memory.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        ck_assert_ptr_null(s.optim);
        ck_assert_int_eq(memory.taken - memory.given_back, held);
    }
    ck_assert_int_ge(tries, 6); /* handle, names, ranges, two moments, the sum */
    finish(&s);
    kd_test_assert_given_back(&memory);
}
END_TEST

START_TEST(an_update_allocates_nothing)
{
    kd_test_meter memory = { 0 };
    subject        s;
    long           taken;

    make_params(&s, devices[_i], &memory);
    kd_assert_ok(kd_optim_create_for(&s.optim, s.ctx, s.params, NULL));
    set_gradients(&s, 1, 1);
    kd_assert_ok(kdas_optim_step(s.optim));
    taken = memory.taken;
    kd_assert_ok(kdas_optim_step(s.optim));
    ck_assert_int_eq(memory.taken, taken);
    finish(&s);
}
END_TEST

/* ---- restoring ---- */

START_TEST(an_optimizer_is_restored_whole_or_not_at_all)
{
    kdas_optim_options o = options_of("sgd");
    subject            s;

    make(&s, "reference", &o);
    o.lr       = 0.5f;
    o.no_decay = "bias";
    kd_assert_ok(kd_optim_restore(s.optim, &o, 17));
    ck_assert_int_eq(kdas_optim_updates(s.optim), 17);
    ck_assert_double_eq(kdas_optim_lr(s.optim), 0.5);
    ck_assert_uint_eq(s.optim->ranges, 3);

    o.momentum = 0; /* other state blocks */
    kd_assert_status(kd_optim_restore(s.optim, &o, 1), KDAS_EINVAL);
    o    = options_of("adamw");
    o.lr = 0.1f;
    kd_assert_status(kd_optim_restore(s.optim, &o, 1), KDAS_EINVAL);
    kd_assert_sentence("adamw");
    o = options_of("sgd");
    kd_assert_status(kd_optim_restore(s.optim, &o, -1), KDAS_EINVAL);
    ck_assert_int_eq(kdas_optim_updates(s.optim), 17);
    ck_assert_double_eq(kdas_optim_lr(s.optim), 0.5);
    finish(&s);
}
END_TEST

static Suite *optim_suite(void)
{
    const int D        = KD_COUNT(devices);
    Suite    *s        = suite_create("optim");
    TCase    *rules    = tcase_create("rules");
    TCase    *grads    = tcase_create("gradients");
    TCase    *schedule = tcase_create("schedule");
    TCase    *rest     = tcase_create("arguments and memory");

    tcase_add_loop_test(rules, adamw_follows_its_rule_in_double, 0, D);
    tcase_add_loop_test(rules, sgd_follows_its_rule_in_double, 0, D);
    tcase_add_loop_test(rules, parameters_named_in_no_decay_keep_their_values_without_gradient, 0,
                        D);
    tcase_add_test(rules, ranges_cover_the_block_and_are_as_few_as_can_be);
    tcase_add_loop_test(rules, gaps_between_parameters_stay_zero, 0, D);
    suite_add_tcase(s, rules);

    tcase_add_loop_test(grads, the_norm_is_that_of_all_gradients, 0, D);
    tcase_add_loop_test(grads, clipping_scales_all_gradients_to_the_norm_asked_for, 0, D);
    tcase_add_loop_test(grads, the_clamp_holds_each_number_after_the_clip, 0, D);
    tcase_add_loop_test(grads, a_gradient_that_is_not_finite_is_named_and_changes_nothing, 0, D);
    tcase_add_loop_test(grads, gradients_that_are_huge_but_finite_are_taken, 0, D);
    suite_add_tcase(s, grads);

    tcase_add_test(schedule, a_constant_rate_stays);
    tcase_add_test(schedule, a_step_schedule_drops_at_its_intervals);
    tcase_add_test(schedule, a_cosine_falls_from_the_base_to_the_least_and_stays_there);
    tcase_add_test(schedule, a_poly_schedule_is_a_power_of_what_is_left);
    tcase_add_test(schedule, a_warm_up_rises_in_equal_steps_and_the_schedule_starts_at_its_end);
    tcase_add_test(schedule, a_schedule_of_nonsense_is_not_a_number);
    tcase_add_test(schedule, the_optimizer_follows_the_schedule_and_a_new_base_rate);
    suite_add_tcase(s, schedule);

    tcase_add_loop_test(rest, options_out_of_range_are_refused_by_name, 0, KD_COUNT(refused));
    tcase_add_test(rest, handles_that_are_null_are_refused);
    tcase_add_test(rest, parameters_without_gradients_cannot_be_optimized);
    tcase_add_loop_test(rest, any_allocation_may_fail, 0, D);
    tcase_add_loop_test(rest, an_update_allocates_nothing, 0, D);
    tcase_add_test(rest, an_optimizer_is_restored_whole_or_not_at_all);
    suite_add_tcase(s, rest);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(optim_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

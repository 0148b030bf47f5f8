/* check_scale.c - the loss scale: it leaves no trace in a run without overflow, an overflow skips one update and
 * nothing else, and it goes on from a checkpoint. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "distill/distiller.h"
#include "distill/train.h"
#include "model/model.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/optim_util.h"
#include "support/thin.h"
#include "support/train_util.h"

static const char *const devices[] = { "reference", "cpu" };
static const char *const rules[]   = { "adamw", "sgd" };

/* ---- the optimizer alone ---- */

static void give(kd_test_optim *s, float gradient) /* one element of it, the rest as they were */
{
    kd_assert_ok(kd_device_upload(s->ctx,
                                  kd_params_grads(s->params) + kd_params_at(s->params, 3)->offset,
                                  &gradient, sizeof gradient));
}

static float *parameters(const kd_test_optim *s, size_t *bytes)
{
    size_t n   = (size_t)kd_params_total(s->params) * sizeof(float);
    float *all = malloc(n);

    kd_assert_ok(kd_device_download(s->ctx, all, kd_params_values(s->params), n));
    *bytes = n;
    return all;
}

static void assert_same_state(const kd_test_optim *a, const kd_test_optim *b)
{
    size_t n, bytes = (size_t)kd_params_trainable(a->params) * sizeof(float);
    float *pa = parameters(a, &n), *pb = parameters(b, &n);

    ck_assert(kd_test_same_bits(pa, pb, n));
    for (int i = 0; i < a->optim->slots; i++) {
        kd_assert_ok(kd_device_download(a->ctx, pa, a->optim->slot[i], bytes));
        kd_assert_ok(kd_device_download(b->ctx, pb, b->optim->slot[i], bytes));
        ck_assert(kd_test_same_bits(pa, pb, bytes));
    }
    free(pa);
    free(pb);
    ck_assert_int_eq(kdas_optim_updates(a->optim), kdas_optim_updates(b->optim));
    ck_assert_double_eq(kdas_optim_lr(a->optim), kdas_optim_lr(b->optim));
}

static kdas_optim_options scaled(const char *rule, float scale, int32_t every)
{
    kdas_optim_options o = kd_test_optim_options(rule);

    o.loss_scale       = scale;
    o.loss_scale_every = every;
    return o;
}

START_TEST(a_scale_changes_no_bit_of_an_update)
{
    kdas_optim_options o = scaled(rules[_i / 2], 65536, 3);
    kd_test_optim      plain, with;
    double             norm[2];

    o.clip_norm = 4;
    o.schedule  = "cosine";
    o.total     = 30;
    kd_test_optim_make(&with, devices[_i % 2], &o);
    o.loss_scale = 0;
    kd_test_optim_make(&plain, devices[_i % 2], &o);
    for (int t = 0; t < 10; t++) {
        kd_test_optim_gradients(&plain, t, 1);
        kd_test_optim_gradients(&with, t, kdas_optim_loss_scale(with.optim));
        kd_assert_ok(kdas_optim_gradient_norm(plain.optim, &norm[0]));
        kd_assert_ok(kdas_optim_gradient_norm(with.optim, &norm[1]));
        ck_assert_double_eq(norm[0], norm[1]);
        ck_assert_double_gt(norm[0], 4); /* the limit cuts */
        kd_assert_ok(kdas_optim_step(plain.optim));
        kd_assert_ok(kdas_optim_step(with.optim));
        assert_same_state(&plain, &with);
    }
    ck_assert_double_eq(kdas_optim_loss_scale(with.optim), 8 * 65536); /* after 3, 6 and 9 */
    ck_assert_int_eq(kdas_optim_skipped(with.optim), 0);
    kd_test_optim_finish(&plain);
    kd_test_optim_finish(&with);
}
END_TEST

START_TEST(the_scale_doubles_as_often_as_asked_up_to_its_most)
{
    kdas_optim_options o = scaled("adamw", 0x1p21f, 2);
    kd_test_optim      s;

    kd_test_optim_make(&s, "reference", &o);
    for (int t = 1; t <= 12; t++) {
        kd_assert_ok(kdas_optim_step(s.optim));
        ck_assert_double_eq(kdas_optim_loss_scale(s.optim), ldexp(1, KD_MIN(21 + t / 2, 24)));
    }
    kd_test_optim_finish(&s);
}
END_TEST

START_TEST(an_overflow_skips_the_update_and_halves_the_scale)
{
    const float        bad[] = { NAN, INFINITY, -INFINITY };
    kdas_optim_options o     = scaled(rules[_i / 2], 1024, 3);
    kd_test_optim      s, untouched;
    double             norm = -1;

    o.schedule = "poly";
    o.total    = 30;
    kd_test_optim_make(&s, devices[_i % 2], &o);
    kd_test_optim_make(&untouched, devices[_i % 2], &o);
    for (int t = 0; t < 2; t++) {
        kd_test_optim_gradients(&s, t, 1024);
        kd_test_optim_gradients(&untouched, t, 1024);
        kd_assert_ok(kdas_optim_step(s.optim));
        kd_assert_ok(kdas_optim_step(untouched.optim));
    }
    for (size_t k = 0; k < KD_COUNT(bad); k++) {
        kd_test_optim_gradients(&s, 2, 1024);
        give(&s, bad[k]);
        kd_assert_status(kdas_optim_gradient_norm(s.optim, &norm), KDAS_ENUMERIC);
        kd_assert_ok(kdas_optim_step(s.optim));
        assert_same_state(&s, &untouched);
        ck_assert_int_eq(kdas_optim_skipped(s.optim), (int64_t)k + 1);
        ck_assert_double_eq(kdas_optim_loss_scale(s.optim), ldexp(512, -(int)k));
    }
    ck_assert_double_eq(norm, -1);
    for (int t = 2; t < 5; t++) { /* the count of good updates starts anew */
        kd_test_optim_gradients(&s, t, 128);
        kd_test_optim_gradients(&untouched, t, t == 2 ? 1024 : 2048);
        ck_assert_double_eq(kdas_optim_loss_scale(s.optim), 128);
        kd_assert_ok(kdas_optim_step(s.optim));
        kd_assert_ok(kdas_optim_step(untouched.optim));
        assert_same_state(&s, &untouched);
    }
    ck_assert_double_eq(kdas_optim_loss_scale(s.optim), 256);
    kd_test_optim_finish(&s);
    kd_test_optim_finish(&untouched);
}
END_TEST

START_TEST(at_the_floor_an_overflow_is_an_error_that_names_the_tensor)
{
    kdas_optim_options o = scaled("adamw", 4, 2);
    kd_test_optim      s;
    size_t             n;
    float             *before, *after;

    kd_test_optim_make(&s, devices[_i], &o);
    kd_test_optim_gradients(&s, 0, 1);
    give(&s, INFINITY);
    before = parameters(&s, &n);
    kd_assert_ok(kdas_optim_step(s.optim));
    kd_assert_ok(kdas_optim_step(s.optim));
    ck_assert_double_eq(kdas_optim_loss_scale(s.optim), 1);
    for (int i = 0; i < 3; i++) {
        kd_assert_status(kdas_optim_step(s.optim), KDAS_ENUMERIC);
        kd_assert_sentence("head.weight");
        ck_assert_double_eq(kdas_optim_loss_scale(s.optim), 1);
        ck_assert_int_eq(kdas_optim_skipped(s.optim), 2);
    }
    after = parameters(&s, &n);
    ck_assert(kd_test_same_bits(before, after, n));
    kd_test_optim_gradients(&s, 0, 1); /* and it can go on */
    kd_assert_ok(kdas_optim_step(s.optim));
    kd_assert_ok(kdas_optim_step(s.optim));
    ck_assert_double_eq(kdas_optim_loss_scale(s.optim), 2);
    free(before);
    free(after);
    kd_test_optim_finish(&s);
}
END_TEST

START_TEST(a_fixed_scale_stays_and_an_overflow_is_an_error)
{
    kdas_optim_options o = scaled("sgd", 256, 0);
    kd_test_optim      s;

    kd_test_optim_make(&s, devices[_i], &o);
    for (int t = 0; t < 5; t++)
        kd_assert_ok(kdas_optim_step(s.optim));
    give(&s, NAN);
    kd_assert_status(kdas_optim_step(s.optim), KDAS_ENUMERIC);
    kd_assert_sentence("head.weight");
    ck_assert_double_eq(kdas_optim_loss_scale(s.optim), 256);
    ck_assert_int_eq(kdas_optim_skipped(s.optim), 0);
    ck_assert_int_eq(kdas_optim_updates(s.optim), 5);
    kd_test_optim_finish(&s);
}
END_TEST

/* No f16 kernel is needed to ask what an optimizer of such networks does. */
START_TEST(by_default_the_scale_follows_what_networks_compute_in)
{
    static const kdas_dtype types[] = { KDAS_F32, KDAS_BF16, KDAS_F16 };
    kd_test_optim           s;

    for (size_t i = 0; i < KD_COUNT(types); i++) {
        bool f16 = types[i] == KDAS_F16;

        kd_test_optim_params(&s, "reference", NULL);
        s.ctx->type = types[i];
        kd_assert_ok(kd_optim_create_for(&s.optim, s.ctx, s.params, NULL));
        ck_assert_double_eq(kdas_optim_loss_scale(s.optim), f16 ? 65536 : 1);
        ck_assert_int_eq(s.optim->scale.every, f16 ? 2000 : 0);
        give(&s, INFINITY);
        ck_assert_int_eq(kdas_optim_step(s.optim), f16 ? KDAS_OK : KDAS_ENUMERIC);
        ck_assert_double_eq(kdas_optim_loss_scale(s.optim), f16 ? 32768 : 1);
        kd_test_optim_finish(&s);
    }
    ck_assert_double_nan(kdas_optim_loss_scale(NULL));
    ck_assert_int_eq(kdas_optim_skipped(NULL), 0);
}
END_TEST

/* ---- steps ---- */

static kd_test_rig_options rig_options(const char *rule, float scale, int32_t every, int accumulate)
{
    kd_test_rig_options o = kd_test_alone();

    o.optim.rule             = rule;
    o.optim.loss_scale       = scale;
    o.optim.loss_scale_every = every;
    o.distiller.accumulate   = accumulate;
    return o;
}

/* Before step t, put an infinite number among the gradients that are gathered. */
static void spoil(const kd_test_rig *rig)
{
    const float infinite = INFINITY;

    kd_assert_ok(kd_device_upload(rig->ctx, kd_params_grads(rig->student->params) + 1000, &infinite,
                                  sizeof infinite));
}

START_TEST(a_scaled_run_gives_the_bits_and_figures_of_a_plain_one)
{
    static const int    accumulate[] = { 1, 2 };
    kd_test_rig_options o            = rig_options(rules[_i / 2], 65536, 2, accumulate[_i % 2]);
    kd_test_rig         plain, with;

    if (_i == 0) { /* with a teacher and all terms */
        o                        = kd_test_rig_usual();
        o.optim.loss_scale       = 65536;
        o.optim.loss_scale_every = 2;
    }
    kd_test_rig_make(&with, &o);
    o.optim.loss_scale = 0;
    kd_test_rig_make(&plain, &o);
    for (int t = 0; t < 4; t++) {
        double           scale = kdas_optim_loss_scale(with.optim);
        kdas_step_report a = kd_test_rig_report(&plain, t), b = kd_test_rig_report(&with, t);

        ck_assert_double_eq(a.total, b.total);
        ck_assert_double_gt(a.gradient[KDAS_TERM_SEG], 0);
        for (int k = 0; k < KDAS_TERMS; k++) {
            ck_assert_double_eq(a.raw[k], b.raw[k]);
            ck_assert_double_eq(a.gradient[k], b.gradient[k]);
        }
        ck_assert_double_eq(a.loss_scale, 1);
        ck_assert_double_eq(b.loss_scale, scale);
        ck_assert_int_eq(a.updated, b.updated);
        ck_assert_int_eq(b.skipped, 0);
    }
    ck_assert_double_gt(kdas_optim_loss_scale(with.optim), 65536);
    kd_test_assert_same_weights(plain.student, with.student);
    kd_test_rig_finish(&plain);
    kd_test_rig_finish(&with);
}
END_TEST

/* Running statistics are no parameters: forward has moved them. */
static void assert_same_trainable(const kd_test_rig *a, const kd_test_rig *b)
{
    size_t n  = (size_t)kd_params_trainable(a->student->params) * sizeof(float);
    float *pa = malloc(n), *pb = malloc(n);

    kd_assert_ok(kd_device_download(a->ctx, pa, kd_params_values(a->student->params), n));
    kd_assert_ok(kd_device_download(b->ctx, pb, kd_params_values(b->student->params), n));
    ck_assert(kd_test_same_bits(pa, pb, n));
    free(pa);
    free(pb);
}

START_TEST(a_step_that_overflows_tells_and_drops_its_gradients)
{
    kd_test_rig_options o = rig_options("adamw", 1024, 4, 2);
    kd_test_rig         clean, spoilt;
    kdas_step_report    r;

    kd_test_rig_make(&clean, &o);
    kd_test_rig_make(&spoilt, &o);
    r = kd_test_rig_report(&spoilt, 0);
    ck_assert(!r.updated && !r.skipped);
    spoil(&spoilt); /* between two micro-batches */
    r = kd_test_rig_report(&spoilt, 1);
    ck_assert(!r.updated && r.skipped);
    ck_assert_double_eq(r.loss_scale, 1024);
    assert_same_trainable(&clean, &spoilt);
    kd_test_rig_finish(&clean);
    for (int t = 2; t < 4; t++)
        r = kd_test_rig_report(&spoilt, t);
    ck_assert(r.updated && !r.skipped);
    ck_assert_double_eq(r.loss_scale, 512);
    ck_assert_int_eq(kdas_optim_updates(spoilt.optim), 1);
    kd_test_rig_finish(&spoilt);
}
END_TEST

START_TEST(an_infinite_gradient_of_the_host_is_an_overflow_like_any_other)
{
    kd_test_rig_options o = rig_options("sgd", 1024, 100, 1);
    kdas_step_report    r = { .size = sizeof r };
    kd_test_rig         rig;
    kdas_batch         *batch;
    int64_t             dims[4];
    float              *push;

    kd_test_rig_make(&rig, &o);
    kd_assert_ok(kdas_model_keep_tap(rig.student, "backbone.x1"));
    kd_assert_ok(kdas_batch_create(&batch, rig.ctx, 1, 32, 32));
    kd_test_fill(kdas_batch_images(batch), 32 * 32 * 3, "host", 1, 0);
    kd_assert_ok(kdas_distiller_forward(rig.distiller, batch));
    kd_assert_ok(kdas_model_tap_dims(rig.student, "backbone.x1", dims));
    push    = calloc((size_t)(dims[1] * dims[2] * dims[3]), sizeof *push);
    push[5] = INFINITY;
    kd_assert_ok(kdas_model_add_gradient(rig.student, "backbone.x1", push));
    kd_assert_ok(kdas_distiller_backward(rig.distiller, &r));
    ck_assert_double_eq(r.loss_scale, 1024);
    kd_assert_ok(kdas_distiller_update(rig.distiller, &r));
    ck_assert(r.skipped && !r.updated);
    ck_assert_double_eq(kdas_optim_loss_scale(rig.optim), 512);
    kd_assert_ok(kdas_distiller_step(rig.distiller, batch, &r));
    ck_assert(r.updated && !r.skipped);
    free(push);
    kdas_batch_destroy(batch);
    kd_test_rig_finish(&rig);
}
END_TEST

/* ---- checkpoints ---- */

/* Steps first .. last - 1, of which some overflow; the report of the last. */
static kdas_step_report steps(kd_test_rig *rig, int first, int last)
{
    kdas_step_report r = { 0 };

    for (int t = first; t < last; t++) {
        if (t == 1 || t == 6) spoil(rig);
        r = kd_test_rig_report(rig, t);
    }
    return r;
}

START_TEST(a_resumed_run_goes_on_with_its_scale_and_gives_the_same_bits)
{
    static const int    accumulate[] = { 1, 1, 3 }, cut[] = { 3, 5, 4 }; /* the last: one waits */
    kd_test_rig_options o = rig_options("adamw", 4096, 2, accumulate[_i]);
    kd_test_rig         whole, part;
    kdas_step_report    want, got;

    kd_test_rig_make(&whole, &o);
    want = steps(&whole, 0, 9);
    kd_test_rig_make(&part, &o);
    steps(&part, 0, cut[_i]);
    kd_assert_ok(kdas_checkpoint_save(part.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_test_rig_finish(&part);
    kd_test_rig_make(&part, &o);
    kd_assert_ok(kdas_checkpoint_load(part.distiller, kd_test_path("c.kdas"), NULL));
    got = steps(&part, cut[_i], 9);
    ck_assert_double_eq(got.total, want.total);
    ck_assert_double_eq(got.loss_scale, want.loss_scale);
    ck_assert_int_eq(kdas_optim_skipped(part.optim), 2);
    ck_assert_int_eq(kdas_optim_skipped(whole.optim), 2);
    ck_assert_int_eq(part.optim->scale.good, whole.optim->scale.good);
    ck_assert_double_eq(kdas_optim_loss_scale(part.optim), kdas_optim_loss_scale(whole.optim));
    ck_assert_int_eq(kdas_optim_updates(part.optim), kdas_optim_updates(whole.optim));
    kd_test_assert_same_weights(part.student, whole.student);
    kd_test_rig_finish(&part);
    kd_test_rig_finish(&whole);
}
END_TEST

/* A run in f16 goes on in f32 and back. The types that networks compute in are not at stake, only the scale
 * that belongs to them: contexts that merely say f16 do. */
START_TEST(in_another_precision_the_scale_is_that_precisions_own)
{
    kd_test_rig_options o = rig_options("adamw", 0, 2000, 2);
    kd_test_rig         half, full;
    int64_t             n;
    float               g[2];

    kd_test_rig_make(&half, &o);
    kd_test_rig_make(&full, &o);
    half.optim->scale = (kd_loss_scale){ .value = 2048, .every = 2000, .good = 7, .skipped = 5 };
    kd_test_rig_report(&half, 0); /* waits, 2048 times too large */
    half.ctx->type = KDAS_F16;
    kd_assert_ok(kdas_checkpoint_save(half.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_assert_ok(kdas_checkpoint_load(full.distiller, kd_test_path("c.kdas"), NULL));
    ck_assert_double_eq(kdas_optim_loss_scale(full.optim), 1);
    ck_assert_int_eq(kdas_optim_skipped(full.optim), 5);
    n = kd_params_trainable(full.student->params);
    for (int64_t i = 0; i < n; i += 1237) {
        kd_assert_ok(kd_device_download(half.ctx, &g[0], kd_params_grads(half.student->params) + i,
                                        sizeof *g));
        kd_assert_ok(kd_device_download(full.ctx, &g[1], kd_params_grads(full.student->params) + i,
                                        sizeof *g));
        ck_assert_float_eq(g[0] / 2048, g[1]);
    }
    kd_assert_ok(kdas_checkpoint_load(half.distiller, kd_test_path("c.kdas"), NULL));
    ck_assert_double_eq(kdas_optim_loss_scale(half.optim), 2048); /* its own goes on */
    ck_assert_int_eq(half.optim->scale.good, 7);
    kd_assert_ok(kdas_checkpoint_save(full.distiller, kd_test_path("c.kdas"), NULL, NULL));
    kd_assert_ok(kdas_checkpoint_load(half.distiller, kd_test_path("c.kdas"), NULL));
    ck_assert_double_eq(kdas_optim_loss_scale(half.optim), 65536); /* that of f32 does not */
    ck_assert_int_eq(half.optim->scale.every, 2000);
    half.ctx->type = KDAS_F32;
    kd_test_rig_finish(&half);
    kd_test_rig_finish(&full);
}
END_TEST

/* ---- whole runs ---- */

typedef struct watcher {
    kd_test_rig     *rig;
    kdas_train_state epoch;
    int64_t          skips, updates;
} watcher;

static int watch(void *user, const kdas_train_state *s)
{
    watcher *w = user;

    if (s->event == KDAS_EVENT_EPOCH) {
        w->epoch = *s;
        return 0;
    }
    w->skips += s->report->skipped;
    w->updates += s->report->updated;
    ck_assert_int_eq(s->skipped, w->skips);
    if (s->step == 1 || s->step == 5) spoil(w->rig);
    return 0;
}

START_TEST(a_run_counts_what_it_skips_and_goes_on)
{
    kd_test_rig_options o   = rig_options("adamw", 256, 2000, 1);
    const char         *out = kd_test_path("run");
    kd_test_training    s;
    watcher             w = { .rig = &s.rig };
    kd_test_table       t;

    kd_test_train_make(&s, &o, out);
    s.options.progress = watch;
    s.options.user     = &w;
    kd_assert_ok(kd_test_train(&s));
    ck_assert_int_eq(w.skips, 2);
    ck_assert_int_eq(w.updates, 2 * KD_TEST_BATCHES - 2);
    ck_assert_int_eq(w.epoch.skipped, 2);
    ck_assert_int_eq(kdas_optim_updates(s.rig.optim), w.updates);
    kd_test_table_read(&t, kd_test_path("run/log.csv"));
    ck_assert_str_eq(kd_test_table_cell(&t, 1, "skipped"), "1");
    ck_assert_str_eq(kd_test_table_cell(&t, 2, "skipped"), "2");
    ck_assert_str_eq(kd_test_table_cell(&t, 1, "loss_scale"), "128");
    ck_assert_str_eq(kd_test_table_cell(&t, 2, "loss_scale"), "64");
    free(t.text);
    kd_test_train_finish(&s);
}
END_TEST

static int spoil_always(void *user, const kdas_train_state *s)
{
    if (s->event == KDAS_EVENT_STEP) spoil(user);
    return 0;
}

START_TEST(a_run_that_only_overflows_ends)
{
    kd_test_rig_options o = rig_options("adamw", 8, 2000, 1);
    kd_test_training    s;

    kd_test_train_make(&s, &o, NULL);
    s.options.epochs   = 100;
    s.options.progress = spoil_always;
    s.options.user     = &s.rig;
    kd_assert_status(kd_test_train(&s), KDAS_ENUMERIC);
    ck_assert_int_eq(kdas_optim_skipped(s.rig.optim), 3);
    ck_assert_int_eq(kdas_optim_updates(s.rig.optim), 1); /* the first */
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_log_of_before_the_scale_is_carried_on)
{
    static const char old[] =
        "epoch,step,lr,total,seg_raw,seg_weighted,seg_gradient,kd_raw,kd_weighted,kd_gradient,"
        "sgm_raw,sgm_weighted,sgm_gradient,images_per_second,seconds,waited,validation_dice,"
        "validation_loss,best\n"
        "1,4,0.1,2,1,1,1,0,0,0,0,0,0,9,8,7,0.5,,1\n"
        "2,8,0.1,1,1,1,1,0,0,0,0,0,0,9,8,7,0.6,,1\n";
    double        sum[KD_SUMS] = { [KD_SUM_STEPS] = 4 };
    kd_train_row  row          = { .epoch = 2, .sum = sum, .loss_scale = 512, .skipped = 3 };
    kdas_context *ctx          = kd_test_device("reference", NULL);
    kd_train_log  log;
    kd_test_table t;

    kd_test_write(kd_test_path("log.csv"), old, sizeof old - 1);
    kd_assert_ok(kd_train_log_init(&log, ctx, kd_test_path("log.csv"), 1));
    kd_assert_ok(kd_train_log_add(&log, &row));
    kd_test_table_read(&t, kd_test_path("log.csv"));
    ck_assert_int_eq(t.lines, 3);
    ck_assert_str_eq(kd_test_table_cell(&t, 1, "validation_dice"), "0.5");
    ck_assert_str_eq(kd_test_table_cell(&t, 1, "loss_scale"), "1");
    ck_assert_str_eq(kd_test_table_cell(&t, 1, "skipped"), "0");
    ck_assert_str_eq(kd_test_table_cell(&t, 1, "feature_gradient"), "0");
    ck_assert_str_eq(kd_test_table_cell(&t, 1, "images_per_second"), "9");
    ck_assert_str_eq(kd_test_table_cell(&t, 2, "loss_scale"), "512");
    ck_assert_str_eq(kd_test_table_cell(&t, 2, "skipped"), "3");
    free(t.text);
    kd_train_log_finish(&log);
    kdas_context_destroy(ctx);
}
END_TEST

static Suite *scale_suite(void)
{
    const int D     = KD_COUNT(devices);
    Suite    *s     = suite_create("scale");
    TCase    *optim = tcase_create("the optimizer");
    TCase    *steps = tcase_create("steps and runs");

    tcase_add_loop_test(optim, a_scale_changes_no_bit_of_an_update, 0, 2 * D);
    tcase_add_test(optim, the_scale_doubles_as_often_as_asked_up_to_its_most);
    tcase_add_loop_test(optim, an_overflow_skips_the_update_and_halves_the_scale, 0, 2 * D);
    tcase_add_loop_test(optim, at_the_floor_an_overflow_is_an_error_that_names_the_tensor, 0, D);
    tcase_add_loop_test(optim, a_fixed_scale_stays_and_an_overflow_is_an_error, 0, D);
    tcase_add_test(optim, by_default_the_scale_follows_what_networks_compute_in);
    suite_add_tcase(s, optim);

    tcase_add_checked_fixture(steps, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(steps, a_scaled_run_gives_the_bits_and_figures_of_a_plain_one, 0, 4);
    tcase_add_test(steps, a_step_that_overflows_tells_and_drops_its_gradients);
    tcase_add_test(steps, an_infinite_gradient_of_the_host_is_an_overflow_like_any_other);
    tcase_add_loop_test(steps, a_resumed_run_goes_on_with_its_scale_and_gives_the_same_bits, 0, 3);
    tcase_add_test(steps, in_another_precision_the_scale_is_that_precisions_own);
    tcase_add_test(steps, a_run_counts_what_it_skips_and_goes_on);
    tcase_add_test(steps, a_run_that_only_overflows_ends);
    tcase_add_test(steps, a_log_of_before_the_scale_is_carried_on);
    suite_add_tcase(s, steps);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(scale_suite());
    int      failed;

    kd_test_thin_networks();
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

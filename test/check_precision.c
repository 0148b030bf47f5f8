/* check_precision.c - networks in bf16 beside the same networks in f32: maps, gradients, a training run, and
 * what happens where bf16 cannot be had. On a CPU without bf16 products only the last can be shown. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "support/check_util.h"
#include "support/run_util.h"

#define SIDE 64
#define AREA (SIDE * SIDE)

static kdas_status try_context(kdas_context **out, const char *device, const char *isa,
                               kdas_precision precision, kdas_log_fn log, void *user)
{
    kdas_context_options o;

    kdas_context_options_init(&o, sizeof o);
    o.device    = device;
    o.isa       = isa;
    o.threads   = 2;
    o.precision = precision;
    o.log       = log;
    o.log_user  = user;
    return kdas_context_create(out, &o);
}

/* ---- asking for it ---- */

static void count_line(void *user, kdas_log_level level, const char *text)
{
    *(int *)user += level == KDAS_LOG_WARN && strstr(text, "f32");
}

START_TEST(where_it_cannot_be_had_it_is_refused_or_replaced)
{
    static const char *const way[][2] = { { "reference", NULL }, { "cpu", "avx2" } };

    for (int i = 0; i < 2; i++) {
        kdas_context *ctx;
        int           lines = 0;

        ck_assert_int_eq(try_context(&ctx, way[i][0], way[i][1], KDAS_PRECISION_BF16, NULL, NULL),
                         KDAS_EUNSUPPORTED);
        ck_assert_ptr_null(ctx);
        ck_assert_ptr_nonnull(strstr(kdas_last_error(), "bf16"));
        kd_assert_ok(try_context(&ctx, way[i][0], way[i][1], KDAS_PRECISION_BF16_IF_ABLE,
                                 count_line, &lines));
        ck_assert_int_eq(kdas_context_precision(ctx), KDAS_PRECISION_F32);
        ck_assert_int_eq(lines, 1);
        kdas_context_destroy(ctx);
    }
}
END_TEST

/* ---- oneDNN has one limit for the process ---- */

static void infer_once(kdas_context *ctx)
{
    kdas_batch *b;
    kdas_model *m;

    kd_assert_ok(kdas_batch_create(&b, ctx, 1, SIDE, SIDE));
    kd_assert_ok(kdas_model_create(&m, ctx, "lite_fpn0", NULL));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
    kdas_model_destroy(m);
    kdas_batch_destroy(b);
}

static kdas_context *make(const char *isa, kdas_precision precision)
{
    kdas_context *ctx;

    kd_assert_ok(try_context(&ctx, "cpu", isa, precision, NULL, NULL));
    return ctx;
}

/* Once a context has limited oneDNN, no later one claims a bf16 in which its first forward fails. */
START_TEST(a_limit_of_an_earlier_context_leaves_no_bf16)
{
    static const char *const limit[] = { "avx2", "plain" };
    kdas_context            *first   = make(limit[_i % 2], KDAS_PRECISION_F32), *ctx;
    const kdas_precision     softer  = _i & 4 ? KDAS_PRECISION_AUTO : KDAS_PRECISION_BF16_IF_ABLE;
    int                      lines   = 0;

    if (_i & 2) infer_once(first);
    ck_assert_int_eq(try_context(&ctx, "cpu", NULL, KDAS_PRECISION_BF16, NULL, NULL),
                     KDAS_EUNSUPPORTED);
    ck_assert_ptr_null(ctx);
    kd_assert_sentence("bf16");
    kd_assert_ok(try_context(&ctx, "cpu", NULL, softer, count_line, &lines));
    ck_assert_int_eq(kdas_context_precision(ctx), KDAS_PRECISION_F32);
    ck_assert_int_eq(lines, 1);
    ck_assert_ptr_null(strstr(kdas_context_device(ctx), "+ bf16"));
    if (__builtin_cpu_supports("avx512bf16"))
        ck_assert_ptr_nonnull(strstr(kdas_context_device(ctx), "held in this process to "));
    infer_once(ctx);
    kdas_context_destroy(ctx);
    kdas_context_destroy(first);
}
END_TEST

/* The last word of what a device's text says of oneDNN, which names its instruction set. */
static void read_onednn(char word[16], const kdas_context *ctx)
{
    char        text[128];
    const char *begin = strstr(kdas_context_device(ctx), "oneDNN ");

    ck_assert_ptr_nonnull(begin);
    snprintf(text, sizeof text, "%.*s", (int)strcspn(begin, ","), begin);
    snprintf(word, 16, "%s", strrchr(text, ' ') + 1);
}

/* The bits of two contexts of one limit differ where oneDNN differs: their texts say it. */
START_TEST(the_device_says_what_onednn_uses)
{
    static const char *const limits[] = { "avx2", "plain" };
    const char              *limit    = limits[_i % 2];
    bool                     wide     = _i & 2; /* the first context has no limit */
    kdas_context            *first    = make(wide ? NULL : limit, KDAS_PRECISION_F32);
    kdas_context            *later    = make(wide ? limit : NULL, KDAS_PRECISION_F32);
    char                     own[32], words[2][16];

    snprintf(own, sizeof own, ", %s", limit);
    ck_assert_ptr_nonnull(strstr(kdas_context_device(wide ? later : first), own));
    read_onednn(words[0], first);
    read_onednn(words[1], later);
    ck_assert_str_eq(words[0], words[1]);
    if (!wide) ck_assert_str_eq(words[0], limit);
    if (wide && __builtin_cpu_supports("avx512f")) ck_assert_str_ne(words[1], limit);
    kdas_context_destroy(later);
    kdas_context_destroy(first);
}
END_TEST

/* The same limit from oneDNN's own variable. */
START_TEST(a_limit_of_the_environment_leaves_no_bf16)
{
    kdas_context *ctx;

    setenv(_i ? "ONEDNN_MAX_CPU_ISA" : "DNNL_MAX_CPU_ISA", "AVX2", 1);
    ctx = make(NULL, KDAS_PRECISION_BF16_IF_ABLE);
    ck_assert_int_eq(kdas_context_precision(ctx), KDAS_PRECISION_F32);
    infer_once(ctx);
    kdas_context_destroy(ctx);
}
END_TEST

/* Nor does a later context take it from an earlier one, whose first forward may come after. */
START_TEST(a_limit_of_a_later_context_takes_no_bf16_away)
{
    kdas_context *ctx, *later;

    ctx   = make(NULL, KDAS_PRECISION_BF16_IF_ABLE);
    later = make(_i ? "plain" : "avx2", KDAS_PRECISION_F32);
    infer_once(later);
    infer_once(ctx);
    kdas_context_destroy(later);
    later = make(NULL, KDAS_PRECISION_BF16_IF_ABLE);
    ck_assert_int_eq(kdas_context_precision(later), kdas_context_precision(ctx));
    infer_once(later);
    kdas_context_destroy(later);
    kdas_context_destroy(ctx);
}
END_TEST

/* No device of this library's own has f16 or TF32: a plug-in may. */
START_TEST(what_only_other_devices_have_is_refused_by_name)
{
    static const char *const    devices[] = { "reference", "cpu" };
    static const kdas_precision asked[]   = { KDAS_PRECISION_F16, KDAS_PRECISION_TF32 };
    static const char *const    names[]   = { "f16", "tf32" };

    for (int i = 0; i < 4; i++) {
        kdas_context *ctx = (kdas_context *)&ctx;

        ck_assert_int_eq(try_context(&ctx, devices[i / 2], NULL, asked[i % 2], NULL, NULL),
                         KDAS_EUNSUPPORTED);
        ck_assert_ptr_null(ctx);
        ck_assert_ptr_nonnull(strstr(kdas_last_error(), names[i % 2]));
    }
}
END_TEST

START_TEST(auto_takes_what_there_is)
{
    kdas_context *ctx;
    int           lines = 0;
    bool          can   = kd_test_can_half();

    kd_assert_ok(try_context(&ctx, "reference", NULL, KDAS_PRECISION_AUTO, count_line, &lines));
    ck_assert_int_eq(kdas_context_precision(ctx), KDAS_PRECISION_F32);
    ck_assert_int_eq(lines, 1);
    kdas_context_destroy(ctx);
    kd_assert_ok(try_context(&ctx, "cpu", NULL, KDAS_PRECISION_AUTO, count_line, &lines));
    ck_assert_int_eq(kdas_context_precision(ctx), can ? KDAS_PRECISION_BF16 : KDAS_PRECISION_F32);
    ck_assert_int_eq(lines, can ? 1 : 2);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(precisions_out_of_range_are_refused)
{
    for (int i = 0; i < 2; i++) {
        kdas_context *ctx;

        ck_assert_int_eq(try_context(&ctx, "cpu", NULL,
                                     (kdas_precision)(i ? KDAS_PRECISION_INT8 + 1 : -1), NULL,
                                     NULL),
                         KDAS_EINVAL);
        ck_assert_ptr_nonnull(strstr(kdas_last_error(), "precision"));
    }
}
END_TEST

START_TEST(the_context_says_what_is_in_use)
{
    kdas_context *ctx;

    kd_assert_ok(try_context(&ctx, "cpu", NULL, KDAS_PRECISION_F32, NULL, NULL));
    ck_assert_int_eq(kdas_context_precision(ctx), KDAS_PRECISION_F32);
    kdas_context_destroy(ctx);
    if (!kd_test_can_half()) return;
    kd_assert_ok(try_context(&ctx, "cpu", NULL, KDAS_PRECISION_BF16_IF_ABLE, NULL, NULL));
    ck_assert_int_eq(kdas_context_precision(ctx), KDAS_PRECISION_BF16);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- beside f32 ---- */

typedef struct pair {
    kd_test_rig f32, bf16;
} pair;

static void pair_make(pair *p)
{
    kd_test_rig_options o = kd_test_rig_usual();

    kd_test_rig_make(&p->f32, &o);
    o.precision = KDAS_PRECISION_BF16;
    kd_test_rig_make(&p->bf16, &o);
}

static void pair_finish(pair *p)
{
    kd_test_rig_finish(&p->f32);
    kd_test_rig_finish(&p->bf16);
}

static kdas_batch *draw(kdas_context *ctx, int i)
{
    kdas_batch *b;
    char        name[32];

    snprintf(name, sizeof name, "precision.%d", i);
    kd_assert_ok(kdas_batch_create(&b, ctx, 2, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), 2 * AREA * 3, name, 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), 2, SIDE, SIDE, name);
    return b;
}

/* |a - b| / |b|, and the cosine of the angle between them. */
static double distance(const float *a, const float *b, size_t n, double *cosine)
{
    double apart = 0, aa = 0, bb = 0, ab = 0;

    for (size_t i = 0; i < n; i++) {
        apart += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
        ab += (double)a[i] * b[i];
    }
    *cosine = ab / sqrt(aa * bb);
    return sqrt(apart / bb);
}

static float *maps_of(kdas_context *ctx, kdas_model *model, kdas_mode mode)
{
    kdas_batch *b   = draw(ctx, 0);
    float      *map = malloc(2 * 2 * AREA * sizeof *map);

    kd_assert_ok(kdas_model_forward(model, mode, b));
    kd_assert_ok(kdas_model_read_output(model, "P1", map));
    kd_assert_ok(kdas_model_read_output(model, "P2", map + 2 * AREA));
    kdas_batch_destroy(b);
    return map;
}

/* bf16 keeps 8 bits of each activation, an error of at most 2^-9 = 0.2 % each; some dozens of layers add theirs
 * up at random to 1 to 2 % of the maps. In training mode batch norm divides by the spread of a few dozen values of
 * an untrained network, which magnifies that some times. */
START_TEST(maps_stay_close_to_those_of_f32)
{
    pair p;

    if (!kd_test_can_half()) return;
    pair_make(&p);
    for (int mode = 0; mode < 2; mode++) {
        kdas_mode m    = mode ? KDAS_MODE_TRAIN : KDAS_MODE_INFER;
        float    *want = maps_of(p.f32.ctx, p.f32.student, m);
        float    *got  = maps_of(p.bf16.ctx, p.bf16.student, m);
        double    cosine, apart = distance(got, want, 4 * AREA, &cosine);

        ck_assert_msg(apart > 1e-6, "the maps are those of f32: bf16 was not used");
        ck_assert_msg(apart < (mode ? 0.1 : 0.03), "mode %d: the maps are %.4f apart", mode, apart);
        free(want);
        free(got);
    }
    pair_finish(&p);
}
END_TEST

/* The gradients of all trainable tensors, one after the other, after forward and backward of a step. */
static float *gradients_of(kd_test_rig *rig, size_t *count)
{
    kdas_step_report report = { .size = sizeof report };
    kdas_batch      *b      = draw(rig->ctx, 1);
    float           *all    = NULL;
    size_t           used   = 0;
    int64_t          dims[4];
    int32_t          rank, trainable;

    kd_assert_ok(kdas_distiller_forward(rig->distiller, b));
    kd_assert_ok(kdas_distiller_backward(rig->distiller, &report));
    kdas_batch_destroy(b);
    for (int32_t i = 0; kdas_model_tensor(rig->student, i, &rank, dims, &trainable); i++) {
        size_t n = 1;

        if (!trainable) continue;
        for (int32_t k = 0; k < rank; k++)
            n *= (size_t)dims[k];
        all = realloc(all, (used + n) * sizeof *all);
        kd_assert_ok(kdas_model_read_gradient(rig->student, i, all + used));
        used += n;
    }
    *count = used;
    return all;
}

/* The angle between the two gradients, and what is off as a share of the one in f32. */
START_TEST(gradients_point_where_those_of_f32_point)
{
    pair   p;
    size_t n, n_half;
    float *want, *got;
    double cosine, apart;

    if (!kd_test_can_half()) return;
    pair_make(&p);
    want  = gradients_of(&p.f32, &n);
    got   = gradients_of(&p.bf16, &n_half);
    apart = distance(got, want, n, &cosine);
    ck_assert_uint_eq(n, n_half);
    ck_assert_msg(cosine > 0.99 && apart < 0.12, "cosine %.5f, %.4f apart", cosine, apart);
    free(want);
    free(got);
    pair_finish(&p);
}
END_TEST

START_TEST(training_follows_the_loss_curve_of_f32)
{
    enum { STEPS = 24, LAST = 8 };
    double end[2] = { 0 }, start[2] = { 0 };
    pair   p;

    if (!kd_test_can_half()) return;
    pair_make(&p);
    for (int t = 0; t < STEPS; t++) {
        kd_test_rig *rig[2] = { &p.f32, &p.bf16 };
        double       total[2];

        for (int i = 0; i < 2; i++) {
            kdas_step_report report = { .size = sizeof report };
            kdas_batch      *b      = draw(rig[i]->ctx, t % 3);

            kd_assert_ok(kdas_distiller_step(rig[i]->distiller, b, &report));
            kdas_batch_destroy(b);
            total[i] = report.total;
            if (t == 0) start[i] = total[i];
            if (t >= STEPS - LAST) end[i] += total[i] / LAST;
        }
        ck_assert_msg(fabs(total[1] - total[0]) < 0.05 * start[0],
                      "step %d: %.5f in f32, %.5f in bf16 (from %.5f)", t, total[0], total[1],
                      start[0]);
    }
    ck_assert_msg(end[0] < 0.8 * start[0], "f32 does not learn: %g to %g", start[0], end[0]);
    ck_assert_msg(fabs(end[1] - end[0]) < 0.02 * start[0], "the ends: %.5f in f32, %.5f in bf16",
                  end[0], end[1]);
    pair_finish(&p);
}
END_TEST

START_TEST(the_same_step_gives_the_same_bits)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         a, b;

    if (!kd_test_can_half()) return;
    o.precision = KDAS_PRECISION_BF16;
    kd_test_rig_make(&a, &o);
    kd_test_rig_make(&b, &o);
    for (int t = 0; t < 3; t++)
        ck_assert(kd_test_rig_step(&a, t) == kd_test_rig_step(&b, t));
    kd_test_assert_same_weights(a.student, b.student);
    kd_test_rig_finish(&a);
    kd_test_rig_finish(&b);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("precision");
    TCase   *t     = tcase_create("precision");
    SRunner *runner;
    int      failed;

    tcase_set_timeout(t, 120);
    tcase_add_test(t, where_it_cannot_be_had_it_is_refused_or_replaced);
    tcase_add_loop_test(t, a_limit_of_an_earlier_context_leaves_no_bf16, 0, 8);
    tcase_add_loop_test(t, the_device_says_what_onednn_uses, 0, 4);
    tcase_add_loop_test(t, a_limit_of_the_environment_leaves_no_bf16, 0, 2);
    tcase_add_loop_test(t, a_limit_of_a_later_context_takes_no_bf16_away, 0, 2);
    tcase_add_test(t, what_only_other_devices_have_is_refused_by_name);
    tcase_add_test(t, auto_takes_what_there_is);
    tcase_add_test(t, precisions_out_of_range_are_refused);
    tcase_add_test(t, the_context_says_what_is_in_use);
    tcase_add_test(t, maps_stay_close_to_those_of_f32);
    tcase_add_test(t, gradients_point_where_those_of_f32_point);
    tcase_add_test(t, training_follows_the_loss_curve_of_f32);
    tcase_add_test(t, the_same_step_gives_the_same_bits);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

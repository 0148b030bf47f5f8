/* check_segmenter_live.c - frames that follow each other: smoothing, hysteresis, overlays, the clock, and
 * nothing allocated on the way. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/run_util.h"

enum { SIDE = 64, W = 90, H = 60 };

static kd_test_meter meter;
static kdas_context *ctx;
static kdas_model   *model;
static uint8_t       pixels[3][W * H * 3];
static kdas_view     frames[3];        /* that differ much              */
static float         logits[3][W * H]; /* of each, when it comes alone */
static float         threshold;        /* that divides all of them      */

static kdas_segmenter_options options(float smoothing, float hysteresis)
{
    kdas_segmenter_options o;

    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = SIDE;
    o.frame_height     = H;
    o.frame_width      = W;
    o.threshold        = threshold;
    o.smoothing        = smoothing;
    o.hysteresis       = hysteresis;
    return o;
}

static kdas_segmenter *open_segmenter(float smoothing, float hysteresis)
{
    kdas_segmenter_options o = options(smoothing, hysteresis);
    kdas_segmenter        *s;

    kd_assert_ok(kdas_segmenter_create(&s, model, &o));
    return s;
}

static float sigmoid(float z) { return 1 / (1 + expf(-z)); }

static void setup(void)
{
    kdas_model_options o;
    kdas_segmenter    *s;
    float              low = INFINITY, high = -INFINITY;

    memset(&meter, 0, sizeof meter);
    ctx = kd_test_device("cpu", &meter);
    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&model, ctx, "polyp_pvt_b0", &o));
    threshold = 0.5f;
    s         = open_segmenter(0, 0);
    for (int t = 0; t < 3; t++) {
        for (int i = 0; i < W * H * 3; i++) {
            double wave = sin(0.05 * (t + 1) * (i / 3 % W) + 2 * t) * cos(0.11 * (i / 3 / W));

            pixels[t][i] = (uint8_t)(128 + 110 * wave + 15 * kd_test_unit("live", (uint64_t)i));
        }
        frames[t] = (kdas_view){ pixels[t], W, H, 0, KDAS_PIXEL_RGB8 };
        kd_assert_ok(kdas_segmenter_logits(s, &frames[t], logits[t]));
        for (int i = 0; i < W * H; i++) {
            low  = fminf(low, logits[t][i]);
            high = fmaxf(high, logits[t][i]);
        }
    }
    threshold = sigmoid((low + high) / 2);
    kdas_segmenter_destroy(s);
}

static void teardown(void)
{
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}

static float edge_of(float p) { return logf(p) - log1pf(-p); }

/* ---- smoothing ---- */

/* The network's map has the network's size: of frames of that size it comes out sample by sample. */
START_TEST(smoothing_is_a_moving_average_of_the_probability)
{
    static const float     weights[] = { 0.25f, 0.9f };
    float                  w         = weights[_i];
    kdas_segmenter_options o         = options(w, 0);
    static const int       order[]   = { 0, 1, 2, 2, 0 };
    static uint8_t         small[3][SIDE * SIDE * 3];
    static float           alone[3][SIDE * SIDE], got[SIDE * SIDE];
    static double          past[SIDE * SIDE];
    kdas_view              view = { NULL, SIDE, SIDE, 0, KDAS_PIXEL_RGB8 };
    kdas_segmenter        *s;

    o.frame_height = o.frame_width = SIDE;
    o.smoothing                    = 0;
    kd_assert_ok(kdas_segmenter_create(&s, model, &o));
    for (int t = 0; t < 3; t++) {
        memcpy(small[t], pixels[t], sizeof small[t]);
        view.data = small[t];
        kd_assert_ok(kdas_segmenter_logits(s, &view, alone[t]));
    }
    kdas_segmenter_destroy(s);
    o.smoothing = w;
    kd_assert_ok(kdas_segmenter_create(&s, model, &o));
    for (size_t t = 0; t < KD_COUNT(order); t++) {
        view.data = small[order[t]];
        kd_assert_ok(kdas_segmenter_logits(s, &view, got));
        for (int i = 0; i < SIDE * SIDE; i++) {
            double p = 1 / (1 + exp(-(double)alone[order[t]][i]));

            past[i] = t ? w * past[i] + (1 - w) * p : p;
            ck_assert_double_eq_tol(1 / (1 + exp(-(double)got[i])), past[i], 2e-6);
        }
        if (t == 0) ck_assert(kd_test_same_bits(got, alone[0], sizeof got));
    }
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(certain_pixels_change_sides_after_the_frames_that_the_weight_says)
{
    kdas_segmenter *s    = open_segmenter(0.8f, 0);
    int32_t         bias = kdas_model_find(model, "out_CFM.bias");
    float           value, out[W * H];
    int             frames_needed = 0;

    kd_assert_ok(kdas_model_read(model, bias, &value));
    kd_assert_ok(kdas_model_write(model, bias, &(float){ -500 }));
    kd_assert_ok(kdas_segmenter_logits(s, &frames[0], out));
    kd_assert_ok(kdas_model_write(model, bias, &(float){ 500 }));
    do {
        kd_assert_ok(kdas_segmenter_logits(s, &frames[0], out));
        ck_assert(isfinite(out[0]));
        frames_needed++;
    } while (out[0] < 0 && frames_needed < 100);
    ck_assert_int_eq(frames_needed, 4); /* log(0.5) / log(0.8) = 3.1 */
    kd_assert_ok(kdas_model_write(model, bias, &value));
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_reset_forgets_the_past)
{
    kdas_segmenter *s = open_segmenter(0.7f, threshold / 2);
    static float    got[W * H];
    static uint8_t  mask[W * H];

    kd_assert_ok(kdas_segmenter_reset(s)); /* before the first frame: nothing to forget */
    kd_assert_ok(kdas_segmenter_mask(s, &frames[0], mask, 0));
    kd_assert_ok(kdas_segmenter_logits(s, &frames[1], got));
    ck_assert(!kd_test_same_bits(got, logits[1], sizeof got));
    kd_assert_ok(kdas_segmenter_reset(s));
    kd_assert_ok(kdas_segmenter_logits(s, &frames[1], got));
    ck_assert(kd_test_same_bits(got, logits[1], sizeof got));
    kd_assert_ok(kdas_segmenter_reset(s));
    kd_assert_ok(kdas_segmenter_mask(s, &frames[2], mask, 0));
    for (int i = 0; i < W * H; i++)
        ck_assert_int_eq(mask[i], logits[2][i] >= edge_of(threshold) ? 255 : 0);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_frame_of_another_size_begins_anew)
{
    kdas_segmenter_options o     = options(0.7f, threshold / 2);
    kdas_view              lower = frames[1];
    static float           want[W * H], got[W * H];
    kdas_segmenter        *s;

    lower.height   = H - 10;
    o.frame_height = o.frame_width = 0;
    kd_assert_ok(kdas_segmenter_create(&s, model, &o));
    kd_assert_ok(kdas_segmenter_logits(s, &lower, want));
    kd_assert_ok(kdas_segmenter_logits(s, &frames[0], got));
    ck_assert(kd_test_same_bits(got, logits[0], sizeof got));
    kd_assert_ok(kdas_segmenter_logits(s, &lower, got));
    ck_assert(kd_test_same_bits(got, want, (H - 10) * W * sizeof *got));
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_frame_that_fails_leaves_the_past_as_it_was)
{
    kdas_segmenter *s    = open_segmenter(0.7f, threshold / 2);
    int32_t         bias = kdas_model_find(model, "out_CFM.bias");
    float           value;
    static float    want[W * H], got[W * H];
    static uint8_t  mask[2][W * H];

    for (int fail = 0; fail < 2; fail++) {
        kd_assert_ok(kdas_segmenter_reset(s));
        kd_assert_ok(kdas_segmenter_mask(s, &frames[0], mask[fail], 0));
        if (fail) {
            kdas_context_cancel(ctx);
            kd_assert_status(kdas_segmenter_mask(s, &frames[2], mask[0], 0), KDAS_ECANCELLED);
            kdas_context_resume(ctx);
            kd_assert_ok(kdas_model_read(model, bias, &value));
            kd_assert_ok(kdas_model_write(model, bias, &(float){ NAN }));
            kd_assert_status(kdas_segmenter_mask(s, &frames[2], mask[0], 0), KDAS_ENUMERIC);
            kd_assert_ok(kdas_model_write(model, bias, &value));
        }
        kd_assert_ok(kdas_segmenter_logits(s, &frames[1], fail ? got : want));
        kd_assert_ok(kdas_segmenter_mask(s, &frames[1], mask[fail], 0));
    }
    ck_assert(kd_test_same_bits(got, want, sizeof got));
    ck_assert_mem_eq(mask[0], mask[1], sizeof mask[0]);
    kdas_segmenter_destroy(s);
}
END_TEST

/* ---- hysteresis ---- */

/* The release threshold that keeps the most of what frame 1 alone would lose, found from the logits. */
static float release_threshold(void)
{
    float low = INFINITY;

    for (int i = 0; i < W * H; i++)
        if (logits[0][i] >= edge_of(threshold)) low = fminf(low, logits[1][i]);
    return sigmoid((low + edge_of(threshold)) / 2);
}

START_TEST(what_was_polyp_stays_so_down_to_the_lower_threshold)
{
    float            release = release_threshold();
    kdas_segmenter  *s       = open_segmenter(0, release);
    static uint8_t   was[W * H], mask[(W + 5) * H], drawn[W * H * 3];
    static const int order[] = { 0, 1, 2, 1, 0 };
    int              kept    = 0, polyp;

    for (size_t t = 0; t < KD_COUNT(order); t++) {
        const float *z = logits[order[t]];

        if (t == 3) /* overlays see and leave the same past as masks */
            kd_assert_ok(kdas_segmenter_overlay(s, &frames[order[t]], drawn, 0, NULL));
        else
            kd_assert_ok(kdas_segmenter_mask(s, &frames[order[t]], mask, W + 5));
        for (int i = 0; i < W * H; i++) {
            polyp = z[i] >= edge_of(threshold) || (was[i] && z[i] >= edge_of(release));
            kept += polyp && z[i] < edge_of(threshold);
            if (t == 3)
                ck_assert_int_eq(memcmp(drawn + 3 * i, pixels[1] + 3 * i, 3) != 0, polyp);
            else
                ck_assert_int_eq(mask[i / W * (W + 5) + i % W], polyp ? 255 : 0);
            was[i] = polyp;
        }
    }
    ck_assert_int_gt(kept, 0);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(probabilities_leave_the_last_mask_alone)
{
    kdas_segmenter *s = open_segmenter(0, release_threshold());
    static uint8_t  want[W * H], got[W * H], bytes[W * H];
    static float    z[W * H];

    kd_assert_ok(kdas_segmenter_mask(s, &frames[0], want, 0));
    kd_assert_ok(kdas_segmenter_mask(s, &frames[1], want, 0));
    kd_assert_ok(kdas_segmenter_reset(s));
    kd_assert_ok(kdas_segmenter_mask(s, &frames[0], got, 0));
    kd_assert_ok(kdas_segmenter_probability(s, &frames[2], bytes, 0));
    kd_assert_ok(kdas_segmenter_logits(s, &frames[2], z));
    ck_assert(kd_test_same_bits(z, logits[2], sizeof z));
    kd_assert_ok(kdas_segmenter_mask(s, &frames[1], got, 0));
    ck_assert_mem_eq(got, want, sizeof got);
    kdas_segmenter_destroy(s);
}
END_TEST

/* ---- overlay ---- */

START_TEST(an_overlay_is_the_mask_as_a_tint)
{
    enum { STRIDE = W * 4 + 12 };
    static const kdas_pixel kinds[] = { KDAS_PIXEL_GREY8, KDAS_PIXEL_RGB8, KDAS_PIXEL_BGR8,
                                        KDAS_PIXEL_RGBA8, KDAS_PIXEL_BGRA8 };
    static uint8_t          data[STRIDE * H], want[STRIDE * H], got[STRIDE * H], mask[W * H];
    kdas_segmenter         *s     = open_segmenter(0, 0);
    kdas_view               frame = { data, W, H, STRIDE, kinds[_i] };
    kdas_view               where = { mask, W, H, 0, KDAS_PIXEL_GREY8 };
    kdas_overlay_options    o;

    kdas_overlay_options_init(&o, sizeof o);
    o.opacity = 0.8f;
    for (int i = 0; i < STRIDE * H; i++)
        data[i] = pixels[0][i % (W * H * 3)];
    memset(want, 1, sizeof want);
    memset(got, 1, sizeof got);
    kd_assert_ok(kdas_segmenter_mask(s, &frame, mask, 0));
    kd_assert_ok(kdas_image_overlay(&frame, &where, want, STRIDE - 1, &o));
    kd_assert_ok(kdas_segmenter_overlay(s, &frame, got, STRIDE - 1, &o));
    ck_assert_mem_eq(got, want, sizeof got);
    memcpy(want, data, sizeof want);
    kd_assert_ok(kdas_image_overlay(&frame, &where, want, STRIDE, &o));
    kd_assert_ok(kdas_segmenter_overlay(s, &frame, data, STRIDE, &o)); /* in place */
    ck_assert_mem_eq(data, want, sizeof data);
    ck_assert_ptr_nonnull(memchr(mask, 255, sizeof mask));
    kdas_segmenter_destroy(s);
}
END_TEST

/* ---- the clock ---- */

START_TEST(frames_are_timed_by_stage)
{
    kdas_segmenter    *s = open_segmenter(0, 0);
    kdas_timing_report r = { .size = sizeof r };
    static uint8_t     mask[W * H];
    kdas_view          bad = frames[0];

    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames, 0);
    ck_assert_double_eq(r.last[KDAS_STAGE_WHOLE], 0);
    for (int t = 0; t < 5; t++)
        kd_assert_ok(kdas_segmenter_mask(s, &frames[t % 3], mask, 0));
    bad.width--;
    kd_assert_status(kdas_segmenter_mask(s, &bad, mask, 0), KDAS_ESHAPE);
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames, 5);
    ck_assert_int_eq(r.window, 5);
    for (int stage = 0; stage < KDAS_STAGES; stage++) {
        ck_assert_double_gt(r.p50[stage], 0);
        ck_assert_double_le(r.p50[stage], r.p99[stage]);
        ck_assert_double_le(r.p99[stage], r.max[stage]);
        ck_assert_double_le(r.last[stage], r.max[stage]);
        ck_assert_double_le(r.last[stage], r.last[KDAS_STAGE_WHOLE]);
    }
    ck_assert_double_eq_tol(
        r.last[KDAS_STAGE_WHOLE],
        r.last[KDAS_STAGE_INPUT] + r.last[KDAS_STAGE_NETWORK] + r.last[KDAS_STAGE_OUTPUT], 1e-9);
    ck_assert_double_lt(r.max[KDAS_STAGE_WHOLE], 100); /* seconds */
    kd_assert_ok(kdas_segmenter_timing_reset(s));
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames, 0);
    ck_assert_double_eq(r.max[KDAS_STAGE_WHOLE], 0);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(an_older_programs_report_is_filled_and_not_overrun)
{
    kdas_segmenter    *s = open_segmenter(0, 0);
    kdas_timing_report r;
    static uint8_t     mask[W * H];

    kd_assert_ok(kdas_segmenter_mask(s, &frames[0], mask, 0));
    memset(&r, 0x55, sizeof r);
    r.size = offsetof(kdas_timing_report, last);
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_uint_eq(r.size, offsetof(kdas_timing_report, last));
    ck_assert_int_eq(r.frames, 1);
    for (size_t i = r.size; i < sizeof r; i++)
        ck_assert_uint_eq(((unsigned char *)&r)[i], 0x55);
    r.size = 0;
    kd_assert_status(kdas_segmenter_timing(s, &r), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_timing(s, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_timing(NULL, &r), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_timing_reset(NULL), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_reset(NULL), KDAS_EINVAL);
    kdas_segmenter_destroy(s);
}
END_TEST

/* ---- arguments and memory ---- */

START_TEST(nothing_is_allocated_after_opening)
{
    kdas_segmenter    *s = open_segmenter(0.5f, threshold / 2);
    static uint8_t     mask[W * H], drawn[W * H * 3];
    static float       z[W * H];
    kdas_timing_report r     = { .size = sizeof r };
    long               taken = meter.taken;

    for (int t = 0; t < 6; t++) {
        const kdas_view *frame = &frames[t % 3];

        kd_assert_ok(kdas_segmenter_mask(s, frame, mask, 0));
        kd_assert_ok(kdas_segmenter_probability(s, frame, mask, 0));
        kd_assert_ok(kdas_segmenter_logits(s, frame, z));
        kd_assert_ok(kdas_segmenter_overlay(s, frame, drawn, 0, NULL));
        kd_assert_ok(kdas_segmenter_timing(s, &r));
        if (t == 3) kd_assert_ok(kdas_segmenter_reset(s));
    }
    ck_assert_int_eq(meter.taken, taken);
    ck_assert_int_eq(r.frames, 24);
    kdas_segmenter_destroy(s);
}
END_TEST

static void assert_refused(const kdas_segmenter_options *o, const char *part)
{
    kdas_segmenter *s = (kdas_segmenter *)&s;

    kd_assert_status(kdas_segmenter_create(&s, model, o), KDAS_EINVAL);
    ck_assert_ptr_null(s);
    kd_assert_sentence(part);
}

START_TEST(options_out_of_range_are_refused)
{
    static const float bad[] = { -0.1f, 1, 1.5f, NAN, INFINITY };

    for (size_t i = 0; i < KD_COUNT(bad); i++) {
        kdas_segmenter_options o = options(bad[i], 0);

        assert_refused(&o, "smoothing");
        o           = options(0, bad[i]);
        o.threshold = 0.5f;
        assert_refused(&o, "hysteresis");
    }
    {
        kdas_segmenter_options o = options(0, 0.6f); /* above the threshold */

        o.threshold = 0.5f;
        assert_refused(&o, "0.6");
    }
}
END_TEST

START_TEST(overlays_that_do_not_fit_are_refused_and_change_nothing)
{
    kdas_segmenter      *s = open_segmenter(0.5f, 0);
    static uint8_t       out[W * H * 3], wide[W * H * 12];
    static float         want[W * H], got[W * H];
    kdas_view            bad = frames[0];
    kdas_overlay_options o;
    kdas_timing_report   r = { .size = sizeof r };

    kd_assert_ok(kdas_segmenter_logits(s, &frames[0], got));
    kd_assert_ok(kdas_segmenter_logits(s, &frames[1], want));
    kd_assert_ok(kdas_segmenter_reset(s));
    kd_assert_ok(kdas_segmenter_logits(s, &frames[0], got));
    memset(out, 9, sizeof out);
    bad.height--;
    kd_assert_status(kdas_segmenter_overlay(s, &bad, out, 0, NULL), KDAS_ESHAPE);
    kd_assert_sentence("90x59");
    bad        = frames[0];
    bad.stride = W * 3 - 1;
    kd_assert_status(kdas_segmenter_overlay(s, &bad, out, 0, NULL), KDAS_EINVAL);
    bad       = frames[0];
    bad.pixel = (kdas_pixel)0;
    kd_assert_status(kdas_segmenter_overlay(s, &bad, out, 0, NULL), KDAS_EINVAL);
    bad.pixel = KDAS_PIXEL_RGBF32;
    bad.data  = wide;
    kd_assert_status(kdas_segmenter_overlay(s, &bad, out, 0, NULL), KDAS_EINVAL);
    bad      = frames[0];
    bad.data = NULL;
    kd_assert_status(kdas_segmenter_overlay(s, &bad, out, 0, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_overlay(s, &frames[0], out, W * 3 - 1, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_overlay(s, &frames[0], NULL, 0, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_overlay(s, NULL, out, 0, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_overlay(NULL, &frames[0], out, 0, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_overlay(s, &frames[0], pixels[0] + 1, 0, NULL), KDAS_EINVAL);
    kdas_overlay_options_init(&o, sizeof o);
    o.opacity = -1;
    kd_assert_status(kdas_segmenter_overlay(s, &frames[0], out, 0, &o), KDAS_EINVAL);
    for (size_t i = 0; i < sizeof out; i++)
        ck_assert_int_eq(out[i], 9);
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames, 3);
    kd_assert_ok(kdas_segmenter_logits(s, &frames[1], got)); /* the past is frame 0 alone */
    ck_assert(kd_test_same_bits(got, want, sizeof got));
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    kdas_segmenter_options o        = options(0.5f, threshold / 2);
    kdas_segmenter        *s        = NULL;
    kdas_status            st       = KDAS_ENOMEM;
    int                    failures = 0;

    for (long k = 1; st != KDAS_OK; k += 1 + k / 9) {
        meter.fail_at = meter.taken + k;
        st            = kdas_segmenter_create(&s, model, &o);
        meter.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        ck_assert_ptr_null(s);
        failures++;
    }
    ck_assert_int_gt(failures, 15);
    kdas_segmenter_destroy(s);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("segmenter, live");
    TCase   *past   = tcase_create("what was before");
    TCase   *rest   = tcase_create("arguments, memory and time");
    SRunner *runner = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(past, setup, teardown);
    tcase_add_loop_test(past, smoothing_is_a_moving_average_of_the_probability, 0, 2);
    tcase_add_test(past, certain_pixels_change_sides_after_the_frames_that_the_weight_says);
    tcase_add_test(past, a_reset_forgets_the_past);
    tcase_add_test(past, a_frame_of_another_size_begins_anew);
    tcase_add_test(past, a_frame_that_fails_leaves_the_past_as_it_was);
    tcase_add_test(past, what_was_polyp_stays_so_down_to_the_lower_threshold);
    tcase_add_test(past, probabilities_leave_the_last_mask_alone);
    tcase_add_loop_test(past, an_overlay_is_the_mask_as_a_tint, 0, 5);
    suite_add_tcase(s, past);
    tcase_add_checked_fixture(rest, setup, teardown);
    tcase_add_test(rest, frames_are_timed_by_stage);
    tcase_add_test(rest, an_older_programs_report_is_filled_and_not_overrun);
    tcase_add_test(rest, nothing_is_allocated_after_opening);
    tcase_add_test(rest, options_out_of_range_are_refused);
    tcase_add_test(rest, overlays_that_do_not_fit_are_refused_and_change_nothing);
    tcase_add_test(rest, any_allocation_may_fail);
    suite_add_tcase(s, rest);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

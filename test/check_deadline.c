/* check_deadline.c - frames that cannot be done in time: which are repeated, what a repeated frame shows and leaves, and
 * what is never repeated. Time is the test's own: it passes while kernels run, as fast as a test says. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/slow_device.h"

enum { SIDE = 64, W = 90, H = 60, FRAMES = 3 };

static kd_test_meter meter;
static kdas_context *ctx;
static kdas_model   *model;
static uint8_t       pixels[FRAMES][W * H * 3];
static kdas_view     frames[FRAMES];
static long          steps;     /* kernels of a frame */
static float         threshold; /* that divides the frames */

static kdas_segmenter_options options(double deadline)
{
    kdas_segmenter_options o;

    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = SIDE;
    o.frame_height     = H;
    o.frame_width      = W;
    o.threshold        = threshold;
    o.frame_deadline   = deadline;
    return o;
}

static kdas_segmenter *open_with(const kdas_segmenter_options *o)
{
    kdas_segmenter *s;

    kd_assert_ok(kdas_segmenter_create(&s, model, o));
    kd_test_slow_clock(s);
    return s;
}

static kdas_segmenter *open_segmenter(double deadline)
{
    kdas_segmenter_options o = options(deadline);

    return open_with(&o);
}

/* From here on the network takes so many seconds. */
static void take(double seconds) { kd_test_slow_time.step = seconds / (double)steps; }

static void draw_frames(void)
{
    for (int t = 0; t < FRAMES; t++) {
        for (int i = 0; i < W * H * 3; i++) {
            double wave = sin(0.05 * (t + 1) * (i / 3 % W) + 2 * t) * cos(0.11 * (i / 3 / W));

            pixels[t][i] = (uint8_t)(128 + 110 * wave + 15 * kd_test_unit("live", (uint64_t)i));
        }
        frames[t] = (kdas_view){ pixels[t], W, H, 0, KDAS_PIXEL_RGB8 };
    }
}

static void setup(void)
{
    static float       logits[W * H];
    kdas_model_options o;
    kdas_segmenter    *s;
    float              low = INFINITY, high = -INFINITY;
    long               before;

    memset(&meter, 0, sizeof meter);
    ctx = kd_test_slow_device(&meter);
    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&model, ctx, "lite_fpn0", &o));
    draw_frames();
    threshold = 0.5f;
    s         = open_segmenter(0);
    before    = kd_test_slow_time.kernels;
    for (int t = 0; t < FRAMES; t++) {
        kd_assert_ok(kdas_segmenter_logits(s, &frames[t], logits));
        for (int i = 0; i < W * H; i++) {
            low  = fminf(low, logits[i]);
            high = fmaxf(high, logits[i]);
        }
    }
    steps     = (kd_test_slow_time.kernels - before) / FRAMES;
    threshold = 1 / (1 + expf(-(low + high) / 2));
    kdas_segmenter_destroy(s);
    ck_assert_int_gt(steps, 20);
    take(0.5);
}

static void teardown(void)
{
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}

/* n frames: C computed, P repeated at once, L given up. Every call keeps what the words mean. */
static const char *run(kdas_segmenter *s, int n)
{
    static char    word[256];
    static uint8_t mask[W * H];

    ck_assert_int_lt(n, (int)sizeof word);
    for (int i = 0; i < n; i++) {
        long   kernels = kd_test_slow_time.kernels;
        double begun = kd_test_slow_time.now, step = kd_test_slow_time.step;

        kd_assert_ok(kdas_segmenter_mask(s, &frames[i % FRAMES], mask, 0));
        kernels = kd_test_slow_time.kernels - kernels;
        switch (kdas_segmenter_repeated(s)) {
        case KDAS_REPEAT_NONE:
            ck_assert_int_eq(kernels, steps);
            word[i] = 'C';
            break;
        case KDAS_REPEAT_PREDICTED:
            ck_assert_int_eq(kernels, 0);
            word[i] = 'P';
            break;
        default:
            ck_assert_int_gt(kernels, 0);
            ck_assert_int_lt(kernels, steps);
            ck_assert_double_le(kd_test_slow_time.now - begun, 1 + step);
            word[i] = 'L';
        }
    }
    word[n] = 0;
    return word;
}

/* ---- which frames are repeated ---- */

START_TEST(without_a_deadline_all_frames_are_computed)
{
    kdas_segmenter *s = open_segmenter(0);

    take(1000);
    ck_assert_str_eq(run(s, 8), "CCCCCCCC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(frames_in_time_are_computed)
{
    kdas_segmenter *s = open_segmenter(1);

    take(0.99);
    ck_assert_str_eq(run(s, 40), "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_machine_that_is_too_slow_computes_every_fifth_frame)
{
    kdas_segmenter *s = open_segmenter(1);

    take(30);
    ck_assert_str_eq(run(s, 16), "CLLPPCPPPPCPPPPC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(the_limit_of_repeated_frames_is_an_option)
{
    static const char *const want[]  = { "CLCPCPCP", "CLLCPPCP", "CLLPPPPP" };
    static const int         limit[] = { 1, 2, 1000 };
    kdas_segmenter_options   o       = options(1);
    kdas_segmenter          *s;

    o.repeat_limit = limit[_i];
    s              = open_with(&o);
    take(30);
    ck_assert_str_eq(run(s, 8), want[_i]);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(one_slow_frame_is_given_up_and_the_next_is_computed)
{
    kdas_segmenter *s = open_segmenter(1);

    run(s, 5);
    take(4);
    ck_assert_str_eq(run(s, 1), "L");
    take(0.5);
    ck_assert_str_eq(run(s, 6), "CCCCCC");
    kdas_segmenter_destroy(s);
}
END_TEST

/* The step that runs when the time is over is the last: a quarter of a network that takes four times as long. */
START_TEST(a_late_frame_stops_at_the_next_step)
{
    kdas_segmenter *s = open_segmenter(1);
    long            before;

    run(s, 5);
    take(4);
    before = kd_test_slow_time.kernels;
    ck_assert_str_eq(run(s, 1), "L");
    ck_assert_int_ge(kd_test_slow_time.kernels - before, steps / 4);
    ck_assert_int_le(kd_test_slow_time.kernels - before, steps / 4 + 1);
    kdas_segmenter_destroy(s);
}
END_TEST

/* Nine of the last sixteen must be slow before frames are repeated at once. */
START_TEST(a_machine_that_becomes_slow_is_noticed)
{
    kdas_segmenter *s = open_segmenter(1);

    run(s, 30);
    take(4);
    ck_assert_str_eq(run(s, 20), "LLLLCLLLLCPPPPCPPPPC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_machine_that_was_busy_is_used_again_at_once)
{
    kdas_segmenter *s = open_segmenter(1);

    run(s, 30);
    take(4);
    run(s, 40);
    ck_assert_int_eq(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE); /* four are repeated now */
    take(0.5);
    ck_assert_str_eq(run(s, 12), "PPPPCCCCCCCC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(no_rhythm_of_slow_frames_starves_or_is_late)
{
    kdas_segmenter    *s      = open_segmenter(1);
    kdas_timing_report r      = { .size = sizeof r };
    int                in_row = 0, computed = 0, late = 0;

    for (int i = 0; i < 600; i++) {
        double seconds = 0.2 + pow(kd_test_unit("busy", (uint64_t)(i / (1 + i % 7))) + 1, 2);
        double begun   = kd_test_slow_time.now;
        char   word;

        take(seconds);
        word   = *run(s, 1);
        in_row = word == 'C' ? 0 : in_row + 1;
        ck_assert_int_le(in_row, 4);
        computed += word == 'C';
        if (kd_test_slow_time.now - begun > 1 + kd_test_slow_time.step) {
            ck_assert_int_eq(word, 'C'); /* only one that had to be computed */
            late++;
        }
    }
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames, computed);
    ck_assert_int_eq(r.repeated, 600 - computed);
    ck_assert_int_ge(r.overrun, late);
    ck_assert_int_gt(computed, 120);
    ck_assert_int_gt(r.given_up, 0);
    ck_assert_int_gt(r.repeated, r.given_up);
    ck_assert_double_le(r.repeated_max, 1 + 4.2 / (double)steps);
    kdas_segmenter_destroy(s);
}
END_TEST

/* What writing takes is kept free, since a repeated frame is written, too. */
START_TEST(time_for_the_output_is_reserved)
{
    kd_deadline d = { .seconds = 1, .limit = 4 };

    ck_assert_double_eq(kd_deadline_stop(&d), 1);
    for (int i = 0; i < 5; i++)
        kd_deadline_computed(&d, 0.5, 0.125);
    kd_deadline_computed(&d, 0.9, 0.75); /* one alone changes nothing */
    ck_assert_double_eq(kd_deadline_stop(&d), 1 - 0.125);
    kd_deadline_given_up(&d);
    ck_assert_double_eq(kd_deadline_stop(&d), 1 - 0.125);
}
END_TEST

/* ---- what is never repeated ---- */

START_TEST(a_first_frame_is_computed_to_its_end)
{
    kdas_segmenter_options o = options(1);
    kdas_segmenter        *s;
    kdas_view              lower = frames[0];
    static uint8_t         mask[W * H];

    lower.height   = H - 10;
    o.frame_height = o.frame_width = 0;
    o.repeat_limit                 = 1000;
    s                              = open_with(&o);
    take(30);
    ck_assert_str_eq(run(s, 3), "CLL");
    kd_assert_ok(kdas_segmenter_reset(s));
    ck_assert_str_eq(run(s, 3), "CPP");
    kd_assert_ok(kdas_segmenter_mask(s, &lower, mask, 0)); /* of a new size */
    ck_assert_int_eq(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE);
    ck_assert_str_eq(run(s, 3), "CLL");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(new_weights_take_effect_at_once)
{
    kdas_segmenter *s = open_segmenter(1);
    static float    values[1 << 16];
    int64_t         dims[4];
    int32_t         rank, count = 1;

    ck_assert_ptr_nonnull(kdas_model_tensor(model, 0, &rank, dims, NULL));
    for (int i = 0; i < rank; i++)
        count *= (int32_t)dims[i];
    ck_assert_int_le(count, (int)KD_COUNT(values));
    take(30);
    ck_assert_str_eq(run(s, 3), "CLL");
    kd_assert_ok(kdas_model_read(model, 0, values));
    kd_assert_ok(kdas_model_write(model, 0, values));
    ck_assert_str_eq(run(s, 3), "CPP");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_cancel_is_no_repeated_frame)
{
    kdas_segmenter *s = open_segmenter(1);
    static uint8_t  mask[W * H];

    run(s, 30);
    take(4);
    kd_test_slow_time.cancel_at = kd_test_slow_time.kernels + 1; /* before it is late */
    kd_assert_status(kdas_segmenter_mask(s, &frames[0], mask, 0), KDAS_ECANCELLED);
    kdas_context_resume(ctx);
    ck_assert_str_eq(run(s, 20), "LLLLCLLLLCPPPPCPPPPC"); /* as if it had not been there */
    kdas_context_cancel(ctx);
    kd_assert_status(kdas_segmenter_mask(s, &frames[0], mask, 0), KDAS_ECANCELLED); /* would be P */
    kdas_context_resume(ctx);
    ck_assert_str_eq(run(s, 5), "PPPPC");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_frame_that_is_refused_is_no_repeated_frame)
{
    kdas_segmenter *s   = open_segmenter(1);
    kdas_view       bad = frames[0];
    static uint8_t  mask[W * H];

    take(30);
    ck_assert_str_eq(run(s, 3), "CLL");
    bad.width--;
    kd_assert_status(kdas_segmenter_mask(s, &bad, mask, 0), KDAS_ESHAPE);
    kd_assert_status(kdas_segmenter_mask(s, NULL, mask, 0), KDAS_EINVAL);
    kd_assert_status(kdas_segmenter_mask(s, &frames[0], mask, 1), KDAS_EINVAL);
    ck_assert_int_eq(kdas_segmenter_repeated(s), KDAS_REPEAT_LATE); /* the last successful one */
    ck_assert_str_eq(run(s, 4), "PPCP");
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_frame_given_up_leaves_no_sentence)
{
    kdas_segmenter *s = open_segmenter(1);

    run(s, 5);
    kd_assert_status(kdas_segmenter_reset(NULL), KDAS_EINVAL);
    take(4);
    ck_assert_str_eq(run(s, 1), "L");
    kd_assert_sentence("kdas_segmenter_reset");
    ck_assert_int_eq(kdas_context_cancelled(ctx), 0);
    kdas_segmenter_destroy(s);
}
END_TEST

/* ---- what a repeated frame shows and leaves ---- */

/* The next frame is repeated: _i 0 given up, 1 at once. */
static void make_slow(kdas_segmenter *s, int how)
{
    if (how) {
        take(30);
        run(s, 30);
        while (kdas_segmenter_repeated(s) != KDAS_REPEAT_NONE)
            run(s, 1);
    }
    take(30);
}

START_TEST(each_form_of_result_is_repeated)
{
    static uint8_t  mask[2][W * H], chance[2][W * H], drawn[W * H * 3], want[W * H * 3];
    static float    logits[2][W * H];
    kdas_segmenter *s = open_segmenter(1), *alone = open_segmenter(0);
    kdas_view       where = { mask[0], W, H, 0, KDAS_PIXEL_GREY8 };

    kd_assert_ok(kdas_segmenter_mask(alone, &frames[0], mask[0], 0));
    kd_assert_ok(kdas_segmenter_probability(alone, &frames[0], chance[0], 0));
    kd_assert_ok(kdas_segmenter_logits(alone, &frames[0], logits[0]));
    make_slow(s, _i);
    take(_i ? 30 : 0.5);
    do /* the last computed frame is frame 0 */
        kd_assert_ok(kdas_segmenter_mask(s, &frames[0], mask[1], 0));
    while (kdas_segmenter_repeated(s) != KDAS_REPEAT_NONE);
    take(30);
    kd_assert_ok(kdas_segmenter_mask(s, &frames[1], mask[1], 0));
    ck_assert_int_eq(kdas_segmenter_repeated(s), _i ? KDAS_REPEAT_PREDICTED : KDAS_REPEAT_LATE);
    kd_assert_ok(kdas_segmenter_probability(s, &frames[1], chance[1], 0));
    ck_assert_int_ne(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE);
    kd_assert_ok(kdas_segmenter_logits(s, &frames[1], logits[1]));
    ck_assert_int_ne(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE);
    kd_assert_ok(kdas_segmenter_overlay(s, &frames[1], drawn, 0, NULL)); /* on the new frame */
    ck_assert_int_ne(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE);
    kd_assert_ok(kdas_image_overlay(&frames[1], &where, want, 0, NULL));
    ck_assert_mem_eq(mask[1], mask[0], sizeof mask[0]);
    ck_assert_mem_eq(chance[1], chance[0], sizeof chance[0]);
    ck_assert(kd_test_same_bits(logits[1], logits[0], sizeof logits[0]));
    ck_assert_mem_eq(drawn, want, sizeof want);
    ck_assert_ptr_nonnull(memchr(mask[0], 255, sizeof mask[0]));
    ck_assert_ptr_nonnull(memchr(mask[0], 0, sizeof mask[0]));
    kdas_segmenter_destroy(s);
    kdas_segmenter_destroy(alone);
}
END_TEST

/* Two segmenters see the same frames, but one of them a slow one more. */
START_TEST(a_repeated_frame_is_no_evidence)
{
    kdas_segmenter_options o = options(1);
    static uint8_t         mask[2][W * H];
    static float           logits[2][W * H];
    kdas_segmenter        *s[2];

    o.smoothing  = 0.7f;
    o.hysteresis = threshold / 2;
    for (int i = 0; i < 2; i++) {
        s[i] = open_with(&o);
        take(0.5);
        kd_assert_ok(kdas_segmenter_mask(s[i], &frames[0], mask[i], 0));
        kd_assert_ok(kdas_segmenter_probability(s[i], &frames[2], mask[i], 0));
        if (i == 1) {
            take(30); /* the kept mask is not that of the last result */
            kd_assert_ok(kdas_segmenter_mask(s[i], &frames[1], mask[i], 0));
            ck_assert_int_eq(kdas_segmenter_repeated(s[i]), KDAS_REPEAT_LATE);
            kd_assert_ok(kdas_segmenter_overlay(s[i], &frames[1], pixels[1], 0, NULL));
            ck_assert_int_eq(kdas_segmenter_repeated(s[i]), KDAS_REPEAT_LATE);
            draw_frames();
            take(0.5);
        }
        kd_assert_ok(kdas_segmenter_mask(s[i], &frames[1], mask[i], 0));
        ck_assert_int_eq(kdas_segmenter_repeated(s[i]), KDAS_REPEAT_NONE);
        kd_assert_ok(kdas_segmenter_logits(s[i], &frames[0], logits[i]));
    }
    ck_assert_mem_eq(mask[1], mask[0], sizeof mask[0]);
    ck_assert(kd_test_same_bits(logits[1], logits[0], sizeof logits[0]));
    kdas_segmenter_destroy(s[0]);
    kdas_segmenter_destroy(s[1]);
}
END_TEST

START_TEST(maps_are_those_of_the_last_computed_frame)
{
    kdas_segmenter *s = open_segmenter(1);
    static float    before[SIDE * SIDE];
    int64_t         height, width;
    const float    *map;

    run(s, 1);
    map = kdas_segmenter_map(s, 0, &height, &width);
    ck_assert_int_le(height * width, SIDE * SIDE);
    memcpy(before, map, (size_t)(height * width) * sizeof *map);
    take(30);
    ck_assert_str_eq(run(s, 1), "L");
    ck_assert(kd_test_same_bits(map, before, (size_t)(height * width) * sizeof *map));
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(nothing_is_allocated_for_a_repeated_frame)
{
    kdas_segmenter *s = open_segmenter(1);
    long            taken;

    run(s, 30);
    taken = meter.taken;
    take(4);
    ck_assert_str_eq(run(s, 20), "LLLLCLLLLCPPPPCPPPPC");
    ck_assert_int_eq(meter.taken, taken);
    kdas_segmenter_destroy(s);
}
END_TEST

/* ---- a device that runs the network as one graph ---- */

static double ticking, tick; /* a clock that goes on whenever it is read */

static double read_ticking(void *user)
{
    (void)user;
    return ticking += tick;
}

/* Late before a launch, before a capture, and in the midst of one: nothing is broken by it. */
START_TEST(a_graph_is_given_up_before_it_is_launched)
{
    static const double    ticks[] = { 2, 0.1, 0.9 };
    kdas_segmenter_options o       = options(1);
    static float           want[W * H], got[W * H];
    kdas_context          *far = kd_test_far_context(NULL, NULL, NULL);
    kdas_model            *net;
    kdas_segmenter        *s;
    kdas_batch            *other;
    long                   launches, captured;

    kd_assert_ok(kdas_model_create(&net, far, "lite_fpn0", NULL));
    kd_assert_ok(kdas_segmenter_create(&s, net, &o));
    kd_assert_ok(kdas_batch_create(&other, far, 2, 96, 96));
    kd_segmenter_set_clock(s, read_ticking, NULL);
    for (int i = 0; i < 6; i++)
        kd_assert_ok(kdas_segmenter_logits(s, &frames[0], want));
    ck_assert_int_gt(kd_far.launches, 0);
    launches = kd_far.launches;
    if (_i > 0)
        kd_assert_ok(kdas_model_forward(net, KDAS_MODE_INFER, other)); /* graphs are dropped */
    captured = kd_far.captured;
    tick     = ticks[_i];
    kd_assert_ok(kdas_segmenter_logits(s, &frames[1], got));
    ck_assert_int_eq(kdas_segmenter_repeated(s), KDAS_REPEAT_LATE);
    ck_assert_int_eq(kd_far.launches, launches);
    ck_assert_int_eq(kd_far.captured > captured, _i == 1);
    ck_assert(kd_test_same_bits(got, want, sizeof want));
    tick = 0;
    for (int i = 0; i < 3; i++) {
        kd_assert_ok(kdas_segmenter_logits(s, &frames[1], got));
        ck_assert_int_eq(kdas_segmenter_repeated(s), KDAS_REPEAT_NONE);
        ck_assert(!kd_test_same_bits(got, want, sizeof want));
        kd_assert_ok(kdas_segmenter_logits(s, &frames[0], got));
        ck_assert(kd_test_same_bits(got, want, sizeof want));
    }
    ck_assert_int_gt(kd_far.launches, launches);
    kdas_segmenter_destroy(s);
    kdas_batch_destroy(other);
    kdas_model_destroy(net);
    kdas_context_destroy(far);
    kd_test_far_assert_empty();
}
END_TEST

/* ---- counts and options ---- */

START_TEST(frames_are_counted_and_estimated)
{
    kdas_segmenter    *s = open_segmenter(1);
    kdas_timing_report r = { .size = sizeof r };

    ck_assert_double_eq(kdas_segmenter_estimate(s, 0.5), 0);
    take(30);
    ck_assert_str_eq(run(s, 7), "CLLPPCP");
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames, 2);
    ck_assert_int_eq(r.window, 2);
    ck_assert_int_eq(r.overrun, 2);
    ck_assert_int_eq(r.repeated, 5);
    ck_assert_int_eq(r.given_up, 2);
    ck_assert_double_gt(r.repeated_max, 1);
    ck_assert_double_le(r.repeated_max, 1 + 30 / (double)steps);
    ck_assert_double_eq_tol(r.p50[KDAS_STAGE_WHOLE], 30, 1e-6);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 0.9), 30, 1e-6);
    kd_assert_ok(kdas_segmenter_timing_reset(s));
    kd_assert_ok(kdas_segmenter_timing(s, &r));
    ck_assert_int_eq(r.frames + r.overrun + r.repeated + r.given_up, 0);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 0.9), 30, 1e-6); /* of the machine */
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(an_estimate_is_a_share_of_the_last_sixteen_frames)
{
    kdas_segmenter    *s       = open_segmenter(0);
    static const float wrong[] = { 0, -1, 1.01f, NAN, INFINITY };

    for (int i = 1; i <= 20; i++) { /* 5 .. 20 count */
        take(i);
        run(s, 1);
    }
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 1e-9), 5, 1e-6);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 0.5), 12, 1e-6);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 0.9), 19, 1e-6);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 1), 20, 1e-6);
    for (size_t i = 0; i < KD_COUNT(wrong); i++)
        ck_assert(isnan(kdas_segmenter_estimate(s, (double)wrong[i])));
    ck_assert(isnan(kdas_segmenter_estimate(NULL, 0.5)));
    ck_assert_int_eq(kdas_segmenter_repeated(NULL), KDAS_REPEAT_NONE);
    kdas_segmenter_destroy(s);
}
END_TEST

START_TEST(a_frame_given_up_counts_as_longer_than_the_deadline)
{
    kdas_segmenter *s = open_segmenter(1);

    run(s, 4);
    take(30);
    ck_assert_str_eq(run(s, 1), "L");
    ck_assert_double_gt(kdas_segmenter_estimate(s, 1), 1);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 1), 1, 1e-9);
    ck_assert_double_eq_tol(kdas_segmenter_estimate(s, 0.8), 0.5, 1e-6);
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
    static const double  bad[]    = { -1e-9, -1, NAN, INFINITY, 3600.1 };
    static const int32_t limits[] = { -1, 1001, INT32_MIN, INT32_MAX };
    kdas_segmenter      *s;

    for (size_t i = 0; i < KD_COUNT(bad); i++) {
        kdas_segmenter_options o = options(bad[i]);

        assert_refused(&o, "frame_deadline");
    }
    for (size_t i = 0; i < KD_COUNT(limits); i++) {
        kdas_segmenter_options o = options(1);

        o.repeat_limit = limits[i];
        assert_refused(&o, "repeat_limit");
    }
    {
        kdas_segmenter_options o = options(3600), used = { .size = sizeof used };

        s = open_with(&o);
        kd_assert_ok(kdas_segmenter_get_options(s, &used));
        ck_assert_double_eq(used.frame_deadline, 3600);
        ck_assert_int_eq(used.repeat_limit, 4);
        kdas_segmenter_destroy(s);
    }
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("deadline");
    TCase   *which  = tcase_create("which frames are repeated");
    TCase   *never  = tcase_create("what is never repeated");
    TCase   *shown  = tcase_create("what a repeated frame shows and leaves");
    TCase   *counts = tcase_create("counts and options");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(which, setup, teardown);
    tcase_add_test(which, without_a_deadline_all_frames_are_computed);
    tcase_add_test(which, frames_in_time_are_computed);
    tcase_add_test(which, a_machine_that_is_too_slow_computes_every_fifth_frame);
    tcase_add_loop_test(which, the_limit_of_repeated_frames_is_an_option, 0, 3);
    tcase_add_test(which, one_slow_frame_is_given_up_and_the_next_is_computed);
    tcase_add_test(which, a_late_frame_stops_at_the_next_step);
    tcase_add_test(which, a_machine_that_becomes_slow_is_noticed);
    tcase_add_test(which, a_machine_that_was_busy_is_used_again_at_once);
    tcase_add_test(which, no_rhythm_of_slow_frames_starves_or_is_late);
    tcase_add_test(which, time_for_the_output_is_reserved);
    suite_add_tcase(suite, which);
    tcase_add_checked_fixture(never, setup, teardown);
    tcase_add_test(never, a_first_frame_is_computed_to_its_end);
    tcase_add_test(never, new_weights_take_effect_at_once);
    tcase_add_test(never, a_cancel_is_no_repeated_frame);
    tcase_add_test(never, a_frame_that_is_refused_is_no_repeated_frame);
    tcase_add_test(never, a_frame_given_up_leaves_no_sentence);
    suite_add_tcase(suite, never);
    tcase_add_checked_fixture(shown, setup, teardown);
    tcase_add_loop_test(shown, each_form_of_result_is_repeated, 0, 2);
    tcase_add_test(shown, a_repeated_frame_is_no_evidence);
    tcase_add_test(shown, maps_are_those_of_the_last_computed_frame);
    tcase_add_test(shown, nothing_is_allocated_for_a_repeated_frame);
    tcase_add_loop_test(shown, a_graph_is_given_up_before_it_is_launched, 0, 3);
    suite_add_tcase(suite, shown);
    tcase_add_checked_fixture(counts, setup, teardown);
    tcase_add_test(counts, frames_are_counted_and_estimated);
    tcase_add_test(counts, an_estimate_is_a_share_of_the_last_sixteen_frames);
    tcase_add_test(counts, a_frame_given_up_counts_as_longer_than_the_deadline);
    tcase_add_test(counts, options_out_of_range_are_refused);
    suite_add_tcase(suite, counts);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

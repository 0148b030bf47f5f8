/* live_util.c - see live_util.h. */
#include "support/live_util.h"
#include <check.h>
#include <math.h>
#include <string.h>
#include "support/check_util.h"
#include "support/slow_device.h"

kd_test_live_rig kd_test_live;

kdas_segmenter_options kd_test_live_options(double deadline)
{
    kdas_segmenter_options o;

    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = KD_TEST_LIVE_SIDE;
    o.frame_height     = KD_TEST_LIVE_H;
    o.frame_width      = KD_TEST_LIVE_W;
    o.threshold        = kd_test_live.threshold;
    o.frame_deadline   = deadline;
    return o;
}

kdas_segmenter *kd_test_live_open_with(const kdas_segmenter_options *o)
{
    kdas_segmenter *s;

    kd_assert_ok(kdas_segmenter_create(&s, kd_test_live.model, o));
    kd_test_slow_clock(s);
    return s;
}

kdas_segmenter *kd_test_live_open(double deadline)
{
    kdas_segmenter_options o = kd_test_live_options(deadline);

    return kd_test_live_open_with(&o);
}

void kd_test_live_take(double seconds)
{
    kd_test_slow_time.step = seconds / (double)kd_test_live.steps;
}

void kd_test_live_draw(void)
{
    for (int t = 0; t < KD_TEST_LIVE_FRAMES; t++) {
        for (int i = 0; i < KD_TEST_LIVE_W * KD_TEST_LIVE_H * 3; i++) {
            double wave = sin(0.05 * (t + 1) * (i / 3 % KD_TEST_LIVE_W) + 2 * t) *
                          cos(0.11 * (i / 3 / KD_TEST_LIVE_W));

            kd_test_live.pixels[t][i] =
                (uint8_t)(128 + 110 * wave + 15 * kd_test_unit("live", (uint64_t)i));
        }
        kd_test_live.frames[t] = (kdas_view){ kd_test_live.pixels[t], KD_TEST_LIVE_W,
                                              KD_TEST_LIVE_H, 0, KDAS_PIXEL_RGB8 };
    }
}

void kd_test_live_setup(void)
{
    static float       logits[KD_TEST_LIVE_W * KD_TEST_LIVE_H];
    kdas_model_options o;
    kdas_segmenter    *s;
    float              low = INFINITY, high = -INFINITY;
    long               before;

    memset(&kd_test_live.meter, 0, sizeof kd_test_live.meter);
    kd_test_live.ctx = kd_test_slow_device(&kd_test_live.meter);
    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&kd_test_live.model, kd_test_live.ctx, "lite_fpn0", &o));
    kd_test_live_draw();
    kd_test_live.threshold = 0.5f;
    s                      = kd_test_live_open(0);
    before                 = kd_test_slow_time.kernels;
    for (int t = 0; t < KD_TEST_LIVE_FRAMES; t++) {
        kd_assert_ok(kdas_segmenter_logits(s, &kd_test_live.frames[t], logits));
        for (int i = 0; i < KD_TEST_LIVE_W * KD_TEST_LIVE_H; i++) {
            low  = fminf(low, logits[i]);
            high = fmaxf(high, logits[i]);
        }
    }
    kd_test_live.steps     = (kd_test_slow_time.kernels - before) / KD_TEST_LIVE_FRAMES;
    kd_test_live.threshold = 1 / (1 + expf(-(low + high) / 2));
    kdas_segmenter_destroy(s);
    ck_assert_int_gt(kd_test_live.steps, 20);
    kd_test_live_take(0.5);
}

void kd_test_live_teardown(void)
{
    kdas_model_destroy(kd_test_live.model);
    kdas_context_destroy(kd_test_live.ctx);
    kd_test_assert_given_back(&kd_test_live.meter);
}

const char *kd_test_live_run(kdas_segmenter *s, int n)
{
    static char    word[256];
    static uint8_t mask[KD_TEST_LIVE_W * KD_TEST_LIVE_H];

    ck_assert_int_lt(n, (int)sizeof word);
    for (int i = 0; i < n; i++) {
        long   kernels = kd_test_slow_time.kernels;
        double begun = kd_test_slow_time.now, step = kd_test_slow_time.step;

        kd_assert_ok(
            kdas_segmenter_mask(s, &kd_test_live.frames[i % KD_TEST_LIVE_FRAMES], mask, 0));
        kernels = kd_test_slow_time.kernels - kernels;
        switch (kdas_segmenter_repeated(s)) {
        case KDAS_REPEAT_NONE:
            ck_assert_int_eq(kernels, kd_test_live.steps);
            word[i] = 'C';
            break;
        case KDAS_REPEAT_PREDICTED:
            ck_assert_int_eq(kernels, 0);
            word[i] = 'P';
            break;
        default:
            ck_assert_int_gt(kernels, 0);
            ck_assert_int_lt(kernels, kd_test_live.steps);
            ck_assert_double_le(kd_test_slow_time.now - begun, 1 + step);
            word[i] = 'L';
        }
    }
    word[n] = 0;
    return word;
}

/* check_overlay.c - a mask shown on a frame: tinted where it is, and no other byte touched. */
#include <check.h>
#include <kdas/kdas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "image/image.h"
#include "support/check_util.h"

enum { W = 37, H = 11, FENCE = 9, ROOM = (W * 4 + FENCE) * H };

static uint8_t data[ROOM], mask[W * H];

static const struct {
    kdas_pixel pixel;
    int        samples;
    uint8_t    colour[3];                       /* the tint 200 100 50 in the samples' order */
} kinds[] = { { KDAS_PIXEL_GREY8, 1, { 124 } }, /* its luma: .299 200 + .587 100 + .114 50 */
              { KDAS_PIXEL_RGB8, 3, { 200, 100, 50 } },
              { KDAS_PIXEL_BGR8, 3, { 50, 100, 200 } },
              { KDAS_PIXEL_RGBA8, 4, { 200, 100, 50 } },
              { KDAS_PIXEL_BGRA8, 4, { 50, 100, 200 } } };

static void setup(void)
{
    for (int i = 0; i < ROOM; i++)
        data[i] = (uint8_t)(i * 31 + i / 7);
    for (int i = 0; i < W * H; i++) /* runs, lone pixels, and values that are no 0 or 255 */
        mask[i] = (uint8_t)(i % 19 < 9 ? 0 : i % 5 == 0 ? 127 : i % 3 ? 255 : 128);
}

static kdas_overlay_options tint(float opacity)
{
    kdas_overlay_options o;

    kdas_overlay_options_init(&o, sizeof o);
    memcpy(o.colour, (uint8_t[]){ 200, 100, 50 }, 3);
    o.opacity = opacity;
    return o;
}

/* Of each byte of `out`, whose rows are `stride` apart, beside `frame`'s. */
static void assert_tinted(const uint8_t *out, int64_t stride, const kdas_view *frame, int kind,
                          float opacity)
{
    int samples = kinds[kind].samples, inside = 0;

    for (int y = 0; y < H; y++)
        for (int i = 0; i < W * samples; i++) {
            int    was = ((const uint8_t *)frame->data)[y * frame->stride + i], c = i % samples;
            int    got = out[y * stride + i];
            double want =
                was + (kinds[kind].colour[c % 3] - was) * (floor(opacity * 255 + .5) / 255);

            if (mask[y * W + i / samples] < 128 || c == 3)
                ck_assert_int_eq(got, was);
            else
                ck_assert_double_le(fabs(got - want), 0.51);
            inside += got != was;
        }
    ck_assert_int_gt(inside, opacity > 0 ? W : -1);
    if (opacity == 0) ck_assert_int_eq(inside, 0);
}

static const float opacities[] = { 0, 0.275f, 0.5f, 1 };

START_TEST(the_mask_is_tinted_and_all_else_is_the_frames)
{
    int       samples = kinds[_i].samples;
    kdas_view frame   = { data, W, H, W * samples + 3, kinds[_i].pixel };
    kdas_view where   = { mask, W, H, 0, KDAS_PIXEL_GREY8 };

    for (size_t k = 0; k < KD_COUNT(opacities); k++) {
        kdas_overlay_options o      = tint(opacities[k]);
        int64_t              stride = W * samples + FENCE;
        uint8_t              out[ROOM];

        memset(out, 0xEE, sizeof out);
        kd_assert_ok(kdas_image_overlay(&frame, &where, out, stride, &o));
        assert_tinted(out, stride, &frame, _i, opacities[k]);
        for (int y = 0; y < H; y++) /* what lies between the rows is the host's */
            for (int i = W * samples; i < stride; i++)
                ck_assert_int_eq(out[y * stride + i], 0xEE);
        kd_assert_ok(kdas_image_overlay(&frame, &where, out, 0, &o));
        assert_tinted(out, W * samples, &frame, _i, opacities[k]);
    }
}
END_TEST

START_TEST(a_frame_can_be_drawn_on_in_place)
{
    int                  stride = W * kinds[_i].samples + 5;
    kdas_overlay_options o      = tint(0.4f);
    uint8_t              drawn[ROOM];
    kdas_view            frame = { data, W, H, stride, kinds[_i].pixel }, there = frame;
    kdas_view            where = { mask, W, H, 0, KDAS_PIXEL_GREY8 };

    memcpy(drawn, data, sizeof drawn);
    there.data = drawn;
    kd_assert_ok(kdas_image_overlay(&there, &where, drawn, stride, &o));
    assert_tinted(drawn, stride, &frame, _i, 0.4f);
    for (int i = 0; i < ROOM; i++)
        if (i >= stride * H || i % stride >= W * kinds[_i].samples)
            ck_assert_int_eq(drawn[i], data[i]);
}
END_TEST

START_TEST(the_default_is_orange_and_lets_the_frame_through)
{
    kdas_overlay_options o        = { .size = 0 };
    uint8_t              black[3] = { 0 }, full = 255, out[3];
    kdas_view            frame = { black, 1, 1, 0, KDAS_PIXEL_RGB8 };
    kdas_view            where = { &full, 1, 1, 0, KDAS_PIXEL_GREY8 };

    kd_assert_ok(kdas_image_overlay(&frame, &where, out, 0, NULL));
    ck_assert_mem_eq(out, ((uint8_t[]){ 70, 44, 8 }), 3); /* 70/255 of 255 160 30 */
    kd_assert_status(kdas_image_overlay(&frame, &where, out, 0, &o), KDAS_EINVAL); /* no init */
}
END_TEST

START_TEST(what_does_not_fit_is_refused_and_nothing_drawn)
{
    kdas_view            frame = { data, W, H, 0, KDAS_PIXEL_RGB8 }, bad;
    kdas_view            where = { mask, W, H, 0, KDAS_PIXEL_GREY8 };
    uint8_t              out[W * H * 3], before[ROOM];
    kdas_overlay_options o = tint(1.1f);

    memset(out, 9, sizeof out);
    memcpy(before, data, sizeof before);
    kd_assert_status(kdas_image_overlay(&frame, &where, out, 0, &o), KDAS_EINVAL);
    kd_assert_sentence("1.1");
    o.opacity = NAN;
    kd_assert_status(kdas_image_overlay(&frame, &where, out, 0, &o), KDAS_EINVAL);
    kd_assert_status(kdas_image_overlay(&frame, &where, NULL, 0, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_image_overlay(&frame, NULL, out, 0, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_image_overlay(NULL, &where, out, 0, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_image_overlay(&frame, &where, out, W * 3 - 1, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_image_overlay(&frame, &where, out, 1 - W * 3, NULL), KDAS_EINVAL);
    bad       = frame;
    bad.pixel = KDAS_PIXEL_RGBF32;
    kd_assert_status(kdas_image_overlay(&bad, &where, out, 0, NULL), KDAS_EINVAL);
    bad.pixel = (kdas_pixel)11;
    kd_assert_status(kdas_image_overlay(&bad, &where, out, 0, NULL), KDAS_EINVAL);
    bad       = where;
    bad.width = W - 1;
    kd_assert_status(kdas_image_overlay(&frame, &bad, out, 0, NULL), KDAS_ESHAPE);
    kd_assert_sentence("36x11");
    kd_assert_status(kdas_image_overlay(&frame, &frame, out, 0, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_image_overlay(&frame, &where, data, W * 3 + 1, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_image_overlay(&frame, &where, data + 3, 0, NULL), KDAS_EINVAL);
    kd_assert_sentence("overlaps");
    for (size_t i = 0; i < sizeof out; i++)
        ck_assert_int_eq(out[i], 9);
    ck_assert_mem_eq(data, before, sizeof before);
}
END_TEST

/* The frame on the left of a canvas, drawn with its mask on the right, from the top or from the bottom. */
START_TEST(a_frame_and_its_overlay_lie_side_by_side_on_one_canvas)
{
    enum { ROW = W * 3, CANVAS = 2 * ROW + 5 };
    static uint8_t canvas[CANVAS * H], want[ROW * H];
    uint8_t       *top    = _i ? canvas + (H - 1) * CANVAS : canvas;
    int64_t        stride = _i ? -CANVAS : CANVAS;
    kdas_view      packed = { .data = data, .width = W, .height = H, .pixel = KDAS_PIXEL_RGB8 };
    kdas_view      left   = packed,
              where       = { .data = mask, .width = W, .height = H, .pixel = KDAS_PIXEL_GREY8 };

    left.data   = top;
    left.stride = stride;
    memset(canvas, 9, sizeof canvas);
    for (int y = 0; y < H; y++)
        memcpy(top + y * stride, data + y * ROW, ROW);
    kd_assert_ok(kdas_image_overlay(&packed, &where, want, 0, NULL));
    kd_assert_ok(kdas_image_overlay(&left, &where, top + ROW, stride, NULL));
    for (int y = 0; y < H; y++) {
        ck_assert_mem_eq(top + y * stride, data + y * ROW, ROW);
        ck_assert_mem_eq(top + y * stride + ROW, want + y * ROW, ROW);
        for (int k = 2 * ROW; k < CANVAS; k++)
            ck_assert_int_eq(top[y * stride + k], 9);
    }
    for (int64_t k = 1; k < ROW; k += 50) { /* a byte of the frame, or of its next row */
        kd_assert_status(kdas_image_overlay(&left, &where, top + ROW - k, stride, NULL),
                         KDAS_EINVAL);
        if (!_i)
            kd_assert_status(kdas_image_overlay(&left, &where, top + ROW + 5 + k, stride, NULL),
                             KDAS_EINVAL);
    }
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("overlay");
    TCase   *tcase  = tcase_create("tint");
    SRunner *runner = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, the_mask_is_tinted_and_all_else_is_the_frames, 0, KD_COUNT(kinds));
    tcase_add_loop_test(tcase, a_frame_can_be_drawn_on_in_place, 0, KD_COUNT(kinds));
    tcase_add_test(tcase, the_default_is_orange_and_lets_the_frame_through);
    tcase_add_test(tcase, what_does_not_fit_is_refused_and_nothing_drawn);
    tcase_add_loop_test(tcase, a_frame_and_its_overlay_lie_side_by_side_on_one_canvas, 0, 2);
    suite_add_tcase(s, tcase);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

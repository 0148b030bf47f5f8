/* check_bottom_up.c - pictures whose bottom row comes first in memory: every call that takes a view reads them, and
 * bytes are written to such rows, without a byte between them. */
#include <check.h>
#include <kdas/kdas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/base.h"
#include "image/image.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"

enum { W = 45, H = 30, SIDE = 32, PAD = 8, ROOM = (W * 12 + PAD) * H };

static kd_test_meter meter;
static kdas_context *ctx;
static _Alignas(16) uint8_t upright[ROOM], turned[ROOM];

static void setup(void)
{
    memset(&meter, 0, sizeof meter);
    ctx = kd_test_device("cpu", &meter);
}

static void teardown(void)
{
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}

static int64_t bytes_of(kdas_pixel pixel)
{
    return kd_pixel_samples(pixel) * (kd_pixel_is_float(pixel) ? (int64_t)sizeof(float) : 1);
}

/* Two views of the same picture, one of them from the bottom up and with something between its rows. */
static void fill(kdas_view *a, kdas_view *b, kdas_pixel pixel)
{
    int64_t row = W * bytes_of(pixel), stride = row + PAD;

    for (int64_t i = 0; i < H * W * kd_pixel_samples(pixel); i++) {
        double v = 0.5 + 0.49 * kd_test_unit("bottom up", (uint64_t)i);

        if (kd_pixel_is_float(pixel))
            ((float *)upright)[i] = (float)v;
        else
            upright[i] = (uint8_t)(255 * v);
    }
    memset(turned, 0xEE, sizeof turned);
    for (int y = 0; y < H; y++)
        memcpy(turned + (H - 1 - y) * stride, upright + y * row, (size_t)row);
    *a = (kdas_view){ upright, W, H, 0, pixel };
    *b = (kdas_view){ turned + (H - 1) * stride, W, H, -stride, pixel };
}

static const kdas_pixel bytes[] = { KDAS_PIXEL_GREY8, KDAS_PIXEL_RGB8, KDAS_PIXEL_BGR8,
                                    KDAS_PIXEL_RGBA8, KDAS_PIXEL_BGRA8 };

START_TEST(images_are_resized_and_saved)
{
    kdas_image *x[2];
    kdas_view   a, b;

    fill(&a, &b, bytes[_i]);
    kd_assert_ok(kdas_image_resize(&x[0], ctx, &a, 20, 40));
    kd_assert_ok(kdas_image_resize(&x[1], ctx, &b, 20, 40));
    ck_assert_mem_eq(x[1]->pixels, x[0]->pixels, (size_t)(20 * 40 * x[0]->channels));
    kdas_image_destroy(x[0]);
    kdas_image_destroy(x[1]);

    kd_assert_ok(kdas_image_save(ctx, kd_test_path("a.png"), &a));
    kd_assert_ok(kdas_image_save(ctx, kd_test_path("b.png"), &b));
    kd_assert_ok(kdas_image_load(&x[0], ctx, kd_test_path("a.png"), KDAS_PIXEL_RGB8));
    kd_assert_ok(kdas_image_load(&x[1], ctx, kd_test_path("b.png"), KDAS_PIXEL_RGB8));
    ck_assert_mem_eq(x[1]->pixels, x[0]->pixels, W * H * 3);
    ck_assert_mem_ne(x[0]->pixels, x[0]->pixels + W * 3, W * 3);
    kdas_image_destroy(x[0]);
    kdas_image_destroy(x[1]);
}
END_TEST

START_TEST(floats_are_saved)
{
    kdas_image *x[2];
    kdas_view   a, b;

    fill(&a, &b, KDAS_PIXEL_GREYF32);
    kd_assert_ok(kdas_image_save(ctx, kd_test_path("a.png"), &a));
    kd_assert_ok(kdas_image_save(ctx, kd_test_path("b.png"), &b));
    kd_assert_ok(kdas_image_load(&x[0], ctx, kd_test_path("a.png"), KDAS_PIXEL_GREY8));
    kd_assert_ok(kdas_image_load(&x[1], ctx, kd_test_path("b.png"), KDAS_PIXEL_GREY8));
    ck_assert_mem_eq(x[1]->pixels, x[0]->pixels, W * H);
    kdas_image_destroy(x[0]);
    kdas_image_destroy(x[1]);
}
END_TEST

START_TEST(batches_take_them)
{
    static const kdas_pixel planes[] = { KDAS_PIXEL_GREY8, KDAS_PIXEL_GREYF32 };
    enum { N = SIDE * SIDE };
    kdas_batch *batch;
    kdas_view   a, b;

    kd_assert_ok(kdas_batch_create(&batch, ctx, 2, SIDE, SIDE));
    for (int pixel = KDAS_PIXEL_GREY8; pixel <= KDAS_PIXEL_RGBF32; pixel++) {
        fill(&a, &b, (kdas_pixel)pixel);
        kd_assert_ok(kdas_batch_set(batch, 0, &a, NULL));
        kd_assert_ok(kdas_batch_set(batch, 1, &b, NULL));
        ck_assert(kd_test_same_bits(kdas_batch_images(batch), kdas_batch_images(batch) + 3 * N,
                                    3 * N * sizeof(float)));
    }
    for (size_t i = 0; i < KD_COUNT(planes); i++) {
        fill(&a, &b, planes[i]);
        kd_assert_ok(kdas_batch_set(batch, 0, &a, &a));
        kd_assert_ok(kdas_batch_set(batch, 1, &b, &b));
        kd_assert_ok(kdas_batch_set_teacher(batch, 0, &a));
        kd_assert_ok(kdas_batch_set_teacher(batch, 1, &b));
        kd_assert_ok(kdas_batch_set_weights(batch, 0, &a));
        kd_assert_ok(kdas_batch_set_weights(batch, 1, &b));
        ck_assert(kd_test_same_bits(kdas_batch_masks(batch), kdas_batch_masks(batch) + N,
                                    N * sizeof(float)));
        ck_assert(kd_test_same_bits(kdas_batch_teacher(batch), kdas_batch_teacher(batch) + N,
                                    N * sizeof(float)));
        ck_assert(kd_test_same_bits(kdas_batch_weights(batch), kdas_batch_weights(batch) + N,
                                    N * sizeof(float)));
    }
    kdas_batch_destroy(batch);
}
END_TEST

START_TEST(an_evaluator_takes_them)
{
    static float    logits[W * H];
    kdas_evaluator *e;
    kdas_view       a, b;
    double          want, got;

    fill(&a, &b, KDAS_PIXEL_GREY8);
    for (int i = 0; i < W * H; i++)
        logits[i] = (float)(i % 17) - 8 + 0.02f * (float)upright[i];
    kd_assert_ok(kdas_evaluator_create(&e, ctx));
    kd_assert_ok(kdas_evaluator_add(e, "a", &a, &a));
    kd_assert_ok(kdas_evaluator_add(e, "b", &b, &b));
    kd_assert_ok(kdas_evaluator_add_logits(e, "a", logits, &a));
    kd_assert_ok(kdas_evaluator_add_logits(e, "b", logits, &b));
    for (int pair = 0; pair < 4; pair += 2)
        for (int m = 0; m < KDAS_METRICS; m++) {
            kd_assert_ok(kdas_evaluator_get(e, pair, (kdas_metric)m, &want));
            kd_assert_ok(kdas_evaluator_get(e, pair + 1, (kdas_metric)m, &got));
            ck_assert_double_eq(got, want);
        }
    b.stride = 1 - W;
    kd_assert_status(kdas_evaluator_add(e, "b", &b, &b), KDAS_EINVAL);
    kdas_evaluator_destroy(e);
}
END_TEST

/* Rows of `out`, the top one last, beside packed rows; what is between them is 0x55. */
static void assert_rows(const uint8_t *out, int64_t stride, const uint8_t *want, int64_t row)
{
    for (int y = 0; y < H; y++) {
        const uint8_t *at = out + (H - 1 - y) * stride;

        ck_assert_mem_eq(at, want + y * row, (size_t)row);
        for (int64_t i = row; i < stride; i++)
            ck_assert_uint_eq(at[i], 0x55);
    }
}

START_TEST(overlays_are_drawn_on_them_and_into_them)
{
    static uint8_t mask[W * H], flipped[W * H], want[ROOM], out[ROOM];
    int64_t        row = W * bytes_of(bytes[_i]), stride = row + 3;
    kdas_view      a, b, m = { mask, W, H, 0, KDAS_PIXEL_GREY8 };
    kdas_view      f = { flipped + (H - 1) * W, W, H, -W, KDAS_PIXEL_GREY8 };

    fill(&a, &b, bytes[_i]);
    for (int i = 0; i < W * H; i++)
        mask[i] = flipped[(H - 1 - i / W) * W + i % W] = i % 5 < 2 || i > W * 20 ? 255 : 0;
    kd_assert_ok(kdas_image_overlay(&a, &m, want, 0, NULL));
    memset(out, 0x55, sizeof out);
    kd_assert_ok(kdas_image_overlay(&b, &f, out + (H - 1) * stride, -stride, NULL));
    assert_rows(out, stride, want, row);
    kd_assert_ok(kdas_image_overlay(&b, &m, (void *)b.data, b.stride, NULL)); /* in place */
    for (int y = 0; y < H; y++) {
        ck_assert_mem_eq(turned + (H - 1 - y) * (row + PAD), want + y * row, (size_t)row);
        ck_assert_uint_eq(turned[y * (row + PAD) + row], 0xEE);
    }
}
END_TEST

START_TEST(overlays_of_a_frame_on_itself_are_found_from_the_bottom_up_too)
{
    kdas_view a, b;
    kdas_view m    = { upright, W, H, 0, KDAS_PIXEL_GREY8 };
    uint8_t  *last = turned + (H - 1) * (W * 3 + PAD);

    fill(&a, &b, KDAS_PIXEL_RGB8);
    kd_assert_status(kdas_image_overlay(&b, &m, last, -W * 3, NULL), KDAS_EINVAL);
    kd_assert_sentence("stride");
    kd_assert_status(kdas_image_overlay(&b, &m, last, W * 3, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_image_overlay(&b, &m, turned, 0, NULL), KDAS_EINVAL);
    kd_assert_sentence("overlaps");
    kd_assert_status(kdas_image_overlay(&b, &m, last - 3, b.stride, NULL), KDAS_EINVAL);
    kd_assert_sentence("overlaps");
    ck_assert_uint_eq(last[W * 3], 0xEE);
    kd_assert_ok(kdas_image_overlay(&b, &m, last + W * 3 + 1, 0, NULL)); /* right behind it */
    kd_assert_status(kdas_image_overlay(&a, &m, turned, 1 - W * 3, NULL), KDAS_EINVAL);
}
END_TEST

START_TEST(a_segmenter_takes_them_and_writes_to_them)
{
    enum { STRIDE = W + 5 };
    static float           z[2][W * H];
    static uint8_t         want[W * H], got[STRIDE * H], drawn[2][ROOM];
    kdas_model            *model;
    kdas_segmenter        *s;
    kdas_segmenter_options o;
    kdas_view              a, b;

    fill(&a, &b, KDAS_PIXEL_RGB8);
    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = SIDE;
    kd_assert_ok(kdas_model_create(&model, ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_segmenter_create(&s, model, &o));
    kd_assert_ok(kdas_segmenter_logits(s, &a, z[0]));
    kd_assert_ok(kdas_segmenter_logits(s, &b, z[1]));
    ck_assert(kd_test_same_bits(z[0], z[1], sizeof z[0]));
    kdas_segmenter_destroy(s);

    o.threshold = 1 / (1 + expf(-z[0][W * H / 2])); /* some pixels are above, some below */
    kd_assert_ok(kdas_segmenter_create(&s, model, &o));
    kd_assert_ok(kdas_segmenter_mask(s, &a, want, 0));
    ck_assert(memchr(want, 0, sizeof want) && memchr(want, 255, sizeof want));
    memset(got, 0x55, sizeof got);
    kd_assert_ok(kdas_segmenter_mask(s, &b, got + (H - 1) * STRIDE, -STRIDE));
    assert_rows(got, STRIDE, want, W);
    kd_assert_ok(kdas_segmenter_probability(s, &a, want, 0));
    kd_assert_ok(kdas_segmenter_probability(s, &b, got + (H - 1) * STRIDE, -STRIDE));
    assert_rows(got, STRIDE, want, W);
    kd_assert_ok(kdas_segmenter_overlay(s, &a, drawn[0], 0, NULL));
    memset(drawn[1], 0x55, sizeof drawn[1]);
    kd_assert_ok(kdas_segmenter_overlay(s, &b, drawn[1] + (H - 1) * (W * 3 + 1), -W * 3 - 1, NULL));
    assert_rows(drawn[1], W * 3 + 1, drawn[0], W * 3);

    kd_assert_status(kdas_segmenter_mask(s, &b, got + (H - 1) * STRIDE, 1 - W), KDAS_EINVAL);
    kd_assert_sentence("-44");
    kd_assert_status(kdas_segmenter_probability(s, &b, got, INT64_MIN), KDAS_EINVAL);
    b.stride = 1 - W * 3;
    kd_assert_status(kdas_segmenter_logits(s, &b, z[1]), KDAS_EINVAL);
    kdas_segmenter_destroy(s);
    kdas_model_destroy(model);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("from the bottom up");
    TCase   *tcase  = tcase_create("calls");
    SRunner *runner = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(tcase, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, images_are_resized_and_saved, 0, KD_COUNT(bytes));
    tcase_add_test(tcase, floats_are_saved);
    tcase_add_test(tcase, batches_take_them);
    tcase_add_test(tcase, an_evaluator_takes_them);
    tcase_add_loop_test(tcase, overlays_are_drawn_on_them_and_into_them, 0, KD_COUNT(bytes));
    tcase_add_test(tcase, overlays_of_a_frame_on_itself_are_found_from_the_bottom_up_too);
    tcase_add_test(tcase, a_segmenter_takes_them_and_writes_to_them);
    suite_add_tcase(s, tcase);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

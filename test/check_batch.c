/* check_batch.c - batches: the same numbers from pixels of every kind, masks, and refusals that
 * leave the place as it was. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include "support/check_util.h"
#include "support/data_util.h"

static float normal(double v, int c)
{
    static const float mean[3] = { 0.485f, 0.456f, 0.406f }, std[3] = { 0.229f, 0.224f, 0.225f };

    return ((float)v - mean[c]) / std[c];
}

enum { W = 13, H = 9 };

/* An image of W x H in any kind, with 5 bytes (or floats) between rows that must not matter. */
static kdas_view image_of(void *memory, kdas_pixel pixel)
{
    int     samples = pixel == KDAS_PIXEL_GREY8 || pixel == KDAS_PIXEL_GREYF32 ? 1
                      : pixel == KDAS_PIXEL_RGBA8 || pixel == KDAS_PIXEL_BGRA8 ? 4
                                                                               : 3;
    bool    bgr     = pixel == KDAS_PIXEL_BGR8 || pixel == KDAS_PIXEL_BGRA8;
    bool    f       = pixel == KDAS_PIXEL_GREYF32 || pixel == KDAS_PIXEL_RGBF32;
    int64_t step    = W * samples + 5;

    for (int64_t y = 0; y < H; y++)
        for (int64_t k = 0; k < step; k++) {
            int64_t c = k % samples, x = k / samples;
            int64_t colour = samples == 1 ? 0 : bgr && c < 3 ? 2 - c : c;
            uint8_t v      = kd_test_byte((y * W + x) * 3 + colour);

            if (k >= W * samples || c == 3) v = (uint8_t)(91 * k);
            if (f)
                ((float *)memory)[y * step + k] = (float)v / 255.0f;
            else
                ((uint8_t *)memory)[y * step + k] = v;
        }
    return (kdas_view){ memory, W, H, f ? step * (int64_t)sizeof(float) : step, pixel };
}

static kdas_batch *batch_of(int64_t count, int64_t height, int64_t width)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, kd_data_ctx, count, height, width));
    return b;
}

START_TEST(a_new_batch_is_zeros_of_the_size_asked)
{
    kdas_batch *b = batch_of(3, 32, 64), *none = b;

    ck_assert(kdas_batch_count(b) == 3 && kdas_batch_height(b) == 32 && kdas_batch_width(b) == 64);
    for (int64_t i = 0; i < 3 * 32 * 64; i++)
        if (kdas_batch_images(b)[3 * i] != 0 || kdas_batch_masks(b)[i] != 0)
            ck_abort_msg("at %d", (int)i);
    kd_assert_status(kdas_batch_resize(b, 0), KDAS_EINVAL);
    kd_assert_status(kdas_batch_resize(b, 4), KDAS_EINVAL);
    kd_assert_sentence("4 places of a batch made for 3");
    kd_assert_ok(kdas_batch_resize(b, 1));
    ck_assert_int_eq(kdas_batch_count(b), 1);
    kd_assert_ok(kdas_batch_resize(b, 3));
    kdas_batch_destroy(b);

    kd_assert_status(kdas_batch_create(&none, kd_data_ctx, 0, 32, 32), KDAS_EINVAL);
    ck_assert_ptr_null(none);
    kd_assert_status(kdas_batch_create(&none, kd_data_ctx, 1, -1, 32), KDAS_EINVAL);
    kd_assert_status(kdas_batch_create(&none, kd_data_ctx, 1, 32, INT64_MAX), KDAS_EINVAL);
    kd_assert_status(kdas_batch_create(&none, NULL, 1, 32, 32), KDAS_EINVAL);
    kd_assert_status(kdas_batch_create(NULL, kd_data_ctx, 1, 32, 32), KDAS_EINVAL);
    kd_assert_status(kdas_batch_create(&none, kd_data_ctx, INT32_MAX, 16384, 16384), KDAS_ENOMEM);
    kdas_batch_destroy(NULL);
}
END_TEST

START_TEST(every_pixel_kind_gives_the_same_normalised_numbers)
{
    static const kdas_pixel kinds[] = { KDAS_PIXEL_RGB8, KDAS_PIXEL_BGR8, KDAS_PIXEL_RGBA8,
                                        KDAS_PIXEL_BGRA8, KDAS_PIXEL_RGBF32 };
    float                   memory[(W * 4 + 5) * H];
    kdas_batch             *b = batch_of(2, H, W);

    for (size_t k = 0; k < KD_COUNT(kinds); k++) {
        kdas_view view = image_of(memory, kinds[k]);

        kd_assert_ok(kdas_batch_set(b, 1, &view, NULL));
        for (int64_t i = 0; i < W * H * 3; i++)
            ck_assert_float_eq(kdas_batch_images(b)[W * H * 3 + i],
                               normal((float)kd_test_byte(i) / 255.0f, (int)(i % 3)));
    }
    for (int64_t i = 0; i < W * H * 3; i++)
        ck_assert_float_eq(kdas_batch_images(b)[i], 0); /* the other place */
    kdas_batch_destroy(b);
}
END_TEST

START_TEST(a_grey_image_fills_all_colours)
{
    static const kdas_pixel kinds[] = { KDAS_PIXEL_GREY8, KDAS_PIXEL_GREYF32 };
    float                   memory[(W + 5) * H];
    kdas_batch             *b = batch_of(1, H, W);

    for (size_t k = 0; k < KD_COUNT(kinds); k++) {
        kdas_view view = image_of(memory, kinds[k]);

        kd_assert_ok(kdas_batch_set(b, 0, &view, NULL));
        for (int64_t i = 0; i < W * H * 3; i++)
            ck_assert_float_eq_tol(kdas_batch_images(b)[i],
                                   normal((float)kd_test_byte(i / 3 * 3) / 255.0f, (int)(i % 3)),
                                   1e-6f);
    }
    kdas_batch_destroy(b);
}
END_TEST

/* The resize has golden values of its own; here: that it is the one in use, for all kinds. */
START_TEST(other_sizes_go_through_the_input_resize)
{
    static const kdas_pixel kinds[]    = { KDAS_PIXEL_RGB8, KDAS_PIXEL_BGR8, KDAS_PIXEL_RGBA8,
                                           KDAS_PIXEL_BGRA8 };
    static const int64_t    sizes[][2] = { { 32, 32 }, { 5, 7 }, { 4, 20 } };
    float                   memory[(W * 4 + 5) * H];

    for (size_t s = 0; s < KD_COUNT(sizes); s++) {
        int64_t     h = sizes[s][0], w = sizes[s][1];
        kdas_view   view = image_of(memory, KDAS_PIXEL_RGB8);
        kdas_batch *b    = batch_of(1, h, w);
        kdas_image *want;

        kd_assert_ok(kdas_image_resize(&want, kd_data_ctx, &view, w, h));
        for (size_t k = 0; k < KD_COUNT(kinds); k++) {
            view = image_of(memory, kinds[k]);
            kd_assert_ok(kdas_batch_set(b, 0, &view, NULL));
            for (int64_t i = 0; i < w * h * 3; i++)
                ck_assert_float_eq(
                    kdas_batch_images(b)[i],
                    normal((float)kdas_image_pixels(want)[i] / 255.0f, (int)(i % 3)));
        }
        view = image_of(memory, KDAS_PIXEL_RGBF32); /* without the two roundings to 8 bits */
        kd_assert_ok(kdas_batch_set(b, 0, &view, NULL));
        for (int64_t i = 0; i < w * h * 3; i++)
            ck_assert_float_eq_tol(kdas_batch_images(b)[i],
                                   normal((float)kdas_image_pixels(want)[i] / 255.0f, (int)(i % 3)),
                                   1.01f / 255 / 0.224f);
        kdas_image_destroy(want);
        kdas_batch_destroy(b);
    }
}
END_TEST

START_TEST(masks_are_cut_at_one_half_before_and_after_the_resize)
{
    static const uint8_t bytes[8]       = { 0, 1, 127, 128, 129, 200, 254, 255 };
    const float          floats[8]      = { 0, 0.4f, 0.5f, 0.50001f, 0.6f, 1, NAN, -3 };
    static const float   want_bytes[8]  = { 0, 0, 0, 1, 1, 1, 1, 1 };
    static const float   want_floats[8] = { 0, 0, 0, 1, 1, 1, 0, 0 };
    static const uint8_t edge[4]        = { 255, 255, 90, 90 };
    uint8_t              grey[8]        = { 0 };
    kdas_view            image          = { grey, 8, 1, 0, KDAS_PIXEL_GREY8 };
    kdas_view            mask           = { bytes, 8, 1, 0, KDAS_PIXEL_GREY8 };
    kdas_batch          *b              = batch_of(1, 1, 8);

    kd_assert_ok(kdas_batch_set(b, 0, &image, &mask));
    ck_assert(kd_test_same_bits(kdas_batch_masks(b), want_bytes, sizeof want_bytes));
    mask.data  = floats;
    mask.pixel = KDAS_PIXEL_GREYF32;
    kd_assert_ok(kdas_batch_set(b, 0, &image, &mask));
    ck_assert(kd_test_same_bits(kdas_batch_masks(b), want_floats, sizeof want_floats));

    image.width = 4;
    mask        = (kdas_view){ edge, 4, 1, 0, KDAS_PIXEL_GREY8 };
    kd_assert_ok(kdas_batch_set(b, 0, &image, &mask));
    for (int i = 0; i < 8; i++) /* at twice the size the edge stays in the middle */
        ck_assert_float_eq(kdas_batch_masks(b)[i], i < 4);
    kd_assert_ok(kdas_batch_set(b, 0, &image, NULL)); /* no mask: no polyp */
    for (int i = 0; i < 8; i++)
        ck_assert_float_eq(kdas_batch_masks(b)[i], 0);
    kdas_batch_destroy(b);
}
END_TEST

START_TEST(a_failed_set_leaves_the_place_as_it_was)
{
    uint8_t     data[20 * 20 * 4] = { 1, 2, 3 };
    kdas_view   good              = { data, 20, 20, 0, KDAS_PIXEL_RGB8 };
    kdas_view   truth             = { data, 20, 20, 0, KDAS_PIXEL_GREY8 };
    kdas_view   bad;
    kdas_batch *b = batch_of(2, 32, 32);
    float       before[2];

    kd_assert_ok(kdas_batch_set(b, 0, &good, &truth));
    kdas_batch_images(b)[5] = before[0] = 17.0f;
    kdas_batch_masks(b)[5] = before[1] = 18.0f;
#define REFUSED(i, image, mask, status, part)                    \
    kd_assert_status(kdas_batch_set(b, i, image, mask), status); \
    kd_assert_sentence(part);                                    \
    ck_assert_float_eq(kdas_batch_images(b)[5], before[0]);      \
    ck_assert_float_eq(kdas_batch_masks(b)[5], before[1])
    REFUSED(-1, &good, NULL, KDAS_EINVAL, "place -1");
    REFUSED(2, &good, NULL, KDAS_EINVAL, "place 2 of 2");
    REFUSED(0, NULL, NULL, KDAS_EINVAL, "NULL");
    bad = (kdas_view){ NULL, 20, 20, 0, KDAS_PIXEL_RGB8 };
    REFUSED(0, &bad, NULL, KDAS_EINVAL, "data");
    bad = (kdas_view){ data, 20, 20, 0, (kdas_pixel)99 };
    REFUSED(0, &bad, NULL, KDAS_EINVAL, "99");
    bad = (kdas_view){ data, 20, 20, 59, KDAS_PIXEL_RGB8 };
    REFUSED(0, &bad, NULL, KDAS_EINVAL, "59");
    bad = (kdas_view){ data, 0, 20, 0, KDAS_PIXEL_RGB8 };
    REFUSED(0, &bad, NULL, KDAS_EINVAL, "0x20");
    bad = (kdas_view){ data, 19, 20, 0, KDAS_PIXEL_GREY8 };
    REFUSED(0, &good, &bad, KDAS_ESHAPE, "19x20");
    bad = (kdas_view){ data, 20, 20, 0, KDAS_PIXEL_RGB8 };
    REFUSED(0, &good, &bad, KDAS_EINVAL, "GREY8");
    for (long k = 1;; k++) {
        kdas_status st;

        kd_data_memory.fail_at = kd_data_memory.taken + k;
        st                     = kdas_batch_set(b, 0, &good, &truth);
        if (st == KDAS_OK) {
            ck_assert_int_gt(k, 3);
            break;
        }
        kd_data_memory.fail_at = 0;
        ck_assert_int_eq(st, KDAS_ENOMEM);
        ck_assert_float_eq(kdas_batch_images(b)[5], before[0]);
        ck_assert_float_eq(kdas_batch_masks(b)[5], before[1]);
    }
    kd_data_memory.fail_at = 0;
    ck_assert_float_ne(kdas_batch_images(b)[5], before[0]);
#undef REFUSED
    kd_assert_status(kdas_batch_set(NULL, 0, &good, NULL), KDAS_EINVAL);
    kdas_batch_destroy(b);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("batch");
    TCase   *tc     = tcase_create("batch");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_test(tc, a_new_batch_is_zeros_of_the_size_asked);
    tcase_add_test(tc, every_pixel_kind_gives_the_same_normalised_numbers);
    tcase_add_test(tc, a_grey_image_fills_all_colours);
    tcase_add_test(tc, other_sizes_go_through_the_input_resize);
    tcase_add_test(tc, masks_are_cut_at_one_half_before_and_after_the_resize);
    tcase_add_test(tc, a_failed_set_leaves_the_place_as_it_was);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_mask_noise.c - mask files that were compressed, blurred or resized: white ones have the bits of
 * ever, coloured ones are cut at half. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "image/mask.h"
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/disc.h"
#include "support/files.h"
#include "support/pictures.h"

static const char *one(const char *name) { return kd_test_path(name); }

/* ---- Noise and soft edges ---- */

/* What every release before did: luma above 127. */
static void expect_as_ever(const char *name, kdas_mask_rule rule)
{
    uint8_t    *got = pixels_of(name, rule);
    kdas_image *grey;

    kd_assert_ok(kdas_image_load(&grey, kd_data_ctx, one(name), KDAS_PIXEL_GREY8));
    for (int i = 0; i < W * H; i++)
        ck_assert_int_eq(got[i], kdas_image_pixels(grey)[i] > 127 ? 255 : 0);
    kdas_image_destroy(grey);
}

static int wrong_pixels(const char *name, kdas_mask_rule rule)
{
    uint8_t *got = pixels_of(name, rule);
    int      n   = 0;

    for (int i = 0; i < W * H; i++)
        n += (got[i] == 255) != (part(i) > 0);
    return n;
}

static void save(const char *name, const uint8_t *data, kdas_pixel pixel)
{
    kdas_view v = { data, W, H, 0, pixel };

    kd_assert_ok(kdas_image_save(kd_data_ctx, one(name), &v));
}

static void save_colours(const char *name, const uint8_t left[3], const uint8_t right[3])
{
    static uint8_t rgb[W * H * 3];

    memset(rgb, 0, sizeof rgb);
    for (int i = 0; i < W * H; i++)
        if (part(i)) memcpy(rgb + 3 * i, part(i) == 1 ? left : right, 3);
    save(name, rgb, KDAS_PIXEL_RGB8);
}

/* A disc with edges that are `soft` pixels wide, of 0..top. */
static void save_soft(const char *name, double soft, int top)
{
    static uint8_t data[W * H];

    for (int i = 0; i < W * H; i++) {
        double x = i % W - 30.5, y = i / W - 22.5;
        double r = 196 - x * x - y * y, t = r / (28 * soft) + 0.5;

        data[i] = (uint8_t)(top * (t < 0 ? 0 : t > 1 ? 1 : t) + 0.5);
    }
    save(name, data, KDAS_PIXEL_GREY8);
}

START_TEST(white_masks_with_noise_or_soft_edges_have_the_bits_of_ever)
{
    static const uint8_t white[3] = { 255, 255, 255 };
    kdas_mask_rule       rule;
    const char          *path;

    save_colours("rgb.jpg", white, white);
    save_soft("soft.png", 3, 255);
    save_soft("softer.png", 9, 255);
    save_soft("soft.jpg", 3, 255);
    for (int i = 0; i < 4; i++) {
        static const char *const names[] = { "rgb.jpg", "soft.png", "softer.png", "soft.jpg" };

        path = one(names[i]);
        kd_assert_ok(kdas_mask_find_rule(kd_data_ctx, &path, 1, &rule));
        ck_assert_int_eq(rule, KDAS_MASK_BRIGHT);
        expect_as_ever(names[i], KDAS_MASK_AUTO);
        expect_as_ever(names[i], KDAS_MASK_BRIGHT);
        expect_as_ever(names[i], KDAS_MASK_COLOUR);
    }
}
END_TEST

/* Noise of up to 6 as JPEG leaves it, in an empty mask and in one that is not. */
static void save_noise(const char *name, int disc)
{
    static uint8_t data[W * H];

    for (int i = 0; i < W * H; i++) {
        int n = kd_test_byte(i) % 7 * (kd_test_byte(i / 5) % 3 == 0);

        data[i] = (uint8_t)(part(i) && disc ? disc - n : n);
    }
    save(name, data, KDAS_PIXEL_GREY8);
}

START_TEST(noise_in_an_empty_mask_is_no_polyp)
{
    static const char *const names[] = { "noise.png", "noise.jpg" };

    save_noise("full.png", 255);
    for (int k = 0; k < 2; k++) {
        const char    *path[2] = { one(names[k]), one("full.png") };
        kdas_mask_rule rule;

        save_noise(names[k], 0);
        kd_assert_ok(kdas_mask_find_rule(kd_data_ctx, path, 2, &rule));
        ck_assert_int_eq(rule, KDAS_MASK_BRIGHT);
        for (int i = 0; i < W * H; i++)
            ck_assert_int_eq(pixels_of(names[k], rule)[i], 0);
        for (int i = 0; i < W * H; i++) /* alone, too */
            ck_assert_int_eq(pixels_of(names[k], KDAS_MASK_AUTO)[i], 0);
        for (int i = 0; i < W * H; i++) /* and among colours */
            ck_assert_int_eq(pixels_of(names[k], KDAS_MASK_COLOUR)[i], 0);
    }
    ck_assert_int_eq(wrong_pixels("full.png", KDAS_MASK_AUTO), 0);
}
END_TEST

START_TEST(colours_in_jpeg_are_read_but_for_a_few_edges)
{
    static const uint8_t red[3] = { 255, 0, 0 }, green[3] = { 0, 255, 0 }, dim[3] = { 48, 112, 32 },
                         maroon[3] = { 128, 0, 0 }, grey[3] = { 76, 76, 76 };

    save_colours("a.jpg", red, green);
    ck_assert_int_le(wrong_pixels("a.jpg", KDAS_MASK_AUTO), 24);
    save_colours("a.jpg", dim, dim);
    ck_assert_int_le(wrong_pixels("a.jpg", KDAS_MASK_AUTO), 24);
    save_colours("a.jpg", red, maroon);
    ck_assert_int_le(wrong_pixels("a.jpg", KDAS_MASK_AUTO), 40);
    save_colours("a.jpg", grey, grey);
    ck_assert_int_le(wrong_pixels("a.jpg", KDAS_MASK_AUTO), 24);
}
END_TEST

START_TEST(soft_edges_of_a_colour_are_cut_at_half)
{
    static uint8_t rgb[W * H * 3];
    kdas_image    *soft;

    save_soft("soft.png", 4, 120);
    kd_assert_ok(kdas_image_load(&soft, kd_data_ctx, one("soft.png"), KDAS_PIXEL_GREY8));
    for (int i = 0; i < W * H; i++)
        rgb[3 * i + 1] = kdas_image_pixels(soft)[i];
    save("a.png", rgb, KDAS_PIXEL_RGB8);
    for (int i = 0; i < W * H; i++)
        ck_assert_int_eq(pixels_of("a.png", KDAS_MASK_AUTO)[i],
                         kdas_image_pixels(soft)[i] > 60 ? 255 : 0);
    kdas_image_destroy(soft);
}
END_TEST

START_TEST(soft_edges_of_dim_grey_are_cut_at_half)
{
    kdas_image *soft;

    save_soft("a.png", 4, 100);
    kd_assert_ok(kdas_image_load(&soft, kd_data_ctx, one("a.png"), KDAS_PIXEL_GREY8));
    for (int i = 0; i < W * H; i++)
        ck_assert_int_eq(pixels_of("a.png", KDAS_MASK_AUTO)[i],
                         kdas_image_pixels(soft)[i] > 50 ? 255 : 0);
    kdas_image_destroy(soft);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("mask_noise");
    TCase   *tc     = tcase_create("mask_noise");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_test(tc, white_masks_with_noise_or_soft_edges_have_the_bits_of_ever);
    tcase_add_test(tc, noise_in_an_empty_mask_is_no_polyp);
    tcase_add_test(tc, colours_in_jpeg_are_read_but_for_a_few_edges);
    tcase_add_test(tc, soft_edges_of_a_colour_are_cut_at_half);
    tcase_add_test(tc, soft_edges_of_dim_grey_are_cut_at_half);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

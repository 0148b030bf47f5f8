/* check_augment.c - views of a frame: what is off leaves the bits as they were, image and mask keep one
 * geometry, colours follow their formulas, and nothing depends on workers or on where a run began. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "data/augment.h"
#include "base/plain_math.h"
#include "support/check_util.h"
#include "support/data_util.h"

enum { W = 48, H = 40, N = W * H };

static const kd_augment_rules off = {
    .scale_min = 1, .scale_max = 1, .crop = 1, .crop_aspect = 4.0 / 3
};
static const kd_augment_rules all = { .rotation    = 90,
                                      .scale_min   = 0.7,
                                      .scale_max   = 1.5,
                                      .crop        = 0.3,
                                      .crop_aspect = 4.0 / 3,
                                      .brightness  = 0.4,
                                      .contrast    = 0.4,
                                      .saturation  = 0.4,
                                      .hue         = 0.1,
                                      .blur        = 0.5,
                                      .cutout      = 0.5 };

/* A view that is the frame itself. */
static kd_augment plain(void)
{
    return (kd_augment){ .cos         = 1,
                         .zoom        = 1,
                         .crop_width  = 1,
                         .crop_height = 1,
                         .brightness  = 1,
                         .contrast    = 1,
                         .saturation  = 1 };
}

/* Noise, and a mask of noise that is also the frame's red where `red` is set. */
static void fill(uint8_t *rgb, uint8_t *mask, bool red)
{
    for (int i = 0; i < 3 * N; i++)
        rgb[i] = kd_test_byte(i);
    for (int i = 0; i < N; i++) {
        mask[i] = kd_test_byte(i) >= 128 ? 255 : 0;
        if (red) rgb[3 * i] = mask[i];
    }
}

/* ---- Draws ---- */

/* The number is what the library gave before it knew more than flips and rotation. */
START_TEST(flips_and_rotation_give_the_bits_of_before)
{
    uint8_t  rgb[3 * N], mask[N], to[3 * N], to_mask[N];
    uint64_t h = 0;

    fill(rgb, mask, false);
    for (uint64_t v = 0; v < 20; v++) {
        kd_augment_rules rules = off;
        kd_augment       a;

        rules.rotation = v % 2 ? 90 : 0;
        a              = kd_augment_draw(3, v / 5, v, &rules);
        ck_assert(!kd_colour_acts(&a));
        kd_augment_apply(&a, v % 3 ? 1.0 : 1.25, W, H, to, to_mask, rgb, mask);
        h = kd_mix64(h ^ kd_hash_bytes(to, sizeof to));
        h = kd_mix64(h ^ kd_hash_bytes(to_mask, sizeof to_mask));
    }
    ck_assert_uint_eq(h, UINT64_C(0xA2B353BD05DBC026));
}
END_TEST

START_TEST(one_option_leaves_the_draws_of_the_others)
{
    kd_augment_rules some = all;

    some.crop = some.scale_min = some.scale_max = 1;
    some.blur                                   = 0;
    for (uint64_t v = 0; v < 50; v++) {
        kd_augment a = kd_augment_draw(1, 2, v, &all), b = kd_augment_draw(1, 2, v, &some);

        ck_assert(a.sin == b.sin && a.flip_x == b.flip_x && a.flip_y == b.flip_y);
        ck_assert(b.crop_width == 1 && b.crop_height == 1 && b.zoom == 1 && b.blur == 0);
        ck_assert(a.brightness == b.brightness && a.contrast == b.contrast);
        ck_assert(a.saturation == b.saturation && a.hue == b.hue);
        ck_assert(a.cutout_x == b.cutout_x && a.cutout_width == b.cutout_width);
    }
}
END_TEST

/* With n draws a share is seen within 5 deviations, 5 sqrt(p (1 - p) / n). */
START_TEST(draws_keep_their_ranges_and_chances)
{
    enum { DRAWS = 4000 };
    double blurred = 0, cut = 0, enlarged = 0, least = 1, most = 0;

    for (uint64_t v = 0; v < DRAWS; v++) {
        kd_augment a    = kd_augment_draw(9, v % 3, v, &all);
        double     area = a.crop_width * a.crop_height, shape = a.crop_width / a.crop_height;

        ck_assert(area > 0.3 - 1e-9 && area < 1 + 1e-9);
        ck_assert(shape > 0.75 - 1e-9 && shape < 4.0 / 3 + 1e-9);
        ck_assert(a.crop_x >= 0 && a.crop_x + a.crop_width < 1 + 1e-12);
        ck_assert(a.crop_y >= 0 && a.crop_y + a.crop_height < 1 + 1e-12);
        ck_assert(a.zoom >= 0.7 && a.zoom <= 1.5 + 1e-9);
        ck_assert(fabs(a.brightness - 1) <= 0.4 && fabs(a.hue) <= 0.1);
        ck_assert(a.blur == 0 || (a.blur >= 0.1 && a.blur <= 2));
        least = fmin(least, area);
        most  = fmax(most, area);
        blurred += a.blur > 0;
        enlarged += a.zoom > sqrt(0.7 * 1.5);
        if (a.cutout_width == 0) continue;
        cut++;
        ck_assert(a.cutout_width * a.cutout_height > 0.02 - 1e-9);
        ck_assert(a.cutout_width * a.cutout_height < 0.2 + 1e-9);
        ck_assert(a.cutout_x >= 0 && a.cutout_x + a.cutout_width <= 1);
    }
    ck_assert_double_eq_tol(blurred / DRAWS, 0.5, 0.04);
    ck_assert_double_eq_tol(cut / DRAWS, 0.5, 0.04);
    ck_assert_double_eq_tol(enlarged / DRAWS, 0.5, 0.04); /* even in the logarithm */
    ck_assert(least < 0.31 && most > 0.99);
}
END_TEST

START_TEST(plain_functions_agree_with_the_machines)
{
    for (double x = -50; x <= 50; x += 0.37)
        ck_assert_double_eq_tol(kd_plain_exp(x) / exp(x), 1, 1e-12);
    for (double x = 1e-6; x <= 1e6; x *= 1.03)
        ck_assert_double_eq_tol(kd_plain_log(x), log(x), 1e-12);
}
END_TEST

/* ---- Geometry ---- */

/* Red is the mask. Where all neighbours agree, bilinear and nearest do, too: not one pixel differs. */
START_TEST(image_and_mask_keep_one_geometry)
{
    uint8_t rgb[3 * N], mask[N], to[3 * N], to_mask[N];
    int     sure = 0;

    fill(rgb, mask, true);
    for (uint64_t v = 0; v < 200; v++) {
        kd_augment a = kd_augment_draw(4, 0, v, &all);

        kd_augment_apply(&a, v % 2 ? 1.0 : 1.3, W, H, to, to_mask, rgb, mask);
        for (int i = 0; i < N; i++) {
            if (to[3 * i] > 0 && to[3 * i] < 255) continue;
            ck_assert_int_eq(to[3 * i], to_mask[i]);
            sure++;
        }
    }
    ck_assert_int_gt(sure, 200 * N / 20);
}
END_TEST

/* A ramp tells where a pixel came from: to half a unit of it, which is half a pixel of five. */
START_TEST(a_crop_is_its_window_enlarged)
{
    kd_augment a = plain();
    uint8_t    rgb[3 * N], mask[N] = { 0 }, to[3 * N], to_mask[N];

    for (int i = 0; i < N; i++) {
        rgb[3 * i]     = (uint8_t)(5 * (i % W));
        rgb[3 * i + 1] = (uint8_t)(5 * (i / W));
        rgb[3 * i + 2] = 0;
    }
    a.crop_x      = 0.25;
    a.crop_y      = 0.1;
    a.crop_width  = 0.5;
    a.crop_height = 0.75;
    kd_augment_apply(&a, 1, W, H, to, to_mask, rgb, mask);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            double u = 0.25 * W + (x + 0.5) * 0.5 - 0.5, v = 0.1 * H + (y + 0.5) * 0.75 - 0.5;

            ck_assert_double_eq_tol(to[3 * (W * y + x)], 5 * u, 0.6);
            ck_assert_double_eq_tol(to[3 * (W * y + x) + 1], 5 * v, 0.6);
        }
}
END_TEST

START_TEST(a_zoom_keeps_the_middle_and_multiplies_lengths)
{
    kd_augment a = plain();
    uint8_t    rgb[3 * N], mask[N], to[3 * N], to_mask[N];
    int        area[3];

    memset(rgb, 0, sizeof rgb);
    for (int i = 0; i < N; i++) /* 16 x 12 in the middle */
        mask[i] = abs(2 * (i % W) - W + 1) < 16 && abs(2 * (i / W) - H + 1) < 12 ? 255 : 0;
    for (int k = 0; k < 3; k++) {
        a.zoom  = (double[]){ 0.5, 1, 2 }[k];
        area[k] = 0;
        kd_augment_apply(&a, 1, W, H, to, to_mask, rgb, mask);
        for (int i = 0; i < N; i++) {
            area[k] += to_mask[i] == 255;
            ck_assert_int_eq(to_mask[i], to_mask[N - 1 - i]);
        }
    }
    ck_assert_int_eq(area[0], 8 * 6);
    ck_assert_int_eq(area[1], 16 * 12);
    ck_assert_int_eq(area[2], 32 * 24);
}
END_TEST

/* ---- Colours ---- */

/* One after the other, as their names say; hue by Rodrigues' formula around the axis of greys. */
static void statement(double out[3], const kd_augment *a, const uint8_t *rgb, const double mean[3])
{
    static const double y[3] = { 0.299, 0.587, 0.114 };
    double              v[3], grey = 0, middle = 0, co = cos(2 * M_PI * a->hue);
    double              si = sin(2 * M_PI * a->hue), sum;

    for (int c = 0; c < 3; c++)
        middle += y[c] * mean[c] * a->brightness;
    for (int c = 0; c < 3; c++) {
        v[c] = (rgb[c] * a->brightness - middle) * a->contrast + middle;
        grey += y[c] * v[c];
    }
    for (int c = 0; c < 3; c++)
        v[c] = grey + a->saturation * (v[c] - grey);
    sum = v[0] + v[1] + v[2];
    for (int c = 0; c < 3; c++) {
        double cross = (v[(c + 2) % 3] - v[(c + 1) % 3]) / sqrt(3);

        out[c] = fmin(fmax(v[c] * co + cross * si + sum / 3 * (1 - co), 0), 255);
    }
}

static void mean_of(double mean[3], const uint8_t *rgb)
{
    mean[0] = mean[1] = mean[2] = 0;
    for (int i = 0; i < 3 * N; i++)
        mean[i % 3] += (double)rgb[i] / N;
}

START_TEST(colours_follow_their_formulas)
{
    uint8_t  rgb[3 * N], mask[N], to[3 * N];
    uint16_t scratch[3 * N];
    double   mean[3], want[3];

    fill(rgb, mask, false);
    mean_of(mean, rgb);
    for (uint64_t v = 0; v < 60; v++) {
        kd_augment_rules rules = all;
        kd_augment       a;

        rules.blur = rules.cutout = 0;
        if (v % 4 == 1) rules.brightness = rules.contrast = 0;
        if (v % 4 == 2) rules.saturation = rules.hue = 0;
        a = kd_augment_draw(2, 0, v, &rules);
        memcpy(to, rgb, sizeof to);
        kd_colour_apply(&a, W, H, to, rgb, scratch);
        for (int i = 0; i < N; i++) {
            statement(want, &a, rgb + 3 * i, mean);
            for (int c = 0; c < 3; c++) /* rounded once, factors to 2^-17 */
                ck_assert_double_eq_tol(to[3 * i + c], want[c], 0.5 + 4 * 255 * 0x1p-17);
        }
    }
}
END_TEST

START_TEST(a_third_of_a_turn_takes_red_to_green_to_blue)
{
    kd_augment a = plain();
    uint8_t    rgb[3 * N], mask[N], to[3 * N];

    fill(rgb, mask, false);
    a.hue = 1.0 / 3;
    memcpy(to, rgb, sizeof to);
    kd_colour_apply(&a, W, H, to, rgb, NULL);
    for (int i = 0; i < 3 * N; i++)
        ck_assert_int_eq(to[i - i % 3 + (i + 1) % 3], rgb[i]);
}
END_TEST

/* A point spreads as the Gaussian does, to the rounding of two passes; a plain frame stays plain. */
START_TEST(blur_is_a_gaussian_of_the_sides_share)
{
    static uint8_t  rgb[3 * 176 * 176], same[3 * 176 * 176];
    static uint16_t scratch[3 * 176 * 176];
    kd_augment      a     = plain();
    double          sigma = 1; /* pixels: 2 at twice the side */
    double          sum   = 0;

    a.blur = 2;
    memset(same, 77, sizeof same);
    kd_colour_apply(&a, 176, 176, same, same, scratch);
    for (size_t i = 0; i < sizeof same; i++)
        ck_assert_int_eq(same[i], 77);
    rgb[3 * (176 * 90 + 80) + 1] = 255;
    kd_colour_apply(&a, 176, 176, rgb, rgb, scratch);
    for (int k = -4; k <= 4; k++)
        sum += exp(-k * k / (2 * sigma * sigma));
    for (int y = 85; y <= 95; y++)
        for (int x = 75; x <= 85; x++) {
            double r2   = (x - 80) * (x - 80) + (y - 90) * (y - 90);
            double want = 255 * exp(-r2 / (2 * sigma * sigma)) / (sum * sum);

            ck_assert_double_eq_tol(rgb[3 * (176 * y + x) + 1], want, 0.6);
            ck_assert_int_eq(rgb[3 * (176 * y + x)], 0);
        }
}
END_TEST

START_TEST(a_cutout_shows_the_mean_and_nothing_else_changes)
{
    uint8_t rgb[3 * N], mask[N], to[3 * N];
    double  mean[3];

    fill(rgb, mask, false);
    mean_of(mean, rgb);
    for (uint64_t v = 0; v < 40; v++) {
        kd_augment_rules rules = off;
        kd_augment       a;
        int              covered = 0;

        rules.cutout = 1;
        a            = kd_augment_draw(2, 0, v, &rules);
        memcpy(to, rgb, sizeof to);
        kd_colour_apply(&a, W, H, to, rgb, NULL);
        for (int i = 0; i < N; i++) {
            bool same = memcmp(to + 3 * i, rgb + 3 * i, 3) == 0;

            covered += !same;
            for (int c = 0; c < 3 && !same; c++)
                ck_assert_double_eq_tol(to[3 * i + c], mean[c], 0.51);
        }
        ck_assert_double_gt(covered, 0.02 * N - (W + H)); /* its sides are rounded */
        ck_assert_double_lt(covered, 0.2 * N + (W + H));
    }
}
END_TEST

/* Integers and + - * / sqrt alone: the number holds on every machine. */
START_TEST(a_strong_view_is_the_same_bits_everywhere)
{
    uint8_t  rgb[3 * N], mask[N], to[3 * N], to_mask[N];
    uint16_t scratch[3 * N];
    uint64_t h = 0;

    fill(rgb, mask, false);
    for (uint64_t v = 0; v < 40; v++) {
        kd_augment a = kd_augment_draw(5, 1, v, &all);

        kd_augment_apply(&a, 1.25, W, H, to, to_mask, rgb, mask);
        kd_colour_apply(&a, W, H, to, rgb, scratch);
        h = kd_mix64(h ^ kd_hash_bytes(to, sizeof to));
        h = kd_mix64(h ^ kd_hash_bytes(to_mask, sizeof to_mask));
    }
    ck_assert_uint_eq(h, UINT64_C(0x827B83BE15615F71));
}
END_TEST

/* ---- The loader ---- */

static kdas_loader_options strong(void)
{
    kdas_loader_options o = kd_test_loader_options(2, 32, 64);

    o.scale_min  = 0.75f;
    o.scale_max  = 1.25f;
    o.crop       = 0.5f;
    o.brightness = o.contrast = o.saturation = 0.4f;
    o.hue                                    = 0.05f;
    o.blur = o.cutout = 0.5f;
    return o;
}

static kdas_dataset *discs(void)
{
    for (int i = 0; i < 5; i++)
        kd_test_write_disc((char[]){ (char)('a' + i), 0 }, 64, 40, 20 + 3 * i, 18, 9);
    return kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
}

static uint64_t batch_hash(kdas_batch *b)
{
    size_t n = (size_t)(kdas_batch_count(b) * 32 * 64) * sizeof(float);

    return kd_hash_bytes(kdas_batch_images(b), 3 * n) ^
           kd_mix64(kd_hash_bytes(kdas_batch_masks(b), n));
}

START_TEST(views_depend_on_seed_and_position_alone)
{
    enum { BATCHES = 6 }; /* two epochs */
    kdas_dataset       *dataset = discs();
    kdas_loader_options o       = strong();
    uint64_t            want[BATCHES];

    for (int workers = 0; workers < 4; workers++) {
        kdas_loader *loader;

        o.workers = workers;
        loader    = kd_test_loader(dataset, &o);
        for (int i = 0; i < BATCHES; i++) {
            uint64_t h = batch_hash(kd_test_next(loader));

            if (workers == 0) want[i] = h;
            ck_assert_uint_eq(h, want[i]);
            for (int k = 0; k < i; k++)
                ck_assert_uint_ne(want[k], want[i]);
        }
        for (int i = BATCHES - 1; i >= 0; i -= 2) {
            kd_assert_ok(kdas_loader_seek(loader, i));
            ck_assert_uint_eq(batch_hash(kd_test_next(loader)), want[i]);
        }
        kdas_loader_destroy(loader);
    }
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(augment_0_switches_all_of_it_off)
{
    kdas_dataset       *dataset = discs();
    kdas_loader_options o = strong(), none = kd_test_loader_options(2, 32, 64);
    kdas_loader        *a, *b;

    o.augment = none.augment = 0;
    a                        = kd_test_loader(dataset, &o);
    b                        = kd_test_loader(dataset, &none);
    for (int i = 0; i < 3; i++)
        ck_assert_uint_eq(batch_hash(kd_test_next(a)), batch_hash(kd_test_next(b)));
    kdas_loader_destroy(a);
    kdas_loader_destroy(b);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* A member by its offset, a number that it must refuse, and what the sentence names. */
static const struct {
    size_t      at;
    float       value;
    const char *named;
} refused[] = {
#define MEMBER(m) offsetof(kdas_loader_options, m)
    { MEMBER(scale_min), 0.05f, "scale_min" },
    { MEMBER(scale_min), 1.01f, "scale_max" },
    { MEMBER(scale_max), 11, "scale_max" },
    { MEMBER(scale_max), 0.9f, "scale_min" },
    { MEMBER(scale_max), NAN, "scale_max" },
    { MEMBER(crop), 0, "crop" },
    { MEMBER(crop), 1.1f, "crop" },
    { MEMBER(crop), NAN, "crop" },
    { MEMBER(crop_aspect), 0.9f, "crop_aspect" },
    { MEMBER(crop_aspect), 5, "crop_aspect" },
    { MEMBER(brightness), -0.1f, "brightness" },
    { MEMBER(contrast), 1.5f, "contrast" },
    { MEMBER(saturation), NAN, "saturation" },
    { MEMBER(hue), 0.6f, "hue" },
    { MEMBER(hue), -0.1f, "hue" },
    { MEMBER(blur), 1.1f, "blur" },
    { MEMBER(cutout), -1, "cutout" },
    { MEMBER(empty_share), -0.5f, "empty_share" },
    { MEMBER(empty_share), 1.01f, "empty_share" },
    { MEMBER(empty_share), NAN, "empty_share" },
};

START_TEST(options_out_of_range_are_refused_by_name)
{
    kdas_dataset       *dataset = discs();
    kdas_loader_options o       = kd_test_loader_options(2, 32, 64);
    kdas_loader        *loader  = (kdas_loader *)&o;

    memcpy((char *)&o + refused[_i].at, &refused[_i].value, sizeof(float));
    kd_assert_status(kdas_loader_create(&loader, dataset, &o), KDAS_EINVAL);
    ck_assert_ptr_null(loader);
    kd_assert_sentence(refused[_i].named);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(a_loader_without_memory_for_blur_is_refused)
{
    kdas_dataset       *dataset = discs();
    kdas_loader_options o       = strong();
    kdas_loader        *loader  = NULL;
    kdas_status         st      = KDAS_ENOMEM;

    o.workers     = 0;
    o.empty_share = 0.5f; /* all have a polyp: a warning */
    for (long k = 1; st != KDAS_OK; k++) {
        kd_data_memory.fail_at = kd_data_memory.taken + k;
        st                     = kdas_loader_create(&loader, dataset, &o);
        ck_assert(st == KDAS_OK || (st == KDAS_ENOMEM && !loader));
    }
    kd_data_memory.fail_at = 0;
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("augment");
    TCase   *pure   = tcase_create("views");
    TCase   *loader = tcase_create("loader");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_test(pure, flips_and_rotation_give_the_bits_of_before);
    tcase_add_test(pure, one_option_leaves_the_draws_of_the_others);
    tcase_add_test(pure, draws_keep_their_ranges_and_chances);
    tcase_add_test(pure, plain_functions_agree_with_the_machines);
    tcase_add_test(pure, image_and_mask_keep_one_geometry);
    tcase_add_test(pure, a_crop_is_its_window_enlarged);
    tcase_add_test(pure, a_zoom_keeps_the_middle_and_multiplies_lengths);
    tcase_add_test(pure, colours_follow_their_formulas);
    tcase_add_test(pure, a_third_of_a_turn_takes_red_to_green_to_blue);
    tcase_add_test(pure, blur_is_a_gaussian_of_the_sides_share);
    tcase_add_test(pure, a_cutout_shows_the_mean_and_nothing_else_changes);
    tcase_add_test(pure, a_strong_view_is_the_same_bits_everywhere);
    tcase_add_checked_fixture(loader, kd_test_data_start, kd_test_data_finish);
    tcase_add_test(loader, views_depend_on_seed_and_position_alone);
    tcase_add_test(loader, augment_0_switches_all_of_it_off);
    tcase_add_loop_test(loader, options_out_of_range_are_refused_by_name, 0, KD_COUNT(refused));
    tcase_add_test(loader, a_loader_without_memory_for_blur_is_refused);
    suite_add_tcase(suite, pure);
    suite_add_tcase(suite, loader);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

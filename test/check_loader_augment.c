/* check_loader_augment.c - augmentation as the loader does it: flips, rotation, and masks that
 * follow their images. Folders hold one frame whose red is its mask. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "data/augment.h"
#include "support/check_util.h"
#include "support/data_util.h"

START_TEST(image_and_mask_move_together)
{
    kdas_loader_options o    = kd_test_loader_options(1, 64, 64);
    int64_t             same = 0, all = 0, border = 0;
    kdas_dataset       *dataset;
    kdas_loader        *loader;

    kd_test_write_disc("a", 64, 64, 22, 40, 13);
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
    loader  = kd_test_loader(dataset, &o);
    for (int i = 0; i < 50; i++) {
        kdas_batch *b   = kd_test_next(loader);
        double      sum = 0;

        for (int64_t k = 0; k < 64 * 64; k++) {
            double red = kdas_batch_images(b)[3 * k] * 0.229 + 0.485, m = kdas_batch_masks(b)[k];

            same += (red > 0.5) == (m > 0.5);
            border += red > 0.02 && red < 0.98;
            sum += m;
            all++;
        }
        /* a disc that stays within the frame keeps its area, wherever it goes */
        ck_assert_double_eq_tol(sum, 3.14159 * 13 * 13, 14);
    }
    ck_assert_double_gt((double)same / (double)all, 0.995);
    ck_assert_double_lt((double)border / (double)all, 0.05);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(without_rotation_flips_are_exact_and_all_four_occur)
{
    kdas_loader_options o       = kd_test_loader_options(1, 32, 64);
    int                 seen[4] = { 0 };
    kdas_dataset       *dataset;
    kdas_loader        *loader;
    float               plain[32 * 64 * 3], truth[32 * 64];

    kd_test_write_disc("a", 64, 32, 18, 20, 9);
    dataset   = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
    o.augment = 0;
    loader    = kd_test_loader(dataset, &o);
    memcpy(plain, kdas_batch_images(kd_test_next(loader)), sizeof plain);
    kdas_loader_destroy(loader);
    loader = kd_test_loader(dataset, &o);
    memcpy(truth, kdas_batch_masks(kd_test_next(loader)), sizeof truth);
    kdas_loader_destroy(loader);

    o.augment  = 1;
    o.rotation = 0;
    loader     = kd_test_loader(dataset, &o);
    for (int i = 0; i < 60; i++) {
        kdas_batch *b     = kd_test_next(loader);
        int         found = -1;

        for (int flip = 0; flip < 4; flip++) {
            bool equal = true;

            for (int64_t k = 0; k < 32 * 64 && equal; k++) {
                int64_t x = flip & 1 ? 63 - k % 64 : k % 64, y = flip & 2 ? 31 - k / 64 : k / 64;

                equal = memcmp(kdas_batch_images(b) + 3 * k, plain + 3 * (64 * y + x), 12) == 0 &&
                        kdas_batch_masks(b)[k] == truth[64 * y + x];
            }
            if (equal) found = flip;
        }
        ck_assert_int_ge(found, 0);
        seen[found]++;
    }
    for (int flip = 0; flip < 4; flip++)
        ck_assert_int_gt(seen[flip], 4);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* A disc in the middle of a wide frame is an ellipse in a square batch. Turned in the frame's own
 * shape it stays that ellipse; turned in the batch's it would not. */
START_TEST(rotation_is_in_the_frames_own_shape)
{
    kdas_loader_options o = kd_test_loader_options(1, 64, 64);
    kdas_dataset       *dataset;
    kdas_loader        *loader;
    float               want[64 * 64];

    kd_test_write_disc("a", 160, 80, 80, 40, 30);
    dataset   = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
    o.augment = 0;
    loader    = kd_test_loader(dataset, &o);
    memcpy(want, kdas_batch_masks(kd_test_next(loader)), sizeof want);
    kdas_loader_destroy(loader);
    o.augment = 1;
    loader    = kd_test_loader(dataset, &o);
    for (int i = 0; i < 20; i++) {
        const float *got  = kdas_batch_masks(kd_test_next(loader));
        int          both = 0, either = 0;

        for (int k = 0; k < 64 * 64; k++) {
            both += got[k] > 0 && want[k] > 0;
            either += got[k] > 0 || want[k] > 0;
        }
        ck_assert_double_gt((double)both / either, 0.95);
    }
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(angles_fill_the_range_and_differ_by_epoch_and_frame)
{
    kd_augment_rules flips = {
        .rotation = 90, .scale_min = 1, .scale_max = 1, .crop = 1, .crop_aspect = 1
    };
    double low = 1, high = -1;

    for (uint64_t i = 0; i < 400; i++) {
        kd_augment a = kd_augment_draw(5, i % 20, i / 20, &flips);

        ck_assert_double_eq_tol(a.sin * a.sin + a.cos * a.cos, 1, 1e-12);
        ck_assert(a.cos >= -1e-12);
        low  = a.sin < low ? a.sin : low;
        high = a.sin > high ? a.sin : high;
    }
    ck_assert(low < -0.99 && high > 0.99);
    ck_assert(kd_augment_draw(5, 0, 1, &flips).sin != kd_augment_draw(5, 1, 0, &flips).sin);
    ck_assert(kd_augment_draw(5, 0, 1, &flips).sin != kd_augment_draw(6, 0, 1, &flips).sin);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("loader_augment");
    TCase   *tc     = tcase_create("loader_augment");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_test(tc, image_and_mask_move_together);
    tcase_add_test(tc, without_rotation_flips_are_exact_and_all_four_occur);
    tcase_add_test(tc, rotation_is_in_the_frames_own_shape);
    tcase_add_test(tc, angles_fill_the_range_and_differ_by_epoch_and_frame);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

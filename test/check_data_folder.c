/* check_data_folder.c - folders of frames, good and bad: what is matched with what, which files are
 * refused, and what becomes of masks. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"

/* ---- Files and their names ---- */

static void write_text(const char *name, const char *text)
{
    kd_test_write(kd_test_path(name), text, strlen(text));
}

START_TEST(frames_are_matched_by_base_name_in_byte_order)
{
    static const char *const want[] = { "B", "a", "a-1", "a.b", "c" };
    kdas_dataset            *dataset;
    kdas_image              *image, *mask;

    kd_test_write_pair("a-1", 8, 8);
    kd_test_write_pair("a", 8, 9);
    kd_test_write_pair("a.b", 8, 8);
    kd_test_write_picture("images/c.JPG", 16, 8, KDAS_PIXEL_RGB8, 1);
    kd_test_write_picture("masks/c.PNG", 16, 8, KDAS_PIXEL_GREY8, 1);
    kd_test_write_picture("images/B.png", 8, 8, KDAS_PIXEL_GREY8, 1); /* a grey frame becomes RGB */
    kd_test_write_picture("masks/B.jpeg", 8, 8, KDAS_PIXEL_RGB8, 1);
    write_text("images/.hidden.png", "not looked at");
    write_text("images/Thumbs.db", "not a picture");
    kd_test_shell("mkdir '%s/images/folder.png'%s", kd_test_path(NULL), "");
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
    ck_assert_int_eq(kdas_dataset_count(dataset), 5);
    ck_assert_int_eq(kdas_dataset_skipped(dataset), 0);
    for (int i = 0; i < 5; i++) {
        kdas_view v, m;

        ck_assert_str_eq(kdas_dataset_name(dataset, i), want[i]);
        kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, i));
        v = kdas_image_view(image);
        m = kdas_image_view(mask);
        ck_assert(v.pixel == KDAS_PIXEL_RGB8 && m.pixel == KDAS_PIXEL_GREY8);
        ck_assert(v.width == (i == 4 ? 16 : 8) && v.height == (i == 1 ? 9 : 8));
        ck_assert(m.width == v.width && m.height == v.height);
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    ck_assert_str_eq(kdas_dataset_image_path(dataset, 4), kd_test_path("images/c.JPG"));
    ck_assert_str_eq(kdas_dataset_mask_path(dataset, 4), kd_test_path("masks/c.PNG"));
    ck_assert_ptr_null(kdas_dataset_image_path(dataset, 5));
    ck_assert_ptr_null(kdas_dataset_mask_path(dataset, -1));
    ck_assert_ptr_null(kdas_dataset_name(dataset, -1));
    ck_assert_ptr_null(kdas_dataset_name(dataset, 5));
    kd_assert_status(kdas_dataset_get(&image, &mask, dataset, 5), KDAS_EINVAL);
    kd_assert_sentence("frame 5 of 5");
    kd_assert_status(kdas_dataset_get(NULL, &mask, dataset, 0), KDAS_EINVAL);
    kdas_dataset_destroy(dataset);
    kdas_dataset_destroy(NULL);
}
END_TEST

START_TEST(singular_folder_names_are_found_too)
{
    kdas_dataset *dataset;

    kd_test_write_pair("x", 8, 8);
    kd_test_shell("cd '%s' && mv images image && mv masks mask%s", kd_test_path(NULL), "");
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 0);
    ck_assert_int_eq(kdas_dataset_count(dataset), 1);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* Ways in which the frame "bad" beside the frame "good" is not usable. */
static void no_mask(void) { kd_test_write_picture("images/bad.png", 8, 8, KDAS_PIXEL_RGB8, 1); }
static void no_image(void) { kd_test_write_picture("masks/bad.png", 8, 8, KDAS_PIXEL_GREY8, 1); }
static void other_size(void)
{
    no_mask();
    kd_test_write_picture("masks/bad.png", 8, 7, KDAS_PIXEL_GREY8, 1);
}
static void two_images(void)
{
    kd_test_write_pair("bad", 8, 8);
    kd_test_write_picture("images/bad.jpg", 8, 8, KDAS_PIXEL_RGB8, 1);
}
static void two_masks(void)
{
    kd_test_write_pair("bad", 8, 8);
    kd_test_write_picture("masks/bad.jpg", 8, 8, KDAS_PIXEL_GREY8, 1);
}
static void text_file(void)
{
    kd_test_write_pair("bad", 8, 8);
    write_text("images/bad.png", "I am no picture");
}
static void empty_mask(void)
{
    kd_test_write_pair("bad", 8, 8);
    write_text("masks/bad.png", "");
}
static void webp_image(void)
{
    write_text("images/bad.webp", "RIFF");
    no_image();
}
static void dangling_link(void)
{
    no_image();
    kd_test_shell("ln -s nowhere '%s/images/bad.png'%s", kd_test_path(NULL), "");
}

static const struct {
    void (*spoil)(void);
    kdas_status status;
    const char *part;
} bad_files[] = {
    { no_mask, KDAS_ESHAPE, "images/bad.png" },
    { no_image, KDAS_ESHAPE, "masks/bad.png" },
    { other_size, KDAS_ESHAPE, "8x7" },
    { two_images, KDAS_EFORMAT, "images/bad.jpg" },
    { two_masks, KDAS_EFORMAT, "masks/bad.jpg" },
    { text_file, KDAS_EFORMAT, "images/bad.png" },
    { empty_mask, KDAS_EFORMAT, "masks/bad.png" },
    { webp_image, KDAS_EFORMAT, "images/bad.webp" },
    { dangling_link, KDAS_ENOTFOUND, "images/bad.png" },
};

START_TEST(a_bad_file_is_refused_or_skipped_by_name)
{
    kdas_dataset *dataset = NULL;

    kd_test_write_pair("good", 8, 8);
    bad_files[_i].spoil();
    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), NULL),
                     bad_files[_i].status);
    kd_assert_sentence(bad_files[_i].part);
    ck_assert_ptr_null(dataset);
    ck_assert_str_eq(kd_data_log, "");

    dataset = kd_test_open_folder(KDAS_BAD_FILE_SKIP, 0);
    ck_assert_int_eq(kdas_dataset_count(dataset), 1);
    ck_assert_int_eq(kdas_dataset_skipped(dataset), 1);
    ck_assert_str_eq(kdas_dataset_name(dataset, 0), "good");
    ck_assert_ptr_nonnull(strstr(kd_data_log, bad_files[_i].part));
    kdas_dataset_destroy(dataset);

    kd_test_shell("rm '%s/images/good.png' '%s/masks/good.png'", kd_test_path(NULL),
                  kd_test_path(NULL));
    {
        kdas_dataset_options o;

        kdas_dataset_options_init(&o, sizeof o);
        o.bad_file = KDAS_BAD_FILE_SKIP;
        kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o),
                         KDAS_EFORMAT);
        kd_assert_sentence("none of the 1 frames");
        kd_assert_sentence(bad_files[_i].part);
    }
}
END_TEST

START_TEST(missing_or_empty_folders_are_named)
{
    kdas_dataset        *dataset = NULL;
    kdas_dataset_options o;

    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, "/nowhere/at/all", NULL),
                     KDAS_ENOTFOUND);
    kd_assert_sentence("/nowhere/at/all");
    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), NULL),
                     KDAS_ENOTFOUND);
    kd_assert_sentence("images");
    kd_test_shell("rmdir '%s/masks'%s", kd_test_path(NULL), "");
    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), NULL),
                     KDAS_ENOTFOUND);
    kd_assert_sentence("masks");
    kd_test_shell("rmdir '%s/images'%s", kd_test_path(NULL), "");
    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), NULL),
                     KDAS_ENOTFOUND);
    kd_assert_sentence("'images' or 'image'");
    ck_assert_ptr_null(dataset);

    kd_assert_status(kdas_dataset_open(NULL, kd_data_ctx, kd_test_path(NULL), NULL), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_open(&dataset, NULL, kd_test_path(NULL), NULL), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, NULL, NULL), KDAS_EINVAL);
    kdas_dataset_options_init(&o, sizeof o);
    o.bad_file = 2;
    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o), KDAS_EINVAL);
    kd_assert_sentence("bad_file is 2");
}
END_TEST

/* ---- Masks ---- */

START_TEST(masks_become_binary_whatever_their_channels)
{
    static const uint8_t grey[4] = { 0, 127, 128, 255 };
    static const uint8_t rgb[12] = { 0, 0, 0, 255, 0, 0, 0, 255, 0, 200, 200, 200 };
    static const uint8_t want[4] = { 0, 0, 255, 255 }; /* red has a luma of 76, green of 150 */
    kdas_dataset_options o;
    kdas_view     g = { grey, 4, 1, 0, KDAS_PIXEL_GREY8 }, c = { rgb, 4, 1, 0, KDAS_PIXEL_RGB8 };
    kdas_dataset *dataset;

    for (int i = 0; i < 2; i++) {
        kd_assert_ok(
            kdas_image_save(kd_data_ctx, kd_test_path(i ? "images/b.png" : "images/a.png"), &c));
        kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path(i ? "masks/b.png" : "masks/a.png"),
                                     i ? &c : &g));
    }
    kdas_dataset_options_init(&o, sizeof o);
    o.mask_rule = KDAS_MASK_BRIGHT;
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o));
    for (int i = 0; i < 2; i++) {
        kdas_image *image, *mask;

        kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, i));
        ck_assert(memcmp(kdas_image_pixels(image), rgb, sizeof rgb) == 0);
        ck_assert(memcmp(kdas_image_pixels(mask), want, 4) == 0);
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(an_all_black_mask_is_a_frame_without_a_polyp)
{
    uint8_t              black[8 * 8] = { 0 };
    kdas_view            view         = { black, 8, 8, 0, KDAS_PIXEL_GREY8 };
    kdas_dataset_options o;
    kdas_dataset        *dataset;
    kdas_image          *image, *mask;

    kd_test_write_pair("x", 8, 8);
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path("masks/x.png"), &view));
    kdas_dataset_options_init(&o, sizeof o);
    o.allow_empty = 1;
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o));
    kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, 0));
    ck_assert(memcmp(kdas_image_pixels(mask), black, sizeof black) == 0);
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(quirky_masks_become_binary)
{
    static const char *const names[] = { "clinicdb_mask_rgb_nonbinary_1.png",
                                         "kvasir_mask_cju0u82z3cuma0835wlxrnrjv.jpg",
                                         "kvasir_mask_cju15wdt3zla10801odjiw7sy.jpg",
                                         "kvasir_mask_cju16ach3m1da0993r1dq3sn2.jpg" };
    const char              *dir     = kd_test_shared("data/quirks");
    char                     from[512];
    kdas_dataset            *dataset = NULL;

    if (!dir) return;
    for (size_t i = 0; i < KD_COUNT(names); i++) { /* the mask serves as its own image */
        snprintf(from, sizeof from, "%s/%s", dir, names[i]);
        kd_test_shell("cp '%s' '%s/images/'", from, kd_test_path(NULL));
        kd_test_shell("cp '%s' '%s/masks/'", from, kd_test_path(NULL));
    }
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 0);
    ck_assert_int_eq(kdas_dataset_count(dataset), 4);
    for (int64_t i = 0; i < 4; i++) {
        kdas_image *image, *mask;
        kdas_view   v;
        int64_t     polyp = 0, other = 0;

        kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, i));
        v = kdas_image_view(mask);
        for (int64_t k = 0; k < v.width * v.height; k++) {
            polyp += ((const uint8_t *)v.data)[k] == 255;
            other += ((const uint8_t *)v.data)[k] == 0;
        }
        ck_assert_int_eq(polyp + other, v.width * v.height);
        ck_assert(polyp > 100 && other > 100);
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    kdas_dataset_destroy(dataset);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("data_folder");
    TCase   *tc     = tcase_create("data_folder");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_test(tc, frames_are_matched_by_base_name_in_byte_order);
    tcase_add_test(tc, singular_folder_names_are_found_too);
    tcase_add_loop_test(tc, a_bad_file_is_refused_or_skipped_by_name, 0, KD_COUNT(bad_files));
    tcase_add_test(tc, missing_or_empty_folders_are_named);
    tcase_add_test(tc, masks_become_binary_whatever_their_channels);
    tcase_add_test(tc, an_all_black_mask_is_a_frame_without_a_polyp);
    tcase_add_test(tc, quirky_masks_become_binary);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_doctor_files.c - what kdas-doctor finds in single files: masks that look wrong, frames that show
 * nothing or cannot be read. KDAS_BIN names the folder of the programs. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/doctor_util.h"

/* ---- Masks ----------------------------------------------------------------------------------- */

static void empty(uint8_t *m) { memset(m, 0, PIXELS); }
static void full(uint8_t *m) { memset(m, 255, PIXELS); }
static void inverted(uint8_t *m)
{
    for (int i = 0; i < PIXELS; i++)
        m[i] = 255 - m[i];
}
static void speckled(uint8_t *m)
{
    for (int i = 0; i < 12; i++)
        m[WIDTH * 5 + 7 + 20 * i] = 255 - m[WIDTH * 5 + 7 + 20 * i];
}
static void grey(uint8_t *m)
{
    for (int i = 0; i < PIXELS; i++)
        m[i] = m[i] ? 255 : i % WIDTH < 40 ? 100 : 0;
}
static void healthy(uint8_t *m) { (void)m; }

static const struct {
    const char *kind; /* NULL: nothing is found */
    const char *leave;
    void (*change)(uint8_t *);
} masks[] = {
    { "mask-empty", "", empty },
    { "mask-full", "sick\n", full },
    { "mask-inverted", "sick\n", inverted },
    { "mask-speckled", "", speckled },
    { "mask-grey", "", grey },
    { NULL, "", healthy },
};

START_TEST(masks_that_look_wrong_are_named)
{
    shot s = scene(9);

    masks[_i].change(kdas_image_pixels(s.mask));
    put_scenes("train", "t", 0, 4);
    put(s, "train", "sick", ".png");
    ck_assert_int_eq(doctor("--train train --csv found.csv --drop leave.txt"), masks[_i].kind != 0);
    read_rows();
    ck_assert_int_eq(rows, masks[_i].kind != 0);
    if (masks[_i].kind) {
        ck_assert_str_eq(cell[0][KIND], masks[_i].kind);
        ck_assert_str_eq(cell[0][NAME_A], "sick");
        ck_assert_str_eq(cell[0][SIMILARITY], "");
    }
    kd_test_assert_text(kd_test_path("leave.txt"), masks[_i].leave);
}
END_TEST

START_TEST(one_mask_for_many_frames_is_found)
{
    for (int i = 0; i < 4; i++) {
        shot s = scene(i), first = scene(0);
        char name[8] = { 'a' + (char)i };

        kdas_image_destroy(s.mask);
        s.mask = i < 3 ? same(first.mask) : mirror(first.mask);
        kdas_image_destroy(first.image);
        kdas_image_destroy(first.mask);
        put(s, "train", name, ".png");
    }
    ck_assert_int_eq(doctor("--train train --csv found.csv"), 1);
    read_rows();
    ck_assert_int_eq(rows, 3);
    ck_assert_int_eq(rows_of("mask-repeated", NULL, NULL), 3);
    ck_assert_int_eq(rows_of("mask-repeated", "d", NULL), 0);
}
END_TEST

/* ---- Files ----------------------------------------------------------------------------------- */

START_TEST(frames_that_show_nothing_or_cannot_be_read_are_named)
{
    shot s  = scene(5);
    int  at = 0;

    put_scenes("train", "t", 0, 3);
    memset(kdas_image_pixels(s.image), 2, 3 * PIXELS);
    put(s, "train", "black", ".png");
    s = scene(6);
    memset(kdas_image_pixels(s.image), 128, 3 * PIXELS);
    put(s, "train", "constant", ".png");
    s = scene(7);
    put((shot){ resized(s.image, 40, 32), resized(s.mask, 40, 32) }, "train", "small", ".png");
    kdas_image_destroy(s.image);
    kdas_image_destroy(s.mask);
    put(scene(8), "train", "damaged", ".jpg");
    kd_test_shell("truncate -s 4000 '%s'%s", kd_test_path("train/images/damaged.jpg"), "");
    put(scene(9), "train", "alone", ".png");
    kd_test_shell("rm '%s'%s", kd_test_path("train/masks/alone.png"), "");
    s = scene(10);
    put((shot){ s.image, half(s.mask) }, "train", "other", ".png");
    kdas_image_destroy(s.mask);

    ck_assert_int_eq(doctor("--train train --csv found.csv --drop leave.txt"), 1);
    read_rows();
    ck_assert_int_eq(rows_of("frame-black", "black", NULL), 1);
    ck_assert_int_eq(rows_of("frame-constant", "constant", NULL), 1);
    ck_assert_int_eq(rows_of("frame-small", "small", NULL), 1);
    ck_assert_int_eq(rows_of("unreadable", "damaged", &at), 1);
    ck_assert(strstr(cell[at][DETAIL], "damaged.jpg"));
    ck_assert_int_eq(rows_of("unreadable", "", NULL), 2); /* no mask; another size */
    ck_assert_int_eq(rows, 6);
    kd_test_assert_text(kd_test_path("leave.txt"), "black\nconstant\ndamaged\n");
    ck_assert(file_has("out.txt", "alone.png"));
    ck_assert(file_has("out.txt", "160x128"));
}
END_TEST

/* Black frames are no copies of each other. */
START_TEST(black_frames_are_not_compared)
{
    for (int i = 0; i < 3; i++) {
        shot s       = scene(i);
        char name[8] = { 'a' + (char)i };

        memset(kdas_image_pixels(s.image), 0, 3 * PIXELS);
        put(s, "train", name, ".png");
    }
    ck_assert_int_eq(doctor("--train train --csv found.csv"), 1);
    read_rows();
    ck_assert_int_eq(rows, 3);
    ck_assert_int_eq(rows_of("frame-black", NULL, NULL), 3);
}
END_TEST

int main(void)
{
    Suite      *suite  = suite_create("doctor_files");
    TCase      *tc     = tcase_create("doctor_files");
    SRunner    *runner = srunner_create(suite);
    const char *where  = getenv("KDAS_BIN");
    int         failed;

    bin = realpath(where ? where : "bin", NULL);
    if (!bin) {
        fprintf(stderr, "there is no folder '%s' with the programs\n", where ? where : "bin");
        return EXIT_FAILURE;
    }
    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_loop_test(tc, masks_that_look_wrong_are_named, 0, KD_COUNT(masks));
    tcase_add_test(tc, one_mask_for_many_frames_is_found);
    tcase_add_test(tc, frames_that_show_nothing_or_cannot_be_read_are_named);
    tcase_add_test(tc, black_frames_are_not_compared);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    free(bin);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_doctor.c - kdas-doctor over small folders of drawn scenes: what it finds, what it does not,
 * and what it writes. KDAS_BIN names the folder of the programs. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/doctor_util.h"

static const struct {
    const char *what, *ending, *kind, *detail;
    kdas_image *(*change)(const kdas_image *);
} copies[] = {
    { "the same pixels", ".png", "identical", "the same pixels, one in training", same },
    { "JPEG", ".jpg", "duplicate", "nearly the same picture, one in training", same },
    { "half the size, JPEG", ".jpg", "duplicate", "nearly the same picture, one in", half },
    { "another aspect ratio", ".png", "duplicate", "nearly the same picture, one in", square },
    { "mirrored, JPEG", ".jpg", "duplicate", "mirrored left to right, one in", mirror },
    { "turned", ".png", "duplicate", "turned by 90 degrees", quarter },
    { "cropped, JPEG", ".jpg", "duplicate", "nearly the same picture, one in", crop },
    { "darker", ".png", "duplicate", "nearly the same picture, one in", darker },
    { "with black borders", ".jpg", "duplicate", "nearly the same picture, one in", bordered },
};

/* ---- Pairs ----------------------------------------------------------------------------------- */

START_TEST(unrelated_frames_are_not_reported)
{
    put_scenes("train", "t", 0, 12);
    put_scenes("test", "e", 12, 12);
    ck_assert_int_eq(doctor("--train train --test test --csv found.csv --drop leave.txt"), 0);
    read_rows();
    ck_assert_int_eq(rows, 0);
    kd_test_assert_text(kd_test_path("leave.txt"), "");
    ck_assert(file_has("out.txt", "Nothing was found."));
    kd_test_assert_text(kd_test_path("err.txt"), "");
}
END_TEST

START_TEST(a_copy_in_the_test_frames_is_found_whatever_was_done_to_it)
{
    shot from = scene(3);
    shot copy = { copies[_i].change(from.image), copies[_i].change(from.mask) };
    int  at   = 0;

    kdas_image_destroy(from.image);
    kdas_image_destroy(from.mask);
    put_scenes("train", "t", 0, 6);
    put_scenes("test", "e", 20, 3);
    put(copy, "test", "copy", copies[_i].ending);
    ck_assert_int_eq(doctor("--train train --test test --csv found.csv --drop leave.txt"), 1);
    read_rows();
    ck_assert_msg(rows_of(copies[_i].kind, "td", &at) == 1, "%s: %d rows", copies[_i].what, rows);
    ck_assert_str_eq(cell[at][DIR_A], "train");
    ck_assert_str_eq(cell[at][DIR_B], "test");
    ck_assert_str_eq(cell[at][NAME_B], "copy");
    ck_assert_msg(strstr(cell[at][DETAIL], copies[_i].detail), "%s", cell[at][DETAIL]);
    ck_assert(strtod(cell[at][SIMILARITY], NULL) >= 0.85);
    ck_assert_int_eq(rows_of("mask-differs", NULL, NULL), 0);
    kd_test_assert_text(kd_test_path("leave.txt"), "td\n");
    ck_assert(file_has("out.txt", "a picture of the training frames: 1, of 1 of those."));
}
END_TEST

START_TEST(a_copy_with_another_mask_is_said)
{
    shot a = scene(3), b = scene(3);
    int  at = 0;

    kdas_image_destroy(b.mask);
    b.mask = mirror(a.mask);
    put(a, "train", "a", ".png");
    put(b, "train", "b", ".jpg");
    ck_assert_int_eq(doctor("--train train --csv found.csv"), 1);
    read_rows();
    ck_assert_int_eq(rows, 2);
    ck_assert_int_eq(rows_of("duplicate", "a", NULL), 1);
    ck_assert_int_eq(rows_of("mask-differs", "a", &at), 1);
    ck_assert_str_eq(cell[at][NAME_B], "b");
}
END_TEST

/* `share` of one scene over another: similar to the first, more or less. */
static shot mixed(int i, int over, double share)
{
    shot           s = scene(i), other = scene(over);
    kdas_view      view = kdas_image_view(other.image);
    const uint8_t *from = view.data;
    uint8_t       *to   = kdas_image_pixels(s.image);

    for (int64_t k = 0; k < 3 * PIXELS; k++)
        to[k] = (uint8_t)(share * to[k] + (1 - share) * from[k] + 0.5);
    kdas_image_destroy(other.image);
    kdas_image_destroy(other.mask);
    return s;
}

START_TEST(frames_of_one_video_are_found_by_likeness)
{
    int at = 0;

    put_scenes("train", "t", 0, 3);
    put(mixed(1, 40, 0.62), "train", "x", ".png");
    put(mixed(1, 41, 0.62), "test", "y", ".png");
    put_scenes("test", "e", 20, 2);
    ck_assert_int_eq(doctor("--train train --test test --csv found.csv --drop leave.txt"), 1);
    read_rows();
    ck_assert_int_eq(rows_of("sequence", NULL, NULL), 1);
    ck_assert_int_eq(rows_of("sequence", "y", &at), 1);
    ck_assert_str_eq(cell[at][NAME_B], "tb");
    ck_assert(strstr(cell[at][DETAIL], "2 in training and 1 in test"));
    kd_test_assert_text(kd_test_path("leave.txt"), "tb\nx\n");
    ck_assert_int_eq(doctor("--train train --test test --keep keep.txt"), 1);
    kd_test_assert_text(kd_test_path("keep.txt"), "ta\ntc\n");
    ck_assert_int_eq(doctor("--train train --test test --drop leave.txt --leave-out copies"), 1);
    kd_test_assert_text(kd_test_path("leave.txt"), "");
}
END_TEST

/* That is no fault of the split, but not nothing either. */
START_TEST(a_video_within_training_is_said_without_a_contradiction)
{
    put_scenes("train", "t", 0, 3);
    put(mixed(1, 40, 0.62), "train", "x", ".png");
    put_scenes("test", "e", 20, 2);
    ck_assert_int_eq(doctor("--train train --test test --report page"), 0);
    ck_assert(file_has("out.txt", "No fault was found; one thing is to be known."));
    ck_assert(file_has("out.txt", "Training frames with neighbours of one video: 2."));
    ck_assert(!file_has("out.txt", "Nothing was found"));
    ck_assert(file_has("page/doctor.html", "No fault was found"));
    ck_assert(file_has("page/doctor.html", "neighbours of one video: 2."));
}
END_TEST

/* Less alike than that: numbers that follow each other decide. */
START_TEST(frames_of_one_video_are_found_by_their_numbers)
{
    static const struct {
        const char *train, *test;
        int         found;
    } names[] = { { "clip_0009", "clip_10", 1 },   { "clip_9", "clip_11", 1 },
                  { "clip_9", "clip_12", 0 },      { "clip_9", "other_10", 0 },
                  { "clip_9_left", "clip_10", 0 }, { "clip_a", "clip_b", 0 } };
    int at    = 0;

    put(scene(1), "train", names[_i].train, ".png");
    put(mixed(1, 40, 0.4), "test", names[_i].test, ".png");
    ck_assert_int_eq(doctor("--train train --test test --csv found.csv"), names[_i].found);
    read_rows();
    ck_assert_int_eq(rows, names[_i].found);
    ck_assert_int_eq(rows_of("sequence", names[_i].test, &at), names[_i].found);
}
END_TEST

START_TEST(copies_within_training_are_left_out_on_request)
{
    put_scenes("train", "t", 0, 3);
    put(scene(1), "train", "again", ".jpg");
    put(scene(1), "more", "more", ".jpg");
    ck_assert_int_eq(doctor("--train train,more --csv found.csv --drop leave.txt"), 1);
    read_rows();
    ck_assert_int_eq(rows, 3);
    ck_assert_int_eq(rows_of("identical", "again", NULL), 1);
    ck_assert_int_eq(rows_of("duplicate", "again", NULL), 1);
    kd_test_assert_text(kd_test_path("leave.txt"), "");
    ck_assert_int_eq(doctor("--train train,more --drop leave.txt --leave-out repeats"), 1);
    kd_test_assert_text(kd_test_path("leave.txt"), "tb\nmore\n");
}
END_TEST

/* Of 70 frames that are one picture, each is paired with at most 32 later ones, and all are one
 * sequence with the test frame. */
START_TEST(a_long_still_video_is_one_sequence)
{
    int at = 0;

    for (int i = 0; i < 70; i++) {
        char name[20];
        shot s = scene(1);

        snprintf(name, sizeof name, "%d", i);
        put((shot){ half(s.image), half(s.mask) }, i ? "train" : "test", name, ".png");
        kdas_image_destroy(s.image);
        kdas_image_destroy(s.mask);
    }
    ck_assert_int_eq(doctor("--train train --test test --csv many.csv --drop leave.txt"), 1);
    kd_test_shell("sed -n '1p; /^sequence/p' '%s' >'%s'", kd_test_path("many.csv"),
                  kd_test_path("found.csv"));
    read_rows();
    ck_assert_int_eq(rows_of("sequence", "0", &at), 1);
    ck_assert(strstr(cell[at][DETAIL], "69 in training and 1 in test"));
    kd_test_shell("test \"$(wc -l <'%s')\" = 69%s", kd_test_path("leave.txt"), "");
    kd_test_shell("test \"$(grep -c '^identical' '%s')\" = 1749%s", kd_test_path("many.csv"), "");
}
END_TEST

START_TEST(names_are_quoted_in_tables_and_pages)
{
    put_scenes("sp\"lit, 1/TrainDataset", "t", 0, 2);
    put(scene(1), "sp\"lit, 1/TestDataset/<b>", "a \"b\", c", ".jpg");
    ck_assert_int_eq(doctor("--data 'sp\"lit, 1' --csv found.csv --report page"), 1);
    read_rows();
    ck_assert_int_eq(rows, 1);
    ck_assert_str_eq(cell[0][DIR_B], "sp\"lit, 1/TestDataset/<b>");
    ck_assert_str_eq(cell[0][NAME_B], "a \"b\", c");
    ck_assert(file_has("page/doctor.html", "&lt;b&gt;/a &quot;b&quot;, c"));
    ck_assert(!file_has("page/doctor.html", "<b>/"));
    ck_assert(file_has("page/doctor.html", "src=\"data:image/jpeg;base64,/9j/"));
    ck_assert(!file_has("page/doctor.html", "<script"));
    ck_assert_int_eq(kd_test_entries(kd_test_path("page")), 1);
}
END_TEST

START_TEST(frames_without_masks_are_compared_too)
{
    shot s = scene(1);

    put_scenes("test", "e", 0, 3);
    save(s.image, "plain", ".", "extra.jpg");
    kdas_image_destroy(s.image);
    kdas_image_destroy(s.mask);
    ck_assert_int_eq(doctor("--test test --unlabelled plain --csv found.csv --drop leave.txt"), 1);
    read_rows();
    ck_assert_int_eq(rows, 1);
    ck_assert_int_eq(rows_of("duplicate", "extra", NULL), 1);
    kd_test_assert_text(kd_test_path("leave.txt"), "extra\n");
}
END_TEST

/* ---- Command lines --------------------------------------------------------------------------- */

static const struct {
    const char *arguments, *sentence;
} wrong[] = {
    { "", "give --data DIR, or --train and --test" },
    { "train", "'train' stands without --data" },
    { "--data d --train train", "--data does not go with --train" },
    { "--train train --leave-out copies,all", "--leave-out wants some of" },
    { "--train train --duplicate 0.6 --sequence 0.7", "--sequence may not be above" },
    { "--train train --duplicate 2", "--duplicate wants a number from 0.5 to 1" },
    { "--train none", "there is no folder 'none'" },
    { "--data none", "there is no folder 'none'" },
    { "--train train --test train/images", "'train/images' has no folder 'images'" },
    { "--train train --csv none/found.csv", "cannot write 'none/found.csv'" },
    { "--train train --drop none/leave.txt", "cannot write 'none/leave.txt'" },
    { "--train train --report out.txt/page", "cannot make the folder" },
};

START_TEST(what_cannot_be_done_ends_with_2_and_a_sentence)
{
    put_scenes("train", "t", 0, 2);
    ck_assert_int_eq(doctor(wrong[_i].arguments), 2);
    ck_assert_msg(file_has("err.txt", wrong[_i].sentence), "%s", wrong[_i].sentence);
    ck_assert(file_has("err.txt", "kdas-doctor: "));
}
END_TEST

START_TEST(the_program_explains_itself)
{
    ck_assert_int_eq(doctor("--help"), 0);
    ck_assert(file_has("out.txt", "usage: kdas-doctor --data DIR"));
    ck_assert(
        file_has("out.txt", "Exit status: 0 nothing was found, 1 something was found, 2 wrong"));
    ck_assert_int_eq(doctor("--version"), 0);
    ck_assert(file_has("out.txt", "libkdas"));
}
END_TEST

int main(void)
{
    Suite      *suite  = suite_create("doctor");
    TCase      *tc     = tcase_create("doctor");
    SRunner    *runner = srunner_create(suite);
    const char *where  = getenv("KDAS_BIN");
    int         failed;

    bin = realpath(where ? where : "bin", NULL);
    if (!bin) {
        fprintf(stderr, "there is no folder '%s' with the programs\n", where ? where : "bin");
        return EXIT_FAILURE;
    }
    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_test(tc, unrelated_frames_are_not_reported);
    tcase_add_loop_test(tc, a_copy_in_the_test_frames_is_found_whatever_was_done_to_it, 0,
                        KD_COUNT(copies));
    tcase_add_test(tc, a_copy_with_another_mask_is_said);
    tcase_add_test(tc, frames_of_one_video_are_found_by_likeness);
    tcase_add_test(tc, a_video_within_training_is_said_without_a_contradiction);
    tcase_add_loop_test(tc, frames_of_one_video_are_found_by_their_numbers, 0, 6);
    tcase_add_test(tc, copies_within_training_are_left_out_on_request);
    tcase_add_test(tc, a_long_still_video_is_one_sequence);
    tcase_add_test(tc, names_are_quoted_in_tables_and_pages);
    tcase_add_test(tc, frames_without_masks_are_compared_too);
    tcase_add_loop_test(tc, what_cannot_be_done_ends_with_2_and_a_sentence, 0, KD_COUNT(wrong));
    tcase_add_test(tc, the_program_explains_itself);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    free(bin);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_data_layout.c - folders as they come to users: layouts, nested folders, lists of names, what
 * systems leave behind, Unicode, damaged files, sizes that differ. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "io/file.h"
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"

/* ---- Files ---- */

static void write_text(const char *name, const char *text)
{
    kd_test_write(kd_test_path(name), text, strlen(text));
}

static void make(const char *folder)
{
    kd_test_shell("mkdir -p '%s/%s'", kd_test_path(NULL), folder);
}

/* A picture and its mask, of two paths below the folder. */
static void write_two(const char *image, const char *mask)
{
    kd_test_write_picture(image, 8, 8, KDAS_PIXEL_RGB8, 1);
    kd_test_write_picture(mask, 8, 8, KDAS_PIXEL_GREY8, 2);
}

/* The pair DIR/images/NAME.png and DIR/masks/NAME.png in a folder that is made. */
static void write_set(const char *dir, const char *name)
{
    char text[200], more[200];

    snprintf(text, sizeof text, "%s/images", dir);
    make(text);
    snprintf(text, sizeof text, "%s/masks", dir);
    make(text);
    snprintf(text, sizeof text, "%s/images/%s.png", dir, name);
    snprintf(more, sizeof more, "%s/masks/%s.png", dir, name);
    write_two(text, more);
}

/* Cut a file to a part of its length. */
static void cut(const char *name, double part)
{
    size_t n;

    free(kd_test_read(kd_test_path(name), &n));
    ck_assert_int_eq(truncate(kd_test_path(name), (off_t)((double)n * part)), 0);
}

static kdas_dataset_options defaults(void)
{
    kdas_dataset_options o;

    kdas_dataset_options_init(&o, sizeof o);
    return o;
}

static kdas_dataset *open_with(kdas_dataset_options o)
{
    kdas_dataset *dataset;

    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o));
    return dataset;
}

static void refuse(kdas_dataset_options o, kdas_status status, const char *part)
{
    kdas_dataset *dataset = (kdas_dataset *)1;

    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o), status);
    kd_assert_sentence(part);
    ck_assert_ptr_null(dataset);
}

/* ---- Layouts ---- */

START_TEST(folders_of_sequences_are_read_with_their_paths)
{
    kdas_dataset *dataset;

    kd_test_shell("cd '%s' && rmdir images masks%s", kd_test_path(NULL), "");
    make("Frame/case1_2/deep");
    make("Frame/case1_1");
    make("GT/case1_2/deep");
    make("GT/case1_1");
    write_two("Frame/case1_1/a.png", "GT/case1_1/a.png");
    write_two("Frame/case1_2/a.png", "GT/case1_2/a.png");
    write_two("Frame/case1_2/deep/b.png", "GT/case1_2/deep/b.png");
    write_two("Frame/top.png", "GT/top.png");
    dataset = open_with(defaults());
    ck_assert_str_eq(kdas_dataset_image_path(dataset, 0), kd_test_path("Frame/case1_1/a.png"));
    ck_assert_ptr_null(kdas_dataset_image_path(dataset, 4));
    ck_assert_ptr_eq(kdas_dataset_context(dataset), kd_data_ctx);
    kd_test_names_are(dataset, "case1_1/a case1_2/a case1_2/deep/b top");

    unlink(kd_test_path("GT/case1_2/a.png"));
    refuse(defaults(), KDAS_ESHAPE, "Frame/case1_2/a.png' has no mask");
}
END_TEST

START_TEST(linked_folders_are_followed_and_a_circle_is_refused)
{
    make("elsewhere");
    write_two("elsewhere/a.png", "masks/a.png");
    kd_test_shell("cd '%s' && mkdir masks/case && mv masks/a.png masks/case/ && "
                  "ln -s ../elsewhere images/case%s",
                  kd_test_path(NULL), "");
    kd_test_names_are(open_with(defaults()), "case/a");
    kd_test_shell("ln -s . '%s/images/again'%s", kd_test_path(NULL), "");
    refuse(defaults(), KDAS_EIO, "without end");
}
END_TEST

START_TEST(a_wrong_layout_is_answered_with_what_was_found)
{
    kdas_dataset *dataset;

    kd_test_shell("cd '%s' && rmdir images masks%s", kd_test_path(NULL), "");
    write_set("Kvasir-SEG", "f0");
    write_text("readme.txt", "x");
    refuse(defaults(), KDAS_ENOTFOUND, "has no folder 'images'");
    kd_assert_sentence("it has 'Kvasir-SEG' and 1 file.");
    kd_assert_sentence("'Kvasir-SEG' is such a folder");
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path("Kvasir-SEG"), NULL));
    kd_test_names_are(dataset, "f0");
    kd_test_shell("rm -r '%s/Kvasir-SEG/masks'%s", kd_test_path(NULL), "");
    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path("Kvasir-SEG"), NULL),
                     KDAS_ENOTFOUND);
    kd_assert_sentence("has no folder 'masks'");
    kd_assert_sentence("it has 'images'");
}
END_TEST

START_TEST(nothing_is_passed_over_in_silence)
{
    kd_test_write_pair("a", 8, 8);
    write_text("images/notes.txt", "x");
    make("Frame");
    make("images/case");
    make("masks/case");
    write_two("images/case/b.png", "masks/case/b.png");
    kd_test_names_are(open_with(defaults()), "a case/b");
    ck_assert_ptr_nonnull(strstr(kd_data_log, "1 images of its own and 1 in folders below"));
    ck_assert_ptr_nonnull(strstr(kd_data_log, "'notes.txt'"));
    ck_assert_ptr_nonnull(strstr(kd_data_log, "'Frame' is passed over"));
}
END_TEST

/* ---- Collections ---- */

static kdas_layout *layout_of(const char *dir)
{
    kdas_layout *layout;

    kd_assert_ok(kdas_layout_find(&layout, kd_data_ctx, kd_test_path(dir)));
    return layout;
}

START_TEST(a_collection_has_a_training_set_and_test_sets)
{
    kdas_layout *layout;

    write_set("c/TrainDataset", "a");
    write_set("c/TestDataset/Kvasir", "a");
    write_set("c/TestDataset/CVC-300", "a");
    make("c/TestDataset/__MACOSX/Kvasir");
    make("c/TestDataset/@eaDir");
    make("c/TestDataset/.ipynb_checkpoints");
    layout = layout_of("c");
    ck_assert_str_eq(kdas_layout_train(layout), kd_test_path("c/TrainDataset"));
    ck_assert_int_eq(kdas_layout_tests(layout), 2);
    ck_assert_str_eq(kdas_layout_test_name(layout, 0), "CVC-300");
    ck_assert_str_eq(kdas_layout_test(layout, 1), kd_test_path("c/TestDataset/Kvasir"));
    ck_assert_ptr_null(kdas_layout_test(layout, 2));
    ck_assert_ptr_null(kdas_layout_test_name(layout, -1));
    kdas_layout_destroy(layout);
    ck_assert_str_eq(kd_data_log, "");
}
END_TEST

START_TEST(a_flat_test_set_is_one_set)
{
    kdas_layout *layout;

    write_set("c/traindataset", "a");
    write_set("c/TestDataset", "a");
    layout = layout_of("c");
    ck_assert_int_eq(kdas_layout_tests(layout), 1);
    ck_assert_str_eq(kdas_layout_test_name(layout, 0), "TestDataset");
    ck_assert_str_eq(kdas_layout_test(layout, 0), kd_test_path("c/TestDataset"));
    kdas_layout_destroy(layout);

    write_set("c/TestDataset/Kvasir", "a");
    layout = layout_of("c");
    ck_assert_int_eq(kdas_layout_tests(layout), 2);
    ck_assert_str_eq(kdas_layout_test_name(layout, 1), "Kvasir");
    kdas_layout_destroy(layout);

    write_set("c/TestEasyDataset/Seen", "a");
    layout = layout_of("c");
    ck_assert_int_eq(kdas_layout_tests(layout), 3);
    ck_assert_str_eq(kdas_layout_test_name(layout, 2), "TestEasyDataset-Seen");
    kdas_layout_destroy(layout);
}
END_TEST

START_TEST(a_test_set_gone_wrong_is_refused)
{
    kdas_layout *layout;

    write_set("c/TrainDataset", "a");
    make("c/TestDataset");
    layout = layout_of("c"); /* an empty one is none */
    ck_assert_int_eq(kdas_layout_tests(layout), 0);
    kdas_layout_destroy(layout);
    write_text("c/TestDataset/a.png", "x");
    kd_assert_status(kdas_layout_find(&layout, kd_data_ctx, kd_test_path("c")), KDAS_ENOTFOUND);
    kd_assert_sentence("c/TestDataset' has no test set; it has 1 file");
    make("c/TestDataset/images");
    kd_assert_status(kdas_layout_find(&layout, kd_data_ctx, kd_test_path("c")), KDAS_ENOTFOUND);
    kd_assert_sentence("c/TestDataset' has no folder 'masks'");
    ck_assert_ptr_null(layout);
}
END_TEST

START_TEST(a_set_alone_is_trained_on)
{
    kdas_layout *layout;

    write_set("Kvasir-SEG", "a");
    layout = layout_of("Kvasir-SEG");
    ck_assert_str_eq(kdas_layout_train(layout), kd_test_path("Kvasir-SEG"));
    ck_assert_int_eq(kdas_layout_tests(layout), 0);
    ck_assert_ptr_nonnull(strstr(kd_data_log, "'TrainDataset'"));
    kdas_layout_destroy(layout);

    make("above");
    kd_test_shell("mv '%s/Kvasir-SEG' '%s/above/'", kd_test_path(NULL), kd_test_path(NULL));
    kd_assert_status(kdas_layout_find(&layout, kd_data_ctx, kd_test_path("above")), KDAS_ENOTFOUND);
    kd_assert_sentence("no 'TrainDataset'");
    kd_assert_sentence("'Kvasir-SEG' is such a folder");
    ck_assert_ptr_null(layout);
    kd_assert_status(kdas_layout_find(&layout, kd_data_ctx, "/nowhere/at/all"), KDAS_ENOTFOUND);
    kd_assert_status(kdas_layout_find(NULL, kd_data_ctx, "/"), KDAS_EINVAL);
    kd_assert_status(kdas_layout_find(&layout, NULL, "/"), KDAS_EINVAL);
    kd_assert_status(kdas_layout_find(&layout, kd_data_ctx, NULL), KDAS_EINVAL);
    ck_assert_ptr_null(kdas_layout_train(NULL));
    ck_assert_int_eq(kdas_layout_tests(NULL), 0);
    ck_assert_ptr_null(kdas_layout_test(NULL, 0));
    ck_assert_ptr_null(kdas_layout_test_name(NULL, 0));
    kdas_layout_destroy(NULL);
}
END_TEST

/* ---- Lists of names ---- */

static kdas_dataset_options with_list(const char *text)
{
    kdas_dataset_options o = defaults();

    write_text("list.txt", text);
    o.list = kd_test_path("list.txt");
    return o;
}

START_TEST(a_list_chooses_frames)
{
    static const char *const same[] = { "c\na\n", "a\r\nc",
                                        "\xEF\xBB\xBF"
                                        "a.jpg\n\n  c.png \n",
                                        "images/a.png\n./images/c.png\n",
                                        "set/images/a.png set/masks/a.png\nc,1\n" };
    kdas_dataset_options     o;

    kd_test_write_pair("a", 8, 8);
    kd_test_write_pair("b", 8, 8);
    kd_test_write_pair("c", 8, 8);
    write_text("images/broken.png", "not asked for");
    for (size_t i = 0; i < KD_COUNT(same); i++)
        kd_test_names_are(open_with(with_list(same[i])), "a c");

    refuse(with_list("a\nd\n"), KDAS_ENOTFOUND, "names 'd' in line 2");
    refuse(with_list("a\nb\na.png\n"), KDAS_EFORMAT, "names 'a' twice, in lines 1 and 3");
    refuse(with_list(" \n\n"), KDAS_EFORMAT, "names no frame");
    o      = defaults();
    o.list = "/nowhere/list.txt";
    refuse(o, KDAS_ENOTFOUND, "/nowhere/list.txt");

    o          = with_list("d\nb\na\nb\n");
    o.bad_file = KDAS_BAD_FILE_SKIP;
    {
        kdas_dataset *dataset = open_with(o);

        ck_assert_int_eq(kdas_dataset_skipped(dataset), 2);
        ck_assert_str_eq(kdas_dataset_skipped_name(dataset, 0), "d");
        ck_assert_ptr_nonnull(strstr(kdas_dataset_skipped_reason(dataset, 1), "twice"));
        kd_test_names_are(dataset, "a b");
    }
}
END_TEST

START_TEST(a_name_may_have_blanks_and_folders)
{
    make("images/case 1");
    make("masks/case 1");
    write_two("images/case 1/a, b.png", "masks/case 1/a, b.png");
    write_two("images/b.png", "masks/b.png");
    kd_test_names_are(open_with(with_list("case 1/a, b\n")), "case 1/a, b");
}
END_TEST

/* ---- What systems leave ---- */

START_TEST(what_systems_leave_is_no_frame)
{
    static const char *const left[] = { "._a.png", ".DS_Store", "Thumbs.db", "desktop.ini",
                                        "THUMBS.DB" };
    char                     name[100];

    kd_test_write_pair("a", 8, 8);
    for (size_t i = 0; i < KD_COUNT(left); i++) {
        snprintf(name, sizeof name, "images/%s", left[i]);
        write_text(name, "x");
        snprintf(name, sizeof name, "masks/%s", left[i]);
        write_text(name, "x");
    }
    make("images/__MACOSX");
    make("images/@eaDir");
    make("masks/.ipynb_checkpoints");
    write_text("images/__MACOSX/b.png", "x");
    write_text("images/@eaDir/a.png", "x");
    write_text("masks/.ipynb_checkpoints/a-checkpoint.png", "x");
    kd_test_names_are(open_with(defaults()), "a");
    ck_assert_str_eq(kd_data_log, "");
    ck_assert(kdas_dataset_ignores("._a.png") == 1 && kdas_dataset_ignores("@eaDir") == 1);
    ck_assert(kdas_dataset_ignores(".") == 0 && kdas_dataset_ignores("a.png") == 0);
    ck_assert(kd_is_clutter("__macosx") && !kd_is_clutter("MACOSX") && !kd_is_clutter("a.png"));
}
END_TEST

START_TEST(names_match_in_either_unicode_form)
{
    static const char composed[] = "caf\xC3\xA9", taken_apart[] = "cafe\xCC\x81";
    char              image[100], mask[100];
    uint64_t          hash[2];

    for (int i = 0; i < 2; i++) {
        kdas_dataset *dataset;

        snprintf(image, sizeof image, "images/%s.png", i ? taken_apart : composed);
        snprintf(mask, sizeof mask, "masks/%s.png", i ? composed : taken_apart);
        write_two(image, mask);
        dataset = open_with(defaults());
        hash[i] = kdas_dataset_hash(dataset);
        kd_test_names_are(dataset, composed);
        kd_test_names_are(open_with(with_list(i ? "cafe\xCC\x81.png\n" : composed)), composed);
        unlink(kd_test_path(image));
        unlink(kd_test_path(mask));
    }
    ck_assert_uint_eq(hash[0], hash[1]);

    write_two("images/\xFF\xFE.png", "masks/\xFF\xFE.png"); /* no UTF-8: compared by its bytes */
    kd_test_names_are(open_with(defaults()), "\xFF\xFE");
    write_two("images/\xFF.png", "masks/\xFE.png");
    refuse(defaults(), KDAS_ESHAPE, "no ");
}
END_TEST

START_TEST(two_files_in_two_unicode_forms_are_told_apart)
{
    write_two("images/caf\xC3\xA9.png", "masks/caf\xC3\xA9.png");
    kd_test_write_pair("a", 8, 8);
    write_two("images/cafe\xCC\x81.png", "masks/a.png");
    refuse(defaults(), KDAS_EFORMAT,
           "have the same base name; the first is written in Unicode's "
           "decomposed form");
}
END_TEST

/* ---- Damaged files ---- */

START_TEST(a_damaged_frame_is_found_while_opening)
{
    static const char *const damaged[] = { "images/b.png", "masks/b.png" };
    kdas_dataset_options     o         = defaults();
    kdas_dataset            *dataset, *rest, *part;
    uint64_t                 without;

    kd_data_ctx->threads = _i < 2 ? 1 : 3;
    for (char c = 'a'; c <= 'z'; c++)
        kd_test_write_pair((char[]){ c, 0 }, 8, 8);
    cut(damaged[_i % 2], 0.9);
    refuse(o, KDAS_EFORMAT, damaged[_i % 2]);
    cut(_i % 2 ? "masks/y.png" : "images/y.png", 0.9);
    refuse(o, KDAS_EFORMAT, damaged[_i % 2]);
    kd_assert_sentence("1 more of the 26 frames");

    o.bad_file = KDAS_BAD_FILE_SKIP;
    dataset    = open_with(o);
    ck_assert_int_eq(kdas_dataset_count(dataset), 24);
    ck_assert_int_eq(kdas_dataset_skipped(dataset), 2);
    ck_assert_str_eq(kdas_dataset_skipped_name(dataset, 0), "b");
    ck_assert_str_eq(kdas_dataset_skipped_name(dataset, 1), "y");
    ck_assert_ptr_nonnull(strstr(kdas_dataset_skipped_reason(dataset, 0), damaged[_i % 2]));
    ck_assert_ptr_null(kdas_dataset_skipped_name(dataset, 2));
    ck_assert_ptr_null(kdas_dataset_skipped_reason(dataset, -1));
    ck_assert_ptr_null(kdas_dataset_skipped_reason(NULL, 0));
    ck_assert_ptr_nonnull(strstr(kd_data_log, "left out: "));
    without = kdas_dataset_hash(dataset);
    kd_assert_ok(kdas_dataset_split(&rest, &part, dataset, 0.5, 1));
    kdas_dataset_destroy(dataset);
    ck_assert_str_eq(kdas_dataset_skipped_name(part, 1), "y");
    kd_assert_ok(kdas_dataset_join(&dataset, rest, part));
    ck_assert_int_eq(kdas_dataset_skipped(dataset), 4);
    kdas_dataset_destroy(dataset);
    kdas_dataset_destroy(rest);
    kdas_dataset_destroy(part);

    o.check     = 0;                /* headers alone, */
    o.mask_rule = KDAS_MASK_BRIGHT; /* and no mask to find the rule by */
    dataset     = open_with(o);
    ck_assert_int_eq(kdas_dataset_count(dataset), 26);
    ck_assert(kdas_dataset_hash(dataset) != without);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(a_folder_of_damaged_frames_is_refused)
{
    kdas_dataset_options o = defaults();

    kd_test_write_pair("a", 8, 8);
    kd_test_write_pair("b", 8, 8);
    cut("images/a.png", 0.9);
    cut("masks/b.png", 0.9);
    o.bad_file = KDAS_BAD_FILE_SKIP;
    refuse(o, KDAS_EFORMAT, "none of the 2 frames");
    kd_assert_sentence("images/a.png");
}
END_TEST

START_TEST(what_was_checked_stays_decoded)
{
    kdas_dataset *dataset;
    kdas_image   *image, *mask;

    kd_test_write_pair("a", 8, 8);
    dataset = open_with(defaults());
    unlink(kd_test_path("images/a.png"));
    kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, 0));
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- Sizes ---- */

START_TEST(masks_of_another_size_are_resized_on_request)
{
    kdas_dataset_options o = defaults();
    kdas_dataset        *dataset;
    kdas_image          *image, *mask;
    const uint8_t        half[8] = { 0, 255, 0, 255, 0, 255, 0, 255 };
    kdas_view            view    = { half, 2, 4, 0, KDAS_PIXEL_GREY8 };

    kd_test_write_picture("images/a.png", 8, 6, KDAS_PIXEL_RGB8, 1);
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path("masks/a.png"), &view));
    refuse(o, KDAS_ESHAPE, "masks/a.png' is 2x4");
    kd_assert_sentence("is 8x6");
    kd_assert_sentence("fit_masks");

    o.fit_masks = 1;
    dataset     = open_with(o);
    ck_assert_ptr_nonnull(strstr(kd_data_log, "masks resized: 1, the first"));
    kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, 0));
    view = kdas_image_view(mask);
    ck_assert(view.width == 8 && view.height == 6);
    for (int i = 0; i < 48; i++)
        ck_assert_int_eq(kdas_image_pixels(mask)[i], i % 8 < 4 ? 0 : 255);
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- Memory that runs out ---- */

static kdas_status walk(void)
{
    kdas_status          st      = KDAS_OK;
    kdas_dataset_options o       = defaults();
    kdas_layout         *layout  = NULL;
    kdas_dataset        *dataset = NULL, *both = NULL, *maps = NULL;

    o.bad_file  = KDAS_BAD_FILE_SKIP;
    o.fit_masks = 1;
    KD_TRY(kdas_layout_find(&layout, kd_data_ctx, kd_test_path(NULL)));
    o.list = kd_test_path("list.txt");
    KD_TRY(kdas_dataset_open(&dataset, kd_data_ctx, kdas_layout_train(layout), &o));
    ck_assert_int_eq(kdas_dataset_count(dataset), 2);
    ck_assert_int_eq(kdas_dataset_skipped(dataset), 2);
    KD_TRY(kdas_dataset_join(&both, dataset, dataset));
    o.list = NULL;
    KD_TRY(kdas_dataset_open_predictions(&maps, kd_data_ctx, kd_test_path("maps"),
                                         kd_test_path("masks"), &o));
done:
    kdas_layout_destroy(layout);
    kdas_dataset_destroy(dataset);
    kdas_dataset_destroy(both);
    kdas_dataset_destroy(maps);
    return st;
}

START_TEST(any_allocation_may_fail)
{
    long k;

    write_set("TestDataset/x", "y");
    write_two("images/cafe\xCC\x81.png", "masks/caf\xC3\xA9.png");
    kd_test_write_pair("b", 16, 16);
    kd_test_write_pair("c", 16, 16);
    kd_test_write_picture("masks/b.png", 15, 16, KDAS_PIXEL_GREY8, 1);
    cut("images/c.png", 0.9);
    write_text("list.txt", "cafe\xCC\x81\nimages/b.png\nc\nd\n");
    make("maps");
    kd_test_write_picture("maps/b_probability.png", 16, 16, KDAS_PIXEL_GREY8, 1);
    for (k = 1; k < 2000; k++) {
        kdas_status st;

        kd_data_log[0]         = 0;
        kd_data_memory.fail_at = kd_data_memory.taken + k;
        st                     = walk();
        ck_assert_int_eq(kd_data_memory.taken, kd_data_memory.given_back);
        if (st == KDAS_OK) break;
        ck_assert_int_eq(st, KDAS_ENOMEM);
    }
    kd_data_memory.fail_at = 0;
    ck_assert(k > 100 && k < 2000);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("data_layout");
    TCase   *tc     = tcase_create("data_layout");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_test(tc, folders_of_sequences_are_read_with_their_paths);
    tcase_add_test(tc, linked_folders_are_followed_and_a_circle_is_refused);
    tcase_add_test(tc, a_wrong_layout_is_answered_with_what_was_found);
    tcase_add_test(tc, nothing_is_passed_over_in_silence);
    tcase_add_test(tc, a_collection_has_a_training_set_and_test_sets);
    tcase_add_test(tc, a_flat_test_set_is_one_set);
    tcase_add_test(tc, a_test_set_gone_wrong_is_refused);
    tcase_add_test(tc, a_set_alone_is_trained_on);
    tcase_add_test(tc, a_list_chooses_frames);
    tcase_add_test(tc, a_name_may_have_blanks_and_folders);
    tcase_add_test(tc, what_systems_leave_is_no_frame);
    tcase_add_test(tc, names_match_in_either_unicode_form);
    tcase_add_test(tc, two_files_in_two_unicode_forms_are_told_apart);
    tcase_add_loop_test(tc, a_damaged_frame_is_found_while_opening, 0, 4);
    tcase_add_test(tc, a_folder_of_damaged_frames_is_refused);
    tcase_add_test(tc, what_was_checked_stays_decoded);
    tcase_add_test(tc, masks_of_another_size_are_resized_on_request);
    tcase_add_test(tc, any_allocation_may_fail);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

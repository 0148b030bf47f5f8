/* check_mask.c - what is polyp in a mask file: each kind of mask that data sets come with, alone and
 * beside others of its set, the explicit rules, and sets without any polyp. */
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

/* ---- Masks to test with: a disc, in two halves, on W x H pixels ---- */

/* A PNG of `bits` and colour type `colour`; fill() writes a pixel's bytes. */
typedef struct kind {
    const char *name;
    int         bits, colour;
    uint8_t     pixel[3][8]; /* outside, left, right: the bytes of a pixel */
    const char *rule;        /* of AUTO; NULL: it refuses                  */
    const char *part;        /* of the sentence                            */
} kind;

static int bytes_of(const kind *k)
{
    static const int samples[7] = { 1, 0, 3, 1, 2, 0, 4 };

    return samples[k->colour] * k->bits / 8;
}

static const uint8_t voc[12] = { 0, 0, 0, 128, 0, 0, 0, 128, 0, 64, 0, 0 };

static void write_png(const char *name, const kind *k, bool empty)
{
    size_t   step = (size_t)bytes_of(k), n = 0;
    uint8_t *rows = malloc(H * (1 + W * step)), *file = malloc(H * (1 + W * step) + 200);

    for (int i = 0; i < W * H; i++) {
        if (i % W == 0) rows[n++] = 0;
        memcpy(rows + n, k->pixel[empty ? 0 : part(i)], step);
        n += step;
    }
    n = kd_test_png(file, W, H, k->bits, k->colour, voc, k->colour == 3 ? sizeof voc : 0, rows, n);
    kd_test_write(kd_test_path(name), file, n);
    free(rows);
    free(file);
}

static const kind kinds[] = {
    { "0 and 255", 8, 0, { { 0 }, { 255 }, { 255 } }, "bright", NULL },
    { "0 and 128", 8, 0, { { 0 }, { 128 }, { 128 } }, "bright", NULL },
    { "0 and 1", 8, 0, { { 0 }, { 1 }, { 1 } }, "nonzero", NULL },
    { "0 to 2", 8, 0, { { 0 }, { 1 }, { 2 } }, "nonzero", NULL },
    { "0 and 100", 8, 0, { { 0 }, { 100 }, { 100 } }, "nonzero", NULL },
    { "1 and 2", 8, 0, { { 1 }, { 2 }, { 2 } }, NULL, "no black pixel" },
    { "0, 1, 255", 8, 0, { { 0 }, { 1 }, { 255 } }, NULL, "grey level 1" },
    { "luma of red and green", 8, 0, { { 0 }, { 76 }, { 150 } }, NULL, "grey level 76" },
    { "red", 8, 2, { { 0 }, { 255, 0, 0 }, { 255, 0, 0 } }, "colour", NULL },
    { "red and green", 8, 2, { { 0 }, { 255, 0, 0 }, { 0, 255, 0 } }, "colour", NULL },
    { "a dark green", 8, 2, { { 0 }, { 48, 112, 32 }, { 48, 112, 32 } }, "colour", NULL },
    { "white and dark red", 8, 2, { { 0 }, { 255, 255, 255 }, { 64, 0, 0 } }, "colour", NULL },
    { "colours on blue", 8, 2, { { 0, 0, 99 }, { 255, 0, 0 }, { 0, 255, 0 } }, NULL, "no black" },
    { "palette", 8, 3, { { 0 }, { 1 }, { 3 } }, "colour", NULL },
    { "RGB of 1", 8, 2, { { 0 }, { 1, 1, 1 }, { 1, 1, 1 } }, "nonzero", NULL },
    { "white on nothing",
      8,
      6,
      { { 255, 255, 255, 0 }, { 255, 255, 255, 255 }, { 255, 255, 255, 255 } },
      "alpha",
      NULL },
    { "black on nothing", 8, 6, { { 0 }, { 0, 0, 0, 255 }, { 0, 0, 0, 255 } }, "alpha", NULL },
    { "black on white nothing",
      8,
      6,
      { { 255, 255, 255, 0 }, { 0, 0, 0, 255 }, { 0, 0, 0, 255 } },
      "alpha",
      NULL },
    { "half red on nothing", 8, 6, { { 0 }, { 255, 0, 0, 99 }, { 255, 0, 0, 99 } }, "alpha", NULL },
    { "grey and alpha", 8, 4, { { 255, 0 }, { 255, 255 }, { 255, 255 } }, "alpha", NULL },
    { "opaque alpha", 8, 4, { { 0, 255 }, { 255, 255 }, { 255, 255 } }, "bright", NULL },
    { "opaque alpha, labels", 8, 4, { { 0, 255 }, { 1, 255 }, { 1, 255 } }, "nonzero", NULL },
    { "alpha of 0 that says nothing", 8, 4, { { 0, 0 }, { 255, 0 }, { 255, 0 } }, "bright", NULL },
    { "opaque red", 8, 6, { { 0, 0, 0, 255 }, { 255, 0, 0, 255 }, { 255, 0, 0, 255 } }, "colour" },
    { "16 bits, 0 and 1", 16, 0, { { 0 }, { 0, 1 }, { 0, 1 } }, "nonzero", NULL },
    { "16 bits, 0 and 255", 16, 0, { { 0 }, { 0, 255 }, { 0, 255 } }, "bright", NULL },
    { "16 bits, full", 16, 0, { { 0 }, { 255, 255 }, { 255, 255 } }, "bright", NULL },
    { "16 bits, 12 used", 16, 0, { { 0 }, { 15, 255 }, { 15, 255 } }, "nonzero", NULL },
    { "16 bits, alpha",
      16,
      4,
      { { 255, 255 }, { 255, 255, 255, 255 }, { 255, 255, 255, 255 } },
      "alpha",
      NULL },
    { "16 bits, red", 16, 2, { { 0 }, { 255, 255 }, { 255, 255 } }, "colour", NULL },
};

static const char *one(const char *name) { return kd_test_path(name); }

static void expect_disc(const char *name, kdas_mask_rule rule)
{
    kdas_image *mask;
    kdas_view   v;

    kd_assert_ok(kdas_mask_load(&mask, kd_data_ctx, one(name), rule));
    v = kdas_image_view(mask);
    ck_assert(v.pixel == KDAS_PIXEL_GREY8 && v.width == W && v.height == H);
    for (int i = 0; i < W * H; i++)
        ck_assert_msg(((const uint8_t *)v.data)[i] == (part(i) ? 255 : 0), "pixel %d is %d", i,
                      ((const uint8_t *)v.data)[i]);
    kdas_image_destroy(mask);
}

START_TEST(auto_reads_each_kind_as_it_is_meant_or_refuses)
{
    const kind    *k    = &kinds[_i];
    const char    *path = one("a.png");
    kdas_mask_rule rule = (kdas_mask_rule)99;
    kdas_image    *mask;

    write_png("a.png", k, false);
    if (!k->rule) {
        kd_assert_status(kdas_mask_load(&mask, kd_data_ctx, path, KDAS_MASK_AUTO), KDAS_EFORMAT);
        ck_assert_ptr_null(mask);
        kd_assert_sentence("a.png");
        kd_assert_sentence(k->part);
        kd_assert_sentence("mask rule");
        kd_assert_status(kdas_mask_find_rule(kd_data_ctx, &path, 1, &rule), KDAS_EFORMAT);
        ck_assert_int_eq(rule, 99);
        return;
    }
    expect_disc("a.png", KDAS_MASK_AUTO);
    kd_assert_ok(kdas_mask_find_rule(kd_data_ctx, &path, 1, &rule));
    ck_assert_str_eq(kdas_mask_rule_name(rule), k->rule);
    expect_disc("a.png", rule);
}
END_TEST

/* An empty mask of each kind, read by the rule of its set, has no polyp. */
START_TEST(an_empty_mask_of_a_set_stays_empty)
{
    const kind    *k       = &kinds[_i];
    const char    *path[2] = { one("empty.png"), one("full.png") };
    kdas_mask_rule rule;
    kdas_image    *mask;

    if (!k->rule) return;
    write_png("empty.png", k, true);
    write_png("full.png", k, false);
    kd_assert_ok(kdas_mask_find_rule(kd_data_ctx, path, 2, &rule));
    if (rule == KDAS_MASK_ALPHA || rule == KDAS_MASK_COLOUR || rule == KDAS_MASK_NONZERO)
        ck_assert_str_eq(kdas_mask_rule_name(rule), k->rule);
    kd_assert_ok(kdas_mask_load(&mask, kd_data_ctx, path[0], rule));
    for (int i = 0; i < W * H; i++)
        ck_assert_int_eq(kdas_image_pixels(mask)[i], 0);
    kdas_image_destroy(mask);
    expect_disc("full.png", rule);
}
END_TEST

/* ---- Sets ---- */

static const kind *find_kind(const char *name)
{
    for (size_t i = 0; i < KD_COUNT(kinds); i++)
        if (!strcmp(kinds[i].name, name)) return &kinds[i];
    ck_abort_msg("no kind %s", name);
    return NULL;
}

static const struct {
    const char *a, *b;
    const char *rule, *part; /* as in kind */
} pairs[] = {
    { "0 and 255", "0 and 1", NULL, "different scales" },
    { "0 and 255", "red", "colour", NULL },
    { "0 and 1", "0 to 2", "nonzero", NULL },
    { "0 and 1", "16 bits, 0 and 1", "nonzero", NULL },
    { "red", "0 and 100", "colour", NULL },
    { "palette", "0 and 255", "colour", NULL },
    { "white on nothing", "0 and 255", "colour", NULL },
    { "black on nothing", "0 and 255", NULL, "it is not clear whether alpha" },
    { "black on nothing", "white on nothing", "alpha", NULL },
    { "16 bits, full", "16 bits, 0 and 255", "bright", NULL },
};

START_TEST(the_files_of_a_set_decide_together)
{
    const char    *path[2] = { one("a.png"), one("b.png") }, *back[2] = { path[1], path[0] };
    kdas_mask_rule rule = (kdas_mask_rule)99, other = (kdas_mask_rule)98;

    write_png("a.png", find_kind(pairs[_i].a), false);
    write_png("b.png", find_kind(pairs[_i].b), false);
    if (!pairs[_i].rule) {
        kd_assert_status(kdas_mask_find_rule(kd_data_ctx, path, 2, &rule), KDAS_EFORMAT);
        kd_assert_sentence("a.png");
        kd_assert_sentence("b.png");
        kd_assert_sentence(pairs[_i].part);
        kd_assert_status(kdas_mask_find_rule(kd_data_ctx, back, 2, &rule), KDAS_EFORMAT);
        return;
    }
    kd_assert_ok(kdas_mask_find_rule(kd_data_ctx, path, 2, &rule));
    kd_assert_ok(kdas_mask_find_rule(kd_data_ctx, back, 2, &other));
    ck_assert_str_eq(kdas_mask_rule_name(rule), pairs[_i].rule);
    ck_assert_int_eq(rule, other);
    expect_disc("a.png", rule);
    expect_disc("b.png", rule);
}
END_TEST

/* The circle that an endoscope shows is opaque, the rest transparent; one mask of the set is empty,
 * and there everything that can be seen is black. */
START_TEST(a_transparent_border_is_no_mask)
{
    static uint8_t rows[2][H * (1 + 2 * W)], file[H * (1 + 2 * W) + 200];
    const char    *path[2] = { one("empty.png"), one("full.png") };
    kdas_mask_rule rule;
    int            polyp = 0;

    for (int k = 0; k < 2; k++) {
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++) {
                uint8_t *p = rows[k] + y * (1 + 2 * W) + 1 + 2 * x;

                p[0] = k && x >= 20 && x < 28 && y >= 20 && y < 28 ? 255 : 0;
                p[1] = x >= 10 && x < 54 ? 255 : 0;
            }
        kd_test_write(path[k], file,
                      kd_test_png(file, W, H, 8, 4, NULL, 0, rows[k], sizeof rows[k]));
    }
    kd_assert_ok(kdas_mask_find_rule(kd_data_ctx, path, 2, &rule));
    ck_assert_int_eq(rule, KDAS_MASK_COLOUR);
    for (int i = 0; i < W * H; i++)
        ck_assert_int_eq(pixels_of("empty.png", rule)[i], 0);
    for (int i = 0; i < W * H; i++)
        polyp += pixels_of("full.png", rule)[i] == 255;
    ck_assert_int_eq(polyp, 64);
}
END_TEST

/* ---- Explicit rules ---- */

START_TEST(an_explicit_rule_is_followed)
{
    static const struct {
        const char    *kind;
        kdas_mask_rule rule;
        int            left, right;
    } rows[] = {
        { "red and green", KDAS_MASK_BRIGHT, 0, 255 },
        { "0, 1, 255", KDAS_MASK_BRIGHT, 0, 255 },
        { "0, 1, 255", KDAS_MASK_NONZERO, 255, 255 },
        { "luma of red and green", KDAS_MASK_NONZERO, 255, 255 },
        { "opaque alpha, labels", KDAS_MASK_NONZERO, 255, 255 },
        { "0 and 1", KDAS_MASK_BRIGHT, 0, 0 },
        { "black on nothing", KDAS_MASK_BRIGHT, 0, 0 },
        { "black on nothing", KDAS_MASK_NONZERO, 0, 0 },
        { "white on nothing", KDAS_MASK_NONZERO, 255, 255 },
    };

    for (size_t k = 0; k < KD_COUNT(rows); k++) {
        uint8_t *got;

        write_png("a.png", find_kind(rows[k].kind), false);
        got = pixels_of("a.png", rows[k].rule);
        for (int i = 0; i < W * H; i++)
            ck_assert_msg(got[i] == (part(i) == 0   ? 0
                                     : part(i) == 1 ? rows[k].left
                                                    : rows[k].right),
                          "row %zu, pixel %d", k, i);
    }
}
END_TEST

START_TEST(wrong_arguments_are_refused)
{
    const char    *path = one("a.png"), *none = NULL, *gone = one("none.png");
    kdas_mask_rule rule;
    kdas_image    *mask = NULL;

    write_png("a.png", &kinds[0], false);
    kd_assert_status(kdas_mask_load(&mask, kd_data_ctx, path, KDAS_MASK_ALPHA), KDAS_EFORMAT);
    kd_assert_sentence("no alpha channel");
    kd_assert_status(kdas_mask_load(&mask, kd_data_ctx, path, (kdas_mask_rule)5), KDAS_EINVAL);
    kd_assert_status(kdas_mask_load(&mask, kd_data_ctx, NULL, KDAS_MASK_AUTO), KDAS_EINVAL);
    kd_assert_status(kdas_mask_load(NULL, kd_data_ctx, path, KDAS_MASK_AUTO), KDAS_EINVAL);
    kd_assert_status(kdas_mask_load(&mask, NULL, path, KDAS_MASK_AUTO), KDAS_EINVAL);
    kd_assert_status(kdas_mask_load(&mask, kd_data_ctx, gone, KDAS_MASK_AUTO), KDAS_ENOTFOUND);
    kd_assert_status(kdas_mask_load(&mask, kd_data_ctx, gone, KDAS_MASK_BRIGHT), KDAS_ENOTFOUND);
    ck_assert_ptr_null(mask);
    kd_assert_status(kdas_mask_find_rule(kd_data_ctx, &none, 1, &rule), KDAS_EINVAL);
    kd_assert_status(kdas_mask_find_rule(kd_data_ctx, &path, 0, &rule), KDAS_EINVAL);
    kd_assert_status(kdas_mask_find_rule(kd_data_ctx, &path, 1, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_mask_find_rule(NULL, &path, 1, &rule), KDAS_EINVAL);
    ck_assert_ptr_null(kdas_mask_rule_name((kdas_mask_rule)5));
    ck_assert_ptr_null(kdas_mask_rule_name((kdas_mask_rule)-1));
    ck_assert_str_eq(kdas_mask_rule_name(KDAS_MASK_AUTO), "auto");
}
END_TEST

START_TEST(memory_that_runs_out_leaves_nothing)
{
    static const char *const names[] = { "red and green", "16 bits, alpha", "0 and 255" };

    for (size_t k = 0; k < KD_COUNT(names); k++) {
        kdas_image *mask = NULL;

        write_png("a.png", find_kind(names[k]), false);
        for (long i = 1;; i++) {
            kdas_status st;

            kd_data_memory.taken   = 0;
            kd_data_memory.fail_at = i;
            st = kdas_mask_load(&mask, kd_data_ctx, one("a.png"), KDAS_MASK_AUTO);
            if (st == KDAS_OK) break;
            kd_assert_status(st, KDAS_ENOMEM);
            ck_assert_ptr_null(mask);
        }
        kdas_image_destroy(mask);
    }
    kd_data_memory.fail_at = 0;
    kd_data_memory.taken = kd_data_memory.given_back = 0;
}
END_TEST

/* ---- Data sets ---- */

static void write_frame(const char *stem, const kind *k, bool empty)
{
    char name[64];

    snprintf(name, sizeof name, "images/%s.png", stem);
    kd_test_write_picture(name, W, H, KDAS_PIXEL_RGB8, 1);
    snprintf(name, sizeof name, "masks/%s.png", stem);
    write_png(name, k, empty);
}

static kdas_status open_with(kdas_dataset **out, kdas_mask_rule rule, int32_t allow_empty)
{
    kdas_dataset_options o;

    kdas_dataset_options_init(&o, sizeof o);
    o.mask_rule   = (int32_t)rule;
    o.allow_empty = allow_empty;
    return kdas_dataset_open(out, kd_data_ctx, kd_test_path(NULL), &o);
}

START_TEST(a_dataset_reads_all_its_masks_by_one_rule)
{
    kdas_dataset *dataset;
    kdas_image   *image, *mask;

    write_frame("a", find_kind("0 and 1"), true);
    write_frame("b", find_kind("0 and 1"), false);
    write_frame("c", find_kind("0 to 2"), false);
    kd_assert_ok(open_with(&dataset, KDAS_MASK_AUTO, 0));
    ck_assert_ptr_nonnull(strstr(kd_data_log, "brightest value is 2"));
    ck_assert_ptr_nonnull(strstr(kd_data_log, "mask rule 'nonzero'"));
    ck_assert_int_eq(kdas_dataset_mask_rule(dataset, 1), KDAS_MASK_NONZERO);
    ck_assert_int_eq(kdas_dataset_mask_rule(dataset, 3), KDAS_MASK_AUTO);
    ck_assert_int_eq(kdas_dataset_mask_rule(NULL, 0), KDAS_MASK_AUTO);
    for (int64_t k = 0; k < 3; k++) {
        kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, k));
        for (int i = 0; i < W * H; i++)
            ck_assert_int_eq(kdas_image_pixels(mask)[i], k && part(i) ? 255 : 0);
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(the_rule_is_part_of_a_datasets_hash)
{
    kdas_dataset *bright, *automatic, *nonzero;

    write_frame("a", find_kind("0 and 255"), false);
    kd_assert_ok(open_with(&bright, KDAS_MASK_BRIGHT, 0));
    kd_assert_ok(open_with(&automatic, KDAS_MASK_AUTO, 0));
    kd_assert_ok(open_with(&nonzero, KDAS_MASK_NONZERO, 0));
    ck_assert_uint_eq(kdas_dataset_hash(bright), kdas_dataset_hash(automatic));
    ck_assert_uint_ne(kdas_dataset_hash(bright), kdas_dataset_hash(nonzero));
    kdas_dataset_destroy(bright);
    kdas_dataset_destroy(automatic);
    kdas_dataset_destroy(nonzero);
}
END_TEST

START_TEST(a_set_without_any_polyp_is_refused_unless_it_is_meant)
{
    kdas_dataset *dataset = NULL;
    kdas_image   *image, *mask;

    write_frame("a", find_kind("0 and 1"), false);
    write_frame("b", find_kind("0 and 1"), false);
    kd_assert_status(open_with(&dataset, KDAS_MASK_BRIGHT, 0), KDAS_EFORMAT);
    ck_assert_ptr_null(dataset);
    kd_assert_sentence("none of the 2 masks");
    kd_assert_sentence("brightest value is 1");
    kd_assert_sentence("allow_empty");
    kd_assert_ok(open_with(&dataset, KDAS_MASK_BRIGHT, 1));
    kdas_dataset_destroy(dataset);

    write_frame("a", find_kind("0 and 255"), true);
    write_frame("b", find_kind("0 and 255"), true);
    kd_assert_status(open_with(&dataset, KDAS_MASK_AUTO, 0), KDAS_EFORMAT);
    kd_assert_sentence("brightest value is 0");
    kd_assert_ok(open_with(&dataset, KDAS_MASK_AUTO, 1));
    kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, 0));
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(dataset);
    write_frame("b", find_kind("0 and 255"), false); /* one is enough */
    kd_assert_ok(open_with(&dataset, KDAS_MASK_AUTO, 0));
    kdas_dataset_destroy(dataset);
    kd_assert_status(open_with(&dataset, (kdas_mask_rule)5, 0), KDAS_EINVAL);
    kd_assert_sentence("mask_rule is 5");
}
END_TEST

START_TEST(an_unclear_set_is_refused_when_it_is_opened)
{
    kdas_dataset *dataset = NULL;

    write_frame("a", find_kind("0 and 255"), false);
    write_frame("b", find_kind("0 and 1"), false);
    kd_assert_status(open_with(&dataset, KDAS_MASK_AUTO, 0), KDAS_EFORMAT);
    kd_assert_sentence("masks/b.png");
    kd_assert_sentence("--mask-rule");
    kd_assert_ok(open_with(&dataset, KDAS_MASK_COLOUR, 0));
    kdas_dataset_destroy(dataset);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("mask");
    TCase   *tc     = tcase_create("mask");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_loop_test(tc, auto_reads_each_kind_as_it_is_meant_or_refuses, 0, KD_COUNT(kinds));
    tcase_add_loop_test(tc, an_empty_mask_of_a_set_stays_empty, 0, KD_COUNT(kinds));
    tcase_add_loop_test(tc, the_files_of_a_set_decide_together, 0, KD_COUNT(pairs));
    tcase_add_test(tc, a_transparent_border_is_no_mask);
    tcase_add_test(tc, an_explicit_rule_is_followed);
    tcase_add_test(tc, wrong_arguments_are_refused);
    tcase_add_test(tc, memory_that_runs_out_leaves_nothing);
    tcase_add_test(tc, a_dataset_reads_all_its_masks_by_one_rule);
    tcase_add_test(tc, the_rule_is_part_of_a_datasets_hash);
    tcase_add_test(tc, a_set_without_any_polyp_is_refused_unless_it_is_meant);
    tcase_add_test(tc, an_unclear_set_is_refused_when_it_is_opened);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

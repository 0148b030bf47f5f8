/* check_exif.c - EXIF's orientation: pictures and masks are used as a viewer shows them. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "image/image.h"
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"
#include "support/pictures.h"

/* 3 x 2 pixels as stored, 1 2 3 above 4 5 6, and as they are seen with each orientation. */
static const struct {
    int     width, height;
    uint8_t seen[6];
} turned[9] = {
    { 0 },
    { 3, 2, { 1, 2, 3, 4, 5, 6 } },
    { 3, 2, { 3, 2, 1, 6, 5, 4 } },
    { 3, 2, { 6, 5, 4, 3, 2, 1 } },
    { 3, 2, { 4, 5, 6, 1, 2, 3 } },
    { 2, 3, { 1, 4, 2, 5, 3, 6 } },
    { 2, 3, { 4, 1, 5, 2, 6, 3 } },
    { 2, 3, { 6, 3, 5, 2, 4, 1 } },
    { 2, 3, { 3, 6, 2, 5, 1, 4 } },
};

/* EXIF with a tag before that of the orientation. */
static size_t make_exif(uint8_t *to, bool big, int orientation)
{
    static const uint8_t low[]  = { 'I',  'I', 42,  0, 8, 0, 0, 0, 2, 0, 0x0F, 1, 2, 0, 2, 0,
                                    0,    0,   'k', 0, 0, 0, /* the maker */
                                    0x12, 1,   3,   0, 1, 0, 0, 0, 0, 0, 0,    0, 0, 0, 0, 0 };
    static const uint8_t high[] = { 'M', 'M',  0,   42, 0, 0, 0, 8, 0, 2, 1, 0x0F, 0, 2, 0, 0,
                                    0,   2,    'k', 0,  0, 0, /* the maker */
                                    1,   0x12, 0,   3,  0, 0, 0, 1, 0, 0, 0, 0,    0, 0, 0, 0 };

    memcpy(to, big ? high : low, sizeof low);
    to[big ? 31 : 30] = (uint8_t)orientation;
    return sizeof low;
}

/* Where a file's EXIF is put. */
typedef enum place { PNG_FRONT, PNG_END, JPEG_FRONT, JPEG_BEHIND_OTHERS } place;

static size_t be32_to(uint8_t *to, size_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (24 - 8 * i));
    return 4;
}

/* Put EXIF into a file that has none. */
static void tag(const char *path, place where, bool big, int orientation)
{
    size_t         n, put = 0, at;
    unsigned char *file = kd_test_read(path, &n), *to = malloc(n + 200);
    uint8_t        exif[64];
    size_t         size = make_exif(exif, big, orientation);

    at = where == PNG_FRONT ? 33 : where == PNG_END ? n - 12 : 2;
    memcpy(to, file, put = at);
    if (where <= PNG_END) {
        put += be32_to(to + put, size);
        memcpy(to + put, "eXIf", 4);
        memcpy(to + put + 4, exif, size);
        put += 4 + size;
        put += be32_to(to + put, 0); /* its checksum does not count */
    } else {
        if (where == JPEG_BEHIND_OTHERS) { /* a comment, and APP1 that is not EXIF */
            memcpy(to + put, "\xFF\xFE\0\4ab\xFF\xE1\0\xAhttp://a", 18);
            put += 18;
        }
        memcpy(to + put, "\xFF\xE1\0", 3);
        to[put + 3] = (uint8_t)(2 + 6 + size);
        memcpy(to + put + 4, "Exif\0\0", 6);
        memcpy(to + put + 10, exif, size);
        put += 10 + size;
    }
    memcpy(to + put, file + at, n - at);
    kd_test_write(path, to, put + n - at);
    free(file);
    free(to);
}

static void save(const char *name, const uint8_t *grey, int width, int height)
{
    kdas_view v = { grey, width, height, 0, KDAS_PIXEL_GREY8 };

    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path(name), &v));
}

START_TEST(a_png_is_turned_as_its_exif_says)
{
    static const uint8_t stored[6] = { 1, 2, 3, 4, 5, 6 };
    const char          *path      = kd_test_path("a.png");

    for (int o = 1; o <= 8; o++) {
        kd_image_info info;
        kdas_image   *grey, *rgb;
        kdas_view     v;
        uint16_t     *wide;

        save("a.png", stored, 3, 2);
        tag(path, _i & 1 ? PNG_END : PNG_FRONT, _i & 2, o);
        kd_assert_ok(kd_image_info_load(&info, kd_data_ctx, path));
        ck_assert_int_eq(info.width, turned[o].width);
        ck_assert_int_eq(info.height, turned[o].height);
        kd_data_log[0] = 0;
        kd_assert_ok(kdas_image_load(&grey, kd_data_ctx, path, KDAS_PIXEL_GREY8));
        ck_assert_int_eq(strstr(kd_data_log, "EXIF") != NULL, o > 1);
        kd_assert_ok(kdas_image_load(&rgb, kd_data_ctx, path, KDAS_PIXEL_RGB8));
        kd_assert_ok(kd_image_load_grey16(&wide, &info, kd_data_ctx, path));
        v = kdas_image_view(grey);
        ck_assert(v.width == turned[o].width && v.height == turned[o].height);
        ck_assert_mem_eq(v.data, turned[o].seen, 6);
        for (int i = 0; i < 6; i++) {
            ck_assert_int_eq(kdas_image_pixels(rgb)[3 * i + 1], turned[o].seen[i]);
            ck_assert_int_eq(wide[i], turned[o].seen[i] * 257);
        }
        kdas_image_destroy(grey);
        kdas_image_destroy(rgb);
        kd_free(kd_data_ctx, wide);
    }
}
END_TEST

/* The same rule as in the table, for any size. */
static int64_t stored_at(int o, int64_t x, int64_t y, int64_t w, int64_t h)
{
    int64_t sx = o == 1 || o == 4   ? x
                 : o == 2 || o == 3 ? w - 1 - x
                 : o == 5 || o == 6 ? y
                                    : w - 1 - y;
    int64_t sy = o == 1 || o == 2   ? y
                 : o == 3 || o == 4 ? h - 1 - y
                 : o == 5 || o == 8 ? x
                                    : h - 1 - x;

    return sy * w + sx;
}

START_TEST(a_jpeg_is_turned_as_its_exif_says)
{
    enum { SW = 21, SH = 13 };
    const char *path = kd_test_path("a.jpg");
    kdas_image *ramp = kd_test_ramp(kd_data_ctx, SW, SH);

    for (int o = 1; o <= 8; o++) {
        kdas_image *before, *after;
        kdas_view   v;

        kd_test_save(kd_data_ctx, path, ramp);
        kd_assert_ok(kdas_image_load(&before, kd_data_ctx, path, KDAS_PIXEL_RGB8));
        tag(path, _i & 1 ? JPEG_BEHIND_OTHERS : JPEG_FRONT, _i & 2, o);
        kd_assert_ok(kdas_image_load(&after, kd_data_ctx, path, KDAS_PIXEL_RGB8));
        v = kdas_image_view(after);
        ck_assert(v.width == (o < 5 ? SW : SH) && v.height == (o < 5 ? SH : SW));
        for (int64_t y = 0; y < v.height; y++)
            for (int64_t x = 0; x < v.width; x++)
                ck_assert_mem_eq(kdas_image_pixels(after) + 3 * (y * v.width + x),
                                 kdas_image_pixels(before) + 3 * stored_at(o, x, y, SW, SH), 3);
        kdas_image_destroy(before);
        kdas_image_destroy(after);
    }
    kdas_image_destroy(ramp);
}
END_TEST

/* ---- What is no orientation ---- */

START_TEST(a_tag_that_makes_no_sense_turns_nothing)
{
    uint8_t exif[64];
    size_t  n = make_exif(exif, false, 6);

    ck_assert_int_eq(kd_exif_orientation(exif, n), 6);
    for (size_t cut = 0; cut < n - 6; cut++) /* the last entry is whole up to there */
        ck_assert_int_eq(kd_exif_orientation(exif, cut), 1);
    for (int v = 0; v < 256; v++) {
        exif[30] = (uint8_t)v;
        ck_assert_int_eq(kd_exif_orientation(exif, n), v >= 1 && v <= 8 ? v : 1);
    }
    exif[30] = 6;
    exif[24] = 4; /* a LONG */
    ck_assert_int_eq(kd_exif_orientation(exif, n), 1);
    make_exif(exif, false, 6);
    exif[4] = 0xF0; /* a directory behind the end */
    ck_assert_int_eq(kd_exif_orientation(exif, n), 1);
    exif[7] = 0xFF;
    ck_assert_int_eq(kd_exif_orientation(exif, n), 1);
    make_exif(exif, true, 6);
    exif[0] = 'I'; /* the orders contradict each other */
    ck_assert_int_eq(kd_exif_orientation(exif, n), 1);
    for (int64_t k = 0; k < 20000; k++) {
        uint8_t *exact = malloc(n); /* reads behind it are seen by sanitizers */
        int      o;

        make_exif(exact, k & 1, 6);
        for (int i = 0; i < 3; i++)
            exact[kd_test_byte(k * 6 + i) % n] = kd_test_byte(k * 6 + 3 + i);
        o = kd_exif_orientation(exact, n);
        ck_assert(o >= 1 && o <= 8);
        free(exact);
    }
}
END_TEST

/* ---- Data sets ---- */

static const uint8_t half[6] = { 0, 0, 0, 255, 255, 255 }; /* the lower row of 3 x 2 */

static kdas_status open_folder(kdas_dataset **out)
{
    return kdas_dataset_open(out, kd_data_ctx, kd_test_path(NULL), NULL);
}

START_TEST(frames_and_masks_of_a_set_are_used_as_they_are_seen)
{
    static const uint8_t stored[6] = { 1, 2, 3, 4, 5, 6 };
    static const uint8_t left[6]   = { 255, 0, 255, 0, 255, 0 }; /* the same, seen with 6 */
    kdas_dataset        *dataset;
    kdas_image          *image, *mask;

    for (int own = 0; own < 2; own++) { /* a mask as seen, and one with a tag of its own */
        save("images/a.png", stored, 3, 2);
        tag(kd_test_path("images/a.png"), PNG_FRONT, false, 6);
        if (own) {
            save("masks/a.png", half, 3, 2);
            tag(kd_test_path("masks/a.png"), PNG_END, true, 6);
        } else {
            save("masks/a.png", left, 2, 3);
        }
        kd_data_log[0] = 0;
        kd_assert_ok(open_folder(&dataset));
        ck_assert_ptr_nonnull(strstr(kd_data_log, "EXIF"));
        ck_assert_ptr_nonnull(strstr(kd_data_log, "2x3 as it is seen, stored as 3x2"));
        ck_assert_ptr_nonnull(strstr(kd_data_log, "/images' are turned"));
        kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, 0));
        ck_assert_int_eq(kdas_image_view(image).width, 2);
        for (int i = 0; i < 6; i++)
            ck_assert_int_eq(kdas_image_pixels(image)[3 * i], turned[6].seen[i]);
        ck_assert_mem_eq(kdas_image_pixels(mask), left, 6);
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
        kdas_dataset_destroy(dataset);
    }
}
END_TEST

START_TEST(sizes_that_differ_by_exif_alone_are_told_so)
{
    static const uint8_t other[8] = { 0, 255 };
    kdas_dataset        *dataset  = NULL;

    save("images/a.png", half, 3, 2);
    save("masks/a.png", half, 3, 2);
    tag(kd_test_path("images/a.png"), PNG_FRONT, false, 8);
    kd_assert_status(open_folder(&dataset), KDAS_ESHAPE);
    kd_assert_sentence("the frame's EXIF orientation");
    kd_assert_sentence("2x3");
    save("images/a.png", half, 3, 2);
    tag(kd_test_path("masks/a.png"), PNG_FRONT, false, 5);
    kd_assert_status(open_folder(&dataset), KDAS_ESHAPE);
    kd_assert_sentence("the mask's EXIF orientation");
    save("masks/a.png", other, 4, 2); /* no tag mends this */
    kd_assert_status(open_folder(&dataset), KDAS_ESHAPE);
    ck_assert_ptr_null(strstr(kdas_last_error(), "EXIF"));
    ck_assert_ptr_null(dataset);
}
END_TEST

START_TEST(memory_that_runs_out_leaves_nothing)
{
    kdas_image *image = NULL;
    kdas_status st;

    save("a.png", half, 3, 2);
    tag(kd_test_path("a.png"), PNG_FRONT, false, 6);
    for (long i = 1;; i++) {
        kd_data_memory.taken   = 0;
        kd_data_memory.fail_at = i;
        st = kdas_image_load(&image, kd_data_ctx, kd_test_path("a.png"), KDAS_PIXEL_RGB8);
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        ck_assert_ptr_null(image);
    }
    kdas_image_destroy(image);
    kd_data_memory.fail_at = 0;
    kd_data_memory.taken = kd_data_memory.given_back = 0;
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("exif");
    TCase   *tc     = tcase_create("exif");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_loop_test(tc, a_png_is_turned_as_its_exif_says, 0, 4);
    tcase_add_loop_test(tc, a_jpeg_is_turned_as_its_exif_says, 0, 4);
    tcase_add_test(tc, a_tag_that_makes_no_sense_turns_nothing);
    tcase_add_test(tc, frames_and_masks_of_a_set_are_used_as_they_are_seen);
    tcase_add_test(tc, sizes_that_differ_by_exif_alone_are_told_so);
    tcase_add_test(tc, memory_that_runs_out_leaves_nothing);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

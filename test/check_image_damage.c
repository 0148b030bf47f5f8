/* check_image_damage.c - image files that lie, are cut off or altered: each gets a sentence that
 * names it, none an image that was not there, none a crash. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "image/image.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/pictures.h"

static kd_test_memory memory;
static kdas_context   context, *ctx = &context;

static void setup(void)
{
    kd_test_folder_make();
    kd_test_bare_context(ctx, &memory);
}

static void teardown(void)
{
    kd_test_assert_balanced(&memory);
    kd_test_folder_remove();
}

static void refused(const char *path, const char *sentence)
{
    kdas_image *image = (kdas_image *)&memory;

    kd_assert_status(kdas_image_load(&image, ctx, path, KDAS_PIXEL_RGB8), KDAS_EFORMAT);
    ck_assert_ptr_null(image);
    kd_assert_sentence(path);
    kd_assert_sentence(sentence);
}

#define SOF_(h, w) "\xFF\xD8\xFF\xC0\0\x11\x08" h w "\3\1\x22\0\2\x11\1\3\x11\1"
#define SOF(h, w)  SOF_(h, w) "\xFF\xD9"
#define SOF_ONLY   SOF_("\0\x10", "\0\x10")
#define FULL       "\xFF\xFF\xFF\xFF"
#define NONE       "\0\0\0\0"

static const struct {
    const char *data;
    size_t      n;
    const char *sentence;
} bad[] = {
    { "", 0, "is empty" },
    { "this is a text\n", 15, "not a JPEG, PNG, BMP or TIFF image" },
    { "version https://git-lfs.github.com/spec/v1\noid", 46, "Git LFS pointer" },
    { "<!DOCTYPE html><html>", 21, "web page" },
    { "PK\3\4abcdef", 10, "zip archive" },
    { "\x93NUMPY\1\0abc", 11, "NumPy array" },
    { "GIF89a....", 10, "GIF" },
    { "RIFF\1\2\3\4WEBPVP8 ", 16, "WebP" },
    { "\xFF\xD8\xFF", 3, "cut off" },
    { "\xFF\xD8\xFF\xD9", 4, "cut off" },
    { "\xFF\xD8\xFF\xD9\0\0", 6, "frame header" },
    { "\xFF\xD8\xFF\xE0\0\0\0\0", 8, "frame header" },
    { "\xFF\xD8\xFF\xE0\0\2\0\0\0\0", 10, "cut off" },
    { "\xFF\xD8\xFF\xC0\0\x11\x08\0\1\0\1\3\1\x31\0\2\x21\1\3\x11\1\xFF\xD9", 23, "sampling" },
    { SOF_ONLY "\xFF\xC4\0\x13\0" FULL FULL FULL FULL "\xFF\xD9", 44, "Huffman table" },
    { SOF_ONLY "\xFF\xC4\0\x13\0" NONE NONE NONE "\0\0\0\5\xFF\xD9", 44, "Huffman table" },
    { SOF("\0\0", "\0\0"), 23, "no pixels: it is 0x0" },
    { SOF("\x75\x30", "\x75\x30"), 23, "too large: 30000x30000" },
    { SOF("\0\x10", "\0\x10"), 23, "tables or scans are missing" },
    { "\xFF\xD8\xFF\xC9\0\x11\x08\0\1\0\1\1\1\x11\0\xFF\xD9", 17, "arithmetic" },
    { "\xFF\xD8\xFF\xC0\0\x0B\x0C\0\1\0\1\1\1\x11\0\xFF\xD9", 17, "12 bits" },
    { "\x89PNG\r\n\x1A\n", 8, "cut off" },
    { "BM", 2, "cut off" },
};

START_TEST(what_is_no_image_is_told_by_name)
{
    kd_test_write(kd_test_path("x.png"), bad[_i].data, bad[_i].n);
    refused(kd_test_path("x.png"), bad[_i].sentence);
}
END_TEST

START_TEST(png_headers_that_lie_are_refused_before_memory_is_taken)
{
    static const struct {
        uint32_t    width, height;
        const char *sentence;
    } rows[] = { { 0, 0, "no pixels: it is 0x0" },
                 { 5, 0, "no pixels: it is 5x0" },
                 { 30000, 30000, "too large: 30000x30000" },
                 { 16384, 16384, "too large" },
                 { 0xFFFFFFFF, 1, "too large" } };
    uint8_t file[256];

    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        long before = memory.asked;

        kd_test_write(
            kd_test_path("x.png"), file,
            kd_test_png(file, rows[i].width, rows[i].height, 8, 0, NULL, 0, (uint8_t[2]){ 0 }, 2));
        refused(kd_test_path("x.png"), rows[i].sentence);
        ck_assert_int_le(memory.asked - before, 2); /* for the open file alone */
    }
    /* a size that is allowed, and not there */
    kd_test_write(kd_test_path("x.png"), file,
                  kd_test_png(file, 8000, 8000, 8, 0, NULL, 0, (uint8_t[2]){ 0 }, 2));
    refused(kd_test_path("x.png"), "is damaged");
}
END_TEST

START_TEST(what_cannot_be_opened_is_told_by_name)
{
    kdas_image *image;

    kd_assert_status(kdas_image_load(&image, ctx, kd_test_path("none.png"), KDAS_PIXEL_RGB8),
                     KDAS_ENOTFOUND);
    kd_assert_sentence("none.png");
    kd_assert_status(kdas_image_load(&image, ctx, kd_test_path(NULL), KDAS_PIXEL_RGB8), KDAS_EIO);
    kd_assert_sentence("a folder");
}
END_TEST

START_TEST(no_cut_goes_unnoticed)
{
    static const char *const names[] = { "x.png", "x.jpg", "x.bmp", "progressive.jpg" };
    const char              *path    = kd_test_path(names[_i]);
    kdas_image              *image   = kd_test_ramp(ctx, 24, 17);
    unsigned char           *file;
    size_t                   n;

    if (_i == 2)
        kd_test_write(path, kd_test_bmp, sizeof kd_test_bmp - 3); /* less the padding */
    else if (_i == 3)
        kd_test_write(path, kd_test_progressive, sizeof kd_test_progressive);
    else
        kd_test_save(ctx, path, image);
    kdas_image_destroy(image);
    file = kd_test_read(path, &n);
    /* the end marker of a JPEG is two bytes that no pixel needs */
    for (size_t i = 0; i < (_i == 1 ? n - 2 : n); i++) {
        kd_test_write(path, file, i);
        refused(path, i >= 54 ? "cut off" : ""); /* sooner the header may be the culprit */
    }
    free(file);
}
END_TEST

/* All pixels of a file. */
static uint64_t pixels_of(const char *path)
{
    kdas_image *image;
    kdas_view   view;
    uint64_t    hash;

    kd_assert_ok(kdas_image_load(&image, ctx, path, KDAS_PIXEL_RGB8));
    view = kdas_image_view(image);
    hash = kd_hash_bytes(view.data, (size_t)(view.width * view.height * 3));
    kdas_image_destroy(image);
    return hash;
}

START_TEST(a_jpeg_that_lacks_only_its_end_marker_is_read)
{
    const char    *path = kd_test_path("x.jpg");
    unsigned char *file;
    size_t         n;

    for (int side = 8; side < 200; side += 13) { /* scans that end in different places of a byte */
        kdas_image *image = kd_test_ramp(ctx, side, 150);
        uint64_t    whole;

        kd_test_save(ctx, path, image);
        kdas_image_destroy(image);
        whole = pixels_of(path);
        file  = kd_test_read(path, &n);
        kd_test_write(path, file, n - 2);
        ck_assert_uint_eq(pixels_of(path), whole);
        kd_test_write(path, file, n - 1);
        ck_assert_uint_eq(pixels_of(path), whole);
        for (size_t i = 3; i < 40; i++) {
            kd_test_write(path, file, n - i);
            refused(path, "cut off");
        }
        free(file);
    }
}
END_TEST

START_TEST(a_cut_that_an_end_marker_hides_is_noticed)
{
    const char    *path  = kd_test_path("x.jpg");
    kdas_image    *image = kd_test_ramp(ctx, 200, 150);
    unsigned char *file;
    size_t         n;

    kd_test_save(ctx, path, image);
    kdas_image_destroy(image);
    file = kd_test_read(path, &n);
    for (size_t cut = 640; cut < n - 8; cut += 97) { /* the tables end before */
        unsigned char kept[2] = { file[cut], file[cut + 1] };

        memcpy(file + cut, "\xFF\xD9", 2);
        kd_test_write(path, file, cut + 2);
        memcpy(file + cut, kept, 2);
        if (file[cut - 1] != 0xFF) refused(path, "end early");
    }
    kd_test_write(path, file, n); /* and whole it is read */
    kd_assert_ok(kdas_image_load(&image, ctx, path, KDAS_PIXEL_RGB8));
    kdas_image_destroy(image);
    free(file);
}
END_TEST

START_TEST(no_flipped_bit_of_a_png_goes_unnoticed)
{
    const char    *path  = kd_test_path("x.png");
    kdas_image    *image = kd_test_ramp(ctx, 12, 9);
    unsigned char *file;
    size_t         n;

    kd_test_save(ctx, path, image);
    kdas_image_destroy(image);
    file = kd_test_read(path, &n);
    for (size_t i = 0; i < 8 * n; i++) {
        file[i / 8] ^= (unsigned char)(1 << i % 8);
        kd_test_write(path, file, n);
        file[i / 8] ^= (unsigned char)(1 << i % 8);
        refused(path, "");
    }
    free(file);
}
END_TEST

START_TEST(files_altered_at_random_never_crash_the_decoder)
{
    static const char *const names[] = { "x.png", "x.jpg", "x.bmp", "y.jpg" };
    const char              *path    = kd_test_path(names[_i]);
    kdas_image              *image   = kd_test_ramp(ctx, 40, 33);
    kd_random                r       = kd_random_make(7, (uint64_t)_i);
    unsigned char           *file, *copy;
    size_t                   n;
    int                      decoded = 0;

    if (_i == 2)
        kd_test_write(path, kd_test_bmp, sizeof kd_test_bmp);
    else if (_i == 3)
        kd_test_write(path, kd_test_progressive, sizeof kd_test_progressive);
    else
        kd_test_save(ctx, path, image);
    kdas_image_destroy(image);
    file = kd_test_read(path, &n);
    copy = malloc(n);
    for (int i = 0; i < 3000; i++) {
        memcpy(copy, file, n);
        for (int64_t k = kd_random_below(&r, 4); k >= 0; k--)
            copy[kd_random_below(&r, (int64_t)n)] = (unsigned char)kd_random_below(&r, 256);
        if (_i == 0) kd_test_mend_png(copy, n);
        kd_test_write(path, copy, n);
        if (kdas_image_load(&image, ctx, path, i % 2 ? KDAS_PIXEL_RGB8 : KDAS_PIXEL_GREY8) !=
            KDAS_OK) {
            ck_assert_ptr_null(image);
            kd_assert_sentence(path);
            continue;
        }
        decoded++;
        kdas_image_destroy(image);
    }
    ck_assert_int_gt(decoded, 50);
    free(file);
    free(copy);
}
END_TEST

START_TEST(real_oddities_give_an_image_or_a_sentence)
{
    static const struct {
        const char *name;
        int         width, height; /* 0: refused */
    } rows[] = { { "clinicdb_mask_rgb_nonbinary_1.png", 384, 288 },
                 { "colondb_mask_packbits_1.tiff", 574, 500 },
                 { "colondb_packbits_1.tiff", 574, 500 },
                 { "kvasir_mask_cju0u82z3cuma0835wlxrnrjv.jpg", 626, 546 },
                 { "kvasir_mask_cju15wdt3zla10801odjiw7sy.jpg", 622, 529 },
                 { "kvasir_mask_cju16ach3m1da0993r1dq3sn2.jpg", 616, 528 },
                 { "pvt_v2_b2.truncated.pth", 0, 0 } };

    if (!kd_test_shared("data/quirks")) return;
    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        kdas_image *image;
        char        path[256];

        snprintf(path, sizeof path, "../shared/data/quirks/%s", rows[i].name);
        if (strstr(path, ".tiff") && !kd_has_tiff()) continue;
        if (!rows[i].width) {
            refused(path, "not a JPEG, PNG, BMP or TIFF");
            continue;
        }
        kd_assert_ok(kdas_image_load(&image, ctx, path, KDAS_PIXEL_GREY8));
        ck_assert_int_eq(image->width, rows[i].width);
        ck_assert_int_eq(image->height, rows[i].height);
        kdas_image_destroy(image);
    }
}
END_TEST

static Suite *damage_suite(void)
{
    Suite *s     = suite_create("image_damage");
    TCase *files = tcase_create("files");

    tcase_add_checked_fixture(files, setup, teardown);
    tcase_add_loop_test(files, what_is_no_image_is_told_by_name, 0, KD_COUNT(bad));
    tcase_add_test(files, png_headers_that_lie_are_refused_before_memory_is_taken);
    tcase_add_test(files, what_cannot_be_opened_is_told_by_name);
    tcase_add_loop_test(files, no_cut_goes_unnoticed, 0, 4);
    tcase_add_test(files, a_jpeg_that_lacks_only_its_end_marker_is_read);
    tcase_add_test(files, a_cut_that_an_end_marker_hides_is_noticed);
    tcase_add_test(files, no_flipped_bit_of_a_png_goes_unnoticed);
    tcase_add_loop_test(files, files_altered_at_random_never_crash_the_decoder, 0, 4);
    tcase_add_test(files, real_oddities_give_an_image_or_a_sentence);
    suite_add_tcase(s, files);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(damage_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

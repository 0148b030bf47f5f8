/* check_map_files.c - files of a teacher's maps: good ones, means of several folders, and bad ones. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "data/dataset.h"
#include "image/image.h"
#include "io/safetensors.h"
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"
#include "support/map_util.h"

/* ---- Files ---- */

static void write_tensor(const char *name, const char *tensor, kd_st_dtype type, int rank,
                         const int64_t *dims, const void *data)
{
    kd_st_writer *w;

    kd_assert_ok(kd_st_writer_create(&w, kd_data_ctx));
    kd_assert_ok(kd_st_writer_put(w, tensor, type, rank, dims, data));
    kd_assert_ok(kd_st_writer_save(w, kd_test_path(name), false));
    kd_st_writer_destroy(w);
}

START_TEST(a_png_of_16_bits_comes_back_exact)
{
    float         v[7 * 5];
    kdas_view     view = { v, 7, 5, 0, KDAS_PIXEL_GREYF32 };
    uint16_t     *got;
    kd_image_info info;

    for (int i = 0; i < 35; i++)
        v[i] = (float)(i * 1873 % 65536) / 65535;
    v[3] = -1;
    v[4] = 2;
    kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path("a.png"), &view));
    kd_assert_ok(kd_image_load_grey16(&got, &info, kd_data_ctx, kd_test_path("a.png")));
    ck_assert(info.width == 7 && info.height == 5 && info.bits == 16);
    for (int i = 0; i < 35; i++)
        ck_assert_int_eq(got[i], i == 3 ? 0 : i == 4 ? 65535 : i * 1873 % 65536);
    kd_free(kd_data_ctx, got);
    kd_test_write_map("b.png", 7, 5, 3, 0);
    kd_assert_ok(kd_image_load_grey16(&got, &info, kd_data_ctx, kd_test_path("b.png")));
    ck_assert_int_eq(info.bits, 8);
    for (int i = 0; i < 35; i++)
        ck_assert_int_eq(got[i], 257 * 3 * i);
    kd_free(kd_data_ctx, got);
    view.pixel = KDAS_PIXEL_RGBF32;
    view.width = 2;
    kd_assert_status(kdas_image_save(kd_data_ctx, kd_test_path("c.png"), &view), KDAS_EINVAL);
}
END_TEST

/* Logits that were saved are those of the batch, up to what a probability of the format can tell. */
START_TEST(maps_that_were_saved_are_read_again)
{
    static const char *const names[] = { "maps/a.png", "maps/a.safetensors" };
    kdas_dataset            *dataset = kd_test_one_frame();
    float                    logits[32 * 32], got[32 * 32];

    for (int i = 0; i < 32 * 32; i++)
        logits[i] = (float)(i - 512) / 50; /* +-10.24 */
    kd_assert_ok(kdas_map_save(kd_data_ctx, kd_test_path(names[_i]), logits, 32, 32));
    kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("maps")));
    ck_assert_int_eq(kdas_dataset_maps(dataset), 1);
    kd_test_map_of(got, dataset, 0, 32, 32);
    for (int i = 0; i < 32 * 32; i++) {
        double p = kd_test_probability(logits[i]), step = _i ? 0x1p-24 : 0.51 / 65535;

        ck_assert_double_eq_tol(kd_test_probability(got[i]), p, step + 1e-7 * p);
        if (_i && logits[i] < 5) ck_assert_double_eq_tol(got[i], logits[i], 1e-4);
    }
    kdas_dataset_destroy(dataset);
    logits[7] = NAN;
    kd_assert_status(kdas_map_save(kd_data_ctx, kd_test_path("n.png"), logits, 32, 32),
                     KDAS_EINVAL);
}
END_TEST

START_TEST(probabilities_are_held_off_0_and_1)
{
    kdas_dataset *dataset = kd_test_one_frame();
    float         got[32 * 32];

    kd_test_write_map("maps/a.png", 32, 32, 255, 0);
    kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("maps")));
    kd_test_map_of(got, dataset, 0, 32, 32);
    ck_assert_double_eq_tol(got[0], log(0.5 / 254.5), 1e-5);
    ck_assert_double_eq_tol(got[1], log(254.5 / 0.5), 1e-4);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(a_map_of_another_size_is_resized_like_an_image)
{
    kdas_dataset *dataset = kd_test_one_frame();
    float         p[50 * 20], want[32 * 32], got[32 * 32];
    kdas_view     view = { p, 50, 20, 0, KDAS_PIXEL_GREYF32 };

    kd_test_write_map("maps/a.PNG", 50, 20, 7, 0);
    for (int i = 0; i < 50 * 20; i++)
        p[i] = (float)(uint8_t)(i * 7) / 255;
    kd_assert_ok(kd_resize_floats(kd_data_ctx, want, 32, 32, &view));
    kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("maps")));
    kd_test_map_of(got, dataset, 0, 32, 32);
    for (int i = 0; i < 32 * 32; i++)
        ck_assert_double_eq_tol(kd_test_probability(got[i]), (double)want[i], 1e-6);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* Of two PNG, and of a PNG and logits, the second smaller than the first. */
START_TEST(several_folders_give_the_mean_of_probabilities)
{
    kdas_dataset *dataset = kd_test_one_frame();
    float         logits[16 * 16], got[32 * 32];

    kd_test_write_map("maps/a.png", 32, 32, 1, 0);
    if (_i == 0) {
        kd_test_write_map("more/a.png", 32, 32, 3, 5);
    } else {
        for (int i = 0; i < 16 * 16; i++)
            logits[i] = i ? 1.5f : 1.5001f;
        write_tensor("more/a.safetensors", "logit", KD_ST_F32, 3, (int64_t[]){ 1, 16, 16 }, logits);
    }
    kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("maps")));
    kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("more")));
    ck_assert_int_eq(kdas_dataset_maps(dataset), 2);
    kd_test_map_of(got, dataset, 0, 32, 32);
    for (int i = 0; i < 32 * 32; i++) {
        double a    = (uint8_t)i / 255.0,
               b    = _i ? kd_test_probability(1.5f) : (uint8_t)(3 * i + 5) / 255.0;
        double mean = (a + b) / 2;

        mean = fmin(fmax(mean, 0.5 / 255), 1 - 0.5 / 255);
        ck_assert_double_eq_tol(kd_test_probability(got[i]), mean, _i ? 2e-5 : 0.51 / 65535);
    }
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- Bad files ---- */

static void no_map(void) {}
static void other_kind(void) { kd_test_write_map("maps/b.jpg", 32, 32, 1, 0); }
static void coloured(void) { kd_test_write_picture("maps/b.png", 8, 8, KDAS_PIXEL_RGB8, 1); }
static void no_picture(void) { kd_test_write(kd_test_path("maps/b.png"), "text", 4); }
static void jpeg_inside(void)
{
    kd_test_write_map("maps/b.jpg", 32, 32, 1, 0);
    kd_test_shell("mv '%s' '%s'", kd_test_path("maps/b.jpg"), kd_test_path("maps/b.png"));
}
static void two_files(void)
{
    float v[4] = { 0, 1, 2, 3 };

    kd_test_write_map("maps/b.png", 32, 32, 1, 0);
    write_tensor("maps/b.safetensors", "P1", KD_ST_F32, 2, (int64_t[]){ 2, 2 }, v);
}
static void several_maps(void)
{
    float v[8] = { 0 };

    write_tensor("maps/b.safetensors", "P1", KD_ST_F32, 3, (int64_t[]){ 2, 2, 2 }, v);
}
static void whole_numbers(void)
{
    int32_t v[4] = { 0 };

    write_tensor("maps/b.safetensors", "P1", KD_ST_I32, 2, (int64_t[]){ 2, 2 }, v);
}
static void a_row(void)
{
    float v[4] = { 0 };

    write_tensor("maps/b.safetensors", "P1", KD_ST_F32, 1, (int64_t[]){ 4 }, v);
}
static void broken_tensors(void)
{
    kd_test_write(kd_test_path("maps/b.safetensors"), "12345678{}", 10);
}

static const struct {
    void (*make)(void);
    kdas_status status;
    const char *part;
} bads[] = {
    { no_map, KDAS_ENOTFOUND, "no map for 1 of the 2 frames, the first 'b'" },
    { other_kind, KDAS_ENOTFOUND, "no map for 1 of the 2 frames, the first 'b'" },
    { coloured, KDAS_EFORMAT, "maps/b.png' has colours" },
    { no_picture, KDAS_EFORMAT, "maps/b.png" },
    { jpeg_inside, KDAS_EFORMAT, "maps/b.png' is no PNG" },
    { two_files, KDAS_EFORMAT, "both maps of one frame" },
    { several_maps, KDAS_EFORMAT, "maps/b.safetensors': 'P1' holds several maps" },
    { whole_numbers, KDAS_EFORMAT, "of type I32" },
    { a_row, KDAS_EFORMAT, "has not the shape of a map" },
    { broken_tensors, KDAS_EFORMAT, "maps/b.safetensors" },
};

START_TEST(a_bad_file_is_named_and_the_maps_stay_as_they_were)
{
    kdas_dataset *dataset;
    uint64_t      hash;

    kd_test_write_pair("a", 32, 32);
    kd_test_write_pair("b", 32, 32);
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
    hash    = kdas_dataset_hash(dataset);
    kd_test_write_map("maps/a.png", 32, 32, 1, 0);
    bads[_i].make();
    kd_assert_status(kdas_dataset_add_maps(dataset, kd_test_path("maps")), bads[_i].status);
    kd_assert_sentence(bads[_i].part);
    ck_assert_int_eq(kdas_dataset_maps(dataset), 0);
    ck_assert(kdas_dataset_hash(dataset) == hash);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(maps_of_zeros_and_ones_are_warned_of)
{
    kdas_dataset *dataset;
    uint8_t       pixels[64] = { 1 };
    kdas_view     v          = { pixels, 8, 8, 0, KDAS_PIXEL_GREY8 };

    kd_test_write_pair("a", 32, 32);
    kd_test_write_map("maps/a.png", 32, 32, 1, 0);
    for (int bright = 0; bright < 2; bright++) {
        dataset   = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
        pixels[9] = bright ? 2 : 1;
        kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path("maps/a.png"), &v));
        kd_data_log[0] = 0;
        kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("maps")));
        ck_assert_int_eq(strstr(kd_data_log, "has a probability above 1 / 255") != NULL, !bright);
        kdas_dataset_destroy(dataset);
    }
}
END_TEST

START_TEST(a_folder_of_even_maps_is_refused_and_a_single_one_is_not)
{
    kdas_dataset *dataset;

    kd_test_write_pair("a", 32, 32);
    kd_test_write_pair("b", 32, 32);
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
    kd_test_write_map("maps/a.png", 32, 32, 0, 0);
    kd_test_write_map("maps/b.png", 32, 32, 0, 9);
    kd_assert_status(kdas_dataset_add_maps(dataset, kd_test_path("maps")), KDAS_EFORMAT);
    kd_assert_sentence("'a.png', has the same value");
    kd_assert_status(kdas_dataset_add_maps(dataset, kd_test_path("nowhere")), KDAS_ENOTFOUND);
    kd_assert_sentence("nowhere");
    kd_assert_status(kdas_dataset_add_maps(dataset, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_add_maps(NULL, "maps"), KDAS_EINVAL);
    kd_test_write_map("maps/b.png", 32, 32, 1, 9);
    kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("maps")));
    kdas_dataset_destroy(dataset);
}
END_TEST

/* What goes wrong after the headers were read comes out of the loader, with the file's name. */
START_TEST(a_file_that_goes_bad_comes_out_of_the_loader)
{
    kdas_loader_options o         = kd_test_loader_options(2, 32, 32);
    float               logits[4] = { 0, 1, 2, NAN };
    kdas_dataset       *dataset;
    kdas_loader        *loader;
    kdas_batch         *b;

    kd_test_write_pair("a", 32, 32);
    kd_test_write_pair("b", 32, 32);
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
    kd_test_write_map("maps/a.png", 32, 32, 1, 0);
    if (_i == 0)
        write_tensor("maps/b.safetensors", "P1", KD_ST_F32, 2, (int64_t[]){ 2, 2 }, logits);
    else
        kd_test_write_map("maps/b.png", 32, 32, 1, 0);
    kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("maps")));
    if (_i == 1) kd_test_write_map("maps/b.png", 32, 31, 1, 0);
    if (_i == 2) kd_test_shell("rm '%s'%s", kd_test_path("maps/b.png"), "");
    loader = kd_test_loader(dataset, &o);
    ck_assert_int_ne(kdas_loader_next(loader, &b), KDAS_OK);
    kd_assert_sentence(_i == 0   ? "maps/b.safetensors' has logits that are not finite"
                       : _i == 1 ? "maps/b.png' was 32x32 when it was found and is 32x31 now"
                                 : "maps/b.png");
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("map files");
    TCase   *tc    = tcase_create("map files");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_maps_start, kd_test_data_finish);
    tcase_add_test(tc, a_png_of_16_bits_comes_back_exact);
    tcase_add_loop_test(tc, maps_that_were_saved_are_read_again, 0, 2);
    tcase_add_test(tc, probabilities_are_held_off_0_and_1);
    tcase_add_test(tc, a_map_of_another_size_is_resized_like_an_image);
    tcase_add_loop_test(tc, several_folders_give_the_mean_of_probabilities, 0, 2);
    tcase_add_loop_test(tc, a_bad_file_is_named_and_the_maps_stay_as_they_were, 0,
                        (int)KD_COUNT(bads));
    tcase_add_test(tc, a_folder_of_even_maps_is_refused_and_a_single_one_is_not);
    tcase_add_test(tc, maps_of_zeros_and_ones_are_warned_of);
    tcase_add_loop_test(tc, a_file_that_goes_bad_comes_out_of_the_loader, 0, 3);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

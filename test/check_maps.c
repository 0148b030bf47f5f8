/* check_maps.c - how a teacher's maps move with their frames; frames without masks; and what a batch makes of both. */
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

enum { SIDE = 64, AREA = SIDE * SIDE };

/* ---- Maps move with their frames ---- */

/* A frame whose red is its mask, and a map that is the same: p of the map is the red of the image, which rounds to
 * a 255th, and is held off 0 and 1 by half of one. */
START_TEST(a_map_turns_with_its_frame)
{
    kdas_loader_options o     = kd_test_loader_options(1, SIDE, SIDE);
    double              worst = 0;
    kdas_dataset       *dataset;
    kdas_loader        *loader;

    kd_test_write_disc("a", SIDE, SIDE, 22, 40, 13);
    kd_test_shell("cp '%s' '%s'", kd_test_path("masks/a.png"), kd_test_path("maps/a.png"));
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
    kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("maps")));
    loader = kd_test_loader(dataset, &o);
    for (int i = 0; i < 30; i++) {
        kdas_batch *b = kd_test_next(loader);

        for (int k = 0; k < AREA; k++) {
            double red = (double)kdas_batch_images(b)[3 * k] * 0.229 + 0.485;

            worst = fmax(worst, fabs(red - kd_test_probability(kdas_batch_teacher(b)[k])));
        }
        ck_assert(kdas_batch_labelled(b, 0) && !kdas_batch_weights(b));
    }
    ck_assert_double_lt(worst, 1.01 / 255);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(flips_of_a_map_are_exact)
{
    kdas_loader_options o       = kd_test_loader_options(1, 32, SIDE);
    int                 seen[4] = { 0 };
    float               plain[32 * SIDE];
    kdas_dataset       *dataset = kd_test_one_frame();
    kdas_loader        *loader;

    kd_test_write_map("maps/a.png", SIDE, 32, 31, 2);
    kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("maps")));
    kd_test_map_of(plain, dataset, 0, SIDE, 32);
    o.rotation = 0;
    loader     = kd_test_loader(dataset, &o);
    for (int i = 0; i < 40; i++) {
        const float *got   = kdas_batch_teacher(kd_test_next(loader));
        int          found = -1;

        for (int flip = 0; flip < 4; flip++) {
            bool equal = true;

            for (int k = 0; k < 32 * SIDE && equal; k++) {
                int x = flip & 1 ? SIDE - 1 - k % SIDE : k % SIDE,
                    y = flip & 2 ? 31 - k / SIDE : k / SIDE;

                equal = got[k] == plain[SIDE * y + x];
            }
            if (equal) found = flip;
        }
        ck_assert_int_ge(found, 0);
        seen[found]++;
    }
    for (int flip = 0; flip < 4; flip++)
        ck_assert_int_gt(seen[flip], 2);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- Several datasets ---- */

/* Frames f0..f5, the map of frame i even at 40 i but for one pixel. */
static kdas_dataset *six_frames(uint64_t cache)
{
    kdas_dataset *dataset;
    uint8_t       v[AREA];
    kdas_view     view = { v, SIDE, SIDE, 0, KDAS_PIXEL_GREY8 };

    for (int i = 0; i < 6; i++) {
        char name[32];

        snprintf(name, sizeof name, "f%d", i);
        kd_test_write_pair(name, 48, 40);
        memset(v, 40 * i, sizeof v);
        v[0] = 7;
        snprintf(name, sizeof name, "maps/f%d.png", i);
        kd_assert_ok(kdas_image_save(kd_data_ctx, kd_test_path(name), &view));
    }
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, cache);
    kd_assert_ok(kdas_dataset_add_maps(dataset, kd_test_path("maps")));
    return dataset;
}

static void check_maps_fit_names(kdas_dataset *dataset)
{
    float got[AREA];

    for (int64_t i = 0; i < kdas_dataset_count(dataset); i++) {
        int    frame = kdas_dataset_name(dataset, i)[1] - '0';
        double p     = fmax(40.0 * frame, 0.5) / 255;

        kd_test_map_of(got, dataset, i, SIDE, SIDE);
        ck_assert_double_eq_tol(kd_test_probability(got[AREA / 2]), p, 1e-6);
    }
}

START_TEST(split_and_join_keep_the_maps)
{
    kdas_dataset *all = six_frames(1 << 20), *rest, *part, *again;

    kd_assert_ok(kdas_dataset_split(&rest, &part, all, 0.4, 3));
    kdas_dataset_destroy(all);
    ck_assert_int_eq(kdas_dataset_maps(rest), 1);
    check_maps_fit_names(part);
    kd_assert_ok(kdas_dataset_join(&again, part, rest));
    kdas_dataset_destroy(rest);
    kdas_dataset_destroy(part);
    ck_assert_int_eq(kdas_dataset_count(again), 6);
    check_maps_fit_names(again);
    kdas_dataset_destroy(again);
}
END_TEST

START_TEST(maps_added_later_leave_other_datasets_alone)
{
    kdas_dataset *all = six_frames(1 << 20), *rest, *part, *both;

    kd_assert_ok(kdas_dataset_split(&rest, &part, all, 0.5, 3));
    kd_assert_ok(kdas_dataset_add_maps(rest, kd_test_path("maps")));
    ck_assert_int_eq(kdas_dataset_maps(rest), 2);
    ck_assert_int_eq(kdas_dataset_maps(all), 1);
    check_maps_fit_names(rest); /* the mean of a map and itself */
    kd_assert_ok(kdas_dataset_join(&both, all, part));
    kd_assert_status(kdas_dataset_add_maps(both, kd_test_path("maps")), KDAS_EINVAL);
    kd_assert_sentence("two frames are called 'f");
    kdas_dataset_destroy(both);
    kdas_dataset_destroy(part);
    part = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 0);
    kd_assert_status(kdas_dataset_join(&both, all, part), KDAS_EINVAL);
    kd_assert_sentence("the other has not");
    ck_assert_ptr_null(both);
    kd_assert_status(kdas_dataset_join(&both, all, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_join(NULL, all, part), KDAS_EINVAL);
    kdas_dataset_destroy(part);
    kdas_dataset_destroy(rest);
    kdas_dataset_destroy(all);
}
END_TEST

START_TEST(the_hash_tells_maps_apart)
{
    kdas_dataset *with    = six_frames(1 << 20),
                 *without = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 0);
    uint64_t bare = kdas_dataset_hash(without), first = kdas_dataset_hash(with);

    ck_assert(bare != first);
    kd_test_write_map("maps/f3.png", 33, 32, 1, 0);
    kd_assert_ok(kdas_dataset_add_maps(without, kd_test_path("maps")));
    ck_assert(kdas_dataset_hash(without) != bare && kdas_dataset_hash(without) != first);
    kdas_dataset_destroy(with);
    kdas_dataset_destroy(without);
}
END_TEST

/* ---- Frames without masks ---- */

static kdas_dataset *open_unlabelled(const char *dir)
{
    kdas_dataset_options o;
    kdas_dataset        *dataset;

    kdas_dataset_options_init(&o, sizeof o);
    o.unlabelled = 1;
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, dir, &o));
    return dataset;
}

START_TEST(frames_without_masks_are_opened_with_and_without_a_folder_of_images)
{
    static const char *const dirs[] = { NULL, "images" };
    kdas_dataset            *dataset;
    kdas_image              *image, *mask;
    uint64_t                 labelled;

    kd_test_write_pair("a", 32, 40);
    kd_test_write_pair("b", 48, 32);
    dataset  = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 0);
    labelled = kdas_dataset_hash(dataset);
    ck_assert_int_eq(kdas_dataset_unlabelled(dataset), 0);
    kdas_dataset_destroy(dataset);
    dataset = open_unlabelled(kd_test_path(dirs[_i]));
    ck_assert_int_eq(kdas_dataset_count(dataset), 2);
    ck_assert_int_eq(kdas_dataset_unlabelled(dataset), 2);
    ck_assert_str_eq(kdas_dataset_name(dataset, 1), "b");
    ck_assert(kdas_dataset_hash(dataset) != labelled);
    for (int i = 0; i < 2; i++) { /* decoded, then kept */
        kd_assert_ok(kdas_dataset_get(&image, &mask, dataset, 1));
        ck_assert_ptr_null(mask);
        ck_assert(kdas_image_view(image).width == 48);
        kdas_image_destroy(image);
    }
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(bad_frames_without_masks_are_refused_or_left_out)
{
    kdas_dataset_options o;
    kdas_dataset        *dataset;

    kdas_dataset_options_init(&o, sizeof o);
    o.unlabelled = 1;
    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path("images"), &o),
                     KDAS_ENOTFOUND);
    kd_test_write_picture("images/a.png", 8, 8, KDAS_PIXEL_RGB8, 1);
    kd_test_write_picture("images/b.png", 8, 8, KDAS_PIXEL_RGB8, 1);
    kd_test_write_picture("images/b.jpg", 8, 8, KDAS_PIXEL_RGB8, 1);
    kd_assert_status(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o),
                     KDAS_EFORMAT);
    kd_assert_sentence("same base name");
    o.bad_file = KDAS_BAD_FILE_SKIP;
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o));
    ck_assert_int_eq(kdas_dataset_count(dataset), 1);
    ck_assert_int_eq(kdas_dataset_skipped(dataset), 1);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* Two frames with masks, two without, all with maps. */
static kdas_dataset *mixed(void)
{
    kdas_dataset *with, *without, *all;

    for (int i = 0; i < 4; i++) {
        char name[32];

        snprintf(name, sizeof name, "maps/%c.png", "abcd"[i]);
        kd_test_write_map(name, 40, 30, 1 + 2 * i, i);
    }
    kd_test_write_pair("a", 32, 32);
    kd_test_write_pair("b", 32, 32);
    with = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 1 << 20);
    kd_test_write_picture("more/c.png", 50, 40, KDAS_PIXEL_RGB8, 1);
    kd_test_write_picture("more/d.png", 40, 60, KDAS_PIXEL_RGB8, 2);
    without = open_unlabelled(kd_test_path("more"));
    kd_assert_ok(kdas_dataset_join(&all, with, without));
    kdas_dataset_destroy(with);
    kdas_dataset_destroy(without);
    kd_assert_ok(kdas_dataset_add_maps(all, kd_test_path("maps")));
    ck_assert_int_eq(kdas_dataset_unlabelled(all), 2);
    return all;
}

START_TEST(a_frame_without_a_mask_learns_from_its_map_by_its_confidence)
{
    kdas_loader_options o       = kd_test_loader_options(4, 32, 32);
    kdas_dataset       *dataset = mixed();
    kdas_loader        *loader;
    kdas_batch         *b;
    int                 polyp = 0;

    o.shuffle = 0;
    loader    = kd_test_loader(dataset, &o);
    b         = kd_test_next(loader);
    for (int i = 0; i < 4; i++) {
        const float *mask = kdas_batch_masks(b) + i * 1024, *w = kdas_batch_weights(b) + i * 1024,
                    *t = kdas_batch_teacher(b) + i * 1024;

        ck_assert_int_eq(kdas_batch_labelled(b, i), i < 2);
        for (int k = 0; k < 1024; k++) {
            if (i < 2) {
                ck_assert(w[k] == 1);
                continue;
            }
            ck_assert(mask[k] == (t[k] >= 0));
            ck_assert_double_eq_tol(w[k], fmax(fabs(2 * kd_test_probability(t[k]) - 1), 0x1p-10),
                                    1e-6);
            polyp += mask[k] > 0;
        }
    }
    ck_assert_int_gt(polyp, 100);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- The loader's promises hold with maps ---- */

static uint64_t batch_hash(kdas_batch *b)
{
    size_t   n = (size_t)(kdas_batch_count(b) * kdas_batch_height(b) * kdas_batch_width(b));
    uint64_t h = kd_hash_bytes(kdas_batch_images(b), n * 3 * sizeof(float));

    h = kd_mix64(h ^ kd_hash_bytes(kdas_batch_masks(b), n * sizeof(float)));
    h = kd_mix64(h ^ kd_hash_bytes(kdas_batch_teacher(b), n * sizeof(float)));
    h = kd_mix64(h ^ kd_hash_bytes(kdas_batch_weights(b), n * sizeof(float)));
    for (int64_t i = 0; i < kdas_batch_count(b); i++)
        h = kd_mix64(h + (uint64_t)kdas_batch_labelled(b, i));
    return h;
}

START_TEST(workers_and_seeking_change_no_bit)
{
    enum { N = 12 }; /* three epochs of two batches at two scales */
    static const float  scales[]  = { 0.5f, 1 };
    static const int    workers[] = { 0, 1, 3 };
    kdas_loader_options o         = kd_test_loader_options(3, 64, 64);
    kdas_dataset       *dataset   = mixed();
    kdas_loader        *loader;
    uint64_t            want[N];

    o.scales      = scales;
    o.scale_count = 2;
    for (int w = 0; w < 3; w++) {
        o.workers = workers[w];
        loader    = kd_test_loader(dataset, &o);
        for (int i = 0; i < N; i++) {
            uint64_t h = batch_hash(kd_test_next(loader));

            if (w == 0) want[i] = h;
            ck_assert(h == want[i]);
        }
        kd_assert_ok(kdas_loader_seek(loader, 5));
        ck_assert(batch_hash(kd_test_next(loader)) == want[5]);
        kdas_loader_destroy(loader);
    }
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(maps_share_the_frames_budget_and_are_read_once)
{
    static const uint64_t caches[] = { 0, 30000, 1 << 20 };
    uint64_t              want[2]  = { 0 };

    for (int c = 0; c < 3; c++) {
        kdas_loader_options o = kd_test_loader_options(3, 64, 64);
        kdas_dataset       *dataset;
        kdas_loader        *loader;

        o.workers = 0;
        dataset   = six_frames(caches[c]);
        loader    = kd_test_loader(dataset, &o);
        for (int i = 0; i < 2; i++) {
            kdas_batch *b = kd_test_next(loader);
            uint64_t    h = kd_hash_bytes(kdas_batch_teacher(b), 3 * AREA * sizeof(float));

            if (c == 0) want[i] = h;
            ck_assert(h == want[i]);
        }
        ck_assert_uint_le(dataset->entry[0].frames->used, caches[c]);
        if (c == 2) { /* what is kept needs no file */
            ck_assert_uint_eq(dataset->entry[0].frames->used, 6 * (48 * 40 * 4 + AREA * 2));
            kd_test_shell("rm -r '%s'%s", kd_test_path("maps"), "");
            kd_test_next(loader);
        }
        kdas_loader_destroy(loader);
        kdas_dataset_destroy(dataset);
    }
}
END_TEST

START_TEST(memory_that_runs_out_leaves_everything_as_it_was)
{
    kdas_loader_options o       = kd_test_loader_options(4, 32, 32);
    kdas_dataset       *dataset = mixed();
    kdas_loader        *loader;
    kdas_batch         *b;
    uint64_t            hash = kdas_dataset_hash(dataset);
    kdas_status         st   = KDAS_ENOMEM;

    for (long k = 1; st != KDAS_OK; k++) {
        kd_data_memory.fail_at = kd_data_memory.taken + k;
        st                     = kdas_dataset_add_maps(dataset, kd_test_path("maps"));
        kd_data_memory.fail_at = 0;
        if (st == KDAS_OK) break;
        ck_assert_int_eq(st, KDAS_ENOMEM);
        ck_assert(kdas_dataset_hash(dataset) == hash);
    }
    o.workers = 0;
    for (long k = 1, st2 = KDAS_ENOMEM; st2 != KDAS_OK; k++) {
        kd_data_memory.fail_at = kd_data_memory.taken + k;
        st2                    = kdas_loader_create(&loader, dataset, &o);
        kd_data_memory.fail_at = 0;
        ck_assert(st2 == KDAS_OK || st2 == KDAS_ENOMEM);
    }
    for (long k = 1, st2 = KDAS_ENOMEM; st2 != KDAS_OK; k++) {
        kd_data_memory.fail_at = kd_data_memory.taken + k;
        st2                    = kdas_loader_next(loader, &b);
        kd_data_memory.fail_at = 0;
        ck_assert(st2 == KDAS_OK || st2 == KDAS_ENOMEM);
    }
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- Batches of a host ---- */

START_TEST(a_host_fills_a_batch_likewise)
{
    float       p[1024], w[1024];
    uint8_t     rgb[1024 * 3] = { 9 };
    kdas_view   map = { p, 32, 32, 0, KDAS_PIXEL_GREYF32 }, weights = map, image = map;
    kdas_batch *b;

    for (int i = 0; i < 1024; i++) {
        p[i] = (float)i / 1023;
        w[i] = (float)(i % 7);
    }
    weights.data = w;
    image.data   = rgb;
    image.pixel  = KDAS_PIXEL_RGB8;
    kd_assert_ok(kdas_batch_create(&b, kd_data_ctx, 2, 32, 32));
    ck_assert(!kdas_batch_teacher(b) && !kdas_batch_weights(b) && kdas_batch_labelled(b, 1));
    kd_assert_ok(kdas_batch_set_teacher(b, 1, &map));
    kd_assert_ok(kdas_batch_set_weights(b, 0, &weights));
    for (int i = 0; i < 1024; i++) {
        ck_assert_double_eq_tol(kd_test_probability(kdas_batch_teacher(b)[1024 + i]), p[i], 1e-6);
        ck_assert(kdas_batch_weights(b)[i] == w[i] && kdas_batch_weights(b)[1024 + i] == 1);
    }
    kd_assert_ok(kdas_batch_set_labelled(b, 1, 0)); /* after its map */
    ck_assert(kdas_batch_masks(b)[1024] == 0 && kdas_batch_masks(b)[2047] == 1);
    ck_assert_double_eq_tol(kdas_batch_weights(b)[1024 + 256], 1 - 2.0 * 256 / 1023, 1e-5);
    kd_assert_ok(kdas_batch_set(b, 1, &image, NULL)); /* another image: what was said is gone */
    ck_assert(kdas_batch_labelled(b, 1) && kdas_batch_weights(b)[1024 + 256] == 1);
    kd_assert_ok(kdas_batch_set_labelled(b, 1, 0)); /* before it */
    ck_assert(kdas_batch_masks(b)[2047] == 0);
    kd_assert_ok(kdas_batch_set_teacher(b, 1, &map));
    ck_assert(kdas_batch_masks(b)[2047] == 1);

    kd_assert_status(kdas_batch_set_teacher(b, 2, &map), KDAS_EINVAL);
    kd_assert_status(kdas_batch_set_teacher(b, 0, &image), KDAS_EINVAL);
    kd_assert_status(kdas_batch_set_teacher(NULL, 0, &map), KDAS_EINVAL);
    p[5] = 1.5f;
    kd_assert_status(kdas_batch_set_teacher(b, 0, &map), KDAS_EINVAL);
    kd_assert_sentence("1.5 is not 0 to 1");
    w[5] = NAN;
    kd_assert_status(kdas_batch_set_weights(b, 0, &weights), KDAS_EINVAL);
    kd_assert_status(kdas_batch_set_labelled(b, 2, 0), KDAS_EINVAL);
    kdas_batch_destroy(b);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("maps");
    TCase   *tc    = tcase_create("maps");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_maps_start, kd_test_data_finish);
    tcase_add_test(tc, a_map_turns_with_its_frame);
    tcase_add_test(tc, flips_of_a_map_are_exact);
    tcase_add_test(tc, split_and_join_keep_the_maps);
    tcase_add_test(tc, maps_added_later_leave_other_datasets_alone);
    tcase_add_test(tc, the_hash_tells_maps_apart);
    tcase_add_loop_test(tc, frames_without_masks_are_opened_with_and_without_a_folder_of_images, 0,
                        2);
    tcase_add_test(tc, bad_frames_without_masks_are_refused_or_left_out);
    tcase_add_test(tc, a_frame_without_a_mask_learns_from_its_map_by_its_confidence);
    tcase_add_test(tc, workers_and_seeking_change_no_bit);
    tcase_add_test(tc, maps_share_the_frames_budget_and_are_read_once);
    tcase_add_test(tc, memory_that_runs_out_leaves_everything_as_it_was);
    tcase_add_test(tc, a_host_fills_a_batch_likewise);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

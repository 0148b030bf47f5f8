/* check_data.c - datasets: frames read again and by threads at once, kept up to a budget, split by
 * a seed; scenes; memory that runs out. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"

/* ---- Use after opening ---- */

static kdas_status get_and_drop(kdas_dataset *dataset, int64_t i)
{
    kdas_image *image, *mask;
    kdas_status st = kdas_dataset_get(&image, &mask, dataset, i);

    ck_assert((image != NULL) == (st == KDAS_OK) && (mask != NULL) == (st == KDAS_OK));
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    return st;
}

START_TEST(a_file_gone_bad_after_opening_is_named_at_use)
{
    kdas_dataset *dataset;

    kd_test_write_pair("a", 40, 40);
    kd_test_write_pair("b", 40, 40);
    kd_test_write_pair("c", 40, 40);
    kd_test_write_pair("d", 40, 40);
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 0);
    ck_assert_int_eq(truncate(kd_test_path("images/a.png"), 900), 0);
    kd_test_write_picture("masks/b.png", 40, 41, KDAS_PIXEL_GREY8, 1);
    kd_test_shell("rm '%s/images/c.png'%s", kd_test_path(NULL), "");
    kd_assert_status(get_and_drop(dataset, 0), KDAS_EFORMAT);
    kd_assert_sentence("images/a.png");
    kd_assert_status(get_and_drop(dataset, 1), KDAS_EFORMAT);
    kd_assert_sentence("masks/b.png' was 40x40");
    kd_assert_status(get_and_drop(dataset, 2), KDAS_ENOTFOUND);
    kd_assert_sentence("images/c.png");
    kd_assert_ok(get_and_drop(dataset, 3));
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(decoded_frames_are_kept_up_to_the_budget)
{
    kdas_dataset_options o;
    kdas_dataset        *dataset;

    kd_test_write_pair("a", 40, 40);
    kd_test_write_pair("b", 40, 40);
    kdas_dataset_options_init(&o, sizeof o);
    o.check = 0;
    o.cache = 40 * 40 * 4 + 100; /* room for one */
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o));
    kd_assert_ok(get_and_drop(dataset, 1));
    kd_assert_ok(get_and_drop(dataset, 0));
    kd_test_shell("rm '%s'/*/a.png '%s'/*/b.png", kd_test_path(NULL), kd_test_path(NULL));
    kd_assert_ok(get_and_drop(dataset, 1));
    kd_assert_status(get_and_drop(dataset, 0), KDAS_ENOTFOUND);
    kdas_dataset_destroy(dataset);
}
END_TEST

struct reader {
    kdas_dataset *dataset;
    int64_t       first;
    uint64_t      hash;
};

/* All frames, beginning at `first`; the hash does not depend on where that is. */
static void *read_all(void *argument)
{
    struct reader *r = argument;

    for (int64_t k = 0; k < kdas_dataset_count(r->dataset); k++) {
        int64_t     i = (r->first + k) % kdas_dataset_count(r->dataset);
        kdas_image *image, *mask;
        kdas_view   v;

        if (kdas_dataset_get(&image, &mask, r->dataset, i) != KDAS_OK) return NULL;
        v = kdas_image_view(image);
        r->hash += kd_mix64((uint64_t)i) ^ kd_hash_bytes(v.data, (size_t)(v.height * v.stride));
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    return r;
}

START_TEST(threads_may_read_at_once)
{
    struct reader reader[4];
    pthread_t     thread[4];
    char          name[3] = "a";
    kdas_dataset *dataset;

    for (int i = 0; i < 12; i++) {
        name[0] = (char)('a' + i);
        kd_test_write_pair(name, 30, 20);
    }
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 6 * 30 * 20 * 4); /* half are kept */
    for (int i = 0; i < 4; i++) {
        reader[i] = (struct reader){ dataset, 3 * i, 0 };
        ck_assert_int_eq(pthread_create(&thread[i], NULL, read_all, &reader[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *done;

        pthread_join(thread[i], &done);
        ck_assert_ptr_eq(done, &reader[i]);
        ck_assert(reader[i].hash == reader[0].hash);
    }
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- Split ---- */

static kdas_dataset *synthetic(int64_t count)
{
    kdas_scene_options o;
    kdas_dataset      *dataset;

    kdas_scene_options_init(&o, sizeof o);
    o.count = count;
    o.width = o.height = 32;
    kd_assert_ok(kdas_dataset_synthetic(&dataset, kd_data_ctx, &o));
    return dataset;
}

START_TEST(a_split_is_a_partition_in_order_decided_by_the_seed)
{
    kdas_dataset *all = synthetic(50), *rest, *part, *rest2, *part2, *other, *other_part;
    int64_t       r = 0, p = 0;

    kd_assert_ok(kdas_dataset_split(&rest, &part, all, 0.2, 7));
    ck_assert(kdas_dataset_count(rest) == 40 && kdas_dataset_count(part) == 10);
    for (int64_t i = 0; i < 50; i++) {
        const char *name = kdas_dataset_name(all, i);

        if (r < 40 && strcmp(kdas_dataset_name(rest, r), name) == 0)
            r++;
        else if (p < 10 && strcmp(kdas_dataset_name(part, p), name) == 0)
            p++;
        else
            ck_abort_msg("%s is in neither part", name);
    }
    ck_assert(r == 40 && p == 10);
    kd_assert_ok(kdas_dataset_split(&rest2, &part2, all, 0.2, 7));
    kd_assert_ok(kdas_dataset_split(&other, &other_part, all, 0.2, 8));
    ck_assert(kdas_dataset_hash(rest) == kdas_dataset_hash(rest2));
    ck_assert(kdas_dataset_hash(part) == kdas_dataset_hash(part2));
    ck_assert(kdas_dataset_hash(rest) != kdas_dataset_hash(other));
    ck_assert(kdas_dataset_hash(rest) != kdas_dataset_hash(all));
    ck_assert(kdas_dataset_hash(part) != kdas_dataset_hash(other_part));
    kdas_dataset_destroy(rest2);
    kdas_dataset_destroy(part2);
    kdas_dataset_destroy(other);
    kdas_dataset_destroy(other_part);

    kdas_dataset_destroy(all); /* the parts live on, and can be split again */
    kd_assert_ok(get_and_drop(part, 9));
    kd_assert_ok(kdas_dataset_split(&rest2, &part2, part, 0.5, 1));
    kdas_dataset_destroy(part);
    ck_assert(kdas_dataset_count(rest2) == 5 && kdas_dataset_count(part2) == 5);
    kd_assert_ok(get_and_drop(part2, 4));
    kdas_dataset_destroy(rest2);
    kdas_dataset_destroy(part2);
    kdas_dataset_destroy(rest);
}
END_TEST

START_TEST(shares_at_the_edge_keep_their_promise)
{
    static const struct {
        double  share;
        int64_t of, want;
    } rows[] = { { 0, 5, 0 },    { 1, 5, 5 },   { 0.01, 5, 1 },
                 { 0.99, 5, 4 }, { 0.5, 1, 1 }, { 0.1, 1, 0 } };
    kdas_dataset *rest, *part, *all;

    for (size_t i = 0; i < KD_COUNT(rows); i++) {
        all = synthetic(rows[i].of);
        kd_assert_ok(kdas_dataset_split(&rest, &part, all, rows[i].share, 3));
        ck_assert_int_eq(kdas_dataset_count(part), rows[i].want);
        ck_assert_int_eq(kdas_dataset_count(rest), rows[i].of - rows[i].want);
        kdas_dataset_destroy(rest);
        kdas_dataset_destroy(part);
        kdas_dataset_destroy(all);
    }
    all = synthetic(4);
    kd_assert_status(kdas_dataset_split(&rest, &part, all, -0.1, 3), KDAS_EINVAL);
    ck_assert(!rest && !part);
    kd_assert_status(kdas_dataset_split(&rest, &part, all, 1.1, 3), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_split(&rest, &part, all, NAN, 3), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_split(&rest, &part, NULL, 0.1, 3), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_split(&rest, &rest, all, 0.1, 3), KDAS_EINVAL);
    kd_assert_status(kdas_dataset_split(NULL, &part, all, 0.1, 3), KDAS_EINVAL);
    kdas_dataset_destroy(all);
}
END_TEST

START_TEST(the_hash_tells_names_and_sizes_apart)
{
    kdas_dataset *dataset;
    uint64_t      hash[3];

    kd_test_write_pair("a", 8, 9);
    for (int i = 0; i < 3; i++) {
        if (i == 1) kd_test_write_pair("a", 9, 8);
        if (i == 2)
            kd_test_shell("cd '%s' && mv images/a.png images/b.png && mv masks/a.png masks/b.png%s",
                          kd_test_path(NULL), "");
        dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 0);
        hash[i] = kdas_dataset_hash(dataset);
        kdas_dataset_destroy(dataset);
    }
    ck_assert(hash[0] != hash[1] && hash[1] != hash[2] && hash[0] != hash[2]);
}
END_TEST

START_TEST(scene_datasets_give_the_drawn_scenes)
{
    kdas_scene_options o;
    kdas_dataset      *dataset;
    kdas_image        *image[2], *mask[2];

    kdas_scene_options_init(&o, sizeof o);
    o.count = 3;
    o.width = o.height = 48;
    kd_assert_ok(kdas_dataset_synthetic(&dataset, kd_data_ctx, &o));
    ck_assert_ptr_null(kdas_dataset_image_path(dataset, 2));
    ck_assert_str_eq(kdas_dataset_name(dataset, 2), "scene-000002");
    for (int again = 0; again < 2; again++) { /* drawn, then kept */
        kd_assert_ok(kdas_dataset_get(&image[0], &mask[0], dataset, 2));
        kd_assert_ok(kdas_scene_draw(&image[1], &mask[1], kd_data_ctx, 2, &o));
        ck_assert(memcmp(kdas_image_pixels(image[0]), kdas_image_pixels(image[1]), 48 * 48 * 3) ==
                  0);
        ck_assert(memcmp(kdas_image_pixels(mask[0]), kdas_image_pixels(mask[1]), 48 * 48) == 0);
        for (int i = 0; i < 2; i++) {
            kdas_image_destroy(image[i]);
            kdas_image_destroy(mask[i]);
        }
    }
    kdas_dataset_destroy(dataset);
    o.count = 0;
    kd_assert_status(kdas_dataset_synthetic(&dataset, kd_data_ctx, &o), KDAS_EINVAL);
    ck_assert_ptr_null(dataset);
}
END_TEST

/* ---- Memory that runs out ---- */

/* Open, read a frame, split. */
static kdas_status walk_folder(void)
{
    kdas_status          st      = KDAS_OK;
    kdas_dataset        *dataset = NULL, *rest = NULL, *part = NULL;
    kdas_image          *image = NULL, *mask = NULL;
    kdas_dataset_options o;

    kdas_dataset_options_init(&o, sizeof o);
    o.bad_file = KDAS_BAD_FILE_SKIP; /* lack of memory is no bad file */
    KD_TRY(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o));
    ck_assert_int_eq(kdas_dataset_count(dataset), 3);
    KD_TRY(kdas_dataset_get(&image, &mask, dataset, 1));
    KD_TRY(kdas_dataset_split(&rest, &part, dataset, 0.4, 1));
done:
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(rest);
    kdas_dataset_destroy(dataset);
    kdas_dataset_destroy(part);
    return st;
}

static kdas_status walk_scenes(void)
{
    kdas_status        st      = KDAS_OK;
    kdas_dataset      *dataset = NULL;
    kdas_image        *image = NULL, *mask = NULL;
    kdas_scene_options o;

    kdas_scene_options_init(&o, sizeof o);
    o.count = 20;
    o.width = o.height = 32;
    KD_TRY(kdas_dataset_synthetic(&dataset, kd_data_ctx, &o));
    KD_TRY(kdas_dataset_get(&image, &mask, dataset, 3));
done:
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_dataset_destroy(dataset);
    return st;
}

START_TEST(any_allocation_may_fail)
{
    kdas_status (*walk)(void) = _i ? walk_scenes : walk_folder;
    long k;

    kd_test_write_pair("a", 16, 16);
    kd_test_write_pair("b", 16, 16);
    kd_test_write_pair("c", 16, 16);
    for (k = 1; k < 1000; k++) {
        kdas_status st;

        kd_data_memory.fail_at = kd_data_memory.taken + k;
        st                     = walk();
        ck_assert_int_eq(kd_data_memory.taken, kd_data_memory.given_back);
        if (st == KDAS_OK) break;
        ck_assert_int_eq(st, KDAS_ENOMEM);
    }
    kd_data_memory.fail_at = 0;
    ck_assert(k > 30 && k < 1000);
}
END_TEST

/* ---- Real files ---- */

START_TEST(the_training_folder_opens_whole)
{
    const char   *dir = kd_test_shared("data/polyp/TrainDataset");
    kdas_dataset *dataset;

    if (!dir) return;
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, dir, NULL));
    ck_assert_int_eq(kdas_dataset_count(dataset), 1450);
    ck_assert_str_eq(kdas_dataset_name(dataset, 0), "1");
    for (int64_t i = 0; i < 1450; i += 97)
        kd_assert_ok(get_and_drop(dataset, i));
    kdas_dataset_destroy(dataset);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("data");
    TCase   *tc     = tcase_create("data");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_test(tc, a_file_gone_bad_after_opening_is_named_at_use);
    tcase_add_test(tc, decoded_frames_are_kept_up_to_the_budget);
    tcase_add_test(tc, threads_may_read_at_once);
    tcase_add_test(tc, a_split_is_a_partition_in_order_decided_by_the_seed);
    tcase_add_test(tc, shares_at_the_edge_keep_their_promise);
    tcase_add_test(tc, the_hash_tells_names_and_sizes_apart);
    tcase_add_test(tc, scene_datasets_give_the_drawn_scenes);
    tcase_add_loop_test(tc, any_allocation_may_fail, 0, 2);
    tcase_add_test(tc, the_training_folder_opens_whole);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_sampling.c - epochs with a share of empty frames: the counts are exact, frames of a kind come as
 * evenly as can be, and each time as another view. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/loader.h"
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"

enum { FRAMES = 11, SIZE = 32 * 32 };

/* The first `empty` frames are without a polyp. */
static kdas_dataset *mixed(int empty)
{
    kdas_dataset_options o;
    kdas_dataset        *dataset;
    char                 name[16];

    for (int i = 0; i < FRAMES; i++) {
        snprintf(name, sizeof name, "f%02d", i);
        kd_test_write_disc(name, 32, 32, 8 + i, 16, i < empty ? 0 : 3 + i % 5);
    }
    kdas_dataset_options_init(&o, sizeof o);
    o.mask_rule   = KDAS_MASK_BRIGHT; /* then opening looks at no mask */
    o.allow_empty = 1;
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, kd_test_path(NULL), &o));
    return dataset;
}

static kdas_loader_options with_share(float share)
{
    kdas_loader_options o = kd_test_loader_options(4, 32, 32);

    o.empty_share = share;
    return o;
}

/* ---- The plan ---- */

static void plan_make(kd_loader_plan *plan, kdas_dataset *dataset, const kdas_loader_options *o)
{
    kdas_loader_options all;

    kd_assert_ok(kd_loader_plan_init(plan, &all, dataset, o));
}

static const struct {
    float share;
    int   empty, want; /* frames of the dataset, of an epoch */
} shares[] = { { 0, 3, 0 },  { 0.1f, 3, 1 }, { 0.27f, 3, 3 }, { 0.5f, 3, 6 }, { 0.7f, 3, 8 },
               { 1, 3, 11 }, { 0.5f, 1, 6 }, { 0.5f, 10, 6 }, { 0.1f, 9, 1 }, { 0.05f, 9, 1 } };

START_TEST(counts_are_exact_and_even)
{
    kdas_dataset       *dataset = mixed(shares[_i].empty);
    kdas_loader_options o       = with_share(shares[_i].share);
    int64_t             order[FRAMES], k[2] = { FRAMES - shares[_i].want, shares[_i].want };
    int64_t             n[2] = { FRAMES - shares[_i].empty, shares[_i].empty };
    kd_loader_plan      plan;

    plan_make(&plan, dataset, &o);
    for (int epoch = 0; epoch < 6; epoch++) {
        int64_t times[FRAMES] = { 0 }, sum[2] = { 0, 0 };

        kd_loader_plan_order(&plan, epoch, order);
        for (int i = 0; i < FRAMES; i++) {
            int64_t frame = order[i] % FRAMES;

            times[frame]++;
            sum[frame < shares[_i].empty]++;
            for (int j = 0; j < i; j++) /* no view twice */
                ck_assert_int_ne(order[j], order[i]);
        }
        ck_assert_int_eq(sum[1], shares[_i].want);
        for (int i = 0; i < FRAMES; i++) {
            int kind = i < shares[_i].empty;

            ck_assert_int_ge(times[i], k[kind] / n[kind]);
            ck_assert_int_le(times[i], (k[kind] + n[kind] - 1) / n[kind]);
        }
    }
    kd_loader_plan_finish(&plan);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* Of 8 frames with a polyp 5 come: over the epochs, each of them as often, within 5 deviations. */
START_TEST(every_frame_of_a_kind_has_its_turn)
{
    enum { EPOCHS = 800 };
    kdas_dataset       *dataset = mixed(3);
    kdas_loader_options o       = with_share(6.0f / FRAMES);
    int64_t             order[FRAMES], times[FRAMES] = { 0 };
    kd_loader_plan      plan;

    plan_make(&plan, dataset, &o);
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        kd_loader_plan_order(&plan, epoch, order);
        for (int i = 0; i < FRAMES; i++)
            times[order[i] % FRAMES]++;
    }
    for (int i = 3; i < FRAMES; i++)
        ck_assert_double_eq_tol((double)times[i] / EPOCHS, 5.0 / 8, 0.086);
    kd_loader_plan_finish(&plan);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(without_shuffle_frames_come_in_the_datasets_order)
{
    kdas_dataset       *dataset = mixed(3);
    kdas_loader_options o       = with_share(0.7f);
    int64_t             order[FRAMES];
    kd_loader_plan      plan;

    o.shuffle = 0;
    plan_make(&plan, dataset, &o);
    kd_loader_plan_order(&plan, 3, order);
    for (int i = 1; i < FRAMES; i++)
        ck_assert(order[i - 1] % FRAMES < order[i] % FRAMES || order[i] == order[i - 1] + FRAMES);
    kd_loader_plan_finish(&plan);
    kdas_dataset_destroy(dataset);
}
END_TEST

/* ---- The loader ---- */

/* Frames without a polyp, and all, up to the end of an epoch. */
static void count_epoch(int *empty, int *frames, kdas_loader *loader)
{
    kdas_batch *b;

    *empty = *frames = 0;
    for (;;) {
        kd_assert_ok(kdas_loader_next(loader, &b));
        if (!b) return;
        for (int64_t i = 0; i < kdas_batch_count(b); i++) {
            bool none = true;

            for (int k = 0; k < SIZE; k++)
                none = none && kdas_batch_masks(b)[i * SIZE + k] == 0;
            *empty += none;
            ++*frames;
        }
    }
}

START_TEST(an_epoch_keeps_its_length_and_has_the_share)
{
    kdas_dataset       *dataset = mixed(2);
    kdas_loader_options o       = with_share(0.45f); /* 4.95 of 11 */
    int                 empty, frames;

    o.augment = 0;
    for (o.workers = 0; o.workers < 3; o.workers++) {
        kdas_loader *loader = kd_test_loader(dataset, &o);

        ck_assert_int_eq(kdas_loader_batches(loader), 3);
        for (int epoch = 0; epoch < 3; epoch++) {
            count_epoch(&empty, &frames, loader);
            ck_assert_int_eq(empty, 5);
            ck_assert_int_eq(frames, FRAMES);
        }
        kdas_loader_destroy(loader);
    }
    ck_assert_str_eq(kd_data_log, "");
    kdas_dataset_destroy(dataset);
}
END_TEST

/* One polyp among the frames, and five times in an epoch: five different pictures. */
START_TEST(a_frame_that_comes_again_is_another_view)
{
    kdas_dataset       *dataset = mixed(FRAMES - 1);
    kdas_loader_options o       = with_share(6.0f / FRAMES);
    uint64_t            seen[FRAMES];
    kdas_loader        *loader;
    kdas_batch         *b;
    int                 n = 0;

    o.batch = FRAMES;
    loader  = kd_test_loader(dataset, &o);
    b       = kd_test_next(loader);
    for (int i = 0; i < FRAMES; i++) {
        double polyp = 0;

        for (int k = 0; k < SIZE; k++)
            polyp += kdas_batch_masks(b)[i * SIZE + k];
        if (polyp > 0)
            seen[n++] =
                kd_hash_bytes(kdas_batch_images(b) + 3 * i * SIZE, 3 * SIZE * sizeof(float));
    }
    ck_assert_int_eq(n, 5);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            ck_assert_uint_ne(seen[i], seen[k]);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(one_kind_of_frames_comes_as_it_is_with_a_warning)
{
    static const char *const says[] = { "none", "every one" };

    for (int k = 0; k < 2; k++) {
        kdas_dataset       *dataset = mixed(k ? FRAMES : 0);
        kdas_loader_options o       = with_share(0.5f);
        kdas_loader        *loader  = kd_test_loader(dataset, &o);

        ck_assert_ptr_nonnull(strstr(kd_data_log, says[k]));
        kd_data_log[0] = 0;
        kdas_loader_destroy(loader);
        kdas_dataset_destroy(dataset);
    }
}
END_TEST

/* Masks are read when the loader is made: a bad one is named there, and read only once when good. */
START_TEST(a_bad_mask_is_named_when_the_loader_is_made)
{
    kdas_dataset       *dataset = mixed(2);
    kdas_loader_options o       = with_share(0.5f);
    kdas_loader        *loader  = NULL;

    kd_test_shell("printf broken > %s", kd_test_path("masks/f04.png"), "");
    ck_assert_int_ne(kdas_loader_create(&loader, dataset, &o), KDAS_OK);
    ck_assert_ptr_null(loader);
    kd_assert_sentence("f04.png");
    kd_test_write_disc("f04", 32, 32, 12, 16, 7);
    loader = kd_test_loader(dataset, &o);
    kdas_loader_destroy(loader);
    kd_test_shell("rm %s", kd_test_path("masks/f04.png"), "");
    o.workers = 0;
    loader    = kd_test_loader(dataset, &o); /* what is known is not looked at again */
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(memory_that_runs_out_leaves_nothing)
{
    kdas_dataset       *dataset = mixed(4);
    kdas_loader_options o       = with_share(0.5f);
    kdas_loader        *loader  = NULL;
    kdas_status         st      = KDAS_ENOMEM;

    o.workers = 0;
    for (long k = 1; st != KDAS_OK; k++) {
        kd_data_memory.fail_at = kd_data_memory.taken + k;
        st                     = kdas_loader_create(&loader, dataset, &o);
        ck_assert(st == KDAS_OK || (st == KDAS_ENOMEM && !loader));
    }
    kd_data_memory.fail_at = 0;
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("sampling");
    TCase   *tc     = tcase_create("sampling");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_data_start, kd_test_data_finish);
    tcase_add_loop_test(tc, counts_are_exact_and_even, 0, KD_COUNT(shares));
    tcase_add_test(tc, every_frame_of_a_kind_has_its_turn);
    tcase_add_test(tc, without_shuffle_frames_come_in_the_datasets_order);
    tcase_add_test(tc, an_epoch_keeps_its_length_and_has_the_share);
    tcase_add_test(tc, a_frame_that_comes_again_is_another_view);
    tcase_add_test(tc, one_kind_of_frames_comes_as_it_is_with_a_warning);
    tcase_add_test(tc, a_bad_mask_is_named_when_the_loader_is_made);
    tcase_add_test(tc, memory_that_runs_out_leaves_nothing);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_loader.c - the loader: contents that depend on seed and position alone, whatever the
 * workers do; epochs, scales, resume; frames that go bad; memory that runs out. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support/check_util.h"
#include "support/data_util.h"
#include "support/files.h"

static kdas_dataset *scenes; /* 22 small frames */
static const float   three[] = { 0.75f, 1.0f, 1.25f };

static void setup(void)
{
    kdas_scene_options o;

    kd_test_data_start();
    kdas_scene_options_init(&o, sizeof o);
    o.count  = 22;
    o.width  = 80;
    o.height = 64;
    kd_assert_ok(kdas_dataset_synthetic(&scenes, kd_data_ctx, &o));
}

static void teardown(void)
{
    kdas_dataset_destroy(scenes);
    kd_test_data_finish();
}

static uint64_t batch_hash(kdas_batch *b)
{
    size_t   pixels = (size_t)(kdas_batch_count(b) * kdas_batch_height(b) * kdas_batch_width(b));
    uint64_t h      = kd_mix64((uint64_t)(kdas_batch_height(b) << 16 | kdas_batch_width(b)));

    h = kd_mix64(h ^ kd_hash_bytes(kdas_batch_images(b), pixels * 3 * sizeof(float)));
    return kd_mix64(h ^ kd_hash_bytes(kdas_batch_masks(b), pixels * sizeof(float)));
}

/* Hash of each of the first n batches. */
static void hashes(uint64_t *out, int64_t n, const kdas_loader_options *o)
{
    kdas_loader *loader = kd_test_loader(scenes, o);

    for (int64_t i = 0; i < n; i++)
        out[i] = batch_hash(kd_test_next(loader));
    kdas_loader_destroy(loader);
}

/* ---- Contents ---- */

START_TEST(workers_change_no_bit)
{
    enum { N = 18 }; /* two epochs */
    static const int    workers[] = { 0, 1, 3 }, ahead[] = { 1, 3, 9 };
    kdas_loader_options o = kd_test_loader_options(8, 64, 96);
    uint64_t            want[N], got[N];

    o.scales      = three;
    o.scale_count = 3;
    o.workers     = 0;
    hashes(want, N, &o);
    for (size_t w = 0; w < KD_COUNT(workers); w++)
        for (size_t a = 0; a < KD_COUNT(ahead); a++) {
            o.workers = workers[w];
            o.ahead   = ahead[a];
            hashes(got, N, &o);
            ck_assert_msg(memcmp(want, got, sizeof want) == 0, "%d workers, %d ahead", workers[w],
                          ahead[a]);
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++)
            ck_assert_msg(want[i] != want[j], "batches %d and %d are the same", i, j);
}
END_TEST

START_TEST(another_seed_gives_other_batches)
{
    kdas_loader_options o = kd_test_loader_options(4, 64, 64);
    uint64_t            a[3], b[3];

    hashes(a, 3, &o);
    o.seed = 2;
    hashes(b, 3, &o);
    for (int i = 0; i < 3; i++)
        ck_assert(a[i] != b[i]);
}
END_TEST

START_TEST(plain_batches_are_the_datasets_frames_in_order)
{
    kdas_loader_options o    = kd_test_loader_options(5, 96, 64);
    int64_t             size = 96 * 64, frame = 0;
    kdas_loader        *loader;
    kdas_batch         *b, *want;

    o.shuffle = o.augment = 0;
    loader                = kd_test_loader(scenes, &o);
    kd_assert_ok(kdas_batch_create(&want, kd_data_ctx, 1, 96, 64));
    for (;;) {
        kd_assert_ok(kdas_loader_next(loader, &b));
        if (!b) break;
        for (int64_t i = 0; i < kdas_batch_count(b); i++, frame++) {
            kdas_image *image, *mask;
            kdas_view   pixels, truth;

            kd_assert_ok(kdas_dataset_get(&image, &mask, scenes, frame));
            pixels = kdas_image_view(image);
            truth  = kdas_image_view(mask);
            kd_assert_ok(kdas_batch_set(want, 0, &pixels, &truth));
            ck_assert(kd_test_same_bits(kdas_batch_images(b) + 3 * i * size,
                                        kdas_batch_images(want), (size_t)size * 3 * sizeof(float)));
            ck_assert(kd_test_same_bits(kdas_batch_masks(b) + i * size, kdas_batch_masks(want),
                                        (size_t)size * sizeof(float)));
            kdas_image_destroy(image);
            kdas_image_destroy(mask);
        }
    }
    ck_assert_int_eq(frame, 22);
    kdas_batch_destroy(want);
    kdas_loader_destroy(loader);
}
END_TEST

/* Hashes of an epoch's frames, in the order they come. */
static int64_t epoch_frames(uint64_t *out, kdas_loader *loader)
{
    int64_t     n = 0, size = 64 * 64;
    kdas_batch *b;

    for (;;) {
        kd_assert_ok(kdas_loader_next(loader, &b));
        if (!b) return n;
        for (int64_t i = 0; i < kdas_batch_count(b); i++)
            out[n++] = kd_hash_bytes(kdas_batch_images(b) + 3 * i * size,
                                     (size_t)size * 3 * sizeof(float));
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

START_TEST(every_epoch_has_every_frame_once_in_another_order)
{
    kdas_loader_options o = kd_test_loader_options(4, 64, 64);
    uint64_t            first[22], second[22];
    kdas_loader        *loader;

    o.augment = 0;
    loader    = kd_test_loader(scenes, &o);
    ck_assert_int_eq(epoch_frames(first, loader), 22);
    ck_assert_int_eq(epoch_frames(second, loader), 22);
    ck_assert(memcmp(first, second, sizeof first) != 0);
    qsort(first, 22, sizeof *first, by_value);
    qsort(second, 22, sizeof *second, by_value);
    ck_assert(memcmp(first, second, sizeof first) == 0);
    for (int i = 1; i < 22; i++)
        ck_assert(first[i] != first[i - 1]);
    kdas_loader_destroy(loader);
}
END_TEST

START_TEST(epochs_end_with_null_and_positions_count_batches)
{
    kdas_loader_options o = kd_test_loader_options(8, 32, 32);
    kdas_loader        *loader;
    kdas_batch         *b;

    o.scales      = three;
    o.scale_count = 3;
    loader        = kd_test_loader(scenes, &o);
    ck_assert_int_eq(kdas_loader_batches(loader), 9);
    for (int epoch = 0; epoch < 2; epoch++) {
        for (int i = 0; i < 9; i++) {
            ck_assert_int_eq(kdas_loader_position(loader), 9 * epoch + i);
            kd_assert_ok(kdas_loader_next(loader, &b));
            ck_assert_ptr_nonnull(b);
            ck_assert_int_eq(kdas_batch_count(b), i < 6 ? 8 : 6);
        }
        kd_assert_ok(kdas_loader_next(loader, &b));
        ck_assert_ptr_null(b);
        ck_assert_int_eq(kdas_loader_position(loader), 9 * epoch + 9);
    }
    ck_assert(kdas_loader_waited(loader) >= 0);
    kdas_loader_destroy(loader);

    o.drop_last = 1;
    loader      = kd_test_loader(scenes, &o);
    ck_assert_int_eq(kdas_loader_batches(loader), 6);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(kdas_batch_count(kd_test_next(loader)), 8);
    kd_assert_ok(kdas_loader_next(loader, &b));
    ck_assert_ptr_null(b);
    kdas_loader_destroy(loader);
}
END_TEST

START_TEST(scales_are_the_published_sizes)
{
    static const int64_t want[3] = { 256, 352, 448 };
    kdas_loader_options  o       = kd_test_loader_options(1, 352, 352);
    kdas_loader         *loader;

    o.scales      = three;
    o.scale_count = 3;
    loader        = kd_test_loader(scenes, &o);
    for (int i = 0; i < 6; i++) {
        kdas_batch *b = kd_test_next(loader);

        ck_assert_int_eq(kdas_batch_height(b), want[i % 3]);
        ck_assert_int_eq(kdas_batch_width(b), want[i % 3]);
    }
    kdas_loader_destroy(loader);
}
END_TEST

START_TEST(seek_continues_as_if_unbroken)
{
    enum { N = 18 };
    kdas_loader_options o = kd_test_loader_options(8, 64, 64);
    kdas_loader        *loader;
    uint64_t            want[N];

    o.scales      = three;
    o.scale_count = 3;
    hashes(want, N, &o);
    for (int from = 0; from < N; from++) { /* a new loader, as after a restart */
        kdas_batch *b;

        loader = kd_test_loader(scenes, &o);
        kd_assert_ok(kdas_loader_seek(loader, from));
        ck_assert_int_eq(kdas_loader_position(loader), from);
        kd_assert_ok(kdas_loader_next(loader, &b));
        ck_assert_ptr_nonnull(b);
        ck_assert_msg(batch_hash(b) == want[from], "batch %d", from);
        if (from + 1 < N)
            ck_assert_msg(batch_hash(kd_test_next(loader)) == want[from + 1], "after %d", from);
        kdas_loader_destroy(loader);
    }
    o.workers = 3;
    loader    = kd_test_loader(scenes, &o);
    for (int i = 0; i < 40; i++) { /* to and fro in one */
        int at = (i * 7 + i / 3) % N;

        kd_assert_ok(kdas_loader_seek(loader, at));
        ck_assert_msg(batch_hash(kd_test_next(loader)) == want[at], "batch %d", at);
    }
    kd_assert_status(kdas_loader_seek(loader, -1), KDAS_EINVAL);
    kd_assert_sentence("-1");
    kdas_loader_destroy(loader);
}
END_TEST

/* ---- Threads ---- */

START_TEST(loaders_can_be_destroyed_at_any_moment)
{
    kdas_loader_options o = kd_test_loader_options(3, 64, 64);

    o.ahead = 4;
    for (int i = 0; i < 40; i++) {
        kdas_loader *loader;

        o.workers = i % 5;
        loader    = kd_test_loader(scenes, &o);
        for (int k = 0; k < i % 7; k++)
            kd_test_next(loader);
        if (i % 3 == 0) kd_assert_ok(kdas_loader_seek(loader, i));
        kdas_loader_destroy(loader);
    }
    kdas_loader_destroy(NULL);
}
END_TEST

START_TEST(steady_state_allocates_nothing_where_frames_fit)
{
    kdas_loader_options o = kd_test_loader_options(4, 64, 96);
    kdas_scene_options  s;
    kdas_dataset       *fitting;
    kdas_loader        *loader;
    long                before;

    kdas_scene_options_init(&s, sizeof s);
    s.count  = 9;
    s.width  = 96;
    s.height = 64;
    kd_assert_ok(kdas_dataset_synthetic(&fitting, kd_data_ctx, &s));
    o.ahead = 1;
    loader  = kd_test_loader(fitting, &o);
    for (int i = 0; i < 6; i++) /* until every frame was drawn and kept */
        kd_test_next(loader);
    before = kd_data_memory.taken;
    for (int i = 0; i < 12; i++)
        kd_test_next(loader);
    ck_assert_int_eq(kd_data_memory.taken, before);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(fitting);
}
END_TEST

/* ---- Bad frames, bad options, no memory ---- */

START_TEST(a_frame_gone_bad_fails_its_batch_and_no_other)
{
    kdas_loader_options o = kd_test_loader_options(2, 32, 32);
    kdas_dataset       *dataset;
    kdas_loader        *loader;
    kdas_batch         *b;
    char                name[8];

    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "f%d", i);
        kd_test_write_disc(name, 32, 32, 16, 16, 6 + i);
    }
    dataset = kd_test_open_folder(KDAS_BAD_FILE_REFUSE, 0);
    ck_assert_int_eq(truncate(kd_test_path("images/f5.png"), 200), 0);
    o.shuffle = 0;
    o.workers = (int32_t)_i;
    loader    = kd_test_loader(dataset, &o);
    kd_test_next(loader);
    kd_test_next(loader);
    for (int again = 0; again < 2; again++) { /* frames 4 and 5; asked again, it fails again */
        kd_assert_status(kdas_loader_next(loader, &b), KDAS_EFORMAT);
        kd_assert_sentence("images/f5.png");
        ck_assert_ptr_null(b);
        ck_assert_int_eq(kdas_loader_position(loader), 2);
    }
    kd_assert_ok(kdas_loader_seek(loader, 3));
    kd_test_next(loader);
    kd_assert_ok(kdas_loader_next(loader, &b));
    ck_assert_ptr_null(b);
    kd_assert_ok(kdas_loader_seek(loader, 2));
    kd_assert_status(kdas_loader_next(loader, &b), KDAS_EFORMAT);
    /* mended: a seek forgets what workers failed to make ahead of it */
    usleep(100000);
    kd_test_write_disc("f5", 32, 32, 16, 16, 11);
    kd_assert_ok(kdas_loader_seek(loader, 1));
    kd_test_next(loader);
    kd_assert_ok(kdas_loader_next(loader, &b));
    ck_assert_ptr_nonnull(b);
    ck_assert_int_eq(kdas_loader_position(loader), 3);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

START_TEST(options_out_of_range_are_refused)
{
    static const float  bad_scales[][1] = { { 0 }, { -1 }, { 0.1f }, { 1000 }, { NAN } };
    kdas_loader_options good            = kd_test_loader_options(4, 64, 64), o;
    kdas_loader        *loader          = NULL;
    kdas_dataset       *rest, *none;
    kdas_batch         *b;

#define REFUSED(change, part)                                               \
    o = good;                                                               \
    change;                                                                 \
    kd_assert_status(kdas_loader_create(&loader, scenes, &o), KDAS_EINVAL); \
    kd_assert_sentence(part);                                               \
    ck_assert_ptr_null(loader)
    REFUSED(o.batch = 0, "batch is 0");
    REFUSED(o.height = 63, "64x63");
    REFUSED(o.width = 0, "0x64");
    REFUSED(o.width = -32, "-32x64");
    REFUSED(o.width = 1 << 20, "multiples of 32");
    REFUSED(o.scale_count = 2, "no scales");
    REFUSED(o.scales = three, "scale_count is 0");
    REFUSED((o.scales = three, o.scale_count = 9), "at most 8");
    REFUSED(o.rotation = -1, "rotation");
    REFUSED(o.rotation = NAN, "rotation");
    REFUSED(o.workers = -1, "workers");
    REFUSED(o.workers = 65, "workers");
    REFUSED(o.ahead = 0, "ahead");
    REFUSED((o.batch = 23, o.drop_last = 1), "22 frames");
    REFUSED(o.size = 3, "size");
    for (size_t i = 0; i < KD_COUNT(bad_scales); i++) {
        REFUSED((o.scales = bad_scales[i], o.scale_count = 1), "scale");
    }
#undef REFUSED
    kd_assert_status(kdas_loader_create(NULL, scenes, &good), KDAS_EINVAL);
    kd_assert_status(kdas_loader_create(&loader, NULL, &good), KDAS_EINVAL);
    kd_assert_status(kdas_loader_next(NULL, &b), KDAS_EINVAL);
    kd_assert_status(kdas_loader_seek(NULL, 0), KDAS_EINVAL);
    kd_assert_ok(kdas_dataset_split(&rest, &none, scenes, 0, 1));
    kd_assert_status(kdas_loader_create(&loader, none, &good), KDAS_EINVAL);
    kd_assert_sentence("no frames");
    kdas_dataset_destroy(rest);
    kdas_dataset_destroy(none);
}
END_TEST

/* Every allocation of creation and of the first batches fails once: a status, nothing leaked
 * (teardown counts), and the loader that lives on gives the right batch when asked again. */
START_TEST(any_allocation_may_fail)
{
    kdas_loader_options o = kd_test_loader_options(2, 32, 32);
    uint64_t            want[2];
    long                k;
    bool                through = false;

    o.scales      = three + 1;
    o.scale_count = 2;
    hashes(want, 2, &o);
    o.workers = (int32_t)_i;
    for (k = 1; !through && k < 400; k++) {
        kdas_loader *loader;
        kdas_batch  *b = NULL;
        kdas_status  st;
        long         last;

        kd_data_memory.fail_at = kd_data_memory.taken + k;
        last                   = kd_data_memory.fail_at;
        st                     = kdas_loader_create(&loader, scenes, &o);
        if (st != KDAS_OK) {
            ck_assert_int_eq(st, KDAS_ENOMEM);
            ck_assert_ptr_null(loader);
            continue;
        }
        st = kdas_loader_next(loader, &b);
        if (st != KDAS_OK) {
            ck_assert_int_eq(st, KDAS_ENOMEM);
            ck_assert_ptr_null(b);
            st = kdas_loader_next(loader, &b);
        }
        kd_assert_ok(st);
        ck_assert(batch_hash(b) == want[0]);
        ck_assert(batch_hash(kd_test_next(loader)) == want[1]);
        kdas_loader_destroy(loader);
        through = kd_data_memory.taken < last;
    }
    kd_data_memory.fail_at = 0;
    ck_assert_msg(through && k > 10, "%ld allocations", k);
}
END_TEST

/* ---- Real frames ---- */

START_TEST(real_frames_load_in_field_layout)
{
    const char         *dir = kd_test_shared("data/polyp/TestDataset/CVC-300");
    kdas_loader_options o   = kd_test_loader_options(16, 96, 96);
    kdas_dataset       *dataset;
    kdas_loader        *loader;
    kdas_batch         *b;
    int64_t             n     = 0;
    double              polyp = 0;

    if (!dir) return;
    kd_assert_ok(kdas_dataset_open(&dataset, kd_data_ctx, dir, NULL));
    loader = kd_test_loader(dataset, &o);
    for (;;) {
        kd_assert_ok(kdas_loader_next(loader, &b));
        if (!b) break;
        n += kdas_batch_count(b);
        for (int64_t i = 0; i < kdas_batch_count(b) * 96 * 96; i++)
            polyp += kdas_batch_masks(b)[i] / (96 * 96 * 60);
    }
    ck_assert_int_eq(n, 60);
    ck_assert(polyp > 0.01 && polyp < 0.15);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(dataset);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("loader");
    TCase   *tc     = tcase_create("loader");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, workers_change_no_bit);
    tcase_add_test(tc, another_seed_gives_other_batches);
    tcase_add_test(tc, plain_batches_are_the_datasets_frames_in_order);
    tcase_add_test(tc, every_epoch_has_every_frame_once_in_another_order);
    tcase_add_test(tc, epochs_end_with_null_and_positions_count_batches);
    tcase_add_test(tc, scales_are_the_published_sizes);
    tcase_add_test(tc, seek_continues_as_if_unbroken);
    tcase_add_test(tc, loaders_can_be_destroyed_at_any_moment);
    tcase_add_test(tc, steady_state_allocates_nothing_where_frames_fit);
    tcase_add_loop_test(tc, a_frame_gone_bad_fails_its_batch_and_no_other, 0, 3);
    tcase_add_test(tc, options_out_of_range_are_refused);
    tcase_add_loop_test(tc, any_allocation_may_fail, 0, 3);
    tcase_add_test(tc, real_frames_load_in_field_layout);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_fuzz_inputs.c - the fuzzer's targets without the fuzzer: their seeds, inputs that have found a fault (kept in
 * test/fuzz/found/TARGET), and inputs that a simple mutator makes of the seeds. */
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "fuzz/fuzz.h"
#include "io/container.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/pictures.h"

enum { MOST_SEEDS = 64, ROOM = 1 << 14, MUTATIONS = 20 };

static const kd_fuzz_target *const targets[] = {
    &kd_fuzz_images, &kd_fuzz_safetensors, &kd_fuzz_pth,     &kd_fuzz_container, &kd_fuzz_restore,
    &kd_fuzz_json,   &kd_fuzz_text,        &kd_fuzz_options, &kd_fuzz_views,     &kd_fuzz_walk,
};

static struct seed {
    char     name[32];
    uint8_t *data;
    size_t   size;
} seed[MOST_SEEDS];
static int seeds;

static void keep_seed(const char *name, const uint8_t *data, size_t size)
{
    ck_assert_int_lt(seeds, MOST_SEEDS);
    snprintf(seed[seeds].name, sizeof seed[seeds].name, "%s", name);
    seed[seeds].data = malloc(size + 1);
    memcpy(seed[seeds].data, data, size);
    seed[seeds++].size = size;
}

static void make_seeds(const kd_fuzz_target *t)
{
    seeds             = 0;
    kd_fuzz_keep_seed = keep_seed;
    t->seeds();
    ck_assert_int_gt(seeds, 0);
}

static void drop_seeds(void)
{
    while (seeds)
        free(seed[--seeds].data);
}

/* A block of its own, so that a sanitizer sees reads behind the end. */
static void run_copy(const kd_fuzz_target *t, const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    memcpy(copy, data, size);
    t->run(copy, size);
    free(copy);
}

START_TEST(seeds_are_taken_or_refused_well)
{
    const kd_fuzz_target *t = targets[_i];

    make_seeds(t);
    for (int i = 0; i < seeds; i++)
        run_copy(t, seed[i].data, seed[i].size);
    drop_seeds();
}
END_TEST

START_TEST(kept_inputs_are_taken_or_refused_well)
{
    const kd_fuzz_target *t = targets[_i];
    char                  dir[64], path[400];
    DIR                  *folder;
    struct dirent        *e;
    size_t                n;

    snprintf(dir, sizeof dir, "test/fuzz/found/%s", t->name);
    folder = opendir(dir);
    if (!folder) return; /* it has found nothing */
    while ((e = readdir(folder))) {
        unsigned char *data;

        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        data = kd_test_read(path, &n);
        run_copy(t, data, n);
        free(data);
    }
    closedir(folder);
}
END_TEST

/* ---- mutators ---- */

static kd_random draws;

/* Flips a bit, and at times puts a byte in or takes one away. */
static size_t flip(uint8_t *data, size_t size, size_t max)
{
    size_t at = size ? (size_t)kd_random_below(&draws, (int64_t)size) : 0;

    switch (kd_random_below(&draws, 8)) {
    case 0:
        if (size >= max) return size;
        memmove(data + at + 1, data + at, size - at);
        data[at] = (uint8_t)kd_random_below(&draws, 256);
        return size + 1;
    case 1:
        if (size < 2) return size;
        memmove(data + at, data + at + 1, size - at - 1);
        return size - 1;
    default:
        if (size) data[at] ^= (uint8_t)(1 << kd_random_below(&draws, 8));
        return size;
    }
}

START_TEST(altered_seeds_are_taken_or_refused_well)
{
    const kd_fuzz_target *t    = targets[_i];
    uint8_t              *data = malloc(ROOM);

    draws = kd_random_make(11, (uint64_t)_i);
    make_seeds(t);
    for (int k = 0; k < MUTATIONS; k++) {
        const struct seed *from = &seed[kd_random_below(&draws, seeds)];
        size_t             size = KD_MIN(from->size, (size_t)ROOM);

        memcpy(data, from->data, size);
        for (int times = 0; times < 3; times++)
            size = t->mutate ? t->mutate(data, size, ROOM, (unsigned)kd_random_u64(&draws), flip)
                             : flip(data, size, ROOM);
        run_copy(t, data, size);
    }
    free(data);
    drop_seeds();
}
END_TEST

/* ---- repairs: what they alter is still read to its end ---- */

static size_t flip_last(uint8_t *data, size_t size, size_t max)
{
    (void)max;
    if (size) data[size - 1] ^= 1;
    return size;
}

static const struct seed *seed_called(const char *name)
{
    for (int i = 0; i < seeds; i++)
        if (strcmp(seed[i].name, name) == 0) return &seed[i];
    ck_abort_msg("there is no seed '%s'", name);
    return NULL;
}

START_TEST(an_altered_checkpoint_has_the_checksum_of_what_it_holds)
{
    kdas_context *ctx = kd_fuzz_begin();
    kd_container *c;
    uint8_t       data[ROOM];
    size_t        n;

    make_seeds(&kd_fuzz_container);
    n = seed_called("seed.kdas")->size;
    memcpy(data, seed_called("seed.kdas")->data, n);
    data[n - 1] ^= 1;
    kd_assert_status(kd_container_open(&c, ctx, kd_fuzz_file(data, n)), KDAS_EFORMAT);
    data[n - 1] ^= 1;
    n = kd_fuzz_mutate_safetensors(data, n, ROOM, 32 + 1, flip_last); /* of the data */
    ck_assert_uint_eq(n, seed_called("seed.kdas")->size);
    ck_assert_int_ne(memcmp(data, seed_called("seed.kdas")->data, n), 0);
    kd_assert_ok(kd_container_open(&c, ctx, kd_fuzz_file(data, n)));
    kd_container_close(c);
    drop_seeds();
    kd_fuzz_end();
}
END_TEST

START_TEST(an_altered_archive_has_the_checksums_of_what_it_holds)
{
    uint8_t data[ROOM];
    size_t  n;

    make_seeds(&kd_fuzz_pth);
    n = seed_called("zip")->size;
    memcpy(data, seed_called("zip")->data, n);
    /* seed: a storage's entry, no other name, none dropped */
    n = kd_fuzz_mutate_zip(data, n, ROOM, 8192 + 512 + 2 * 16 + 1, flip_last);
    ck_assert_uint_eq(n, seed_called("zip")->size);
    ck_assert_int_ne(memcmp(data, seed_called("zip")->data, n), 0);
    kd_fuzz_load_as(kd_fuzz_file(data, n), 3);
    drop_seeds();
}
END_TEST

START_TEST(an_altered_png_has_the_checksums_of_what_it_holds)
{
    kdas_context *ctx = kd_fuzz_begin();
    kdas_image   *image;
    uint8_t       data[ROOM];
    size_t        n;

    make_seeds(&kd_fuzz_images);
    n = seed_called("rgb8.png")->size;
    memcpy(data, seed_called("rgb8.png")->data, n);
    data[n - 20] ^= 1; /* in the pixels */
    n = kd_fuzz_mutate_png(data, n, ROOM, 1, flip_last);
    kd_assert_ok(kdas_image_load(&image, ctx, kd_fuzz_file(data, n), KDAS_PIXEL_RGB8));
    kdas_image_destroy(image);
    drop_seeds();
    kd_fuzz_end();
}
END_TEST

/* Else a load that must change nothing where it fails would never be one that succeeds. */
START_TEST(seeds_of_the_small_network_are_loaded_into_it)
{
    static const struct {
        const kd_fuzz_target *target;
        const char           *seed;
    } whole[] = { { &kd_fuzz_safetensors, "small" }, { &kd_fuzz_pth, "old_model" } };
    kdas_model *m = kd_fuzz_small_model(kd_fuzz_device());

    for (size_t i = 0; i < KD_COUNT(whole); i++) {
        const struct seed *s;

        make_seeds(whole[i].target);
        s = seed_called(whole[i].seed);
        kd_assert_ok(kdas_model_load(m, kd_fuzz_file(s->data, s->size), NULL));
        drop_seeds();
    }
    kdas_model_destroy(m);
}
END_TEST

/* A claim of a hundred gigabytes is refused by the limit of the context's memory, and gives all back. */
START_TEST(memory_beyond_the_contexts_limit_is_refused)
{
    kdas_context *ctx  = kd_fuzz_begin();
    void         *some = kd_alloc(ctx, KD_FUZZ_MEMORY / 2);

    ck_assert_ptr_nonnull(some);
    ck_assert_ptr_null(kd_alloc(ctx, KD_FUZZ_MEMORY / 2 + 1));
    ck_assert_ptr_null(kd_alloc(ctx, (size_t)100 << 30));
    kd_free(ctx, some);
    kd_fuzz_end();
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("fuzz inputs");
    TCase   *inputs  = tcase_create("inputs");
    TCase   *repairs = tcase_create("repairs");
    SRunner *runner;
    int      failed;

    tcase_set_timeout(inputs, 300);
    tcase_add_loop_test(inputs, seeds_are_taken_or_refused_well, 0, KD_COUNT(targets));
    tcase_add_loop_test(inputs, kept_inputs_are_taken_or_refused_well, 0, KD_COUNT(targets));
    tcase_add_loop_test(inputs, altered_seeds_are_taken_or_refused_well, 0, KD_COUNT(targets));
    suite_add_tcase(suite, inputs);
    tcase_add_test(repairs, an_altered_checkpoint_has_the_checksum_of_what_it_holds);
    tcase_add_test(repairs, an_altered_archive_has_the_checksums_of_what_it_holds);
    tcase_add_test(repairs, an_altered_png_has_the_checksums_of_what_it_holds);
    tcase_add_test(repairs, seeds_of_the_small_network_are_loaded_into_it);
    tcase_add_test(repairs, memory_beyond_the_contexts_limit_is_refused);
    suite_add_tcase(suite, repairs);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

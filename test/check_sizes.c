/* check_sizes.c - a model, an objective and features that see many sizes: what sizes share is there once, memory stays
 * flat, what was let go is compiled again with the same bits. */
#include <check.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "support/check_util.h"
#include "support/run_util.h"

/* ---- Memory hooks that know how much there is ---- */

static atomic_long bytes, most;

static void *take(void *user, size_t count)
{
    void *memory = malloc(count);
    long  now    = atomic_fetch_add(&bytes, (long)malloc_usable_size(memory));

    (void)user;
    now += (long)malloc_usable_size(memory);
    if (now > atomic_load(&most)) atomic_store(&most, now);
    return memory;
}

static void give_back(void *user, void *memory)
{
    (void)user;
    atomic_fetch_sub(&bytes, (long)malloc_usable_size(memory));
    free(memory);
}

static kdas_context *context(void)
{
    kdas_context_options o;
    kdas_context        *ctx;

    kdas_context_options_init(&o, sizeof o);
    o.threads = 2;
    o.alloc   = take;
    o.free    = give_back;
    kd_assert_ok(kdas_context_create(&ctx, &o));
    return ctx;
}

static kdas_batch *draw(kdas_context *ctx, int64_t n, int64_t h, int64_t w)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, n, h, w));
    kd_test_fill(kdas_batch_images(b), n * h * w * 3, "images", 1, 0);
    kd_test_ellipses(kdas_batch_masks(b), n, h, w, "masks");
    return b;
}

/* ---- Shared parameters ---- */

/* A second size costs no second copy of the weights; bits are those of a model with that size alone. */
START_TEST(sizes_share_packed_weights)
{
    kdas_context *ctx = context();
    kdas_model   *m, *alone;
    kdas_mode     mode  = _i ? KDAS_MODE_TRAIN : KDAS_MODE_INFER;
    kdas_batch   *small = draw(ctx, 1, 32, 32), *large = draw(ctx, 1, 64, 96);
    size_t        packed;
    long          before;
    float         got[64 * 96], want[64 * 96];

    kd_assert_ok(kdas_model_create(&m, ctx, "lite_fpn0", NULL));
    kd_assert_ok(kdas_model_create(&alone, ctx, "lite_fpn0", NULL));
    kd_assert_ok(kdas_model_forward(alone, mode, large));
    kd_assert_ok(kdas_model_memory(m, mode, 1, 64, 96, NULL, &packed));
    kd_assert_ok(kdas_model_forward(m, mode, large));
    before = atomic_load(&bytes);
    kd_assert_ok(kdas_model_memory(m, mode, 1, 32, 32, NULL, NULL));
    ck_assert_msg((size_t)(atomic_load(&bytes) - before) < packed / 2,
                  "a second size took %ld bytes, the weights are %zu", atomic_load(&bytes) - before,
                  packed);
    kd_assert_ok(kdas_model_forward(m, mode, small));
    kd_assert_ok(kdas_model_copy(m, alone)); /* statistics too: the same again, packed anew */
    if (_i) kd_assert_ok(kdas_model_forward(alone, mode, large));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, small));
    if (_i) { /* a forward more in training: the random state is one further */
        kd_assert_ok(kdas_model_copy(m, alone));
        kd_assert_ok(kdas_model_forward(alone, KDAS_MODE_INFER, large));
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, large));
    } else
        kd_assert_ok(kdas_model_forward(m, mode, large));
    kd_assert_ok(kdas_model_read_output(m, "P1", got));
    kd_assert_ok(kdas_model_read_output(alone, "P1", want));
    ck_assert(kd_test_same_bits(got, want, sizeof got));
    kdas_batch_destroy(small);
    kdas_batch_destroy(large);
    kdas_model_destroy(m);
    kdas_model_destroy(alone);
    kdas_context_destroy(ctx);
    ck_assert_int_eq(atomic_load(&bytes), 0);
}
END_TEST

/* Weights change between runs of two sizes in turn: each run sees the new ones. */
START_TEST(a_size_that_waited_sees_new_weights)
{
    kdas_context *ctx   = context();
    kdas_batch   *small = draw(ctx, 1, 32, 32), *large = draw(ctx, 1, 64, 64);
    kdas_model   *m, *fresh;
    float         got[64 * 64], want[64 * 64];

    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    for (int t = 0; t < 4; t++) {
        kdas_batch *b = t % 2 ? small : large;

        for (int32_t i = 0; i < kdas_model_tensors(m); i += 7) {
            int64_t dims[4];
            int32_t rank;
            float  *w;
            size_t  n = 1;

            ck_assert_ptr_nonnull(kdas_model_tensor(m, i, &rank, dims, NULL));
            for (int32_t k = 0; k < rank; k++)
                n *= (size_t)dims[k];
            w = malloc(n * sizeof *w);
            kd_assert_ok(kdas_model_read(m, i, w));
            for (size_t k = 0; k < n; k++)
                w[k] *= 1.01f;
            kd_assert_ok(kdas_model_write(m, i, w));
            free(w);
        }
        kd_assert_ok(kdas_model_create(&fresh, ctx, "polyp_pvt_b0", NULL));
        kd_assert_ok(kdas_model_copy(fresh, m));
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, b));
        kd_assert_ok(kdas_model_forward(fresh, KDAS_MODE_INFER, b));
        kd_assert_ok(kdas_model_read_output(m, "P1", got));
        kd_assert_ok(kdas_model_read_output(fresh, "P1", want));
        ck_assert(kd_test_same_bits(got, want, (t % 2 ? 32 * 32 : 64 * 64) * sizeof *got));
        kdas_model_destroy(fresh);
    }
    kdas_batch_destroy(small);
    kdas_batch_destroy(large);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- Many sizes ---- */

START_TEST(a_model_that_sees_a_thousand_sizes_stays_flat)
{
    kdas_context *ctx = context();
    kdas_model   *m;
    long          early = 0;

    kd_assert_ok(kdas_model_create(&m, ctx, "lite_fpn0", NULL));
    for (int k = 0; k < 1000; k++) { /* the largest size first, which the arena grows to */
        int at = 999 - k;

        kd_assert_ok(kdas_model_memory(m, KDAS_MODE_INFER, 1 + at % 10, 32 * (1 + at / 10 % 10),
                                       32 * (1 + at / 100), NULL, NULL));
        if (k == 60) early = atomic_load(&bytes);
    }
    ck_assert_msg(atomic_load(&bytes) < early + (1 << 20),
                  "%ld bytes after 60 sizes, %ld after 1000", early, atomic_load(&bytes));
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
    ck_assert_int_eq(atomic_load(&bytes), 0);
}
END_TEST

/* A distiller with features and two student's sizes more than are kept. */
START_TEST(a_distiller_that_sees_many_sizes_stays_flat)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;
    kd_test_meter       meter = { 0 };
    long                live[3];

    o.student = o.teacher = "lite_fpn0";
    o.loss.feature        = "normalised";
    o.meter               = &meter;
    kd_test_rig_make(&rig, &o);
    for (int round = 0; round < 3; round++) {
        for (int k = 34; k > 0; k--) {
            kdas_batch *b = draw(rig.ctx, k, 32, 32);

            kd_assert_ok(kdas_distiller_step(rig.distiller, b, NULL));
            kdas_batch_destroy(b);
        }
        live[round] = atomic_load(&meter.taken) - atomic_load(&meter.given_back);
    }
    ck_assert_int_eq(live[1], live[0]);
    ck_assert_int_eq(live[2], live[0]);
    kd_test_rig_finish(&rig);
    kd_test_assert_given_back(&meter);
}
END_TEST

/* ---- Trim ---- */

START_TEST(trim_gives_memory_back_and_the_model_goes_on)
{
    kdas_context *ctx = context();
    kdas_model   *m;
    kdas_batch   *small = draw(ctx, 1, 32, 32), *large = draw(ctx, 2, 128, 128);
    float         first[32 * 32], again[32 * 32];
    size_t        packed, arena;
    long          full, some;

    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, large));
    kd_assert_ok(kdas_model_memory(m, KDAS_MODE_TRAIN, 2, 128, 128, &arena, &packed));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, small));
    kd_assert_ok(kdas_model_read_output(m, "P1", first));
    full = atomic_load(&bytes);
    kd_assert_ok(kdas_model_trim(m, 1)); /* the activations and weights of training go */
    some = atomic_load(&bytes);
    ck_assert_int_gt(full - some, (long)(packed + arena / 2));
    kd_assert_status(kdas_model_read_output(m, "P1", again), KDAS_ESTATE);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, small));
    kd_assert_ok(kdas_model_trim(m, 1)); /* nothing to let go: the outputs stay */
    kd_assert_ok(kdas_model_read_output(m, "P1", again));
    ck_assert(kd_test_same_bits(first, again, sizeof first));
    kd_assert_ok(kdas_model_trim(m, 0));
    ck_assert_int_lt(atomic_load(&bytes), some);
    ck_assert_ptr_null(kdas_model_output(m, 0, NULL));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, small));
    kd_assert_ok(kdas_model_read_output(m, "P1", again));
    ck_assert(kd_test_same_bits(first, again, sizeof first));
    kd_assert_status(kdas_model_trim(m, -1), KDAS_EINVAL);
    kd_assert_status(kdas_model_trim(NULL, 1), KDAS_EINVAL);
    kdas_batch_destroy(small);
    kdas_batch_destroy(large);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
    ck_assert_int_eq(atomic_load(&bytes), 0);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("sizes");
    TCase   *sizes = tcase_create("sizes");
    SRunner *runner;
    int      failed;

    tcase_set_timeout(sizes, 120);
    tcase_add_loop_test(sizes, sizes_share_packed_weights, 0, 2);
    tcase_add_test(sizes, a_size_that_waited_sees_new_weights);
    tcase_add_test(sizes, a_model_that_sees_a_thousand_sizes_stays_flat);
    tcase_add_test(sizes, a_distiller_that_sees_many_sizes_stays_flat);
    tcase_add_test(sizes, trim_gives_memory_back_and_the_model_goes_on);
    suite_add_tcase(suite, sizes);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_buckets.c - the block of gradients in buckets, and when a backward tells that one is final. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "graph/buckets.h"
#include "graph/program_inside.h"
#include "graph/settings.h"
#include "model/model.h"
#include "support/check_util.h"
#include "support/run_util.h"

typedef struct told {
    const kd_buckets *buckets;
    float            *copy; /* of each bucket, when it was told */
    int               count;
} told;

static void note_bucket(void *user, int i)
{
    told            *t = user;
    const kd_bucket *b = &t->buckets->bucket[i];

    ck_assert_int_eq(i, t->count++);
    memcpy(t->copy + b->first, kd_params_grads(t->buckets->params) + b->first,
           (size_t)b->count * sizeof(float));
}

START_TEST(a_bucket_that_was_told_gets_no_more)
{
    static const char *const networks[] = { "polyp_pvt_b0", "lite_fpn0", "pranet" };
    kdas_context            *ctx        = kd_test_device("cpu", NULL);
    kdas_batch              *b          = kd_test_batch(ctx, 1, 32, 0);
    kd_buckets               buckets;
    kd_gradient_watch        watch = { .ready = note_bucket };
    told                     t     = { 0 };
    kdas_model              *m;
    float                   *gradient, ones[32 * 32];
    const float             *outputs[8];
    int64_t                  n, seen_numbers = 0;

    kd_test_fill(ones, 32 * 32, "gradient", 1, 0);
    for (int i = 0; i < 8; i++)
        outputs[i] = ones;
    kd_assert_ok(kdas_model_create(&m, ctx, networks[_i], NULL));
    n = kd_params_trainable(m->params);
    kd_assert_ok(kd_buckets_make(&buckets, ctx, m->params, m->shape, n / 20));
    for (int i = 0; i < buckets.count; i++)
        seen_numbers += buckets.bucket[i].count;
    ck_assert_int_eq(seen_numbers, n); /* each number is in one bucket */
    ck_assert_int_gt(buckets.count, 8);
    t.buckets = watch.buckets = &buckets;
    t.copy                    = calloc((size_t)n, sizeof *t.copy);
    watch.user                = &t;
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, b));
    kd_assert_ok(kd_program_watch_gradients(m->current, &watch));
    kd_assert_ok(kdas_model_backward(m, outputs));
    kd_assert_ok(kd_program_watch_gradients(m->current, NULL));
    ck_assert_int_ge(t.count,
                     buckets.count - 1); /* the first layer's may be told by the end alone */
    for (int i = t.count; i < buckets.count; i++)
        note_bucket(&t, i);
    gradient = kd_params_grads(m->params);
    ck_assert(kd_test_same_bits(t.copy, gradient, (size_t)n * sizeof *gradient));
    free(t.copy);
    kd_buckets_finish(&buckets);
    kdas_model_destroy(m);
    kdas_batch_destroy(b);
    kdas_context_destroy(ctx);
}
END_TEST

/* Ranks whose batches have other sizes must sum their buckets between the same nodes, whatever kernels those sizes have. */
START_TEST(buckets_are_told_at_the_same_nodes_for_all_batches)
{
    kdas_context     *ctx = kd_test_device("cpu", NULL);
    kd_buckets        buckets;
    kd_gradient_watch watch = { .buckets = &buckets };
    kdas_model       *m;
    int               first[64];

    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kd_buckets_make(&buckets, ctx, m->params, m->shape, 100000));
    ck_assert_int_le(buckets.count, 64);
    for (int i = 0; i < 3; i++) { /* another number of images; no fused nodes */
        kd_program *p;

        kd_graph_settings_change(ctx)->unfused = i == 2;
        kd_assert_ok(kd_model_program_for(&p, m, KD_TRAIN, 1 + i, 32, 32));
        kd_assert_ok(kd_program_watch_gradients(p, &watch));
        if (i == 0) memcpy(first, p->final, (size_t)buckets.count * sizeof *first);
        ck_assert(memcmp(first, p->final, (size_t)buckets.count * sizeof *first) == 0);
        kd_assert_ok(kd_program_watch_gradients(p, NULL));
    }
    for (int i = 1; i < buckets.count; i++)
        ck_assert_int_le(first[i], first[i - 1]);
    kd_buckets_finish(&buckets);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("buckets");
    TCase   *buckets = tcase_create("buckets");
    SRunner *runner;
    int      failed;

    tcase_add_loop_test(buckets, a_bucket_that_was_told_gets_no_more, 0, 3);
    tcase_add_test(buckets, buckets_are_told_at_the_same_nodes_for_all_batches);
    suite_add_tcase(suite, buckets);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

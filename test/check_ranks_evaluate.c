/* check_ranks_evaluate.c - an evaluation that ranks share has the bits of one process alone. */
#include <check.h>
#include <kdas/kdas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/child.h"
#include "support/data_util.h"
#include "support/files.h"
#include "support/small_nets.h"
#include "support/thin.h"
#include "support/thread_ranks.h"

enum { FRAMES = 37 };

static kdas_dataset *scenes(kdas_context *ctx, int64_t count)
{
    kdas_scene_options o;
    kdas_dataset      *frames;

    kdas_scene_options_init(&o, sizeof o);
    o.count  = count;
    o.width  = 52;
    o.height = 40;
    o.empty  = 0.2f;
    kd_assert_ok(kdas_dataset_synthetic(&frames, ctx, &o));
    return frames;
}

static kdas_model *student(kdas_context *ctx)
{
    static const kd_model_rules usual = { 0 };
    static const kd_model_def   small = { .name    = "small",
                                          .variant = KD_TEST_SMALL(2, KD_TEST_USUAL_STRIDES),
                                          .rules   = &usual,
                                          .build   = kd_test_build_small };
    kdas_model_options          o;
    kdas_model                 *model;

    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kd_model_create(&model, ctx, &small, &o));
    return model;
}

static kdas_evaluator *evaluator_of(kdas_context *ctx, kdas_ranks *ranks)
{
    kdas_evaluator *e;

    kd_assert_ok(kdas_evaluator_create(&e, ctx));
    kd_assert_ok(kdas_evaluator_share(e, ranks));
    ck_assert_ptr_eq(kdas_evaluator_ranks(e), ranks);
    return e;
}

static void assert_same_tables(const kdas_evaluator *a, const kdas_evaluator *b)
{
    int64_t n = kdas_evaluator_count(a);

    ck_assert_int_eq(n, kdas_evaluator_count(b));
    ck_assert_int_eq(kdas_evaluator_empty(a), kdas_evaluator_empty(b));
    for (int64_t i = -1; i < n; i++) {
        if (i >= 0) ck_assert_str_eq(kdas_evaluator_name(a, i), kdas_evaluator_name(b, i));
        for (int m = 0; m < KDAS_METRICS; m++) {
            double x = 1, y = 2;

            kd_assert_ok(kdas_evaluator_get(a, i, (kdas_metric)m, &x));
            kd_assert_ok(kdas_evaluator_get(b, i, (kdas_metric)m, &y));
            ck_assert_msg(kd_test_same_bits(&x, &y, sizeof x), "%s of image %lld: %.17g and %.17g",
                          kdas_metric_name((kdas_metric)m), (long long)i, x, y);
        }
    }
}

/* ---- models ---- */

static void compare_tables(kd_test_seat *s)
{
    int64_t           limit  = *(int64_t *)s->user;
    kdas_dataset     *frames = scenes(s->ctx, FRAMES);
    kdas_model       *model  = student(s->ctx);
    kdas_evaluator   *shared = evaluator_of(s->ctx, s->ranks), *one = evaluator_of(s->ctx, NULL);
    kdas_loss_options o;
    kdas_loss        *loss;
    double            a = 1, b = 2;

    kdas_loss_options_init(&o, sizeof o);
    kd_assert_ok(kdas_loss_options_preset(&o, "baseline"));
    kd_assert_ok(kdas_loss_create(&loss, s->ctx, &o));
    for (int twice = 0; twice < 2; twice++) { /* the second set is added to the first */
        kd_assert_ok(kdas_evaluate_loss(shared, model, frames, 32, 32, limit, loss, &a));
        kd_assert_ok(kdas_evaluate_loss(one, model, frames, 32, 32, limit, loss, &b));
        ck_assert(kd_test_same_bits(&a, &b, sizeof a));
    }
    assert_same_tables(shared, one);
    kdas_evaluator_reset(shared);
    kdas_evaluator_reset(one);
    kd_assert_ok(kdas_evaluate(shared, model, frames, 32, 32, 3));
    kd_assert_ok(kdas_evaluate(one, model, frames, 32, 32, 3)); /* fewer than ranks */
    assert_same_tables(shared, one);
    kdas_evaluator_destroy(shared);
    kdas_evaluator_destroy(one);
    kdas_loss_destroy(loss);
    kdas_model_destroy(model);
    kdas_dataset_destroy(frames);
}

START_TEST(a_shared_evaluation_has_the_bits_of_one_alone)
{
    for (int n = 1; n <= 4; n++) {
        kd_test_group_options o     = kd_test_group_of(n);
        int64_t               limit = n == 2 ? 35 : 0;

        kd_test_on_ranks(&o, compare_tables, &limit);
    }
}
END_TEST

static void evaluate_other_frames(kd_test_seat *s)
{
    kdas_dataset   *frames = scenes(s->ctx, 6 + s->rank);
    kdas_model     *model  = student(s->ctx);
    kdas_evaluator *e      = evaluator_of(s->ctx, s->ranks);

    kd_assert_status(kdas_evaluate(e, model, frames, 32, 32, 0), KDAS_EINVAL);
    kd_assert_sentence("rank 1 has another set to evaluate than rank 0: '7 of the frames");
    kd_assert_ok(kdas_evaluator_gather(e));
    ck_assert_int_eq(kdas_evaluator_count(e), 0);
    kdas_evaluator_destroy(e);
    kdas_model_destroy(model);
    kdas_dataset_destroy(frames);
}

START_TEST(ranks_with_other_frames_are_refused)
{
    kd_test_group_options o = kd_test_group_of(2);

    kd_test_on_ranks(&o, evaluate_other_frames, NULL);
}
END_TEST

static void evaluate_other_values(kd_test_seat *s)
{
    kdas_dataset   *frames = scenes(s->ctx, 6);
    kdas_model     *model  = student(s->ctx);
    kdas_evaluator *e      = evaluator_of(s->ctx, s->ranks);
    size_t          count;
    float          *values = kd_test_weights(model, &count);

    values[0] += (float)s->rank;
    kd_assert_ok(kdas_model_write(model, 0, values));
    kd_assert_status(kdas_evaluate(e, model, frames, 32, 32, 0), KDAS_EINVAL);
    kd_assert_sentence("rank 1 has another model to evaluate than rank 0: 'small with hash");
    ck_assert_int_eq(kdas_evaluator_count(e), 0);
    free(values);
    kdas_evaluator_destroy(e);
    kdas_model_destroy(model);
    kdas_dataset_destroy(frames);
}

START_TEST(ranks_with_other_values_are_refused)
{
    kd_test_group_options o = kd_test_group_of(2);

    kd_test_on_ranks(&o, evaluate_other_values, NULL);
}
END_TEST

static void cancel_one(kd_test_seat *s)
{
    kdas_dataset   *frames = scenes(s->ctx, 6);
    kdas_model     *model  = student(s->ctx);
    kdas_evaluator *e      = evaluator_of(s->ctx, s->ranks);

    if (s->rank == 1) kdas_context_cancel(s->ctx);
    kd_assert_status(kdas_evaluate(e, model, frames, 32, 32, 0), KDAS_ECANCELLED);
    ck_assert_int_eq(kdas_evaluator_count(e), 0);
    kdas_context_resume(s->ctx);
    kd_assert_ok(kdas_evaluate(e, model, frames, 32, 32, 0));
    ck_assert_int_eq(kdas_evaluator_count(e), 6);
    kdas_evaluator_destroy(e);
    kdas_model_destroy(model);
    kdas_dataset_destroy(frames);
}

START_TEST(a_cancel_of_one_ends_the_evaluation_of_all)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, cancel_one, NULL);
}
END_TEST

static void lose(kd_test_seat *s)
{
    kdas_dataset   *frames = scenes(s->ctx, 40);
    kdas_model     *model  = student(s->ctx);
    kdas_evaluator *e      = evaluator_of(s->ctx, s->ranks);
    kdas_status     st     = KDAS_OK;
    int64_t         whole  = -1;

    while (st == KDAS_OK) {
        whole = kdas_evaluator_count(e);
        st    = kdas_evaluate(e, model, frames, 32, 32, 0);
    }
    ck_assert_int_eq(st, KDAS_EBACKEND);
    ck_assert_int_eq(kdas_evaluator_count(e), whole);
    ck_assert_int_eq(whole % 40, 0);
    kdas_evaluator_destroy(e);
    kdas_model_destroy(model);
    kdas_dataset_destroy(frames);
}

START_TEST(a_lost_rank_adds_nothing)
{
    for (int calls = 1; calls < 17; calls += 3) {
        kd_test_group_options o = kd_test_group_of(2);

        o.lost    = 1;
        o.calls   = calls;
        o.timeout = 1;
        kd_test_on_ranks(&o, lose, NULL);
    }
}
END_TEST

/* ---- what the host adds ---- */

static void add_images(kdas_evaluator *e, int from, int count)
{
    uint8_t   map[64], truth[64];
    kdas_view a = { map, 8, 8, 0, KDAS_PIXEL_GREY8 }, b = { truth, 8, 8, 0, KDAS_PIXEL_GREY8 };

    for (int i = from; i < from + count; i++) {
        char name[20];

        snprintf(name, sizeof name, "image %d", i);
        for (int k = 0; k < 64; k++) {
            map[k]   = (uint8_t)(k * (i + 3) * 7);
            truth[k] = (k + i) % 5 < 2 && i % 4 ? 255 : 0;
        }
        kd_assert_ok(kdas_evaluator_add(e, i == 5 ? NULL : name, &a, &b));
    }
}

static void gather(kd_test_seat *s)
{
    /* 0, 2, 1 and 3 images, then 4, 1, 0 and 2 */
    static const int count[2][4] = { { 0, 2, 1, 3 }, { 4, 1, 0, 2 } };
    kdas_evaluator  *shared = evaluator_of(s->ctx, s->ranks), *one = evaluator_of(s->ctx, NULL);
    int              next = 0;

    for (int t = 0; t < 2; t++) {
        int before = next;

        for (int r = 0; r < s->rank; r++)
            before += count[t][r];
        for (int r = 0; r < 4; r++)
            next += count[t][r];
        add_images(shared, before, count[t][s->rank]);
        if (count[t][s->rank] > 0) {
            kd_assert_status(kdas_evaluator_mark(shared), KDAS_ESTATE);
            kd_assert_sentence("images of the evaluator are this rank's alone");
            kd_assert_status(kdas_evaluator_share(shared, NULL), KDAS_ESTATE);
        }
        kd_assert_ok(kdas_evaluator_gather(shared));
        add_images(one, next - 6 - t, 6 + t);
        assert_same_tables(shared, one);
    }
    kd_assert_ok(kdas_evaluator_mark(shared));
    add_images(shared, 0, 2);
    kd_assert_ok(kdas_evaluator_rollback(shared)); /* also what was not gathered */
    assert_same_tables(shared, one);
    kd_assert_ok(kdas_evaluator_gather(shared));
    assert_same_tables(shared, one);
    kd_assert_ok(kdas_evaluator_share(shared, NULL));
    kd_assert_ok(kdas_evaluator_gather(shared));
    assert_same_tables(shared, one);
    kdas_evaluator_destroy(shared);
    kdas_evaluator_destroy(one);
}

START_TEST(images_of_hosts_are_gathered_in_the_order_of_ranks)
{
    kd_test_group_options o = kd_test_group_of(4);

    kd_test_on_ranks(&o, gather, NULL);
}
END_TEST

static int gather_in_child(void *user)
{
    kd_child_assert_status(kdas_evaluator_gather(user), KDAS_ESTATE);
    kdas_evaluator_destroy(user);
    return 0;
}

static void fork_one(kd_test_seat *s)
{
    kdas_evaluator *e = evaluator_of(s->ctx, s->ranks);

    kd_test_in_child(gather_in_child, e);
    add_images(e, 0, 1);
    kd_assert_ok(kdas_evaluator_gather(e));
    ck_assert_int_eq(kdas_evaluator_count(e), 1);
    kdas_evaluator_destroy(e);
}

START_TEST(a_forked_child_gathers_nothing)
{
    kd_test_group_options o = kd_test_group_of(1);

    kd_test_on_ranks(&o, fork_one, NULL);
}
END_TEST

START_TEST(sharing_has_its_rules)
{
    kd_test_meter   meter = { 0 };
    kdas_context   *ctx   = kd_test_device("cpu", &meter);
    kdas_evaluator *e     = evaluator_of(ctx, NULL);

    kd_assert_status(kdas_evaluator_share(NULL, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_evaluator_gather(NULL), KDAS_EINVAL);
    ck_assert_ptr_null(kdas_evaluator_ranks(NULL));
    add_images(e, 0, 2);
    kd_assert_ok(kdas_evaluator_gather(e));
    kd_assert_ok(kdas_evaluator_mark(e));
    ck_assert_int_eq(kdas_evaluator_count(e), 2);
    kdas_evaluator_destroy(e);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}
END_TEST

/* ---- memory ---- */

/* Rank 1's context has memory that runs out; all ranks fail or succeed together. */
static void run_out(kd_test_seat *s)
{
    kd_test_meter      meter  = { 0 };
    kdas_context      *ctx    = kd_test_device("cpu", &meter);
    kdas_dataset      *frames = scenes(ctx, 5);
    kdas_model        *model  = student(ctx);
    kdas_evaluator    *e      = evaluator_of(ctx, NULL);
    kdas_status        st     = KDAS_ENOMEM;
    kdas_ranks_options o;
    kdas_ranks        *ranks;
    int                failed = 0;

    kdas_ranks_options_init(&o, sizeof o);
    o.table        = &kd_test_collective;
    o.communicator = s;
    kd_assert_ok(kdas_ranks_create(&ranks, ctx, &o));
    kd_assert_ok(kdas_evaluator_share(e, ranks));
    for (int k = 1; st != KDAS_OK; k += 3) {
        if (s->rank == 1) meter.fail_at = atomic_load(&meter.taken) + k;
        st            = kdas_evaluate(e, model, frames, 32, 32, 0);
        meter.fail_at = 0;
        ck_assert_int_eq(kdas_evaluator_count(e), st == KDAS_OK ? 5 : 0);
        if (st != KDAS_OK) ck_assert_int_eq(st, KDAS_ENOMEM);
        if (st != KDAS_OK) kd_assert_sentence("rank 1: ");
        failed += st != KDAS_OK;
    }
    ck_assert_int_gt(failed, 5);
    kdas_evaluator_destroy(e);
    kdas_model_destroy(model);
    kdas_dataset_destroy(frames);
    kdas_ranks_destroy(ranks);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
}

START_TEST(memory_that_runs_out_on_one_fails_all)
{
    kd_test_group_options o = kd_test_group_of(2);

    kd_test_on_ranks(&o, run_out, NULL);
}
END_TEST

/* ---- files ---- */

static void open_frames(kd_test_seat *s, kdas_dataset **frames)
{
    kdas_dataset_options o;

    kdas_dataset_options_init(&o, sizeof o);
    o.cache = 0;
    kd_assert_ok(kdas_dataset_open(frames, s->ctx, kd_test_path(""), &o));
    kd_assert_ok(kdas_ranks_barrier(s->ranks));
}

static void read_lost_file(kd_test_seat *s)
{
    kdas_evaluator *e     = evaluator_of(s->ctx, s->ranks);
    kdas_model     *model = student(s->ctx);
    kdas_dataset   *frames;

    open_frames(s, &frames);
    if (s->rank == 0) {
        remove(kd_test_path("images/e.png")); /* the fifth of six: rank 1's */
        remove(kd_test_path("images/f.png"));
    }
    kd_assert_ok(kdas_ranks_barrier(s->ranks));
    kd_assert_status(kdas_evaluate(e, model, frames, 32, 32, 0), KDAS_ENOTFOUND);
    kd_assert_sentence("rank 1: frame 'e': ");
    ck_assert_int_eq(kdas_evaluator_count(e), 0);
    kd_assert_ok(kdas_evaluate(e, model, frames, 32, 32, 4));
    ck_assert_int_eq(kdas_evaluator_count(e), 4);
    kdas_evaluator_destroy(e);
    kdas_model_destroy(model);
    kdas_dataset_destroy(frames);
}

START_TEST(a_frame_that_fails_is_named_everywhere)
{
    kd_test_group_options o = kd_test_group_of(2);

    for (const char *name = "abcdef"; *name; name++)
        kd_test_write_pair((char[]){ *name, 0 }, 40, 36);
    kd_test_on_ranks(&o, read_lost_file, NULL);
}
END_TEST

static void judge_predictions(kd_test_seat *s)
{
    kdas_evaluator *shared = evaluator_of(s->ctx, s->ranks), *one = evaluator_of(s->ctx, NULL);
    kdas_dataset   *frames;

    kd_assert_ok(kdas_dataset_open_predictions(&frames, s->ctx, kd_test_path("masks"),
                                               kd_test_path("masks"), NULL));
    kd_assert_ok(kdas_evaluate_predictions(shared, frames, 0));
    kd_assert_ok(kdas_evaluate_predictions(one, frames, 0));
    assert_same_tables(shared, one);
    kdas_evaluator_destroy(shared);
    kdas_evaluator_destroy(one);
    kdas_dataset_destroy(frames);
}

START_TEST(predictions_are_shared_too)
{
    for (const char *name = "abcde"; *name; name++)
        kd_test_write_pair((char[]){ *name, 0 }, 40, 30 + *name % 5);
    for (int n = 1; n <= 3; n++) {
        kd_test_group_options o = kd_test_group_of(n);

        kd_test_on_ranks(&o, judge_predictions, NULL);
    }
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("ranks_evaluate");
    TCase   *tests = tcase_create("tables"), *files = tcase_create("files");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_test(tests, a_shared_evaluation_has_the_bits_of_one_alone);
    tcase_add_test(tests, ranks_with_other_frames_are_refused);
    tcase_add_test(tests, ranks_with_other_values_are_refused);
    tcase_add_test(tests, a_cancel_of_one_ends_the_evaluation_of_all);
    tcase_add_test(tests, a_lost_rank_adds_nothing);
    tcase_add_test(tests, images_of_hosts_are_gathered_in_the_order_of_ranks);
    tcase_add_test(tests, a_forked_child_gathers_nothing);
    tcase_add_test(tests, sharing_has_its_rules);
    tcase_add_test(tests, memory_that_runs_out_on_one_fails_all);
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(files, kd_test_data_start, kd_test_data_finish);
    tcase_add_test(files, a_frame_that_fails_is_named_everywhere);
    tcase_add_test(files, predictions_are_shared_too);
    suite_add_tcase(suite, files);
    tcase_set_timeout(tests, 60);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_far.c - the engine on a device with memory of its own: graphs of programs beside plain runs, what makes
 * them stale, and what cannot be captured. */
#include <check.h>
#include <kdas/profile.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "backend/registry.h"
#include "graph/program.h"
#include "support/check_util.h"
#include "support/far_device.h"
#include "support/far_net.h"
#include "graph/settings.h"

enum { STEPS = 6 };

static int  warnings;
static char warning[512];

static void keep_warning(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    if (level != KDAS_LOG_WARN) return;
    warnings++;
    strncpy(warning, text, sizeof warning - 1);
}

/* What a run leaves: the means, and the gradients of weights and input. */
typedef struct outcome {
    float  mean[64];
    int    means;
    float *gradient;
    size_t bytes;
} outcome;

static void step(outcome *o, kd_test_net *n, int which, uint64_t seed)
{
    kd_assert_ok(kd_test_net_step(n, which, seed, &o->mean[o->means++]));
}

static void finish(outcome *o, kd_test_net *n)
{
    size_t weights = (size_t)kd_params_trainable(n->params) * sizeof(float);

    o->gradient = realloc(o->gradient, o->bytes + weights + n->bytes);
    kd_assert_ok(kd_device_download(n->ctx, (char *)o->gradient + o->bytes,
                                    kd_params_grads(n->params), weights));
    kd_assert_ok(
        kd_device_download(n->ctx, (char *)o->gradient + o->bytes + weights, n->dx, n->bytes));
    o->bytes += weights + n->bytes;
}

static void assert_same(outcome *a, outcome *b)
{
    ck_assert_int_eq(a->means, b->means);
    for (int i = 0; i < a->means; i++)
        ck_assert_msg(a->mean[i] == b->mean[i], "step %d: %.9g, %.9g", i, (double)a->mean[i],
                      (double)b->mean[i]);
    ck_assert_uint_eq(a->bytes, b->bytes);
    ck_assert(kd_test_same_bits(a->gradient, b->gradient, a->bytes));
    free(a->gradient);
    free(b->gradient);
}

/* A run of its own on a context of its own; `run` makes the steps. */
static outcome run_alone(bool captured, void (*run)(outcome *o, kd_test_net *n))
{
    outcome       o   = { 0 };
    kdas_context *ctx = kd_test_far_context(NULL, keep_warning, NULL);
    kd_params    *params;
    kd_arena     *arena = kd_arena_create(ctx);
    kd_test_net   n;

    kd_graph_settings_change(ctx)->uncaptured = !captured;
    kd_assert_ok(kd_test_net_declare(&params, ctx));
    kd_assert_ok(kd_test_net_open(&n, ctx, params, arena, 5));
    run(&o, &n);
    finish(&o, &n);
    kd_test_net_close(&n);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
    kd_test_far_assert_empty();
    return o;
}

/* ---- Graphs of programs ---- */

static void steps_with_seeds(outcome *o, kd_test_net *n)
{
    for (int i = 0; i < STEPS; i++)
        step(o, n, 0, (uint64_t)i);
}

START_TEST(graphs_give_the_bits_of_plain_runs_with_other_seeds_each_time)
{
    outcome plain, captured;

    kd_far.reference = _i;
    plain            = run_alone(false, steps_with_seeds);
    ck_assert_int_eq(kd_far.launches, 0);
    ck_assert(plain.mean[1] != plain.mean[2]); /* seeds matter */
    captured = run_alone(true, steps_with_seeds);
    ck_assert_int_eq(kd_far.captures, _i ? 2 : 3); /* forward, backward, packing */
    ck_assert_int_eq(kd_far.launches, kd_far.captures * (STEPS - 1));
    assert_same(&plain, &captured);
}
END_TEST

static void steps_in_turn(outcome *o, kd_test_net *n)
{
    for (int i = 0; i < 2 * STEPS; i++)
        step(o, n, i % 2, 3);
}

START_TEST(memory_that_is_lent_in_turn_has_a_graph_each)
{
    outcome plain, captured;

    plain = run_alone(false, steps_in_turn);
    ck_assert(plain.mean[0] != plain.mean[1]);
    captured = run_alone(true, steps_in_turn);
    ck_assert_int_eq(kd_far.captures, 1 + 2 * 2);
    ck_assert_int_eq(kd_far.launches, 2 * STEPS - 1 + 2 * (2 * STEPS - 2));
    assert_same(&plain, &captured);
}
END_TEST

START_TEST(from_the_third_run_on_nothing_is_allocated)
{
    kd_test_meter meter = { 0 };
    kdas_context *ctx   = kd_test_far_context(&meter, NULL, NULL);
    kd_params    *params;
    kd_arena     *arena = kd_arena_create(ctx);
    kd_test_net   n;
    float         mean;
    long          host, device, made;

    kd_assert_ok(kd_test_net_declare(&params, ctx));
    kd_assert_ok(kd_test_net_open(&n, ctx, params, arena, 3));
    for (int i = 0; i < 2; i++)
        kd_assert_ok(kd_test_net_step(&n, 0, 1, &mean));
    host   = atomic_load(&meter.taken);
    device = kd_far.allocs;
    made   = kd_far.captures;
    for (int i = 0; i < 3; i++)
        kd_assert_ok(kd_test_net_step(&n, 0, 1, &mean));
    ck_assert_int_eq(atomic_load(&meter.taken), host);
    ck_assert_int_eq(kd_far.allocs, device);
    ck_assert_int_eq(kd_far.captures, made);
    kd_test_net_close(&n);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
    kd_test_far_assert_empty();
}
END_TEST

/* Two sizes in one arena, which the larger one makes move after the smaller was captured. */
static outcome run_two_sizes(bool captured)
{
    outcome       o   = { 0 };
    kdas_context *ctx = kd_test_far_context(NULL, NULL, NULL);
    kd_params    *params;
    kd_arena     *arena = kd_arena_create(ctx);
    kd_test_net   small, large;
    int           made;

    kd_graph_settings_change(ctx)->uncaptured = !captured;
    kd_assert_ok(kd_test_net_declare(&params, ctx));
    kd_assert_ok(kd_test_net_open(&small, ctx, params, arena, 4));
    for (int i = 0; i < 3; i++)
        step(&o, &small, 0, (uint64_t)i);
    if (captured) ck_assert_int_eq(kd_far.graphs, 3);
    made = kd_far.captures;
    kd_assert_ok(kd_test_net_open(&large, ctx, params, arena, 6));
    for (int i = 0; i < 8; i++) {
        step(&o, i % 2 ? &small : &large, 0, (uint64_t)i);
        if (!captured || i != 1) continue;
        ck_assert_int_eq(kd_far.graphs, 3); /* others than before: made anew, at once */
        ck_assert_int_eq(kd_far.captures, made + 3);
    }
    if (captured) ck_assert_int_eq(kd_far.graphs, 6);
    finish(&o, &small);
    finish(&o, &large);
    kd_test_net_close(&small);
    if (captured) ck_assert_int_eq(kd_far.graphs, 3);
    kd_test_net_close(&large);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
    kd_test_far_assert_empty();
    return o;
}

START_TEST(graphs_go_when_the_arena_moves_and_sizes_take_turns)
{
    outcome plain = run_two_sizes(false), captured = run_two_sizes(true);

    assert_same(&plain, &captured);
}
END_TEST

START_TEST(a_profile_and_single_outputs_run_plainly)
{
    kdas_context *ctx = kd_test_far_context(NULL, NULL, NULL);
    kd_params    *params;
    kd_arena     *arena = kd_arena_create(ctx);
    kd_program   *p;
    kd_test_net   n;
    float         mean, one = 1;

    kd_assert_ok(kd_test_net_declare(&params, ctx));
    kd_assert_ok(kd_test_net_open(&n, ctx, params, arena, 3));
    kd_assert_ok(kdas_context_profile(ctx, 1));
    for (int i = 0; i < 3; i++)
        kd_assert_ok(kd_test_net_step(&n, 0, 1, &mean));
    kd_assert_ok(kdas_context_profile(ctx, 0));
    ck_assert_int_eq(kd_far.captured, 0);
    kd_assert_ok(kd_program_create(&p, kd_test_net_build(ctx, params, 3, true), arena));
    kd_program_bind(p, kd_find(kd_program_graph(p), "x"), n.x[0], n.dx);
    for (int i = 0; i < 3; i++) {
        const kd_node *y = kd_find(kd_program_graph(p), "mean");

        kd_assert_ok(kd_program_forward(p, 1));
        kd_assert_ok(kd_device_upload(ctx, kd_program_grad(p, y), &one, sizeof one));
        kd_assert_ok(kd_program_backward_of(p, y));
    }
    ck_assert_int_eq(kd_far.captures, 1); /* the forward */
    kd_program_destroy(p);
    kd_test_net_close(&n);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(a_cancel_is_heard_by_a_program_that_is_launched)
{
    kdas_context *ctx = kd_test_far_context(NULL, NULL, NULL);
    kd_params    *params;
    kd_arena     *arena = kd_arena_create(ctx);
    kd_test_net   n;
    float         mean, again;

    kd_assert_ok(kd_test_net_declare(&params, ctx));
    kd_assert_ok(kd_test_net_open(&n, ctx, params, arena, 3));
    for (int i = 0; i < 3; i++)
        kd_assert_ok(kd_test_net_step(&n, 0, 1, &mean));
    kdas_context_cancel(ctx);
    kd_assert_status(kd_test_net_step(&n, 0, 1, &again), KDAS_ECANCELLED);
    kdas_context_resume(ctx);
    kd_assert_ok(kd_test_net_step(&n, 0, 1, &again));
    ck_assert(mean == again);
    kd_test_net_close(&n);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- What cannot be captured ---- */

START_TEST(what_cannot_be_captured_runs_plainly_and_says_so_once)
{
    outcome       plain = run_alone(false, steps_with_seeds), o = { 0 }, other = { 0 };
    kdas_context *ctx;
    kd_params    *params;
    kd_arena     *arena;
    kd_test_net   n, m;

    kd_far.refuse = KDAS_EUNSUPPORTED;
    kd_far.stage  = (kd_test_far_stage)_i;
    warnings      = 0;
    ctx           = kd_test_far_context(NULL, keep_warning, NULL);
    arena         = kd_arena_create(ctx);
    kd_assert_ok(kd_test_net_declare(&params, ctx));
    kd_assert_ok(kd_test_net_open(&n, ctx, params, arena, 5));
    kd_program_label(n.p, "the net");
    steps_with_seeds(&o, &n);
    finish(&o, &n);
    ck_assert_int_eq(warnings, 1);
    ck_assert_ptr_nonnull(strstr(warning, "graphs are refused"));
    ck_assert_ptr_nonnull(strstr(warning, "the net"));
    ck_assert_int_eq(kd_far.graphs, 0);
    assert_same(&plain, &o);
    kd_assert_ok(kd_test_net_open(&m, ctx, params, arena, 3));
    steps_with_seeds(&other, &m);
    ck_assert_int_eq(warnings, 1);
    kd_test_net_close(&n);
    kd_test_net_close(&m);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(another_fault_of_a_graph_is_an_error)
{
    kdas_context *ctx = kd_test_far_context(NULL, keep_warning, NULL);
    kd_params    *params;
    kd_arena     *arena = kd_arena_create(ctx);
    kd_test_net   n;
    float         mean, again;

    warnings = 0;
    kd_assert_ok(kd_test_net_declare(&params, ctx));
    kd_assert_ok(kd_test_net_open(&n, ctx, params, arena, 3));
    kd_assert_ok(kd_test_net_step(&n, 0, 1, &mean));
    kd_far.refuse = KDAS_EBACKEND;
    kd_far.stage  = (kd_test_far_stage)_i;
    kd_assert_status(kd_test_net_step(&n, 0, 1, &again), KDAS_EBACKEND);
    kd_assert_sentence("graphs are refused");
    ck_assert_int_eq(warnings, 0);
    kd_far.refuse = KDAS_OK;
    kd_assert_ok(kd_test_net_step(&n, 0, 1, &again)); /* it is tried again */
    ck_assert(mean == again);
    ck_assert_int_gt(kd_far.captures, 0);
    kd_test_net_close(&n);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(a_device_without_graphs_runs_plainly_and_keeps_silent)
{
    outcome plain = run_alone(false, steps_with_seeds), o;

    kd_far.no_graphs = true;
    warnings         = 0;
    o                = run_alone(true, steps_with_seeds);
    ck_assert_int_eq(kd_far.captured, 0);
    ck_assert_int_eq(warnings, 0);
    assert_same(&plain, &o);
}
END_TEST

static void start(void) { kd_far = (kd_test_far){ 0 }; }

int main(void)
{
    Suite   *suite  = suite_create("far");
    TCase   *graphs = tcase_create("graphs");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(graphs, start, NULL);
    tcase_add_loop_test(graphs, graphs_give_the_bits_of_plain_runs_with_other_seeds_each_time, 0,
                        2);
    tcase_add_test(graphs, memory_that_is_lent_in_turn_has_a_graph_each);
    tcase_add_test(graphs, from_the_third_run_on_nothing_is_allocated);
    tcase_add_test(graphs, graphs_go_when_the_arena_moves_and_sizes_take_turns);
    tcase_add_test(graphs, a_profile_and_single_outputs_run_plainly);
    tcase_add_test(graphs, a_cancel_is_heard_by_a_program_that_is_launched);
    tcase_add_loop_test(graphs, what_cannot_be_captured_runs_plainly_and_says_so_once, 0, 3);
    tcase_add_loop_test(graphs, another_fault_of_a_graph_is_an_error, 0, 3);
    tcase_add_test(graphs, a_device_without_graphs_runs_plainly_and_keeps_silent);
    suite_add_tcase(suite, graphs);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

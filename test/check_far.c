/* check_far.c - the engine on a device with memory of its own: graphs of programs beside plain runs, what makes
 * them stale, what cannot be captured, and faults. */
#include <check.h>
#include <kdas/profile.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "backend/registry.h"
#include "graph/program.h"
#include "op/build.h"
#include "support/check_util.h"
#include "support/far_device.h"

enum { WIDTH = 12, STEPS = 6 };

static int  warnings;
static char warning[512];

static void keep_warning(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    if (level != KDAS_LOG_WARN) return;
    warnings++;
    strncpy(warning, text, sizeof warning - 1);
}

/* ---- A small network that draws, packs, and gathers gradients ---- */

typedef struct net {
    kdas_context *ctx;
    kd_params    *params;
    kd_arena     *arena;
    kd_program   *p;
    int64_t       side;
    float *x[2], *dx; /* device memory: two places for inputs, and the gradient of the input */
    size_t bytes;
} net;

static kd_node *weight(kd_graph *g, const char *name, int64_t out, int64_t in)
{
    return kd_param(g, name, (kd_init){ KD_TRAINABLE, KD_INIT_UNIFORM, 0.5f }, 2,
                    (const int64_t[]){ out, in });
}

/* In training it draws for 4 images twice. */
static kd_graph *build(kdas_context *ctx, kd_params *params, int64_t side, bool tape)
{
    kd_graph *g = kd_graph_create(ctx, params, KD_TRAIN);
    kd_node  *x, *y;

    if (!g) return NULL;
    if (tape) kd_graph_keep_tape(g);
    x = kd_input(g, "x", kd_desc(4, side, side, WIDTH), true);
    y = kd_linear(g, x, weight(g, "w1", 2 * WIDTH, WIDTH), NULL);
    y = kd_drop_path(g, kd_gelu(g, y), 0.5f);
    y = kd_linear(g, y, weight(g, "w2", WIDTH, 2 * WIDTH), NULL);
    y = kd_add(g, x, kd_drop_path(g, y, 0.3f));
    kd_output(g, "mean", kd_mean(g, kd_mul(g, y, y)));
    return g;
}

static kdas_status net_try(net *n, kdas_context *ctx, kd_params *params, kd_arena *arena,
                           int64_t side)
{
    kdas_status st;
    size_t      elements = (size_t)(4 * side * side * WIDTH);
    float      *host     = malloc(elements * sizeof *host);

    *n       = (net){ .ctx = ctx, .params = params, .arena = arena, .side = side };
    n->bytes = elements * sizeof *host;
    st       = kd_program_create(&n->p, build(ctx, params, side, false), arena);
    for (int i = 0; i < 2 && st == KDAS_OK; i++) {
        kd_test_fill(host, (int64_t)elements, i ? "x1" : "x0", 1, 0);
        n->x[i] = kd_device_alloc(ctx, n->bytes);
        st      = n->x[i] ? kd_device_upload(ctx, n->x[i], host, n->bytes) : KDAS_ENOMEM;
    }
    if (st == KDAS_OK) n->dx = kd_device_alloc(ctx, n->bytes);
    free(host);
    return st == KDAS_OK && !n->dx ? KDAS_ENOMEM : st;
}

static void net_close(net *n)
{
    kd_program_destroy(n->p);
    for (int i = 0; i < 2; i++)
        kd_device_free(n->ctx, n->x[i]);
    kd_device_free(n->ctx, n->dx);
}

static kdas_status declare(kd_params **params, kdas_context *ctx)
{
    kd_graph *g;

    KD_RETURN(kd_params_create(params, ctx));
    g = build(ctx, *params, 2, false);
    if (!g) return KDAS_ENOMEM;
    if (kd_graph_status(g) != KDAS_OK) {
        kdas_status st = kd_graph_status(g);

        kd_graph_destroy(g);
        return st;
    }
    kd_graph_destroy(g);
    KD_RETURN(kd_params_seal(*params, true));
    return kd_params_init(*params, 7);
}

/* One forward and backward with input number `which`; the mean. The weights have changed before. */
static kdas_status step_try(net *n, int which, uint64_t seed, float *mean)
{
    const kd_node *x = kd_find(kd_program_graph(n->p), "x"),
                  *y = kd_find(kd_program_graph(n->p), "mean");
    float one        = 1;

    kd_params_touch(n->params);
    kd_program_bind(n->p, x, n->x[which], n->dx);
    KD_RETURN(kd_program_forward(n->p, seed));
    KD_RETURN(kd_device_download(n->ctx, mean, kd_program_value(n->p, y), sizeof *mean));
    KD_RETURN(kd_device_upload(n->ctx, kd_program_grad(n->p, y), &one, sizeof one));
    return kd_program_backward(n->p);
}

/* What a run leaves: the means, and the gradients of weights and input. */
typedef struct outcome {
    float  mean[64];
    int    means;
    float *gradient;
    size_t bytes;
} outcome;

static void step(outcome *o, net *n, int which, uint64_t seed)
{
    kd_assert_ok(step_try(n, which, seed, &o->mean[o->means++]));
}

static void finish(outcome *o, net *n)
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
static outcome run_alone(bool captured, void (*run)(outcome *o, net *n))
{
    outcome       o   = { 0 };
    kdas_context *ctx = kd_test_far_context(NULL, keep_warning, NULL);
    kd_params    *params;
    kd_arena     *arena = kd_arena_create(ctx);
    net           n;

    ctx->uncaptured = !captured;
    kd_assert_ok(declare(&params, ctx));
    kd_assert_ok(net_try(&n, ctx, params, arena, 5));
    run(&o, &n);
    finish(&o, &n);
    net_close(&n);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
    kd_test_far_assert_empty();
    return o;
}

/* ---- Records ---- */

static void steps_with_seeds(outcome *o, net *n)
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

static void steps_in_turn(outcome *o, net *n)
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
    net           n;
    float         mean;
    long          host, device, made;

    kd_assert_ok(declare(&params, ctx));
    kd_assert_ok(net_try(&n, ctx, params, arena, 3));
    for (int i = 0; i < 2; i++)
        kd_assert_ok(step_try(&n, 0, 1, &mean));
    host   = atomic_load(&meter.taken);
    device = kd_far.allocs;
    made   = kd_far.captures;
    for (int i = 0; i < 3; i++)
        kd_assert_ok(step_try(&n, 0, 1, &mean));
    ck_assert_int_eq(atomic_load(&meter.taken), host);
    ck_assert_int_eq(kd_far.allocs, device);
    ck_assert_int_eq(kd_far.captures, made);
    net_close(&n);
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
    net           small, large;
    int           made;

    ctx->uncaptured = !captured;
    kd_assert_ok(declare(&params, ctx));
    kd_assert_ok(net_try(&small, ctx, params, arena, 4));
    for (int i = 0; i < 3; i++)
        step(&o, &small, 0, (uint64_t)i);
    if (captured) ck_assert_int_eq(kd_far.graphs, 3);
    made = kd_far.captures;
    kd_assert_ok(net_try(&large, ctx, params, arena, 6));
    for (int i = 0; i < 8; i++) {
        step(&o, i % 2 ? &small : &large, 0, (uint64_t)i);
        if (!captured || i != 1) continue;
        ck_assert_int_eq(kd_far.graphs, 3); /* others than before: made anew, at once */
        ck_assert_int_eq(kd_far.captures, made + 3);
    }
    if (captured) ck_assert_int_eq(kd_far.graphs, 6);
    finish(&o, &small);
    finish(&o, &large);
    net_close(&small);
    if (captured) ck_assert_int_eq(kd_far.graphs, 3);
    net_close(&large);
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
    net           n;
    float         mean, one = 1;

    kd_assert_ok(declare(&params, ctx));
    kd_assert_ok(net_try(&n, ctx, params, arena, 3));
    kd_assert_ok(kdas_context_profile(ctx, 1));
    for (int i = 0; i < 3; i++)
        kd_assert_ok(step_try(&n, 0, 1, &mean));
    kd_assert_ok(kdas_context_profile(ctx, 0));
    ck_assert_int_eq(kd_far.captured, 0);
    kd_assert_ok(kd_program_create(&p, build(ctx, params, 3, true), arena));
    kd_program_bind(p, kd_find(kd_program_graph(p), "x"), n.x[0], n.dx);
    for (int i = 0; i < 3; i++) {
        const kd_node *y = kd_find(kd_program_graph(p), "mean");

        kd_assert_ok(kd_program_forward(p, 1));
        kd_assert_ok(kd_device_upload(ctx, kd_program_grad(p, y), &one, sizeof one));
        kd_assert_ok(kd_program_backward_of(p, y));
    }
    ck_assert_int_eq(kd_far.captures, 1); /* the forward */
    kd_program_destroy(p);
    net_close(&n);
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
    net           n;
    float         mean, again;

    kd_assert_ok(declare(&params, ctx));
    kd_assert_ok(net_try(&n, ctx, params, arena, 3));
    for (int i = 0; i < 3; i++)
        kd_assert_ok(step_try(&n, 0, 1, &mean));
    kdas_context_cancel(ctx);
    kd_assert_status(step_try(&n, 0, 1, &again), KDAS_ECANCELLED);
    kdas_context_resume(ctx);
    kd_assert_ok(step_try(&n, 0, 1, &again));
    ck_assert(mean == again);
    net_close(&n);
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
    net           n, m;

    kd_far.refuse = KDAS_EUNSUPPORTED;
    kd_far.stage  = (kd_test_far_stage)_i;
    warnings      = 0;
    ctx           = kd_test_far_context(NULL, keep_warning, NULL);
    arena         = kd_arena_create(ctx);
    kd_assert_ok(declare(&params, ctx));
    kd_assert_ok(net_try(&n, ctx, params, arena, 5));
    kd_program_label(n.p, "the net");
    steps_with_seeds(&o, &n);
    finish(&o, &n);
    ck_assert_int_eq(warnings, 1);
    ck_assert_ptr_nonnull(strstr(warning, "graphs are refused"));
    ck_assert_ptr_nonnull(strstr(warning, "the net"));
    ck_assert_int_eq(kd_far.graphs, 0);
    assert_same(&plain, &o);
    kd_assert_ok(net_try(&m, ctx, params, arena, 3));
    steps_with_seeds(&other, &m);
    ck_assert_int_eq(warnings, 1);
    net_close(&n);
    net_close(&m);
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
    net           n;
    float         mean, again;

    warnings = 0;
    kd_assert_ok(declare(&params, ctx));
    kd_assert_ok(net_try(&n, ctx, params, arena, 3));
    kd_assert_ok(step_try(&n, 0, 1, &mean));
    kd_far.refuse = KDAS_EBACKEND;
    kd_far.stage  = (kd_test_far_stage)_i;
    kd_assert_status(step_try(&n, 0, 1, &again), KDAS_EBACKEND);
    kd_assert_sentence("graphs are refused");
    ck_assert_int_eq(warnings, 0);
    kd_far.refuse = KDAS_OK;
    kd_assert_ok(step_try(&n, 0, 1, &again)); /* it is tried again */
    ck_assert(mean == again);
    ck_assert_int_gt(kd_far.captures, 0);
    net_close(&n);
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

/* ---- Faults ---- */

START_TEST(a_kernel_that_fails_leaves_the_program_and_the_cpu_beside_it_usable)
{
    kdas_context *ctx = kd_test_far_context(NULL, NULL, NULL), *cpu = kd_test_device("cpu", NULL);
    kd_params    *params, *near_params;
    kd_arena     *arena = kd_arena_create(ctx), *near_arena = kd_arena_create(cpu);
    net           n, near;
    float         mean, again;
    long          each;

    kd_assert_ok(declare(&params, ctx));
    kd_assert_ok(net_try(&n, ctx, params, arena, 3));
    kd_assert_ok(declare(&near_params, cpu));
    kd_assert_ok(net_try(&near, cpu, near_params, near_arena, 3));
    kd_assert_ok(step_try(&n, 0, 1, &mean));
    each = kd_far.kernels;
    for (long k = 1; k <= 3 * each; k++) { /* in plain runs and in launches */
        kd_far.fail_kernel = kd_far.kernels + k;
        while (kd_far.kernels < kd_far.fail_kernel) {
            kdas_status st = step_try(&n, 0, 1, &again);

            ck_assert_int_eq(st, kd_far.kernels < kd_far.fail_kernel ? KDAS_OK : KDAS_EBACKEND);
            if (st != KDAS_OK) kd_assert_sentence("the device is lost");
        }
        kd_assert_ok(step_try(&n, 0, 1, &again));
        ck_assert(mean == again);
    }
    kd_assert_ok(step_try(&near, 0, 1, &again));
    ck_assert(mean == again);
    net_close(&n);
    net_close(&near);
    kd_arena_destroy(arena);
    kd_arena_destroy(near_arena);
    kd_params_destroy(params);
    kd_params_destroy(near_params);
    kdas_context_destroy(ctx);
    kdas_context_destroy(cpu);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(an_op_that_the_device_lacks_is_named_at_compile)
{
    kdas_context *ctx;
    kd_params    *params;
    kd_arena     *arena;
    net           n;

    kd_far.without = _i ? KDAS_OP_GELU : KDAS_OP_DROP_PATH;
    ctx            = kd_test_far_context(NULL, NULL, NULL);
    arena          = kd_arena_create(ctx);
    kd_assert_ok(declare(&params, ctx));
    kd_assert_status(net_try(&n, ctx, params, arena, 3), KDAS_EUNSUPPORTED);
    kd_assert_sentence("far");
    kd_assert_sentence(_i ? "gelu" : "drop_path");
    ck_assert_ptr_null(n.p);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
    kd_test_far_assert_empty();
}
END_TEST

START_TEST(an_update_that_the_device_lacks_is_named)
{
    kdas_context  *ctx;
    float         *x;
    kdas_node_desc desc = { .op     = KDAS_OP_SUM_SQUARES,
                            .inputs = 1,
                            .in     = { { 0, 1, { 1, 1, 1, 1 } } } };
    kdas_call      call = { .node = &desc };

    kd_far.without = KDAS_OP_SUM_SQUARES;
    ctx            = kd_test_far_context(NULL, NULL, NULL);
    x              = kd_device_alloc(ctx, 64);
    call.in[0] = call.out = x;
    kd_assert_status(kd_device_update(ctx, &kd_update_sum_squares, &call), KDAS_EUNSUPPORTED);
    kd_assert_sentence("sum_squares");
    kd_device_free(ctx, x);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(a_device_out_of_memory_says_what_was_needed_and_what_is_free)
{
    kdas_context *ctx;

    kd_far.total    = (size_t)64 << 20;
    kd_far.no_ahead = _i; /* a table without memory() */
    ctx             = kd_test_far_context(NULL, NULL, NULL);
    ck_assert_ptr_null(kd_device_alloc(ctx, ((size_t)100 << 20) + 1));
    kd_assert_sentence("out of device memory: 101 MiB were needed");
    if (!_i) kd_assert_sentence("64 of 64 MiB are free");
    kd_assert_sentence("far: a device of the tests");
    kdas_context_destroy(ctx);
}
END_TEST

/* All that a program needs, with the k-th allocation failing: the host's, or the device's. */
static bool survives(long k, bool device)
{
    kd_test_meter meter  = { 0 };
    kdas_context *ctx    = kd_test_far_context(&meter, NULL, NULL);
    kd_params    *params = NULL;
    kd_arena     *arena  = kd_arena_create(ctx);
    net           n      = { .ctx = ctx };
    float         mean   = 0;
    kdas_status   st;

    kd_far.allocs = 0;
    if (device)
        kd_far.fail_alloc = k;
    else
        meter.fail_at = atomic_load(&meter.taken) + k;
    st = declare(&params, ctx);
    if (st == KDAS_OK) st = net_try(&n, ctx, params, arena, 2);
    for (int i = 0; i < 3 && st == KDAS_OK; i++)
        st = step_try(&n, 0, 1, &mean);
    ck_assert_msg(st == KDAS_OK || st == KDAS_ENOMEM, "allocation %ld: %s", k, kdas_last_error());
    kd_far.fail_alloc = 0;
    net_close(&n);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
    kdas_context_destroy(ctx);
    kd_test_assert_given_back(&meter);
    kd_test_far_assert_empty();
    return st == KDAS_OK;
}

START_TEST(every_allocation_may_fail)
{
    long k = 1;

    while (!survives(k, _i))
        k++;
    ck_assert_int_gt(k, 5);
}
END_TEST

static void start(void) { kd_far = (kd_test_far){ 0 }; }

int main(void)
{
    Suite   *suite  = suite_create("far");
    TCase   *graphs = tcase_create("graphs"), *faults = tcase_create("faults");
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
    tcase_add_checked_fixture(faults, start, NULL);
    tcase_add_test(faults, a_kernel_that_fails_leaves_the_program_and_the_cpu_beside_it_usable);
    tcase_add_loop_test(faults, an_op_that_the_device_lacks_is_named_at_compile, 0, 2);
    tcase_add_test(faults, an_update_that_the_device_lacks_is_named);
    tcase_add_loop_test(faults, a_device_out_of_memory_says_what_was_needed_and_what_is_free, 0, 2);
    tcase_add_loop_test(faults, every_allocation_may_fail, 0, 2);
    suite_add_tcase(suite, faults);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_graph.c - the engine: building, errors that flow, planning, and running. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "graph/program.h"
#include "nn/nn.h"
#include "graph/build.h"
#include "support/check_util.h"
#include "support/run_util.h"

static kdas_context *ctx;

static void open_context(void) { ctx = kd_test_device("reference", NULL); }
static void close_context(void) { kdas_context_destroy(ctx); }

static kd_init uniform(float a) { return (kd_init){ KD_TRAINABLE, KD_INIT_UNIFORM, a }; }

static kd_node *matrix(kd_graph *g, const char *name, int64_t out, int64_t in)
{
    return kd_param(g, name, uniform(0.5f), 2, (const int64_t[]){ out, in });
}

/* A small network with every way that buffers can be shared: a residual, a value read three times, a
 * reshape, elementwise ops in place, a value used twice by one op, a branch that goes nowhere. */
static kd_node *tangle(kd_graph *g, kd_node *x)
{
    kd_node *a, *b, *c;

    a = kd_relu(g, kd_linear(g, x, matrix(g, "w1", 6, 5), NULL));
    b = kd_sigmoid(g, kd_linear(g, a, matrix(g, "w2", 6, 6), NULL));
    c = kd_add(g, a, kd_gelu(g, kd_mul(g, b, a)));
    kd_linear(g, c, matrix(g, "unused", 3, 6), NULL);
    c = kd_reshape(g, c, 2, 1, 12, 6);
    c = kd_add(g, c, c);
    b = kd_matmul(g, c, kd_softmax(g, kd_matmul(g, c, c, false, true, 0.3f)), true, true, 1);
    return kd_tap(g, "mix", kd_scale(g, b, 0.7f, 0.1f));
}

static kd_graph *build(kd_params *params, kd_mode mode, bool keep)
{
    kd_graph *g = kd_graph_create(ctx, params, mode);

    ck_assert_ptr_nonnull(g);
    if (keep) kd_assert_ok(kd_keep_tap(g, "mix"));
    kd_output(g, "loss",
              kd_mean(g, kd_mul(g, tangle(g, kd_input(g, "x", kd_desc(2, 3, 4, 5), true)),
                                kd_input(g, "y", kd_desc(2, 1, 6, 12), false))));
    return g;
}

typedef struct net {
    kd_params  *params;
    kd_arena   *arena;
    kd_program *p;
    float       x[120], y[144], dx[120];
} net;

static void net_open(net *n, kd_mode mode, bool keep)
{
    memset(n, 0, sizeof *n);
    kd_assert_ok(kd_params_create(&n->params, ctx));
    kd_graph_destroy(build(n->params, mode, false)); /* declares the parameters */
    kd_assert_ok(kd_params_seal(n->params, true));
    kd_assert_ok(kd_params_init(n->params, 7));
    n->arena = kd_arena_create(ctx);
    kd_assert_ok(kd_program_create(&n->p, build(n->params, mode, keep), n->arena));
    kd_test_fill(n->x, 120, "x", 1, 0);
    kd_test_fill(n->y, 144, "y", 1, 0);
    kd_program_bind(n->p, kd_find(kd_program_graph(n->p), "x"), n->x, n->dx);
    kd_program_bind(n->p, kd_find(kd_program_graph(n->p), "y"), n->y, NULL);
}

static void net_close(net *n)
{
    kd_program_destroy(n->p);
    kd_arena_destroy(n->arena);
    kd_params_destroy(n->params);
}

static float forward(net *n)
{
    kd_assert_ok(kd_program_forward(n->p, 1));
    return *kd_program_value(n->p, kd_find(kd_program_graph(n->p), "loss"));
}

static void backward(net *n)
{
    *kd_program_grad(n->p, kd_find(kd_program_graph(n->p), "loss")) = 1;
    kd_assert_ok(kd_program_backward(n->p));
}

START_TEST(gradient_of_a_tangled_graph_matches_finite_differences)
{
    net   n;
    float h = 0.01f;

    net_open(&n, KD_EVAL, _i);
    forward(&n);
    backward(&n);
    for (int i = 0; i < 120; i += 7) {
        float keep = n.x[i], above, below;

        n.x[i] = keep + h;
        above  = forward(&n);
        n.x[i] = keep - h;
        below  = forward(&n);
        n.x[i] = keep;
        ck_assert_double_eq_tol((double)((above - below) / (2 * h)), (double)n.dx[i], 2e-4);
    }
    net_close(&n);
}
END_TEST

START_TEST(keeping_a_tap_changes_no_value)
{
    net   plain, kept;
    float a, b;

    net_open(&plain, KD_EVAL, false);
    net_open(&kept, KD_EVAL, true);
    a = forward(&plain);
    b = forward(&kept);
    ck_assert(a == b);
    backward(&plain);
    backward(&kept);
    ck_assert(kd_test_same_bits(plain.dx, kept.dx, sizeof plain.dx));
    ck_assert_ptr_null(kd_program_value(plain.p, kd_find(kd_program_graph(plain.p), "mix")));
    ck_assert_ptr_nonnull(kd_program_value(kept.p, kd_find(kd_program_graph(kept.p), "mix")));
    net_close(&plain);
    net_close(&kept);
}
END_TEST

START_TEST(gradient_added_at_a_tap_reaches_the_input)
{
    net   n;
    float once[120];

    net_open(&n, KD_EVAL, true);
    forward(&n);
    kd_program_grad(n.p, kd_find(kd_program_graph(n.p), "mix"))[5] = 1;
    backward(&n);
    memcpy(once, n.dx, sizeof once);
    forward(&n);
    backward(&n);
    ck_assert(!kd_test_same_bits(once, n.dx, sizeof once));
    net_close(&n);
}
END_TEST

START_TEST(inference_needs_less_memory_and_gives_the_same_value)
{
    net   infer, eval;
    float a, b;

    net_open(&infer, KD_INFER, false);
    net_open(&eval, KD_EVAL, false);
    a = forward(&infer);
    b = forward(&eval);
    ck_assert(a == b);
    ck_assert(kd_program_memory_use(infer.p).arena < kd_program_memory_use(eval.p).arena);
    ck_assert(kd_program_memory_use(eval.p).arena < kd_program_memory_use(eval.p).unshared);
    kd_assert_status(kd_program_backward(infer.p), KDAS_ESTATE);
    net_close(&infer);
    net_close(&eval);
}
END_TEST

START_TEST(parameter_gradients_gather_until_they_are_zeroed)
{
    net   n;
    int   w;
    float once[30], twice[30];

    net_open(&n, KD_EVAL, false);
    w = kd_params_find(n.params, "w1");
    forward(&n);
    backward(&n);
    kd_assert_ok(kd_params_read_grad(n.params, w, once));
    forward(&n);
    backward(&n);
    kd_assert_ok(kd_params_read_grad(n.params, w, twice));
    for (int i = 0; i < 30; i++)
        ck_assert_double_eq_tol(2 * (double)once[i], (double)twice[i], 1e-6);
    net_close(&n);
}
END_TEST

START_TEST(backward_wants_a_forward_of_its_own)
{
    net n;

    net_open(&n, KD_EVAL, false);
    kd_assert_status(kd_program_backward(n.p), KDAS_ESTATE);
    forward(&n);
    backward(&n);
    kd_assert_status(kd_program_backward(n.p), KDAS_ESTATE);
    net_close(&n);
}
END_TEST

/* Two outputs of one tangle, of which only the second reads z. */
static kd_program *two_outputs(kd_arena *arena)
{
    kd_graph *g = kd_graph_create(ctx, NULL, KD_EVAL);
    kd_node  *x = kd_input(g, "x", kd_desc(2, 1, 4, 6), true),
            *z  = kd_input(g, "z", kd_desc(2, 1, 4, 6), true), *s, *c;
    kd_program *p;

    kd_graph_keep_tape(g);
    s = kd_matmul(g, kd_softmax(g, kd_matmul(g, x, x, false, true, 0.7f)), x, false, false, 1);
    kd_output(g, "first", kd_mean(g, kd_mul(g, kd_gelu(g, s), s)));
    c = kd_center(g, kd_add(g, s, kd_sigmoid(g, z)));
    kd_output(g, "second",
              kd_mean(g, kd_mul(g, kd_matmul(g, c, c, false, true, 1),
                                kd_matmul(g, c, x, false, true, 1))));
    kd_assert_ok(kd_program_create(&p, g, arena));
    return p;
}

START_TEST(backward_of_each_output_sums_to_that_of_all)
{
    static const char *const names[] = { "first", "second" };
    kd_arena                *arena   = kd_arena_create(ctx);
    kd_program              *p       = two_outputs(arena);
    kd_graph                *g       = kd_program_graph(p);
    float x[48], z[48], dx[48], dz[48], sum_x[48] = { 0 }, sum_z[48] = { 0 }, first[48];

    kd_test_fill(x, 48, "x", 2, 0);
    kd_test_fill(z, 48, "z", 2, 0);
    kd_program_bind(p, kd_find(g, "x"), x, dx);
    kd_program_bind(p, kd_find(g, "z"), z, dz);
    kd_assert_status(kd_program_backward_of(p, kd_find(g, "first")), KDAS_ESTATE);
    kd_assert_ok(kd_program_forward(p, 0));
    for (int i = 0; i < 2; i++)
        *kd_program_grad(p, kd_find(g, names[i])) = 1.5f;
    for (int i = 0; i < 2; i++) {
        kd_assert_ok(kd_program_backward_of(p, kd_find(g, names[i])));
        for (int k = 0; k < 48; k++) {
            if (i == 0) first[k] = dx[k];
            if (i == 0) ck_assert(dz[k] == 0);
            sum_x[k] += dx[k];
            sum_z[k] += dz[k];
        }
    }
    kd_assert_ok(kd_program_backward_of(p, kd_find(g, "first")));
    ck_assert_mem_eq(dx, first, sizeof dx); /* what the others ran is not to be seen */
    kd_assert_ok(kd_program_backward(p));
    kd_assert_close(sum_x, dx, 48, 1e-5);
    kd_assert_close(sum_z, dz, 48, 1e-5);
    kd_program_destroy(p);
    kd_arena_destroy(arena);
}
END_TEST

START_TEST(programs_of_one_arena_run_in_turn)
{
    net         n;
    kd_graph   *g = kd_graph_create(ctx, NULL, KD_EVAL);
    kd_program *big;
    float      *in = calloc(64 * 64 * 8, sizeof *in), before, after;

    net_open(&n, KD_EVAL, false);
    before = forward(&n);
    kd_output(g, "out", kd_gelu(g, kd_sigmoid(g, kd_input(g, "in", kd_desc(1, 64, 64, 8), true))));
    kd_assert_ok(kd_program_create(&big, g, n.arena)); /* the arena grows and moves */
    kd_assert_status(kd_program_backward(n.p), KDAS_ESTATE);
    kd_program_bind(big, kd_find(g, "in"), in, NULL);
    kd_assert_ok(kd_program_forward(big, 0));
    after = forward(&n);
    ck_assert(before == after);
    kd_assert_status(kd_program_backward(big), KDAS_ESTATE);
    kd_program_destroy(big);
    net_close(&n);
    free(in);
}
END_TEST

START_TEST(first_error_of_a_graph_is_reported_with_its_place)
{
    kd_graph   *g = kd_graph_create(ctx, NULL, KD_INFER);
    kd_program *p;
    kd_arena   *arena = kd_arena_create(ctx);
    kd_node    *x     = kd_input(g, "x", kd_desc(1, 4, 4, 3), false), *bad;

    kd_scope(g, "stem");
    bad = kd_slice(g, x, 2, 5);
    kd_scope_end(g);
    ck_assert_ptr_null(bad);
    ck_assert_ptr_null(kd_relu(g, bad));
    ck_assert_ptr_null(kd_crop(g, x, 9, 9, 9, 9));
    kd_assert_status(kd_program_create(&p, g, arena), KDAS_ESHAPE);
    kd_assert_sentence("stem: slice");
    ck_assert_ptr_null(p);
    kd_arena_destroy(arena);
}
END_TEST

START_TEST(missing_operand_is_an_error_with_the_ops_name)
{
    kd_graph *g = kd_graph_create(ctx, NULL, KD_INFER);

    kd_apply(g, &kd_op_add, NULL, 1, (kd_node *[]){ kd_input(g, "x", kd_desc(1, 1, 1, 1), false) });
    kd_assert_status(kd_graph_status(g), KDAS_EINVAL);
    kd_assert_sentence("add");
    kd_graph_destroy(g);
}
END_TEST

START_TEST(norm_folds_into_the_layer_before_it)
{
    const kd_init zero = { KD_BUFFER, KD_INIT_UNIFORM, 0.5f }, one = { KD_BUFFER, KD_INIT_ONE, 0 };
    kd_params    *params;
    kd_program   *program[2];
    kd_arena     *arena = kd_arena_create(ctx);
    float         x[2 * 5 * 5 * 3];
    const int64_t c = 4;

    kd_test_fill(x, 150, "x", 1, 0);
    kd_assert_ok(kd_params_create(&params, ctx));
    for (int pass = 0; pass < 3; pass++) { /* the first declares */
        kd_graph *g = kd_graph_create(ctx, params, pass == 2 ? KD_INFER : KD_EVAL);
        kd_node  *y = kd_input(g, "x", kd_desc(2, 5, 5, 3), false);

        y = kd_conv2d(g, y, kd_param(g, "w", uniform(0.5f), 4, (const int64_t[]){ 4, 3, 3, 3 }),
                      NULL, 1, 1);
        y = kd_batch_norm(g, y, kd_param(g, "gamma", uniform(1), 1, &c),
                          kd_param(g, "beta", uniform(1), 1, &c), kd_param(g, "mean", zero, 1, &c),
                          kd_param(g, "var", one, 1, &c), 1e-5f, 0.1f);
        kd_output(g, "y", y);
        if (pass == 0) {
            kd_assert_ok(kd_graph_status(g));
            kd_graph_destroy(g);
            kd_assert_ok(kd_params_seal(params, true));
            kd_assert_ok(kd_params_init(params, 3));
            continue;
        }
        kd_assert_ok(kd_program_create(&program[pass - 1], g, arena));
        kd_program_bind(program[pass - 1], kd_find(g, "x"), x, NULL);
    }
    for (int round = 0; round < 2; round++) { /* again after the statistics have changed */
        const kd_node *out[2];
        float          eval[200];

        for (int i = 0; i < 2; i++)
            kd_graph_output(kd_program_graph(program[i]), 0, &out[i]);
        kd_assert_ok(kd_program_forward(program[0], 0));
        memcpy(eval, kd_program_value(program[0], out[0]), sizeof eval);
        kd_assert_ok(kd_program_forward(program[1], 0));
        kd_assert_close(kd_program_value(program[1], out[1]), eval, 200, 1e-6);
        kd_params_values(params)[kd_params_at(params, kd_params_find(params, "var"))->offset] =
            2.5f;
        kd_params_touch_stats(params);
    }
    kd_program_destroy(program[0]);
    kd_program_destroy(program[1]);
    kd_arena_destroy(arena);
    kd_params_destroy(params);
}
END_TEST

START_TEST(values_depend_on_seed_and_name_not_on_order)
{
    const int64_t n = 9;
    kd_params    *p[2];
    float         a[9], b[9];

    for (int i = 0; i < 2; i++) {
        kd_assert_ok(kd_params_create(&p[i], ctx));
        if (i) kd_params_declare(p[i], "other", uniform(1), 1, &n);
        kd_params_declare(p[i], "w", uniform(1), 1, &n);
        kd_assert_ok(kd_params_seal(p[i], false));
        kd_assert_ok(kd_params_init(p[i], 5));
    }
    kd_assert_ok(kd_params_read(p[0], 0, a));
    kd_assert_ok(kd_params_read(p[1], 1, b));
    ck_assert(kd_test_same_bits(a, b, sizeof a));
    ck_assert_int_eq(kd_params_declare(p[0], "late", uniform(1), 1, &n), KDAS_ESTATE);
    ck_assert_int_eq(kd_params_declare(p[0], "w", uniform(1), 2, (const int64_t[]){ 3, 3 }),
                     KDAS_ESHAPE);
    kd_params_destroy(p[0]);
    kd_params_destroy(p[1]);
}
END_TEST

START_TEST(layers_that_never_run_are_kept_but_not_trained)
{
    kd_graph  *g;
    kd_params *p;
    int64_t    counter[12];

    kd_assert_ok(kd_params_create(&p, ctx));
    g = kd_graph_create(ctx, p, KD_TRAIN);
    kd_output(g, "y", kd_conv_bn(g, "runs", kd_input(g, "x", kd_desc(1, 2, 2, 3), true), 4, 3, 1));
    kd_idle_conv_bn(g, "idle", 3, 4, 3);
    kd_assert_ok(kd_graph_status(g));
    kd_assert_ok(kd_params_seal(p, true));
    kd_assert_ok(kd_params_init(p, 1));
    ck_assert_int_eq(kd_params_count(p), 12);
    for (int i = 0; i < 6; i++) { /* the same tensors, in the same order */
        const kd_param_entry *a = kd_params_at(p, i), *b = kd_params_at(p, 6 + i);
        float                 value[108];

        ck_assert_str_eq(strchr(a->name, '.'), strchr(b->name, '.'));
        ck_assert(a->rank == b->rank && memcmp(a->dim, b->dim, sizeof a->dim) == 0);
        ck_assert(a->init.rule == b->init.rule && a->init.a == b->init.a);
        ck_assert(!a->init.idle && b->init.kind != KD_TRAINABLE);
        ck_assert(b->offset >= kd_params_trainable(p) + kd_params_running(p));
        kd_assert_ok(kd_params_read(p, 6, value));
        ck_assert(value[0] != 0 && value[107] != 0);
    }
    ck_assert_int_eq(kd_params_numbers(p), 2 * (108 + 4 + 4));
    ck_assert_int_eq(kd_params_trainable(p), 112 + 16 + 16);
    kd_params_count_up(p);
    kd_params_read_counters(p, counter);
    ck_assert_str_eq(kd_params_at(p, 5)->name, "runs.bn.num_batches_tracked");
    ck_assert(counter[5] == 1 && counter[11] == 0);
    kd_graph_destroy(g);
    kd_params_destroy(p);
}
END_TEST

int main(void)
{
    Suite   *suite      = suite_create("graph");
    TCase   *build_case = tcase_create("build"), *run = tcase_create("run");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(build_case, open_context, close_context);
    tcase_add_test(build_case, first_error_of_a_graph_is_reported_with_its_place);
    tcase_add_test(build_case, missing_operand_is_an_error_with_the_ops_name);
    tcase_add_test(build_case, values_depend_on_seed_and_name_not_on_order);
    tcase_add_test(build_case, layers_that_never_run_are_kept_but_not_trained);
    suite_add_tcase(suite, build_case);
    tcase_add_checked_fixture(run, open_context, close_context);
    tcase_add_loop_test(run, gradient_of_a_tangled_graph_matches_finite_differences, 0, 2);
    tcase_add_test(run, keeping_a_tap_changes_no_value);
    tcase_add_test(run, gradient_added_at_a_tap_reaches_the_input);
    tcase_add_test(run, inference_needs_less_memory_and_gives_the_same_value);
    tcase_add_test(run, parameter_gradients_gather_until_they_are_zeroed);
    tcase_add_test(run, backward_wants_a_forward_of_its_own);
    tcase_add_test(run, backward_of_each_output_sums_to_that_of_all);
    tcase_add_test(run, programs_of_one_arena_run_in_turn);
    tcase_add_test(run, norm_folds_into_the_layer_before_it);
    suite_add_tcase(suite, run);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

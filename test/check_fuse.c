/* check_fuse.c - chains of nodes that are compiled to one: which are, which are not, and that values and
 * gradients are those of the ops one by one. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "graph/program.h"
#include "model/model.h"
#include "graph/build.h"
#include "support/check_util.h"
#include "support/run_util.h"
#include "graph/settings.h"

/* ---- feed-forward blocks, whole and spoilt ---- */

typedef enum spoil {
    WHOLE,
    NO_RESIDUAL,
    NO_BIASES,
    DROPPED,   /* drop path between the block and the addition */
    BROADCAST, /* what is added to the block has one row        */
    LAST_SPOIL_THAT_FUSES = BROADCAST,
    READ_TWICE, /* the activated map has another reader          */
    KEPT,       /* a tap inside is read from outside             */
    STRIDED,
    WIDE_FILTER,
    RELU_INSTEAD,
    WEIGHT_IS_A_VALUE,
    SPOILS
} spoil;

enum { N = 2, H = 6, W = 5, C = 4, F = 18 };

static kd_node *param(kd_graph *g, const char *name, int rank, int64_t o, int64_t i, int64_t k)
{
    const kd_init some = { KD_TRAINABLE, KD_INIT_UNIFORM, 0.5f };

    return kd_param(g, name, some, rank, (const int64_t[]){ o, i, k, k });
}

static kd_node *bias(kd_graph *g, const char *name, int64_t n, spoil how)
{
    return how == NO_BIASES ? NULL : param(g, name, 1, n, 1, 1);
}

static kd_node *block(kd_graph *g, kd_node *x, spoil how)
{
    int64_t  k  = how == WIDE_FILTER ? 5 : 3;
    kd_node *w1 = param(g, "w1", 2, F, C, 1), *w2 = param(g, "w2", 2, C, F, 1), *y;

    if (how == WEIGHT_IS_A_VALUE) w1 = kd_scale(g, w1, 2, 0);
    y = kd_linear(g, x, w1, bias(g, "b1", F, how));
    y = kd_dwconv2d(g, y, param(g, "wd", 4, F, 1, k), bias(g, "bd", F, how), how == STRIDED ? 2 : 1,
                    (int)k / 2);
    y = how == RELU_INSTEAD ? kd_relu(g, y) : kd_gelu(g, y);
    kd_tap(g, "active", y);
    if (how == READ_TWICE) kd_output(g, "mean", kd_mean(g, y));
    y = kd_linear(g, y, w2, bias(g, "b2", C, how));
    if (how == DROPPED) y = kd_drop_path(g, y, 0.4f);
    if (how == NO_RESIDUAL || how == STRIDED) return y;
    return how == BROADCAST ? kd_add(g, y, kd_crop(g, x, 1, 0, 1, W)) : kd_add(g, x, y);
}

static kd_graph *build(kdas_context *ctx, kd_params *params, kd_mode mode, spoil how)
{
    kd_graph *g = kd_graph_create(ctx, params, mode);
    kd_node  *x, *y;

    ck_assert_ptr_nonnull(g);
    if (how == KEPT) kd_assert_ok(kd_keep_tap(g, "active"));
    x = kd_input(g, "x", kd_desc(N, H, W, C), true);
    y = block(g, kd_scale(g, x, 1.5f, 0), how);
    kd_output(g, "y", kd_sigmoid(g, y));
    return g;
}

static int count_of(const kd_graph *g, int32_t op)
{
    int n = 0;

    for (int i = 0; i < kd_graph_nodes(g); i++) {
        const kd_node *node = kd_graph_node(g, i);

        n += node->kind == KD_NODE_OP && !node->absorbed && node->op->ref.op == op;
    }
    return n;
}

/* A program and what it ran on. */
typedef struct side {
    kd_params  *params;
    kd_arena   *arena;
    kd_program *p;
    float       x[N * H * W * C], dx[N * H * W * C];
} side;

static kdas_status open_side(side *s, kdas_context *ctx, kd_mode mode, spoil how, bool unfused)
{
    kd_graph   *g;
    kdas_status st = KDAS_OK;

    memset(s, 0, sizeof *s);
    KD_TRY(kd_params_create(&s->params, ctx));
    g = build(ctx, s->params, mode, how); /* declares the parameters */
    kd_graph_destroy(g);
    KD_TRY(kd_params_seal(s->params, true));
    KD_TRY(kd_params_init(s->params, 11));
    s->arena     = kd_arena_create(ctx);
    kd_graph_settings_change(ctx)->unfused = unfused;
    KD_TRY(kd_program_create(&s->p, build(ctx, s->params, mode, how), s->arena));
    kd_test_fill(s->x, N * H * W * C, "x", 1, 0);
    kd_program_bind(s->p, kd_find(kd_program_graph(s->p), "x"), s->x, s->dx);
done:
    return st;
}

static void close_side(side *s)
{
    kd_program_destroy(s->p);
    kd_arena_destroy(s->arena);
    kd_params_destroy(s->params);
}

/* Forward, a gradient for every output, backward. */
static void run(side *s, kd_mode mode)
{
    const kd_node *out;

    kd_assert_ok(kd_program_forward(s->p, 21));
    if (mode == KD_INFER) return;
    for (int i = 0; kd_graph_output(kd_program_graph(s->p), i, &out); i++)
        kd_test_fill(kd_program_grad(s->p, out), kd_elements(&out->desc.out), "dy", 1, 0);
    kd_assert_ok(kd_program_backward(s->p));
}

static void compare(side *got, side *want, kd_mode mode)
{
    const kd_node *a, *b;

    for (int i = 0; kd_graph_output(kd_program_graph(got->p), i, &a); i++) {
        kd_graph_output(kd_program_graph(want->p), i, &b);
        kd_assert_close(kd_program_value(got->p, a), kd_program_value(want->p, b),
                        kd_elements(&a->desc.out), 1e-6);
    }
    if (mode == KD_INFER) return;
    kd_assert_close(got->dx, want->dx, N * H * W * C, 1e-5);
    for (int i = 0; i < kd_params_count(got->params); i++) {
        int64_t n = kd_params_at(got->params, i)->count;
        float  *g = malloc((size_t)n * sizeof *g), *w = malloc((size_t)n * sizeof *w);

        kd_assert_ok(kd_params_read_grad(got->params, i, g));
        kd_assert_ok(kd_params_read_grad(want->params, i, w));
        kd_assert_close(g, w, n, 1e-5);
        ck_assert_double_gt(kd_test_worst(w, (float[1000]){ 0 }, n, 1e-6, NULL), 0);
        free(g);
        free(w);
    }
}

START_TEST(fused_block_equals_its_ops)
{
    kd_mode       mode = (kd_mode)(_i % 3);
    spoil         how  = (spoil)(_i / 3);
    kdas_context *ctx  = kd_test_device("cpu", NULL);
    side          fused, apart;

    kd_assert_ok(open_side(&fused, ctx, mode, how, false));
    kd_assert_ok(open_side(&apart, ctx, mode, how, true));
    ck_assert_int_eq(count_of(kd_program_graph(fused.p), KDAS_OP_MIX_FFN),
                     how <= LAST_SPOIL_THAT_FUSES);
    ck_assert_int_eq(count_of(kd_program_graph(apart.p), KDAS_OP_MIX_FFN), 0);
    run(&fused, mode);
    run(&apart, mode);
    compare(&fused, &apart, mode);
    close_side(&fused);
    close_side(&apart);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(residual_goes_along_where_it_can)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    side          s;

    for (spoil how = WHOLE; how <= LAST_SPOIL_THAT_FUSES; how++) {
        bool alone = how == DROPPED || how == BROADCAST;

        kd_assert_ok(open_side(&s, ctx, KD_TRAIN, how, false));
        ck_assert_int_eq(count_of(kd_program_graph(s.p), KDAS_OP_ADD), alone);
        ck_assert_int_eq(count_of(kd_program_graph(s.p), KDAS_OP_LINEAR), 0);
        ck_assert_int_eq(count_of(kd_program_graph(s.p), KDAS_OP_GELU), 0);
        close_side(&s);
    }
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(reference_runs_op_by_op)
{
    kdas_context *ctx = kd_test_device("reference", NULL);
    side          s;

    kd_assert_ok(open_side(&s, ctx, KD_TRAIN, WHOLE, false));
    ck_assert_int_eq(count_of(kd_program_graph(s.p), KDAS_OP_MIX_FFN), 0);
    close_side(&s);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- networks ---- */

enum { SIDE = 64 };

/* One pass of a network, with a gradient for each of its two outputs; the first goes to `out`. */
static void pass(kdas_model *m, kdas_batch *batch, kdas_mode mode, float *out)
{
    float *gradient = malloc(2 * SIDE * SIDE * sizeof *gradient);

    kd_test_fill(gradient, 2 * SIDE * SIDE, "gradient", 1, 0);
    kd_assert_ok(kdas_model_forward(m, mode, batch));
    kd_assert_ok(kdas_model_read_output(m, kdas_model_output(m, 0, NULL), out));
    if (mode != KDAS_MODE_INFER)
        kd_assert_ok(kdas_model_backward(m, (const float *[]){ gradient, gradient }));
    free(gradient);
}

START_TEST(fused_network_equals_its_ops)
{
    kdas_context      *ctx  = kd_test_device("cpu", NULL);
    kdas_mode          mode = (kdas_mode)_i;
    kdas_model_options o;
    kdas_model        *m[2];
    kdas_batch        *batch;
    float              out[2][2 * SIDE * SIDE];
    size_t             bytes[2];

    kdas_model_options_init(&o, sizeof o);
    kd_assert_ok(kdas_batch_create(&batch, ctx, 2, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(batch), 2 * SIDE * SIDE * 3, "image", 1, 0);
    for (int i = 0; i < 2; i++) {
        kd_graph_settings_change(ctx)->unfused = i == 1;
        kd_assert_ok(kdas_model_create(&m[i], ctx, "polyp_pvt_b0", &o));
        pass(m[i], batch, mode, out[i]);
        kd_assert_ok(kdas_model_memory(m[i], mode, 2, SIDE, SIDE, &bytes[i], NULL));
    }
    ck_assert_uint_lt(bytes[0], bytes[1]);
    kd_assert_close(out[0], out[1], 2 * SIDE * SIDE, 2e-5);
    if (mode != KDAS_MODE_INFER)
        ck_assert_double_lt(kd_test_rms_error(kd_params_grads(m[0]->params),
                                              kd_params_grads(m[1]->params),
                                              kd_params_trainable(m[0]->params)),
                            1e-4);
    for (int i = 0; i < 2; i++)
        kdas_model_destroy(m[i]);
    kdas_batch_destroy(batch);
    kdas_context_destroy(ctx);
}
END_TEST

/* A network of four times two blocks, in f32 and in bf16. */
START_TEST(every_block_of_a_network_is_fused)
{
    kdas_context_options o;
    kdas_model_options   mo;
    kdas_context        *ctx;
    kdas_model          *m;
    kd_program          *p;

    kdas_context_options_init(&o, sizeof o);
    o.device    = "cpu";
    o.precision = _i % 2 ? KDAS_PRECISION_BF16 : KDAS_PRECISION_F32;
    if (kdas_context_create(&ctx, &o) != KDAS_OK) {
        ck_assert_int_eq(o.precision, KDAS_PRECISION_BF16); /* not on every machine */
        printf("SKIP %s\n", kdas_last_error());
        return;
    }
    kdas_model_options_init(&mo, sizeof mo);
    mo.drop_path = 0;
    kd_assert_ok(kdas_model_create(&m, ctx, "polyp_pvt_b0", &mo));
    kd_assert_ok(kd_model_program_for(&p, m, _i < 2 ? KD_INFER : KD_TRAIN, 1, SIDE, SIDE));
    ck_assert_int_eq(count_of(kd_program_graph(p), KDAS_OP_MIX_FFN), 8);
    ck_assert_int_eq(count_of(kd_program_graph(p), KDAS_OP_GELU), 0);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- memory ---- */

START_TEST(compiling_without_memory_is_reported_and_leaks_nothing)
{
    bool done = false;

    for (long k = 1; !done; k++) {
        kd_test_meter meter = { 0 };
        kdas_context *ctx   = kd_test_device("cpu", &meter);
        side          s;
        kdas_status   st;

        kd_assert_ok(open_side(&s, ctx, KD_TRAIN, WHOLE, false));
        kd_program_destroy(s.p);
        s.p           = NULL;
        meter.fail_at = atomic_load(&meter.taken) + k;
        {
            kd_graph *g = kd_graph_create(ctx, s.params, KD_TRAIN);

            if (g) {
                kd_node *x = kd_input(g, "x", kd_desc(N, H, W, C), true);

                kd_output(g, "y", block(g, x, WHOLE));
            }
            st = kd_program_create(&s.p, g, s.arena);
        }
        done = st == KDAS_OK;
        if (!done) ck_assert_int_eq(st, KDAS_ENOMEM);
        close_side(&s);
        kdas_context_destroy(ctx);
        kd_test_assert_given_back(&meter);
        ck_assert_int_lt(k, 200);
    }
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("fuse");
    TCase   *t     = tcase_create("fuse");
    SRunner *runner;
    int      failed;

    tcase_add_loop_test(t, fused_block_equals_its_ops, 0, 3 * SPOILS);
    tcase_add_test(t, residual_goes_along_where_it_can);
    tcase_add_test(t, reference_runs_op_by_op);
    tcase_add_loop_test(t, fused_network_equals_its_ops, 0, 3);
    tcase_add_loop_test(t, every_block_of_a_network_is_fused, 0, 4);
    tcase_add_test(t, compiling_without_memory_is_reported_and_leaks_nothing);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

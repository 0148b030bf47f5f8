/* check_inverted.c - inverted residual blocks that are compiled to one node for inference, and layers that
 * apply the activation after them: which are, which are not, and that values are those of the ops one by
 * one. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "graph/build.h"
#include "graph/program_inside.h"
#include "graph/settings.h"
#include "model/model.h"
#include "nn/nn.h"
#include "support/check_util.h"
#include "support/run_util.h"

/* ---- a block, whole and spoilt ---- */

typedef enum spoil {
    WHOLE,
    SWAPPED, /* the block is the addition's first operand */
    NO_RESIDUAL,
    NO_NORMS, /* layers with biases instead                */
    NO_ACTIVATION,
    TWICE, /* the result is added, and then read again  */
    LAST_SPOIL_THAT_FUSES = TWICE,
    READ_TWICE, /* the filtered map has another reader       */
    KEPT,       /* a tap inside is read from outside         */
    SILU_INSTEAD,
    WIDE_FILTER, /* 7x7                                       */
    WIDENS_BY_3X3,
    SPOILS
} spoil;

typedef struct sizes {
    int64_t n, h, w, c, f, o;
    int     k, stride;
} sizes;

enum { MOST = 20000 };

static kd_node *normed(kd_graph *g, const char *name, kd_node *x, spoil how)
{
    return how == NO_NORMS ? x : kd_batch_norm_layer(g, name, x, 1e-3f, 0.1f);
}

static kd_node *activated(kd_graph *g, kd_node *x, spoil how)
{
    if (how == NO_ACTIVATION) return x;
    return how == SILU_INSTEAD  ? kd_silu(g, x)
           : how == NO_RESIDUAL ? kd_relu(g, x)
                                : kd_relu6(g, x);
}

static kd_node *block(kd_graph *g, kd_node *x, const sizes *s, spoil how)
{
    bool     bias = how == NO_NORMS;
    int      k = how == WIDE_FILTER ? 7 : s->k, wide = how == WIDENS_BY_3X3 ? 3 : 1;
    kd_node *y = kd_conv_layer(g, "expand", x, s->f, wide, 1, wide / 2, bias, KD_STYLE_TORCH);

    y = activated(g, normed(g, "bn0", y, how), how);
    y = kd_tap(g, "wide", y);
    y = activated(g, normed(g, "bn1", kd_same_dwconv_layer(g, "filter", y, k, s->stride), how),
                  how);
    if (how == READ_TWICE) kd_output(g, "mean", kd_mean(g, y));
    y = normed(g, "bn2", kd_conv_layer(g, "project", y, s->o, 1, 1, 0, bias, KD_STYLE_TORCH), how);
    if (how == NO_RESIDUAL || s->stride > 1 || s->c != s->o) return y;
    y = how == SWAPPED ? kd_add(g, y, x) : kd_add(g, x, y);
    return how == TWICE ? kd_add(g, kd_scale(g, y, 2, 0), y) : y;
}

static kd_graph *build(kdas_context *ctx, kd_params *params, kd_mode mode, const sizes *s,
                       spoil how)
{
    kd_graph *g = kd_graph_create(ctx, params, mode);
    kd_node  *x;

    ck_assert_ptr_nonnull(g);
    if (how == KEPT) kd_assert_ok(kd_keep_tap(g, "wide"));
    x = kd_input(g, "x", kd_desc(s->n, s->h, s->w, s->c), false);
    kd_output(g, "y", block(g, kd_scale(g, x, 1.5f, 0), s, how));
    return g;
}

typedef struct side {
    kd_params  *params;
    kd_arena   *arena;
    kd_program *p;
    float       x[MOST];
} side;

/* Norms with statistics of their own. */
static void fill(kd_params *params, uint64_t seed)
{
    kd_assert_ok(kd_params_init(params, seed));
    for (int i = 0; i < kd_params_count(params); i++) {
        const kd_param_entry *e = kd_params_at(params, i);
        float                 values[2048];

        if (!strstr(e->name, "running") && !strstr(e->name, "bias")) continue;
        ck_assert_int_le(e->count, 2048);
        kd_test_fill(values, e->count, e->name, 0.4f, strstr(e->name, "var") ? 1 : 0.1f);
        kd_assert_ok(kd_params_write(params, i, values));
    }
}

static kdas_status open_side(side *s, kdas_context *ctx, kd_mode mode, const sizes *z, spoil how,
                             bool unfused)
{
    kdas_status st = KDAS_OK;

    memset(s, 0, sizeof *s);
    KD_TRY(kd_params_create(&s->params, ctx));
    kd_graph_destroy(build(ctx, s->params, mode, z, how)); /* declares the parameters */
    KD_TRY(kd_params_seal(s->params, mode != KD_INFER));
    fill(s->params, 11);
    s->arena                                = kd_arena_create(ctx);
    kd_graph_settings_change(ctx)->unfused  = unfused;
    kd_graph_settings_change(ctx)->fuse_all = true;
    KD_TRY(kd_program_create(&s->p, build(ctx, s->params, mode, z, how), s->arena));
    ck_assert_int_le(z->n * z->h * z->w * z->c, MOST);
    kd_test_fill(s->x, z->n * z->h * z->w * z->c, "x", 2, 0);
    kd_program_bind(s->p, kd_find(kd_program_graph(s->p), "x"), s->x, NULL);
done:
    return st;
}

static void close_side(side *s)
{
    kd_program_destroy(s->p);
    kd_arena_destroy(s->arena);
    kd_params_destroy(s->params);
}

static int runs_of(const kd_program *p, int32_t op)
{
    int n = 0;

    for (int i = 0; i < p->nodes; i++)
        n += p->slot[i].kernel && p->graph->node[i]->desc.op == op;
    return n;
}

static void assert_equal(side *got, side *want, double tolerance)
{
    const kd_node *a, *b;

    kd_assert_ok(kd_program_forward(got->p, 21));
    kd_assert_ok(kd_program_forward(want->p, 21));
    for (int i = 0; kd_graph_output(kd_program_graph(got->p), i, &a); i++) {
        kd_graph_output(kd_program_graph(want->p), i, &b);
        kd_assert_close(kd_program_value(got->p, a), kd_program_value(want->p, b),
                        kd_elements(&a->desc.out), tolerance);
    }
}

static const sizes usual = { 2, 9, 11, 8, 40, 8, 3, 1 };

START_TEST(fused_block_equals_its_ops)
{
    spoil         how = (spoil)_i;
    kdas_context *ctx = kd_test_device("cpu", NULL);
    side          fused, apart;

    kd_assert_ok(open_side(&fused, ctx, KD_INFER, &usual, how, false));
    kd_assert_ok(open_side(&apart, ctx, KD_INFER, &usual, how, true));
    ck_assert_int_eq(runs_of(fused.p, KDAS_OP_INVERTED), how <= LAST_SPOIL_THAT_FUSES);
    ck_assert_int_eq(runs_of(apart.p, KDAS_OP_INVERTED), 0);
    assert_equal(&fused, &apart, 2e-6);
    close_side(&fused);
    close_side(&apart);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(blocks_of_any_size_equal_their_ops)
{
    static const sizes all[] = {
        { 1, 16, 16, 16, 96, 24, 3, 2 },  { 1, 15, 17, 24, 144, 24, 3, 1 },
        { 1, 14, 18, 24, 144, 40, 5, 2 }, { 2, 13, 7, 10, 61, 10, 5, 1 },
        { 3, 5, 5, 7, 33, 9, 5, 1 },      { 1, 1, 1, 3, 17, 3, 3, 1 },
        { 1, 3, 1, 5, 16, 5, 5, 1 },      { 2, 4, 6, 20, 700, 33, 3, 1 },
        { 1, 40, 33, 5, 35, 5, 5, 1 },    { 1, 66, 50, 4, 24, 6, 3, 2 },
    };
    const sizes  *z   = &all[_i / 2];
    kdas_context *ctx = kd_test_device("cpu", NULL);
    spoil         how = _i % 2 ? NO_NORMS : WHOLE;
    side          fused, apart;

    kd_assert_ok(open_side(&fused, ctx, KD_INFER, z, how, false));
    kd_assert_ok(open_side(&apart, ctx, KD_INFER, z, how, true));
    ck_assert_int_eq(runs_of(fused.p, KDAS_OP_INVERTED), 1);
    ck_assert_int_eq(runs_of(fused.p, KDAS_OP_ADD), 0);
    assert_equal(&fused, &apart, 5e-6);
    close_side(&fused);
    close_side(&apart);
    kdas_context_destroy(ctx);
}
END_TEST
enum { SIZES = 10 };

/* Where a gradient may be wanted, all is as built. */
START_TEST(only_inference_is_fused)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    side          s;

    for (kd_mode mode = KD_EVAL; mode <= KD_TRAIN; mode++) {
        kd_assert_ok(open_side(&s, ctx, mode, &usual, WHOLE, false));
        ck_assert_int_eq(runs_of(s.p, KDAS_OP_INVERTED), 0);
        ck_assert_int_eq(runs_of(s.p, KDAS_OP_RELU6), 2);
        close_side(&s);
    }
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(reference_runs_op_by_op)
{
    kdas_context *ctx = kd_test_device("reference", NULL);
    side          s;

    kd_assert_ok(open_side(&s, ctx, KD_INFER, &usual, WHOLE, false));
    ck_assert_int_eq(runs_of(s.p, KDAS_OP_INVERTED), 0);
    ck_assert_int_eq(runs_of(s.p, KDAS_OP_RELU6), 2);
    close_side(&s);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(new_weights_and_statistics_are_read)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    side          fused, apart;

    for (spoil how = WHOLE; how <= NO_NORMS; how++) {
        kd_assert_ok(open_side(&fused, ctx, KD_INFER, &usual, how, false));
        kd_assert_ok(open_side(&apart, ctx, KD_INFER, &usual, how, true));
        assert_equal(&fused, &apart, 2e-6);
        fill(fused.params, 12);
        fill(apart.params, 12);
        assert_equal(&fused, &apart, 2e-6);
        close_side(&fused);
        close_side(&apart);
    }
    kdas_context_destroy(ctx);
}
END_TEST

/* Layers that are not part of a block apply the activation after them; the bits are the same. */
START_TEST(layers_apply_their_activation)
{
    static const spoil some[] = { READ_TWICE, WIDE_FILTER };
    kdas_context      *ctx    = kd_test_device("cpu", NULL);
    side               with, apart;

    for (size_t i = 0; i < KD_COUNT(some); i++) {
        kd_assert_ok(open_side(&with, ctx, KD_INFER, &usual, some[i], false));
        kd_assert_ok(open_side(&apart, ctx, KD_INFER, &usual, some[i], true));
        ck_assert_int_eq(runs_of(with.p, KDAS_OP_RELU6), 0);
        ck_assert_int_eq(runs_of(apart.p, KDAS_OP_RELU6), 2);
        assert_equal(&with, &apart, 0);
        close_side(&with);
        close_side(&apart);
    }
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(a_nan_stays_a_nan)
{
    static const spoil how[] = { WHOLE, READ_TWICE, WIDE_FILTER };
    kdas_context      *ctx   = kd_test_device("cpu", NULL);

    for (size_t i = 0; i < KD_COUNT(how); i++) {
        const kd_node *y;
        const float   *value;
        side           s;

        kd_assert_ok(open_side(&s, ctx, KD_INFER, &usual, how[i], false));
        s.x[0] = NAN;
        kd_assert_ok(kd_program_forward(s.p, 1));
        for (int k = 0; kd_graph_output(kd_program_graph(s.p), k, &y); k++) {
            value = kd_program_value(s.p, y);
            ck_assert(isnan(value[0]));
        }
        close_side(&s);
    }
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(compiling_without_memory_is_reported_and_leaks_nothing)
{
    bool done = false;

    for (long k = 1; !done; k++) {
        kd_test_meter meter = { 0 };
        kdas_context *ctx   = kd_test_device("cpu", &meter);
        side          s;
        kdas_status   st;

        kd_assert_ok(open_side(&s, ctx, KD_INFER, &usual, WHOLE, false));
        kd_program_destroy(s.p);
        s.p           = NULL;
        meter.fail_at = atomic_load(&meter.taken) + k;
        {
            kd_graph *g = kd_graph_create(ctx, s.params, KD_INFER);

            if (g) {
                kd_node *x = kd_input(g, "x", kd_desc(usual.n, usual.h, usual.w, usual.c), false);

                kd_output(g, "y", block(g, x, &usual, WHOLE));
            }
            st = kd_program_create(&s.p, g, s.arena);
        }
        done = st == KDAS_OK;
        if (!done) ck_assert_int_eq(st, KDAS_ENOMEM);
        close_side(&s);
        kdas_context_destroy(ctx);
        kd_test_assert_given_back(&meter);
        ck_assert_int_lt(k, 300);
    }
}
END_TEST

/* ---- networks ---- */

static int blocks_of(int threads, int64_t width)
{
    kdas_context_options c;
    kdas_model_options   o;
    kdas_context        *ctx;
    kdas_model          *m;
    kd_program          *p;
    int                  n;

    kdas_context_options_init(&c, sizeof c);
    kdas_model_options_init(&o, sizeof o);
    c.threads   = threads;
    o.trainable = 0;
    kd_assert_ok(kdas_context_create(&ctx, &c));
    kd_assert_ok(kdas_model_create(&m, ctx, "lite_fpn0", &o));
    kd_assert_ok(kd_model_program_for(&p, m, KD_INFER, 1, width, width));
    n = runs_of(p, KDAS_OP_INVERTED);
    ck_assert_int_eq(runs_of(p, KDAS_OP_RELU6), 1); /* of the stem, which oneDNN computes */
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
    return n;
}

START_TEST(blocks_with_rows_for_all_threads_are_fused)
{
    ck_assert_int_eq(blocks_of(1, 64), 15);
    ck_assert_int_eq(blocks_of(2, 352), 15);
    ck_assert_int_eq(blocks_of(16, 64), 0);
    ck_assert_int_eq(blocks_of(8, 352), 3);
}
END_TEST

START_TEST(fused_network_equals_its_ops)
{
    enum { SIDE = 64, PIXELS = 2 * SIDE * SIDE };
    kdas_context      *ctx = kd_test_device("cpu", NULL);
    kdas_model_options o;
    kdas_model        *m[2];
    kdas_batch        *batch;
    static float       out[2][PIXELS];

    kdas_model_options_init(&o, sizeof o);
    kd_assert_ok(kdas_batch_create(&batch, ctx, 2, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(batch), PIXELS * 3, "image", 1, 0);
    kd_graph_settings_change(ctx)->fuse_all = true;
    for (int i = 0; i < 2; i++) {
        kd_graph_settings_change(ctx)->unfused = i == 1;
        kd_assert_ok(kdas_model_create(&m[i], ctx, "lite_fpn0", &o));
        kd_assert_ok(kdas_model_forward(m[i], KDAS_MODE_INFER, batch));
        kd_assert_ok(kdas_model_read_output(m[i], kdas_model_output(m[i], 0, NULL), out[i]));
    }
    kd_assert_close(out[0], out[1], PIXELS, 2e-5);
    for (int i = 0; i < 2; i++)
        kdas_model_destroy(m[i]);
    kdas_batch_destroy(batch);
    kdas_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("inverted");
    TCase   *t     = tcase_create("inverted");
    SRunner *runner;
    int      failed;

    tcase_add_loop_test(t, fused_block_equals_its_ops, 0, SPOILS);
    tcase_add_loop_test(t, blocks_of_any_size_equal_their_ops, 0, 2 * SIZES);
    tcase_add_test(t, only_inference_is_fused);
    tcase_add_test(t, reference_runs_op_by_op);
    tcase_add_test(t, new_weights_and_statistics_are_read);
    tcase_add_test(t, layers_apply_their_activation);
    tcase_add_test(t, a_nan_stays_a_nan);
    tcase_add_test(t, compiling_without_memory_is_reported_and_leaks_nothing);
    tcase_add_test(t, blocks_with_rows_for_all_threads_are_fused);
    tcase_add_test(t, fused_network_equals_its_ops);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_lower.c - layers on grids compiled to integer nodes: which nodes run and what they give, and
 * that values are those of the simulation. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "graph/build.h"
#include "graph/program_inside.h"
#include "nn/nn.h"
#include "support/check_util.h"
#include "support/run_util.h"

/* ---- a small network, whole and spoilt ---- */

typedef enum spoil {
    WHOLE,
    KEPT,      /* the result of a layer is read from outside                */
    TWO_READS, /* a layer's result is read on a grid and as it is           */
    WIDE,      /* the depthwise layer stays wide                            */
    GROUPS,    /* a convolution in groups reads what a layer on grids reads */
    SPOILS
} spoil;

enum { N = 2, H = 9, W = 11, C = 16, F = 40, O = 8 };

static kd_node *normed(kd_graph *g, const char *name, kd_node *x)
{
    return kd_batch_norm_layer(g, name, x, 1e-3f, 0.1f);
}

/* Widen, filter, narrow, as the blocks of EfficientNet-Lite. */
static kd_node *block(kd_graph *g, kd_node *x, spoil how)
{
    kd_node *y = normed(g, "bn0", kd_same_conv_layer(g, "expand", x, F, 1, 1)), *z;

    y = kd_tap(g, "wide", kd_relu6(g, y));
    z = normed(g, "bn1", kd_same_dwconv_layer(g, "depthwise", y, 3, 1));
    z = kd_relu6(g, z);
    if (how == TWO_READS) z = kd_add(g, z, y);
    if (how == GROUPS)
        z = kd_add(g, z,
                   kd_conv_form_layer(g, "groups", y,
                                      (kd_conv_form){ .out    = F,
                                                      .kh     = 3,
                                                      .kw     = 3,
                                                      .stride = 1,
                                                      .pad_y  = 1,
                                                      .pad_x  = 1,
                                                      .groups = 2 }));
    z = normed(g, "bn2", kd_same_conv_layer(g, "project", z, O, 1, 1));
    return kd_relu(g, kd_conv_layer(g, "smooth", z, O, 3, 1, 1, true, KD_STYLE_TORCH));
}

static kd_graph *build(kdas_context *ctx, kd_params *params, kd_mode mode, spoil how)
{
    kd_graph *g = kd_graph_create(ctx, params, mode);
    kd_node  *x;

    ck_assert_ptr_nonnull(g);
    kd_graph_use_grids(g, 0, how == WIDE ? "stem depthwise" : "stem");
    if (how == KEPT) kd_assert_ok(kd_keep_tap(g, "wide"));
    x = kd_input(g, "x", kd_desc(N, H, W, 3), false);
    x = kd_conv_layer(g, "stem", x, C, 3, 1, 1, true, KD_STYLE_TORCH);
    kd_output(g, "y", block(g, x, how));
    return g;
}

typedef struct side {
    kdas_context *ctx;
    kd_params    *params;
    kd_arena     *arena;
    kd_program   *p;
    float         x[N * H * W * 3];
} side;

static bool is_range(const char *name) { return strstr(name, "input_range") != NULL; }

/* Values of which no range is much too narrow or wide. */
static void fill(kd_params *params)
{
    kd_assert_ok(kd_params_init(params, 5));
    for (int i = 0; i < kd_params_count(params); i++) {
        const kd_param_entry *e = kd_params_at(params, i);
        const float range[2]    = { strstr(e->name, "depthwise") || strstr(e->name, "project") ? 0
                                                                                               : -3,
                                 6 };

        if (is_range(e->name)) kd_assert_ok(kd_params_write(params, i, range));
    }
}

/* False where the machine has no integers. */
static bool open_side(side *s, kdas_precision precision, spoil how)
{
    kdas_context_options o;

    memset(s, 0, sizeof *s);
    kdas_context_options_init(&o, sizeof o);
    o.precision = (int32_t)precision;
    o.threads   = 2;
    if (kdas_context_create(&s->ctx, &o) != KDAS_OK) {
        printf("SKIP %s\n", kdas_last_error());
        return false;
    }
    s->ctx->type = KDAS_F32; /* of what is not on grids, so that integers can be compared closely */
    kd_assert_ok(kd_params_create(&s->params, s->ctx));
    kd_graph_destroy(build(s->ctx, s->params, KD_INFER, how));
    kd_assert_ok(kd_params_seal(s->params, true));
    fill(s->params);
    s->arena = kd_arena_create(s->ctx);
    kd_assert_ok(kd_program_create(&s->p, build(s->ctx, s->params, KD_INFER, how), s->arena));
    kd_test_fill(s->x, N * H * W * 3, "x", 2, 0);
    kd_program_bind(s->p, kd_find(kd_program_graph(s->p), "x"), s->x, NULL);
    return true;
}

static void close_side(side *s)
{
    kd_program_destroy(s->p);
    kd_arena_destroy(s->arena);
    kd_params_destroy(s->params);
    kdas_context_destroy(s->ctx);
}

/* The node of this name that runs; NULL: none. */
static const kd_node *running(const side *s, const char *name)
{
    for (int i = 0; i < s->p->nodes; i++)
        if (s->p->slot[i].kernel && !strcmp(s->p->graph->node[i]->name, name))
            return s->p->graph->node[i];
    return NULL;
}

static int runs_of(const side *s, int32_t op)
{
    int n = 0;

    for (int i = 0; i < s->p->nodes; i++)
        n += s->p->slot[i].kernel && s->p->graph->node[i]->desc.op == op;
    return n;
}

static void assert_gives(const side *s, const char *name, int32_t dtype, int32_t post)
{
    const kd_node *node = running(s, name);

    ck_assert_msg(node != NULL, "%s does not run", name);
    ck_assert_msg(node->desc.in[0].dtype == KDAS_U8, "%s does not read numbers", name);
    ck_assert_int_eq(node->desc.out.dtype == KDAS_U8, dtype == KDAS_U8);
    ck_assert_int_eq(node->desc.post, post);
}

START_TEST(a_chain_is_numbers_from_layer_to_layer)
{
    side s;

    if (!open_side(&s, KDAS_PRECISION_INT8, WHOLE)) return;
    assert_gives(&s, "expand.linear", KDAS_U8, KDAS_POST_RELU6);
    assert_gives(&s, "depthwise.dwconv2d", KDAS_U8, KDAS_POST_RELU6);
    assert_gives(&s, "project.linear", KDAS_U8, KDAS_POST_NONE);
    assert_gives(&s, "smooth.conv2d", KDAS_F32, KDAS_POST_RELU);
    ck_assert_int_eq(runs_of(&s, KDAS_OP_QUANTIZE), 1); /* after the stem, which is wide */
    ck_assert_int_eq(runs_of(&s, KDAS_OP_RELU6), 0);
    ck_assert_int_eq(runs_of(&s, KDAS_OP_RELU), 0);
    ck_assert_int_eq(runs_of(&s, KDAS_OP_BATCH_NORM), 0);
    close_side(&s);
}
END_TEST

START_TEST(what_is_read_from_outside_stays_a_value)
{
    side s;

    if (!open_side(&s, KDAS_PRECISION_INT8, KEPT)) return;
    assert_gives(&s, "expand.linear", KDAS_F32, KDAS_POST_RELU6);
    ck_assert_int_eq(runs_of(&s, KDAS_OP_QUANTIZE), 2);
    close_side(&s);
}
END_TEST

START_TEST(a_second_reader_gets_the_value)
{
    side s;

    if (!open_side(&s, KDAS_PRECISION_INT8, TWO_READS)) return;
    assert_gives(&s, "expand.linear", KDAS_F32, KDAS_POST_RELU6);
    assert_gives(&s, "depthwise.dwconv2d", KDAS_F32, KDAS_POST_RELU6);
    ck_assert_int_eq(runs_of(&s, KDAS_OP_QUANTIZE), 3);
    close_side(&s);
}
END_TEST

START_TEST(a_wide_layer_stays_as_it_is)
{
    side           s;
    const kd_node *node;

    if (!open_side(&s, KDAS_PRECISION_INT8, WIDE)) return;
    node = running(&s, "depthwise.dwconv2d");
    ck_assert_ptr_nonnull(node);
    ck_assert_int_ne(node->desc.in[0].dtype, KDAS_U8);
    assert_gives(&s, "expand.linear", KDAS_F32, KDAS_POST_RELU6);
    close_side(&s);
}
END_TEST

START_TEST(other_contexts_simulate)
{
    side s;

    ck_assert(open_side(&s, KDAS_PRECISION_F32, WHOLE));
    for (int i = 0; i < s.p->nodes; i++)
        ck_assert_int_ne(s.p->graph->node[i]->desc.out.dtype, KDAS_U8);
    ck_assert_int_eq(runs_of(&s, KDAS_OP_QUANTIZE), 4);
    close_side(&s);
}
END_TEST

/* ---- values ---- */

static float *values(side *s, int64_t *n)
{
    const kd_node *y;
    float         *copy;

    kd_assert_ok(kd_program_forward(s->p, 1));
    kd_graph_output(kd_program_graph(s->p), 0, &y);
    *n   = kd_elements(&y->desc.out);
    copy = malloc((size_t)*n * sizeof *copy);
    memcpy(copy, kd_program_value(s->p, y), (size_t)*n * sizeof *copy);
    return copy;
}

/* Both sides round the same values, but for the rounding of floats: 2^-24 of a sum of at most 360
 * products, and so less than 1e-4 of a grid's step. So a number differs, by one, only where a value
 * lies that close to a tie, which is rarer than one in a thousand. A number that differs moves the
 * values after it by at most a step of its own grid times a weight: all others agree to 1e-4 of the
 * largest. */
START_TEST(integers_give_the_values_of_the_simulation)
{
    side    integers, simulated;
    int64_t n;
    float  *a, *b, most = 0, worst = 0;
    int64_t off = 0;

    if (!open_side(&integers, KDAS_PRECISION_INT8, (spoil)_i)) return;
    ck_assert(open_side(&simulated, KDAS_PRECISION_F32, (spoil)_i));
    if (kdas_context_precision(integers.ctx) != KDAS_PRECISION_INT8) return;
    a = values(&integers, &n);
    b = values(&simulated, &n);
    for (int64_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(b[i]));
    ck_assert_float_gt(most, 0);
    for (int64_t i = 0; i < n; i++) {
        worst = fmaxf(worst, fabsf(a[i] - b[i]));
        off += fabsf(a[i] - b[i]) > most * 1e-4f;
    }
    ck_assert_msg(worst <= 2 * most / 255, "the worst is %g of %g", (double)worst, (double)most);
    ck_assert_msg(off * 20 <= n, "%lld of %lld values differ", (long long)off, (long long)n);
    free(a);
    free(b);
    close_side(&integers);
    close_side(&simulated);
}
END_TEST

START_TEST(an_empty_range_is_refused)
{
    side        s;
    const float empty[2] = { 0, 0 };

    if (!open_side(&s, KDAS_PRECISION_INT8, WHOLE)) return;
    for (int i = 0; i < kd_params_count(s.params); i++)
        if (!strcmp(kd_params_at(s.params, i)->name, "project.input_range"))
            kd_assert_ok(kd_params_write(s.params, i, empty));
    kd_params_touch(s.params);
    ck_assert_int_eq(kd_program_forward(s.p, 1), KDAS_ESTATE);
    ck_assert_ptr_nonnull(strstr(kdas_last_error(), "calibrated"));
    close_side(&s);
}
END_TEST

START_TEST(a_new_range_is_packed_anew)
{
    side        s;
    const float wider[2] = { 0, 40 };
    int64_t     n;
    float      *a, *b;

    if (!open_side(&s, KDAS_PRECISION_INT8, WHOLE)) return;
    a = values(&s, &n);
    for (int i = 0; i < kd_params_count(s.params); i++)
        if (!strcmp(kd_params_at(s.params, i)->name, "project.input_range"))
            kd_assert_ok(kd_params_write(s.params, i, wider));
    b = values(&s, &n);
    ck_assert_int_ne(memcmp(a, b, (size_t)n * sizeof *a), 0);
    free(a);
    free(b);
    close_side(&s);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("lower");
    TCase   *t     = tcase_create("nodes");
    SRunner *runner;
    int      failed;

    tcase_add_test(t, a_chain_is_numbers_from_layer_to_layer);
    tcase_add_test(t, what_is_read_from_outside_stays_a_value);
    tcase_add_test(t, a_second_reader_gets_the_value);
    tcase_add_test(t, a_wide_layer_stays_as_it_is);
    tcase_add_test(t, other_contexts_simulate);
    suite_add_tcase(suite, t);
    t = tcase_create("values");
    tcase_add_loop_test(t, integers_give_the_values_of_the_simulation, 0, SPOILS);
    tcase_add_test(t, an_empty_range_is_refused);
    tcase_add_test(t, a_new_range_is_packed_anew);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

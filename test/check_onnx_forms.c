/* check_onnx_forms.c - the form of each op in ONNX: files of one op, in both layouts, against the op's reference kernel over
 * the table of cases that kernels are tested with. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "export/export.h"
#include "graph/build.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/onnx_run.h"
#include "support/onnx_walk.h"
#include "support/op_run.h"
#include "support/run_util.h"

static kdas_context *ctx;

static void open_context(void)
{
    ctx = kd_test_device("cpu", NULL);
    kd_test_folder_make();
}
static void close_context(void)
{
    kdas_context_destroy(ctx);
    kd_test_folder_remove();
}

/* ---- One op as a file ---- */

static int inputs_of(const kd_op_case *test)
{
    int n = 0;

    while (n < KDAS_MAX_INPUTS && test->in[n].desc.dim[0])
        n++;
    return n;
}

/* Inference of one map, whatever else being parameters. check_onnx_grids has grids. */
static bool has_file(const kd_op_case *test)
{
    if (!kd_form_of(test->op) || test->op == KDAS_OP_QUANTIZE || test->flags || test->twin ||
        test->in[0].desc.rank != 4)
        return false;
    for (int i = 1; i < inputs_of(test); i++)
        if (!test->in[i].param) return false;
    return true;
}

/* The graph: "image", the op, "y". */
static kd_graph *graph_of(const kd_op_run *run, kd_params *params)
{
    const kd_op_case *test  = run->test;
    kd_graph         *g     = kd_graph_create(ctx, params, KD_INFER);
    kd_node          *in[8] = { kd_input(g, "image", test->in[0].desc, false) };

    for (int i = 1; i < inputs_of(test); i++) {
        const char name[] = { 'w', (char)('0' + i), 0 };

        in[i] = kd_param(g, name, (kd_init){ KD_TRAINABLE, KD_INIT_ZERO, 0 }, test->in[i].desc.rank,
                         test->in[i].desc.dim);
    }
    kd_output(g, "y", kd_apply(g, kd_op_find(test->op), run->node.attr, inputs_of(test), in));
    kd_assert_ok(kd_graph_status(g));
    return g;
}

static void fill(kd_params *params, const kd_op_run *run)
{
    kd_assert_ok(kd_params_seal(params, false));
    for (int i = 1; i < inputs_of(run->test); i++) {
        const kd_param_entry *p = kd_params_at(params, i - 1);

        memcpy(kd_params_values(params) + p->offset, run->in[i], (size_t)p->count * sizeof(float));
    }
}

/* Write it, with an image of `image` (N,H,W), whose free axes the probes say. */
static void write_file(const kd_graph *g, kd_params *params, kdas_onnx_layout layout,
                       const int64_t image[3], const kd_probe *probe, int probes)
{
    kd_export      e = { .ctx = ctx, .graph = g, .layout = layout };
    const kd_node *y = kd_find(g, "y");

    e.value = calloc((size_t)kd_graph_nodes(g), sizeof *e.value);
    kd_assert_ok(kd_onnx_create(&e.file, ctx, params, "one"));
    kd_assert_ok(kd_export_extents(&e, image, probe, probes));
    kd_export_image(&e, KDAS_ONNX_NORMALISED);
    kd_export_need(&e, y);
    kd_assert_ok(kd_export_nodes(&e));
    kd_export_output(&e, "y", y, kd_export_in(&e, y, layout), false);
    kd_assert_ok(kd_onnx_save(e.file, kd_test_path("one.onnx")));
    kd_onnx_destroy(e.file);
    free(e.value);
}

static kd_test_onnx *read_file(void)
{
    kd_test_onnx *f = kd_test_onnx_read(kd_test_path("one.onnx"));

    kd_test_onnx_assert_sound(f);
    return f;
}

/* ---- What it computes ---- */

/* x (N,H,W,C) in the layout, and its axes. */
static float *laid_out(const float *x, const int64_t *d, kdas_onnx_layout layout, int64_t dims[4])
{
    size_t n  = (size_t)(d[0] * d[1] * d[2] * d[3]);
    float *to = malloc(n * sizeof *to);

    memcpy(to, x, n * sizeof *to);
    memcpy(dims, d, 4 * sizeof *dims);
    if (layout == KDAS_ONNX_NHWC) return to;
    kd_test_to_nchw(to, x, (int)d[0], (int)d[3], (int)d[1], (int)d[2]);
    memcpy(dims, (const int64_t[]){ d[0], d[3], d[1], d[2] }, 4 * sizeof *dims);
    return to;
}

static void assert_file_gives(const float *x, const int64_t *in, const float *y, const int64_t *out,
                              kdas_onnx_layout layout)
{
    kd_test_onnx    *f = read_file();
    int64_t          in_dims[4], out_dims[4];
    float           *image = laid_out(x, in, layout, in_dims);
    float           *want  = laid_out(y, out, layout, out_dims), *got;
    kd_test_onnx_run run   = kd_test_onnx_forward(f, image, in_dims);

    const kd_test_onnx_value *v = kd_test_onnx_value_of(&run, "y");

    ck_assert_int_eq(v->rank, 4);
    for (int k = 0; k < 4; k++)
        ck_assert_int_eq(v->dim[k], out_dims[k]);
    got = malloc((size_t)v->count * sizeof *got);
    for (int64_t i = 0; i < v->count; i++)
        got[i] = (float)v->v[i];
    kd_assert_close(got, want, (int)v->count, 2e-5);
    free(got);
    free(want);
    free(image);
    kd_test_onnx_run_free(&run);
    kd_test_onnx_free(f);
}

START_TEST(computes_what_the_op_does)
{
    const kd_op_case *test   = &kd_op_cases[_i / 2];
    kdas_onnx_layout  layout = _i % 2 ? KDAS_ONNX_NHWC : KDAS_ONNX_NCHW;
    kd_op_options     o      = { .forward_only = true };
    kd_op_run         run;
    kd_params        *params;
    kd_graph         *g;

    if (!has_file(test)) return;
    kd_assert_ok(kd_op_run_case(&run, test, NULL, NULL, &o));
    kd_assert_ok(kd_params_create(&params, ctx));
    g = graph_of(&run, params);
    fill(params, &run);
    write_file(g, params, layout, test->in[0].desc.dim, NULL, 0);
    assert_file_gives(run.in[0], test->in[0].desc.dim, run.out, run.node.out.dim, layout);
    kd_graph_destroy(g);
    kd_params_destroy(params);
    kd_op_close(&run);
}
END_TEST

START_TEST(every_form_has_a_case)
{
    static const int32_t joins[] = { KDAS_OP_ADD,     KDAS_OP_SUB,       KDAS_OP_MUL,
                                     KDAS_OP_CONCAT,  KDAS_OP_ATTENTION, KDAS_OP_MATMUL,
                                     KDAS_OP_QUANTIZE };

    for (int32_t op = 1; op < KDAS_OP_ADAMW; op++) {
        bool found = false;

        for (size_t i = 0; i < KD_COUNT(joins); i++)
            found = found || op == joins[i]; /* of several maps: check_onnx has them in networks */
        for (int i = 0; i < kd_op_case_count; i++)
            found = found || (kd_op_cases[i].op == op && has_file(&kd_op_cases[i]));
        ck_assert_msg(found || !kd_form_of(op), "%s", kd_op_name(op));
    }
}
END_TEST

/* ---- Free sizes ---- */

static const kdas_window_attr slides[] = {
    { 3, 2, 1, 0, 0 }, { 3, 2, 1, 0, 1 }, { 2, 2, 0, 1, 1 }, { 3, 2, 0, 1, 0 },
    { 3, 2, 0, 1, 1 }, { 3, 1, 1, 1, 1 }, { 5, 4, 0, 1, 1 }, { 4, 4, 1, 0, 1 },
};

static kd_graph *window_at(const kdas_window_attr *a, bool most, int64_t height)
{
    kd_graph *g = kd_graph_create(ctx, NULL, KD_INFER);
    kd_node  *x = kd_input(g, "image", kd_desc(1, height, 8, 3), false);

    kd_output(g, "y", kd_apply(g, most ? &kd_op_window_max : &kd_op_window_avg, a, 1, &x));
    kd_assert_ok(kd_graph_status(g));
    return g;
}

/* Made at 16 rows, run at 24. */
START_TEST(a_window_of_a_free_size_is_that_of_each_size)
{
    const kdas_window_attr *a    = &slides[_i / 2];
    kd_op_case              test = { .name = "free",
                                     .op   = _i % 2 ? KDAS_OP_WINDOW_MAX : KDAS_OP_WINDOW_AVG,
                                     .attr.window = *a,
                                     .in = { { { KDAS_F32, 4, { 1, 24, 8, 3 } }, .scale = 1 } } };
    kd_op_options           o    = { .forward_only = true };
    kd_op_run               run;
    kd_probe                probe[2];
    kd_graph               *g;

    kd_assert_ok(kd_op_run_case(&run, &test, NULL, NULL, &o));
    g = window_at(a, _i % 2, 16);
    for (int i = 0; i < 2; i++)
        probe[i] = (kd_probe){ window_at(a, _i % 2, 32 + 16 * i), { 1, 32 + 16 * i, 8 } };
    write_file(g, NULL, KDAS_ONNX_NHWC, (int64_t[]){ 1, 16, 8 }, probe, 2);
    assert_file_gives(run.in[0], test.in[0].desc.dim, run.out, run.node.out.dim, KDAS_ONNX_NHWC);
    for (int i = 0; i < 2; i++)
        kd_graph_destroy(probe[i].graph);
    kd_graph_destroy(g);
    kd_op_close(&run);
}
END_TEST

/* ---- Parameters as values ---- */

START_TEST(a_parameter_may_be_the_first_input)
{
    const int64_t dims[4] = { 1, 1, 1, 3 };
    float         x[3] = { 1, 2, 3 }, table[3] = { 0.5f, -2, 4 }, y[3];
    kd_params    *params;
    kd_graph     *g;
    kd_node      *w;

    kd_assert_ok(kd_params_create(&params, ctx));
    g = kd_graph_create(ctx, params, KD_INFER);
    w = kd_param(g, "w", (kd_init){ KD_TRAINABLE, KD_INIT_ZERO, 0 }, 4, dims);
    w = kd_scale(g, w, -1, 0.5f);
    kd_output(g, "y", kd_relu(g, kd_add(g, kd_input(g, "image", kd_desc(1, 1, 1, 3), false), w)));
    kd_assert_ok(kd_graph_status(g));
    kd_assert_ok(kd_params_seal(params, false));
    memcpy(kd_params_values(params), table, sizeof table);
    for (int i = 0; i < 3; i++)
        y[i] = fmaxf(x[i] - table[i] + 0.5f, 0);
    for (int layout = 0; layout < 2; layout++) {
        write_file(g, params, (kdas_onnx_layout)layout, dims, NULL, 0);
        assert_file_gives(x, dims, y, dims, (kdas_onnx_layout)layout);
    }
    kd_graph_destroy(g);
    kd_params_destroy(params);
}
END_TEST

/* ---- What is left out ---- */

START_TEST(a_value_that_no_output_needs_is_left_out)
{
    kd_params    *params;
    kd_graph     *g;
    kd_node      *x, *w;
    kd_test_onnx *f;

    kd_assert_ok(kd_params_create(&params, ctx));
    g = kd_graph_create(ctx, params, KD_INFER);
    x = kd_input(g, "image", kd_desc(1, 4, 4, 3), false);
    w = kd_param(g, "w", (kd_init){ KD_TRAINABLE, KD_INIT_ZERO, 0 }, 2, (int64_t[]){ 5, 3 });
    kd_output(g, "z", kd_center(g, kd_linear(g, x, w, NULL))); /* CENTER has no form */
    kd_output(g, "y", kd_abs(g, kd_relu(g, x)));
    kd_assert_ok(kd_graph_status(g));
    kd_assert_ok(kd_params_seal(params, false));
    write_file(g, params, KDAS_ONNX_NHWC, (int64_t[]){ 1, 4, 4 }, NULL, 0);
    f = read_file();
    ck_assert_int_eq(f->nodes, 3); /* Relu, Abs, and Identity to the output's name */
    ck_assert_int_eq(f->tensors, 0);
    kd_test_onnx_free(f);
    kd_graph_destroy(g);
    kd_params_destroy(params);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("onnx: forms");
    TCase   *tc     = tcase_create("forms");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, open_context, close_context);
    tcase_add_loop_test(tc, computes_what_the_op_does, 0, 2 * kd_op_case_count);
    tcase_add_test(tc, every_form_has_a_case);
    tcase_add_loop_test(tc, a_window_of_a_free_size_is_that_of_each_size, 0,
                        2 * (int)KD_COUNT(slides));
    tcase_add_test(tc, a_parameter_may_be_the_first_input);
    tcase_add_test(tc, a_value_that_no_output_needs_is_left_out);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

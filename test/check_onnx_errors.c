/* check_onnx_errors.c - exports to ONNX that are refused, graphs at the edge of that, and files that
 * appear whole or not at all. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "export/export.h"
#include "graph/build.h"
#include "model/model.h"
#include "nn/nn.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/onnx_walk.h"
#include "support/run_util.h"
#include "support/thin.h"

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

static kdas_model *make(const char *name)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&m, ctx, name, &o));
    return m;
}

static kdas_onnx_options usual(void)
{
    kdas_onnx_options o;

    kdas_onnx_options_init(&o, sizeof o);
    return o;
}

static kdas_onnx_options all_free(void)
{
    kdas_onnx_options o = usual();

    o.batch = o.height = o.width = KDAS_ONNX_FREE;
    return o;
}

/* ---- Errors ----------------------------------------------------------------------------------- */

START_TEST(what_cannot_be_exported_is_refused_with_a_sentence)
{
    const char       *path = kd_test_path("m.onnx");
    kdas_model       *m = make("lite_fpn0"), *features = make("pvt_v2_b0");
    kdas_onnx_options o = usual();

    kd_test_write(path, "before", 6);
#define REFUSED(member, value, status, part)                           \
    do {                                                               \
        o        = usual();                                            \
        o.member = value;                                              \
        kd_assert_status(kdas_model_export_onnx(m, path, &o), status); \
        kd_assert_sentence(part);                                      \
    } while (0)
    REFUSED(batch, 0, KDAS_EINVAL, "0 images");
    REFUSED(batch, -2, KDAS_EINVAL, "-2 images");
    REFUSED(height, 100, KDAS_ESHAPE, "100x352");
    REFUSED(width, -32, KDAS_ESHAPE, "352x-32");
    REFUSED(input, 3, KDAS_EINVAL, "input 3");
    REFUSED(layout, -1, KDAS_EINVAL, "layout -1");
    REFUSED(maps, 2, KDAS_EINVAL, "maps");
    kd_assert_status(kdas_model_export_onnx(NULL, path, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_model_export_onnx(m, NULL, NULL), KDAS_EINVAL);
    o         = usual();
    o.sigmoid = 1;
    kd_assert_status(kdas_model_export_onnx(features, path, &o), KDAS_EINVAL);
    kd_assert_sentence("features");
    kd_assert_status(kdas_model_export_onnx(m, kd_test_path("none/m.onnx"), NULL), KDAS_EIO);
    kd_assert_sentence("none/m.onnx");
    kd_assert_status(kdas_model_export_onnx(m, kd_test_path(NULL), NULL), KDAS_EIO);
    kd_test_assert_text(path, "before");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
    kd_assert_ok(kdas_model_export_onnx(m, path, NULL));
    kd_test_onnx_free(kd_test_onnx_read(path));
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
    kdas_model_destroy(m);
    kdas_model_destroy(features);
}
END_TEST

/* A graph of one op on an image of h x w. */
typedef kd_node *(*one_op)(kd_graph *g, kd_node *x);
static kd_node *with_center(kd_graph *g, kd_node *x) { return kd_center(g, x); }
static kd_node *with_detour(kd_graph *g, kd_node *x)
{
    return kd_resize(g, kd_resize(g, x, 40, 40, false, 0), kd_shape(x).dim[1] / 2,
                     kd_shape(x).dim[2] / 2, false, 0);
}
static kd_node *with_third(kd_graph *g, kd_node *x)
{
    return kd_resize(g, x, kd_shape(x).dim[1] / 3, kd_shape(x).dim[2], false, 0);
}

static kd_graph *graph_of(one_op add, int64_t h)
{
    kd_graph *g = kd_graph_create(ctx, NULL, KD_INFER);

    kd_output(g, "y", add(g, kd_input(g, "image", kd_desc(1, h, 64, 3), false)));
    kd_assert_ok(kd_graph_status(g));
    return g;
}

/* Export it with a free height, to one.onnx. */
static kdas_status export_one(one_op add)
{
    static const int64_t height[] = { 64, 96, 128 };
    kd_graph            *g[3];
    kd_probe             probe[2];
    kd_export            e = { .ctx = ctx };
    const kd_node       *y;
    kdas_status          st;

    for (int i = 0; i < 3; i++)
        g[i] = graph_of(add, height[i]);
    for (int i = 0; i < 2; i++)
        probe[i] = (kd_probe){ g[i + 1], { 1, height[i + 1], 64 } };
    e.graph = g[0];
    e.value = calloc((size_t)kd_graph_nodes(g[0]), sizeof *e.value);
    kd_assert_ok(kd_onnx_create(&e.file, ctx, NULL, "one"));
    st = kd_export_extents(&e, (int64_t[]){ 1, 64, 64 }, probe, 2);
    if (st == KDAS_OK) {
        kd_export_image(&e, KDAS_ONNX_NORMALISED);
        kd_export_need(&e, kd_find(g[0], "y"));
        st = kd_export_nodes(&e);
    }
    if (st == KDAS_OK) {
        y = kd_find(g[0], "y");
        kd_export_output(&e, "y", y, kd_export_in(&e, y, KDAS_ONNX_NCHW), false);
        st = kd_onnx_save(e.file, kd_test_path("one.onnx"));
    }
    kd_onnx_destroy(e.file);
    free(e.value);
    for (int i = 0; i < 3; i++)
        kd_graph_destroy(g[i]);
    return st;
}

START_TEST(an_op_without_a_form_is_named)
{
    kd_assert_status(export_one(with_center), KDAS_EINVAL);
    kd_assert_sentence("'center'");
}
END_TEST

static const kd_test_onnx_node *last(const kd_test_onnx *f, const char *type)
{
    const kd_test_onnx_node *found = kd_test_onnx_first(f, type);

    for (int i = 0; i < f->nodes; i++)
        if (strcmp(f->node[i].type, type) == 0) found = &f->node[i];
    return found;
}

START_TEST(a_map_of_fixed_size_grows_to_a_free_one)
{
    kd_test_onnx *f;

    kd_assert_ok(export_one(with_detour));
    f = kd_test_onnx_read(kd_test_path("one.onnx"));
    kd_test_onnx_assert_sound(f);
    kd_test_onnx_assert_end(&f->output[0], "1 3 height/2 32");
    ck_assert_int_eq(last(f, "Resize")->inputs, 4);
    ck_assert_str_eq(kd_test_onnx_maker(f, last(f, "Resize")->in[3])->type, "Concat");
    ck_assert_str_eq(kd_test_onnx_first(f, "Resize")->in[2], "");
    kd_test_onnx_free(f);
}
END_TEST

START_TEST(a_size_that_cannot_be_free_is_refused)
{
    kd_assert_status(export_one(with_third), KDAS_EINVAL); /* 21, 32, 42 rows */
    kd_assert_sentence("does not follow");
}
END_TEST

START_TEST(a_file_over_2_gib_is_refused_before_it_is_written)
{
    kdas_model *m = make("lite_fpn0");
    kd_onnx    *f;

    kd_assert_ok(kd_onnx_create(&f, ctx, m->params, "big"));
    kd_onnx_weight(f, 0, 2, (int64_t[]){ 1 << 20, 511 }, false);
    kd_onnx_weight(f, 1, 2, (int64_t[]){ 1 << 20, 2 }, true);
    kd_assert_status(kd_onnx_save(f, kd_test_path("big.onnx")), KDAS_EINVAL);
    kd_assert_sentence("'big' as ONNX would take 2.00 GiB");
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
    kd_onnx_destroy(f);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(failing_allocations_leave_the_old_file)
{
    const char       *path = kd_test_path("m.onnx");
    kdas_onnx_options o    = all_free();
    bool              done = false;

    o.input = KDAS_ONNX_BYTES;
    for (long k = 1; k < 20000 && !done; k += 1 + k / 24) {
        kd_test_meter m     = { 0 };
        kdas_context *c     = kd_test_device("cpu", &m);
        kdas_model   *model = NULL;
        kdas_status   st;

        kd_assert_ok(kdas_model_create(&model, c, "polyp_pvt_b0", NULL));
        kd_test_write(path, "before", 6);
        m.fail_at = m.taken + k;
        st        = kdas_model_export_onnx(model, path, &o);
        done      = st == KDAS_OK;
        ck_assert_msg(done || st == KDAS_ENOMEM, "allocation %ld: %d %s", k, st, kdas_last_error());
        if (!done) kd_test_assert_text(path, "before");
        ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
        kdas_model_destroy(model);
        kdas_context_destroy(c);
        kd_test_assert_given_back(&m);
    }
    ck_assert(done);
}
END_TEST

START_TEST(device_memory_of_its_own_gives_the_same_file)
{
    kdas_context  *far = kd_test_device("far", NULL);
    kdas_model    *a   = make("lite_fpn0"), *b;
    unsigned char *x, *y;
    size_t         n, k;

    kd_assert_ok(kdas_model_create(&b, far, "lite_fpn0", NULL));
    kd_assert_ok(kdas_model_export_onnx(a, kd_test_path("a"), NULL));
    kd_assert_ok(kdas_model_export_onnx(b, kd_test_path("b"), NULL));
    x = kd_test_read(kd_test_path("a"), &n);
    y = kd_test_read(kd_test_path("b"), &k);
    ck_assert_uint_eq(n, k);
    ck_assert(memcmp(x, y, n) == 0);
    free(x);
    free(y);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
    kdas_context_destroy(far);
}
END_TEST

/* ---- Models on grids -------------------------------------------------------------------------- */

static kdas_model *with_given_ranges(kdas_context *c)
{
    const float        range[2] = { -2, 3 };
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.quantize  = KDAS_QUANTIZE_INT8;
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&m, c, "polyp_pvt_b0", &o));
    for (int32_t i = 0; i < kdas_model_tensors(m); i++)
        if (strstr(kdas_model_tensor(m, i, NULL, NULL, NULL), ".input_range"))
            kd_assert_ok(kdas_model_write(m, i, range));
    return m;
}

START_TEST(failing_allocations_leave_the_old_file_of_grids)
{
    const char *path = kd_test_path("m.onnx");
    bool        done = false;

    for (long k = 1; k < 100000 && !done; k += 1 + k / 12) {
        kd_test_meter m     = { 0 };
        kdas_context *c     = kd_test_device("cpu", &m);
        kdas_model   *model = with_given_ranges(c);
        kdas_status   st;

        kd_test_write(path, "before", 6);
        m.fail_at = m.taken + k;
        st        = kdas_model_export_onnx(model, path, NULL);
        done      = st == KDAS_OK;
        ck_assert_msg(done || st == KDAS_ENOMEM, "allocation %ld: %d %s", k, st, kdas_last_error());
        if (!done) kd_test_assert_text(path, "before");
        ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1);
        kdas_model_destroy(model);
        kdas_context_destroy(c);
        kd_test_assert_given_back(&m);
    }
    ck_assert(done);
}
END_TEST

START_TEST(device_memory_gives_the_same_grids)
{
    kdas_context  *far = kd_test_device("far", NULL);
    kdas_model    *a = with_given_ranges(ctx), *b = with_given_ranges(far);
    unsigned char *x, *y;
    size_t         n, k;

    kd_assert_ok(kdas_model_export_onnx(a, kd_test_path("a"), NULL));
    kd_assert_ok(kdas_model_export_onnx(b, kd_test_path("b"), NULL));
    x = kd_test_read(kd_test_path("a"), &n);
    y = kd_test_read(kd_test_path("b"), &k);
    ck_assert_uint_eq(n, k);
    ck_assert(memcmp(x, y, n) == 0);
    free(x);
    free(y);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
    kdas_context_destroy(far);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("onnx: errors");
    TCase   *tc     = tcase_create("errors");
    SRunner *runner = srunner_create(suite);
    int      failed;

    kd_test_thin_networks();
    tcase_add_checked_fixture(tc, open_context, close_context);
    tcase_add_test(tc, what_cannot_be_exported_is_refused_with_a_sentence);
    tcase_add_test(tc, an_op_without_a_form_is_named);
    tcase_add_test(tc, a_map_of_fixed_size_grows_to_a_free_one);
    tcase_add_test(tc, a_size_that_cannot_be_free_is_refused);
    tcase_add_test(tc, a_file_over_2_gib_is_refused_before_it_is_written);
    tcase_add_test(tc, failing_allocations_leave_the_old_file);
    tcase_add_test(tc, device_memory_of_its_own_gives_the_same_file);
    tcase_add_test(tc, failing_allocations_leave_the_old_file_of_grids);
    tcase_add_test(tc, device_memory_gives_the_same_grids);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

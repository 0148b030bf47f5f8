/* check_ddanet.c - what sets DDANet and ResUNet++ apart: a decoder that is trained through attention
 * maps, a layer that never runs, pixels that are repeated. check_unet.c has their taps, gradients
 * and steps; check_zoo.c compares their outputs. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "graph/program.h"
#include "nn/nn.h"
#include "support/check_util.h"
#include "support/run_util.h"

enum { SIDE = 64, PIXELS = SIDE * SIDE };

static kdas_context *ctx;

static void open_context(void) { ctx = kd_test_device("cpu", NULL); }
static void close_context(void) { kdas_context_destroy(ctx); }

static kdas_model *make(const char *name)
{
    kdas_model *m;

    kd_assert_ok(kdas_model_create(&m, ctx, name, NULL));
    return m;
}

static kdas_batch *draw(void)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, 1, SIDE, SIDE));
    kd_test_fill(kdas_batch_images(b), PIXELS * 3, "image", 2, 0);
    kd_test_ellipses(kdas_batch_masks(b), 1, SIDE, SIDE, "mask");
    return b;
}

/* The numbers of a tensor, or of its gradient, from malloc. */
static float *numbers(const kdas_model *m, const char *name, bool gradient, int64_t *count)
{
    int32_t i       = kdas_model_find(m, name);
    int64_t dims[4] = { 0 };
    float  *v;

    ck_assert_msg(i >= 0, "there is no %s", name);
    kdas_model_tensor(m, i, NULL, dims, NULL);
    *count = dims[0] * dims[1] * dims[2] * dims[3];
    v      = malloc((size_t)*count * sizeof *v);
    kd_assert_ok(gradient ? kdas_model_read_gradient(m, i, v) : kdas_model_read(m, i, v));
    return v;
}

/* The sum of the magnitudes of a tensor's gradient. */
static double slope_of(const kdas_model *m, const char *name)
{
    int64_t n;
    float  *g   = numbers(m, name, true, &n);
    double  sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += fabs((double)g[i]);
    free(g);
    return sum;
}

/* ---- DDANet ---- */

START_TEST(the_grey_image_is_no_map_and_its_layer_stays)
{
    static const char *const names[] = { "output2.weight", "output2.bias", "output1.weight" };
    kd_test_rig_options      o       = kd_test_rig_usual();
    kd_test_rig              rig;
    float                   *before[3], *after;
    int64_t                  n;

    o.student = "ddanet";
    kd_test_rig_make(&rig, &o);
    ck_assert_int_eq(kdas_model_maps(rig.student), 1);
    ck_assert_int_eq(kdas_model_outputs(rig.student), 1);
    for (int i = 0; i < 3; i++)
        before[i] = numbers(rig.student, names[i], false, &n);
    ck_assert_float_ne(before[0][0], before[0][1]); /* drawn, as PyTorch draws them */
    kd_test_rig_step(&rig, 0);
    for (int i = 0; i < 3; i++) {
        after = numbers(rig.student, names[i], false, &n);
        ck_assert_int_eq(kd_test_same_bits(before[i], after, (size_t)n * sizeof *after), i < 2);
        free(before[i]);
        free(after);
    }
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(the_second_decoder_learns_by_its_attention_maps)
{
    static const char *const names[] = { "a1.upsample.weight", "a4.r2.conv2.weight", "m1.0.weight",
                                         "m4.0.bias" };
    static float             weight[PIXELS];
    const float             *gradient[] = { weight };
    kdas_model              *m          = make("ddanet");
    kdas_batch              *b          = draw();

    kd_test_fill(weight, PIXELS, "weight", 1, 0);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, b));
    kd_assert_ok(kdas_model_backward(m, gradient));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        ck_assert_msg(slope_of(m, names[i]) > 0, "no gradient comes to %s", names[i]);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

/* A host that trains the grey image itself hands in the gradient of the map that it is made of. */
START_TEST(a_host_can_train_the_grey_image_by_a_tap)
{
    static float push[PIXELS * 16];
    const float *none[] = { NULL };
    kdas_model  *m      = make("ddanet");
    kdas_batch  *b      = draw();

    kd_test_fill(push, PIXELS * 16, "push", 1, 0);
    kd_assert_ok(kdas_model_keep_tap(m, "a4"));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, b));
    kd_assert_ok(kdas_model_add_gradient(m, "a4", push));
    kd_assert_ok(kdas_model_backward(m, none));
    ck_assert_double_gt(slope_of(m, "a4.r2.conv2.weight"), 0);
    ck_assert_double_gt(slope_of(m, "a1.upsample.weight"), 0);
    ck_assert_double_gt(slope_of(m, "e1.r1.conv1.weight"), 0);
    ck_assert_double_eq(slope_of(m, "s4.r2.conv2.weight"), 0);
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
}
END_TEST

/* ---- ResUNet++ ---- */

START_TEST(pixels_are_repeated_and_their_gradients_added)
{
    enum { N = 2, H = 2, W = 3, C = 5, IN = N * H * W * C, OUT = 4 * IN };
    static float x[IN], dx[IN], want[IN];
    kdas_desc    shape;
    kd_graph    *g     = kd_graph_create(ctx, NULL, KD_EVAL);
    kd_arena    *arena = kd_arena_create(ctx);
    kd_node     *from  = kd_input(g, "x", kd_desc(N, H, W, C), true), *to;
    kd_program  *p;
    float       *y, *dy;

    to    = kd_output(g, "y", kd_repeat_pixels(g, from));
    shape = kd_shape(to);
    ck_assert(shape.dim[0] == N && shape.dim[1] == 2 * H && shape.dim[2] == 2 * W &&
              shape.dim[3] == C);
    kd_assert_ok(kd_program_create(&p, g, arena));
    kd_test_fill(x, IN, "x", 1, 0);
    kd_program_bind(p, from, x, dx);
    kd_assert_ok(kd_program_forward(p, 1));
    y  = kd_program_value(p, to);
    dy = kd_program_grad(p, to);
    kd_test_fill(dy, OUT, "dy", 1, 0);
    for (int i = 0; i < OUT; i++) {
        int c = i % C, col = i / C % (2 * W), row = i / (C * 2 * W) % (2 * H), n = i / (OUT / N);
        int at = ((n * H + row / 2) * W + col / 2) * C + c;

        ck_assert(y[i] == x[at]);
        want[at] += dy[i];
    }
    kd_assert_ok(kd_program_backward(p));
    kd_assert_close(dx, want, IN, 1e-6);
    kd_program_destroy(p);
    kd_arena_destroy(arena);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("ddanet");
    TCase   *t = tcase_create("all");
    SRunner *r;
    int      failed;

    tcase_add_checked_fixture(t, open_context, close_context);
    tcase_add_test(t, the_grey_image_is_no_map_and_its_layer_stays);
    tcase_add_test(t, the_second_decoder_learns_by_its_attention_maps);
    tcase_add_test(t, a_host_can_train_the_grey_image_by_a_tap);
    tcase_add_test(t, pixels_are_repeated_and_their_gradients_added);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_model.c - models by name: their tensors, files, modes and taps. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "base/context.h"
#include "support/check_util.h"
#include "support/files.h"
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

static kdas_model *make(const char *name)
{
    kdas_model *m;

    kd_assert_ok(kdas_model_create(&m, ctx, name, NULL));
    return m;
}

static kdas_batch *draw(int64_t n, int64_t h, int64_t w)
{
    kdas_batch *b;

    kd_assert_ok(kdas_batch_create(&b, ctx, n, h, w));
    kd_test_fill(kdas_batch_images(b), n * h * w * 3, "image", 1, 0);
    return b;
}

/* ---- Tensors ---- */

START_TEST(initial_values_follow_the_published_rule)
{
    kdas_model *m = make("polyp_pvt_b0");
    static const struct {
        const char *name;
        double      mean, deviation;
    } rows[] = {
        { "backbone.block4.0.mlp.fc1.weight", 0, 0.02 },
        { "backbone.patch_embed4.proj.weight", 0, 0.029463 },          /* sqrt(2 / (9 * 256)) */
        { "backbone.block4.0.mlp.dwconv.dwconv.weight", 0, 0.471405 }, /* sqrt(2 / 9)         */
        { "CFM.conv4.conv.weight", 0, 0.019642 },                      /* 1 / sqrt(3 * 864)   */
        { "CFM.conv4.bn.weight", 1, 0 },
        { "backbone.norm1.weight", 1, 0 },
        { "CFM.conv4.bn.running_var", 1, 0 },
        { "backbone.block1.0.attn.q.bias", 0, 0 },
    };

    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        int32_t i = kdas_model_find(m, rows[r].name);
        int64_t dims[4], n;
        float  *v;
        double  sum = 0, squares = 0;

        ck_assert_int_ge(i, 0);
        kdas_model_tensor(m, i, NULL, dims, NULL);
        n = dims[0] * dims[1] * dims[2] * dims[3];
        v = malloc((size_t)n * sizeof *v);
        kd_assert_ok(kdas_model_read(m, i, v));
        for (int64_t k = 0; k < n; k++) {
            sum += (double)v[k];
            squares += ((double)v[k] - rows[r].mean) * ((double)v[k] - rows[r].mean);
        }
        ck_assert_double_eq_tol(sum / (double)n, rows[r].mean,
                                4 * rows[r].deviation / sqrt((double)n) + 1e-12);
        ck_assert_double_eq_tol(sqrt(squares / (double)n), rows[r].deviation,
                                0.03 * rows[r].deviation + 1e-12);
        free(v);
    }
    kdas_model_destroy(m);
}
END_TEST

START_TEST(seed_decides_the_initial_values)
{
    kdas_model_options o;
    kdas_model        *a = make("pvt_v2_b0"), *b = make("pvt_v2_b0"), *c;
    float              va[4704], vb[4704], vc[4704];

    kdas_model_options_init(&o, sizeof o);
    o.seed = 2;
    kd_assert_ok(kdas_model_create(&c, ctx, "pvt_v2_b0", &o));
    kd_assert_ok(kdas_model_read(a, 0, va));
    kd_assert_ok(kdas_model_read(b, 0, vb));
    kd_assert_ok(kdas_model_read(c, 0, vc));
    ck_assert(kd_test_same_bits(va, vb, sizeof va));
    ck_assert(!kd_test_same_bits(va, vc, sizeof va));
    kd_assert_ok(kdas_model_copy(c, a));
    kd_test_assert_same_weights(a, c);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
    kdas_model_destroy(c);
}
END_TEST

/* ---- Files ---- */

START_TEST(saved_model_loads_back_with_the_same_bits)
{
    kdas_model_options o;
    kdas_model        *a       = make("polyp_pvt_b0"), *b;
    kdas_batch        *x       = draw(2, 32, 32);
    int32_t            counter = kdas_model_find(a, "CFM.conv4.bn.num_batches_tracked");
    float              seen    = 0;

    kd_assert_ok(
        kdas_model_forward(a, KDAS_MODE_TRAIN, x)); /* moves running statistics and counters */
    kd_assert_ok(kdas_model_save(a, kd_test_path("a.safetensors")));
    kdas_model_options_init(&o, sizeof o);
    o.seed = 9;
    kd_assert_ok(kdas_model_create(&b, ctx, "polyp_pvt_b0", &o));
    kd_assert_ok(kdas_model_load(b, kd_test_path("a.safetensors"), NULL));
    kd_test_assert_same_weights(a, b);
    kd_assert_ok(kdas_model_read(b, counter, &seen));
    ck_assert(seen == 1);
    for (int i = 0; i < 4; i++) {
        const float no_counts[] = { -1, 1e30f, INFINITY, NAN };

        kd_assert_status(kdas_model_write(b, counter, &no_counts[i]), KDAS_EINVAL);
        kd_assert_ok(kdas_model_read(b, counter, &seen));
        ck_assert(seen == 1);
    }
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 1); /* no temporary file is left */
    kdas_batch_destroy(x);
    kdas_model_destroy(a);
    kdas_model_destroy(b);
}
END_TEST

START_TEST(file_that_does_not_fit_changes_nothing)
{
    kdas_model *student = make("polyp_pvt_b0"), *keep = make("polyp_pvt_b0"),
               *backbone    = make("pvt_v2_b0");
    kdas_model       *other = make("polyp_pvt_b1");
    kdas_load_options o;

    kd_assert_ok(kdas_model_save(backbone, kd_test_path("backbone")));
    kd_assert_ok(kdas_model_save(other, kd_test_path("b1")));
    kd_assert_status(kdas_model_load(student, kd_test_path("none"), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("none");
    kd_assert_status(kdas_model_load(student, kd_test_path("b1"), NULL), KDAS_ESHAPE);
    kd_assert_sentence("b1");
    kd_assert_status(kdas_model_load(student, kd_test_path("backbone"), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("has no tensor 'block1.0");
    kdas_load_options_init(&o, sizeof o);
    o.prefix = "backbone.";
    kd_assert_status(kdas_model_load(student, kd_test_path("backbone"), &o), KDAS_ENOTFOUND);
    kd_assert_sentence("lacks the tensor");
    o.prefix  = NULL;
    o.partial = 1;
    kd_assert_status(kdas_model_load(student, kd_test_path("backbone"), &o), KDAS_ENOTFOUND);
    kd_test_assert_same_weights(student, keep);
    kdas_model_destroy(student);
    kdas_model_destroy(keep);
    kdas_model_destroy(backbone);
    kdas_model_destroy(other);
}
END_TEST

START_TEST(backbone_file_loads_into_the_network_by_prefix)
{
    kdas_model_options mo;
    kdas_model        *backbone, *student = make("polyp_pvt_b0");
    kdas_load_options  o;
    float              a[4704], b[4704];

    kdas_model_options_init(&mo, sizeof mo);
    mo.seed = 5;
    kd_assert_ok(kdas_model_create(&backbone, ctx, "pvt_v2_b0", &mo));
    kd_assert_ok(kdas_model_save(backbone, kd_test_path("backbone")));
    kdas_load_options_init(&o, sizeof o);
    o.prefix  = "backbone.";
    o.partial = 1;
    kd_assert_ok(kdas_model_load(student, kd_test_path("backbone"), &o));
    kd_assert_ok(
        kdas_model_read(backbone, kdas_model_find(backbone, "patch_embed1.proj.weight"), a));
    kd_assert_ok(
        kdas_model_read(student, kdas_model_find(student, "backbone.patch_embed1.proj.weight"), b));
    ck_assert(kd_test_same_bits(a, b, sizeof a));
    kdas_model_destroy(backbone);
    kdas_model_destroy(student);
}
END_TEST

/* ---- Running ---- */

START_TEST(outputs_have_the_batchs_size_whatever_it_is)
{
    static const int64_t sizes[][3] = {
        { 1, 32, 32 }, { 3, 32, 96 }, { 1, 160, 64 }, { 2, 64, 64 }
    };
    kdas_model *m = make("polyp_pvt_b0");

    for (size_t s = 0; s < 4; s++) {
        kdas_batch *x = draw(sizes[s][0], sizes[s][1], sizes[s][2]);
        int64_t     dims[4];

        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, x));
        ck_assert_str_eq(kdas_model_output(m, 0, dims), "P1");
        ck_assert_str_eq(kdas_model_output(m, 1, NULL), "P2");
        ck_assert_ptr_null(kdas_model_output(m, 2, NULL));
        ck_assert(dims[0] == sizes[s][0] && dims[1] == sizes[s][1] && dims[2] == sizes[s][2] &&
                  dims[3] == 1);
        kdas_batch_destroy(x);
    }
    kdas_model_destroy(m);
}
END_TEST

START_TEST(images_of_a_batch_do_not_mix_in_inference)
{
    kdas_model *m   = make("polyp_pvt_b0");
    kdas_batch *two = draw(2, 64, 32), *one = draw(1, 64, 32);
    float       both[2 * 64 * 32], alone[64 * 32];

    memcpy(kdas_batch_images(one), kdas_batch_images(two) + 64 * 32 * 3,
           64 * 32 * 3 * sizeof(float));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, two));
    kd_assert_ok(kdas_model_read_output(m, "P2", both));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, one));
    kd_assert_ok(kdas_model_read_output(m, "P2", alone));
    kd_assert_close(alone, both + 64 * 32, 64 * 32, 2e-5);
    kdas_batch_destroy(two);
    kdas_batch_destroy(one);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(infer_and_eval_agree_and_train_differs)
{
    kdas_model *m = make("polyp_pvt_b0");
    kdas_batch *x = draw(2, 32, 32);
    float       infer[2048], eval[2048], train[2048];

    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, x)); /* statistics that are not 0 and 1 */
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, x));
    kd_assert_ok(kdas_model_read_output(m, "P1", infer));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, x));
    kd_assert_ok(kdas_model_read_output(m, "P1", eval));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_TRAIN, x));
    kd_assert_ok(kdas_model_read_output(m, "P1", train));
    kd_assert_close(infer, eval, 2048, 1e-4);
    ck_assert(kd_test_rms_error(train, eval, 2048) > 1e-2);
    kdas_batch_destroy(x);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(taps_are_read_and_take_gradients)
{
    kdas_model  *m       = make("polyp_pvt_b0");
    kdas_batch  *x       = draw(1, 32, 64);
    const float *none[2] = { NULL, NULL };
    float        value[8 * 16 * 32], push[8 * 16 * 32], grad[4704];
    int64_t      dims[4];
    int          count = 0;
    double       sum   = 0;

    while (kdas_model_tap(m, count))
        count++;
    ck_assert_int_ge(count, 4);
    kd_assert_status(kdas_model_keep_tap(m, "nowhere"), KDAS_ENOTFOUND);
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, x));
    kd_assert_status(kdas_model_read_output(m, "backbone.x1", value), KDAS_ESTATE);
    kd_assert_ok(kdas_model_keep_tap(m, "backbone.x1"));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, x));
    kd_assert_ok(kdas_model_tap_dims(m, "backbone.x1", dims));
    ck_assert(dims[0] == 1 && dims[1] == 8 && dims[2] == 16 && dims[3] == 32);
    kd_assert_ok(kdas_model_read_output(m, "backbone.x1", value));
    for (int i = 0; i < 8 * 16 * 32; i++)
        push[i] = value[i];
    kd_assert_ok(kdas_model_add_gradient(m, "backbone.x1", push));
    kd_assert_ok(kdas_model_backward(m, none));
    kd_assert_ok(
        kdas_model_read_gradient(m, kdas_model_find(m, "backbone.patch_embed1.proj.weight"), grad));
    for (int i = 0; i < 4704; i++)
        sum += fabs((double)grad[i]);
    ck_assert(sum > 0);
    kdas_batch_destroy(x);
    kdas_model_destroy(m);
}
END_TEST

/* What the host hands in is copied there, and must not stand where the images are. */
START_TEST(a_gradient_at_a_tap_is_the_same_on_a_device_with_memory_of_its_own)
{
    static float grad[2][4704], push[8 * 16 * 32];
    const float *none[2] = { NULL, NULL };

    kd_test_fill(push, KD_COUNT(push), "push", 1, 0);
    for (int own = 0; own < 2; own++) {
        kdas_model *m = make("polyp_pvt_b0");
        kdas_batch *x = draw(1, 32, 64);

        ctx->host_memory = !own;
        kd_assert_ok(kdas_model_keep_tap(m, "backbone.x1"));
        kd_assert_ok(kdas_model_forward(m, KDAS_MODE_EVAL, x));
        kd_assert_ok(kdas_model_add_gradient(m, "backbone.x1", push));
        kd_assert_ok(kdas_model_backward(m, none));
        kd_assert_ok(kdas_model_read_gradient(
            m, kdas_model_find(m, "backbone.patch_embed1.proj.weight"), grad[own]));
        kdas_batch_destroy(x);
        kdas_model_destroy(m);
        ctx->host_memory = true;
    }
    ck_assert_float_ne(grad[0][0], 0);
    ck_assert(kd_test_same_bits(grad[0], grad[1], sizeof grad[0]));
}
END_TEST

START_TEST(misuse_is_refused_with_a_sentence)
{
    kdas_model_options o;
    kdas_model        *m = (kdas_model *)&o, *frozen;
    kdas_batch        *x;
    const float       *none[2] = { NULL, NULL };
    float              v[4];

    kd_assert_status(kdas_model_create(&m, ctx, "polyp_pvt_b9", NULL), KDAS_ENOTFOUND);
    ck_assert_ptr_null(m);
    kd_assert_sentence("polyp_pvt_b9");
    kd_assert_status(kdas_model_create(&m, ctx, "Polyp-pvt-bo", NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("the nearest name is 'polyp_pvt_b0'");
    kdas_model_options_init(&o, sizeof o);
    o.drop_path = 1;
    kd_assert_status(kdas_model_create(&m, ctx, "polyp_pvt_b0", &o), KDAS_EINVAL);
    kd_assert_sentence("drop_path");
    m = make("polyp_pvt_b0");
    kd_assert_status(kdas_model_backward(m, none), KDAS_ESTATE);
    kd_assert_ok(kdas_batch_create(&x, ctx, 1, 64, 64));
    kd_assert_ok(kdas_model_forward(m, KDAS_MODE_INFER, x));
    kd_assert_status(kdas_model_backward(m, none), KDAS_ESTATE);
    kd_assert_status(kdas_model_forward(m, (kdas_mode)7, x), KDAS_EINVAL);
    kd_assert_status(kdas_model_read(m, 100000, v), KDAS_EINVAL);
    kd_assert_status(kdas_model_memory(m, KDAS_MODE_TRAIN, 1, 100, 352, NULL, NULL), KDAS_ESHAPE);
    kd_assert_sentence("100x352");
    o.drop_path = 0;
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&frozen, ctx, "polyp_pvt_b0", &o));
    kd_assert_status(kdas_model_forward(frozen, KDAS_MODE_TRAIN, x), KDAS_ESTATE);
    kd_assert_status(kdas_model_zero_gradients(frozen), KDAS_ESTATE);
    kdas_batch_destroy(x);
    kdas_model_destroy(frozen);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(failing_allocations_leak_nothing)
{
    bool done = false;

    for (long k = 1; k < 20000 && !done; k += 1 + k / 16) { /* create, save, load, compile, run */
        kd_test_meter m     = { 0 };
        kdas_context *c     = kd_test_device("cpu", &m);
        kdas_model   *model = NULL;
        kdas_batch   *x     = NULL;
        kdas_status   st;

        m.fail_at = m.taken + k;
        st        = kdas_model_create(&model, c, "polyp_pvt_b0", NULL);
        if (st == KDAS_OK) st = kdas_batch_create(&x, c, 1, 32, 32);
        if (st == KDAS_OK) st = kdas_model_save(model, kd_test_path("m"));
        if (st == KDAS_OK) st = kdas_model_load(model, kd_test_path("m"), NULL);
        if (st == KDAS_OK) st = kdas_model_forward(model, KDAS_MODE_TRAIN, x);
        done = st == KDAS_OK;
        ck_assert_msg(done || st == KDAS_ENOMEM, "allocation %ld: %d %s", k, st, kdas_last_error());
        kdas_batch_destroy(x);
        kdas_model_destroy(model);
        kdas_context_destroy(c);
        kd_test_assert_given_back(&m);
    }
    ck_assert(done);
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("model");
    TCase   *tensors = tcase_create("tensors"), *run = tcase_create("run");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(tensors, open_context, close_context);
    tcase_add_test(tensors, initial_values_follow_the_published_rule);
    tcase_add_test(tensors, seed_decides_the_initial_values);
    tcase_add_test(tensors, saved_model_loads_back_with_the_same_bits);
    tcase_add_test(tensors, file_that_does_not_fit_changes_nothing);
    tcase_add_test(tensors, backbone_file_loads_into_the_network_by_prefix);
    suite_add_tcase(suite, tensors);
    tcase_add_checked_fixture(run, open_context, close_context);
    tcase_add_test(run, outputs_have_the_batchs_size_whatever_it_is);
    tcase_add_test(run, images_of_a_batch_do_not_mix_in_inference);
    tcase_add_test(run, infer_and_eval_agree_and_train_differs);
    tcase_add_test(run, taps_are_read_and_take_gradients);
    tcase_add_test(run, a_gradient_at_a_tap_is_the_same_on_a_device_with_memory_of_its_own);
    tcase_add_test(run, misuse_is_refused_with_a_sentence);
    tcase_add_test(run, failing_allocations_leak_nothing);
    suite_add_tcase(suite, run);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

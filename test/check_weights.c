/* check_weights.c - what kdas_model_load makes of a file: the dictionary that fits is found, a file
 * that does not fit is told by what it is, and broken values are refused. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "io/container.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/pth_model.h"
#include "support/run_util.h"

static kdas_context *ctx;
static kdas_model   *b0; /* polyp_pvt_b0 */

static void setup(void)
{
    ctx = kd_test_device("cpu", NULL);
    b0  = kd_test_weights_model(ctx, "polyp_pvt_b0");
    kd_test_folder_make();
}

static void teardown(void)
{
    kdas_model_destroy(b0);
    kdas_context_destroy(ctx);
    kd_test_folder_remove();
}

static const char *path(void) { return kd_test_path("weights.pth"); }

static kdas_load_options options(const char *part, const char *entry)
{
    kdas_load_options o;

    kdas_load_options_init(&o, sizeof o);
    o.part  = part;
    o.entry = entry;
    return o;
}

/* ---- Networks ---- */

START_TEST(tensors_of_another_network_are_told)
{
    static const char *const names[] = { "polyp_pvt_b1", "polyp_pvt_b2", "lite_fpn0", "pvt_v2_b1" };
    kdas_model              *other   = kd_test_weights_model(ctx, names[_i]);
    char                     want[64];

    kd_test_pth_write_model(path(), other, "module.", NULL, 1);
    ck_assert_int_ne(kdas_model_load(b0, path(), NULL), KDAS_OK);
    snprintf(want, sizeof want, "these tensors fit '%s'", names[_i]);
    kd_assert_sentence(want);
    kdas_model_destroy(other);
}
END_TEST

START_TEST(tensors_of_no_network_are_told)
{
    const int64_t three = 3;
    kd_test_pth   p;

    kd_test_pth_begin(&p);
    kd_test_pth_put(&p, "conv.weight", 1, &three, 1);
    kd_test_pth_end(&p, path());
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("no tensor 'conv.weight'");
    kd_assert_sentence("none of the networks");
}
END_TEST

/* ---- Dictionaries ---- */

START_TEST(the_dictionary_that_fits_is_found)
{
    static const char *const keys[] = { "model", "state_dict", "model_state_dict",
                                        "ema",   "model_ema",  "state_dict_ema" };
    const int64_t            four   = 4;
    kd_test_pth              p;

    kd_test_pth_begin(&p);
    kd_test_pth_put(&p, "rng_state", 1, &four, 9);
    kd_test_pth_open(&p, "loss");
    kd_test_pth_put(&p, "weight", 1, &four, 9);
    kd_test_pth_close(&p);
    kd_test_pth_open(&p, keys[_i]);
    if (_i % 2) kd_test_pth_open(&p, "module");
    kd_test_pth_model(&p, b0, _i % 3 ? "" : "module.", NULL, 4);
    if (_i % 2) kd_test_pth_close(&p);
    kd_test_pth_close(&p);
    kd_test_pth_end(&p, path());
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(kd_test_all_are(b0, "", 4));
}
END_TEST

START_TEST(of_two_that_fit_the_caller_says_which)
{
    kdas_load_options o = options(NULL, NULL);
    kd_test_pth       p;

    kd_test_pth_begin(&p);
    kd_test_pth_open(&p, "model");
    kd_test_pth_model(&p, b0, "", NULL, 1);
    kd_test_pth_close(&p);
    kd_test_pth_open(&p, "ema");
    kd_test_pth_open(&p, "module");
    kd_test_pth_model(&p, b0, "", NULL, 2);
    kd_test_pth_close(&p);
    kd_test_pth_close(&p);
    kd_test_pth_end(&p, path());
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_EINVAL);
    kd_assert_sentence("'model', 'ema.module'");
    kd_assert_sentence("kdas_load_options.entry");
    o.entry = "ema.module";
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(kd_test_all_are(b0, "", 2));
    o.entry = "model";
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(kd_test_all_are(b0, "", 1));
    o.entry = "ema";
    kd_assert_status(kdas_model_load(b0, path(), &o), KDAS_ENOTFOUND);
    kd_assert_sentence("'model', 'ema.module'");
    ck_assert(kd_test_all_are(b0, "", 1));
}
END_TEST

START_TEST(student_and_teacher_of_one_file_are_told_apart_by_shape)
{
    kdas_model *b1 = kd_test_weights_model(ctx, "polyp_pvt_b1");
    kd_test_pth p;

    kd_test_pth_begin(&p);
    kd_test_pth_open(&p, "teacher");
    kd_test_pth_model(&p, b1, "", NULL, 1);
    kd_test_pth_close(&p);
    kd_test_pth_open(&p, "student");
    kd_test_pth_model(&p, b0, "", NULL, 2);
    kd_test_pth_close(&p);
    kd_test_pth_end(&p, path());
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(kd_test_all_are(b0, "", 2));
    kd_assert_ok(kdas_model_load(b1, path(), NULL));
    ck_assert(kd_test_all_are(b1, "", 1));
    kdas_model_destroy(b1);
}
END_TEST

/* ---- Counters and values ---- */

static bool no_counters(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s", name);
    return !kd_test_is_counter(name);
}

static bool some_counters(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s", name);
    return strcmp(name, "Translayer2_0.bn.num_batches_tracked") != 0;
}

START_TEST(files_of_old_versions_have_no_counters)
{
    kd_test_pth_write_model(path(), b0, "", no_counters, 6);
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(kd_test_all_are(b0, "", 6));
    kd_test_pth_write_model(path(), b0, "", some_counters, 7);
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("lacks the tensor 'Translayer2_0.bn.num_batches_tracked'");
}
END_TEST

static const struct {
    const char *tensor;
    float       value;
    const char *sentence;
} broken[] = {
    { "out_CFM.weight", NAN, "a NaN" },
    { "out_SAM.bias", INFINITY, "an infinity" },
    { "Translayer2_1.bn.running_mean", -INFINITY, "an infinity" },
    { "Translayer2_1.bn.running_var", NAN, "a NaN" },
    { "Translayer2_1.bn.running_var", -1, "a negative variance" },
    { "Translayer2_1.bn.num_batches_tracked", 1e30f, "an impossible number of batches" },
    { "Translayer2_1.bn.num_batches_tracked", -1, "an impossible number of batches" },
};

START_TEST(values_of_a_broken_training_are_refused)
{
    int64_t     dims[4];
    int32_t     rank;
    kd_test_pth p;

    kd_test_pth_write_model(path(), b0, "", NULL, 8);
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    kd_test_pth_begin(&p);
    kd_test_pth_model(&p, b0, "", NULL, 1);
    kdas_model_tensor(b0, kdas_model_find(b0, broken[_i].tensor), &rank, dims, NULL);
    kd_test_pth_put(&p, broken[_i].tensor, rank, dims, broken[_i].value); /* the later one counts */
    kd_test_pth_end(&p, path());
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_EFORMAT);
    kd_assert_sentence(broken[_i].tensor);
    kd_assert_sentence(broken[_i].sentence);
    ck_assert(kd_test_all_are(b0, "", 8));
}
END_TEST

START_TEST(a_checkpoint_is_told_from_weights)
{
    kd_container_writer *w;

    kd_assert_ok(kd_container_create(&w, ctx));
    kd_assert_ok(kd_container_put_i64(w, "epoch", 3));
    kd_assert_ok(kd_container_save(w, kd_test_path("last.kdas")));
    kd_container_discard(w);
    kd_assert_status(kdas_model_load(b0, kd_test_path("last.kdas"), NULL), KDAS_EFORMAT);
    kd_assert_sentence("last.kdas' is a checkpoint");
    kd_assert_sentence("best.safetensors");
}
END_TEST

/* ---- EfficientNet-Lite's pixels ---- */

/* The backbone of lite_fpn0 as it is published: filters of one value, and the mean that a mean pixel
 * of ImageNet as (x - 127) / 128 gives, or 0. */
static void write_lite(const kdas_model *m, float filter, float mean, bool classifier)
{
    const int64_t one = 1;
    const char   *name;
    int64_t       dims[4];
    int32_t       rank;
    kd_test_pth   p;

    kd_test_pth_begin(&p);
    for (int32_t i = 0; (name = kdas_model_tensor(m, i, &rank, dims, NULL)); i++) {
        if (strncmp(name, "backbone.", 9) != 0) continue;
        kd_test_pth_put(&p, name + 9, rank, dims,
                        strcmp(name, "backbone._conv_stem.weight") == 0   ? filter
                        : strcmp(name, "backbone._bn0.running_mean") == 0 ? mean
                                                                          : 1);
    }
    if (classifier) {
        kd_test_pth_put(&p, "_conv_head.weight", 1, &one, 1);
        kd_test_pth_put(&p, "_fc.weight", 1, &one, 1);
    }
    kd_test_pth_end(&p, path());
}

/* The stem's first three filters' first values, and its first mean. */
static void read_stem(const kdas_model *m, float stem[4])
{
    float filters[32 * 27], means[32];

    kd_assert_ok(kdas_model_read(m, kdas_model_find(m, "backbone._conv_stem.weight"), filters));
    kd_assert_ok(kdas_model_read(m, kdas_model_find(m, "backbone._bn0.running_mean"), means));
    for (int c = 0; c < 3; c++)
        stem[c] = filters[9 * c];
    stem[3] = means[0];
}

START_TEST(a_published_stem_is_rewritten_for_imagenets_pixels)
{
    static const double mean[3] = { 0.485, 0.456, 0.406 }, deviation[3] = { 0.229, 0.224, 0.225 };
    kdas_model         *m    = kd_test_weights_model(ctx, "lite_fpn0");
    kdas_load_options   o    = options("backbone.", NULL);
    double              seen = 0; /* by a filter of ones: 9 taps of each channel's mean */
    float               stem[4];

    for (int c = 0; c < 3; c++)
        seen += 9 * (255 * mean[c] - 127) / 128;
    write_lite(m, 2, (float)(2 * seen), true);
    kd_assert_ok(kdas_model_load(m, path(), &o));
    read_stem(m, stem);
    for (int c = 0; c < 3; c++)
        ck_assert_float_eq_tol(stem[c], 2 * 255 * deviation[c] / 128, 1e-6);
    ck_assert_float_eq_tol(stem[3], 0, 1e-5); /* ImageNet's mean pixel is 0 now */

    o.as_published = 1;
    kd_assert_ok(kdas_model_load(m, path(), &o));
    read_stem(m, stem);
    ck_assert(stem[0] == 2 && stem[3] == (float)(2 * seen));
    o.as_published = 0;

    write_lite(m, 2, 0.1f, true); /* rewritten before */
    kd_assert_ok(kdas_model_load(m, path(), &o));
    read_stem(m, stem);
    ck_assert(stem[0] == 2 && stem[3] == 0.1f);

    write_lite(m, 2, (float)(2 * seen), false); /* trained on: no classifier any more */
    kd_assert_ok(kdas_model_load(m, path(), &o));
    read_stem(m, stem);
    ck_assert(stem[0] == 2);
    kdas_model_destroy(m);
}
END_TEST

/* ---- Memory ---- */

START_TEST(any_allocation_may_fail)
{
    static const char *const names[]  = { "polyp_pvt_b0", "pvt_v2_b0" }; /* fits, does not fit */
    const kdas_status        wanted[] = { KDAS_OK, KDAS_ENOTFOUND };
    kd_test_meter            meter    = { 0 };
    kdas_context            *own      = kd_test_device("cpu", &meter);
    kdas_model              *m;
    kdas_status              st = KDAS_ENOMEM;

    kd_assert_ok(kdas_model_create(&m, own, names[_i], NULL));
    kd_test_pth_write_model(path(), b0, "module.", NULL, 2);
    for (long k = 1; st == KDAS_ENOMEM; k += 1 + k / 16) {
        meter.fail_at = meter.taken + k;
        st            = kdas_model_load(m, path(), NULL);
        meter.fail_at = 0;
        if (st == KDAS_ENOMEM) ck_assert(!kd_test_all_are(m, "", 2));
    }
    ck_assert_int_eq(st, wanted[_i]);
    kdas_model_destroy(m);
    kdas_context_destroy(own);
    kd_test_assert_given_back(&meter);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("weights");
    TCase   *t = tcase_create("load");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, tensors_of_another_network_are_told, 0, 4);
    tcase_add_test(t, tensors_of_no_network_are_told);
    tcase_add_loop_test(t, the_dictionary_that_fits_is_found, 0, 6);
    tcase_add_test(t, of_two_that_fit_the_caller_says_which);
    tcase_add_test(t, student_and_teacher_of_one_file_are_told_apart_by_shape);
    tcase_add_test(t, files_of_old_versions_have_no_counters);
    tcase_add_loop_test(t, values_of_a_broken_training_are_refused, 0,
                        (int)(sizeof broken / sizeof *broken));
    tcase_add_test(t, a_checkpoint_is_told_from_weights);
    tcase_add_test(t, a_published_stem_is_rewritten_for_imagenets_pixels);
    tcase_add_loop_test(t, any_allocation_may_fail, 0, 2);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

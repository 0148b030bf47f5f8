/* check_weights.c - what kdas_model_load makes of a file: the dictionary and the names that fit are
 * found, and a file that does not fit is told by what it is. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "io/container.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/pth.h"
#include "support/run_util.h"

static kdas_context *ctx;
static kdas_model   *b0; /* polyp_pvt_b0 */

static kdas_model *make(const char *name)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kdas_model_create(&m, ctx, name, &o));
    return m;
}

static void setup(void)
{
    ctx = kd_test_device("cpu", NULL);
    b0  = make("polyp_pvt_b0");
    kd_test_folder_make();
}

static void teardown(void)
{
    kdas_model_destroy(b0);
    kdas_context_destroy(ctx);
    kd_test_folder_remove();
}

static const char *path(void) { return kd_test_path("weights.pth"); }

static bool is_counter(const char *name) { return strstr(name, "num_batches_tracked") != NULL; }

/* How the names of a model's tensors are written. False: leave this one out. */
typedef bool (*naming)(char *to, size_t size, const char *name);

/* All tensors of the model, with this value each. */
static void put_all(kd_test_pth *p, const kdas_model *m, const char *front, naming name_by,
                    float value)
{
    const char *name;
    int64_t     dims[4];
    int32_t     rank;
    char        full[512], own[256];

    for (int32_t i = 0; (name = kdas_model_tensor(m, i, &rank, dims, NULL)); i++) {
        snprintf(own, sizeof own, "%s", name);
        if (name_by && !name_by(own, sizeof own, name)) continue;
        snprintf(full, sizeof full, "%s%s", front, own);
        kd_test_pth_put(p, full, rank, dims, value);
    }
}

static void write_all(const kdas_model *m, const char *front, naming name_by, float value)
{
    kd_test_pth p;

    kd_test_pth_begin(&p);
    put_all(&p, m, front, name_by, value);
    kd_test_pth_end(&p, path());
}

/* Whether every value of the tensors whose names begin so is this one. */
static bool all_are(const kdas_model *m, const char *beginning, float value)
{
    const char *name;
    int64_t     dims[4];
    int32_t     rank;
    bool        same = true;

    for (int32_t i = 0; (name = kdas_model_tensor(m, i, &rank, dims, NULL)) && same; i++) {
        int64_t n = 1;
        float  *v;

        for (int k = 0; k < rank; k++)
            n *= dims[k];
        if (is_counter(name) || strncmp(name, beginning, strlen(beginning)) != 0) continue;
        v = malloc((size_t)n * sizeof *v);
        kd_assert_ok(kdas_model_read(m, i, v));
        for (int64_t k = 0; k < n; k++)
            same = same && v[k] == value;
        free(v);
    }
    return same;
}

static kdas_load_options options(const char *part, const char *entry)
{
    kdas_load_options o;

    kdas_load_options_init(&o, sizeof o);
    o.part  = part;
    o.entry = entry;
    return o;
}

/* ---- Names ---- */

static const char *const fronts[] = { "",       "module.",  "_orig_mod.",       "model.",
                                      "net.",   "student.", "teacher.",         "state_dict.",
                                      "a.b.c.", "ema.",     "model._orig_mod.", "module.student." };

START_TEST(words_before_all_names_are_taken_off)
{
    write_all(b0, fronts[_i], NULL, 2);
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(all_are(b0, "", 2));
}
END_TEST

START_TEST(the_counter_of_an_average_is_passed_over)
{
    const int64_t *none = NULL;
    kd_test_pth    p;

    kd_test_pth_begin(&p);
    if (_i % 2) kd_test_pth_put(&p, "n_averaged", 0, none, 7);
    put_all(&p, b0, _i < 2 ? "module." : "module.averaged.student.", NULL, 2);
    if (!(_i % 2)) kd_test_pth_put(&p, "n_averaged", 0, none, 7);
    kd_test_pth_end(&p, path());
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(all_are(b0, "", 2));
}
END_TEST

static bool one_without(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s%s", strcmp(name, "out_SAM.bias") ? "module." : "", name);
    return true;
}

START_TEST(words_before_some_names_stay)
{
    write_all(b0, "", one_without, 2);
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("no tensor 'module.");
    ck_assert(!all_are(b0, "", 2));
}
END_TEST

/* As timm names PVTv2, with the published classifier. */
static bool by_timm(char *to, size_t size, const char *name)
{
    int         stage, block, at = 0;
    const char *rest;
    char        tail[256];

    if (strncmp(name, "backbone.", 9) != 0) return false;
    name += 9;
    rest = strchr(name, '.');
    snprintf(tail, sizeof tail, "%s", rest + 1);
    if (sscanf(name, "patch_embed%d.", &stage) == 1 && stage == 1)
        snprintf(to, size, "patch_embed.%s", tail);
    else if (sscanf(name, "patch_embed%d.", &stage) == 1)
        snprintf(to, size, "stages.%d.downsample.%s", stage - 1, tail);
    else if (sscanf(name, "norm%d.", &stage) == 1)
        snprintf(to, size, "stages.%d.norm.%s", stage - 1, tail);
    else if (sscanf(name, "block%d.%d.%n", &stage, &block, &at) == 2) {
        const char *inner = name + at;
        bool        twice = strncmp(inner, "mlp.dwconv.", 11) == 0;

        snprintf(to, size, "stages.%d.blocks.%d.%s%s", stage - 1, block, twice ? "mlp." : "",
                 twice ? inner + 11 : inner);
    } else
        return false;
    return true;
}

static bool bare(char *to, size_t size, const char *name)
{
    if (strncmp(name, "backbone.", 9) != 0) return false;
    snprintf(to, size, "%s", name + 9);
    return true;
}

static void write_backbone(const char *front, naming name_by)
{
    const int64_t head[2] = { 1000, 256 };
    kd_test_pth   p;
    char          name[64];

    kd_test_pth_begin(&p);
    put_all(&p, b0, front, name_by, 3);
    snprintf(name, sizeof name, "%shead.weight", front);
    kd_test_pth_put(&p, name, 2, head, 0);
    kd_test_pth_end(&p, path());
}

START_TEST(a_published_backbone_is_loaded_by_each_of_its_names)
{
    static const naming by[] = { bare, by_timm };
    kdas_load_options   o    = options("backbone.", NULL);
    const char         *name = "out_SAM.weight";
    float               before[32], after[32];

    write_backbone(_i % 2 ? "module." : "", by[_i / 2]);
    kd_assert_ok(kdas_model_read(b0, kdas_model_find(b0, name), before));
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(all_are(b0, "backbone.", 3));
    kd_assert_ok(kdas_model_read(b0, kdas_model_find(b0, name), after));
    ck_assert_mem_eq(before, after, sizeof before);
}
END_TEST

START_TEST(a_backbone_for_a_network_is_told)
{
    static const naming by[] = { bare, by_timm };

    write_backbone("", by[_i]);
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("it has the backbone of 'polyp_pvt_b0'");
    kd_assert_sentence("--backbone-weights");
}
END_TEST

START_TEST(a_classifier_that_the_network_lacks_is_told)
{
    kdas_model       *pvt = make("pvt_v2_b0");
    kdas_load_options o   = options(NULL, NULL);

    write_backbone("", bare);
    kd_assert_status(kdas_model_load(pvt, path(), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("no tensor 'head.weight'");
    kd_assert_sentence("all others of the network are there");
    o.extra = 1;
    kd_assert_ok(kdas_model_load(pvt, path(), &o));
    ck_assert(all_are(pvt, "", 3));
    kdas_model_destroy(pvt);
}
END_TEST

START_TEST(an_added_prefix_still_counts)
{
    kdas_load_options o = options(NULL, NULL);

    write_all(b0, "module.", bare, 5);
    o.prefix  = "backbone.";
    o.partial = 1;
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(all_are(b0, "backbone.", 5));
}
END_TEST

/* ---- Networks ---- */

START_TEST(tensors_of_another_network_are_told)
{
    static const char *const names[] = { "polyp_pvt_b1", "polyp_pvt_b2", "lite_fpn0", "pvt_v2_b1" };
    kdas_model              *other   = make(names[_i]);
    char                     want[64];

    write_all(other, "module.", NULL, 1);
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
    put_all(&p, b0, _i % 3 ? "" : "module.", NULL, 4);
    if (_i % 2) kd_test_pth_close(&p);
    kd_test_pth_close(&p);
    kd_test_pth_end(&p, path());
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(all_are(b0, "", 4));
}
END_TEST

START_TEST(of_two_that_fit_the_caller_says_which)
{
    kdas_load_options o = options(NULL, NULL);
    kd_test_pth       p;

    kd_test_pth_begin(&p);
    kd_test_pth_open(&p, "model");
    put_all(&p, b0, "", NULL, 1);
    kd_test_pth_close(&p);
    kd_test_pth_open(&p, "ema");
    kd_test_pth_open(&p, "module");
    put_all(&p, b0, "", NULL, 2);
    kd_test_pth_close(&p);
    kd_test_pth_close(&p);
    kd_test_pth_end(&p, path());
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_EINVAL);
    kd_assert_sentence("'model', 'ema.module'");
    kd_assert_sentence("kdas_load_options.entry");
    o.entry = "ema.module";
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(all_are(b0, "", 2));
    o.entry = "model";
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(all_are(b0, "", 1));
    o.entry = "ema";
    kd_assert_status(kdas_model_load(b0, path(), &o), KDAS_ENOTFOUND);
    kd_assert_sentence("'model', 'ema.module'");
    ck_assert(all_are(b0, "", 1));
}
END_TEST

START_TEST(student_and_teacher_of_one_file_are_told_apart_by_shape)
{
    kdas_model *b1 = make("polyp_pvt_b1");
    kd_test_pth p;

    kd_test_pth_begin(&p);
    kd_test_pth_open(&p, "teacher");
    put_all(&p, b1, "", NULL, 1);
    kd_test_pth_close(&p);
    kd_test_pth_open(&p, "student");
    put_all(&p, b0, "", NULL, 2);
    kd_test_pth_close(&p);
    kd_test_pth_end(&p, path());
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(all_are(b0, "", 2));
    kd_assert_ok(kdas_model_load(b1, path(), NULL));
    ck_assert(all_are(b1, "", 1));
    kdas_model_destroy(b1);
}
END_TEST

/* ---- Counters and values ---- */

static bool no_counters(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s", name);
    return !is_counter(name);
}

static bool some_counters(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s", name);
    return strcmp(name, "Translayer2_0.bn.num_batches_tracked") != 0;
}

START_TEST(files_of_old_versions_have_no_counters)
{
    write_all(b0, "", no_counters, 6);
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(all_are(b0, "", 6));
    write_all(b0, "", some_counters, 7);
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
};

START_TEST(values_of_a_broken_training_are_refused)
{
    int64_t     dims[4];
    int32_t     rank;
    kd_test_pth p;

    write_all(b0, "", NULL, 8);
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    kd_test_pth_begin(&p);
    put_all(&p, b0, "", NULL, 1);
    kdas_model_tensor(b0, kdas_model_find(b0, broken[_i].tensor), &rank, dims, NULL);
    kd_test_pth_put(&p, broken[_i].tensor, rank, dims, broken[_i].value); /* the later one counts */
    kd_test_pth_end(&p, path());
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_EFORMAT);
    kd_assert_sentence(broken[_i].tensor);
    kd_assert_sentence(broken[_i].sentence);
    ck_assert(all_are(b0, "", 8));
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
    kdas_model         *m    = make("lite_fpn0");
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
    write_all(b0, "module.", NULL, 2);
    for (long k = 1; st == KDAS_ENOMEM; k += 1 + k / 16) {
        meter.fail_at = meter.taken + k;
        st            = kdas_model_load(m, path(), NULL);
        meter.fail_at = 0;
        if (st == KDAS_ENOMEM) ck_assert(!all_are(m, "", 2));
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
    tcase_add_loop_test(t, words_before_all_names_are_taken_off, 0,
                        (int)(sizeof fronts / sizeof *fronts));
    tcase_add_loop_test(t, the_counter_of_an_average_is_passed_over, 0, 4);
    tcase_add_test(t, words_before_some_names_stay);
    tcase_add_loop_test(t, a_published_backbone_is_loaded_by_each_of_its_names, 0, 4);
    tcase_add_loop_test(t, a_backbone_for_a_network_is_told, 0, 2);
    tcase_add_test(t, a_classifier_that_the_network_lacks_is_told);
    tcase_add_test(t, an_added_prefix_still_counts);
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

/* check_weights_names.c - how the names of a file are given to a network: words in front, the names
 * of other writers, several networks in one dictionary. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "io/safetensors.h"
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

/* ---- Names ---- */

static const char *const fronts[] = { "",       "module.",  "_orig_mod.",       "model.",
                                      "net.",   "student.", "teacher.",         "state_dict.",
                                      "a.b.c.", "ema.",     "model._orig_mod.", "module.student." };

START_TEST(words_before_all_names_are_taken_off)
{
    kd_test_pth_write_model(path(), b0, fronts[_i], NULL, 2);
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(kd_test_all_are(b0, "", 2));
}
END_TEST

START_TEST(the_counter_of_an_average_is_passed_over)
{
    const int64_t *none = NULL;
    kd_test_pth    p;

    kd_test_pth_begin(&p);
    if (_i % 2) kd_test_pth_put(&p, "n_averaged", 0, none, 7);
    kd_test_pth_model(&p, b0, _i < 2 ? "module." : "module.averaged.student.", NULL, 2);
    if (!(_i % 2)) kd_test_pth_put(&p, "n_averaged", 0, none, 7);
    kd_test_pth_end(&p, path());
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(kd_test_all_are(b0, "", 2));
}
END_TEST

/* thop writes its counts beside the tensors of each module. */
START_TEST(the_counts_of_thop_are_passed_over)
{
    const int64_t *none = NULL;
    kd_test_pth    p;

    kd_test_pth_begin(&p);
    if (_i == 0) kd_test_pth_put(&p, "total_ops", 0, none, 7);
    kd_test_pth_put(&p, _i == 0 ? "backbone.total_params" : "module.backbone.total_ops", 0, none,
                    7);
    kd_test_pth_model(&p, b0, _i == 0 ? "" : "module.", NULL, 2);
    kd_test_pth_end(&p, path());
    kd_assert_ok(kdas_model_load(b0, path(), NULL));
    ck_assert(kd_test_all_are(b0, "", 2));
}
END_TEST

static bool one_without(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%s%s", strcmp(name, "out_SAM.bias") ? "module." : "", name);
    return true;
}

START_TEST(words_before_some_names_stay)
{
    kd_test_pth_write_model(path(), b0, "", one_without, 2);
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("no tensor 'module.");
    ck_assert(!kd_test_all_are(b0, "", 2));
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

/* As transformers names PVTv2. Its keys and values are two tensors: they are left out here. */
static bool by_transformers(char *to, size_t size, const char *name)
{
    static const char *const parts[][2] = {
        { "norm1.", "layer_norm_1." },
        { "norm2.", "layer_norm_2." },
        { "attn.q.", "attention.query." },
        { "attn.proj.", "attention.proj." },
        { "attn.sr.", "attention.spatial_reduction." },
        { "attn.norm.", "attention.layer_norm." },
        { "mlp.fc1.", "mlp.dense1." },
        { "mlp.fc2.", "mlp.dense2." },
        { "mlp.dwconv.dwconv.", "mlp.dwconv.dwconv." },
    };
    int stage, block, at = 0;

    if (strncmp(name, "backbone.", 9) != 0) return false;
    name += 9;
    if (sscanf(name, "patch_embed%d.proj.%n", &stage, &at) == 1 && at)
        snprintf(to, size, "encoder.layers.%d.patch_embedding.proj.%s", stage - 1, name + at);
    else if (sscanf(name, "patch_embed%d.norm.%n", &stage, &at) == 1 && at)
        snprintf(to, size, "encoder.layers.%d.patch_embedding.layer_norm.%s", stage - 1, name + at);
    else if (sscanf(name, "norm%d.%n", &stage, &at) == 1 && at)
        snprintf(to, size, "encoder.layers.%d.layer_norm.%s", stage - 1, name + at);
    else if (sscanf(name, "block%d.%d.%n", &stage, &block, &at) == 2) {
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            size_t n = strlen(parts[i][0]);

            if (strncmp(name + at, parts[i][0], n) != 0) continue;
            snprintf(to, size, "encoder.layers.%d.blocks.%d.%s%s", stage - 1, block, parts[i][1],
                     name + at + n);
            return true;
        }
        return false; /* attn.kv */
    }
    return true;
}

/* The keys or the values of each block, half of our tensor; all but those of block `without`. */
static void put_half(kd_test_pth *p, const char *front, const char *part, float value,
                     const char *without)
{
    const char *name;
    int64_t     dims[4];
    int32_t     rank;
    char        full[256], tail[16];
    int         stage, block;

    for (int32_t i = 0; (name = kdas_model_tensor(b0, i, &rank, dims, NULL)); i++) {
        if (sscanf(name, "backbone.block%d.%d.attn.kv.%15s", &stage, &block, tail) != 3) continue;
        snprintf(full, sizeof full, "%sencoder.layers.%d.blocks.%d.attention.%s.%s", front,
                 stage - 1, block, part, tail);
        dims[0] /= 2;
        if (!without || !strstr(full, without)) kd_test_pth_put(p, full, rank, dims, value);
    }
}

static void write_transformers(const char *front, const char *without)
{
    const int64_t head[2] = { 1000, 256 };
    kd_test_pth   p;

    kd_test_pth_begin(&p);
    kd_test_pth_model(&p, b0, front, by_transformers, 3);
    put_half(&p, front, "value", 5, without);
    put_half(&p, front, "key", 4, without);
    if (*front) kd_test_pth_put(&p, "classifier.weight", 2, head, 0);
    kd_test_pth_end(&p, path());
}

/* Whether each tensor of keys and values has the keys first, and all others are 3. */
static bool is_of_transformers(const kdas_model *m)
{
    const char *name;
    int64_t     dims[4];
    int32_t     rank;
    bool        same = true;

    for (int32_t i = 0; (name = kdas_model_tensor(m, i, &rank, dims, NULL)) && same; i++) {
        bool    both = strstr(name, ".attn.kv.") != NULL;
        int64_t n    = 1;
        float  *v;

        if (strncmp(name, "backbone.", 9) != 0) continue;
        for (int k = 0; k < rank; k++)
            n *= dims[k];
        v = malloc((size_t)n * sizeof *v);
        kd_assert_ok(kdas_model_read(m, i, v));
        for (int64_t k = 0; k < n; k++)
            same = same && v[k] == (!both ? 3 : k < n / 2 ? 4 : 5);
        free(v);
    }
    return same;
}

START_TEST(a_backbone_of_transformers_is_loaded)
{
    kdas_load_options o = options("backbone.", NULL);

    write_transformers(_i ? "pvt_v2." : "", NULL);
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(is_of_transformers(b0));
}
END_TEST

START_TEST(keys_without_values_are_refused)
{
    kdas_load_options o = options("backbone.", NULL);

    o.extra = 1;
    write_transformers("pvt_v2.",
                       _i ? "2.blocks.1.attention.value.bias" : "2.blocks.1.attention.key.bias");
    kd_assert_status(kdas_model_load(b0, path(), &o), KDAS_ENOTFOUND);
    kd_assert_sentence(_i ? "has the keys" : "has the values");
    kd_assert_sentence("'backbone.block3.1.attn.kv.bias'");
    ck_assert(!kd_test_all_are(b0, "backbone.norm1.", 3));
}
END_TEST

static bool bare(char *to, size_t size, const char *name)
{
    if (strncmp(name, "backbone.", 9) != 0) return false;
    snprintf(to, size, "%s", name + 9);
    return true;
}

static void write_backbone(const char *front, kd_test_naming name_by)
{
    const int64_t head[2] = { 1000, 256 };
    kd_test_pth   p;
    char          name[64];

    kd_test_pth_begin(&p);
    kd_test_pth_model(&p, b0, front, name_by, 3);
    snprintf(name, sizeof name, "%shead.weight", front);
    kd_test_pth_put(&p, name, 2, head, 0);
    kd_test_pth_end(&p, path());
}

START_TEST(a_published_backbone_is_loaded_by_each_of_its_names)
{
    static const kd_test_naming by[] = { bare, by_timm };
    kdas_load_options           o    = options("backbone.", NULL);
    const char                 *name = "out_SAM.weight";
    float                       before[32], after[32];

    write_backbone(_i % 2 ? "module." : "", by[_i / 2]);
    kd_assert_ok(kdas_model_read(b0, kdas_model_find(b0, name), before));
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(kd_test_all_are(b0, "backbone.", 3));
    kd_assert_ok(kdas_model_read(b0, kdas_model_find(b0, name), after));
    ck_assert_mem_eq(before, after, sizeof before);
}
END_TEST

START_TEST(a_backbone_for_a_network_is_told)
{
    static const kd_test_naming by[] = { bare, by_timm };

    write_backbone("", by[_i]);
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("it has the backbone of 'polyp_pvt_b0'");
    kd_assert_sentence("--backbone-weights");
}
END_TEST

START_TEST(a_classifier_that_the_network_lacks_is_told)
{
    kdas_model       *pvt = kd_test_weights_model(ctx, "pvt_v2_b0");
    kdas_load_options o   = options(NULL, NULL);

    write_backbone("", bare);
    kd_assert_status(kdas_model_load(pvt, path(), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("no tensor 'head.weight'");
    kd_assert_sentence("all others of the network are there");
    o.extra = 1;
    kd_assert_ok(kdas_model_load(pvt, path(), &o));
    ck_assert(kd_test_all_are(pvt, "", 3));
    kdas_model_destroy(pvt);
}
END_TEST

START_TEST(an_added_prefix_still_counts)
{
    kdas_load_options o = options(NULL, NULL);

    kd_test_pth_write_model(path(), b0, "module.", bare, 5);
    o.prefix  = "backbone.";
    o.partial = 1;
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(kd_test_all_are(b0, "backbone.", 5));
}
END_TEST

/* ---- Several networks ---- */

/* Both networks in one flat dictionary, with words in front; beside them what belongs to neither. */
static void write_flat(const kdas_model *one, const char *front, const kdas_model *other,
                       const char *behind)
{
    const int64_t four = 4;
    kd_test_pth   p;

    kd_test_pth_begin(&p);
    kd_test_pth_model(&p, one, front, NULL, 1);
    kd_test_pth_model(&p, other, behind, NULL, 2);
    kd_test_pth_put(&p, "projection.weight", 1, &four, 9);
    kd_test_pth_end(&p, path());
}

START_TEST(of_two_networks_in_one_dictionary_the_caller_says_which)
{
    kdas_model       *b1 = kd_test_weights_model(ctx, "polyp_pvt_b1");
    kdas_load_options o  = options(NULL, NULL);

    write_flat(b1, "teacher.", b0, "student.module.");
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("whose names begin with 'student.' fit 'polyp_pvt_b0'");
    kd_assert_sentence("kdas_load_options.entry = \"student\", --weights-entry student");
    o.entry = "student";
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(kd_test_all_are(b0, "", 2));
    o.entry = "teacher."; /* the full stop may be there */
    kd_assert_ok(kdas_model_load(b1, path(), &o));
    ck_assert(kd_test_all_are(b1, "", 1));
    kd_assert_status(kdas_model_load(b0, path(), &o), KDAS_ESHAPE);
    kd_assert_sentence("these tensors fit 'polyp_pvt_b1'");
    o.entry = "stud"; /* half a word chooses nothing */
    kd_assert_status(kdas_model_load(b0, path(), &o), KDAS_ENOTFOUND);
    kdas_model_destroy(b1);
}
END_TEST

START_TEST(equal_networks_in_one_dictionary_are_all_named)
{
    kdas_load_options o = options(NULL, "average");

    write_flat(b0, "student.", b0, "average.");
    kd_assert_status(kdas_model_load(b0, path(), NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("'average.', 'student.'");
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(kd_test_all_are(b0, "", 2));
    o.entry = "student";
    o.part  = "backbone.";
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(kd_test_all_are(b0, "backbone.", 1) && kd_test_all_are(b0, "out_", 2));
}
END_TEST

#define LARGEST 1000000 /* values of a tensor */

/* Tensors that share the memory of `values`. */
static void put_safetensors(kd_st_writer *w, const kdas_model *m, const char *front, float *values,
                            float value)
{
    const char *name;
    int64_t     dims[4];
    int32_t     rank;
    char        full[512];

    for (int64_t k = 0; k < LARGEST; k++)
        values[k] = value;
    for (int32_t i = 0; (name = kdas_model_tensor(m, i, &rank, dims, NULL)); i++) {
        snprintf(full, sizeof full, "%s%s", front, name);
        kd_assert_ok(kd_st_writer_put(w, full, KD_ST_F32, rank, dims, values));
    }
}

START_TEST(words_are_chosen_in_safetensors_too)
{
    kdas_load_options o    = options(NULL, "student");
    const char       *file = kd_test_path("flat.safetensors");
    float            *one = malloc(LARGEST * sizeof *one), *two = malloc(LARGEST * sizeof *two);
    kd_st_writer     *w;

    kd_assert_ok(kd_st_writer_create(&w, ctx));
    put_safetensors(w, b0, "student.", one, 1);
    put_safetensors(w, b0, "teacher.", two, 2);
    kd_assert_ok(kd_st_writer_save(w, file, false));
    kd_st_writer_destroy(w);
    kd_assert_status(kdas_model_load(b0, file, NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("'student.', 'teacher.'");
    kd_assert_ok(kdas_model_load(b0, file, &o));
    ck_assert(kd_test_all_are(b0, "", 1));
    o.entry = "ema"; /* no such words: of the one set, all counts */
    kd_assert_status(kdas_model_load(b0, file, &o), KDAS_ENOTFOUND);
    kd_assert_sentence("'student.', 'teacher.'");
    free(one);
    free(two);
}
END_TEST

START_TEST(words_are_chosen_within_a_dictionary)
{
    kdas_load_options o = options(NULL, "model.student");
    kd_test_pth       p;

    kd_test_pth_begin(&p);
    for (int i = 0; i < 2; i++) {
        kd_test_pth_open(&p, i ? "ema" : "model");
        kd_test_pth_model(&p, b0, "student.", NULL, (float)(2 * i + 1));
        kd_test_pth_model(&p, b0, "teacher.", NULL, (float)(2 * i + 2));
        kd_test_pth_close(&p);
    }
    kd_test_pth_end(&p, path());
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(kd_test_all_are(b0, "", 1));
    o.entry = "ema.teacher";
    kd_assert_ok(kdas_model_load(b0, path(), &o));
    ck_assert(kd_test_all_are(b0, "", 4));
    o.entry = "student"; /* of which dictionary? */
    kd_assert_status(kdas_model_load(b0, path(), &o), KDAS_EINVAL);
    kd_assert_sentence("'model', 'ema'");
    o.entry = "model.nobody";
    kd_assert_status(kdas_model_load(b0, path(), &o), KDAS_ENOTFOUND);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("weights_names");
    TCase   *t = tcase_create("load");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, words_before_all_names_are_taken_off, 0,
                        (int)(sizeof fronts / sizeof *fronts));
    tcase_add_loop_test(t, the_counter_of_an_average_is_passed_over, 0, 4);
    tcase_add_loop_test(t, the_counts_of_thop_are_passed_over, 0, 2);
    tcase_add_test(t, words_before_some_names_stay);
    tcase_add_loop_test(t, a_published_backbone_is_loaded_by_each_of_its_names, 0, 4);
    tcase_add_loop_test(t, a_backbone_for_a_network_is_told, 0, 2);
    tcase_add_test(t, a_classifier_that_the_network_lacks_is_told);
    tcase_add_loop_test(t, a_backbone_of_transformers_is_loaded, 0, 2);
    tcase_add_loop_test(t, keys_without_values_are_refused, 0, 2);
    tcase_add_test(t, an_added_prefix_still_counts);
    tcase_add_test(t, of_two_networks_in_one_dictionary_the_caller_says_which);
    tcase_add_test(t, equal_networks_in_one_dictionary_are_all_named);
    tcase_add_test(t, words_are_chosen_in_safetensors_too);
    tcase_add_test(t, words_are_chosen_within_a_dictionary);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

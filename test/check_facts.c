/* check_facts.c - what weights know of themselves: set by hosts and by steps, kept in files, and used
 * where they are run. check_run_facts.c has what a run adds. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/safetensors.h"
#include "model/model.h"
#include "support/check_util.h"
#include "support/facts_util.h"
#include "support/files.h"
#include "support/told.h"
#include "support/train_util.h"

/* ---- one by one ---- */

START_TEST(facts_are_set_read_and_removed)
{
    kdas_model *m   = kd_test_frozen("lite_fpn0");
    const char *key = NULL;

    kd_test_assert_fact(m, "width", NULL);
    kd_assert_ok(kdas_model_set_fact(m, "width", "64"));
    kd_assert_ok(kdas_model_set_fact(m, "a.b_c-1", "caf\xC3\xA9 \"x\" \\"));
    kd_test_assert_fact(m, "width", "64");
    ck_assert_str_eq(kdas_model_fact_at(m, 0, &key), "caf\xC3\xA9 \"x\" \\");
    ck_assert_str_eq(key, "a.b_c-1");
    ck_assert_str_eq(kdas_model_fact_at(m, 1, NULL), "64");
    ck_assert_ptr_null(kdas_model_fact_at(m, 2, &key));
    ck_assert_ptr_null(kdas_model_fact_at(m, -1, &key));
    kd_assert_ok(kdas_model_set_fact(m, "width", kdas_model_fact(m, "width")));
    kd_test_assert_fact(m, "width", "64");
    kd_assert_ok(kdas_model_set_fact(m, "width", NULL));
    kd_assert_ok(kdas_model_set_fact(m, "width", NULL));
    kd_test_assert_fact(m, "width", NULL);
    ck_assert_ptr_null(kdas_model_fact(NULL, "width"));
    ck_assert_ptr_null(kdas_model_fact(m, NULL));
    kdas_model_destroy(m);
}
END_TEST

START_TEST(what_no_file_can_hold_is_refused)
{
    kdas_model *m = kd_test_frozen("lite_fpn0");
    char        text[4100], key[80];

    kd_assert_status(kdas_model_set_fact(m, "", "1"), KDAS_EINVAL);
    kd_assert_status(kdas_model_set_fact(m, "a b", "1"), KDAS_EINVAL);
    kd_assert_status(kdas_model_set_fact(m, "a b", NULL), KDAS_EINVAL);
    kd_assert_status(kdas_model_set_fact(m, NULL, "1"), KDAS_EINVAL);
    kd_assert_status(kdas_model_set_fact(NULL, "a", "1"), KDAS_EINVAL);
    kd_assert_status(kdas_model_set_fact(m, "network", "polyp_pvt_b0"), KDAS_EINVAL);
    kd_assert_sentence("network");
    kd_assert_status(kdas_model_default_fact(m, "version", "9"), KDAS_EINVAL);
    kd_assert_status(kdas_model_set_fact(m, "a", "\xFF"), KDAS_EINVAL);
    kd_assert_status(kdas_model_set_fact(m, "a", "1\n2"), KDAS_EINVAL);
    memset(key, 'k', sizeof key);
    key[65] = 0;
    kd_assert_status(kdas_model_set_fact(m, key, "1"), KDAS_EINVAL);
    key[64] = 0;
    kd_assert_ok(kdas_model_set_fact(m, key, "1"));
    memset(text, 'x', sizeof text);
    text[4097] = 0;
    kd_assert_status(kdas_model_set_fact(m, "a", text), KDAS_EINVAL);
    text[4096] = 0;
    kd_assert_ok(kdas_model_set_fact(m, "a", text));
    for (int i = 0; i < 254; i++) {
        snprintf(key, sizeof key, "f%d", i);
        kd_assert_ok(kdas_model_set_fact(m, key, "1"));
    }
    kd_assert_status(kdas_model_set_fact(m, "more", "1"), KDAS_EINVAL);
    kd_test_assert_fact(m, "more", NULL);
    kd_assert_ok(kdas_model_set_fact(m, "f3", "2"));
    kd_test_assert_fact(m, "f3", "2");
    kdas_model_destroy(m);
}
END_TEST

START_TEST(a_default_does_not_replace_what_the_host_has_set)
{
    kdas_model *m = kd_test_frozen("lite_fpn0");

    kd_assert_ok(kdas_model_default_fact(m, "width", "64"));
    kd_assert_ok(kdas_model_default_fact(m, "width", "96"));
    kd_test_assert_fact(m, "width", "96");
    kd_assert_ok(kdas_model_set_fact(m, "width", "128"));
    kd_assert_ok(kdas_model_default_fact(m, "width", "96"));
    kd_assert_ok(kdas_model_default_fact(m, "width", NULL));
    kd_test_assert_fact(m, "width", "128");
    kdas_model_destroy(m);
}
END_TEST

START_TEST(any_allocation_of_a_fact_may_fail)
{
    kdas_model *m  = kd_test_frozen("lite_fpn0");
    kdas_status st = KDAS_ENOMEM;

    for (long k = 1; st != KDAS_OK; k++) {
        kd_test_facts.meter.fail_at = kd_test_facts.meter.taken + k;
        st                          = kdas_model_set_fact(m, "height", "352");
        kd_test_facts.meter.fail_at = 0;
        kd_test_assert_fact(m, "height", st == KDAS_OK ? "352" : NULL);
    }
    kd_test_facts.meter.fail_at =
        kd_test_facts.meter.taken + 1; /* a value as short as before needs nothing */
    kd_assert_ok(kdas_model_set_fact(m, "height", "96"));
    kd_test_facts.meter.fail_at = 0;
    kd_test_assert_fact(m, "height", "96");
    kdas_model_destroy(m);
}
END_TEST

START_TEST(a_size_is_one_that_can_be_run)
{
    static const char *const bad[][2] = { { "100", "96" }, { "96", "x" },   { "0", "96" },
                                          { "-32", "96" }, { "96 ", "96" }, { "96", "99999968" } };
    kdas_model              *m        = kd_test_frozen("lite_fpn0");
    int64_t                  h, w;

    ck_assert_int_eq(kdas_model_input_size(m, &h, &w), 0);
    ck_assert(h == 352 && w == 352);
    kd_assert_ok(kdas_model_set_fact(m, "height", "64"));
    ck_assert_int_eq(kdas_model_input_size(m, &h, &w), 0);
    kd_assert_ok(kdas_model_set_fact(m, "width", "96"));
    ck_assert_int_eq(kdas_model_input_size(m, &h, &w), 1);
    ck_assert(h == 64 && w == 96);
    ck_assert_int_eq(kdas_model_input_size(m, NULL, NULL), 1);
    ck_assert_int_eq(kdas_model_input_size(NULL, &h, &w), 0);
    for (size_t i = 0; i < KD_COUNT(bad); i++) {
        kd_assert_ok(kdas_model_set_fact(m, "height", bad[i][0]));
        kd_assert_ok(kdas_model_set_fact(m, "width", bad[i][1]));
        ck_assert_int_eq(kdas_model_input_size(m, &h, &w), 0);
        ck_assert(h == 352 && w == 352);
    }
    ck_assert(kdas_model_threshold(m) == 0.5f && isnan(kdas_model_threshold(NULL)));
    kd_assert_ok(kdas_model_set_fact(m, "threshold", "0.25"));
    ck_assert(kdas_model_threshold(m) == 0.25f);
    kd_assert_ok(kdas_model_set_fact(m, "threshold", "1.5"));
    ck_assert(kdas_model_threshold(m) == 0.5f);
    kd_assert_ok(kdas_model_set_fact(m, "threshold", "0,25"));
    ck_assert(kdas_model_threshold(m) == 0.5f);
    kdas_model_destroy(m);
}
END_TEST

/* ---- files ---- */

START_TEST(facts_travel_with_the_weights)
{
    const char *path = kd_test_path("w.safetensors");
    kdas_model *m    = kd_test_frozen("lite_fpn0"), *copy;
    kdas_file  *file;

    kd_assert_ok(kdas_model_set_fact(m, "height", "96"));
    kd_assert_ok(kdas_model_set_fact(m, "width", "64"));
    kd_assert_ok(kdas_model_set_fact(m, "hospital", "\xC3\x85rhus \"N\""));
    kd_assert_ok(kdas_model_save(m, path));
    kdas_model_destroy(m);

    kd_assert_ok(kdas_file_open(&file, kd_test_facts.ctx, path));
    ck_assert_int_eq(kdas_file_type(file), KDAS_FILE_WEIGHTS);
    ck_assert_str_eq(kdas_file_network(file), "lite_fpn0");
    ck_assert_str_eq(kdas_file_fact(file, "network"), "lite_fpn0");
    ck_assert_str_eq(kdas_file_fact(file, "version"), kdas_version_string());
    ck_assert_str_eq(kdas_file_fact(file, "format"), "1");
    ck_assert_str_eq(kdas_file_fact(file, "height"), "96");
    ck_assert_ptr_null(kdas_file_fact(file, "epoch"));
    kdas_file_destroy(file);

    m = kd_test_frozen("lite_fpn0");
    kd_assert_ok(kdas_model_set_fact(m, "seed", "7")); /* of other values, which are gone */
    kd_assert_ok(kdas_model_load(m, path, NULL));
    kd_test_assert_fact(m, "height", "96");
    kd_test_assert_fact(m, "hospital", "\xC3\x85rhus \"N\"");
    kd_test_assert_fact(m, "seed", NULL);
    kd_test_assert_fact(m, "version", NULL);
    ck_assert_str_eq(kdas_model_source(m, 0), path);
    ck_assert_ptr_null(kdas_model_source(m, 1));
    copy = kd_test_frozen("lite_fpn0");
    kd_assert_ok(kdas_model_copy(copy, m));
    kd_test_assert_fact(copy, "width", "64");
    ck_assert_ptr_null(kdas_model_fact_at(copy, 3, NULL));
    kdas_model_destroy(copy);
    kdas_model_destroy(m);
}
END_TEST

/* A file with the model's tensors and these texts. */
static void write_file(const char *path, const kdas_model *m, const char *const (*texts)[2])
{
    kd_st_writer *w;
    float        *values[1000];
    int32_t       rank;
    int64_t       dims[4];
    const char   *name;
    int32_t       count = 0;

    kd_assert_ok(kd_st_writer_create(&w, kd_test_facts.ctx));
    for (; (name = kdas_model_tensor(m, count, &rank, dims, NULL)); count++) {
        int64_t n = 1;

        for (int32_t d = 0; d < rank; d++)
            n *= dims[d];
        values[count] = malloc((size_t)n * sizeof(float));
        kd_assert_ok(kdas_model_read(m, count, values[count]));
        kd_assert_ok(kd_st_writer_put(w, name, KD_ST_F32, rank, dims, values[count]));
    }
    for (int i = 0; texts && texts[i][0]; i++)
        kd_assert_ok(kd_st_writer_put_text(w, texts[i][0], texts[i][1]));
    kd_assert_ok(kd_st_writer_save(w, path, false));
    kd_st_writer_destroy(w);
    for (int32_t i = 0; i < count; i++)
        free(values[i]);
}

START_TEST(files_of_others_load_without_facts)
{
    static const char *const texts[][2] = { { "model", "resnet50" }, { "kdas.bad key", "1" },
                                            { "kdas.mean", "a\nb" }, { "kdas.width", "96" },
                                            { "height", "96" },      { NULL, NULL } };
    const char              *path       = kd_test_path("w.safetensors");
    kdas_model              *m = kd_test_frozen("lite_fpn0"), *opened = NULL;
    kdas_file               *file;

    write_file(path, m, NULL);
    kd_assert_ok(kdas_model_set_fact(m, "height", "64"));
    kd_assert_ok(kdas_model_load(m, path, NULL));
    ck_assert_ptr_null(kdas_model_fact_at(m, 0, NULL));
    kd_assert_ok(kdas_file_open(&file, kd_test_facts.ctx, path));
    ck_assert_ptr_null(kdas_file_network(file));
    ck_assert_ptr_null(kdas_file_fact(file, "version"));
    ck_assert_ptr_null(kdas_file_text(file, 0, NULL));
    kdas_file_destroy(file);

    kd_assert_status(kdas_model_open(&opened, kd_test_facts.ctx, NULL, path, NULL, NULL),
                     KDAS_ENOTFOUND);
    kd_assert_sentence("w.safetensors");
    ck_assert_ptr_null(opened);
    write_file(path, m, texts);
    kd_assert_ok(kdas_model_open(&opened, kd_test_facts.ctx, "lite_fpn0", path, NULL,
                                 NULL)); /* whose "model" is not ours */
    kd_test_assert_fact(opened, "width", "96");
    ck_assert_ptr_null(kdas_model_fact_at(opened, 1, NULL));
    kdas_model_destroy(opened);
    kdas_model_destroy(m);
}
END_TEST

START_TEST(a_load_of_a_part_keeps_the_facts)
{
    const char       *path = kd_test_path("w.safetensors");
    kdas_model       *m    = kd_test_frozen("lite_fpn0");
    kdas_load_options o;

    kd_assert_ok(kdas_model_set_fact(m, "height", "96"));
    kd_assert_ok(kdas_model_save(m, path));
    kd_assert_ok(kdas_model_set_fact(m, "height", "64"));
    kdas_load_options_init(&o, sizeof o);
    o.part = "backbone.";
    kd_assert_ok(kdas_model_load(m, path, &o));
    kd_test_assert_fact(m, "height", "64");
    ck_assert_str_eq(kdas_model_source(m, 0), path);
    kd_assert_ok(kdas_model_load(m, path, &o));
    ck_assert_str_eq(kdas_model_source(m, 1), path);
    kd_assert_status(kdas_model_load(m, kd_test_path("none"), NULL), KDAS_ENOTFOUND);
    kd_test_assert_fact(m, "height", "64");
    kd_assert_ok(kdas_model_load(m, path, NULL));
    kd_test_assert_fact(m, "height", "96");
    ck_assert_ptr_null(kdas_model_source(m, 1));
    kdas_model_destroy(m);
}
END_TEST

START_TEST(a_file_names_its_network)
{
    const char *path = kd_test_path("w.safetensors");
    kdas_model *m    = kd_test_frozen("lite_fpn0"), *opened;

    kd_assert_ok(kdas_model_save(m, path));
    kdas_model_destroy(m);
    kd_assert_ok(kdas_model_open(&opened, kd_test_facts.ctx, NULL, path, NULL, NULL));
    ck_assert_str_eq(kdas_model_network(opened), "lite_fpn0");
    kdas_model_destroy(opened);
    kd_assert_status(kdas_model_open(&opened, kd_test_facts.ctx, "polyp_pvt_b0", path, NULL, NULL),
                     KDAS_EINVAL);
    kd_assert_sentence("lite_fpn0, not of polyp_pvt_b0");
    ck_assert_ptr_null(opened);
    kd_assert_status(
        kdas_model_open(&opened, kd_test_facts.ctx, NULL, kd_test_path("no"), NULL, NULL),
        KDAS_ENOTFOUND);
    kd_test_write(kd_test_path("text"), "these are no weights", 20);
    kd_assert_status(
        kdas_model_open(&opened, kd_test_facts.ctx, NULL, kd_test_path("text"), NULL, NULL),
        KDAS_EFORMAT);
}
END_TEST

START_TEST(any_allocation_of_a_load_may_fail)
{
    const char *path = kd_test_path("w.safetensors");
    kdas_model *m    = kd_test_frozen("lite_fpn0");
    kdas_status st   = KDAS_ENOMEM;

    kd_assert_ok(kdas_model_set_fact(m, "height", "96"));
    kd_assert_ok(kdas_model_save(m, path));
    kd_assert_ok(kdas_model_set_fact(m, "height", "64"));
    for (long k = 1; st != KDAS_OK; k += 1 + k / 8) {
        kd_test_facts.meter.fail_at = kd_test_facts.meter.taken + k;
        st                          = kdas_model_load(m, path, NULL);
        kd_test_facts.meter.fail_at = 0;
        kd_test_assert_fact(m, "height", st == KDAS_OK ? "96" : "64");
        ck_assert_int_eq(kdas_model_source(m, 0) != NULL, st == KDAS_OK);
    }
    kdas_model_destroy(m);
}
END_TEST

/* ---- steps ---- */

START_TEST(a_step_tells_the_weights_what_they_learn_from)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;

    o.meter         = &kd_test_facts.meter;
    o.teacher       = NULL;
    o.loss.tau      = 3;
    o.loss.guidance = "none";
    kd_test_rig_make(&rig, &o);
    ck_assert_ptr_null(kdas_model_fact_at(rig.student, 0, NULL));
    kd_assert_ok(kdas_model_set_fact(rig.student, "width", "64"));
    kd_assert_ok(
        kdas_model_default_fact(rig.student, "epoch", "12")); /* as loaded weights have it */
    kd_test_rig_step(&rig, 0);
    kd_test_assert_fact(rig.student, "height", "32");
    kd_test_assert_fact(rig.student, "width", "64");
    kd_test_assert_fact(rig.student, "epoch", NULL);
    kd_test_assert_fact(rig.student, "mean", KDAS_INPUT_MEAN);
    kd_test_assert_fact(rig.student, "deviation", KDAS_INPUT_DEVIATION);
    kd_test_assert_fact(rig.student, "colour", "RGB");
    kd_test_assert_fact(rig.student, "objective", "baseline with tau 3");
    kd_assert_ok(kdas_model_set_fact(rig.student, "height", "96"));
    kd_test_rig_step(&rig, 1);
    kd_test_assert_fact(rig.student, "height", "96");
    kd_test_rig_finish(&rig);
}
END_TEST

static void step_at(kd_test_rig *rig, int64_t height, int64_t width)
{
    kdas_batch *batch;

    kd_assert_ok(kdas_batch_create(&batch, rig->ctx, 2, height, width));
    kd_test_fill(kdas_batch_images(batch), 2 * height * width * 3, "images", 1, 0);
    kd_test_ellipses(kdas_batch_masks(batch), 2, height, width, "masks");
    kd_assert_ok(kdas_distiller_step(rig->distiller, batch, NULL));
    kdas_batch_destroy(batch);
}

START_TEST(of_several_scales_the_middle_one_counts)
{
    kd_test_rig_options o = kd_test_rig_usual();
    kd_test_rig         rig;

    o.teacher       = NULL;
    o.loss.guidance = "none";
    kd_test_rig_make(&rig, &o);
    for (int i = 0; i < 2; i++) {
        step_at(&rig, 96, 64);
        step_at(&rig, 32, 32);
        step_at(&rig, 64, 32);
        kd_test_assert_fact(rig.student, "height", "64");
        kd_test_assert_fact(rig.student, "width", "32");
    }
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(the_normalisation_is_that_of_the_batches)
{
    uint8_t     white[3] = { 255, 255, 255 };
    kdas_view   view     = { white, 1, 1, 0, KDAS_PIXEL_RGB8 };
    double      mean[3], deviation[3];
    kdas_batch *batch;

    ck_assert_int_eq(sscanf(KDAS_INPUT_MEAN, "%lf %lf %lf", &mean[0], &mean[1], &mean[2]), 3);
    ck_assert_int_eq(
        sscanf(KDAS_INPUT_DEVIATION, "%lf %lf %lf", &deviation[0], &deviation[1], &deviation[2]),
        3);
    kd_assert_ok(kdas_batch_create(&batch, kd_test_facts.ctx, 1, 32, 32));
    kd_assert_ok(kdas_batch_set(batch, 0, &view, NULL));
    for (int c = 0; c < 3; c++)
        ck_assert_double_eq_tol(kdas_batch_images(batch)[c], (1 - mean[c]) / deviation[c], 1e-5);
    kdas_batch_destroy(batch);
}
END_TEST

START_TEST(an_objective_is_put_into_words)
{
    kdas_loss_options o;
    char              text[200];

    kdas_loss_options_init(&o, sizeof o);
    kd_assert_ok(kdas_loss_options_describe(&o, text, sizeof text));
    ck_assert_str_eq(text, "paper");
    for (int i = 0; i < 3; i++) {
        static const char *const names[] = { "kdas", "published_code", "feature" };

        kd_assert_ok(kdas_loss_options_preset(&o, names[i]));
        kd_assert_ok(kdas_loss_options_describe(&o, text, sizeof text));
        ck_assert_str_eq(text, names[i]);
    }
    kd_assert_ok(kdas_loss_options_preset(&o, "kdas"));
    o.share        = KDAS_SHARE_OFF;
    o.seg          = "structure";
    o.feature_taps = "cfm:cfm";
    kd_assert_ok(kdas_loss_options_describe(&o, text, sizeof text));
    ck_assert_str_eq(text, "kdas with seg structure, feature_taps cfm:cfm, share off");
    kd_assert_ok(kdas_loss_options_describe(&o, text, 10));
    ck_assert_str_eq(text, "kdas with");
    kd_assert_ok(kdas_loss_options_describe(&o, text, 3));
    ck_assert_str_eq(text, "kd");
    kd_assert_status(kdas_loss_options_describe(&o, text, 0), KDAS_EINVAL);
    kd_assert_status(kdas_loss_options_describe(NULL, text, 9), KDAS_EINVAL);
    o.size = 3;
    kd_assert_status(kdas_loss_options_describe(&o, text, 9), KDAS_EINVAL);
}
END_TEST

/* ---- where weights are run ---- */

static kdas_segmenter_options options_of(kdas_model *m, const kdas_segmenter_options *told)
{
    kdas_segmenter_options o = { .size = sizeof o };
    kdas_segmenter        *s;

    kd_assert_ok(kdas_segmenter_create(&s, m, told));
    kd_assert_ok(kdas_segmenter_get_options(s, &o));
    kdas_segmenter_destroy(s);
    return o;
}

START_TEST(a_segmenter_takes_size_and_threshold_from_the_weights)
{
    kd_test_rig_options    o = kd_test_rig_usual();
    kdas_segmenter_options told, is;
    kd_test_told           t = kd_test_told_usual();
    kd_test_rig            rig;

    o.log   = t.rig.log;
    o.meter = &kd_test_facts.meter;
    kd_test_rig_make(&rig, &o);
    kd_test_said[0] = 0;
    is              = options_of(rig.teacher, NULL);
    ck_assert(is.height == 352 && is.width == 352 && is.threshold == 0.5f);
    is = options_of(rig.teacher, NULL);
    ck_assert_int_eq(kd_test_said_count("W ", "do not say"), 1); /* once */
    kd_assert_ok(kdas_model_set_fact(rig.teacher, "height", "32"));
    kd_assert_ok(kdas_model_set_fact(rig.teacher, "width", "64"));
    kd_assert_ok(kdas_model_set_fact(rig.teacher, "threshold", "0.25"));
    kd_test_said[0] = 0;
    is              = options_of(rig.teacher, NULL);
    ck_assert(is.height == 32 && is.width == 64 && is.threshold == 0.25f);
    ck_assert_int_eq(kd_test_said_count("W ", ""), 0);
    kdas_segmenter_options_init(&told, sizeof told);
    told.height = told.width = 32;
    told.threshold           = 0.75f;
    told.hysteresis          = 0.5f;
    is                       = options_of(rig.teacher, &told);
    ck_assert(is.height == 32 && is.width == 32 && is.threshold == 0.75f);
    ck_assert_int_eq(kd_test_said_count("W ", "32x32, but its weights were trained at 32x64"), 1);
    kd_assert_ok(kdas_model_set_fact(rig.teacher, "mean", "0.5 0.5 0.5"));
    is = options_of(rig.teacher, &told);
    ck_assert_int_eq(kd_test_said_count("W ", "'0.5 0.5 0.5'"), 1);
    kd_test_rig_finish(&rig);
}
END_TEST

START_TEST(an_evaluation_without_a_size_is_one_at_the_weights_own)
{
    static const int64_t sides[] = { 32, 0, 64 };
    kd_test_rig_options  o       = kd_test_alone();
    kd_test_training     s;
    double               dice[3], loss[3];

    kd_test_train_make(&s, &o, NULL);
    kd_assert_ok(kdas_model_set_fact(s.rig.student, "height", "32"));
    kd_assert_ok(kdas_model_set_fact(s.rig.student, "width", "32"));
    for (int i = 0; i < 3; i++) {
        kdas_evaluator *e;

        kd_assert_ok(kdas_evaluator_create(&e, s.rig.ctx));
        kd_assert_ok(kdas_evaluate_loss(e, s.rig.student, s.validation, sides[i], sides[i], 0,
                                        s.rig.loss, &loss[i]));
        kd_assert_ok(kdas_evaluator_get(e, -1, KDAS_METRIC_MAE, &dice[i]));
        kdas_evaluator_destroy(e);
    }
    ck_assert(dice[0] == dice[1] && loss[0] == loss[1]);
    ck_assert(dice[0] != dice[2] && loss[0] != loss[2]);
    kd_test_train_finish(&s);
}
END_TEST

static Suite *facts_suite(void)
{
    Suite *s     = suite_create("facts");
    TCase *each  = tcase_create("facts");
    TCase *files = tcase_create("files");
    TCase *steps = tcase_create("steps");
    TCase *used  = tcase_create("used");

    tcase_add_checked_fixture(each, kd_test_facts_setup, kd_test_facts_teardown);
    tcase_add_test(each, facts_are_set_read_and_removed);
    tcase_add_test(each, what_no_file_can_hold_is_refused);
    tcase_add_test(each, a_default_does_not_replace_what_the_host_has_set);
    tcase_add_test(each, any_allocation_of_a_fact_may_fail);
    tcase_add_test(each, a_size_is_one_that_can_be_run);
    suite_add_tcase(s, each);

    tcase_add_checked_fixture(files, kd_test_facts_setup, kd_test_facts_teardown);
    tcase_add_test(files, facts_travel_with_the_weights);
    tcase_add_test(files, files_of_others_load_without_facts);
    tcase_add_test(files, a_load_of_a_part_keeps_the_facts);
    tcase_add_test(files, a_file_names_its_network);
    tcase_add_test(files, any_allocation_of_a_load_may_fail);
    suite_add_tcase(s, files);

    tcase_add_checked_fixture(steps, kd_test_facts_setup, kd_test_facts_teardown);
    tcase_add_test(steps, a_step_tells_the_weights_what_they_learn_from);
    tcase_add_test(steps, of_several_scales_the_middle_one_counts);
    tcase_add_test(steps, the_normalisation_is_that_of_the_batches);
    tcase_add_test(steps, an_objective_is_put_into_words);
    suite_add_tcase(s, steps);

    tcase_add_checked_fixture(used, kd_test_facts_setup, kd_test_facts_teardown);
    tcase_add_test(used, a_segmenter_takes_size_and_threshold_from_the_weights);
    tcase_add_test(used, an_evaluation_without_a_size_is_one_at_the_weights_own);
    suite_add_tcase(s, used);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(facts_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

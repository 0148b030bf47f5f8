/* check_run_facts.c - what a run leaves besides values: the facts of its weights, and run.json. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/json.h"
#include "model/model.h"
#include "support/check_util.h"
#include "support/facts_util.h"
#include "support/files.h"
#include "support/thin.h"
#include "support/told.h"
#include "support/train_util.h"

/* ---- facts ---- */

START_TEST(a_run_tells_the_weights_all)
{
    kd_test_rig_options o = kd_test_alone();
    kd_test_training    s;
    kdas_model         *m;
    char                text[32];

    if (_i) o.distiller.ema = 0.9f; /* then the average is saved */
    kd_test_train_make(&s, &o, kd_test_path("out"));
    kd_assert_ok(kdas_model_set_fact(s.rig.student, "threshold", "0.4"));
    kd_assert_ok(kd_test_train(&s));
    m = kd_test_frozen(kdas_model_network(s.rig.student));
    kd_assert_ok(kdas_model_load(m, kd_test_path("out/best.safetensors"), NULL));
    kd_test_assert_fact(m, "height", "32");
    kd_test_assert_fact(m, "width", "32");
    kd_test_assert_fact(m, "threshold", "0.4");
    kd_test_assert_fact(m, "seed", "5");
    snprintf(text, sizeof text, "%lld", (long long)s.saw.last_epoch.best_epoch);
    kd_test_assert_fact(m, "epoch", text);
    snprintf(text, sizeof text, "%.6g", s.saw.last_epoch.best_dice);
    kd_test_assert_fact(m, "validation_dice", text);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)kdas_dataset_hash(s.frames));
    kd_test_assert_fact(m, "training_frames", text);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)kdas_dataset_hash(s.validation));
    kd_test_assert_fact(m, "validation_frames", text);
    ck_assert_ptr_nonnull(kdas_model_fact(m, "objective"));
    kdas_model_destroy(m);
    kd_test_train_finish(&s);
}
END_TEST

START_TEST(a_resume_restores_the_facts_but_for_the_hosts)
{
    kd_test_told t = kd_test_told_usual();
    kd_test_run  run;
    kdas_file   *file;

    t.train.epochs = 1;
    kd_test_run_whole(&t);
    kd_assert_ok(kdas_file_open(&file, kd_test_facts.ctx, kd_test_path("out/last.kdas")));
    ck_assert_int_eq(kdas_file_type(file), KDAS_FILE_CHECKPOINT);
    ck_assert_str_eq(kdas_file_network(file), "polyp_pvt_b0");
    ck_assert_str_eq(kdas_file_fact(file, "width"), "32");
    ck_assert_str_eq(kdas_file_fact(file, "version"), kdas_version_string());
    ck_assert_str_eq(kdas_file_fact(file, "epoch"), "1");
    kdas_file_destroy(file);
    t.train.resume = 1;
    kd_test_run_make(&run, &t);
    kd_assert_ok(kdas_model_set_fact(run.rig.student, "width", "64"));
    kd_assert_ok(kd_test_run_train(&run));
    kd_test_assert_fact(run.rig.student, "height", "32");
    kd_test_assert_fact(run.rig.student, "width", "64");
    kd_test_assert_fact(run.rig.student, "epoch", "1");
    kd_test_run_finish(&run);
}
END_TEST

START_TEST(a_teacher_at_another_size_is_said)
{
    kd_test_told t = kd_test_told_usual();
    kd_test_run  run;

    for (int i = 0; i < 2; i++) {
        kd_test_said[0] = 0;
        kd_test_run_make(&run, &t);
        kd_assert_ok(kdas_model_set_fact(run.rig.teacher, "height", "32"));
        kd_assert_ok(kdas_model_set_fact(run.rig.teacher, "width", i ? "96" : "32"));
        kd_assert_ok(kd_test_run_train(&run));
        ck_assert_int_eq(kd_test_said_count("W the teacher", "32x96"), i);
        ck_assert_int_eq(kd_test_said_count("W ", ""), i);
        kd_test_run_finish(&run);
    }
}
END_TEST

/* ---- run.json ---- */

/* The item at a path of keys, "data/training/hash". */
static int item(const kd_json *json, const char *path)
{
    int at = 0;

    while (*path) {
        size_t n   = strcspn(path, "/");
        int    key = kd_json_first(json, at);

        while (key && (strlen(kd_json_text(json, key)) != n ||
                       strncmp(kd_json_text(json, key), path, n) != 0))
            key = kd_json_next(json, key);
        ck_assert_msg(key, "run.json has no %s", path);
        at = kd_json_value(json, key);
        path += n + (path[n] == '/');
    }
    return at;
}

static const char *text_at(const kd_json *json, const char *path)
{
    const char *text = kd_json_text(json, item(json, path));

    ck_assert_msg(text != NULL, "%s in run.json is no text", path);
    return text;
}

START_TEST(a_manifest_stands_beside_the_checkpoint)
{
    const char  *weights = kd_test_path("odd \"name\" \xFF.safetensors");
    kd_test_told t       = kd_test_told_usual();
    kd_test_run  run;
    char        *text, hash[40];
    size_t       n;
    kd_json     *json;
    kdas_model  *m = kd_test_frozen("polyp_pvt_b0");

    kd_assert_ok(kdas_model_save(m, weights));
    kdas_model_destroy(m);
    t.train.notes = "train \"it\"\n\x80 \xC3\xA9";
    for (int i = 0; i < 2; i++) {
        kd_test_run_make(&run, &t);
        kd_assert_ok(kdas_model_load(run.rig.teacher, weights, NULL));
        kd_assert_ok(kd_test_run_train(&run));
        if (i == 0) kd_test_run_finish(&run);
        t.train.resume    = 1;
        t.train.max_steps = 3;
    }
    text = (char *)kd_test_read(kd_test_path("out/run.json"), &n);
    kd_assert_ok(kd_json_parse(&json, kd_test_facts.ctx, text, n, 1000));
    ck_assert_str_eq(text_at(json, "format"), "kdas-run");
    ck_assert_str_eq(text_at(json, "libkdas"), kdas_version_string());
    ck_assert_str_eq(text_at(json, "command"), "train \"it\"\n\xEF\xBF\xBD \xC3\xA9");
    ck_assert_str_eq(text_at(json, "seeds/run"), "5");
    ck_assert_str_eq(text_at(json, "device"), kdas_context_device(run.rig.ctx));
    ck_assert_ptr_nonnull(strstr(text_at(json, "device"), "oneDNN "));
    ck_assert_ptr_nonnull(strstr(text_at(json, "device"), "OpenBLAS "));
    ck_assert_str_eq(text_at(json, "dtype"), "f32");
    ck_assert_int_eq(kd_json_whole(json, item(json, "threads")), 2);
    ck_assert_str_eq(text_at(json, "teacher/network"), "polyp_pvt_b0");
    ck_assert_ptr_null(kd_json_text(json, item(json, "grids")));
    ck_assert_str_eq(text_at(json, "objective"), "paper");
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)kdas_dataset_hash(run.frames));
    ck_assert_str_eq(text_at(json, "data/training/hash"), hash);
    ck_assert_int_eq(kd_json_whole(json, item(json, "data/training/frames")), 4);
    ck_assert_int_eq(kd_json_whole(json, item(json, "data/validation/frames")), 2);
    ck_assert_int_eq(kd_json_whole(json, item(json, "progress/step")), 3);
    ck_assert_int_eq(strlen(text_at(json, "started")), 20);
    ck_assert_int_eq(kd_json_size(json, item(json, "weights")), 1);
    ck_assert_int_eq(kd_json_size(json, item(json, "resumes")), 1);
    free(text);
    kd_json_free(json);
    kd_test_run_finish(&run);
}
END_TEST

/* The hash is FNV-1a of 64 bits; "foobar" is of its authors' list. */
START_TEST(files_of_weights_are_hashed)
{
    kd_test_told   t    = kd_test_told_usual();
    const char    *path = kd_test_path("w.safetensors");
    uint64_t       hash = 0xCBF29CE484222325u;
    char           want[60];
    size_t         n;
    unsigned char *bytes;
    char          *text;
    kd_test_run    run;

    kd_test_run_make(&run, &t);
    kd_assert_ok(kdas_model_save(run.rig.student, path));
    kd_assert_ok(kdas_model_load(run.rig.student, path, NULL));
    bytes = kd_test_read(path, &n);
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * 0x100000001B3u;
    ck_assert(kd_hash_bytes("foobar", 6) == 0x85944171F73967E8u);
    kd_assert_ok(kd_test_run_train(&run));
    free(bytes);
    text = (char *)kd_test_read(kd_test_path("out/run.json"), &n);
    snprintf(want, sizeof want, "\"hash\": \"fnv1a64:%016llx\"", (unsigned long long)hash);
    ck_assert_ptr_nonnull(strstr(text, want));
    free(text);
    kd_test_run_finish(&run);
}
END_TEST

START_TEST(a_manifest_says_how_the_student_is_on_grids)
{
    kd_test_told t = kd_test_told_usual();
    kd_test_run  run;
    char        *text;
    size_t       n;
    kd_json     *json;

    t.rig.model.quantize  = KDAS_QUANTIZE_INT8;
    t.rig.model.wide      = "out_SAM";
    t.train.freeze_ranges = 0.5;
    kd_test_run_make(&run, &t);
    kd_assert_ok(kd_test_run_train(&run));
    text = (char *)kd_test_read(kd_test_path("out/run.json"), &n);
    ck_assert_ptr_nonnull(strstr(text, "\"freeze_ranges\": 0.5"));
    kd_assert_ok(kd_json_parse(&json, kd_test_facts.ctx, text, n, 1000));
    ck_assert_str_eq(text_at(json, "grids/quantization"), "int8");
    ck_assert_str_eq(text_at(json, "grids/wide"), "out_SAM");
    ck_assert_str_eq(text_at(json, "grids/ranges"), "moving");
    free(text);
    kd_json_free(json);
    kd_test_run_finish(&run);
}
END_TEST

/* The values are those of last.kdas: it is said, once, where another file was meant to give them. */
START_TEST(another_file_of_the_student_is_warned_of)
{
    const char  *path = kd_test_path("start.safetensors");
    kd_test_told t    = kd_test_told_usual();
    kd_test_run  run;

    for (int i = 0; i < 5;
         i++) { /* begin; the same; another; none; another, and then nobody has forgotten */
        kd_test_said[0] = 0;
        kd_test_run_make(&run, &t);
        if (i == 0) kd_assert_ok(kdas_model_save(run.rig.student, path));
        if (i == 2) kd_assert_ok(kdas_model_save(run.rig.teacher, path));
        if (i != 3) kd_assert_ok(kdas_model_load(run.rig.student, path, NULL));
        kd_assert_ok(kd_test_run_train(&run));
        ck_assert_int_eq(kd_test_said_count("W ", path), i == 2 || i == 4);
        ck_assert_int_eq(kd_test_said_count("has no effect", "last.kdas"), i == 2 || i == 4);
        kd_test_run_finish(&run);
        t.train.resume    = 1;
        t.train.max_steps = i == 0 ? 3 : 4;
    }
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("run_facts");
    TCase   *tc     = tcase_create("run_facts");
    SRunner *runner = srunner_create(suite);
    int      failed;

    kd_test_thin_networks();
    tcase_add_checked_fixture(tc, kd_test_facts_setup, kd_test_facts_teardown);
    tcase_add_loop_test(tc, a_run_tells_the_weights_all, 0, 2);
    tcase_add_test(tc, a_resume_restores_the_facts_but_for_the_hosts);
    tcase_add_test(tc, a_teacher_at_another_size_is_said);
    tcase_add_test(tc, a_manifest_stands_beside_the_checkpoint);
    tcase_add_test(tc, files_of_weights_are_hashed);
    tcase_add_test(tc, a_manifest_says_how_the_student_is_on_grids);
    tcase_add_test(tc, another_file_of_the_student_is_warned_of);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

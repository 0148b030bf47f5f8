/* check_notes.c - what a model says in the log while it is made and loaded: options without effect, and tensors of a file that
 * are left out. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "io/safetensors.h"
#include "support/check_util.h"
#include "support/facts_util.h"
#include "support/files.h"
#include "support/small_nets.h"
#include "support/told.h"

/* ---- drop path ---- */

/* What is said of a rate. */
static void try_rate(const char *network, float rate, int trainable)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.drop_path     = rate;
    o.trainable     = trainable;
    kd_test_said[0] = 0;
    kd_assert_ok(kdas_model_create(&m, kd_test_facts.ctx, network, &o));
    kdas_model_destroy(m);
}

START_TEST(a_drop_path_without_effect_is_said)
{
    static const char *const none[] = { "unet", "pranet", "pefnet", "lite_fpn0", "polyp_pvt_b0" };

    for (int i = 0; i < 3; i++) {
        try_rate(none[i], 0.3f, 1);
        ck_assert_int_eq(kd_test_said_count("W drop_path is 0.3", "no effect"), 1);
        ck_assert_int_eq(kd_test_said_count("W ", none[i]), 1);
    }
    for (int i = 3; i < 5; i++) {
        try_rate(none[i], 0.3f, 1);
        ck_assert_str_eq(kd_test_said, "");
    }
    try_rate("transnetr", 0.3f, 1); /* its dropouts */
    ck_assert_str_eq(kd_test_said, "");
}
END_TEST

START_TEST(a_drop_path_that_nobody_chose_is_not_spoken_of)
{
    try_rate("unet", 0.1f, 1); /* the default */
    ck_assert_str_eq(kd_test_said, "");
    try_rate("unet", 0, 1);
    ck_assert_str_eq(kd_test_said, "");
    try_rate("unet", 0.3f, 0); /* it never trains */
    ck_assert_str_eq(kd_test_said, "");
}
END_TEST

/* Every allocation fails once; memory is counted by the fixture. */
START_TEST(a_drop_path_is_looked_at_without_a_leak)
{
    kdas_model_options o;
    kdas_model        *m  = NULL;
    kdas_status        st = KDAS_ENOMEM;

    kdas_model_options_init(&o, sizeof o);
    o.drop_path = 0.3f;
    for (long k = 1; st != KDAS_OK; k += 7) {
        kd_test_facts.meter.fail_at = kd_test_facts.meter.taken + k;
        st                          = kdas_model_create(&m, kd_test_facts.ctx, "colonsegnet", &o);
        ck_assert(st == KDAS_OK || st == KDAS_ENOMEM);
        ck_assert(st == KDAS_OK || !m);
    }
    kd_test_facts.meter.fail_at = 0;
    kdas_model_destroy(m);
}
END_TEST

/* ---- idle tensors of another shape ---- */

/* Write the tensors of a model; `less`: those that no op reads with one row less. */
static void write_file(const char *path, const kdas_model *m, bool less)
{
    int64_t       dims[4];
    int32_t       rank, trains;
    kd_st_writer *w;
    float *values = calloc((size_t)kdas_model_parameters(m) + 256, sizeof *values), *at = values;

    kd_assert_ok(kd_st_writer_create(&w, kd_test_facts.ctx));
    for (int i = 0; i < kdas_model_tensors(m); i++) {
        const char *name = kdas_model_tensor(m, i, &rank, dims, &trains);
        int64_t     n    = 1;

        for (int32_t k = 0; k < rank; k++)
            n *= dims[k];
        kd_assert_ok(kdas_model_read(m, i, at));
        if (less && kdas_model_idle(m, i) && rank) dims[0]--;
        kd_assert_ok(kd_st_writer_put(w, name, KD_ST_F32, rank, dims, at));
        at += n;
    }
    kd_assert_ok(kd_st_writer_save(w, path, false));
    kd_st_writer_destroy(w);
    free(values);
}

/* A network with layers that no op reads. */
static kdas_model *make_idle(uint64_t seed)
{
    static kd_model_def def; /* outlives the model */
    kdas_model_options  o;
    kdas_model         *m;

    def = kd_test_small_def("small", KD_TEST_SMALL(1, KD_TEST_USUAL_STRIDES), &kd_rules_common);
    kdas_model_options_init(&o, sizeof o);
    o.seed = seed;
    kd_assert_ok(kd_model_create(&m, kd_test_facts.ctx, &def, &o));
    return m;
}

/* How many tensors of two models have the same bits, of those that are read, or are not. */
static int count_same(const kdas_model *a, const kdas_model *b, bool idle)
{
    static float values[2][4096];
    int          same = 0;

    for (int i = 0; i < kdas_model_tensors(a); i++) {
        if (kdas_model_idle(a, i) != idle) continue;
        memset(values, 0, sizeof values);
        kd_assert_ok(kdas_model_read(a, i, values[0]));
        kd_assert_ok(kdas_model_read(b, i, values[1]));
        same += kd_test_same_bits(values[0], values[1], sizeof values[0]);
    }
    return same;
}

static int count(const kdas_model *m, bool idle)
{
    int n = 0;

    for (int i = 0; i < kdas_model_tensors(m); i++)
        n += kdas_model_idle(m, i) == idle;
    return n;
}

START_TEST(an_idle_tensor_of_another_shape_keeps_its_values)
{
    const char *path = kd_test_path("less.safetensors"), *again = kd_test_path("again.safetensors");
    kdas_model *from = make_idle(1), *to = make_idle(2), *before = make_idle(2),
               *third = make_idle(3);

    write_file(path, from, true);
    kd_assert_ok(kdas_model_load(to, path, NULL));
    ck_assert_int_eq(kd_test_said_count("I '", "'unused.bn.bias' and 4 more have other shapes"), 1);
    ck_assert_int_eq(count_same(to, from, false), count(from, false));
    ck_assert_int_eq(count_same(to, before, true), count(from, true));
    ck_assert_int_lt(count_same(to, from, true), count(from, true));
    ck_assert_str_eq(kdas_model_source(to, 0), path);
    kd_assert_ok(kdas_model_save(to, again)); /* in the network's own shapes */
    kd_test_said[0] = 0;
    kd_assert_ok(kdas_model_load(third, again, NULL));
    ck_assert_str_eq(kd_test_said, "");
    ck_assert_int_eq(count_same(third, to, true), count(from, true));
    kdas_model_destroy(from);
    kdas_model_destroy(to);
    kdas_model_destroy(before);
    kdas_model_destroy(third);
}
END_TEST

START_TEST(an_idle_tensor_of_the_same_shape_is_loaded_without_a_word)
{
    const char *path = kd_test_path("same.safetensors");
    kdas_model *from = make_idle(1), *to = make_idle(2);

    write_file(path, from, false);
    kd_assert_ok(kdas_model_load(to, path, NULL));
    ck_assert_str_eq(kd_test_said, "");
    ck_assert_int_eq(count_same(to, from, true), count(from, true));
    kdas_model_destroy(from);
    kdas_model_destroy(to);
}
END_TEST

START_TEST(a_part_of_idle_tensors_of_other_shapes_is_none)
{
    const char       *path = kd_test_path("less.safetensors");
    kdas_model       *from = make_idle(1), *to = make_idle(2);
    kdas_load_options o;

    write_file(path, from, true);
    kdas_load_options_init(&o, sizeof o);
    o.part = "unused.conv.";
    kd_assert_status(kdas_model_load(to, path, &o), KDAS_ENOTFOUND);
    ck_assert_str_eq(kd_test_said, "");
    kdas_model_destroy(from);
    kdas_model_destroy(to);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("notes");
    TCase   *drop = tcase_create("drop"), *idle = tcase_create("idle");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(drop, kd_test_facts_setup, kd_test_facts_teardown);
    tcase_add_test(drop, a_drop_path_without_effect_is_said);
    tcase_add_test(drop, a_drop_path_that_nobody_chose_is_not_spoken_of);
    tcase_add_test(drop, a_drop_path_is_looked_at_without_a_leak);
    tcase_add_checked_fixture(idle, kd_test_facts_setup, kd_test_facts_teardown);
    tcase_add_test(idle, an_idle_tensor_of_another_shape_keeps_its_values);
    tcase_add_test(idle, an_idle_tensor_of_the_same_shape_is_loaded_without_a_word);
    tcase_add_test(idle, a_part_of_idle_tensors_of_other_shapes_is_none);
    suite_add_tcase(suite, drop);
    suite_add_tcase(suite, idle);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

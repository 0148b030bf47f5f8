/* check_zoo.c - networks against the code of their publishers: the tensors, files and outputs. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>
#include "model/model.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/pth.h"
#include "support/run_util.h"
#include "support/zoo_golden.h"

static kdas_context *context_of(kdas_precision precision)
{
    kdas_context_options o;
    kdas_context        *ctx;

    kdas_context_options_init(&o, sizeof o);
    o.device    = "cpu";
    o.threads   = 2;
    o.precision = precision;
    kd_assert_ok(kdas_context_create(&ctx, &o));
    return ctx;
}

static kdas_model *make(kdas_context *ctx, const char *name, bool trainable)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.drop_path = 0;
    o.trainable = trainable;
    kd_assert_ok(kdas_model_create(&m, ctx, name, &o));
    return m;
}

/* ---- Tensors ---- */

static char kind_of(const kd_param_entry *e)
{
    switch (e->init.kind) {
    case KD_TRAINABLE: return 'p';
    case KD_IDLE: return 'i';
    case KD_COUNTER: return 'c';
    default: return 'b';
    }
}

START_TEST(tensors_are_those_of_the_published_state_dict)
{
    const kd_zoo_network *network = &kd_zoo_networks[_i];
    kdas_context         *ctx     = kd_test_device("cpu", NULL);
    kdas_model           *m       = make(ctx, network->name, false);
    int                   keys;
    kd_zoo_key           *key = kd_zoo_read_keys(network->name, &keys);

    for (int k = 0; k < keys; k++) {
        int32_t               i = kdas_model_find(m, key[k].name);
        const kd_param_entry *e;

        ck_assert_msg(i >= 0, "%s lacks %s", network->name, key[k].name);
        e = kd_params_at(m->params, i);
        ck_assert_msg(e->rank == key[k].rank && memcmp(e->dim, key[k].dim, sizeof e->dim) == 0,
                      "%s has another shape", key[k].name);
        ck_assert_msg(kind_of(e) == key[k].kind, "%s is '%c', not '%c'", key[k].name, kind_of(e),
                      key[k].kind);
    }
    for (int32_t i = 0; i < kdas_model_tensors(m); i++) { /* and no others */
        const char *name = kdas_model_tensor(m, i, NULL, NULL, NULL);
        int         k    = 0;

        while (k < keys && strcmp(key[k].name, name) != 0)
            k++;
        ck_assert_msg(k < keys, "%s is not in the state_dict", name);
    }
    ck_assert_int_eq(keys, kdas_model_tensors(m));
    ck_assert_int_eq(kdas_model_parameters(m), network->parameters);
    free(key);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- Files ---- */

static float value_in_file(int k) { return 1 + (float)k / 1024; }

static void write_file(const kd_zoo_key *key, int keys)
{
    kd_test_pth p;

    kd_test_pth_begin_zip(&p);
    for (int k = 0; k < keys; k++)
        if (key[k].kind == 'c')
            kd_test_pth_put_count(&p, key[k].name, 7);
        else
            kd_test_pth_put(&p, key[k].name, key[k].rank, key[k].dim, value_in_file(k));
    kd_test_pth_end(&p, kd_test_path("published.pth"));
}

START_TEST(a_file_of_the_published_code_loads)
{
    const kd_zoo_network *network = &kd_zoo_networks[_i];
    kdas_context         *ctx     = kd_test_device("cpu", NULL);
    kdas_model           *m       = make(ctx, network->name, false);
    int                   keys;
    kd_zoo_key           *key = kd_zoo_read_keys(network->name, &keys);

    kd_test_folder_make();
    write_file(key, keys);
    kd_assert_ok(kdas_model_load(m, kd_test_path("published.pth"), NULL));
    for (int k = 0; k < keys; k++) {
        float *v    = malloc((size_t)key[k].count * sizeof *v);
        float  want = key[k].kind == 'c' ? 7 : value_in_file(k);

        kd_assert_ok(kdas_model_read(m, kdas_model_find(m, key[k].name), v));
        for (int64_t i = 0; i < key[k].count; i++)
            ck_assert_msg(v[i] == want, "%s: element %lld is %g, not %g", key[k].name, (long long)i,
                          (double)v[i], (double)want);
        free(v);
    }
    free(key);
    kd_test_folder_remove();
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- Outputs ---- */

START_TEST(outputs_equal_those_of_the_published_code)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kdas_model   *m   = make(ctx, kd_zoo_networks[_i].name, true);

    kd_zoo_fill(m);
    kd_zoo_compare(m, false, KDAS_MODE_INFER);
    kd_zoo_compare(m, false, KDAS_MODE_EVAL);
    kd_zoo_compare(m, true, KDAS_MODE_EVAL); /* last, since it moves the running statistics */
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(in_bf16_outputs_are_near_those_of_the_published_code)
{
    kdas_context *ctx;
    kdas_model   *m;

    if (!kd_test_can_half()) return;
    ctx = context_of(KDAS_PRECISION_BF16);
    m   = make(ctx, kd_zoo_networks[_i].name, false);
    kd_zoo_fill(m);
    kd_zoo_compare(m, false, KDAS_MODE_INFER);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite   *suite   = suite_create("zoo");
    TCase   *tensors = tcase_create("tensors"), *outputs = tcase_create("outputs");
    SRunner *runner;
    int      failed, networks = 0;

    while (kd_zoo_networks[networks].name)
        networks++;
    tcase_add_loop_test(tensors, tensors_are_those_of_the_published_state_dict, 0, networks);
    tcase_add_loop_test(tensors, a_file_of_the_published_code_loads, 0, networks);
    suite_add_tcase(suite, tensors);
    tcase_add_loop_test(outputs, outputs_equal_those_of_the_published_code, 0, networks);
    tcase_add_loop_test(outputs, in_bf16_outputs_are_near_those_of_the_published_code, 0, networks);
    suite_add_tcase(suite, outputs);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

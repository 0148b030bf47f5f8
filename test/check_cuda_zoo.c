/* check_cuda_zoo.c - published networks on the CUDA plug-in, against their publishers' outputs. On a card
 * (KDAS_TEST_CUDA) all of them; on the emulation those that take seconds there, or all with
 * KDAS_TEST_ALL_NETWORKS=1, or one with KDAS_TEST_ALL_NETWORKS=NAME. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/cuda_util.h"
#include "support/run_util.h"
#include "support/zoo_golden.h"

static bool is_quick(const char *name)
{
    static const char *const quick[] = { "unet", "colonsegnet" };

    for (size_t i = 0; i < sizeof quick / sizeof *quick; i++)
        if (strcmp(name, quick[i]) == 0) return true;
    return false;
}

START_TEST(outputs_equal_those_of_the_published_code)
{
    const char   *name = kd_zoo_networks[_i].name;
    kdas_context *ctx;
    kdas_model   *m;

    kd_test_cuda_path();
    ctx = kd_test_device("cuda", NULL);
    kd_assert_ok(kdas_model_create(&m, ctx, name, NULL));
    kd_zoo_fill(m);
    kd_zoo_compare(m, false, KDAS_MODE_INFER);
    kd_zoo_compare(m, true, KDAS_MODE_INFER); /* last, since it moves the running statistics */
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

int main(int argc, char **argv)
{
    Suite   *suite = suite_create("cuda_zoo");
    TCase   *all   = tcase_create("outputs");
    SRunner *runner;
    char    *named = getenv("KDAS_TEST_ALL_NETWORKS"); /* or "1" */
    bool     every = getenv("KDAS_TEST_CUDA") || (named && strcmp(named, "1") == 0);
    int      failed;

    (void)argc;
    kd_test_cuda_wait_passively(argv);
    for (int i = 0; kd_zoo_networks[i].name; i++)
        if (every || (named ? strcmp(named, kd_zoo_networks[i].name) == 0
                            : is_quick(kd_zoo_networks[i].name)))
            tcase_add_loop_test(all, outputs_equal_those_of_the_published_code, i, i + 1);
    tcase_set_timeout(all, 3600);
    suite_add_tcase(suite, all);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* cuda_util.c - see cuda_util.h. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/registry.h"
#include "support/check_util.h"
#include "support/cpu_util.h"
#include "support/cuda_util.h"

const kdas_backend *kd_test_cuda(void)
{
    static const kdas_backend *table;
    void                      *library;

    if (table) return table;
    setenv("KDAS_BACKEND_PATH", kd_test_cuda_folder(), 1);
    kd_assert_ok(kd_backend_find(&table, &library, "cuda"));
    return table;
}

const char *kd_test_cuda_folder(void)
{
    const char *folder = getenv("KDAS_TEST_CUDA");

    return folder && *folder ? folder : KD_EMULATED;
}

bool kd_test_cuda_emulated(void) { return !strcmp(kd_test_cuda_folder(), KD_EMULATED); }

kdas_device *kd_test_cuda_open(int index)
{
    kdas_device_options options = {
        .size = sizeof options, .index = index, .threads = 1, .deterministic = 1
    };
    kdas_device *device;

    kd_assert_ok(kd_test_cuda()->open(&device, &kd_test_cpu_host, &options));
    return device;
}

const kdas_kernel *kd_test_cuda_kernel(const kd_op_case *test, int nth)
{
    for (const kdas_kernel *k = kd_test_cuda()->kernels; k->op; k++)
        if (k->op == test->op && nth-- == 0) return k;
    return NULL;
}

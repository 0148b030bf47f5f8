/* cuda_util.c - see cuda_util.h. */
#define _GNU_SOURCE
#include <check.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backend/registry.h"
#include "support/check_util.h"
#include "support/cpu_util.h"
#include "support/cuda_shapes.h"
#include "support/cuda_util.h"

const kdas_backend *kd_test_cuda(void)
{
    static const kdas_backend *table;
    static kd_plugin           plugin;

    if (table) return table;
    kd_test_cuda_path();
    kd_assert_ok(kd_backend_find(&table, &plugin, "cuda", NULL));
    return table;
}

const char *kd_test_cuda_folder(void)
{
    const char *folder = getenv("KDAS_TEST_CUDA");

    return folder && *folder ? folder : KD_EMULATED;
}

bool kd_test_cuda_emulated(void) { return !strcmp(kd_test_cuda_folder(), KD_EMULATED); }

void kd_test_cuda_path(void) { setenv("KDAS_BACKEND_PATH", kd_test_cuda_folder(), 1); }

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

/* ---- cases ---- */

#define FLAT(n)                                                \
    {                                                          \
        .desc = { KDAS_F32, 1, { n, 1, 1, 1 } }, .scale = 0.5f \
    }
/* Values that are there for their square root. */
#define FLAT_POSITIVE(n)                                                        \
    {                                                                           \
        .desc = { KDAS_F32, 1, { n, 1, 1, 1 } }, .scale = 0.01f, .shift = 0.02f \
    }

static const kd_op_case cuda_cases[] = {
    { .name  = "bce of more chunks than a block has threads",
      .op    = KDAS_OP_BCE,
      .wants = 1,
      .in    = { KD_TEST_OPERAND(1, 725, 725, 1), KD_TEST_OPERAND(1, 725, 725, 1) } },
    { .name         = "overlap of several chunks and images, weighted",
      .op           = KDAS_OP_OVERLAP,
      .wants        = 1,
      .attr.overlap = { 1, 1 },
      .in           = { KD_TEST_OPERAND(3, 47, 53, 2),
                        { .desc = { KDAS_F32, 4, { 3, 47, 53, 2 } }, .values = KD_VALUES_BINARY, .scale = 1 },
                        { .desc = { KDAS_F32, 4, { 3, 47, 53, 2 } }, .scale = 1, .shift = 3 } } },
    { .name    = "kl of more chunks than a block has threads",
      .op      = KDAS_OP_KL,
      .wants   = 1,
      .attr.kl = { 2 },
      .in      = { KD_TEST_OPERAND(1, 725, 725, 1), KD_TEST_OPERAND(1, 725, 725, 1) } },
    { .name  = "square_error of several chunks and images",
      .op    = KDAS_OP_SQUARE_ERROR,
      .wants = 1,
      .in    = { KD_TEST_OPERAND(3, 33, 65, 3), KD_TEST_OPERAND(3, 33, 65, 3) } },
    { .name          = "boundary of rows longer than a block",
      .op            = KDAS_OP_BOUNDARY,
      .attr.boundary = { 31, 5 },
      .in            = { KD_TEST_OPERAND(2, 35, 300, 1) } },
    { .name          = "boundary of neighbours in shared memory to its end",
      .op            = KDAS_OP_BOUNDARY,
      .attr.boundary = { 33, 5 },
      .in            = { KD_TEST_OPERAND(1, 18, 40, 16) } },
    { .name          = "boundary of neighbours past shared memory",
      .op            = KDAS_OP_BOUNDARY,
      .attr.boundary = { 31, 5 },
      .in            = { KD_TEST_OPERAND(2, 20, 43, 20) } },
    { .name          = "boundary larger than the image by far",
      .op            = KDAS_OP_BOUNDARY,
      .attr.boundary = { 1001, 500 },
      .in            = { KD_TEST_OPERAND(2, 33, 21, 1) } },
    { .name       = "adamw past the grid",
      .op         = KDAS_OP_ADAMW,
      .state      = 13,
      .attr.adamw = { 1e-2f, 0.9f, 0.999f, 1e-8f, 0.01f, 0.5f, 0.2f, 9 },
      .in         = { FLAT(40007), FLAT(40007), FLAT(40007), FLAT_POSITIVE(40007) } },
    { .name     = "sgd past the grid",
      .op       = KDAS_OP_SGD,
      .state    = 5,
      .attr.sgd = { 0.05f, 0.9f, 5e-4f, 0.5f, 0, 1, 9 },
      .in       = { FLAT(40007), FLAT(40007), FLAT(40007) } },
    { .name       = "axpy past the grid",
      .op         = KDAS_OP_AXPY,
      .state      = 1,
      .attr.scale = { -0.75f, 0 },
      .in         = { FLAT(40007), FLAT(40007) } },
    { .name       = "lerp past the grid",
      .op         = KDAS_OP_LERP,
      .state      = 1,
      .attr.scale = { 0.25f, 0 },
      .in         = { FLAT(40007), FLAT(40007) } },
    { .name      = "sum_squares of more than a short run for each thread",
      .op        = KDAS_OP_SUM_SQUARES,
      .tolerance = 1e-6,
      .in        = { FLAT(4200003) } },
};

int kd_test_cuda_cases(void)
{
    return kd_test_cpu_cases() + kd_test_cuda_shape_count + (int)KD_COUNT(cuda_cases);
}

const kd_op_case *kd_test_cuda_case(int i)
{
    if (i < kd_test_cpu_cases()) return kd_test_cpu_case(i);
    i -= kd_test_cpu_cases();
    if (i < kd_test_cuda_shape_count) return &kd_test_cuda_shapes[i];
    return &cuda_cases[i - kd_test_cuda_shape_count];
}

/* ---- the emulation's own functions ---- */

static void find(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);

    ck_assert_msg(symbol != NULL, "the emulated plug-in has no %s", name);
    memcpy(function, &symbol, sizeof symbol);
}

const kd_test_emulator *kd_test_emulated(void)
{
    static kd_test_emulator it;
    char                    path[4096];
    void                   *library;

    if (!kd_test_cuda_emulated()) {
        printf("SKIP: this is a real card, which is not told to fail\n");
        return NULL;
    }
    if (it.set) return &it;
    snprintf(path, sizeof path, "%s/libkdas-cuda.so", kd_test_cuda_folder());
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(library != NULL, "%s", dlerror());
    find(library, "kd_emulator_used_bytes", &it.used_bytes);
    find(library, "kd_emulator_streams", &it.streams);
    find(library, "kd_emulator_events", &it.events);
    find(library, "kd_emulator_graphs", &it.graphs);
    find(library, "kd_emulator_host_blocks", &it.host_blocks);
    find(library, "kd_emulator_handles", &it.handles);
    find(library, "kd_emulator_launches", &it.launches);
    find(library, "kd_emulator_allocations", &it.allocations);
    find(library, "kd_emulator_set", &it.set);
    return &it;
}

void kd_test_emulator_assert_empty(const kd_test_emulator *emulator)
{
    ck_assert_uint_eq(emulator->used_bytes(), 0);
    ck_assert_int_eq(emulator->streams(), 0);
    ck_assert_int_eq(emulator->events(), 0);
    ck_assert_int_eq(emulator->graphs(), 0);
    ck_assert_int_eq(emulator->host_blocks(), 0);
    ck_assert_int_eq(emulator->handles(), 0);
}

void kd_test_cuda_wait_passively(char **argv)
{
    if (getenv("OMP_WAIT_POLICY")) return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv);
}

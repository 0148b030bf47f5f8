/* check_amx.c - the kernels in bf16 on AMX tiles (check_int8.c has those of integers), on any CPU with AVX2: compiled with the
 * instructions of tiles and of AVX-512 in C (simd/amx.h, simd/avx512.h), they are compared with the reference and with the copy without tiles; and the
 * trial that a machine's own tiles have to stand. The real instructions are in the library alone, where
 * check_kernels runs them if the CPU has them. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/cpu_util.h"

extern const kd_cpu_code kd_code_emulated_bf16, kd_code_emulated_vnni, kd_code_emulated_amx,
    kd_code_emulated_amx_int8;
atomic_long              kd_tile_products; /* counted by the emulation */

/* A device whose products in bf16 are those of the emulated tiles; NULL, with a line, where the rest of them
 * cannot run. */
static kdas_device *emulated(int threads)
{
    kdas_device *device = kd_test_cpu_open(NULL, threads);

    if (device->code != &kd_code_plain) {
        device->half = &kd_code_emulated_amx;
        return device;
    }
    kd_backend_cpu.close(device);
    printf("SKIP: this CPU has no AVX2\n");
    return NULL;
}

/* ---- every op that has a copy for bf16 ---- */

START_TEST(with_tiles_it_follows_the_reference)
{
    const kd_op_case *test = kd_test_cpu_case(_i);

    if (!kd_test_cpu_half_kernel(test)) return;
    if (kd_test_cpu_by_onednn(test)) return;
    for (int threads = 1; threads <= 3; threads++) {
        kdas_device *device = emulated(threads);

        if (!device) return;
        if (threads == 3) device->large = 0; /* every output is written past the caches */
        kd_test_cpu_compare_half(test, device);
        kd_backend_cpu.close(device);
    }
}
END_TEST

/* ---- products of every shape ---- */

/* Around what a tile, a block, a panel and a step hold; the last two reach past a block of rows and past what
 * is summed at a time. */
static const int64_t row_counts[]    = { 15, 16, 17, 31, 32, 33, 47, 49, 64, 65, 300, 531 };
static const int64_t depths[]        = { 14, 16, 18, 30, 32, 33, 34, 62, 64, 66, 95, 100 };
static const int64_t column_counts[] = { 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65 };
enum { COUNTS = 12 };

static kd_op_case linear_of(int64_t rows, int64_t in, int64_t out)
{
    return (kd_op_case){ .name  = "linear",
                         .op    = KDAS_OP_LINEAR,
                         .wants = 7,
                         .in = { KD_TEST_OPERAND(1, 1, rows, in), KD_TEST_WEIGHT(2, out, in, 1, 1),
                                 KD_TEST_WEIGHT(1, out, 1, 1, 1) } };
}

/* -1, 0 or 1: products of these are exact, and so are their sums in any order. */
static void fill_whole(float *values, int64_t n, const char *name)
{
    kd_test_fill(values, n, name, 1.5, 0);
    for (int64_t i = 0; i < n; i++)
        values[i] = rintf(values[i] * 0.999f);
}

/* A whole step of a linear layer in whole numbers. */
static void step_in_whole_numbers(kd_op_run *run, const kd_op_case *test, const kdas_kernel *kernel,
                                  const kd_op_place *place, const kd_op_options *options)
{
    int64_t rows = test->in[0].desc.dim[2], in = test->in[0].desc.dim[3],
            out = test->in[1].desc.dim[0];

    kd_assert_ok(kd_op_open(run, test, kernel, place, options));
    ck_assert(run->supported);
    fill_whole(run->in[0], rows * in, "x");
    fill_whole(run->in[1], in * out, "w");
    fill_whole(run->in[2], out, "b");
    fill_whole(run->dout, rows * out, "dy");
    kd_assert_ok(kd_op_forward(run));
    kd_assert_ok(kd_op_backward(run));
}

/* Nothing is left out, and nothing counted twice, wherever rows, columns and depth end: the bits are those of
 * the reference. */
START_TEST(whole_numbers_come_out_exactly)
{
    kd_op_options options = { .half = KDAS_BF16 };
    kdas_device  *device  = emulated(1 + _i % 2);

    if (!device) return;
    for (int j = 0; j < COUNTS; j++) {
        kd_op_case test = linear_of(row_counts[_i / COUNTS], depths[_i % COUNTS], column_counts[j]);
        kd_op_place place = { &kd_backend_cpu, device };
        kd_op_run   got, want;
        char        why[256];
        long        before = kd_tile_products;

        device->large = j % 3 ? SIZE_MAX : 0;
        step_in_whole_numbers(&got, &test, kd_test_cpu_half_kernel(&test), &place, &options);
        step_in_whole_numbers(&want, &test, NULL, NULL, &options);
        ck_assert_msg(kd_op_same(&got, &want, -1, why, sizeof why), "%d x %d x %d: %s",
                      (int)row_counts[_i / COUNTS], (int)depths[_i % COUNTS], (int)column_counts[j],
                      why);
        if (row_counts[_i / COUNTS] / device->threads >= 16 && depths[_i % COUNTS] >= 16 &&
            depths[_i % COUNTS] % 2 == 0)
            ck_assert_int_gt(kd_tile_products, before);
        kd_op_close(&got);
        kd_op_close(&want);
    }
    kd_backend_cpu.close(device);
}
END_TEST

/* Tiles serve each product of a layer: forward, and both gradients. What is counted are all of them, one for
 * 16 rows, 16 columns and 32 of depth. */
START_TEST(all_three_products_are_made_by_tiles)
{
    kd_op_case    test    = linear_of(64, 32, 96);
    kd_op_options options = { .half = KDAS_BF16 };
    kdas_device  *device  = emulated(1);
    kd_op_place   place   = { &kd_backend_cpu, device };
    kd_op_run     run;
    long          before = kd_tile_products;

    if (!device) return;
    kd_assert_ok(kd_op_open(&run, &test, kd_test_cpu_half_kernel(&test), &place, &options));
    kd_assert_ok(kd_op_forward(&run));
    ck_assert_int_eq(kd_tile_products - before, 64 / 16 * (96 / 16));
    kd_assert_ok(kd_op_backward(&run));
    ck_assert_int_eq(kd_tile_products - before,
                     24 + 64 / 16 * (32 / 16) * (96 / 32) + 96 / 16 * (32 / 16) * (64 / 32));
    kd_op_close(&run);
    kd_backend_cpu.close(device);
}
END_TEST

/* Rows that are computed twice, units that are through already: a NaN goes nowhere but where it belongs. */
START_TEST(a_nan_stays_in_its_row)
{
    enum { ROWS = 53, IN = 38, OUT = 40 };
    kd_op_case    test    = linear_of(ROWS, IN, OUT);
    kd_op_options options = { .half = KDAS_BF16, .forward_only = true };
    kdas_device  *device  = emulated(1);
    kd_op_place   place   = { &kd_backend_cpu, device };
    kd_op_run     run;

    if (!device) return;
    kd_assert_ok(kd_op_open(&run, &test, kd_test_cpu_half_kernel(&test), &place, &options));
    for (int row = 0; row < ROWS; row++) {
        float was = run.in[0][row * IN + row % IN];

        run.in[0][row * IN + row % IN] = NAN;
        kd_assert_ok(kd_op_forward(&run));
        for (int i = 0; i < ROWS * OUT; i++)
            ck_assert_msg(!isnan(((float *)run.out)[i]) == (i / OUT != row), "row %d of %d",
                          i / OUT, row);
        run.in[0][row * IN + row % IN] = was;
    }
    kd_op_close(&run);
    kd_backend_cpu.close(device);
}
END_TEST

START_TEST(gives_the_same_bits_again)
{
    const kd_op_case *test    = kd_test_cpu_case(_i);
    kd_op_options     options = { .half = KDAS_BF16, .seed = 17 };

    if (!kd_test_cpu_half_kernel(test)) return;
    if (kd_test_cpu_by_onednn(test)) return;
    for (int threads = 1; threads <= 3; threads++) {
        kdas_device *device = emulated(threads);
        kd_op_place  place  = { &kd_backend_cpu, device };
        kd_op_run    run[2];

        if (!device) return;
        for (int i = 0; i < 2; i++)
            kd_assert_ok(
                kd_op_run_case(&run[i], test, kd_test_cpu_half_kernel(test), &place, &options));
        kd_test_cpu_assert_same(&run[1], &run[0], -1, "emulated tiles", threads, &options);
        kd_op_close(&run[0]);
        kd_op_close(&run[1]);
        kd_backend_cpu.close(device);
    }
}
END_TEST

/* ---- the trial ---- */

static char last_log[256];
static int  warnings;

static void keep_warning(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    if (level == KDAS_LOG_WARN) warnings++;
    snprintf(last_log, sizeof last_log, "%s", text);
}

/* A linear layer as a processor might have it that is broken: one sum of forward, or one of backward, is lost. */
static kdas_status lossy_forward(kdas_device *device, const kdas_call *call)
{
    kdas_status st = kd_code_emulated_amx[KDAS_OP_LINEAR]->forward(device, call);

    ((uint16_t *)call->out)[44 * 51 + 50] = 0;
    return st;
}

static kdas_status lossy_backward(kdas_device *device, const kdas_call *call)
{
    kdas_status st = kd_code_emulated_amx[KDAS_OP_LINEAR]->backward(device, call);

    ((float *)call->din[1])[50 * 74 + 73] = 0;
    return st;
}

static kdas_status nan_backward(kdas_device *device, const kdas_call *call)
{
    kdas_status st = kd_code_emulated_amx[KDAS_OP_LINEAR]->backward(device, call);

    ((float *)call->din[1])[0] = NAN;
    return st;
}

static kdas_status lossy_integers(kdas_device *device, const kdas_call *call)
{
    kdas_status st = kd_code_emulated_amx_int8[KDAS_OP_LINEAR]->forward(device, call);

    ((uint32_t *)call->out)[44 * 51 + 50] ^= 1;
    return st;
}

/* What is tried: a table with the linear layer as it should be, or broken; what it is compared with; what is said. */
typedef kdas_status step(kdas_device *device, const kdas_call *call);
typedef struct attempt {
    const kd_cpu_trial *trial;
    const kd_cpu_code  *emulated, *known;
    step               *forward, *backward; /* NULL: as they should be */
    const char         *warning;            /* NULL: it agrees         */
} attempt;
static const attempt attempts[] = {
#define BF16  &kd_cpu_trial_bf16, &kd_code_emulated_amx, &kd_code_emulated_bf16
#define INT8  &kd_cpu_trial_int8, &kd_code_emulated_amx_int8, &kd_code_emulated_vnni
#define WRONG "tiles (AMX) of this machine give wrong results with "
    { BF16, NULL, NULL, NULL },
    { BF16, lossy_forward, NULL, WRONG "bf16" },
    { BF16, NULL, lossy_backward, WRONG "bf16" },
    { BF16, NULL, nan_backward, WRONG "bf16" },
    { INT8, NULL, NULL, NULL },
    { INT8, lossy_integers, NULL, WRONG "8-bit integers" },
};

/* The table that is tried; NULL: this CPU cannot run it. */
static const kd_cpu_code *table_of(const attempt *a)
{
    static kd_cpu_kernel        linear;
    static const kd_cpu_kernel *table[KD_CPU_OPS];
    kdas_device                *device = emulated(1);

    if (!device) return NULL;
    kd_backend_cpu.close(device);
    linear = *(*a->emulated)[KDAS_OP_LINEAR];
    if (a->forward) linear.forward = a->forward;
    if (a->backward) linear.backward = a->backward;
    table[KDAS_OP_LINEAR] = &linear;
    return (const kd_cpu_code *)&table;
}

START_TEST(tiles_that_give_other_results_are_not_used)
{
    const attempt     *a       = &attempts[_i];
    const kd_cpu_code *tried   = table_of(a), *code;
    kdas_host          host    = kd_test_cpu_host;
    kd_cpu_verdict     verdict = 0;

    if (!tried) return;
    host.log = keep_warning;
    for (int again = 0; again < 2; again++) {
        long before = kd_tile_products;

        kd_assert_ok(kd_cpu_trusted(&code, &host, a->trial, &verdict, tried, a->known));
        ck_assert_ptr_eq(code, a->warning ? a->known : tried);
        ck_assert_int_eq(verdict, a->warning ? -1 : 1);
        ck_assert_int_eq(warnings, a->warning ? again + 1 : 0);
        if (a->warning) ck_assert_ptr_nonnull(strstr(last_log, a->warning));
        ck_assert_int_eq(kd_tile_products > before, !again); /* it is tried once */
    }
    ck_assert_int_eq(kd_test_cpu_blocks, 0);
}
END_TEST

START_TEST(a_trial_without_memory_is_none)
{
    const attempt     *a       = &attempts[_i ? 4 : 0]; /* of bf16, of integers */
    const kd_cpu_code *tried   = table_of(a), *code;
    kd_cpu_verdict     verdict = 0;
    kdas_status        st      = KDAS_ENOMEM;
    int                k;

    if (!tried) return;
    for (k = 0; st != KDAS_OK; k++) {
        kd_test_cpu_allocations = k;
        st = kd_cpu_trusted(&code, &kd_test_cpu_host, a->trial, &verdict, tried, a->known);
        kd_test_cpu_allocations = -1;
        ck_assert_int_eq(kd_test_cpu_blocks, 0);
        ck_assert_int_eq(verdict, st == KDAS_OK);
        if (st != KDAS_OK) kd_assert_sentence("memory");
        if (st != KDAS_OK) ck_assert_int_eq(st, KDAS_ENOMEM);
        ck_assert_ptr_eq(code, st == KDAS_OK ? tried : a->known);
    }
    ck_assert_int_eq(k, 4); /* operands, and work for each of the two */
}
END_TEST

static Suite *amx_suite(void)
{
    Suite *suite = suite_create("amx");
    TCase *t     = tcase_create("emulated");

    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, with_tiles_it_follows_the_reference, 0, kd_test_cpu_cases());
    tcase_add_loop_test(t, gives_the_same_bits_again, 0, kd_test_cpu_cases());
    tcase_add_loop_test(t, whole_numbers_come_out_exactly, 0, COUNTS * COUNTS);
    tcase_add_test(t, all_three_products_are_made_by_tiles);
    tcase_add_test(t, a_nan_stays_in_its_row);
    suite_add_tcase(suite, t);

    t = tcase_create("trial");
    tcase_add_loop_test(t, tiles_that_give_other_results_are_not_used, 0, KD_COUNT(attempts));
    tcase_add_loop_test(t, a_trial_without_memory_is_none, 0, 2);
    suite_add_tcase(suite, t);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(amx_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

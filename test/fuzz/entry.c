/* entry.c - libFuzzer's functions for one target, KD_FUZZ_TARGET. With KD_FUZZ_SEEDS=DIR it only writes the target's
 * seeds there. */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "fuzz/fuzz.h"
#include "support/files.h"

int    LLVMFuzzerInitialize(int *argc, char ***argv);
int    LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

/* Check's assertions end the process, so that libFuzzer keeps the input; its library is not linked. */
void _mark_point(const char *file, int line) { (void)file, (void)line; }

void _ck_assert_failed(const char *file, int line, const char *claim, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s:%d: %s: ", file, line, claim);
    va_start(args, format);
    if (format) vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nlast error: %s\n", kdas_last_error());
    abort();
}

static void write_seed(const char *name, const uint8_t *data, size_t size)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", getenv("KD_FUZZ_SEEDS"), name);
    kd_test_write(path, data, size);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    if (!getenv("KD_FUZZ_SEEDS")) return 0;
    kd_fuzz_keep_seed = write_seed;
    if (KD_FUZZ_TARGET.seeds) KD_FUZZ_TARGET.seeds();
    exit(0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KD_FUZZ_TARGET.run(data, size);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    return KD_FUZZ_TARGET.mutate ? KD_FUZZ_TARGET.mutate(data, size, max, seed, LLVMFuzzerMutate)
                                 : LLVMFuzzerMutate(data, size, max);
}

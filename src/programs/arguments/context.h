/* context.h - where a program computes and in what: the options that all programs share, and the
 * context that they ask for. */
#ifndef PROGRAMS_CONTEXT_H
#define PROGRAMS_CONTEXT_H
#include <kdas/base.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct machine {
    const char *device, *isa; /* NULL: the library's choice */
    int64_t     threads;      /* 0: the library's choice    */
    int64_t     dtype;        /* which of --dtype's words   */
    int64_t     wait;         /* a kdas_wait */
    bool        pin;
} machine;

/* Rows of an option table that write to `m`, a machine of zeros: how threads behave; the device, too, without
 * --dtype; and with it. */
/* clang-format off */
#define THREAD_OPTIONS(m)                                                             \
    { OPTION_WHOLE, "--threads", "N", &(m).threads, 0, 1024,                          \
      "compute threads; 0 (default): all CPUs that the process\nmay use, at most OMP_NUM_THREADS" },  \
    { OPTION_FLAG, "--pin", NULL, &(m).pin, 0, 0,                                     \
      "bind each compute thread to a CPU of its own" },                               \
    { OPTION_CHOICE, "--wait", "auto|spin|sleep", &(m).wait, 0, 0,                    \
      "what waiting threads do: look for work for 0.5 ms (auto)\nor 20 ms, then sleep; or sleep at once" }
#define PLACE_OPTIONS(m)                                                              \
    THREAD_OPTIONS(m),                                                                \
    { OPTION_TEXT, "--device", "NAME", &(m).device, 0, 0,                             \
      "cpu (default), reference, cuda[:N] (card N), or another\nplug-in's name" },     \
    { OPTION_TEXT, "--isa", "NAME", &(m).isa, 0, 0,                                   \
      "highest instruction set: amx, avx512, avx2, plain" }
#define MACHINE_OPTIONS(m)                                                            \
    PLACE_OPTIONS(m),                                                                 \
    { OPTION_CHOICE, "--dtype", "f32|bf16|f16|tf32|auto|int8", &(m).dtype, 0, 0,           \
      "what networks compute in (f32); auto: bf16 or f16 where\nthe device can; int8: models on 8-bit grids with integers" }
/* clang-format on */

/* The options as the library takes them, with the program's log. */
kdas_context_options context_options(const machine *m);
/* False after the library's sentence. */
bool context_open(kdas_context **out, const machine *m);
/* The word of --dtype for a precision, "f32", "bf16", "f16", "tf32" or "int8"; and for what is in use. */
const char *precision_word(kdas_precision precision);
const char *context_dtype(const kdas_context *context);
#endif

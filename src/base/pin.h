/* pin.h - compute threads bound to CPUs: kdas_context_options.pin_threads. */
#ifndef KD_PIN_H
#define KD_PIN_H
#include "base/base.h"

enum { KD_PIN_CPUS = 8192, KD_PIN_THREADS = 1024, KD_PIN_BITS = 8 * sizeof(unsigned long) };

/* A set of CPUs, as the kernel has it. */
typedef struct kd_cpu_set {
    unsigned long bits[KD_PIN_CPUS / KD_PIN_BITS];
} kd_cpu_set;

/* For a new context that asks for it: ctx->pin, or a line in the log that says why there is none.
 * KDAS_ENOMEM. */
kdas_status kd_pin_open(kdas_context *ctx);
void        kd_pin_close(kdas_context *ctx);
bool        kd_pin_holds(const kdas_context *ctx);

/* Around what computes; pairs may nest. The outermost enter makes the context's threads and binds them
 * and the calling thread, if the context asks for that. The outermost leave gives the calling
 * thread its mask back. Without the option, neither costs anything. */
void kd_pin_enter(kdas_context *ctx);
void kd_pin_leave(void);

/* The first `most` CPUs of `set` in the order in which threads take them: by their rank among the
 * allowed CPUs of their physical core, then by number. Returns how many. `root`: "" on the machine
 * itself, else a folder that stands for "/". A CPU whose core is not known is one by itself. */
int kd_pin_order(int *cpu, int most, const kd_cpu_set *set, const char *root);

#endif

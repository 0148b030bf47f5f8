/* parallel.h - rows shared out among a context's compute threads: for what is no kernel of a backend. */
#ifndef KD_PARALLEL_H
#define KD_PARALLEL_H
#include "base/base.h"

/* Do rows begin .. end-1. `thread`, 0 .. threads-1, names scratch that is this call's alone. */
typedef void (*kd_rows_fn)(void *job, int64_t begin, int64_t end, int thread);

/* Cut 0 .. count-1 into a block for each compute thread, and return when all are done. Rows must not
 * depend on each other. A thread is not woken for less than `least` rows; where threads cannot be made, the caller's does
 * all. Never called where Check has yet to fork (see docs/threads.md), nor from the loader's workers. */
void kd_parallel_rows(const kdas_context *ctx, int64_t count, int64_t least, kd_rows_fn rows,
                      void *job);

#endif

/* parallel.h - rows distributed over a context's compute threads, for work that is not a
 * backend kernel. */
#ifndef KD_PARALLEL_H
#define KD_PARALLEL_H
#include "base/base.h"

/* Do rows begin .. end-1. `thread`, 0 .. threads-1, selects scratch that only this call uses. */
typedef void (*kd_rows_fn)(void *job, int64_t begin, int64_t end, int thread);

/* Cut 0 .. count-1 into a block for each compute thread, and return when all are done. Rows must
 * not depend on each other. A thread is not woken for less than `least` rows. If threads cannot be
 * made, those that exist do all rows. Not called from the loader's workers. */
void kd_parallel_rows(const kdas_context *ctx, int64_t count, int64_t least, kd_rows_fn rows,
                      void *job);

#endif

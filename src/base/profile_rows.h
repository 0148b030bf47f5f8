/* profile_rows.h - the rows of a context's profile. graph/profile.c decides what is timed and
 * estimates its cost. */
#ifndef KD_PROFILE_ROWS_H
#define KD_PROFILE_ROWS_H
#include <kdas/profile.h>
#include "base/base.h"

typedef struct kd_profile kd_profile;

/* The row of these names, made if it is new; they are copied, but for `op`, which is static. */
kdas_status kd_profile_row(int32_t *out, kdas_context *ctx, const char *program, const char *op,
                           const char *node, kdas_profile_part part, kdas_precision precision);
/* The time now. Between this call and kd_profile_add() the context's threads are watched. */
double kd_profile_begin(const kdas_context *ctx);
/* Add one call to a row. Allocates nothing. */
void kd_profile_add(kdas_context *ctx, int32_t row, double seconds, double flop, double bytes);
/* Free all of it, at the context's end. */
void kd_profile_finish(kdas_context *ctx);

#endif

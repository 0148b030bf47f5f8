/* checkpoint.h - the checkpoint as the run uses it: the public one, and sums that it carries on. */
#ifndef KD_CHECKPOINT_H
#define KD_CHECKPOINT_H
#include <kdas/distill.h>

/* As kdas_checkpoint_save and _load, with `count` numbers of the caller's own. A file without them,
 * or with another count, leaves `sums` at zero. */
kdas_status kd_checkpoint_save(const kdas_distiller *d, const char *path,
                               const kdas_progress *progress, const char *notes, const double *sums,
                               int count);
kdas_status kd_checkpoint_load(kdas_distiller *d, const char *path, kdas_progress *progress,
                               double *sums, int count);

#endif

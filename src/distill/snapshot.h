/* snapshot.h - the state of a distiller that is tensors: flat blocks on the device, and their
 * copies on the host that a checkpoint is written from and read into. */
#ifndef KD_SNAPSHOT_H
#define KD_SNAPSHOT_H
#include "distill/distiller.h"
#include "distill/feature_inside.h"
#include "loss/loss.h"
#include "model/model.h"
#include "optim/optim.h"

#define KD_BLOCKS (3 + KD_OPTIM_SLOTS) /* values, gradients, moments, average */

/* A flat block on the device, its copy on the host, and how the names of its records begin. */
typedef struct kd_block {
    char   prefix[40];
    bool   trainable; /* holds the trainable parameters alone */
    float *device, *host;
    size_t bytes;
} kd_block;

typedef struct kd_snapshot {
    kdas_context *ctx;
    kd_params    *params;
    kd_block      block[KD_BLOCKS];
    int           blocks;
} kd_snapshot;

/* The blocks of a distiller, with room on the host; gradients only where some are accumulated, the
 * average only where it has begun. */
kdas_status kd_snapshot_init(kd_snapshot *s, const kdas_distiller *d, bool gradients, bool average);
/* The same of the projections of features; no blocks where there are none. */
kdas_status kd_snapshot_init_feature(kd_snapshot *s, const kdas_distiller *d, bool gradients);
void        kd_snapshot_finish(kd_snapshot *s);
kdas_status kd_snapshot_download(kd_snapshot *s);
kdas_status kd_snapshot_upload(const kd_snapshot *s);
/* Counters are stored outside the blocks; in a file they are tensors of one number. */
kdas_status kd_snapshot_counters(kd_snapshot *s, bool write);
/* A counter whose number, as it was read, is none: its entry, or NULL. */
const kd_param_entry *kd_snapshot_bad_counter(const kd_snapshot *s);

/* Call `each` for every tensor of every block with the name of its record. */
typedef kdas_status (*kd_tensor_fn)(void *user, const char *record, int rank, const int64_t *dims,
                                    float *host);
kdas_status kd_snapshot_tensors(kd_snapshot *s, kd_tensor_fn each, void *user);

/* Whether a tensor under this record has a value that no run goes on from: NULL, or the range in
 * words, with the first such value in *bad. */
const char *kd_snapshot_fault(const char *record, const float *value, int64_t count, float *bad);

#endif

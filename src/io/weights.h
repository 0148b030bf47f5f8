/* weights.h - a file of named tensors in any of the formats that are read, told by its content:
 * safetensors, or PyTorch's. */
#ifndef KD_WEIGHTS_H
#define KD_WEIGHTS_H
#include "base/base.h"
#include "io/safetensors.h"

typedef struct kd_weights kd_weights;

/* KDAS_ENOTFOUND, KDAS_EIO; KDAS_EFORMAT: damaged, or another kind of file, which the sentence
 * names with the cure; KDAS_ENOMEM. */
kdas_status kd_weights_open(kd_weights **out, kdas_context *ctx, const char *path);
/* The same, but checkpoints are opened too. */
kdas_status kd_weights_open_any(kd_weights **out, kdas_context *ctx, const char *path);
void        kd_weights_close(kd_weights *weights); /* NULL is fine */
const char *kd_weights_path(const kd_weights *weights);

/* Sets of tensors (pytorch.h); a safetensors file has one, whose name is "". */
int         kd_weights_sets(const kd_weights *weights);
const char *kd_weights_set(const kd_weights *weights, int set);
/* Tensors of a set, in order of name. */
int64_t             kd_weights_count(const kd_weights *weights, int set);
const kd_st_tensor *kd_weights_at(const kd_weights *weights, int set, int64_t i);
/* The file in its own format, for what only that has (metadata); NULL: it is one of PyTorch. */
const kd_safetensors *kd_weights_safetensors(const kd_weights *weights);
/* The tensor's elements as float. */
kdas_status kd_weights_read(kd_weights *weights, const kd_st_tensor *tensor, float *to);

#endif

/* pytorch.h - tensors of files that PyTorch's torch.save wrote: a zip archive with a pickle in
 * data.pkl and a storage in each data/N, or, before PyTorch 1.6, pickles and storages one after the
 * other. Nothing of the pickle is run (pickle.h). A file can hold several sets of tensors, each in
 * a dictionary of its own. */
#ifndef KD_PYTORCH_H
#define KD_PYTORCH_H
#include "base/base.h"
#include "io/file.h"
#include "io/safetensors.h"

#define KD_PT_MAX_DEPTH 4 /* dictionaries inside each other that are searched */
#define KD_PT_MAX_SETS  64
#define KD_PT_MAX_KEY   100 /* bytes of a storage's key, a number: keys are compared very often */

typedef struct kd_pytorch kd_pytorch;

/* Whether it begins like such a file, whole or not. */
bool kd_pytorch_is(const unsigned char *head, size_t n);

/* An archive that holds one such file, as a Python wheel, is opened as that file.
 * Open and find the sets: every dictionary that has tensors and is reached from the outermost by
 * keys that are text. Every tensor is checked against its storage. KDAS_EFORMAT: damaged, cut off,
 * an archive of another kind, a whole module, no tensors. KDAS_EIO, KDAS_ENOMEM. Sentences name
 * the file. Takes `file` in all cases. */
kdas_status kd_pytorch_open(kd_pytorch **out, kdas_context *ctx, kd_file *file);
void        kd_pytorch_close(kd_pytorch *pt); /* NULL is fine */
const char *kd_pytorch_path(const kd_pytorch *pt);

/* Sets in the order of the file. The name is the keys that lead to it, "model" or "ema.module"; ""
 * is the outermost dictionary. Tensors are in order of name; offsets have no meaning. */
int                 kd_pytorch_sets(const kd_pytorch *pt);
const char         *kd_pytorch_set(const kd_pytorch *pt, int set);
int64_t             kd_pytorch_count(const kd_pytorch *pt, int set);
const kd_st_tensor *kd_pytorch_at(const kd_pytorch *pt, int set, int64_t i);

/* The tensor's elements as float, dense, last axis fastest. */
kdas_status kd_pytorch_read_float(kd_pytorch *pt, const kd_st_tensor *tensor, float *to);

#endif

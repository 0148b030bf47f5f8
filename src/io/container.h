/* container.h - checkpoints as files: named arrays, numbers and texts that come back bit by bit.
 * Underneath it is a safetensors file, so that other programs can look inside: arrays and numbers
 * are its tensors, texts its metadata. A checksum over all of it refuses a file that was cut off or
 * altered. */
#ifndef KD_CONTAINER_H
#define KD_CONTAINER_H
#include "base/base.h"
#include "io/safetensors.h"

#define KD_CONTAINER_FORMAT  "kdas-checkpoint"
#define KD_CONTAINER_VERSION 1

/* ---- Writing --------------------------------------------------------------------------------- */

typedef struct kd_container_writer kd_container_writer;

kdas_status kd_container_create(kd_container_writer **out, kdas_context *ctx);
void        kd_container_discard(kd_container_writer *writer); /* NULL is fine */

/* All kinds share one name space: KDAS_EINVAL if a name is used twice. An array is borrowed until
 * the file is saved; numbers and texts (UTF-8) are copied. */
kdas_status kd_container_put(kd_container_writer *writer, const char *name, kd_st_dtype dtype,
                             int rank, const int64_t *dims, const void *data);
kdas_status kd_container_put_i64(kd_container_writer *writer, const char *name, int64_t value);
kdas_status kd_container_put_u64(kd_container_writer *writer, const char *name, uint64_t value);
kdas_status kd_container_put_f64(kd_container_writer *writer, const char *name, double value);
kdas_status kd_container_put_text(kd_container_writer *writer, const char *name, const char *text);
/* Replace `path` in one step; a kill at any moment leaves the old file or the new one. */
kdas_status kd_container_save(kd_container_writer *writer, const char *path);

/* ---- Reading --------------------------------------------------------------------------------- */

typedef struct kd_container kd_container;

/* Open and check all of it. KDAS_ENOTFOUND, KDAS_EIO, KDAS_ENOMEM; KDAS_EFORMAT: not a checkpoint,
 * of a newer libkdas, cut off, altered. */
kdas_status kd_container_open(kd_container **out, kdas_context *ctx, const char *path);
void        kd_container_close(kd_container *container); /* NULL is fine */
const char *kd_container_path(const kd_container *container);
/* The safetensors file underneath, for its texts. */
const kd_safetensors *kd_container_file(const kd_container *container);

/* An array's or number's type and shape, or NULL; sets no sentence. In order of name by index. */
const kd_st_tensor *kd_container_find(const kd_container *container, const char *name);
bool                kd_container_has_text(const kd_container *container, const char *name);
int64_t             kd_container_count(const kd_container *container);
const kd_st_tensor *kd_container_at(const kd_container *container, int64_t i);
/* Text `i`, in no order, and its name. The container's own texts are included; NULL past the
 * last. */
const char *kd_container_text_at(const kd_container *container, int64_t i, const char **name);

/* Each fails with the name of the record and the file: KDAS_ENOTFOUND (none), KDAS_ESHAPE (an array
 * of another type or shape), KDAS_EFORMAT (a number of another type), KDAS_EIO; the output is then
 * untouched, but for an array that could be read only in part. */
kdas_status kd_container_get(kd_container *container, const char *name, kd_st_dtype dtype, int rank,
                             const int64_t *dims, void *to);
kdas_status kd_container_get_i64(kd_container *container, const char *name, int64_t *out);
kdas_status kd_container_get_u64(kd_container *container, const char *name, uint64_t *out);
kdas_status kd_container_get_f64(kd_container *container, const char *name, double *out);
/* The text lives as long as the container. */
kdas_status kd_container_get_text(kd_container *container, const char *name, const char **out);

#endif

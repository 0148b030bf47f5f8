/* safetensors.h - files of named tensors: 8 bytes that give the length of a JSON header, the
 * header, the tensors' bytes, little-endian, without gaps. Reader and writer handle tensors and
 * strings, nothing else. */
#ifndef KD_SAFETENSORS_H
#define KD_SAFETENSORS_H
#include "base/base.h"
#include "io/file.h"

#define KD_ST_MAX_RANK    8
#define KD_ST_MAX_HEADER  100000000u /* bytes; as the format's own library */
#define KD_ST_MAX_TENSORS 100000
#define KD_ST_MAX_TEXTS   10000

typedef enum kd_st_dtype {
    KD_ST_F32,
    KD_ST_F64,
    KD_ST_F16,
    KD_ST_BF16,
    KD_ST_I64,
    KD_ST_I32,
    KD_ST_I16,
    KD_ST_I8,
    KD_ST_U64,
    KD_ST_U32,
    KD_ST_U16,
    KD_ST_U8,
    KD_ST_BOOL,
    /* Types that the format has and that are not converted. The first ones are smaller than a
     * byte. */
    KD_ST_F4,
    KD_ST_F6_E2M3,
    KD_ST_F6_E3M2,
    KD_ST_F8_E5M2,
    KD_ST_F8_E4M3,
    KD_ST_F8_E8M0,
    KD_ST_F8_E4M3FNUZ,
    KD_ST_F8_E5M2FNUZ,
    KD_ST_C64,
    KD_ST_DTYPES /* how many */
} kd_st_dtype;

const char *kd_st_dtype_name(kd_st_dtype dtype); /* as in the file: "F32" */
size_t      kd_st_dtype_size(kd_st_dtype dtype); /* bytes of an element; 0: less than one */
bool        kd_st_is_number(kd_st_dtype dtype);  /* one that is read as float */
/* n elements of such a type at `from`, which may lie anywhere, as float. */
void kd_st_to_float(float *to, const void *from, size_t n, kd_st_dtype dtype);

/* ---- Reading --------------------------------------------------------------------------------- */

typedef struct kd_st_tensor {
    const char *name;
    kd_st_dtype dtype;
    int         rank; /* 0: a scalar */
    int64_t     dim[KD_ST_MAX_RANK];
    int64_t     count;  /* elements */
    uint64_t    offset; /* from the start of the file */
    uint64_t    bytes;
} kd_st_tensor;

typedef struct kd_safetensors kd_safetensors;

/* Open and check: every tensor of a type that the format has, its bytes as many as its shape needs,
 * all of them inside the file, none shared, none left over. KDAS_ENOTFOUND, KDAS_EIO (open, read),
 * KDAS_EFORMAT, KDAS_ENOMEM; the sentence names the file and the tensor. The file stays open for
 * the reads below. */
kdas_status kd_safetensors_open(kd_safetensors **out, kdas_context *ctx, const char *path);
void        kd_safetensors_close(kd_safetensors *file); /* NULL is fine */
const char *kd_safetensors_path(const kd_safetensors *file);

/* Tensors in order of name; all of this lives as long as the file. */
int64_t             kd_safetensors_count(const kd_safetensors *file);
const kd_st_tensor *kd_safetensors_at(const kd_safetensors *file, int64_t i);
/* NULL: no such tensor; sets no sentence. */
const kd_st_tensor *kd_safetensors_find(const kd_safetensors *file, const char *name);
/* A string of the file's metadata, or NULL. */
const char *kd_safetensors_text(const kd_safetensors *file, const char *key);
/* String `i` of the metadata, in no order, and its key; NULL past the last. */
const char *kd_safetensors_text_at(const kd_safetensors *file, int64_t i, const char **key);

/* The tensor's bytes as they are. */
kdas_status kd_safetensors_read(kd_safetensors *file, const kd_st_tensor *tensor, void *to);
/* The tensor's elements as float. KDAS_EFORMAT: of a type that is not converted. */
kdas_status kd_safetensors_read_float(kd_safetensors *file, const kd_st_tensor *tensor, float *to);
/* Compare the file with the checksum in its metadata (see kd_st_writer_save). Reads all of it.
 * KDAS_EFORMAT: there is none, or it differs. */
kdas_status kd_safetensors_verify(kd_safetensors *file);

/* ---- Writing --------------------------------------------------------------------------------- */

typedef struct kd_st_writer kd_st_writer;

kdas_status kd_st_writer_create(kd_st_writer **out, kdas_context *ctx);
void        kd_st_writer_destroy(kd_st_writer *writer); /* NULL is fine */

/* Add a tensor; the file keeps the order of the calls. `dims` may be NULL for rank 0. `data` is not
 * copied: it must stay until the file is saved. KDAS_EINVAL: name empty, not UTF-8, used before;
 * rank, dims. */
kdas_status kd_st_writer_put(kd_st_writer *writer, const char *name, kd_st_dtype dtype, int rank,
                             const int64_t *dims, const void *data);
/* Add a tensor of rank 0 and copy its value. */
kdas_status kd_st_writer_put_scalar(kd_st_writer *writer, const char *name, kd_st_dtype dtype,
                                    const void *value);
/* Add a string to the metadata; both are copied. */
kdas_status kd_st_writer_put_text(kd_st_writer *writer, const char *key, const char *value);
/* Write the file in one step (see kd_writer). With `checksum`, the metadata's "checksum" is the
 * CRC-32 of the whole file, as 8 hexadecimal digits that count as zeros themselves. May be called
 * again. */
kdas_status kd_st_writer_save(kd_st_writer *writer, const char *path, bool checksum);

/* ---- Shared by both sides -------------------------------------------------------------------- */

#define KD_ST_CHECKSUM_KEY  "checksum"
#define KD_ST_CHECKSUM_MARK "\"checksum\":\"" /* as it stands in a header, then 8 digits */

/* Elements of a shape, or -1 where they do not fit 63 bits or a dimension is negative. */
int64_t kd_st_elements(int rank, const int64_t *dims);
/* Well-formed UTF-8, without NUL. */
bool kd_st_is_utf8(const char *text, size_t n);

#endif

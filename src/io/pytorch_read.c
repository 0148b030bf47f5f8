/* pytorch_read.c - the elements of PyTorch's tensors, from stored or packed storages, dense or with
 * strides, in either order of bytes. */
#include <string.h>
#include "io/pytorch_inside.h"

/* A packed storage is unpacked as a whole. The last one stays for tensors that share it. */
static kdas_status unpack(kd_pytorch *pt, const kd_pt_storage *storage)
{
    if (pt->unpacked == storage) return KDAS_OK;
    kd_free(pt->ctx, pt->content);
    pt->unpacked = NULL;
    pt->content  = kd_alloc(pt->ctx, (size_t)storage->size);
    if (!pt->content) return KDAS_ENOMEM;
    KD_RETURN(kd_zip_read(pt->zip, storage->packed, pt->content));
    pt->unpacked = storage;
    return KDAS_OK;
}

/* A stored storage is read in parts. Before the first of them, all of it is compared with its
 * checksum. */
static kdas_status check_stored(kd_pytorch *pt, const kd_pt_storage *storage)
{
    if (!storage->entry || storage->checked) return KDAS_OK;
    KD_RETURN(kd_zip_check_stored(pt->zip, storage->entry, storage->at));
    pt->storage[storage - pt->storage].checked = true;
    return KDAS_OK;
}

static void swap_bytes(unsigned char *bytes, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < size / 2; k++) {
            unsigned char *a = &bytes[i * size + k], *b = &bytes[i * size + size - 1 - k], c = *a;

            *a = *b;
            *b = c;
        }
}

static void convert(const kd_pytorch *pt, const kd_st_tensor *t, float *to, unsigned char *bytes,
                    size_t n)
{
    if (pt->swap) swap_bytes(bytes, n, kd_st_dtype_size(t->dtype));
    kd_st_to_float(to, bytes, n, t->dtype);
}

static bool is_dense(const kd_pt_tensor *t)
{
    int64_t step = 1;

    for (int i = t->base.rank; i-- > 0;) {
        if (t->base.dim[i] != 1 && t->stride[i] != step) return false;
        step *= t->base.dim[i];
    }
    return true;
}

static kdas_status read_dense(kd_pytorch *pt, const kd_pt_tensor *t, float *to)
{
    unsigned char part[16384];
    size_t        size = kd_st_dtype_size(t->base.dtype);
    uint64_t      at   = (uint64_t)t->start * size;

    for (int64_t left = t->base.count; left > 0;) {
        size_t n = (size_t)KD_MIN(left, (int64_t)(sizeof part / size));

        if (t->storage->packed)
            memcpy(part, pt->content + at, n * size);
        else
            KD_RETURN(kd_file_read(pt->file, t->storage->at + at, part, n * size));
        convert(pt, &t->base, to, part, n);
        at += n * size;
        to += n;
        left -= (int64_t)n;
    }
    return KDAS_OK;
}

/* Gather elements from `from`, where the tensor's first one is, in the order of its axes. */
static void gather(const kd_pytorch *pt, const kd_pt_tensor *t, float *to,
                   const unsigned char *from)
{
    unsigned char part[16384];
    size_t        size = kd_st_dtype_size(t->base.dtype), n = 0;
    int64_t       at[KD_ST_MAX_RANK] = { 0 }, place = 0;

    for (int64_t i = 0; i < t->base.count; i++) {
        memcpy(part + n * size, from + (size_t)place * size, size);
        if (++n == sizeof part / size || i == t->base.count - 1) {
            convert(pt, &t->base, to, part, n);
            to += n;
            n = 0;
        }
        for (int k = t->base.rank; k-- > 0;) {
            place += t->stride[k];
            if (++at[k] < t->base.dim[k]) break;
            place -= t->stride[k] * at[k];
            at[k] = 0;
        }
    }
}

static kdas_status read_strided(kd_pytorch *pt, const kd_pt_tensor *t, float *to)
{
    size_t         size = kd_st_dtype_size(t->base.dtype);
    uint64_t       span = 1, at = (uint64_t)t->start * size;
    unsigned char *bytes;
    kdas_status    st;

    if (t->storage->packed) {
        gather(pt, t, to, pt->content + at);
        return KDAS_OK;
    }
    for (int i = 0; i < t->base.rank; i++)
        span += (uint64_t)(t->base.dim[i] - 1) * (uint64_t)t->stride[i];
    bytes = kd_alloc(pt->ctx, (size_t)span * size);
    if (!bytes) return KDAS_ENOMEM;
    st = kd_file_read(pt->file, t->storage->at + at, bytes, (size_t)span * size);
    if (st == KDAS_OK) gather(pt, t, to, bytes);
    kd_free(pt->ctx, bytes);
    return st;
}

kdas_status kd_pytorch_read_float(kd_pytorch *pt, const kd_st_tensor *tensor, float *to)
{
    const kd_pt_tensor *t = (const kd_pt_tensor *)tensor;

    if (tensor->count == 0) return KDAS_OK;
    if (!kd_st_is_number(tensor->dtype))
        return kd_fail(KDAS_EFORMAT, "tensor '%.200s' of '%s' has the type %s, which is not read",
                       tensor->name, kd_file_path(pt->file), kd_st_dtype_name(tensor->dtype));
    KD_RETURN(t->storage->packed ? unpack(pt, t->storage) : check_stored(pt, t->storage));
    return is_dense(t) ? read_dense(pt, t, to) : read_strided(pt, t, to);
}

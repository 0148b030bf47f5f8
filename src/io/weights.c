/* weights.c - one face for the formats of weights. */
#include <string.h>
#include "io/container.h"
#include "io/kind.h"
#include "io/pytorch.h"
#include "io/weights.h"

struct kd_weights {
    kdas_context   *ctx;
    kd_safetensors *tensors; /* one of the two */
    kd_pytorch     *pytorch;
};

#define WANTED "a file of weights"
#define CURE   "give a safetensors file, or a .pth file of PyTorch"

/* Whether it is a file of PyTorch, by its content. */
static kdas_status look(kdas_context *ctx, const char *path, kd_file **file, bool *pytorch)
{
    unsigned char head[KD_KIND_HEAD];
    size_t        n;
    kdas_status   st = kd_file_open(file, ctx, path);

    if (st == KDAS_EIO && kd_is_folder(path))
        return kd_fail(st, "'%s' is a folder, not a file of weights; give the file in it", path);
    if (st != KDAS_OK) return st;
    n = (size_t)KD_MIN(kd_file_size(*file), sizeof head);
    KD_RETURN(kd_file_read(*file, 0, head, n));
    *pytorch = !kd_kind_is_safetensors(head, n, kd_file_size(*file)) && kd_pytorch_is(head, n);
    if (*pytorch || kd_kind_is_safetensors(head, n, kd_file_size(*file))) return KDAS_OK;
    return kd_kind_refuse(kd_kind_of(head, n, kd_file_size(*file)), path, WANTED, CURE);
}

static kdas_status refuse_checkpoint(const kd_weights *w)
{
    const char *format = w->tensors ? kd_safetensors_text(w->tensors, "format") : NULL;

    if (!format || strcmp(format, KD_CONTAINER_FORMAT) != 0) return KDAS_OK;
    return kd_fail(
        KDAS_EFORMAT,
        "'%s' is a checkpoint, to continue its training from; the trained weights are in "
        "the file best.safetensors beside it",
        kd_weights_path(w));
}

kdas_status kd_weights_open_any(kd_weights **out, kdas_context *ctx, const char *path)
{
    kd_weights *w       = kd_calloc(ctx, 1, sizeof *w);
    kd_file    *file    = NULL;
    bool        pytorch = false;
    kdas_status st;

    *out = NULL;
    if (!w) return KDAS_ENOMEM;
    w->ctx = ctx;
    KD_TRY(look(ctx, path, &file, &pytorch));
    if (pytorch) {
        st   = kd_pytorch_open(&w->pytorch, ctx, file);
        file = NULL;
        KD_TRY(st);
    } else {
        KD_TRY(kd_safetensors_open(&w->tensors, ctx, path));
    }
    *out = w;
    w    = NULL;
done:
    kd_file_close(file);
    kd_weights_close(w);
    return st;
}

kdas_status kd_weights_open(kd_weights **out, kdas_context *ctx, const char *path)
{
    kdas_status st = kd_weights_open_any(out, ctx, path);

    if (st == KDAS_OK) st = refuse_checkpoint(*out);
    if (st == KDAS_OK) return st;
    kd_weights_close(*out);
    *out = NULL;
    return st;
}

void kd_weights_close(kd_weights *w)
{
    if (!w) return;
    kd_safetensors_close(w->tensors);
    kd_pytorch_close(w->pytorch);
    kd_free(w->ctx, w);
}

const char *kd_weights_path(const kd_weights *w)
{
    return w->pytorch ? kd_pytorch_path(w->pytorch) : kd_safetensors_path(w->tensors);
}

int kd_weights_sets(const kd_weights *w) { return w->pytorch ? kd_pytorch_sets(w->pytorch) : 1; }

const char *kd_weights_set(const kd_weights *w, int set)
{
    return w->pytorch ? kd_pytorch_set(w->pytorch, set) : "";
}

int64_t kd_weights_count(const kd_weights *w, int set)
{
    return w->pytorch ? kd_pytorch_count(w->pytorch, set) : kd_safetensors_count(w->tensors);
}

const kd_st_tensor *kd_weights_at(const kd_weights *w, int set, int64_t i)
{
    return w->pytorch ? kd_pytorch_at(w->pytorch, set, i) : kd_safetensors_at(w->tensors, i);
}

const kd_safetensors *kd_weights_safetensors(const kd_weights *w) { return w->tensors; }

kdas_status kd_weights_read(kd_weights *w, const kd_st_tensor *tensor, float *to)
{
    return w->pytorch ? kd_pytorch_read_float(w->pytorch, tensor, to)
                      : kd_safetensors_read_float(w->tensors, tensor, to);
}

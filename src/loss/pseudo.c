/* pseudo.c - frames without a mask learn from the teacher's output for their batch. The host
 * makes mask and weights from the mean of the logits of the answer's maps. With separate device
 * memory the host waits for the device here. */
#include <string.h>
#include "data/batch.h"
#include "loss/loss.h"

bool kd_pseudo_wanted(const kdas_batch *batch)
{
    for (int64_t i = 0; i < batch->count; i++)
        if (kd_batch_waits(batch, i)) return true;
    return false;
}

/* Allocate masks and weights of n pixels, and a map of `map`. */
static kdas_status reserve(kdas_loss *loss, size_t n, size_t map)
{
    kd_pseudo *p = &loss->pseudo;

    if (!loss->ctx->host_memory)
        KD_RETURN(kd_device_reserve(loss->ctx, &p->device, 2 * n * sizeof(float)));
    if (p->count >= 2 * n + map) return KDAS_OK;
    kd_free(loss->ctx, p->host);
    p->count = 0;
    p->host  = kd_alloc(loss->ctx, (2 * n + map) * sizeof *p->host);
    if (!p->host) return KDAS_ENOMEM;
    p->count = 2 * n + map;
    return KDAS_OK;
}

/* Bilinear, half-pixel, edges repeated: the position of sample i of `size` among `from`. */
static float place(int64_t i, int64_t size, int64_t from, int64_t *low, int64_t *high)
{
    float at = ((float)i + 0.5f) * (float)from / (float)size - 0.5f;

    at    = KD_MIN(KD_MAX(at, 0.0f), (float)(from - 1));
    *low  = (int64_t)at;
    *high = KD_MIN(*low + 1, from - 1);
    return at - (float)*low;
}

/* Add a map of one image to a sum of the batch's size. */
static void add_map(float *sum, int64_t h, int64_t w, const float *map, int64_t map_h,
                    int64_t map_w, float factor)
{
    for (int64_t y = 0; y < h; y++) {
        int64_t      top, bottom, left, right;
        float        down = place(y, h, map_h, &top, &bottom), across;
        const float *a = map + top * map_w, *b = map + bottom * map_w;

        for (int64_t x = 0; x < w; x++) {
            across = place(x, w, map_w, &left, &right);
            *sum++ += factor * ((1 - down) * ((1 - across) * a[left] + across * a[right]) +
                                down * ((1 - across) * b[left] + across * b[right]));
        }
    }
}

kdas_status kd_pseudo_fill(kdas_loss *loss, kd_loss_place *at, const kdas_batch *batch,
                           const kd_teacher_maps *teacher)
{
    int64_t h = batch->height, w = batch->width, th = teacher->h, tw = teacher->w;
    size_t  each = (size_t)(h * w), n = (size_t)batch->count * each,
           maps = (size_t)(batch->count * th * tw);
    float *mask, *weights, *map;

    KD_RETURN(reserve(loss, n, maps));
    mask    = loss->pseudo.host;
    weights = mask + n;
    map     = weights + n;
    memcpy(mask, batch->masks, n * sizeof *mask);
    memcpy(weights, batch->weights, n * sizeof *weights);
    for (int64_t i = 0; i < batch->count; i++)
        if (kd_batch_waits(batch, i)) memset(mask + (size_t)i * each, 0, each * sizeof *mask);
    for (int32_t k = teacher->answer; k < teacher->maps; k++) {
        KD_RETURN(kd_device_download(loss->ctx, map, teacher->map[k], maps * sizeof *map));
        for (int64_t i = 0; i < batch->count; i++)
            if (kd_batch_waits(batch, i))
                add_map(mask + (size_t)i * each, h, w, map + i * th * tw, th, tw,
                        1.0f / (float)(teacher->maps - teacher->answer));
    }
    for (int64_t i = 0; i < batch->count; i++)
        if (kd_batch_waits(batch, i))
            kd_pseudo_label(mask + (size_t)i * each, weights + (size_t)i * each,
                            mask + (size_t)i * each, (int64_t)each);
    at->mask   = mask;
    at->weight = weights;
    if (loss->ctx->host_memory) return KDAS_OK;
    at->mask   = loss->pseudo.device.memory;
    at->weight = at->mask + n;
    return kd_device_upload(loss->ctx, at->mask, mask, 2 * n * sizeof *mask);
}

void kd_pseudo_finish(kdas_loss *loss)
{
    kd_free(loss->ctx, loss->pseudo.host);
    kd_device_unstage(loss->ctx, &loss->pseudo.device);
}

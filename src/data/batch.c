/* batch.c - batches: from pixels of any kind and size to normalised floats and masks of 0 and 1.
 * batch.c and upload.c call each other: destroying a batch waits for its upload, and an upload
 * reads the number of a batch's content. */
#include <math.h>
#include <string.h>
#include "base/context.h"
#include "base/process.h"
#include "data/batch.h"
#include "graph/device.h"
#include "image/image.h"

/* ImageNet's statistics, R G B. Steps in float, in this order, give the usual pipeline's bits. */
const float kd_batch_mean[3]      = { 0.485f, 0.456f, 0.406f };
const float kd_batch_deviation[3] = { 0.229f, 0.224f, 0.225f };

static inline float normal(float v, int colour)
{
    return (v - kd_batch_mean[colour]) / kd_batch_deviation[colour];
}

/* Numbers for batches and for their contents. No number is used twice in a process, so a new batch
 * at an old batch's address is not mistaken for it. */
static uint64_t new_number(void)
{
    static _Atomic uint64_t last;

    return atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
}

void kd_batch_change(kdas_batch *batch)
{
    atomic_store_explicit(&batch->content, new_number(), memory_order_relaxed);
}

uint64_t kd_batch_content(kdas_batch *batch)
{
    return atomic_load_explicit(&batch->content, memory_order_relaxed);
}

/* Zeroed memory. It is the device's pinned host memory, for fast uploads, unless that runs out. */
static kdas_status make_pixels(kdas_batch *batch, size_t pixels)
{
    batch->pinned = batch->ctx->table.host_alloc != NULL;
    if (batch->pinned) {
        batch->images = kd_device_host_alloc(batch->ctx, pixels * 3 * sizeof(float));
        batch->masks =
            batch->images ? kd_device_host_alloc(batch->ctx, pixels * sizeof(float)) : NULL;
        if (batch->masks) {
            memset(batch->images, 0, pixels * 3 * sizeof(float));
            memset(batch->masks, 0, pixels * sizeof(float));
            return KDAS_OK;
        }
        kd_device_host_free(batch->ctx, batch->images);
        batch->pinned = false;
    }
    batch->images = kd_calloc(batch->ctx, pixels, 3 * sizeof(float));
    batch->masks  = batch->images ? kd_calloc(batch->ctx, pixels, sizeof(float)) : NULL;
    return batch->masks ? KDAS_OK : KDAS_ENOMEM;
}

static void free_pixels(kdas_batch *batch, float *pixels)
{
    if (batch->pinned)
        kd_device_host_free(batch->ctx, pixels);
    else
        kd_free(batch->ctx, pixels);
}

static kdas_status check_make(const char *what, kdas_batch **out, const kdas_context *context,
                              int64_t count, int64_t height, int64_t width)
{
    if (!out) return kd_fail(KDAS_EINVAL, "%s: out is NULL", what);
    *out = NULL;
    if (!context) return kd_fail(KDAS_EINVAL, "%s: the context is NULL", what);
    KD_RETURN(kd_check_process(context));
    if (count < 1 || count > INT32_MAX || height < 1 || width < 1 || height > KDAS_IMAGE_MAX_SIDE ||
        width > KDAS_IMAGE_MAX_SIDE)
        return kd_fail(KDAS_EINVAL, "%s: %lld images of %lldx%lld; sides are 1 to %d", what,
                       (long long)count, (long long)width, (long long)height, KDAS_IMAGE_MAX_SIDE);
    return KDAS_OK;
}

/* A batch without memory for its images. Returns NULL with the sentence set on failure. */
static kdas_batch *make(kdas_context *context, int64_t count, int64_t height, int64_t width)
{
    kdas_batch *batch = kd_calloc(context, 1, sizeof *batch);

    if (!batch) return NULL;
    batch->ctx   = context;
    batch->id    = new_number();
    batch->count = batch->room = count;
    batch->height              = height;
    batch->width               = width;
    kd_batch_change(batch);
    return batch;
}

static kdas_status make_flags(kdas_batch *batch)
{
    batch->mapped     = kd_calloc(batch->ctx, (size_t)batch->count, 1);
    batch->unlabelled = batch->mapped ? kd_calloc(batch->ctx, (size_t)batch->count, 1) : NULL;
    return batch->unlabelled ? KDAS_OK : KDAS_ENOMEM;
}

kdas_status kdas_batch_create(kdas_batch **out, kdas_context *context, int64_t count,
                              int64_t height, int64_t width)
{
    kdas_batch *batch;

    KD_RETURN(check_make("kdas_batch_create", out, context, count, height, width));
    batch = make(context, count, height, width);
    if (!batch) return KDAS_ENOMEM;
    if (make_pixels(batch, (size_t)(count * height * width)) != KDAS_OK || /* < 2^59 */
        make_flags(batch) != KDAS_OK) {
        kdas_batch_destroy(batch);
        return kd_fail_in(KDAS_ENOMEM, "kdas_batch_create: %lld images of %lldx%lld",
                          (long long)count, (long long)width, (long long)height);
    }
    *out = batch;
    return KDAS_OK;
}

kdas_status kdas_batch_wrap(kdas_batch **out, kdas_context *context, int64_t count, int64_t height,
                            int64_t width, float *images, float *masks)
{
    kdas_batch *batch;

    KD_RETURN(check_make("kdas_batch_wrap", out, context, count, height, width));
    if (!images) return kd_fail(KDAS_EINVAL, "kdas_batch_wrap: images is NULL");
    batch = make(context, count, height, width);
    if (!batch) return KDAS_ENOMEM;
    batch->wrapped = true;
    batch->images  = images;
    batch->masks   = masks;
    if (make_flags(batch) != KDAS_OK) {
        kdas_batch_destroy(batch);
        return KDAS_ENOMEM;
    }
    *out = batch;
    return KDAS_OK;
}

/* The process's lock protects the lists of readers: a batch may have readers in other contexts,
 * which other threads use. */
static void unlink_reader(kd_reader *reader)
{
    if (reader->batch) {
        *reader->at = reader->next;
        if (reader->next) reader->next->at = reader->at;
    }
    *reader = (kd_reader){ 0 };
}

static void link_reader(kd_reader *reader, kdas_batch *batch)
{
    *reader = (kd_reader){ .batch   = batch,
                           .content = kd_batch_content(batch),
                           .next    = batch->readers,
                           .at      = &batch->readers };
    if (reader->next) reader->next->at = &reader->next;
    batch->readers = reader;
}

void kd_reader_set(kd_reader *reader, kdas_batch *batch)
{
    kd_process_lock();
    unlink_reader(reader);
    if (batch) link_reader(reader, batch);
    kd_process_unlock();
}

static void drop_readers(kdas_batch *batch)
{
    kd_process_lock();
    while (batch->readers)
        unlink_reader(batch->readers);
    kd_process_unlock();
}

kdas_batch *kd_reader_batch(const kd_reader *reader)
{
    kdas_batch *batch;

    kd_process_lock();
    batch = reader->batch;
    if (batch && kd_batch_content(batch) != reader->content) batch = NULL;
    kd_process_unlock();
    return batch;
}

void kdas_batch_destroy(kdas_batch *batch)
{
    if (!batch) return;
    drop_readers(batch);
    if (batch->placed) kdas_batch_settle(batch);
    if (!batch->wrapped) {
        free_pixels(batch, batch->images);
        free_pixels(batch, batch->masks);
    }
    free_pixels(batch, batch->teacher);
    free_pixels(batch, batch->weights);
    kd_free(batch->ctx, batch->mapped);
    kd_free(batch->ctx, batch->unlabelled);
    kd_free(batch->ctx, batch);
}

kdas_context *kdas_batch_context(const kdas_batch *batch) { return batch ? batch->ctx : NULL; }

int64_t kdas_batch_count(const kdas_batch *batch) { return batch ? batch->count : 0; }
int64_t kdas_batch_height(const kdas_batch *batch) { return batch ? batch->height : 0; }
int64_t kdas_batch_width(const kdas_batch *batch) { return batch ? batch->width : 0; }
float  *kdas_batch_images(kdas_batch *batch) { return batch ? batch->images : NULL; }
float  *kdas_batch_masks(kdas_batch *batch) { return batch ? batch->masks : NULL; }

kdas_status kdas_batch_resize(kdas_batch *batch, int64_t count)
{
    if (!batch) return kd_fail(KDAS_EINVAL, "kdas_batch_resize: the batch is NULL");
    if (count < 1 || count > batch->room)
        return kd_fail(KDAS_EINVAL, "kdas_batch_resize: %lld places of a batch made for %lld",
                       (long long)count, (long long)batch->room);
    if (count != batch->count) kd_batch_change(batch);
    batch->count = count;
    return KDAS_OK;
}

/* ---- Filling a place ---- */

/* 8-bit samples, `step` a pixel with its R, G and B at order[], to n normalised pixels. */
static void put_bytes(float *to, const uint8_t *from, int64_t n, int step, const int order[3])
{
    float value[3][256];

    for (int v = 0; v < 256; v++)
        for (int c = 0; c < 3; c++)
            value[c][v] = normal((float)v / 255.0f, c);
    for (int64_t i = 0; i < n; i++, from += step, to += 3) {
        to[0] = value[0][from[order[0]]];
        to[1] = value[1][from[order[1]]];
        to[2] = value[2][from[order[2]]];
    }
}

static void put_floats(float *to, const float *from, int64_t n, int step)
{
    for (int64_t i = 0; i < n; i++, from += step, to += 3)
        for (int c = 0; c < 3; c++)
            to[c] = normal(from[step == 1 ? 0 : c], c);
}

static void put_mask(float *to, const uint8_t *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = from[i] >= 128;
}

/* A new frame is at a place: reset the place's label, map flag and weights. */
static void begin_place(kdas_batch *batch, int64_t i)
{
    int64_t n = batch->height * batch->width;

    batch->mapped[i] = batch->unlabelled[i] = 0;
    for (int64_t k = 0; batch->weights && k < n; k++)
        batch->weights[i * n + k] = 1;
}

void kd_batch_put(kdas_batch *batch, int64_t i, const uint8_t *rgb, const uint8_t *mask)
{
    static const int order[3] = { 0, 1, 2 };
    int64_t          n        = batch->height * batch->width;

    put_bytes(batch->images + 3 * i * n, rgb, n, 3, order);
    put_mask(batch->masks + i * n, mask, n);
    begin_place(batch, i);
    kd_batch_change(batch);
}

/* The image at the batch's size, its samples' type and order kept, alpha dropped. */
static kdas_status fit_image(void **out, const kdas_batch *batch, const kdas_view *image)
{
    size_t n = (size_t)(batch->height * batch->width * kd_pixel_colours(image->pixel));
    bool   f = kd_pixel_is_float(image->pixel);

    *out = kd_alloc(batch->ctx, f ? n * sizeof(float) : n);
    if (!*out) return KDAS_ENOMEM;
    if (f) return kd_resize_floats(batch->ctx, *out, batch->width, batch->height, image);
    return kd_resize_bytes(batch->ctx, *out, batch->width, batch->height, image);
}

/* The mask as 0 and 255, then at the batch's size by the image's filter. */
static kdas_status fit_mask(uint8_t **out, const kdas_batch *batch, const kdas_view *mask)
{
    kdas_status st     = KDAS_OK;
    uint8_t    *binary = kd_alloc(batch->ctx, (size_t)(mask->width * mask->height)), *to = binary;
    kdas_view   view = { binary, mask->width, mask->height, 0, KDAS_PIXEL_GREY8 };

    if (!binary) return KDAS_ENOMEM;
    for (int64_t y = 0; y < mask->height; y++) {
        const void *row = kd_view_row(mask, y);

        for (int64_t x = 0; x < mask->width; x++)
            if (mask->pixel == KDAS_PIXEL_GREY8)
                *to++ = ((const uint8_t *)row)[x] > 127 ? 255 : 0;
            else
                *to++ = ((const float *)row)[x] > 0.5f ? 255 : 0;
    }
    *out = kd_alloc(batch->ctx, (size_t)(batch->height * batch->width));
    st = *out ? kd_resize_bytes(batch->ctx, *out, batch->width, batch->height, &view) : KDAS_ENOMEM;
    kd_free(batch->ctx, binary);
    return st;
}

static kdas_status check_masks(const kdas_batch *batch, const char *what)
{
    if (batch->masks) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "%s: the batch was made without masks", what);
}

static kdas_status check_set(const kdas_batch *batch, int64_t i, const kdas_view *image,
                             const kdas_view *mask)
{
    if (!batch) return kd_fail(KDAS_EINVAL, "kdas_batch_set: the batch is NULL");
    KD_RETURN(kd_check_process(batch->ctx));
    if (i < 0 || i >= batch->count)
        return kd_fail(KDAS_EINVAL, "kdas_batch_set: there is no place %lld of %lld", (long long)i,
                       (long long)batch->count);
    KD_RETURN(kd_view_check(image, "kdas_batch_set: image"));
    if (!mask) return KDAS_OK;
    KD_RETURN(check_masks(batch, "kdas_batch_set"));
    KD_RETURN(kd_view_check(mask, "kdas_batch_set: mask"));
    if (mask->pixel != KDAS_PIXEL_GREY8 && mask->pixel != KDAS_PIXEL_GREYF32)
        return kd_fail(KDAS_EINVAL, "kdas_batch_set: the mask's pixel %d is not GREY8 or GREYF32",
                       (int)mask->pixel);
    if (mask->width != image->width || mask->height != image->height)
        return kd_fail(KDAS_ESHAPE, "kdas_batch_set: a mask of %lldx%lld for an image of %lldx%lld",
                       (long long)mask->width, (long long)mask->height, (long long)image->width,
                       (long long)image->height);
    return KDAS_OK;
}

kdas_status kdas_batch_set(kdas_batch *batch, int64_t i, const kdas_view *image,
                           const kdas_view *mask)
{
    kdas_status st     = KDAS_OK;
    void       *pixels = NULL;
    uint8_t    *truth  = NULL;
    int64_t     n;
    int         step;
    bool        bgr;

    KD_RETURN(check_set(batch, i, image, mask));
    KD_TRY(fit_image(&pixels, batch, image));
    if (mask) KD_TRY(fit_mask(&truth, batch, mask));

    n    = batch->height * batch->width;
    step = kd_pixel_colours(image->pixel);
    bgr  = kd_pixel_is_bgr(image->pixel);
    if (kd_pixel_is_float(image->pixel))
        put_floats(batch->images + 3 * i * n, pixels, n, step);
    else
        put_bytes(batch->images + 3 * i * n, pixels, n, step,
                  step == 1 ? (const int[]){ 0, 0, 0 }
                  : bgr     ? (const int[]){ 2, 1, 0 }
                            : (const int[]){ 0, 1, 2 });
    if (mask)
        put_mask(batch->masks + i * n, truth, n);
    else if (batch->masks)
        memset(batch->masks + i * n, 0, (size_t)n * sizeof(float));
    begin_place(batch, i);
    kd_batch_change(batch);
done:
    kd_free(batch->ctx, pixels);
    kd_free(batch->ctx, truth);
    return st;
}

/* ---- A teacher's maps, weights, places without a mask ---- */

float *kdas_batch_teacher(kdas_batch *batch) { return batch ? batch->teacher : NULL; }
float *kdas_batch_weights(kdas_batch *batch) { return batch ? batch->weights : NULL; }

int32_t kdas_batch_labelled(const kdas_batch *batch, int64_t i)
{
    return batch && batch->masks && i >= 0 && i < batch->count && !batch->unlabelled[i];
}

int32_t kdas_batch_has_teacher(const kdas_batch *batch, int64_t i)
{
    return batch && i >= 0 && i < batch->count && batch->mapped[i];
}

/* (room,height,width,1) of zeros, allocated as images and masks are. */
static kdas_status make_plane(kdas_batch *batch, float **out)
{
    size_t n = (size_t)(batch->room * batch->height * batch->width);

    if (batch->pinned) {
        *out = kd_device_host_alloc(batch->ctx, n * sizeof(float));
        if (*out) memset(*out, 0, n * sizeof(float));
        return *out ? KDAS_OK : kd_fail(KDAS_ENOMEM, "no host memory for a batch's maps");
    }
    *out = kd_calloc(batch->ctx, n, sizeof(float));
    return *out ? KDAS_OK : KDAS_ENOMEM;
}

kdas_status kd_batch_make_teacher(kdas_batch *batch)
{
    return batch->teacher ? KDAS_OK : make_plane(batch, &batch->teacher);
}

kdas_status kd_batch_make_weights(kdas_batch *batch)
{
    float *weights;

    if (batch->weights) return KDAS_OK;
    KD_RETURN(make_plane(batch, &weights));
    for (int64_t i = 0; i < batch->room * batch->height * batch->width; i++)
        weights[i] = 1;
    batch->weights = weights;
    return KDAS_OK;
}

kdas_status kd_batch_has_teacher(const kdas_batch *batch, bool *has)
{
    int64_t maps = 0;

    for (int64_t i = 0; i < batch->count; i++)
        maps += batch->mapped[i];
    *has = maps == batch->count;
    if (maps == 0 || *has) return KDAS_OK;
    return kd_fail(KDAS_ESTATE, "the batch has a teacher's map for %lld of its %lld images",
                   (long long)maps, (long long)batch->count);
}

bool kd_batch_waits(const kdas_batch *batch, int64_t i)
{
    return batch->unlabelled[i] && !batch->mapped[i];
}

void kd_pseudo_label(float *mask, float *weights, const float *logits, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        float z = logits[k]; /* `mask` may be `logits` */

        mask[k]    = z >= 0;
        weights[k] = KD_MAX(KD_PSEUDO_LEAST, fabsf(tanhf(z / 2))); /* |2p - 1|; a NaN stays one */
    }
}

/* Mask and weights of a place without a label are computed from its map, in either order of
 * calls. */
static void follow_map(kdas_batch *batch, int64_t i)
{
    int64_t n = batch->height * batch->width;

    if (batch->unlabelled[i] && batch->mapped[i])
        kd_pseudo_label(batch->masks + i * n, batch->weights + i * n, batch->teacher + i * n, n);
}

/* Mask and weights come from the teacher, so the place stays unlabelled. */
static void drop_label(kdas_batch *batch, int64_t i)
{
    int64_t n = batch->height * batch->width;

    for (int64_t k = i * n; k < (i + 1) * n; k++) {
        batch->masks[k]   = 0;
        batch->weights[k] = 1;
    }
}

void kd_batch_put_teacher(kdas_batch *batch, int64_t i, const float *probability, float least)
{
    int64_t n  = batch->height * batch->width;
    float  *to = batch->teacher + i * n;

    for (int64_t k = 0; k < n; k++) {
        float p = KD_MIN(KD_MAX(probability[k], least), 1 - least);

        to[k] = logf(p / (1 - p));
    }
    batch->mapped[i] = 1;
    follow_map(batch, i);
    kd_batch_change(batch);
}

static kdas_status check_plane(const kdas_batch *batch, int64_t i, const kdas_view *view,
                               const char *what)
{
    if (!batch) return kd_fail(KDAS_EINVAL, "%s: the batch is NULL", what);
    KD_RETURN(kd_check_process(batch->ctx));
    if (i < 0 || i >= batch->count)
        return kd_fail(KDAS_EINVAL, "%s: there is no place %lld of %lld", what, (long long)i,
                       (long long)batch->count);
    KD_RETURN(kd_view_check(view, what));
    if (view->pixel != KDAS_PIXEL_GREY8 && view->pixel != KDAS_PIXEL_GREYF32)
        return kd_fail(KDAS_EINVAL, "%s: pixel %d is not GREY8 or GREYF32", what, (int)view->pixel);
    return KDAS_OK;
}

/* A view as floats of the batch's size, from kd_alloc; none may be below 0 or above `most`. */
static kdas_status fit_plane(float **out, const kdas_batch *batch, const kdas_view *view,
                             float most, const char *what)
{
    kdas_status st   = KDAS_OK;
    kdas_view   full = { NULL, view->width, view->height, 0, KDAS_PIXEL_GREYF32 };
    float      *from = kd_alloc(batch->ctx, (size_t)(view->width * view->height) * sizeof *from);

    if (!from) return KDAS_ENOMEM;
    full.data = from;
    for (int64_t k = 0; k < view->width * view->height; k++) {
        const void *row = kd_view_row(view, k / view->width);
        int64_t     x   = k % view->width;

        from[k] = view->pixel == KDAS_PIXEL_GREY8 ? (float)((const uint8_t *)row)[x] / 255
                                                  : ((const float *)row)[x];
        if (from[k] >= 0 && from[k] <= most) continue;
        st = kd_fail(KDAS_EINVAL, "%s: %g is not 0 to %g", what, (double)from[k], (double)most);
        goto done;
    }
    *out = kd_alloc(batch->ctx, (size_t)(batch->height * batch->width) * sizeof **out);
    st =
        *out ? kd_resize_floats(batch->ctx, *out, batch->width, batch->height, &full) : KDAS_ENOMEM;
done:
    kd_free(batch->ctx, from);
    return st;
}

kdas_status kdas_batch_set_teacher(kdas_batch *batch, int64_t i, const kdas_view *map)
{
    static const char what[] = "kdas_batch_set_teacher";
    kdas_status       st     = KDAS_OK;
    float            *p      = NULL;

    KD_RETURN(check_plane(batch, i, map, what));
    KD_TRY(fit_plane(&p, batch, map, 1, what));
    KD_TRY(kd_batch_make_teacher(batch));
    kd_batch_put_teacher(batch, i, p, map->pixel == KDAS_PIXEL_GREY8 ? 0.5f / 255 : 0x1p-24f);
done:
    if (batch) kd_free(batch->ctx, p);
    return st;
}

static bool any_above_0(const float *x, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        if (x[k] > 0) return true;
    return false;
}

kdas_status kdas_batch_set_weights(kdas_batch *batch, int64_t i, const kdas_view *weights)
{
    static const char what[] = "kdas_batch_set_weights";
    kdas_status       st     = KDAS_OK;
    float            *w      = NULL;
    int64_t           n;

    KD_RETURN(check_plane(batch, i, weights, what));
    KD_RETURN(check_masks(batch, what));
    KD_TRY(fit_plane(&w, batch, weights, 1e6f, what));
    n = batch->height * batch->width;
    if (!any_above_0(w, n)) {
        st = kd_fail(KDAS_EINVAL, "%s: all weights of place %lld are 0", what, (long long)i);
        goto done;
    }
    KD_TRY(kd_batch_make_weights(batch));
    memcpy(batch->weights + i * n, w, (size_t)n * sizeof *w);
    follow_map(batch, i);
    kd_batch_change(batch);
done:
    kd_free(batch->ctx, w);
    return st;
}

kdas_status kdas_batch_set_labelled(kdas_batch *batch, int64_t i, int32_t labelled)
{
    if (!batch) return kd_fail(KDAS_EINVAL, "kdas_batch_set_labelled: the batch is NULL");
    KD_RETURN(kd_check_process(batch->ctx));
    if (i < 0 || i >= batch->count)
        return kd_fail(KDAS_EINVAL, "kdas_batch_set_labelled: there is no place %lld of %lld",
                       (long long)i, (long long)batch->count);
    KD_RETURN(check_masks(batch, "kdas_batch_set_labelled"));
    if (!labelled) KD_RETURN(kd_batch_make_weights(batch));
    if (labelled && batch->unlabelled[i] && batch->mapped[i]) drop_label(batch, i);
    batch->unlabelled[i] = !labelled;
    follow_map(batch, i);
    kd_batch_change(batch);
    return KDAS_OK;
}

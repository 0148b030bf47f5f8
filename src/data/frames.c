/* frames.c - the store of frames: decoding, and keeping what fits the budget. What is kept stays
 * until the end: every epoch visits every frame once, in another order, so evicting the least
 * recently used frame would evict frames that are needed soon. */
#include "base/context.h"
#include "base/process.h"
#include "data/frames.h"
#include "image/image.h"

kdas_status kd_frames_create(kd_frames **out, kdas_context *ctx, uint64_t budget)
{
    kd_frames *frames;

    *out = NULL;
    KD_RETURN(kd_check_process(ctx));
    frames = kd_calloc(ctx, 1, sizeof *frames);
    if (!frames) return KDAS_ENOMEM;
    frames->ctx       = ctx;
    frames->budget    = budget;
    frames->mask_rule = KDAS_MASK_BRIGHT;
    atomic_init(&frames->users, 1);
    if (pthread_mutex_init(&frames->lock, NULL) != 0) {
        kd_free(ctx, frames);
        return kd_fail(KDAS_ENOMEM, "a mutex could not be made");
    }
    *out = frames;
    return KDAS_OK;
}

kd_frames *kd_frames_share(kd_frames *frames)
{
    atomic_fetch_add(&frames->users, 1);
    return frames;
}

void kd_frame_finish(kdas_context *ctx, kd_frame_files *frame)
{
    kd_free(ctx, frame->name);
    kd_free(ctx, frame->image_path);
    kd_free(ctx, frame->mask_path);
    kdas_image_destroy(frame->image);
    kdas_image_destroy(frame->mask);
}

void kd_frames_drop(kd_frames *frames)
{
    if (!frames || atomic_fetch_sub(&frames->users, 1) != 1) return;
    for (size_t i = 0; i < frames->count; i++)
        kd_frame_finish(frames->ctx, &frames->frame[i]);
    kd_skips_finish(&frames->skips, frames->ctx);
    if (!kd_is_inherited(frames->ctx)) pthread_mutex_destroy(&frames->lock);
    kd_free(frames->ctx, frames->frame);
    kd_free(frames->ctx, frames);
}

kdas_status kd_frames_add(kd_frames *frames, kd_frame_files frame)
{
    kdas_status st = frame.name ? KDAS_OK : KDAS_ENOMEM;

    if (st == KDAS_OK)
        st = kd_grow(frames->ctx, (void **)&frames->frame, &frames->capacity, frames->count + 1,
                     sizeof frame);
    if (st == KDAS_OK)
        frames->frame[frames->count++] = frame;
    else
        kd_frame_finish(frames->ctx, &frame);
    return st;
}

/* ---- Decoding ---- */

/* Bring decoded pixels to the frame's size. */
static kdas_status fit(kdas_image **image, const kd_frame_files *frame)
{
    kdas_context *ctx = (*image)->ctx;
    kdas_image   *wanted;
    kdas_view     view = kdas_image_view(*image);
    kdas_status   st;

    if (view.width == frame->width && view.height == frame->height) return KDAS_OK;
    KD_RETURN(kd_image_make(&wanted, ctx, frame->width, frame->height, view.pixel));
    st = kd_resize_bytes(ctx, wanted->pixels, frame->width, frame->height, &view);
    if (st != KDAS_OK) {
        kdas_image_destroy(wanted);
        return st;
    }
    if (view.pixel == KDAS_PIXEL_GREY8) /* a mask */
        for (int64_t k = 0; k < frame->width * frame->height; k++)
            wanted->pixels[k] = wanted->pixels[k] > 127 ? 255 : 0;
    kdas_image_destroy(*image);
    *image = wanted;
    return KDAS_OK;
}

/* Check a file just decoded, which was width x height when the dataset was opened, and fit it into
 * the frame. On failure it is destroyed. */
static kdas_status take_file(kdas_image **image, const kd_frame_files *frame, const char *path,
                             int64_t width, int64_t height)
{
    kdas_view   view = kdas_image_view(*image);
    kdas_status st;

    if (view.width == width && view.height == height)
        st = fit(image, frame);
    else
        st = kd_fail(KDAS_EFORMAT,
                     "'%s' was %lldx%lld when the dataset was opened and is %lldx%lld now", path,
                     (long long)width, (long long)height, (long long)view.width,
                     (long long)view.height);
    if (st == KDAS_OK) return KDAS_OK;
    kdas_image_destroy(*image);
    *image = NULL;
    return st;
}

static kdas_status decode_image(kdas_image **image, kd_frames *frames, const kd_frame_files *frame)
{
    kd_image_info info;

    KD_RETURN(kd_image_load(image, &info, frames->ctx, frame->image_path, KDAS_PIXEL_RGB8));
    return take_file(image, frame, frame->image_path, frame->image_width, frame->image_height);
}

static kdas_status decode_mask(kdas_image **mask, kd_frames *frames, const kd_frame_files *frame)
{
    KD_RETURN(kd_mask_read(mask, frames->ctx, frame->mask_path, frames->mask_rule));
    return take_file(mask, frame, frame->mask_path, frame->mask_width, frame->mask_height);
}

static kdas_status decode(kdas_image **image, kdas_image **mask, kd_frames *frames, size_t i)
{
    const kd_frame_files *frame = &frames->frame[i];
    kdas_status           st    = KDAS_OK;

    if (!frame->image_path)
        return kdas_scene_draw(image, mask, frames->ctx, (int64_t)i, &frames->scene);
    *mask = NULL;
    KD_TRY(decode_image(image, frames, frame));
    if (!frame->unlabelled) KD_TRY(decode_mask(mask, frames, frame));
done:
    if (st != KDAS_OK) {
        kdas_image_destroy(*image);
        *image = NULL;
    }
    return st;
}

/* Keep a frame just decoded if it fits and no other thread was first. True: the store owns it. */
static bool keep(kd_frames *frames, kd_frame_files *frame, kdas_image *image, kdas_image *mask)
{
    uint64_t bytes = (uint64_t)(frame->width * frame->height) * (mask ? 4 : 3);
    bool     kept;

    pthread_mutex_lock(&frames->lock);
    kept = !frame->image && bytes <= frames->budget - frames->used;
    if (kept) {
        frame->image = image;
        frame->mask  = mask;
        frames->used += bytes;
    }
    pthread_mutex_unlock(&frames->lock);
    return kept;
}

kdas_status kd_frames_lend(kd_loan *out, kd_frames *frames, size_t i)
{
    kd_frame_files *frame = &frames->frame[i];
    kdas_image     *image, *mask;
    bool            kept;

    *out = (kd_loan){ 0 };
    KD_RETURN(kd_check_process(frames->ctx)); /* the lock may be held for ever */
    pthread_mutex_lock(&frames->lock);
    image = frame->image;
    mask  = frame->mask;
    pthread_mutex_unlock(&frames->lock);
    kept = image != NULL;
    if (!kept) {
        KD_RETURN(decode(&image, &mask, frames, i));
        kept = keep(frames, frame, image, mask);
    }
    *out = (kd_loan){ kdas_image_view(image), kdas_image_view(mask), kept ? NULL : image,
                      kept ? NULL : mask };
    return KDAS_OK;
}

void kd_loan_return(kd_loan *loan)
{
    kdas_image_destroy(loan->own_image);
    kdas_image_destroy(loan->own_mask);
    *loan = (kd_loan){ 0 };
}

/* ---- Frames without a polyp ---- */

static bool all_zero(const kdas_view *mask)
{
    for (int64_t y = 0; y < mask->height; y++) {
        const uint8_t *row = kd_view_row(mask, y);

        for (int64_t x = 0; x < mask->width; x++)
            if (row[x]) return false;
    }
    return true;
}

/* Look at the mask: the one that is kept, or a file's alone, or a scene's. */
static kdas_status look(bool *empty, kd_frames *frames, size_t i)
{
    const kd_frame_files *frame = &frames->frame[i];
    kdas_image           *mask  = NULL;
    kdas_view             view;
    kd_loan               loan;

    if (frame->image_path && !frame->mask_path) {
        *empty = false;
        return KDAS_OK;
    }
    if (frame->image_path) {
        KD_RETURN(decode_mask(&mask, frames, frame));
        view   = kdas_image_view(mask);
        *empty = all_zero(&view);
        kdas_image_destroy(mask);
        return KDAS_OK;
    }
    KD_RETURN(kd_frames_lend(&loan, frames, i));
    *empty = all_zero(&loan.mask);
    kd_loan_return(&loan);
    return KDAS_OK;
}

kdas_status kd_frames_empty(bool *out, kd_frames *frames, size_t i)
{
    kd_frame_files *frame = &frames->frame[i];
    bool            seen, empty;

    KD_RETURN(kd_check_process(frames->ctx));
    pthread_mutex_lock(&frames->lock);
    seen  = frame->seen;
    empty = frame->empty;
    pthread_mutex_unlock(&frames->lock);
    if (!seen) {
        KD_RETURN(look(&empty, frames, i));
        pthread_mutex_lock(&frames->lock);
        frame->empty = empty;
        frame->seen  = true;
        pthread_mutex_unlock(&frames->lock);
    }
    *out = empty;
    return KDAS_OK;
}

/* upload.c - batches on their way to the device. Two places take turns: while a step computes on one, the batch of
 * the next is uploaded to the other. On the host's own memory there is nothing to do. */
#include "data/batch.h"
#include "distill/distiller.h"

static bool has_memory(const kdas_distiller *d) { return !d->ctx->host_memory; }

static size_t image_bytes(const kdas_batch *b)
{
    return (size_t)(b->count * b->height * b->width * 3) * sizeof(float);
}
static size_t mask_bytes(const kdas_batch *b) { return image_bytes(b) / 3; }

/* From here on kernels find what is under way, and the host has its batches back. */
static kdas_status arrive(kdas_distiller *d)
{
    bool any = false;

    for (int i = 0; i < KD_UPLOADS; i++) {
        any |= d->upload[i].under_way;
        d->upload[i].under_way = false;
    }
    return any ? d->ctx->backend->arrive(d->ctx->device) : KDAS_OK;
}

static int waiting_for(const kdas_distiller *d, const kdas_batch *batch)
{
    for (int i = 0; i < KD_UPLOADS; i++)
        if (d->upload[i].batch == batch) return i;
    return -1;
}

/* Where to put a batch: where it waits already, where nothing does, or in place of the older one; never where
 * `kept` is. */
static int choose(const kdas_distiller *d, const kdas_batch *batch, int kept)
{
    int best = waiting_for(d, batch);

    if (best >= 0 && best != kept) return best;
    best = -1;
    for (int i = 0; i < KD_UPLOADS; i++) {
        const kd_upload *u = &d->upload[i];

        if (i == kept) continue;
        if (!u->batch) return i;
        if (best < 0 || u->when < d->upload[best].when) best = i;
    }
    return best;
}

static kdas_status reserve(kdas_distiller *d, kd_upload *u, const kdas_batch *batch)
{
    u->batch = NULL;
    KD_RETURN(kd_device_reserve(d->ctx, &u->images, image_bytes(batch)));
    return kd_device_reserve(d->ctx, &u->masks, mask_bytes(batch));
}

kdas_status kdas_distiller_prefetch(kdas_distiller *d, kdas_batch *batch)
{
    const kdas_backend *backend;
    kd_upload          *u;
    int                 kept;

    if (!d || !batch)
        return kd_fail(KDAS_EINVAL, "kdas_distiller_prefetch: distiller or batch is NULL");
    KD_RETURN(kd_check_size(batch->count, batch->height, batch->width));
    backend = d->ctx->backend;
    if (!has_memory(d) || !backend->upload_ahead) return KDAS_OK;
    KD_RETURN(arrive(d)); /* of the next step, not of this batch's */
    kept = d->phase == KD_PHASE_FORWARD ? d->upload_used : -1; /* backward reads it, too */
    u    = &d->upload[choose(d, batch, kept)];
    KD_RETURN(reserve(d, u, batch));
    u->under_way = batch->ahead = true;
    KD_RETURN(
        backend->upload_ahead(d->ctx->device, u->images.memory, batch->images, image_bytes(batch)));
    KD_RETURN(
        backend->upload_ahead(d->ctx->device, u->masks.memory, batch->masks, mask_bytes(batch)));
    u->batch   = batch;
    u->content = kd_batch_content(batch);
    u->when    = ++d->uploads;
    return KDAS_OK;
}

kdas_status kd_upload_batch(kdas_distiller *d, kdas_batch *batch, float **images, float **masks)
{
    int        at = waiting_for(d, batch);
    kd_upload *u;

    if (!has_memory(d)) {
        *images = batch->images;
        *masks  = batch->masks;
        return KDAS_OK;
    }
    if (at < 0 || d->upload[at].content != kd_batch_content(batch)) {
        at = choose(d, batch, -1);
        u  = &d->upload[at];
        if (u->under_way) KD_RETURN(arrive(d));
        KD_RETURN(reserve(d, u, batch));
        KD_RETURN(kd_device_upload(d->ctx, u->images.memory, batch->images, image_bytes(batch)));
        KD_RETURN(kd_device_upload(d->ctx, u->masks.memory, batch->masks, mask_bytes(batch)));
    }
    u = &d->upload[at];
    if (u->under_way) KD_RETURN(arrive(d));
    u->batch       = NULL; /* whatever is written into it from now on is uploaded again */
    d->upload_used = at;
    *images        = u->images.memory;
    *masks         = u->masks.memory;
    return KDAS_OK;
}

kdas_status kd_upload_settle(kdas_distiller *d)
{
    for (int i = 0; i < KD_UPLOADS; i++)
        d->upload[i].batch = NULL;
    return arrive(d);
}

void kd_upload_finish(kdas_distiller *d)
{
    kd_upload_settle(d);
    for (int i = 0; i < KD_UPLOADS; i++) {
        kd_device_unstage(d->ctx, &d->upload[i].images);
        kd_device_unstage(d->ctx, &d->upload[i].masks);
    }
}

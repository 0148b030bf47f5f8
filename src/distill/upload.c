/* upload.c - batches on their way to the device. Two places take turns: while a step computes on one, the batch of
 * the next is uploaded to the other. On the host's own memory there is nothing to do. */
#include "base/process.h"
#include "data/batch.h"
#include "distill/distiller.h"

static bool has_memory(const kdas_distiller *d) { return !d->ctx->host_memory; }

static size_t image_bytes(const kdas_batch *b)
{
    return (size_t)(b->count * b->height * b->width * 3) * sizeof(float);
}
static size_t mask_bytes(const kdas_batch *b) { return image_bytes(b) / 3; }

/* From here on kernels find what is under way, and the host has its batches back. */
static kdas_status wait_for_uploads(kdas_distiller *d)
{
    bool any = false;

    for (int i = 0; i < KD_UPLOADS; i++) {
        any |= d->upload[i].under_way;
        d->upload[i].under_way = false;
    }
    return any ? kd_device_upload_wait(d->ctx) : KDAS_OK;
}

static int waiting_for(const kdas_distiller *d, const kdas_batch *batch)
{
    for (int i = 0; i < KD_UPLOADS; i++)
        if (d->upload[i].batch == batch->id) return i;
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

/* What a batch is made of. */
enum { PARTS = 4 };
typedef struct part {
    kd_staging  *staging;
    const float *from; /* NULL: the batch has none */
    size_t       bytes;
} part;

static void find_parts(part parts[PARTS], kd_upload *u, const kdas_batch *batch)
{
    parts[0] = (part){ &u->images, batch->images, image_bytes(batch) };
    parts[1] = (part){ &u->masks, batch->masks, mask_bytes(batch) };
    parts[2] = (part){ &u->teacher, batch->teacher, mask_bytes(batch) };
    parts[3] = (part){ &u->weights, batch->weights, mask_bytes(batch) };
}

static kdas_status reserve(kdas_distiller *d, kd_upload *u, const kdas_batch *batch)
{
    part parts[PARTS];

    u->batch = 0;
    find_parts(parts, u, batch);
    for (int i = 0; i < PARTS; i++)
        if (parts[i].from) KD_RETURN(kd_device_reserve(d->ctx, parts[i].staging, parts[i].bytes));
    return KDAS_OK;
}

/* Copy a batch to where it has room; `ahead`: beside the kernels. */
static kdas_status copy(kdas_distiller *d, kd_upload *u, const kdas_batch *batch, bool ahead)
{
    part parts[PARTS];

    find_parts(parts, u, batch);
    for (int i = 0; i < PARTS; i++) {
        const part *p = &parts[i];

        if (!p->from) continue;
        KD_RETURN(ahead ? d->ctx->backend->upload_async(d->ctx->device, p->staging->memory, p->from,
                                                        p->bytes)
                        : kd_device_upload(d->ctx, p->staging->memory, p->from, p->bytes));
    }
    return KDAS_OK;
}

kdas_status kdas_distiller_prefetch(kdas_distiller *d, kdas_batch *batch)
{
    const kdas_backend *backend;
    kd_upload          *u;
    int                 kept;

    if (!d || !batch)
        return kd_fail(KDAS_EINVAL, "kdas_distiller_prefetch: distiller or batch is NULL");
    if (batch->ctx != d->ctx)
        return kd_fail(KDAS_EINVAL,
                       "kdas_distiller_prefetch: the batch belongs to another context than the "
                       "distiller");
    KD_RETURN(kd_check_process(d->ctx));
    KD_RETURN(kd_check_size(batch->count, batch->height, batch->width));
    backend = d->ctx->backend;
    if (!has_memory(d) || !backend->upload_async) return KDAS_OK;
    KD_RETURN(wait_for_uploads(d)); /* of the next step, not of this batch's */
    kept = d->phase == KD_PHASE_FORWARD ? d->upload_used : -1; /* backward reads it, too */
    u    = &d->upload[choose(d, batch, kept)];
    KD_RETURN(reserve(d, u, batch));
    u->under_way = batch->ahead = true;
    KD_RETURN(copy(d, u, batch, true));
    u->batch   = batch->id;
    u->content = kd_batch_content(batch);
    u->when    = ++d->uploads;
    return KDAS_OK;
}

kdas_status kd_upload_batch(kdas_distiller *d, kdas_batch *batch, kd_uploaded *out)
{
    int        at = waiting_for(d, batch);
    kd_upload *u;

    if (!has_memory(d)) {
        *out = (kd_uploaded){ batch->images, batch->masks, batch->teacher, batch->weights };
        return KDAS_OK;
    }
    if (at < 0 || d->upload[at].content != kd_batch_content(batch)) {
        at = choose(d, batch, -1);
        u  = &d->upload[at];
        if (u->under_way) KD_RETURN(wait_for_uploads(d));
        KD_RETURN(reserve(d, u, batch));
        KD_RETURN(copy(d, u, batch, false));
    }
    u = &d->upload[at];
    if (u->under_way) KD_RETURN(wait_for_uploads(d));
    u->batch       = 0; /* whatever is written into it from now on is uploaded again */
    d->upload_used = at;
    *out =
        (kd_uploaded){ u->images.memory, u->masks.memory, batch->teacher ? u->teacher.memory : NULL,
                       batch->weights ? u->weights.memory : NULL };
    return KDAS_OK;
}

kdas_status kdas_distiller_settle(kdas_distiller *d)
{
    if (!d) return kd_fail(KDAS_EINVAL, "kdas_distiller_settle: the distiller is NULL");
    for (int i = 0; i < KD_UPLOADS; i++)
        d->upload[i].batch = 0;
    return wait_for_uploads(d);
}

void kd_upload_finish(kdas_distiller *d)
{
    kdas_distiller_settle(d);
    for (int i = 0; i < KD_UPLOADS; i++) {
        kd_device_unstage(d->ctx, &d->upload[i].images);
        kd_device_unstage(d->ctx, &d->upload[i].masks);
        kd_device_unstage(d->ctx, &d->upload[i].teacher);
        kd_device_unstage(d->ctx, &d->upload[i].weights);
    }
}

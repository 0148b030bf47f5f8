/* upload.c - batches on their context's device. There are two places (double buffering): forwards
 * compute on one while the next batch is uploaded to the other. If device memory is host memory,
 * nothing is uploaded. upload.c and batch.c call each other: an upload reads the number of a
 * batch's content, and destroying a batch waits for its upload. */
#include "data/upload.h"
#include "base/context.h"
#include "base/process.h"
#include "data/batch.h"
#include "graph/device.h"

/* The arrays of a batch: images, masks, the teacher's maps, weights. */
enum { PLACES = 2, PARTS = 4 };

/* A place on the device for a batch. The batch is identified by its number, since the host may have
 * destroyed it. */
typedef struct place {
    kd_staging part[PARTS];
    uint64_t   batch;     /* 0: it is free                                 */
    uint64_t   content;   /* of the batch when it was uploaded             */
    bool       under_way; /* upload_wait() has not been called since       */
    bool       taken;     /* by kdas_batch_upload()                        */
    bool       used;      /* by kdas_batch_upload() or a forward          */
    uint64_t   when;      /* it was uploaded, in uploads of the context    */
    uint64_t   filled;    /* number of uploads to this place: see kd_stamp */
} place;

typedef struct uploads {
    place    place[PLACES];
    uint64_t clock;
} uploads;

typedef struct part {
    const float *from; /* NULL: the batch has none */
    size_t       bytes;
} part;

static void find_parts(part parts[PARTS], const kdas_batch *b)
{
    size_t plane = (size_t)(b->count * b->height * b->width) * sizeof(float);

    parts[0] = (part){ b->images, 3 * plane };
    parts[1] = (part){ b->masks, plane };
    parts[2] = (part){ b->teacher, plane };
    parts[3] = (part){ b->weights, plane };
}

static void               finish(kdas_context *ctx, void *memory);
static const kd_part_type uploads_part = { sizeof(uploads), finish };

/* NULL: nothing was uploaded yet. */
static uploads *uploads_of(const kdas_context *ctx) { return kd_context_part(ctx, &uploads_part); }

/* Wait for pending uploads. Afterwards kernels may read them, and the host may change its
 * batches. */
static kdas_status wait_for_uploads(kdas_context *ctx, uploads *u)
{
    bool any = false;

    for (int i = 0; i < PLACES; i++) {
        any |= u->place[i].under_way;
        u->place[i].under_way = false;
    }
    return any ? kd_device_upload_wait(ctx) : KDAS_OK;
}

static void finish(kdas_context *ctx, void *memory)
{
    uploads *u = memory;

    wait_for_uploads(ctx, u);
    for (int i = 0; i < PLACES; i++)
        for (int k = 0; k < PARTS; k++)
            kd_device_unstage(ctx, &u->place[i].part[k]);
}

/* The place that a batch was last uploaded to; NULL: it is on no place. */
static place *last_of(const kdas_context *ctx, const kdas_batch *batch)
{
    uploads *u    = uploads_of(ctx);
    place   *last = NULL;

    for (int i = 0; u && i < PLACES; i++) {
        place *p = &u->place[i];

        if (p->batch == batch->id && (!last || p->when > last->when)) last = p;
    }
    return last;
}

static bool is_current(const place *p, kdas_batch *batch)
{
    return p && p->content == kd_batch_content(batch);
}

/* The cost of overwriting a place. It is least for the batch's own place or a free one. `ahead`:
 * forwards still read what was used. */
static int cost(const place *p, const kdas_batch *batch, bool ahead)
{
    if (p->batch == batch->id && !(ahead && p->used)) return 0;
    if (!p->batch) return 1;
    return p->used ? 3 : 2;
}

static place *choose(uploads *u, const kdas_batch *batch, bool ahead)
{
    place *best = &u->place[0];

    for (int i = 1; i < PLACES; i++) {
        place *p     = &u->place[i];
        int    mine  = cost(p, batch, ahead);
        int    least = cost(best, batch, ahead);

        if (mine < least || (mine == least && mine > 1 && p->when < best->when)) best = p;
    }
    return best;
}

static kdas_status copy(kdas_context *ctx, place *p, const part parts[PARTS], bool beside)
{
    for (int k = 0; k < PARTS; k++) {
        void *to = p->part[k].memory;

        if (!parts[k].from) continue;
        KD_RETURN(beside
                      ? ctx->backend->upload_async(ctx->device, to, parts[k].from, parts[k].bytes)
                      : kd_device_upload(ctx, to, parts[k].from, parts[k].bytes));
    }
    return KDAS_OK;
}

/* Upload a batch to a place; `ahead`: beside the kernels, if the device can. */
static kdas_status put(kdas_batch *batch, bool ahead)
{
    kdas_context *ctx    = batch->ctx;
    bool          beside = ahead && ctx->backend->upload_async;
    part          parts[PARTS];
    place        *p;
    uploads      *u;
    void         *made;

    KD_RETURN(kd_context_part_make(&made, ctx, &uploads_part));
    u = made;
    if (beside) KD_RETURN(wait_for_uploads(ctx, u)); /* these uploads belong to the next step */
    p = choose(u, batch, ahead);
    if (p->under_way) KD_RETURN(wait_for_uploads(ctx, u));
    p->batch = 0;
    p->taken = p->used = false;
    p->filled++;
    find_parts(parts, batch);
    for (int k = 0; k < PARTS; k++)
        if (parts[k].from) KD_RETURN(kd_device_reserve(ctx, &p->part[k], parts[k].bytes));
    batch->placed = true;
    p->under_way  = beside;
    if (beside) p->batch = batch->id; /* being read, even if a part fails */
    p->content = 0;
    KD_RETURN(copy(ctx, p, parts, beside));
    p->batch   = batch->id;
    p->content = kd_batch_content(batch);
    p->when    = ++u->clock;
    return KDAS_OK;
}

kdas_status kdas_batch_prefetch(kdas_batch *batch)
{
    if (!batch) return kd_fail(KDAS_EINVAL, "kdas_batch_prefetch: the batch is NULL");
    KD_RETURN(kd_check_process(batch->ctx));
    return batch->ctx->host_memory ? KDAS_OK : put(batch, true);
}

kdas_status kdas_batch_upload(kdas_batch *batch)
{
    place *p;

    if (!batch) return kd_fail(KDAS_EINVAL, "kdas_batch_upload: the batch is NULL");
    KD_RETURN(kd_check_process(batch->ctx));
    if (batch->ctx->host_memory) return KDAS_OK;
    p = last_of(batch->ctx, batch);
    if (!is_current(p, batch) || p->taken) {
        KD_RETURN(put(batch, false));
        p = last_of(batch->ctx, batch);
    }
    if (p->under_way) KD_RETURN(wait_for_uploads(batch->ctx, uploads_of(batch->ctx)));
    p->taken = p->used = true;
    return KDAS_OK;
}

kdas_status kdas_batch_settle(kdas_batch *batch)
{
    uploads *u;
    bool     reads = false;

    if (!batch) return kd_fail(KDAS_EINVAL, "kdas_batch_settle: the batch is NULL");
    u = uploads_of(batch->ctx);
    for (int i = 0; u && i < PLACES; i++) {
        place *p = &u->place[i];

        if (p->batch != batch->id) continue;
        reads |= p->under_way;
        p->batch = 0;
        p->taken = p->used = false;
    }
    return reads ? wait_for_uploads(batch->ctx, u) : KDAS_OK;
}

kdas_status kd_batch_find(kd_batch_place *out, kdas_context *ctx, kdas_batch *batch)
{
    place *p = ctx == batch->ctx ? last_of(ctx, batch) : NULL;

    *out = (kd_batch_place){ 0 };
    if (ctx->host_memory) {
        *out = (kd_batch_place){ .images  = batch->images,
                                 .masks   = batch->masks,
                                 .teacher = batch->teacher,
                                 .weights = batch->weights };
        return KDAS_OK;
    }
    if (!is_current(p, batch)) return KDAS_OK;
    if (p->under_way) KD_RETURN(wait_for_uploads(ctx, uploads_of(ctx)));
    p->used = true;
    *out    = (kd_batch_place){ .images  = p->part[0].memory,
                                .masks   = batch->masks ? p->part[1].memory : NULL,
                                .teacher = batch->teacher ? p->part[2].memory : NULL,
                                .weights = batch->weights ? p->part[3].memory : NULL,
                                .stamp   = { &p->filled, p->filled } };
    return KDAS_OK;
}

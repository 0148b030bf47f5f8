/* param.c - the list of a model's parameters and their blocks. Each entry starts at a multiple
 * of 16 floats. The gaps stay zero, so that passes over a whole block (AdamW, norms, zeroing)
 * may include them. */
#include <math.h>
#include <string.h>
#include "base/parallel.h"
#include "base/process.h"
#include "graph/device.h"
#include "graph/param_inside.h"
#include "graph/profile.h"

#define ALIGN_FLOATS (KDAS_ALIGNMENT / (int64_t)sizeof(float))

kdas_status kd_params_create(kd_params **out, kdas_context *ctx)
{
    *out = kd_calloc(ctx, 1, sizeof **out);
    if (!*out) return KDAS_ENOMEM;
    (*out)->ctx     = ctx;
    (*out)->version = 1;
    if (pthread_mutex_init(&(*out)->drawing, NULL) == 0) return KDAS_OK;
    kd_free(ctx, *out);
    *out = NULL;
    return kd_fail(KDAS_ENOMEM, "the system has no memory for a lock");
}

static void destroy_entry(kdas_context *ctx, kd_param_entry *e)
{
    if (e) kd_free(ctx, e->name);
    kd_free(ctx, e);
}

void kd_params_destroy(kd_params *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->count; i++)
        destroy_entry(p->ctx, p->entry[i]);
    kd_device_free(p->ctx, p->values);
    kd_device_free(p->ctx, p->grads);
    kd_device_free(p->ctx, p->squares);
    if (!kd_is_inherited(p->ctx)) pthread_mutex_destroy(&p->drawing);
    kd_free(p->ctx, p->entry);
    kd_free(p->ctx, p);
}

int kd_params_find(const kd_params *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->entry[i]->name, name) == 0) return (int)i;
    return -1;
}

static int add_entry(kd_params *p, const char *name, kd_init init, int rank, const int64_t *dims)
{
    kd_param_entry *e;

    if (kd_grow(p->ctx, (void **)&p->entry, &p->capacity, p->count + 1, sizeof *p->entry) !=
        KDAS_OK)
        return KDAS_ENOMEM;
    e = kd_calloc(p->ctx, 1, sizeof *e);
    if (!e) return KDAS_ENOMEM;
    e->name  = kd_strdup(p->ctx, name);
    e->rank  = rank;
    e->count = 1;
    e->init  = init;
    for (int i = 0; i < KDAS_MAX_DIMS; i++) {
        e->dim[i] = i < rank ? dims[i] : 1;
        e->count *= e->dim[i];
    }
    if (!e->name) {
        destroy_entry(p->ctx, e);
        return KDAS_ENOMEM;
    }
    p->entry[p->count] = e;
    return (int)p->count++;
}

int kd_params_declare(kd_params *p, const char *name, kd_init init, int rank, const int64_t *dims)
{
    int i = kd_params_find(p, name);

    if (i < 0 && p->sealed)
        return kd_fail(KDAS_ESTATE, "parameter '%s' is not part of the model", name);
    if (i < 0) return add_entry(p, name, init, rank, dims);
    if (p->entry[i]->rank != rank ||
        (rank && memcmp(p->entry[i]->dim, dims, (size_t)rank * sizeof *dims) != 0))
        return kd_fail(KDAS_ESHAPE, "parameter '%s' is used with two shapes", name);
    return i;
}

/* The block's parts, in this order. */
enum { TRAINABLE, RUNNING, IDLE, PARTS };

static int part_of(const kd_init *init)
{
    if (init->kind == KD_TRAINABLE) return TRAINABLE;
    return init->kind == KD_IDLE || init->idle ? IDLE : RUNNING;
}

kdas_status kd_params_seal(kd_params *p, bool gradients)
{
    int64_t end[PARTS];

    for (int part = 0; part < PARTS; part++) {
        for (size_t i = 0; i < p->count; i++) {
            kd_param_entry *e = p->entry[i];

            if (part_of(&e->init) != part) continue;
            e->offset = p->total;
            p->total += (e->count + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
        }
        end[part] = p->total;
    }
    p->trainable = end[TRAINABLE];
    p->running   = end[RUNNING] - end[TRAINABLE];
    p->sealed    = true;
    p->values    = kd_device_alloc(p->ctx, (size_t)p->total * sizeof(float));
    if (!p->values) return KDAS_ENOMEM;
    KD_RETURN(kd_device_zero(p->ctx, p->values, (size_t)p->total * sizeof(float)));
    if (!gradients) return KDAS_OK;
    p->grads = kd_device_alloc(p->ctx, (size_t)p->trainable * sizeof(float));
    return p->grads ? kd_params_zero_grads(p, "") : KDAS_ENOMEM;
}

typedef struct draw_job {
    float                *to;
    const kd_param_entry *entry;
    uint64_t              seed;
} draw_job;

/* Number i of a truncated normal. Draw again from where no other number draws. */
static double draw_truncated(kd_random *r, int64_t i, int64_t count)
{
    double x;

    for (r->counter = 2 * (uint64_t)i;; r->counter += 2 * (uint64_t)(count - 1))
        if (fabs(x = kd_random_normal(r)) <= 2) return x;
}

/* Draw numbers begin .. end of an entry. Each depends only on its position, not on the thread
 * that draws it. */
static void draw_numbers(void *user, int64_t begin, int64_t end, int thread)
{
    const draw_job       *job = user;
    const kd_param_entry *e   = job->entry;
    kd_random             r   = kd_random_make(job->seed, kd_hash64(e->name));
    float                *to  = job->to;

    (void)thread;
    r.counter = (uint64_t)begin * (e->init.rule == KD_INIT_NORMAL ? 2 : 1); /* draws per number */
    for (int64_t i = begin; i < end; i++)
        switch (e->init.rule) {
        case KD_INIT_ZERO: to[i] = 0; break;
        case KD_INIT_ONE: to[i] = 1; break;
        case KD_INIT_NORMAL: to[i] = e->init.a * (float)kd_random_normal(&r); break;
        case KD_INIT_TRUNCATED: to[i] = e->init.a * (float)draw_truncated(&r, i, e->count); break;
        case KD_INIT_UNIFORM: to[i] = (float)kd_random_between(&r, -e->init.a, e->init.a); break;
        }
}

static void draw_entry(kd_params *p, kd_param_entry *e, uint64_t seed, float *to)
{
    draw_job job = { to, e, seed };

    kd_parallel_rows(p->ctx, e->count, 4096, draw_numbers, &job);
    e->undrawn = false;
}

/* In host memory: nothing is allocated, so nothing can fail. Several threads may read the values of
 * one model, so the first one draws and the others wait. */
static void draw_the_rest(kd_params *p)
{
    if (!__atomic_load_n(&p->undrawn, __ATOMIC_ACQUIRE)) return;
    pthread_mutex_lock(&p->drawing);
    for (size_t i = 0; i < p->count; i++)
        if (p->entry[i]->undrawn)
            draw_entry(p, p->entry[i], p->seed, p->values + p->entry[i]->offset);
    __atomic_store_n(&p->undrawn, false, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&p->drawing);
}

static void draw_later(kd_params *p, uint64_t seed)
{
    kd_params_touch(p);
    p->seed    = seed;
    p->undrawn = true;
    for (size_t i = 0; i < p->count; i++) {
        p->entry[i]->undrawn = p->entry[i]->init.kind != KD_COUNTER;
        p->entry[i]->counter = 0;
    }
}

kdas_status kd_params_init(kd_params *p, uint64_t seed)
{
    int64_t     largest = 1;
    float      *values;
    kdas_status st = KDAS_OK;

    if (p->ctx->host_memory) {
        draw_later(p, seed);
        return KDAS_OK;
    }
    for (size_t i = 0; i < p->count; i++)
        largest = KD_MAX(largest, p->entry[i]->count);
    values = kd_alloc(p->ctx, (size_t)largest * sizeof *values);
    if (!values) return KDAS_ENOMEM;
    for (size_t i = 0; i < p->count; i++) {
        draw_entry(p, p->entry[i], seed, values);
        KD_TRY(kd_params_write(p, (int)i, values));
    }
done:
    kd_free(p->ctx, values);
    return st;
}

bool kd_is_range_name(const char *name)
{
    const char *end = strrchr(name, '.');

    return end && strcmp(end, ".input_range") == 0;
}

bool kd_param_is_range(const kd_param_entry *e)
{
    return e->init.kind == KD_BUFFER && kd_is_range_name(e->name);
}

int                   kd_params_count(const kd_params *p) { return (int)p->count; }
const kd_param_entry *kd_params_at(const kd_params *p, int i) { return p->entry[i]; }
int64_t               kd_params_numbers(const kd_params *p)
{
    int64_t n = 0;

    for (size_t i = 0; i < p->count; i++)
        if (p->entry[i]->init.kind == KD_TRAINABLE || p->entry[i]->init.kind == KD_IDLE)
            n += p->entry[i]->count;
    return n;
}

int64_t kd_params_trainable(const kd_params *p) { return p->trainable; }
int64_t kd_params_running(const kd_params *p) { return p->running; }
int64_t kd_params_total(const kd_params *p) { return p->total; }
float  *kd_params_values(kd_params *p)
{
    draw_the_rest(p);
    return p->values;
}
float   *kd_params_grads(kd_params *p) { return p->grads; }
uint64_t kd_params_version(const kd_params *p) { return p->version; }
void     kd_params_touch_update(kd_params *p) { p->version++; }
void     kd_params_touch(kd_params *p)
{
    p->version++;
    p->given++;
}
uint64_t kd_params_stats_version(const kd_params *p) { return p->stats_version; }
void     kd_params_touch_stats(kd_params *p) { p->stats_version++; }

kdas_status kd_params_zero_grads(kd_params *p, const char *label)
{
    KD_RETURN(kd_profile_zero(p->ctx, label, p->grads, (size_t)p->trainable * sizeof(float)));
    p->spoilt = false;
    return KDAS_OK;
}

struct kd_pack **kd_params_packs(kd_params *p) { return &p->packs; }

void kd_params_spoil_grads(kd_params *p) { p->spoilt = true; }
bool kd_params_grads_spoilt(const kd_params *p) { return p->spoilt; }

static size_t entry_bytes(const kd_param_entry *e) { return (size_t)e->count * sizeof(float); }

void kd_params_count_up(kd_params *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->entry[i]->init.kind == KD_COUNTER && !p->entry[i]->init.idle) p->entry[i]->counter++;
}

void kd_params_read_counters(const kd_params *p, int64_t *to)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->entry[i]->init.kind == KD_COUNTER) to[i] = p->entry[i]->counter;
}

void kd_params_write_counters(kd_params *p, const int64_t *from)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->entry[i]->init.kind == KD_COUNTER) p->entry[i]->counter = from[i];
}

kdas_status kd_params_read(kd_params *p, int i, float *to)
{
    if (p->entry[i]->init.kind == KD_COUNTER) {
        *to = (float)p->entry[i]->counter;
        return KDAS_OK;
    }
    draw_the_rest(p);
    return kd_device_download(p->ctx, to, p->values + p->entry[i]->offset,
                              entry_bytes(p->entry[i]));
}

kdas_status kd_params_read_grad(kd_params *p, int i, float *to)
{
    return kd_device_download(p->ctx, to, p->grads + p->entry[i]->offset, entry_bytes(p->entry[i]));
}

bool kd_is_counter_value(float value) { return value >= 0 && value <= 0x1p53f; }

kdas_status kd_params_write(kd_params *p, int i, const float *from)
{
    kd_params_touch(p);
    if (p->entry[i]->init.kind == KD_COUNTER) {
        p->entry[i]->counter = kd_is_counter_value(*from) ? (int64_t)*from : 0;
        return KDAS_OK;
    }
    p->entry[i]->undrawn = false;
    return kd_device_upload(p->ctx, p->values + p->entry[i]->offset, from,
                            entry_bytes(p->entry[i]));
}

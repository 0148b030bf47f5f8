/* far_device.c - see far_device.h. */
#include "support/far_device.h"
#include <check.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/registry.h"
#include "op/op.h"
#include "support/check_util.h"

extern const kdas_backend kd_backend_cpu, kd_backend_reference;

kd_test_far kd_far;

enum { MAX_BLOCKS = 4096, MAX_AHEAD = 16, MAX_KERNELS = 128 };
#define FIRST_ADDRESS ((uintptr_t)1 << 55) /* of none of the host's pages */
#define PAGE          ((size_t)4096)

typedef struct block {
    uintptr_t address;
    size_t    bytes;
    char     *memory;
} block;

typedef struct copy {
    void       *to;
    const void *from;
    size_t      bytes;
} copy;

typedef kdas_status (*kernel_fn)(kdas_device *device, const kdas_call *call);

/* A call that was captured, or memory to be zeroed. */
typedef struct note {
    kernel_fn      run; /* NULL: zero */
    kdas_call      call;
    kdas_node_desc node;
    void          *memory;
    size_t         bytes;
} note;

typedef struct graph {
    note  *note;
    size_t count, capacity;
} graph;

struct kdas_device {
    kdas_host           host;
    const kdas_backend *backend; /* whose kernels compute */
    kdas_device        *inner;
    block               block[MAX_BLOCKS];
    int                 blocks;
    uintptr_t           next;
    copy                ahead[MAX_AHEAD]; /* that have not arrived */
    int                 aheads;
    graph              *capturing;
    int                 entered;
};

/* ---- memory ---- */

static size_t total(void) { return kd_far.total ? kd_far.total : (size_t)1 << 30; }

/* Contexts of several threads count together. */
static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;

static void *alloc_block(kdas_device *d, size_t bytes)
{
    block *b = &d->block[d->blocks];

    kd_far.allocs++;
    if (kd_far.fail_alloc && kd_far.allocs >= kd_far.fail_alloc) return NULL;
    if (d->blocks == MAX_BLOCKS || kd_far.bytes + bytes > total()) return NULL;
    b->memory =
        aligned_alloc(KDAS_ALIGNMENT, (bytes + KDAS_ALIGNMENT) / KDAS_ALIGNMENT * KDAS_ALIGNMENT);
    if (!b->memory) return NULL;
    memset(b->memory, 0xFF, bytes); /* NaN: nobody may rely on what is there */
    b->bytes   = bytes;
    b->address = d->next;
    d->next += (bytes + 2 * PAGE) / PAGE * PAGE;
    d->blocks++;
    kd_far.blocks++;
    kd_far.bytes += bytes;
    return (void *)b->address;
}

static void free_block(kdas_device *d, void *memory)
{
    for (int i = 0; i < d->blocks; i++) {
        block b = d->block[i];

        if (b.address != (uintptr_t)memory) continue;
        free(b.memory);
        d->block[i] = d->block[--d->blocks];
        kd_far.blocks--;
        kd_far.bytes -= b.bytes;
        return;
    }
    ck_abort_msg("memory is given back that was not taken");
}

static void *far_alloc(kdas_device *d, size_t bytes)
{
    void *memory;

    pthread_mutex_lock(&counting);
    memory = alloc_block(d, bytes);
    pthread_mutex_unlock(&counting);
    return memory;
}

static void far_free(kdas_device *d, void *memory)
{
    pthread_mutex_lock(&counting);
    free_block(d, memory);
    pthread_mutex_unlock(&counting);
}

/* Where it really is; NULL: it is no memory of the device, or was given back. */
static void *find(const kdas_device *d, const void *address, size_t bytes)
{
    uintptr_t at = (uintptr_t)address;

    for (int i = 0; i < d->blocks; i++) {
        const block *b = &d->block[i];

        if (at >= b->address && at - b->address <= b->bytes &&
            b->bytes - (at - b->address) >= bytes)
            return b->memory + (at - b->address);
    }
    return NULL;
}

static kdas_status stranger(kdas_device *d, const char *what)
{
    return (d->host.fail)(KDAS_EBACKEND, "far: %s is not in the device's memory", what);
}

static kdas_status busy(kdas_device *d, const char *what)
{
    return (d->host.fail)(KDAS_EBACKEND, "far: %s() during a capture", what);
}

static kdas_status far_upload(kdas_device *d, void *to, const void *from, size_t bytes)
{
    void *memory = find(d, to, bytes);

    kd_far.uploads++;
    if (d->capturing) return busy(d, "upload");
    if (!memory) return stranger(d, "what is uploaded to");
    memcpy(memory, from, bytes);
    return KDAS_OK;
}

static kdas_status far_download(kdas_device *d, void *to, const void *from, size_t bytes)
{
    const void *memory = find(d, from, bytes);

    kd_far.downloads++;
    if (d->capturing) return busy(d, "download");
    if (!memory) return stranger(d, "what is downloaded");
    memcpy(to, memory, bytes);
    return KDAS_OK;
}

static kdas_status far_memory(kdas_device *d, size_t *available, size_t *all)
{
    (void)d;
    *all       = total();
    *available = total() - kd_far.bytes;
    return KDAS_OK;
}

static void *far_host_alloc(kdas_device *d, size_t bytes)
{
    void *memory = malloc(bytes);

    (void)d;
    if (memory) atomic_fetch_add(&kd_far.host_blocks, 1);
    return memory;
}

static void far_host_free(kdas_device *d, void *memory)
{
    (void)d;
    atomic_fetch_sub(&kd_far.host_blocks, 1);
    free(memory);
}

/* ---- uploads beside kernels ---- */

static kdas_status far_upload_async(kdas_device *d, void *to, const void *from, size_t bytes)
{
    void *memory = find(d, to, bytes);

    kd_far.asyncs++;
    if (d->capturing) return busy(d, "upload_async");
    if (!memory) return stranger(d, "what is uploaded to beside kernels");
    ck_assert_int_lt(d->aheads, MAX_AHEAD);
    d->ahead[d->aheads++] = (copy){ to, from, bytes };
    if (kd_far.late)
        memset(memory, 0xFF, bytes);
    else
        memcpy(memory, from, bytes);
    return KDAS_OK;
}

static kdas_status far_upload_wait(kdas_device *d)
{
    kd_far.waits++;
    if (d->capturing) return busy(d, "upload_wait");
    for (int i = 0; i < d->aheads; i++) {
        void *memory = find(d, d->ahead[i].to, d->ahead[i].bytes);

        if (!memory) return stranger(d, "what arrives");
        if (kd_far.late)
            memcpy(memory, d->ahead[i].from, d->ahead[i].bytes);
        else if (memcmp(memory, d->ahead[i].from, d->ahead[i].bytes) != 0)
            return (d->host.fail)(KDAS_EBACKEND, "far: a batch on its way was changed");
    }
    d->aheads = 0;
    return KDAS_OK;
}

/* ---- kernels: those of another backend, on the real addresses ---- */

static int all_f32(kdas_device *d, const kdas_node_desc *node)
{
    (void)d;
    if (node->op == kd_far.without) return 0;
    for (int i = 0; i < node->inputs; i++)
        if (kd_present(&node->in[i]) && node->in[i].dtype != KDAS_F32) return 0;
    return !kd_op_find(node->op) || node->out.dtype == KDAS_F32;
}

/* The other backend's kernel for the node, NULL: it has none. */
static const kdas_kernel *theirs(const kdas_device *d, const kdas_node_desc *node)
{
    for (const kdas_kernel *k = d->backend->kernels; k->op; k++)
        if (k->op == node->op && (!k->supports || k->supports(d->inner, node))) return k;
    return NULL;
}

static int they_can(kdas_device *d, const kdas_node_desc *node)
{
    return all_f32(d, node) && theirs(d, node);
}

static const kdas_kernel *inner(const kdas_device *d, const kdas_node_desc *node)
{
    const kdas_kernel *k = theirs(d, node);

    if (k) return k;
    return kd_op_find(node->op) ? &kd_op_find(node->op)->ref : kd_update_find(node->op);
}

static kdas_status far_prepare(kdas_device *d, const kdas_node_desc *node, kdas_plan *plan)
{
    const kdas_kernel *k = inner(d, node);

    return k->prepare ? k->prepare(d->inner, node, plan) : KDAS_OK;
}

/* Kernels release what the host allocated, all of them alike; convolutions have more. */
static void release_block(kdas_device *d, void *state) { d->host.free(d->host.user, state); }
static void release_conv(kdas_device *d, void *state)
{
    for (const kdas_kernel *k = d->backend->kernels; k->op; k++)
        if (k->op == KDAS_OP_CONV2D) {
            k->release(d->inner, state);
            return;
        }
}

static bool swap(const kdas_device *d, void **pointer)
{
    if (*pointer)
        *pointer = find(d, *pointer, 1);
    else
        return true;
    return *pointer != NULL;
}

/* The call with the real addresses. */
static kdas_status translate(kdas_device *d, kdas_call *c)
{
    void *dout = (void *)c->dout, *seed = (void *)c->seed_at;
    bool  ok = swap(d, &c->out) && swap(d, &dout) && swap(d, &c->saved) && swap(d, &c->packed) &&
              swap(d, &c->work) && swap(d, &seed);

    for (int i = 0; i < KDAS_MAX_INPUTS; i++)
        ok = ok && swap(d, &c->in[i]) && swap(d, &c->din[i]);
    if (!ok) return stranger(d, "an operand");
    c->dout = dout;
    if (seed) memcpy(&c->seed, seed, sizeof c->seed);
    return KDAS_OK;
}

static kdas_status compute(kdas_device *d, kernel_fn run, const kdas_call *call)
{
    kdas_call   c  = *call;
    kdas_status st = translate(d, &c);

    if (st != KDAS_OK) return st;
    if (++kd_far.kernels == kd_far.fail_kernel)
        return (d->host.fail)(KDAS_EBACKEND, "far: the device is lost");
    return run(d->inner, &c);
}

static kdas_status take_note(kdas_device *d, note n)
{
    graph *r = d->capturing;

    if (r->count == r->capacity) {
        r->capacity = 2 * r->capacity + 64;
        r->note     = realloc(r->note, r->capacity * sizeof *r->note);
        ck_assert_ptr_nonnull(r->note);
    }
    kd_far.captured++;
    r->note[r->count++] = n;
    return KDAS_OK;
}

static kdas_status launch(kdas_device *d, kernel_fn run, const kdas_call *call)
{
    note n = { .run = run, .call = *call, .node = *call->node };

    if (!d->entered)
        return (d->host.fail)(KDAS_EBACKEND, "far: a kernel outside of enter() .. leave()");
    if (!d->capturing) return compute(d, run, call);
    if (call->seed_at) n.call.seed = 0x5EEDu; /* of this run alone */
    return take_note(d, n);
}

static kdas_status far_pack(kdas_device *d, const kdas_call *call)
{
    const kdas_kernel *k = inner(d, call->node);

    return k->pack ? launch(d, k->pack, call) : KDAS_OK;
}

static kdas_status far_forward(kdas_device *d, const kdas_call *call)
{
    return launch(d, inner(d, call->node)->forward, call);
}

static kdas_status far_backward(kdas_device *d, const kdas_call *call)
{
    return launch(d, inner(d, call->node)->backward, call);
}

static kdas_status far_zero(kdas_device *d, void *memory, size_t bytes)
{
    void *real = find(d, memory, bytes);

    if (d->capturing) return take_note(d, (note){ .memory = memory, .bytes = bytes });
    if (!real) return stranger(d, "what is zeroed");
    memset(real, 0, bytes);
    return KDAS_OK;
}

/* ---- graphs ---- */

static kdas_status refused(kdas_device *d, kd_test_far_stage stage)
{
    if (!kd_far.refuse || kd_far.stage != stage) return KDAS_OK;
    return (d->host.fail)(kd_far.refuse, "far: graphs are refused");
}

static kdas_status far_capture_begin(kdas_device *d)
{
    kdas_status st = refused(d, KD_FAR_CAPTURE_BEGIN);

    if (st != KDAS_OK) return st;
    if (d->capturing) return busy(d, "capture_begin");
    d->capturing = calloc(1, sizeof *d->capturing);
    return d->capturing ? KDAS_OK : (d->host.fail)(KDAS_ENOMEM, "far: no memory for a graph");
}

static void drop(graph *r)
{
    free(r->note);
    free(r);
}

static kdas_status far_capture_end(kdas_device *d, void **out)
{
    graph      *r  = d->capturing;
    kdas_status st = refused(d, KD_FAR_CAPTURE_END);

    *out         = NULL;
    d->capturing = NULL;
    if (st != KDAS_OK) {
        drop(r);
        return st;
    }
    kd_far.captures++;
    kd_far.graphs++;
    *out = r;
    return KDAS_OK;
}

static kdas_status far_graph_launch(kdas_device *d, void *which)
{
    const graph *r  = which;
    kdas_status  st = refused(d, KD_FAR_GRAPH_LAUNCH);

    kd_far.launches++;
    for (size_t i = 0; i < r->count && st == KDAS_OK; i++) {
        note n = r->note[i];

        n.call.node = &n.node;
        st          = n.run ? compute(d, n.run, &n.call) : far_zero(d, n.memory, n.bytes);
    }
    return st;
}

static void far_graph_destroy(kdas_device *d, void *which)
{
    (void)d;
    kd_far.graphs--;
    drop(which);
}

/* ---- the device ---- */

static int far_probe(int32_t index, char *why, size_t size)
{
    if (index == 0) return 1;
    snprintf(why, size, "there is one far device");
    return 0;
}

static kdas_status far_open(kdas_device **out, const kdas_host *host,
                            const kdas_device_options *options)
{
    kdas_device *d = host->alloc(host->user, sizeof *d);
    kdas_status  st;

    *out = NULL;
    if (!d) return KDAS_ENOMEM;
    memset(d, 0, sizeof *d);
    d->host    = *host;
    d->next    = FIRST_ADDRESS;
    d->backend = kd_far.reference ? &kd_backend_reference : &kd_backend_cpu;
    st         = d->backend->open(&d->inner, host, options);
    if (st != KDAS_OK) {
        host->free(host->user, d);
        return st;
    }
    *out = d;
    return KDAS_OK;
}

static void far_close(kdas_device *d)
{
    kdas_host host = d->host;

    ck_assert_int_eq(d->entered, 0);
    d->backend->close(d->inner);
    host.free(host.user, d);
}

static void far_describe(kdas_device *d, char *text, size_t size)
{
    (void)d;
    snprintf(text, size, "far: a device of the tests");
}

static kdas_status far_sync(kdas_device *d)
{
    kd_far.syncs++;
    return d->capturing ? busy(d, "sync") : KDAS_OK;
}

static void far_enter(kdas_device *d)
{
    d->entered++;
    if (d->backend->enter) d->backend->enter(d->inner);
}

static void far_leave(kdas_device *d)
{
    d->entered--;
    if (d->backend->leave) d->backend->leave(d->inner);
}

/* ---- the table ---- */

static kdas_kernel kernels[MAX_KERNELS];

static void add_kernel(int *count, const kdas_kernel *from,
                       int (*supports)(kdas_device *, const kdas_node_desc *))
{
    kdas_kernel *k = &kernels[(*count)++];

    ck_assert_int_lt(*count, MAX_KERNELS);
    *k          = *from;
    k->supports = supports;
    k->prepare  = from->prepare ? far_prepare : NULL;
    k->release  = !from->release                                               ? NULL
                  : from->op == KDAS_OP_CONV2D || from->op == KDAS_OP_DECONV2D ? release_conv
                                                                               : release_block;
    k->pack     = from->pack ? far_pack : NULL;
    k->forward  = far_forward;
    k->backward = from->backward ? far_backward : NULL;
}

/* The other backend's kernels for f32, which come first of their op, then the references. A chain becomes one op
 * where the other backend's would. */
static void fill_kernels(void)
{
    int count = 0;

    memset(kernels, 0, sizeof kernels);
    for (const kdas_kernel *k = kd_backend_cpu.kernels; !kd_far.reference && k->op; k++)
        if (count == 0 || kernels[count - 1].op != k->op) add_kernel(&count, k, they_can);
    for (int op = 1; op < 128; op++) {
        if (op == KDAS_OP_MIX_FFN || op == KDAS_OP_INVERTED) continue;
        if (kd_op_find(op)) add_kernel(&count, &kd_op_find(op)->ref, all_f32);
        if (kd_update_find(op)) add_kernel(&count, kd_update_find(op), all_f32);
    }
}

kdas_backend kd_test_far_table(void)
{
    kdas_backend t = { .abi           = KDAS_BACKEND_ABI,
                       .size          = sizeof t,
                       .name          = "far",
                       .kernels       = kernels,
                       .probe         = far_probe,
                       .open          = far_open,
                       .close         = far_close,
                       .describe      = far_describe,
                       .alloc         = far_alloc,
                       .free          = far_free,
                       .upload        = far_upload,
                       .download      = far_download,
                       .zero          = far_zero,
                       .sync          = far_sync,
                       .enter         = far_enter,
                       .leave         = far_leave,
                       .memory        = far_memory,
                       .host_alloc    = far_host_alloc,
                       .host_free     = far_host_free,
                       .upload_async  = far_upload_async,
                       .upload_wait   = far_upload_wait,
                       .capture_begin = far_capture_begin,
                       .capture_end   = far_capture_end,
                       .graph_launch  = far_graph_launch,
                       .graph_destroy = far_graph_destroy };

    fill_kernels();
    if (kd_far.no_graphs) t.size = offsetof(kdas_backend, capture_begin);
    if (kd_far.no_ahead) t.size = offsetof(kdas_backend, memory);
    return t;
}

kdas_status kd_test_far_try(kdas_context **out, const kdas_context_options *options)
{
    kdas_backend table = kd_test_far_table();

    return kd_context_create_on(out, options, &table);
}

void kd_test_far_assert_empty(void)
{
    ck_assert_int_eq(kd_far.blocks, 0);
    ck_assert_int_eq(kd_far.graphs, 0);
    ck_assert_int_eq(atomic_load(&kd_far.host_blocks), 0);
}

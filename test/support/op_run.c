/* op_run.c - runs a case of op_cases.c on one kernel; what it watches for is in op_run.h. */
#include "support/op_run.h"
#include "support/check_util.h"
#include "support/halves.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD 64

typedef struct kd_op_block {
    char  *memory; /* on the device */
    size_t bytes;  /* without the guard */
} kd_op_block;

static const char guard[GUARD] = "whoever changes these bytes has written past the end of a block";

size_t kd_op_bytes(const kdas_desc *desc)
{
    return (size_t)kd_elements(desc) * (desc->dtype == KDAS_F64 ? sizeof(double) : sizeof(float));
}

static bool is_half(const kdas_desc *desc)
{
    return desc->dtype == KDAS_BF16 || desc->dtype == KDAS_F16;
}

/* The same on the device, where elements may be halves. */
static size_t device_bytes(const kdas_desc *desc)
{
    return is_half(desc) ? kd_op_bytes(desc) / 2 : kd_op_bytes(desc);
}

uint32_t kd_op_state(const kd_op_case *test)
{
    const kd_op *op = kd_op_find(test->op);

    return op ? op->state : test->state;
}

const kdas_kernel *kd_op_reference(int32_t op)
{
    const kd_op *record = kd_op_find(op);

    return record ? &record->ref : kd_update_find(op);
}

/* ---- Device memory ---- */

static kdas_status upload(kd_op_run *run, void *to, const void *from, size_t bytes)
{
    const kdas_backend *b = run->place.backend;

    if (b) return b->upload(run->place.device, to, from, bytes);
    memcpy(to, from, bytes);
    return KDAS_OK;
}

static kdas_status download(kd_op_run *run, void *to, const void *from, size_t bytes)
{
    const kdas_backend *b = run->place.backend;

    if (b) return b->download(run->place.device, to, from, bytes);
    memcpy(to, from, bytes);
    return KDAS_OK;
}

/* An operand: host arrays are of floats, which are values that halves can have where the operand is of those. */
static kdas_status send(kd_op_run *run, void *to, const void *from, const kdas_desc *desc)
{
    size_t       n = (size_t)kd_elements(desc);
    const float *f = from;
    uint16_t    *half;
    kdas_status  st;

    if (!is_half(desc)) return upload(run, to, from, kd_op_bytes(desc));
    half = malloc(n * sizeof *half + 1);
    if (!half) return kd_fail(KDAS_ENOMEM, "the test is out of memory");
    for (size_t i = 0; i < n; i++)
        half[i] = kd_test_half_bits(f[i], desc->dtype);
    st = upload(run, to, half, n * sizeof *half);
    free(half);
    return st;
}

static kdas_status receive(kd_op_run *run, void *to, const void *from, const kdas_desc *desc)
{
    size_t      n = (size_t)kd_elements(desc);
    float      *f = to;
    uint16_t   *half;
    kdas_status st;

    if (!is_half(desc)) return download(run, to, from, kd_op_bytes(desc));
    half = malloc(n * sizeof *half + 1);
    if (!half) return kd_fail(KDAS_ENOMEM, "the test is out of memory");
    st = download(run, half, from, n * sizeof *half);
    for (size_t i = 0; st == KDAS_OK && i < n; i++)
        f[i] = kd_test_half_value(half[i], desc->dtype);
    free(half);
    return st;
}

/* A block for each purpose; NULL in *out for a size of 0. */
static kdas_status block_new(kd_op_run *run, void **out, size_t bytes)
{
    const kdas_backend *b = run->place.backend;
    kd_op_block        *grown;
    char               *memory;

    *out = NULL;
    if (bytes == 0) return KDAS_OK;
    grown = realloc(run->blocks, (run->block_count + 1) * sizeof *grown);
    if (!grown) return kd_fail(KDAS_ENOMEM, "the test is out of memory");
    run->blocks = grown;
    if (b)
        memory = b->alloc(run->place.device, bytes + GUARD);
    else
        memory = aligned_alloc(KDAS_ALIGNMENT, (bytes + GUARD + KDAS_ALIGNMENT - 1) /
                                                   KDAS_ALIGNMENT * KDAS_ALIGNMENT);
    if (!memory) return kd_fail(KDAS_ENOMEM, "the test is out of device memory");
    run->blocks[run->block_count++] = (kd_op_block){ memory, bytes };
    *out                            = memory;
    return upload(run, memory + bytes, guard, GUARD);
}

/* Fill device memory with NaNs (every float, double and half of it is one). */
static kdas_status poison(kd_op_run *run, void *memory, size_t bytes)
{
    void       *nans;
    kdas_status st;

    if (!memory || bytes == 0) return KDAS_OK;
    nans = malloc(bytes);
    if (!nans) return kd_fail(KDAS_ENOMEM, "the test is out of memory");
    memset(nans, 0xff, bytes);
    st = upload(run, memory, nans, bytes);
    free(nans);
    return st;
}

static kdas_status check_guards(kd_op_run *run)
{
    char seen[GUARD];

    for (int i = 0; i < run->block_count; i++) {
        KD_RETURN(download(run, seen, run->blocks[i].memory + run->blocks[i].bytes, GUARD));
        if (memcmp(seen, guard, GUARD))
            return kd_fail(KDAS_ESTATE, "%s wrote past the end of a block of %zu bytes",
                           run->test->name, run->blocks[i].bytes);
    }
    return KDAS_OK;
}

/* ---- Values ---- */

static void fill_ranks(float *out, int64_t n, const char *name, float scale)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = scale * (float)(i - n / 2);
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)((kd_test_unit(name, (uint64_t)i) * 0.5 + 0.5) * (double)(i + 1));
        float   t = out[i];

        out[i] = out[j];
        out[j] = t;
    }
}

static void fill_operand(float *out, const kd_test_operand *in, const char *name)
{
    int64_t n = kd_elements(&in->desc);

    if (in->values == KD_VALUES_RANKS) {
        fill_ranks(out, n, name, in->scale);
        return;
    }
    kd_test_fill(out, n, name, in->scale, in->shift);
    for (int64_t i = 0; i < n; i++)
        switch (in->values) {
        case KD_VALUES_BINARY: out[i] = out[i] > 0.1f; break;
        case KD_VALUES_TIES: out[i] = out[i] < -0.3f ? 0.0f : out[i] < 0.3f ? 0.5f : 1.0f; break;
        case KD_VALUES_APART:
            out[i] -= in->shift;
            out[i] = copysignf(0.25f * in->scale + 0.75f * fabsf(out[i]), out[i]) + in->shift;
            break;
        case KD_VALUES_RANGE: out[i] = in->shift + (i ? in->scale : -in->scale); break;
        default: break;
        }
}

static kdas_status host_new(void *out, size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);

    memcpy(out, &memory, sizeof memory);
    return memory ? KDAS_OK : kd_fail(KDAS_ENOMEM, "the test is out of memory");
}

static bool is_twin(const kd_op_run *run, int i) { return run->test->twin && i == 1; }

/* An activation's values, where the run is one with halves. */
static void round_operand(const kd_op_run *run, float *values, const kdas_desc *desc)
{
    for (int64_t i = 0; run->options.half && i < kd_elements(desc); i++)
        values[i] = kd_test_round_half(values[i], run->options.half);
}

/* ---- Open ---- */

/* Whether input i, or the output, is an activation whose type may have 16 bits. */
enum { OUT = 30 };
static bool has_halves(const kd_op_case *c, int i)
{
    const kd_op *op = kd_op_find(c->op);

    return !(op && op->wide >> i & 1) && (i == OUT || !c->in[i].param);
}

/* Activations become halves; a cast has its own types. */
static void make_half(kdas_node_desc *node, const kd_op_case *c, int32_t half)
{
    if (!half || c->op == KDAS_OP_CAST) return;
    for (int i = 0; i < node->inputs; i++)
        if (kd_present(&node->in[i]) && has_halves(c, i)) node->in[i].dtype = half;
    if (has_halves(c, OUT)) node->out.dtype = half;
}

kdas_status kd_op_node(kdas_node_desc *node, const kd_op_case *c, const kd_op_options *options)
{
    const kd_op  *op   = kd_op_find(c->op);
    kd_op_options none = { 0 };

    if (!options) options = &none;
    memset(node, 0, sizeof *node);
    node->op    = c->op;
    node->flags = c->flags;
    node->post  = c->post;
    node->wants = options->forward_only ? 0 : c->wants;
    node->attr  = &c->attr;
    for (int i = 0; i < KDAS_MAX_INPUTS; i++) {
        node->in[i] = c->in[i].desc;
        if (kd_present(&c->in[i].desc)) node->inputs = i + 1;
    }
    node->inputs = KD_MAX(node->inputs, c->inputs);
    if (op) KD_RETURN(op->infer(node));
    if (c->op == KDAS_OP_SUM_SQUARES) node->out = (kdas_desc){ KDAS_F64, 1, { 1, 1, 1, 1 } };
    if (op) make_half(node, c, options->half);
    return KDAS_OK;
}

const kdas_kernel *kd_op_kernel_for(const kdas_backend *backend, kdas_device *device,
                                    const kdas_node_desc *node)
{
    for (const kdas_kernel *k = backend->kernels; k && k->op; k++)
        if (k->op == node->op && (!node->post || k->flags & KDAS_KERNEL_POST) &&
            (!k->supports || k->supports(device, node)))
            return k;
    return NULL;
}

static kdas_status make_operands(kd_op_run *run)
{
    const kdas_node_desc *node = &run->node;
    char                  name[160];

    for (int i = 0; i < node->inputs; i++) {
        size_t bytes = kd_op_bytes(&node->in[i]);

        if (!kd_present(&node->in[i])) continue;
        KD_RETURN(host_new(&run->in[i], bytes));
        snprintf(name, sizeof name, "%s.in%d", run->test->name, is_twin(run, i) ? 0 : i);
        fill_operand(run->in[i], &run->test->in[i], name);
        if (has_halves(run->test, i)) round_operand(run, run->in[i], &node->in[i]);
        if (is_twin(run, i))
            run->call.in[i] = run->call.in[0];
        else
            KD_RETURN(block_new(run, &run->call.in[i], device_bytes(&node->in[i])));
        if (!(node->wants >> i & 1)) continue;
        KD_RETURN(host_new(&run->din[i], bytes));
        if (is_twin(run, i) && run->call.din[0])
            run->call.din[i] = run->call.din[0];
        else
            KD_RETURN(block_new(run, &run->call.din[i], device_bytes(&node->in[i])));
    }
    KD_RETURN(host_new(&run->out, kd_op_bytes(&node->out)));
    KD_RETURN(block_new(run, &run->call.out, device_bytes(&node->out)));
    if (!node->wants) return KDAS_OK;
    KD_RETURN(host_new(&run->dout, kd_op_bytes(&node->out)));
    snprintf(name, sizeof name, "%s.dout", run->test->name);
    kd_test_fill(run->dout, kd_elements(&node->out), name, 1, 0);
    if (has_halves(run->test, OUT)) round_operand(run, run->dout, &node->out);
    return KDAS_OK;
}

/* Where the kernel allows it and the case has room for it. */
static void share_memory(kd_op_run *run)
{
    const kdas_kernel *k    = run->kernel;
    bool               same = device_bytes(&run->node.in[0]) == device_bytes(&run->node.out);

    if (!run->options.inplace || !same || run->test->twin) return;
    if ((k->flags & KDAS_KERNEL_INPLACE) && (!run->node.wants || !(k->needs & KDAS_NEEDS_IN(0))))
        run->call.out = run->call.in[0];
    if ((k->flags & KDAS_KERNEL_INPLACE_BACKWARD) && (k->flags & KDAS_KERNEL_SETS) &&
        !run->options.add && run->call.din[0])
        run->call.dout = run->call.din[0];
}

kdas_status kd_op_open(kd_op_run *run, const kd_op_case *test, const kdas_kernel *kernel,
                       const kd_op_place *place, const kd_op_options *options)
{
    const kdas_kernel *reference = kd_op_reference(test->op);
    kd_op_options      how       = options ? *options : (kd_op_options){ 0 };
    void              *dout      = NULL;

    memset(run, 0, sizeof *run);
    run->test   = test;
    run->kernel = kernel = kernel ? kernel : reference;
    if (place) run->place = *place;
    run->options = how;
    if (kernel == reference) how.half = 0;
    KD_RETURN(kd_op_node(&run->node, test, &how));
    run->supported = !kernel->supports || kernel->supports(run->place.device, &run->node);
    if (!run->supported) return KDAS_OK;
    if (kernel->prepare) KD_RETURN(kernel->prepare(run->place.device, &run->node, &run->plan));
    run->call.node  = &run->node;
    run->call.state = run->plan.state;
    run->call.seed  = run->options.seed;
    KD_RETURN(make_operands(run));
    KD_RETURN(block_new(run, &run->call.saved, run->plan.saved));
    KD_RETURN(block_new(run, &run->call.packed, run->plan.packed));
    share_memory(run);
    if (run->node.wants && !run->call.dout) {
        KD_RETURN(block_new(run, &dout, device_bytes(&run->node.out)));
        run->call.dout = dout;
    }
    return KDAS_OK;
}

void kd_op_close(kd_op_run *run)
{
    const kdas_backend *b = run->place.backend;

    if (run->plan.state && run->kernel->release)
        run->kernel->release(run->place.device, run->plan.state);
    for (int i = 0; i < run->block_count; i++)
        if (b)
            b->free(run->place.device, run->blocks[i].memory);
        else
            free(run->blocks[i].memory);
    for (int i = 0; i < KDAS_MAX_INPUTS; i++) {
        free(run->in[i]);
        free(run->din[i]);
    }
    free(run->blocks);
    free(run->out);
    free(run->dout);
    memset(run, 0, sizeof *run);
}

/* ---- Run ---- */

typedef kdas_status (*step_fn)(kdas_device *device, const kdas_call *call);

/* One kernel function, inside enter and leave, with fresh scratch that holds NaNs. */
static kdas_status run_step(kd_op_run *run, step_fn step, size_t work)
{
    const kdas_backend *b = run->place.backend;
    kdas_status         st;

    KD_RETURN(block_new(run, &run->call.work, work));
    KD_RETURN(poison(run, run->call.work, work));
    if (b && b->enter) b->enter(run->place.device);
    st = step(run->place.device, &run->call);
    if (b && b->leave) b->leave(run->place.device);
    if (st == KDAS_OK && b) st = b->sync(run->place.device);
    if (st == KDAS_OK) st = check_guards(run);
    if (work) { /* the last block */
        kd_op_block *last = &run->blocks[--run->block_count];

        if (b)
            b->free(run->place.device, last->memory);
        else
            free(last->memory);
    }
    run->call.work = NULL;
    return st;
}

/* Inputs are read only, but for states; those come back. */
static kdas_status check_inputs(kd_op_run *run, uint32_t skip)
{
    uint32_t state = kd_op_state(run->test);

    for (int i = 0; i < run->node.inputs; i++) {
        size_t      bytes = kd_op_bytes(&run->node.in[i]);
        void       *seen;
        kdas_status st;

        if (!run->in[i] || (skip >> i & 1) || run->call.in[i] == run->call.out) continue;
        if (state >> i & 1) {
            KD_RETURN(receive(run, run->in[i], run->call.in[i], &run->node.in[i]));
            continue;
        }
        KD_RETURN(host_new(&seen, bytes));
        st = receive(run, seen, run->call.in[i], &run->node.in[i]);
        if (st == KDAS_OK && memcmp(seen, run->in[i], bytes))
            st = kd_fail(KDAS_ESTATE, "%s changed its input %d", run->test->name, i);
        free(seen);
        KD_RETURN(st);
    }
    return KDAS_OK;
}

kdas_status kd_op_forward(kd_op_run *run)
{
    size_t bytes = device_bytes(&run->node.out);

    KD_RETURN(poison(run, run->call.out, bytes));
    for (int i = 0; i < run->node.inputs; i++)
        if (run->in[i] && !is_twin(run, i))
            KD_RETURN(send(run, run->call.in[i], run->in[i], &run->node.in[i]));
    if (run->test->twin) memcpy(run->in[1], run->in[0], kd_op_bytes(&run->node.in[0]));
    KD_RETURN(poison(run, run->call.saved, run->plan.saved));
    KD_RETURN(poison(run, run->call.packed, run->plan.packed));
    if (run->kernel->pack) KD_RETURN(run_step(run, run->kernel->pack, run->plan.work_forward));
    KD_RETURN(run_step(run, run->kernel->forward, run->plan.work_forward));
    KD_RETURN(check_inputs(run, 0));
    return run->call.out ? receive(run, run->out, run->call.out, &run->node.out) : KDAS_OK;
}

/* What din[i] holds before backward: unknown, zero, or known values to be added to. */
static kdas_status start_gradient(kd_op_run *run, int i)
{
    size_t bytes = kd_op_bytes(&run->node.in[i]);
    bool   param = run->test->in[i].param, sets = run->kernel->flags & KDAS_KERNEL_SETS;
    char   name[160];

    if (!run->options.add && !param && sets)
        return poison(run, run->call.din[i], device_bytes(&run->node.in[i]));
    run->call.add |= 1u << i;
    memset(run->din[i], 0, bytes);
    snprintf(name, sizeof name, "%s.base%d", run->test->name, i);
    if (run->options.add) kd_test_fill(run->din[i], kd_elements(&run->node.in[i]), name, 1, 0);
    if (!param) round_operand(run, run->din[i], &run->node.in[i]);
    return send(run, run->call.din[i], run->din[i], &run->node.in[i]);
}

kdas_status kd_op_backward(kd_op_run *run)
{
    uint32_t needs = run->kernel->needs, hidden = 0;

    if (!run->kernel->backward)
        return kd_fail(KDAS_EUNSUPPORTED, "%s has no backward", run->test->name);
    for (int i = 0; i < run->node.inputs; i++) {
        if (!run->in[i] || (needs & KDAS_NEEDS_IN(i)) || run->call.in[i] == run->call.out) continue;
        if (run->test->twin && i < 2 && (needs & 3u)) continue;
        hidden |= 1u << i;
        KD_RETURN(poison(run, run->call.in[i], device_bytes(&run->node.in[i])));
    }
    if (!(needs & KDAS_NEEDS_OUT))
        KD_RETURN(poison(run, run->call.out, device_bytes(&run->node.out)));
    run->call.add = 0;
    for (int i = 0; i < run->node.inputs; i++)
        if (run->call.din[i]) {
            if (is_twin(run, i) && run->call.din[0] == run->call.din[1])
                run->call.add |= 1u << i; /* the first of the two decides */
            else
                KD_RETURN(start_gradient(run, i));
        }
    KD_RETURN(send(run, (void *)run->call.dout, run->dout, &run->node.out));
    KD_RETURN(run_step(run, run->kernel->backward, run->plan.work_backward));
    KD_RETURN(check_inputs(run, hidden));
    for (int i = 0; i < run->node.inputs; i++)
        if (run->call.din[i])
            KD_RETURN(receive(run, run->din[i], run->call.din[i], &run->node.in[i]));
    return KDAS_OK;
}

kdas_status kd_op_run_case(kd_op_run *run, const kd_op_case *test, const kdas_kernel *kernel,
                           const kd_op_place *place, const kd_op_options *options)
{
    KD_RETURN(kd_op_open(run, test, kernel, place, options));
    if (!run->supported) return KDAS_OK;
    KD_RETURN(kd_op_forward(run));
    return run->node.wants ? kd_op_backward(run) : KDAS_OK;
}

/* ---- Compare ---- */

static bool same_floats(const float *got, const float *want, int64_t n, double tolerance,
                        const char *what, char *why, size_t size)
{
    int64_t at;
    double  worst = kd_test_worst(got, want, n, 1e-6, &at);

    if (tolerance < 0 ? kd_test_same_bits(got, want, (size_t)n * sizeof *got) : worst <= tolerance)
        return true;
    snprintf(why, size, "%s[%lld] of %lld is %.9g, not %.9g: error %.3g of the largest", what,
             (long long)at, (long long)n, got[at], want[at], worst);
    return false;
}

bool kd_op_same(const kd_op_run *got, const kd_op_run *want, double tolerance, char *why,
                size_t size)
{
    const kdas_node_desc *node  = &want->node;
    uint32_t              state = kd_op_state(want->test);
    char                  what[32];

    if (node->out.dtype == KDAS_F64) {
        double g = *(double *)got->out, w = *(double *)want->out;

        if (tolerance < 0 ? g == w : fabs(g - w) <= tolerance * fabs(w)) return true;
        snprintf(why, size, "out is %.17g, not %.17g", g, w);
        return false;
    }
    if (!same_floats(got->out, want->out, kd_elements(&node->out), tolerance, "out", why, size))
        return false;
    for (int i = 0; i < node->inputs; i++) {
        int64_t n = kd_elements(&node->in[i]);

        snprintf(what, sizeof what, "state in[%d]", i);
        if ((state >> i & 1) && want->in[i] &&
            !same_floats(got->in[i], want->in[i], n, tolerance, what, why, size))
            return false;
        snprintf(what, sizeof what, "din[%d]", i);
        if (want->din[i] && !same_floats(got->din[i], want->din[i], n, tolerance, what, why, size))
            return false;
    }
    return true;
}

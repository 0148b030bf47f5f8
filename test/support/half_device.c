/* half_device.c - see half_device.h. */
#include "support/half_device.h"
#include <assert.h>
#include <stdlib.h>
#include "backend/cpu/cpu.h"
#include "base/context.h"
#include "op/op.h"
#include "support/halves.h"

/* Operands in f32 that a call of the reference is given instead; NULL where its own will do. */
typedef struct operands {
    kdas_node_desc node;
    kdas_call      call;
    float         *in[KDAS_MAX_INPUTS], *din[KDAS_MAX_INPUTS], *out, *dout;
} operands;

static float *new_floats(const kdas_desc *desc, const uint16_t *from)
{
    size_t n  = (size_t)kd_elements(desc);
    float *to = calloc(n ? n : 1, sizeof *to);

    for (size_t i = 0; to && from && i < n; i++)
        to[i] = kd_test_half_value(from[i], KDAS_F16);
    return to;
}

static void put(uint16_t *to, const float *from, const kdas_desc *desc, bool add)
{
    for (int64_t i = 0; i < kd_elements(desc); i++) {
        float before = add ? kd_test_half_value(to[i], KDAS_F16) : 0;

        to[i] = kd_test_half_bits(kd_test_round_half(before + from[i], KDAS_F16), KDAS_F16);
    }
}

static void to_floats(operands *o, const kdas_call *call)
{
    const kdas_node_desc *node = call->node;

    *o           = (operands){ .node = *node, .call = *call };
    o->call.node = &o->node;
    for (int i = 0; i < node->inputs; i++) {
        if (!kd_present(&node->in[i]) || node->in[i].dtype != KDAS_F16) continue;
        o->node.in[i].dtype = KDAS_F32;
        o->call.in[i] = o->in[i] = new_floats(&node->in[i], call->in[i]);
        if (call->din[i]) o->call.din[i] = o->din[i] = new_floats(&node->in[i], NULL);
    }
    o->node.out.dtype = KDAS_F32;
    o->call.out = o->out = new_floats(&node->out, call->dout ? call->out : NULL);
    if (call->dout) o->call.dout = o->dout = new_floats(&node->out, call->dout);
}

static void finish(operands *o)
{
    for (int i = 0; i < KDAS_MAX_INPUTS; i++) {
        free(o->in[i]);
        free(o->din[i]);
    }
    free(o->out);
    free(o->dout);
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    operands    o;
    kdas_status st;

    to_floats(&o, call);
    st = kd_op_find(call->node->op)->ref.forward(device, &o.call);
    put(call->out, o.out, &call->node->out, false);
    finish(&o);
    return st;
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    operands    o;
    kdas_status st;

    to_floats(&o, call);
    st = kd_op_find(call->node->op)->ref.backward(device, &o.call);
    for (int i = 0; i < call->node->inputs; i++)
        if (o.din[i]) put(call->din[i], o.din[i], &call->node->in[i], true);
    finish(&o);
    return st;
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    const kdas_kernel *ref = &kd_op_find(node->op)->ref;

    return ref->prepare ? ref->prepare(device, node, plan) : KDAS_OK;
}

static int takes_f16(kdas_device *device, const kdas_node_desc *node)
{
    (void)device;
    return node->in[0].dtype == KDAS_F16 && node->out.dtype == KDAS_F16;
}

/* Its rows, and after them those of the CPU. */
static const kdas_kernel *kernels(void)
{
    static kdas_kernel row[256];
    size_t             n = 0;

#define OP(number, NAME, name)                                        \
    if (number != KDAS_OP_CAST && number != KDAS_OP_RESHAPE)          \
        row[n++] =                                                    \
            (kdas_kernel){ .op       = number,                        \
                           .needs    = kd_op_find(number)->ref.needs, \
                           .supports = takes_f16,                     \
                           .prepare  = prepare,                       \
                           .forward  = forward,                       \
                           .backward = kd_op_find(number)->ref.backward ? backward : NULL };
#define UPDATE(number, NAME, name)
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    for (const kdas_kernel *k = kd_backend_cpu.kernels; k->op; k++) {
        assert(n + 1 < KD_COUNT(row));
        row[n++] = *k;
    }
    row[n] = (kdas_kernel){ .op = 0 };
    return row;
}

void kd_test_half_device(kdas_context *ctx)
{
    static kdas_backend backend;

    backend         = kd_backend_cpu;
    backend.kernels = kernels();
    ctx->backend    = &backend;
    ctx->type       = KDAS_F16;
}

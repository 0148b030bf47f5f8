/* conv.c - CONV2D and DECONV2D: x (N,H,W,C), w, [b (O)] -> (N,H',W',O), computed by oneDNN. */
#include "backend/cpu/onednn.h"

static size_t round64(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

static size_t bytes_of(const kdas_desc *d)
{
    size_t size = d->dtype == KDAS_BF16 ? 2 : sizeof(float);

    return (size_t)(d->dim[0] * d->dim[1] * d->dim[2] * d->dim[3]) * size;
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    kd_conv_sizes sizes;
    kd_conv      *conv;
    size_t        data = 0;

    KD_RETURN(kd_conv_create(&conv, device->onednn, node, &sizes));
    /* a gradient that is to be added is computed in scratch first */
    if (node->wants & 1) data = round64(bytes_of(&node->in[0])) + sizes.data;
    plan->state         = conv;
    plan->packed        = sizes.packed;
    plan->pack_key      = sizes.pack_key;
    plan->work_forward  = sizes.forward;
    plan->work_backward = KD_MAX(data, sizes.weights);
    return KDAS_OK;
}

static void release(kdas_device *device, void *state)
{
    (void)device;
    kd_conv_destroy(state);
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    (void)device;
    return kd_conv_pack(call->state, call->in[1], call->packed);
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    (void)device;
    return kd_conv_forward(call->state, call->in[0], call->packed, call->in[2], call->out,
                           call->work);
}

/* dx += the gradient in `fresh`, by the kernel of ADD. */
static kdas_status add_into(kdas_device *device, const kdas_desc *x, void *dx, void *fresh)
{
    const kd_cpu_code *code = x->dtype == KDAS_BF16 ? device->half : device->code;
    kdas_node_desc     node = { .op = KDAS_OP_ADD, .inputs = 2, .in = { *x, *x }, .out = *x };
    kdas_call          call = { .node = &node, .in = { dx, fresh }, .out = dx };

    return (*code)[KDAS_OP_ADD]->forward(device, &call);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    size_t x_bytes = bytes_of(&call->node->in[0]);
    bool   add     = call->add & 1;

    if (call->din[1] || call->din[2])
        KD_RETURN(kd_conv_backward_weights(call->state, call->in[0], call->dout, call->din[1],
                                           call->din[2], call->work));
    if (!call->din[0]) return KDAS_OK;
    KD_RETURN(kd_conv_backward_data(call->state, call->dout, call->packed,
                                    add ? call->work : call->din[0],
                                    (char *)call->work + round64(x_bytes)));
    return add ? add_into(device, &call->node->in[0], call->din[0], call->work) : KDAS_OK;
}

const kd_cpu_kernel kd_cpu_conv = {
    .prepare  = prepare,
    .release  = release,
    .pack     = pack,
    .forward  = forward,
    .backward = backward,
};

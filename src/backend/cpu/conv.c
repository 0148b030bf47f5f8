/* conv.c - CONV2D and DECONV2D: x (N,H,W,C), w, [b (O)] -> (N,H',W',O), computed by oneDNN, or in simd/ where that is faster. */
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

static const kd_cpu_kernel by_onednn = {
    .prepare  = prepare,
    .pack     = pack,
    .forward  = forward,
    .backward = backward,
};

/* ---- the choice ---- */

/* Winograd's transform pays where there are enough tiles of 4x4 outputs for what the filters' transform costs, or where there
 * are so few filters that they come from cache. With few channels, the transforms of the maps cost what the products save. */
bool kd_cpu_conv_by_winograd(const kdas_node_desc *node)
{
    const kdas_conv_attr *a = node->attr;
    const int64_t        *w = node->in[1].dim, *y = node->out.dim;
    const int64_t         fewest = 16, enough = 32, few = 80 * 80;
    const int64_t         tiles = y[0] * ((y[1] + 3) / 4) * ((y[2] + 3) / 4);

    return node->op == KDAS_OP_CONV2D && node->out.dtype == KDAS_F32 && w[2] == 3 && w[3] == 3 &&
           a->stride == 1 && a->dilation == 1 && a->groups == 1 && w[0] >= fewest &&
           w[1] >= fewest && (tiles >= enough || w[0] * w[1] <= few);
}

/* Filters that lie side by side. */
static bool tiles_the_output(const kdas_node_desc *node)
{
    const kdas_conv_attr *a = node->attr;
    const int64_t        *w = node->in[1].dim;

    return node->op == KDAS_OP_DECONV2D && !a->pad[0] && !a->pad[1] && !a->pad_end[0] &&
           !a->pad_end[1] && w[2] == a->stride && w[3] == a->stride;
}

static const kd_cpu_kernel *choose(const kdas_device *device, const kdas_node_desc *node)
{
    const kd_cpu_code *code = node->out.dtype == KDAS_BF16 ? device->half : device->code;

    return kd_cpu_conv_by_winograd(node) || tiles_the_output(node) ? (*code)[node->op] : &by_onednn;
}

static kdas_status chosen_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    return choose(device, node)->prepare(device, node, plan);
}

static kdas_status chosen_pack(kdas_device *device, const kdas_call *call)
{
    return choose(device, call->node)->pack(device, call);
}

static kdas_status chosen_forward(kdas_device *device, const kdas_call *call)
{
    return choose(device, call->node)->forward(device, call);
}

static kdas_status chosen_backward(kdas_device *device, const kdas_call *call)
{
    return choose(device, call->node)->backward(device, call);
}

/* The state of a kernel in simd/ is NULL. */
const kd_cpu_kernel kd_cpu_conv = {
    .prepare  = chosen_prepare,
    .release  = release,
    .pack     = chosen_pack,
    .forward  = chosen_forward,
    .backward = chosen_backward,
};

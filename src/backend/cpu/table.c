/* table.c - the table of the CPU backend: kernels that forward to the copy for the device's instruction set, and the
 * functions of the device. */
#include <stdio.h>
#include "backend/cpu/cpu.h"

enum { RANGE_X = 3, FFN_RANGE_X = 8 }; /* the first range among an integer node's inputs */

/* In its integer form (kdas/backend.h). A QUANTIZE has none. */
static bool is_integer(const kdas_node_desc *node)
{
    switch (node->op) {
    case KDAS_OP_CONV2D:
    case KDAS_OP_DWCONV2D:
    case KDAS_OP_LINEAR: return node->in[0].dtype == KDAS_U8;
    case KDAS_OP_MIX_FFN: return node->in[FFN_RANGE_X].dim[0] != 0;
    default: return false;
    }
}

static const kd_cpu_kernel *code_of(const kdas_device *device, const kdas_node_desc *node,
                                    bool half)
{
    int32_t op = node->op;

    if (is_integer(node)) return (*device->integer)[op];
    if (op == KDAS_OP_CONV2D || op == KDAS_OP_DECONV2D) return &kd_cpu_conv;
    if (half) return device->half ? (*device->half)[op] : NULL;
    if (op == KDAS_OP_MATMUL) return &kd_cpu_matmul;
    return (*device->code)[op];
}

/* Does the node use the bf16 copy? The table has two rows for such ops, f32 and bf16. */
static bool is_half(const kdas_node_desc *node)
{
    if (node->op == KDAS_OP_QUANTIZE || node->op == KDAS_OP_MOMENTS)
        return node->in[0].dtype == KDAS_BF16;
    return node->op != KDAS_OP_CAST && node->out.dtype == KDAS_BF16;
}

/* Filters of an inverted block that the kernel has. */
static bool has_filter(const kdas_node_desc *node)
{
    const kdas_inverted_attr *a = node->attr;
    const int64_t            *w = node->in[3].dim;

    return w[2] == w[3] && (w[2] == 3 || w[2] == 5) && a->filter.stride <= 2 && !node->wants;
}

static int all_f32(kdas_device *device, const kdas_node_desc *node)
{
    (void)device;
    if (is_integer(node) || (node->op == KDAS_OP_INVERTED && !has_filter(node))) return 0;
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i].dim[0] && node->in[i].dtype != KDAS_F32) return 0;
    return node->out.dtype == KDAS_F32;
}

/* oneDNN's activations make a NaN 0. */
static int conv2d_f32(kdas_device *device, const kdas_node_desc *node)
{
    return all_f32(device, node) &&
           (node->post == KDAS_POST_NONE || kd_cpu_conv_by_winograd(node));
}

/* `inputs`: bit i says that input i is an activation, and so bf16 like the output, which is f32 with KDAS_NEEDS_OUT. */
static int with_half(kdas_device *device, const kdas_node_desc *node, uint32_t inputs)
{
    int32_t out = inputs & KDAS_NEEDS_OUT ? KDAS_F32 : KDAS_BF16;

    if (!device->half || node->out.dtype != out) return 0;
    if (is_integer(node)) return 0;
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i].dim[0] && node->in[i].dtype != (inputs >> i & 1 ? KDAS_BF16 : KDAS_F32))
            return 0;
    return 1;
}

static int known_types(kdas_device *device, const kdas_node_desc *node)
{
    (void)device;
    return (node->in[0].dtype == KDAS_F32 || node->in[0].dtype == KDAS_BF16) &&
           (node->out.dtype == KDAS_F32 || node->out.dtype == KDAS_BF16);
}

/* A QUANTIZE for integer nodes: from values to numbers. */
static int to_numbers(kdas_device *device, const kdas_node_desc *node)
{
    return node->out.dtype == KDAS_U8 && !node->wants &&
           (node->in[0].dtype == KDAS_F32 || (node->in[0].dtype == KDAS_BF16 && device->half));
}

static int of_integers(kdas_device *device, const kdas_node_desc *node)
{
    const kdas_conv_attr *a = node->attr;

    if (!device->integer || !is_integer(node) || node->wants) return 0;
    if (node->op == KDAS_OP_MIX_FFN)
        return node->in[0].dtype == node->out.dtype &&
               (node->out.dtype == KDAS_F32 || node->out.dtype == KDAS_BF16);
    if (node->op == KDAS_OP_CONV2D && a->groups != 1) return 0;
    if (node->op == KDAS_OP_DWCONV2D && node->in[1].dim[2] * node->in[1].dim[3] > 49) return 0;
    return node->out.dtype == KDAS_U8 || node->out.dtype == KDAS_F32 ||
           node->out.dtype == KDAS_BF16;
}

/* An update's node need not have a shape for `out`. */
static int update_f32(kdas_device *device, const kdas_node_desc *node)
{
    (void)device;
    return node->in[0].dtype == KDAS_F32;
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    const kd_cpu_kernel *code = code_of(device, node, is_half(node));
    kdas_status          st;

    if (!code->prepare) return KDAS_OK;
    kd_cpu_enter(device); /* oneDNN plans for OpenMP's thread count */
    st = code->prepare(device, node, plan);
    kd_cpu_leave(device);
    return st;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    const kd_cpu_kernel *code = code_of(device, call->node, is_half(call->node));

    return code->pack ? code->pack(device, call) : KDAS_OK;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    return code_of(device, call->node, is_half(call->node))->forward(device, call);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    return code_of(device, call->node, is_half(call->node))->backward(device, call);
}

/* The state of a kernel in simd/ is NULL, or one block from the host's allocator. */
static void release_block(kdas_device *device, void *state)
{
    if (state) device->host.free(device->host.user, state);
}

static void release_conv(kdas_device *device, void *state) { kd_cpu_conv.release(device, state); }

/* A supports() for the bf16 row of each kernel that has one. */
#define KERNEL(NUMBER, name, needs_, flags_, backward_)
#define BOTH(NUMBER, name, needs_, flags_, backward_, inputs)               \
    static int name##_half(kdas_device *device, const kdas_node_desc *node) \
    {                                                                       \
        return with_half(device, node, inputs);                             \
    }
BOTH(CONV2D, conv2d, 0, 0, backward, KDAS_NEEDS_IN(0))
#include "backend/cpu/kernels.def"
#undef KERNEL
#undef BOTH

#define ROW(NUMBER, needs_, flags_, supports_, release_, backward_) \
    { .op       = KDAS_OP_##NUMBER,                                 \
      .needs    = needs_,                                           \
      .flags    = flags_,                                           \
      .supports = supports_,                                        \
      .prepare  = prepare,                                          \
      .release  = release_,                                         \
      .pack     = pack,                                             \
      .forward  = forward,                                          \
      .backward = backward_ },

static const kdas_kernel kernels[] = {
#define CONV2D_NEEDS    (KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1))
#define RELEASE(NUMBER) KDAS_OP_##NUMBER == KDAS_OP_DECONV2D ? release_conv : release_block
    ROW(CONV2D, CONV2D_NEEDS, KDAS_KERNEL_SETS | KDAS_KERNEL_POST, conv2d_f32, release_conv,
        backward)
        ROW(CONV2D, CONV2D_NEEDS, KDAS_KERNEL_SETS, conv2d_half, release_conv, backward)
#define KERNEL(NUMBER, name, needs_, flags_, backward_)  \
    ROW(NUMBER, needs_, flags_,                          \
        KDAS_OP_##NUMBER >= KDAS_OP_ADAMW  ? update_f32  \
        : KDAS_OP_##NUMBER == KDAS_OP_CAST ? known_types \
                                           : all_f32,    \
        RELEASE(NUMBER), backward_)
#define BOTH(NUMBER, name, needs_, flags_, backward_, inputs) \
    KERNEL(NUMBER, name, needs_, flags_, backward_)           \
    ROW(NUMBER, needs_, flags_, name##_half, RELEASE(NUMBER), backward_)
#include "backend/cpu/kernels.def"
#undef KERNEL
#undef BOTH
#define KERNEL(NUMBER, name, needs_, flags_, backward_)
#define BOTH(NUMBER, name, needs_, flags_, backward_, inputs)
#define INTEGER(NUMBER, name) ROW(NUMBER, 0, 0, of_integers, release_block, NULL)
#include "backend/cpu/kernels.def"
#undef KERNEL
#undef BOTH
            ROW(QUANTIZE, 0, 0, to_numbers, release_block, NULL){ .op = 0 },
};

static int cpu_probe(int32_t index, char *why, size_t size)
{
    if (index == 0) return 1;
    if (why && size) snprintf(why, size, "there is one CPU device, with index 0");
    return 0;
}

const kdas_backend kd_backend_cpu = {
    .abi         = KDAS_BACKEND_ABI,
    .size        = sizeof(kdas_backend),
    .name        = "cpu",
    .kernels     = kernels,
    .host_memory = 1,
    .probe       = cpu_probe,
    .open        = kd_cpu_open,
    .close       = kd_cpu_close,
    .describe    = kd_cpu_describe,
    .alloc       = kd_cpu_alloc,
    .free        = kd_cpu_free,
    .upload      = kd_cpu_copy,
    .download    = kd_cpu_copy,
    .zero        = kd_cpu_zero,
    .sync        = kd_cpu_sync,
    .enter       = kd_cpu_enter,
    .leave       = kd_cpu_leave,
};

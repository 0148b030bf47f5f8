/* table.c - the CPU backend's table: its kernels, each forwarding to the code of the device's
 * instruction set, and the functions of the device. */
#include <stdio.h>
#include "backend/cpu/cpu.h"

/* Every kernel here is for f32; other types are the reference's or another kernel's. */
static int all_f32(kdas_device *device, const kdas_node_desc *node)
{
    (void)device;
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i].dim[0] && node->in[i].dtype != KDAS_F32) return 0;
    return node->out.dtype == KDAS_F32;
}

/* An update's node need not have a shape for `out`. */
static int update_f32(kdas_device *device, const kdas_node_desc *node)
{
    (void)device;
    return node->in[0].dtype == KDAS_F32;
}

static const kd_cpu_kernel *code_of(const kdas_device *device, int32_t op)
{
    if (op == KDAS_OP_CONV2D) return &kd_cpu_conv2d;
    if (op == KDAS_OP_MATMUL) return &kd_cpu_matmul;
    return (*device->code)[op];
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    const kd_cpu_kernel *code = code_of(device, node->op);
    kdas_status          st;

    if (!code->prepare) return KDAS_OK;
    kd_cpu_enter(device); /* oneDNN plans for the threads that OpenMP has now */
    st = code->prepare(device, node, plan);
    kd_cpu_leave(device);
    return st;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    const kd_cpu_kernel *code = code_of(device, call->node->op);

    return code->pack ? code->pack(device, call) : KDAS_OK;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    return code_of(device, call->node->op)->forward(device, call);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    return code_of(device, call->node->op)->backward(device, call);
}

/* Kernels in simd/ keep nothing, or one block from the host's allocator. */
static void release_block(kdas_device *device, void *state)
{
    if (state) device->host.free(device->host.user, state);
}

static void release_conv2d(kdas_device *device, void *state)
{
    kd_cpu_conv2d.release(device, state);
}

static const kdas_kernel kernels[] = {
    { .op       = KDAS_OP_CONV2D,
      .needs    = KDAS_NEEDS_IN(0) | KDAS_NEEDS_IN(1),
      .flags    = KDAS_KERNEL_SETS,
      .supports = all_f32,
      .prepare  = prepare,
      .release  = release_conv2d,
      .pack     = pack,
      .forward  = forward,
      .backward = backward },
#define KERNEL(NUMBER, name, needs_, flags_, backward_)                     \
    { .op       = KDAS_OP_##NUMBER,                                         \
      .needs    = needs_,                                                   \
      .flags    = flags_,                                                   \
      .supports = KDAS_OP_##NUMBER >= KDAS_OP_ADAMW ? update_f32 : all_f32, \
      .prepare  = prepare,                                                  \
      .release  = release_block,                                            \
      .pack     = pack,                                                     \
      .forward  = forward,                                                  \
      .backward = backward_ },
#include "backend/cpu/kernels.def"
#undef KERNEL
    { .op = 0 },
};

static int cpu_probe(int32_t index, char *why, size_t size)
{
    if (index == 0) return 1;
    snprintf(why, size, "there is one CPU device, with index 0");
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

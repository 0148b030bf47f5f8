/* table.c - the table of the plug-in: kernels that forward to the code for the type of a node, and the functions of the
 * device. */
#include "backend/cuda/cuda.h"

enum { F32, F16, BF16, TYPES };

/* ---- the code of each op, by its number and type ---- */

#define KERNEL(NUMBER, name, needs, flags, backward) \
    extern const kd_cuda_kernel kd_cuda_##name##_f32;
#define BOTH(NUMBER, name, needs, flags, backward, inputs) \
    KERNEL(NUMBER, name, needs, flags, backward)           \
    extern const kd_cuda_kernel kd_cuda_##name##_f16, kd_cuda_##name##_bf16;
#include "backend/cuda/kernels.def"
#undef KERNEL
#undef BOTH

static const struct {
    const char           *name;
    const kd_cuda_kernel *type[TYPES];
} code[] = {
#define KERNEL(NUMBER, name, needs, flags, backward) \
    [KDAS_OP_##NUMBER] = { #name, { &kd_cuda_##name##_f32 } },
#define BOTH(NUMBER, name, needs, flags, backward, inputs) \
    [KDAS_OP_##                                            \
        NUMBER] = { #name,                                 \
                    { &kd_cuda_##name##_f32, &kd_cuda_##name##_f16, &kd_cuda_##name##_bf16 } },
#include "backend/cuda/kernels.def"
#undef KERNEL
#undef BOTH
};

/* The code for a node; a cast has one for all types. What MOMENTS gives is f32 always. */
static int type_of(const kdas_node_desc *node)
{
    int32_t type = node->op == KDAS_OP_MOMENTS ? node->in[0].dtype : node->out.dtype;

    if (node->op == KDAS_OP_CAST) return F32;
    return type == KDAS_F16 ? F16 : type == KDAS_BF16 ? BF16 : F32;
}

/* ---- supports ---- */

static bool can_bf16(const kdas_device *device) { return device->major >= 8; }

/* `inputs`: bit i says that input i is an activation, of the type of the output, which is f32 with KDAS_NEEDS_OUT. */
static int is_of(const kdas_node_desc *node, kdas_dtype type, uint32_t inputs)
{
    if (node->out.dtype != (int32_t)(inputs & KDAS_NEEDS_OUT ? KDAS_F32 : type)) return 0;
    for (int i = 0; i < node->inputs; i++)
        if (node->in[i].dim[0] && node->in[i].dtype != (int32_t)(inputs >> i & 1 ? type : KDAS_F32))
            return 0;
    return 1;
}

static int all_f32(kdas_device *device, const kdas_node_desc *node)
{
    (void)device;
    return is_of(node, KDAS_F32, 0);
}

static int known_types(kdas_device *device, const kdas_node_desc *node)
{
    const int32_t types[] = { node->in[0].dtype, node->out.dtype };

    for (size_t i = 0; i < KD_COUNT(types); i++)
        if (types[i] != KDAS_F32 && types[i] != KDAS_F16 &&
            !(types[i] == KDAS_BF16 && can_bf16(device)))
            return 0;
    return 1;
}

/* An update's node need not have a shape for `out`. */
static int update_f32(kdas_device *device, const kdas_node_desc *node)
{
    (void)device;
    return node->in[0].dtype == KDAS_F32;
}

#define KERNEL(NUMBER, name, needs, flags, backward)
#define BOTH(NUMBER, name, needs, flags, backward, inputs)                  \
    static int name##_f16(kdas_device *device, const kdas_node_desc *node)  \
    {                                                                       \
        (void)device;                                                       \
        return is_of(node, KDAS_F16, inputs);                               \
    }                                                                       \
    static int name##_bf16(kdas_device *device, const kdas_node_desc *node) \
    {                                                                       \
        return can_bf16(device) && is_of(node, KDAS_BF16, inputs);          \
    }
#include "backend/cuda/kernels.def"
#undef KERNEL
#undef BOTH

/* ---- forwarding ---- */

static const kd_cuda_kernel *begin(kdas_device *device, const kdas_node_desc *node)
{
    device->op = code[node->op].name;
    return code[node->op].type[type_of(node)];
}

static kdas_status lost(kdas_device *device)
{
    return device->host.fail(device->lost,
                             "cuda:%d: %s: the card has failed and is not used any more",
                             device->index, device->op);
}

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    const kd_cuda_kernel *k = begin(device, node);

    kd_cuda_enter(device);
    return k->prepare ? k->prepare(device, node, plan) : KDAS_OK;
}

static kdas_status pack(kdas_device *device, const kdas_call *call)
{
    const kd_cuda_kernel *k = begin(device, call->node);

    if (device->lost) return lost(device);
    return k->pack ? k->pack(device, call) : KDAS_OK;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kd_cuda_kernel *k = begin(device, call->node);

    return device->lost ? lost(device) : k->forward(device, call);
}

static kdas_status backward(kdas_device *device, const kdas_call *call)
{
    const kd_cuda_kernel *k = begin(device, call->node);

    return device->lost ? lost(device) : k->backward(device, call);
}

/* The state of a kernel is one block from the host's allocator, unless it has a release() of its own. */
static void release_state(kdas_device *device, const kd_cuda_kernel *k, void *state)
{
    if (state && k->release)
        k->release(device, state);
    else if (state)
        device->host.free(device->host.user, state);
}

/* Error texts name the op; the host does not repeat it. */
#define RELEASE(name, type)                                               \
    static void release_##name##_##type(kdas_device *device, void *state) \
    {                                                                     \
        release_state(device, &kd_cuda_##name##_##type, state);           \
    }
#define KERNEL(NUMBER, name, needs, flags, backward) RELEASE(name, f32)
#define BOTH(NUMBER, name, needs, flags, backward, inputs) \
    RELEASE(name, f32) RELEASE(name, f16) RELEASE(name, bf16)
#include "backend/cuda/kernels.def"
#undef KERNEL
#undef BOTH
#undef RELEASE

/* ---- the table ---- */

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

const kdas_kernel kd_cuda_kernels[] = {
#define KERNEL(NUMBER, name, needs_, flags_, backward_)  \
    ROW(NUMBER, needs_, flags_,                          \
        KDAS_OP_##NUMBER >= KDAS_OP_ADAMW  ? update_f32  \
        : KDAS_OP_##NUMBER == KDAS_OP_CAST ? known_types \
                                           : all_f32,    \
        release_##name##_f32, backward_)
#define BOTH(NUMBER, name, needs_, flags_, backward_, inputs)                \
    KERNEL(NUMBER, name, needs_, flags_, backward_)                          \
    ROW(NUMBER, needs_, flags_, name##_f16, release_##name##_f16, backward_) \
    ROW(NUMBER, needs_, flags_, name##_bf16, release_##name##_bf16, backward_)
#include "backend/cuda/kernels.def"
#undef KERNEL
#undef BOTH
    { .op = 0 },
};

static const kdas_backend table = {
    .abi           = KDAS_BACKEND_ABI,
    .size          = sizeof(kdas_backend),
    .name          = "cuda",
    .kernels       = kd_cuda_kernels,
    .probe         = kd_cuda_probe,
    .open          = kd_cuda_open,
    .close         = kd_cuda_close,
    .describe      = kd_cuda_describe,
    .alloc         = kd_cuda_alloc,
    .free          = kd_cuda_free,
    .upload        = kd_cuda_upload,
    .download      = kd_cuda_download,
    .zero          = kd_cuda_zero,
    .sync          = kd_cuda_sync,
    .enter         = kd_cuda_enter,
    .memory        = kd_cuda_memory,
    .host_alloc    = kd_cuda_host_alloc,
    .host_free     = kd_cuda_host_free,
    .upload_async  = kd_cuda_upload_async,
    .upload_wait   = kd_cuda_upload_wait,
    .capture_begin = kd_cuda_capture_begin,
    .capture_end   = kd_cuda_capture_end,
    .graph_launch  = kd_cuda_graph_launch,
    .graph_destroy = kd_cuda_graph_destroy,
    .has_tf32      = kd_cuda_has_tf32,
};

KDAS_API const kdas_backend *kdas_backend_entry(void);
const kdas_backend          *kdas_backend_entry(void) { return &table; }

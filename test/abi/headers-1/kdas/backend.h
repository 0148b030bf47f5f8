/* kdas/backend.h - the interface for authors of compute backends (plug-ins). It has its own ABI
 * number. Programs that only use libkdas do not need it.
 *
 * A backend is one table, kdas_backend: functions that open a device and manage its memory, and a
 * list of kernels keyed by permanent op numbers (ops.def). A plug-in is a shared object
 * "libkdas-<name>.so" that exports kdas_backend_entry. It links to nothing of libkdas; the host
 * passes its own table, kdas_host.
 *
 * Search order: the folders of kdas_context_options.plugin_path, those of the environment variable
 * KDAS_BACKEND_PATH (not in a process with raised privileges), and the folder "kdas" beside
 * libkdas.so. The first file with the name is loaded or refused; no other is tried.
 *
 * Fork: in a forked child, a device opened before the fork is called only to release resources, and
 * only if its memory is host memory (host_memory). Then free(), release() and close() are called;
 * they must not wait for a thread. Other devices are not called; their resources end with the
 * process. */
#ifndef KDAS_BACKEND_H
#define KDAS_BACKEND_H
#include <kdas/base.h>
KDAS_BEGIN

#define KDAS_BACKEND_ABI 3
#define KDAS_MAX_INPUTS  12
#define KDAS_MAX_DIMS    4

/* ---- Operands -------------------------------------------------------------------------------- */

typedef enum kdas_dtype {
    KDAS_F32  = 0,
    KDAS_BF16 = 1,
    KDAS_F16  = 2,
    KDAS_F64  = 3,
    KDAS_U8   = 4,
    KDAS_I64  = 5
} kdas_dtype;

/* Shape and type of one operand; always dense. Activations are (N,H,W,C), last fastest. A value
 * with fewer axes has leading ones: a batch of matrices is (N,1,rows,cols), one value per image
 * (N,1,1,1). Parameters have PyTorch's axis order and trailing ones: convolution weights
 * (Cout,Cin,kh,kw), depthwise weights (C,1,kh,kw), linear weights (out,in,1,1), biases and norms
 * (C,1,1,1). */
typedef struct kdas_desc {
    int32_t dtype; /* kdas_dtype */
    int32_t rank;  /* number of axes: 4 for activations; a parameter's own rank */
    int64_t dim[KDAS_MAX_DIMS];
} kdas_desc;

/* ---- Ops: numbers and attributes ------------------------------------------------------------- */

typedef enum kdas_op_number {
#define OP(number, NAME, name)     KDAS_OP_##NAME = number,
#define UPDATE(number, NAME, name) KDAS_OP_##NAME = number,
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    KDAS_OP_NONE = 0
} kdas_op_number;

/* Ops. x is (N,H,W,C). Inputs in [] are optional; an absent one has dim[0] == 0 and a NULL pointer.
 * An op without an attribute struct below has no attributes.
 *
 * CONV2D        x, w (O,C/groups,kh,kw), [b (O)]
 *                    cross-correlation with zero padding: `pad` rows and columns before the first,
 *                    `pad_end` after the last; gives (H + pad + pad_end - span) / stride + 1 rows,
 *                    rounded down; span = dilation (kh - 1) + 1. Output channel o reads the input
 *                    channels of its group, o / (O / groups)
 * DWCONV2D      x, w (C,1,kh,kw), [b (C)]  one filter per channel, padded as CONV2D
 * LINEAR        x, w (O,C), [b (O)]        over the last axis
 * LAYER_NORM    x, g (C), b (C)            over the last axis, biased variance
 * BATCH_NORM    x, g, b, mean, var (C each)
 *                    over N,H,W. Train: batch statistics (variance biased for x, unbiased into
 *                    var); mean and var become (1-momentum) old + momentum new, unless that is not
 *                    finite. Else: uses mean, var
 * GELU          x                          x/2 (1 + erf(x/sqrt 2))
 * RELU, SIGMOID x
 * ADD, SUB, MUL a, b
 *                    b's axes equal a's or are 1 (broadcast); out has a's shape
 * SCALE         x                          x * factor + offset
 * CONCAT        x0 .. x7 (2 to 8)          along C, in order
 * SLICE         x                          channels start .. start+count-1
 * CROP          x                          rows top .. top+height-1, columns left .. left+width-1
 * TRANSPOSE     x (N,H,R,C)                to (N,H,C,R)
 * RESIZE        x
 *                    bilinear to height x width, no antialiasing. align: corners map to corners,
 *                    src = dst (in-1)/(out-1). Else half-pixel centres, src = (dst+.5) in/out - .5,
 *                    clamped at 0
 * POOL_AVG      x
 *                    adaptive: window i is floor(i H/out) .. ceil((i+1) H/out)-1
 * POOL_MAX      x
 *                    maximum of each channel: (N,1,1,C). The first maximum in row order receives
 *                    the gradient
 * CHANNEL_MEAN, CHANNEL_MAX x
 *                    over C: (N,H,W,1). CHANNEL_MAX: the first maximum receives the gradient
 * SOFTMAX       x                          over the last axis
 * ATTENTION     q (N,H,W,C), kv (N,h,w,2C)
 *                    keys are kv's first C channels, values its last C; heads split C in order.
 *                    softmax of (q . k) * scale over the h w keys, times values
 * MATMUL        a (N,H,.,.), b (N,H,.,.)   alpha op(a) op(b) on the last two axes; op may transpose
 * DROP_PATH     x
 *                    train: each image is kept with probability 1-p and divided by 1-p; image n is
 *                    kept if kdas_unit(seed, n) < 1-p. Else: x
 * CENTER        x                          x minus its mean over the last axis
 * MEAN          x                          mean of all elements: (1,1,1,1)
 * BCE           logits p, targets y, [weights w]
 *                    sum(w bce)/sum(w) per image: (N,1,1,1); w = 1 if absent. Only p has a gradient
 *                    (also in OVERLAP and KL; in SQUARE_ERROR only a)
 * OVERLAP       logits p, targets y, [weights w]
 *                    per image, with s = sigmoid(p), I = sum(w s y), U = sum(w (s + y)):
 *                    dice: 1 - (2I + smooth)/(U + smooth)
 *                    jaccard: 1 - (I + smooth)/(U - I + smooth)
 * BOUNDARY      y
 *                    1 + gain |box(y) - y|; box is the window x window mean with zero padding,
 *                    always divided by window^2. No gradient
 * KL            s, t
 *                    tau^2 KL(softmax(t/tau) || softmax(s/tau)) over all elements of each
 *                    image: (N,1,1,1)
 * SQUARE_ERROR  a, b                       mean of (a-b)^2 per image: (N,1,1,1)
 * RESHAPE       x                          the same memory with other dims; never reaches a kernel
 * INVERTED      x, w1 (F,C), [b1 (F)], wd (F,1,k,k), [bd (F)], w2 (O,F), [b2 (O)],
 *               [residual (N,P,Q,O)]
 *                    linear(dwconv2d(linear(x, w1, b1), wd, bd), w2, b2) + residual, with activations
 *                    after the first two (kdas_inverted_attr). No gradient. Graphs are built from the
 *                    ops and compiled to this one for inference, if the backend has a kernel that
 *                    supports the node. Since 0.4
 * MIX_FFN       x, w1 (F,C), [b1 (F)], wd (F,1,3,3), [bd (F)], w2 (O,F), [b2 (O)],
 *               [residual (N,H,W,O)]
 *                    linear(gelu(dwconv2d(linear(x, w1, b1), wd, bd)), w2, b2) + residual; stride
 *                    and padding are 1. Graphs are built from the four ops and compiled to this one
 *                    if the backend has a kernel that supports the node
 * CAST          x
 *                    the same values in another dtype: f32 to bf16 or f16 (to nearest, ties to
 *                    even) or back. A gradient has the type of its value
 * NORMALIZE     x
 *                    x / max(|x|, eps) over the last axis; |x| is the L2 norm. Below eps the
 *                    divisor is constant for the gradient too
 * RELU6         x                          min(max(x, 0), 6); no gradient where x <= 0 or x >= 6
 * STANDARDIZE   x
 *                    per channel over N,H,W: (x - mean) / (deviation + eps). The deviation is
 *                    unbiased (over count - 1), and 0 for a single value
 * DECONV2D      x, w (C,O,kh,kw), [b (O)]
 *                    transposed convolution: the gradient that CONV2D with weight w and these
 *                    attributes sends to its input; gives (H - 1) stride - pad - pad_end + kh rows.
 *                    groups and dilation are 1
 * WINDOW_MAX    x
 *                    maximum of each channel in windows of size x size; padding never wins. The
 *                    first maximum in row order receives the gradient; a NaN counts as the largest
 * WINDOW_AVG    x
 *                    mean of each channel in such windows. `padded` 1: the padding is part of the
 *                    window, as zeros; 0: the divisor is the number of pixels
 * ABS           x                          |x|; no gradient at 0
 * SILU          x                          x sigmoid(x)
 * LEAKY_RELU    x                          x, or slope x where x <= 0
 * ELU           x                          x, or alpha (exp(x) - 1) where x <= 0
 * DROPOUT       x
 *                    train: element i is kept with probability 1-p and divided by 1-p; it is kept
 *                    if kdas_unit(seed, i) < 1-p. Else: x
 * RECOLOUR      x (N,H,W,3)
 *                    out channel c = factor[c] x[source[c]] + offset[c]
 * QUANTIZE      x, range (2) (state)
 *                    x to the nearest of the range's 256 values; out has x's type, or is U8: their
 *                    numbers. Train: before, range becomes (1-momentum) old + momentum (min x,
 *                    max x), or those two if it was empty, or with `joins`, if
 *                    momentum is above 0, is widened to hold them; a batch with values that are not
 *                    finite leaves it. A range is empty if its ends are the wrong way round, or
 *                    their distance, with 0 between them, is 0 or cannot be divided by 255 in a
 *                    float, nor 255 by it. It rounds nothing. The gradient is that of out
 *                    where x moves by half a step at most, else 0. NaN stays NaN in floats, and is
 *                    0 in U8. Since 0.4
 * MOMENTS       x
 *                    over N,H,W: (1,1,1,2C+1), the mean of each channel, the biased variance of each,
 *                    and the number of values of a channel, N H W. out is f32 also where x has 16
 *                    bits. Since 0.4
 * EXCHANGE      m (1,1,1,2C+1)
 *                    moments of this process's images to those of the images of all processes that
 *                    train together; never reaches a kernel. Since 0.4
 * APPLY_MOMENTS x, m (1,1,1,2C+1), g, b, mean, var (C each)
 *                    BATCH_NORM by the moments m, f32 always: y = (x - mean) / sqrt(var + eps) g + b.
 *                    Train: mean and var are moved as by BATCH_NORM, the variance unbiased by m's
 *                    number of values. Since 0.4
 *
 * Update kernels have only a forward, on flat blocks of dim[0] elements:
 * ADAMW         p (state), g, m (state), v (state)  decoupled decay, then Adam, in PyTorch's order
 * SGD           p (state), g, m (state)    m has dim[0] 0 without momentum
 * SUM_SQUARES   x                          out: one double, the sum of squares
 * AXPY          y (state), x               y += factor * x (kdas_scale_attr; offset unused)
 * LERP          y (state), x
 *                    y += factor * (x - y) (kdas_scale_attr; offset unused). y keeps its bits where
 *                    it equals x; factor 1 on zeros copies x. Since 0.4
 */
typedef struct kdas_conv_attr {
    int32_t stride;
    int32_t pad[2];     /* zeros before the first row, and before the first column */
    int32_t pad_end[2]; /* zeros after the last row, and after the last column */
    int32_t dilation;   /* distance of two taps; DWCONV2D, DECONV2D: 1 */
    int32_t groups;     /* divides C and O; DWCONV2D, DECONV2D: 1 */
} kdas_conv_attr;       /* CONV2D, DWCONV2D, DECONV2D */

/* Since 0.4. */
typedef struct kdas_inverted_attr {
    kdas_conv_attr filter;            /* as of DWCONV2D */
    int32_t        widened, filtered; /* kdas_post: the activations after widening and after the filter */
    int32_t        reserved[2];       /* 0 */
} kdas_inverted_attr;                 /* INVERTED */

typedef struct kdas_window_attr {
    int32_t size; /* at most 255 */
    int32_t stride;
    int32_t pad; /* on each side; at most size / 2 */
    /* 1: the number of rows and columns is rounded up where the last window begins inside x or the
     * padding before it; 0: down */
    int32_t ceil;
    int32_t padded; /* WINDOW_AVG */
} kdas_window_attr; /* WINDOW_MAX, WINDOW_AVG */

typedef struct kdas_leaky_attr {
    float slope; /* LEAKY_RELU: of the negative side; ELU: alpha. Finite */
} kdas_leaky_attr;

typedef struct kdas_recolour_attr {
    int32_t source[3]; /* 0 .. 2 */
    float   factor[3], offset[3];
} kdas_recolour_attr;

typedef struct kdas_norm_attr {
    float eps, momentum;
} kdas_norm_attr; /* LAYER_NORM (momentum unused), BATCH_NORM, APPLY_MOMENTS */

typedef struct kdas_standardize_attr {
    float eps; /* > 0 */
} kdas_standardize_attr;

typedef struct kdas_scale_attr {
    float factor, offset;
} kdas_scale_attr;

typedef struct kdas_slice_attr {
    int64_t start, count;
} kdas_slice_attr;

typedef struct kdas_crop_attr {
    int64_t top, left, height, width;
} kdas_crop_attr;

typedef struct kdas_resize_attr {
    int64_t height, width;
    int32_t align;   /* 1: corners map to corners */
    int32_t counted; /* how often thop counts it; kernels ignore it */
} kdas_resize_attr;

typedef struct kdas_pool_attr {
    int64_t height, width;
    int64_t counted; /* how often thop counts it; kernels ignore it */
} kdas_pool_attr;    /* POOL_AVG */

typedef struct kdas_attention_attr {
    int32_t heads;
    float   scale;
} kdas_attention_attr;

typedef struct kdas_matmul_attr {
    int32_t transpose_a, transpose_b;
    float   alpha;
} kdas_matmul_attr;

typedef struct kdas_drop_attr {
    float p;      /* 0 <= p < 1 */
} kdas_drop_attr; /* DROP_PATH, DROPOUT */

typedef struct kdas_overlap_attr {
    int32_t jaccard; /* 0: dice */
    float   smooth;
} kdas_overlap_attr;

typedef struct kdas_boundary_attr {
    int32_t window; /* odd */
    float   gain;
} kdas_boundary_attr;

typedef struct kdas_cast_attr {
    int32_t dtype; /* kdas_dtype of out */
} kdas_cast_attr;

typedef struct kdas_normalize_attr {
    float eps; /* > 0 */
} kdas_normalize_attr;

typedef struct kdas_kl_attr {
    float tau;
} kdas_kl_attr;

typedef struct kdas_adamw_attr {
    float   lr, beta1, beta2, eps, weight_decay;
    float   grad_scale; /* first the gradient is multiplied by this */
    float   clamp;      /* then clamped to +-clamp; 0: off */
    int32_t reserved;   /* 0 */
    int64_t step;       /* 1 for the first update */
} kdas_adamw_attr;

typedef struct kdas_sgd_attr {
    float   lr, momentum, weight_decay;
    float   grad_scale, clamp; /* as above */
    int32_t nesterov;
    int64_t step;
} kdas_sgd_attr;

typedef struct kdas_quantize_attr {
    float momentum; /* 0..1; 0: training does not change the range */
    /* 1: the range is that of another node before, too, and training widens it to hold x */
    int32_t joins;
} kdas_quantize_attr;

/* ---- A node, a plan, a call ------------------------------------------------------------------ */

enum { KDAS_NODE_TRAIN = 1 }; /* training mode: batch statistics, drop path */

/* Applied to a node's result before it is stored; a NaN stays a NaN. Only nodes without gradients have one: integer nodes, and
 * CONV2D, DWCONV2D and LINEAR of kernels with KDAS_KERNEL_POST. Since 0.4. */
typedef enum kdas_post { KDAS_POST_NONE = 0, KDAS_POST_RELU = 1, KDAS_POST_RELU6 = 2 } kdas_post;

typedef struct kdas_node_desc {
    int32_t     op;       /* KDAS_OP_* */
    int32_t     inputs;   /* number of in[], absent optional ones included */
    uint32_t    flags;    /* KDAS_NODE_* */
    uint32_t    wants;    /* bit i: the gradient of input i is wanted */
    int32_t     post;     /* kdas_post */
    int32_t     reserved; /* 0 */
    const void *attr;     /* the op's attributes, or NULL */
    kdas_desc   in[KDAS_MAX_INPUTS];
    kdas_desc   out;
} kdas_node_desc;

/* Filled by prepare(). Sizes are bytes; the planner provides memory aligned to KDAS_ALIGNMENT for
 * each. */
typedef struct kdas_plan {
    void  *state;         /* owned by the kernel, freed by release() */
    size_t saved;         /* written by forward, read by backward of the same step */
    size_t packed;        /* parameters in the kernel's own layout, written by pack() */
    size_t work_forward;  /* scratch of one forward */
    size_t work_backward; /* scratch of one backward */
    /* 0: `packed` is private to this node. Else nodes share it, also across compiled sizes, if
     * their kernel, parameters, size of `packed` and key are equal; their content must then be the
     * same. */
    uint64_t pack_key;
} kdas_plan;

typedef struct kdas_call {
    const kdas_node_desc *node;
    void                 *state;
    void                 *in[KDAS_MAX_INPUTS]; /* read only, except inputs marked (state) */
    void                 *out;                 /* forward writes; backward may read if in `needs` */
    const void           *dout;                /* backward: gradient of out */
    void    *din[KDAS_MAX_INPUTS]; /* backward: gradient of each input; NULL: not wanted */
    uint32_t add;                  /* bit i: accumulate into din[i]; else overwrite it */
    int32_t  reserved;             /* 0 */
    void    *saved, *packed, *work;
    uint64_t seed; /* random draws depend only on it */
    /* Device memory with the seed, valid when the kernel runs; NULL: use `seed`. A captured kernel
     * must read the seed here, because it differs for each launch. */
    const uint64_t *seed_at;
} kdas_call;

/* Random number n of a seed, in [0,1), as used by DROP_PATH. splitmix64, top 24 bits. */
static inline float kdas_unit(uint64_t seed, uint64_t n)
{
    uint64_t z = seed + (n + 1) * 0x9E3779B97F4A7C15u;
    z          = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z          = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z          = z ^ (z >> 31);
    return (float)(z >> 40) / 16777216.0f;
}

/* Integer nodes (since 0.4; inference only). CONV2D, DWCONV2D, LINEAR and MIX_FFN have a form whose
 * products are of 8-bit integers. It has more inputs: ranges, two floats (low, high) each. The 256
 * values of a range are (n - zero) scale for n = 0..255, with low and high moved to include 0,
 * scale = (high - low) / 255 and zero = -low / scale, rounded: 0 is one of them. A range is empty if
 * scale is 0; a kernel refuses it (KDAS_ESTATE). docs/int8.md defines the arithmetic to the bit.
 * CONV2D, DWCONV2D, LINEAR   in[3]: range of x, which is U8; in[4]: range of out, if that is U8,
 *                            else absent
 * MIX_FFN                    in[8] to in[11]: ranges of x, of fc1's and the filter's results, and of
 *                            gelu's. x, the residual and out are not U8
 * Weights are parameters in f32 as ever; a kernel rounds each output channel to multiples of its
 * largest |w| / 127. `post` of the node is applied to the result before it is stored. */

/* If two inputs are the same tensor, their din[] are the same memory and the second's bit in `add`
 * is set. A kernel must write din[0] before din[1]. */

#define KDAS_ALIGNMENT 64

/* ---- Kernels --------------------------------------------------------------------------------- */

typedef struct kdas_device kdas_device; /* opaque; defined by each backend */

#define KDAS_NEEDS_IN(i) (1u << (i))
#define KDAS_NEEDS_OUT   (1u << 30)

enum {
    /* backward honours call->add. A kernel without this flag always accumulates; the planner zeroes
     * the memory first where needed. Gradients of parameters always accumulate. */
    KDAS_KERNEL_SETS = 1,
    /* out may be the memory of in[0] */
    KDAS_KERNEL_INPLACE = 2,
    /* din[0] may be the memory of dout */
    KDAS_KERNEL_INPLACE_BACKWARD = 4,
    /* forward applies node->post to values, too. A kernel without this flag never gets such a node. Since 0.4. */
    KDAS_KERNEL_POST = 8
};

typedef struct kdas_kernel {
    int32_t  op;
    uint32_t needs;    /* operands that backward reads: KDAS_NEEDS_* */
    uint32_t flags;    /* KDAS_KERNEL_* */
    int32_t  reserved; /* 0 */
    /* Whether this kernel can run the node: 1 or 0. NULL: always. */
    int32_t (*supports)(kdas_device *device, const kdas_node_desc *node);
    /* Called once, at compile; may allocate. `plan` is zeroed. NULL: nothing to prepare. */
    kdas_status (*prepare)(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan);
    void (*release)(kdas_device *device, void *state);
    /* Fill call->packed. Called before the first run and after a parameter has changed. */
    kdas_status (*pack)(kdas_device *device, const kdas_call *call);
    kdas_status (*forward)(kdas_device *device, const kdas_call *call);
    kdas_status (*backward)(kdas_device *device, const kdas_call *call); /* NULL: no gradient */
} kdas_kernel;

/* ---- Backend --------------------------------------------------------------------------------- */

/* Functions of the host, for the backend; valid while the device is open. */
typedef struct kdas_host {
    uint32_t abi;      /* KDAS_BACKEND_ABI of the host */
    int32_t  reserved; /* 0 */
    size_t   size;
    void    *user;
    /* Host memory, aligned to KDAS_ALIGNMENT; NULL: out of memory. */
    void *(*alloc)(void *user, size_t bytes);
    void (*free)(void *user, void *memory);
    void (*log)(void *user, kdas_log_level level, const char *text);
    /* Set the thread's error message and return `status`. */
    kdas_status (*fail)(kdas_status status, const char *format, ...);
} kdas_host;

typedef struct kdas_device_options {
    size_t      size;
    int32_t     index;         /* "name:index", else 0 */
    int32_t     threads;       /* compute threads, >= 1 */
    const char *isa;           /* kdas_context_options.isa, or NULL */
    int32_t     deterministic; /* 1: the same bits in every run, so no varying order of summation */
    /* 1: products of f32 may round their factors to TF32. A device without TF32 ignores it. */
    int32_t tf32;
} kdas_device_options;

typedef struct kdas_backend {
    uint32_t abi; /* KDAS_BACKEND_ABI */
    /* 1: device memory is host memory; ops without a kernel here run on the reference kernels. */
    int32_t            host_memory;
    size_t             size;
    const char        *name;
    const kdas_kernel *kernels; /* ends with op 0 */
    /* Score of the device; 0: not usable here, and `why` (never NULL, at least 1 byte) gets the
     * reason in one sentence. */
    int32_t (*probe)(int32_t index, char *why, size_t size);
    kdas_status (*open)(kdas_device **out, const kdas_host *host,
                        const kdas_device_options *options);
    void (*close)(kdas_device *device);
    void (*describe)(kdas_device *device, char *text, size_t size); /* one line */

    void *(*alloc)(kdas_device *device, size_t bytes); /* NULL: out of memory */
    void (*free)(kdas_device *device, void *memory);
    kdas_status (*upload)(kdas_device *device, void *to, const void *from_host, size_t bytes);
    kdas_status (*download)(kdas_device *device, void *to_host, const void *from, size_t bytes);
    kdas_status (*zero)(kdas_device *device, void *memory, size_t bytes);
    kdas_status (*sync)(kdas_device *device);
    /* Called before and after every run of kernels, on its thread; may be NULL. */
    void (*enter)(kdas_device *device);
    void (*leave)(kdas_device *device);

    /* Kernels, zero() and upload() may return before their work is done, but execute in call order.
     * upload() has read `from_host` when it returns. download() and sync() wait. All members below
     * may be NULL. */

    /* Device memory in bytes: currently free, and total. */
    kdas_status (*memory)(kdas_device *device, size_t *available, size_t *total);
    /* Host memory with fast uploads (pinned). Any thread, while the device is open. NULL: out of
     * memory. */
    void *(*host_alloc)(kdas_device *device, size_t bytes);
    void (*host_free)(kdas_device *device, void *memory);
    /* Asynchronous upload, concurrent with later kernels. upload_async() starts it after all work
     * submitted so far. upload_wait() waits for all such uploads; then kernels see the bytes at
     * `to`, and `from_host` may be reused. Until then the caller must not change it. Both or
     * none. */
    kdas_status (*upload_async)(kdas_device *device, void *to, const void *from_host, size_t bytes);
    kdas_status (*upload_wait)(kdas_device *device);
    /* Graph capture; all four or none. Between capture_begin() and capture_end(), kernels and
     * zero() do not run. They become nodes of *graph, with their current addresses and attributes.
     * graph_launch() runs the graph, any number of times, until graph_destroy(). capture_end() ends
     * the capture even if a call in between has failed. If a run cannot be captured,
     * capture_begin() or capture_end() returns KDAS_EUNSUPPORTED and *graph is NULL: nothing has
     * run, and the host issues the program's calls one by one from then on. Any other status is an
     * error of the run. */
    kdas_status (*capture_begin)(kdas_device *device);
    kdas_status (*capture_end)(kdas_device *device, void **graph);
    kdas_status (*graph_launch)(kdas_device *device, void *graph);
    void (*graph_destroy)(kdas_device *device, void *graph);
    /* Whether the device has TF32 products. */
    int32_t (*has_tf32)(kdas_device *device);
} kdas_backend;

/* The symbol that a plug-in exports. */
typedef const kdas_backend *(*kdas_backend_entry_fn)(void);
#define KDAS_BACKEND_ENTRY "kdas_backend_entry"

KDAS_END
#endif

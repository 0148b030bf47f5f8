/* kdas/backend.h - the contract for authors of backends (compute plug-ins). Its own tier with its own
 * ABI number; programs that only use libkdas need none of it.
 *
 * A backend is one table, kdas_backend: how to open a device, handle its memory, and a list of kernels
 * keyed by the op's permanent number (ops.def). A plug-in is a shared object "libkdas-<name>.so" that
 * exports kdas_backend_entry and links to nothing of libkdas; the host passes in its own table. It is looked
 * for in the folders of kdas_context_options.plugin_path, of the environment variable KDAS_BACKEND_PATH (not in
 * a process with raised privileges), and in the folder "kdas" beside libkdas.so; the first file of that name
 * is taken, or refused.
 *
 * In a child of a fork, a device that was opened before is not called any more but to give things back, and only
 * if its memory is the host's (host_memory): then free(), release() and close() are, and may wait for no thread.
 * What any other device keeps there goes with the process. */
#ifndef KDAS_BACKEND_H
#define KDAS_BACKEND_H
#include <kdas/base.h>
KDAS_BEGIN

#define KDAS_BACKEND_ABI 3
#define KDAS_MAX_INPUTS  8
#define KDAS_MAX_DIMS    4

/* ---- Operands --------------------------------------------------------------------------------- */

typedef enum kdas_dtype {
    KDAS_F32  = 0,
    KDAS_BF16 = 1,
    KDAS_F16  = 2,
    KDAS_F64  = 3,
    KDAS_U8   = 4,
    KDAS_I64  = 5
} kdas_dtype;

/* What a kernel is told of one operand; always dense. Activations are (N,H,W,C), last fastest. A value
 * of fewer axes has leading ones: a matrix batch (N,1,rows,cols), a value for each image (N,1,1,1).
 * Parameters keep PyTorch's order and have trailing ones: convolution weights (Cout,Cin,kh,kw), depthwise
 * ones (C,1,kh,kw), linear ones (out,in,1,1), biases and norms (C,1,1,1). */
typedef struct kdas_desc {
    int32_t dtype; /* kdas_dtype */
    int32_t rank;  /* axes that count: 4 for activations; a parameter's own rank */
    int64_t dim[KDAS_MAX_DIMS];
} kdas_desc;

/* ---- Ops: numbers and attributes ----------------------------------------------------------------- */

typedef enum kdas_op_number {
#define OP(number, NAME, name)     KDAS_OP_##NAME = number,
#define UPDATE(number, NAME, name) KDAS_OP_##NAME = number,
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    KDAS_OP_NONE = 0
} kdas_op_number;

/* x (N,H,W,C) throughout; out first, then what it is made of. An optional input has dim[0] == 0 and a
 * NULL pointer. No attribute struct is named: none is needed.
 *
 * CONV2D        x, w (O,C,kh,kw), [b (O)]              cross-correlation, zero padding: `pad` rows and columns before
 *               the first, `pad_end` after the last; (H + pad + pad_end - kh) / stride + 1 rows, rounded down
 * DWCONV2D      x, w (C,1,kh,kw), [b (C)]              each channel by its own filter, padded likewise
 * LINEAR        x, w (O,C), [b (O)]                    over the last axis
 * LAYER_NORM    x, g (C), b (C)                        over the last axis, biased variance
 * BATCH_NORM    x, g, b, mean, var (C each)            over N,H,W; train: batch statistics (biased for x,
 *               unbiased into var), mean and var become (1-momentum) old + momentum new, unless
 *               that is not finite; else: mean, var
 * GELU          x                                      x/2 (1 + erf(x/sqrt 2))
 * RELU, SIGMOID x
 * ADD, SUB, MUL a, b                                   b's axes are a's or 1 (broadcast); out is a's shape
 * SCALE         x                                      x * factor + offset
 * CONCAT        x0 .. x7 (2 to 8)                      along C, in order
 * SLICE         x                                      channels start .. start+count-1
 * CROP          x                                      rows top .. top+height-1, columns left ..
 * TRANSPOSE     x (N,H,R,C)                            to (N,H,C,R)
 * RESIZE        x                                      bilinear to height x width, no antialiasing;
 *               align: corners map to corners (src = dst (in-1)/(out-1)); else half-pixel centres,
 *               src = (dst+.5) in/out - .5, clamped at 0
 * POOL_AVG      x                                      adaptive: window i is floor(i H/out) .. ceil((i+1) H/out)-1
 * POOL_MAX      x                                      largest of each channel: (N,1,1,C); the first one in
 *               row order receives the gradient
 * CHANNEL_MEAN, CHANNEL_MAX  x                         over C: (N,H,W,1); max: the first one receives
 * SOFTMAX       x                                      over the last axis
 * ATTENTION     q (N,H,W,C), kv (N,h,w,2C)             keys are kv's first C channels, values its last C;
 *               heads split C in order; softmax over the h w keys of (q . k) * scale, times values
 * MATMUL        a (N,H,.,.), b (N,H,.,.)               alpha op(a) op(b) on the last two axes; op transposes
 * DROP_PATH     x                                      train: each image kept with probability 1-p and then
 *               divided by 1-p; kept when unit(seed, n) < 1-p, see kdas_unit(); else: x
 * CENTER        x                                      minus its mean over the last axis
 * MEAN          x                                      of all elements: (1,1,1,1)
 * BCE           logits p, targets y, [weights w]       for each image sum(w bce)/sum(w): (N,1,1,1); w = 1 if absent;
 *               only p has a gradient (so for OVERLAP, KL, and SQUARE_ERROR's a)
 * OVERLAP       logits p, targets y, [weights w]       s = sigmoid(p); I = sum(w s y), U = sum(w (s + y)); for each image
 *               dice: 1 - (2I + smooth)/(U + smooth); jaccard: 1 - (I + smooth)/(U - I + smooth)
 * BOUNDARY      y                                      1 + gain |box(y) - y|, box: window x window mean with zero
 *               padding (always divided by window^2); no gradient
 * KL            s, t                                   for each image tau^2 KL(softmax(t/tau) || softmax(s/tau)) over
 *               all its elements: (N,1,1,1)
 * SQUARE_ERROR  a, b                                   for each image the mean of (a-b)^2: (N,1,1,1)
 * RESHAPE       x                                      the same memory under other dims; never reaches a kernel
 * MIX_FFN       x, w1 (F,C), [b1 (F)], wd (F,1,3,3), [bd (F)], w2 (O,F), [b2 (O)], [residual (N,H,W,O)]
 *               linear(gelu(dwconv2d(linear(x, w1, b1), wd, bd)), w2, b2) + residual; stride and padding
 *               are 1. A graph is built of the four ops; where a backend has this kernel and
 *               supports the node, the graph is compiled to it
 * CAST          x                                      the same values in another dtype: f32 to bf16 or f16 (to nearest, ties
 *               to even) or back; a gradient comes in the type of its value
 * NORMALIZE     x                                      x / max(|x|, eps) over the last axis, |x|: its L2 norm; below
 *               eps the divisor is a constant for the gradient, too
 * RELU6         x                                      min(max(x, 0), 6); no gradient where x <= 0 or x >= 6
 * STANDARDIZE   x                                      each channel over N,H,W: (x - mean) / (deviation + eps); the
 *               deviation is unbiased (over count - 1), and 0 of one value alone
 *
 * UPDATE kernels have a forward alone, on flat blocks of dim[0] elements:
 * ADAMW         p (state), g, m (state), v (state)     decoupled decay, then Adam, in PyTorch's order
 * SGD           p (state), g, m (state; dim[0] 0 without momentum)
 * SUM_SQUARES   x                                      out: one double, the sum of squares
 * AXPY          y (state), x                           y += factor * x (kdas_scale_attr; offset unused)
 * LERP          y (state), x                           y += factor * (x - y) (kdas_scale_attr; offset unused), so that
 *               y stays to the bit where it equals x, and factor 1 on zeros copies x. Since 0.4
 */
typedef struct kdas_conv_attr {
    int32_t stride;
    int32_t pad;     /* zeros before the first row and column */
    int32_t pad_end; /* and after the last                    */
} kdas_conv_attr;    /* CONV2D, DWCONV2D */

typedef struct kdas_norm_attr {
    float eps, momentum;
} kdas_norm_attr; /* LAYER_NORM (momentum unused), BATCH_NORM */

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
    int32_t align;   /* corners map to corners */
    int32_t counted; /* times thop counts this one; kernels ignore it */
} kdas_resize_attr;

typedef struct kdas_pool_attr {
    int64_t height, width;
    int64_t counted; /* times thop counts this one; kernels ignore it */
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
    float p; /* 0 <= p < 1 */
} kdas_drop_attr;

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
    float   grad_scale; /* the gradient is multiplied by this first ...              */
    float   clamp;      /* ... then held within +-clamp; 0: not                      */
    int32_t reserved;   /* 0                                                         */
    int64_t step;       /* 1 for the first update                                    */
} kdas_adamw_attr;

typedef struct kdas_sgd_attr {
    float   lr, momentum, weight_decay;
    float   grad_scale, clamp; /* as above */
    int32_t nesterov;
    int64_t step;
} kdas_sgd_attr;

/* ---- A node, a plan, a call ------------------------------------------------------------------- */

enum { KDAS_NODE_TRAIN = 1 }; /* training mode: batch statistics, drop path */

typedef struct kdas_node_desc {
    int32_t     op;     /* KDAS_OP_*                                        */
    int32_t     inputs; /* how many of in[] count, absent optional ones too */
    uint32_t    flags;  /* KDAS_NODE_*                                      */
    uint32_t    wants;  /* bit i: the gradient of input i is wanted         */
    const void *attr;   /* the op's attributes, or NULL                     */
    kdas_desc   in[KDAS_MAX_INPUTS];
    kdas_desc   out;
} kdas_node_desc;

/* What prepare() decides. Sizes in bytes; the planner gives each KDAS_ALIGNMENT-aligned memory. */
typedef struct kdas_plan {
    void  *state;         /* the kernel's own, released by release()                         */
    size_t saved;         /* written by forward, read by backward of the same step           */
    size_t packed;        /* parameters in the kernel's own layout, written by pack()        */
    size_t work_forward;  /* scratch of one forward                                          */
    size_t work_backward; /* scratch of one backward                                         */
    /* Two nodes with the same kernel, the same parameters, as many bytes in `packed` and the same key, other than 0, have
     * the same content there: programs of several sizes share it. 0: it is this node's alone. */
    uint64_t pack_key;
} kdas_plan;

typedef struct kdas_call {
    const kdas_node_desc *node;
    void                 *state;
    void       *in[KDAS_MAX_INPUTS];  /* read only, but for inputs marked (state)           */
    void       *out;                  /* forward writes, backward may read if it needs it   */
    const void *dout;                 /* backward: gradient of out                          */
    void       *din[KDAS_MAX_INPUTS]; /* backward: gradient of each input, NULL: not wanted */
    uint32_t    add;                  /* bit i: add into din[i]; else din[i] holds no value */
    int32_t     reserved;             /* 0                                                  */
    void       *saved, *packed, *work;
    uint64_t    seed; /* random draws are a pure function of it             */
    /* Device memory that holds the seed by the time the kernel runs; NULL: `seed` is it. A kernel that is
     * captured must read it here, since each launch has another. */
    const uint64_t *seed_at;
} kdas_call;

/* Draw n of a call's seed, in [0,1): what DROP_PATH compares. splitmix64, top 24 bits. */
static inline float kdas_unit(uint64_t seed, uint64_t n)
{
    uint64_t z = seed + (n + 1) * 0x9E3779B97F4A7C15u;
    z          = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z          = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z          = z ^ (z >> 31);
    return (float)(z >> 40) / 16777216.0f;
}

/* Two inputs may be one tensor: then their din[] are one memory, the second's bit in `add` is set, and a
 * kernel writes din[0] before din[1]. */

#define KDAS_ALIGNMENT 64

/* ---- Kernels ------------------------------------------------------------------------------------- */

typedef struct kdas_device kdas_device; /* defined by each backend */

#define KDAS_NEEDS_IN(i) (1u << (i))
#define KDAS_NEEDS_OUT   (1u << 30)

enum {
    /* backward honours call->add. A kernel without this flag always adds, into memory that the planner
     * has zeroed where needed. Gradients of parameters are always added into. */
    KDAS_KERNEL_SETS = 1,
    /* out may be the memory of in[0] */
    KDAS_KERNEL_INPLACE = 2,
    /* din[0] may be the memory of dout */
    KDAS_KERNEL_INPLACE_BACKWARD = 4
};

typedef struct kdas_kernel {
    int32_t  op;
    uint32_t needs;    /* operands that backward reads: KDAS_NEEDS_*          */
    uint32_t flags;    /* KDAS_KERNEL_*                                       */
    int32_t  reserved; /* 0                                                */
    /* 1 if this kernel can do the node. NULL: it can always. */
    int32_t (*supports)(kdas_device *device, const kdas_node_desc *node);
    /* Once at compile; may allocate. `plan` comes zeroed. NULL: nothing to prepare. */
    kdas_status (*prepare)(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan);
    void (*release)(kdas_device *device, void *state);
    /* Before the first run and whenever a parameter has changed: fill call->packed. */
    kdas_status (*pack)(kdas_device *device, const kdas_call *call);
    kdas_status (*forward)(kdas_device *device, const kdas_call *call);
    kdas_status (*backward)(kdas_device *device, const kdas_call *call); /* NULL: no gradient */
} kdas_kernel;

/* ---- Backend ------------------------------------------------------------------------------------- */

/* What the host lends to a backend; outlives the device. */
typedef struct kdas_host {
    uint32_t abi;      /* KDAS_BACKEND_ABI of the host */
    int32_t  reserved; /* 0 */
    size_t   size;
    void    *user;
    void *(*alloc)(void  *user,
                   size_t bytes); /* host memory, KDAS_ALIGNMENT-aligned; NULL: none left */
    void (*free)(void *user, void *memory);
    void (*log)(void *user, kdas_log_level level, const char *text);
    /* Set the thread's error sentence and return `status`. */
    kdas_status (*fail)(kdas_status status, const char *format, ...);
} kdas_host;

typedef struct kdas_device_options {
    size_t      size;
    int32_t     index;         /* "name:index", else 0              */
    int32_t     threads;       /* compute threads, >= 1             */
    const char *isa;           /* kdas_context_options.isa, or NULL */
    int32_t     deterministic; /* the same bits from run to run: no sum in an order that varies */
    int32_t     tf32;          /* products of f32 may round their factors to TF32; a device that
                                * has none is asked for nothing                                 */
} kdas_device_options;

typedef struct kdas_backend {
    uint32_t           abi;         /* KDAS_BACKEND_ABI */
    int32_t            host_memory; /* 1: device memory is host memory; what the list lacks
                                     * runs on the reference kernels                       */
    size_t             size;
    const char        *name;
    const kdas_kernel *kernels; /* ends with op 0 */
    /* A score, 0: cannot be used here, and `why` (never NULL, at least 1 byte) says so in a sentence. */
    int32_t (*probe)(int32_t index, char *why, size_t size);
    kdas_status (*open)(kdas_device **out, const kdas_host *host,
                        const kdas_device_options *options);
    void (*close)(kdas_device *device);
    void (*describe)(kdas_device *device, char *text, size_t size); /* one line */

    void *(*alloc)(kdas_device *device, size_t bytes); /* NULL: none left */
    void (*free)(kdas_device *device, void *memory);
    kdas_status (*upload)(kdas_device *device, void *to, const void *from_host, size_t bytes);
    kdas_status (*download)(kdas_device *device, void *to_host, const void *from, size_t bytes);
    kdas_status (*zero)(kdas_device *device, void *memory, size_t bytes);
    kdas_status (*sync)(kdas_device *device);
    /* Around every run of kernels from one thread; may be NULL. */
    void (*enter)(kdas_device *device);
    void (*leave)(kdas_device *device);

    /* Kernels, zero() and upload() may return before their work is done, but do it in the order in which they
     * were called; upload() has read `from_host` by then; download() and sync() wait. What follows may be NULL. */

    /* Bytes of device memory: free now, and in all. */
    kdas_status (*memory)(kdas_device *device, size_t *available, size_t *total);
    /* Host memory from which uploads are fast; any thread, while the device is open. NULL: none left. */
    void *(*host_alloc)(kdas_device *device, size_t bytes);
    void (*host_free)(kdas_device *device, void *memory);
    /* Begin an upload beside the kernels that come later. It starts when the work given so far is done; after
     * upload_wait(), which waits for all of them, kernels find the bytes at `to` and `from_host` is the
     * caller's again; until then the caller leaves it alone. Both or none. */
    kdas_status (*upload_async)(kdas_device *device, void *to, const void *from_host, size_t bytes);
    kdas_status (*upload_wait)(kdas_device *device);
    /* All four or none. Between capture_begin() and capture_end(), kernels and zero() do not run but become the
     * nodes of a graph, *graph, with the addresses and attributes that they have now. graph_launch() runs it, as
     * often as wanted, until graph_destroy(). A run that cannot be captured: capture_begin() or capture_end()
     * gives KDAS_EUNSUPPORTED, *graph is NULL, nothing has run, and the program runs call by call from then on;
     * any other status is the run's. Whatever the calls between gave, capture_end() ends the capture. */
    kdas_status (*capture_begin)(kdas_device *device);
    kdas_status (*capture_end)(kdas_device *device, void **graph);
    kdas_status (*graph_launch)(kdas_device *device, void *graph);
    void (*graph_destroy)(kdas_device *device, void *graph);
    /* Has the device products with TF32 factors? */
    int32_t (*has_tf32)(kdas_device *device);
} kdas_backend;

/* The symbol a plug-in exports. */
typedef const kdas_backend *(*kdas_backend_entry_fn)(void);
#define KDAS_BACKEND_ENTRY "kdas_backend_entry"

KDAS_END
#endif

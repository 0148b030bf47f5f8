/* forms.c - the ONNX form of each op, by its number. A new op gets a function here, or in
 * form_move.c, and a row in the table at the end. Losses and what only training uses have none. */
#include "export/export.h"
#include "export/proto.h"

#define NCHW KDAS_ONNX_NCHW
#define NHWC KDAS_ONNX_NHWC

static const char *node_of(kd_export *e, const char *type, const char *x)
{
    return kd_onnx_node(e->file, type, NAMES(x), NO_ATTRS);
}

static const char *pair_of(kd_export *e, const char *type, const char *a, const char *b)
{
    return kd_onnx_node(e->file, type, NAMES(a, b), NO_ATTRS);
}

/* Input `k`, a parameter that is a vector. */
static const char *vector(kd_export *e, const kd_node *node, int k)
{
    return kd_onnx_weight(e->file, node->in[k]->param, 1, node->in[k]->desc.out.dim, false);
}

/* What kd_export_in() makes where it is read. The file is in f32 throughout, so a change of type is no
 * op. A grid stands in the layout that its layer wants: runtimes do not find one behind a Transpose. */
static void nothing(kd_export *e, const kd_node *node)
{
    (void)e;
    (void)node;
}

/* The value of its input: the file infers, so dropout is no op. */
static void unchanged(kd_export *e, const kd_node *node)
{
    kdas_onnx_layout layout = kd_export_layout(e, node->in[0]);

    kd_export_set(e, node, layout, kd_export_in(e, node->in[0], layout));
}

/* ---- Convolutions and products --------------------------------------------------------------- */

/* x, w (O,C/groups,kh,kw), [b], in NCHW. */
static void convolve(kd_export *e, const kd_node *node, kdas_conv_attr a, int64_t groups)
{
    const int64_t     *k = node->in[1]->desc.out.dim;
    kd_export_operands o = kd_export_layer(e, node, 4, k, false);
    const char        *x = kd_export_in(e, node->in[0], NCHW);

    kd_export_set(
        e, node, NCHW,
        kd_onnx_node(
            e->file, "Conv", o.has_bias ? 3 : 2, (const char *[]){ x, o.weight, o.bias },
            ATTRS(ATTR_INTS("kernel_shape", k[2], k[3]), ATTR_INTS("strides", a.stride, a.stride),
                  ATTR_INTS("pads", a.pad[0], a.pad[1], a.pad_end[0], a.pad_end[1]),
                  ATTR_INTS("dilations", a.dilation, a.dilation), ATTR_INT("group", groups))));
}

static void conv2d(kd_export *e, const kd_node *node)
{
    convolve(e, node, *(const kdas_conv_attr *)node->desc.attr,
             ((const kdas_conv_attr *)node->desc.attr)->groups);
}

static void dwconv2d(kd_export *e, const kd_node *node)
{
    convolve(e, node, *(const kdas_conv_attr *)node->desc.attr, node->desc.out.dim[3]);
}

/* x, w (C,O,kh,kw), [b], in NCHW. */
static void deconv2d(kd_export *e, const kd_node *node)
{
    const kdas_conv_attr *a     = node->desc.attr;
    const kd_node        *w     = node->in[1];
    const int64_t        *k     = w->desc.out.dim;
    const char           *in[3] = { kd_export_in(e, node->in[0], NCHW),
                                    kd_onnx_weight(e->file, w->param, 4, k, false) };
    int                   n     = 2;

    if (node->in[2]) in[n++] = vector(e, node, 2);
    kd_export_set(
        e, node, NCHW,
        kd_onnx_node(e->file, "ConvTranspose", n, in,
                     ATTRS(ATTR_INTS("kernel_shape", k[2], k[3]),
                           ATTR_INTS("strides", a->stride, a->stride),
                           ATTR_INTS("pads", a->pad[0], a->pad[1], a->pad_end[0], a->pad_end[1]))));
}

/* A 1 x 1 convolution of maps in NCHW, else a product with the transposed weight. */
static void linear(kd_export *e, const kd_node *node)
{
    const int64_t      dims[4] = { node->desc.out.dim[3], node->desc.in[0].dim[3], 1, 1 };
    kdas_onnx_layout   layout  = kd_export_layout(e, node->in[0]);
    bool               matrix  = layout == NHWC;
    kd_export_operands o       = kd_export_layer(e, node, matrix ? 2 : 4, dims, matrix);
    const char        *x       = kd_export_in(e, node->in[0], layout);

    if (matrix) {
        x = pair_of(e, "MatMul", x, o.weight);
        if (o.has_bias) x = pair_of(e, "Add", x, o.bias);
    } else {
        x = kd_onnx_node(e->file, "Conv", o.has_bias ? 3 : 2,
                         (const char *[]){ x, o.weight, o.bias },
                         ATTRS(ATTR_INTS("kernel_shape", 1, 1)));
    }
    kd_export_set(e, node, layout, x);
}

/* alpha op(a) op(b) on the last two axes. */
static void matmul(kd_export *e, const kd_node *node)
{
    const kdas_matmul_attr *a = node->desc.attr;
    const char *x = kd_export_in(e, node->in[0], NHWC), *y = kd_export_in(e, node->in[1], NHWC);

    if (a->transpose_a) x = kd_export_permute(e, x, 0, 1, 3, 2);
    if (a->transpose_b) y = kd_export_permute(e, y, 0, 1, 3, 2);
    x = pair_of(e, "MatMul", x, y);
    if (a->alpha != 1) x = pair_of(e, "Mul", x, kd_onnx_float(e->file, a->alpha));
    kd_export_set(e, node, NHWC, x);
}

/* x (N,h,w,C), its channels from `first` on, as heads: (N,heads,h w,C/heads). */
static const char *heads_of(kd_export *e, const kd_node *x, int64_t first, int64_t channels,
                            int heads)
{
    const kd_extent *in     = kd_export_extent(e, x);
    const kd_extent  cut[4] = { in[0], in[1], in[2], kd_extent_fixed(channels) };
    const kd_extent  out[4] = { in[0], kd_extent_times(in[1], in[2]), kd_extent_fixed(heads),
                                kd_extent_fixed(channels / heads) };
    const char      *y      = kd_export_in(e, x, NHWC);

    if (!kd_extent_same(in[3], cut[3])) {
        int64_t axis = 3, end = first + channels;

        y = kd_onnx_node(e->file, "Slice",
                         NAMES(y, kd_onnx_ints(e->file, 1, &first), kd_onnx_ints(e->file, 1, &end),
                               kd_onnx_ints(e->file, 1, &axis)),
                         NO_ATTRS);
    }
    return kd_export_permute(e, kd_export_reshape(e, y, 4, cut, 4, out), 0, 2, 1, 3);
}

static void attention(kd_export *e, const kd_node *node)
{
    const kdas_attention_attr *a = node->desc.attr;
    const kd_extent           *q = kd_export_extent(e, node->in[0]);
    int64_t                    c = node->desc.out.dim[3];
    const kd_extent rows[4]      = { q[0], kd_extent_times(q[1], q[2]), kd_extent_fixed(a->heads),
                                     kd_extent_fixed(c / a->heads) };
    const char     *query        = heads_of(e, node->in[0], 0, c, a->heads),
               *key              = heads_of(e, node->in[1], 0, c, a->heads),
               *values           = heads_of(e, node->in[1], c, c, a->heads), *y;

    y = pair_of(e, "MatMul", query, kd_export_permute(e, key, 0, 1, 3, 2));
    y = pair_of(e, "Mul", y, kd_onnx_float(e->file, a->scale));
    y = kd_onnx_node(e->file, "Softmax", NAMES(y), ATTRS(ATTR_INT("axis", -1)));
    y = kd_export_permute(e, pair_of(e, "MatMul", y, values), 0, 2, 1, 3);
    kd_export_set(e, node, NHWC, kd_export_reshape(e, y, 4, rows, 4, kd_export_extent(e, node)));
}

/* ---- Norms ----------------------------------------------------------------------------------- */

static void layer_norm(kd_export *e, const kd_node *node)
{
    const kdas_norm_attr *a = node->desc.attr;

    kd_export_set(e, node, NHWC,
                  kd_onnx_node(e->file, "LayerNormalization",
                               NAMES(kd_export_in(e, node->in[0], NHWC), vector(e, node, 1),
                                     vector(e, node, 2)),
                               ATTRS(ATTR_INT("axis", -1), ATTR_FLOAT("epsilon", a->eps))));
}

/* With the running statistics. */
static void batch_norm(kd_export *e, const kd_node *node)
{
    const kdas_norm_attr *a = node->desc.attr;

    if (kd_export_is_folded(e, node)) {
        unchanged(e, node);
        return;
    }
    kd_export_set(e, node, NCHW,
                  kd_onnx_node(e->file, "BatchNormalization",
                               NAMES(kd_export_in(e, node->in[0], NCHW), vector(e, node, 1),
                                     vector(e, node, 2), vector(e, node, 3), vector(e, node, 4)),
                               ATTRS(ATTR_FLOAT("epsilon", a->eps))));
}

/* Over the channels, in either layout. */
static void softmax(kd_export *e, const kd_node *node)
{
    kdas_onnx_layout layout = kd_export_layout(e, node->in[0]);

    kd_export_set(e, node, layout,
                  kd_onnx_node(e->file, "Softmax", NAMES(kd_export_in(e, node->in[0], layout)),
                               ATTRS(ATTR_INT("axis", kd_axes_of(layout).c))));
}

/* ---- Elementwise ----------------------------------------------------------------------------- */

static void same_layout(kd_export *e, const kd_node *node, const char *type)
{
    kdas_onnx_layout layout = kd_export_layout(e, node->in[0]);

    kd_export_set(e, node, layout, node_of(e, type, kd_export_in(e, node->in[0], layout)));
}

static void relu(kd_export *e, const kd_node *node) { same_layout(e, node, "Relu"); }
static void sigmoid(kd_export *e, const kd_node *node) { same_layout(e, node, "Sigmoid"); }
static void absolute(kd_export *e, const kd_node *node) { same_layout(e, node, "Abs"); }

static void silu(kd_export *e, const kd_node *node)
{
    kdas_onnx_layout layout = kd_export_layout(e, node->in[0]);
    const char      *x      = kd_export_in(e, node->in[0], layout);

    kd_export_set(e, node, layout, pair_of(e, "Mul", x, node_of(e, "Sigmoid", x)));
}

/* x above 0; below, a function with a parameter. */
static void leaky(kd_export *e, const kd_node *node, const char *type)
{
    const kdas_leaky_attr *a      = node->desc.attr;
    kdas_onnx_layout       layout = kd_export_layout(e, node->in[0]);

    kd_export_set(e, node, layout,
                  kd_onnx_node(e->file, type, NAMES(kd_export_in(e, node->in[0], layout)),
                               ATTRS(ATTR_FLOAT("alpha", a->slope))));
}

static void leaky_relu(kd_export *e, const kd_node *node) { leaky(e, node, "LeakyRelu"); }
static void elu(kd_export *e, const kd_node *node) { leaky(e, node, "Elu"); }

static void relu6(kd_export *e, const kd_node *node)
{
    kdas_onnx_layout layout = kd_export_layout(e, node->in[0]);

    kd_export_set(e, node, layout,
                  kd_onnx_node(e->file, "Clip",
                               NAMES(kd_export_in(e, node->in[0], layout),
                                     kd_onnx_float(e->file, 0), kd_onnx_float(e->file, 6)),
                               NO_ATTRS));
}

/* x / sqrt 2, Erf, + 1, times x, times 1/2: the chain that runtimes fuse to one kernel. */
static void gelu(kd_export *e, const kd_node *node)
{
    kdas_onnx_layout layout = kd_export_layout(e, node->in[0]);
    const char      *x      = kd_export_in(e, node->in[0], layout), *y;

    y = node_of(e, "Erf", pair_of(e, "Div", x, kd_onnx_float(e->file, 1.41421356f)));
    y = pair_of(e, "Add", y, kd_onnx_float(e->file, 1));
    y = pair_of(e, "Mul", pair_of(e, "Mul", x, y), kd_onnx_float(e->file, 0.5f));
    kd_export_set(e, node, layout, y);
}

/* b's axes are a's or 1: ONNX broadcasts in the same way. */
static void arithmetic(kd_export *e, const kd_node *node, const char *type)
{
    kdas_onnx_layout layout = kd_export_layout(e, node->in[0]);

    kd_export_set(e, node, layout,
                  pair_of(e, type, kd_export_in(e, node->in[0], layout),
                          kd_export_in(e, node->in[1], layout)));
}

static void add(kd_export *e, const kd_node *node) { arithmetic(e, node, "Add"); }
static void sub(kd_export *e, const kd_node *node) { arithmetic(e, node, "Sub"); }
static void mul(kd_export *e, const kd_node *node) { arithmetic(e, node, "Mul"); }

static void scale(kd_export *e, const kd_node *node)
{
    const kdas_scale_attr *a      = node->desc.attr;
    kdas_onnx_layout       layout = kd_export_layout(e, node->in[0]);
    const char            *x      = kd_export_in(e, node->in[0], layout);

    x = pair_of(e, "Mul", x, kd_onnx_float(e->file, a->factor));
    if (a->offset != 0) x = pair_of(e, "Add", x, kd_onnx_float(e->file, a->offset));
    kd_export_set(e, node, layout, x);
}

/* Three numbers, one for each channel of an image. */
static const char *colours(kd_export *e, kdas_onnx_layout layout, const float *values)
{
    int64_t dims[3] = { 3, 1, 1 };

    return kd_onnx_floats(e->file, layout == NCHW ? 3 : 1, dims, values);
}

static void recolour(kd_export *e, const kd_node *node)
{
    const kdas_recolour_attr *a         = node->desc.attr;
    kdas_onnx_layout          layout    = kd_export_layout(e, node->in[0]);
    int64_t                   source[3] = { a->source[0], a->source[1], a->source[2] };
    const char               *x         = kd_export_in(e, node->in[0], layout);

    if (source[0] != 0 || source[1] != 1 || source[2] != 2)
        x = kd_onnx_node(e->file, "Gather", NAMES(x, kd_onnx_ints(e->file, 3, source)),
                         ATTRS(ATTR_INT("axis", kd_axes_of(layout).c)));
    x = pair_of(e, "Mul", x, colours(e, layout, a->factor));
    kd_export_set(e, node, layout, pair_of(e, "Add", x, colours(e, layout, a->offset)));
}

/* ---- Over axes, which stay as 1 -------------------------------------------------------------- */

static void reduce_channels(kd_export *e, const kd_node *node, const char *type)
{
    kdas_onnx_layout layout = kd_export_layout(e, node->in[0]);

    kd_export_set(
        e, node, layout,
        kd_onnx_node(e->file, type, NAMES(kd_export_in(e, node->in[0], layout)),
                     ATTRS(ATTR_INTS("axes", kd_axes_of(layout).c), ATTR_INT("keepdims", 1))));
}

static void channel_mean(kd_export *e, const kd_node *node)
{
    reduce_channels(e, node, "ReduceMean");
}

static void channel_max(kd_export *e, const kd_node *node)
{
    reduce_channels(e, node, "ReduceMax");
}

static void pool_max(kd_export *e, const kd_node *node)
{
    kdas_onnx_layout layout = kd_export_layout(e, node->in[0]);
    kd_axes          axes   = kd_axes_of(layout);

    kd_export_set(e, node, layout,
                  kd_onnx_node(e->file, "ReduceMax", NAMES(kd_export_in(e, node->in[0], layout)),
                               ATTRS(ATTR_INTS("axes", axes.h, axes.w), ATTR_INT("keepdims", 1))));
}

/* ---- The table ------------------------------------------------------------------------------- */

static const struct {
    int32_t op;
    kd_form form;
} forms[] = {
    { KDAS_OP_CONV2D, conv2d },
    { KDAS_OP_DWCONV2D, dwconv2d },
    { KDAS_OP_DECONV2D, deconv2d },
    { KDAS_OP_LINEAR, linear },
    { KDAS_OP_MATMUL, matmul },
    { KDAS_OP_ATTENTION, attention },
    { KDAS_OP_LAYER_NORM, layer_norm },
    { KDAS_OP_BATCH_NORM, batch_norm },
    { KDAS_OP_SOFTMAX, softmax },
    { KDAS_OP_RELU, relu },
    { KDAS_OP_RELU6, relu6 },
    { KDAS_OP_SIGMOID, sigmoid },
    { KDAS_OP_GELU, gelu },
    { KDAS_OP_ADD, add },
    { KDAS_OP_SUB, sub },
    { KDAS_OP_MUL, mul },
    { KDAS_OP_ABS, absolute },
    { KDAS_OP_SILU, silu },
    { KDAS_OP_LEAKY_RELU, leaky_relu },
    { KDAS_OP_ELU, elu },
    { KDAS_OP_SCALE, scale },
    { KDAS_OP_RECOLOUR, recolour },
    { KDAS_OP_CAST, nothing },
    { KDAS_OP_DROPOUT, unchanged },
    { KDAS_OP_QUANTIZE, nothing },
    { KDAS_OP_CHANNEL_MEAN, channel_mean },
    { KDAS_OP_CHANNEL_MAX, channel_max },
    { KDAS_OP_POOL_MAX, pool_max },
    { KDAS_OP_POOL_AVG, kd_form_pool_avg },
    { KDAS_OP_WINDOW_MAX, kd_form_window_max },
    { KDAS_OP_WINDOW_AVG, kd_form_window_avg },
    { KDAS_OP_CONCAT, kd_form_concat },
    { KDAS_OP_SLICE, kd_form_slice },
    { KDAS_OP_CROP, kd_form_crop },
    { KDAS_OP_TRANSPOSE, kd_form_transpose },
    { KDAS_OP_RESHAPE, kd_form_reshape },
    { KDAS_OP_RESIZE, kd_form_resize },
};

kd_form kd_form_of(int32_t op)
{
    for (size_t i = 0; i < KD_COUNT(forms); i++)
        if (forms[i].op == op) return forms[i].form;
    return NULL;
}

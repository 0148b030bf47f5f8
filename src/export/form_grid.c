/* form_grid.c - networks on 8-bit grids (docs/int8.md). A QUANTIZE is a QuantizeLinear and a
 * DequantizeLinear; rounded weights are 8-bit numbers with a DequantizeLinear. Runtimes find a layer
 * between them and compute it with integers. A batch norm after such a layer is folded into the
 * scales of its weights and its bias: they do not find a layer behind a norm. */
#include <math.h>
#include <string.h>
#include "base/grid.h"
#include "export/export.h"
#include "export/proto.h"

static bool is_op(const kd_node *node, int32_t op)
{
    return node && node->kind == KD_NODE_OP && node->op->ref.op == op;
}

const kd_node *kd_export_source(const kd_node *node)
{
    while (is_op(node, KDAS_OP_CAST))
        node = node->in[0];
    return node;
}

/* ---- Activations ----------------------------------------------------------------------------- */

bool kd_export_is_grid(const kd_node *node) { return is_op(node, KDAS_OP_QUANTIZE); }

const char *kd_export_on_grid(kd_export *e, const kd_node *node, kdas_onnx_layout layout)
{
    const char *x = kd_export_in(e, node->in[0], layout), *scale, *zero;
    float       range[2];
    uint8_t     number;
    kd_grid     g;

    if (e->floats || !kd_onnx_read(e->file, node->in[1]->param, range)) return x;
    g = kd_grid_of(range);
    if (g.scale == 0)
        return kd_onnx_fail(e->file, KDAS_ESTATE,
                            "ONNX: '%s' is empty (%g to %g): integers need ranges; calibrate the "
                            "model, or export it as floats",
                            node->in[1]->name, (double)range[0], (double)range[1]);
    number = (uint8_t)g.zero;
    scale  = kd_onnx_float(e->file, g.scale);
    zero   = kd_onnx_numbers(e->file, NULL, ONNX_DATA_UINT8, 0, NULL, &number);
    x      = kd_onnx_node(e->file, "QuantizeLinear", NAMES(x, scale, zero), NO_ATTRS);
    return kd_onnx_node(e->file, "DequantizeLinear", NAMES(x, scale, zero), NO_ATTRS);
}

/* ---- Norms ----------------------------------------------------------------------------------- */

/* The batch norm that alone reads a layer on a grid; NULL: there is none. */
static const kd_node *norm_of(const kd_export *e, const kd_node *layer)
{
    const kd_node *found = NULL;

    for (int i = layer->id; i < kd_graph_nodes(e->graph); i++) {
        const kd_node *reader = kd_graph_node(e->graph, i);

        if (kd_export_source(reader) == layer) { /* itself, or a cast of it */
            if (reader->keep) return NULL;
            continue;
        }
        for (int k = 0; k < KDAS_MAX_INPUTS && e->value[i].needed; k++) {
            if (kd_export_source(reader->in[k]) != layer) continue;
            if (found || k > 0 || !is_op(reader, KDAS_OP_BATCH_NORM)) return NULL;
            found = reader;
        }
    }
    return found;
}

bool kd_export_is_folded(const kd_export *e, const kd_node *norm)
{
    const kd_node *layer = kd_export_source(norm->in[0]);

    return layer->rounded && norm_of(e, layer) == norm;
}

/* ---- Weights --------------------------------------------------------------------------------- */

/* A layer's weights as numbers, q[o row + i] scale[o], and its bias; one block of memory. */
typedef struct rounded {
    int64_t channels, row;
    float  *values, *scale, *bias, *stat; /* stat: gamma, beta, mean, variance */
    int8_t *q, *turned;
    bool    has_bias;
} rounded;

static bool take_memory(kd_export *e, rounded *r, const kdas_desc *w)
{
    int64_t n = kd_elements(w);

    r->channels = w->dim[0];
    r->row      = n / r->channels;
    r->values = kd_alloc(e->ctx, (size_t)(n + 6 * r->channels) * sizeof *r->values + 2 * (size_t)n);
    if (!r->values) {
        kd_onnx_fail(e->file, KDAS_ENOMEM, "%s", kdas_last_error());
        return false;
    }
    r->scale  = r->values + n;
    r->bias   = r->scale + r->channels;
    r->stat   = r->bias + r->channels;
    r->q      = (int8_t *)(r->stat + 4 * r->channels);
    r->turned = r->q + n;
    return true;
}

static void fold(rounded *r, float eps)
{
    const float *gamma = r->stat, *beta = gamma + r->channels, *mean = beta + r->channels,
                *variance = mean + r->channels;

    for (int64_t o = 0; o < r->channels; o++) {
        float factor = gamma[o] / sqrtf(variance[o] + eps);

        r->scale[o] *= factor;
        r->bias[o] = (r->bias[o] - mean[o]) * factor + beta[o];
    }
}

/* ONNX's scales are positive. A channel of zeros has one in which its bias is a large number. */
static void make_positive(rounded *r)
{
    for (int64_t o = 0; o < r->channels; o++) {
        int8_t *q = r->q + o * r->row;

        for (int64_t i = 0; r->scale[o] < 0 && i < r->row; i++)
            q[i] = (int8_t)-q[i];
        r->scale[o] = fabsf(r->scale[o]);
        if (r->scale[o] > 0) continue;
        memset(q, 0, (size_t)r->row);
        r->scale[o] = r->bias[o] != 0 ? fabsf(r->bias[o]) / (1 << 20) : 1;
    }
}

static bool read_rounded(kd_export *e, rounded *r, const kd_node *node)
{
    const kd_node *norm = norm_of(e, node);

    r->has_bias = node->in[2] || norm;
    memset(r->bias, 0, (size_t)r->channels * sizeof *r->bias);
    if (!kd_onnx_read(e->file, node->in[1]->param, r->values)) return false;
    if (node->in[2] && !kd_onnx_read(e->file, node->in[2]->param, r->bias)) return false;
    for (int64_t o = 0; o < r->channels; o++)
        r->scale[o] =
            kd_weights_to_grid(r->q + o * r->row, r->values + o * r->row, r->row, 1, NULL);
    for (int k = 0; norm && k < 4; k++)
        if (!kd_onnx_read(e->file, norm->in[1 + k]->param, r->stat + k * r->channels)) return false;
    if (norm) fold(r, ((const kdas_norm_attr *)norm->desc.attr)->eps);
    make_positive(r);
    return true;
}

/* The weights in the file, dims being those of the file. */
static const char *put_weights(kd_export *e, rounded *r, const kd_node *node, int rank,
                               const int64_t *dims, bool transposed)
{
    int64_t     zeros_dims = r->channels, n = r->channels * r->row;
    const char *q, *scale, *zeros;

    for (int64_t i = 0; i < n; i++)
        r->turned[transposed ? i % r->row * r->channels + i / r->row : i] = r->q[i];
    if (e->floats) {
        for (int64_t i = 0; i < n; i++)
            r->values[i] =
                (float)r->turned[i] * r->scale[transposed ? i % r->channels : i / r->row];
        return kd_onnx_floats(e->file, rank, dims, r->values);
    }
    q     = kd_onnx_numbers(e->file, node->in[1]->name, ONNX_DATA_INT8, rank, dims, r->turned);
    scale = kd_onnx_floats(e->file, 1, &zeros_dims, r->scale);
    memset(r->q, 0, (size_t)r->channels); /* written: no longer needed */
    zeros = kd_onnx_numbers(e->file, NULL, ONNX_DATA_INT8, 1, &zeros_dims, r->q);
    return kd_onnx_node(e->file, "DequantizeLinear", NAMES(q, scale, zeros),
                        ATTRS(ATTR_INT("axis", transposed)));
}

/* The scale of the sums of layer `node`, without that of its weights. */
static float input_scale(kd_export *e, const kd_node *node)
{
    const kd_node *grid     = kd_export_source(node->in[0]);
    float          range[2] = { 0, 0 };

    return kd_onnx_read(e->file, grid->in[1]->param, range) ? kd_grid_of(range).scale : 0;
}

/* The bias as whole numbers of what the sums count (r->values), and what they count (r->stat). False:
 * some do not fit. */
static bool round_bias(rounded *r, float x_scale)
{
    int32_t *to = (int32_t *)r->values;

    for (int64_t o = 0; o < r->channels; o++) {
        double unit = (double)(r->stat[o] = x_scale * r->scale[o]),
               n    = rint((double)r->bias[o] / unit);

        if (!(unit > 0) || !(fabs(n) < INT32_MAX)) return false;
        to[o] = (int32_t)n;
    }
    return true;
}

/* Of a convolution as 32-bit numbers: some releases of ONNX Runtime have integer kernels for nothing
 * else. It is off by at most half of what one product of numbers is worth. Of a product of matrices
 * as floats with four axes: ONNX Runtime takes a vector into a Gemm, for which it has no integer
 * kernel with a result in floats. */
static const char *put_bias(kd_export *e, rounded *r, const kd_node *node, bool matrix)
{
    const int64_t dims[4] = { 1, 1, 1, r->channels };
    const char   *n, *scale;

    if (matrix && !e->floats) return kd_onnx_floats(e->file, 4, dims, r->bias);
    if (e->floats || !round_bias(r, input_scale(e, node)))
        return kd_onnx_floats(e->file, 1, &r->channels, r->bias);
    n     = kd_onnx_numbers(e->file, NULL, ONNX_DATA_INT32, 1, &r->channels, r->values);
    scale = kd_onnx_floats(e->file, 1, &r->channels, r->stat);
    return kd_onnx_node(e->file, "DequantizeLinear", NAMES(n, scale), ATTRS(ATTR_INT("axis", 0)));
}

static kd_export_operands rounded_operands(kd_export *e, const kd_node *node, int rank,
                                           const int64_t *dims, bool transposed)
{
    kd_export_operands to        = { NULL, NULL };
    const int64_t      turned[2] = { dims[1], dims[0] };
    rounded            r;

    if (!take_memory(e, &r, &node->desc.in[1])) return to;
    to.has_bias = true;
    if (read_rounded(e, &r, node)) {
        to.weight   = put_weights(e, &r, node, rank, transposed ? turned : dims, transposed);
        to.has_bias = r.has_bias;
        if (r.has_bias) to.bias = put_bias(e, &r, node, transposed);
    }
    kd_free(e->ctx, r.values);
    return to;
}

kd_export_operands kd_export_layer(kd_export *e, const kd_node *node, int rank, const int64_t *dims,
                                   bool transposed)
{
    const kd_node     *b = node->in[2];
    kd_export_operands to;

    if (node->rounded) return rounded_operands(e, node, rank, dims, transposed);
    to.weight   = kd_onnx_weight(e->file, node->in[1]->param, rank, dims, transposed);
    to.bias     = b ? kd_onnx_weight(e->file, b->param, 1, b->desc.out.dim, false) : NULL;
    to.has_bias = b;
    return to;
}

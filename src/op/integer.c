/* integer.c - see integer.h. Integer sums are exact: an accumulator has 32 bits, and is the sum of
 * products of x's numbers and weights, less zero times the sum of the weights. Padding is x's zero,
 * so it adds nothing. */
#include "op/integer.h"
#include "base/grid.h"
#include "op/op_util.h"

bool kd_is_integer(const kdas_node_desc *node)
{
    if (node->op == KDAS_OP_MIX_FFN) return kd_present(&node->in[KD_FFN_RANGES]);
    return node->in[0].dtype == KDAS_U8;
}

kdas_status kd_integer_check(const kdas_node_desc *node)
{
    int         first = KD_RANGE_X, last = KD_RANGE_OUT;
    const char *name = kd_op_name(node->op);

    if (node->op == KDAS_OP_MIX_FFN) {
        first = KD_FFN_RANGES;
        last  = KD_FFN_RANGES + KD_FFN_RANGE_COUNT - 1;
    }
    KD_RETURN(kd_op_check_vectors(node, first, last, 2));
    if (node->post < KDAS_POST_NONE || node->post > KDAS_POST_RELU6)
        return kd_fail(KDAS_EINVAL, "%s: there is no kdas_post %d", name, node->post);
    if (!kd_is_integer(node)) {
        if (node->post != KDAS_POST_NONE && (node->wants || node->op == KDAS_OP_MIX_FFN))
            return kd_fail(KDAS_EINVAL, "%s: no activation can follow it%s", name,
                           node->wants ? " where a gradient is wanted" : "");
        for (int i = first; i <= last; i++)
            if (kd_present(&node->in[i]))
                return kd_fail(KDAS_EINVAL, "%s: a range, but the products are not of integers",
                               name);
        return KDAS_OK;
    }
    if (node->wants) return kd_fail(KDAS_EUNSUPPORTED, "%s: integers have no gradient", name);
    for (int i = first; i <= (node->op == KDAS_OP_MIX_FFN ? last : first); i++)
        if (!kd_present(&node->in[i]))
            return kd_fail(KDAS_EINVAL, "%s: range %d is missing", name, i - first);
    return KDAS_OK;
}

/* A layer: x in numbers, one output channel after the other. */
typedef struct layer {
    const kdas_node_desc *node; /* its shapes and attributes */
    const uint8_t        *x;
    const float          *w, *b;
    const kd_grid        *grid, *out; /* of x and of the result; out NULL: values */
    void                 *y;
    const float          *residual; /* added to values; NULL: none */
} layer;

static kdas_status empty_range(const kdas_node_desc *node, int i)
{
    return kd_fail(KDAS_ESTATE, "%s: the range of input %d is empty", kd_op_name(node->op), i);
}

/* The sum of one output: `tap` gives the offset in x of tap t for output row r, -1 in the padding. */
typedef int64_t (*tap_fn)(const kdas_node_desc *node, int64_t r, int64_t t);

static int64_t window_tap(const kdas_node_desc *node, int64_t r, int64_t t)
{
    const kdas_conv_attr *a = node->attr;
    const int64_t        *x = node->in[0].dim, *y = node->out.dim, *w = node->in[1].dim;
    int64_t               row = r / y[2] % y[1] * a->stride - a->pad[0] + t / w[3] * a->dilation;
    int64_t               col = r % y[2] * a->stride - a->pad[1] + t % w[3] * a->dilation;

    if (row < 0 || row >= x[1] || col < 0 || col >= x[2]) return -1;
    return ((r / y[2] / y[1] * x[1] + row) * x[2] + col) * x[3];
}

static int64_t point_tap(const kdas_node_desc *node, int64_t r, int64_t t)
{
    (void)t;
    return r * node->in[0].dim[3];
}

static int32_t sum_of(const layer *l, const int8_t *q, int64_t r, int64_t c0, int64_t channels,
                      int64_t taps, tap_fn tap)
{
    int32_t sum = 0;

    for (int64_t t = 0; t < taps; t++) {
        int64_t at = tap(l->node, r, t);

        for (int64_t c = 0; at >= 0 && c < channels; c++)
            sum += (l->x[at + c0 + c] - l->grid->zero) * q[c * taps + t];
    }
    return sum;
}

/* `q`: room for the weights of one output channel. */
static void run_layer(const layer *l, int8_t *q, tap_fn tap)
{
    const int64_t *w       = l->node->in[1].dim;
    int64_t        outputs = l->node->out.dim[3], rows = kd_rows(&l->node->out),
            count = w[1] * w[2] * w[3], taps = tap == point_tap ? 1 : w[2] * w[3];
    int64_t       channels = count / taps;
    int           groups   = tap == point_tap ? 1 : ((const kdas_conv_attr *)l->node->attr)->groups;
    kd_requantise r        = kd_requantise_of(l->out, l->node->post);

    for (int64_t o = 0; o < outputs; o++) {
        float   factor, offset, scale = kd_weights_to_grid(q, l->w + o * count, count, 1, NULL);
        int64_t c0 = l->node->op == KDAS_OP_DWCONV2D ? o : o / (outputs / groups) * channels;

        kd_requantise_channel(&factor, &offset, l->grid, scale, l->b ? l->b[o] : 0, l->out);
        for (int64_t i = 0; i < rows; i++) {
            int32_t sum = sum_of(l, q, i, c0, channels, taps, tap);
            int64_t at  = i * outputs + o;

            if (l->out)
                ((uint8_t *)l->y)[at] = kd_requantise_number(&r, sum, factor, offset);
            else
                ((float *)l->y)[at] = kd_requantise_value(&r, sum, factor, offset) +
                                      (l->residual ? l->residual[at] : 0);
        }
    }
}

static kdas_status run_call(const kdas_call *call, tap_fn tap)
{
    const kdas_node_desc *node = call->node;
    kd_grid               x = kd_grid_of(call->in[KD_RANGE_X]), out = { 0 };
    bool                  numbers = node->out.dtype == KDAS_U8;
    layer                 l       = { .node = node,
                                      .x    = call->in[0],
                                      .w    = call->in[1],
                                      .b    = call->in[2],
                                      .grid = &x,
                                      .y    = call->out };

    if (numbers) out = kd_grid_of(call->in[KD_RANGE_OUT]);
    if (numbers) l.out = &out;
    if (x.scale == 0) return empty_range(node, KD_RANGE_X);
    if (numbers && out.scale == 0) return empty_range(node, KD_RANGE_OUT);
    run_layer(&l, call->work, tap);
    return KDAS_OK;
}

kdas_status kd_integer_conv2d(const kdas_call *call) { return run_call(call, window_tap); }
kdas_status kd_integer_dwconv2d(const kdas_call *call) { return run_call(call, window_tap); }
kdas_status kd_integer_linear(const kdas_call *call) { return run_call(call, point_tap); }

/* ---- MIX_FFN ---- */

enum { X, W1, B1, WD, BD, W2, B2, RESIDUAL };
enum { ON_X, ON_FC1, ON_FILTER, ON_GELU };

static const kdas_conv_attr same_size = { 1, { 1, 1 }, { 1, 1 }, 1, 1 };

/* One of its layers, from numbers to numbers or values. */
static void part(const kdas_call *call, const kdas_node_desc *shape, int w, const uint8_t *x,
                 const kd_grid *grid, const kd_grid *out, void *y, const float *residual)
{
    layer l = { .node     = shape,
                .x        = x,
                .w        = call->in[w],
                .b        = call->in[w + 1],
                .grid     = grid,
                .out      = out,
                .y        = y,
                .residual = residual };

    run_layer(&l, call->work, shape->op == KDAS_OP_DWCONV2D ? window_tap : point_tap);
}

static kdas_node_desc part_shape(const kdas_node_desc *node, int32_t op, int w, kdas_desc x,
                                 int64_t channels)
{
    kdas_node_desc p = { .op = op, .inputs = 3, .attr = &same_size };

    p.in[0]      = x;
    p.in[1]      = node->in[w];
    p.in[2]      = node->in[w + 1];
    p.out        = x;
    p.out.dim[3] = channels;
    return p;
}

static void look_up(uint8_t *y, const uint8_t *x, int64_t n, const uint8_t table[256])
{
    for (int64_t i = 0; i < n; i++)
        y[i] = table[x[i]];
}

/* The most weights of one output channel. */
static int64_t widest(const kdas_node_desc *node)
{
    if (node->op != KDAS_OP_MIX_FFN)
        return node->in[1].dim[1] * node->in[1].dim[2] * node->in[1].dim[3];
    return KD_MAX(KD_MAX(node->in[W1].dim[1], node->in[W2].dim[1]), (int64_t)9);
}

kdas_status kd_integer_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    (void)device;
    if (!kd_is_integer(node)) return KDAS_OK;
    plan->work_forward = (size_t)widest(node);
    if (node->op == KDAS_OP_MIX_FFN)
        plan->work_forward +=
            (size_t)(kd_elements(&node->in[X]) + 2 * kd_rows(&node->out) * node->in[W1].dim[0]);
    return KDAS_OK;
}

kdas_status kd_integer_mix_ffn(const kdas_call *call)
{
    const kdas_node_desc *node = call->node;
    int64_t               F = node->in[W1].dim[0], n = kd_elements(&node->in[X]),
            hidden = kd_rows(&node->out) * F;
    kd_grid        g[KD_FFN_RANGE_COUNT];
    kdas_node_desc fc1    = part_shape(node, KDAS_OP_LINEAR, W1, node->in[X], F);
    kdas_node_desc filter = part_shape(node, KDAS_OP_DWCONV2D, WD, fc1.out, F);
    kdas_node_desc fc2    = part_shape(node, KDAS_OP_LINEAR, W2, fc1.out, node->out.dim[3]);
    uint8_t *x = (uint8_t *)call->work + widest(node), *a = x + n, *d = a + hidden, table[256];

    for (int i = 0; i < KD_FFN_RANGE_COUNT; i++) {
        g[i] = kd_grid_of(call->in[KD_FFN_RANGES + i]);
        if (g[i].scale == 0) return empty_range(node, KD_FFN_RANGES + i);
    }
    for (int64_t i = 0; i < n; i++)
        x[i] = kd_grid_number(&g[ON_X], ((const float *)call->in[X])[i]);
    part(call, &fc1, W1, x, &g[ON_X], &g[ON_FC1], a, NULL);
    part(call, &filter, WD, a, &g[ON_FC1], &g[ON_FILTER], d, NULL);
    kd_gelu_table(table, &g[ON_FILTER], &g[ON_GELU]);
    look_up(d, d, hidden, table);
    part(call, &fc2, W2, d, &g[ON_GELU], NULL, call->out, call->in[RESIDUAL]);
    return KDAS_OK;
}

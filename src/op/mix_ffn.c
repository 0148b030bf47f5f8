/* mix_ffn.c - the feed-forward block of PVTv2: fc2(gelu(dwconv3x3(fc1(x)))) + residual. There
 * are F hidden channels between the two linear layers. x (N,H,W,C), W1 (F,C), [b1 (F)], Wd
 * (F,1,3,3), [bd (F)], W2 (O,F), [b2 (O)], [residual (N,H,W,O)] -> y (N,H,W,O). The reference
 * runs the four ops in order, on its own scratch. */
#include "op/integer.h"
#include "op/op_util.h"

enum { X, W1, B1, WD, BD, W2, B2, RESIDUAL };
enum { FC1, DWCONV, GELU, FC2, PARTS };

/* Each op's number, and the indices of its weight and bias among the block's inputs. */
static const struct {
    int32_t op;
    int     weight, bias;
} parts[PARTS] = {
    { KDAS_OP_LINEAR, W1, B1 },
    { KDAS_OP_DWCONV2D, WD, BD },
    { KDAS_OP_GELU, 0, 0 },
    { KDAS_OP_LINEAR, W2, B2 },
};

static const kdas_conv_attr same_size = { 1, { 1, 1 }, { 1, 1 }, 1, 1 };

/* The four ops as separate nodes, with their shapes. */
static kdas_status split(const kdas_node_desc *node, kdas_node_desc part[PARTS])
{
    kdas_desc x = node->in[X];

    for (int i = 0; i < PARTS; i++) {
        kdas_node_desc *p = &part[i];

        *p = (kdas_node_desc){ .op = parts[i].op, .inputs = 1, .attr = &same_size, .in = { x } };
        if (parts[i].weight) {
            p->inputs = 3;
            p->in[1]  = node->in[parts[i].weight];
            p->in[2]  = node->in[parts[i].bias];
        }
        KD_RETURN(kd_op_find(p->op)->infer(p));
        x = p->out;
    }
    return KDAS_OK;
}

static kdas_status mix_ffn_infer(kdas_node_desc *node)
{
    kdas_node_desc   part[PARTS];
    const kdas_desc *wd = &node->in[WD], *out = &part[FC2].out;
    kdas_status      st;

    KD_RETURN(kd_op_check(node));
    if (wd->dim[2] != 3 || wd->dim[3] != 3)
        return kd_fail(KDAS_ESHAPE, "mix_ffn: the depthwise weight %s is not 3x3",
                       kd_dims_text(wd));
    st = split(node, part);
    if (st != KDAS_OK) return kd_fail_in(st, "mix_ffn");
    if (kd_present(&node->in[RESIDUAL]) && !kd_same_dims(&node->in[RESIDUAL], out))
        return kd_fail(KDAS_ESHAPE, "mix_ffn: the residual is %s, but the result is %s",
                       kd_dims_text(&node->in[RESIDUAL]), kd_dims_text(out));
    KD_RETURN(kd_integer_check(node));
    return kd_op_output(node, out->dim[0], out->dim[1], out->dim[2], out->dim[3]);
}

/* Scratch holds the hidden maps: the results of fc1, dwconv and gelu. For backward, their three
 * gradients follow. */
static int64_t hidden_numel(const kdas_node_desc *node)
{
    return kd_rows(&node->out) * node->in[W1].dim[0];
}

static kdas_status mix_ffn_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    if (kd_is_integer(node)) return kd_integer_prepare(device, node, plan);
    plan->work_forward  = (size_t)(3 * hidden_numel(node)) * sizeof(float);
    plan->work_backward = (size_t)(6 * hidden_numel(node)) * sizeof(float);
    return KDAS_OK;
}

/* Operands of part i: the result of part i - 1, its weight and its bias. */
static kdas_call part_call(const kdas_call *call, const kdas_node_desc *part, int i, float *map[])
{
    kdas_call c = { .node = &part[i], .out = map[i] };

    c.in[0] = i == FC1 ? call->in[X] : map[i - 1];
    if (parts[i].weight) {
        c.in[1]  = call->in[parts[i].weight];
        c.in[2]  = call->in[parts[i].bias];
        c.din[1] = call->din[parts[i].weight];
        c.din[2] = call->din[parts[i].bias];
    }
    return c;
}

/* Run parts up to `last`. map[i] receives the result of part i. */
static kdas_status run_parts(kdas_device *device, const kdas_call *call, int last,
                             const kdas_node_desc part[PARTS], float *map[])
{
    for (int i = 0; i <= last; i++) {
        kdas_call c = part_call(call, part, i, map);

        KD_RETURN(kd_op_find(part[i].op)->ref.forward(device, &c));
    }
    return KDAS_OK;
}

static kdas_status mix_ffn_forward(kdas_device *device, const kdas_call *call)
{
    int64_t        hidden = hidden_numel(call->node);
    float         *work = call->work, *y = call->out;
    float         *map[PARTS] = { work, work + hidden, work + 2 * hidden, y };
    const float   *residual   = call->in[RESIDUAL];
    kdas_node_desc part[PARTS];

    if (kd_is_integer(call->node)) return kd_integer_mix_ffn(call);
    KD_RETURN(split(call->node, part));
    KD_RETURN(run_parts(device, call, FC2, part, map));
    for (int64_t i = 0; residual && i < kd_elements(&call->node->out); i++)
        y[i] += residual[i];
    return KDAS_OK;
}

static kdas_status mix_ffn_backward(kdas_device *device, const kdas_call *call)
{
    int64_t        hidden = hidden_numel(call->node);
    float         *work = call->work, *gradients = work + 3 * hidden;
    float         *map[PARTS] = { work, work + hidden, work + 2 * hidden, NULL };
    float         *dresidual  = call->din[RESIDUAL];
    const float   *dy         = call->dout;
    kdas_node_desc part[PARTS];

    KD_RETURN(split(call->node, part));
    KD_RETURN(run_parts(device, call, GELU, part, map));
    memset(gradients, 0, (size_t)(3 * hidden) * sizeof *gradients);
    for (int i = FC2; i >= FC1; i--) {
        kdas_call c = part_call(call, part, i, map);

        c.dout   = i == FC2 ? call->dout : gradients + i * hidden;
        c.din[0] = i == FC1 ? call->din[X] : gradients + (i - 1) * hidden;
        KD_RETURN(kd_op_find(part[i].op)->ref.backward(device, &c));
    }
    for (int64_t i = 0; dresidual && i < kd_elements(&call->node->out); i++)
        dresidual[i] += dy[i];
    return KDAS_OK;
}

static int64_t mix_ffn_macs(const kdas_node_desc *node)
{
    kdas_node_desc part[PARTS];
    int64_t        sum = 0;

    if (split(node, part) != KDAS_OK) return 0;
    for (int i = 0; i < PARTS; i++)
        if (kd_op_find(part[i].op)->macs) sum += kd_op_find(part[i].op)->macs(&part[i]);
    return sum;
}

static double mix_ffn_thop(const kdas_node_desc *node)
{
    kdas_node_desc part[PARTS];
    double         sum = 0;

    if (split(node, part) != KDAS_OK) return 0;
    for (int i = 0; i < PARTS; i++)
        if (kd_op_find(part[i].op)->thop) sum += kd_op_find(part[i].op)->thop(&part[i]);
    return sum;
}

const kd_op kd_op_mix_ffn = {
    .name       = "mix_ffn",
    .min_inputs = 6,
    .max_inputs = 12,
    .optional   = 1u << B1 | 1u << BD | 1u << B2 | 1u << RESIDUAL | 0xfu << KD_FFN_RANGES,
    .infer      = mix_ffn_infer,
    .macs       = mix_ffn_macs,
    .thop       = mix_ffn_thop,
    .ref        = { .op    = KDAS_OP_MIX_FFN,
                    .needs = KDAS_NEEDS_IN(X) | KDAS_NEEDS_IN(W1) | KDAS_NEEDS_IN(B1) | KDAS_NEEDS_IN(WD) |
                             KDAS_NEEDS_IN(BD) | KDAS_NEEDS_IN(W2),
                    .prepare  = mix_ffn_prepare,
                    .forward  = mix_ffn_forward,
                    .backward = mix_ffn_backward },
};

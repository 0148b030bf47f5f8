/* check_op_rules.c - what ops refuse, what they cost, and the functions that put them into
 * graphs. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "graph/build.h"
#include "model/model.h"
#include "support/check_util.h"
#include "support/op_run.h"

/* Tables, read by rows. */
/* clang-format off */
#define D(...)            { .desc = { KDAS_F32, 4, { __VA_ARGS__ } } }
#define ATTR(member, ...) .attr.member = { __VA_ARGS__ }
#define CONV_ATTR(s, before, after) ATTR(conv, s, { before, before }, { after, after }, 1, 1)
#define NONE              .attr.kl = { 1 }

/* ---- Shape rules ---- */

typedef struct refusal {
    kd_op_case  test;
    kdas_status status;
    const char *part; /* of the sentence, besides the op's name */
} refusal;

#define REFUSE(NAME, status_, part_, attr_, ...) \
    { { .name = #NAME, .op = KDAS_OP_##NAME, attr_, .in = { __VA_ARGS__ } }, status_, part_ }

static const refusal refusals[] = {
    REFUSE(CONV2D, KDAS_ESHAPE, "1x4x4x3", CONV_ATTR(1, 0, 0), D(1, 4, 4, 3), D(8, 2, 3, 3)),
    REFUSE(CONV2D, KDAS_ESHAPE, "smaller", CONV_ATTR(1, 0, 0), D(1, 2, 4, 3), D(8, 3, 3, 3)),
    REFUSE(CONV2D, KDAS_ESHAPE, "9x1x1x1", CONV_ATTR(1, 1, 1), D(1, 4, 4, 3), D(8, 3, 3, 3),
           D(9, 1, 1, 1)),
    REFUSE(CONV2D, KDAS_EINVAL, "stride 0", CONV_ATTR(0, 1, 1), D(1, 4, 4, 3), D(8, 3, 3, 3)),
    REFUSE(CONV2D, KDAS_EINVAL, "padding -1,-1", CONV_ATTR(1, -1, -1), D(1, 4, 4, 3), D(8, 3, 3, 3)),
    REFUSE(CONV2D, KDAS_EINVAL, "1,1 and -1,-1", CONV_ATTR(1, 1, -1), D(1, 4, 4, 3), D(8, 3, 3, 3)),
    REFUSE(CONV2D, KDAS_EINVAL, "inputs", CONV_ATTR(1, 0, 0), D(1, 4, 4, 3)),
    REFUSE(CONV2D, KDAS_ESHAPE, "1x-4x4x3", CONV_ATTR(1, 0, 0), D(1, -4, 4, 3), D(8, 3, 3, 3)),
    REFUSE(CONV2D, KDAS_ESHAPE, "impossible", CONV_ATTR(1, 0, 0), D(1 << 30, 1 << 30, 1 << 30, 3),
           D(8, 3, 3, 3)),
    REFUSE(DWCONV2D, KDAS_ESHAPE, "4x1x3x3", CONV_ATTR(1, 1, 1), D(1, 4, 4, 3), D(4, 1, 3, 3)),
    REFUSE(DWCONV2D, KDAS_ESHAPE, "3x2x3x3", CONV_ATTR(1, 1, 1), D(1, 4, 4, 3), D(3, 2, 3, 3)),
    REFUSE(DWCONV2D, KDAS_EINVAL, "-2,-2 and 1,1", CONV_ATTR(1, -2, 1), D(1, 4, 4, 3), D(3, 1, 3, 3)),
    REFUSE(DWCONV2D, KDAS_ESHAPE, "smaller", CONV_ATTR(1, 0, 0), D(1, 2, 4, 3), D(3, 1, 3, 3)),
    REFUSE(CONV2D, KDAS_EINVAL, "0,-1 and 0,0", ATTR(conv, 1, { 0, -1 }, { 0, 0 }, 1, 1), D(1, 4, 4, 3),
           D(8, 3, 3, 3)),
    REFUSE(CONV2D, KDAS_EINVAL, "0,0 and -3,0", ATTR(conv, 1, { 0, 0 }, { -3, 0 }, 1, 1), D(1, 4, 4, 3),
           D(8, 3, 3, 3)),
    REFUSE(CONV2D, KDAS_EINVAL, "dilation 0", ATTR(conv, 1, { 1, 1 }, { 1, 1 }, 0, 1), D(1, 4, 4, 3),
           D(8, 3, 3, 3)),
    REFUSE(CONV2D, KDAS_EINVAL, "0 groups", ATTR(conv, 1, { 1, 1 }, { 1, 1 }, 1, 0), D(1, 4, 4, 3),
           D(8, 3, 3, 3)),
    REFUSE(CONV2D, KDAS_ESHAPE, "smaller", ATTR(conv, 1, { 0, 0 }, { 0, 0 }, 2, 1), D(1, 4, 5, 3),
           D(8, 3, 3, 3)),
    REFUSE(CONV2D, KDAS_ESHAPE, "8x2x3x3 in 2 groups", ATTR(conv, 1, { 1, 1 }, { 1, 1 }, 1, 2),
           D(1, 4, 4, 6), D(8, 2, 3, 3)),
    REFUSE(CONV2D, KDAS_ESHAPE, "7x3x3x3 in 2 groups", ATTR(conv, 1, { 1, 1 }, { 1, 1 }, 1, 2),
           D(1, 4, 4, 6), D(7, 3, 3, 3)),
    REFUSE(DWCONV2D, KDAS_EINVAL, "dilation 2", ATTR(conv, 1, { 1, 1 }, { 1, 1 }, 2, 1), D(1, 4, 4, 3),
           D(3, 1, 2, 2)),
    REFUSE(DWCONV2D, KDAS_EINVAL, "3 groups", ATTR(conv, 1, { 1, 1 }, { 1, 1 }, 1, 3), D(1, 4, 4, 3),
           D(3, 1, 3, 3)),
    REFUSE(DECONV2D, KDAS_ESHAPE, "4x5x2x2", CONV_ATTR(2, 0, 0), D(1, 4, 4, 3), D(4, 5, 2, 2)),
    REFUSE(DECONV2D, KDAS_ESHAPE, "3x1x1x1", CONV_ATTR(2, 0, 0), D(1, 4, 4, 3), D(3, 5, 2, 2),
           D(3, 1, 1, 1)),
    REFUSE(DECONV2D, KDAS_EINVAL, "stride 0", CONV_ATTR(0, 0, 0), D(1, 4, 4, 3), D(3, 5, 2, 2)),
    REFUSE(DECONV2D, KDAS_EINVAL, "padding 0,0 and -1,-1", CONV_ATTR(2, 0, -1), D(1, 4, 4, 3),
           D(3, 5, 2, 2)),
    REFUSE(DECONV2D, KDAS_EINVAL, "dilation 2", ATTR(conv, 2, { 0, 0 }, { 0, 0 }, 2, 1), D(1, 4, 4, 3),
           D(3, 5, 2, 2)),
    REFUSE(DECONV2D, KDAS_EINVAL, "3 groups", ATTR(conv, 2, { 0, 0 }, { 0, 0 }, 1, 3), D(1, 4, 4, 3),
           D(3, 5, 2, 2)),
    REFUSE(DECONV2D, KDAS_ESHAPE, "nothing is left", CONV_ATTR(1, 1, 1), D(1, 1, 4, 3),
           D(3, 5, 2, 2)),
    REFUSE(DECONV2D, KDAS_ESHAPE, "result", CONV_ATTR(INT32_MAX, 0, 0), D(4, 9, 9, 3), D(3, 5, 2, 2)),
    REFUSE(LINEAR, KDAS_ESHAPE, "5x4x1x1", NONE, D(1, 2, 2, 3), D(5, 4, 1, 1)),
    REFUSE(LINEAR, KDAS_ESHAPE, "4x1x1x1", NONE, D(1, 2, 2, 3), D(5, 3, 1, 1), D(4, 1, 1, 1)),
    REFUSE(LAYER_NORM, KDAS_ESHAPE, "4x1x1x1", ATTR(norm, 1e-5f, 0), D(1, 2, 2, 3), D(3, 1, 1, 1),
           D(4, 1, 1, 1)),
    REFUSE(LAYER_NORM, KDAS_EINVAL, "eps", ATTR(norm, 0, 0), D(1, 2, 2, 3), D(3, 1, 1, 1),
           D(3, 1, 1, 1)),
    REFUSE(BATCH_NORM, KDAS_ESHAPE, "2x1x1x1", ATTR(norm, 1e-5f, 0.1f), D(1, 2, 2, 3),
           D(3, 1, 1, 1), D(3, 1, 1, 1), D(3, 1, 1, 1), D(2, 1, 1, 1)),
    REFUSE(BATCH_NORM, KDAS_EINVAL, "momentum 2", ATTR(norm, 1e-5f, 2), D(1, 2, 2, 3),
           D(3, 1, 1, 1), D(3, 1, 1, 1), D(3, 1, 1, 1), D(3, 1, 1, 1)),
    REFUSE(EXCHANGE, KDAS_ESHAPE, "1x1x1x4 is not", NONE, D(1, 1, 1, 4)),
    REFUSE(EXCHANGE, KDAS_ESHAPE, "1x1x2x5 is not", NONE, D(1, 1, 2, 5)),
    REFUSE(EXCHANGE, KDAS_ESHAPE, "1x1x1x1 is not", NONE, D(1, 1, 1, 1)),
    REFUSE(APPLY_MOMENTS, KDAS_ESHAPE, "1x1x1x6 are not the moments", ATTR(norm, 1e-5f, 0.1f),
           D(1, 2, 2, 3), D(1, 1, 1, 6), D(3, 1, 1, 1), D(3, 1, 1, 1), D(3, 1, 1, 1),
           D(3, 1, 1, 1)),
    REFUSE(APPLY_MOMENTS, KDAS_ESHAPE, "2x1x1x1", ATTR(norm, 1e-5f, 0.1f), D(1, 2, 2, 3),
           D(1, 1, 1, 7), D(3, 1, 1, 1), D(3, 1, 1, 1), D(3, 1, 1, 1), D(2, 1, 1, 1)),
    REFUSE(APPLY_MOMENTS, KDAS_EINVAL, "momentum 2", ATTR(norm, 1e-5f, 2), D(1, 2, 2, 3),
           D(1, 1, 1, 7), D(3, 1, 1, 1), D(3, 1, 1, 1), D(3, 1, 1, 1), D(3, 1, 1, 1)),
    REFUSE(STANDARDIZE, KDAS_EINVAL, "eps", ATTR(standardize, 0), D(1, 2, 2, 3)),
    REFUSE(ADD, KDAS_ESHAPE, "broadcast", NONE, D(1, 2, 2, 3), D(1, 2, 2, 2)),
    REFUSE(SUB, KDAS_ESHAPE, "2x2x2x3", NONE, D(1, 2, 2, 3), D(2, 2, 2, 3)),
    REFUSE(MUL, KDAS_ESHAPE, "1x1x1x3", NONE, D(1, 1, 1, 1), D(1, 1, 1, 3)),
    REFUSE(SCALE, KDAS_EINVAL, "finite", ATTR(scale, INFINITY, 0), D(1, 1, 1, 1)),
    REFUSE(CONCAT, KDAS_ESHAPE, "input 1 is 1x2x3x3", NONE, D(1, 2, 2, 3), D(1, 2, 3, 3)),
    REFUSE(CONCAT, KDAS_EINVAL, "input 1 is missing", NONE, D(1, 2, 2, 3), D(0), D(1, 2, 2, 3)),
    REFUSE(SLICE, KDAS_ESHAPE, "1x2x2x3", ATTR(slice, 1, 3), D(1, 2, 2, 3)),
    REFUSE(SLICE, KDAS_ESHAPE, "0 channels", ATTR(slice, 1, 0), D(1, 2, 2, 3)),
    REFUSE(SLICE, KDAS_ESHAPE, "from", ATTR(slice, 1, INT64_MAX), D(1, 2, 2, 3)),
    REFUSE(CROP, KDAS_ESHAPE, "1x2x2x3", ATTR(crop, 1, 0, 2, 2), D(1, 2, 2, 3)),
    REFUSE(CROP, KDAS_ESHAPE, "1x2x2x3", ATTR(crop, 0, -1, 2, 2), D(1, 2, 2, 3)),
    REFUSE(RESHAPE, KDAS_ESHAPE, "12 elements", ATTR(dims, KDAS_F32, 4, { 1, 1, 1, 11 }),
           D(1, 2, 2, 3)),
    REFUSE(RESHAPE, KDAS_ESHAPE, "impossible",
           ATTR(dims, KDAS_F32, 4, { 1 << 20, 1 << 20, 1 << 20, 1 << 20 }), D(1, 1, 1024, 1024)),
    REFUSE(RESHAPE, KDAS_ESHAPE, "impossible", ATTR(dims, KDAS_F32, 4, { 1, 1, -1, -12 }),
           D(1, 2, 2, 3)),
    REFUSE(RESIZE, KDAS_ESHAPE, "0x4", ATTR(resize, 0, 4, 0, 0), D(1, 2, 2, 3)),
    REFUSE(RESIZE, KDAS_ESHAPE, "result", ATTR(resize, INT32_MAX, INT32_MAX, 0, 0), D(4, 2, 2, 3)),
    REFUSE(MATMUL, KDAS_ESHAPE, "result", ATTR(matmul, 0, 0, 1), D(1, 1, 1LL << 40, 1),
           D(1, 1, 1, 1LL << 40)),
    REFUSE(CONV2D, KDAS_ESHAPE, "result", CONV_ATTR(1, INT32_MAX, INT32_MAX), D(4, 4, 4, 3), D(8, 3, 3, 3)),
    REFUSE(POOL_AVG, KDAS_ESHAPE, "4x-1", ATTR(pool, 4, -1, 0), D(1, 2, 2, 3)),
    REFUSE(ATTENTION, KDAS_EINVAL, "2 heads", ATTR(attention, 2, 1), D(1, 2, 2, 3), D(1, 2, 2, 6)),
    REFUSE(ATTENTION, KDAS_EINVAL, "0 heads", ATTR(attention, 0, 1), D(1, 2, 2, 3), D(1, 2, 2, 6)),
    REFUSE(ATTENTION, KDAS_ESHAPE, "1x2x2x4", ATTR(attention, 1, 1), D(1, 2, 2, 3), D(1, 2, 2, 4)),
    REFUSE(ATTENTION, KDAS_ESHAPE, "2x2x2x6", ATTR(attention, 1, 1), D(1, 2, 2, 3), D(2, 2, 2, 6)),
    REFUSE(MATMUL, KDAS_ESHAPE, "1x1x2x3 transposed", ATTR(matmul, 1, 0, 1), D(1, 1, 2, 3),
           D(1, 1, 3, 2)),
    REFUSE(MATMUL, KDAS_ESHAPE, "1x2x3x2", ATTR(matmul, 0, 0, 1), D(1, 1, 2, 3), D(1, 2, 3, 2)),
    REFUSE(MATMUL, KDAS_EINVAL, "alpha", ATTR(matmul, 0, 0, NAN), D(1, 1, 2, 3), D(1, 1, 3, 2)),
    REFUSE(DROP_PATH, KDAS_EINVAL, "probability 1", ATTR(drop, 1), D(1, 2, 2, 3)),
    REFUSE(DROP_PATH, KDAS_EINVAL, "probability nan", ATTR(drop, NAN), D(1, 2, 2, 3)),
    REFUSE(DROPOUT, KDAS_EINVAL, "probability 1", ATTR(drop, 1), D(1, 2, 2, 3)),
    REFUSE(DROPOUT, KDAS_EINVAL, "probability -0.5", ATTR(drop, -0.5f), D(1, 2, 2, 3)),
    REFUSE(DROPOUT, KDAS_EINVAL, "probability nan", ATTR(drop, NAN), D(1, 2, 2, 3)),
    REFUSE(LEAKY_RELU, KDAS_EINVAL, "slope inf", ATTR(leaky, INFINITY), D(1, 2, 2, 3)),
    REFUSE(LEAKY_RELU, KDAS_EINVAL, "slope nan", ATTR(leaky, NAN), D(1, 2, 2, 3)),
    REFUSE(ELU, KDAS_EINVAL, "alpha inf", ATTR(leaky, INFINITY), D(1, 2, 2, 3)),
    REFUSE(ELU, KDAS_EINVAL, "alpha nan", ATTR(leaky, NAN), D(1, 2, 2, 3)),
    REFUSE(RECOLOUR, KDAS_ESHAPE, "1x2x2x4", ATTR(recolour, { 0, 1, 2 }, { 1, 1, 1 }, { 0 }),
           D(1, 2, 2, 4)),
    REFUSE(RECOLOUR, KDAS_EINVAL, "channel 3", ATTR(recolour, { 0, 3, 2 }, { 1, 1, 1 }, { 0 }),
           D(1, 2, 2, 3)),
    REFUSE(RECOLOUR, KDAS_EINVAL, "channel -1", ATTR(recolour, { -1, 1, 2 }, { 1, 1, 1 }, { 0 }),
           D(1, 2, 2, 3)),
    REFUSE(RECOLOUR, KDAS_EINVAL, "channel 2 is inf", ATTR(recolour, { 0, 1, 2 }, { 1, 1, INFINITY }, { 0 }),
           D(1, 2, 2, 3)),
    REFUSE(RECOLOUR, KDAS_EINVAL, "plus nan", ATTR(recolour, { 0, 1, 2 }, { 1, 1, 1 }, { NAN }),
           D(1, 2, 2, 3)),
    REFUSE(QUANTIZE, KDAS_EINVAL, "momentum -0.1", ATTR(quantize, -0.1f), D(1, 2, 2, 3), D(2, 1, 1, 1)),
    REFUSE(QUANTIZE, KDAS_EINVAL, "momentum 1.5", ATTR(quantize, 1.5f), D(1, 2, 2, 3), D(2, 1, 1, 1)),
    REFUSE(QUANTIZE, KDAS_EINVAL, "momentum nan", ATTR(quantize, NAN), D(1, 2, 2, 3), D(2, 1, 1, 1)),
    REFUSE(QUANTIZE, KDAS_ESHAPE, "3x1x1x1", ATTR(quantize, 0.1f), D(1, 2, 2, 3), D(3, 1, 1, 1)),
    REFUSE(QUANTIZE, KDAS_EINVAL, "inputs", ATTR(quantize, 0.1f), D(1, 2, 2, 3)),
    REFUSE(WINDOW_MAX, KDAS_EINVAL, "size 0", ATTR(window, 0, 1, 0), D(1, 4, 4, 3)),
    REFUSE(WINDOW_MAX, KDAS_EINVAL, "size 256", ATTR(window, 256, 1, 0), D(1, 400, 400, 3)),
    REFUSE(WINDOW_MAX, KDAS_EINVAL, "stride 0", ATTR(window, 2, 0, 0), D(1, 4, 4, 3)),
    REFUSE(WINDOW_MAX, KDAS_EINVAL, "padding -1", ATTR(window, 2, 2, -1), D(1, 4, 4, 3)),
    REFUSE(WINDOW_MAX, KDAS_EINVAL, "padding 2", ATTR(window, 3, 2, 2), D(1, 4, 4, 3)),
    REFUSE(WINDOW_MAX, KDAS_ESHAPE, "windows of 5x5", ATTR(window, 5, 1, 0), D(1, 4, 7, 3)),
    REFUSE(WINDOW_MAX, KDAS_ESHAPE, "1x7x4x3", ATTR(window, 7, 2, 0, 1), D(1, 7, 4, 3)),
    REFUSE(WINDOW_AVG, KDAS_EINVAL, "padding 1", ATTR(window, 1, 1, 1), D(1, 4, 4, 3)),
    REFUSE(WINDOW_AVG, KDAS_EINVAL, "size -1", ATTR(window, -1, 1, 0), D(1, 4, 4, 3)),
    REFUSE(WINDOW_AVG, KDAS_ESHAPE, "smaller", ATTR(window, 3, 3, 0), D(1, 2, 7, 3)),
    REFUSE(BCE, KDAS_ESHAPE, "input 1 is 1x2x2x2", NONE, D(1, 2, 2, 1), D(1, 2, 2, 2)),
    REFUSE(BCE, KDAS_ESHAPE, "input 2 is 1x2x1x1", NONE, D(1, 2, 2, 1), D(1, 2, 2, 1),
           D(1, 2, 1, 1)),
    REFUSE(OVERLAP, KDAS_ESHAPE, "input 1", ATTR(overlap, 0, 1), D(1, 2, 2, 1), D(2, 2, 2, 1)),
    REFUSE(OVERLAP, KDAS_EINVAL, "smooth", ATTR(overlap, 0, -1), D(1, 2, 2, 1), D(1, 2, 2, 1)),
    REFUSE(BOUNDARY, KDAS_EINVAL, "window 4", ATTR(boundary, 4, 5), D(1, 2, 2, 1)),
    REFUSE(KL, KDAS_ESHAPE, "1x2x2x1", ATTR(kl, 1), D(1, 2, 2, 1), D(1, 2, 1, 1)),
    REFUSE(KL, KDAS_EINVAL, "temperature 0", ATTR(kl, 0), D(1, 2, 2, 1), D(1, 2, 2, 1)),
    REFUSE(MIX_FFN, KDAS_EINVAL, "input 3 is missing", NONE, D(1, 2, 2, 3), D(8, 3, 1, 1), D(0), D(0),
           D(0), D(2, 8, 1, 1)),
    REFUSE(MIX_FFN, KDAS_EINVAL, "inputs", NONE, D(1, 2, 2, 3), D(8, 3, 1, 1)),
    REFUSE(MIX_FFN, KDAS_ESHAPE, "8x4x1x1", NONE, D(1, 2, 2, 3), D(8, 4, 1, 1), D(0),
           D(8, 1, 3, 3), D(0), D(2, 8, 1, 1)),
    REFUSE(MIX_FFN, KDAS_ESHAPE, "9x1x1x1", NONE, D(1, 2, 2, 3), D(8, 3, 1, 1), D(9, 1, 1, 1),
           D(8, 1, 3, 3), D(0), D(2, 8, 1, 1)),
    REFUSE(MIX_FFN, KDAS_ESHAPE, "8x1x5x5 is not 3x3", NONE, D(1, 2, 2, 3), D(8, 3, 1, 1), D(0),
           D(8, 1, 5, 5), D(0), D(2, 8, 1, 1)),
    REFUSE(MIX_FFN, KDAS_ESHAPE, "2x9x1x1", NONE, D(1, 2, 2, 3), D(8, 3, 1, 1), D(0),
           D(8, 1, 3, 3), D(0), D(2, 9, 1, 1)),
    REFUSE(MIX_FFN, KDAS_ESHAPE, "residual is 1x2x2x3", NONE, D(1, 2, 2, 3), D(8, 3, 1, 1), D(0),
           D(8, 1, 3, 3), D(0), D(2, 8, 1, 1), D(0), D(1, 2, 2, 3)),
#define BLOCK_ATTR(s, first, second) \
    ATTR(inverted, { s, { 1, 1 }, { 1, 1 }, 1, 1 }, first, second)
    REFUSE(INVERTED, KDAS_EINVAL, "input 3 is missing", BLOCK_ATTR(1, 2, 2), D(1, 2, 2, 3),
           D(8, 3, 1, 1), D(0), D(0), D(0), D(2, 8, 1, 1)),
    REFUSE(INVERTED, KDAS_ESHAPE, "8x4x1x1", BLOCK_ATTR(1, 2, 2), D(1, 2, 2, 3), D(8, 4, 1, 1),
           D(0), D(8, 1, 3, 3), D(0), D(2, 8, 1, 1)),
    REFUSE(INVERTED, KDAS_ESHAPE, "9x1x3x3", BLOCK_ATTR(1, 2, 2), D(1, 2, 2, 3), D(8, 3, 1, 1),
           D(0), D(9, 1, 3, 3), D(0), D(2, 8, 1, 1)),
    REFUSE(INVERTED, KDAS_EINVAL, "no kdas_post 7", BLOCK_ATTR(1, 2, 7), D(1, 2, 2, 3),
           D(8, 3, 1, 1), D(0), D(8, 1, 3, 3), D(0), D(2, 8, 1, 1)),
    REFUSE(INVERTED, KDAS_EINVAL, "stride 0", BLOCK_ATTR(0, 2, 2), D(1, 2, 2, 3), D(8, 3, 1, 1),
           D(0), D(8, 1, 3, 3), D(0), D(2, 8, 1, 1)),
    REFUSE(INVERTED, KDAS_ESHAPE, "residual is 1x2x2x2", BLOCK_ATTR(2, 2, 2), D(1, 2, 2, 3),
           D(8, 3, 1, 1), D(0), D(8, 1, 3, 3), D(0), D(2, 8, 1, 1), D(0), D(1, 2, 2, 2)),
    REFUSE(SQUARE_ERROR, KDAS_ESHAPE, "2x2x2x1", NONE, D(1, 2, 2, 1), D(2, 2, 2, 1)),
};
/* clang-format on */

START_TEST(bad_shapes_and_attributes_are_refused_by_name)
{
    const refusal *r = &refusals[_i];
    kd_op_run      run;

    kd_assert_status(kd_op_open(&run, &r->test, NULL, NULL, NULL), r->status);
    kd_assert_sentence(kd_op_name(r->test.op));
    kd_assert_sentence(r->part);
    kd_op_close(&run);
}
END_TEST

START_TEST(missing_attributes_and_foreign_types_are_refused)
{
    static const int32_t numbers[] = {
#define OP(number, NAME, name) number,
#define UPDATE(number, NAME, name)
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    };

    for (size_t i = 0; i < KD_COUNT(numbers); i++) {
        const kd_op   *op   = kd_op_find(numbers[i]);
        kdas_node_desc node = { .op = numbers[i] };

        node.inputs = op->min_inputs - 1;
        kd_assert_status(op->infer(&node), KDAS_EINVAL);
        kd_assert_sentence(op->name);
        node.inputs = op->max_inputs + 1;
        kd_assert_status(op->infer(&node), KDAS_EINVAL);
        node.inputs = op->min_inputs;
        for (int k = 0; k < node.inputs; k++)
            node.in[k] = (kdas_desc){ KDAS_F64, 4, { 1, 1, 1, 1 } };
        if (op->attr_size) {
            kd_assert_status(op->infer(&node), KDAS_EINVAL);
            kd_assert_sentence("attributes are missing");
            node.attr = &(kd_test_attr){ .dims = { KDAS_F32, 4, { 1, 1, 1, 1 } } };
        }
        kd_assert_status(op->infer(&node), KDAS_EUNSUPPORTED);
        kd_assert_sentence(op->name);
    }
}
END_TEST

START_TEST(shapes_in_a_sentence_do_not_overwrite_each_other)
{
    kdas_desc   d[4];
    const char *text[4];
    char        want[4][32];

    for (int i = 0; i < 4; i++) {
        d[i]    = kd_desc(i + 1, 10 * i, 352, INT64_MIN);
        text[i] = kd_dims_text(&d[i]);
        snprintf(want[i], sizeof want[i], "%dx%dx352x", i + 1, 10 * i);
    }
    for (int i = 0; i < 4; i++)
        ck_assert(strncmp(text[i], want[i], strlen(want[i])) == 0);
}
END_TEST

/* ---- Costs ---- */

/* Tables, read by rows. */
/* clang-format off */
#define COST(NAME, macs_, thop_, attr_, ...) \
    { { .name = #NAME, .op = KDAS_OP_##NAME, attr_, .in = { __VA_ARGS__ } }, macs_, thop_ },

static const struct {
    kd_op_case test;
    int64_t    macs;
    double     thop;
} costs[] = {
    COST(CONV2D, 36427776, 36427776, CONV_ATTR(4, 3, 3), D(1, 352, 352, 3), D(32, 3, 7, 7),
         D(32, 1, 1, 1))
    COST(CONV2D, 4460544, 4460544, ATTR(conv, 1, { 2, 2 }, { 2, 2 }, 2, 2), D(1, 44, 22, 32),
         D(32, 16, 3, 3))
    COST(DECONV2D, 63438848, 253755392, CONV_ATTR(2, 0, 0), D(2, 44, 44, 64), D(64, 64, 2, 2),
         D(64, 1, 1, 1))
    COST(WINDOW_AVG, 0, 15488, ATTR(window, 2, 2), D(1, 44, 44, 32))
    COST(WINDOW_MAX, 0, 0, ATTR(window, 2, 2), D(1, 44, 44, 32))
    COST(SILU, 0, 0, NONE, D(1, 44, 44, 16))
    COST(DWCONV2D, 35684352, 35684352, CONV_ATTR(1, 1, 1), D(2, 88, 88, 256), D(256, 1, 3, 3))
    COST(LINEAR, 63438848, 63438848, NONE, D(1, 88, 88, 32), D(256, 32, 1, 1))
    COST(ATTENTION, 59969536, 0, ATTR(attention, 1, 1), D(1, 88, 88, 32), D(1, 11, 11, 64))
    COST(MATMUL, 495616, 0, ATTR(matmul, 1, 0, 1), D(1, 1, 1936, 16), D(1, 1, 1936, 16))
    COST(LAYER_NORM, 0, 991232, ATTR(norm, 1e-6f), D(1, 88, 88, 32), D(32, 1, 1, 1), D(32, 1, 1, 1))
    COST(BATCH_NORM, 0, 247808, ATTR(norm, 1e-5f), D(1, 44, 44, 32), D(32, 1, 1, 1), D(32, 1, 1, 1),
         D(32, 1, 1, 1), D(32, 1, 1, 1))
    COST(APPLY_MOMENTS, 0, 247808, ATTR(norm, 1e-5f), D(1, 44, 44, 32), D(1, 1, 1, 65),
         D(32, 1, 1, 1), D(32, 1, 1, 1), D(32, 1, 1, 1), D(32, 1, 1, 1))
    COST(RESIZE, 0, 681472, ATTR(resize, 44, 44, 1, 1), D(1, 22, 22, 32))
    COST(RESIZE, 0, 0, ATTR(resize, 44, 44, 1, 0), D(1, 22, 22, 32))
    COST(POOL_AVG, 0, 3 * 16 * (1936 + 36), ATTR(pool, 6, 6, 3), D(1, 44, 44, 16))
    COST(MIX_FFN, 2 * 63438848 + 17842176, 2 * 63438848 + 17842176, NONE, D(1, 88, 88, 32),
         D(256, 32, 1, 1), D(0), D(256, 1, 3, 3), D(0), D(32, 256, 1, 1))
    COST(INVERTED, 88 * 88 * 144 * 24 + 44 * 44 * 144 * (9 + 40),
         88 * 88 * 144 * 24 + 44 * 44 * 144 * (9 + 40), BLOCK_ATTR(2, 2, 2), D(1, 88, 88, 24),
         D(144, 24, 1, 1), D(0), D(144, 1, 3, 3), D(0), D(40, 144, 1, 1))
    COST(GELU, 0, 0, NONE, D(1, 44, 44, 16))
};
/* clang-format on */

START_TEST(costs_are_those_of_the_counters)
{
    for (size_t i = 0; i < KD_COUNT(costs); i++) {
        const kd_op   *op   = kd_op_find(costs[i].test.op);
        kdas_node_desc node = { .op = costs[i].test.op, .attr = &costs[i].test.attr };

        for (int k = 0; k < KDAS_MAX_INPUTS; k++) {
            node.in[k] = costs[i].test.in[k].desc;
            if (kd_present(&node.in[k])) node.inputs = k + 1;
        }
        kd_assert_ok(op->infer(&node));
        ck_assert_int_eq(op->macs ? op->macs(&node) : 0, costs[i].macs);
        ck_assert_double_eq_tol(op->thop ? op->thop(&node) : 0, costs[i].thop, 0.01);
    }
}
END_TEST

/* fvcore's rule, in the place of thop's. */
/* clang-format off */
static const struct {
    kd_op_case test;
    int64_t    macs;
    double     fvcore;
} fvcore_costs[] = {
    COST(LINEAR, 63438848, 63438848, NONE, D(1, 88, 88, 32), D(256, 32, 1, 1))
    COST(ATTENTION, 59969536, 59969536, ATTR(attention, 1, 1), D(1, 88, 88, 32), D(1, 11, 11, 64))
    COST(MATMUL, 495616, 495616, ATTR(matmul, 1, 0, 1), D(1, 1, 1936, 16), D(1, 1, 1936, 16))
    COST(LAYER_NORM, 0, 5 * 88 * 88 * 32, ATTR(norm, 1e-6f), D(1, 88, 88, 32), D(32, 1, 1, 1),
         D(32, 1, 1, 1))
    COST(BATCH_NORM, 0, 2 * 44 * 44 * 32, ATTR(norm, 1e-5f), D(1, 44, 44, 32), D(32, 1, 1, 1),
         D(32, 1, 1, 1), D(32, 1, 1, 1), D(32, 1, 1, 1))
    COST(APPLY_MOMENTS, 0, 2 * 44 * 44 * 32, ATTR(norm, 1e-5f), D(1, 44, 44, 32), D(1, 1, 1, 65),
         D(32, 1, 1, 1), D(32, 1, 1, 1), D(32, 1, 1, 1), D(32, 1, 1, 1))
    COST(RESIZE, 0, 4 * 44 * 44 * 32, ATTR(resize, 44, 44, 1, 1), D(1, 22, 22, 32))
    COST(RESIZE, 0, 4 * 44 * 44 * 32, ATTR(resize, 44, 44, 1, 0), D(1, 22, 22, 32))
    COST(RESIZE, 0, 3 * 4 * 44 * 44 * 32, ATTR(resize, 44, 44, 1, 3), D(1, 22, 22, 32))
    COST(POOL_AVG, 0, 3 * 16 * 1936, ATTR(pool, 6, 6, 3), D(1, 44, 44, 16))
    COST(MIX_FFN, 2 * 63438848 + 17842176, 2 * 63438848 + 17842176, NONE, D(1, 88, 88, 32),
         D(256, 32, 1, 1), D(0), D(256, 1, 3, 3), D(0), D(32, 256, 1, 1))
    COST(GELU, 0, 0, NONE, D(1, 44, 44, 16))
};
/* clang-format on */

START_TEST(fvcore_counts_products_norms_and_resizes)
{
    for (size_t i = 0; i < KD_COUNT(fvcore_costs); i++) {
        const kd_op   *op   = kd_op_find(fvcore_costs[i].test.op);
        kdas_node_desc desc = { .op = fvcore_costs[i].test.op, .attr = &fvcore_costs[i].test.attr };
        kd_node        node = { .kind = KD_NODE_OP, .op = op };

        for (int k = 0; k < KDAS_MAX_INPUTS; k++) {
            desc.in[k] = fvcore_costs[i].test.in[k].desc;
            if (kd_present(&desc.in[k])) desc.inputs = k + 1;
        }
        kd_assert_ok(op->infer(&desc));
        node.desc = desc;
        ck_assert_double_eq_tol(kd_node_cost(&node, KDAS_COUNT_FVCORE), fvcore_costs[i].fvcore,
                                0.01);
    }
}
END_TEST

/* ---- Building ---- */

static void *plain_alloc(void *user, size_t bytes)
{
    (void)user;
    return malloc(bytes);
}

static void plain_free(void *user, void *memory)
{
    (void)user;
    free(memory);
}

static void assert_dims(const kd_node *node, int64_t n, int64_t h, int64_t w, int64_t c)
{
    kdas_desc want = kd_desc(n, h, w, c);

    ck_assert_ptr_nonnull(node);
    ck_assert_msg(kd_same_dims(&node->desc.out, &want), "%s is %s, not %s", node->op->name,
                  kd_dims_text(&node->desc.out), kd_dims_text(&want));
}

START_TEST(builders_make_nodes_of_the_right_shape)
{
    kdas_context ctx = { .alloc = plain_alloc, .free = plain_free };
    kd_graph    *g   = kd_graph_create(&ctx, NULL, KD_TRAIN);
    kd_node     *x   = kd_input(g, "x", kd_desc(2, 6, 4, 8), true);
    kd_node     *w   = kd_input(g, "w", (kdas_desc){ KDAS_F32, 4, { 5, 8, 3, 3 } }, true);
    kd_node     *gw  = kd_input(g, "gw", (kdas_desc){ KDAS_F32, 4, { 6, 4, 3, 1 } }, true);
    kd_node     *tw  = kd_input(g, "tw", (kdas_desc){ KDAS_F32, 4, { 8, 3, 4, 4 } }, true);
    kd_node     *rgb = kd_input(g, "rgb", kd_desc(2, 6, 4, 3), true);
    kd_node     *dw  = kd_input(g, "dw", (kdas_desc){ KDAS_F32, 4, { 8, 1, 3, 3 } }, true);
    kd_node     *m   = kd_input(g, "m", (kdas_desc){ KDAS_F32, 2, { 16, 8, 1, 1 } }, true);
    kd_node     *c   = kd_input(g, "c", (kdas_desc){ KDAS_F32, 1, { 8, 1, 1, 1 } }, true);
    kd_node     *two = kd_input(g, "two", (kdas_desc){ KDAS_F32, 1, { 2, 1, 1, 1 } }, false);
    kd_node     *moments, *y, *all[17] = { x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x };
    const kdas_recolour_attr colours = { { 2, 1, 0 }, { 1, 1, 1 }, { 0, 0, 0 } };
    const kdas_conv_attr     form    = { 2, { 2, 1 }, { 2, 0 }, 2, 2 };

    assert_dims(kd_conv2d(g, x, w, NULL, 2, 1), 2, 3, 2, 5);
    assert_dims(kd_dwconv2d(g, x, dw, c, 1, 1), 2, 6, 4, 8);
    assert_dims(kd_conv2d_of(g, x, gw, NULL, form), 2, 3, 3, 6);
    assert_dims(kd_deconv2d(g, x, tw, NULL, 2, 1), 2, 12, 8, 3);
    assert_dims(kd_window_max(g, x, 3, 2, 1), 2, 3, 2, 8);
    assert_dims(kd_window_avg(g, x, 3, 2, 0, true, false), 2, 3, 2, 8);
    assert_dims(kd_window_avg(g, x, 3, 2, 0, false, true), 2, 2, 1, 8);
    assert_dims(kd_abs(g, kd_silu(g, x)), 2, 6, 4, 8);
    assert_dims(kd_leaky_relu(g, kd_elu(g, kd_dropout(g, x, 0.5f), 1), 0.1f), 2, 6, 4, 8);
    assert_dims(kd_recolour(g, rgb, &colours), 2, 6, 4, 3);
    assert_dims(kd_quantize(g, x, two, 0.1f), 2, 6, 4, 8);
    y = kd_linear(g, x, m, NULL);
    assert_dims(y, 2, 6, 4, 16);
    assert_dims(kd_layer_norm(g, x, c, c, 1e-6f), 2, 6, 4, 8);
    assert_dims(kd_batch_norm(g, x, c, c, c, c, 1e-5f, 0.1f), 2, 6, 4, 8);
    moments = kd_exchange(g, kd_moments(g, x));
    assert_dims(moments, 1, 1, 1, 17);
    assert_dims(kd_apply_moments(g, x, moments, c, c, c, c, 1e-5f, 0.1f), 2, 6, 4, 8);
    assert_dims(kd_gelu(g, kd_standardize(g, x, 1e-4f)), 2, 6, 4, 8);
    assert_dims(kd_relu(g, kd_sigmoid(g, x)), 2, 6, 4, 8);
    assert_dims(kd_add(g, x, kd_sub(g, x, kd_mul(g, x, x))), 2, 6, 4, 8);
    assert_dims(kd_scale(g, kd_drop_path(g, x, 0.1f), 2, 0), 2, 6, 4, 8);
    assert_dims(kd_concat(g, 3, all), 2, 6, 4, 24);
    assert_dims(kd_concat(g, 9, all), 2, 6, 4, 72); /* more than the op takes */
    assert_dims(kd_concat(g, 17, all), 2, 6, 4, 136);
    assert_dims(kd_slice(g, x, 1, 3), 2, 6, 4, 3);
    assert_dims(kd_crop(g, x, 1, 1, 4, 2), 2, 4, 2, 8);
    assert_dims(kd_transpose(g, x), 2, 6, 8, 4);
    assert_dims(kd_reshape(g, x, 2, 1, 24, 8), 2, 1, 24, 8);
    assert_dims(kd_resize(g, x, 12, 2, true, false), 2, 12, 2, 8);
    assert_dims(kd_pool_avg(g, x, 3, 3, 1), 2, 3, 3, 8);
    assert_dims(kd_pool_max(g, x), 2, 1, 1, 8);
    assert_dims(kd_channel_mean(g, x), 2, 6, 4, 1);
    assert_dims(kd_channel_max(g, kd_softmax(g, kd_center(g, x))), 2, 6, 4, 1);
    assert_dims(kd_attention(g, x, y, 2, 0.5f), 2, 6, 4, 8);
    assert_dims(kd_matmul(g, x, x, true, false, 1), 2, 6, 8, 8);
    assert_dims(kd_bce(g, x, x, NULL), 2, 1, 1, 1);
    assert_dims(kd_overlap(g, x, x, kd_boundary(g, x, 5, 5), true, 1), 2, 1, 1, 1);
    assert_dims(kd_mean(g, kd_add(g, kd_kl(g, x, x, 2), kd_square_error(g, x, x))), 1, 1, 1, 1);
    kd_assert_ok(kd_graph_status(g));
    kd_graph_destroy(g);
}
END_TEST

START_TEST(builders_pass_the_first_error_on)
{
    kdas_context ctx = { .alloc = plain_alloc, .free = plain_free };
    kd_graph    *g   = kd_graph_create(&ctx, NULL, KD_INFER);
    kd_node     *x   = kd_input(g, "x", kd_desc(1, 4, 4, 8), false);
    kd_node     *bad = kd_slice(g, x, 5, 4);

    ck_assert_ptr_null(bad);
    ck_assert_ptr_null(kd_add(g, x, kd_relu(g, bad)));
    ck_assert_ptr_null(kd_concat(g, 2, (kd_node *[]){ bad, x }));
    kd_assert_status(kd_graph_status(g), KDAS_ESHAPE);
    kd_assert_sentence("slice: 1x4x4x8 does not have 4 channels from 5 on");
    kd_graph_destroy(g);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("op rules");
    TCase   *rules  = tcase_create("rules");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_loop_test(rules, bad_shapes_and_attributes_are_refused_by_name, 0,
                        (int)KD_COUNT(refusals));
    tcase_add_test(rules, missing_attributes_and_foreign_types_are_refused);
    tcase_add_test(rules, shapes_in_a_sentence_do_not_overwrite_each_other);
    tcase_add_test(rules, costs_are_those_of_the_counters);
    tcase_add_test(rules, fvcore_counts_products_norms_and_resizes);
    tcase_add_test(rules, builders_make_nodes_of_the_right_shape);
    tcase_add_test(rules, builders_pass_the_first_error_on);
    suite_add_tcase(suite, rules);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* cuda_shapes.c - cases for ops whose kernels on a card cut rows, columns or pixels into pieces: shapes that need
 * several of them, that are read four values at a time, and that are not. */
#include "support/cpu_util.h"
#include "support/cuda_shapes.h"

#define X(n, h, w, c) KD_TEST_OPERAND(n, h, w, c)
#define VECTOR(c)     KD_TEST_WEIGHT(1, c, 1, 1, 1)
#define OF(kind, n, h, w, c)                                                         \
    {                                                                                \
        .desc = { KDAS_F32, 4, { n, h, w, c } }, .values = kind, .scale = 1.0f / 64, \
    }
#define VARIANCE(c)                                                                           \
    {                                                                                         \
        .desc = { KDAS_F32, 1, { c, 1, 1, 1 } }, .scale = 0.4f, .shift = 0.9f, .param = true, \
    }
#define CASE(NAME, text, mask, ...)                                                       \
    {                                                                                     \
        .name = text, .op = KDAS_OP_##NAME, .wants = mask, .tolerance = 2e-5, __VA_ARGS__ \
    }
#define IN(...)        .in = { __VA_ARGS__ }
#define A(member, ...) .attr.member = { __VA_ARGS__ }
/* stride, padding, dilation, groups */
#define FORM(s, p, d, g) A(conv, s, { p, p }, { p, p }, d, g)

const kd_op_case kd_test_cuda_shapes[] = {
    CASE(LAYER_NORM, "layer_norm of 512: all that a warp keeps", 7, A(norm, 1e-5f, 0),
         IN(X(1, 9, 13, 512), VECTOR(512), VECTOR(512))),
    CASE(LAYER_NORM, "layer_norm of 133, one value at a time", 7, A(norm, 1e-5f, 0),
         IN(X(2, 9, 11, 133), VECTOR(133), VECTOR(133))),
    CASE(LAYER_NORM, "layer_norm of 521: more than a warp keeps", 7, A(norm, 1e-5f, 0),
         IN(X(1, 9, 11, 521), VECTOR(521), VECTOR(521))),
    CASE(LAYER_NORM, "layer_norm of 1028, the gradient of b alone", 4, A(norm, 1e-5f, 0),
         IN(X(1, 1, 67, 1028), VECTOR(1028), VECTOR(1028))),
    CASE(LAYER_NORM, "layer_norm of 36, the gradient of x alone", 1, A(norm, 1e-5f, 0),
         IN(X(1, 5, 31, 36), VECTOR(36), VECTOR(36))),
    CASE(BATCH_NORM, "batch_norm train of several stretches, 35 channels", 7, A(norm, 1e-5f, 0.1f),
         .flags = KDAS_NODE_TRAIN,
         IN(X(2, 9, 11, 35), VECTOR(35), VECTOR(35), VECTOR(35), VARIANCE(35))),
    CASE(BATCH_NORM, "batch_norm train of several stretches, far from zero", 7,
         A(norm, 1e-5f, 0.1f), .flags = KDAS_NODE_TRAIN,
         IN({ .desc = { KDAS_F32, 4, { 2, 17, 11, 68 } }, .scale = 1, .shift = 8 }, VECTOR(68),
            VECTOR(68), VECTOR(68), VARIANCE(68))),
    CASE(BATCH_NORM, "batch_norm eval of several stretches, the gradients of g and b alone", 6,
         A(norm, 1e-5f, 0.1f),
         IN(X(2, 9, 11, 36), VECTOR(36), VECTOR(36), VECTOR(36), VARIANCE(36))),
    CASE(MOMENTS, "moments of several stretches, 35 channels", 1, IN(X(2, 9, 11, 35))),
    CASE(MOMENTS, "moments of several stretches, far from zero", 1,
         IN({ .desc = { KDAS_F32, 4, { 2, 17, 11, 68 } }, .scale = 1, .shift = 8 })),
    CASE(APPLY_MOMENTS, "apply_moments of several stretches, 68 channels", 15, A(norm, 1e-5f, 0.1f),
         .flags = KDAS_NODE_TRAIN,
         IN(X(2, 17, 11, 68),
            { .desc = { KDAS_F32, 4, { 1, 1, 1, 137 } }, .scale = 0.4f, .shift = 1.5f }, VECTOR(68),
            VECTOR(68), VECTOR(68), VARIANCE(68))),
    CASE(STANDARDIZE, "standardize of several stretches, 35 channels", 1, A(standardize, 1e-4f),
         IN(X(2, 9, 11, 35))),
    CASE(STANDARDIZE, "standardize of several stretches, far from zero", 1, A(standardize, 1e-4f),
         IN({ .desc = { KDAS_F32, 4, { 2, 17, 11, 68 } }, .scale = 1, .shift = 8 })),
    CASE(MUL, "mul of a row and a channel of each image", 3, IN(X(3, 7, 5, 36), X(3, 1, 5, 36))),
    CASE(MUL, "mul of every second axis", 3, IN(X(3, 7, 5, 4), X(3, 1, 5, 1))),
    CASE(MUL, "mul of the other axes", 3, IN(X(13, 7, 11, 36), X(1, 7, 1, 36))),
    CASE(MUL, "mul of a value for each channel of many images", 3,
         IN(X(5, 9, 11, 36), X(5, 1, 1, 36))),
    CASE(MUL, "mul of a value for each image of many pixels", 3,
         IN(X(3, 31, 33, 5), X(3, 1, 1, 1))),
    CASE(SUB, "sub of one value from many", 3, IN(X(2, 67, 33, 4), X(1, 1, 1, 1))),
    CASE(ADD, "add of one image to all, by fours", 3, IN(X(3, 9, 11, 36), X(1, 9, 11, 36))),
    CASE(ADD, "add of as many, by fours", 3, IN(X(2, 7, 5, 36), X(2, 7, 5, 36))),
    CASE(SUB, "sub of a value for each pixel, by fours", 3, IN(X(2, 7, 5, 36), X(2, 7, 5, 1))),
    CASE(SCALE, "scale by fours", 1, A(scale, 0.5f, -1), IN(X(2, 7, 5, 36))),
    CASE(DROP_PATH, "drop_path of images longer than a block", 1, A(drop, 0.4f),
         .flags = KDAS_NODE_TRAIN, IN(X(9, 7, 9, 36))),
    CASE(CONCAT, "concat by fours, and not", 7, IN(X(2, 5, 7, 32), X(2, 5, 7, 3), X(2, 5, 7, 29))),
    CASE(CONCAT, "concat by fours, all of them", 3, IN(X(2, 5, 7, 260), X(2, 5, 7, 36))),
    CASE(SLICE, "slice by fours", 1, A(slice, 8, 36), IN(X(2, 5, 7, 60))),
    CASE(SLICE, "slice of a start that is odd", 1, A(slice, 7, 36), IN(X(2, 5, 7, 60))),
    CASE(CROP, "crop by fours", 1, A(crop, 1, 3, 5, 11), IN(X(3, 7, 17, 36))),
    CASE(TRANSPOSE, "transpose of several tiles each way", 1, IN(X(2, 3, 70, 97))),
    CASE(RESIZE, "resize by fours, up", 1, A(resize, 21, 26, 0, 0), IN(X(2, 7, 9, 36))),
    CASE(RESIZE, "resize by fours, down, aligned", 1, A(resize, 4, 9, 1, 0), IN(X(2, 11, 29, 20))),
    CASE(RESIZE, "resize down by far", 1, A(resize, 3, 2, 0, 0), IN(X(1, 67, 45, 4))),
    CASE(POOL_AVG, "pool_avg to one of several stretches", 1, A(pool, 1, 1, 0),
         IN(X(3, 13, 17, 36))),
    CASE(POOL_AVG, "pool_avg by fours", 1, A(pool, 5, 4, 0), IN(X(2, 13, 17, 36))),
    CASE(POOL_MAX, "pool_max of several stretches, ties", 1, IN(OF(KD_VALUES_TIES, 3, 13, 17, 37))),
    CASE(POOL_MAX, "pool_max of several stretches", 1, IN(OF(KD_VALUES_RANKS, 2, 15, 13, 36))),
    CASE(CHANNEL_MEAN, "channel_mean of 132", 1, IN(X(2, 7, 9, 132))),
    CASE(CHANNEL_MAX, "channel_max of 70, ties", 1, IN(OF(KD_VALUES_TIES, 2, 7, 9, 70))),
    CASE(SOFTMAX, "softmax of a row for a block", 1, IN(X(1, 1, 5, 1100))),
    CASE(SOFTMAX, "softmax of many rows", 1, IN(X(1, 9, 31, 37))),
    CASE(CENTER, "center of a row for a block", 1, IN(X(1, 1, 5, 1100))),
    CASE(CENTER, "center of many rows", 1, IN(X(1, 9, 31, 37))),
    CASE(NORMALIZE, "normalize of a row for a block", 1, A(normalize, 1e-6f), IN(X(1, 1, 5, 1100))),
    CASE(NORMALIZE, "normalize of many rows", 1, A(normalize, 1e-6f), IN(X(1, 9, 31, 37))),
    CASE(CONV2D, "conv2d 4x4 s4 of rows for several blocks", 7, FORM(4, 0, 1, 1),
         IN(X(2, 16, 12, 68), KD_TEST_WEIGHT(4, 20, 68, 4, 4), VECTOR(20))),
    CASE(CONV2D, "conv2d 3x3 s2 p1 by fours, many rows", 7, FORM(2, 1, 1, 1),
         IN(X(3, 29, 23, 8), KD_TEST_WEIGHT(4, 12, 8, 3, 3), VECTOR(12))),
    CASE(CONV2D, "conv2d 3x3 s2 p2 d2 in groups by fours, many rows", 7, FORM(2, 2, 2, 3),
         IN(X(3, 23, 19, 24), KD_TEST_WEIGHT(4, 15, 8, 3, 3), VECTOR(15))),
    CASE(CONV2D, "conv2d 3x3 d3 in groups, rows for several blocks", 7, FORM(1, 3, 3, 2),
         IN(X(2, 11, 13, 70), KD_TEST_WEIGHT(4, 6, 35, 3, 3), VECTOR(6))),
    CASE(CONV2D, "conv2d 1x1 in groups by fours", 7, FORM(1, 0, 1, 4),
         IN(X(2, 13, 17, 48), KD_TEST_WEIGHT(4, 20, 12, 1, 1), VECTOR(20))),
    CASE(DECONV2D, "deconv2d 4x4 s2 p1 by fours, many pixels", 7, FORM(2, 1, 1, 1),
         IN(X(3, 13, 11, 20), KD_TEST_WEIGHT(4, 20, 36, 4, 4), VECTOR(36))),
    CASE(DECONV2D, "deconv2d 2x2 s2, many pixels", 7, FORM(2, 0, 1, 1),
         IN(X(3, 13, 11, 9), KD_TEST_WEIGHT(4, 9, 7, 2, 2), VECTOR(7))),
    CASE(WINDOW_MAX, "window_max 3x3 s2 p1 by fours, many pixels", 1, A(window, 3, 2, 1, 0, 0),
         IN(OF(KD_VALUES_RANKS, 2, 23, 25, 36))),
    CASE(WINDOW_MAX, "window_max 5x5 s1 p2, ties", 1, A(window, 5, 1, 2, 0, 0),
         IN(OF(KD_VALUES_TIES, 2, 19, 17, 35))),
    CASE(WINDOW_AVG, "window_avg 3x3 s2 p1 by fours, many pixels", 1, A(window, 3, 2, 1, 1, 0),
         IN(X(2, 24, 26, 36))),
    CASE(WINDOW_AVG, "window_avg 3x3 s1 p1 padded, many pixels", 1, A(window, 3, 1, 1, 0, 1),
         IN(X(3, 19, 17, 35))),
    CASE(DROPOUT, "dropout train by fours, many blocks", 1, A(drop, 0.4f), .flags = KDAS_NODE_TRAIN,
         IN(X(2, 23, 25, 36))),
    CASE(RECOLOUR, "recolour many pixels", 1,
         A(recolour, { 2, 0, 0 }, { 0.5f, -1, 2 }, { 1, 0, 3 }), IN(X(3, 61, 67, 3))),
    CASE(DWCONV2D, "dwconv2d 3x3 p1 of two blocks of channels", 7, FORM(1, 1, 1, 1),
         IN(X(2, 17, 37, 132), KD_TEST_WEIGHT(4, 132, 1, 3, 3), VECTOR(132))),
    CASE(DWCONV2D, "dwconv2d 3x3 p1 of 35, many rows", 7, FORM(1, 1, 1, 1),
         IN(X(3, 19, 18, 35), KD_TEST_WEIGHT(4, 35, 1, 3, 3), VECTOR(35))),
    CASE(DWCONV2D, "dwconv2d 5x3 s2 p1 of 37, many rows", 7, FORM(2, 1, 1, 1),
         IN(X(3, 21, 19, 37), KD_TEST_WEIGHT(4, 37, 1, 5, 3), VECTOR(37))),
    CASE(ATTENTION, "attention to 256 keys: all that a warp keeps", 3, A(attention, 2, 0.3f),
         IN(X(3, 3, 5, 16), X(3, 16, 16, 32))),
    CASE(ATTENTION, "attention to 257 keys", 3, A(attention, 4, 0.3f),
         IN(X(1, 7, 5, 16), X(1, 1, 257, 32))),
    CASE(CAST, "cast by fours, to the same type", 1, A(cast, KDAS_F32), IN(X(2, 7, 9, 36))),
};

const int kd_test_cuda_shape_count =
    (int)(sizeof kd_test_cuda_shapes / sizeof *kd_test_cuda_shapes);

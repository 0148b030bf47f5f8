/* op_cases.c - shapes and settings for every op in ops.def: those of Polyp-PVT scaled down, and
 * awkward ones (odd channel counts, not square, batch 1). An op without a row here fails a test. */
#include "support/op_cases.h"

/* A table, read by rows. */
/* clang-format off */

/* Activations (N,H,W,C) and parameters; values in +-1 unless said otherwise. */
#define VALUES(kind, scale_, shift_, n, h, w, c) \
    { .desc = { KDAS_F32, 4, { n, h, w, c } }, .values = kind, .scale = scale_, .shift = shift_ }
#define X(n, h, w, c)      VALUES(KD_VALUES_UNIFORM, 1.0f, 0.0f, n, h, w, c)
#define WIDE(n, h, w, c)   VALUES(KD_VALUES_UNIFORM, 4.0f, 0.0f, n, h, w, c)
#define MASK(n, h, w, c)   VALUES(KD_VALUES_BINARY, 1.0f, 0.0f, n, h, w, c)
#define SOFT(n, h, w, c)   VALUES(KD_VALUES_UNIFORM, 0.5f, 0.5f, n, h, w, c) /* in [0, 1)  */
#define WEIGHT(n, h, w, c) VALUES(KD_VALUES_UNIFORM, 2.5f, 3.5f, n, h, w, c) /* in [1, 6)  */
#define APART(n, h, w, c)  VALUES(KD_VALUES_APART, 1.0f, 0.0f, n, h, w, c)
#define RANKS(n, h, w, c)  VALUES(KD_VALUES_RANKS, 0.125f, 0.0f, n, h, w, c)
#define TIES(n, h, w, c)   VALUES(KD_VALUES_TIES, 1.0f, 0.0f, n, h, w, c)
#define PARAM(scale_, shift_, rank_, a, b, c, d) \
    { .desc = { KDAS_F32, rank_, { a, b, c, d } }, .scale = scale_, .shift = shift_, .param = true }
#define KERNEL(o, c, kh, kw) PARAM(0.5f, 0.0f, 4, o, c, kh, kw)
#define MATRIX(o, c)         PARAM(0.5f, 0.0f, 2, o, c, 1, 1)
#define BIAS(c)              PARAM(0.5f, 0.0f, 1, c, 1, 1, 1)
#define GAIN(c)              PARAM(0.5f, 1.0f, 1, c, 1, 1, 1)
#define MOMENT(c)            PARAM(0.3f, 0.1f, 1, c, 1, 1, 1)
#define VARIANCE(c)          PARAM(0.4f, 0.9f, 1, c, 1, 1, 1) /* in [0.5, 1.3) */
#define RANGE(low, high) \
    { .desc = { KDAS_F32, 1, { 2, 1, 1, 1 } }, .values = KD_VALUES_RANGE, \
      .scale = ((high) - (low)) / 2, .shift = ((high) + (low)) / 2, .param = true }
#define FLAT(scale_, shift_, n) \
    { .desc = { KDAS_F32, 1, { n, 1, 1, 1 } }, .scale = scale_, .shift = shift_ }

#define WANTS(mask)           .wants = mask
#define A(member, ...)        .attr.member = { __VA_ARGS__ }
#define CONV_ATTR(s, before, after) \
    A(conv, s, { before, before }, { after, after }, 1, 1)
#define NO_FD                 .step = -1.0f
#define CASE(NAME, text, ...) { .name = text, .op = KDAS_OP_##NAME, __VA_ARGS__ },
#define IN(...)               .in = { __VA_ARGS__ }

const kd_op_case kd_op_cases[] = {
#include "support/op_cases_conv.def"

#define LINEAR_CASE(text, ...) CASE(LINEAR, "linear " text, WANTS(7), IN(__VA_ARGS__))
    LINEAR_CASE("32>256", X(1, 7, 5, 32), MATRIX(256, 32), BIAS(256))
    LINEAR_CASE("160>64", X(2, 6, 3, 160), MATRIX(64, 160), BIAS(64))
    LINEAR_CASE("odd 17>33", X(2, 3, 5, 17), MATRIX(33, 17), BIAS(33))
    LINEAR_CASE("1>1", X(3, 1, 1, 1), MATRIX(1, 1), BIAS(1))
    LINEAR_CASE("32>1", X(2, 4, 6, 32), MATRIX(1, 32), BIAS(1))
    LINEAR_CASE("5>2, one row", X(1, 1, 1, 5), MATRIX(2, 5), BIAS(2))
    CASE(LINEAR, "linear 256>64", WANTS(7), .large = true,
         IN(X(2, 22, 22, 256), MATRIX(64, 256), BIAS(64)))
    CASE(LINEAR, "linear 64>4 without bias", WANTS(3), IN(X(2, 1, 1, 64), MATRIX(4, 64)))
    CASE(LINEAR, "linear 32>32 without bias", WANTS(3), IN(X(2, 6, 5, 32), MATRIX(32, 32)))
    CASE(LINEAR, "linear, weight of a 1x1 convolution", WANTS(7),
         IN(X(2, 3, 4, 26), KERNEL(7, 26, 1, 1), BIAS(7)))
    CASE(LINEAR, "linear, an absent bias that is counted", WANTS(3), .inputs = 3,
         IN(X(1, 3, 4, 8), MATRIX(8, 8)))
    CASE(LINEAR, "linear, the gradient of x alone", WANTS(1),
         IN(X(1, 5, 6, 16), MATRIX(24, 16), BIAS(24)))
    CASE(LINEAR, "linear, the gradients of w and b alone", WANTS(6),
         IN(X(1, 5, 6, 16), MATRIX(24, 16), BIAS(24)))

    /* ---- norms ---- */
#define NORM(text, eps, ...)                                                              \
    CASE(LAYER_NORM, "layer_norm " text, A(norm, eps, 0), WANTS(7), .fd_tolerance = 5e-4, \
         IN(__VA_ARGS__))
    NORM("of 32", 1e-6f, X(2, 3, 5, 32), GAIN(32), BIAS(32))
    NORM("of 160", 1e-6f, X(1, 3, 4, 160), GAIN(160), BIAS(160))
    NORM("of 256, eps 1e-5", 1e-5f, X(1, 2, 3, 256), GAIN(256), BIAS(256))
    NORM("of 17", 1e-5f, X(2, 4, 3, 17), GAIN(17), BIAS(17))
    NORM("of 5", 1e-2f, X(3, 2, 2, 5), GAIN(5), BIAS(5))
    CASE(LAYER_NORM, "layer_norm far from zero", A(norm, 1e-6f, 0), WANTS(7), .tolerance = 2e-4,
         .fd_tolerance = 1e-2,
         IN(VALUES(KD_VALUES_UNIFORM, 1.0f, 40.0f, 2, 3, 3, 64), GAIN(64), BIAS(64)))
    CASE(LAYER_NORM, "layer_norm of 1: all is its own mean", A(norm, 1e-5f, 0), WANTS(7), NO_FD,
         IN(X(2, 2, 2, 1), GAIN(1), BIAS(1)))
    CASE(LAYER_NORM, "layer_norm of 64, larger", A(norm, 1e-6f, 0), WANTS(7), .large = true,
         .tolerance = 2e-5, .fd_tolerance = 5e-4, IN(X(2, 44, 40, 64), GAIN(64), BIAS(64)))

#define BATCH(text, f, ...)                                                          \
    CASE(BATCH_NORM, "batch_norm " text, A(norm, 1e-5f, 0.1f), WANTS(7), .flags = f, \
         .fd_tolerance = 5e-4, IN(__VA_ARGS__))
#define STATS(c) GAIN(c), BIAS(c), MOMENT(c), VARIANCE(c)
    BATCH("train of 32", KDAS_NODE_TRAIN, X(2, 5, 4, 32), STATS(32))
    BATCH("train of 17", KDAS_NODE_TRAIN, X(3, 3, 4, 17), STATS(17))
    BATCH("train of 1", KDAS_NODE_TRAIN, X(1, 4, 5, 1), STATS(1))
    BATCH("train of 96", KDAS_NODE_TRAIN, X(1, 6, 5, 96), STATS(96))
    BATCH("eval of 32", 0, X(2, 5, 4, 32), STATS(32))
    BATCH("eval of 7", 0, X(1, 3, 4, 7), STATS(7))
    CASE(BATCH_NORM, "batch_norm train, one element of each channel", A(norm, 1e-5f, 0.1f),
         WANTS(7), .flags = KDAS_NODE_TRAIN, NO_FD, IN(X(1, 1, 1, 5), STATS(5)))
    CASE(BATCH_NORM, "batch_norm train, momentum 0.5, far from zero", A(norm, 1e-3f, 0.5f),
         WANTS(7), .flags = KDAS_NODE_TRAIN, .tolerance = 2e-4, .fd_tolerance = 1e-2,
         IN(VALUES(KD_VALUES_UNIFORM, 1.0f, 20.0f, 2, 4, 4, 33), STATS(33)))
    CASE(BATCH_NORM, "batch_norm train of 64, larger", A(norm, 1e-5f, 0.1f), WANTS(7),
         .flags = KDAS_NODE_TRAIN, .large = true, .tolerance = 2e-5, .fd_tolerance = 1e-3,
         IN(X(4, 22, 20, 64), STATS(64)))

#define MOMENTS_CASE(text, ...) CASE(MOMENTS, "moments " text, WANTS(1), __VA_ARGS__)
    MOMENTS_CASE("of 32", IN(X(2, 5, 4, 32)))
    MOMENTS_CASE("of 17", IN(X(3, 3, 4, 17)))
    MOMENTS_CASE("of 1", IN(X(1, 4, 5, 1)))
    MOMENTS_CASE("of one value of each channel", IN(X(1, 1, 1, 5)))
    MOMENTS_CASE("far from zero", .tolerance = 2e-5, .fd_tolerance = 1e-2,
                 IN(VALUES(KD_VALUES_UNIFORM, 1.0f, 20.0f, 2, 4, 4, 33)))
    MOMENTS_CASE("of 64, larger", .large = true, .fd_tolerance = 1e-2, IN(X(4, 22, 20, 64)))
    CASE(EXCHANGE, "exchange of 17 channels", WANTS(1), IN(X(1, 1, 1, 35)))
#define OF_ALL(c) VALUES(KD_VALUES_UNIFORM, 0.4f, 1.5f, 1, 1, 1, 2 * (c) + 1) /* in [1.1, 1.9) */
#define APPLY(text, c, n, h, w, ...)                                                          \
    CASE(APPLY_MOMENTS, "apply_moments " text, A(norm, 1e-3f, 0.1f), .flags = KDAS_NODE_TRAIN, \
         .fd_tolerance = 1e-3, IN(X(n, h, w, c), OF_ALL(c), STATS(c)), __VA_ARGS__)
    APPLY("of 32", 32, 2, 5, 4, WANTS(15))
    APPLY("of 17", 17, 3, 3, 4, WANTS(15))
    APPLY("of 1", 1, 1, 4, 5, WANTS(15))
    APPLY("of 33, the gradient of x alone", 33, 1, 6, 5, WANTS(1))
    APPLY("of 48, the gradients of m, g and b alone", 48, 2, 3, 5, WANTS(14))
    APPLY("of 64, larger", 64, 4, 22, 20, WANTS(15), .large = true, .tolerance = 2e-5)

#define STANDARDIZE_CASE(text, ...) \
    CASE(STANDARDIZE, "standardize " text, A(standardize, 1e-4f), WANTS(1), \
         .fd_tolerance = 5e-4, __VA_ARGS__)
    STANDARDIZE_CASE("of 32", IN(X(2, 5, 4, 32)))
    STANDARDIZE_CASE("of 17", IN(X(3, 3, 4, 17)))
    STANDARDIZE_CASE("of 1", IN(X(1, 4, 5, 1)))
    STANDARDIZE_CASE("of 33, one image", IN(X(1, 6, 5, 33)))
    STANDARDIZE_CASE("of two values of each channel", .tolerance = 1e-3, NO_FD,
                     IN(X(2, 1, 1, 7)))
    STANDARDIZE_CASE("of one value of each channel: all are 0", NO_FD, IN(X(1, 1, 1, 5)))
    STANDARDIZE_CASE("of channels that are constant", NO_FD,
                     IN(VALUES(KD_VALUES_UNIFORM, 0.0f, 0.5f, 2, 3, 4, 5)))
    CASE(STANDARDIZE, "standardize, eps 0.5", A(standardize, 0.5f), WANTS(1), .fd_tolerance = 5e-4,
         IN(X(2, 3, 5, 16)))
    CASE(STANDARDIZE, "standardize far from zero", A(standardize, 1e-4f), WANTS(1), .tolerance = 2e-4,
         .fd_tolerance = 1e-2, IN(VALUES(KD_VALUES_UNIFORM, 1.0f, 20.0f, 2, 4, 4, 33)))
    CASE(STANDARDIZE, "standardize of 64, larger", A(standardize, 1e-4f), WANTS(1), .large = true,
         .tolerance = 2e-5, .fd_tolerance = 1e-3, IN(X(4, 22, 20, 64)))

    /* ---- elementwise ---- */
    CASE(GELU, "gelu", WANTS(1), IN(X(2, 3, 5, 32)))
    CASE(GELU, "gelu, wide", WANTS(1), IN(WIDE(1, 5, 7, 33)))
    CASE(GELU, "gelu, both tails", WANTS(1),
         IN(VALUES(KD_VALUES_UNIFORM, 12.0f, 0.0f, 1, 3, 7, 17)))
    CASE(RELU, "relu", WANTS(1), IN(APART(2, 3, 5, 17)))
    CASE(RELU, "relu of zeros", WANTS(1), NO_FD, IN(TIES(1, 4, 4, 3)))
    CASE(RELU6, "relu6 around 0", WANTS(1), IN(VALUES(KD_VALUES_APART, 5.0f, 0.0f, 2, 3, 5, 17)))
    CASE(RELU6, "relu6 around 6", WANTS(1), IN(VALUES(KD_VALUES_APART, 5.0f, 6.0f, 1, 5, 7, 33)))
    CASE(RELU6, "relu6 of zeros", WANTS(1), NO_FD, IN(TIES(1, 4, 4, 3)))
    CASE(SIGMOID, "sigmoid", WANTS(1), IN(X(2, 3, 5, 7)))
    CASE(SIGMOID, "sigmoid, saturated", WANTS(1), NO_FD,
         IN(VALUES(KD_VALUES_UNIFORM, 100.0f, 0.0f, 1, 5, 6, 33)))
    CASE(ABS, "abs", WANTS(1), IN(APART(2, 3, 5, 17)))
    CASE(ABS, "abs of zeros", WANTS(1), NO_FD, IN(TIES(1, 4, 4, 3)))
    CASE(SILU, "silu", WANTS(1), IN(X(2, 3, 5, 32)))
    CASE(SILU, "silu, wide", WANTS(1), IN(WIDE(1, 5, 7, 33)))
    CASE(SILU, "silu, both tails", WANTS(1), NO_FD,
         IN(VALUES(KD_VALUES_UNIFORM, 120.0f, 0.0f, 1, 5, 6, 17)))
    CASE(LEAKY_RELU, "leaky_relu 0.01", A(leaky, 0.01f), WANTS(1), IN(APART(2, 3, 5, 17)))
    CASE(LEAKY_RELU, "leaky_relu 0.2 of 64", A(leaky, 0.2f), WANTS(1), IN(APART(1, 5, 7, 64)))
    CASE(LEAKY_RELU, "leaky_relu -0.5", A(leaky, -0.5f), WANTS(1), IN(APART(1, 4, 3, 5)))
    CASE(LEAKY_RELU, "leaky_relu of zeros", A(leaky, 0.3f), WANTS(1), NO_FD, IN(TIES(1, 4, 4, 3)))
    CASE(ELU, "elu", A(leaky, 1.0f), WANTS(1), IN(APART(2, 3, 5, 17)))
    CASE(ELU, "elu 0.5, wide", A(leaky, 0.5f), WANTS(1),
         IN(VALUES(KD_VALUES_APART, 4.0f, 0.0f, 1, 5, 7, 33)))
    CASE(ELU, "elu 2, both tails", A(leaky, 2.0f), WANTS(1), NO_FD,
         IN(VALUES(KD_VALUES_UNIFORM, 120.0f, 0.0f, 1, 5, 6, 17)))
    CASE(ELU, "elu of zeros", A(leaky, 0.7f), WANTS(1), NO_FD, IN(TIES(1, 4, 4, 3)))
#define BINARY(NAME, name)                                                                     \
    CASE(NAME, name, WANTS(3), IN(X(2, 3, 5, 17), X(2, 3, 5, 17)))                             \
    CASE(NAME, name " a value for each channel and image", WANTS(3),                           \
         IN(X(2, 5, 3, 33), X(2, 1, 1, 33)))                                                   \
    CASE(NAME, name " a value for each pixel", WANTS(3), IN(X(2, 5, 3, 32), X(2, 5, 3, 1)))    \
    CASE(NAME, name " a value for each channel", WANTS(3), IN(X(3, 2, 4, 26), X(1, 1, 1, 26))) \
    CASE(NAME, name " one image to all", WANTS(3), IN(X(3, 2, 4, 5), X(1, 2, 4, 5)))           \
    CASE(NAME, name " one value", WANTS(3), IN(X(2, 2, 3, 5), X(1, 1, 1, 1)))                  \
    CASE(NAME, name " a value for each row", WANTS(3), IN(X(2, 3, 4, 3), X(2, 3, 1, 1)))       \
    CASE(NAME, name " a value for each image", WANTS(3), IN(X(3, 3, 4, 2), X(3, 1, 1, 1)))     \
    CASE(NAME, name ", the gradient of b alone", WANTS(2), IN(X(2, 3, 4, 8), X(2, 1, 1, 8)))
    BINARY(ADD, "add")
    BINARY(SUB, "sub")
    BINARY(MUL, "mul")
    CASE(ADD, "add twins", WANTS(3), .twin = true, IN(X(1, 3, 4, 17), X(1, 3, 4, 17)))
    CASE(MUL, "mul twins", WANTS(3), .twin = true, IN(X(1, 3, 4, 17), X(1, 3, 4, 17)))
    CASE(SCALE, "scale", A(scale, -2.5f, 0.75f), WANTS(1), IN(X(2, 3, 4, 17)))
    CASE(SCALE, "scale by 0", A(scale, 0.0f, 1.0f), WANTS(1), IN(X(1, 3, 4, 5)))
    CASE(DROP_PATH, "drop_path train", A(drop, 0.4f), WANTS(1), .flags = KDAS_NODE_TRAIN,
         IN(X(7, 2, 3, 5)))
    CASE(DROP_PATH, "drop_path train, p 0", A(drop, 0.0f), WANTS(1), .flags = KDAS_NODE_TRAIN,
         IN(X(3, 2, 2, 3)))
    CASE(DROP_PATH, "drop_path eval", A(drop, 0.4f), WANTS(1), IN(X(5, 2, 3, 7)))
    CASE(DROPOUT, "dropout train", A(drop, 0.3f), WANTS(1), .flags = KDAS_NODE_TRAIN,
         IN(X(2, 3, 5, 17)))
    CASE(DROPOUT, "dropout train, p 0.9", A(drop, 0.9f), WANTS(1), .flags = KDAS_NODE_TRAIN,
         IN(X(1, 7, 5, 64)))
    CASE(DROPOUT, "dropout train, p 0", A(drop, 0.0f), WANTS(1), .flags = KDAS_NODE_TRAIN,
         IN(X(3, 2, 2, 3)))
    CASE(DROPOUT, "dropout eval", A(drop, 0.5f), WANTS(1), IN(X(5, 2, 3, 7)))
    CASE(RECOLOUR, "recolour to BGR", A(recolour, { 2, 1, 0 }, { 0.25f, -2, 1 }, { 1, 0, -0.5f }),
         WANTS(1), IN(X(2, 5, 7, 3)))
    CASE(RECOLOUR, "recolour, one channel twice", A(recolour, { 1, 1, 0 }, { 1, 0.5f, 3 }, { 0, 2, 0 }),
         WANTS(1), IN(X(1, 6, 11, 3)))
    CASE(RECOLOUR, "recolour one pixel", A(recolour, { 0, 2, 1 }, { 1, 1, 1 }, { 0, 0, 0 }), WANTS(1),
         IN(X(3, 1, 1, 3)))

    /* Steps have no derivative; where the range is empty, there are none. TIES: values on the ends */
#define QUANTIZE_CASE(text, ...) CASE(QUANTIZE, "quantize " text, WANTS(1), __VA_ARGS__)
#define TRAIN .flags = KDAS_NODE_TRAIN
    QUANTIZE_CASE("eval", A(quantize, 0.1f), NO_FD, IN(X(2, 3, 5, 17), RANGE(-1.0f, 1.0f)))
    QUANTIZE_CASE("eval, values outside", A(quantize, 0.1f), NO_FD, IN(WIDE(1, 5, 7, 33), RANGE(-1.5f, 0.5f)))
    QUANTIZE_CASE("eval, above 0 alone", A(quantize, 0.1f), NO_FD, IN(WIDE(2, 2, 3, 32), RANGE(1.0f, 3.0f)))
    QUANTIZE_CASE("eval, below 0 alone", A(quantize, 0.1f), NO_FD, IN(WIDE(1, 3, 3, 5), RANGE(-3.0f, -1.0f)))
    QUANTIZE_CASE("eval, on the ends", A(quantize, 0.1f), NO_FD, IN(TIES(1, 4, 4, 3), RANGE(0.0f, 1.0f)))
    QUANTIZE_CASE("eval, empty range", A(quantize, 0.1f), IN(X(2, 3, 5, 7), RANGE(0.0f, 0.0f)))
    QUANTIZE_CASE("eval, ends the wrong way round", A(quantize, 0.1f), IN(X(1, 3, 2, 9), RANGE(2.0f, -2.0f)))
    QUANTIZE_CASE("train", A(quantize, 0.1f), NO_FD, TRAIN, IN(X(2, 3, 5, 17), RANGE(-0.5f, 2.0f)))
    QUANTIZE_CASE("train, momentum 1", A(quantize, 1.0f), NO_FD, TRAIN, IN(WIDE(1, 5, 7, 33), RANGE(-1.0f, 1.0f)))
    QUANTIZE_CASE("train, momentum 0", A(quantize, 0.0f), NO_FD, TRAIN, IN(X(3, 2, 5, 6), RANGE(-0.5f, 0.25f)))
    QUANTIZE_CASE("train, momentum 0, empty range", A(quantize, 0.0f), TRAIN, IN(X(1, 4, 3, 5), RANGE(0.0f, 0.0f)))
    QUANTIZE_CASE("train, empty range", A(quantize, 0.05f), NO_FD, TRAIN, IN(WIDE(2, 4, 3, 8), RANGE(0.0f, 0.0f)))
    QUANTIZE_CASE("eval, above 0, ends the wrong way round", A(quantize, 0.1f), IN(X(1, 3, 2, 9), RANGE(2.0f, 1.0f)))
    QUANTIZE_CASE("train, ends the wrong way round", A(quantize, 0.05f), NO_FD, TRAIN, IN(WIDE(2, 4, 3, 8), RANGE(2.0f, 1.0f)))
    QUANTIZE_CASE("train, ends too far apart", A(quantize, 0.05f), NO_FD, TRAIN, IN(X(1, 5, 3, 8), RANGE(-3e38f, 3e38f)))
    QUANTIZE_CASE("train, joins ends too far apart", A(quantize, 0.3f, 1), NO_FD, TRAIN, IN(X(1, 3, 4, 7), RANGE(-3e38f, 3e38f)))
    QUANTIZE_CASE("train, one value", A(quantize, 0.05f), NO_FD, TRAIN, IN(X(1, 1, 1, 1), RANGE(0.0f, 0.0f)))
    QUANTIZE_CASE("train, joins", A(quantize, 0.3f, 1), NO_FD, TRAIN, IN(WIDE(1, 3, 4, 7), RANGE(-1.0f, 5.0f)))
    QUANTIZE_CASE("train, joins an empty range", A(quantize, 0.3f, 1), NO_FD, TRAIN, IN(X(1, 3, 4, 7), RANGE(0.0f, 0.0f)))
    QUANTIZE_CASE("train of 64, larger", A(quantize, 0.3f), NO_FD, TRAIN, .large = true,
                  IN(WIDE(2, 44, 40, 64), RANGE(-3.0f, 1.0f)))

    /* ---- moving data ---- */
    CASE(CONCAT, "concat two", WANTS(3), IN(X(2, 3, 4, 32), X(2, 3, 4, 32)))
    CASE(CONCAT, "concat three odd ones", WANTS(7),
         IN(X(1, 3, 4, 5), X(1, 3, 4, 17), X(1, 3, 4, 2)))
    CASE(CONCAT, "concat eight", WANTS(0xff),
         IN(X(2, 2, 3, 1), X(2, 2, 3, 2), X(2, 2, 3, 3), X(2, 2, 3, 4), X(2, 2, 3, 5),
            X(2, 2, 3, 6), X(2, 2, 3, 7), X(2, 2, 3, 8)))
    CASE(CONCAT, "concat one and one, the second wanted", WANTS(2),
         IN(X(2, 5, 4, 1), X(2, 5, 4, 1)))
    CASE(CONCAT, "concat twins", WANTS(3), .twin = true, IN(X(1, 3, 2, 5), X(1, 3, 2, 5)))
    CASE(SLICE, "slice the second of two", A(slice, 1, 1), WANTS(1), IN(X(2, 3, 4, 2)))
    CASE(SLICE, "slice the middle", A(slice, 5, 17), WANTS(1), IN(X(2, 3, 4, 33)))
    CASE(SLICE, "slice all", A(slice, 0, 7), WANTS(1), IN(X(1, 3, 4, 7)))
    CASE(CROP, "crop the inside", A(crop, 1, 2, 3, 4), WANTS(1), IN(X(2, 6, 7, 5)))
    CASE(CROP, "crop a corner of 32", A(crop, 2, 0, 3, 5), WANTS(1), IN(X(1, 5, 5, 32)))
    CASE(CROP, "crop all", A(crop, 0, 0, 4, 3), WANTS(1), IN(X(1, 4, 3, 3)))
    CASE(TRANSPOSE, "transpose a square", WANTS(1), IN(X(2, 1, 16, 16)))
    CASE(TRANSPOSE, "transpose 33x17", WANTS(1), IN(X(1, 2, 33, 17)))
    CASE(TRANSPOSE, "transpose a row", WANTS(1), IN(X(2, 3, 1, 5)))
    CASE(RESHAPE, "reshape", A(dims, KDAS_F32, 4, { 1, 2, 15, 7 }), WANTS(1), IN(X(2, 3, 5, 7)))

#define RESIZE_CASE(text, h, w, align, ...) \
    CASE(RESIZE, "resize " text, A(resize, h, w, align, 0), WANTS(1), IN(__VA_ARGS__))
    RESIZE_CASE("up x2 aligned of 32", 10, 14, 1, X(2, 5, 7, 32))
    RESIZE_CASE("up x2 half-pixel of 17", 6, 10, 0, X(1, 3, 5, 17))
    RESIZE_CASE("up x8 half-pixel of a map", 24, 40, 0, X(2, 3, 5, 1))
    RESIZE_CASE("up x8 aligned of a map", 16, 24, 1, X(1, 2, 3, 1))
    RESIZE_CASE("down x2 aligned of 32", 4, 5, 1, X(1, 8, 10, 32))
    RESIZE_CASE("down x2 half-pixel of 5", 3, 4, 0, X(2, 6, 8, 5))
    RESIZE_CASE("to odd sizes half-pixel", 5, 11, 0, X(2, 7, 4, 3))
    RESIZE_CASE("to odd sizes aligned", 11, 5, 1, X(1, 4, 7, 26))
    RESIZE_CASE("of one pixel aligned", 3, 4, 1, X(2, 1, 1, 7))
    RESIZE_CASE("of one pixel half-pixel", 3, 2, 0, X(1, 1, 1, 2))
    RESIZE_CASE("to one pixel aligned", 1, 1, 1, X(1, 4, 3, 3))
    RESIZE_CASE("to one pixel half-pixel", 1, 1, 0, X(1, 5, 3, 3))
    RESIZE_CASE("up to an odd width of a map", 4, 37, 0, X(2, 3, 5, 1))
    RESIZE_CASE("down x3 of a map, outputs apart", 3, 20, 1, X(1, 7, 61, 1))
    RESIZE_CASE("to its own size", 4, 3, 0, X(1, 4, 3, 5))
    CASE(RESIZE, "resize up x8 half-pixel of a map, larger", A(resize, 176, 176, 0, 0), WANTS(1),
         .large = true, IN(X(2, 22, 22, 1)))
    CASE(POOL_AVG, "pool_avg 44 to 6", A(pool, 6, 6, 0), WANTS(1), IN(X(1, 44, 44, 16)))
    CASE(POOL_AVG, "pool_avg 11 to 6", A(pool, 6, 6, 0), WANTS(1), IN(X(2, 11, 11, 17)))
    CASE(POOL_AVG, "pool_avg to one", A(pool, 1, 1, 0), WANTS(1), IN(X(2, 7, 5, 64)))
    CASE(POOL_AVG, "pool_avg to more than there are", A(pool, 5, 4, 0), WANTS(1), IN(X(1, 3, 2, 3)))
    CASE(POOL_AVG, "pool_avg not square", A(pool, 3, 2, 0), WANTS(1), IN(X(1, 8, 7, 5)))
    CASE(POOL_MAX, "pool_max", WANTS(1), IN(RANKS(2, 5, 4, 17)))
    CASE(POOL_MAX, "pool_max of 64", WANTS(1), IN(RANKS(1, 4, 3, 64)))
    CASE(POOL_MAX, "pool_max, ties", WANTS(1), NO_FD, IN(TIES(2, 5, 4, 7)))
    /* size, stride, padding, ceil, padded */
#define WINDOW(NAME, text, size, s, p, ceil, padded, ...) \
    CASE(NAME, text, A(window, size, s, p, ceil, padded), WANTS(1), __VA_ARGS__)
#define MAX_CASE(text, size, s, p, ceil, ...) \
    WINDOW(WINDOW_MAX, "window_max " text, size, s, p, ceil, 0, __VA_ARGS__)
    MAX_CASE("2x2 s2 of 64", 2, 2, 0, 0, IN(RANKS(2, 6, 4, 64)))
    MAX_CASE("2x2 s2 of 17, odd sides", 2, 2, 0, 0, IN(RANKS(1, 7, 5, 17)))
    MAX_CASE("2x2 s2 rounded up", 2, 2, 0, 1, IN(RANKS(2, 5, 7, 3)))
    MAX_CASE("2x2 s2, ties", 2, 2, 0, 0, NO_FD, IN(TIES(2, 6, 5, 19)))
    MAX_CASE("3x3 s2 p1 of 32", 3, 2, 1, 0, IN(RANKS(1, 8, 6, 32)))
    MAX_CASE("3x3 s2 p1 of 7, odd sides", 3, 2, 1, 0, IN(RANKS(2, 7, 9, 7)))
    MAX_CASE("3x3 s2 p1, ties", 3, 2, 1, 0, NO_FD, IN(TIES(1, 7, 8, 33)))
    MAX_CASE("3x3 s2 p1 rounded up", 3, 2, 1, 1, IN(RANKS(1, 6, 4, 5)))
    MAX_CASE("3x3 s1 p1 of 16, odd sides", 3, 1, 1, 0, IN(RANKS(1, 5, 7, 16)))
    MAX_CASE("3x3 s1 p1, ties", 3, 1, 1, 0, NO_FD, IN(TIES(2, 5, 6, 17)))
    MAX_CASE("3x3 s1 p1 of one pixel", 3, 1, 1, 0, IN(RANKS(3, 1, 1, 5)))
    MAX_CASE("3x3 s1 p1 of one row", 3, 1, 1, 0, IN(RANKS(2, 1, 6, 4)))
    MAX_CASE("5x5 s1 p2 of negative values", 5, 1, 2, 0, NO_FD,
             IN(VALUES(KD_VALUES_UNIFORM, 1.0f, -9.0f, 1, 6, 7, 18)))
    MAX_CASE("2x2 s3, windows apart", 2, 3, 0, 0, IN(RANKS(1, 8, 9, 6)))
    MAX_CASE("1x1 s2", 1, 2, 0, 0, IN(RANKS(1, 5, 4, 6)))
    MAX_CASE("2x2 s2 of 64, larger", 2, 2, 0, 0, .large = true, NO_FD, IN(X(2, 46, 44, 64)))
    MAX_CASE("3x3 s1 p1 of 32, larger", 3, 1, 1, 0, .large = true, NO_FD, IN(X(2, 40, 44, 32)))

#define AVG_CASE(text, size, s, p, ceil, padded, ...) \
    WINDOW(WINDOW_AVG, "window_avg " text, size, s, p, ceil, padded, __VA_ARGS__)
    AVG_CASE("2x2 s2 of 64", 2, 2, 0, 0, 1, IN(X(2, 6, 4, 64)))
    AVG_CASE("2x2 s2 of 17, odd sides", 2, 2, 0, 0, 0, IN(X(1, 7, 5, 17)))
    AVG_CASE("2x2 s2 rounded up", 2, 2, 0, 1, 0, IN(X(2, 5, 7, 33)))
    AVG_CASE("2x2 s2 rounded up, padded", 2, 2, 0, 1, 1, IN(X(1, 7, 5, 6)))
    AVG_CASE("3x3 s1 p1 padded", 3, 1, 1, 0, 1, IN(X(1, 5, 7, 32)))
    AVG_CASE("3x3 s1 p1 of pixels alone", 3, 1, 1, 0, 0, IN(X(2, 5, 4, 19)))
    AVG_CASE("3x3 s2 p1 padded", 3, 2, 1, 0, 1, IN(X(2, 7, 9, 26)))
    AVG_CASE("3x3 s2 p1 of pixels alone", 3, 2, 1, 0, 0, IN(X(1, 8, 6, 7)))
    AVG_CASE("3x3 s2 p1 rounded up, padded", 3, 2, 1, 1, 1, IN(X(1, 6, 8, 5)))
    AVG_CASE("3x3 s2 p1 rounded up, pixels alone", 3, 2, 1, 1, 0, IN(X(1, 6, 8, 16)))
    AVG_CASE("3x3 s1 p1 of one pixel", 3, 1, 1, 0, 1, IN(X(3, 1, 1, 5)))
    AVG_CASE("4x4 s4", 4, 4, 0, 0, 1, IN(X(1, 8, 12, 6)))
    AVG_CASE("2x2 s3, windows apart", 2, 3, 0, 0, 0, IN(X(1, 8, 9, 6)))
    AVG_CASE("5x5 s1 p2 padded", 5, 1, 2, 0, 1, IN(X(1, 3, 4, 1)))
    AVG_CASE("3x3 s1 p1 of 64, larger", 3, 1, 1, 0, 1, .large = true, .tolerance = 2e-5,
             IN(X(2, 24, 26, 64)))
    CASE(CHANNEL_MEAN, "channel_mean of 64", WANTS(1), IN(X(2, 3, 5, 64)))
    CASE(CHANNEL_MEAN, "channel_mean of 17", WANTS(1), IN(X(1, 4, 3, 17)))
    CASE(CHANNEL_MAX, "channel_max of 32", WANTS(1), IN(RANKS(2, 3, 5, 32)))
    CASE(CHANNEL_MAX, "channel_max of 7", WANTS(1), IN(RANKS(1, 4, 3, 7)))
    CASE(CHANNEL_MAX, "channel_max, ties", WANTS(1), NO_FD, IN(TIES(2, 5, 4, 17)))

    /* ---- attention and products ---- */
    CASE(SOFTMAX, "softmax of 16", WANTS(1), IN(X(2, 1, 9, 16)))
    CASE(SOFTMAX, "softmax of 32", WANTS(1), IN(WIDE(2, 3, 5, 32)))
    CASE(SOFTMAX, "softmax of 1000", WANTS(1), .fd_tolerance = 5e-4, IN(WIDE(1, 1, 3, 1000)))
    CASE(SOFTMAX, "softmax of 5", WANTS(1), IN(X(1, 3, 4, 5)))
    CASE(SOFTMAX, "softmax of large logits", WANTS(1), NO_FD,
         IN(VALUES(KD_VALUES_UNIFORM, 80.0f, 300.0f, 2, 1, 7, 33)))

#define ATTENTION_CASE(text, heads, scale, ...) \
    CASE(ATTENTION, "attention " text, A(attention, heads, scale), WANTS(3), IN(__VA_ARGS__))
    ATTENTION_CASE("one head of 32", 1, 0.17677669f, X(2, 6, 5, 32), X(2, 3, 2, 64))
    ATTENTION_CASE("two heads of 32", 2, 0.17677669f, WIDE(1, 5, 7, 64), X(1, 3, 3, 128))
    ATTENTION_CASE("five heads of 32", 5, 0.17677669f, X(1, 3, 4, 160), X(1, 2, 3, 320))
    ATTENTION_CASE("one head of 64", 1, 0.125f, X(2, 4, 3, 64), X(2, 3, 3, 128))
    ATTENTION_CASE("three heads of 7", 3, 0.37796447f, WIDE(2, 3, 4, 21), X(2, 2, 5, 42))
    ATTENTION_CASE("two heads of 1", 2, 1.0f, X(1, 2, 3, 2), X(1, 3, 1, 4))
    ATTENTION_CASE("one key", 1, 0.25f, X(1, 3, 3, 16), X(1, 1, 1, 32))
    CASE(ATTENTION, "attention of large scores", A(attention, 1, 1.0f), WANTS(3), NO_FD,
         .tolerance = 5e-5,
         IN(VALUES(KD_VALUES_UNIFORM, 10.0f, 0.0f, 1, 4, 5, 33), WIDE(1, 3, 3, 66)))
    CASE(ATTENTION, "attention, the gradient of q alone", A(attention, 2, 0.25f), WANTS(1),
         IN(X(1, 3, 4, 32), X(1, 2, 2, 64)))
    CASE(ATTENTION, "attention, the gradient of kv alone", A(attention, 2, 0.25f), WANTS(2),
         IN(X(1, 3, 4, 32), X(1, 2, 2, 64)))
    CASE(ATTENTION, "attention two heads of 32, larger", A(attention, 2, 0.17677669f), WANTS(3),
         .large = true, IN(X(2, 22, 22, 64), X(2, 11, 11, 128)))

#define MATMUL_CASE(text, ta, tb, alpha, ...) \
    CASE(MATMUL, "matmul " text, A(matmul, ta, tb, alpha), WANTS(3), IN(__VA_ARGS__))
    MATMUL_CASE("a b, odd", 0, 0, 1.0f, X(2, 1, 5, 7), X(2, 1, 7, 3))
    MATMUL_CASE("a b', odd", 0, 1, 0.5f, X(2, 1, 5, 7), X(2, 1, 3, 7))
    MATMUL_CASE("a' b, odd", 1, 0, -2.0f, X(2, 1, 7, 5), X(2, 1, 7, 3))
    MATMUL_CASE("a' b', odd", 1, 1, 1.5f, X(2, 1, 7, 5), X(2, 1, 3, 7))
    MATMUL_CASE("a b, three heads", 0, 0, 1.0f, X(2, 3, 4, 6), X(2, 3, 6, 5))
    MATMUL_CASE("a' b', three heads", 1, 1, 1.0f, X(1, 3, 6, 4), X(1, 3, 5, 6))
    MATMUL_CASE("anchors: a' b over pixels", 1, 0, 1.0f, X(2, 1, 121, 16), X(2, 1, 121, 16))
    MATMUL_CASE("anchors: a b' to pixels", 0, 1, 1.0f, X(2, 1, 16, 16), X(2, 1, 121, 16))
    MATMUL_CASE("anchors: a b, pixels by 16", 0, 0, 1.0f, X(2, 1, 121, 16), X(2, 1, 16, 16))
    MATMUL_CASE("anchors: a' b' of 16", 1, 1, 1.0f, X(2, 1, 16, 16), X(2, 1, 16, 16))
    MATMUL_CASE("of a map: a b' 16x24", 0, 1, 0.20412415f, X(2, 1, 16, 24), X(2, 1, 16, 24))
    MATMUL_CASE("of a map: a b 32x32", 0, 0, 1.0f, X(1, 1, 32, 32), X(1, 1, 32, 32))
    MATMUL_CASE("1x1x1", 0, 0, 1.0f, X(3, 1, 1, 1), X(3, 1, 1, 1))
    MATMUL_CASE("a b, 97 by 130 by 99", 0, 0, 1.0f, X(1, 1, 97, 130), X(1, 1, 130, 99))
    MATMUL_CASE("a b', 97 by 130 by 99", 0, 1, 0.5f, X(3, 1, 97, 130), X(3, 1, 99, 130))
    MATMUL_CASE("a' b, 97 by 130 by 99", 1, 0, -2.0f, X(1, 2, 130, 97), X(1, 2, 130, 99))
    MATMUL_CASE("a' b', 97 by 130 by 99", 1, 1, 1.5f, X(2, 1, 130, 97), X(2, 1, 99, 130))
    CASE(MATMUL, "matmul twins: a a' of 96", A(matmul, 0, 1, 0.25f), WANTS(3), .twin = true,
         IN(X(2, 1, 96, 112), X(2, 1, 96, 112)))
    CASE(MATMUL, "matmul twins: a a'", A(matmul, 0, 1, 0.25f), WANTS(3), .twin = true,
         IN(X(2, 1, 11, 16), X(2, 1, 11, 16)))
    CASE(MATMUL, "matmul twins: a' a", A(matmul, 1, 0, 0.25f), WANTS(3), .twin = true,
         IN(X(1, 1, 9, 5), X(1, 1, 9, 5)))
    CASE(MATMUL, "matmul, the gradient of b alone", A(matmul, 0, 1, 1.0f), WANTS(2),
         IN(X(1, 1, 6, 8), X(1, 1, 5, 8)))
    CASE(MATMUL, "matmul of a map, larger: a b' 176x160", A(matmul, 0, 1, 0.079f), WANTS(3),
         .large = true, IN(X(2, 1, 176, 160), X(2, 1, 176, 160)))
    CASE(MATMUL, "matmul anchors, larger: a' b over pixels", A(matmul, 1, 0, 1.0f), WANTS(3),
         .large = true, .tolerance = 2e-5, IN(X(2, 1, 1936, 16), X(2, 1, 1936, 16)))

    /* ---- losses ---- */
    CASE(CENTER, "center of 16", WANTS(1), IN(X(2, 1, 16, 16)))
    CASE(CENTER, "center of 33", WANTS(1), IN(X(1, 2, 5, 33)))
    CASE(NORMALIZE, "normalize of 16", A(normalize, 1e-6f), WANTS(1), IN(X(2, 1, 16, 16)))
    CASE(NORMALIZE, "normalize of 33", A(normalize, 1e-6f), WANTS(1), IN(WIDE(1, 2, 5, 33)))
    CASE(NORMALIZE, "normalize of a long row", A(normalize, 1e-6f), WANTS(1), .tolerance = 2e-5,
         .step = 0.1f, .fd_tolerance = 1e-3, IN(X(2, 1, 1, 1501)))
    CASE(NORMALIZE, "normalize of less than eps", A(normalize, 50.0f), WANTS(1), IN(X(1, 3, 4, 7)))
    CASE(NORMALIZE, "normalize of zeros", A(normalize, 1e-3f), WANTS(1), NO_FD,
         IN(VALUES(KD_VALUES_UNIFORM, 0.0f, 0.0f, 1, 2, 3, 5)))
    CASE(NORMALIZE, "normalize of two", A(normalize, 1e-6f), WANTS(1),
         IN(VALUES(KD_VALUES_APART, 1.0f, 0.0f, 1, 3, 4, 2)))
    CASE(MEAN, "mean of one", WANTS(1), IN(X(1, 1, 1, 1)))
    CASE(MEAN, "mean of many", WANTS(1), .tolerance = 2e-5, IN(X(3, 4, 5, 7)))
    CASE(MEAN, "mean for each image", WANTS(1), IN(X(5, 1, 1, 1)))
    CASE(BCE, "bce", WANTS(1), IN(WIDE(2, 5, 7, 1), MASK(2, 5, 7, 1)))
    CASE(BCE, "bce, weighted", WANTS(1), IN(WIDE(3, 6, 5, 1), MASK(3, 6, 5, 1), WEIGHT(3, 6, 5, 1)))
    CASE(BCE, "bce, soft targets", WANTS(1), IN(WIDE(1, 4, 4, 2), SOFT(1, 4, 4, 2)))
    CASE(BCE, "bce, far logits", WANTS(1), NO_FD,
         IN(VALUES(KD_VALUES_UNIFORM, 200.0f, 0.0f, 2, 5, 7, 1), MASK(2, 5, 7, 1)))
    CASE(BCE, "bce, larger", WANTS(1), .large = true, .tolerance = 2e-5, .step = 0.25f,
         .fd_tolerance = 5e-3,
         IN(WIDE(2, 96, 88, 1), MASK(2, 96, 88, 1), WEIGHT(2, 96, 88, 1)))
#define OVERLAP_CASE(text, jaccard, smooth, ...) \
    CASE(OVERLAP, "overlap " text, A(overlap, jaccard, smooth), WANTS(1), IN(__VA_ARGS__))
    OVERLAP_CASE("dice", 0, 1.0f, X(2, 5, 7, 1), MASK(2, 5, 7, 1))
    OVERLAP_CASE("jaccard", 1, 1.0f, X(2, 5, 7, 1), MASK(2, 5, 7, 1))
    OVERLAP_CASE("dice, weighted", 0, 1.0f, WIDE(3, 6, 5, 1), MASK(3, 6, 5, 1), WEIGHT(3, 6, 5, 1))
    OVERLAP_CASE("jaccard, weighted", 1, 1.0f, WIDE(1, 6, 5, 1), MASK(1, 6, 5, 1),
         WEIGHT(1, 6, 5, 1))
    OVERLAP_CASE("dice, smooth 1e-5", 0, 1e-5f, WIDE(1, 4, 5, 1), MASK(1, 4, 5, 1))
    CASE(OVERLAP, "overlap jaccard of an empty mask", A(overlap, 1, 1.0f), WANTS(1), .step = 0.1f,
         IN(X(1, 4, 5, 1), VALUES(KD_VALUES_UNIFORM, 0.0f, 0.0f, 1, 4, 5, 1)))
    CASE(OVERLAP, "overlap jaccard, larger", A(overlap, 1, 1.0f), WANTS(1), .large = true,
         .tolerance = 2e-5, .step = 0.25f, .fd_tolerance = 1e-2,
         IN(WIDE(2, 96, 88, 1), MASK(2, 96, 88, 1), WEIGHT(2, 96, 88, 1)))
    CASE(BOUNDARY, "boundary 31, larger than the window", A(boundary, 31, 5.0f),
         IN(MASK(2, 40, 37, 1)))
    CASE(BOUNDARY, "boundary 31, smaller than the window", A(boundary, 31, 5.0f),
         IN(MASK(1, 9, 13, 1)))
    CASE(BOUNDARY, "boundary 5", A(boundary, 5, 2.0f), IN(SOFT(2, 7, 11, 1)))
    CASE(BOUNDARY, "boundary 1 is 1", A(boundary, 1, 5.0f), IN(MASK(1, 4, 4, 1)))
    CASE(BOUNDARY, "boundary 5 of one pixel", A(boundary, 5, 5.0f), IN(MASK(3, 1, 1, 1)))
    CASE(BOUNDARY, "boundary 3 of two channels", A(boundary, 3, 1.0f), IN(MASK(1, 5, 4, 2)))
    CASE(CAST, "cast to the same type", A(cast, KDAS_F32), WANTS(1), IN(X(2, 3, 5, 7)))
#define KL_CASE(text, tau, ...) CASE(KL, "kl " text, A(kl, tau), WANTS(1), IN(__VA_ARGS__))
    KL_CASE("tau 1", 1.0f, X(2, 5, 7, 1), X(2, 5, 7, 1))
    KL_CASE("tau 2", 2.0f, WIDE(3, 6, 5, 1), WIDE(3, 6, 5, 1))
    CASE(KL, "kl tau 8", A(kl, 8.0f), WANTS(1), .step = 0.25f,
         IN(WIDE(1, 1, 16, 16), WIDE(1, 1, 16, 16)))
    CASE(KL, "kl of far logits", A(kl, 1.0f), WANTS(1), NO_FD,
         IN(VALUES(KD_VALUES_UNIFORM, 100.0f, 50.0f, 2, 5, 7, 1),
            VALUES(KD_VALUES_UNIFORM, 100.0f, -50.0f, 2, 5, 7, 1)))
    CASE(KL, "kl tau 2, larger", A(kl, 2.0f), WANTS(1), .large = true, .tolerance = 5e-5,
         .step = 0.1f, .fd_tolerance = 5e-3, IN(WIDE(2, 88, 96, 1), WIDE(2, 88, 96, 1)))
    CASE(SQUARE_ERROR, "square_error", WANTS(1), IN(X(2, 5, 7, 3), X(2, 5, 7, 3)))
    CASE(SQUARE_ERROR, "square_error of a map", WANTS(1), IN(WIDE(1, 9, 8, 1), X(1, 9, 8, 1)))

    /* ---- several ops in one ---- */
#define ABSENT { .desc = { KDAS_F32, 0, { 0 } } }
#define FFN(text, n, h, w, c, f, o, ...)                                                        \
    CASE(MIX_FFN, "mix_ffn " text, WANTS(255),                                                  \
         IN(X(n, h, w, c), MATRIX(f, c), BIAS(f), KERNEL(f, 1, 3, 3), BIAS(f), MATRIX(o, f),    \
            BIAS(o), X(n, h, w, o)), __VA_ARGS__)
    FFN("8>32>8", 2, 5, 6, 8, 32, 8)
    FFN("32>128>32", 1, 7, 9, 32, 128, 32, .tolerance = 2e-5)
    FFN("odd 5>33>7", 2, 4, 3, 5, 33, 7)
    FFN("odd 17>70>17, oblong", 1, 3, 11, 17, 70, 17)
    FFN("3>17>1, one row", 2, 1, 6, 3, 17, 1)
    FFN("3>16>2, one column", 1, 6, 1, 3, 16, 2)
    FFN("1>5>1, one pixel", 3, 1, 1, 1, 5, 1)
    FFN("16>64>16, larger", 2, 23, 26, 16, 64, 16, .large = true, .tolerance = 5e-5)
    CASE(MIX_FFN, "mix_ffn without biases", WANTS(171),
         IN(X(1, 4, 5, 6), MATRIX(20, 6), ABSENT, KERNEL(20, 1, 3, 3), ABSENT, MATRIX(6, 20),
            ABSENT, X(1, 4, 5, 6)))
    CASE(MIX_FFN, "mix_ffn without a residual", WANTS(127),
         IN(X(2, 3, 5, 4), MATRIX(24, 4), BIAS(24), KERNEL(24, 1, 3, 3), BIAS(24), MATRIX(6, 24),
            BIAS(6)))
    CASE(MIX_FFN, "mix_ffn of weights and a map alone", WANTS(43),
         IN(X(2, 5, 4, 4), MATRIX(9, 4), ABSENT, KERNEL(9, 1, 3, 3), ABSENT, MATRIX(4, 9)))
    CASE(MIX_FFN, "mix_ffn, the gradients of x and of the residual alone", WANTS(129),
         IN(X(1, 5, 6, 7), MATRIX(18, 7), BIAS(18), KERNEL(18, 1, 3, 3), BIAS(18), MATRIX(7, 18),
            BIAS(7), X(1, 5, 6, 7)))
    CASE(MIX_FFN, "mix_ffn, the gradients of the parameters alone", WANTS(126),
         IN(X(1, 5, 6, 7), MATRIX(18, 7), BIAS(18), KERNEL(18, 1, 3, 3), BIAS(18), MATRIX(7, 18),
            BIAS(7), X(1, 5, 6, 7)))

/* Filters of k x k; `first`: the activation after widening, `second`: after the filter. */
#define INVERTED_CASE(text, k, s, before, after, first, second, n, h, w, c, f, o, ...)           \
    CASE(INVERTED, "inverted " text, .tolerance = 2e-5,                                          \
         A(inverted, { s, { before, before }, { after, after }, 1, 1 }, KDAS_POST_##first,       \
           KDAS_POST_##second),                                                                  \
         IN(X(n, h, w, c), MATRIX(f, c), BIAS(f), KERNEL(f, 1, k, k), BIAS(f), MATRIX(o, f),     \
            BIAS(o), __VA_ARGS__))
    INVERTED_CASE("3x3 8>48>8", 3, 1, 1, 1, RELU6, RELU6, 2, 7, 9, 8, 48, 8, X(2, 7, 9, 8))
    INVERTED_CASE("3x3 s2 16>96>24", 3, 2, 0, 1, RELU6, RELU6, 1, 12, 18, 16, 96, 24, ABSENT)
    INVERTED_CASE("5x5 odd 5>33>5", 5, 1, 2, 2, RELU, RELU6, 2, 6, 5, 5, 33, 5, X(2, 6, 5, 5))
    INVERTED_CASE("5x5 s2 odd 7>41>9", 5, 2, 1, 2, RELU6, NONE, 1, 11, 13, 7, 41, 9, ABSENT)
    INVERTED_CASE("3x3 s2, one pixel", 3, 2, 1, 1, RELU, RELU, 3, 1, 1, 3, 17, 1, X(3, 1, 1, 1))
    INVERTED_CASE("5x5, one column", 5, 1, 2, 2, NONE, RELU, 1, 6, 1, 3, 16, 2, ABSENT)
    CASE(INVERTED, "inverted, without biases, padded at the end", .tolerance = 2e-5,
         A(inverted, { 1, { 0, 1 }, { 2, 1 }, 1, 1 }, KDAS_POST_RELU6, KDAS_POST_RELU6),
         IN(X(1, 5, 10, 6), MATRIX(20, 6), ABSENT, KERNEL(20, 1, 3, 3), ABSENT, MATRIX(6, 20)))

    /* ---- updates ---- */
#define ADAMW_CASE(text, step, decay, scale, clamp, n) \
    CASE(ADAMW, "adamw " text, \
         A(adamw, 1e-2f, 0.9f, 0.999f, 1e-8f, decay, scale, clamp, step), .state = 13, NO_FD, \
         IN(FLAT(1, 0, n), FLAT(1, 0, n), FLAT(0.1f, 0, n), FLAT(0.01f, 0.02f, n)))
    ADAMW_CASE("first step", 1, 0.01f, 1.0f, 0.0f, 37)
    ADAMW_CASE("later step, clamped", 7, 0.1f, 0.5f, 0.2f, 257)
    ADAMW_CASE("without decay", 1000, 0.0f, 1.0f, 0.0f, 64)
    ADAMW_CASE("one element", 2, 0.01f, 1.0f, 0.5f, 1)
    ADAMW_CASE("a block", 3, 1e-4f, 0.25f, 0.5f, 4099)
#define SGD_CASE(text, step, momentum, nesterov, clamp, n) \
    CASE(SGD, "sgd " text, A(sgd, 0.05f, momentum, 5e-4f, 0.5f, clamp, nesterov, step), \
         .state = 5, NO_FD, IN(FLAT(1, 0, n), FLAT(1, 0, n), FLAT(0.1f, 0, n)))
    SGD_CASE("first step", 1, 0.9f, 0, 0.0f, 37)
    SGD_CASE("later step, clamped", 5, 0.9f, 0, 0.2f, 257)
    SGD_CASE("nesterov, first step", 1, 0.9f, 1, 0.0f, 64)
    SGD_CASE("nesterov, later step", 3, 0.9f, 1, 0.0f, 1025)
    CASE(SGD, "sgd without momentum", A(sgd, 0.05f, 0, 5e-4f, 1, 0, 0, 4), .state = 1, .inputs = 3,
         NO_FD, IN(FLAT(1, 0, 65), FLAT(1, 0, 65)))
    CASE(SUM_SQUARES, "sum_squares of one", NO_FD, IN(FLAT(1, 0, 1)))
    CASE(SUM_SQUARES, "sum_squares of 257", NO_FD, IN(FLAT(1, 0, 257)))
    CASE(SUM_SQUARES, "sum_squares of many", NO_FD, .tolerance = 1e-6, IN(FLAT(3, 1, 50021)))
    CASE(AXPY, "axpy", A(scale, -0.75f, 9.0f), .state = 1, NO_FD,
         IN(FLAT(1, 0, 65), FLAT(1, 0, 65)))
    CASE(AXPY, "axpy of a block", A(scale, 1.0f, 0), .state = 1, NO_FD,
         IN(FLAT(1, 0, 4099), FLAT(2, 0, 4099)))
    CASE(LERP, "lerp", A(scale, 0.125f, 9.0f), .state = 1, NO_FD,
         IN(FLAT(1, 0, 65), FLAT(1, 0, 65)))
    CASE(LERP, "lerp of a block", A(scale, 1e-3f, 0), .state = 1, NO_FD,
         IN(FLAT(1, 0, 4099), FLAT(2, 0, 4099)))
};

const int kd_op_case_count = sizeof kd_op_cases / sizeof kd_op_cases[0];

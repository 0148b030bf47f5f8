/* kdas/export.h - write a network with its weights in the formats of other programs. */
#ifndef KDAS_EXPORT_H
#define KDAS_EXPORT_H
#include <kdas/model.h>
KDAS_BEGIN

/* ---- ONNX ------------------------------------------------------------------------------------ */

/* Layout of the input and of all outputs: (N,C,H,W) or (N,H,W,C). */
typedef enum kdas_onnx_layout { KDAS_ONNX_NCHW = 0, KDAS_ONNX_NHWC = 1 } kdas_onnx_layout;

/* What the host feeds, always RGB floats, whatever colours the network has within. NORMALISED: (v -
 * mean) / deviation of v in 0..1, with ImageNet's mean 0.485 0.456 0.406 and deviation 0.229 0.224
 * 0.225, as kdas_batch_images() has them. UNIT: 0..1, and BYTES: 0..255; the network then
 * normalises. */
typedef enum kdas_onnx_input {
    KDAS_ONNX_NORMALISED = 0,
    KDAS_ONNX_UNIT       = 1,
    KDAS_ONNX_BYTES      = 2
} kdas_onnx_input;

/* Outputs of a network with one-channel maps. SUM: the answer, which a segmenter thresholds, as
 * "logits" ("probability" with a sigmoid): the sum of the maps from kdas_model_answer() on. EACH:
 * every map under its own name ("P1", "P2"). A network of features has its features under their
 * names ("x1" ... "x4") in both cases. */
typedef enum kdas_onnx_maps { KDAS_ONNX_SUM = 0, KDAS_ONNX_EACH = 1 } kdas_onnx_maps;

#define KDAS_ONNX_FREE (-1) /* a batch, height or width that the host chooses at each run */

typedef struct kdas_onnx_options {
    size_t  size;
    int64_t batch; /* images, 1..4096, or KDAS_ONNX_FREE; default 1 */
    /* Of the input: multiples of 32; KDAS_ONNX_FREE: every multiple of 32 will do; or 0 (default):
     * that for which the weights were trained (kdas_model_input_size). Maps have the same size. A
     * network of a fixed size (kdas_network.fixed) takes that size alone. */
    int64_t height, width;
    int32_t input;   /* kdas_onnx_input; default NORMALISED */
    int32_t layout;  /* kdas_onnx_layout; default NCHW */
    int32_t maps;    /* kdas_onnx_maps; default SUM */
    int32_t sigmoid; /* 1: probabilities instead of logits; not for features; default 0 */
    /* Of a model on 8-bit grids (kdas_model_quantized()). 0 (default): its grids are in the file, for
     * integer kernels. 1: floats alone; weights are the rounded ones, activations are not rounded.
     * Of no effect without grids. Since 0.4. */
    int32_t floats;
    int32_t reserved; /* 0 */
} kdas_onnx_options;
/* Write the defaults; pass sizeof *options. Since 0.4. */
KDAS_API void kdas_onnx_options_init(kdas_onnx_options *options, size_t size);

/* Write a model's inference form to an ONNX file: opset 17, IR version 8, f32, ONNX's own ops
 * alone, whatever the context computes in. A model on 8-bit grids has 8-bit weights, and
 * QuantizeLinear and DequantizeLinear before its layers (docs/onnx.md). The input is called "image". Metadata of the file:
 * network, version (of this library), batch, height, width ("free" where it is), layout, colour,
 * input, mean, deviation, output, quantization ("int8", of a file with grids), threshold
 * (kdas_model_threshold(); not for features). `options`
 * may be NULL (defaults). The file appears in one step; on failure what was at `path` is unchanged.
 * The model is not changed; do not use it in another thread meanwhile. KDAS_EINVAL (range; a
 * sigmoid of features; an op without a form in ONNX; a file over 2 GiB), KDAS_ESHAPE (a size that
 * the network does not take), KDAS_ENUMERIC (a weight is not finite), KDAS_ESTATE (a range of the
 * model is empty: not calibrated), KDAS_EIO, KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_model_export_onnx(const kdas_model *model, const char *path,
                                            const kdas_onnx_options *options);
KDAS_END
#endif

/* proto.h - protobuf's wire format, written into a growing block, and ONNX's field numbers. Only
 * what an ONNX file needs: varints, floats, texts and nested messages. */
#ifndef KD_PROTO_H
#define KD_PROTO_H
#include "base/base.h"

/* Field numbers, from onnx.proto3 (onnx 1.12). */
enum {
    /* ModelProto */
    ONNX_MODEL_IR_VERSION       = 1,
    ONNX_MODEL_PRODUCER_NAME    = 2,
    ONNX_MODEL_PRODUCER_VERSION = 3,
    ONNX_MODEL_GRAPH            = 7,
    ONNX_MODEL_OPSET_IMPORT     = 8,
    ONNX_MODEL_METADATA_PROPS   = 14,
    /* OperatorSetIdProto; the domain, 1, is left empty: ONNX's own ops */
    ONNX_OPSET_VERSION = 2,
    /* StringStringEntryProto */
    ONNX_PAIR_KEY   = 1,
    ONNX_PAIR_VALUE = 2,
    /* GraphProto */
    ONNX_GRAPH_NODE        = 1,
    ONNX_GRAPH_NAME        = 2,
    ONNX_GRAPH_INITIALIZER = 5,
    ONNX_GRAPH_INPUT       = 11,
    ONNX_GRAPH_OUTPUT      = 12,
    /* NodeProto */
    ONNX_NODE_INPUT     = 1,
    ONNX_NODE_OUTPUT    = 2,
    ONNX_NODE_NAME      = 3,
    ONNX_NODE_OP_TYPE   = 4,
    ONNX_NODE_ATTRIBUTE = 5,
    /* AttributeProto, and its AttributeType */
    ONNX_ATTRIBUTE_NAME = 1,
    ONNX_ATTRIBUTE_F    = 2,
    ONNX_ATTRIBUTE_I    = 3,
    ONNX_ATTRIBUTE_S    = 4,
    ONNX_ATTRIBUTE_INTS = 8,
    ONNX_ATTRIBUTE_TYPE = 20,
    ONNX_TYPE_FLOAT     = 1,
    ONNX_TYPE_INT       = 2,
    ONNX_TYPE_STRING    = 3,
    ONNX_TYPE_INTS      = 7,
    /* TensorProto, and its DataType */
    ONNX_TENSOR_DIMS      = 1,
    ONNX_TENSOR_DATA_TYPE = 2,
    ONNX_TENSOR_NAME      = 8,
    ONNX_TENSOR_RAW_DATA  = 9,
    ONNX_DATA_FLOAT       = 1,
    ONNX_DATA_UINT8       = 2,
    ONNX_DATA_INT8        = 3,
    ONNX_DATA_INT32       = 6,
    ONNX_DATA_INT64       = 7,
    /* ValueInfoProto, TypeProto, TypeProto.Tensor, TensorShapeProto, its Dimension */
    ONNX_VALUE_NAME       = 1,
    ONNX_VALUE_TYPE       = 2,
    ONNX_TYPE_TENSOR_TYPE = 1,
    ONNX_TENSOR_TYPE_ELEM = 1,
    ONNX_TENSOR_TYPE_DIMS = 2,
    ONNX_SHAPE_DIM        = 1,
    ONNX_DIM_VALUE        = 1,
    ONNX_DIM_PARAM        = 2
};

/* A block that grows. After a failure it stays failed, and puts do nothing. */
typedef struct kd_proto {
    kdas_context  *ctx;
    unsigned char *data;
    size_t         size, capacity;
    kdas_status    status;
} kd_proto;

void kd_proto_init(kd_proto *p, kdas_context *ctx);
void kd_proto_finish(kd_proto *p);
void kd_proto_clear(kd_proto *p); /* empty it, keep its memory */

/* A field of each kind. */
void kd_proto_put_int(kd_proto *p, int field, int64_t value);
void kd_proto_put_float(kd_proto *p, int field, float value);
void kd_proto_put_text(kd_proto *p, int field, const char *text);
void kd_proto_put_message(kd_proto *p, int field, const kd_proto *message);
/* Tag and length of `bytes` bytes that the caller writes next. */
void kd_proto_put_head(kd_proto *p, int field, uint64_t bytes);

#endif

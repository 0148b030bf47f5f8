/* onnx.h - an ONNX file while it is made: inputs, nodes, initializers, outputs, metadata. Values
 * are known by their names. The file keeps its first error: functions then return NULL, and pass
 * NULL through, so a chain of nodes needs no checks. */
#ifndef KD_ONNX_H
#define KD_ONNX_H
#include "base/pool.h"
#include "graph/param.h"

#define KD_ONNX_OPSET        17
#define KD_ONNX_IR           8          /* ONNX 1.12, which has opset 17 */
#define KD_ONNX_LIMIT        0x7FFFFFFF /* bytes; protobuf reads no larger message */
#define KD_ONNX_LARGEST_RANK 4

/* An attribute of a node. */
typedef struct kd_onnx_attr {
    const char    *name;
    int            type; /* ONNX_TYPE_FLOAT, _INT, _STRING, _INTS */
    float          f;
    int64_t        i; /* of _INTS: how many */
    const char    *s;
    const int64_t *ints;
} kd_onnx_attr;

/* The values in braces of ATTRS, and lists of names and attributes as arguments. */
#define ATTR_FLOAT(name, value)             \
    {                                       \
        name, ONNX_TYPE_FLOAT, .f = (value) \
    }
#define ATTR_INT(name, value)             \
    {                                     \
        name, ONNX_TYPE_INT, .i = (value) \
    }
#define ATTR_TEXT(name, value)               \
    {                                        \
        name, ONNX_TYPE_STRING, .s = (value) \
    }
#define ATTR_INTS(name, ...)                                                              \
    {                                                                                     \
        name, ONNX_TYPE_INTS, .i = (int64_t)KD_COUNT(((const int64_t[]){ __VA_ARGS__ })), \
                              .ints = (const int64_t[])                                   \
        {                                                                                 \
            __VA_ARGS__                                                                   \
        }                                                                                 \
    }
#define NAMES(...) \
    (int)KD_COUNT(((const char *[]){ __VA_ARGS__ })), (const char *[]) { __VA_ARGS__ }
#define ATTRS(...) \
    (int)KD_COUNT(((const kd_onnx_attr[]){ __VA_ARGS__ })), (const kd_onnx_attr[]) { __VA_ARGS__ }
#define NO_ATTRS 0, NULL

/* An axis of an input or output: its size, or if it is free its name. */
typedef struct kd_onnx_axis {
    int64_t     size;
    const char *free; /* NULL: fixed */
} kd_onnx_axis;

typedef struct kd_onnx kd_onnx;

/* `params`: the values of kd_onnx_weight(). They and `ctx` must outlive the file. */
kdas_status kd_onnx_create(kd_onnx **out, kdas_context *ctx, kd_params *params, const char *name);
void        kd_onnx_destroy(kd_onnx *file); /* NULL is fine */
/* Report that it cannot be made; returns NULL. The file keeps its first error. */
const char *kd_onnx_fail(kd_onnx *file, kdas_status status, const char *format, ...)
    KD_PRINTF(3, 4);
kdas_status kd_onnx_status(const kd_onnx *file); /* restores the message too */

/* What the next nodes and constants are made for: their names begin with it. Not copied. */
void kd_onnx_scope(kd_onnx *file, const char *scope);
/* Add a node with one output; returns the output's name. An input "" is an absent one. */
const char *kd_onnx_node(kd_onnx *file, const char *type, int inputs, const char *const *in,
                         int attrs, const kd_onnx_attr *attr);
/* The same, the output called `out`. */
const char *kd_onnx_node_as(kd_onnx *file, const char *out, const char *type, int inputs,
                            const char *const *in, int attrs, const kd_onnx_attr *attr);

/* Constants. Values are copied. Whole numbers: one axis, or none for a scalar (count -1). */
const char *kd_onnx_floats(kd_onnx *file, int rank, const int64_t *dims, const float *values);
const char *kd_onnx_float(kd_onnx *file, float value); /* a scalar */
const char *kd_onnx_ints(kd_onnx *file, int count, const int64_t *values);
/* Of a `type`, ONNX_DATA_*; called `name`, with a number behind it if others have it, or as constants
 * are (NULL). */
const char *kd_onnx_numbers(kd_onnx *file, const char *name, int type, int rank,
                            const int64_t *dims, const void *values);
/* Parameter `param`, with these dims in its own order; transposed: a matrix (dims[1],dims[0]). A
 * parameter used again in the same form is stored once. */
const char *kd_onnx_weight(kd_onnx *file, int param, int rank, const int64_t *dims,
                           bool transposed);

/* The values of a parameter. False: a failure, which the file keeps. */
bool kd_onnx_read(kd_onnx *file, int param, float *to);

/* Floats that come in or go out. */
void kd_onnx_input(kd_onnx *file, const char *name, const kd_onnx_axis axis[4]);
void kd_onnx_output(kd_onnx *file, const char *name, const kd_onnx_axis axis[4]);
void kd_onnx_metadata(kd_onnx *file, const char *key, const char *value);

/* Write the file in one step (see kd_writer). KDAS_EINVAL: it would exceed KD_ONNX_LIMIT. Values of
 * parameters are read one by one. */
kdas_status kd_onnx_save(kd_onnx *file, const char *path);

#endif

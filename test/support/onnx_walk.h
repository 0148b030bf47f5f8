/* onnx_walk.h - reads an ONNX file by itself: protobuf's wire format and onnx.proto3, stated a second time. What it does
 * not know, or what ends past its message, fails the running test. */
#ifndef KD_TEST_ONNX_WALK_H
#define KD_TEST_ONNX_WALK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WALK_INPUTS = 8, WALK_ATTRIBUTES = 8, WALK_INTS = 8, WALK_RANK = 4, WALK_ENDS = 8 };

typedef struct kd_test_onnx_attribute {
    char   *name, *s;
    int64_t type, i, ints[WALK_INTS];
    int     count; /* of ints */
    float   f;
} kd_test_onnx_attribute;

typedef struct kd_test_onnx_node {
    char                  *type, *name, *in[WALK_INPUTS], *out;
    int                    inputs, attributes;
    kd_test_onnx_attribute attribute[WALK_ATTRIBUTES];
} kd_test_onnx_node;

/* An initializer. Its values are in the file's bytes, perhaps not aligned. */
typedef struct kd_test_onnx_tensor {
    char                *name;
    int64_t              type, dim[WALK_RANK], count;
    int                  rank;
    const unsigned char *values;
    size_t               bytes;
} kd_test_onnx_tensor;

/* An input or output: an axis is a size, or a name (then size is 0). */
typedef struct kd_test_onnx_end {
    char   *name, *free[WALK_RANK];
    int64_t type, size[WALK_RANK];
    int     rank;
} kd_test_onnx_end;

typedef struct kd_test_onnx_pair {
    char *key, *value;
} kd_test_onnx_pair;

typedef struct kd_test_onnx {
    unsigned char       *file;
    int64_t              ir, opset;
    char                *producer, *version, *name, *domain;
    kd_test_onnx_node   *node;
    kd_test_onnx_tensor *tensor;
    int                  nodes, tensors, inputs, outputs, pairs;
    kd_test_onnx_end     input[WALK_ENDS], output[WALK_ENDS];
    kd_test_onnx_pair    pair[32];
    char                *text[1 << 15]; /* to be freed */
    int                  texts;
} kd_test_onnx;

/* Read a file. To be freed by kd_test_onnx_free(). */
kd_test_onnx *kd_test_onnx_read(const char *path);
void          kd_test_onnx_free(kd_test_onnx *o);

/* NULL: none of that name. */
const kd_test_onnx_tensor    *kd_test_onnx_tensor_of(const kd_test_onnx *o, const char *name);
const kd_test_onnx_node      *kd_test_onnx_maker(const kd_test_onnx *o, const char *value);
const kd_test_onnx_attribute *kd_test_onnx_attribute_of(const kd_test_onnx_node *node,
                                                        const char              *name);
const char                   *kd_test_onnx_metadata(const kd_test_onnx *o, const char *key);

/* Fail the running test unless the graph is one that a runtime can run: every value is made once and before its use,
 * every constant and the input are used, constants have the bytes that their shapes need, nodes are of ops that opset 17
 * has, with distinct names. */
void kd_test_onnx_assert_sound(const kd_test_onnx *o);
/* The first node of a type; the test fails if there is none. */
const kd_test_onnx_node *kd_test_onnx_first(const kd_test_onnx *o, const char *type);
/* Fail the running test unless the end holds floats of these sizes, "free 3 height 32". */
void kd_test_onnx_assert_end(const kd_test_onnx_end *end, const char *want);

#endif

/* op.h - defines an op: a shape rule, a cost, and plain-C reference kernels. Each op has one
 * file in src/op/. */
#ifndef KD_OP_H
#define KD_OP_H
#include <kdas/backend.h>
#include "base/base.h"

typedef struct kd_op {
    const char *name;
    int         min_inputs, max_inputs; /* those past min_inputs are optional, absent at the end */
    uint32_t    optional; /* bit i: input i may be absent although later inputs are present */
    uint32_t    state;    /* bit i: input i is read and written, and has no gradient */
    uint32_t    constant; /* bit i: input i never receives a gradient                */
    bool        draws;    /* in training it reads the call's seed                */
    /* bit i: input i is f32 whatever type the others have; KDAS_NEEDS_OUT: the output is */
    uint32_t wide;
    size_t   attr_size;
    /* Check node->in and node->attr, set node->out. On failure kd_fail() with the shapes. */
    kdas_status (*infer)(kdas_node_desc *node);
    /* Multiply-accumulates by the `macs` rule, and the cost by thop's rule. NULL: no cost. By
     * fvcore's rule; NULL: that of `macs`, since it counts every product, too. */
    int64_t (*macs)(const kdas_node_desc *node);
    double (*thop)(const kdas_node_desc *node);
    double (*fvcore)(const kdas_node_desc *node);
    kdas_kernel ref; /* the definition in code: host memory, one thread */
} kd_op;

/* Every op that may stand in a graph: kd_op_conv2d, ... */
#define OP(number, NAME, name)     extern const kd_op kd_op_##name;
#define UPDATE(number, NAME, name) extern const kdas_kernel kd_update_##name;
#include <kdas/ops.def>
#undef OP
#undef UPDATE

/* The op with this number, or NULL. (src/op/ops.c) */
const kd_op *kd_op_find(int32_t number);
/* The reference UPDATE kernel with this number, or NULL. */
const kdas_kernel *kd_update_find(int32_t number);
/* Name of any number in ops.def; "?" for other numbers. */
const char *kd_op_name(int32_t number);

/* ---- Helpers for op files ---- */

static inline int64_t kd_elements(const kdas_desc *d)
{
    return d->dim[0] * d->dim[1] * d->dim[2] * d->dim[3];
}
static inline size_t kd_type_size(int32_t dtype)
{
    switch (dtype) {
    case KDAS_U8: return 1;
    case KDAS_BF16:
    case KDAS_F16: return 2;
    case KDAS_F64: return 8;
    default: return 4;
    }
}
static inline size_t kd_bytes(const kdas_desc *d)
{
    return (size_t)kd_elements(d) * kd_type_size(d->dtype);
}
static inline int64_t   kd_rows(const kdas_desc *d) { return d->dim[0] * d->dim[1] * d->dim[2]; }
static inline bool      kd_present(const kdas_desc *d) { return d->dim[0] != 0; }
static inline kdas_desc kd_desc(int64_t n, int64_t h, int64_t w, int64_t c)
{
    return (kdas_desc){ KDAS_F32, 4, { n, h, w, c } };
}
static inline bool kd_same_dims(const kdas_desc *a, const kdas_desc *b)
{
    return a->dim[0] == b->dim[0] && a->dim[1] == b->dim[1] && a->dim[2] == b->dim[2] &&
           a->dim[3] == b->dim[3];
}
/* Format a shape as "2x64x64x3" into one of a few per-thread buffers, for error messages.
 * (src/op/ops.c) */
const char *kd_dims_text(const kdas_desc *d);

#endif

/* onednn_pass.h - a convolution as primitives for its slabs: onednn_conv.c makes them, onednn_run.c runs them. */
#ifndef KD_ONEDNN_PASS_H
#define KD_ONEDNN_PASS_H
#include "backend/cpu/onednn_api.h"
#include "backend/cpu/slabs.h"

enum { MAX_ARGS = 5 };

/* A primitive with its operands, scratch first. */
typedef struct exec {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t  arg[MAX_ARGS];
    int              args;
    size_t           scratch; /* bytes */
} exec;

/* A layout that the primitives of a direction chose for the weights, or for their gradient. */
typedef struct order {
    dnnl_primitive_desc_t desc; /* of the first primitive that has it      */
    exec                  move; /* from PyTorch's order; of a gradient back */
    size_t                at, bytes;
} order;

typedef struct piece {
    exec   e;
    int    part, order;
    size_t x_at, out_at; /* bytes */
} piece;

/* One direction. */
typedef struct pass {
    kd_slab *slab;
    piece   *piece;
    order   *order;
    int      pieces, orders, parts;
    size_t   scratch; /* of one part */
} pass;

struct kd_conv {
    kd_onednn  *dnn;
    const char *name; /* of the op */
    geometry    g;
    pass        forward, data, weights;
    size_t      packed_forward;    /* bytes of the forward's weights */
    uint64_t    pack_key;          /* hash of the packed layouts     */
    size_t      fresh, fresh_bias; /* bytes of one slab's gradients  */
};

/* How many gradients of the bias are summed: one of each slab. Slabs of a transposed convolution share rows of dout, so there it is
 * one of each part of the sum over all rows. */
static inline int kd_conv_biases(const kd_conv *c)
{
    return c->g.transposed ? c->dnn->threads : c->weights.pieces;
}

#endif

/* graph.h - building a graph: functions add nodes to it. The graph keeps its first error.
 * Functions pass NULL through, and kd_program_create() reports the error. Shapes are concrete: a
 * graph is built for one (N,H,W). */
#ifndef KD_GRAPH_H
#define KD_GRAPH_H
#include <kdas/ranks.h>
#include "op/op.h"
#include "graph/param.h"

typedef struct kd_graph kd_graph;
typedef struct kd_node  kd_node;

typedef enum kd_node_kind { KD_NODE_INPUT, KD_NODE_PARAM, KD_NODE_OP } kd_node_kind;

struct kd_node {
    kd_node_kind   kind;
    int            id;
    const kd_op   *op;   /* KD_NODE_OP */
    kdas_node_desc desc; /* desc.out is the node's shape for every kind */
    kd_node       *in[KDAS_MAX_INPUTS];
    int            param;      /* KD_NODE_PARAM: index in the graph's kd_params */
    int            reader;     /* KD_NODE_PARAM: the first node that reads it, as built; 0: none */
    const char    *name;       /* scope and local name, "backbone.block1.0.attn.q" */
    bool           grad;       /* a gradient flows through here in training   */
    bool           functional; /* the published code runs no module here: thop does not count it */
    bool           absorbed;   /* a later node does its work: it does not run and has no value */
    bool           keep;       /* read from outside: value (and gradient) live through a step */
    bool           rounded; /* its weights, in[1], are rounded to 8 bits for each output channel */
    kd_node       *twin;    /* its value in the other type (bf16, f32); NULL: not needed yet */
    kd_node       *quantized; /* its value on an 8-bit grid; NULL: not needed yet              */
};

typedef enum kd_mode {
    KD_INFER = 0, /* no tape, running statistics                 */
    KD_EVAL  = 1, /* running statistics, but with a backward     */
    KD_TRAIN = 2  /* batch statistics, drop path, with a backward */
} kd_mode;

/* `params` may be NULL for a graph without parameters. New names are added to it until it is
 * sealed. In a bf16 context a graph with parameters computes in bf16 (types.c); its outputs and
 * kept taps are f32. */
kd_graph *kd_graph_create(kdas_context *ctx, kd_params *params, kd_mode mode);
void      kd_graph_destroy(kd_graph *g);
kd_mode   kd_graph_mode(const kd_graph *g);
/* Compute in f32 regardless of the context. Call before building. */
void kd_graph_stay_f32(kd_graph *g);
/* The program keeps what backward reads, so that kd_program_backward_of() can run for each
 * output. */
void kd_graph_keep_tape(kd_graph *g);

/* Layers compute with 8-bit numbers: their inputs are on the grids of ranges, their weights are
 * rounded. In training and in f32 or bf16 both are simulated. A program for inference in a context
 * with integers computes with them (lower.c). Call before building. `momentum`: what a training
 * batch weighs in a range; 0: ranges stay. `wide`: names of layers that stay as they are, with
 * spaces between; NULL: none. */
void kd_graph_use_grids(kd_graph *g, float momentum, const char *wide);
/* For calibration (kd_program_watch): inputs are on the grids of those ranges that are set, weights are
 * not rounded, and all is computed in f32. Call after kd_graph_use_grids(), before building. */
void kd_graph_watch_grids(kd_graph *g);
/* Whether the layer of the current scopes computes so. */
bool kd_graph_has_grids(const kd_graph *g);
/* x on the grid of parameter "input_range" inside the current scopes; if x is on a grid for an
 * earlier layer, on that one. x itself where the layer does not compute so. */
kd_node *kd_on_grid(kd_graph *g, kd_node *x);

/* Batch norms of a training graph take the statistics of all ranks' images: each has an EXCHANGE, and running the
 * program is collective (exchange.h). Nothing changes in a group of one. Call before building. */
void kd_graph_use_ranks(kd_graph *g, kdas_ranks *ranks);
/* Whether they do. */
bool kd_graph_has_exchanges(const kd_graph *g);

/* Name prefixes: parameters and ops inside are called "<scopes joined by .>.<name>". */
void kd_scope(kd_graph *g, const char *format, ...) KD_PRINTF(2, 3);
void kd_scope_end(kd_graph *g);

/* An input of shape (n,h,w,c). `grad`: its gradient is computed. */
kd_node *kd_input(kd_graph *g, const char *name, kdas_desc desc, bool grad);
/* Parameter `name` inside the current scopes, in PyTorch's order of axes. */
kd_node *kd_param(kd_graph *g, const char *name, kd_init init, int rank, const int64_t *dims);
/* Add a node. Trailing optional inputs may be omitted. `attr` is copied. A NULL input gives
 * NULL. */
kd_node *kd_apply(kd_graph *g, const kd_op *op, const void *attr, int inputs, kd_node *const *in);
/* x in this type: x itself, or a CAST of x. */
kd_node *kd_cast(kd_graph *g, kd_node *x, kdas_dtype dtype);
/* Name a node that can be read from outside. `keep`: its memory lives through the step. */
kd_node *kd_tap(kd_graph *g, const char *name, kd_node *node);
kd_node *kd_output(kd_graph *g, const char *name, kd_node *node);
kd_node *kd_find(const kd_graph *g, const char *name); /* input, output or tap; NULL: none */
/* Make kd_tap(g, name, ..) keep its node. Call before building. */
kdas_status kd_keep_tap(kd_graph *g, const char *name);

/* Report that the graph cannot be built. The graph keeps its first error. Returns NULL. */
kd_node    *kd_graph_fail(kd_graph *g, kdas_status status, const char *format, ...) KD_PRINTF(3, 4);
kdas_status kd_graph_status(const kd_graph *g); /* restores the message too */

int            kd_graph_nodes(const kd_graph *g);
const kd_node *kd_graph_node(const kd_graph *g, int i);
/* Outputs and taps in the order they were named; NULL past the last. `node` may be NULL. */
const char *kd_graph_output(const kd_graph *g, int i, const kd_node **node);
const char *kd_graph_tap(const kd_graph *g, int i, const kd_node **node);

#endif

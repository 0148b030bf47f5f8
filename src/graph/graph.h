/* graph.h - building: functions add nodes to a graph. The graph keeps its first error; functions pass
 * NULL through; kd_program_create() reports it. Shapes are concrete: a graph is built for one (N,H,W). */
#ifndef KD_GRAPH_H
#define KD_GRAPH_H
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
    int            param;    /* KD_NODE_PARAM: index in the graph's kd_params */
    const char    *name;     /* scope and local name, "backbone.block1.0.attn.q" */
    bool           grad;     /* a gradient flows through here in training   */
    bool           absorbed; /* a later node does its work: nothing runs, there is no value */
    bool           keep;     /* read from outside: value (and gradient) live through a step */
    kd_node       *twin;     /* its value in the other type (bf16, f32), NULL: not needed yet */
};

typedef enum kd_mode {
    KD_INFER = 0, /* no tape, running statistics                 */
    KD_EVAL  = 1, /* running statistics, but with a backward     */
    KD_TRAIN = 2  /* batch statistics, drop path, with a backward */
} kd_mode;

/* `params` may be NULL for a graph without parameters; new names are added to it until it is sealed. Where
 * the context computes in bf16, a graph with parameters does (types.c); its outputs and kept taps are f32. */
kd_graph *kd_graph_create(kdas_context *ctx, kd_params *params, kd_mode mode);
void      kd_graph_destroy(kd_graph *g);
kd_mode   kd_graph_mode(const kd_graph *g);
/* Compute in f32, whatever the context does; call before building. */
void kd_graph_stay_f32(kd_graph *g);
/* Its program keeps what backward reads, so that kd_program_backward_of() can run for each output. */
void kd_graph_keep_tape(kd_graph *g);

/* Name prefixes: parameters and ops inside are called "<scopes joined by .>.<name>". */
void kd_scope(kd_graph *g, const char *format, ...) KD_PRINTF(2, 3);
void kd_scope_end(kd_graph *g);

/* A value from outside, (n,h,w,c). `grad`: its gradient is wanted. */
kd_node *kd_input(kd_graph *g, const char *name, kdas_desc desc, bool grad);
/* Parameter `name` inside the current scopes, in PyTorch's order of axes. */
kd_node *kd_param(kd_graph *g, const char *name, kd_init init, int rank, const int64_t *dims);
/* Add a node. Trailing optional inputs may be left out; `attr` is copied. NULL in, NULL out. */
kd_node *kd_apply(kd_graph *g, const kd_op *op, const void *attr, int inputs, kd_node *const *in);
/* x in this type: itself, or a CAST of it. */
kd_node *kd_cast(kd_graph *g, kd_node *x, kdas_dtype dtype);
/* Name a node that can be read from outside; kept alive through the step if `keep`. */
kd_node *kd_tap(kd_graph *g, const char *name, kd_node *node);
kd_node *kd_output(kd_graph *g, const char *name, kd_node *node);
kd_node *kd_find(const kd_graph *g, const char *name); /* input, output or tap; NULL: none */
/* Make kd_tap(g, name, ..) keep its node; call before building. */
kdas_status kd_keep_tap(kd_graph *g, const char *name);

/* Refuse what cannot be built: kept as the graph's error if it is the first. Returns NULL. */
kd_node    *kd_graph_fail(kd_graph *g, kdas_status status, const char *format, ...) KD_PRINTF(3, 4);
kdas_status kd_graph_status(const kd_graph *g); /* restores the sentence too */

int            kd_graph_nodes(const kd_graph *g);
const kd_node *kd_graph_node(const kd_graph *g, int i);
/* Outputs and taps in the order they were named; NULL past the last. `node` may be NULL. */
const char *kd_graph_output(const kd_graph *g, int i, const kd_node **node);
const char *kd_graph_tap(const kd_graph *g, int i, const kd_node **node);

#endif

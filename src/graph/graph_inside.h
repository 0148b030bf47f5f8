/* graph_inside.h - the internals of a graph, for the files of src/graph/ only. */
#ifndef KD_GRAPH_INSIDE_H
#define KD_GRAPH_INSIDE_H
#include "base/pool.h"
#include <kdas/ranks.h>
#include "graph/graph.h"

#define KD_MAX_SCOPES 16
#define KD_MAX_NAME   256
#define KD_MAX_KEPT   64

typedef enum kd_name_kind { KD_NAME_INPUT, KD_NAME_OUTPUT, KD_NAME_TAP } kd_name_kind;

typedef struct kd_named {
    kd_name_kind kind;
    char        *name;
    kd_node     *node;
} kd_named;

struct kd_graph {
    kdas_context *ctx;
    kd_params    *params;
    kd_mode       mode;
    kdas_dtype    type; /* of products: KDAS_F32, _BF16 or _F16 */
    bool          tape; /* backward may run more than once after a forward */
    kd_pool       pool; /* nodes, attributes, names */
    kd_node     **node;
    size_t        count, capacity;
    kd_named     *named; /* inputs, outputs, taps */
    size_t        named_count, named_capacity;
    bool          grids; /* kd_graph_use_grids() */
    bool          watched; /* kd_graph_watch_grids() */
    float         momentum;
    const char   *wide;
    kdas_ranks   *ranks;     /* kd_graph_use_ranks(); NULL: alone */
    bool          exchanges; /* batch norms have the moments of all ranks */
    char         *kept[KD_MAX_KEPT]; /* taps that the caller will read */
    size_t        kept_count;
    char          scope[KD_MAX_NAME];
    uint16_t      scope_end[KD_MAX_SCOPES];
    int           depth;
    kdas_status   status;
    char          sentence[512];
};

/* types.c: the type of a node's activations. `in` is cast to that type where needed. */
kdas_dtype kd_choose_type(kd_graph *g, const kd_op *op, const void *attr, int inputs, kd_node **in);
/* graph.c: take over the operands' shapes, and decide which gradients are needed. */
void kd_connect(kd_graph *g, kd_node *node, int inputs, kd_node *const *in);

#endif

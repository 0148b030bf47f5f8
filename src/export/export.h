/* export.h - from a graph to the nodes of an ONNX file. A graph is built for one size; where batch
 * or size are free, the same network built at other sizes tells how each axis follows them.
 * A value may exist in two layouts. A form asks for the one that it needs, and gets a Transpose
 * where the value has only the other. */
#ifndef KD_EXPORT_H
#define KD_EXPORT_H
#include <kdas/export.h>
#include "export/onnx.h"
#include "graph/graph.h"

/* The axes of the image that may be free, as bits. */
enum { KD_FREE_BATCH = 1, KD_FREE_HEIGHT = 2, KD_FREE_WIDTH = 4, KD_FREE_AXES = 3 };

/* Size of an axis: num / den times the free axes. Without any, den is 1. */
typedef struct kd_extent {
    int64_t  num, den;
    unsigned axes;
} kd_extent;

/* One value: a node's name in each layout (NULL: not there), and its axes (N,H,W,C). */
typedef struct kd_export_value {
    const char *name[2]; /* by kdas_onnx_layout */
    kd_extent   extent[4];
    bool        needed; /* by an output, see kd_export_need() */
} kd_export_value;

#define KD_EXPORT_SIZES 16 /* different sizes that nodes compute from the image's */

typedef struct kd_export {
    kdas_context    *ctx;
    kd_onnx         *file;
    const kd_graph  *graph;
    unsigned         free;   /* KD_FREE_* */
    kdas_onnx_layout layout; /* of the image and of the outputs */
    bool             floats; /* layers on grids as floats: see kdas_onnx_options */
    const char      *image;  /* the input as it comes in */
    kd_export_value *value;  /* by node */
    const char      *shape;  /* of the image; NULL: not needed yet */
    struct {
        kd_extent   extent;
        const char *name;
    } size[KD_EXPORT_SIZES];
    int sizes;
} kd_export;

/* ---- extent.c ---- */

/* How one axis of the image differs between two graphs of the network. */
typedef struct kd_probe {
    kd_graph *graph;
    int64_t   image[KD_FREE_AXES]; /* N, H, W */
} kd_probe;

/* Find the extents of all values from the graph of the exporter (an image of `image`) and probes:
 * those whose image differs in one axis give the rule, all must agree with it. KDAS_EINVAL: an axis
 * does not follow the image's in proportion; the sentence names the op. */
kdas_status        kd_export_extents(kd_export *e, const int64_t image[KD_FREE_AXES],
                                     const kd_probe *probe, int probes);
bool               kd_extent_same(kd_extent a, kd_extent b);
kd_extent          kd_extent_times(kd_extent a, kd_extent b);
kd_extent          kd_extent_fixed(int64_t size);
static inline bool kd_extent_is_fixed(kd_extent a) { return a.axes == 0; }
/* "height/4", for an axis of an output; into a buffer. */
void kd_extent_text(kd_extent a, char *to, size_t size);
/* The extent as a tensor of one whole number: a constant, or computed from the image's shape. */
const char *kd_export_size(kd_export *e, kd_extent extent);
/* x, whose axes are `in`, as `out`. */
const char *kd_export_reshape(kd_export *e, const char *x, int in_rank, const kd_extent *in,
                              int out_rank, const kd_extent *out);

/* ---- values.c ---- */

/* The axes of a layout, for a form that suits both. */
typedef struct kd_axes {
    int h, w, c;
} kd_axes;
kd_axes kd_axes_of(kdas_onnx_layout layout);

/* The layout that the value has; both: NHWC, in which the graph is built. */
kdas_onnx_layout kd_export_layout(const kd_export *e, const kd_node *node);
/* The name of a node's value in a layout; of a parameter, its tensor as (N,H,W,C). A cast is the
 * value that it casts. */
const char *kd_export_in(kd_export *e, const kd_node *node, kdas_onnx_layout layout);
void kd_export_set(kd_export *e, const kd_node *node, kdas_onnx_layout layout, const char *name);
/* x with its axes in another order. */
const char      *kd_export_permute(kd_export *e, const char *x, int a, int b, int c, int d);
const kd_extent *kd_export_extent(const kd_export *e, const kd_node *node);

/* ---- ends.c ---- */

/* ImageNet's statistics, R G B, of 0..1. */
extern const float kd_export_mean[3], kd_export_deviation[3];
/* Add the graph's input "image", and its normalisation if that is left to the network. */
void kd_export_image(kd_export *e, kdas_onnx_input input);
/* Add an output of the shape of `like`: the value x, or its sigmoid. */
void kd_export_output(kd_export *e, const char *name, const kd_node *like, const char *x,
                      bool sigmoid);

/* ---- forms ---- */

/* Adds the nodes of one op. It reads its inputs by kd_export_in() and ends with kd_export_set(). */
typedef void (*kd_form)(kd_export *e, const kd_node *node);

/* The form of an op number; NULL: it has none (forms.c). */
kd_form kd_form_of(int32_t op);
/* The file will have this value, and what it is made of. */
void kd_export_need(kd_export *e, const kd_node *node);
/* Add the nodes that are needed. KDAS_EINVAL: an op has no form; the sentence names it. */
kdas_status kd_export_nodes(kd_export *e);

/* form_grid.c: layers on 8-bit grids. */

/* A layer's weights, in these dims (transposed: of two), and its bias, folded norm included. */
typedef struct kd_export_operands {
    const char *weight, *bias;
    bool        has_bias; /* false: `bias` is NULL, which is no failure */
} kd_export_operands;

kd_export_operands kd_export_layer(kd_export *e, const kd_node *node, int rank, const int64_t *dims,
                                   bool transposed);
/* Whether the layer before a batch norm has done its work. */
bool kd_export_is_folded(const kd_export *e, const kd_node *norm);
/* Past casts: the file has f32 alone. */
const kd_node *kd_export_source(const kd_node *node);
/* A QUANTIZE, and nodes for its value in a layout. */
bool        kd_export_is_grid(const kd_node *node);
const char *kd_export_on_grid(kd_export *e, const kd_node *node, kdas_onnx_layout layout);

/* form_window.c: sliding windows. */
void kd_form_window_max(kd_export *e, const kd_node *node);
void kd_form_window_avg(kd_export *e, const kd_node *node);

/* form_move.c: the forms that move data. */
void kd_form_concat(kd_export *e, const kd_node *node);
void kd_form_slice(kd_export *e, const kd_node *node);
void kd_form_crop(kd_export *e, const kd_node *node);
void kd_form_transpose(kd_export *e, const kd_node *node);
void kd_form_reshape(kd_export *e, const kd_node *node);
void kd_form_resize(kd_export *e, const kd_node *node);
void kd_form_pool_avg(kd_export *e, const kd_node *node);

#endif

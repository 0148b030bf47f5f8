/* extent.c - the size of each axis, as a number or as a multiple of the image's free axes. */
#include <assert.h>
#include <string.h>
#include "base/text.h"
#include "export/export.h"
#include "export/proto.h"

/* ---- Arithmetic ------------------------------------------------------------------------------ */

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

static kd_extent reduced(int64_t num, int64_t den, unsigned axes)
{
    int64_t d = common_divisor(num, den);

    return (kd_extent){ num / d, den / d, axes };
}

kd_extent kd_extent_fixed(int64_t size) { return (kd_extent){ size, 1, 0 }; }

bool kd_extent_same(kd_extent a, kd_extent b)
{
    return a.num == b.num && a.den == b.den && a.axes == b.axes;
}

kd_extent kd_extent_times(kd_extent a, kd_extent b)
{
    return reduced(a.num * b.num, a.den * b.den, a.axes | b.axes);
}

void kd_extent_text(kd_extent a, char *to, size_t size)
{
    static const char *const name[KD_FREE_AXES] = { "batch", "height", "width" };
    size_t                   n                  = 0;

    if (a.num != 1) n = (size_t)kd_format(to, size, "%lld", (long long)a.num);
    for (int k = 0; k < KD_FREE_AXES; k++)
        if (a.axes >> k & 1 && n < size)
            n += (size_t)kd_format(to + n, size - n, "%s%s", n ? "*" : "", name[k]);
    if (a.den != 1 && n < size) kd_format(to + n, size - n, "/%lld", (long long)a.den);
}

/* ---- From probes ----------------------------------------------------------------------------- */

/* What the extent says of an image. 0: no whole number. */
static int64_t size_at(kd_extent a, const int64_t image[KD_FREE_AXES])
{
    int64_t size = a.num;

    assert(a.den > 0);
    for (int k = 0; k < KD_FREE_AXES; k++)
        if (a.axes >> k & 1) size *= image[k];
    return size % a.den ? 0 : size / a.den;
}

/* The extent of an axis of size `size`, if it follows the axes of the image in `axes`. */
static kd_extent follow(int64_t size, const int64_t image[KD_FREE_AXES], unsigned axes)
{
    int64_t den = 1;

    for (int k = 0; k < KD_FREE_AXES; k++)
        if (axes >> k & 1) den *= image[k];
    return reduced(size, den, axes);
}

/* Image axes that differ between two images, as bits. */
static unsigned differ(const int64_t a[KD_FREE_AXES], const int64_t b[KD_FREE_AXES])
{
    unsigned axes = 0;

    for (int k = 0; k < KD_FREE_AXES; k++)
        if (a[k] != b[k]) axes |= 1u << k;
    return axes;
}

static kdas_status axis_extent(kd_export *e, int i, int axis, const int64_t image[KD_FREE_AXES],
                               const kd_probe *probe, int probes)
{
    const kd_node *node = kd_graph_node(e->graph, i);
    kd_extent     *to   = &e->value[i].extent[axis];
    int64_t        size = node->desc.out.dim[axis];
    unsigned       axes = 0;

    for (int p = 0; p < probes; p++) {
        unsigned changed = differ(image, probe[p].image);

        if ((changed & (changed - 1)) == 0 &&
            kd_graph_node(probe[p].graph, i)->desc.out.dim[axis] != size)
            axes |= changed;
    }
    *to = follow(size, image, axes);
    for (int p = 0; p < probes; p++)
        if (size_at(*to, probe[p].image) != kd_graph_node(probe[p].graph, i)->desc.out.dim[axis])
            return kd_fail(KDAS_EINVAL,
                           "%s: axis %d of %s does not follow the image's size in proportion; fix "
                           "the size or the batch",
                           node->name, axis, kd_dims_text(&node->desc.out));
    return KDAS_OK;
}

/* Attributes that sizes may change: their effect is in the shape, from which forms take it. */
static bool follows_size(const kd_node *node)
{
    return node->op->ref.op == KDAS_OP_RESIZE || node->op->ref.op == KDAS_OP_RESHAPE;
}

static kdas_status same_nodes(const kd_graph *a, const kd_graph *b)
{
    if (kd_graph_nodes(a) != kd_graph_nodes(b))
        return kd_fail(KDAS_EINVAL, "the network has other ops at other sizes; fix its size");
    for (int i = 0; i < kd_graph_nodes(a); i++) {
        const kd_node *x = kd_graph_node(a, i), *y = kd_graph_node(b, i);

        if (x->kind != y->kind || x->op != y->op ||
            (x->op && x->op->attr_size && !follows_size(x) &&
             memcmp(x->desc.attr, y->desc.attr, x->op->attr_size) != 0))
            return kd_fail(KDAS_EINVAL, "%s is another op at another size; fix the size", x->name);
    }
    return KDAS_OK;
}

kdas_status kd_export_extents(kd_export *e, const int64_t image[KD_FREE_AXES],
                              const kd_probe *probe, int probes)
{
    for (int p = 0; p < probes; p++)
        KD_RETURN(same_nodes(e->graph, probe[p].graph));
    for (int i = 0; i < kd_graph_nodes(e->graph); i++)
        for (int axis = 0; axis < 4; axis++)
            KD_RETURN(axis_extent(e, i, axis, image, probe, probes));
    return KDAS_OK;
}

/* ---- In the file ----------------------------------------------------------------------------- */

/* Axis `k` of the image (N, H, W) as a tensor of one number. */
static const char *image_axis(kd_export *e, int k)
{
    int64_t at = k == 0 ? 0 : e->layout == KDAS_ONNX_NCHW ? k + 1 : k;

    if (!e->shape) e->shape = kd_onnx_node(e->file, "Shape", NAMES(e->image), NO_ATTRS);
    return kd_onnx_node(e->file, "Gather", NAMES(e->shape, kd_onnx_ints(e->file, 1, &at)),
                        NO_ATTRS);
}

const char *kd_export_size(kd_export *e, kd_extent extent)
{
    const char *name = NULL;

    if (kd_extent_is_fixed(extent)) return kd_onnx_ints(e->file, 1, &extent.num);
    for (int i = 0; i < e->sizes; i++)
        if (kd_extent_same(e->size[i].extent, extent)) return e->size[i].name;
    for (int k = 0; k < KD_FREE_AXES; k++) {
        if (!(extent.axes >> k & 1)) continue;
        name = name ? kd_onnx_node(e->file, "Mul", NAMES(name, image_axis(e, k)), NO_ATTRS)
                    : image_axis(e, k);
    }
    if (extent.num != 1)
        name = kd_onnx_node(e->file, "Mul", NAMES(name, kd_onnx_ints(e->file, 1, &extent.num)),
                            NO_ATTRS);
    if (extent.den != 1)
        name = kd_onnx_node(e->file, "Div", NAMES(name, kd_onnx_ints(e->file, 1, &extent.den)),
                            NO_ATTRS);
    if (e->sizes < KD_EXPORT_SIZES) {
        e->size[e->sizes].extent = extent;
        e->size[e->sizes++].name = name;
    }
    return name;
}

/* Reshape's target: a number; 0, the input's axis at the same place; -1, what is left; or -2, to be
 * computed. */
static void plan_reshape(int64_t *to, int in_rank, const kd_extent *in, int out_rank,
                         const kd_extent *out)
{
    bool left = false;

    for (int i = out_rank - 1; i >= 0; i--) {
        if (kd_extent_is_fixed(out[i]))
            to[i] = out[i].num;
        else if (i < in_rank && kd_extent_same(in[i], out[i]))
            to[i] = 0;
        else {
            to[i] = left ? -2 : -1;
            left  = true;
        }
    }
}

const char *kd_export_reshape(kd_export *e, const char *x, int in_rank, const kd_extent *in,
                              int out_rank, const kd_extent *out)
{
    const char *size[4], *shape;
    int64_t     to[4];
    bool        known = true;

    plan_reshape(to, in_rank, in, out_rank, out);
    for (int i = 0; i < out_rank; i++)
        known = known && to[i] != -2;
    if (known)
        shape = kd_onnx_ints(e->file, out_rank, to);
    else {
        for (int i = 0; i < out_rank; i++)
            size[i] = to[i] == -2 ? kd_export_size(e, out[i]) : kd_onnx_ints(e->file, 1, &to[i]);
        shape = kd_onnx_node(e->file, "Concat", out_rank, size, ATTRS(ATTR_INT("axis", 0)));
    }
    return kd_onnx_node(e->file, "Reshape", NAMES(x, shape), NO_ATTRS);
}

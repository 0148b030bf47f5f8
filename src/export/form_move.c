/* form_move.c - the ONNX forms of ops that move data: cuts, reshapes, resize, adaptive pooling. */
#include "export/export.h"
#include "export/proto.h"

#define NCHW KDAS_ONNX_NCHW
#define NHWC KDAS_ONNX_NHWC

void kd_form_concat(kd_export *e, const kd_node *node)
{
    kdas_onnx_layout layout = kd_export_layout(e, node->in[0]);
    const char      *in[KDAS_MAX_INPUTS];
    int              n = 0;

    for (; n < KDAS_MAX_INPUTS && node->in[n]; n++)
        in[n] = kd_export_in(e, node->in[n], layout);
    kd_export_set(
        e, node, layout,
        kd_onnx_node(e->file, "Concat", n, in, ATTRS(ATTR_INT("axis", kd_axes_of(layout).c))));
}

/* x from `first` to before `end` along some axes. */
static const char *cut(kd_export *e, const char *x, int n, const int64_t *first, const int64_t *end,
                       const int64_t *axis)
{
    return kd_onnx_node(e->file, "Slice",
                        NAMES(x, kd_onnx_ints(e->file, n, first), kd_onnx_ints(e->file, n, end),
                              kd_onnx_ints(e->file, n, axis)),
                        NO_ATTRS);
}

void kd_form_slice(kd_export *e, const kd_node *node)
{
    const kdas_slice_attr *a      = node->desc.attr;
    kdas_onnx_layout       layout = kd_export_layout(e, node->in[0]);
    int64_t                axis = kd_axes_of(layout).c, end = a->start + a->count;

    kd_export_set(e, node, layout,
                  cut(e, kd_export_in(e, node->in[0], layout), 1, &a->start, &end, &axis));
}

void kd_form_crop(kd_export *e, const kd_node *node)
{
    const kdas_crop_attr *a      = node->desc.attr;
    kdas_onnx_layout      layout = kd_export_layout(e, node->in[0]);
    kd_axes               axes   = kd_axes_of(layout);
    int64_t first[2] = { a->top, a->left }, end[2] = { a->top + a->height, a->left + a->width },
            axis[2] = { axes.h, axes.w };

    kd_export_set(e, node, layout,
                  cut(e, kd_export_in(e, node->in[0], layout), 2, first, end, axis));
}

void kd_form_transpose(kd_export *e, const kd_node *node)
{
    kd_export_set(e, node, NHWC,
                  kd_export_permute(e, kd_export_in(e, node->in[0], NHWC), 0, 1, 3, 2));
}

void kd_form_reshape(kd_export *e, const kd_node *node)
{
    kd_export_set(e, node, NHWC,
                  kd_export_reshape(e, kd_export_in(e, node->in[0], NHWC), 4,
                                    kd_export_extent(e, node->in[0]), 4,
                                    kd_export_extent(e, node)));
}

/* ---- Resize ---------------------------------------------------------------------------------- */

/* to / from, if it is a number that no free axis changes and a float holds exactly: a runtime then
 * computes the very size. 0: it is not. */
static float exact_ratio(kd_extent from, kd_extent to)
{
    int64_t num = to.num * from.den, den = to.den * from.num;
    float   ratio = (float)num / (float)den;

    if (from.axes != to.axes) return 0;
    return (double)ratio * (double)den == (double)num ? ratio : 0;
}

/* Resize in NCHW: by sizes where they are known, by ratios where those are, else by sizes that are
 * computed from the image's. */
void kd_form_resize(kd_export *e, const kd_node *node)
{
    const kdas_resize_attr *a = node->desc.attr;
    const kd_extent *from = kd_export_extent(e, node->in[0]), *to = kd_export_extent(e, node);
    const kd_extent  nchw[4]  = { to[0], to[3], to[1], to[2] };
    float            ratio[4] = { 1, 1, exact_ratio(from[1], to[1]), exact_ratio(from[2], to[2]) };
    const char      *in[4]    = { kd_export_in(e, node->in[0], NCHW), "", "", NULL }, *size[4];
    const char      *mode     = a->align ? "align_corners" : "half_pixel";
    bool             known    = true;

    for (int i = 0; i < 4; i++)
        known = known && kd_extent_is_fixed(nchw[i]);
    if (!known && ratio[2] > 0 && ratio[3] > 0) {
        in[2] = kd_onnx_floats(e->file, 1, (int64_t[]){ 4 }, ratio);
    } else if (known) {
        in[3] = kd_onnx_ints(e->file, 4,
                             (int64_t[]){ nchw[0].num, nchw[1].num, nchw[2].num, nchw[3].num });
    } else {
        for (int i = 0; i < 4; i++)
            size[i] = kd_export_size(e, nchw[i]);
        in[3] = kd_onnx_node(e->file, "Concat", 4, size, ATTRS(ATTR_INT("axis", 0)));
    }
    kd_export_set(e, node, NCHW,
                  kd_onnx_node(e->file, "Resize", in[3] ? 4 : 3, in,
                               ATTRS(ATTR_TEXT("mode", "linear"),
                                     ATTR_TEXT("coordinate_transformation_mode", mode))));
}

/* ---- Adaptive average pooling ---------------------------------------------------------------- */

/* The share of input j in window i, floor(i in/out) .. ceil((i+1) in/out)-1, as a matrix (out,in)
 * in memory. NULL: the context's memory is exhausted. */
static float *window_shares(kdas_context *ctx, int64_t in, int64_t out)
{
    float *share = kd_calloc(ctx, (size_t)(in * out), sizeof *share);

    for (int64_t i = 0; share && i < out; i++) {
        int64_t first = i * in / out, end = ((i + 1) * in + out - 1) / out;

        for (int64_t j = first; j < end; j++)
            share[i * in + j] = 1.0f / (float)(end - first);
    }
    return share;
}

static const char *fixed_windows(kd_export *e, int64_t in, int64_t out)
{
    float      *share = window_shares(e->ctx, in, out);
    const char *name  = share ? kd_onnx_floats(e->file, 2, (int64_t[]){ out, in }, share)
                              : kd_onnx_fail(e->file, KDAS_ENOMEM, "%s", kdas_last_error());

    kd_free(e->ctx, share);
    return name;
}

static const char *pair_of(kd_export *e, const char *type, const char *a, const char *b)
{
    return kd_onnx_node(e->file, type, NAMES(a, b), NO_ATTRS);
}

static const char *cast_to_float(kd_export *e, const char *x)
{
    return kd_onnx_node(e->file, "Cast", NAMES(x), ATTRS(ATTR_INT("to", ONNX_DATA_FLOAT)));
}

/* The same matrix for a size that is known at each run alone. first and end are columns (out,1),
 * the places a row (in). */
static const char *free_windows(kd_export *e, kd_extent in, int64_t out)
{
    int64_t     zero = 0, one = 1, less = out - 1, column[2] = { -1, 1 };
    const char *size  = kd_export_size(e, in);
    const char *count = kd_onnx_ints(e->file, 1, &out), *first, *end, *place, *inside;

    /* (0 .. out-1) in / out, and ((1 .. out) in + out - 1) / out; the quotients round down */
    first = kd_onnx_node(e->file, "Range",
                         NAMES(kd_onnx_ints(e->file, -1, &zero), kd_onnx_ints(e->file, -1, &out),
                               kd_onnx_ints(e->file, -1, &one)),
                         NO_ATTRS);
    first =
        kd_onnx_node(e->file, "Reshape", NAMES(first, kd_onnx_ints(e->file, 2, column)), NO_ATTRS);
    end    = pair_of(e, "Add", first, kd_onnx_ints(e->file, 1, &one));
    end    = pair_of(e, "Add", pair_of(e, "Mul", end, size), kd_onnx_ints(e->file, 1, &less));
    end    = pair_of(e, "Div", end, count);
    first  = pair_of(e, "Div", pair_of(e, "Mul", first, size), count);
    place  = kd_onnx_node(e->file, "Range",
                          NAMES(kd_onnx_ints(e->file, -1, &zero),
                                pair_of(e, "Squeeze", size, kd_onnx_ints(e->file, 1, &zero)),
                                kd_onnx_ints(e->file, -1, &one)),
                          NO_ATTRS);
    inside = pair_of(
        e, "And", kd_onnx_node(e->file, "Not", NAMES(pair_of(e, "Less", place, first)), NO_ATTRS),
        pair_of(e, "Less", place, end));
    return pair_of(e, "Div", cast_to_float(e, inside),
                   cast_to_float(e, pair_of(e, "Sub", end, first)));
}

static const char *windows(kd_export *e, kd_extent in, int64_t out)
{
    return kd_extent_is_fixed(in) ? fixed_windows(e, in.num, out) : free_windows(e, in, out);
}

/* 1 x 1 is a mean. Else two products in NCHW: rows' windows times x times columns' windows. */
void kd_form_pool_avg(kd_export *e, const kd_node *node)
{
    const kdas_pool_attr *a      = node->desc.attr;
    kdas_onnx_layout      layout = kd_export_layout(e, node->in[0]);
    const kd_extent      *in     = kd_export_extent(e, node->in[0]);
    kd_axes               axes   = kd_axes_of(layout);
    const char           *y, *across;

    if (a->height == 1 && a->width == 1) {
        y = kd_onnx_node(e->file, "ReduceMean", NAMES(kd_export_in(e, node->in[0], layout)),
                         ATTRS(ATTR_INTS("axes", axes.h, axes.w), ATTR_INT("keepdims", 1)));
        kd_export_set(e, node, layout, y);
        return;
    }
    y      = pair_of(e, "MatMul", windows(e, in[1], a->height), kd_export_in(e, node->in[0], NCHW));
    across = kd_onnx_node(e->file, "Transpose", NAMES(windows(e, in[2], a->width)),
                          ATTRS(ATTR_INTS("perm", 1, 0)));
    kd_export_set(e, node, NCHW, pair_of(e, "MatMul", y, across));
}

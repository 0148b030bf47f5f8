/* form_window.c - the ONNX forms of sliding windows. Rounding up is told by padding: runtimes differ in what their ceil_mode
 * does with a last window that begins in the padding, and in what an average divides by there. */
#include "export/export.h"
#include "export/proto.h"

#define NCHW KDAS_ONNX_NCHW

/* Rows or columns from the last one of x to the end of the last window. At a free size there are in / stride windows: any other
 * number would not follow the image in proportion. */
static int64_t overhang(const kdas_window_attr *a, kd_extent in, kd_extent out)
{
    int64_t whole = kd_extent_is_fixed(in) ? out.num * a->stride - in.num : 0;

    return whole - a->stride + a->size - a->pad;
}

/* Rows and columns after the last that the op pads. More than `pad` with rounding up; never less than none. */
static void ends_of(kd_export *e, const kd_node *node, int64_t end[2])
{
    const kdas_window_attr *a  = node->desc.attr;
    const kd_extent        *in = kd_export_extent(e, node->in[0]), *out = kd_export_extent(e, node);

    for (int i = 0; i < 2; i++)
        end[i] = a->ceil ? KD_MAX(overhang(a, in[1 + i], out[1 + i]), (int64_t)0) : a->pad;
}

void kd_form_window_max(kd_export *e, const kd_node *node)
{
    const kdas_window_attr *a = node->desc.attr;
    int64_t                 end[2];

    ends_of(e, node, end);
    kd_export_set(e, node, NCHW,
                  kd_onnx_node(e->file, "MaxPool", NAMES(kd_export_in(e, node->in[0], NCHW)),
                               ATTRS(ATTR_INTS("kernel_shape", a->size, a->size),
                                     ATTR_INTS("strides", a->stride, a->stride),
                                     ATTR_INTS("pads", a->pad, a->pad, end[0], end[1]))));
}

/* Zeros around x. */
static const char *padded(kd_export *e, const char *x, int64_t pad)
{
    int64_t pads[8] = { 0, 0, pad, pad, 0, 0, pad, pad };

    return kd_onnx_node(e->file, "Pad",
                        NAMES(x, kd_onnx_ints(e->file, 8, pads), kd_onnx_float(e->file, 0)),
                        NO_ATTRS);
}

/* Where windows reach past a padding that counts, the padding becomes part of x, and what lies past it does not count. */
void kd_form_window_avg(kd_export *e, const kd_node *node)
{
    const kdas_window_attr *a     = node->desc.attr;
    const char             *x     = kd_export_in(e, node->in[0], NCHW);
    int64_t                 first = a->pad, count = a->padded && a->pad > 0, end[2];

    ends_of(e, node, end);
    if (count && (end[0] > a->pad || end[1] > a->pad)) {
        x     = padded(e, x, a->pad);
        first = count = 0;
        for (int i = 0; i < 2; i++)
            end[i] = KD_MAX(end[i] - a->pad, (int64_t)0);
    }
    kd_export_set(e, node, NCHW,
                  kd_onnx_node(e->file, "AveragePool", NAMES(x),
                               ATTRS(ATTR_INTS("kernel_shape", a->size, a->size),
                                     ATTR_INTS("strides", a->stride, a->stride),
                                     ATTR_INTS("pads", first, first, end[0], end[1]),
                                     ATTR_INT("count_include_pad", count))));
}

/* ends.c - the image as it comes in, and values as they go out. */
#include "export/export.h"

const float kd_export_mean[3]      = { 0.485f, 0.456f, 0.406f };
const float kd_export_deviation[3] = { 0.229f, 0.224f, 0.225f };

/* Place of axis k of (N,H,W,C) in a layout. */
static int place(kdas_onnx_layout layout, int k)
{
    static const int nchw[4] = { 0, 2, 3, 1 };

    return layout == KDAS_ONNX_NCHW ? nchw[k] : k;
}

typedef struct ends {
    kd_onnx_axis axis[4];
    char         text[4][48];
} ends;

static void describe(ends *to, const kd_export *e, const kd_node *node)
{
    const kd_extent *extent = kd_export_extent(e, node);

    for (int k = 0; k < 4; k++) {
        int at = place(e->layout, k);

        to->axis[at] = (kd_onnx_axis){ .size = extent[k].num };
        if (kd_extent_is_fixed(extent[k])) continue;
        kd_extent_text(extent[k], to->text[at], sizeof to->text[at]);
        to->axis[at].free = to->text[at];
    }
}

/* x less and over a value for each colour. */
static const char *normalised(kd_export *e, const char *x, float range)
{
    int64_t dims[4] = { 1, 1, 1, 1 };
    float   less[3], over[3];

    dims[place(e->layout, 3)] = 3;
    for (int c = 0; c < 3; c++) {
        less[c] = kd_export_mean[c] * range;
        over[c] = kd_export_deviation[c] * range;
    }
    x = kd_onnx_node(e->file, "Sub", NAMES(x, kd_onnx_floats(e->file, 4, dims, less)), NO_ATTRS);
    return kd_onnx_node(e->file, "Div", NAMES(x, kd_onnx_floats(e->file, 4, dims, over)), NO_ATTRS);
}

void kd_export_image(kd_export *e, kdas_onnx_input input)
{
    const kd_node *node = kd_find(e->graph, "image");
    const char    *x    = "image";
    ends           at;

    describe(&at, e, node);
    kd_onnx_input(e->file, "image", at.axis);
    e->image = "image";
    kd_onnx_scope(e->file, "image");
    if (input != KDAS_ONNX_NORMALISED) x = normalised(e, x, input == KDAS_ONNX_BYTES ? 255 : 1);
    kd_export_set(e, node, e->layout, x);
}

void kd_export_output(kd_export *e, const char *name, const kd_node *like, const char *x,
                      bool sigmoid)
{
    ends at;

    describe(&at, e, like);
    kd_onnx_output(e->file, name, at.axis);
    kd_onnx_node_as(e->file, name, sigmoid ? "Sigmoid" : "Identity", NAMES(x), NO_ATTRS);
}

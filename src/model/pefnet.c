/* pefnet.c - PEFNet (doi 10.1007/978-3-031-27818-1_20) with multi-kernel blocks, as its authors
 * released it on EfficientNetV2-B0. It has one logit map at input size, P1: the release's sigmoid
 * is left out.
 *
 * Layers have the names that Keras gives them in a new session, those of the encoder after
 * "backbone.". A positional table has the size that it has for images of 256 x 256. For others it
 * is resized. */
#include "base/text.h"
#include "model/efficientnet_v2.h"
#include "model/model.h"

enum { LEVELS = KD_EFFICIENTNET_V2_MAPS, SIDE = 256 };

/* x / 128 - 1 of pixels in 0 .. 255. */
#define FACTOR(deviation) (255.0f / 128 * (deviation))
#define OFFSET(mean)      (255.0f / 128 * (mean)-1)
static const kdas_recolour_attr about_zero = {
    .source = { 0, 1, 2 },
    .factor = { FACTOR(0.229f), FACTOR(0.224f), FACTOR(0.225f) },
    .offset = { OFFSET(0.485f), OFFSET(0.456f), OFFSET(0.406f) },
};

const kd_model_rules kd_rules_pefnet = { .colours = &about_zero };

/* The decoder in the making: how many layers of each kind there are, for their names. */
typedef struct decoder {
    kd_graph *g;
    int64_t   width; /* of the image */
    int       convs, deconvs, norms, tables;
    char      name[40];
} decoder;

/* "kind", "kind_1", "kind_2" ... */
static const char *next(decoder *d, const char *kind, int *count)
{
    int i = (*count)++;

    kd_format(d->name, sizeof d->name, i ? "%s_%d" : "%s", kind, i);
    return d->name;
}

static kd_node *norm_active(decoder *d, kd_node *x)
{
    return kd_silu(d->g, kd_keras_norm(d->g, next(d, "batch_normalization", &d->norms), x, 0.01f));
}

static kd_node *conv(decoder *d, kd_node *x, int64_t out, int k)
{
    return kd_keras_conv(d->g, next(d, "conv2d", &d->convs), x, out, k, 1, true);
}

/* Twice the size. */
static kd_node *enlarge(decoder *d, kd_node *x, int64_t out)
{
    x = kd_keras_deconv(d->g, next(d, "conv2d_transpose", &d->deconvs), x, out, 4, 2);
    return norm_active(d, x);
}

/* The sum of three convolutions of different reach. */
static kd_node *multi_kernel(decoder *d, kd_node *x)
{
    int64_t  c   = kd_shape(x).dim[3];
    kd_node *sum = NULL;

    for (int k = 1; k <= 5; k += 2) {
        kd_node *y = norm_active(d, conv(d, x, c, k));

        sum = sum ? kd_add(d->g, sum, y) : y;
    }
    return sum;
}

/* x and a learned number for each place and channel. */
static kd_node *positioned(decoder *d, kd_node *x)
{
    const kd_init init = { .kind = KD_TRAINABLE, .rule = KD_INIT_TRUNCATED, .a = 0.2f };
    kdas_desc     s    = kd_shape(x);
    int64_t       side = x ? SIDE * s.dim[2] / d->width : 0;
    kd_node      *table;

    if (!x) return NULL;
    kd_scope(d->g, "%s", next(d, "positional_embedding", &d->tables));
    table = kd_param(d->g, "positional_embedding", init, 4, (int64_t[]){ 1, side, side, s.dim[3] });
    table = kd_resize(d->g, table, s.dim[1], s.dim[2], false, 0);
    x     = kd_add(d->g, x, kd_cast(d->g, table, (kdas_dtype)s.dtype));
    kd_scope_end(d->g);
    return x;
}

void kd_build_pefnet(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    static const char *const tap[LEVELS] = { "s2", "s4", "s8", "s16", "s32" };
    static const char *const up[LEVELS]  = { "d2", "d4", "d8", "d16" };
    decoder                  d           = { .g = g, .width = kd_shape(image).dim[2] };
    kd_node                 *map[LEVELS] = { NULL }, *x;

    (void)variant;
    (void)drop_path; /* the release drops nothing */
    kd_scope(g, "backbone");
    kd_efficientnet_v2_b0(g, image, map);
    kd_scope_end(g);
    for (int i = 0; i < LEVELS; i++)
        kd_tap(g, tap[i], map[i]);
    x = map[LEVELS - 1];
    for (int i = LEVELS - 2; i >= 0; i--) {
        x = enlarge(&d, x, kd_shape(map[i]).dim[3]);
        x = multi_kernel(&d, kd_add(g, x, map[i]));
        x = kd_tap(g, up[i], positioned(&d, multi_kernel(&d, x)));
    }
    x = enlarge(&d, x, kd_shape(x).dim[3] / 2);
    x = positioned(&d, multi_kernel(&d, x));
    kd_output(g, "P1", conv(&d, x, 1, 1));
}

/* pvt_v2.c - Pyramid Vision Transformer v2, B0 to B5 (arXiv 2106.13797, Table 1). Tokens (N, H
 * W, C) are the map (N,H,W,C). Nothing is transposed. */
#include <math.h>
#include <stdio.h>
#include "model/model.h"
#include "model/pvt_v2.h"

typedef struct config {
    int dim[4], head[4], ratio[4], depth[4], sr[4];
} config;

static const config configs[] = {
    { { 32, 64, 160, 256 }, { 1, 2, 5, 8 }, { 8, 8, 4, 4 }, { 2, 2, 2, 2 }, { 8, 4, 2, 1 } },
    { { 64, 128, 320, 512 }, { 1, 2, 5, 8 }, { 8, 8, 4, 4 }, { 2, 2, 2, 2 }, { 8, 4, 2, 1 } },
    { { 64, 128, 320, 512 }, { 1, 2, 5, 8 }, { 8, 8, 4, 4 }, { 3, 4, 6, 3 }, { 8, 4, 2, 1 } },
    { { 64, 128, 320, 512 }, { 1, 2, 5, 8 }, { 8, 8, 4, 4 }, { 3, 4, 18, 3 }, { 8, 4, 2, 1 } },
    { { 64, 128, 320, 512 }, { 1, 2, 5, 8 }, { 8, 8, 4, 4 }, { 3, 8, 27, 3 }, { 8, 4, 2, 1 } },
    { { 64, 128, 320, 512 }, { 1, 2, 5, 8 }, { 4, 4, 4, 4 }, { 3, 6, 40, 3 }, { 8, 4, 2, 1 } },
};

/* Norms use 1e-6. Those in patch embedding and reduction keep PyTorch's 1e-5. */
#define EPS_BLOCK 1e-6f
#define EPS_EMBED 1e-5f

static kd_node *patch_embed(kd_graph *g, int stage, kd_node *x, int dim)
{
    int k = stage == 0 ? 7 : 3, stride = stage == 0 ? 4 : 2;

    kd_scope(g, "patch_embed%d", stage + 1);
    x = kd_conv_layer(g, "proj", x, dim, k, stride, k / 2, true, KD_STYLE_PVT);
    x = kd_norm_layer(g, "norm", x, EPS_EMBED);
    kd_scope_end(g);
    return x;
}

/* Spatial-reduction attention: keys and values come from a map reduced by sr x sr. */
static kd_node *attention(kd_graph *g, kd_node *x, int dim, int heads, int sr)
{
    kd_node *q, *kv, *reduced = x;

    kd_scope(g, "attn");
    q = kd_linear_layer(g, "q", x, dim, true, KD_STYLE_PVT);
    if (sr > 1) {
        reduced = kd_conv_layer(g, "sr", x, dim, sr, sr, 0, true, KD_STYLE_PVT);
        reduced = kd_norm_layer(g, "norm", reduced, EPS_EMBED);
    }
    kv = kd_linear_layer(g, "kv", reduced, 2 * dim, true, KD_STYLE_PVT);
    x  = kd_attention(g, q, kv, heads, 1.0f / sqrtf((float)(dim / heads)));
    x  = kd_linear_layer(g, "proj", x, dim, true, KD_STYLE_PVT);
    kd_scope_end(g);
    return x;
}

static kd_node *mlp(kd_graph *g, kd_node *x, int dim, int hidden)
{
    kd_scope(g, "mlp");
    x = kd_linear_layer(g, "fc1", x, hidden, true, KD_STYLE_PVT);
    x = kd_dwconv_layer(g, "dwconv.dwconv", x);
    x = kd_gelu_layer(g, "act", x);
    x = kd_linear_layer(g, "fc2", x, dim, true, KD_STYLE_PVT);
    kd_scope_end(g);
    return x;
}

static kd_node *block(kd_graph *g, kd_node *x, const config *c, int s, float drop)
{
    kd_node *y;

    y = kd_norm_layer(g, "norm1", x, EPS_BLOCK);
    y = attention(g, y, c->dim[s], c->head[s], c->sr[s]);
    x = kd_residual(g, x, y, drop);
    y = kd_norm_layer(g, "norm2", x, EPS_BLOCK);
    y = mlp(g, y, c->dim[s], c->dim[s] * c->ratio[s]);
    return kd_residual(g, x, y, drop);
}

void kd_pvt_v2(kd_graph *g, kd_node *image, int variant, float drop_path, kd_node *map[4])
{
    const config *c      = &configs[variant];
    int           blocks = c->depth[0] + c->depth[1] + c->depth[2] + c->depth[3], done = 0;
    kd_node      *x = image;

    for (int s = 0; s < 4; s++) {
        char name[8];

        x = patch_embed(g, s, x, c->dim[s]);
        for (int i = 0; i < c->depth[s]; i++, done++) {
            kd_scope(g, "block%d.%d", s + 1, i);
            x = block(g, x, c, s, drop_path * (float)done / (float)(blocks - 1));
            kd_scope_end(g);
        }
        snprintf(name, sizeof name, "norm%d", s + 1);
        x      = kd_norm_layer(g, name, x, EPS_BLOCK);
        map[s] = x;
    }
}

void kd_build_pvt_v2(kd_graph *g, kd_node *image, int variant, float drop_path)
{
    static const char *const name[4] = { "x1", "x2", "x3", "x4" };
    kd_node                 *map[4];

    kd_pvt_v2(g, image, variant, drop_path, map);
    for (int s = 0; s < 4; s++)
        kd_tap(g, name[s], kd_output(g, name[s], map[s]));
}

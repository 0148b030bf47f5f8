/* thin.c - see thin.h. The linker (--wrap) sends the networks' calls of their backbone or its layers here, and draws of
 * normal numbers. */
#include "support/thin.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/base.h"
#include "model/pvt_v2.h"

void __real_kd_pvt_v2(kd_graph *g, kd_node *image, int variant, float drop_path, kd_node *map[4]);
void __wrap_kd_pvt_v2(kd_graph *g, kd_node *image, int variant, float drop_path, kd_node *map[4]);

kd_node *__real_kd_same_conv_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride);
kd_node *__wrap_kd_same_conv_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride);
double __real_kd_random_normal(kd_random *r);
double __wrap_kd_random_normal(kd_random *r);

static bool thin, quick;

void kd_test_thin_networks(void) { thin = true; }
void kd_test_quick_values(bool q) { quick = q; }

double __wrap_kd_random_normal(kd_random *r)
{
    uint64_t draw, sum;

    if (!quick) return __real_kd_random_normal(r);
    draw = kd_random_u64(r);
    r->counter++; /* a number takes two draws */
    sum = (draw & 0xffff) + (draw >> 16 & 0xffff) + (draw >> 32 & 0xffff) + (draw >> 48);
    return ((double)sum / 65535 - 2) * 1.7320508075688772; /* each has the variance 1/12 */
}

enum { STAGES = 4, HEADS = 2, RATIO = 2 };

static kd_node *attention(kd_graph *g, kd_node *x, int dim, int reduction)
{
    kd_node *q, *kv, *reduced = x;

    kd_scope(g, "attn");
    q = kd_linear_layer(g, "q", x, dim, true, KD_STYLE_PVT);
    if (reduction > 1) {
        reduced = kd_conv_layer(g, "sr", x, dim, reduction, reduction, 0, true, KD_STYLE_PVT);
        reduced = kd_norm_layer(g, "norm", reduced, 1e-5f);
    }
    kv = kd_linear_layer(g, "kv", reduced, 2 * dim, true, KD_STYLE_PVT);
    x  = kd_attention(g, q, kv, HEADS, 1 / sqrtf((float)(dim / HEADS)));
    x  = kd_linear_layer(g, "proj", x, dim, true, KD_STYLE_PVT);
    kd_scope_end(g);
    return x;
}

static kd_node *mlp(kd_graph *g, kd_node *x, int dim)
{
    kd_scope(g, "mlp");
    x = kd_linear_layer(g, "fc1", x, RATIO * dim, true, KD_STYLE_PVT);
    x = kd_dwconv_layer(g, "dwconv.dwconv", x);
    x = kd_gelu_layer(g, "act", x);
    x = kd_linear_layer(g, "fc2", x, dim, true, KD_STYLE_PVT);
    kd_scope_end(g);
    return x;
}

/* A stage with the names of PVTv2's. */
static kd_node *stage(kd_graph *g, int s, kd_node *x, int dim, float drop)
{
    char name[16];
    int  k = s ? 3 : 7, reduction = 8 >> s;

    kd_scope(g, "patch_embed%d", s + 1);
    x = kd_conv_layer(g, "proj", x, dim, k, s ? 2 : 4, k / 2, true, KD_STYLE_PVT);
    x = kd_norm_layer(g, "norm", x, 1e-5f);
    kd_scope_end(g);
    kd_scope(g, "block%d.0", s + 1);
    x = kd_residual(g, x, attention(g, kd_norm_layer(g, "norm1", x, 1e-6f), dim, reduction), drop);
    x = kd_residual(g, x, mlp(g, kd_norm_layer(g, "norm2", x, 1e-6f), dim), drop);
    kd_scope_end(g);
    snprintf(name, sizeof name, "norm%d", s + 1);
    return kd_norm_layer(g, name, x, 1e-6f);
}

void __wrap_kd_pvt_v2(kd_graph *g, kd_node *image, int variant, float drop_path, kd_node *map[4])
{
    static const int dims[STAGES] = { 16, 16, 32, 32 };

    if (!thin) {
        __real_kd_pvt_v2(g, image, variant, drop_path, map);
        return;
    }
    for (int s = 0; s < STAGES; s++)
        image = map[s] = stage(g, s, image, variant ? 2 * dims[s] : dims[s],
                               drop_path * (float)s / (STAGES - 1));
}

kd_node *__wrap_kd_same_conv_layer(kd_graph *g, const char *name, kd_node *x, int64_t out, int k, int stride)
{
    if (thin && strcmp(name, "_expand_conv") == 0) out = kd_shape(x).dim[3];
    return __real_kd_same_conv_layer(g, name, x, out, k, stride);
}

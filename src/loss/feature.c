/* feature.c - kinds of feature guidance. Each is a function of a pair of taps. To add one, add
 * its function and a row. docs/features.md has the equations. */
#include "loss/feature.h"
#include <stdio.h>
#include <string.h>
#include "nn/nn.h"

#define STANDARDIZE_EPS 1e-4f
#define NORM_EPS        1e-6f

/* ---- kinds ---- */

/* Normalised feature distillation (arXiv 2207.05256): squared error of standardised features. */
static kd_node *normalised(kd_graph *g, kd_node *s, kd_node *t, const kdas_loss_options *o)
{
    (void)o;
    return kd_mean(g, kd_square_error(g, kd_standardize(g, s, STANDARDIZE_EPS),
                                      kd_standardize(g, t, STANDARDIZE_EPS)));
}

/* 1 - cosine over the channels, mean over positions. */
static kd_node *cosine(kd_graph *g, kd_node *s, kd_node *t, const kdas_loss_options *o)
{
    kd_node *product = kd_mul(g, kd_normalize(g, s, NORM_EPS), kd_normalize(g, t, NORM_EPS));

    (void)o;
    return kd_scale(g, kd_mean(g, product), -(float)kd_shape(t).dim[3], 1);
}

/* (N,H,W,C) as a distribution over space for each image and channel: (N C,1,1,H W). */
static kd_node *channels_first(kd_graph *g, kd_node *x)
{
    kdas_desc d    = kd_shape(x);
    int64_t   area = d.dim[1] * d.dim[2];

    x = kd_transpose(g, kd_reshape(g, x, d.dim[0], 1, area, d.dim[3]));
    return kd_reshape(g, x, d.dim[0] * d.dim[3], 1, 1, area);
}

/* Channel-wise distillation (arXiv 2011.13256): each channel is a distribution over space. */
static kd_node *channel(kd_graph *g, kd_node *s, kd_node *t, const kdas_loss_options *o)
{
    return kd_mean(g, kd_kl(g, channels_first(g, s), channels_first(g, t), o->feature_tau));
}

/* The energy of each position over its channels, with norm 1 in each image: (N,1,1,H W). */
static kd_node *energy(kd_graph *g, kd_node *x)
{
    kdas_desc d = kd_shape(x);
    kd_node  *e = kd_channel_mean(g, kd_mul(g, x, x));

    return kd_normalize(g, kd_reshape(g, e, d.dim[0], 1, 1, d.dim[1] * d.dim[2]), NORM_EPS);
}

/* Attention transfer (arXiv 1612.03928): squared error of the energies. */
static kd_node *attention(kd_graph *g, kd_node *s, kd_node *t, const kdas_loss_options *o)
{
    (void)o;
    return kd_mean(g, kd_square_error(g, energy(g, s), energy(g, t)));
}

static const kd_feature_kind kinds[] = {
    { "none", false, NULL },      { "normalised", true, normalised }, { "cosine", true, cosine },
    { "channel", true, channel }, { "attention", false, attention },
};

const kd_feature_kind *kd_feature_find(const char *name)
{
    for (size_t i = 0; i < KD_COUNT(kinds); i++)
        if (strcmp(kinds[i].name, name) == 0) return &kinds[i];
    kd_fail(KDAS_ENOTFOUND, "there is no feature guidance '%.32s'", name);
    return NULL;
}

/* ---- all pairs ---- */

void kd_feature_input(char to[KD_FEATURE_NAME], const char *whose, const char *tap)
{
    snprintf(to, KD_FEATURE_NAME, "%s.%s", whose, tap);
}

/* A tap may be in several pairs. It is one input. */
static kd_node *input(kd_graph *g, const char *whose, const char *tap, kdas_desc shape, bool grad)
{
    char     name[KD_FEATURE_NAME];
    kd_node *node;

    kd_feature_input(name, whose, tap);
    node = kd_find(g, name);
    return node ? node : kd_input(g, name, shape, grad);
}

/* The projection has no bias. Standardising and a softmax over space remove any constant of a
 * channel. The bias gradient would be rounding errors, which AdamW would turn into steps. */
static kd_node *term(kd_graph *g, const kd_feature_kind *kind, const kdas_loss_options *o,
                     const kd_feature_pair *pair, int i)
{
    kd_node  *t    = input(g, "teacher", pair->teacher, pair->teacher_shape, false);
    kd_node  *s    = input(g, "student", pair->student, pair->student_shape, true);
    kdas_desc want = kd_shape(t), have = kd_shape(s);
    char      name[32];

    snprintf(name, sizeof name, "projection%d", i);
    if (kind->projects) s = kd_linear_layer(g, name, s, want.dim[3], false, KD_STYLE_TORCH);
    if (have.dim[1] != want.dim[1] || have.dim[2] != want.dim[2])
        s = kd_resize(g, s, want.dim[1], want.dim[2], false, 0);
    return kind->build(g, s, t, o);
}

kd_node *kd_feature_build(kd_graph *g, const kd_feature_kind *kind, const kdas_loss_options *o,
                          const kd_feature_pair *pair, int pairs)
{
    kd_node *sum = NULL;

    for (int i = 0; i < pairs; i++) {
        kd_node *value = term(g, kind, o, &pair[i], i);

        sum = i == 0 ? value : kd_add(g, sum, value);
    }
    if (pairs > 1) sum = kd_scale(g, sum, 1.0f / (float)pairs, 0);
    return kd_output(g, "feature", sum);
}

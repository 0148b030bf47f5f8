/* guidance.c - what the teacher's maps ask of the student's (arXiv 2312.08555, Eq. 1-6). To add a kind: its
 * functions and a row. Equation numbers are the paper's; docs/objective.md says what it leaves open. */
#include <math.h>
#include <string.h>
#include "loss/loss.h"
#include "op/build.h"

static kdas_desc shape(const kd_node *node)
{
    return node ? node->desc.out : (kdas_desc){ KDAS_F32, 4, { 0, 0, 0, 0 } };
}

/* A map (N,H,W,1) as a matrix for each image, rows of width W: (N,1,H,W). */
static kd_node *as_matrix(kd_graph *g, kd_node *map)
{
    kdas_desc s = shape(map);

    return kd_reshape(g, map, s.dim[0], 1, s.dim[1], s.dim[2]);
}

/* Eq. 1, 2: self-attention of one supervision map, softmax(X X^T / sqrt(W)) X; rows are tokens. */
static kd_node *attention(kd_graph *g, kd_node *map)
{
    kd_node *x     = as_matrix(g, map);
    float    scale = x ? 1.0f / sqrtf((float)shape(x).dim[3]) : 0;

    return kd_matmul(g, kd_softmax(g, kd_matmul(g, x, x, false, true, scale)), x, false, false, 1);
}

/* Eq. 4, 5: the symmetrical structure (N,1,H,H) of an attention map. */
static kd_node *symmetrical(kd_graph *g, kd_node *a, const char *kind)
{
    kd_node *c;

    if (!a) return NULL;
    if (strcmp(kind, "sum") == 0) {
        if (shape(a).dim[2] != shape(a).dim[3])
            return kd_graph_fail(g, KDAS_ESHAPE, "sym \"sum\" wants square maps, not %lldx%lld",
                                 (long long)shape(a).dim[2], (long long)shape(a).dim[3]);
        return kd_add(g, a, kd_transpose(g, a));
    }
    c = kd_center(g, a); /* the row covariance */
    return kd_matmul(g, c, c, false, true, 1.0f / (float)shape(a).dim[3]);
}

/* Eq. 3, 6: tau^2 / N sum_n KL(softmax(t_n / tau) || softmax(s_n / tau)), n over what `axis` says. */
static kd_node *kl(kd_graph *g, kd_node *s, kd_node *t, const kdas_loss_options *o)
{
    kdas_desc d             = shape(s);
    int64_t   distributions = d.dim[0], each;

    if (!s || !t) return NULL;
    if (strcmp(o->axis, "row") == 0) distributions = d.dim[0] * d.dim[1] * d.dim[2];
    if (strcmp(o->axis, "channel") == 0) distributions = kd_elements(&d);
    each = kd_elements(&d) / distributions;
    s    = kd_reshape(g, s, distributions, 1, 1, each);
    t    = kd_reshape(g, t, distributions, 1, 1, each);
    return kd_mean(g, kd_kl(g, s, t, o->tau));
}

static kd_node *kl_term(kd_graph *g, kd_loss_map *m, const kdas_loss_options *o)
{
    return kl(g, as_matrix(g, m->student), as_matrix(g, m->teacher), o);
}

/* Both terms read the attention: whoever comes first builds it. */
static void attend(kd_graph *g, kd_loss_map *m)
{
    if (!m->student_attention) m->student_attention = attention(g, m->student);
    if (!m->teacher_attention) m->teacher_attention = attention(g, m->teacher);
}

static kd_node *attention_term(kd_graph *g, kd_loss_map *m, const kdas_loss_options *o)
{
    attend(g, m);
    return kl(g, m->student_attention, m->teacher_attention, o);
}

static kd_node *sgm_term(kd_graph *g, kd_loss_map *m, const kdas_loss_options *o)
{
    attend(g, m);
    return kl(g, symmetrical(g, m->student_attention, o->sym),
              symmetrical(g, m->teacher_attention, o->sym), o);
}

/* As the published code runs: the squared difference of P + P^T. */
static kd_node *published_term(kd_graph *g, kd_loss_map *m, const kdas_loss_options *o)
{
    (void)o;
    return kd_mean(g, kd_square_error(g, symmetrical(g, as_matrix(g, m->student), "sum"),
                                      symmetrical(g, as_matrix(g, m->teacher), "sum")));
}

/* The SGM reads the deepest map alone, in the published code the first. */
static const kd_guidance rows[] = {
    { "none", NULL, NULL, KD_DEEPEST_MAP },
    { "kl", kl_term, NULL, KD_DEEPEST_MAP },
    { "attention", attention_term, NULL, KD_DEEPEST_MAP },
    { "attention+sgm", attention_term, sgm_term, KD_DEEPEST_MAP },
    { "published", kl_term, published_term, KD_FIRST_MAP },
};

const kd_guidance *kd_guidance_find(const char *name)
{
    for (size_t i = 0; i < KD_COUNT(rows); i++)
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    kd_fail(KDAS_ENOTFOUND, "there is no guidance '%.32s'", name);
    return NULL;
}

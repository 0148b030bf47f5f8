/* guidance.c - guidance of the student's maps by the teacher's (arXiv 2312.08555, Eq. 1-6). To
 * add a kind, add its functions and a row. Equation numbers are the paper's. docs/objective.md
 * says what the paper leaves open. */
#include <math.h>
#include <string.h>
#include "loss/loss.h"
#include "graph/build.h"

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

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

/* `count` items (images or rows), each as one row: (count,1,1,.). */
static kd_node *as_rows(kd_graph *g, kd_node *x, int64_t count)
{
    kdas_desc d = shape(x);

    return kd_reshape(g, x, count, 1, 1, kd_elements(&d) / KD_MAX(count, 1));
}

#define EPS 1e-6f /* the least norm that is divided by */

/* The form of a map that guidance reads. Standardised: the map less the mean of its image, over
 * its deviation. */
static kd_node *read_map(kd_graph *g, kd_node *map, const char *input)
{
    kdas_desc s = shape(map);
    kd_node  *x;

    if (!map || is(input, "logits")) return map;
    if (is(input, "probability")) return kd_sigmoid(g, map);
    x = kd_normalize(g, kd_center(g, as_rows(g, map, s.dim[0])), EPS);
    x = kd_scale(g, x, sqrtf((float)(s.dim[1] * s.dim[2])), 0);
    return kd_reshape(g, x, s.dim[0], s.dim[1], s.dim[2], 1);
}

/* Every term reads this form. The first term that needs it builds it. */
static void read_maps(kd_graph *g, kd_loss_map *m, const kdas_loss_options *o)
{
    if (!m->student_read) m->student_read = read_map(g, m->student, o->input);
    if (!m->teacher_read) m->teacher_read = read_map(g, m->teacher, o->input);
}

/* Eq. 1, 2: self-attention of one supervision map, softmax(X X^T / sqrt(W)) X. Rows are tokens.
 * Cosine: rows are compared by their angle only. */
static kd_node *attention(kd_graph *g, kd_node *map, const char *similarity)
{
    kd_node *x = as_matrix(g, map), *u = x;
    float    scale = x ? 1.0f / sqrtf((float)shape(x).dim[3]) : 0;

    if (is(similarity, "cosine")) {
        u     = kd_normalize(g, x, EPS);
        scale = 10;
    }
    return kd_matmul(g, kd_softmax(g, kd_matmul(g, u, u, false, true, scale)), x, false, false, 1);
}

/* Eq. 4, 5: the symmetrical structure (N,1,H,H) of an attention map. */
static kd_node *symmetrical(kd_graph *g, kd_node *a, const char *kind)
{
    kd_node *c;

    if (!a) return NULL;
    if (is(kind, "sum")) {
        if (shape(a).dim[2] != shape(a).dim[3])
            return kd_graph_fail(g, KDAS_ESHAPE, "sym \"sum\" wants square maps, not %lldx%lld",
                                 (long long)shape(a).dim[2], (long long)shape(a).dim[3]);
        return kd_add(g, a, kd_transpose(g, a));
    }
    c = kd_center(g, a);
    if (is(kind, "correlation")) {
        c = kd_normalize(g, c, EPS);
        return kd_matmul(g, c, c, false, true, 1);
    }
    return kd_matmul(g, c, c, false, true, 1.0f / (float)shape(a).dim[3]); /* the row covariance */
}

/* tau^2 mean KL(bernoulli(t / tau) || bernoulli(s / tau)). Every value is the logit of a pixel. */
static kd_node *kl_pixel(kd_graph *g, kd_node *s, kd_node *t, float tau)
{
    kd_node *far = kd_scale(g, t, 1 / tau, 0), *p = kd_sigmoid(g, far);
    kd_node *cross = kd_bce(g, kd_scale(g, s, 1 / tau, 0), p, NULL), *own = kd_bce(g, far, p, NULL);

    return kd_scale(g, kd_mean(g, kd_sub(g, cross, own)), tau * tau, 0);
}

/* 1 - the mean of Pearson's correlations of rows, (count,1,1,each). */
static kd_node *pearson(kd_graph *g, kd_node *s, kd_node *t)
{
    float each = (float)shape(s).dim[3];

    s = kd_normalize(g, kd_center(g, s), EPS);
    t = kd_normalize(g, kd_center(g, t), EPS);
    return kd_scale(g, kd_mean(g, kd_mul(g, s, t)), -each, 1);
}

/* The distance of s from t. The default is Eq. 3, 6: tau^2 / N sum_n KL(softmax(t_n / tau) ||
 * softmax(s_n / tau)). `axis` selects what n counts. */
static kd_node *distance(kd_graph *g, kd_node *s, kd_node *t, const kdas_loss_options *o)
{
    kdas_desc d     = shape(s);
    int64_t   count = d.dim[0];

    if (!s || !t) return NULL;
    if (is(o->distance, "squared")) return kd_mean(g, kd_square_error(g, s, t));
    if (is(o->axis, "pixel")) return kl_pixel(g, s, t, o->tau);
    if (is(o->axis, "row")) count = d.dim[0] * d.dim[1] * d.dim[2];
    if (is(o->axis, "channel")) count = kd_elements(&d);
    s = as_rows(g, s, count);
    t = as_rows(g, t, count);
    return is(o->distance, "pearson") ? pearson(g, s, t) : kd_mean(g, kd_kl(g, s, t, o->tau));
}

static kd_node *kl_term(kd_graph *g, kd_loss_map *m, const kdas_loss_options *o)
{
    read_maps(g, m, o);
    return distance(g, as_matrix(g, m->student_read), as_matrix(g, m->teacher_read), o);
}

/* Both terms read the attention. The first term that needs it builds it. */
static void attend(kd_graph *g, kd_loss_map *m, const kdas_loss_options *o)
{
    read_maps(g, m, o);
    if (!m->student_attention) m->student_attention = attention(g, m->student_read, o->similarity);
    if (!m->teacher_attention) m->teacher_attention = attention(g, m->teacher_read, o->similarity);
}

static kd_node *attention_term(kd_graph *g, kd_loss_map *m, const kdas_loss_options *o)
{
    attend(g, m, o);
    return distance(g, m->student_attention, m->teacher_attention, o);
}

static kd_node *sgm_term(kd_graph *g, kd_loss_map *m, const kdas_loss_options *o)
{
    attend(g, m, o);
    return distance(g, symmetrical(g, m->student_attention, o->sym),
                    symmetrical(g, m->teacher_attention, o->sym), o);
}

/* As in the published code: the squared difference of P + P^T. */
static kd_node *published_term(kd_graph *g, kd_loss_map *m, const kdas_loss_options *o)
{
    read_maps(g, m, o);
    return kd_mean(g, kd_square_error(g, symmetrical(g, as_matrix(g, m->student_read), "sum"),
                                      symmetrical(g, as_matrix(g, m->teacher_read), "sum")));
}

/* The SGM reads only the deepest map. In the published code that is the first. */
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

/* bench_conditioning.c - how well guidance is conditioned: what the softmaxes of the objective do with maps of large
 * logits, and how much each way of guiding sends beside the segmentation term. docs/objective.md has the figures.
 *
 *   bench_conditioning [-s] [MAP.png]...
 *
 * Without files: drawn maps, one polyp with soft edges, logits of +-2, +-6 and +-8, 96 and 352 pixels wide. A file is
 * a teacher's map, grey, 0 to 255 for a probability of 0 to 1; the student's is the same, six pixels further and a
 * little noisy. -s: the softmaxes alone.
 *
 * score: the largest of x x'. weight: the largest that a row of the attention gives, mean over the rows. sources: the
 * rows that hold 99 % of all weights. entries: those of the structure's softmax that hold 99 % of it. tenth of rows: the
 * part of the energy of kd's gradient in the tenth of the rows that has most. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <kdas/kdas.h>

typedef struct maps {
    const char *name;
    int         h, w;
    float      *student, *teacher, *mask, *gradient;
} maps;

static void die_on(kdas_status st)
{
    if (st == KDAS_OK) return;
    fprintf(stderr, "bench_conditioning: %s\n", kdas_last_error());
    exit(EXIT_FAILURE);
}

static void *need(size_t count, size_t size)
{
    void *p = calloc(count, size);

    if (!p) die_on(KDAS_ENOMEM);
    return p;
}

static void make_room(maps *m, int h, int w)
{
    size_t n = (size_t)h * (size_t)w;

    m->h        = h;
    m->w        = w;
    m->student  = need(n, sizeof(float));
    m->teacher  = need(n, sizeof(float));
    m->mask     = need(n, sizeof(float));
    m->gradient = need(n, sizeof(float));
}

static void free_room(maps *m)
{
    free(m->student);
    free(m->teacher);
    free(m->mask);
    free(m->gradient);
}

/* ---- maps ---- */

/* -1 to 1, the same on every machine. */
static double noise(unsigned *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (double)(*state >> 8) / (double)(1 << 23) - 1;
}

/* How far inside the polyp: above 0 within, 1 and more from its middle on. */
static double depth(const maps *m, int i, int j, double y, double x)
{
    return 1 - hypot((i - y * m->h) / (0.21 * m->h), (j - x * m->w) / (0.27 * m->w));
}

static void draw(maps *m, int side, double most)
{
    unsigned seed = 1;

    make_room(m, side, side);
    for (int i = 0; i < side; i++)
        for (int j = 0; j < side; j++) {
            int at = i * side + j;

            m->student[at] =
                (float)(most * tanh(4 * depth(m, i, j, 0.52, 0.46)) + 0.06 * most * noise(&seed));
            m->teacher[at] =
                (float)(most * tanh(4 * depth(m, i, j, 0.48, 0.52)) + 0.06 * most * noise(&seed));
            m->mask[at] = depth(m, i, j, 0.48, 0.53) > 0;
        }
}

static void read_map(maps *m, kdas_context *ctx, const char *path)
{
    kdas_image *image;
    kdas_view   v;
    unsigned    seed = 1;

    die_on(kdas_image_load(&image, ctx, path, KDAS_PIXEL_GREY8));
    v = kdas_image_view(image);
    make_room(m, (int)v.height, (int)v.width);
    for (int i = 0; i < m->h; i++)
        for (int j = 0; j < m->w; j++) {
            const unsigned char *row = (const unsigned char *)v.data + i * (int64_t)v.width;
            double               p = (row[j] + 0.5) / 256, q = (row[j < 6 ? 0 : j - 6] + 0.5) / 256;
            int                  at = i * m->w + j;

            m->teacher[at] = (float)log(p / (1 - p));
            m->student[at] = (float)(log(q / (1 - q)) + 0.3 * noise(&seed));
            m->mask[at]    = p > 0.5;
        }
    kdas_image_destroy(image);
}

/* ---- softmaxes ---- */

/* Scores of rows -> weights, in place. */
static void softmax(double *x, int n)
{
    double most = x[0], sum = 0;

    for (int i = 1; i < n; i++)
        most = fmax(most, x[i]);
    for (int i = 0; i < n; i++)
        sum += x[i] = exp(x[i] - most);
    for (int i = 0; i < n; i++)
        x[i] /= sum;
}

static double dot(const double *a, const double *b, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* out(h,h) = factor x x^T; `unit`: of rows over their norm. */
static void products(double *out, const double *x, int h, int w, double factor, bool unit)
{
    for (int i = 0; i < h; i++)
        for (int j = 0; j < h; j++) {
            const double *a = x + i * w, *b = x + j * w;
            double        norm = unit ? sqrt(dot(a, a, w) * dot(b, b, w)) : 1;

            out[i * h + j] = factor * dot(a, b, w) / fmax(norm, 1e-12);
        }
}

static int falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x < y) - (x > y);
}

/* How many entries of p, which sum to 1, hold 99 % of that; p is sorted. */
static int entries_of_most(double *p, int n)
{
    double sum  = 0;
    int    used = 0;

    qsort(p, (size_t)n, sizeof *p, falling);
    while (used < n && sum < 0.99)
        sum += p[used++];
    return used;
}

static void tell_softmaxes(const maps *m, bool cosine)
{
    int     h = m->h, w = m->w, sources;
    double *x = need((size_t)h * (size_t)w, sizeof *x), *a = need((size_t)h * (size_t)w, sizeof *a);
    double *s = need((size_t)h * (size_t)h, sizeof *s), *from = need((size_t)h, sizeof *from);
    double  mean = 0, most;

    for (int i = 0; i < h * w; i++)
        x[i] = (double)m->student[i];
    products(s, x, h, w, cosine ? 10 : 1 / sqrt(w), cosine);
    most = s[0];
    for (int i = 0; i < h; i++) {
        double largest = 0;

        for (int j = 0; j < h; j++)
            most = fmax(most, s[i * h + j]);
        softmax(s + i * h, h);
        for (int j = 0; j < h; j++)
            largest = fmax(largest, s[i * h + j]);
        mean += largest / h;
        for (int j = 0; j < h; j++)
            from[j] += s[i * h + j] / h;
        for (int j = 0; j < w; j++) {
            a[i * w + j] = 0;
            for (int k = 0; k < h; k++)
                a[i * w + j] += s[i * h + k] * x[k * w + j];
        }
    }
    sources = entries_of_most(from, h);
    for (int i = 0; i < h; i++) { /* the structure of the attention, less the means of its rows */
        double middle = 0;

        for (int j = 0; j < w; j++)
            middle += a[i * w + j] / w;
        for (int j = 0; j < w; j++)
            a[i * w + j] -= middle;
    }
    products(s, a, h, w, cosine ? 1 : 1.0 / w, cosine);
    for (int i = 0; i < h * h; i++)
        s[i] /= 2; /* tau */
    softmax(s, h * h);
    printf("%-22s %4d %-22s %8.1f %8.3f %8d %9.1f %%\n", m->name, w,
           cosine ? "cosine, correlation" : "dot, covariance", most, mean, sources,
           100.0 * entries_of_most(s, h * h) / (h * h));
    free(from);
    free(x);
    free(a);
    free(s);
}

/* ---- gradients ---- */

static const struct {
    const char *name, *guidance, *sym, *axis, *input, *similarity, *distance;
} ways[] = {
    { "the paper's", "attention+sgm", "covariance", "spatial", "logits", "dot", "kl" },
    { "cosine, correlation", "attention+sgm", "correlation", "spatial", "logits", "cosine", "kl" },
    { "the same, pearson", "attention+sgm", "correlation", "spatial", "logits", "cosine",
      "pearson" },
    { "the same, standardised", "attention+sgm", "correlation", "spatial", "standardised", "cosine",
      "kl" },
    { "kl, spatial", "kl", "covariance", "spatial", "logits", "dot", "kl" },
    { "kl, pixel", "kl", "covariance", "pixel", "logits", "dot", "kl" },
    { "squared, probability", "kl", "covariance", "spatial", "probability", "dot", "squared" },
    { "pearson", "kl", "covariance", "spatial", "logits", "dot", "pearson" },
};

/* Of the gradient's energy, the part in the tenth of the rows that has most of it. */
static double few_rows(const maps *m)
{
    double *row = need((size_t)m->h, sizeof *row), all = 0, most = 0;

    for (int i = 0; i < m->h * m->w; i++)
        row[i / m->w] += (double)m->gradient[i] * (double)m->gradient[i];
    qsort(row, (size_t)m->h, sizeof *row, falling);
    for (int i = 0; i < m->h; i++) {
        all += row[i];
        if (i < m->h / 10) most += row[i];
    }
    free(row);
    return most / fmax(all, 1e-300);
}

static void tell_gradients(const maps *m, kdas_context *ctx, int way)
{
    const float      *sm[] = { m->student }, *tm[] = { m->teacher };
    float            *gm[] = { m->gradient };
    kdas_maps         s = { sm, 1, 1, m->h, m->w }, t = { tm, 1, 1, m->h, m->w };
    kdas_loss_options o;
    kdas_loss_report  r = { .size = sizeof r };
    kdas_loss        *loss;
    double            rows;

    kdas_loss_options_init(&o, sizeof o);
    o.guidance   = ways[way].guidance;
    o.sym        = ways[way].sym;
    o.axis       = ways[way].axis;
    o.input      = ways[way].input;
    o.similarity = ways[way].similarity;
    o.distance   = ways[way].distance;
    for (int k = 0; k < 2; k++) { /* kd alone, for its rows; then all, for the ratios */
        o.seg_weight = (float)k;
        o.sgm_weight = (float)k;
        die_on(kdas_loss_create(&loss, ctx, &o));
        die_on(kdas_loss_evaluate(loss, &s, &t, m->mask, gm, &r));
        if (k == 0) rows = few_rows(m);
        kdas_loss_destroy(loss);
    }
    printf("%-22s %4d %-22s %10.3g %10.3g %10.3g %9.0f %%\n", m->name, m->w, ways[way].name,
           r.gradient[KDAS_TERM_SEG], r.gradient[KDAS_TERM_KD] / r.gradient[KDAS_TERM_SEG],
           r.gradient[KDAS_TERM_SGM] / r.gradient[KDAS_TERM_SEG], 100 * rows);
}

/* ---- all ---- */

static void tell(maps *m, int count, kdas_context *ctx, bool gradients)
{
    printf("%-22s %4s %-22s %8s %8s %8s %11s\n", "maps", "W", "attention and sym", "score",
           "weight", "sources", "entries");
    for (int i = 0; i < count; i++)
        for (int cosine = 0; cosine < 2; cosine++)
            tell_softmaxes(&m[i], cosine);
    if (!gradients) return;
    printf("\n%-22s %4s %-22s %10s %10s %10s %11s\n", "maps", "W", "guidance", "seg sends",
           "kd/seg", "sgm/seg", "tenth of rows");
    for (int i = 0; i < count; i++)
        for (size_t way = 0; way < sizeof ways / sizeof *ways; way++)
            tell_gradients(&m[i], ctx, (int)way);
}

enum { MOST_MAPS = 32 };

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        double      most;
        int         side;
    } drawn[] = { { "drawn, +-2", 2, 96 },  { "drawn, +-6", 6, 96 },  { "drawn, +-8", 8, 96 },
                  { "drawn, +-2", 2, 352 }, { "drawn, +-6", 6, 352 }, { "drawn, +-8", 8, 352 } };
    bool          alone = argc > 1 && strcmp(argv[1], "-s") == 0;
    int           first = alone ? 2 : 1, count = 0;
    maps          all[MOST_MAPS] = { 0 };
    kdas_context *ctx;

    die_on(kdas_context_create(&ctx, NULL));
    for (int i = first; i < argc && count < MOST_MAPS; i++) {
        const char *slash = strrchr(argv[i], '/');

        all[count].name = slash ? slash + 1 : argv[i];
        read_map(&all[count++], ctx, argv[i]);
    }
    for (size_t i = 0; first == argc && i < sizeof drawn / sizeof *drawn; i++) {
        all[count].name = drawn[i].name;
        draw(&all[count++], drawn[i].side, drawn[i].most);
    }
    tell(all, count, ctx, !alone);
    for (int i = 0; i < count; i++)
        free_room(&all[i]);
    kdas_context_destroy(ctx);
    return 0;
}

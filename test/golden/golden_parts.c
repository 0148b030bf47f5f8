/* golden_parts.c - kinds objective, metrics, resize: parts that need no network. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "golden/golden.h"

/* ---- objective ---- */

typedef struct maps {
    float  *s[2], *t[2], *y, *g[2];
    int64_t n;
} maps;

static bool load_maps(const golden_case *c, maps *m)
{
    int64_t n;

    m->s[0] = golden_tensor(c, c->name, "s1", &m->n, NULL);
    m->s[1] = golden_tensor(c, c->name, "s2", &n, NULL);
    m->t[0] = golden_tensor(c, c->name, "t1", &n, NULL);
    m->t[1] = golden_tensor(c, c->name, "t2", &n, NULL);
    m->y    = golden_tensor(c, c->name, "y", &n, NULL);
    for (int i = 0; i < 2; i++)
        m->g[i] = malloc((size_t)m->n * sizeof(float));
    return m->s[0] && m->s[1] && m->t[0] && m->t[1] && m->y && m->g[0] && m->g[1];
}

static void free_maps(maps *m)
{
    for (int i = 0; i < 2; i++) {
        free(m->s[i]);
        free(m->t[i]);
        free(m->g[i]);
    }
    free(m->y);
}

/* Element by element, relative to the largest. */
static void compare_gradient(golden_case *c, const char *key, int i, const float *got, int64_t n)
{
    char    name[GOLDEN_TEXT];
    int64_t count;
    float  *want;
    double  worst = 0, largest = 0;

    snprintf(name, sizeof name, "grad%d|%s", i + 1, key);
    want = golden_tensor(c, c->name, name, &count, NULL);
    if (!want) return; /* kept for some rows only */
    for (int64_t k = 0; k < n; k++) {
        worst   = fmax(worst, fabs((double)got[k] - (double)want[k]));
        largest = fmax(largest, fabs((double)want[k]));
    }
    golden_note(c, count == n ? worst / fmax(largest, 1e-30) / 2 : INFINITY, name);
    free(want);
}

static double relative(double got, double want)
{
    return fabs(got - want) / fmax(fabs(want), 1e-3);
}

static bool objective_row(golden_case *c, maps *m, char *const *cell, int64_t h, int64_t w)
{
    char              key[GOLDEN_TEXT], *save, *text;
    kdas_loss_options o;
    kdas_loss_report  r    = { .size = sizeof r };
    kdas_loss        *loss = NULL;
    kdas_maps         s    = { (const float *const *)m->s, 2, m->n / (h * w), h, w };
    kdas_maps         t    = { (const float *const *)m->t, 2, m->n / (h * w), h, w };
    bool              ran  = false;

    snprintf(key, sizeof key, "%s", cell[0]);
    text = key;
    kdas_loss_options_init(&o, sizeof o);
    o.seg      = strtok_r(text, "|", &save);
    o.guidance = strtok_r(NULL, "|", &save);
    o.sym      = strtok_r(NULL, "|", &save);
    o.tau      = (float)atof(strtok_r(NULL, "|", &save));
    GOLDEN_DO(c, kdas_loss_create(&loss, c->ctx, &o));
    GOLDEN_DO(c, kdas_loss_evaluate(loss, &s, &t, m->y, m->g, &r));
    golden_note(c, relative(r.total, strtod(cell[1], NULL)), cell[0]);
    for (int i = 0; i <= KDAS_TERM_SGM; i++)
        golden_note(c, relative(r.raw[i], strtod(cell[2 + i], NULL)), cell[0]);
    for (int i = 0; i < 2; i++)
        compare_gradient(c, cell[0], i, m->g[i], m->n);
    ran = true;
done:
    kdas_loss_destroy(loss);
    return ran;
}

bool golden_objective(golden_case *c)
{
    golden_table *t  = golden_read_table(c, c->name);
    maps          m  = { 0 };
    bool          ok = true, ran;
    int64_t       h = golden_int(c, "height", &ok), w = golden_int(c, "width", &ok);

    c->bound = 1e-4; /* element errors of gradients are halved: 2e-4 of the largest */
    ran      = t && load_maps(c, &m) && ok;
    if (!ran) golden_stop(c, "its files cannot be read");
    for (int row = 0; ran && row < t->rows; row++)
        ran = objective_row(c, &m, t->cell[row], h, w);
    free_maps(&m);
    golden_free_table(t);
    return ran;
}

/* ---- metrics ---- */

static uint8_t *bytes(const golden_case *c, const char *kind, int i, int64_t dims[4])
{
    char     name[32];
    int64_t  n;
    float   *values;
    uint8_t *out;

    snprintf(name, sizeof name, "%s%d", kind, i);
    values = golden_tensor(c, c->name, name, &n, dims);
    out    = values ? malloc((size_t)n) : NULL;
    for (int64_t k = 0; out && k < n; k++)
        out[k] = (uint8_t)values[k];
    free(values);
    return out;
}

static bool add_pairs(golden_case *c, kdas_evaluator *e, int64_t pairs)
{
    bool good = true;

    for (int i = 0; i < pairs && good; i++) {
        int64_t   pd[4], gd[4];
        uint8_t  *p = bytes(c, "pred", i, pd), *g = bytes(c, "gt", i, gd);
        kdas_view prediction = { p, pd[1], pd[0], 0, KDAS_PIXEL_GREY8 };
        kdas_view truth      = { g, gd[1], gd[0], 0, KDAS_PIXEL_GREY8 };

        good = p && g && kdas_evaluator_add(e, NULL, &prediction, &truth) == KDAS_OK;
        free(p);
        free(g);
    }
    return good;
}

bool golden_metrics(golden_case *c)
{
    golden_table   *t  = golden_read_table(c, c->name);
    kdas_evaluator *e  = NULL;
    bool            ok = true, ran = false;

    c->bound = 1e-9; /* both sides compute in double */
    if (!t) return golden_stop(c, "its table cannot be read");
    GOLDEN_DO(c, kdas_evaluator_create(&e, c->ctx));
    if (!add_pairs(c, e, golden_int(c, "pairs", &ok))) {
        golden_stop(c, "its pairs cannot be read");
        goto done;
    }
    for (int row = 0; row < t->rows; row++) {
        int64_t image  = strcmp(t->cell[row][0], "all") == 0 ? -1 : atoll(t->cell[row][0]);
        int     metric = kdas_metric_find(t->cell[row][1]);
        double  got;
        char    where[GOLDEN_TEXT];

        snprintf(where, sizeof where, "%s of %s", t->cell[row][1], t->cell[row][0]);
        if (metric < 0 || kdas_evaluator_get(e, image, (kdas_metric)metric, &got) != KDAS_OK)
            golden_note(c, INFINITY, where);
        else
            golden_note(c, fabs(got - strtod(t->cell[row][2], NULL)), where);
    }
    ran = ok;
done:
    kdas_evaluator_destroy(e);
    golden_free_table(t);
    return ran;
}

/* ---- resize ---- */

bool golden_resize(golden_case *c)
{
    bool    ok     = true;
    int64_t images = golden_int(c, "images", &ok);

    c->bound = 1; /* of 255: the filter is Pillow's, rounding may differ */
    for (int i = 0; i < images && ok; i++) {
        int64_t     in[4], out[4];
        uint8_t    *pixels = bytes(c, "in", i, in), *want = bytes(c, "out", i, out);
        kdas_view   view = { pixels, in[1], in[0], 0, KDAS_PIXEL_RGB8 };
        kdas_image *got  = NULL;
        char        where[32];

        snprintf(where, sizeof where, "image %d", i);
        ok = pixels && want && kdas_image_resize(&got, c->ctx, &view, out[1], out[0]) == KDAS_OK;
        for (int64_t k = 0; ok && k < out[0] * out[1] * 3; k++)
            golden_note(c, abs(kdas_image_pixels(got)[k] - want[k]), where);
        kdas_image_destroy(got);
        free(pixels);
        free(want);
    }
    return ok ? true : golden_stop(c, "its images cannot be read or resized");
}

/* golden_guidance.c - kind guidance: terms beyond the paper, on maps drawn by name (make_guidance.py). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "golden/golden.h"
#include "support/check_util.h"

typedef struct maps {
    float    *s[2], *t[2], *g[2], *mask;
    kdas_maps student, teacher;
    int64_t   n;
} maps;

static float *drawn(const golden_case *c, const char *what, int i, int64_t n, double scale)
{
    char   name[GOLDEN_TEXT + 8];
    float *map = calloc((size_t)n, sizeof *map);

    snprintf(name, sizeof name, "%s.%s%d", c->name, what, i + 1);
    if (map && scale > 0) kd_test_fill(map, n, name, scale, 0);
    return map;
}

static bool draw_maps(const golden_case *c, maps *m)
{
    bool    ok    = true;
    int64_t batch = golden_int(c, "batch", &ok), h = golden_int(c, "height", &ok),
            w    = golden_int(c, "width", &ok);
    double scale = golden_real(c, "scale", &ok);

    m->n    = batch * h * w;
    m->mask = drawn(c, "mask", 0, m->n, 0);
    for (int i = 0; i < 2; i++) {
        m->s[i] = drawn(c, "s", i, m->n, scale);
        m->t[i] = drawn(c, "t", i, m->n, scale);
        m->g[i] = drawn(c, "g", i, m->n, 0);
        ok      = ok && m->s[i] && m->t[i] && m->g[i] && m->mask;
    }
    m->student = (kdas_maps){ (const float *const *)m->s, 2, batch, h, w };
    m->teacher = (kdas_maps){ (const float *const *)m->t, 2, batch, h, w };
    return ok;
}

static void free_maps(maps *m)
{
    for (int i = 0; i < 2; i++) {
        free(m->s[i]);
        free(m->t[i]);
        free(m->g[i]);
    }
    free(m->mask);
}

static void read_options(kdas_loss_options *o, char *key)
{
    char *save;

    kdas_loss_options_init(o, sizeof *o);
    o->guidance        = strtok_r(key, "|", &save);
    o->sym             = strtok_r(NULL, "|", &save);
    o->axis            = strtok_r(NULL, "|", &save);
    o->input           = strtok_r(NULL, "|", &save);
    o->similarity      = strtok_r(NULL, "|", &save);
    o->distance        = strtok_r(NULL, "|", &save);
    o->tau             = (float)atof(strtok_r(NULL, "|", &save));
    o->seg_weight      = 0; /* the gradient is that of the guidance */
    o->guidance_weight = 1;
}

static double relative(double got, const char *want)
{
    return fabs(got - strtod(want, NULL)) / fmax(fabs(strtod(want, NULL)), 1e-3);
}

static bool guidance_row(golden_case *c, const golden_table *t, int row, maps *m)
{
    char              key[GOLDEN_TEXT], name[GOLDEN_TEXT + 8];
    kdas_loss_options o;
    kdas_loss_report  r    = { .size = sizeof r };
    kdas_loss        *loss = NULL;
    bool              ran  = false;

    snprintf(key, sizeof key, "%s", t->cell[row][0]);
    read_options(&o, key);
    GOLDEN_DO(c, kdas_loss_create(&loss, c->ctx, &o));
    GOLDEN_DO(c, kdas_loss_evaluate(loss, &m->student, &m->teacher, m->mask, m->g, &r));
    golden_note(c, relative(r.raw[KDAS_TERM_KD], t->cell[row][1]), t->cell[row][0]);
    golden_note(c, relative(r.raw[KDAS_TERM_SGM], t->cell[row][2]), t->cell[row][0]);
    for (int i = 0; i < 2; i++) {
        int at;

        snprintf(name, sizeof name, "grad%d|%s", i + 1, t->cell[row][0]);
        at = golden_row(t, name);
        if (at < 0) {
            golden_stop(c, "a gradient is missing");
            goto done;
        }
        snprintf(key, sizeof key, "grad%d", i + 1);
        golden_note(c, golden_digest_error(t, at, key, m->g[i], m->n), t->cell[at][0]);
    }
    ran = true;
done:
    kdas_loss_destroy(loss);
    return ran;
}

bool golden_guidance(golden_case *c)
{
    golden_table *t   = golden_read_table(c, c->name);
    maps          m   = { 0 };
    bool          ran = t && draw_maps(c, &m);

    c->bound = 1e-4;
    if (!ran) golden_stop(c, "its files cannot be read");
    for (int row = 0; ran && row < t->rows; row++)
        if (strncmp(t->cell[row][0], "grad", 4) != 0) ran = guidance_row(c, t, row, &m);
    free_maps(&m);
    golden_free_table(t);
    return ran;
}

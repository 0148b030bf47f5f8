/* golden_feature.c - kind feature: each kind of feature guidance for one pair of taps drawn by name (make_feature.py). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "golden/golden.h"
#include "loss/feature.h"
#include "graph/build.h"
#include "support/check_util.h"

/* A pair at work: its program, and memory of the device. */
typedef struct pair {
    kdas_desc       s, t, w;
    kd_params      *params;
    kd_arena       *arena;
    kd_program     *program;
    kd_staging      memory[2];
    const kd_node  *student, *teacher, *value;
    kd_feature_pair taps;
} pair;

static bool read_shapes(const golden_case *c, pair *p)
{
    bool    ok = true;
    int64_t n  = golden_int(c, "batch", &ok);

    p->s = kd_desc(n, golden_int(c, "sh", &ok), golden_int(c, "sw", &ok), golden_int(c, "sc", &ok));
    p->t = kd_desc(n, golden_int(c, "th", &ok), golden_int(c, "tw", &ok), golden_int(c, "tc", &ok));
    p->w = kd_desc(1, 1, p->t.dim[3], p->s.dim[3]);
    p->taps = (kd_feature_pair){ "t", "s", p->t, p->s };
    return ok;
}

static void drawn(const golden_case *c, const char *what, const kdas_desc *d, float *to,
                  double scale, double shift)
{
    char name[GOLDEN_TEXT + 8];

    snprintf(name, sizeof name, "%s.%s", c->name, what);
    kd_test_fill(to, kd_elements(d), name, scale, shift);
}

/* Drawn on the host, brought to the device. */
static kdas_status lend(pair *p, golden_case *c, int i, const kd_node *input, const kdas_desc *d,
                        float *host)
{
    size_t bytes = (size_t)kd_elements(d) * sizeof *host;

    KD_RETURN(kd_device_reserve(c->ctx, &p->memory[i], bytes));
    KD_RETURN(kd_device_upload(c->ctx, p->memory[i].memory, host, bytes));
    kd_program_bind(p->program, input, p->memory[i].memory, NULL);
    return KDAS_OK;
}

static kdas_status prepare(golden_case *c, pair *p, const char *kind, float *host)
{
    const kd_feature_kind  *row = kd_feature_find(kind);
    const kdas_loss_options o   = { .feature_tau = 4 };
    kd_graph               *g;

    if (!row) return KDAS_ENOTFOUND;
    if (row->projects) KD_RETURN(kd_params_create(&p->params, c->ctx));
    g = kd_graph_create(c->ctx, p->params, KD_EVAL);
    if (!g) return KDAS_ENOMEM;
    kd_graph_stay_f32(g);
    kd_feature_build(g, row, &o, &p->taps, 1);
    if (p->params) KD_RETURN(kd_params_seal(p->params, true));
    p->arena = kd_arena_create(c->ctx);
    KD_RETURN(kd_program_create(&p->program, g, p->arena));
    p->student = kd_find(g, "student.s");
    p->teacher = kd_find(g, "teacher.t");
    p->value   = kd_find(g, "feature");
    drawn(c, "s", &p->s, host, 2, 0.5);
    KD_RETURN(lend(p, c, 0, p->student, &p->s, host));
    drawn(c, "t", &p->t, host, 3, -0.5);
    KD_RETURN(lend(p, c, 1, p->teacher, &p->t, host));
    drawn(c, "w", &p->w, host, 0.5, 0);
    return row->projects ? kd_params_write(p->params, 0, host) : KDAS_OK;
}

static void finish(golden_case *c, pair *p)
{
    kd_program_destroy(p->program);
    kd_arena_destroy(p->arena);
    kd_params_destroy(p->params);
    for (int i = 0; i < 2; i++)
        kd_device_unstage(c->ctx, &p->memory[i]);
    p->program = NULL;
    p->arena   = NULL;
    p->params  = NULL;
}

static bool compare(golden_case *c, const golden_table *t, const char *which, const char *kind,
                    const float *got, int64_t n)
{
    char key[GOLDEN_TEXT];
    int  at;

    snprintf(key, sizeof key, "%s|%s", which, kind);
    at = golden_row(t, key);
    if (at < 0) return golden_stop(c, "a gradient is missing");
    golden_note(c, golden_digest_error(t, at, which, got, n), key);
    return true;
}

static bool feature_row(golden_case *c, const golden_table *t, int row, pair *p, float *host)
{
    const char *kind = t->cell[row][0];
    double      want = strtod(t->cell[row][1], NULL);
    float       one  = 1, value;
    bool        ran  = false;

    GOLDEN_DO(c, prepare(c, p, kind, host));
    GOLDEN_DO(c, kd_program_forward(p->program, 0));
    GOLDEN_DO(c, kd_device_download(c->ctx, &value, kd_program_value(p->program, p->value),
                                    sizeof value));
    golden_note(c, fabs((double)value - want) / fmax(fabs(want), 1e-3), kind);
    GOLDEN_DO(c, kd_device_upload(c->ctx, kd_program_grad(p->program, p->value), &one, sizeof one));
    GOLDEN_DO(c, kd_program_backward(p->program));
    GOLDEN_DO(c, kd_device_download(c->ctx, host, kd_program_grad(p->program, p->student),
                                    (size_t)kd_elements(&p->s) * sizeof *host));
    ran = compare(c, t, "s", kind, host, kd_elements(&p->s));
    if (!ran || !p->params) goto done;
    ran = false;
    GOLDEN_DO(c, kd_params_read_grad(p->params, 0, host));
    ran = compare(c, t, "w", kind, host, kd_elements(&p->w));
done:
    finish(c, p);
    return ran;
}

bool golden_feature(golden_case *c)
{
    golden_table *t    = golden_read_table(c, c->name);
    pair          p    = { 0 };
    bool          ran  = t && read_shapes(c, &p);
    float        *host = malloc(4096 * sizeof *host);

    c->bound = 1e-4;
    if (!ran) golden_stop(c, "its files cannot be read");
    for (int row = 0; ran && row < t->rows; row++)
        if (!strchr(t->cell[row][0], '|')) ran = feature_row(c, t, row, &p, host);
    free(host);
    golden_free_table(t);
    return ran;
}

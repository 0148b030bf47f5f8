/* golden_models.c - kinds forward, losses, grad, adamw: whole networks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "golden/golden.h"
#include "support/check_util.h"

/* A student, its teacher and a batch, as the parameters of a case say. */
typedef struct pair {
    kdas_model *student, *teacher;
    kdas_batch *batch;
} pair;

static kdas_status make_model(kdas_model **out, const golden_case *c, const char *size,
                              const char *fill, bool trainable)
{
    kdas_model_options o;
    char               name[GOLDEN_TEXT + 16];
    kdas_status        st;

    kdas_model_options_init(&o, sizeof o);
    o.drop_path = 0;
    o.trainable = trainable;
    snprintf(name, sizeof name, "%s%s", strlen(size) == 2 ? "polyp_pvt_" : "", size);
    st = kdas_model_create(out, c->ctx, name, &o);
    return st == KDAS_OK ? golden_fill_model(*out, fill) : st;
}

static void destroy_pair(pair *p)
{
    kdas_batch_destroy(p->batch);
    kdas_model_destroy(p->student);
    kdas_model_destroy(p->teacher);
}

static kdas_status make_pair(pair *p, const golden_case *c, bool *ok)
{
    const char *image = golden_text(c, "image", ok), *mask = golden_text(c, "mask", ok);
    kdas_status st;

    st = make_model(&p->student, c, "b0", golden_text(c, "student", ok), true);
    if (st == KDAS_OK) st = make_model(&p->teacher, c, "b2", golden_text(c, "teacher", ok), false);
    if (st == KDAS_OK)
        st = golden_batch(&p->batch, c, image, mask, golden_int(c, "batch", ok),
                          golden_int(c, "height", ok), golden_int(c, "width", ok));
    return st;
}

/* ---- forward ---- */

static double map_error(const float *got, const float *want, int64_t n, int64_t h, int64_t w,
                        int64_t stride)
{
    int64_t oh = (h + stride - 1) / stride, ow = (w + stride - 1) / stride;
    double  low = INFINITY, high = -INFINITY, worst = 0;

    for (int64_t i = 0; i < n * oh * ow; i++) {
        int64_t x = i % ow * stride, y = i / ow % oh * stride, b = i / (ow * oh);

        low   = fmin(low, (double)want[i]);
        high  = fmax(high, (double)want[i]);
        worst = fmax(worst, fabs((double)got[(b * h + y) * w + x] - (double)want[i]));
    }
    return worst / fmax(high - low, 1e-30);
}

static void check_value(golden_case *c, kdas_model *m, const golden_table *t, const char *node,
                        const char *key, int64_t stride)
{
    int64_t dims[4], n, count;
    float  *nhwc, *nchw, *want;
    char    where[GOLDEN_TEXT];
    int     row = golden_row(t, key);

    if (row < 0 || kdas_model_tap_dims(m, node, dims) != KDAS_OK) {
        golden_note(c, INFINITY, key);
        return;
    }
    n    = dims[0] * dims[1] * dims[2] * dims[3];
    nhwc = malloc((size_t)n * sizeof *nhwc);
    nchw = malloc((size_t)n * sizeof *nchw);
    if (nhwc && nchw && kdas_model_read_output(m, node, nhwc) == KDAS_OK) {
        kd_test_to_nchw(nchw, nhwc, dims[0], dims[3], dims[1], dims[2]);
        golden_note(c, golden_digest_error(t, row, key, nchw, n), key);
        want = dims[3] == 1 ? golden_tensor(c, c->name, key, &count, NULL) : NULL;
        snprintf(where, sizeof where, "%s, an element", key);
        if (want)
            golden_note(c, map_error(nhwc, want, dims[0], dims[1], dims[2], stride) / 2, where);
        else if (dims[3] == 1)
            golden_note(c, INFINITY, where);
        free(want);
    } else
        golden_note(c, INFINITY, key);
    free(nhwc);
    free(nchw);
}

/* The model's tap of a table's key: Polyp-PVT's tables have short names. */
static const char *tap_of(const kdas_model *m, const char *key)
{
    const char *tap;

    for (int i = 0; (tap = kdas_model_tap(m, i)); i++) {
        const char *dot = strrchr(tap, '.');

        if (strcmp(dot ? dot + 1 : tap, key) == 0) return tap;
    }
    return key; /* an output */
}

bool golden_forward(golden_case *c)
{
    golden_table *t  = golden_read_table(c, c->name);
    kdas_model   *m  = NULL;
    kdas_batch   *b  = NULL;
    bool          ok = true, ran = false;
    int64_t       stride = golden_int(c, "stride", &ok);

    c->bound = golden_bound(c, 1e-4, 0.5); /* element errors are halved: 2e-4 of the range */
    if (!t) return golden_stop(c, "its table cannot be read");
    GOLDEN_DO(c,
              make_model(&m, c, golden_text(c, "model", &ok), golden_text(c, "fill", &ok), false));
    for (int i = 0; i < t->rows; i++)
        if (t->cell[i][0] != tap_of(m, t->cell[i][0]))
            GOLDEN_DO(c, kdas_model_keep_tap(m, tap_of(m, t->cell[i][0])));
    GOLDEN_DO(c,
              golden_batch(&b, c, golden_text(c, "image", &ok), NULL, golden_int(c, "batch", &ok),
                           golden_int(c, "height", &ok), golden_int(c, "width", &ok)));
    GOLDEN_DO(c, kdas_model_forward(m, KDAS_MODE_INFER, b));
    for (int i = 0; i < t->rows; i++)
        check_value(c, m, t, tap_of(m, t->cell[i][0]), t->cell[i][0], stride);
    ran = ok && t->rows > 0;
done:
    kdas_batch_destroy(b);
    kdas_model_destroy(m);
    golden_free_table(t);
    return ran;
}

/* ---- one step under an objective ---- */

/* The maps of both networks, and room for their gradients. */
typedef struct pair_maps {
    float       *memory, *g[2];
    const float *s[2], *t[2];
    kdas_maps    student, teacher;
} pair_maps;

static kdas_status run_both(pair_maps *m, pair *p)
{
    int64_t n = kdas_batch_count(p->batch), h = kdas_batch_height(p->batch),
            w          = kdas_batch_width(p->batch);
    size_t      count  = (size_t)(n * h * w);
    kdas_status st     = KDAS_ENOMEM;
    const char *out[2] = { "P1", "P2" };

    *m = (pair_maps){ .memory = malloc(6 * count * sizeof(float)) };
    for (size_t i = 0; m->memory && i < 2; i++) {
        m->s[i] = m->memory + i * count;
        m->t[i] = m->memory + (2 + i) * count;
        m->g[i] = m->memory + (4 + i) * count;
    }
    m->student = (kdas_maps){ m->s, 2, n, h, w };
    m->teacher = (kdas_maps){ m->t, 2, n, h, w };
    if (m->memory) st = kdas_model_zero_gradients(p->student);
    if (st == KDAS_OK) st = kdas_model_forward(p->student, KDAS_MODE_TRAIN, p->batch);
    if (st == KDAS_OK) st = kdas_model_forward(p->teacher, KDAS_MODE_INFER, p->batch);
    for (int i = 0; i < 2 && st == KDAS_OK; i++) {
        st = kdas_model_read_output(p->student, out[i], (float *)m->s[i]);
        if (st == KDAS_OK) st = kdas_model_read_output(p->teacher, out[i], (float *)m->t[i]);
    }
    return st;
}

static kdas_status judge(kdas_loss_report *report, const golden_case *c, const pair *p,
                         const pair_maps *m, const kdas_loss_options *options)
{
    kdas_loss  *loss = NULL;
    kdas_status st   = kdas_loss_create(&loss, c->ctx, options);

    if (st == KDAS_OK)
        st = kdas_loss_evaluate(loss, &m->student, &m->teacher, kdas_batch_masks(p->batch), m->g, report);
    kdas_loss_destroy(loss);
    return st;
}

static kdas_status step_once(kdas_loss_report *report, const golden_case *c, pair *p,
                             const kdas_loss_options *options)
{
    pair_maps   m;
    kdas_status st = run_both(&m, p);

    if (st == KDAS_OK) st = judge(report, c, p, &m, options);
    for (int64_t i = 0; i < 2 * m.student.count * m.student.height * m.student.width && st == KDAS_OK; i++)
        m.g[0][i] *= golden_scale(c);
    if (st == KDAS_OK) st = kdas_model_backward(p->student, (const float *const *)m.g);
    free(m.memory);
    return st;
}

static double relative(double got, double want)
{
    return fabs(got - want) / fmax(fabs(want), 1e-3);
}

/* "grad_BxHxW_SEG_GUIDANCE_SYM" as the losses table names its rows. */
static void note_losses(golden_case *c, const golden_table *t, int row, const kdas_loss_report *r,
                        bool published)
{
    double third  = published ? r->raw[KDAS_TERM_SGM] : r->raw[KDAS_TERM_KD];
    double fourth = published ? 0 : r->raw[KDAS_TERM_SGM];

    golden_note(c, relative(r->total, strtod(t->cell[row][1], NULL)), t->cell[row][0]);
    golden_note(c, relative(r->raw[KDAS_TERM_SEG], strtod(t->cell[row][2], NULL)), t->cell[row][0]);
    golden_note(c, relative(third, strtod(t->cell[row][3], NULL)), t->cell[row][0]);
    golden_note(c, relative(fourth, strtod(t->cell[row][4], NULL)), t->cell[row][0]);
}

static bool options_of_row(kdas_loss_options *o, const char *row, bool *published)
{
    static const char *const segs[]         = { "bce_dice", "bce_jaccard", "structure" };
    static const char *const guidances[][2] = { { "_none_", "none" },
                                                { "_kl_", "kl" },
                                                { "_attention_sgm_", "attention+sgm" },
                                                { "_attention_", "attention" } };

    kdas_loss_options_init(o, sizeof *o);
    *published = strncmp(row, "published", 9) == 0;
    if (*published) return kdas_loss_options_preset(o, "published_code") == KDAS_OK;
    o->seg = o->guidance = NULL;
    for (size_t i = 0; i < 3; i++)
        if (strstr(row, segs[i])) o->seg = segs[i];
    for (size_t i = 0; i < 4 && !o->guidance; i++)
        if (strstr(row, guidances[i][0])) o->guidance = guidances[i][1];
    o->sym = strstr(row, "_sum") ? "sum" : "covariance";
    return o->seg && o->guidance;
}

bool golden_losses(golden_case *c)
{
    golden_table *t  = golden_read_table(c, c->name);
    pair          p  = { 0 };
    pair_maps     m  = { 0 };
    bool          ok = true, ran = false;

    c->bound = golden_bound(c, 1e-4, 0.15);
    if (!t) return golden_stop(c, "its table cannot be read");
    GOLDEN_DO(c, make_pair(&p, c, &ok));
    GOLDEN_DO(c, run_both(&m, &p)); /* once for all rows */
    for (int row = 0; row < t->rows; row++) {
        kdas_loss_options o;
        kdas_loss_report  r = { .size = sizeof r };
        bool              published;

        if (!options_of_row(&o, t->cell[row][0], &published)) {
            golden_stop(c, t->cell[row][0]);
            goto done;
        }
        GOLDEN_DO(c, judge(&r, c, &p, &m, &o));
        note_losses(c, t, row, &r, published);
    }
    ran = ok;
done:
    free(m.memory);
    destroy_pair(&p);
    golden_free_table(t);
    return ran;
}

/* ---- grad ---- */

/* Zero in exact arithmetic: the key half of every kv bias (softmax ignores a shift), and the bias before the
 * batch norm of Translayer4_1. What stands there is rounding, judged against the largest gradient. */
static bool is_noise(const char *key) { return strstr(key, "backbone.norm4.bias") != NULL; }

/* The channel attention's gradient comes through a maximum over channels: where two of them are equal to
 * single precision, rounding decides which one receives it, and these small sums follow. Kernels that do not
 * sum in double get ten times the bound there. */
static bool hangs_on_ties(const golden_case *c, const char *key)
{
    return !c->reference && strncmp(key, "ca.", 3) == 0;
}

static int compare_tensor(golden_case *c, kdas_model *m, const golden_table *t, int row,
                          bool gradient, double largest)
{
    const char *key = t->cell[row][0];
    int32_t     i   = kdas_model_find(m, key), trainable;
    int64_t     dim[4], n;
    float      *values;
    double      error = INFINITY;

    if (i < 0) {
        golden_note(c, INFINITY, key);
        return 0;
    }
    kdas_model_tensor(m, i, NULL, dim, &trainable);
    n      = dim[0] * dim[1] * dim[2] * dim[3];
    values = malloc((size_t)n * sizeof *values);
    if (values && (gradient && trainable ? kdas_model_read_gradient(m, i, values)
                                         : kdas_model_read(m, i, values)) == KDAS_OK) {
        for (int64_t k = 0; k < n && gradient && trainable; k++)
            values[k] /= golden_scale(c);
        error = golden_digest_error(t, row, key, values, n);
        if (gradient && trainable) { /* a tensor's gradient may be small beside the others' */
            double norm = strtod(t->cell[row][3], NULL);

            error *= norm / fmax(norm, is_noise(key) ? largest : 1e-3 * largest);
            if (hangs_on_ties(c, key)) error /= 10;
        }
    }
    free(values);
    golden_note(c, error, key);
    return 1;
}

bool golden_grad(golden_case *c)
{
    golden_table     *t = golden_read_table(c, c->name);
    pair              p = { 0 };
    kdas_loss_options o;
    kdas_loss_report  r  = { .size = sizeof r };
    bool              ok = true, ran = false;
    double            largest = 0;

    /* gradients through batch statistics of few values lose a digit more */
    c->bound = golden_bound(c, 2e-4, 0.5);
    if (!t) return golden_stop(c, "its table cannot be read");
    kdas_loss_options_init(&o, sizeof o);
    o.seg      = golden_text(c, "seg", &ok);
    o.guidance = golden_text(c, "guidance", &ok);
    o.sym      = golden_text(c, "sym", &ok);
    GOLDEN_DO(c, make_pair(&p, c, &ok));
    GOLDEN_DO(c, step_once(&r, c, &p, &o));
    for (int row = 0; row < t->rows; row++)
        if (!strstr(t->cell[row][0], "running_"))
            largest = fmax(largest, strtod(t->cell[row][3], NULL));
    for (int row = 0; row < t->rows; row++)
        compare_tensor(c, p.student, t, row, true, largest);
    ran = ok;
done:
    destroy_pair(&p);
    golden_free_table(t);
    return ran;
}

/* ---- adamw ---- */

/* Adam turns the noise of a zero gradient into steps of +-lr: those tensors are judged by 2 lr a step and
 * element, which is c->bound's unit here; so is the mean that batch norm takes of what norm4.bias shifts. In fewer bits that
 * mean is off by the rounding of what it is taken of, as other means are, which is more: it is judged as they are. */
static bool walks_at_random(const golden_case *c, const char *key)
{
    return strstr(key, "attn.kv.bias") || is_noise(key) ||
           (strcmp(key, "Translayer4_1.bn.running_mean") == 0 &&
            kdas_context_precision(c->ctx) == KDAS_PRECISION_F32);
}

static void compare_after_adamw(golden_case *c, kdas_model *m, const golden_table *t, int row,
                                double reach)
{
    const char *key = t->cell[row][0];
    int32_t     i   = kdas_model_find(m, key);
    int64_t     dim[4], n;
    float      *values;

    if (!walks_at_random(c, key)) {
        compare_tensor(c, m, t, row, false, 0);
        return;
    }
    kdas_model_tensor(m, i, NULL, dim, NULL);
    n      = dim[0];
    values = malloc((size_t)n * sizeof *values);
    if (!values || kdas_model_read(m, i, values) != KDAS_OK)
        golden_note(c, INFINITY, key);
    else {
        double norm  = strtod(t->cell[row][3], NULL),
               error = golden_digest_error(t, row, key, values, n) * norm;

        golden_note(c, c->bound * error / (reach * sqrt((double)n)), key);
    }
    free(values);
}

bool golden_adamw(golden_case *c)
{
    golden_table      *t = golden_read_table(c, c->name), *curve = NULL;
    pair               p     = { 0 };
    kdas_loss         *loss  = NULL;
    kdas_optim        *optim = NULL;
    kdas_distiller    *d     = NULL;
    kdas_optim_options o;
    char               name[2 * GOLDEN_TEXT];
    bool               ok = true, ran = false;
    int64_t            steps = golden_int(c, "steps", &ok);

    /* AdamW's steps are as long for a gradient that is noise as for any other. */
    c->bound = golden_bound(c, 2e-4, 0.5);
    if (c->bound < 0.25 && c->bound > 2e-4) c->bound = 0.25;
    snprintf(name, sizeof name, "%s_curve", c->name);
    curve = golden_read_table(c, name);
    if (!t || !curve) {
        golden_stop(c, "its tables cannot be read");
        goto done;
    }
    kdas_optim_options_init(&o, sizeof o);
    o.lr               = (float)golden_real(c, "lr", &ok);
    o.beta1            = (float)golden_real(c, "beta1", &ok);
    o.beta2            = (float)golden_real(c, "beta2", &ok);
    o.eps              = (float)golden_real(c, "eps", &ok);
    o.weight_decay     = (float)golden_real(c, "weight_decay", &ok);
    o.clamp            = (float)golden_real(c, "clamp", &ok);
    o.loss_scale       = golden_scale(c);
    o.loss_scale_every = 0;
    GOLDEN_DO(c, make_pair(&p, c, &ok));
    GOLDEN_DO(c, kdas_loss_create(&loss, c->ctx, NULL));
    GOLDEN_DO(c, kdas_optim_create(&optim, p.student, &o));
    GOLDEN_DO(c, kdas_distiller_create(&d, p.teacher, p.student, loss, optim, NULL));
    for (int64_t i = 0; i < steps; i++) {
        kdas_step_report r = { .size = sizeof r };

        GOLDEN_DO(c, kdas_distiller_step(d, p.batch, &r));
        snprintf(name, sizeof name, "loss before step %lld", (long long)i + 1);
        golden_note(c,
                    i < curve->rows ? relative(r.total, strtod(curve->cell[i][0], NULL)) : INFINITY,
                    name);
    }
    for (int row = 0; row < t->rows; row++)
        compare_after_adamw(c, p.student, t, row, 2 * (double)o.lr * (double)steps);
    ran = ok;
done:
    kdas_distiller_destroy(d);
    kdas_optim_destroy(optim);
    kdas_loss_destroy(loss);
    destroy_pair(&p);
    golden_free_table(t);
    golden_free_table(curve);
    return ran;
}

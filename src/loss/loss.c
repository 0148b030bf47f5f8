/* loss.c - evaluating the objective, map after map. */
#include <math.h>
#include <string.h>
#include "base/process.h"
#include "base/sizes.h"
#include "graph/profile.h"
#include "loss/loss.h"

/* ---- run ---- */

/* State and results of one evaluation over the maps. */
typedef struct run {
    kdas_loss           *loss;
    const kd_loss_place *at;
    float                scale;
    bool                 backward;
    bool                 norms;     /* report gradient norms                              */
    bool                 limited;   /* by a share: norms are always measured              */
    bool                 measuring; /* first pass: only measure norms */
    bool                 read;      /* results are fetched */
    uint32_t             terms[KD_MAX_MAPS], measured[KD_MAX_MAPS]; /* with a value, with a norm */
    const float         *weight;              /* of the mask, NULL: no term wants it */
    double               squares[KDAS_TERMS]; /* of the terms' gradients             */
    kdas_loss_report     r;
} run;

/* The gradient of the total by a term's output: the term's weight, times its share and the
 * scale. */
static kdas_status set_output_gradient(const run *r, const kd_loss_program *k, int t)
{
    double weight   = kd_loss_weight(r->loss, t) * (r->limited ? 1 : kd_share_factor(r->loss, t));
    float  gradient = (float)weight * r->scale;

    return kd_device_upload(r->loss->ctx, kd_program_grad(k->program, k->value[t]), &gradient,
                            sizeof gradient);
}

/* Run each term's backward separately, for the norms. Each gradient is accumulated into the
 * caller's gradient, limited by its share. */
static kdas_status backward_separately(run *r, const kd_loss_program *k, int map)
{
    int64_t count = r->at->n * r->at->h * r->at->w;
    float  *to    = r->measuring ? NULL : r->at->gradient[map];

    if (to) KD_RETURN(kd_profile_zero(r->loss->ctx, "loss", to, (size_t)count * sizeof(float)));
    for (int t = 0; t < KDAS_TERMS; t++) {
        const float *sent;

        if (!k->value[t]) continue;
        KD_RETURN(set_output_gradient(r, k, t));
        KD_RETURN(kd_program_backward_of(k->program, k->value[t]));
        sent = kd_program_grad(k->program, k->student);
        if (r->read) {
            KD_RETURN(kd_device_sum_squares(r->loss->ctx, &r->loss->results->squares[map][t], sent,
                                            count));
            r->measured[map] |= 1u << t;
        }
        if (to)
            KD_RETURN(kd_device_add(r->loss->ctx, to, sent, count,
                                    r->limited ? kd_share_factor(r->loss, t) : 1));
    }
    return KDAS_OK;
}

/* One backward for all terms, directly into the caller's gradient. */
static kdas_status backward_together(const run *r, const kd_loss_program *k, int map)
{
    if (!r->at->gradient[map]) return KDAS_OK;
    for (int t = 0; t < KDAS_TERMS; t++)
        if (k->value[t]) KD_RETURN(set_output_gradient(r, k, t));
    return kd_program_backward(k->program);
}

static kdas_status take_value(run *r, int t, float value)
{
    if (!isfinite(value))
        return kd_fail(KDAS_ENUMERIC, "the %s term of the loss is not finite (%g)",
                       kd_term_names[t], (double)value);
    r->r.on[t] = 1;
    r->r.raw[t] += (double)value;
    return KDAS_OK;
}

/* The terms' values. If device memory is host memory, they are read at once. Otherwise they are
 * stored side by side until all maps are done. */
static kdas_status keep_values(run *r, const kd_loss_program *k, int map)
{
    kdas_loss *loss = r->loss;

    for (int t = 0; r->read && t < KDAS_TERMS; t++) {
        const float *value = kd_program_value(k->program, k->value[t]);

        if (!value) continue;
        r->terms[map] |= 1u << t;
        KD_RETURN(
            loss->ctx->host_memory
                ? take_value(r, t, *value)
                : kd_device_add(loss->ctx, &loss->results->values[map][t].value, value, 1, 1));
    }
    return KDAS_OK;
}

/* Fetch all results in one download. Values are checked in the order in which they were
 * computed. */
static kdas_status fetch(run *r)
{
    kdas_context   *ctx = r->loss->ctx;
    kd_loss_results results;

    KD_RETURN(kd_device_download(ctx, &results, r->loss->results, sizeof results));
    for (int map = 0; map < r->at->maps; map++)
        for (int t = 0; t < KDAS_TERMS; t++) {
            if ((r->terms[map] >> t & 1) && !ctx->host_memory)
                KD_RETURN(take_value(r, t, results.values[map][t].value));
            if (r->measured[map] >> t & 1) r->squares[t] += results.squares[map][t];
        }
    return KDAS_OK;
}

static kdas_status run_map(run *r, const kd_loss_key *key, int map)
{
    const kd_loss_place *at     = r->at;
    size_t               bytes  = (size_t)(at->n * at->h * at->w) * sizeof(float);
    bool                 direct = r->backward && !key->separate;
    kd_loss_program     *k;

    if (!key->terms)
        return at->gradient[map] ? kd_profile_zero(r->loss->ctx, "loss", at->gradient[map], bytes)
                                 : KDAS_OK;
    KD_RETURN(kd_loss_program_for(&k, r->loss, key));
    kd_program_bind(k->program, k->student, at->student[map], direct ? at->gradient[map] : NULL);
    if (k->teacher) kd_program_bind(k->program, k->teacher, at->teacher[map], NULL);
    if (k->mask) kd_program_bind(k->program, k->mask, at->mask, NULL);
    if (k->weight) kd_program_bind(k->program, k->weight, (float *)r->weight, NULL);
    if (k->pixel) kd_program_bind(k->program, k->pixel, at->weight, NULL);
    KD_RETURN(kd_program_forward(k->program, 0));
    if (!r->measuring) KD_RETURN(keep_values(r, k, map));
    if (!r->backward) return KDAS_OK;
    return key->separate ? backward_separately(r, k, map) : backward_together(r, k, map);
}

/* The weights of the mask, once for all maps. */
static kdas_status run_weight(run *r, kd_loss_key key)
{
    kd_loss_program *k;

    key.terms    = 0;
    key.separate = false;
    KD_RETURN(kd_loss_program_for(&k, r->loss, &key));
    kd_program_bind(k->program, k->mask, r->at->mask, NULL);
    if (k->pixel) kd_program_bind(k->program, k->pixel, r->at->weight, NULL);
    KD_RETURN(kd_program_forward(k->program, 0));
    r->weight = kd_program_value(k->program, k->weight);
    return KDAS_OK;
}

static kdas_status run_maps(run *r)
{
    const kd_loss_place *at  = r->at;
    kd_loss_key          key = { at->n,         at->h, at->w, at->teacher_h,
                                 at->teacher_w, 0,     false, at->weight != NULL };

    if (r->loss->seg->weighted && kd_loss_weight(r->loss, KDAS_TERM_SEG) > 0)
        KD_RETURN(run_weight(r, key));
    for (int i = 0; i < at->maps; i++) {
        key.terms    = kd_loss_terms(r->loss, i, at->maps);
        key.separate = (r->norms || r->limited) && r->backward;
        KD_RETURN(run_map(r, &key, i));
    }
    return KDAS_OK;
}

/* Norm of the gradient from the term's backward. */
static double norm_of(const run *r, int t)
{
    const kd_loss_part *part = r->loss->part;

    return sqrt(r->squares[t]) / (part ? part->scale : (double)r->scale);
}

/* Weight the terms, and compute the norms of the gradients after limits. */
static void finish_report(run *r)
{
    kdas_loss *loss = r->loss;

    for (int t = 0; t < KDAS_TERMS; t++) {
        double factor = kd_share_factor(loss, t);

        if (!r->r.on[t]) continue;
        r->r.weighted[t] = kd_loss_weight(loss, t) * factor * r->r.raw[t];
        r->r.total += r->r.weighted[t];
        if (r->norms) r->r.gradient[t] = norm_of(r, t) * (r->limited ? factor : 1);
        if (r->norms && r->backward && r->squares[t] == 0 && !loss->warned[t]) {
            loss->warned[t] = true;
            kd_warn(loss->ctx,
                    "the %s term is switched on but sends a gradient of exactly zero to the "
                    "student",
                    kd_term_names[t]);
        }
    }
}

/* The terms under a limit that have a gradient in this run, as bits. */
static uint32_t limited_terms(const run *r)
{
    uint32_t terms = 0;

    for (int i = 0; r->limited && r->backward && i < r->at->maps; i++)
        terms |= kd_loss_terms(r->loss, i, r->at->maps);
    return terms & ~(1u << KDAS_TERM_SEG);
}

/* `terms`: the terms whose norms enter the running means. */
static void note_norms(const run *r, uint32_t terms)
{
    r->loss->seg_norm = norm_of(r, KDAS_TERM_SEG);
    for (int t = 0; t < KDAS_TERMS; t++)
        if (terms >> t & 1) kd_share_note(r->loss, t, r->loss->seg_norm, norm_of(r, t));
}

/* Measure terms without a known norm before any gradient is written, so that the limit holds
 * from the first evaluation. On return `terms` holds the other terms. */
static kdas_status measure_first(run *r, uint32_t *terms)
{
    uint32_t    unknown = 0;
    kdas_status st;

    for (int t = 0; t < KDAS_TERMS; t++)
        if ((*terms >> t & 1) && r->loss->share[t].count == 0) unknown |= 1u << t;
    if (!unknown) return KDAS_OK;
    r->measuring = true;
    st           = run_maps(r);
    if (st == KDAS_OK) st = fetch(r);
    if (r->loss->part) st = kd_loss_part_vote(r->loss, st, r->squares);
    KD_RETURN(st);
    note_norms(r, unknown);
    r->measuring = false;
    *terms &= ~unknown;
    memset(r->squares, 0, sizeof r->squares);
    return KDAS_OK;
}

/* Results of a part of a batch wait for the others'. `terms` as in note_norms(). */
static void keep_part(const run *r, uint32_t terms)
{
    kd_loss_part *part = r->loss->part;

    for (int t = 0; t < KDAS_TERMS; t++) {
        if (!r->r.on[t]) continue;
        kd_loss_part_keep(r->loss, t, r->r.raw[t], r->squares[t],
                          r->norms && r->limited ? kd_share_factor(r->loss, t) : r->norms);
        if (r->norms && r->backward) part->measured |= 1u << t;
    }
    if (r->limited && r->backward) part->noted |= terms;
}

/* The whole evaluation. If it fails, the caller restores the running means. */
static kdas_status evaluate(run *r)
{
    kdas_loss *loss  = r->loss;
    uint32_t   terms = limited_terms(r);

    if (r->read) KD_RETURN(kd_device_zero(loss->ctx, loss->results, sizeof *loss->results));
    KD_RETURN(measure_first(r, &terms));
    KD_RETURN(run_maps(r));
    if (!r->read) return KDAS_OK;
    KD_RETURN(fetch(r));
    if (loss->part) {
        keep_part(r, terms);
        return KDAS_OK;
    }
    finish_report(r);
    if (r->limited && r->backward) note_norms(r, terms);
    return KDAS_OK;
}

kdas_status kd_loss_run(kdas_loss *loss, const kd_loss_place *at, float scale, bool norms,
                        kdas_loss_report *report)
{
    run r = { .loss = loss, .at = at, .scale = scale, .norms = norms, .r = { .size = sizeof r.r } };
    kd_share    kept[KDAS_TERMS];
    kdas_status st;

    r.limited = kd_share_on(loss);
    for (int i = 0; i < at->maps; i++)
        r.backward |= at->gradient[i] != NULL;
    r.read = report || loss->ctx->host_memory || (r.limited && r.backward);
    memcpy(kept, loss->share, sizeof kept);
    st = evaluate(&r);
    if (st != KDAS_OK) {
        memcpy(loss->share, kept, sizeof kept);
        return st;
    }
    r.r.terms = KDAS_TERMS;
    return report ? kd_give_options(report, &r.r, sizeof r.r, "kdas_loss_report") : KDAS_OK;
}

/* ---- for hosts ---- */

kdas_status kd_loss_check_maps(const kdas_maps *m, const char *whose)
{
    int64_t bytes;

    if (!m->map || m->maps < 1 || m->maps > KD_MAX_MAPS)
        return kd_fail(KDAS_EINVAL, "loss: the %s has %lld maps, not 1 to %d", whose,
                       (long long)m->maps, KD_MAX_MAPS);
    if (m->count < 1 || m->height < 1 || m->width < 1)
        return kd_fail(KDAS_ESHAPE, "loss: the %s's maps are %lldx%lldx%lld", whose,
                       (long long)m->count, (long long)m->height, (long long)m->width);
    /* all maps of both sides, gradients, masks and weights together can be counted in bytes */
    if (!kd_product(&bytes, m->count, m->height, m->width, sizeof(float), 4 * KD_MAX_MAPS))
        return kd_fail(KDAS_ESHAPE, "loss: the %s's maps are %lldx%lldx%lld, more than memory has",
                       whose, (long long)m->count, (long long)m->height, (long long)m->width);
    for (int i = 0; i < m->maps; i++)
        if (!m->map[i]) return kd_fail(KDAS_EINVAL, "loss: map %d of the %s is NULL", i, whose);
    return KDAS_OK;
}

static kdas_status check_pair(const kdas_maps *s, const kdas_maps *t)
{
    KD_RETURN(kd_loss_check_maps(t, "teacher"));
    if (t->count != s->count)
        return kd_fail(KDAS_ESHAPE,
                       "loss: the teacher has maps of %lld images, the student of %lld",
                       (long long)t->count, (long long)s->count);
    return KDAS_OK;
}

/* An image whose weights are all 0 has no mean. */
static kdas_status check_weights(const float *weights, const kdas_maps *s)
{
    int64_t area = s->height * s->width;

    for (int64_t n = 0; weights && n < s->count; n++) {
        float most = 0;

        for (int64_t k = n * area; k < (n + 1) * area; k++) {
            if (!(weights[k] >= 0 && isfinite(weights[k])))
                return kd_fail(KDAS_EINVAL, "loss: a weight of image %lld is %g, not 0 or more",
                               (long long)n, (double)weights[k]);
            most = KD_MAX(most, weights[k]);
        }
        if (most <= 0)
            return kd_fail(KDAS_EINVAL, "loss: all weights of image %lld are 0", (long long)n);
    }
    return KDAS_OK;
}

/* All memory that the terms read and write, in one piece of device memory. Not needed on the
 * host's memory. */
static kdas_status stage_all(kdas_loss *loss, kd_loss_place *at, const kdas_maps *s,
                             const kdas_maps *t, const float *masks, const float *weights,
                             float *const *gradients, kd_teacher_maps *teacher)
{
    size_t n    = (size_t)(at->n * at->h * at->w),
           tn   = (size_t)(at->n * at->teacher_h * at->teacher_w);
    size_t maps = (size_t)s->maps;
    size_t total =
        ((weights ? 2 * n : n) + maps * 2 * n + (t ? (size_t)t->maps * tn : 0)) * sizeof(float);
    float *to;

    if (t) *teacher = (kd_teacher_maps){ .maps = (int32_t)t->maps, .h = t->height, .w = t->width };
    if (loss->ctx->host_memory) {
        at->mask   = (float *)masks;
        at->weight = (float *)weights;
        for (int i = 0; i < s->maps; i++) {
            at->student[i]  = (float *)s->map[i];
            at->gradient[i] = gradients ? gradients[i] : NULL;
        }
        for (int i = 0; i < teacher->maps; i++)
            teacher->map[i] = (float *)t->map[i];
        return KDAS_OK;
    }
    KD_RETURN(kd_device_reserve(loss->ctx, &loss->staging, total));
    at->mask = to = loss->staging.memory;
    KD_RETURN(kd_device_upload(loss->ctx, to, masks, n * sizeof *to));
    to += n;
    if (weights) {
        at->weight = to;
        KD_RETURN(kd_device_upload(loss->ctx, to, weights, n * sizeof *to));
        to += n;
    }
    for (int i = 0; i < s->maps; i++) {
        at->student[i] = to;
        KD_RETURN(kd_device_upload(loss->ctx, to, s->map[i], n * sizeof *to));
        at->gradient[i] = gradients && gradients[i] ? to + n : NULL;
        to += 2 * n;
    }
    for (int i = 0; i < teacher->maps; i++) {
        teacher->map[i] = to;
        KD_RETURN(kd_device_upload(loss->ctx, to, t->map[i], tn * sizeof *to));
        to += tn;
    }
    return KDAS_OK;
}

kdas_status kdas_loss_evaluate(kdas_loss *loss, const kdas_maps *s, const kdas_maps *t,
                               const float *masks, float *const *gradients,
                               kdas_loss_report *report)
{
    return kdas_loss_evaluate_weighted(loss, s, t, masks, NULL, gradients, report);
}

kdas_status kdas_loss_evaluate_weighted(kdas_loss *loss, const kdas_maps *s, const kdas_maps *t,
                                        const float *masks, const float *weights,
                                        float *const *gradients, kdas_loss_report *report)
{
    kd_loss_place   at      = { 0 };
    kd_teacher_maps teacher = { 0 };

    if (!loss || !s || !masks) return kd_fail(KDAS_EINVAL, "loss: loss, student or masks is NULL");
    KD_RETURN(kd_check_process(loss->ctx));
    if (report) KD_RETURN(kd_check_report(&report->size, "kdas_loss_report"));
    KD_RETURN(kd_loss_check_maps(s, "student"));
    if (!kdas_loss_needs_teacher(loss) || !kd_loss_guides(loss))
        t = NULL;
    else if (!t)
        return kd_fail(KDAS_EINVAL, "guidance \"%s\" needs a teacher's maps",
                       loss->options.guidance);
    if (t) KD_RETURN(check_pair(s, t));
    KD_RETURN(check_weights(weights, s));
    at.maps      = (int32_t)s->maps;
    at.n         = s->count;
    at.h         = s->height;
    at.w         = s->width;
    at.teacher_h = t ? t->height : s->height;
    at.teacher_w = t ? t->width : s->width;
    KD_RETURN(stage_all(loss, &at, s, t, masks, weights, gradients, &teacher));
    KD_RETURN(kd_loss_pair(loss, &at, &teacher));
    KD_RETURN(kd_loss_run(loss, &at, 1, true, report));
    for (int i = 0; !loss->ctx->host_memory && i < s->maps; i++)
        if (at.gradient[i])
            KD_RETURN(kd_device_download(loss->ctx, gradients[i], at.gradient[i],
                                         (size_t)(at.n * at.h * at.w) * sizeof(float)));
    return KDAS_OK;
}

void kdas_loss_destroy(kdas_loss *loss)
{
    if (!loss) return;
    kd_loss_programs_destroy(loss);
    kd_device_unstage(loss->ctx, &loss->staging);
    kd_device_unstage(loss->ctx, &loss->answer);
    kd_pseudo_finish(loss);
    kd_arena_destroy(loss->arena);
    kd_arena_destroy(loss->weight_arena);
    kd_device_free(loss->ctx, loss->results);
    for (int i = 0; i < KD_LOSS_TEXTS; i++)
        kd_free(loss->ctx, loss->text[i]);
    kd_free(loss->ctx, loss);
}

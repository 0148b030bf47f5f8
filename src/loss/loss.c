/* loss.c - evaluating the objective: each term is a small program from maps to one number. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "graph/profile.h"
#include "loss/loss.h"
#include "op/build.h"

static const char *const term_names[KDAS_TERMS] = { "seg", "kd", "sgm" };

static double weight_of(const kdas_loss *loss, int t)
{
    return t == KDAS_TERM_SEG ? (double)loss->options.seg_weight
                              : (double)loss->options.guidance_weight;
}

static bool is_on(const kdas_loss *loss, int t)
{
    bool there = t == KDAS_TERM_SEG  ? true
                 : t == KDAS_TERM_KD ? loss->guidance->kd != NULL
                                     : loss->guidance->sgm != NULL;

    return there && weight_of(loss, t) > 0;
}

kd_node *kd_loss_term(kd_graph *g, kdas_term term, const kdas_loss *loss, const kd_loss_maps *m)
{
    kd_node *sum = NULL;

    if (term == KDAS_TERM_KD) return loss->guidance->kd(g, m, &loss->options);
    if (term == KDAS_TERM_SGM) return loss->guidance->sgm(g, m, &loss->options);
    for (int i = 0; i < m->count; i++) {
        kd_node *one = loss->seg_fn(g, m->student[i], m->mask);

        sum = i ? kd_add(g, sum, one) : one;
    }
    return sum;
}

/* ---- compile ---- */

/* A teacher's map of another size is brought to the student's. */
static kd_node *teacher_input(kd_graph *g, int i, const kd_loss_place *at)
{
    char     name[16];
    kd_node *map;

    snprintf(name, sizeof name, "teacher%d", i);
    map = kd_input(g, name, kd_desc(at->n, at->teacher_h, at->teacher_w, 1), false);
    if (at->teacher_h == at->h && at->teacher_w == at->w) return map;
    return kd_resize(g, map, at->h, at->w, false, 0);
}

static kdas_status compile_term(kd_term_program *k, kdas_loss *loss, int t, const kd_loss_place *at)
{
    kd_graph    *g = kd_graph_create(loss->ctx, NULL, KD_EVAL);
    kd_loss_maps m = { .count = at->maps };
    char         name[16];

    if (!g) return KDAS_ENOMEM;
    kd_scope(g, "%s", term_names[t]);
    m.mask = kd_input(g, "mask", kd_desc(at->n, at->h, at->w, 1), false);
    for (int i = 0; i < at->maps; i++) {
        snprintf(name, sizeof name, "student%d", i);
        m.student[i] = kd_input(g, name, kd_desc(at->n, at->h, at->w, 1), true);
        if (t != KDAS_TERM_SEG) m.teacher[i] = teacher_input(g, i, at);
    }
    k->value[t] = kd_output(g, "value", kd_loss_term(g, (kdas_term)t, loss, &m));
    k->mask[t]  = m.mask;
    for (int i = 0; i < at->maps; i++) {
        snprintf(name, sizeof name, "teacher%d", i);
        k->student[t][i] = m.student[i];
        k->teacher[t][i] = kd_find(g, name);
    }
    KD_RETURN(kd_program_create(&k->program[t], g, loss->arena));
    kd_program_label(k->program[t], "loss.%s %lldx%lldx%lld", term_names[t], (long long)at->n,
                     (long long)at->h, (long long)at->w);
    return KDAS_OK;
}

static void destroy_programs(kd_term_program *k, kdas_context *ctx)
{
    for (int t = 0; k && t < KDAS_TERMS; t++)
        kd_program_destroy(k->program[t]);
    kd_free(ctx, k);
}

static kdas_status programs_for(kd_term_program **out, kdas_loss *loss, const kd_loss_place *at)
{
    kd_term_program *k;
    kdas_status      st = KDAS_OK;

    for (size_t i = 0; i < loss->programs; i++) {
        *out = loss->program[i];
        if ((*out)->maps == at->maps && (*out)->n == at->n && (*out)->h == at->h &&
            (*out)->w == at->w && (*out)->teacher_h == at->teacher_h &&
            (*out)->teacher_w == at->teacher_w)
            return KDAS_OK;
    }
    *out = NULL;
    KD_RETURN(kd_grow(loss->ctx, (void **)&loss->program, &loss->program_capacity,
                      loss->programs + 1, sizeof *loss->program));
    k = kd_calloc(loss->ctx, 1, sizeof *k);
    if (!k) return KDAS_ENOMEM;
    k->maps      = at->maps;
    k->n         = at->n;
    k->h         = at->h;
    k->w         = at->w;
    k->teacher_h = at->teacher_h;
    k->teacher_w = at->teacher_w;
    for (int t = 0; t < KDAS_TERMS; t++)
        if (is_on(loss, t)) KD_TRY(compile_term(k, loss, t, at));
    loss->program[loss->programs++] = *out = k;
    return KDAS_OK;
done:
    destroy_programs(k, loss->ctx);
    return st;
}

/* ---- run ---- */

static kdas_status sum_squares(kdas_loss *loss, const float *x, int64_t count, double *sum)
{
    kdas_node_desc desc = { .op = KDAS_OP_SUM_SQUARES, .inputs = 1 };
    kdas_call      call = { .node = &desc, .out = loss->norm };
    double         value;

    desc.in[0] = (kdas_desc){ KDAS_F32, 1, { count, 1, 1, 1 } };
    call.in[0] = (void *)x;
    KD_RETURN(kd_device_update(loss->ctx, &kd_update_sum_squares, &call));
    KD_RETURN(kd_device_download(loss->ctx, &value, loss->norm, sizeof value));
    *sum += value;
    return KDAS_OK;
}

static kdas_status add_to(kdas_loss *loss, float *y, const float *x, int64_t count)
{
    const kdas_scale_attr once = { .factor = 1 };
    kdas_node_desc        desc = { .op = KDAS_OP_AXPY, .inputs = 2, .attr = &once };
    kdas_call             call = { .node = &desc };

    desc.in[0] = desc.in[1] = (kdas_desc){ KDAS_F32, 1, { count, 1, 1, 1 } };
    call.in[0]              = y;
    call.in[1]              = (void *)x;
    return kd_device_update(loss->ctx, &kd_update_axpy, &call);
}

static bool wants_gradient(const kd_loss_place *at)
{
    for (int i = 0; i < at->maps; i++)
        if (at->gradient[i]) return true;
    return false;
}

/* Backward of one term, weighted; its gradients are added to the caller's. */
static kdas_status send_gradient(kdas_loss *loss, const kd_term_program *k, int t,
                                 const kd_loss_place *at, float scale, bool norms,
                                 kdas_loss_report *r)
{
    int64_t count   = at->n * at->h * at->w;
    float   seed    = (float)weight_of(loss, t) * scale;
    double  squares = 0;

    KD_RETURN(kd_device_upload(loss->ctx, kd_program_grad(k->program[t], k->value[t]), &seed,
                               sizeof seed));
    KD_RETURN(kd_program_backward(k->program[t]));
    for (int i = 0; i < at->maps; i++) {
        const float *g = kd_program_grad(k->program[t], k->student[t][i]);

        if (!g) continue; /* this term does not read the map */
        if (norms) KD_RETURN(sum_squares(loss, g, count, &squares));
        if (at->gradient[i]) KD_RETURN(add_to(loss, at->gradient[i], g, count));
    }
    r->gradient[t] = sqrt(squares) / (double)scale;
    if (norms && squares == 0 && !loss->warned[t]) {
        loss->warned[t] = true;
        kd_warn(loss->ctx,
                "the %s term is switched on but sends a gradient of exactly zero to the student",
                term_names[t]);
    }
    return KDAS_OK;
}

static kdas_status run_term(kdas_loss *loss, const kd_term_program *k, int t,
                            const kd_loss_place *at, float scale, bool norms, kdas_loss_report *r)
{
    kd_program *p = k->program[t];
    float       value;

    kd_program_bind(p, k->mask[t], at->mask, NULL);
    for (int i = 0; i < at->maps; i++) {
        kd_program_bind(p, k->student[t][i], at->student[i], NULL);
        if (k->teacher[t][i]) kd_program_bind(p, k->teacher[t][i], at->teacher[i], NULL);
    }
    KD_RETURN(kd_program_forward(p, 0));
    KD_RETURN(
        kd_device_download(loss->ctx, &value, kd_program_value(p, k->value[t]), sizeof value));
    if (!isfinite(value))
        return kd_fail(KDAS_ENUMERIC, "the %s term of the loss is not finite (%g)", term_names[t],
                       (double)value);
    r->on[t]       = 1;
    r->raw[t]      = (double)value;
    r->weighted[t] = weight_of(loss, t) * (double)value;
    r->total += r->weighted[t];
    return wants_gradient(at) ? send_gradient(loss, k, t, at, scale, norms, r) : KDAS_OK;
}

kdas_status kd_loss_run(kdas_loss *loss, const kd_loss_place *at, float scale, bool norms,
                        kdas_loss_report *report)
{
    kdas_loss_report r = { .size = sizeof r };
    kd_term_program *k;

    KD_RETURN(programs_for(&k, loss, at));
    for (int i = 0; i < at->maps; i++)
        if (at->gradient[i])
            KD_RETURN(kd_profile_zero(loss->ctx, "loss", at->gradient[i],
                                      (size_t)(at->n * at->h * at->w) * sizeof(float)));
    for (int t = 0; t < KDAS_TERMS; t++)
        if (k->program[t]) KD_RETURN(run_term(loss, k, t, at, scale, norms, &r));
    if (report) {
        r.size = KD_MIN(report->size, sizeof r);
        memcpy(report, &r, r.size);
    }
    return KDAS_OK;
}

/* ---- for hosts ---- */

static kdas_status check_maps(const kdas_maps *m, const char *whose)
{
    if (!m->map || m->maps < 1 || m->maps > KD_MAX_MAPS)
        return kd_fail(KDAS_EINVAL, "loss: the %s has %d maps, not 1 to %d", whose, m->maps,
                       KD_MAX_MAPS);
    if (m->count < 1 || m->height < 1 || m->width < 1)
        return kd_fail(KDAS_ESHAPE, "loss: the %s's maps are %lldx%lldx%lld", whose,
                       (long long)m->count, (long long)m->height, (long long)m->width);
    for (int i = 0; i < m->maps; i++)
        if (!m->map[i]) return kd_fail(KDAS_EINVAL, "loss: map %d of the %s is NULL", i, whose);
    return KDAS_OK;
}

static kdas_status check_pair(const kdas_maps *s, const kdas_maps *t)
{
    KD_RETURN(check_maps(t, "teacher"));
    if (t->maps != s->maps || t->count != s->count)
        return kd_fail(KDAS_ESHAPE,
                       "loss: the teacher has %d maps of %lld images, the student %d of %lld",
                       t->maps, (long long)t->count, s->maps, (long long)s->count);
    return KDAS_OK;
}

/* Everything that the terms read and write, in one piece of device memory unless that is the host's. */
static kdas_status stage_all(kdas_loss *loss, kd_loss_place *at, const kdas_maps *s,
                             const kdas_maps *t, const float *masks, float *const *gradients)
{
    size_t n    = (size_t)(at->n * at->h * at->w),
           tn   = (size_t)(at->n * at->teacher_h * at->teacher_w);
    size_t maps = (size_t)s->maps, total = (n + maps * (2 * n + (t ? tn : 0))) * sizeof(float);
    float *to;

    if (loss->ctx->host_memory) {
        at->mask = (float *)masks;
        for (int i = 0; i < s->maps; i++) {
            at->student[i]  = (float *)s->map[i];
            at->teacher[i]  = t ? (float *)t->map[i] : NULL;
            at->gradient[i] = gradients ? gradients[i] : NULL;
        }
        return KDAS_OK;
    }
    if (loss->staging.bytes < total) {
        kd_device_unstage(loss->ctx, &loss->staging);
        loss->staging.memory = kd_device_alloc(loss->ctx, total);
        if (!loss->staging.memory) return KDAS_ENOMEM;
        loss->staging.bytes = total;
    }
    at->mask = to = loss->staging.memory;
    KD_RETURN(kd_device_upload(loss->ctx, to, masks, n * sizeof *to));
    to += n;
    for (int i = 0; i < s->maps; i++) {
        at->student[i] = to;
        KD_RETURN(kd_device_upload(loss->ctx, to, s->map[i], n * sizeof *to));
        at->gradient[i] = gradients && gradients[i] ? to + n : NULL;
        to += 2 * n;
        if (!t) continue;
        at->teacher[i] = to;
        KD_RETURN(kd_device_upload(loss->ctx, to, t->map[i], tn * sizeof *to));
        to += tn;
    }
    return KDAS_OK;
}

kdas_status kdas_loss_evaluate(kdas_loss *loss, const kdas_maps *s, const kdas_maps *t,
                               const float *masks, float *const *gradients,
                               kdas_loss_report *report)
{
    kd_loss_place at = { 0 };

    if (!loss || !s || !masks) return kd_fail(KDAS_EINVAL, "loss: loss, student or masks is NULL");
    if (report && report->size < sizeof report->size)
        return kd_fail(KDAS_EINVAL, "kdas_loss_report: size is not set");
    KD_RETURN(check_maps(s, "student"));
    if (!kdas_loss_needs_teacher(loss))
        t = NULL;
    else if (!t)
        return kd_fail(KDAS_EINVAL, "guidance \"%s\" needs a teacher's maps", loss->guidance_name);
    if (t) KD_RETURN(check_pair(s, t));
    at.maps      = s->maps;
    at.n         = s->count;
    at.h         = s->height;
    at.w         = s->width;
    at.teacher_h = t ? t->height : s->height;
    at.teacher_w = t ? t->width : s->width;
    KD_RETURN(stage_all(loss, &at, s, t, masks, gradients));
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
    for (size_t i = 0; i < loss->programs; i++)
        destroy_programs(loss->program[i], loss->ctx);
    kd_free(loss->ctx, loss->program);
    kd_device_unstage(loss->ctx, &loss->staging);
    kd_arena_destroy(loss->arena);
    kd_device_free(loss->ctx, loss->norm);
    kd_free(loss->ctx, loss);
}

/* feature_step.c - feature guidance in a step. The taps of both models are inputs of a program
 * of its own; its gradient at the student's taps is added to the initial gradients of the
 * student's backward. */
#include "distill/feature_step.h"
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "distill/distiller.h"
#include "distill/feature_inside.h"
#include "loss/loss.h"
#include "optim/optim.h"

/* ---- make ---- */

static kdas_status keep_taps(const kd_feature *f, kdas_model *teacher, kdas_model *student)
{
    for (int i = 0; i < f->pairs; i++) {
        KD_RETURN(kdas_model_keep_tap(teacher, f->pair[i].teacher));
        KD_RETURN(kdas_model_keep_tap(student, f->pair[i].student));
    }
    return KDAS_OK;
}

/* The shape of each tap in the last forward, or at the smallest size. */
static void take_shapes(kd_feature *f, const kd_graph *teacher, const kd_graph *student)
{
    for (int i = 0; i < f->pairs; i++) {
        f->pair[i].teacher_shape       = kd_find(teacher, f->pair[i].teacher)->desc.out;
        f->pair[i].student_shape       = kd_find(student, f->pair[i].student)->desc.out;
        f->pair[i].teacher_shape.dtype = f->pair[i].student_shape.dtype = KDAS_F32;
    }
}

/* Losses are in f32, and so are projections; the networks may compute in another type. */
static kdas_status build(kd_graph **out, kd_feature *f, const kdas_loss_options *o)
{
    kd_graph   *g = kd_graph_create(f->ctx, f->params, KD_EVAL);
    kdas_status st;

    *out = NULL;
    if (!g) return KDAS_ENOMEM;
    kd_graph_stay_f32(g);
    kd_feature_build(g, f->kind, o, f->pair, f->pairs);
    st = kd_graph_status(g);
    if (st == KDAS_OK)
        *out = g;
    else
        kd_graph_destroy(g);
    return st;
}

/* Declare the projections by a graph at the smallest size, and draw them by the student's seed. */
static kdas_status make_projections(kd_feature *f, const kdas_distiller *d)
{
    kd_graph *g;

    if (!f->kind->projects) return KDAS_OK;
    KD_RETURN(kd_params_create(&f->params, f->ctx));
    take_shapes(f, d->teacher->shape, d->student->shape);
    KD_RETURN(build(&g, f, &d->loss->options));
    kd_graph_destroy(g);
    KD_RETURN(kd_params_seal(f->params, true));
    KD_RETURN(kd_params_init(f->params, d->student->options.seed));
    return kd_optim_side_create(d->optim, f->params);
}

static kdas_status create(kdas_distiller *d)
{
    kd_feature *f = d->feature;

    f->ctx  = d->ctx;
    f->kind = kd_feature_find(d->loss->options.feature);
    if (!f->kind) return KDAS_ENOTFOUND;
    KD_RETURN(
        kd_pair_taps(f->pair, &f->pairs, d->teacher, d->student, d->loss->options.feature_taps));
    f->arena   = kd_arena_create(d->ctx);
    f->results = f->arena ? kd_device_alloc(d->ctx, sizeof *f->results) : NULL;
    if (!f->results) return KDAS_ENOMEM;
    KD_RETURN(make_projections(f, d));
    return keep_taps(f, d->teacher, d->student);
}

kdas_status kd_feature_create(kdas_distiller *d)
{
    if (!kdas_loss_needs_taps(d->loss)) return KDAS_OK;
    if (!d->teacher)
        return kd_fail(KDAS_EINVAL,
                       "feature guidance \"%s\" needs a teacher model; host maps have no taps",
                       d->loss->options.feature);
    d->feature = kd_calloc(d->ctx, 1, sizeof *d->feature);
    return d->feature ? create(d) : KDAS_ENOMEM;
}

static void destroy_program(const kd_feature *f, kd_feature_program *k)
{
    kd_program_destroy(k->program);
    kd_free(f->ctx, k);
}

void kd_feature_destroy(kdas_distiller *d)
{
    kd_feature *f = d->feature;

    if (!f) return;
    if (f->params && d->optim->side && d->optim->side->params == f->params)
        kd_optim_side_destroy(d->optim);
    for (size_t i = 0; i < f->programs; i++)
        destroy_program(f, f->program[i]);
    kd_free(f->ctx, f->program);
    kd_arena_destroy(f->arena);
    kd_device_free(f->ctx, f->results);
    kd_params_destroy(f->params);
    kd_free(f->ctx, f);
    d->feature = NULL;
}

/* ---- programs ---- */

static kdas_status compile(kd_feature_program *k, kdas_distiller *d)
{
    kd_feature *f = d->feature;
    kd_graph   *g;
    char        name[KD_FEATURE_NAME];

    take_shapes(f, kd_program_graph(d->teacher->current), kd_program_graph(d->student->current));
    KD_RETURN(build(&g, f, &d->loss->options));
    KD_RETURN(kd_program_create(&k->program, g, f->arena));
    for (int i = 0; i < f->pairs; i++) {
        kd_feature_input(name, "teacher", f->pair[i].teacher);
        k->teacher[i] = kd_find(g, name);
        kd_feature_input(name, "student", f->pair[i].student);
        k->student[i] = kd_find(g, name);
        for (int j = 0; j < i; j++) /* a tap of several pairs is handled with the first */
            if (k->student[j] == k->student[i]) k->student[i] = NULL;
    }
    k->value = kd_find(g, "feature");
    kd_program_label(k->program, "loss.feature %lldx%lldx%lld", (long long)k->n, (long long)k->h,
                     (long long)k->w);
    return KDAS_OK;
}

static kdas_status program_for(kd_feature_program **out, kdas_distiller *d)
{
    kd_feature         *f     = d->feature;
    const kd_node      *image = kd_find(kd_program_graph(d->student->current), "image");
    const int64_t      *dim   = image->desc.out.dim;
    kd_feature_program *k;
    kdas_status         st;

    for (size_t i = 0; i < f->programs; i++) {
        k = f->program[i];
        if (k->n != dim[0] || k->h != dim[1] || k->w != dim[2]) continue;
        *out = kd_move_last(f->program, f->programs, i);
        return KDAS_OK;
    }
    *out = NULL;
    KD_RETURN(kd_grow(f->ctx, (void **)&f->program, &f->program_capacity, f->programs + 1,
                      sizeof *f->program));
    k = kd_calloc(f->ctx, 1, sizeof *k);
    if (!k) return KDAS_ENOMEM;
    k->n = dim[0];
    k->h = dim[1];
    k->w = dim[2];
    st   = compile(k, d);
    if (st != KDAS_OK) {
        kd_free(f->ctx, k);
        return st;
    }
    if (f->programs == KD_PROGRAMS_MOST)
        destroy_program(f, kd_move_last(f->program, f->programs--, 0));
    f->program[f->programs++] = *out = k;
    return KDAS_OK;
}

/* ---- run ---- */

/* The state of one step. */
typedef struct run {
    kdas_distiller     *d;
    kd_feature         *f;
    kd_feature_program *k;
    double              weight, scale, factor;
    bool                read;     /* the caller reads the value      */
    bool                measured; /* and the norm, or the share does */
    double              value, norm, squares;
} run;

static kd_program *student_of(const run *r) { return r->d->student->current; }

static const kd_node *student_tap(const run *r, int i)
{
    return kd_find(kd_program_graph(student_of(r)), r->f->pair[i].student);
}

static void bind_taps(const run *r)
{
    kd_program *teacher = r->d->teacher->current, *student = student_of(r);

    for (int i = 0; i < r->f->pairs; i++) {
        const kd_node *t = kd_find(kd_program_graph(teacher), r->f->pair[i].teacher);

        kd_program_bind(r->k->program, r->k->teacher[i], kd_program_value(teacher, t), NULL);
        if (r->k->student[i])
            kd_program_bind(r->k->program, r->k->student[i],
                            kd_program_value(student, student_tap(r, i)), NULL);
    }
}

/* Forward and backward of the term under its weight alone: gradients at the taps lie in the
 * program, those of the projections are accumulated. */
static kdas_status run_program(const run *r)
{
    kd_program *p        = r->k->program;
    float       gradient = (float)(r->weight * r->scale);

    bind_taps(r);
    KD_RETURN(kd_program_forward(p, 0));
    if (r->read)
        KD_RETURN(kd_device_add(r->f->ctx, &r->f->results->value, kd_program_value(p, r->k->value),
                                1, 1));
    KD_RETURN(
        kd_device_upload(r->f->ctx, kd_program_grad(p, r->k->value), &gradient, sizeof gradient));
    KD_RETURN(kd_program_backward(p));
    for (int i = 0; r->measured && i < r->f->pairs; i++) {
        const kd_node *s = r->k->student[i];

        if (s)
            KD_RETURN(kd_device_sum_squares(r->f->ctx, &r->f->results->squares[i],
                                            kd_program_grad(p, s), kd_elements(&s->desc.out)));
    }
    return KDAS_OK;
}

static kdas_status fetch(run *r)
{
    kd_feature_results results;
    double             sum = 0;

    if (!r->read && !r->measured) return KDAS_OK;
    KD_RETURN(kd_device_download(r->f->ctx, &results, r->f->results, sizeof results));
    for (int i = 0; r->measured && i < r->f->pairs; i++)
        if (r->k->student[i]) sum += results.squares[i];
    r->value   = (double)results.value;
    r->squares = sum;
    r->norm    = sqrt(sum) / r->scale;
    if (r->read && !isfinite(r->value))
        return kd_fail(KDAS_ENUMERIC, "the feature term of the loss is not finite (%g)", r->value);
    return KDAS_OK;
}

/* Add to the initial gradients of the student's backward. The host may have added its own
 * gradients there. */
static kdas_status add_to_student(const run *r)
{
    for (int i = 0; i < r->f->pairs; i++) {
        const kd_node *s;

        assert(r->k->student); /* made with the program */
        s = r->k->student[i];

        if (!s) continue;
        KD_RETURN(kd_device_add(r->f->ctx, kd_program_grad(student_of(r), student_tap(r, i)),
                                kd_program_grad(r->k->program, s), kd_elements(&s->desc.out),
                                r->factor));
    }
    return KDAS_OK;
}

static void put_report(const run *r, kdas_loss_report *to)
{
    const int t = KDAS_TERM_FEATURE;

    to->on[t]       = 1;
    to->raw[t]      = r->value;
    to->weighted[t] = r->weight * r->factor * r->value;
    to->gradient[t] = r->d->options.gradient_norms ? r->norm * r->factor : 0;
    to->total += to->weighted[t];
}

static void warn_of_zero(const run *r)
{
    kdas_loss *loss = r->d->loss;

    if (!r->measured || r->norm != 0 || loss->warned[KDAS_TERM_FEATURE]) return;
    loss->warned[KDAS_TERM_FEATURE] = true;
    kd_warn(loss->ctx,
            "the feature term is switched on but sends a gradient of exactly zero to the "
            "student");
}

bool kd_feature_wanted(const kdas_distiller *d) { return d->feature && kd_loss_guides(d->loss); }

/* All up to the norm. */
static kdas_status measure(run *r)
{
    KD_RETURN(kd_feature_settle(r->d));
    KD_RETURN(program_for(&r->k, r->d));
    KD_RETURN(kd_device_zero(r->f->ctx, r->f->results, sizeof *r->f->results));
    KD_RETURN(run_program(r));
    return fetch(r);
}

/* The first norms, over all ranks. */
static kdas_status vote(run *r, kdas_status mine)
{
    kdas_loss    *loss                = r->d->loss;
    kd_loss_part *part                = loss->part;
    double        squares[KDAS_TERMS] = {
               [KDAS_TERM_SEG] = part->squares[KDAS_TERM_SEG], [KDAS_TERM_FEATURE] = r->squares
    };

    KD_RETURN(kd_loss_part_vote(loss, mine, squares));
    r->norm        = sqrt(squares[KDAS_TERM_FEATURE]) / part->scale;
    loss->seg_norm = sqrt(squares[KDAS_TERM_SEG]) / part->scale;
    return KDAS_OK;
}

bool kd_feature_votes(const kdas_distiller *d)
{
    return kd_feature_wanted(d) && kd_share_limits(d->loss, KDAS_TERM_FEATURE) &&
           d->loss->share[KDAS_TERM_FEATURE].count == 0;
}

/* What waits for the other ranks' parts of the batch. */
static void keep_part(const run *r, bool note)
{
    const int     t    = KDAS_TERM_FEATURE;
    kd_loss_part *part = r->d->loss->part;

    kd_loss_part_keep(r->d->loss, t, r->value, r->squares,
                      r->d->options.gradient_norms ? r->factor : 0);
    if (r->measured) part->measured |= 1u << t;
    if (note) part->noted |= 1u << t;
}

/* The share and the ramp limit the student's gradients. The projections' gradients use
 * the weight alone. */
kdas_status kd_feature_run(kdas_distiller *d, float scale, bool read, kdas_loss_report *report)
{
    run         r       = { .d = d, .f = d->feature, .scale = scale };
    bool        limited = kd_share_limits(d->loss, KDAS_TERM_FEATURE), first;
    kdas_status st;

    if (!kd_feature_wanted(d) || !d->holds[0]) return KDAS_OK; /* no teacher has run */
    r.weight   = kd_loss_weight(d->loss, KDAS_TERM_FEATURE);
    r.read     = read || d->ctx->host_memory;
    r.measured = limited || (read && d->options.gradient_norms);
    first = limited && d->loss->share[KDAS_TERM_FEATURE].count == 0; /* no earlier measurement */
    st    = measure(&r);
    if (first && d->loss->part) st = vote(&r, st);
    KD_RETURN(st);
    if (first) kd_share_note(d->loss, KDAS_TERM_FEATURE, d->loss->seg_norm, r.norm);
    r.factor = kd_share_factor(d->loss, KDAS_TERM_FEATURE);
    KD_RETURN(add_to_student(&r));
    if (d->loss->part) {
        keep_part(&r, limited && !first);
        return KDAS_OK;
    }
    if (limited && !first) kd_share_note(d->loss, KDAS_TERM_FEATURE, d->loss->seg_norm, r.norm);
    if (read) put_report(&r, report);
    warn_of_zero(&r);
    return KDAS_OK;
}

static kdas_status zero(kd_feature *f, const kdas_model *student)
{
    f->zeroed = student->zeroed;
    return f->params ? kd_params_zero_grads(f->params, "loss.feature") : KDAS_OK;
}

kdas_status kd_feature_zero(kdas_distiller *d)
{
    return d->feature ? zero(d->feature, d->student) : KDAS_OK;
}

kdas_status kd_feature_settle(const kdas_distiller *d)
{
    if (!d->feature || d->feature->zeroed == d->student->zeroed) return KDAS_OK;
    return zero(d->feature, d->student);
}

void kd_feature_pairs(char to[KD_FEATURE_PAIRS], const kd_feature *f)
{
    int used = 0;

    for (int i = 0; i < f->pairs && used < KD_FEATURE_PAIRS; i++)
        used += snprintf(to + used, (size_t)(KD_FEATURE_PAIRS - used), "%s%s:%s", i ? "," : "",
                         f->pair[i].teacher, f->pair[i].student);
}

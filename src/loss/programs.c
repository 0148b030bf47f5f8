/* programs.c - the objective's programs. One program holds all terms of one map, so that they
 * share values and the planner sees all buffers. Maps with the same terms share the program. */
#include <stdio.h>
#include <string.h>
#include "loss/loss.h"
#include "graph/build.h"

const char *const kd_term_names[KDAS_TERMS] = { "seg", "kd", "sgm", "feature" };

const char *kdas_term_name(kdas_term term)
{
    return (unsigned)term < KDAS_TERMS ? kd_term_names[term] : NULL;
}

double kd_loss_weight(const kdas_loss *loss, int term)
{
    const kdas_loss_options *o = &loss->options;

    switch (term) {
    case KDAS_TERM_SEG: return (double)o->seg_weight;
    case KDAS_TERM_KD: return (double)o->guidance_weight * (double)o->kd_weight;
    case KDAS_TERM_SGM: return (double)o->guidance_weight * (double)o->sgm_weight;
    default: return (double)o->feature_weight;
    }
}

uint32_t kd_loss_terms(const kdas_loss *loss, int map, int maps)
{
    const kd_guidance *guide             = loss->guidance;
    int                sgm               = guide->sgm_map == KD_FIRST_MAP ? 0 : maps - 1;
    bool               there[KDAS_TERMS] = { [KDAS_TERM_SEG] = true,
                                             [KDAS_TERM_KD]  = guide->kd != NULL,
                                             [KDAS_TERM_SGM] = guide->sgm && map == sgm };
    uint32_t           terms             = 0;

    for (int t = 0; t < KDAS_TERMS; t++)
        if (there[t] && kd_loss_weight(loss, t) > 0 && (t == KDAS_TERM_SEG || kd_loss_guides(loss)))
            terms |= 1u << t;
    return terms;
}

/* ---- build ---- */

static kd_node *term(kd_graph *g, int t, kd_loss_map *m, const kdas_loss *loss)
{
    kd_node *value;

    kd_scope(g, "%s", kd_term_names[t]);
    value = t == KDAS_TERM_SEG  ? loss->seg->build(g, m)
            : t == KDAS_TERM_KD ? loss->guidance->kd(g, m, &loss->options)
                                : loss->guidance->sgm(g, m, &loss->options);
    kd_scope_end(g);
    return kd_output(g, kd_term_names[t], value);
}

/* A teacher's map of another size is resized to the student's. */
static kd_node *teacher_input(kd_graph *g, const kd_loss_key *key)
{
    kd_node *map =
        kd_input(g, "teacher", kd_desc(key->n, key->teacher_h, key->teacher_w, 1), false);

    if (key->teacher_h == key->h && key->teacher_w == key->w) return map;
    return kd_resize(g, map, key->h, key->w, false, 0);
}

static void build(kd_graph *g, kd_loss_program *k, const kdas_loss *loss)
{
    const kd_loss_key *key   = &k->key;
    kdas_desc          shape = kd_desc(key->n, key->h, key->w, 1);
    bool               seg   = key->terms >> KDAS_TERM_SEG & 1;
    kd_loss_map        m     = { .student = kd_input(g, "student", shape, true) };

    if (seg) m.mask = kd_input(g, "mask", shape, false);
    if (seg && loss->seg->weighted) m.weight = kd_input(g, "weight", shape, false);
    if (seg && key->pixel && loss->seg->pixel) m.pixel = kd_input(g, "pixel", shape, false);
    if (key->terms & ~(1u << KDAS_TERM_SEG)) m.teacher = teacher_input(g, key);
    for (int t = 0; t < KDAS_TERMS; t++)
        if (key->terms >> t & 1) k->value[t] = term(g, t, &m, loss);
    k->student = m.student;
    k->teacher = kd_find(g, "teacher");
    k->mask    = m.mask;
    k->weight  = m.weight;
    k->pixel   = m.pixel;
}

static void build_weight(kd_graph *g, kd_loss_program *k)
{
    kd_node *mask  = kd_input(g, "mask", kd_desc(k->key.n, k->key.h, k->key.w, 1), false);
    kd_node *pixel = NULL;

    k->mask = mask;
    if (k->key.pixel)
        k->pixel = pixel = kd_input(g, "pixel", kd_desc(k->key.n, k->key.h, k->key.w, 1), false);
    k->weight = kd_output(g, "weight", kd_seg_weight(g, mask, pixel));
}

static kdas_status compile(kd_loss_program *k, kdas_loss *loss)
{
    const kd_loss_key *key = &k->key;
    kd_graph          *g   = kd_graph_create(loss->ctx, NULL, key->terms ? KD_EVAL : KD_INFER);
    char               names[32];
    int                n = 0;

    if (!g) return KDAS_ENOMEM;
    if (key->separate) kd_graph_keep_tape(g);
    if (key->terms)
        build(g, k, loss);
    else
        build_weight(g, k);
    KD_RETURN(kd_program_create(&k->program, g, key->terms ? loss->arena : loss->weight_arena));
    for (int t = 0; t < KDAS_TERMS; t++)
        if (key->terms >> t & 1)
            n += snprintf(names + n, sizeof names - (size_t)n, "%s%s", n ? "+" : "",
                          kd_term_names[t]);
    kd_program_label(k->program, "loss.%s %lldx%lldx%lld", n ? names : "weight", (long long)key->n,
                     (long long)key->h, (long long)key->w);
    return KDAS_OK;
}

/* ---- keep ---- */

static bool same_key(const kd_loss_key *a, const kd_loss_key *b)
{
    return a->n == b->n && a->h == b->h && a->w == b->w && a->teacher_h == b->teacher_h &&
           a->teacher_w == b->teacher_w && a->terms == b->terms && a->separate == b->separate &&
           a->pixel == b->pixel;
}

static void destroy(kdas_loss *loss, kd_loss_program *k)
{
    kd_program_destroy(k->program);
    kd_free(loss->ctx, k);
}

kdas_status kd_loss_program_for(kd_loss_program **out, kdas_loss *loss, const kd_loss_key *key)
{
    kd_loss_program *k;
    kdas_status      st;

    for (size_t i = 0; i < loss->programs; i++)
        if (same_key(&loss->program[i]->key, key)) {
            *out = kd_move_last(loss->program, loss->programs, i);
            return KDAS_OK;
        }
    *out = NULL;
    KD_RETURN(kd_grow(loss->ctx, (void **)&loss->program, &loss->program_capacity,
                      loss->programs + 1, sizeof *loss->program));
    k = kd_calloc(loss->ctx, 1, sizeof *k);
    if (!k) return KDAS_ENOMEM;
    k->key = *key;
    st     = compile(k, loss);
    if (st != KDAS_OK) {
        kd_free(loss->ctx, k);
        return st;
    }
    if (loss->programs == KD_PROGRAMS_MOST)
        destroy(loss, kd_move_last(loss->program, loss->programs--, 0));
    loss->program[loss->programs++] = *out = k;
    return KDAS_OK;
}

void kd_loss_programs_destroy(kdas_loss *loss)
{
    for (size_t i = 0; i < loss->programs; i++)
        destroy(loss, loss->program[i]);
    kd_free(loss->ctx, loss->program);
}

/* sizes.c - the programs of a model, one for each size and mode. They share packed parameters
 * and the memory of activations. The most recently used ones are kept. */
#include "base/process.h"
#include "model/model.h"

static const char *const mode_names[] = {
    [KD_INFER] = "infer", [KD_EVAL] = "eval", [KD_TRAIN] = "train"
};

/* ---- drop ---- */

static void drop(kdas_model *m, size_t i)
{
    if (m->current == m->program[i].program) m->current = NULL;
    kd_program_destroy(m->program[i].program);
    m->program[i] = m->program[--m->programs];
}

void kd_model_programs_drop(kdas_model *m, size_t keep)
{
    while (m->programs > keep) {
        size_t oldest = 0;

        for (size_t i = 1; i < m->programs; i++)
            if (m->program[i].used < m->program[oldest].used) oldest = i;
        drop(m, oldest);
    }
}

kdas_status kdas_model_trim(kdas_model *m, int32_t keep)
{
    size_t most = 0;

    if (!m) return kd_fail(KDAS_EINVAL, "kdas_model_trim: the model is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    if (keep < 0) return kd_fail(KDAS_EINVAL, "kdas_model_trim: %d sizes cannot be kept", keep);
    kd_model_programs_drop(m, (size_t)keep);
    for (size_t i = 0; i < m->programs; i++)
        most = KD_MAX(most, kd_program_memory_use(m->program[i].program).arena);
    kd_arena_trim(m->arena, most);
    return KDAS_OK;
}

/* ---- find or compile ---- */

kdas_status kd_model_check_mode(const kdas_model *m, kd_mode mode)
{
    if (mode == KD_INFER || m->options.trainable) return KDAS_OK;
    return kd_fail(KDAS_ESTATE, "model '%s' was made without gradients (trainable = 0)",
                   m->def->name);
}

static kdas_status compile(kd_program **out, kdas_model *m, kd_mode mode, int64_t n, int64_t h,
                           int64_t w)
{
    kd_model_form form = kd_model_form_of(m, mode);
    kd_graph     *g;

    KD_RETURN(kd_model_check_mode(m, mode));
    KD_RETURN(kd_grow(m->ctx, (void **)&m->program, &m->program_capacity, m->programs + 1,
                      sizeof *m->program));
    KD_RETURN(kd_model_build(&g, m->ctx, m->def, m->params, kd_desc(n, h, w, 3), &form));
    KD_RETURN(kd_program_create(out, g, m->arena));
    kd_program_label(*out, "%s %s %lldx%lldx%lld", m->def->name, mode_names[mode], (long long)n,
                     (long long)h, (long long)w);
    kd_model_programs_drop(m, KD_PROGRAMS_MOST - 1);
    m->program[m->programs++] = (kd_model_program){ mode, n, h, w, *out, ++m->program_clock };
    return KDAS_OK;
}

kdas_status kd_model_program_for(kd_program **out, kdas_model *m, kd_mode mode, int64_t n,
                                 int64_t h, int64_t w)
{
    *out = NULL;
    for (size_t i = 0; i < m->programs; i++) {
        kd_model_program *k = &m->program[i];

        if (k->mode == mode && k->n == n && k->h == h && k->w == w) {
            k->used = ++m->program_clock;
            *out    = k->program;
            return KDAS_OK;
        }
    }
    KD_RETURN(kd_check_size(m->def, n, h, w));
    return compile(out, m, mode, n, h, w);
}

kdas_status kdas_model_memory(kdas_model *m, kdas_mode mode, int64_t count, int64_t height,
                              int64_t width, size_t *arena, size_t *packed)
{
    kd_program       *p;
    kd_program_memory use;

    if (!m) return kd_fail(KDAS_EINVAL, "kdas_model_memory: model is NULL");
    if (mode != KDAS_MODE_INFER && mode != KDAS_MODE_EVAL && mode != KDAS_MODE_TRAIN)
        return kd_fail(KDAS_EINVAL, "there is no mode %d", (int)mode);
    KD_RETURN(kd_check_process(m->ctx));
    KD_RETURN(kd_model_program_for(&p, m, (kd_mode)mode, count, height, width));
    use = kd_program_memory_use(p);
    if (arena) *arena = use.arena;
    if (packed) *packed = use.packed;
    return KDAS_OK;
}

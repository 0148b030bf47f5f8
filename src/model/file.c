/* file.c - a model's tensors in a safetensors file, under the names of the published state_dict. */
#include <stdio.h>
#include <string.h>
#include "base/process.h"
#include "base/text.h"
#include "io/safetensors.h"
#include "model/model.h"

/* ---- load ---- */

void kd_model_sources_clear(kdas_model *m)
{
    for (size_t i = 0; i < m->sources; i++)
        kd_free(m->ctx, m->source[i]);
    kd_free(m->ctx, m->source);
    m->source  = NULL;
    m->sources = m->source_capacity = 0;
}

const char *kdas_model_source(const kdas_model *m, int32_t i)
{
    return m && i >= 0 && (size_t)i < m->sources ? m->source[i] : NULL;
}

/* What a load brings beside values: prepared before, so that taking it cannot fail. */
typedef struct arrival {
    kd_model_facts facts;
    char          *path;
} arrival;

static kdas_status arrival_init(arrival *a, kdas_model *m, const kd_safetensors *file)
{
    KD_RETURN(kd_model_facts_read(&a->facts, m->ctx, file, KD_FACT_PREFIX));
    KD_RETURN(kd_grow(m->ctx, (void **)&m->source, &m->source_capacity, m->sources + 1,
                      sizeof *m->source));
    a->path = kd_strdup(m->ctx, kd_safetensors_path(file));
    return a->path ? KDAS_OK : KDAS_ENOMEM;
}

/* `whole`: all values are the file's, so what the model knew of the old ones is void. */
static void arrival_take(arrival *a, kdas_model *m, bool whole)
{
    for (; whole && m->sources; m->sources--)
        kd_free(m->ctx, m->source[m->sources - 1]);
    m->source[m->sources++] = a->path;
    a->path                 = NULL;
    if (whole) kd_model_facts_take(m, &a->facts);
}

static void arrival_finish(arrival *a, kdas_model *m)
{
    kd_model_facts_clear(&a->facts, m->ctx);
    kd_free(m->ctx, a->path);
}

void kdas_load_options_init(kdas_load_options *options, size_t size)
{
    kdas_load_options defaults = { .size = size };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

/* The file's tensor for each of the model's entries; NULL: not in the file. */
typedef struct pairing {
    const kd_st_tensor **tensor;
    int64_t              largest; /* elements of the largest entry */
} pairing;

static kdas_status fit(const kd_param_entry *e, const kd_st_tensor *t, const char *path)
{
    bool same = t->rank == e->rank;

    for (int i = 0; same && i < e->rank; i++)
        same = t->dim[i] == e->dim[i];
    if (same) return KDAS_OK;
    return kd_fail(
        KDAS_ESHAPE,
        "'%s': tensor '%s' has rank %d and %lld elements, the model wants rank %d and %lld", path,
        t->name, t->rank, (long long)t->count, e->rank, (long long)e->count);
}

static bool begins_with(const char *name, const char *beginning)
{
    return strncmp(name, beginning, strlen(beginning)) == 0;
}

/* The model's entry for a file's tensor; -1: this part of the model has none. */
static int part_entry(const kdas_model *m, const char *part, const char *tensor)
{
    char name[512];

    snprintf(name, sizeof name, "%s%s", begins_with(tensor, part) ? "" : part, tensor);
    return kd_params_find(m->params, name);
}

static kdas_status pair_part(pairing *p, const kdas_model *m, const kd_safetensors *file,
                             const char *part)
{
    const char *path  = kd_safetensors_path(file);
    bool        exist = false, found = false;

    for (int64_t i = 0; i < kd_safetensors_count(file); i++) {
        const kd_st_tensor *t = kd_safetensors_at(file, i);
        int                 k = part_entry(m, part, t->name);

        if (k < 0 || (p->tensor[k] && !begins_with(t->name, part))) continue;
        KD_RETURN(fit(kd_params_at(m->params, k), t, path));
        p->tensor[k] = t;
        p->largest   = KD_MAX(p->largest, t->count);
        found        = true;
    }
    for (int k = 0; k < kd_params_count(m->params); k++)
        exist = exist || begins_with(kd_params_at(m->params, k)->name, part);
    if (!exist)
        return kd_fail(KDAS_ENOTFOUND, "model '%s' has no part '%.64s'", m->def->name, part);
    if (!found)
        return kd_fail(KDAS_ENOTFOUND, "'%s' has no tensor of the part '%.64s' of model '%s'", path,
                       part, m->def->name);
    for (int k = 0; k < kd_params_count(m->params); k++) {
        const kd_param_entry *e = kd_params_at(m->params, k);

        if (begins_with(e->name, part) && !p->tensor[k] && e->init.kind != KD_COUNTER)
            return kd_fail(KDAS_ENOTFOUND, "'%s' lacks the tensor '%s' of model '%s'", path,
                           e->name, m->def->name);
    }
    return KDAS_OK;
}

static kdas_status pair(pairing *p, const kdas_model *m, const kd_safetensors *file,
                        const kdas_load_options *o)
{
    const char *path = kd_safetensors_path(file);
    char        name[512];

    if (o->part) return pair_part(p, m, file, o->part);
    for (int64_t i = 0; i < kd_safetensors_count(file); i++) {
        const kd_st_tensor *t = kd_safetensors_at(file, i);
        int                 k;

        snprintf(name, sizeof name, "%s%s", o->prefix ? o->prefix : "", t->name);
        k = kd_params_find(m->params, name);
        if (k >= 0) {
            KD_RETURN(fit(kd_params_at(m->params, k), t, path));
            p->tensor[k] = t;
            p->largest   = KD_MAX(p->largest, t->count);
        } else if (!o->extra)
            return kd_fail(KDAS_ENOTFOUND, "'%s': model '%s' has no tensor '%s'", path,
                           m->def->name, name);
    }
    for (int k = 0; k < kd_params_count(m->params); k++)
        if (!p->tensor[k] && !o->partial)
            return kd_fail(KDAS_ENOTFOUND, "'%s' lacks the tensor '%s' of model '%s'", path,
                           kd_params_at(m->params, k)->name, m->def->name);
    return KDAS_OK;
}

/* Whether the file has all values; batch counters, which some files lack, do not count. */
static bool is_whole(const pairing *p, const kdas_model *m)
{
    for (int k = 0; k < kd_params_count(m->params); k++)
        if (!p->tensor[k] && kd_params_at(m->params, k)->init.kind != KD_COUNTER) return false;
    return true;
}

/* Everything is read before anything is written. So a failure leaves the model unchanged. */
static kdas_status read_all(const pairing *p, kdas_model *m, kd_safetensors *file)
{
    int         count  = kd_params_count(m->params);
    float     **values = kd_calloc(m->ctx, (size_t)count + 1, sizeof *values);
    kdas_status st     = values ? KDAS_OK : KDAS_ENOMEM;

    for (int k = 0; values && k < count && st == KDAS_OK; k++) {
        if (!p->tensor[k]) continue;
        values[k] = kd_alloc(m->ctx, (size_t)p->tensor[k]->count * sizeof(float));
        st = values[k] ? kd_safetensors_read_float(file, p->tensor[k], values[k]) : KDAS_ENOMEM;
    }
    for (int k = 0; values && k < count && st == KDAS_OK; k++)
        if (values[k]) st = kd_params_write(m->params, k, values[k]);
    for (int k = 0; values && k < count; k++)
        kd_free(m->ctx, values[k]);
    kd_free(m->ctx, values);
    return st;
}

kdas_status kdas_model_load(kdas_model *m, const char *path, const kdas_load_options *options)
{
    kdas_load_options o;
    kd_safetensors   *file = NULL;
    pairing           p    = { 0 };
    arrival           a    = { 0 };
    kdas_status       st;

    if (!m || !path) return kd_fail(KDAS_EINVAL, "kdas_model_load: model or path is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    kdas_load_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_load_options"));
    if (o.part && o.prefix)
        return kd_fail(KDAS_EINVAL, "kdas_model_load: 'part' and 'prefix' exclude each other");
    if (o.part && !*o.part)
        return kd_fail(KDAS_EINVAL, "kdas_model_load: 'part' is empty; NULL loads the whole model");
    p.tensor = kd_calloc(m->ctx, (size_t)kd_params_count(m->params) + 1, sizeof *p.tensor);
    if (!p.tensor) return KDAS_ENOMEM;
    KD_TRY(kd_safetensors_open(&file, m->ctx, path));
    KD_TRY(pair(&p, m, file, &o));
    KD_TRY(arrival_init(&a, m, file));
    KD_TRY(read_all(&p, m, file));
    arrival_take(&a, m, is_whole(&p, m));
done:
    arrival_finish(&a, m);
    kd_safetensors_close(file);
    kd_free(m->ctx, p.tensor);
    return st;
}

/* ---- save ---- */

static kdas_status put_entry(kd_st_writer *writer, kdas_model *m, int i, float *values)
{
    const kd_param_entry *e = kd_params_at(m->params, i);

    if (e->init.kind == KD_COUNTER)
        return kd_st_writer_put_scalar(writer, e->name, KD_ST_I64, &e->counter);
    KD_RETURN(kd_params_read(m->params, i, values));
    return kd_st_writer_put(writer, e->name, KD_ST_F32, e->rank, e->dim, values);
}

/* The metadata: the file's own, then the model's facts. */
static kdas_status put_facts(kd_st_writer *writer, const kdas_model *m)
{
    char text[KD_LONGEST_KEY + sizeof KD_FACT_PREFIX];

    KD_RETURN(kd_st_writer_put_text(writer, "format", "pt"));
    KD_RETURN(kd_st_writer_put_text(writer, "model", m->def->name));
    kd_format(text, sizeof text, "%d", KD_FACTS_FORMAT);
    KD_RETURN(kd_st_writer_put_text(writer, KD_FACT_PREFIX "format", text));
    KD_RETURN(kd_st_writer_put_text(writer, KD_FACT_PREFIX "version", kdas_version_string()));
    for (size_t i = 0; i < m->facts.count; i++) {
        kd_format(text, sizeof text, KD_FACT_PREFIX "%s", m->facts.fact[i].key);
        KD_RETURN(kd_st_writer_put_text(writer, text, m->facts.fact[i].value));
    }
    return KDAS_OK;
}

kdas_status kdas_model_save(const kdas_model *model, const char *path)
{
    kdas_model   *m      = (kdas_model *)model; /* reading values does not change the model */
    kd_st_writer *writer = NULL;
    float        *values = NULL;
    kdas_status   st;

    if (!m || !path) return kd_fail(KDAS_EINVAL, "kdas_model_save: model or path is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    KD_TRY(kd_st_writer_create(&writer, m->ctx));
    st     = KDAS_ENOMEM;
    values = kd_alloc(m->ctx, (size_t)kd_params_total(m->params) * sizeof *values);
    if (!values) goto done;
    KD_TRY(put_facts(writer, m));
    for (int i = 0; i < kd_params_count(m->params); i++)
        KD_TRY(put_entry(writer, m, i, values + kd_params_at(m->params, i)->offset));
    KD_TRY(kd_st_writer_save(writer, path, false));
done:
    kd_st_writer_destroy(writer);
    kd_free(m->ctx, values);
    return st;
}

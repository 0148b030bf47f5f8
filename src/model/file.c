/* file.c - a model's tensors in files: loaded from safetensors or PyTorch's, saved as safetensors,
 * under the names of the published state_dict. */
#include <math.h>
#include <string.h>
#include "base/grid.h"
#include "base/process.h"
#include "base/text.h"
#include "io/safetensors.h"
#include "io/weights.h"
#include "model/model.h"
#include "model/pairing.h"
#include "model/stem.h"

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

static kdas_status arrival_init(arrival *a, kdas_model *m, const kd_weights *file)
{
    if (kd_weights_safetensors(file))
        KD_RETURN(
            kd_model_facts_read(&a->facts, m->ctx, kd_weights_safetensors(file), KD_FACT_PREFIX));
    KD_RETURN(kd_grow(m->ctx, (void **)&m->source, &m->source_capacity, m->sources + 1,
                      sizeof *m->source));
    a->path = kd_strdup(m->ctx, kd_weights_path(file));
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

/* A value that no network can have, in words, and its place; NULL: there is none. */
static const char *find_fault(const kd_param_entry *e, const float *values, int64_t *at)
{
    bool variance = e->init.kind == KD_BUFFER && e->init.rule == KD_INIT_ONE;
    bool counter  = e->init.kind == KD_COUNTER;

    for (*at = 0; *at < e->count; ++*at) {
        float x = values[*at];

        if (isnan(x)) return "a NaN";
        if (isinf(x)) return "an infinity";
        if (counter && !kd_is_counter_value(x)) return "an impossible number of batches";
        if (variance && x < 0) return "a negative variance";
    }
    return NULL;
}

/* A file of a run that broke down would make masks of NaN, or a training without sense. */
static kdas_status check_values(const kd_param_entry *e, const char *path, const float *values)
{
    int64_t     at;
    const char *fault = find_fault(e, values, &at);

    if (!fault) return KDAS_OK;
    return kd_fail(KDAS_EFORMAT, "'%s': tensor '%s' has %s at element %lld; %s", path, e->name,
                   fault, (long long)at,
                   "the training that wrote it broke down, or the file is damaged");
}

/* Whether the file has all values; what a file may lack does not count. */
static bool is_whole(const kd_pairing *p, const kdas_model *m)
{
    for (int k = 0; k < kd_params_count(m->params); k++)
        if (!p->tensor[k] && !kd_pairing_may_lack(kd_params_at(m->params, k))) return false;
    return true;
}

static const kd_st_tensor *find_tensor(const kd_pairing *p, const char *name)
{
    for (int64_t i = 0; i < kd_weights_count(p->file, p->set); i++)
        if (strcmp(kd_weights_at(p->file, p->set, i)->name, name) == 0)
            return kd_weights_at(p->file, p->set, i);
    return NULL;
}

/* The scales of tensor `t`; *out NULL: it has none. */
static kdas_status find_scales(const kd_st_tensor **out, const kd_pairing *p, kdas_context *ctx,
                               const kd_st_tensor *t)
{
    char *name = kd_printf(ctx, "%s" KD_SCALE_SUFFIX, t->name);

    *out = NULL;
    if (!name) return KDAS_ENOMEM;
    *out = find_tensor(p, name);
    kd_free(ctx, name);
    return KDAS_OK;
}

static kdas_status find_grids(bool *out, const kd_weights *file)
{
    const kd_safetensors *own = kd_weights_safetensors(file);

    return kd_model_grids_of(out, kd_weights_path(file),
                             own ? kd_safetensors_text(own, KD_FACT_PREFIX KD_FACT_GRIDS) : NULL);
}

/* Whether the scales fit the numbers: one for each row, as floats. */
static kdas_status check_scales(const kd_weights *file, const kd_st_tensor *t,
                                const kd_st_tensor *s, int64_t rows)
{
    const char *path = kd_weights_path(file);
    bool        grids;

    KD_RETURN(find_grids(&grids, file));
    if (!s && t->dtype == KD_ST_I8 && grids)
        return kd_fail(KDAS_EFORMAT, "'%s': the 8-bit tensor '%s' has no scales ('%s%s')", path,
                       t->name, t->name, KD_SCALE_SUFFIX);
    if (s && t->dtype != KD_ST_I8)
        return kd_fail(KDAS_EFORMAT, "'%s': tensor '%s' has scales, and is of %s, not I8", path,
                       t->name, kd_st_dtype_name(t->dtype));
    if (s && s->dtype != KD_ST_F32)
        return kd_fail(KDAS_EFORMAT, "'%s': the scales '%s' are of %s, not F32", path, s->name,
                       kd_st_dtype_name(s->dtype));
    if (s && s->count != rows)
        return kd_fail(KDAS_EFORMAT, "'%s': tensor '%s' has %lld scales, not %lld", path, s->name,
                       (long long)s->count, (long long)rows);
    return KDAS_OK;
}

/* A row of zeros has the scale 0. The grid of a weight is from -127 to 127: a network with another number
 * would not be computed as it was meant. */
static kdas_status multiply_rows(float *values, const float *scale, int64_t rows, int64_t row,
                                 const char *path, const char *name)
{
    for (int64_t o = 0; o < rows; o++)
        for (int64_t i = 0; i < row; i++) {
            float *v = &values[o * row + i];

            if (!(isfinite(scale[o]) && (scale[o] > 0 || (scale[o] == 0 && *v == 0))))
                return kd_fail(KDAS_EFORMAT,
                               "'%s': tensor '%s" KD_SCALE_SUFFIX "' has the scale %g at element "
                               "%lld",
                               path, name, (double)scale[o], (long long)o);
            if (*v < -127)
                return kd_fail(KDAS_EFORMAT,
                               "'%s': the 8-bit tensor '%s' has %g at element %lld; its numbers "
                               "are from -127 to 127",
                               path, name, (double)*v, (long long)(o * row + i));
            *v *= scale[o];
        }
    return KDAS_OK;
}

/* A tensor, with its scales where it is a weight in 8 bits. */
static kdas_status read_tensor(const kd_pairing *p, kdas_context *ctx, kd_weights *file,
                               const kd_st_tensor *t, float *values)
{
    const kd_st_tensor *s;
    float              *scale;
    int64_t             rows = t->rank ? t->dim[0] : 1;
    kdas_status         st;

    KD_RETURN(kd_weights_read(file, t, values));
    KD_RETURN(find_scales(&s, p, ctx, t));
    KD_RETURN(check_scales(file, t, s, rows));
    if (!s) return KDAS_OK;
    scale = kd_alloc(ctx, (size_t)rows * sizeof *scale);
    if (!scale) return KDAS_ENOMEM;
    st = kd_weights_read(file, s, scale);
    if (st == KDAS_OK)
        st = multiply_rows(values, scale, rows, t->count / rows, kd_weights_path(file), t->name);
    kd_free(ctx, scale);
    return st;
}

/* Everything is read before anything is written. So a failure leaves the model unchanged. */
static kdas_status read_all(const kd_pairing *p, kdas_model *m, kd_weights *file,
                            const kdas_load_options *o)
{
    int         count  = kd_params_count(m->params);
    bool        whole  = is_whole(p, m) && !o->partial; /* what `partial` leaves keeps its values */
    float     **values = kd_calloc(m->ctx, (size_t)count + 1, sizeof *values);
    kdas_status st     = values ? KDAS_OK : KDAS_ENOMEM;

    for (int k = 0; values && k < count && st == KDAS_OK; k++) {
        if (!p->tensor[k] && whole && kd_param_is_range(kd_params_at(m->params, k))) {
            values[k] = kd_calloc(m->ctx, 2, sizeof(float)); /* that of other weights is void */
            if (!values[k]) st = KDAS_ENOMEM;
        }
        if (!p->tensor[k]) continue;
        values[k] = kd_alloc(m->ctx, (size_t)kd_params_at(m->params, k)->count * sizeof(float));
        st        = values[k] ? read_tensor(p, m->ctx, file, p->tensor[k], values[k]) : KDAS_ENOMEM;
        if (st == KDAS_OK && p->second[k])
            st = read_tensor(p, m->ctx, file, p->second[k], values[k] + p->tensor[k]->count);
        if (st == KDAS_OK)
            st = check_values(kd_params_at(m->params, k), kd_weights_path(file), values[k]);
    }
    if (st == KDAS_OK && !o->as_published && kd_stem_adapt(p, values))
        kd_info(m->ctx, "'%s': the stem is rewritten from (x - 127) / 128 to ImageNet's pixels",
                kd_weights_path(file));
    for (int k = 0; values && k < count && st == KDAS_OK; k++)
        if (values[k]) st = kd_params_write(m->params, k, values[k]);
    for (int k = 0; values && k < count; k++)
        kd_free(m->ctx, values[k]);
    kd_free(m->ctx, values);
    return st;
}

static kdas_status pair(kd_pairing *p, const kdas_load_options *o)
{
    int64_t     fits;
    kdas_status st;

    p->prefix = o->prefix;
    p->part   = o->part;
    KD_RETURN(kd_pairing_choose(p, o->entry, &fits));
    st = kd_pairing_make(p, o->partial, o->extra);
    return st == KDAS_ENOTFOUND || st == KDAS_ESHAPE ? kd_pairing_explain(p, st) : st;
}

/* What no op reads may have another shape: a classifier of other classes. */
static void tell_left(const kd_pairing *p, kdas_context *ctx)
{
    const char *path = kd_weights_path(p->file);

    if (p->lefts == 1)
        kd_info(
            ctx,
            "'%s': the tensor '%.200s' has another shape than model '%s' wants; the network never "
            "reads it, and the model keeps its own values",
            path, p->left->name, p->network);
    if (p->lefts > 1)
        kd_info(
            ctx,
            "'%s': the tensor '%.200s' and %d more have other shapes than model '%s' wants; the "
            "network never reads them, and the model keeps its own values",
            path, p->left->name, p->lefts - 1, p->network);
    if (p->ranges)
        kd_info(ctx,
                "'%s': of the model's layers %d are not on 8-bit grids, as they are in the file: "
                "they take the weights as they were rounded, and no ranges",
                path, p->ranges);
}

kdas_status kdas_model_load(kdas_model *m, const char *path, const kdas_load_options *options)
{
    kdas_load_options o;
    kd_weights       *file = NULL;
    kd_pairing        p    = { 0 };
    arrival           a    = { 0 };
    bool              grids; /* of no matter */
    kdas_status       st;

    if (!m || !path) return kd_fail(KDAS_EINVAL, "kdas_model_load: model or path is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    kdas_load_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_load_options"));
    KD_RETURN(kd_check_reserved(o.reserved, "kdas_load_options"));
    if (o.part && o.prefix)
        return kd_fail(KDAS_EINVAL, "kdas_model_load: 'part' and 'prefix' exclude each other");
    if (o.part && !*o.part)
        return kd_fail(KDAS_EINVAL, "kdas_model_load: 'part' is empty; NULL loads the whole model");
    if (o.part && strcmp(o.part, KD_BACKBONE) == 0) o.part = kd_model_backbone(m->def);
    KD_TRY(kd_weights_open(&file, m->ctx, path));
    KD_TRY(find_grids(&grids, file));
    KD_TRY(kd_pairing_begin(&p, m->ctx, m->params, m->def->name, file));
    KD_TRY(pair(&p, &o));
    KD_TRY(arrival_init(&a, m, file));
    KD_TRY(read_all(&p, m, file, &o));
    arrival_take(&a, m, is_whole(&p, m));
    tell_left(&p, m->ctx);
done:
    arrival_finish(&a, m);
    kd_pairing_end(&p);
    kd_weights_close(file);
    return st;
}

/* ---- save ---- */

/* A weight on a grid: 8-bit numbers, which take the place of its values, and the scales, at `scale`. */
static kdas_status put_rounded(kd_st_writer *writer, kdas_model *m, const kd_param_entry *e,
                               float *values, float *scale)
{
    int64_t     rows = e->dim[0], row = e->count / rows;
    int8_t     *q = (int8_t *)values;
    char       *name;
    kdas_status st;

    for (int64_t o = 0; o < rows; o++) /* numbers are written behind what is still to be read */
        scale[o] = kd_weights_to_grid(q + o * row, values + o * row, row, 1, NULL);
    KD_RETURN(kd_st_writer_put(writer, e->name, KD_ST_I8, e->rank, e->dim, q));
    name = kd_printf(m->ctx, "%s" KD_SCALE_SUFFIX, e->name);
    if (!name) return KDAS_ENOMEM;
    st = kd_st_writer_put(writer, name, KD_ST_F32, 1, &rows, scale);
    kd_free(m->ctx, name);
    return st;
}

/* `room`: scratch for the scales of this entry. */
static kdas_status put_entry(kd_st_writer *writer, kdas_model *m, int i, float *values, float *room)
{
    const kd_param_entry *e = kd_params_at(m->params, i);
    const char           *fault;
    int64_t               at;

    if (e->init.kind == KD_COUNTER)
        return kd_st_writer_put_scalar(writer, e->name, KD_ST_I64, &e->counter);
    KD_RETURN(kd_params_read(m->params, i, values));
    fault = find_fault(e, values, &at); /* such a file could not be loaded */
    if (fault)
        return kd_fail(KDAS_ENUMERIC, "'%s': tensor '%s' has %s at element %lld: nothing is saved",
                       m->def->name, e->name, fault, (long long)at);
    if (kd_model_is_rounded(m, i)) return put_rounded(writer, m, e, values, room);
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
    if (m->options.quantize == KDAS_QUANTIZE_INT8) {
        KD_RETURN(kd_st_writer_put_text(writer, KD_FACT_PREFIX KD_FACT_GRIDS, KD_GRIDS_INT8));
        KD_RETURN(kd_st_writer_put_text(writer, KD_FACT_PREFIX KD_FACT_WIDE, m->options.wide));
    }
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
    size_t        total;
    kdas_status   st;

    if (!m || !path) return kd_fail(KDAS_EINVAL, "kdas_model_save: model or path is NULL");
    KD_RETURN(kd_check_process(m->ctx));
    KD_TRY(kd_st_writer_create(&writer, m->ctx));
    st     = KDAS_ENOMEM;
    total  = (size_t)kd_params_total(m->params);
    values = kd_alloc(m->ctx, 2 * total * sizeof *values); /* a scale for each row, at most */
    if (!values) goto done;
    KD_TRY(put_facts(writer, m));
    for (int i = 0; i < kd_params_count(m->params); i++)
        KD_TRY(put_entry(writer, m, i, values + kd_params_at(m->params, i)->offset,
                         values + total + kd_params_at(m->params, i)->offset));
    KD_TRY(kd_st_writer_save(writer, path, false));
done:
    kd_st_writer_destroy(writer);
    kd_free(m->ctx, values);
    return st;
}

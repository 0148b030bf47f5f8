/* describe.c - what a file is, by its content: weights of ours or of anybody, or a checkpoint; and
 * the model that a file is of. */
#include <string.h>
#include "base/process.h"
#include "io/container.h"
#include "io/weights.h"
#include "model/model.h"

struct kdas_file {
    kdas_context         *ctx;
    kd_weights           *file;
    const kd_safetensors *own; /* NULL: a file of PyTorch */
    int                   set; /* whose tensors are shown */
    kdas_file_kind        kind;
    const char           *network; /* NULL: it names none */
};

static const char *text_of(const kdas_file *f, const char *key)
{
    return f->own ? kd_safetensors_text(f->own, key) : NULL;
}

static const char *text_at(const kdas_file *f, int64_t i, const char **key)
{
    return f->own ? kd_safetensors_text_at(f->own, i, key) : NULL;
}

/* The set with the most tensors. */
static int largest_set(const kd_weights *file)
{
    int set = 0;

    for (int i = 1; i < kd_weights_sets(file); i++)
        if (kd_weights_count(file, i) > kd_weights_count(file, set)) set = i;
    return set;
}

static kdas_file_kind kind_of(const kdas_file *f)
{
    const char *format = text_of(f, "format");

    if (!f->own) return KDAS_FILE_PYTORCH;
    return format && strcmp(format, KD_CONTAINER_FORMAT) == 0 ? KDAS_FILE_CHECKPOINT
                                                              : KDAS_FILE_WEIGHTS;
}

/* Others may use the key "model" for what they like: a name counts if we know it, or if the file is
 * ours. */
static const char *find_network(const kdas_file *f)
{
    const char *name = text_of(f, "model");
    bool ours = f->kind == KDAS_FILE_CHECKPOINT || text_of(f, KD_FACT_PREFIX "version") != NULL;

    for (int i = 0; name && !ours && kd_model_def_at(i); i++)
        ours = strcmp(kd_model_def_at(i)->name, name) == 0;
    return ours ? name : NULL;
}

kdas_status kdas_file_open(kdas_file **out, kdas_context *context, const char *path)
{
    kdas_file  *f;
    kdas_status st;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_file_open: out is NULL");
    *out = NULL;
    if (!context || !path) return kd_fail(KDAS_EINVAL, "kdas_file_open: context or path is NULL");
    f = kd_calloc(context, 1, sizeof *f);
    if (!f) return KDAS_ENOMEM;
    f->ctx = context;
    st     = kd_weights_open_any(&f->file, context, path);
    if (st != KDAS_OK) {
        kdas_file_destroy(f);
        return st;
    }
    f->own     = kd_weights_safetensors(f->file);
    f->set     = largest_set(f->file);
    f->kind    = kind_of(f);
    f->network = find_network(f);
    *out       = f;
    return KDAS_OK;
}

void kdas_file_destroy(kdas_file *f)
{
    if (!f) return;
    kd_weights_close(f->file);
    kd_free(f->ctx, f);
}

kdas_file_kind kdas_file_type(const kdas_file *f) { return f ? f->kind : KDAS_FILE_WEIGHTS; }

const char *kdas_file_network(const kdas_file *f) { return f ? f->network : NULL; }

const char *kdas_file_fact(const kdas_file *f, const char *key)
{
    const char *prefix, *found, *value;
    size_t      n;

    if (!f || !key) return NULL;
    if (strcmp(key, "network") == 0) return f->network;
    prefix = f->kind == KDAS_FILE_CHECKPOINT ? KD_FACT_CHECKPOINT : KD_FACT_PREFIX;
    n      = strlen(prefix);
    for (int64_t i = 0; (value = text_at(f, i, &found)); i++)
        if (strncmp(found, prefix, n) == 0 && strcmp(found + n, key) == 0) return value;
    return NULL;
}

const char *kdas_file_text(const kdas_file *f, int64_t i, const char **key)
{
    const char *found = NULL, *value = f ? text_at(f, i, &found) : NULL;

    if (key && value) *key = found;
    return value;
}

const char *kdas_file_entry(const kdas_file *f, int32_t i)
{
    return f && f->kind == KDAS_FILE_PYTORCH && i >= 0 && i < kd_weights_sets(f->file)
               ? kd_weights_set(f->file, i)
               : NULL;
}

const char *kdas_file_tensor(const kdas_file *f, int64_t i, const char **type, int32_t *rank,
                             int64_t *dims)
{
    const kd_st_tensor *t = f ? kd_weights_at(f->file, f->set, i) : NULL;

    if (!t) return NULL;
    if (type) *type = kd_st_dtype_name(t->dtype);
    if (rank) *rank = t->rank;
    if (dims) memcpy(dims, t->dim, sizeof t->dim);
    return t->name;
}

/* ---- the model of a file ---- */

/* What a file is of. */
typedef struct origin {
    char *network, *wide;
    bool  grids;
} origin;

static kdas_status keep_text(char **out, kdas_context *ctx, const char *text)
{
    *out = kd_strdup(ctx, text ? text : "");
    return *out ? KDAS_OK : KDAS_ENOMEM;
}

/* Find the file's network, or check that it is `network`, and whether its layers are on grids. */
static kdas_status agree(origin *out, kdas_context *ctx, const char *network, const char *path)
{
    kdas_file  *file = NULL;
    const char *its;
    kdas_status st;

    KD_TRY(kdas_file_open(&file, ctx, path));
    its = kdas_file_network(file);
    if (its && network && strcmp(its, network) != 0) {
        st = kd_fail(KDAS_EINVAL, "'%s' has the weights of %s, not of %.64s", path, its, network);
        goto done;
    }
    if (!its && !network) {
        st = kd_fail(KDAS_ENOTFOUND, "'%s' does not say of which network it is: name it", path);
        goto done;
    }
    KD_TRY(kd_model_grids_of(&out->grids, path, kdas_file_fact(file, KD_FACT_GRIDS)));
    KD_TRY(keep_text(&out->network, ctx, network ? network : its));
    KD_TRY(keep_text(&out->wide, ctx, kdas_file_fact(file, KD_FACT_WIDE)));
done:
    kdas_file_destroy(file);
    return st;
}

kdas_status kdas_model_open(kdas_model **out, kdas_context *context, const char *network,
                            const char *path, const kdas_model_options *options,
                            const kdas_load_options *load)
{
    kdas_model_options o;
    kdas_model        *m  = NULL;
    origin             of = { 0 };
    kdas_status        st;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_model_open: out is NULL");
    *out = NULL;
    if (!context || !path) return kd_fail(KDAS_EINVAL, "kdas_model_open: context or path is NULL");
    KD_RETURN(kd_check_process(context));
    kdas_model_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_model_options"));
    KD_TRY(agree(&of, context, network, path));
    if (of.grids && !o.wide) o.wide = of.wide;
    if (of.grids && o.quantize == KDAS_QUANTIZE_NONE) o.quantize = KDAS_QUANTIZE_INT8;
    o.size = sizeof o;
    KD_TRY(kdas_model_create(&m, context, of.network, &o));
    KD_TRY(kdas_model_load(m, path, load));
    *out = m;
    m    = NULL;
done:
    kdas_model_destroy(m);
    kd_free(context, of.network);
    kd_free(context, of.wide);
    return st;
}

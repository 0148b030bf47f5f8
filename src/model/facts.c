/* facts.c - what weights know of themselves. */
#include "model/facts.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/process.h"
#include "base/text.h"
#include "model/model.h"

/* ---- lists ---- */

/* Keys of a file that describe the file. */
static const char *const files_own[] = { "network", "version", "format", KD_FACT_GRIDS, KD_FACT_WIDE };

static bool is_files_own(const char *key)
{
    for (size_t i = 0; i < KD_COUNT(files_own); i++)
        if (strcmp(files_own[i], key) == 0) return true;
    return false;
}

static kdas_status check_key(const char *key)
{
    size_t n = strlen(key);

    if (n < 1 || n > KD_LONGEST_KEY ||
        strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != n)
        return kd_fail(KDAS_EINVAL,
                       "a fact cannot be named '%.100s': a name is 1 to %d letters, digits, '.', "
                       "'_' and '-'",
                       key, KD_LONGEST_KEY);
    if (is_files_own(key))
        return kd_fail(KDAS_EINVAL, "fact '%s' is each file's own: it cannot be set", key);
    return KDAS_OK;
}

kdas_status kd_model_facts_check(const char *key, const char *value)
{
    size_t n = strlen(value);

    KD_RETURN(check_key(key));
    if (n > KD_LONGEST_FACT)
        return kd_fail(KDAS_EINVAL, "fact '%s' has %zu bytes; at most %d are possible", key, n,
                       KD_LONGEST_FACT);
    if (!kd_st_is_utf8(value, n)) return kd_fail(KDAS_EINVAL, "fact '%s' is not UTF-8", key);
    for (const unsigned char *c = (const unsigned char *)value; *c; c++)
        if (*c < 0x20 || *c == 0x7F)
            return kd_fail(KDAS_EINVAL, "fact '%s' has a control character (%d)", key, *c);
    return KDAS_OK;
}

/* The place of the first fact that does not come before `key`. */
static size_t place_of(const kd_model_facts *f, const char *key)
{
    size_t i = 0;

    while (i < f->count && strcmp(f->fact[i].key, key) < 0)
        i++;
    return i;
}

const kd_model_fact *kd_model_facts_find(const kd_model_facts *f, const char *key)
{
    size_t i = place_of(f, key);

    return i < f->count && strcmp(f->fact[i].key, key) == 0 ? &f->fact[i] : NULL;
}

static void remove_at(kd_model_facts *f, kdas_context *ctx, size_t i)
{
    kd_free(ctx, f->fact[i].key);
    kd_free(ctx, f->fact[i].value);
    f->count--;
    memmove(&f->fact[i], &f->fact[i + 1], (f->count - i) * sizeof *f->fact);
}

void kd_model_facts_clear(kd_model_facts *f, kdas_context *ctx)
{
    while (f->count)
        remove_at(f, ctx, f->count - 1);
    kd_free(ctx, f->fact);
    *f = (kd_model_facts){ 0 };
}

/* Room for a text and, since most values are short numbers, for one that is a little longer. */
static size_t room_for(const char *value) { return KD_MAX(strlen(value) + 1, (size_t)48); }

static kdas_status add_at(kd_model_facts *f, kdas_context *ctx, size_t i, const char *key)
{
    char *copy;

    if (f->count >= KD_MOST_FACTS)
        return kd_fail(KDAS_EINVAL, "fact '%s': a model has at most %d", key, KD_MOST_FACTS);
    KD_RETURN(kd_grow(ctx, (void **)&f->fact, &f->capacity, f->count + 1, sizeof *f->fact));
    copy = kd_strdup(ctx, key);
    if (!copy) return KDAS_ENOMEM;
    memmove(&f->fact[i + 1], &f->fact[i], (f->count - i) * sizeof *f->fact);
    f->fact[i] = (kd_model_fact){ .key = copy };
    f->count++;
    return KDAS_OK;
}

kdas_status kd_model_facts_set(kd_model_facts *f, kdas_context *ctx, const char *key,
                               const char *value, bool host)
{
    size_t         i     = place_of(f, key);
    bool           known = i < f->count && strcmp(f->fact[i].key, key) == 0;
    char          *text  = NULL;
    kd_model_fact *fact;
    kdas_status    st;

    if (!value) {
        KD_RETURN(check_key(key));
        if (known) remove_at(f, ctx, i);
        return KDAS_OK;
    }
    KD_RETURN(kd_model_facts_check(key, value));
    if (!known || f->fact[i].room <= strlen(value)) {
        text = kd_alloc(ctx, room_for(value));
        if (!text) return KDAS_ENOMEM;
    }
    st = known ? KDAS_OK : add_at(f, ctx, i, key);
    if (st != KDAS_OK) {
        kd_free(ctx, text);
        return st;
    }
    fact = &f->fact[i];
    if (text) {
        kd_free(ctx, fact->value);
        fact->value = text;
        fact->room  = room_for(value);
    }
    memmove(fact->value, value, strlen(value) + 1); /* it may be the fact's own text */
    fact->host = host;
    return KDAS_OK;
}

kdas_status kd_model_facts_add(kd_model_facts *f, kdas_context *ctx, const kd_model_facts *from,
                               bool host_only)
{
    for (size_t i = 0; i < from->count; i++) {
        const kd_model_fact *fact = &from->fact[i];

        if (fact->host || !host_only)
            KD_RETURN(kd_model_facts_set(f, ctx, fact->key, fact->value, fact->host));
    }
    return KDAS_OK;
}

kdas_status kd_model_facts_read(kd_model_facts *f, kdas_context *ctx, const kd_safetensors *file,
                                const char *prefix)
{
    size_t      n = strlen(prefix);
    const char *key, *value;

    for (int64_t i = 0; (value = kd_safetensors_text_at(file, i, &key)); i++) {
        if (strncmp(key, prefix, n) != 0 || is_files_own(key + n)) continue;
        if (f->count >= KD_MOST_FACTS || kd_model_facts_check(key + n, value) != KDAS_OK) {
            kd_info(ctx,
                    "'%s': the metadata '%.100s' is no fact that a model can have, and is "
                    "left out",
                    kd_safetensors_path(file), key);
            continue;
        }
        KD_RETURN(kd_model_facts_set(f, ctx, key + n, value, false));
    }
    return KDAS_OK;
}

/* ---- of a model ---- */

void kd_model_facts_take(kdas_model *m, kd_model_facts *facts)
{
    kd_model_facts old = m->facts;

    m->facts = *facts;
    *facts   = old;
    memset(m->warned, 0, sizeof m->warned);
}

/* A value that the host has set is replaced by the host alone. */
static kdas_status set(kdas_model *m, const char *key, const char *value, bool host,
                       const char *caller)
{
    const kd_model_fact *old;

    if (!m || !key) return kd_fail(KDAS_EINVAL, "%s: model or key is NULL", caller);
    old = kd_model_facts_find(&m->facts, key);
    if (!host && old && old->host) return KDAS_OK;
    return kd_model_facts_set(&m->facts, m->ctx, key, value, host);
}

kdas_status kdas_model_set_fact(kdas_model *m, const char *key, const char *value)
{
    return set(m, key, value, true, "kdas_model_set_fact");
}

kdas_status kdas_model_default_fact(kdas_model *m, const char *key, const char *value)
{
    return set(m, key, value, false, "kdas_model_default_fact");
}

const char *kdas_model_fact(const kdas_model *m, const char *key)
{
    const kd_model_fact *fact = m && key ? kd_model_facts_find(&m->facts, key) : NULL;

    return fact ? fact->value : NULL;
}

const char *kdas_model_fact_at(const kdas_model *m, int32_t i, const char **key)
{
    if (!m || i < 0 || (size_t)i >= m->facts.count) return NULL;
    if (key) *key = m->facts.fact[i].key;
    return m->facts.fact[i].value;
}

/* ---- facts that the library reads ---- */

static bool side_of(const kdas_model *m, const char *key, int64_t *out)
{
    const char *text = kdas_model_fact(m, key), *end;

    return text && kd_parse_whole(text, &end, out) && !*end;
}

int32_t kdas_model_input_size(const kdas_model *m, int64_t *height, int64_t *width)
{
    int64_t h, w;
    bool    known = side_of(m, "height", &h) && side_of(m, "width", &w) && h > 0 && w > 0 &&
                 h <= KD_MAX_SIDE && w <= KD_MAX_SIDE && h % 32 == 0 && w % 32 == 0;

    if (m && m->def->rules->side) {
        h = w = m->def->rules->side;
        known = true;
    }
    if (height) *height = known ? h : KDAS_DEFAULT_SIDE;
    if (width) *width = known ? w : KDAS_DEFAULT_SIDE;
    return known;
}

float kdas_model_threshold(const kdas_model *m)
{
    const char *text = kdas_model_fact(m, "threshold"), *end;
    double      value;

    if (!m) return NAN;
    if (!text || !kd_parse_real(text, &end, &value) || *end || !(value >= 0 && value <= 1))
        return 0.5f;
    return (float)value;
}

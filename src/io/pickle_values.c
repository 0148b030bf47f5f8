/* pickle_values.c - what a pickle holds. */
#include <stdio.h>
#include <string.h>
#include "io/pickle_inside.h"

void kd_pickle_free(kd_pickle *pickle)
{
    if (!pickle) return;
    kd_free(pickle->ctx, pickle->value);
    kd_free(pickle->ctx, pickle->cell);
    kd_free(pickle->ctx, pickle);
}

uint32_t kd_pickle_root(const kd_pickle *p) { return p->root; }
uint32_t kd_pickle_values(const kd_pickle *p) { return (uint32_t)p->values; }

kd_pickle_kind kd_pickle_kind_of(const kd_pickle *p, uint32_t item)
{
    return (kd_pickle_kind)p->value[item].kind;
}

bool kd_pickle_whole(const kd_pickle *p, uint32_t item, int64_t *out)
{
    if (p->value[item].kind != KD_PICKLE_WHOLE) return false;
    *out = p->value[item].whole;
    return true;
}

const char *kd_pickle_text(const kd_pickle *p, uint32_t item, size_t *length)
{
    if (p->value[item].kind != KD_PICKLE_TEXT) return NULL;
    *length = p->value[item].length;
    return p->bytes + p->value[item].at;
}

bool kd_pickle_is_text(const kd_pickle *p, uint32_t item, const char *text)
{
    size_t      n;
    const char *is = kd_pickle_text(p, item, &n);

    return is && n == strlen(text) && memcmp(is, text, n) == 0;
}

void kd_pickle_global(const kd_pickle *p, uint32_t item, char *to, size_t size)
{
    const kd_pickle_value *v = &p->value[item];

    *to = 0;
    if (v->kind == KD_PICKLE_GLOBAL)
        snprintf(to, size, "%.*s.%.*s", (int)KD_MIN(v->length, 100u), p->bytes + v->at,
                 (int)KD_MIN(v->name_length, 100u), p->bytes + v->name_at);
    for (; *to; to++) /* part of a sentence */
        if ((unsigned char)*to < ' ' || *to == 0x7F) *to = '?';
}

bool kd_pickle_is_global(const kd_pickle *p, uint32_t item, const char *name)
{
    const kd_pickle_value *v = &p->value[item];
    size_t                 n = strlen(name);

    return v->kind == KD_PICKLE_GLOBAL && n == (size_t)v->length + 1 + v->name_length &&
           memcmp(name, p->bytes + v->at, v->length) == 0 && name[v->length] == '.' &&
           memcmp(name + v->length + 1, p->bytes + v->name_at, v->name_length) == 0;
}

static bool is_call(const kd_pickle *p, uint32_t item)
{
    return p->value[item].kind == KD_PICKLE_OBJECT || p->value[item].kind == KD_PICKLE_PERSISTENT;
}

uint32_t kd_pickle_callable(const kd_pickle *p, uint32_t item)
{
    return is_call(p, item) ? p->value[item].callable : 0;
}

uint32_t kd_pickle_args(const kd_pickle *p, uint32_t item)
{
    return is_call(p, item) ? p->value[item].args : 0;
}

uint32_t kd_pickle_state(const kd_pickle *p, uint32_t item)
{
    return is_call(p, item) ? p->value[item].state : 0;
}

uint32_t kd_pickle_count(const kd_pickle *p, uint32_t item) { return p->value[item].count; }
uint32_t kd_pickle_first(const kd_pickle *p, uint32_t item) { return p->value[item].first; }
uint32_t kd_pickle_next(const kd_pickle *p, uint32_t at) { return p->cell[at].next; }
uint32_t kd_pickle_key(const kd_pickle *p, uint32_t at) { return p->cell[at].key; }
uint32_t kd_pickle_item(const kd_pickle *p, uint32_t at) { return p->cell[at].item; }

uint32_t kd_pickle_element(const kd_pickle *p, uint32_t item, uint32_t i)
{
    uint32_t at = kd_pickle_first(p, item);

    for (; at && i > 0; i--)
        at = kd_pickle_next(p, at);
    return at ? kd_pickle_item(p, at) : 0;
}

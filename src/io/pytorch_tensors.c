/* pytorch_tensors.c - the storages, tensors and sets that a pickle of PyTorch describes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/pytorch_inside.h"

#define SAVE_ANEW \
    "load it with PyTorch and save its weights alone: torch.save(model.state_dict(), ...)"

#define MAX_NAMES ((size_t)32 << 20) /* bytes of all names */

/* Storage classes, and dtypes of tensors whose storage has none. */
static const struct {
    const char *name;
    kd_st_dtype dtype;
} types[] = {
    { "torch.FloatStorage", KD_ST_F32 },
    { "torch.DoubleStorage", KD_ST_F64 },
    { "torch.HalfStorage", KD_ST_F16 },
    { "torch.BFloat16Storage", KD_ST_BF16 },
    { "torch.LongStorage", KD_ST_I64 },
    { "torch.IntStorage", KD_ST_I32 },
    { "torch.ShortStorage", KD_ST_I16 },
    { "torch.CharStorage", KD_ST_I8 },
    { "torch.ByteStorage", KD_ST_U8 },
    { "torch.BoolStorage", KD_ST_BOOL },
    { "torch.ComplexFloatStorage", KD_ST_C64 },
    { "torch.storage.UntypedStorage", KD_ST_U8 },
    { "torch.UntypedStorage", KD_ST_U8 },
    { "torch.float32", KD_ST_F32 },
    { "torch.float64", KD_ST_F64 },
    { "torch.float16", KD_ST_F16 },
    { "torch.bfloat16", KD_ST_BF16 },
    { "torch.int64", KD_ST_I64 },
    { "torch.int32", KD_ST_I32 },
    { "torch.int16", KD_ST_I16 },
    { "torch.int8", KD_ST_I8 },
    { "torch.uint64", KD_ST_U64 },
    { "torch.uint32", KD_ST_U32 },
    { "torch.uint16", KD_ST_U16 },
    { "torch.uint8", KD_ST_U8 },
    { "torch.bool", KD_ST_BOOL },
    { "torch.complex64", KD_ST_C64 },
    { "torch.float8_e4m3fn", KD_ST_F8_E4M3 },
    { "torch.float8_e5m2", KD_ST_F8_E5M2 },
    { "torch.float8_e8m0fnu", KD_ST_F8_E8M0 },
    { "torch.float8_e4m3fnuz", KD_ST_F8_E4M3FNUZ },
    { "torch.float8_e5m2fnuz", KD_ST_F8_E5M2FNUZ },
};

static int type_of(const kd_pickle *p, uint32_t item) /* -1: not known */
{
    for (size_t i = 0; i < KD_COUNT(types); i++)
        if (kd_pickle_is_global(p, item, types[i].name)) return (int)types[i].dtype;
    return -1;
}

/* ---- Storages -------------------------------------------------------------------------------- */

/* ("storage", class, key, device, elements[, view]), the key of a persistent value. */
typedef struct storage_id {
    uint32_t    type;
    const char *key;
    size_t      length;
    int64_t     view; /* elements before it, in very old files */
} storage_id;

static bool take_storage_id(const kd_pickle *p, uint32_t item, storage_id *out)
{
    uint32_t id = kd_pickle_args(p, item), view;

    if (kd_pickle_kind_of(p, item) != KD_PICKLE_PERSISTENT) return false;
    if (!kd_pickle_is_text(p, kd_pickle_element(p, id, 0), "storage")) return false;
    out->type = kd_pickle_element(p, id, 1);
    out->key  = kd_pickle_text(p, kd_pickle_element(p, id, 2), &out->length);
    out->view = 0;
    view      = kd_pickle_element(p, id, 5);
    if (kd_pickle_kind_of(p, view) == KD_PICKLE_TUPLE)
        kd_pickle_whole(p, kd_pickle_element(p, view, 1), &out->view);
    return out->key && out->length <= KD_PT_MAX_KEY && out->view >= 0;
}

static int compare_keys(const kd_pt_storage *x, const kd_pt_storage *y)
{
    int sign = memcmp(x->key, y->key, KD_MIN(x->length, y->length));

    return sign ? sign : (x->length > y->length) - (x->length < y->length);
}

static int by_key(const void *a, const void *b)
{
    const kd_pt_storage *x = a, *y = b;
    int                  sign = compare_keys(x, y);

    return sign ? sign : (x->order > y->order) - (x->order < y->order);
}

kdas_status kd_pt_list_storages(kd_pytorch *pt)
{
    const kd_pickle *p     = pt->pickle;
    size_t           found = 0, kept = 0;
    storage_id       id;

    for (uint32_t i = 0; i < kd_pickle_values(p); i++)
        found += take_storage_id(p, i, &id);
    pt->storage = kd_calloc(pt->ctx, found, sizeof *pt->storage);
    if (!pt->storage) return KDAS_ENOMEM;
    for (uint32_t i = 0; i < kd_pickle_values(p); i++) {
        int type;

        if (!take_storage_id(p, i, &id)) continue;
        type = type_of(p, id.type);
        if (type < 0) {
            char name[256];

            kd_pickle_global(p, id.type, name, sizeof name);
            return kd_fail(KDAS_EFORMAT, "'%s' has a storage of the type '%s', which is not read",
                           kd_file_path(pt->file), name);
        }
        pt->storage[pt->storages++] =
            (kd_pt_storage){ .key     = id.key,
                             .length  = id.length,
                             .order   = i,
                             .element = kd_st_dtype_size((kd_st_dtype)type) };
    }
    qsort(pt->storage, pt->storages, sizeof *pt->storage, by_key);
    for (size_t i = 0; i < pt->storages; i++)
        if (i == 0 || compare_keys(&pt->storage[i], &pt->storage[kept - 1]) != 0)
            pt->storage[kept++] = pt->storage[i]; /* the first of a key says its element's size */
    pt->storages = kept;
    return KDAS_OK;
}

static int by_key_alone(const void *a, const void *b) { return compare_keys(a, b); }

kd_pt_storage *kd_pt_find_storage(const kd_pytorch *pt, const char *key, size_t length)
{
    kd_pt_storage wanted = { .key = key, .length = length };

    return bsearch(&wanted, pt->storage, pt->storages, sizeof wanted, by_key_alone);
}

/* ---- Tensors --------------------------------------------------------------------------------- */

typedef enum tensor_call { NO_TENSOR, TENSOR, TENSOR_OF_DTYPE, OTHER_TENSOR } tensor_call;

static tensor_call call_of(const kd_pickle *p, uint32_t callable)
{
    char name[256];

    if (kd_pickle_is_global(p, callable, "torch._utils._rebuild_tensor_v2") ||
        kd_pickle_is_global(p, callable, "torch._utils._rebuild_tensor"))
        return TENSOR;
    if (kd_pickle_is_global(p, callable, "torch._utils._rebuild_tensor_v3")) return TENSOR_OF_DTYPE;
    kd_pickle_global(p, callable, name, sizeof name);
    return strncmp(name, "torch._utils._rebuild_", 22) == 0 ? OTHER_TENSOR : NO_TENSOR;
}

/* Go through what wraps a tensor: a Parameter, a subclass. `*args`: those of the function that
 * makes the tensor. */
static tensor_call unwrap(const kd_pickle *p, uint32_t item, uint32_t *callable, uint32_t *args)
{
    for (int depth = 0; depth < 4 && kd_pickle_kind_of(p, item) == KD_PICKLE_OBJECT; depth++) {
        *callable = kd_pickle_callable(p, item);
        *args     = kd_pickle_args(p, item);
        if (kd_pickle_is_global(p, *callable, "torch._tensor._rebuild_from_type_v2") ||
            kd_pickle_is_global(p, *callable, "torch._tensor._rebuild_from_type")) {
            *callable = kd_pickle_element(p, *args, 0);
            *args     = kd_pickle_element(p, *args, 2);
            return call_of(p, *callable);
        }
        if (!kd_pickle_is_global(p, *callable, "torch._utils._rebuild_parameter") &&
            !kd_pickle_is_global(p, *callable, "torch._utils._rebuild_parameter_with_state") &&
            !kd_pickle_is_global(p, *callable, "torch.nn.parameter.Parameter") &&
            !kd_pickle_is_global(p, *callable, "torch.nn.parameter.Buffer"))
            return call_of(p, *callable);
        item = kd_pickle_element(p, *args, 0);
    }
    return NO_TENSOR;
}

static bool is_tensor(const kd_pickle *p, uint32_t item)
{
    uint32_t callable, args;

    return unwrap(p, item, &callable, &args) != NO_TENSOR;
}

static kdas_status bad(const kd_pytorch *pt, const kd_pt_tensor *t, const char *why)
{
    return kd_fail(KDAS_EFORMAT, "tensor '%.200s' of '%s': %s", t->base.name,
                   kd_file_path(pt->file), why);
}

/* Dimensions and strides, as tuples (or torch.Size, an object of one). */
static kdas_status take_shape(const kd_pytorch *pt, kd_pt_tensor *t, uint32_t dims,
                              uint32_t strides)
{
    const kd_pickle *p = pt->pickle;
    uint32_t         d, s;

    if (kd_pickle_kind_of(p, dims) == KD_PICKLE_OBJECT)
        dims = kd_pickle_element(p, kd_pickle_args(p, dims), 0);
    if (kd_pickle_count(p, dims) > KD_ST_MAX_RANK)
        return bad(pt, t, "it has more than 8 dimensions");
    if (kd_pickle_count(p, dims) != kd_pickle_count(p, strides))
        return bad(pt, t, "it has not as many strides as dimensions");
    d = kd_pickle_first(p, dims);
    s = kd_pickle_first(p, strides);
    for (; d; d = kd_pickle_next(p, d), s = kd_pickle_next(p, s)) {
        int i = t->base.rank++;

        if (!kd_pickle_whole(p, kd_pickle_item(p, d), &t->base.dim[i]) || t->base.dim[i] < 0)
            return bad(pt, t, "a dimension is not a whole number from 0");
        if (!kd_pickle_whole(p, kd_pickle_item(p, s), &t->stride[i]) || t->stride[i] < 0)
            return bad(pt, t, "a stride is not a whole number from 0");
    }
    t->base.count = kd_st_elements(t->base.rank, t->base.dim);
    if (t->base.count < 0 || t->base.count > INT64_MAX / 8)
        return bad(pt, t, "its shape has more elements than can be counted");
    return KDAS_OK;
}

/* Its last element lies in the storage. */
static kdas_status check_inside(const kd_pytorch *pt, const kd_pt_tensor *t)
{
    size_t  size = kd_st_dtype_size(t->base.dtype);
    int64_t last = t->start, step;

    for (int i = 0; i < t->base.rank && t->base.count > 0; i++)
        if (__builtin_mul_overflow(t->base.dim[i] - 1, t->stride[i], &step) ||
            __builtin_add_overflow(last, step, &last))
            return bad(pt, t, "its elements lie outside of its storage");
    if (t->base.count > 0 && (uint64_t)last >= t->storage->size / size)
        return bad(pt, t, "its elements lie outside of its storage");
    return KDAS_OK;
}

static kdas_status take_tensor(const kd_pytorch *pt, kd_pt_tensor *t, uint32_t item)
{
    const kd_pickle *p        = pt->pickle;
    uint32_t         callable = 0, args = 0;
    tensor_call      call = unwrap(p, item, &callable, &args);
    storage_id       id;
    int              type;

    if (call == OTHER_TENSOR) {
        char name[256];

        kd_pickle_global(p, callable, name, sizeof name);
        return kd_fail(
            KDAS_EFORMAT,
            "tensor '%.200s' of '%s' is no plain one (%s), such as a sparse or quantized "
            "tensor; save it as a dense one",
            t->base.name, kd_file_path(pt->file), name);
    }
    if (!take_storage_id(p, kd_pickle_element(p, args, 0), &id))
        return bad(pt, t, "it has no storage");
    t->storage = kd_pt_find_storage(pt, id.key, id.length);
    type       = type_of(p, call == TENSOR_OF_DTYPE ? kd_pickle_element(p, args, 6) : id.type);
    if (!t->storage || type < 0) return bad(pt, t, "its type is not read");
    t->base.dtype = (kd_st_dtype)type;
    if (!kd_pickle_whole(p, kd_pickle_element(p, args, 1), &t->start) || t->start < 0 ||
        __builtin_add_overflow(t->start, id.view, &t->start))
        return bad(pt, t, "its place in the storage is not a whole number from 0");
    KD_RETURN(take_shape(pt, t, kd_pickle_element(p, args, 2), kd_pickle_element(p, args, 3)));
    t->base.bytes = (uint64_t)t->base.count * kd_st_dtype_size(t->base.dtype);
    return check_inside(pt, t);
}

/* ---- Dictionaries ---------------------------------------------------------------------------- */

/* What was done with an item: a pickle can name one in a million places, and it is done once. */
enum {
    SEEN       = 1, /* searched as a dictionary           */
    WALKED     = 2, /* its cells were gone through, as pairs */
    NOTED      = 4, /* they were, as a module's state     */
    NAME_KNOWN = 8, /* whether it can name a tensor       */
    NAME_GOOD  = 16 /* it can                             */
};

typedef struct search {
    kd_pytorch    *pt;
    unsigned char *done;        /* by item */
    char           module[256]; /* the class of a module that was found; empty: none */
} search;

/* Go through the pairs of a dictionary, or of an object that behaves like one: cells with keys, or,
 * of an OrderedDict of Python 2, a list of pairs as its argument. */
typedef struct pairs {
    search          *s;
    const kd_pickle *p;
    uint32_t         of; /* the item that has the cells */
    uint32_t         at;
    bool             listed;
} pairs;

static pairs pairs_of(search *s, uint32_t item)
{
    const kd_pickle *p    = s->pt->pickle;
    kd_pickle_kind   kind = kd_pickle_kind_of(p, item);
    pairs            it   = { .s = s, .p = p, .of = item };

    if (kind != KD_PICKLE_DICT && kind != KD_PICKLE_OBJECT) return it;
    it.at = kd_pickle_first(p, item);
    if (!it.at && kd_pickle_is_global(p, kd_pickle_callable(p, item), "collections.OrderedDict")) {
        it.of     = kd_pickle_element(p, kd_pickle_args(p, item), 0);
        it.at     = kd_pickle_first(p, it.of);
        it.listed = true;
    }
    return it;
}

static bool next_pair(pairs *it, uint32_t *key, uint32_t *item)
{
    if (!it->at) return false;
    it->s->pt->work++;
    *key  = kd_pickle_key(it->p, it->at);
    *item = kd_pickle_item(it->p, it->at);
    if (it->listed) {
        *key  = kd_pickle_element(it->p, *item, 0);
        *item = kd_pickle_element(it->p, *item, 1);
    }
    it->at = kd_pickle_next(it->p, it->at);
    return true;
}

static bool can_name(const char *text, size_t n)
{
    return n > 0 && n < 4096 && !memchr(text, 0, n) && kd_st_is_utf8(text, n);
}

/* The text of a key that can name a tensor, or NULL. */
static const char *name_of(search *s, uint32_t key, size_t *length)
{
    const char *text = kd_pickle_text(s->pt->pickle, key, length);

    if (text && !(s->done[key] & NAME_KNOWN)) {
        s->pt->work += *length;
        s->done[key] |= NAME_KNOWN | (can_name(text, *length) ? NAME_GOOD : 0);
    }
    return text && s->done[key] & NAME_GOOD ? text : NULL;
}

static int by_name(const void *a, const void *b)
{
    const kd_pt_tensor *x = a, *y = b;
    int                 sign = strcmp(x->base.name, y->base.name);

    return sign ? sign : (x->order > y->order) - (x->order < y->order);
}

/* Of tensors of one name the last counts, as in a dictionary. */
static void sort_set(kd_pt_set *set)
{
    int64_t kept = 0;

    qsort(set->tensor, (size_t)set->count, sizeof *set->tensor, by_name);
    for (int64_t i = 0; i < set->count; i++) {
        if (kept > 0 && strcmp(set->tensor[kept - 1].base.name, set->tensor[i].base.name) == 0)
            kept--;
        set->tensor[kept++] = set->tensor[i];
    }
    set->count = kept;
}

static kdas_status fill_set(search *s, kd_pt_set *set, uint32_t dict)
{
    pairs    it = pairs_of(s, dict);
    char    *to = set->names;
    uint32_t key, item;

    while (next_pair(&it, &key, &item)) {
        size_t        n    = 0;
        const char   *name = name_of(s, key, &n);
        kd_pt_tensor *t    = &set->tensor[set->count];

        if (!name || !is_tensor(it.p, item)) continue;
        memcpy(to, name, n);
        to[n]        = 0;
        t->base.name = to;
        t->order     = (uint32_t)set->count;
        to += n + 1;
        KD_RETURN(take_tensor(s->pt, t, item));
        set->count++;
    }
    sort_set(set);
    return KDAS_OK;
}

/* Add a set for the `count` tensors of a dictionary. */
static kdas_status add_set(search *s, uint32_t dict, const char *name, size_t count, size_t bytes)
{
    kd_pytorch *pt = s->pt;
    kd_pt_set  *set;

    pt->tensors += count;
    pt->name_bytes += bytes;
    if (pt->tensors > KD_ST_MAX_TENSORS || pt->name_bytes > MAX_NAMES || pt->sets == KD_PT_MAX_SETS)
        return kd_fail(KDAS_EFORMAT, "'%s' has too many tensors", kd_file_path(pt->file));
    KD_RETURN(
        kd_grow(pt->ctx, (void **)&pt->set, &pt->set_capacity, pt->sets + 1, sizeof *pt->set));
    set         = &pt->set[pt->sets++];
    set->name   = kd_strdup(pt->ctx, name);
    set->names  = kd_alloc(pt->ctx, bytes);
    set->tensor = kd_calloc(pt->ctx, count, sizeof *set->tensor);
    if (!set->name || !set->names || !set->tensor) return KDAS_ENOMEM;
    return fill_set(s, set, dict);
}

/* ---- The search ------------------------------------------------------------------------------ */

/* A module's state has its parameters and its modules by name. */
static void note_module(search *s, uint32_t item)
{
    const kd_pickle *p     = s->pt->pickle;
    uint32_t         type  = kd_pickle_callable(p, item), key, value;
    pairs            state = pairs_of(s, kd_pickle_state(p, item));

    if (s->done[state.of] & NOTED) return;
    s->done[state.of] |= NOTED;
    while (!*s->module && next_pair(&state, &key, &value)) {
        if (!kd_pickle_is_text(p, key, "_modules")) continue;
        if (kd_pickle_kind_of(p, type) == KD_PICKLE_PERSISTENT) /* older files keep its source */
            type = kd_pickle_element(p, kd_pickle_args(p, type), 1);
        else if (kd_pickle_kind_of(p, kd_pickle_element(p, kd_pickle_args(p, item), 0)) ==
                 KD_PICKLE_GLOBAL)
            type = kd_pickle_element(p, kd_pickle_args(p, item), 0); /* copyreg._reconstructor */
        kd_pickle_global(p, type, s->module, sizeof s->module);
        if (!*s->module) snprintf(s->module, sizeof s->module, "a module");
    }
}

static kdas_status walk(search *s, uint32_t dict, const char *path, int depth)
{
    const kd_pickle *p     = s->pt->pickle;
    pairs            it    = pairs_of(s, dict);
    size_t           count = 0, bytes = 0, n = 0;
    uint32_t         key, item;
    char             inner[256];

    if (s->done[dict] & SEEN) return KDAS_OK;
    s->done[dict] |= SEEN;
    if (kd_pickle_kind_of(p, dict) == KD_PICKLE_OBJECT) note_module(s, dict);
    if (s->done[it.of] & WALKED) return KDAS_OK;
    if (it.at) s->done[it.of] |= WALKED;
    while (next_pair(&it, &key, &item))
        if (name_of(s, key, &n) && is_tensor(p, item)) {
            count++;
            bytes += n + 1;
        }
    if (count) KD_RETURN(add_set(s, dict, path, count, bytes));
    if (depth == KD_PT_MAX_DEPTH) return KDAS_OK;
    it = pairs_of(s, dict);
    while (next_pair(&it, &key, &item)) {
        const char *name = name_of(s, key, &n);
        int         length;

        if (!name || is_tensor(p, item)) continue;
        length = snprintf(inner, sizeof inner, "%s%s%.*s", path, *path ? "." : "",
                          (int)KD_MIN(n, sizeof inner), name);
        if (length >= (int)sizeof inner) continue;
        KD_RETURN(walk(s, item, inner, depth + 1));
    }
    return KDAS_OK;
}

kdas_status kd_pt_find_sets(kd_pytorch *pt)
{
    search      s    = { .pt = pt };
    const char *path = kd_file_path(pt->file);
    kdas_status st;

    s.done = kd_calloc(pt->ctx, kd_pickle_values(pt->pickle), sizeof *s.done);
    if (!s.done) return KDAS_ENOMEM;
    st = walk(&s, kd_pickle_root(pt->pickle), "", 0);
    kd_free(pt->ctx, s.done);
    if (st != KDAS_OK || pt->sets > 0) return st;
    if (*s.module)
        return kd_fail(KDAS_EFORMAT,
                       "'%s' holds a whole module ('%s'), which needs its Python code; " SAVE_ANEW,
                       path, s.module);
    return kd_fail(KDAS_EFORMAT, "'%s' holds no dictionary of tensors; " SAVE_ANEW, path);
}

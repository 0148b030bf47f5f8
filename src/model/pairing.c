/* pairing.c - the rule by which the tensors of a file are given to a network:
 *
 * 1. Of the dictionaries of the file, and of the ways to rename its tensors, that one is taken of
 *    which most tensors fit by name and shape.
 * 2. The ways are: as they are; without the first one, two, ... words that ALL names of the
 *    dictionary begin with ("module.", "model.student."); each of those from timm's names, and from
 *    those of transformers. The counter of PyTorch's AveragedModel, beside its "module.", is no
 *    name of a network.
 * 3. Of ways that fit equally, the first in that order. Of dictionaries that fit equally, none.
 * 4. A caller can name a dictionary, or the words that the names of one network begin with where a
 *    flat dictionary has several ("student", "teacher"); the other names then do not count. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "model/pairing.h"

#define MAX_WORDS 6 /* that are taken off */

static bool begins_with(const char *name, const char *beginning)
{
    return strncmp(name, beginning, strlen(beginning)) == 0;
}

static bool is_averaged_count(const char *name) { return strcmp(name, "n_averaged") == 0; }

static int by_name(const void *a, const void *b, void *params)
{
    return strcmp(kd_params_at(params, *(const int *)a)->name,
                  kd_params_at(params, *(const int *)b)->name);
}

/* thop leaves what it counted in the modules, from where it comes into files. */
static bool is_cost(const char *name)
{
    const char *last = strrchr(name, '.');

    last = last ? last + 1 : name;
    return strcmp(last, "total_ops") == 0 || strcmp(last, "total_params") == 0;
}

kdas_status kd_pairing_begin(kd_pairing *p, kdas_context *ctx, const kd_params *params,
                             const char *network, const kd_weights *file)
{
    size_t count = (size_t)kd_params_count(params);

    *p        = (kd_pairing){ .ctx = ctx, .params = params, .network = network, .file = file };
    p->tensor = kd_calloc(ctx, count + 1, sizeof *p->tensor);
    p->second = kd_calloc(ctx, count + 1, sizeof *p->second);
    p->order  = kd_calloc(ctx, count + 1, sizeof *p->order);
    if (!p->tensor || !p->second || !p->order) return KDAS_ENOMEM;
    for (size_t i = 0; i < count; i++)
        p->order[i] = (int)i;
    qsort_r(p->order, count, sizeof *p->order, by_name, (void *)params);
    return KDAS_OK;
}

void kd_pairing_end(kd_pairing *p)
{
    if (!p->ctx) return;
    kd_free(p->ctx, p->tensor);
    kd_free(p->ctx, p->second);
    kd_free(p->ctx, p->order);
    p->tensor = NULL;
    p->second = NULL;
    p->order  = NULL;
}

/* ---- Names and shapes ------------------------------------------------------------------------ */

static int find(const kd_pairing *p, const char *name)
{
    int low = 0, high = kd_params_count(p->params);

    while (low < high) {
        int middle = (low + high) / 2;
        int sign   = strcmp(name, kd_params_at(p->params, p->order[middle])->name);

        if (sign == 0) return p->order[middle];
        if (sign < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

/* The scales of a weight in 8 bits belong to that. */
static bool is_scale(const char *name)
{
    size_t n = strlen(name), end = strlen("weight" KD_SCALE_SUFFIX);

    return n >= end && strcmp(name + n - end, "weight" KD_SCALE_SUFFIX) == 0;
}

const kd_st_tensor *kd_pairing_tensor(const kd_pairing *p, int64_t i)
{
    const kd_st_tensor *t = kd_weights_at(p->file, p->set, i);

    if (p->words_length &&
        (strncmp(t->name, p->words, p->words_length) != 0 || t->name[p->words_length] != '.'))
        return NULL;
    return is_averaged_count(t->name) || is_cost(t->name) || is_scale(t->name) ? NULL : t;
}

int kd_pairing_entry(const kd_pairing *p, const char *tensor, char name[KD_NAME_ROOM],
                     kd_piece *piece)
{
    char        bare[KD_NAME_ROOM];
    const char *front = p->prefix ? p->prefix : "";

    if (!kd_rename(bare, piece, &p->renaming, tensor)) bare[0] = 0; /* no entry has such a name */
    if (p->part && !begins_with(bare, p->part)) front = p->part;
    if (snprintf(name, KD_NAME_ROOM, "%s%s", front, bare) >= KD_NAME_ROOM) return -1;
    return find(p, name);
}

bool kd_pairing_same_shape(const kd_param_entry *e, const kd_st_tensor *t, kd_piece piece)
{
    bool same = t->rank == e->rank;

    for (int i = 0; same && i < e->rank; i++)
        same = t->dim[i] * (i == 0 && piece != KD_WHOLE ? 2 : 1) == e->dim[i];
    return same;
}

/* How many tensors of the chosen set and renaming fit, and how many of those only by name. */
typedef struct score {
    int64_t fits, named;
} score;

static score score_of(const kd_pairing *p)
{
    score    s = { 0 };
    char     name[KD_NAME_ROOM];
    kd_piece piece;

    for (int64_t i = 0; i < kd_weights_count(p->file, p->set); i++) {
        const kd_st_tensor *t = kd_pairing_tensor(p, i);
        int                 k = t ? kd_pairing_entry(p, t->name, name, &piece) : -1;

        if (k < 0) continue;
        if (kd_pairing_same_shape(kd_params_at(p->params, k), t, piece))
            s.fits++;
        else
            s.named++;
    }
    return s;
}

static bool is_better(score a, score b)
{
    return a.fits != b.fits ? a.fits > b.fits : a.named > b.named;
}

/* ---- The choice ------------------------------------------------------------------------------ */

static const char *first_name(const kd_pairing *p)
{
    for (int64_t i = 0; i < kd_weights_count(p->file, p->set); i++)
        if (kd_pairing_tensor(p, i)) return kd_pairing_tensor(p, i)->name;
    return "";
}

/* Bytes of the words that all names of the set begin with, and whose names are among them. */
static size_t common_words(const kd_pairing *p, bool there[KD_NAMINGS])
{
    const char *first  = first_name(p);
    size_t      common = strlen(first);

    for (int n = 0; n < KD_NAMINGS; n++)
        there[n] = n == KD_NAMES_PUBLISHED; /* they are always tried */
    common = kd_names_common(first, first, common);
    for (int64_t i = 0; i < kd_weights_count(p->file, p->set); i++) {
        const kd_st_tensor *t = kd_pairing_tensor(p, i);

        if (!t) continue;
        there[kd_name_naming(t->name)] = true;
        common                         = kd_names_common(first, t->name, common);
    }
    return common;
}

size_t kd_pairing_common(const kd_pairing *p)
{
    bool there[KD_NAMINGS];

    return common_words(p, there);
}

/* The best renaming of the set p->set. */
static score choose_renaming(kd_pairing *p)
{
    kd_renaming best = { 0 };
    score       most = { 0 };
    bool        there[KD_NAMINGS];
    size_t      common = common_words(p, there);
    const char *first  = first_name(p);
    int         words  = 0;

    for (size_t strip = 0; strip <= common && words <= MAX_WORDS; strip++) {
        if (strip > 0 && first[strip - 1] != '.') continue;
        words++;
        for (int n = 0; n < KD_NAMINGS; n++) {
            score s;

            if (!there[n]) continue;
            p->renaming = (kd_renaming){ .strip = strip, .naming = (kd_naming)n };
            s           = score_of(p);
            if (!is_better(s, most)) continue;
            most = s;
            best = p->renaming;
        }
    }
    p->renaming = best;
    return most;
}

int64_t kd_pairing_rename(kd_pairing *p) { return choose_renaming(p).fits; }

/* "'a', 'b', 'c'": the sets of the file, of those that fit `fits` tensors where it is not NULL. */
static void list_sets(const kd_pairing *p, const int64_t *fits, int64_t wanted, char *to,
                      size_t size)
{
    size_t at = 0;

    *to = 0;
    for (int s = 0; s < kd_weights_sets(p->file) && at < size - 1; s++) {
        const char *name = kd_weights_set(p->file, s);

        if (fits && fits[s] != wanted) continue;
        at += (size_t)snprintf(to + at, size - at, "%s'%s'", at ? ", " : "", name);
    }
}

static kdas_status refuse_entry(const kd_pairing *p, const char *entry)
{
    char names[512];

    list_sets(p, NULL, 0, names, sizeof names);
    return kd_fail(KDAS_ENOTFOUND, "'%s' has no entry '%.100s' of tensors; it has: %s",
                   kd_weights_path(p->file), entry, names);
}

static kdas_status refuse_sets(const kd_pairing *p, const int64_t *fits, int64_t most)
{
    char names[512];

    list_sets(p, fits, most, names, sizeof names);
    return kd_fail(KDAS_EINVAL,
                   "'%s' has several sets of tensors that fit '%s': %s; say which one "
                   "(kdas_load_options.entry, --weights-entry)",
                   kd_weights_path(p->file), p->network, names);
}

/* Choose the words `words`, without full stops at their end, if a tensor of the set p->set begins
 * with them and a full stop. */
static bool take_words(kd_pairing *p, const char *words)
{
    size_t length = strlen(words);

    while (length && words[length - 1] == '.')
        length--;
    for (int64_t i = 0; length && i < kd_weights_count(p->file, p->set); i++) {
        const char *name = kd_weights_at(p->file, p->set, i)->name;

        if (strncmp(name, words, length) != 0 || name[length] != '.') continue;
        p->words        = words;
        p->words_length = length;
        return true;
    }
    return false;
}

/* What `entry` means for the set p->set: all of it, the names with p->words in front, or nothing
 * (false). `whole`: a set has just this name, so no words are looked for. */
static bool take_entry(kd_pairing *p, const char *entry, bool whole)
{
    const char *set    = kd_weights_set(p->file, p->set);
    size_t      length = strlen(set);

    p->words        = NULL;
    p->words_length = 0;
    if (!entry) return true;
    if (whole) return strcmp(entry, set) == 0;
    if (length && strncmp(entry, set, length) == 0 && entry[length] == '.' &&
        take_words(p, entry + length + 1))
        return true;
    /* In a file of one set that knows no such words, the entry has no meaning. */
    return take_words(p, entry) || kd_weights_sets(p->file) == 1;
}

static bool is_set(const kd_weights *file, const char *entry)
{
    for (int s = 0; entry && s < kd_weights_sets(file); s++)
        if (strcmp(entry, kd_weights_set(file, s)) == 0) return true;
    return false;
}

kdas_status kd_pairing_choose(kd_pairing *p, const char *entry, int64_t *fits)
{
    int         sets = kd_weights_sets(p->file), equal = 0, best = -1;
    int64_t    *all      = kd_calloc(p->ctx, (size_t)sets, sizeof *all);
    bool        whole    = is_set(p->file, entry);
    score       most     = { 0 };
    kd_renaming renaming = { 0 };
    kdas_status st       = KDAS_OK;

    if (!all) return KDAS_ENOMEM;
    for (p->set = 0; p->set < sets; p->set++) {
        score s;

        if (!take_entry(p, entry, whole)) continue;
        s           = choose_renaming(p);
        all[p->set] = s.fits;
        if (best >= 0 && !is_better(s, most)) {
            equal += s.fits == most.fits && s.fits > 0;
            continue;
        }
        equal    = 0;
        best     = p->set;
        most     = s;
        renaming = p->renaming;
    }
    p->set = KD_MAX(best, 0);
    take_entry(p, entry, whole);
    p->renaming = renaming;
    *fits       = most.fits;
    if (entry && best < 0)
        st = refuse_entry(p, entry);
    else if (equal > 0)
        st = refuse_sets(p, all, most.fits);
    kd_free(p->ctx, all);
    return st;
}

/* ---- The pairs ------------------------------------------------------------------------------- */

static void put_shape(char *to, size_t size, int rank, const int64_t *dim)
{
    size_t at = (size_t)snprintf(to, size, "(");

    for (int i = 0; i < rank && at < size; i++)
        at += (size_t)snprintf(to + at, size - at, "%s%lld", i ? "," : "", (long long)dim[i]);
    if (at < size) snprintf(to + at, size - at, ")");
}

static kdas_status refuse_shape(const kd_pairing *p, const kd_param_entry *e, const kd_st_tensor *t,
                                kd_piece piece)
{
    char    has[128], wants[128];
    int64_t dim[KDAS_MAX_DIMS];

    for (int i = 0; i < e->rank; i++)
        dim[i] = i == 0 && piece != KD_WHOLE ? e->dim[i] / 2 : e->dim[i];
    put_shape(has, sizeof has, t->rank, t->dim);
    put_shape(wants, sizeof wants, e->rank, dim);
    return kd_fail(KDAS_ESHAPE, "'%s': tensor '%.200s' has the shape %s, the model wants %s",
                   kd_weights_path(p->file), t->name, has, wants);
}

static kdas_status missing(const kd_pairing *p, const kd_param_entry *e)
{
    return kd_fail(KDAS_ENOTFOUND, "'%s' lacks the tensor '%s' of model '%s'",
                   kd_weights_path(p->file), e->name, p->network);
}

/* An entry that the file has in two halves needs both. */
static kdas_status check_halves(const kd_pairing *p)
{
    for (int k = 0; k < kd_params_count(p->params); k++) {
        const kd_param_entry *e = kd_params_at(p->params, k);
        const kd_st_tensor   *t = p->tensor[k];

        if (p->second[k] && !t)
            return kd_fail(KDAS_ENOTFOUND, "'%s' has the values '%.200s', but not the keys of '%s'",
                           kd_weights_path(p->file), p->second[k]->name, e->name);
        if (!p->second[k] && t && t->rank > 0 && t->dim[0] != e->dim[0])
            return kd_fail(KDAS_ENOTFOUND, "'%s' has the keys '%.200s', but not the values of '%s'",
                           kd_weights_path(p->file), t->name, e->name);
    }
    return KDAS_OK;
}

/* Whether the names of the model's part are there at all. */
static kdas_status check_part(const kd_pairing *p)
{
    bool exist = false, found = false;

    for (int k = 0; k < kd_params_count(p->params); k++) {
        exist = exist || begins_with(kd_params_at(p->params, k)->name, p->part);
        found = found || p->tensor[k];
    }
    if (!exist)
        return kd_fail(KDAS_ENOTFOUND,
                       "model '%s' has no part '%.64s'; part = NULL loads all of it", p->network,
                       p->part);
    if (!found)
        return kd_fail(KDAS_ENOTFOUND, "'%s' has no tensor of the part '%.64s' of model '%s'",
                       kd_weights_path(p->file), p->part, p->network);
    return KDAS_OK;
}

/* Counters of batches may be missing: all of them, as in files of old versions of PyTorch, or, of a
 * part, any. So may tensors that no op reads: who trains a network of their own need not have
 * them. */
static kdas_status check_complete(const kd_pairing *p)
{
    bool counters = false;

    for (int k = 0; k < kd_params_count(p->params); k++)
        counters =
            counters || (p->tensor[k] && kd_params_at(p->params, k)->init.kind == KD_COUNTER);
    for (int k = 0; k < kd_params_count(p->params); k++) {
        const kd_param_entry *e = kd_params_at(p->params, k);

        if (p->tensor[k] || (p->part && !begins_with(e->name, p->part))) continue;
        if (e->init.kind == KD_COUNTER && (p->part || !counters)) continue;
        if (kd_param_is_idle(e) || kd_param_is_range(e)) continue;
        return missing(p, e);
    }
    return KDAS_OK;
}

/* Give tensor `t` to the entry k, of which it is a piece. */
static kdas_status give(kd_pairing *p, int k, const kd_st_tensor *t, kd_piece piece)
{
    const kd_param_entry *e      = kd_params_at(p->params, k);
    const kd_st_tensor  **tensor = piece == KD_SECOND_HALF ? p->second : p->tensor;

    if (p->part && tensor[k] && !begins_with(t->name + p->renaming.strip, p->part))
        return KDAS_OK; /* a name with the part in front counts before one without */
    if (!kd_pairing_same_shape(e, t, piece)) {
        if (!kd_param_is_idle(e)) return refuse_shape(p, e, t, piece);
        if (p->lefts++ == 0) p->left = t; /* it may as well be missing */
        return KDAS_OK;
    }
    tensor[k] = t;
    return KDAS_OK;
}

kdas_status kd_pairing_make(kd_pairing *p, bool partial, bool extra)
{
    char name[KD_NAME_ROOM];

    for (int64_t i = 0; i < kd_weights_count(p->file, p->set); i++) {
        const kd_st_tensor *t = kd_pairing_tensor(p, i);
        kd_piece            piece;
        int                 k;

        if (!t) continue;
        k = kd_pairing_entry(p, t->name, name, &piece);
        if (k >= 0)
            KD_RETURN(give(p, k, t, piece));
        else if (!extra && !p->part)
            return kd_fail(KDAS_ENOTFOUND, "'%s': model '%s' has no tensor '%.200s'",
                           kd_weights_path(p->file), p->network, name);
    }
    KD_RETURN(check_halves(p));
    if (p->part) KD_RETURN(check_part(p));
    return partial && !p->part ? KDAS_OK : check_complete(p);
}

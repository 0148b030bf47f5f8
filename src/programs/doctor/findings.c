/* findings.c - the list of what was found. */
#include "doctor/findings.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "system/say.h"

const char *finding_word(finding_kind kind)
{
    static const char *const words[FOUND_KINDS] = {
        "identical",   "duplicate",     "sequence",       "mask-differs", "mask-empty",
        "mask-full",   "mask-inverted", "mask-speckled",  "mask-grey",    "mask-repeated",
        "frame-small", "frame-black",   "frame-constant", "unreadable",
    };

    return words[kind];
}

void findings_add(findings *f, finding what)
{
    pthread_mutex_lock(&f->lock);
    if (f->count == f->room) {
        f->room = f->room ? 2 * f->room : 64;
        f->list = need_more(f->list, (size_t)f->room * sizeof *f->list);
    }
    f->list[f->count++] = what;
    pthread_mutex_unlock(&f->lock);
}

static int order(int64_t a, int64_t b) { return a < b ? -1 : a > b; }

static int by_rank(const void *x, const void *y)
{
    const finding *a = x, *b = y;
    int            o = order((int64_t)a->kind, (int64_t)b->kind);

    if (!o && !isnan(a->similarity) && !isnan(b->similarity) && a->similarity != b->similarity)
        return a->similarity > b->similarity ? -1 : 1;
    if (!o) o = order(a->folder, b->folder);
    if (!o) o = order(a->a, b->a);
    if (!o) o = order(a->b, b->b);
    return o ? o : strcmp(a->detail, b->detail);
}

void findings_sort(findings *f)
{
    if (f->count) qsort(f->list, (size_t)f->count, sizeof *f->list, by_rank);
}

int64_t findings_of(const findings *f, finding_kind kind)
{
    int64_t n = 0;

    for (int64_t i = 0; i < f->count; i++)
        n += f->list[i].kind == kind;
    return n;
}

void findings_free(findings *f)
{
    for (int64_t i = 0; i < f->count; i++)
        free(f->list[i].detail);
    free(f->list);
}

/* pairs.c - frames that show the same: copies, and neighbours in one video. */
#include "doctor/pairs.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "system/say.h"

/* Hashes that differ in more bits belong to frames that are not compared further. Of frames that
 * have nothing to do with each other, fewer than one in a hundred come closer. */
enum { NEAR_BITS = 18, NEAR_NUMBERS = 2 };

/* Of a frame's pairs with later frames, so many are kept for training and for test: the most
 * similar ones. Long videos would make more than memory holds. */
enum { KEPT = 32 };

/* ---- Names that count ------------------------------------------------------------------------ */

typedef struct numbered {
    const char *name;
    int         before, after; /* the last run of digits begins at `before` and ends at `after` */
    int64_t     number;        /* -1: there is none */
} numbered;

static numbered number_of(const char *name)
{
    numbered n = { .name = name, .number = -1 };

    n.after = (int)strlen(name);
    while (n.after > 0 && !isdigit((unsigned char)name[n.after - 1]))
        n.after--;
    n.before = n.after;
    while (n.before > 0 && isdigit((unsigned char)name[n.before - 1]))
        n.before--;
    if (n.after > n.before && n.after - n.before < 12)
        n.number = strtoll(name + n.before, NULL, 10);
    return n;
}

/* "frame_07" and "frame_8" follow each other, and so do numbers with one missing between them. */
static bool follow(const numbered *a, const numbered *b)
{
    int64_t apart = a->number - b->number;

    return a->number >= 0 && b->number >= 0 && apart && apart >= -NEAR_NUMBERS &&
           apart <= NEAR_NUMBERS && a->before == b->before &&
           !memcmp(a->name, b->name, (size_t)a->before) &&
           !strcmp(a->name + a->after, b->name + b->after);
}

/* ---- All pairs ------------------------------------------------------------------------------- */

typedef struct found_pairs {
    pair   *list;
    int64_t count, room, compared;
} found_pairs;

typedef struct search {
    const frames *frames;
    const limits *at;
    numbered     *numbers;
    found_pairs  *found; /* of each thread */
    int32_t       rank, ranks;
} search;

static void keep(found_pairs *to, pair p)
{
    if (to->count == to->room) {
        to->room = to->room ? 2 * to->room : 64;
        to->list = need_more(to->list, (size_t)to->room * sizeof *to->list);
    }
    to->list[to->count++] = p;
}

/* The most similar variant of b, as far as hashes come near; frames that `follow` each other are
 * compared as they are in any case. */
static pair compare(found_pairs *to, const frame *a, const frame *b, bool follow_each_other)
{
    pair p = { .similarity = -1 };
    pose best;

    for (int v = 0; v < SKETCH_VARIANTS; v++) {
        pose   at;
        double similarity;

        if (sketch_distance(&a->sketch, &b->sketch, v) > NEAR_BITS && (v || !follow_each_other))
            continue;
        to->compared++;
        similarity = sketch_compare(&a->sketch, &b->sketch, v, &at);
        if (similarity <= p.similarity) continue;
        p.similarity = (float)similarity;
        p.variant    = (uint8_t)v;
        best         = at;
    }
    if (p.similarity > 0)
        p.dice = (float)sketch_mask_dice(&a->sketch, &b->sketch, p.variant, &best);
    return p;
}

/* The best pairs of a frame so far. */
typedef struct best_pairs {
    pair list[KEPT];
    int  count;
} best_pairs;

static void offer(best_pairs *best, const pair *p)
{
    int least = 0;

    if (best->count < KEPT) {
        best->list[best->count++] = *p;
        return;
    }
    for (int i = 1; i < KEPT; i++)
        if (best->list[i].similarity < best->list[least].similarity) least = i;
    if (best->list[least].similarity < p->similarity) best->list[least] = *p;
}

/* The rows of a rank are every so many-th, since the first ones are the longest. */
static bool compare_row(void *user, int thread, int64_t number)
{
    search      *s       = user;
    int64_t      i       = number * s->ranks + s->rank;
    found_pairs *to      = &s->found[thread];
    const frame *a       = &s->frames->list[i];
    best_pairs   best[2] = { { .count = 0 }, { .count = 0 } }; /* with test, with training */

    if (!a->read || a->sketch.flat) return true;
    for (int64_t k = i + 1; k < s->frames->count; k++) {
        const frame *b    = &s->frames->list[k];
        bool         next = a->width == b->width && a->height == b->height &&
                    follow(&s->numbers[i], &s->numbers[k]);
        pair p;

        if (!b->read || b->sketch.flat) continue;
        if (a->pixels == b->pixels && a->width == b->width && a->height == b->height) {
            pose same = { 1, 0, 1, 0 };

            p      = (pair){ .similarity = 1, .identical = true };
            p.dice = (float)sketch_mask_dice(&a->sketch, &b->sketch, 0, &same);
        } else {
            p = compare(to, a, b, next);
        }
        p.a = i;
        p.b = k;
        if (pair_is_copy(&p, s->at) || (!p.variant && p.similarity >= s->at->sequence) ||
            (!p.variant && next && p.similarity >= s->at->named)) {
            offer(&best[s->frames->folders[b->folder].train], &p);
        }
    }
    for (int k = 0; k < best[0].count; k++)
        keep(to, best[0].list[k]);
    for (int k = 0; k < best[1].count; k++)
        keep(to, best[1].list[k]);
    return true;
}

/* Put the pairs of all ranks together, on each. */
static bool share_pairs(pairs *p, kdas_ranks *ranks)
{
    pairs  all  = { 0 };
    double sum  = (double)p->compared;
    bool   done = ok(kdas_ranks_sum(ranks, &sum, 1));

    for (int32_t r = 0; r < kdas_ranks_count(ranks) && done; r++) {
        int64_t count = p->count;

        done = ok(kdas_ranks_broadcast(ranks, &count, sizeof count, r));
        if (!done) break;
        all.list = need_more(all.list, (size_t)(all.count + count) * sizeof *all.list);
        if (r == kdas_ranks_rank(ranks) && count)
            memcpy(all.list + all.count, p->list, (size_t)count * sizeof *p->list);
        done = ok(
            kdas_ranks_broadcast(ranks, all.list + all.count, (size_t)count * sizeof *all.list, r));
        all.count += count;
    }
    free(p->list);
    p->list     = all.list;
    p->count    = done ? all.count : 0;
    p->compared = (int64_t)sum;
    return done;
}

static int by_frames(const void *x, const void *y)
{
    const pair *a = x, *b = y;

    if (a->a != b->a) return a->a < b->a ? -1 : 1;
    return a->b < b->b ? -1 : a->b > b->b;
}

/* ---- Sequences: what pairs connect ----------------------------------------------------------- */

static int64_t first_of(int64_t *parent, int64_t i)
{
    while (parent[i] != i)
        i = parent[i] = parent[parent[i]];
    return i;
}

/* Two files of one picture, and nothing else, are no sequence. */
static void leave_lone_copies(int64_t *parent, const pairs *p, int64_t count, const limits *at)
{
    int64_t *size = need((size_t)count * sizeof *size);

    for (int64_t i = 0; i < count; i++)
        size[first_of(parent, i)]++;
    for (int64_t i = 0; i < p->count; i++) {
        const pair *one = &p->list[i];

        if (!one->variant && pair_is_copy(one, at) && size[first_of(parent, one->a)] == 2)
            parent[one->b] = one->b;
    }
    free(size);
}

static void find_sequences(pairs *p, const frames *f, const limits *at)
{
    int64_t *parent = need((size_t)f->count * sizeof *parent);

    p->sequence = need((size_t)f->count * sizeof *p->sequence);
    for (int64_t i = 0; i < f->count; i++) {
        parent[i]      = i;
        p->sequence[i] = -1;
    }
    for (int64_t i = 0; i < p->count; i++) {
        int64_t a = first_of(parent, p->list[i].a), b = first_of(parent, p->list[i].b);

        if (p->list[i].variant) continue; /* a mirrored copy is not of the video */
        if (a < b)
            parent[b] = a;
        else
            parent[a] = b;
    }
    leave_lone_copies(parent, p, f->count, at);
    for (int64_t i = 0; i < f->count; i++) { /* the first of a sequence has the least number */
        int64_t first = first_of(parent, i);

        if (first == i) continue;
        if (p->sequence[first] < 0) p->sequence[first] = p->sequences++;
        p->sequence[i] = p->sequence[first];
    }
    free(parent);
}

bool pairs_find(pairs *p, const frames *f, const limits *at, int threads, const group *g)
{
    search s = { f,
                 at,
                 need((size_t)f->count * sizeof *s.numbers),
                 need((size_t)threads * sizeof *s.found),
                 kdas_ranks_rank(g->ranks),
                 kdas_ranks_count(g->ranks) };
    bool   done;

    *p = (pairs){ 0 };
    for (int64_t i = 0; i < f->count; i++)
        s.numbers[i] = number_of(f->list[i].name);
    done = on_threads(threads, (f->count - s.rank + s.ranks - 1) / s.ranks, compare_row, &s);
    done = group_all(g, done);
    for (int t = 0; t < threads; t++) {
        p->list = need_more(p->list, (size_t)(p->count + s.found[t].count) * sizeof *p->list);
        if (s.found[t].count)
            memcpy(p->list + p->count, s.found[t].list, (size_t)s.found[t].count * sizeof *p->list);
        p->count += s.found[t].count;
        p->compared += s.found[t].compared;
        free(s.found[t].list);
    }
    if (g->ranks) done = done && share_pairs(p, g->ranks);
    if (p->count) qsort(p->list, (size_t)p->count, sizeof *p->list, by_frames);
    find_sequences(p, f, at);
    free(s.found);
    free(s.numbers);
    return done;
}

void pairs_free(pairs *p)
{
    free(p->list);
    free(p->sequence);
}

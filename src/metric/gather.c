/* gather.c - an evaluator that ranks share: each adds images of its own, and then all receive all of them. Sums are added
 * again in the order of the images, so that they have the bits of one process alone. */
#include <assert.h>
#include <string.h>
#include "base/context.h"
#include "base/process.h"
#include "metric/evaluator.h"
#include "ranks/ranks.h"

/* An image on its way; its name comes behind all of them. */
typedef struct parcel {
    double    figure[KDAS_METRICS];
    kd_addend addend;
} parcel;

static int64_t own_count(const kdas_evaluator *e) { return e->now.count - e->gathered.count; }

kdas_ranks *kdas_evaluator_ranks(const kdas_evaluator *evaluator)
{
    return evaluator ? evaluator->ranks : NULL;
}

kdas_status kdas_evaluator_share(kdas_evaluator *evaluator, kdas_ranks *ranks)
{
    kd_given *given = NULL;

    if (!evaluator) return kd_fail(KDAS_EINVAL, "the evaluator is NULL");
    KD_RETURN(kd_ranks_check(ranks, evaluator->ctx, "kdas_evaluator_share"));
    if (evaluator->ranks && own_count(evaluator) > 0)
        return kd_fail(KDAS_ESTATE, "%lld images of the evaluator were not gathered",
                       (long long)own_count(evaluator));
    if (ranks) {
        given = kd_calloc(evaluator->ctx, (size_t)kdas_ranks_count(ranks), sizeof *given);
        if (!given) return KDAS_ENOMEM;
    }
    kd_free(evaluator->ctx, evaluator->given);
    evaluator->given    = given;
    evaluator->ranks    = ranks;
    evaluator->gathered = evaluator->now;
    return KDAS_OK;
}

/* ---- parcels ---- */

static size_t bytes_of(const kd_given *g)
{
    return (size_t)g->images * sizeof(parcel) + (size_t)g->bytes;
}

/* How much each rank has to give, on every rank. */
static kdas_status count_given(kdas_evaluator *e)
{
    int32_t   ranks = kdas_ranks_count(e->ranks);
    kd_given *own   = &e->given[kdas_ranks_rank(e->ranks)];

    memset(e->given, 0, (size_t)ranks * sizeof *e->given);
    own->images = (double)own_count(e);
    for (int64_t i = e->gathered.count; i < e->now.count; i++)
        own->bytes += (double)strlen(e->images[i].name) + 1;
    return kdas_ranks_sum(e->ranks, &e->given[0].images, 2 * (size_t)ranks);
}

/* Room for what comes, and for what is sent: `own` stays while others' parcels pass. */
static kdas_status make_room(kdas_evaluator *e, char **own, char **passing)
{
    size_t  most  = 0;
    int64_t count = e->gathered.count;

    for (int32_t r = 0; r < kdas_ranks_count(e->ranks); r++) {
        most = KD_MAX(most, bytes_of(&e->given[r]));
        count += (int64_t)e->given[r].images;
    }
    KD_RETURN(kd_evaluator_reserve(e, count, own_count(e)));
    *own     = kd_alloc(e->ctx, bytes_of(&e->given[kdas_ranks_rank(e->ranks)]) + 1);
    *passing = kd_alloc(e->ctx, most + 1);
    return *own && *passing ? KDAS_OK : KDAS_ENOMEM;
}

static void pack(const kdas_evaluator *e, char *to)
{
    parcel *p    = (parcel *)to;
    char   *name = to + (size_t)own_count(e) * sizeof *p;

    for (int64_t i = e->gathered.count; i < e->now.count; i++, p++) {
        assert(p); /* there are such images */
        memcpy(p->figure, e->images[i].figure, sizeof p->figure);
        p->addend = e->own[i - e->gathered.count];
        name      = stpcpy(name, e->images[i].name) + 1;
    }
}

/* Add the images of a rank. */
static kdas_status unpack(kdas_evaluator *e, const char *from, const kd_given *given)
{
    const parcel *p    = (const parcel *)from;
    const char   *name = from + (size_t)given->images * sizeof *p;

    for (int64_t i = 0; i < (int64_t)given->images; i++, p++) {
        kd_score *image = &e->images[e->now.count];

        assert(p);
        image->name = kd_strdup(e->ctx, name);
        if (!image->name) return KDAS_ENOMEM;
        memcpy(image->figure, p->figure, sizeof image->figure);
        kd_evaluator_sum(&e->now, &p->addend);
        name += strlen(name) + 1;
    }
    return KDAS_OK;
}

static void drop_own(kdas_evaluator *e)
{
    kd_evaluator_drop(e, e->gathered.count);
    e->now = e->gathered;
}

/* Every rank's parcels pass by, also after one could not be taken. */
static kdas_status pass_round(kdas_evaluator *e, const char *own, char *passing)
{
    int32_t     rank = kdas_ranks_rank(e->ranks);
    kdas_status st   = KDAS_OK;

    for (int32_t r = 0; r < kdas_ranks_count(e->ranks); r++) {
        size_t bytes = bytes_of(&e->given[r]);

        if (bytes == 0) continue;
        assert(own && passing); /* large enough for all that is passed */
        if (r == rank) memcpy(passing, own, bytes);
        KD_RETURN(kdas_ranks_broadcast(e->ranks, passing, bytes, r));
        if (st == KDAS_OK) st = unpack(e, passing, &e->given[r]);
    }
    return kdas_ranks_vote(e->ranks, st);
}

static kdas_status gather(kdas_evaluator *e, char **own, char **passing)
{
    KD_RETURN(count_given(e));
    KD_RETURN(kdas_ranks_vote(e->ranks, make_room(e, own, passing)));
    pack(e, *own);
    drop_own(e);
    KD_RETURN(pass_round(e, *own, *passing));
    e->gathered = e->now;
    return KDAS_OK;
}

kdas_status kdas_evaluator_gather(kdas_evaluator *evaluator)
{
    char       *own = NULL, *passing = NULL;
    kdas_status st;

    if (!evaluator) return kd_fail(KDAS_EINVAL, "the evaluator is NULL");
    if (!evaluator->ranks) return KDAS_OK;
    KD_RETURN(kd_check_process(evaluator->ctx));
    st = gather(evaluator, &own, &passing);
    if (st != KDAS_OK) drop_own(evaluator);
    kd_free(evaluator->ctx, own);
    kd_free(evaluator->ctx, passing);
    return st;
}

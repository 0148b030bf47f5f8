/* calls.c - collective calls: sums, votes, agreement. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "base/process.h"
#include "ranks/ranks_inside.h"

/* ---- votes ---- */

/* Whether a number that each rank alone has given came back as one that can be: a host's own sum() may give anything. */
static bool is_whole(double number, double least, double most)
{
    return number >= least && number <= most && number == (double)(int32_t)number;
}

/* The first rank whose ballot is a failure; -1: none. */
static kdas_status find_failure(kdas_ranks *r, int32_t *who)
{
    *who = -1;
    for (int32_t i = r->count - 1; i >= 0; i--) {
        if (!is_whole(r->ballot[i], INT32_MIN, 0))
            return kd_ranks_break(r,
                                  "collective '%s': its sum() gives %g for the status of rank %d",
                                  r->table.name, r->ballot[i], i);
        if (r->ballot[i] < 0) *who = i;
    }
    return KDAS_OK;
}

/* Every rank learns what rank `who` says: its sentence is this thread's last one. */
static kdas_status tell(kdas_ranks *r, int32_t who, kdas_status st)
{
    char text[KD_RANKS_TEXT] = "";

    if (who == r->rank) snprintf(text, sizeof text, "%s", kdas_last_error());
    KD_RETURN(kd_ranks_do(r, KD_RANKS_BROADCAST, text, sizeof text, who));
    text[sizeof text - 1] = 0;
    return kd_fail(st, "rank %d: %s", who, text);
}

/* The sum of all ballots, and of `count` values behind them. */
static kdas_status count_ballots(kdas_ranks *r, double mine, const double *values, size_t count)
{
    memset(r->ballot, 0, (size_t)r->count * sizeof *r->ballot);
    r->ballot[r->rank] = mine;
    if (count) memcpy(r->ballot + r->count, values, count * sizeof *values);
    return kd_ranks_do(r, KD_RANKS_SUM_F64, r->ballot, (size_t)r->count + count, 0);
}

kdas_status kd_ranks_vote_sum(kdas_ranks *r, kdas_status mine, double *values, size_t count)
{
    int32_t who;

    assert(count <= KD_RANKS_VALUES);
    if (!r || r->count == 1) return mine;
    KD_RETURN(count_ballots(r, (double)mine, values, count)); /* 0 or below */
    KD_RETURN(find_failure(r, &who));
    if (who >= 0) return tell(r, who, (kdas_status)r->ballot[who]);
    if (count) memcpy(values, r->ballot + r->count, count * sizeof *values);
    return KDAS_OK;
}

/* ---- meetings ---- */

static const char *const meetings[] = {
    [KD_RANKS_AT_VOTE]      = "kdas_ranks_vote()",
    [KD_RANKS_AT_SUM]       = "kdas_ranks_sum()",
    [KD_RANKS_AT_BROADCAST] = "kdas_ranks_broadcast()",
    [KD_RANKS_AT_BARRIER]   = "kdas_ranks_barrier()",
    [KD_RANKS_AT_AGREE]     = "kdas_ranks_agree()",
    [KD_RANKS_AT_FORWARD]   = "a step or forward of a distiller",
    [KD_RANKS_AT_BACKWARD]  = "a backward of a distiller",
    [KD_RANKS_AT_UPDATE]    = "an update of a distiller",
    [KD_RANKS_AT_GATHER]    = "kdas_distiller_gather()",
    [KD_RANKS_AT_MODEL]     = "a forward or backward with batch norms over ranks",
    [KD_RANKS_AT_EVALUATE]  = "an evaluation",
    [KD_RANKS_AT_TRAIN]     = "kdas_train()",
    [KD_RANKS_AT_LOADER]    = "kdas_loader_create()",
};

/* Which rank is at another call than rank 0, after it has turned out that there is one. */
static kdas_status tell_meetings(kdas_ranks *r, kd_ranks_meeting meeting)
{
    double *at = r->ballot;

    memset(at, 0, (size_t)r->count * sizeof *at);
    at[r->rank] = meeting;
    KD_RETURN(kd_ranks_do(r, KD_RANKS_SUM_F64, at, (size_t)r->count, 0));
    for (int32_t i = 0; i < r->count; i++)
        if (!is_whole(at[i], 0, KD_COUNT(meetings) - 1))
            return kd_ranks_break(r, "collective '%s': its sum() gives %g for the call of rank %d",
                                  r->table.name, at[i], i);
    for (int32_t i = 1; i < r->count; i++)
        if (at[i] != at[0])
            return kd_fail(KDAS_ESTATE, "rank %d is at %s, and rank 0 at %s", i,
                           meetings[(int)at[i]], meetings[(int)at[0]]);
    return kd_fail(KDAS_ESTATE, "%s: ranks call it for different numbers of values, or roots",
                   meetings[meeting]);
}

/* 12 bits of what must be equal: sums of them and of their squares are exact. */
static double digest_of(kd_ranks_meeting meeting, uint64_t detail)
{
    return (double)(kd_mix64(detail * 64 + (uint64_t)meeting) & 4095);
}

/* The exchange has the same size in all meetings: ranks that are at different ones understand each other. */
kdas_status kd_ranks_meet(kdas_ranks *r, kd_ranks_meeting meeting, uint64_t detail,
                          kdas_status mine, double *values, size_t count)
{
    enum { DIGEST = 2 };
    double  own[DIGEST + KD_RANKS_FEW] = { 0 }, *all;
    int32_t who;

    assert(count <= KD_RANKS_FEW);
    if (!r) return mine;
    KD_RETURN(kd_check_process(r->ctx));
    if (r->count == 1) return mine;
    own[0] = digest_of(meeting, detail);
    own[1] = own[0] * own[0];
    if (count) memcpy(own + DIGEST, values, count * sizeof *values);
    KD_RETURN(count_ballots(r, (double)mine, own, KD_COUNT(own)));
    KD_RETURN(find_failure(r, &who));
    if (who >= 0) return tell(r, who, (kdas_status)r->ballot[who]);
    all = r->ballot + r->count;
    if (r->count * all[1] != all[0] * all[0]) return tell_meetings(r, meeting);
    if (count) memcpy(values, all + DIGEST, count * sizeof *values);
    return KDAS_OK;
}

kdas_status kdas_ranks_vote(kdas_ranks *r, kdas_status mine)
{
    if (mine > 0) mine = kd_fail(KDAS_EINVAL, "kdas_ranks_vote: %d is not a status", (int)mine);
    return kd_ranks_meet(r, KD_RANKS_AT_VOTE, 0, mine, NULL, 0);
}

/* ---- numbers ---- */

kdas_status kdas_ranks_sum(kdas_ranks *r, double *values, size_t count)
{
    kdas_status st = KDAS_OK;

    if (!values && count) st = kd_fail(KDAS_EINVAL, "kdas_ranks_sum: values is NULL");
    KD_RETURN(kd_ranks_meet(r, KD_RANKS_AT_SUM, count, st, NULL, 0));
    return r && count ? kd_ranks_do(r, KD_RANKS_SUM_F64, values, count, 0) : KDAS_OK;
}

kdas_status kdas_ranks_broadcast(kdas_ranks *r, void *bytes, size_t count, int32_t root)
{
    kdas_status st = KDAS_OK;

    if (!bytes && count) st = kd_fail(KDAS_EINVAL, "kdas_ranks_broadcast: bytes is NULL");
    if (root < 0 || root >= kdas_ranks_count(r))
        st = kd_fail(KDAS_EINVAL, "kdas_ranks_broadcast: there is no rank %d of %d", root,
                     kdas_ranks_count(r));
    KD_RETURN(
        kd_ranks_meet(r, KD_RANKS_AT_BROADCAST, kd_mix64(count) + (uint32_t)root, st, NULL, 0));
    return r && count ? kd_ranks_do(r, KD_RANKS_BROADCAST, bytes, count, root) : KDAS_OK;
}

kdas_status kdas_ranks_barrier(kdas_ranks *r)
{
    KD_RETURN(kd_ranks_meet(r, KD_RANKS_AT_BARRIER, 0, KDAS_OK, NULL, 0));
    return r ? kd_ranks_do(r, KD_RANKS_BARRIER, NULL, 0, 0) : KDAS_OK;
}

/* ---- agreement ---- */

enum { SHOWN = 160 }; /* bytes of a text in a sentence */

/* What the texts of rank 0 and of rank `who` begin with. */
static kdas_status tell_difference(kdas_ranks *r, int32_t who, const char *what, const char *text)
{
    char shown[2][SHOWN] = { "", "" };

    for (int i = 0; i < 2; i++) {
        int32_t root = i ? who : 0;

        if (root == r->rank) snprintf(shown[i], SHOWN, "%s", text);
        KD_RETURN(kd_ranks_do(r, KD_RANKS_BROADCAST, shown[i], SHOWN, root));
        shown[i][SHOWN - 1] = 0;
    }
    return kd_fail(KDAS_EINVAL, "rank %d has another %s than rank 0: '%s' and not '%s'", who, what,
                   shown[1], shown[0]);
}

kdas_status kdas_ranks_agree(kdas_ranks *r, const char *what, const char *text)
{
    uint64_t    own[2], first[2];
    kdas_status st = KDAS_OK;
    int32_t     who;

    if (!what || !text) st = kd_fail(KDAS_EINVAL, "kdas_ranks_agree: what or text is NULL");
    KD_RETURN(kd_ranks_meet(r, KD_RANKS_AT_AGREE, 0, st, NULL, 0));
    if (!r || r->count == 1) return KDAS_OK;
    assert(what && text); /* otherwise all have been told */
    own[0] = first[0] = kd_hash64(text);
    own[1] = first[1] = strlen(text);
    KD_RETURN(kd_ranks_do(r, KD_RANKS_BROADCAST, first, sizeof first, 0));
    memset(r->ballot, 0, (size_t)r->count * sizeof *r->ballot);
    r->ballot[r->rank] = memcmp(own, first, sizeof own) ? -1 : 0;
    KD_RETURN(kd_ranks_do(r, KD_RANKS_SUM_F64, r->ballot, (size_t)r->count, 0));
    KD_RETURN(find_failure(r, &who));
    return who < 0 ? KDAS_OK : tell_difference(r, who, what, text);
}

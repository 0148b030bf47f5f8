/* calls.c - collective calls: sums, votes, agreement. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "base/process.h"
#include "ranks/ranks_inside.h"

kdas_status kdas_ranks_sum(kdas_ranks *r, double *values, size_t count)
{
    if (!values && count) return kd_fail(KDAS_EINVAL, "kdas_ranks_sum: values is NULL");
    if (!r) return KDAS_OK;
    KD_RETURN(kd_check_process(r->ctx));
    return kd_ranks_do(r, KD_RANKS_SUM_F64, values, count, 0);
}

kdas_status kdas_ranks_broadcast(kdas_ranks *r, void *bytes, size_t count, int32_t root)
{
    if (!bytes && count) return kd_fail(KDAS_EINVAL, "kdas_ranks_broadcast: bytes is NULL");
    if (root < 0 || root >= kdas_ranks_count(r))
        return kd_fail(KDAS_EINVAL, "kdas_ranks_broadcast: there is no rank %d of %d", root,
                       kdas_ranks_count(r));
    if (!r) return KDAS_OK;
    KD_RETURN(kd_check_process(r->ctx));
    return kd_ranks_do(r, KD_RANKS_BROADCAST, bytes, count, root);
}

kdas_status kdas_ranks_barrier(kdas_ranks *r)
{
    if (!r) return KDAS_OK;
    KD_RETURN(kd_check_process(r->ctx));
    return kd_ranks_do(r, KD_RANKS_BARRIER, NULL, 0, 0);
}

/* ---- votes ---- */

static int32_t first_below_zero(const kdas_ranks *r)
{
    for (int32_t i = 0; i < r->count; i++)
        if (r->ballot[i] < 0) return i;
    return -1;
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

kdas_status kd_ranks_vote_sum(kdas_ranks *r, kdas_status mine, double *values, size_t count)
{
    int32_t who;

    assert(count <= KD_RANKS_VALUES);
    if (!r || r->count == 1) return mine;
    memset(r->ballot, 0, (size_t)r->count * sizeof *r->ballot);
    r->ballot[r->rank] = (double)mine; /* 0 or below */
    if (count) memcpy(r->ballot + r->count, values, count * sizeof *values);
    KD_RETURN(kd_ranks_do(r, KD_RANKS_SUM_F64, r->ballot, (size_t)r->count + count, 0));
    who = first_below_zero(r);
    if (who >= 0) return tell(r, who, (kdas_status)r->ballot[who]);
    if (count) memcpy(values, r->ballot + r->count, count * sizeof *values);
    return KDAS_OK;
}

kdas_status kdas_ranks_vote(kdas_ranks *r, kdas_status mine)
{
    /* The others wait for this vote, too. */
    if (mine > 0) mine = kd_fail(KDAS_EINVAL, "kdas_ranks_vote: %d is not a status", (int)mine);
    if (r) KD_RETURN(kd_check_process(r->ctx));
    return kd_ranks_vote_sum(r, mine, NULL, 0);
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
    uint64_t own[2], first[2];
    int32_t  who;

    if (!what || !text) return kd_fail(KDAS_EINVAL, "kdas_ranks_agree: what or text is NULL");
    if (!r) return KDAS_OK;
    KD_RETURN(kd_check_process(r->ctx));
    if (r->count == 1) return KDAS_OK;
    own[0] = first[0] = kd_hash64(text);
    own[1] = first[1] = strlen(text);
    KD_RETURN(kd_ranks_do(r, KD_RANKS_BROADCAST, first, sizeof first, 0));
    memset(r->ballot, 0, (size_t)r->count * sizeof *r->ballot);
    r->ballot[r->rank] = memcmp(own, first, sizeof own) ? -1 : 0;
    KD_RETURN(kd_ranks_do(r, KD_RANKS_SUM_F64, r->ballot, (size_t)r->count, 0));
    who = first_below_zero(r);
    return who < 0 ? KDAS_OK : tell_difference(r, who, what, text);
}

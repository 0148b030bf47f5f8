/* ranks_step.c - see ranks_step.h. What is summed is a list of pieces. On a device in the host's memory gradients are summed in
 * place, each bucket while the backward of the layers before it runs. On other devices they go through host memory after
 * the backward: a bucket is downloaded while the one before it is summed. */
#include "distill/ranks_step.h"
#include <stdio.h>
#include <string.h>
#include "base/process.h"
#include "base/text.h"
#include "distill/checkpoint.h"
#include "graph/buckets.h"
#include "graph/settings.h"
#include "ranks/ranks.h"

enum { USUAL_BUCKET = 1 << 18 }; /* a megabyte */

/* A sum over the ranks. */
typedef struct piece {
    kd_ranks_job job;    /* its values are in host memory */
    float       *device; /* where they come from and go to; NULL: they are there already */
} piece;

struct kd_ranks_step {
    kdas_ranks       *ranks;
    kd_buckets        buckets;
    kd_gradient_watch watch;
    piece            *piece; /* running statistics, projections, buckets */
    int               pieces, started;
    int               statistics, projections; /* their pieces; -1: there are none */
    float            *host;                    /* of the pieces that are not summed in place */
    bool              pinned;
    kdas_status       status; /* of the pieces that have been started */
    double            part;
    bool              read, last;
    bool              reduced;  /* the gradients are sums over the ranks */
    bool              gathered; /* those sums are at rank 0 alone: kdas_distiller_gather() */
    uint64_t          ballots;  /* of the student, when the phase began */
    bool              torn;     /* an update was made here, and not on another rank */
    kd_loss_part      loss;
};

/* ---- make ---- */

static kd_params *projections_of(const kdas_distiller *d)
{
    return d->feature ? d->feature->params : NULL;
}

static float *running_statistics(const kdas_distiller *d)
{
    kd_params *p = d->student->params;

    return kd_params_values(p) + kd_params_trainable(p);
}

static int add_piece(kd_ranks_step *s, float *device, int64_t count)
{
    s->piece[s->pieces] =
        (piece){ .job = { .kind = KD_RANKS_SUM_F32, .count = (size_t)count }, .device = device };
    return s->pieces++;
}

static void list_pieces(kdas_distiller *d, kd_ranks_step *s)
{
    kd_params *p = d->student->params, *side = projections_of(d);

    s->statistics = s->projections = -1;
    if (kd_params_running(p) > 0)
        s->statistics = add_piece(s, running_statistics(d), kd_params_running(p));
    if (side) s->projections = add_piece(s, kd_params_grads(side), kd_params_trainable(side));
    for (int i = 0; i < s->buckets.count; i++)
        add_piece(s, kd_params_grads(p) + s->buckets.bucket[i].first, s->buckets.bucket[i].count);
}

/* Host memory for the pieces that are not summed in place. */
static kdas_status place_pieces(const kdas_distiller *d, kd_ranks_step *s)
{
    bool   direct = d->ctx->host_memory;
    size_t room   = 0;

    for (int i = 0; i < s->pieces; i++)
        if (!direct || i == s->statistics) room += s->piece[i].job.count;
    s->pinned = !direct && d->ctx->backend->host_alloc && d->ctx->backend->host_free;
    s->host   = s->pinned ? kd_device_host_alloc(d->ctx, room * sizeof *s->host)
                          : kd_alloc(d->ctx, (room + 1) * sizeof *s->host);
    if (!s->host) return KDAS_ENOMEM;
    room = 0;
    for (int i = 0; i < s->pieces; i++) {
        piece *p = &s->piece[i];

        p->job.values = direct && i != s->statistics ? p->device : s->host + room;
        if (p->job.values == p->device)
            p->device = NULL;
        else
            room += p->job.count;
    }
    return KDAS_OK;
}

static void ready(void *user, int bucket);

static kdas_status make(kdas_distiller *d, kdas_ranks *ranks)
{
    int64_t        most = kd_graph_settings_of(d->ctx)->bucket;
    kd_ranks_step *s    = kd_calloc(d->ctx, 1, sizeof *s);

    if (!s) return KDAS_ENOMEM;
    d->over  = s;
    s->ranks = ranks;
    s->part  = 1; /* checks before a forward read it, too */
    KD_RETURN(kd_buckets_make(&s->buckets, d->ctx, d->student->params, d->student->shape,
                              most ? most : USUAL_BUCKET));
    s->piece = kd_calloc(d->ctx, (size_t)s->buckets.count + 2, sizeof *s->piece);
    if (!s->piece) return KDAS_ENOMEM;
    list_pieces(d, s);
    KD_RETURN(place_pieces(d, s));
    s->watch = (kd_gradient_watch){ .buckets = &s->buckets, .ready = ready, .user = d };
    if (kdas_ranks_rank(ranks) > 0) d->student->draws = kd_mix64((uint64_t)kdas_ranks_rank(ranks));
    return KDAS_OK;
}

void kd_ranks_step_destroy(kdas_distiller *d)
{
    kd_ranks_step *s = d->over;

    if (!s) return;
    d->student->draws = 0;
    kd_buckets_finish(&s->buckets);
    if (s->pinned)
        kd_device_host_free(d->ctx, s->host);
    else
        kd_free(d->ctx, s->host);
    kd_free(d->ctx, s->piece);
    kd_free(d->ctx, s);
    d->over = NULL;
}

/* ---- what must be equal ---- */

static kdas_status agree_number(kdas_ranks *ranks, const char *what, double number)
{
    char text[32];

    kd_format(text, sizeof text, "%.17g", number);
    return kdas_ranks_agree(ranks, what, text);
}

static kdas_status agree_values(kdas_ranks *ranks, const char *what, uint64_t hash)
{
    char text[32];

    kd_format(text, sizeof text, "%016llx", (unsigned long long)hash);
    return kdas_ranks_agree(ranks, what, text);
}

/* Equal values in, equal bits out: else students would drift apart, from the norm of their gradients on. */
static kdas_status probe(const kdas_distiller *d, uint64_t *bits)
{
    kd_params *p = d->student->params;

    KD_RETURN(kd_device_sum_squares(d->ctx, d->optim->squares, kd_params_values(p),
                                    kd_params_trainable(p)));
    return kd_device_download(d->ctx, bits, d->optim->squares, sizeof *bits);
}

/* What may fail here alone comes before the vote. */
static kdas_status agree(kdas_distiller *d, kdas_ranks *ranks, kdas_status mine)
{
    kd_checkpoint_facts *facts   = NULL;
    uint64_t             hash[3] = { 0 };
    kdas_status          st      = mine;

    if (st == KDAS_OK) st = make(d, ranks);
    if (st == KDAS_OK && !(facts = kd_calloc(d->ctx, 1, sizeof *facts))) st = KDAS_ENOMEM;
    if (st == KDAS_OK) st = kd_checkpoint_facts_init(facts, d);
    if (st == KDAS_OK) st = kdas_model_hash(d->student, &hash[0]);
    if (st == KDAS_OK && d->teacher) st = kdas_model_hash(d->teacher, &hash[1]);
    if (st == KDAS_OK) st = probe(d, &hash[2]);
    KD_TRY(kdas_ranks_vote(ranks, st));
    KD_TRY(kd_facts_agree(ranks, &facts->list));
    KD_TRY(agree_number(ranks, "gradient_norms", d->options.gradient_norms));
    KD_TRY(agree_number(ranks, "number of ranks that a batch norm is over",
                        kdas_ranks_count(d->student->options.ranks)));
    KD_TRY(kdas_ranks_agree(ranks, "teacher", d->teacher ? d->teacher->def->name : "none"));
    KD_TRY(agree_values(ranks, "hash of the teacher's values", hash[1]));
    KD_TRY(agree_values(ranks, "hash of the student's values", hash[0]));
    KD_TRY(agree_values(ranks, "sum of squares of the same values, as its device computes it,",
                        hash[2]));
    KD_TRY(agree_number(ranks, "number of pieces of the gradients", d->over->pieces));
done:
    if (facts) kd_checkpoint_facts_finish(facts);
    if (d) kd_free(d->ctx, facts);
    return st;
}

/* Batch norms over other ranks than the step's would wait for ranks that do not come. */
static kdas_status check_norms(const kdas_distiller *d, const kdas_ranks *ranks)
{
    const kdas_ranks *norms = d->student->options.ranks;

    if (kdas_ranks_count(norms) == 1 || norms == ranks) return KDAS_OK;
    return kd_fail(
        KDAS_EINVAL,
        "distiller: the batch norms of student '%s' are over ranks (kdas_model_options), and "
        "the distiller is not over the same ones",
        d->student->def->name);
}

kdas_status kd_ranks_step_create(kdas_distiller *d, kdas_ranks *ranks, kdas_status mine)
{
    if (mine == KDAS_OK) mine = check_norms(d, ranks);
    return kdas_ranks_count(ranks) > 1 ? agree(d, ranks, mine) : mine;
}

/* ---- votes ---- */

kdas_status kd_ranks_step_vote(const kdas_distiller *d, bool update, kdas_status mine)
{
    kd_ranks_meeting at = update ? KD_RANKS_AT_UPDATE : KD_RANKS_AT_BACKWARD;

    return d && d->over ? kd_ranks_meet(d->over->ranks, at, 0, mine, NULL, 0) : mine;
}

void kd_ranks_step_enter(kdas_distiller *d) { d->over->ballots = d->student->ballots; }

/* This rank has failed. Where batch norms are over ranks, too, the others are in the vote that begins the student's
 * forward or backward, unless this rank has been there. */
static kdas_status decline(kdas_distiller *d, kdas_status mine)
{
    return d->student->ballots == d->over->ballots ? kd_model_decline(d->student, mine) : mine;
}

static kdas_status check_torn(const kd_ranks_step *s)
{
    if (!s->torn) return KDAS_OK;
    return kd_fail(KDAS_ESTATE,
                   "an update has failed on one rank and not on all, so their students "
                   "differ: load a checkpoint");
}

kdas_status kd_ranks_step_forward(kdas_distiller *d, kdas_batch *batch, kdas_status mine, bool read,
                                  bool last)
{
    kd_ranks_step *s     = d->over;
    int32_t        count = kdas_ranks_count(s->ranks);
    double         sum[] = { batch ? (double)kdas_batch_count(batch) : 0, read, last };
    double         own   = sum[0];
    kdas_status    st    = mine == KDAS_OK ? check_torn(s) : decline(d, mine);

    st = kd_ranks_meet(s->ranks, KD_RANKS_AT_FORWARD, 0, st, sum, KD_COUNT(sum));
    if (st == KDAS_OK && sum[2] != 0 && sum[2] != count)
        st = kd_fail(KDAS_ESTATE,
                     "%g of %d ranks are at the last micro-batch of an update, the others are not",
                     sum[2], count);
    if (st != KDAS_OK) {
        if (mine == KDAS_OK) kd_model_state_put_back(&d->student->before, d->student);
        return st;
    }
    s->part = own / sum[0];
    s->read = sum[1] > 0;
    s->last = last;
    return KDAS_OK;
}

double kd_ranks_step_part(const kdas_distiller *d) { return d->over ? d->over->part : 1; }
bool   kd_ranks_step_read(const kdas_distiller *d) { return d->over->read; }

/* ---- sums ---- */

/* Statistics become the mean over the ranks, each with its part of the images. */
static void weigh(const kd_ranks_step *s, piece *p)
{
    float *value = p->job.values;

    for (size_t i = 0; i < p->job.count; i++)
        value[i] *= (float)s->part;
}

static void start_one(kdas_distiller *d, int i)
{
    kd_ranks_step *s  = d->over;
    piece         *p  = &s->piece[i];
    kdas_status    st = KDAS_OK;

    if (p->device)
        st = kd_device_download(d->ctx, p->job.values, p->device, p->job.count * sizeof(float));
    if (st == KDAS_OK && i == s->statistics) weigh(s, p);
    if (s->status == KDAS_OK) s->status = st;
    kd_ranks_start(s->ranks, &p->job); /* also on failure: the others wait */
}

static void start_before(kdas_distiller *d, int end)
{
    while (d->over->started < end)
        start_one(d, d->over->started++);
}

/* Within a backward. */
static void ready(void *user, int bucket)
{
    kdas_distiller *d = user;

    start_before(d, d->over->pieces - d->over->buckets.count + bucket + 1);
}

static kdas_status wait_for_all(kd_ranks_step *s)
{
    kdas_status st = s->status;

    for (int i = 0; i < s->started; i++) {
        kdas_status one = kd_ranks_wait(s->ranks, &s->piece[i].job);

        if (st == KDAS_OK) st = one;
    }
    return st;
}

/* The sums of gradients, where they were not made in place. */
static kdas_status put_gradients(kdas_distiller *d)
{
    kd_ranks_step *s = d->over;

    for (int i = 0; i < s->pieces; i++) {
        const piece *p = &s->piece[i];

        if (!p->device || i == s->statistics) continue;
        KD_RETURN(kd_device_upload(d->ctx, p->device, p->job.values, p->job.count * sizeof(float)));
    }
    return KDAS_OK;
}

/* Start what has not been started, and wait. */
static kdas_status sum_all(kdas_distiller *d, kdas_status mine)
{
    kd_ranks_step *s = d->over;
    kdas_status    st;

    start_before(d, s->pieces);
    st = wait_for_all(s);
    if (mine != KDAS_OK) return mine;
    return st == KDAS_OK ? put_gradients(d) : st;
}

static void begin_sums(kd_ranks_step *s)
{
    s->started = 0;
    s->status  = KDAS_OK;
    s->reduced = s->gathered = false;
}

/* ---- objective and backward ---- */

/* The votes within this step, under the guidance factor of its forward. */
static int count_votes(kdas_distiller *d)
{
    double now = d->loss->factor;
    int    votes;

    d->loss->factor = d->factor;
    votes = kd_loss_part_votes(d->loss, kdas_model_maps(d->student)) + kd_feature_votes(d);
    d->loss->factor = now;
    return votes;
}

kdas_status kd_ranks_step_begin(kdas_distiller *d, double scale)
{
    kd_ranks_step *s = d->over;

    begin_sums(s);
    kd_ranks_step_enter(d);
    s->loss       = (kd_loss_part){ .ranks = s->ranks, .part = s->part, .scale = scale };
    s->loss.votes = count_votes(d);
    d->loss->part = &s->loss;
    if (!s->last) return KDAS_OK;
    s->status = kd_feature_settle(d);
    start_before(d, s->statistics + 1);
    return kd_program_watch_gradients(d->student->current, &s->watch);
}

kdas_status kd_ranks_step_end(kdas_distiller *d, kdas_status mine, kdas_loss_report *report)
{
    kd_ranks_step *s                = d->over;
    double         none[KDAS_TERMS] = { 0 };
    kdas_status    st               = mine;

    if (st != KDAS_OK && s->loss.votes > 0 && !s->loss.agreed)
        st = kd_loss_part_vote(d->loss, st, none);
    if (st != KDAS_OK && !s->loss.agreed) st = decline(d, st);
    if (s->loss.agreed) {
        wait_for_all(s);
    } else {
        if (s->last) st = sum_all(d, st);
        st = kd_loss_part_finish(d->loss, st, report);
    }
    if (d->student->current) kd_program_watch_gradients(d->student->current, NULL);
    d->loss->part = NULL;
    s->reduced    = s->last && st == KDAS_OK;
    return st;
}

/* ---- update ---- */

kdas_status kd_ranks_step_reduce(kdas_distiller *d)
{
    kd_ranks_step *s = d->over;
    kdas_status    st;

    if (s->reduced) return KDAS_OK;
    begin_sums(s);
    st         = sum_all(d, kd_feature_settle(d));
    st         = kdas_ranks_vote(s->ranks, st);
    s->reduced = st == KDAS_OK;
    return st;
}

kdas_status kd_ranks_step_average(kdas_distiller *d)
{
    kd_ranks_step *s = d->over;
    const piece   *p;

    if (s->statistics < 0) return KDAS_OK;
    p = &s->piece[s->statistics];
    kd_params_touch_stats(d->student->params);
    return kd_device_upload(d->ctx, p->device, p->job.values, p->job.count * sizeof(float));
}

/* A rank that is lost now does not undo an update: the next step tells. */
kdas_status kd_ranks_step_updated(kdas_distiller *d, kdas_status mine)
{
    kd_ranks_step *s  = d->over;
    kdas_status    st = kdas_ranks_vote(s->ranks, mine);

    if (mine != KDAS_OK || st == KDAS_OK) return st;
    if (kdas_ranks_broken(s->ranks)) return KDAS_OK;
    s->torn = true;
    return st;
}

void kd_ranks_step_forget(kdas_distiller *d) { d->over->reduced = d->over->gathered = false; }

/* ---- checkpoints ---- */

static kdas_status zero_gradients(kdas_distiller *d)
{
    KD_RETURN(kd_params_zero_grads(d->student->params, "")); /* and its count of zeroings stays */
    return projections_of(d) ? kd_params_zero_grads(projections_of(d), "") : KDAS_OK;
}

kdas_status kd_ranks_step_restored(kdas_distiller *d)
{
    kd_ranks_step *s = d->over;

    if (!s) return KDAS_OK;
    s->torn     = false;
    s->gathered = true;
    return d->micro > 0 && kdas_ranks_rank(s->ranks) > 0 ? zero_gradients(d) : KDAS_OK;
}

kdas_status kd_ranks_step_check_save(const kdas_distiller *d)
{
    if (!d->over || d->over->gathered || kd_distiller_accumulated(d) == 0) return KDAS_OK;
    return kd_fail(KDAS_ESTATE,
                   "checkpoint: %d micro-batches wait for an update, and each rank has its own "
                   "gradients of them: call kdas_distiller_gather() on all ranks before",
                   (int)kd_distiller_accumulated(d));
}

/* The sums stay at rank 0 alone, so that the next sum over the ranks holds them once. */
static kdas_status gather(kdas_distiller *d)
{
    kdas_status st = kd_ranks_step_reduce(d);

    if (st != KDAS_OK) return st;
    d->over->reduced = false;
    st               = kd_ranks_step_average(d);
    if (st == KDAS_OK && kdas_ranks_rank(d->over->ranks) > 0) st = zero_gradients(d);
    return kdas_ranks_vote(d->over->ranks, st);
}

/* Whether gradients wait: on all ranks or on none. Without the others, after one was lost, none need to be gathered where none
 * wait. */
static kdas_status meet_to_gather(const kdas_distiller *d, bool *waits)
{
    kdas_ranks *ranks = d->over->ranks;
    double      sum;

    *waits = !d->over->gathered && kd_distiller_accumulated(d) > 0;
    sum    = *waits;
    if (kdas_ranks_broken(ranks)) return KDAS_OK;
    KD_RETURN(kd_ranks_meet(ranks, KD_RANKS_AT_GATHER, 0, KDAS_OK, &sum, 1));
    if (sum == 0 || sum == kdas_ranks_count(ranks)) return KDAS_OK;
    return kd_fail(KDAS_ESTATE,
                   "kdas_distiller_gather: micro-batches wait for an update on %g of %d ranks, and "
                   "not on the others",
                   sum, kdas_ranks_count(ranks));
}

kdas_status kdas_distiller_gather(kdas_distiller *d)
{
    kdas_status st;
    bool        waits;

    if (!d) return kd_fail(KDAS_EINVAL, "kdas_distiller_gather: the distiller is NULL");
    KD_RETURN(kd_check_process(d->ctx));
    if (!d->over) return KDAS_OK;
    KD_RETURN(meet_to_gather(d, &waits));
    if (!waits) return KDAS_OK;
    st = gather(d);
    if (st == KDAS_OK) d->over->gathered = true;
    return st == KDAS_OK ? st : kd_distiller_abandon(d, st);
}

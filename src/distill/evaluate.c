/* evaluate.c - a model's metrics on a dataset: each frame by itself, at its own size. Ranks that share the evaluator go
 * through the frames in rounds: each does a share of a round's frames, then all receive all results. */
#include <assert.h>
#include <kdas/infer.h>
#include <kdas/train.h>
#include <string.h>
#include "base/base.h"
#include "base/process.h"
#include "base/text.h"
#include "ranks/ranks.h"

/* The beginning of all that is collective: after the checks, whose status is `st`, the table is marked. */
static kdas_status meet(kdas_evaluator *evaluator, kdas_status st)
{
    if (st == KDAS_OK) st = kdas_evaluator_mark(evaluator);
    return kd_ranks_meet(kdas_evaluator_ranks(evaluator), KD_RANKS_AT_EVALUATE, 0, st, NULL, 0);
}

/* ---- Rounds ---- */

enum { ROUND = 16 }; /* frames of each rank between two exchanges */

/* The frames that are evaluated, and what is done with one. */
typedef struct rounds {
    kdas_context   *ctx;
    kdas_evaluator *evaluator;
    kdas_dataset   *dataset;
    int64_t         count;
    double         *number; /* what `add` finds of each frame of a round, in their order */
    double          sum;    /* of those of all frames */
    kdas_status (*add)(void *user, int64_t i, double *number);
    void *user;
} rounds;

/* `st`: whether this rank is ready. All ranks have the same frames. */
static kdas_status rounds_begin(rounds *r, kdas_status st, int64_t height, int64_t width)
{
    kdas_ranks *ranks = kdas_evaluator_ranks(r->evaluator);
    size_t      most  = (size_t)kdas_ranks_count(ranks) * ROUND;
    char        text[120];

    if (st == KDAS_OK && !(r->number = kd_calloc(r->ctx, most, sizeof *r->number)))
        st = KDAS_ENOMEM;
    KD_RETURN(kdas_ranks_vote(ranks, st));
    kd_format(text, sizeof text, "%lld of the frames with hash %016llx, at %lldx%lld",
              (long long)r->count, (unsigned long long)kdas_dataset_hash(r->dataset),
              (long long)width, (long long)height);
    return kdas_ranks_agree(ranks, "set to evaluate", text);
}

/* This rank's share of a round of m frames from number `first` on. */
static kdas_status run_share(rounds *r, int64_t first, int64_t m)
{
    kdas_ranks *ranks = kdas_evaluator_ranks(r->evaluator);
    int64_t     rank = kdas_ranks_rank(ranks), n = kdas_ranks_count(ranks);

    for (int64_t i = rank * m / n; i < (rank + 1) * m / n; i++) {
        KD_RETURN(kd_check_cancel(r->ctx));
        KD_RETURN(r->add(r->user, first + i, &r->number[i]));
    }
    return KDAS_OK;
}

/* The first frame that fails anywhere fails the evaluation everywhere. */
static kdas_status rounds_run(rounds *r)
{
    kdas_ranks *ranks = kdas_evaluator_ranks(r->evaluator);
    int64_t     step  = (int64_t)kdas_ranks_count(ranks) * ROUND;

    for (int64_t first = 0; first < r->count; first += step) {
        int64_t m = KD_MIN(step, r->count - first);

        memset(r->number, 0, (size_t)m * sizeof *r->number);
        KD_RETURN(kdas_ranks_vote(ranks, run_share(r, first, m)));
        KD_RETURN(kdas_evaluator_gather(r->evaluator));
        KD_RETURN(kdas_ranks_sum(ranks, r->number, (size_t)m));
        for (int64_t i = 0; i < m; i++)
            r->sum += r->number[i];
    }
    return KDAS_OK;
}

static void rounds_end(rounds *r) { kd_free(r->ctx, r->number); }

/* ---- A model ---- */

typedef struct evaluation {
    kdas_context   *ctx;
    kdas_evaluator *evaluator;
    kdas_dataset   *dataset;
    kdas_segmenter *segmenter;
    float          *logits; /* at the frame's size; grows */
    size_t          capacity;
    kdas_loss      *loss;  /* NULL: metrics alone             */
    kdas_batch     *batch; /* the truth at the network's size */
} evaluation;

/* The segmentation term of the maps that the segmenter has just made. */
static kdas_status add_loss(evaluation *e, const kdas_view *image, const kdas_view *truth,
                            double *number)
{
    kdas_loss_report report = { .size = sizeof report };
    const float     *map[8];
    kdas_maps        maps = { .map = map, .count = 1 };

    while (maps.maps < (int64_t)KD_COUNT(map) &&
           (map[maps.maps] =
                kdas_segmenter_map(e->segmenter, (int32_t)maps.maps, &maps.height, &maps.width)))
        maps.maps++;
    KD_RETURN(kdas_batch_set(e->batch, 0, image, truth));
    KD_RETURN(kdas_loss_evaluate(e->loss, &maps, NULL, kdas_batch_masks(e->batch), NULL, &report));
    *number = report.raw[KDAS_TERM_SEG];
    return KDAS_OK;
}

static kdas_status add_frame(void *user, int64_t i, double *number)
{
    evaluation *e     = user;
    const char *name  = kdas_dataset_name(e->dataset, i);
    kdas_image *image = NULL, *mask = NULL;
    kdas_view   frame, truth;
    kdas_status st;

    KD_TRY(kdas_dataset_get(&image, &mask, e->dataset, i));
    if (!mask) {
        st = kd_fail(KDAS_EINVAL, "it has no mask to be judged by");
        goto done;
    }
    frame = kdas_image_view(image);
    truth = kdas_image_view(mask);
    KD_TRY(kd_grow(e->ctx, (void **)&e->logits, &e->capacity, (size_t)(frame.width * frame.height),
                   sizeof *e->logits));
    KD_TRY(kdas_segmenter_logits(e->segmenter, &frame, e->logits));
    if (e->loss) KD_TRY(add_loss(e, &frame, &truth, number));
    KD_TRY(kdas_evaluator_add_logits(e->evaluator, name, e->logits, &truth));
done:
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    return st == KDAS_OK || st == KDAS_ECANCELLED ? st : kd_fail_in(st, "frame '%s'", name);
}

/* The segmenter, and with a loss a batch for the truth. */
static kdas_status prepare(evaluation *e, kdas_model *model, kdas_segmenter_options *options)
{
    KD_RETURN(kdas_segmenter_create(&e->segmenter, model, options));
    KD_RETURN(kdas_segmenter_get_options(e->segmenter, options)); /* the size that is used */
    return e->loss ? kdas_batch_create(&e->batch, e->ctx, 1, options->height, options->width)
                   : KDAS_OK;
}

/* Ranks of other values, or that compute in another format, would give the figures of no network at all. */
static kdas_status agree_on_model(kdas_ranks *ranks, const kdas_model *model, uint64_t hash)
{
    char text[160];

    kd_format(text, sizeof text, "%s with hash %016llx, precision %d", kdas_model_network(model),
              (unsigned long long)hash, (int)kdas_context_precision(kdas_model_context(model)));
    return kdas_ranks_agree(ranks, "model to evaluate", text);
}

/* After meet(). With a `loss`, its mean goes to *mean_loss. */
static kdas_status evaluate(kdas_evaluator *evaluator, kdas_model *model, kdas_dataset *dataset,
                            int64_t height, int64_t width, int64_t limit, kdas_loss *loss,
                            double *mean_loss)
{
    evaluation e = {
        .ctx = kdas_model_context(model), .evaluator = evaluator, .dataset = dataset, .loss = loss
    };
    rounds r = { e.ctx, evaluator, dataset, kdas_dataset_count(dataset), .add = add_frame };
    kdas_segmenter_options options;
    kdas_ranks            *ranks = kdas_evaluator_ranks(evaluator);
    uint64_t               hash  = 0;
    kdas_status            st;

    if (limit > 0) r.count = KD_MIN(r.count, limit);
    r.user = &e;
    kdas_segmenter_options_init(&options, sizeof options);
    options.height = height;
    options.width  = width;
    st             = prepare(&e, model, &options);
    if (st == KDAS_OK && kdas_ranks_count(ranks) > 1) st = kdas_model_hash(model, &hash);
    KD_TRY(rounds_begin(&r, st, options.height, options.width));
    if (kdas_ranks_count(ranks) > 1) KD_TRY(agree_on_model(ranks, model, hash));
    KD_TRY(rounds_run(&r));
    assert(!loss || mean_loss);
    if (loss) *mean_loss = r.sum / (double)r.count;
done:
    if (st != KDAS_OK) kdas_evaluator_rollback(evaluator);
    rounds_end(&r);
    kdas_segmenter_destroy(e.segmenter);
    kdas_batch_destroy(e.batch);
    kd_free(e.ctx, e.logits);
    return st;
}

static kdas_status check(const kdas_evaluator *evaluator, const kdas_model *model,
                         const kdas_dataset *dataset, int64_t limit)
{
    if (!evaluator || !model || !dataset)
        return kd_fail(KDAS_EINVAL, "kdas_evaluate: evaluator, model or dataset is NULL");
    KD_RETURN(kd_check_process(kdas_model_context(model)));
    if (limit < 0)
        return kd_fail(KDAS_EINVAL, "kdas_evaluate: limit is %lld, below 0", (long long)limit);
    return KDAS_OK;
}

kdas_status kdas_evaluate(kdas_evaluator *evaluator, kdas_model *model, kdas_dataset *dataset,
                          int64_t height, int64_t width, int64_t limit)
{
    KD_RETURN(meet(evaluator, check(evaluator, model, dataset, limit)));
    return evaluate(evaluator, model, dataset, height, width, limit, NULL, NULL);
}

/* A loss's segmentation term as a loss of its own. */
static kdas_status alone(kdas_loss **out, kdas_context *ctx, const kdas_loss *loss)
{
    kdas_loss_options o;

    kdas_loss_options_init(&o, sizeof o);
    KD_RETURN(kdas_loss_get_options(loss, &o));
    o.guidance      = "none";
    o.feature       = "none";
    o.share         = KDAS_SHARE_OFF;
    o.feature_share = KDAS_SHARE_OFF;
    o.seg_weight    = 1;
    return kdas_loss_create(out, ctx, &o);
}

kdas_status kdas_evaluate_loss(kdas_evaluator *evaluator, kdas_model *model, kdas_dataset *dataset,
                               int64_t height, int64_t width, int64_t limit, kdas_loss *loss,
                               double *mean_loss)
{
    kdas_loss  *seg = NULL;
    kdas_status st  = check(evaluator, model, dataset, limit);

    if (st == KDAS_OK && (!loss || !mean_loss))
        st = kd_fail(KDAS_EINVAL, "kdas_evaluate_loss: loss or mean_loss is NULL");
    if (st == KDAS_OK && kdas_dataset_count(dataset) == 0)
        st = kd_fail(KDAS_EINVAL, "kdas_evaluate_loss: the dataset has no frames");
    KD_RETURN(meet(evaluator, st));
    st = alone(&seg, kdas_model_context(model), loss);
    st = kdas_ranks_vote(kdas_evaluator_ranks(evaluator), st);
    if (st == KDAS_OK)
        st = evaluate(evaluator, model, dataset, height, width, limit, seg, mean_loss);
    kdas_loss_destroy(seg);
    return st;
}

/* ---- Predictions on disk ---- */

static uint8_t brightest(kdas_image *grey)
{
    const uint8_t *p    = kdas_image_pixels(grey);
    kdas_view      v    = kdas_image_view(grey);
    uint8_t        most = 0;

    for (int64_t i = 0; i < v.height * v.width; i++)
        most = KD_MAX(most, p[i]);
    return most;
}

typedef struct predictions {
    kdas_evaluator *evaluator;
    kdas_dataset   *dataset;
    uint8_t         most; /* the brightest value so far */
} predictions;

static kdas_status add_prediction(void *user, int64_t i, double *number)
{
    predictions  *p       = user;
    kdas_dataset *dataset = p->dataset;
    const char   *name    = kdas_dataset_name(dataset, i);
    kdas_image   *image = NULL, *mask = NULL, *grey = NULL;
    kdas_view     view, truth;
    kdas_status   st;

    (void)number;
    KD_TRY(kdas_dataset_get(&image, &mask, dataset, i));
    if (!mask) {
        st = kd_fail(KDAS_EINVAL, "it has no mask to be judged by");
        goto done;
    }
    view  = kdas_image_view(image);
    truth = kdas_image_view(mask);
    KD_TRY(kdas_image_convert(&grey, kdas_dataset_context(dataset), &view, KDAS_PIXEL_GREY8));
    view    = kdas_image_view(grey);
    p->most = KD_MAX(p->most, brightest(grey));
    KD_TRY(kdas_evaluator_add(p->evaluator, name, &view, &truth));
done:
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_image_destroy(grey);
    return st == KDAS_OK || st == KDAS_ECANCELLED ? st : kd_fail_in(st, "frame '%s'", name);
}

/* The brightest value of all ranks. */
static kdas_status brightest_of_all(kdas_ranks *ranks, uint8_t *most)
{
    uint8_t own = *most;

    for (int32_t r = 0; r < kdas_ranks_count(ranks); r++) {
        uint8_t theirs = own;

        KD_RETURN(kdas_ranks_broadcast(ranks, &theirs, 1, r));
        *most = KD_MAX(*most, theirs);
    }
    return KDAS_OK;
}

static kdas_status check_predictions(const kdas_evaluator *evaluator, const kdas_dataset *dataset,
                                     int64_t limit)
{
    if (!evaluator || !dataset)
        return kd_fail(KDAS_EINVAL, "kdas_evaluate_predictions: evaluator or dataset is NULL");
    KD_RETURN(kd_check_process(kdas_dataset_context(dataset)));
    if (limit < 0)
        return kd_fail(KDAS_EINVAL, "kdas_evaluate_predictions: limit is %lld, below 0",
                       (long long)limit);
    return KDAS_OK;
}

kdas_status kdas_evaluate_predictions(kdas_evaluator *evaluator, kdas_dataset *dataset,
                                      int64_t limit)
{
    predictions p = { evaluator, dataset, 0 };
    rounds r = { kdas_dataset_context(dataset), evaluator, dataset, kdas_dataset_count(dataset),
                 .add = add_prediction };
    kdas_status st = KDAS_OK;

    KD_RETURN(meet(evaluator, check_predictions(evaluator, dataset, limit)));
    if (limit > 0) r.count = KD_MIN(r.count, limit);
    r.user = &p;
    KD_TRY(rounds_begin(&r, KDAS_OK, 0, 0));
    KD_TRY(rounds_run(&r));
    KD_TRY(brightest_of_all(kdas_evaluator_ranks(evaluator), &p.most));
    if (r.count > 0 && p.most <= 1)
        kd_warn(kdas_dataset_context(dataset),
                "the brightest value of all predictions, such as '%s', is %d; a prediction holds "
                "the probability times 255, not 0 and 1",
                kdas_dataset_image_path(dataset, 0), p.most);
done:
    if (st != KDAS_OK) kdas_evaluator_rollback(evaluator);
    rounds_end(&r);
    return st;
}

/* evaluate.c - a model's metrics on a dataset: each frame by itself, at its own size. */
#include <kdas/infer.h>
#include <kdas/train.h>
#include "base/base.h"
#include "base/process.h"

typedef struct evaluation {
    kdas_context   *ctx;
    kdas_evaluator *evaluator;
    kdas_dataset   *dataset;
    kdas_segmenter *segmenter;
    float          *logits; /* at the frame's size; grows */
    size_t          capacity;
    kdas_loss      *loss;  /* NULL: metrics alone             */
    kdas_batch     *batch; /* the truth at the network's size */
    double          loss_sum;
} evaluation;

/* The segmentation term of the maps that the segmenter has just made. */
static kdas_status add_loss(evaluation *e, const kdas_view *image, const kdas_view *truth)
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
    e->loss_sum += report.raw[KDAS_TERM_SEG];
    return KDAS_OK;
}

static kdas_status add_frame(evaluation *e, int64_t i)
{
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
    if (e->loss) KD_TRY(add_loss(e, &frame, &truth));
    KD_TRY(kdas_evaluator_add_logits(e->evaluator, name, e->logits, &truth));
done:
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    return st == KDAS_OK || st == KDAS_ECANCELLED ? st : kd_fail_in(st, "frame '%s'", name);
}

/* With a `loss`, its mean goes to *mean_loss. */
static kdas_status evaluate(kdas_evaluator *evaluator, kdas_model *model, kdas_dataset *dataset,
                            int64_t height, int64_t width, int64_t limit, kdas_loss *loss,
                            double *mean_loss)
{
    evaluation e = {
        .ctx = kdas_model_context(model), .evaluator = evaluator, .dataset = dataset, .loss = loss
    };
    int64_t                count = kdas_dataset_count(dataset);
    kdas_segmenter_options options;
    kdas_status            st;

    KD_RETURN(kdas_evaluator_mark(evaluator));
    if (limit > 0) count = KD_MIN(count, limit);
    kdas_segmenter_options_init(&options, sizeof options);
    options.height = height;
    options.width  = width;
    KD_TRY(kdas_segmenter_create(&e.segmenter, model, &options));
    KD_TRY(kdas_segmenter_get_options(e.segmenter, &options)); /* the size that is used */
    if (loss) KD_TRY(kdas_batch_create(&e.batch, e.ctx, 1, options.height, options.width));
    for (int64_t i = 0; i < count; i++) {
        KD_TRY(kd_check_cancel(e.ctx));
        KD_TRY(add_frame(&e, i));
    }
    if (loss) *mean_loss = e.loss_sum / (double)count;
done:
    if (st != KDAS_OK) kdas_evaluator_rollback(evaluator);
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
    KD_RETURN(check(evaluator, model, dataset, limit));
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
    kdas_loss  *seg;
    kdas_status st;

    KD_RETURN(check(evaluator, model, dataset, limit));
    if (!loss || !mean_loss)
        return kd_fail(KDAS_EINVAL, "kdas_evaluate_loss: loss or mean_loss is NULL");
    if (kdas_dataset_count(dataset) == 0)
        return kd_fail(KDAS_EINVAL, "kdas_evaluate_loss: the dataset has no frames");
    KD_RETURN(alone(&seg, kdas_model_context(model), loss));
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

/* *most: the brightest value so far. */
static kdas_status add_prediction(kdas_evaluator *evaluator, kdas_dataset *dataset, int64_t i,
                                  uint8_t *most)
{
    const char *name  = kdas_dataset_name(dataset, i);
    kdas_image *image = NULL, *mask = NULL, *grey = NULL;
    kdas_view   view, truth;
    kdas_status st;

    KD_TRY(kdas_dataset_get(&image, &mask, dataset, i));
    if (!mask) {
        st = kd_fail(KDAS_EINVAL, "it has no mask to be judged by");
        goto done;
    }
    view  = kdas_image_view(image);
    truth = kdas_image_view(mask);
    KD_TRY(kdas_image_convert(&grey, kdas_dataset_context(dataset), &view, KDAS_PIXEL_GREY8));
    view  = kdas_image_view(grey);
    *most = KD_MAX(*most, brightest(grey));
    KD_TRY(kdas_evaluator_add(evaluator, name, &view, &truth));
done:
    kdas_image_destroy(image);
    kdas_image_destroy(mask);
    kdas_image_destroy(grey);
    return st == KDAS_OK || st == KDAS_ECANCELLED ? st : kd_fail_in(st, "frame '%s'", name);
}

kdas_status kdas_evaluate_predictions(kdas_evaluator *evaluator, kdas_dataset *dataset,
                                      int64_t limit)
{
    int64_t     count = kdas_dataset_count(dataset);
    uint8_t     most  = 0;
    kdas_status st    = KDAS_OK;

    if (!evaluator || !dataset)
        return kd_fail(KDAS_EINVAL, "kdas_evaluate_predictions: evaluator or dataset is NULL");
    KD_RETURN(kd_check_process(kdas_dataset_context(dataset)));
    if (limit < 0)
        return kd_fail(KDAS_EINVAL, "kdas_evaluate_predictions: limit is %lld, below 0",
                       (long long)limit);
    if (limit > 0) count = KD_MIN(count, limit);
    KD_RETURN(kdas_evaluator_mark(evaluator));
    for (int64_t i = 0; i < count; i++) {
        KD_TRY(kd_check_cancel(kdas_dataset_context(dataset)));
        KD_TRY(add_prediction(evaluator, dataset, i, &most));
    }
    if (count > 0 && most <= 1)
        kd_warn(kdas_dataset_context(dataset),
                "the brightest value of all predictions, such as '%s', is %d; a prediction holds "
                "the probability times 255, not 0 and 1",
                kdas_dataset_image_path(dataset, 0), most);
done:
    if (st != KDAS_OK) kdas_evaluator_rollback(evaluator);
    return st;
}

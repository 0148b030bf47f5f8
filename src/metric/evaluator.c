/* evaluator.c - collects the images of a set and reports their metrics, per image and for the
 * set. */
#include <math.h>
#include <string.h>
#include "base/context.h"
#include "image/image.h"
#include "metric/evaluator.h"

typedef enum rule { MEAN, BEST, PLAIN } rule;

static const struct {
    const char *name;
    rule        rule;
    int         source; /* kd_curve or, for PLAIN, kd_plain */
} metrics[KDAS_METRICS] = {
#define METRIC(id, name, rule, source) [KDAS_METRIC_##id] = { name, rule, source },
#include "metric/metrics.def"
#undef METRIC
};

/* ---- metrics ---- */

const char *kdas_metric_name(kdas_metric metric)
{
    return (unsigned)metric < KDAS_METRICS ? metrics[metric].name : NULL;
}

int32_t kdas_metric_find(const char *name)
{
    for (int i = 0; name && i < KDAS_METRICS; i++)
        if (strcmp(metrics[i].name, name) == 0) return i;
    return -1;
}

static double mean_of(const double *curve)
{
    double sum = 0;

    for (int j = 0; j < KD_THRESHOLDS; j++)
        sum += curve[j];
    return sum / KD_THRESHOLDS;
}

/* Largest value of a curve; NaN if it has one. */
static double best_of(const double *curve)
{
    double best = curve[0];

    for (int j = 1; j < KD_THRESHOLDS && !isnan(best); j++)
        if (!(curve[j] <= best)) best = curve[j];
    return best;
}

static void set_figures(kd_score *out, double curves[KD_CURVES][KD_THRESHOLDS],
                        const double plain[KD_PLAINS])
{
    for (int i = 0; i < KDAS_METRICS; i++) {
        int source = metrics[i].source;

        switch (metrics[i].rule) {
        case MEAN: out->figure[i] = mean_of(curves[source]); break;
        case BEST: out->figure[i] = best_of(curves[source]); break;
        case PLAIN: out->figure[i] = plain[source]; break;
        }
    }
}

/* ---- adding images ---- */

/* The name of an image in a sentence. */
static const char *called(const char *name) { return name ? name : "(no name)"; }

static kdas_status check_view(const char *name, const char *what, const kdas_view *view)
{
    if (!view || !view->data)
        return kd_fail(KDAS_EINVAL, "image '%s': the %s is NULL", called(name), what);
    if (view->pixel != KDAS_PIXEL_GREY8)
        return kd_fail(KDAS_EINVAL, "image '%s': the %s must be GREY8, not pixel kind %d",
                       called(name), what, (int)view->pixel);
    if (view->width < 1 || view->height < 1 || view->width > KDAS_IMAGE_MAX_SIDE ||
        view->height > KDAS_IMAGE_MAX_SIDE)
        return kd_fail(KDAS_EINVAL, "image '%s': the %s is %lld x %lld; sides must be 1 to %d",
                       called(name), what, (long long)view->width, (long long)view->height,
                       KDAS_IMAGE_MAX_SIDE);
    if (!kd_stride_fits(view->stride, view->width))
        return kd_fail(KDAS_EINVAL, "image '%s': the %s is %lld wide, but its stride is %lld",
                       called(name), what, (long long)view->width, (long long)view->stride);
    return KDAS_OK;
}

kdas_status kd_evaluator_reserve(kdas_evaluator *evaluator, int64_t count, int64_t own)
{
    void *images = evaluator->images, *addends = evaluator->own;

    KD_RETURN(kd_grow(evaluator->ctx, &images, &evaluator->capacity, (size_t)count,
                      sizeof *evaluator->images));
    evaluator->images = images;
    if (!evaluator->ranks) return KDAS_OK;
    KD_RETURN(kd_grow(evaluator->ctx, &addends, &evaluator->own_room, (size_t)own,
                      sizeof *evaluator->own));
    evaluator->own = addends;
    return KDAS_OK;
}

void kd_evaluator_sum(kd_evaluated *to, const kd_addend *addend)
{
    for (int i = 0; i < KD_CURVES; i++)
        for (int j = 0; j < KD_THRESHOLDS; j++)
            to->sum[i][j] += addend->curves[i][j];
    to->empty += addend->empty > 0;
    to->count++;
}

/* Make room for one more image, so that adding it cannot fail half-way. */
static kdas_status take_place(kdas_evaluator *evaluator, const char *name, char **copy)
{
    int64_t count = evaluator->now.count + 1;

    KD_RETURN(kd_evaluator_reserve(evaluator, count, count - evaluator->gathered.count));
    *copy = kd_strdup(evaluator->ctx, name ? name : "");
    return *copy ? KDAS_OK : KDAS_ENOMEM;
}

static kdas_status add_pair(kdas_evaluator *evaluator, const char *name, const kd_pair *pair)
{
    double      plain[KD_PLAINS];
    kd_addend   addend;
    kd_tally    tally;
    kd_score   *image;
    char       *copy = NULL;
    kdas_status st   = KDAS_OK;

    KD_TRY(take_place(evaluator, name, &copy));
    kd_tally_make(&tally, pair);
    KD_TRY(kd_weighted_f(&plain[KD_WFM], evaluator->ctx, pair, &tally));
    kd_curves(addend.curves, &tally);
    kd_overlap_at_half(&plain[KD_DICE_50], &plain[KD_IOU_50], &tally);
    plain[KD_SM]  = kd_s_measure(pair, &tally);
    plain[KD_MAE] = kd_mean_error(&tally);
    addend.empty  = tally.polyp == 0;

    image = &evaluator->images[evaluator->now.count];
    set_figures(image, addend.curves, plain);
    image->name = copy;
    copy        = NULL;
    if (evaluator->ranks) evaluator->own[evaluator->now.count - evaluator->gathered.count] = addend;
    kd_evaluator_sum(&evaluator->now, &addend);
done:
    kd_free(evaluator->ctx, copy);
    return st;
}

kdas_status kdas_evaluator_add(kdas_evaluator *evaluator, const char *name,
                               const kdas_view *prediction, const kdas_view *truth)
{
    kd_pair pair;

    if (!evaluator) return kd_fail(KDAS_EINVAL, "the evaluator is NULL");
    KD_RETURN(check_view(name, "prediction", prediction));
    KD_RETURN(check_view(name, "truth", truth));
    if (prediction->width != truth->width || prediction->height != truth->height)
        return kd_fail(KDAS_ESHAPE, "image '%s': prediction of %lld x %lld, truth of %lld x %lld",
                       called(name), (long long)prediction->width, (long long)prediction->height,
                       (long long)truth->width, (long long)truth->height);
    pair = (kd_pair){
        .prediction        = prediction->data,
        .truth             = truth->data,
        .width             = truth->width,
        .height            = truth->height,
        .prediction_stride = prediction->stride ? prediction->stride : prediction->width,
        .truth_stride      = truth->stride ? truth->stride : truth->width,
    };
    return add_pair(evaluator, name, &pair);
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* What a map file would hold: probabilities, stretched over the image's range, cut to 8 bits. All
 * logits are finite and lie between `least` and `most`; the sigmoid keeps their order. */
static void logits_to_map(uint8_t *map, const float *logits, int64_t n, float least, float most)
{
    double low = sigmoid(least), range = sigmoid(most) - low + 1e-8;

    for (int64_t i = 0; i < n; i++)
        map[i] = (uint8_t)((sigmoid(logits[i]) - low) / range * 255);
}

kdas_status kdas_evaluator_add_logits(kdas_evaluator *evaluator, const char *name,
                                      const float *logits, const kdas_view *truth)
{
    float       least = INFINITY, most = -INFINITY;
    uint8_t    *map;
    kdas_view   view;
    kdas_status st;
    int64_t     n;

    if (!evaluator) return kd_fail(KDAS_EINVAL, "the evaluator is NULL");
    KD_RETURN(check_view(name, "truth", truth));
    if (!logits) return kd_fail(KDAS_EINVAL, "image '%s': the logits are NULL", called(name));
    n = truth->width * truth->height;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(logits[i]))
            return kd_fail(KDAS_ENUMERIC, "image '%s': the logit of pixel (%lld, %lld) is %f",
                           called(name), (long long)(i % truth->width),
                           (long long)(i / truth->width), (double)logits[i]);
        least = KD_MIN(least, logits[i]);
        most  = KD_MAX(most, logits[i]);
    }
    map = kd_alloc(evaluator->ctx, (size_t)n);
    if (!map) return KDAS_ENOMEM;
    logits_to_map(map, logits, n, least, most);
    view = (kdas_view){ map, truth->width, truth->height, 0, KDAS_PIXEL_GREY8 };
    st   = kdas_evaluator_add(evaluator, name, &view, truth);
    kd_free(evaluator->ctx, map);
    return st;
}

/* ---- the handle ---- */

kdas_status kdas_evaluator_create(kdas_evaluator **out, kdas_context *context)
{
    kdas_evaluator *evaluator;

    if (!out) return kd_fail(KDAS_EINVAL, "the place for the evaluator is NULL");
    *out = NULL;
    if (!context) return kd_fail(KDAS_EINVAL, "the context is NULL");
    evaluator = kd_calloc(context, 1, sizeof *evaluator);
    if (!evaluator) return KDAS_ENOMEM;
    evaluator->ctx = context;
    *out           = evaluator;
    return KDAS_OK;
}

void kd_evaluator_drop(kdas_evaluator *evaluator, int64_t first)
{
    for (int64_t i = first; i < evaluator->now.count; i++)
        kd_free(evaluator->ctx, evaluator->images[i].name);
}

void kdas_evaluator_reset(kdas_evaluator *evaluator)
{
    if (!evaluator) return;
    kd_evaluator_drop(evaluator, 0);
    evaluator->now = evaluator->gathered = (kd_evaluated){ 0 };
    evaluator->marked                    = false;
}

kdas_status kdas_evaluator_mark(kdas_evaluator *evaluator)
{
    if (!evaluator) return kd_fail(KDAS_EINVAL, "the evaluator is NULL");
    if (evaluator->ranks && evaluator->gathered.count != evaluator->now.count)
        return kd_fail(KDAS_ESTATE,
                       "%lld images of the evaluator are this rank's alone: they are "
                       "gathered before a mark",
                       (long long)(evaluator->now.count - evaluator->gathered.count));
    evaluator->mark   = evaluator->now;
    evaluator->marked = true;
    return KDAS_OK;
}

kdas_status kdas_evaluator_rollback(kdas_evaluator *evaluator)
{
    if (!evaluator) return kd_fail(KDAS_EINVAL, "the evaluator is NULL");
    if (!evaluator->marked) return kd_fail(KDAS_ESTATE, "the evaluator has no mark to return to");
    kd_evaluator_drop(evaluator, evaluator->mark.count);
    evaluator->now = evaluator->gathered = evaluator->mark;
    return KDAS_OK;
}

void kdas_evaluator_destroy(kdas_evaluator *evaluator)
{
    if (!evaluator) return;
    kdas_evaluator_reset(evaluator);
    kd_free(evaluator->ctx, evaluator->images);
    kd_free(evaluator->ctx, evaluator->own);
    kd_free(evaluator->ctx, evaluator->given);
    kd_free(evaluator->ctx, evaluator);
}

/* ---- reading ---- */

int64_t kdas_evaluator_count(const kdas_evaluator *evaluator)
{
    return evaluator ? evaluator->now.count : 0;
}

int64_t kdas_evaluator_empty(const kdas_evaluator *evaluator)
{
    return evaluator ? evaluator->now.empty : 0;
}

const char *kdas_evaluator_name(const kdas_evaluator *evaluator, int64_t i)
{
    return evaluator && i >= 0 && i < evaluator->now.count ? evaluator->images[i].name : NULL;
}

static double set_figure(const kdas_evaluator *evaluator, kdas_metric metric)
{
    double n = (double)evaluator->now.count, sum = 0;

    if (metrics[metric].rule == BEST)
        return best_of(evaluator->now.sum[metrics[metric].source]) / n;
    for (int64_t i = 0; i < evaluator->now.count; i++)
        sum += evaluator->images[i].figure[metric];
    return sum / n;
}

kdas_status kdas_evaluator_get(const kdas_evaluator *evaluator, int64_t i, kdas_metric metric,
                               double *out)
{
    if (!evaluator) return kd_fail(KDAS_EINVAL, "the evaluator is NULL");
    if (!out) return kd_fail(KDAS_EINVAL, "the place for the figure is NULL");
    if (!kdas_metric_name(metric))
        return kd_fail(KDAS_EINVAL, "there is no metric number %d", (int)metric);
    if (evaluator->now.count == 0)
        return kd_fail(KDAS_ESTATE, "no image has been added to the evaluator");
    if (i >= evaluator->now.count)
        return kd_fail(KDAS_EINVAL, "image %lld was asked for, but the evaluator has %lld",
                       (long long)i, (long long)evaluator->now.count);
    *out = i < 0 ? set_figure(evaluator, metric) : evaluator->images[i].figure[metric];
    return KDAS_OK;
}

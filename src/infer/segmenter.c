/* segmenter.c - frames in, masks out: resize, normalise, run, add up the maps of the answer,
 * enlarge to the frame. All memory is allocated when the segmenter is made, or when a frame has a
 * new size. */
#include <kdas/infer.h>
#include "base/process.h"
#include <math.h>
#include <string.h>
#include "base/parallel.h"
#include "infer/frame.h"
#include "model/model.h"
#include "infer/timing.h"

#define MAX_MAPS 8

struct kdas_segmenter {
    kdas_context          *ctx;
    kdas_model            *model;
    kdas_segmenter_options options;
    kd_edges               edges;
    kd_frame              *frame; /* NULL: no frame's size is known yet  */
    float                 *input; /* (H,W,3), normalised                 */
    kd_staging             staging;
    int                    maps, answer; /* kdas_model_answer() */
    int64_t                map_height, map_width;
    float                 *map[MAX_MAPS]; /* (map_height,map_width) logits of the last run */
    float                 *sum;           /* of the answer's maps, smoothed                */
    float                 *past;          /* smoothed probabilities; NULL: no smoothing    */
    bool                   has_past;
    kd_timing              timing;
    double                 at[KDAS_STAGES]; /* when the stages of this run began */
};

/* ---- options ---- */

void kdas_segmenter_options_init(kdas_segmenter_options *options, size_t size)
{
    kdas_segmenter_options defaults = { .size = size, .threshold = KDAS_THRESHOLD_OWN };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

static kdas_status check_options(const kdas_segmenter_options *o)
{
    if (!(o->threshold >= 0 && o->threshold <= 1))
        return kd_fail(KDAS_EINVAL, "segmenter: threshold is %g, not 0 to 1", (double)o->threshold);
    if (!(o->smoothing >= 0 && o->smoothing < 1))
        return kd_fail(KDAS_EINVAL, "segmenter: smoothing is %g, not from 0 to below 1",
                       (double)o->smoothing);
    if (!(o->hysteresis >= 0 && o->hysteresis <= o->threshold))
        return kd_fail(KDAS_EINVAL, "segmenter: hysteresis is %g, not 0 to the threshold of %g",
                       (double)o->hysteresis, (double)o->threshold);
    if (o->frame_height == 0 && o->frame_width == 0) return KDAS_OK;
    if (o->frame_height < 1 || o->frame_width < 1 || o->frame_height > KDAS_IMAGE_MAX_SIDE ||
        o->frame_width > KDAS_IMAGE_MAX_SIDE)
        return kd_fail(KDAS_EINVAL, "segmenter: frames of %lldx%lld; sides are 1 to %d, or both 0",
                       (long long)o->frame_width, (long long)o->frame_height, KDAS_IMAGE_MAX_SIDE);
    return KDAS_OK;
}

/* Say, once for each model and size, that its weights expect another size, or that it is a
 * guess. */
static void compare_size(const kdas_segmenter_options *o, kdas_model *m, bool guess)
{
    int64_t height, width;
    bool    known = kdas_model_input_size(m, &height, &width);
    bool    wrong = known && (o->height != height || o->width != width);

    if (!(wrong || guess) || (m->warned[0] == o->height && m->warned[1] == o->width)) return;
    m->warned[0] = o->height;
    m->warned[1] = o->width;
    if (wrong)
        kd_warn(m->ctx,
                "'%s' runs at %lldx%lld, but its weights were trained at %lldx%lld (height x "
                "width)",
                m->def->name, (long long)o->height, (long long)o->width, (long long)height,
                (long long)width);
    else
        kd_warn(m->ctx,
                "'%s' runs at the default size of %lldx%lld: its weights do not say for which size "
                "they were trained",
                m->def->name, (long long)o->height, (long long)o->width);
}

/* Say where the weights were trained on colours of another scale or order. */
static void compare_colours(const kdas_model *m)
{
    static const char *const inputs[][2] = { { "mean", KDAS_INPUT_MEAN },
                                             { "deviation", KDAS_INPUT_DEVIATION },
                                             { "colour", KDAS_INPUT_COLOUR } };

    for (size_t i = 0; i < KD_COUNT(inputs); i++) {
        const char *fact = kdas_model_fact(m, inputs[i][0]);

        if (fact && strcmp(fact, inputs[i][1]) != 0)
            kd_warn(m->ctx,
                    "the weights of '%s' were trained with the %s '%.64s', but get inputs with "
                    "'%s'",
                    m->def->name, inputs[i][0], fact, inputs[i][1]);
    }
}

/* What the host leaves open is taken from the weights. */
static kdas_status settle_options(kdas_segmenter_options *o, kdas_model *m)
{
    bool own = o->height == 0 && o->width == 0, known = true;

    if (own) known = kdas_model_input_size(m, &o->height, &o->width);
    if (o->threshold == KDAS_THRESHOLD_OWN) o->threshold = kdas_model_threshold(m);
    KD_RETURN(kd_check_size(m->def, 1, o->height, o->width));
    KD_RETURN(check_options(o));
    compare_size(o, m, own && !known);
    compare_colours(m);
    return KDAS_OK;
}

/* The network must end in maps of one channel. */
static kdas_status check_model(const kdas_model *model, int *maps)
{
    const kd_node *node;

    for (*maps = 0; kd_graph_output(model->shape, *maps, &node); ++*maps)
        if (*maps == MAX_MAPS || node->desc.out.dim[3] != 1)
            return kd_fail(KDAS_EINVAL, "segmenter: '%s' has no one-channel maps to segment with",
                           model->def->name);
    return KDAS_OK;
}

/* ---- run ---- */

/* Prepare for a frame size. On failure the segmenter keeps its previous size. */
static kdas_status frame_set(kdas_segmenter *s, int64_t height, int64_t width)
{
    kd_frame_sizes sizes = { .height       = height,
                             .width        = width,
                             .input_height = s->options.height,
                             .input_width  = s->options.width,
                             .map_height   = s->map_height,
                             .map_width    = s->map_width };
    kd_frame      *frame;

    KD_RETURN(kd_frame_create(&frame, s->ctx, &sizes, s->options.hysteresis > 0));
    kd_frame_destroy(s->frame);
    s->frame    = frame;
    s->has_past = false;
    return KDAS_OK;
}

/* Run the network on s->input. */
static kdas_status run_network(kdas_segmenter *s)
{
    int64_t h = s->options.height, w = s->options.width;
    float  *images;

    KD_RETURN(kd_device_stage(s->ctx, &s->staging, &images, s->input,
                              (size_t)(h * w * 3) * sizeof *images));
    return kd_model_run(s->model, KD_INFER, images, 1, h, w);
}

static kdas_status fetch_maps(kdas_segmenter *s)
{
    size_t bytes = (size_t)(s->map_height * s->map_width) * sizeof(float);

    for (int i = 0; i < s->maps; i++)
        KD_RETURN(kd_device_download(
            s->ctx, s->map[i],
            kd_program_value(s->model->current, kd_model_output_node(s->model, i, NULL)), bytes));
    return KDAS_OK;
}

typedef struct sum_job {
    kdas_segmenter *s;
    atomic_bool     wild; /* a sum is not finite */
} sum_job;

static void sum_rows(void *user, int64_t begin, int64_t end, int thread)
{
    sum_job              *job   = user;
    const kdas_segmenter *s     = job->s;
    float                 check = 0; /* NaN once a value is not finite */

    (void)thread;
    for (int64_t y = begin; y < end; y++) {
        float *sum = s->sum + y * s->map_width;

        memset(sum, 0, (size_t)s->map_width * sizeof *sum);
        for (int i = s->answer; i < s->maps; i++) {
            const float *map = s->map[i] + y * s->map_width;

#pragma omp simd
            for (int64_t x = 0; x < s->map_width; x++)
                sum[x] += map[x];
        }
#pragma omp simd reduction(+ : check)
        for (int64_t x = 0; x < s->map_width; x++)
            check += sum[x] * 0.0f;
    }
    if (!isfinite(check)) atomic_store(&job->wild, true);
}

/* The past and the new probability become the next past, and its logit the sum. Probabilities are
 * held off 0 and 1 by half a float's step below 1, so that logits stay finite. */
static void smooth_rows(void *user, int64_t begin, int64_t end, int thread)
{
    const kdas_segmenter *s = ((sum_job *)user)->s;
    float                 w = s->options.smoothing, least = 0x1p-24f;

    (void)thread;
    for (int64_t i = begin * s->map_width; i < end * s->map_width; i++) {
        float p = 1 / (1 + expf(-s->sum[i]));

        if (!s->has_past) {
            s->past[i] = p;
            continue;
        }
        s->past[i] = w * s->past[i] + (1 - w) * p;
        p          = KD_MIN(KD_MAX(s->past[i], least), 1 - least);
        s->sum[i]  = logf(p / (1 - p));
    }
}

static kdas_status add_maps(kdas_segmenter *s)
{
    sum_job job   = { .s = s };
    int64_t least = 1 + 8192 / s->map_width; /* rows that are worth a thread */

    kd_parallel_rows(s->ctx, s->map_height, least, sum_rows, &job);
    if (atomic_load(&job.wild))
        return kd_fail(KDAS_ENUMERIC, "segmenter: '%s' gives logits that are not finite",
                       s->model->def->name);
    if (s->past) {
        kd_parallel_rows(s->ctx, s->map_height, least, smooth_rows, &job);
        s->has_past = true;
    }
    return KDAS_OK;
}

/* From a frame to s->sum. The caller writes its output from it, and then calls done(). */
static kdas_status run(kdas_segmenter *s, const kdas_view *frame)
{
    const kdas_segmenter_options *o = &s->options;

    s->at[KDAS_STAGE_INPUT] = kd_now();
    KD_RETURN(kd_check_process(s->ctx));
    KD_RETURN(kd_view_check(frame, "segmenter"));
    if (o->frame_width && (frame->width != o->frame_width || frame->height != o->frame_height))
        return kd_fail(KDAS_ESHAPE,
                       "segmenter: a frame of %lldx%lld, but it was opened for %lldx%lld",
                       (long long)frame->width, (long long)frame->height, (long long)o->frame_width,
                       (long long)o->frame_height);
    if (!kd_frame_fits(s->frame, frame)) KD_RETURN(frame_set(s, frame->height, frame->width));
    kd_frame_input(s->frame, s->input, frame);
    s->at[KDAS_STAGE_NETWORK] = kd_now();
    KD_RETURN(run_network(s));
    KD_RETURN(fetch_maps(s));
    s->at[KDAS_STAGE_OUTPUT] = kd_now();
    return add_maps(s);
}

static kdas_status done(kdas_segmenter *s)
{
    s->at[KDAS_STAGE_WHOLE] = kd_now();
    kd_timing_add(&s->timing, s->at);
    return KDAS_OK;
}

const float *kdas_segmenter_map(const kdas_segmenter *s, int32_t i, int64_t *height, int64_t *width)
{
    if (!s || i < 0 || i >= s->maps) return NULL;
    if (height) *height = s->map_height;
    if (width) *width = s->map_width;
    return s->map[i];
}

/* ---- make and destroy ---- */

/* A first run on a black frame finds the maps' size, and allocates all memory of a run. */
static kdas_status first_run(kdas_segmenter *s)
{
    const kd_node *node;
    int64_t        pixels = s->options.height * s->options.width;

    s->input = kd_calloc(s->ctx, (size_t)pixels * 3, sizeof *s->input);
    if (!s->input) return KDAS_ENOMEM;
    KD_RETURN(run_network(s));
    for (int i = 0; i < s->maps; i++) {
        node = kd_model_output_node(s->model, i, NULL);
        if (i && (node->desc.out.dim[1] != s->map_height || node->desc.out.dim[2] != s->map_width))
            return kd_fail(KDAS_EINVAL, "segmenter: the maps of '%s' differ in size",
                           s->model->def->name);
        s->map_height = node->desc.out.dim[1];
        s->map_width  = node->desc.out.dim[2];
        s->map[i]     = kd_calloc(s->ctx, (size_t)kd_elements(&node->desc.out), sizeof(float));
        if (!s->map[i]) return KDAS_ENOMEM;
    }
    s->sum = kd_calloc(s->ctx, (size_t)(s->map_height * s->map_width), sizeof(float));
    return s->sum ? KDAS_OK : KDAS_ENOMEM;
}

/* sigmoid(z) >= p where z >= log(p / (1 - p)), from -inf to inf: no exponential for each pixel. */
static float logit_of(float p) { return logf(p) - log1pf(-p); }

kdas_status kdas_segmenter_create(kdas_segmenter **out, kdas_model *model,
                                  const kdas_segmenter_options *options)
{
    kdas_segmenter_options o;
    kdas_segmenter        *s = NULL;
    kdas_status            st;
    int                    maps;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_segmenter_create: out is NULL");
    *out = NULL;
    if (!model) return kd_fail(KDAS_EINVAL, "kdas_segmenter_create: the model is NULL");
    KD_RETURN(kd_check_process(model->ctx));
    kdas_segmenter_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_segmenter_options"));
    KD_RETURN(kd_check_reserved(o.reserved, "kdas_segmenter_options"));
    KD_RETURN(check_model(model, &maps));
    KD_RETURN(settle_options(&o, model));
    s = kd_calloc(model->ctx, 1, sizeof *s);
    if (!s) return KDAS_ENOMEM;
    s->ctx     = model->ctx;
    s->model   = model;
    s->options = o;
    s->edges   = (kd_edges){ logit_of(o.threshold),
                             logit_of(o.hysteresis > 0 ? o.hysteresis : o.threshold) };
    s->maps    = maps;
    s->answer  = kdas_model_answer(model);
    KD_TRY(kd_timing_init(&s->timing, s->ctx));
    KD_TRY(first_run(s));
    if (o.smoothing > 0) {
        s->past = kd_calloc(s->ctx, (size_t)(s->map_height * s->map_width), sizeof *s->past);
        if (!s->past) {
            st = KDAS_ENOMEM;
            goto done;
        }
    }
    if (o.frame_width) KD_TRY(frame_set(s, o.frame_height, o.frame_width));
    *out = s;
    s    = NULL;
done:
    kdas_segmenter_destroy(s);
    return st;
}

kdas_status kdas_segmenter_get_options(const kdas_segmenter *s, kdas_segmenter_options *options)
{
    if (!s) return kd_fail(KDAS_EINVAL, "kdas_segmenter_get_options: the segmenter is NULL");
    return kd_give_options(options, &s->options, sizeof s->options, "kdas_segmenter_options");
}

void kdas_segmenter_destroy(kdas_segmenter *s)
{
    if (!s) return;
    kd_frame_destroy(s->frame);
    for (int i = 0; i < MAX_MAPS; i++)
        kd_free(s->ctx, s->map[i]);
    kd_device_unstage(s->ctx, &s->staging);
    kd_timing_finish(&s->timing);
    kd_free(s->ctx, s->sum);
    kd_free(s->ctx, s->past);
    kd_free(s->ctx, s->input);
    kd_free(s->ctx, s);
}

kdas_status kdas_segmenter_reset(kdas_segmenter *s)
{
    if (!s) return kd_fail(KDAS_EINVAL, "kdas_segmenter_reset: the segmenter is NULL");
    s->has_past = false;
    if (s->frame) kd_frame_forget(s->frame);
    return KDAS_OK;
}

/* ---- what comes out ---- */

kdas_status kdas_segmenter_logits(kdas_segmenter *s, const kdas_view *frame, float *out)
{
    if (!s || !out) return kd_fail(KDAS_EINVAL, "kdas_segmenter_logits: an argument is NULL");
    KD_RETURN(run(s, frame));
    kd_frame_logits(s->frame, out, s->sum);
    return done(s);
}

/* Whether a byte for each pixel can go to `out`. */
static kdas_status check_bytes(const kdas_segmenter *s, const kdas_view *frame, const uint8_t *out,
                               int64_t stride)
{
    if (!s || !out) return kd_fail(KDAS_EINVAL, "segmenter: segmenter or out is NULL");
    if (frame && !kd_stride_fits(stride, frame->width))
        return kd_fail(KDAS_EINVAL, "segmenter: rows of %lld pixels do not fit a stride of %lld",
                       (long long)frame->width, (long long)stride);
    return KDAS_OK;
}

kdas_status kdas_segmenter_mask(kdas_segmenter *s, const kdas_view *frame, uint8_t *out,
                                int64_t stride)
{
    KD_RETURN(check_bytes(s, frame, out, stride));
    KD_RETURN(run(s, frame));
    kd_frame_mask(s->frame, out, stride, s->sum, s->edges);
    return done(s);
}

kdas_status kdas_segmenter_probability(kdas_segmenter *s, const kdas_view *frame, uint8_t *out,
                                       int64_t stride)
{
    KD_RETURN(check_bytes(s, frame, out, stride));
    KD_RETURN(run(s, frame));
    kd_frame_probability(s->frame, out, stride, s->sum);
    return done(s);
}

kdas_status kdas_segmenter_overlay(kdas_segmenter *s, const kdas_view *frame, void *out,
                                   int64_t stride, const kdas_overlay_options *options)
{
    kd_overlay overlay;

    if (!s) return kd_fail(KDAS_EINVAL, "kdas_segmenter_overlay: the segmenter is NULL");
    KD_RETURN(kd_view_check(frame, "kdas_segmenter_overlay"));
    KD_RETURN(kd_overlay_init(&overlay, frame, out, stride, options, "kdas_segmenter_overlay"));
    overlay.yuv.vectors = overlay.yuv.vectors && !s->ctx->plain;
    KD_RETURN(run(s, frame));
    kd_frame_overlay(s->frame, &overlay, s->sum, s->edges);
    return done(s);
}

/* ---- how long it takes ---- */

kdas_status kdas_segmenter_timing(kdas_segmenter *s, kdas_timing_report *out)
{
    kdas_timing_report report = { .stages = KDAS_STAGES };

    if (!s || !out) return kd_fail(KDAS_EINVAL, "kdas_segmenter_timing: an argument is NULL");
    kd_timing_get(&s->timing, &report);
    return kd_give_options(out, &report, sizeof report, "kdas_timing_report");
}

kdas_status kdas_segmenter_timing_reset(kdas_segmenter *s)
{
    if (!s) return kd_fail(KDAS_EINVAL, "kdas_segmenter_timing_reset: the segmenter is NULL");
    s->timing.frames = 0;
    return KDAS_OK;
}

/* segmenter.c - frames in, masks out: resize, normalise, run, add up the maps of the answer,
 * enlarge to the frame. All memory is allocated when the segmenter is made, or when a frame has a
 * new size. */
#include "infer/segmenter.h"
#include <math.h>
#include <string.h>
#include "base/parallel.h"
#include "base/pin.h"
#include "base/process.h"

/* The network must end in maps of one channel. */
static kdas_status check_model(const kdas_model *model, int *maps)
{
    const kd_node *node;

    for (*maps = 0; kd_graph_output(model->shape, *maps, &node); ++*maps)
        if (*maps == KD_MAX_MAPS || node->desc.out.dim[3] != 1)
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
    s->has_past = s->has_sum = false;
    kd_deadline_forget(&s->deadline);
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
        float *sum = s->fresh + y * s->map_width;

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
        float p = 1 / (1 + expf(-s->fresh[i]));

        if (!s->has_past) {
            s->past[i] = p;
            continue;
        }
        s->past[i]  = w * s->past[i] + (1 - w) * p;
        p           = KD_MIN(KD_MAX(s->past[i], least), 1 - least);
        s->fresh[i] = logf(p / (1 - p));
    }
}

static kdas_status add_maps(kdas_segmenter *s)
{
    sum_job job   = { .s = s };
    float  *sum   = s->fresh;
    int64_t least = 1 + 8192 / s->map_width; /* rows that are worth a thread */

    kd_parallel_rows(s->ctx, s->map_height, least, sum_rows, &job);
    if (atomic_load(&job.wild))
        return kd_fail(KDAS_ENUMERIC, "segmenter: '%s' gives logits that are not finite",
                       s->model->def->name);
    if (s->past) {
        kd_parallel_rows(s->ctx, s->map_height, least, smooth_rows, &job);
        s->has_past = true;
    }
    s->fresh = s->sum;
    s->sum   = sum;
    return KDAS_OK;
}

/* ---- a frame ---- */

static double now(const kdas_segmenter *s) { return s->clock(s->clock_user); }

static double system_clock(void *user)
{
    (void)user;
    return kd_now();
}

void kd_segmenter_set_clock(kdas_segmenter *s, kd_clock_fn clock, void *user)
{
    s->clock      = clock;
    s->clock_user = user;
}

static uint64_t weights_version(const kdas_segmenter *s)
{
    return kd_params_version(s->model->params) + kd_params_stats_version(s->model->params);
}

kdas_status kd_segmenter_check_frame(const kdas_segmenter *s, const kdas_view *frame)
{
    const kdas_segmenter_options *o = &s->options;

    KD_RETURN(kd_check_process(s->ctx));
    KD_RETURN(kd_view_check(frame, "segmenter"));
    if (o->frame_width && (frame->width != o->frame_width || frame->height != o->frame_height))
        return kd_fail(KDAS_ESHAPE,
                       "segmenter: a frame of %lldx%lld, but it was opened for %lldx%lld",
                       (long long)frame->width, (long long)frame->height, (long long)o->frame_width,
                       (long long)o->frame_height);
    return KDAS_OK;
}

/* The engine asks this between two steps of the network. */
static bool too_late(void *user)
{
    kdas_segmenter *s = user;

    s->gave_up = now(s) - s->at[KDAS_STAGE_INPUT] > kd_deadline_stop(&s->deadline);
    return s->gave_up;
}

static kdas_status run_to_deadline(kdas_segmenter *s)
{
    kdas_status st;

    s->gave_up           = false;
    s->ctx->give_up_user = s;
    s->ctx->give_up      = too_late;
    st                   = run_network(s);
    s->ctx->give_up      = NULL;
    return st;
}

/* Input and network; s->repeats says whether it was given up. */
static kdas_status compute(kdas_segmenter *s, const kdas_view *frame, bool may_repeat)
{
    kdas_status st;

    kd_frame_input(s->frame, s->input, frame);
    s->at[KDAS_STAGE_NETWORK] = now(s);
    st                        = may_repeat ? run_to_deadline(s) : run_network(s);
    if (st != KDAS_OK && may_repeat && s->gave_up) {
        s->repeats = KDAS_REPEAT_LATE;
        return KDAS_OK;
    }
    KD_RETURN(st);
    KD_RETURN(fetch_maps(s));
    s->at[KDAS_STAGE_OUTPUT] = now(s);
    return add_maps(s);
}

/* To s->sum; or s->repeats says that it stays as it is. */
static kdas_status run(kdas_segmenter *s, const kdas_view *frame)
{
    bool may_repeat;

    s->repeats = KDAS_REPEAT_NONE;
    if (!kd_frame_fits(s->frame, frame)) KD_RETURN(frame_set(s, frame->height, frame->width));
    may_repeat =
        s->has_sum && s->version == weights_version(s) && kd_deadline_may_repeat(&s->deadline);
    if (!may_repeat || !kd_deadline_hopeless(&s->deadline)) return compute(s, frame, may_repeat);
    s->repeats = KDAS_REPEAT_PREDICTED;
    return kd_check_cancel(s->ctx);
}

kdas_status kd_segmenter_begin(kdas_segmenter *s, const kdas_view *frame)
{
    kdas_status st;

    s->at[KDAS_STAGE_INPUT] = now(s);
    KD_RETURN(kd_segmenter_check_frame(s, frame));
    kd_pin_enter(s->ctx);
    st = run(s, frame);
    if (st != KDAS_OK) kd_pin_leave();
    return st;
}

/* A repeated mask leaves the one that is kept as it is. */
static kd_edges edges(const kdas_segmenter *s)
{
    kd_edges e = s->edges;

    e.hold = s->repeats != KDAS_REPEAT_NONE;
    return e;
}

void kd_segmenter_learn(kdas_segmenter *s, double seconds)
{
    kd_deadline_computed(&s->deadline, seconds, s->at[KDAS_STAGE_WHOLE] - s->at[KDAS_STAGE_OUTPUT]);
}

static void count_computed(kdas_segmenter *s, double seconds)
{
    double most = s->deadline.seconds;

    kd_timing_add(&s->timing, s->at);
    s->timing.overrun += most > 0 && seconds > most;
    kd_segmenter_learn(s, seconds);
    s->has_sum = true;
    s->version = weights_version(s);
}

static void count_repeated(kdas_segmenter *s, double seconds)
{
    bool given_up = s->repeats == KDAS_REPEAT_LATE;

    kd_timing_repeat(&s->timing, seconds, given_up);
    if (given_up)
        kd_deadline_given_up(&s->deadline);
    else
        kd_deadline_repeated(&s->deadline);
}

double kd_segmenter_end(kdas_segmenter *s)
{
    kd_pin_leave();
    s->at[KDAS_STAGE_WHOLE] = now(s);
    return s->at[KDAS_STAGE_WHOLE] - s->at[KDAS_STAGE_INPUT];
}

static kdas_status done(kdas_segmenter *s)
{
    double seconds = kd_segmenter_end(s);

    if (s->repeats == KDAS_REPEAT_NONE)
        count_computed(s, seconds);
    else
        count_repeated(s, seconds);
    s->repeated = s->repeats;
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
    s->sum   = kd_calloc(s->ctx, (size_t)(s->map_height * s->map_width), sizeof(float));
    s->fresh = kd_calloc(s->ctx, (size_t)(s->map_height * s->map_width), sizeof(float));
    return s->sum && s->fresh ? KDAS_OK : KDAS_ENOMEM;
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
    KD_RETURN(check_model(model, &maps));
    KD_RETURN(kd_segmenter_settle(&o, model));
    s = kd_calloc(model->ctx, 1, sizeof *s);
    if (!s) return KDAS_ENOMEM;
    s->ctx      = model->ctx;
    s->model    = model;
    s->options  = o;
    s->edges    = (kd_edges){ logit_of(o.threshold),
                              logit_of(o.hysteresis > 0 ? o.hysteresis : o.threshold) };
    s->maps     = maps;
    s->answer   = kdas_model_answer(model);
    s->deadline = (kd_deadline){ .seconds = o.frame_deadline, .limit = o.repeat_limit };
    kd_segmenter_set_clock(s, system_clock, NULL);
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
    for (int i = 0; i < KD_MAX_MAPS; i++)
        kd_free(s->ctx, s->map[i]);
    kd_device_unstage(s->ctx, &s->staging);
    kd_timing_finish(&s->timing);
    kd_free(s->ctx, s->sum);
    kd_free(s->ctx, s->fresh);
    kd_free(s->ctx, s->past);
    kd_free(s->ctx, s->input);
    kd_free(s->ctx, s);
}

kdas_status kdas_segmenter_reset(kdas_segmenter *s)
{
    if (!s) return kd_fail(KDAS_EINVAL, "kdas_segmenter_reset: the segmenter is NULL");
    s->has_past = s->has_sum = false;
    if (s->frame) kd_frame_forget(s->frame);
    return KDAS_OK;
}

/* ---- what comes out ---- */

kdas_status kdas_segmenter_logits(kdas_segmenter *s, const kdas_view *frame, float *out)
{
    if (!s || !out) return kd_fail(KDAS_EINVAL, "kdas_segmenter_logits: an argument is NULL");
    KD_RETURN(kd_segmenter_begin(s, frame));
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
    KD_RETURN(kd_segmenter_begin(s, frame));
    kd_frame_mask(s->frame, out, stride, s->sum, edges(s));
    return done(s);
}

kdas_status kdas_segmenter_probability(kdas_segmenter *s, const kdas_view *frame, uint8_t *out,
                                       int64_t stride)
{
    KD_RETURN(check_bytes(s, frame, out, stride));
    KD_RETURN(kd_segmenter_begin(s, frame));
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
    KD_RETURN(kd_segmenter_begin(s, frame));
    kd_frame_overlay(s->frame, &overlay, s->sum, edges(s));
    return done(s);
}

/* ---- how long it takes ---- */

kdas_repeat kdas_segmenter_repeated(const kdas_segmenter *s)
{
    return s ? s->repeated : KDAS_REPEAT_NONE;
}

double kdas_segmenter_estimate(const kdas_segmenter *s, double share)
{
    if (!s || !(share > 0 && share <= 1)) return NAN;
    return kd_deadline_estimate(&s->deadline, share);
}

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
    kd_timing_reset(&s->timing);
    return KDAS_OK;
}

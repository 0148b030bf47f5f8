/* segmenter.c - frames in, masks out: resize, normalise, run, add the maps up, enlarge to the frame.
 * All memory is taken when the segmenter is made, or when a frame of another size comes. */
#include "model/segmenter.h"
#include <math.h>
#include <string.h>
#include "io/image.h"
#include "model/model.h"

#define MAX_MAPS 8

/* Where a line of output samples comes from: between input `low` and `high`, `part` of the way. */
typedef struct line {
    int32_t *low, *high;
    float   *part;
} line;

/* What depends on the frames' size. */
typedef struct frame_size {
    int64_t     height, width; /* 0: none yet */
    kd_resizer *resizer;
    line        across, down;
    float      *row; /* a row of logits of the frame's width */
} frame_size;

struct kdas_segmenter {
    kdas_context          *ctx;
    kdas_model            *model;
    kdas_segmenter_options options;
    frame_size             frame;
    float                 *resized; /* (H,W,1 or 3), floats or bytes                     */
    float                 *input;   /* (H,W,3), normalised                               */
    kd_staging             staging;
    int                    maps;
    int64_t                map_height, map_width;
    float                 *map[MAX_MAPS]; /* (map_height,map_width) logits of the last run */
    float                 *sum;           /* of the maps                                   */
    float                 *between;       /* a row of it, between two                      */
};

/* ---- options ---- */

void kdas_segmenter_options_init(kdas_segmenter_options *options, size_t size)
{
    kdas_segmenter_options defaults = {
        .size = size, .height = 352, .width = 352, .threshold = 0.5f
    };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

static kdas_status check_options(const kdas_segmenter_options *o)
{
    KD_RETURN(kd_check_size(1, o->height, o->width));
    if (!(o->threshold >= 0 && o->threshold <= 1))
        return kd_fail(KDAS_EINVAL, "segmenter: threshold is %g, not 0 to 1", (double)o->threshold);
    if (o->frame_height == 0 && o->frame_width == 0) return KDAS_OK;
    if (o->frame_height < 1 || o->frame_width < 1 || o->frame_height > KDAS_IMAGE_MAX_SIDE ||
        o->frame_width > KDAS_IMAGE_MAX_SIDE)
        return kd_fail(KDAS_EINVAL, "segmenter: frames of %lldx%lld; sides are 1 to %d, or both 0",
                       (long long)o->frame_width, (long long)o->frame_height, KDAS_IMAGE_MAX_SIDE);
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

/* ---- the frames' size ---- */

static void line_finish(line *l, kdas_context *ctx)
{
    kd_free(ctx, l->low);
    kd_free(ctx, l->high);
    kd_free(ctx, l->part);
}

/* Bilinear, half-pixel centres: src = (dst + 1/2) from/to - 1/2, clamped to the line. */
static kdas_status line_init(line *l, kdas_context *ctx, int64_t from, int64_t to)
{
    l->low  = kd_alloc(ctx, (size_t)to * sizeof *l->low);
    l->high = kd_alloc(ctx, (size_t)to * sizeof *l->high);
    l->part = kd_alloc(ctx, (size_t)to * sizeof *l->part);
    if (!l->low || !l->high || !l->part) return KDAS_ENOMEM;
    for (int64_t i = 0; i < to; i++) {
        double at  = ((double)i + 0.5) * (double)from / (double)to - 0.5;
        double low = floor(KD_MAX(at, 0.0));

        l->low[i]  = (int32_t)low;
        l->high[i] = (int32_t)KD_MIN((int64_t)low + 1, from - 1);
        l->part[i] = (float)(KD_MAX(at, 0.0) - low);
    }
    return KDAS_OK;
}

static void frame_finish(frame_size *f, kdas_context *ctx)
{
    kd_resizer_destroy(f->resizer);
    line_finish(&f->across, ctx);
    line_finish(&f->down, ctx);
    kd_free(ctx, f->row);
}

/* Make ready for frames of a size; on failure the segmenter stays ready for those it was. */
static kdas_status frame_set(kdas_segmenter *s, int64_t height, int64_t width)
{
    frame_size  f  = { .height = height, .width = width };
    kdas_status st = KDAS_OK;

    if (s->frame.height == height && s->frame.width == width) return KDAS_OK;
    KD_TRY(kd_resizer_create(&f.resizer, s->ctx, s->options.width, s->options.height, width, height,
                             3 * sizeof(float)));
    KD_TRY(line_init(&f.across, s->ctx, s->map_width, width));
    KD_TRY(line_init(&f.down, s->ctx, s->map_height, height));
    f.row = kd_alloc(s->ctx, (size_t)width * sizeof *f.row);
    if (!f.row) {
        st = KDAS_ENOMEM;
        goto done;
    }
    frame_finish(&s->frame, s->ctx);
    s->frame = f;
    return KDAS_OK;
done:
    frame_finish(&f, s->ctx);
    return st;
}

/* ---- run ---- */

static const float mean[3]      = { 0.485f, 0.456f, 0.406f }; /* ImageNet's, as in training */
static const float deviation[3] = { 0.229f, 0.224f, 0.225f };

/* Pixels at the network's size to (H,W,3) around 0; grey stands for all three colours. */
static void normalise(kdas_segmenter *s, const kdas_view *frame)
{
    bool           is_float = kd_pixel_is_float(frame->pixel);
    int            colours  = kd_pixel_colours(frame->pixel);
    bool           bgr      = frame->pixel == KDAS_PIXEL_BGR8 || frame->pixel == KDAS_PIXEL_BGRA8;
    int            order[3] = { bgr ? 2 : 0, 1, bgr ? 0 : 2 };
    const float   *floats   = s->resized;
    const uint8_t *bytes    = (const uint8_t *)s->resized;

    for (int64_t i = 0; i < s->options.height * s->options.width; i++)
        for (int c = 0; c < 3; c++) {
            int64_t at    = i * colours + (colours == 1 ? 0 : order[c]);
            float   value = is_float ? floats[at] : (float)bytes[at] / 255.0f;

            s->input[i * 3 + c] = (value - mean[c]) / deviation[c];
        }
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

static kdas_status add_maps(kdas_segmenter *s)
{
    bool finite = true;

    for (int64_t k = 0; k < s->map_height * s->map_width; k++) {
        float sum = 0;

        for (int i = 0; i < s->maps; i++)
            sum += s->map[i][k];
        s->sum[k] = sum;
        finite &= isfinite(sum) != 0;
    }
    if (finite) return KDAS_OK;
    return kd_fail(KDAS_ENUMERIC, "segmenter: '%s' gives logits that are not finite",
                   s->model->def->name);
}

kdas_status kd_segmenter_run(kdas_segmenter *s, const kdas_view *frame)
{
    const kdas_segmenter_options *o = &s->options;

    KD_RETURN(kd_view_check(frame, "segmenter"));
    if (o->frame_width && (frame->width != o->frame_width || frame->height != o->frame_height))
        return kd_fail(KDAS_ESHAPE,
                       "segmenter: a frame of %lldx%lld, but it was opened for %lldx%lld",
                       (long long)frame->width, (long long)frame->height, (long long)o->frame_width,
                       (long long)o->frame_height);
    KD_RETURN(frame_set(s, frame->height, frame->width));
    if (kd_pixel_is_float(frame->pixel))
        kd_resizer_floats(s->frame.resizer, s->resized, frame);
    else
        kd_resizer_bytes(s->frame.resizer, (uint8_t *)s->resized, frame);
    normalise(s, frame);
    KD_RETURN(run_network(s));
    KD_RETURN(fetch_maps(s));
    return add_maps(s);
}

const float *kd_segmenter_map(const kdas_segmenter *s, int i, int64_t *height, int64_t *width)
{
    *height = s->map_height;
    *width  = s->map_width;
    return i < s->maps ? s->map[i] : NULL;
}

/* ---- make and destroy ---- */

/* A first run on a black frame tells the maps' size, and takes all the memory that a run needs. */
static kdas_status first_run(kdas_segmenter *s)
{
    const kd_node *node;
    int64_t        pixels = s->options.height * s->options.width;

    s->resized = kd_calloc(s->ctx, (size_t)pixels * 3, sizeof *s->resized);
    s->input   = kd_calloc(s->ctx, (size_t)pixels * 3, sizeof *s->input);
    if (!s->resized || !s->input) return KDAS_ENOMEM;
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
    s->between = kd_calloc(s->ctx, (size_t)s->map_width, sizeof(float));
    s->sum     = kd_calloc(s->ctx, (size_t)(s->map_height * s->map_width), sizeof(float));
    return s->between && s->sum ? KDAS_OK : KDAS_ENOMEM;
}

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
    kdas_segmenter_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_segmenter_options"));
    KD_RETURN(check_options(&o));
    KD_RETURN(check_model(model, &maps));
    s = kd_calloc(model->ctx, 1, sizeof *s);
    if (!s) return KDAS_ENOMEM;
    s->ctx     = model->ctx;
    s->model   = model;
    s->options = o;
    s->maps    = maps;
    KD_TRY(first_run(s));
    if (o.frame_width) KD_TRY(frame_set(s, o.frame_height, o.frame_width));
    *out = s;
    s    = NULL;
done:
    kdas_segmenter_destroy(s);
    return st;
}

void kdas_segmenter_destroy(kdas_segmenter *s)
{
    if (!s) return;
    frame_finish(&s->frame, s->ctx);
    for (int i = 0; i < MAX_MAPS; i++)
        kd_free(s->ctx, s->map[i]);
    kd_device_unstage(s->ctx, &s->staging);
    kd_free(s->ctx, s->sum);
    kd_free(s->ctx, s->between);
    kd_free(s->ctx, s->resized);
    kd_free(s->ctx, s->input);
    kd_free(s->ctx, s);
}

/* ---- what comes out ---- */

/* Row y of the logits at the frame's size. */
static void enlarge_row(kdas_segmenter *s, float *to, int64_t y)
{
    const frame_size *f    = &s->frame;
    const float      *low  = s->sum + f->down.low[y] * s->map_width;
    const float      *high = s->sum + f->down.high[y] * s->map_width;

    for (int64_t x = 0; x < s->map_width; x++)
        s->between[x] = low[x] + f->down.part[y] * (high[x] - low[x]);
    for (int64_t x = 0; x < f->width; x++) {
        float a = s->between[f->across.low[x]], b = s->between[f->across.high[x]];

        to[x] = a + f->across.part[x] * (b - a);
    }
}

void kd_segmenter_enlarge(kdas_segmenter *s, float *out)
{
    for (int64_t y = 0; y < s->frame.height; y++)
        enlarge_row(s, out + y * s->frame.width, y);
}

kdas_status kdas_segmenter_logits(kdas_segmenter *s, const kdas_view *frame, float *out)
{
    if (!s || !out) return kd_fail(KDAS_EINVAL, "kdas_segmenter_logits: an argument is NULL");
    KD_RETURN(kd_segmenter_run(s, frame));
    kd_segmenter_enlarge(s, out);
    return KDAS_OK;
}

/* A byte for each logit of a row. */
typedef void (*to_bytes_fn)(uint8_t *to, const float *logits, int64_t n, float threshold);

/* sigmoid(z) >= t where z >= log(t / (1 - t)): no exponential for each pixel. */
static void row_to_mask(uint8_t *to, const float *logits, int64_t n, float threshold)
{
    float edge = logf(threshold) - log1pf(-threshold); /* -inf .. inf */

    for (int64_t x = 0; x < n; x++)
        to[x] = logits[x] >= edge ? 255 : 0;
}

static void row_to_probability(uint8_t *to, const float *logits, int64_t n, float threshold)
{
    (void)threshold;
    for (int64_t x = 0; x < n; x++)
        to[x] = (uint8_t)(255 / (1 + expf(-logits[x])) + 0.5f);
}

static kdas_status to_bytes(kdas_segmenter *s, const kdas_view *frame, uint8_t *out, int64_t stride,
                            to_bytes_fn convert)
{
    if (!s || !out) return kd_fail(KDAS_EINVAL, "segmenter: segmenter or out is NULL");
    if (frame && stride && stride < frame->width)
        return kd_fail(KDAS_EINVAL, "segmenter: rows of %lld pixels do not fit a stride of %lld",
                       (long long)frame->width, (long long)stride);
    KD_RETURN(kd_segmenter_run(s, frame));
    for (int64_t y = 0; y < frame->height; y++) {
        enlarge_row(s, s->frame.row, y);
        convert(out + y * (stride ? stride : frame->width), s->frame.row, frame->width,
                s->options.threshold);
    }
    return KDAS_OK;
}

kdas_status kdas_segmenter_mask(kdas_segmenter *segmenter, const kdas_view *frame, uint8_t *out,
                                int64_t stride)
{
    return to_bytes(segmenter, frame, out, stride, row_to_mask);
}

kdas_status kdas_segmenter_probability(kdas_segmenter *segmenter, const kdas_view *frame,
                                       uint8_t *out, int64_t stride)
{
    return to_bytes(segmenter, frame, out, stride, row_to_probability);
}

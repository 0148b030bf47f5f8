/* frame.c - frames in, masks out, limited by memory bandwidth. Most pixels of a mask need no logit:
 * between two samples of the map on one side of the threshold, all pixels are on that side. */
#include "infer/frame.h"
#include <math.h>
#include <string.h>
#include "base/context.h"
#include "base/parallel.h"

/* The source of a line of output samples: between input `low` and `high`, at fraction `part`. */
typedef struct line {
    int32_t *low, *high;
    float   *part;
} line;

/* Probability bytes by table. Steps from a byte to the next lie more than a cell apart, so that a
 * cell holds one at most, at from[guess + 1]. */
enum {
    LOGIT_RANGE = 7,
    CELLS       = 64
}; /* from 7 on the byte is 255, from -7 down it is 0; cells of 1/64 */

typedef struct byte_table {
    uint8_t guess[2 * LOGIT_RANGE * CELLS + 1];
    float   from[257]; /* the least logit of a byte; from[256]: no logit */
} byte_table;

struct kd_frame {
    kdas_context  *ctx;
    kd_frame_sizes size;
    kd_resizer    *resizer;
    float          normal[3][256]; /* network input of a red, green, blue byte */
    byte_table     bytes;
    line           across, down;
    /* (map_width + 1): outputs first[j] .. first[j+1]-1 lie between columns j and j+1. */
    int32_t *first;
    uint8_t *kept;    /* (height,width) the last mask, 0 and 255; NULL: not kept */
    char    *scratch; /* for each thread */
    size_t   scratch_bytes;
};

/* ---- Make and destroy ---- */

static const float mean[3]      = { 0.485f, 0.456f, 0.406f }; /* ImageNet's, as in training */
static const float deviation[3] = { 0.229f, 0.224f, 0.225f };

static inline float normalised(float value, int c) { return (value - mean[c]) / deviation[c]; }

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

static kdas_status first_init(kd_frame *f)
{
    int64_t columns = f->size.map_width, x = 0;

    f->first = kd_alloc(f->ctx, (size_t)(columns + 1) * sizeof *f->first);
    if (!f->first) return KDAS_ENOMEM;
    for (int64_t j = 0; j <= columns; j++) {
        while (x < f->size.width && f->across.low[x] < j)
            x++;
        f->first[j] = (int32_t)x;
    }
    return KDAS_OK;
}

static uint8_t probability_byte(float logit) { return (uint8_t)(255 / (1 + expf(-logit)) + 0.5f); }

static void byte_table_init(byte_table *t)
{
    t->from[0]   = -INFINITY;
    t->from[256] = INFINITY;
    for (int b = 1; b < 256; b++) {
        float below = -LOGIT_RANGE, from = LOGIT_RANGE, middle;

        while ((middle = below + (from - below) / 2) > below && middle < from) {
            if (probability_byte(middle) >= b)
                from = middle;
            else
                below = middle;
        }
        t->from[b] = from;
    }
    for (int i = 0; i < (int)KD_COUNT(t->guess); i++) /* a little lower: indices are rounded */
        t->guess[i] = probability_byte((float)i / CELLS - LOGIT_RANGE - 1e-5f);
}

/* A thread's scratch: of the way in a row of three colours, and two rows of a YUV frame as RGB8; of
 * the way out a row between two of the map, on which side of the edges its samples are, and two
 * rows of the mask. */
typedef struct scratch {
    float   *colours;
    float   *between;
    uint8_t *rgb, *side, *mask;
} scratch;

static size_t padded(int64_t bytes) { return ((size_t)bytes + KD_ALIGN - 1) / KD_ALIGN * KD_ALIGN; }

static scratch scratch_of(const kd_frame *f, int thread)
{
    char   *at = f->scratch + (size_t)thread * f->scratch_bytes;
    scratch s  = { .colours = (float *)at };

    at += padded(f->size.input_width * 3 * (int64_t)sizeof(float));
    s.between = (float *)at;
    at += padded(f->size.map_width * (int64_t)sizeof(float));
    s.rgb = (uint8_t *)at;
    at += padded(KD_RGB_ROWS(f->size.width));
    s.side = (uint8_t *)at;
    at += padded(f->size.map_width + 1);
    s.mask = (uint8_t *)at;
    return s;
}

static kdas_status scratch_init(kd_frame *f)
{
    f->scratch_bytes = padded(f->size.input_width * 3 * (int64_t)sizeof(float)) +
                       padded(f->size.map_width * (int64_t)sizeof(float)) +
                       padded(KD_RGB_ROWS(f->size.width)) + padded(f->size.map_width + 1) +
                       padded(2 * f->size.width);
    f->scratch = kd_calloc(f->ctx, (size_t)KD_MAX(f->ctx->threads, 1), f->scratch_bytes);
    return f->scratch ? KDAS_OK : KDAS_ENOMEM;
}

kdas_status kd_frame_create(kd_frame **out, kdas_context *ctx, const kd_frame_sizes *sizes,
                            bool keep)
{
    kdas_status st = KDAS_OK;
    kd_frame   *f  = kd_calloc(ctx, 1, sizeof *f);

    *out = NULL;
    if (!f) return KDAS_ENOMEM;
    f->ctx  = ctx;
    f->size = *sizes;
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++)
            f->normal[c][v] = normalised((float)v / 255.0f, c);
    byte_table_init(&f->bytes);
    KD_TRY(kd_resizer_create(&f->resizer, ctx, sizes->input_width, sizes->input_height,
                             sizes->width, sizes->height, 3 * sizeof(float)));
    KD_TRY(line_init(&f->across, ctx, sizes->map_width, sizes->width));
    KD_TRY(line_init(&f->down, ctx, sizes->map_height, sizes->height));
    KD_TRY(first_init(f));
    KD_TRY(scratch_init(f));
    if (keep && !(f->kept = kd_calloc(ctx, (size_t)sizes->height, (size_t)sizes->width))) {
        st = KDAS_ENOMEM;
        goto done;
    }
    *out = f;
    f    = NULL;
done:
    kd_frame_destroy(f);
    return st;
}

void kd_frame_destroy(kd_frame *f)
{
    if (!f) return;
    kd_resizer_destroy(f->resizer);
    line_finish(&f->across, f->ctx);
    line_finish(&f->down, f->ctx);
    kd_free(f->ctx, f->first);
    kd_free(f->ctx, f->kept);
    kd_free(f->ctx, f->scratch);
    kd_free(f->ctx, f);
}

bool kd_frame_fits(const kd_frame *f, const kdas_view *view)
{
    return f && f->size.width == view->width && f->size.height == view->height;
}

void kd_frame_forget(kd_frame *f)
{
    if (f->kept) memset(f->kept, 0, (size_t)(f->size.height * f->size.width));
}

/* Rows of n samples that are worth a thread. */
static int64_t worth(int64_t n) { return 1 + 16384 / n; }

/* ---- In ---- */

typedef struct input_job {
    kd_frame        *f;
    const kdas_view *view;
    float           *input;
    int64_t          top;
} input_job;

static void across_rows(void *user, int64_t begin, int64_t end, int thread)
{
    const input_job *job = user;

    kd_resizer_across(job->f->resizer, job->view, job->top + begin, job->top + end,
                      scratch_of(job->f, thread).rgb);
}

/* A row of the new size around 0; grey stands for all three colours. */
static void normalise(const kd_frame *f, float *to, const void *row, kdas_pixel pixel)
{
    int            colours  = kd_pixel_colours(pixel);
    bool           bgr      = kd_pixel_is_bgr(pixel);
    int            order[3] = { bgr ? 2 : 0, 1, bgr ? 0 : 2 };
    const float   *floats   = row;
    const uint8_t *bytes    = row;

    if (colours == 1) order[0] = order[1] = order[2] = 0;
    if (kd_pixel_is_float(pixel)) {
        for (int64_t x = 0; x < f->size.input_width; x++, to += 3, floats += colours)
            for (int c = 0; c < 3; c++)
                to[c] = normalised(floats[order[c]], c);
        return;
    }
    for (int64_t x = 0; x < f->size.input_width; x++, to += 3, bytes += colours) {
        to[0] = f->normal[0][bytes[order[0]]];
        to[1] = f->normal[1][bytes[order[1]]];
        to[2] = f->normal[2][bytes[order[2]]];
    }
}

static void down_rows(void *user, int64_t begin, int64_t end, int thread)
{
    const input_job *job = user;
    const kd_frame  *f   = job->f;
    float           *row = scratch_of(f, thread).colours;

    for (int64_t y = begin; y < end; y++) {
        kd_resizer_down(f->resizer, row, job->view->pixel, y);
        normalise(f, job->input + y * f->size.input_width * 3, row, job->view->pixel);
    }
}

void kd_frame_input(kd_frame *f, float *input, const kdas_view *view)
{
    input_job job = { .f = f, .view = view, .input = input };
    int64_t   bottom;

    kd_resizer_span(f->resizer, &job.top, &bottom);
    kd_parallel_rows(f->ctx, bottom - job.top, worth(view->width), across_rows, &job);
    kd_parallel_rows(f->ctx, f->size.input_height, worth(f->size.input_width), down_rows, &job);
}

/* ---- Out ---- */

typedef struct output_job output_job;
/* Outputs begin .. end-1 of a row that the map's samples do not decide by themselves. */
typedef void (*decide_fn)(const output_job *job, uint8_t *to, const float *between, int64_t begin,
                          int64_t end);
struct output_job {
    kd_frame         *f;
    const float      *map;
    float             low, high; /* all below: 0; all at least this: 255; else `decide` */
    decide_fn         decide;
    void             *out;
    int64_t           stride;
    bool              hold;    /* kd_edges.hold */
    const kd_overlay *overlay; /* instead of `out` */
};

/* The map at the height of output row y. */
static void blend_rows(const output_job *job, float *between, int64_t y)
{
    const kd_frame *f     = job->f;
    int64_t         width = f->size.map_width;
    const float    *low   = job->map + f->down.low[y] * width;
    const float    *high  = job->map + f->down.high[y] * width;
    float           part  = f->down.part[y];

#pragma omp simd
    for (int64_t x = 0; x < width; x++)
        between[x] = low[x] + part * (high[x] - low[x]);
}

static inline float logit(const kd_frame *f, const float *between, int64_t x)
{
    float a = between[f->across.low[x]], b = between[f->across.high[x]];

    return a + f->across.part[x] * (b - a);
}

static void logit_rows(void *user, int64_t begin, int64_t end, int thread)
{
    const output_job *job     = user;
    const kd_frame   *f       = job->f;
    float            *between = scratch_of(f, thread).between;

    for (int64_t y = begin; y < end; y++) {
        float *to = (float *)job->out + y * f->size.width;

        blend_rows(job, between, y);
        for (int64_t x = 0; x < f->size.width; x++)
            to[x] = logit(f, between, x);
    }
}

static void decide_mask(const output_job *job, uint8_t *to, const float *between, int64_t begin,
                        int64_t end)
{
    for (int64_t x = begin; x < end; x++)
        to[x] = logit(job->f, between, x) >= job->high ? 255 : 0;
}

/* On entry `to` holds the last mask. */
static void decide_kept(const output_job *job, uint8_t *to, const float *between, int64_t begin,
                        int64_t end)
{
    for (int64_t x = begin; x < end; x++)
        to[x] = logit(job->f, between, x) >= (to[x] ? job->low : job->high) ? 255 : 0;
}

static void decide_probability(const output_job *job, uint8_t *to, const float *between,
                               int64_t begin, int64_t end)
{
    const byte_table *t = &job->f->bytes;

    for (int64_t x = begin; x < end; x++) {
        float   z     = logit(job->f, between, x);
        float   held  = KD_MIN(KD_MAX(z, -LOGIT_RANGE), LOGIT_RANGE);
        uint8_t guess = t->guess[(int)((held + LOGIT_RANGE) * CELLS)];

        to[x] = (uint8_t)(guess + (z >= t->from[guess + 1]));
    }
}

/* Whether columns j and j + 1 decide what lies between them. */
static inline bool agree(const uint8_t *side, int64_t j)
{
    return side[j] != 1 && side[j + 1] == side[j];
}

/* Row y. What is between two samples on one side of an edge is on that side, in floating point too:
 * `part` is at most 1 - 2^-15, so that rounding, which keeps order, cannot carry a value past the
 * farther sample. */
static void fill_row(const output_job *job, uint8_t *to, const scratch *s, int64_t y)
{
    const kd_frame *f     = job->f;
    int64_t         width = f->size.map_width;
    float           low = job->low, high = job->high;

    blend_rows(job, s->between, y);
#pragma omp simd
    for (int64_t j = 0; j < width; j++)
        s->side[j] = (uint8_t)((s->between[j] >= low) + (s->between[j] >= high));
    s->side[width] = s->side[width - 1]; /* the last column has itself for a neighbour */
    for (int64_t j = 0, end; j < width; j = end) {
        bool sure = agree(s->side, j);

        for (end = j + 1;
             end < width && agree(s->side, end) == sure && (!sure || s->side[end] == s->side[j]);)
            end++;
        if (sure)
            memset(to + f->first[j], s->side[j] ? 255 : 0, (size_t)(f->first[end] - f->first[j]));
        else
            job->decide(job, to, s->between, f->first[j], f->first[end]);
    }
}

/* Row y in `to`, or where the last mask is kept; returns which. */
static const uint8_t *byte_row(const output_job *job, uint8_t *to, const scratch *s, int64_t y)
{
    if (job->decide == decide_kept) {
        uint8_t *kept = job->f->kept + y * job->f->size.width;

        if (job->hold)
            memcpy(to, kept, (size_t)job->f->size.width);
        else
            to = kept;
    }
    fill_row(job, to, s, y);
    return to;
}

static void byte_rows(void *user, int64_t begin, int64_t end, int thread)
{
    const output_job *job = user;
    scratch           s   = scratch_of(job->f, thread);

    for (int64_t y = begin; y < end; y++) {
        uint8_t       *out = (uint8_t *)job->out + y * job->stride;
        const uint8_t *row = byte_row(job, out, &s, y);

        if (row != out) memcpy(out, row, (size_t)job->f->size.width);
    }
}

/* `begin` and `end` count what an overlay draws at a time. */
static void overlay_rows(void *user, int64_t begin, int64_t end, int thread)
{
    const output_job *job  = user;
    scratch           s    = scratch_of(job->f, thread);
    int               rows = job->overlay->rows;

    for (int64_t y = begin * rows; y < end * rows; y += rows) {
        const uint8_t *mask[2] = { NULL, NULL };

        for (int i = 0; i < rows && y + i < job->f->size.height; i++)
            mask[i] = byte_row(job, s.mask + i * job->f->size.width, &s, y + i);
        kd_overlay_draw(job->overlay, y, mask);
    }
}

void kd_frame_logits(kd_frame *f, float *out, const float *map)
{
    output_job job = { .f = f, .map = map, .out = out };

    kd_parallel_rows(f->ctx, f->size.height, worth(f->size.width), logit_rows, &job);
}

static void run_bytes(kd_frame *f, output_job *job)
{
    kd_parallel_rows(f->ctx, f->size.height, worth(f->size.width), byte_rows, job);
}

void kd_frame_probability(kd_frame *f, uint8_t *out, int64_t stride, const float *map)
{
    output_job job = { .f      = f,
                       .map    = map,
                       .low    = -LOGIT_RANGE,
                       .high   = LOGIT_RANGE,
                       .decide = decide_probability,
                       .out    = out,
                       .stride = stride ? stride : f->size.width };

    run_bytes(f, &job);
}

static output_job mask_job(kd_frame *f, void *out, int64_t stride, const float *map, kd_edges edges)
{
    return (output_job){ .f      = f,
                         .map    = map,
                         .low    = f->kept ? edges.off : edges.on,
                         .high   = edges.on,
                         .decide = f->kept ? decide_kept : decide_mask,
                         .out    = out,
                         .stride = stride,
                         .hold   = edges.hold };
}

void kd_frame_mask(kd_frame *f, uint8_t *out, int64_t stride, const float *map, kd_edges edges)
{
    output_job job = mask_job(f, out, stride ? stride : f->size.width, map, edges);

    run_bytes(f, &job);
}

void kd_frame_overlay(kd_frame *f, const kd_overlay *overlay, const float *map, kd_edges edges)
{
    output_job job   = mask_job(f, NULL, 0, map, edges);
    int64_t    units = (f->size.height + overlay->rows - 1) / overlay->rows;

    job.overlay = overlay;
    kd_parallel_rows(f->ctx, units, worth(f->size.width * overlay->rows), overlay_rows, &job);
}

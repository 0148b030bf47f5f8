/* kdas/infer.h - segment frames with a trained network; no allocation after opening. */
#ifndef KDAS_INFER_H
#define KDAS_INFER_H
#include <kdas/image.h>
#include <kdas/model.h>
KDAS_BEGIN

typedef struct kdas_segmenter kdas_segmenter;

#define KDAS_THRESHOLD_OWN (-1.0f) /* kdas_segmenter_options.threshold: the weights' own */

typedef struct kdas_segmenter_options {
    size_t size;
    /* Of the network's input, multiples of 32. Both 0 (default; since 0.4): the size that the
     * weights were trained for, or the only one that the network takes
     * (kdas_model_input_size); 352 x 352 if they do not say. */
    int64_t height, width;
    /* Size of the frames. 0 (default): any size; the first frame of a new size allocates. */
    int64_t frame_height, frame_width;
    /* A pixel is polyp if its probability is >= this, 0..1. KDAS_THRESHOLD_OWN (default; since
     * 0.4): the weights' own (kdas_model_threshold), 0.5 if they do not say. */
    float threshold;
    /* For video; see kdas_segmenter_reset(). Since 0.2. */
    float smoothing; /* weight of the past in each probability, >= 0, < 1; default 0: off */
    /* A polyp pixel stays polyp down to this probability, > 0, <= threshold; default 0: off. */
    float hysteresis;
    /* With a deadline: at most so many frames in a row are repeated, and the next is computed to
     * its end. 1..1000; 0 (default): 4. Since 0.4. */
    int32_t repeat_limit;
    /* Seconds from the begin of a call to its end, > 0, at most 3600. A frame that cannot be done
     * in that time repeats the last result; see kdas_segmenter_repeated(). Default 0: no deadline.
     * Since 0.4. */
    double frame_deadline;
} kdas_segmenter_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_segmenter_options_init(kdas_segmenter_options *options, size_t size);

/* Create a segmenter for a model with one-channel maps, such as polyp_pvt. The model must outlive
 * it; new weights of the model take effect at once. The call runs the model, so an earlier forward
 * can no longer get its backward. A warning is logged if size or normalisation are not those that
 * the weights were trained for (kdas_model_fact; since 0.4). KDAS_EINVAL (a model without
 * one-channel maps, range), KDAS_ESHAPE (sides not divisible by 32), KDAS_ENUMERIC (since 0.4: a
 * weight is not finite; the message names its tensor), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_segmenter_create(kdas_segmenter **out, kdas_model *model,
                                           const kdas_segmenter_options *options);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_segmenter_destroy(kdas_segmenter *segmenter);

/* Read the options in use, with the size and threshold that were found. Set `size` first, as
 * kdas_segmenter_options_init() does. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_segmenter_get_options(const kdas_segmenter   *segmenter,
                                                kdas_segmenter_options *options);

/* Do now what the first frame would do once: tables for the frame size, packed weights, the compute
 * threads of the calling thread, memory that is touched for the first time. `height`, `width` and
 * `pixel` are those of the frames to come; both sides 0: the frame size of the options. Runs the
 * network twice on a black frame, and writes a mask, probabilities and an overlay of it into memory
 * that it frees. The first frame of that size and kind, from the same thread, then takes no longer
 * than later ones and allocates nothing, also if the options state no frame size. Timing does not
 * count the runs; kdas_segmenter_estimate() knows the second one. Smoothing and hysteresis begin
 * anew, as by kdas_segmenter_reset(), also on failure. KDAS_EINVAL (sides, pixel), KDAS_ESHAPE (not
 * the stated size), KDAS_ENUMERIC, KDAS_ECANCELLED, KDAS_EBACKEND, KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_segmenter_warm_up(kdas_segmenter *segmenter, int64_t height,
                                            int64_t width, kdas_pixel pixel);

/* ---- Segment a frame ----------------------------------------------------------------------------
 * Each call runs the network once, on the context's threads. It allocates nothing, except for the
 * first frame of a new size if the options state no frame size.
 * Input: 8-bit, float or (since 0.4) YUV views of caller-owned memory. They are resized to the
 * network's size as by kdas_batch_set(); grey fills all three colours. A YUV frame gives the same
 * bits as its RGB8 pixels (kdas_view_convert); rows are converted while resizing.
 * Errors of each call: KDAS_EINVAL, KDAS_ESHAPE (the frame does not have the stated size),
 * KDAS_ENUMERIC (a weight is not finite, or the network gives logits that are not), KDAS_ECANCELLED,
 * KDAS_EBACKEND, KDAS_ESTATE (integers, and a range of the model is empty), and KDAS_ENOMEM if no
 * frame size was stated. On failure `out` and the state kept from past frames are unchanged. */

/* Logits at the frame's size: the network's answer (P1 + P2; kdas_model_answer), resized (bilinear,
 * half-pixel), as height x width floats. KDAS_EINVAL and others, see above. Since 0.1. */
KDAS_API kdas_status kdas_segmenter_logits(kdas_segmenter *segmenter, const kdas_view *frame,
                                           float *out);
/* Mask at the frame's size: 0 or 255, one byte per pixel. Rows are `stride` bytes apart; 0 means
 * packed. With a negative stride, `out` is the top row and later rows come before it in memory
 * (here and below). KDAS_EINVAL and others, see above. Since 0.1. */
KDAS_API kdas_status kdas_segmenter_mask(kdas_segmenter *segmenter, const kdas_view *frame,
                                         uint8_t *out, int64_t stride);
/* Probability times 255, rounded, in the layout of kdas_segmenter_mask(). KDAS_EINVAL and others,
 * see above. Since 0.1. */
KDAS_API kdas_status kdas_segmenter_probability(kdas_segmenter *segmenter, const kdas_view *frame,
                                                uint8_t *out, int64_t stride);
/* The frame (8-bit or YUV) with its mask as a tint, as drawn by kdas_image_overlay(). Pixel order
 * and pixels outside the mask are the frame's; a YUV frame gives RGB8. Rows are `stride` bytes
 * apart (0: packed). `out` may be the frame's own memory with the frame's stride; a YUV frame is
 * then tinted in its planes, without conversion. `options` may be NULL (defaults). KDAS_EINVAL and
 * others, see above. Since 0.2. */
KDAS_API kdas_status kdas_segmenter_overlay(kdas_segmenter *segmenter, const kdas_view *frame,
                                            void *out, int64_t stride,
                                            const kdas_overlay_options *options);

/* Map `i` of the last such call that was computed, shallow to deep: (height,width) logits of the
 * network, before their sum and without smoothing. The memory belongs to the segmenter and is valid until the next
 * call that runs it. `height` and `width` may be NULL. Returns NULL past the last map.
 * Since 0.4. */
KDAS_API const float *kdas_segmenter_map(const kdas_segmenter *segmenter, int32_t i,
                                         int64_t *height, int64_t *width);

/* ---- Video --------------------------------------------------------------------------------------
 * Smoothing w: each sample of the network's map gets the probability w * past + (1 - w) * new,
 * which is the past of the next frame. It affects all four calls above. A sample that jumps from 0
 * to 1 passes 0.5 after log(0.5) / log(w) frames, whatever its logits.
 * Hysteresis h: a pixel of the frame becomes polyp at the threshold, and stays polyp while its
 * probability is at least h. The past is the last mask from kdas_segmenter_mask() or
 * kdas_segmenter_overlay().
 * The first frame has no past: it is computed as if both were off. A new frame size resets both. */

/* Reset smoothing and hysteresis, e.g. at a cut or a new video. KDAS_EINVAL. Since 0.2. */
KDAS_API kdas_status kdas_segmenter_reset(kdas_segmenter *segmenter);

/* ---- Deadline -----------------------------------------------------------------------------------
 * With options.frame_deadline, a call that would end later repeats the last result in its own form:
 * mask, probabilities or logits of the last frame that was computed, or its mask drawn into the
 * frame given. The call returns KDAS_OK. The clock starts when the call begins.
 * - A frame is repeated at once if more than half of the recent frames, which are at least three,
 *   took longer than the deadline.
 * - Else it is computed. It is given up, and repeated, at the first step of the network that begins
 *   after the deadline less the time that writing a result takes. A step is one operation; a device
 *   that runs the network as one graph (CUDA) has a single one.
 * - It is computed to its end, however long that takes, if there is nothing to repeat (the first
 *   frame, after kdas_segmenter_reset(), after a new frame size, after new weights), and after
 *   options.repeat_limit repeated frames in a row.
 * - Recent frames are the last 16 that were computed or given up; one that was given up counts as
 *   just above the deadline. If a frame is done in time although half of them were not, they are
 *   forgotten: a machine that is no longer busy is used again at once.
 * A repeated frame is no evidence: smoothing and hysteresis are as after the last computed one.
 * Errors are those of any frame. A cancel is KDAS_ECANCELLED, not a repeated frame. */

typedef enum kdas_repeat {
    KDAS_REPEAT_NONE      = 0, /* the result is the frame's own */
    KDAS_REPEAT_PREDICTED = 1, /* repeated at once: recent frames took too long */
    KDAS_REPEAT_LATE      = 2  /* computing had begun, and was given up */
} kdas_repeat;

/* Whether and why the last successful call repeated a result. NULL: KDAS_REPEAT_NONE.
 * Since 0.4. */
KDAS_API kdas_repeat kdas_segmenter_repeated(const kdas_segmenter *segmenter);

/* Seconds that the next frame probably takes: `share`, > 0 and <= 1, of the recent frames took no
 * longer (0.5: the median, 0.9: a careful guess). For a host that drops frames itself. 0 if there is
 * none yet, also without a deadline; NaN if an argument is wrong. With a deadline, a result just
 * above it means "longer than the deadline". Since 0.4. */
KDAS_API double kdas_segmenter_estimate(const kdas_segmenter *segmenter, double share);

/* ---- Timing ---------------------------------------------------------------------------------- */

typedef enum kdas_segmenter_stage {
    KDAS_STAGE_INPUT   = 0, /* resize, normalise */
    KDAS_STAGE_NETWORK = 1, /* forward, and download of the maps */
    KDAS_STAGE_OUTPUT  = 2, /* smoothing, resize to the frame, threshold, drawing */
    KDAS_STAGE_WHOLE   = 3  /* the whole call */
} kdas_segmenter_stage;
/* Number of stages in these headers; a newer library may have more (kdas_timing_report.stages). The
 * room of arrays in reports never changes. */
#define KDAS_STAGES     4
#define KDAS_STAGE_ROOM 8

/* Name of a stage, "input". Static; NULL if there is no such stage. Any thread. Since 0.4. */
KDAS_API const char *kdas_segmenter_stage_name(kdas_segmenter_stage stage);

#define KDAS_TIMING_WINDOW 1024 /* p50, p99 and max cover at most this many frames */

/* Wall-clock seconds by stage. Set `size` before the call. The first `stages` elements of each
 * array are valid, the others are 0. */
typedef struct kdas_timing_report {
    size_t size;
    /* Successful frames since opening or kdas_segmenter_timing_reset(), repeated ones excluded. */
    int64_t frames;
    int64_t window;                /* the last frames, which p50, p99 and max cover */
    double  last[KDAS_STAGE_ROOM]; /* all 0 before the first frame */
    double  p50[KDAS_STAGE_ROOM];  /* nearest rank: half of the frames took no longer */
    double  p99[KDAS_STAGE_ROOM];
    double  max[KDAS_STAGE_ROOM];
    int32_t stages;   /* number of stages in the library */
    int32_t reserved; /* 0 */
    /* With a deadline, over the same time as `frames`. Since 0.4. */
    int64_t overrun;      /* of `frames`: those that ended after the deadline */
    int64_t repeated;     /* frames that repeated a result; not in `frames` and the seconds above */
    int64_t given_up;     /* of `repeated`: those whose computing had begun */
    double  repeated_max; /* seconds of the longest call that repeated */
} kdas_timing_report;

/* Read the timing. Failed frames do not count. KDAS_EINVAL. Since 0.2. */
KDAS_API kdas_status kdas_segmenter_timing(kdas_segmenter *segmenter, kdas_timing_report *out);
/* Restart the timing, e.g. after warm-up frames. KDAS_EINVAL. Since 0.2. */
KDAS_API kdas_status kdas_segmenter_timing_reset(kdas_segmenter *segmenter);
KDAS_END
#endif

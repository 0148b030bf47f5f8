/* kdas/infer.h - segmenting frames with a trained network: fixed size, nothing allocated after opening. */
#ifndef KDAS_INFER_H
#define KDAS_INFER_H
#include <kdas/image.h>
#include <kdas/model.h>
KDAS_BEGIN

typedef struct kdas_segmenter kdas_segmenter;

typedef struct kdas_segmenter_options {
    size_t  size;
    int64_t height, width; /* of the network's input, multiples of 32; default 352 x 352 */
    int64_t frame_height,
        frame_width; /* of the frames; 0 (default): of any size, the first of a size allocates */
    float threshold; /* polyp is where the probability is at least this, 0..1; default 0.5 */
    /* For frames that follow each other; see kdas_segmenter_reset(). Since 0.2. */
    float   smoothing;  /* weight of the past in each probability, >= 0, < 1; default 0: none */
    float   hysteresis; /* what was polyp stays so down to this probability, > 0, <= threshold;
                       * default 0: the threshold alone decides */
    int32_t reserved;   /* 0 */
} kdas_segmenter_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_segmenter_options_init(kdas_segmenter_options *options, size_t size);

/* Open for a polyp_pvt model, which must outlive it; new weights of the model are used from then on. Runs it
 * once, so that a backward of an earlier forward is lost. KDAS_EINVAL (a model without one-channel maps, range),
 * KDAS_ESHAPE (sides that 32 does not divide), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_segmenter_create(kdas_segmenter **out, kdas_model *model,
                                           const kdas_segmenter_options *options);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_segmenter_destroy(kdas_segmenter *segmenter);

/* ---- A frame in, what is wanted out -----------------------------------------------------------------
 * Each call runs the network once. Frames are 8-bit, float or (since 0.4) YUV views of the host's memory; they
 * are resized to the network's size as kdas_batch_set does, and of grey pixels all three colours are made. A YUV
 * frame gives what its RGB8 pixels (kdas_view_convert) give, to the bit; its rows are converted as they are
 * resized. All work is shared out among the context's threads, nothing is allocated. All can fail with KDAS_EINVAL,
 * KDAS_ESHAPE (a frame of another size than stated), KDAS_ENUMERIC (weights that give NaN), KDAS_ECANCELLED,
 * KDAS_EBACKEND and, where the frames' size was not stated, KDAS_ENOMEM, and then leave `out` and the past as they
 * were. */

/* Logits P1 + P2 at the frame's size (height x width floats, bilinear, half-pixel). KDAS_EINVAL and others, see above.
 * Since 0.1. */
KDAS_API kdas_status kdas_segmenter_logits(kdas_segmenter *segmenter, const kdas_view *frame,
                                           float *out);
/* Mask at the frame's size, 0 and 255, one byte a pixel, rows `stride` bytes apart (0: packed; negative: `out`
 * is the top row and the others lie before it, here and below). KDAS_EINVAL and others. Since 0.1. */
KDAS_API kdas_status kdas_segmenter_mask(kdas_segmenter *segmenter, const kdas_view *frame,
                                         uint8_t *out, int64_t stride);
/* Probability times 255, rounded, likewise. KDAS_EINVAL and others. Since 0.1. */
KDAS_API kdas_status kdas_segmenter_probability(kdas_segmenter *segmenter, const kdas_view *frame,
                                                uint8_t *out, int64_t stride);
/* The frame (8-bit or YUV) with its mask as a tint, as kdas_image_overlay makes it: same pixel order, and all
 * bytes outside the mask are the frame's; of a YUV frame RGB8. Rows are `stride` bytes apart (0: packed). `out`
 * may be the frame's own memory, with its stride: a YUV frame is then drawn on in its planes, and no plane is
 * converted. `options` may be NULL (defaults). KDAS_EINVAL and others. Since 0.2. */
KDAS_API kdas_status kdas_segmenter_overlay(kdas_segmenter *segmenter, const kdas_view *frame,
                                            void *out, int64_t stride,
                                            const kdas_overlay_options *options);

/* Map `i` of the last such call, shallow to deep: (height,width) logits of the network's output, before their sum and
 * not smoothed. The segmenter's memory, until the next call that runs it. Either side may be NULL. NULL: past
 * the last map. Since 0.4. */
KDAS_API const float *kdas_segmenter_map(const kdas_segmenter *segmenter, int32_t i,
                                         int64_t *height, int64_t *width);

/* ---- Frames that follow each other ------------------------------------------------------------------
 * With smoothing w, each sample of the network's map takes the probability w * past + (1 - w) * new, and that is
 * the next frame's past; all four calls above speak of it. A sample that jumps from 0 to 1 passes 0.5 after
 * log(0.5) / log(w) frames, whatever the logits. With hysteresis h, a pixel of the frame becomes polyp at the
 * threshold and stays so while its probability is at least h; the past is the last mask, made by
 * kdas_segmenter_mask or kdas_segmenter_overlay. The first frame has no past and comes out as if both were off,
 * and so does one of another size than the last. */

/* Forget the past: at a cut, or when another video begins. KDAS_EINVAL. Since 0.2. */
KDAS_API kdas_status kdas_segmenter_reset(kdas_segmenter *segmenter);

/* ---- How long it takes ------------------------------------------------------------------------------ */

typedef enum kdas_segmenter_stage {
    KDAS_STAGE_INPUT   = 0, /* resize, normalise                                    */
    KDAS_STAGE_NETWORK = 1, /* and the maps' way back from the device               */
    KDAS_STAGE_OUTPUT  = 2, /* smoothing, enlarging, threshold, what the call makes */
    KDAS_STAGE_WHOLE   = 3  /* from the beginning of the call to its end            */
} kdas_segmenter_stage;
/* Those that these headers name (a later library may have more: kdas_timing_report.stages), and the room of the arrays in
 * a report, which never changes. */
#define KDAS_STAGES     4
#define KDAS_STAGE_ROOM 8

/* Name of a stage, "input". Static; NULL: the library has no such stage. Any thread. Since 0.4. */
KDAS_API const char *kdas_segmenter_stage_name(kdas_segmenter_stage stage);

#define KDAS_TIMING_WINDOW 1024 /* frames that are remembered */

/* Set `size` before the call. Seconds of the clock on the wall, by stage; the first `stages` elements of an array mean
 * something and the others are 0. */
typedef struct kdas_timing_report {
    size_t  size;
    int64_t frames; /* that came out since opening or kdas_segmenter_timing_reset() */
    int64_t window; /* the last of them, which p50, p99 and max speak of            */
    double  last[KDAS_STAGE_ROOM]; /* all 0 before the first frame                             */
    double  p50[KDAS_STAGE_ROOM];  /* nearest rank: half of the frames took no longer          */
    double  p99[KDAS_STAGE_ROOM];
    double  max[KDAS_STAGE_ROOM];
    int32_t stages;   /* that the library has */
    int32_t reserved; /* 0 */
} kdas_timing_report;

/* Frames that failed do not count. KDAS_EINVAL. Since 0.2. */
KDAS_API kdas_status kdas_segmenter_timing(kdas_segmenter *segmenter, kdas_timing_report *out);
/* Begin to count anew, after frames that warmed the caches up, say. KDAS_EINVAL. Since 0.2. */
KDAS_API kdas_status kdas_segmenter_timing_reset(kdas_segmenter *segmenter);
KDAS_END
#endif

/* segmenter.h - the inside of kdas_segmenter. */
#ifndef KD_SEGMENTER_H
#define KD_SEGMENTER_H
#include <kdas/infer.h>
#include "infer/deadline.h"
#include "infer/frame.h"
#include "infer/timing.h"
#include "model/model.h"

#define KD_MAX_MAPS 8

/* Seconds that never go back. */
typedef double (*kd_clock_fn)(void *user);

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
    float                 *map[KD_MAX_MAPS]; /* (map_height,map_width) logits of the last run */
    float                 *sum;      /* of the answer's maps, smoothed, of the last result     */
    float                 *fresh;    /* the same in the making                                 */
    float                 *past;     /* smoothed probabilities; NULL: no smoothing             */
    bool                   has_past; /* `past` is of this video                                */
    bool                   has_sum;  /* `sum` is a result of this video, and can be repeated   */
    uint64_t               version;  /* of the weights that it was computed with               */
    kd_timing              timing;
    double                 at[KDAS_STAGES]; /* when the stages of this run began */
    kd_deadline            deadline;
    kdas_repeat            repeats, repeated; /* this call; the last successful one */
    bool                   gave_up;           /* the engine was told to stop        */
    kd_clock_fn            clock;
    void                  *clock_user;
};

/* What the host leaves open is taken from the weights. (settings.c) */
kdas_status kd_segmenter_settle(kdas_segmenter_options *options, kdas_model *model);

/* Whether the segmenter takes frames of that size and kind. */
kdas_status kd_segmenter_check_frame(const kdas_segmenter *s, const kdas_view *frame);
/* A call: from a frame to s->sum, or s->repeats says that it stays as it is; then the caller writes
 * its output, and ends. A call that fails to begin has ended. */
kdas_status kd_segmenter_begin(kdas_segmenter *s, const kdas_view *frame);
double      kd_segmenter_end(kdas_segmenter *s); /* seconds of the call */
/* A computed frame took so long. */
void kd_segmenter_learn(kdas_segmenter *s, double seconds);

/* A test's own clock. */
void kd_segmenter_set_clock(kdas_segmenter *s, kd_clock_fn clock, void *user);

#endif

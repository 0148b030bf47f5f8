/* kdas/train.h - the run: one call that trains from datasets, validates, and keeps its files. */
#ifndef KDAS_TRAIN_H
#define KDAS_TRAIN_H
#include <kdas/distill.h>
#include <kdas/metric.h>
KDAS_BEGIN

/* What a run tells its host. */
typedef enum kdas_event { KDAS_EVENT_STEP = 0, KDAS_EVENT_EPOCH = 1 } kdas_event;

/* State of a run when an event happens; valid during the call. The library sets `size`: of the state, and of the
 * report in it. */
typedef struct kdas_train_state {
    size_t                  size;
    int32_t                 event;   /* kdas_event                                                */
    int32_t                 is_best; /* EPOCH: this one is the best                               */
    int64_t                 epoch, epochs;     /* current (from 1) and planned                 */
    int64_t                 batch, batches;    /* within the epoch (from 1)                    */
    int64_t                 step, steps;       /* of the run; steps: planned                   */
    const kdas_step_report *report;            /* of the last step                             */
    double                  mean_total;        /* mean loss of the epoch so far                */
    double                  images_per_second; /* of the epoch's steps so far                 */
    double                  seconds, seconds_left; /* since the call, and likely to come          */
    double                  waited;          /* seconds spent waiting for data               */
    double                  validation_dice; /* EPOCH: mean Dice at 0.5; -1 without validation */
    double                  validation_loss; /* EPOCH: its objective's segmentation term      */
    double                  best_dice;       /* so far; -1: none yet                        */
    int64_t                 best_epoch;
    int64_t                 skipped; /* updates of the run skipped for overflow. Since 0.3 */
    int32_t stopped_early; /* EPOCH: the run ends here, for want of a better one. Since 0.4   */
    int32_t reserved;      /* 0                                                                */
} kdas_train_state;

/* Return 0 to go on; anything else ends the run after this step, checkpoint included. */
typedef int32_t (*kdas_train_fn)(void *user, const kdas_train_state *state);

typedef struct kdas_train_options {
    size_t      size;
    int64_t     epochs;     /* >= 1; default 20                                                   */
    int64_t     max_steps;  /* stop after so many steps, 0 (default): no limit                    */
    const char *out;        /* folder for last.kdas, best.safetensors, log.csv; NULL: no files    */
    int64_t     save_every; /* steps between checkpoints beside those at epochs' ends; 0: none    */
    int64_t     height, width; /* of validation frames; default: the loader's                     */
    uint64_t    seed;       /* noted in the checkpoint; a resume with another is refused          */
    const char *notes;      /* kept in the checkpoint, e.g. the command line                      */
    kdas_train_fn progress; /* may be NULL                                                        */
    void         *user;
    /* Guidance rises linearly from 0 over the first ramp_up epochs and falls to 0 over the last ramp_down;
     * >= 0, fractions allowed; defaults 0: it is whole throughout. Since 0.4. */
    double ramp_up, ramp_down;
    int64_t
        patience; /* end after so many epochs without a better one; 0 (default): never. Since 0.4 */
    /* 1 (default): where the distiller keeps a moving average of the student, that is validated and kept as best;
     * 0: the student itself is. Since 0.4. */
    int32_t evaluate_ema;
    int32_t resume; /* continue from out/last.kdas if it is there; default 0 */
} kdas_train_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_train_options_init(kdas_train_options *options, size_t size);

/* Train the distiller's student on the loader's batches, from its first one on. After each epoch `validation`
 * (may be NULL: then the last epoch counts as best) is segmented and the student kept if its mean Dice at 0.5 is
 * the best so far; the validation set is the only one that decides. An epoch that max_steps cuts short is
 * validated too, and finished by a later resume. log.csv has a line for each epoch: means over its steps, and since
 * 0.3 the loss scale and the updates that overflow has made the run skip so far (kdas_optim_options.loss_scale).
 *
 * With `patience` the run ends well (KDAS_OK, stopped_early) once so many epochs after the best one have been no
 * better; it needs a validation set. Resumed, it does nothing, unless with more patience. last.kdas has the student
 * and its average, best.safetensors the one that was validated. Since 0.4.
 *
 * With `resume` the file is read and compared first, and only then anything is changed: a resume that is refused, for
 * whatever reason, leaves the distiller and the loader's position as they were. Beside what kdas_checkpoint_load()
 * compares, these are records "run." of the checkpoint: seed, hashes of the frames of both sets, teacher and a hash of its
 * values, the loader's options but for workers, ramps. docs/training.md has the table of what is refused and what is said
 * in the log. Since 0.4.
 *
 * A cancel of the context, or a callback that does not return 0, finishes the step, saves, and ends the run with
 * KDAS_ECANCELLED unless it was complete; resume goes on from there, with the same bits as an unbroken run. A NaN
 * loss ends it with KDAS_ENUMERIC, files as of the last good checkpoint. KDAS_EIO before the first step: `out`
 * cannot be made or written to. KDAS_EINVAL (range; a checkpoint of another run; frames without masks and neither a
 * teacher nor its maps, or in the validation set), KDAS_ESHAPE. Since 0.1. */
KDAS_API kdas_status kdas_train(kdas_distiller *distiller, kdas_loader *loader,
                                kdas_dataset *validation, const kdas_train_options *options);
/* Segment the frames of `dataset` (the first `limit` of them, 0: all), each by itself at the network's height x
 * width and judged at its own size, and collect the figures in `evaluator`. KDAS_EINVAL (a model without maps),
 * KDAS_ESHAPE (sides), KDAS_ENUMERIC, KDAS_ECANCELLED; a frame's error names it. Since 0.1. */
KDAS_API kdas_status kdas_evaluate(kdas_evaluator *evaluator, kdas_model *model,
                                   kdas_dataset *dataset, int64_t height, int64_t width,
                                   int64_t limit);
/* kdas_evaluate(), and in *mean_loss the mean over those frames of the segmentation term that `loss` has, unweighted,
 * of the network's maps against the mask at height x width. Its other terms are not evaluated, and it is not changed: it
 * may be the distiller's. KDAS_EINVAL (no frames). On failure *mean_loss is untouched. Since 0.4. */
KDAS_API kdas_status kdas_evaluate_loss(kdas_evaluator *evaluator, kdas_model *model,
                                        kdas_dataset *dataset, int64_t height, int64_t width,
                                        int64_t limit, kdas_loss *loss, double *mean_loss);
KDAS_END
#endif

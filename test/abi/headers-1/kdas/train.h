/* kdas/train.h - a training run: one call that trains, validates and writes its files. */
#ifndef KDAS_TRAIN_H
#define KDAS_TRAIN_H
#include <kdas/distill.h>
#include <kdas/metric.h>
KDAS_BEGIN

/* Events of a run. */
typedef enum kdas_event { KDAS_EVENT_STEP = 0, KDAS_EVENT_EPOCH = 1 } kdas_event;

/* State of a run at an event; valid during the callback. The library sets `size`, here and in the
 * report. */
typedef struct kdas_train_state {
    size_t                  size;
    int32_t                 event;                 /* kdas_event */
    int32_t                 is_best;               /* EPOCH: this epoch is the best so far */
    int64_t                 epoch, epochs;         /* current (from 1); planned */
    int64_t                 batch, batches;        /* within the epoch (from 1); in total */
    int64_t                 step, steps;           /* current in the run; planned */
    const kdas_step_report *report;                /* of the last step */
    double                  mean_total;            /* mean loss of the epoch so far */
    double                  images_per_second;     /* in the epoch so far */
    double                  seconds, seconds_left; /* since the call; left (estimate) */
    double                  waited;                /* seconds spent waiting for data */
    double                  validation_dice; /* EPOCH: mean Dice at 0.5; -1 without validation */
    double                  validation_loss; /* EPOCH: segmentation term on the validation set */
    double                  best_dice;       /* so far; -1: none yet */
    int64_t                 best_epoch;
    int64_t                 skipped;       /* updates skipped for overflow in this run. Since 0.3 */
    int32_t                 stopped_early; /* EPOCH: the run ends here by `patience`. Since 0.4 */
    int32_t                 reserved;      /* 0 */
} kdas_train_state;

/* Return 0 to continue. Any other value ends the run after this step and its checkpoint. */
typedef int32_t (*kdas_train_fn)(void *user, const kdas_train_state *state);

typedef struct kdas_train_options {
    size_t        size;
    int64_t       epochs;    /* >= 1; default 20 */
    int64_t       max_steps; /* stop after this many steps; 0 (default): no limit */
    const char   *out; /* folder of last.kdas, run.json, best.safetensors, log.csv; NULL: none */
    int64_t       save_every;    /* steps between extra checkpoints within an epoch; 0: none */
    int64_t       height, width; /* of validation frames; default: the loader's */
    uint64_t      seed;          /* stored in the checkpoint; resume refuses another one */
    const char   *notes;         /* stored in checkpoint and run.json, e.g. the command line */
    kdas_train_fn progress;      /* may be NULL */
    void         *user;
    /* Guidance rises linearly from 0 over the first ramp_up epochs, and falls to 0 over the last
     * ramp_down. >= 0, fractions allowed. Default 0: constant. Since 0.4. */
    double ramp_up, ramp_down;
    /* Stop after this many epochs without a better one; 0 (default): never. Since 0.4. */
    int64_t patience;
    /* Which model is validated and saved as best: 1 (default), the moving average of the student if
     * the distiller keeps one; 0, the student. Since 0.4. */
    int32_t evaluate_ema;
    int32_t resume; /* continue from out/last.kdas if it exists; default 0 */
    /* Last epochs in which the ranges of a student on grids (kdas_model_options.quantize) stay as
     * they are, fractions allowed; 0 to below `epochs`. Default 0: they move to the end. Since
     * 0.4. */
    double freeze_ranges;
} kdas_train_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_train_options_init(kdas_train_options *options, size_t size);

/* A folder that is held for runs. kdas_train() holds `out` by itself for as long as it runs. A host
 * opens one if it also keeps files of its own there, or does several runs in it. */
typedef struct kdas_run_folder kdas_run_folder;
/* Make the folder `path`, with those above it, and hold it: until kdas_run_folder_destroy(), no
 * other context and no other process can open it or train into it. This context can, any number of
 * times. Folders in it are not held. The hold is a lock (flock) on the file ".kdas-lock" in the
 * folder, which ends with the process, even if it is killed, and which a forked child does not
 * have. On file systems without locks the folder is not held; a line in the log says so. If the
 * folder is removed or renamed meanwhile, one that is made anew under its name is not held.
 * Temporary files of last.kdas, best.safetensors, log.csv and run.json ("last.kdas.tmp-PID-N") that
 * a killed process has left are removed; those of a living process stay.
 * KDAS_ESTATE: held by another; the message has its process id, and its host if it is another one.
 * KDAS_EIO: it cannot be made or written. KDAS_EINVAL (NULL). Since 0.4. */
KDAS_API kdas_status kdas_run_folder_open(kdas_run_folder **out, kdas_context *context,
                                          const char *path);
/* NULL is fine. Since 0.4. */
KDAS_API void kdas_run_folder_destroy(kdas_run_folder *folder);

/* Train the distiller's student on the loader's batches, from the loader's first batch on. After
 * each epoch the frames of `validation` are segmented, and the student is saved as best if its mean
 * Dice at 0.5 is the highest so far. `validation` may be NULL: then the last epoch counts as best.
 * Only the validation set decides. An epoch cut short by max_steps is validated too; a later resume
 * finishes it. log.csv has one line per epoch: means over its steps and, since 0.3, the loss scale
 * and the number of updates skipped for overflow (kdas_optim_options.loss_scale).
 *
 * Facts (since 0.4): the run writes what it knows into the student's facts (kdas_model_fact), and
 * so into best.safetensors and last.kdas; what the host has set stays. run.json, beside each
 * last.kdas, says what the run was made with. docs/training.md has both.
 *
 * Grids (since 0.4): a student on 8-bit grids is trained, validated and saved as such; its empty
 * ranges are set by the first batch. docs/int8.md has more.
 *
 * Patience (since 0.4): the run ends with KDAS_OK and stopped_early when that many epochs have
 * passed since the best one. It needs a validation set. Resuming such a run does nothing, unless
 * patience is raised. last.kdas holds the student and its average; best.safetensors holds the one
 * that was validated.
 *
 * Resume (since 0.4): the checkpoint is read and compared before anything changes. A refused resume
 * leaves the distiller and the loader's position unchanged. Besides what kdas_checkpoint_load()
 * compares, these "run." records are compared: seed, hashes of the frames of both sets, teacher and
 * a hash of its values, ramps, and the loader's options except workers. docs/training.md lists
 * which differences are refused and which are only logged.
 *
 * Cancelling the context, or a non-zero result of the callback, finishes the step, saves, and
 * returns KDAS_ECANCELLED unless the run was complete. A resume continues with the same bits as an
 * unbroken run. A loss or a weight that is not finite returns KDAS_ENUMERIC; the files stay as of
 * the last good checkpoint.
 * Ranks (since 0.4): loader and distiller have the same (else KDAS_EINVAL), all ranks call, and all
 * return the same status. They agree on data, settings and the student's values before the first step
 * (KDAS_EINVAL: the sentence names what differs); rank 0 alone has `out`; frames of `validation` are
 * shared; a stop or failure of one is that of all. If a rank is lost, the others return KDAS_EBACKEND,
 * and rank 0 saves the state after the last whole update. A resume may have another number of ranks
 * where ranks times batch is the same. docs/training.md has more.
 *
 * KDAS_EIO before the first step: `out` cannot be created or written. KDAS_ESTATE (since 0.4):
 * another run writes into `out` (kdas_run_folder_open), before the first step, or, if `out` was
 * removed or renamed and made anew, at the next file; a student on grids whose ranges are empty,
 * and which nothing sets (range_momentum 0, kdas_model_hold_ranges). A call that fails before its first last.kdas
 * leaves the student as its last step left it. KDAS_EINVAL: range; a checkpoint of another run;
 * frames without masks in the validation set, or in training with neither a teacher nor its maps.
 * KDAS_ESHAPE, before the first step: a network does not take the size of validation, or of the
 * loader at one of its scales. Since 0.1. */
KDAS_API kdas_status kdas_train(kdas_distiller *distiller, kdas_loader *loader,
                                kdas_dataset *validation, const kdas_train_options *options);
/* Segment the first `limit` frames of `dataset` (0: all) and add them to `evaluator`. Each frame is
 * run alone at the network's height x width, and its metrics are computed at the frame's own size.
 * Both 0 (since 0.4): the size that the weights were trained for, as kdas_segmenter_options has it.
 * KDAS_EINVAL (a model without maps), KDAS_ESHAPE (sides), KDAS_ENUMERIC (a weight or a logit is
 * not finite), KDAS_ECANCELLED; the message names the frame, or the tensor. On failure no frame is
 * added: here and below, the call sets the evaluator's mark (kdas_evaluator_mark). An evaluator that is
 * shared (kdas_evaluator_share, since 0.4) makes these calls collective: each rank has the same frames
 * and takes a part of them; the first that fails anywhere fails all. Since 0.1. */
KDAS_API kdas_status kdas_evaluate(kdas_evaluator *evaluator, kdas_model *model,
                                   kdas_dataset *dataset, int64_t height, int64_t width,
                                   int64_t limit);
/* Add the first `limit` predictions of `dataset` (0: all), each with its mask, to `evaluator`. The
 * dataset comes from kdas_dataset_open_predictions(): its images, as grey, are the predictions.
 * KDAS_EINVAL (a frame without a mask), KDAS_ECANCELLED, and as kdas_dataset_get(); the message
 * names the frame. Since 0.4. */
KDAS_API kdas_status kdas_evaluate_predictions(kdas_evaluator *evaluator, kdas_dataset *dataset,
                                               int64_t limit);
/* kdas_evaluate(), and also *mean_loss: the mean over these frames of the segmentation term of
 * `loss`, unweighted, between the network's maps and the mask at height x width. No other term is
 * evaluated. `loss` does not change, so it may be the distiller's. KDAS_EINVAL (no frames), and as
 * kdas_evaluate(). On failure *mean_loss is unchanged. Since 0.4. */
KDAS_API kdas_status kdas_evaluate_loss(kdas_evaluator *evaluator, kdas_model *model,
                                        kdas_dataset *dataset, int64_t height, int64_t width,
                                        int64_t limit, kdas_loss *loss, double *mean_loss);
KDAS_END
#endif

/* kdas/distill.h - one distillation step, whole or in phases, and its checkpoint. */
#ifndef KDAS_DISTILL_H
#define KDAS_DISTILL_H
#include <kdas/loss.h>
#include <kdas/model.h>
#include <kdas/optim.h>
KDAS_BEGIN

typedef struct kdas_distiller kdas_distiller;

typedef struct kdas_distiller_options {
    size_t  size;
    int32_t accumulate; /* micro-batches whose mean gradient makes one update, >= 1; default 1 */
    /* Measure what each term sends (kdas_loss_report.gradient); default 1. Where KD and SGM share their
     * attention, 0 spares a second backward of it. With kdas_loss_options.share they are measured in any case. */
    int32_t gradient_norms;
    /* Decay of a moving average of the student's tensors, 0 <= ema < 1; after update t it is at most
     * (1 + t) / (10 + t). 0 (default): none is kept. Since 0.4. */
    float   ema;
    int32_t reserved; /* 0 */
} kdas_distiller_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_distiller_options_init(kdas_distiller_options *options, size_t size);

/* Pair a student with its teacher, objective and optimizer; all outlive the distiller. `teacher` is frozen: run
 * for inference, never changed; NULL: the objective needs none, or the host hands its maps in. The two models
 * share no memory but the batch. The optimizer must be the student's. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1.
 * Since 0.4: maps of another number than the student's guide it as kdas_loss_evaluate() says; a model without maps of
 * one channel can give features, or learn them alone. With kdas_loss_options.feature the paired taps of both models are
 * kept (as by kdas_model_keep_tap) and `optim` trains the projections until the distiller is destroyed, one
 * distiller's at a time. Refused with a sentence: features without a teacher model (KDAS_EINVAL), a tap that does not
 * exist (KDAS_ENOTFOUND), pairs that are none (KDAS_EINVAL). */
KDAS_API kdas_status kdas_distiller_create(kdas_distiller **out, kdas_model *teacher,
                                           kdas_model *student, kdas_loss *loss, kdas_optim *optim,
                                           const kdas_distiller_options *options);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_distiller_destroy(kdas_distiller *distiller);

/* What it was made of; NULL where there is no teacher model, and for NULL. Since 0.4. */
KDAS_API kdas_model *kdas_distiller_teacher(const kdas_distiller *distiller);
KDAS_API kdas_model *kdas_distiller_student(const kdas_distiller *distiller);
KDAS_API kdas_loss  *kdas_distiller_loss(const kdas_distiller *distiller);
KDAS_API kdas_optim *kdas_distiller_optim(const kdas_distiller *distiller);
/* The options that it was made with, defaults filled in. Set `size` first, as kdas_distiller_options_init() does.
 * KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_distiller_get_options(const kdas_distiller   *distiller,
                                                kdas_distiller_options *options);

/* Where a step's time goes: until a part was handed over, or waited for, where a device works beside the host. Since
 * 0.4. */
typedef enum kdas_step_part {
    KDAS_STEP_TEACHER   = 0,
    KDAS_STEP_STUDENT   = 1, /* its forward                */
    KDAS_STEP_OBJECTIVE = 2, /* and the student's backward */
    KDAS_STEP_UPDATE    = 3
} kdas_step_part;
/* Those that these headers name (a later library may have more: kdas_step_report.parts), and the room of the array in a
 * report, which never changes. */
#define KDAS_STEP_PARTS     4
#define KDAS_STEP_PART_ROOM 8

/* What a step found. Set `size`. Of arrays by kdas_term the first `terms` elements mean something, of those by
 * kdas_step_part the first `parts`; the others are 0. */
typedef struct kdas_step_report {
    size_t size;
    double total; /* as in kdas_loss_report */
    double raw[KDAS_TERM_ROOM];
    double weighted[KDAS_TERM_ROOM];
    double gradient[KDAS_TERM_ROOM];
    double seconds[KDAS_STEP_PART_ROOM];
    double lr; /* of the update that this step made, or will make */
    double
        loss_scale; /* of this step's gradients; losses and norms are without it. Since 0.3        */
    int32_t updated; /* whether this step ended with an update                              */
    int32_t skipped; /* whether its update was skipped, for overflow at that scale. Since 0.3 */
    int32_t terms, parts; /* that the library has. Since 0.4 */
} kdas_step_report;

/* A whole step on the batch: forward, backward, and after every `accumulate`-th batch an update. Images without a
 * label (kdas_batch_set_labelled, since 0.4) learn from the teacher, also where the objective has no guidance:
 * KDAS_ESTATE if there is none.
 * The batch is uploaded, or found where kdas_batch_prefetch() has put it, and settled (kdas_batch_settle) with the
 * backward; one of another context than the distiller's is uploaded by each network. A batch without masks
 * (kdas_batch_wrap) and an objective with a segmentation term: KDAS_EINVAL.
 * `report` may be NULL. Then a device with memory of its own is read only for whether the gradients are finite, with
 * an update, and for the norms that a share needs; the loss is not checked.
 * An update that overflows at the optimizer's loss scale is skipped, and its gradients are dropped
 * (kdas_optim_options.loss_scale). KDAS_ENUMERIC: the loss is not finite, or a gradient for another reason than the
 * scale. After the first step of a size nothing is allocated.
 * All or nothing: where the student's forward fails, or what comes before it, nothing has changed. Where backward or
 * update fail (KDAS_ENUMERIC, KDAS_ECANCELLED and others), the micro-batches since the last update are dropped: their
 * gradients, and what they did to running statistics, counters, random state and the means of a share. A device that
 * fails amid an update (KDAS_EBACKEND) may leave a part of it. Since 0.1. */
KDAS_API kdas_status kdas_distiller_step(kdas_distiller *distiller, kdas_batch *batch,
                                         kdas_step_report *report);

/* The phases, for hosts that want to act between them: forward, then backward, then update. Skipping an update
 * keeps gathering gradients; kdas_model_zero_gradients(student) drops them. The batch of a forward stays as it is until
 * its backward, which may read it. The guidance factor
 * (kdas_loss_set_guidance_factor) is read by forward, and holds for its backward. A phase that fails leaves what a step
 * that fails there would. KDAS_ESTATE, and nothing has changed: out of order, or, since 0.4, the batch was changed by a
 * call or destroyed; or what the forward left is
 * gone, because student or teacher has run since, has a new tap to keep, or has made its memory grow for a larger size
 * (kdas_model_memory, kdas_segmenter_create); or the gradients of the update were zeroed. Since 0.1. */
KDAS_API kdas_status kdas_distiller_forward(kdas_distiller *distiller, kdas_batch *batch);
KDAS_API kdas_status kdas_distiller_backward(kdas_distiller *distiller, kdas_step_report *report);
KDAS_API kdas_status kdas_distiller_update(kdas_distiller *distiller, kdas_step_report *report);

/* The host's own teacher: its maps for the batch of the coming forward, copied by this call; 1 to 8 of them, and
 * kdas_loss_evaluate() says which guides which. Call it before each forward if there is no teacher model and the
 * batch has no maps (kdas_batch_set_teacher: one map, which guides every output; since 0.4). KDAS_EINVAL, KDAS_ESHAPE,
 * KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_distiller_set_teacher_maps(kdas_distiller  *distiller,
                                                     const kdas_maps *maps);

/* Write the moving average of the student (kdas_distiller_options.ema) into `to`, a model of the same name, of
 * any context. Parameters and running statistics are averaged alike, over the updates that were made; counters of
 * batches are the student's. Before the first update it is the student itself. KDAS_EINVAL (another model),
 * KDAS_ESTATE (no average is kept), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_distiller_read_average(kdas_distiller *distiller, kdas_model *to);

/* ---- Checkpoint ---------------------------------------------------------------------------------- */

/* Values of the host that travel in a checkpoint: epoch, sampler position, best score, ... */
typedef struct kdas_progress {
    size_t   size;
    int64_t  epoch;    /* whole epochs done                                  */
    int64_t  position; /* batches given out by the loader: kdas_loader_seek  */
    uint64_t seed;     /* of the run                                         */
    double   best;     /* best validation score so far                       */
    int64_t  best_epoch;
} kdas_progress;

/* Write student, its average if one is kept, optimizer state, step counts, random state, options and progress; to
 * a temporary file, synced and renamed, so that a kill leaves the last good one. `notes` (may be NULL) is kept as
 * text, e.g. the command line. KDAS_EINVAL, KDAS_EIO, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_checkpoint_save(const kdas_distiller *distiller, const char *path,
                                          const kdas_progress *progress, const char *notes);
/* Read it back into a distiller made alike: all of it is read and compared before anything is changed, and nothing is
 * changed where it is refused. What differs is refused, or taken from the file or from the distiller and logged as a
 * warning; docs/training.md has the table. In short: model, drop path, rule, objective and pairs of features must be
 * the same; the optimizer goes on with the checkpoint's options, but for the lengths of its schedule (`total` unless 0,
 * `step_every`, `warmup`), which are the distiller's, so that a run can be made longer; precision, decay of the average
 * and, between updates, `accumulate` are the distiller's. A moving average that the file lacks begins at the student
 * with the next update (logged). Files of earlier versions lack some of it, which is passed over and logged.
 * `progress` may be NULL.
 * KDAS_ENOTFOUND (no such file), KDAS_EIO, KDAS_EFORMAT (not a checkpoint, cut off, damaged), KDAS_EINVAL (of
 * another run: the sentence says what differs), KDAS_ENOMEM. A run resumed at a step's end gives the same bits as an
 * unbroken one in the same precision. Since 0.1. */
KDAS_API kdas_status kdas_checkpoint_load(kdas_distiller *distiller, const char *path,
                                          kdas_progress *progress);

/* A value of the host's own in a checkpoint: a text, or numbers. What a host compares before it goes on (its data, its
 * settings), or wants back (its sums). Names that begin with "run." are those of kdas_train(), which docs/training.md
 * lists. Plain value: fill every member. Since 0.4. */
typedef struct kdas_record {
    const char   *name; /* 1 to 200 of A-Z a-z 0-9 . _ -; a checkpoint has one record of a name */
    const char   *text; /* UTF-8; NULL: it is numbers                                         */
    const double *numbers; /* they come back bit by bit; NULL: it is a text                      */
    int64_t       count;   /* of the numbers, 1 to 2^20; 0 for a text                             */
} kdas_record;

/* kdas_checkpoint_save() with `count` records of the host's own, at most 1000. KDAS_EINVAL (a record that breaks the rules
 * above; it is named). Since 0.4. */
KDAS_API kdas_status kdas_checkpoint_save_records(const kdas_distiller *distiller, const char *path,
                                                  const kdas_progress *progress, const char *notes,
                                                  const kdas_record *records, int64_t count);

/* kdas_checkpoint_load() in two calls, for hosts that look first: open, read what is wanted, then restore, or not.
 * A handle holds the file open; what it gives lives as long as it does. */
typedef struct kdas_checkpoint kdas_checkpoint;

/* Open a file and check all of it. KDAS_ENOTFOUND, KDAS_EIO, KDAS_EFORMAT, KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_checkpoint_open(kdas_checkpoint **out, kdas_context *context,
                                          const char *path);
/* NULL is fine. Since 0.4. */
KDAS_API void kdas_checkpoint_destroy(kdas_checkpoint *checkpoint);
/* The host's values; set `size`. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_checkpoint_progress(const kdas_checkpoint *checkpoint,
                                              kdas_progress         *progress);
/* The notes, "" if there are none (NULL: NULL). Since 0.4. */
KDAS_API const char *kdas_checkpoint_notes(const kdas_checkpoint *checkpoint);
/* The host's record of that name, or NULL: there is none. Record `i`, in byte order of the names; NULL past the last
 * and for NULL.
 * Since 0.4. */
KDAS_API const kdas_record *kdas_checkpoint_find(const kdas_checkpoint *checkpoint,
                                                 const char            *name);
KDAS_API const kdas_record *kdas_checkpoint_record(const kdas_checkpoint *checkpoint, int64_t i);
/* Put its state into a distiller made alike, or refuse, as kdas_checkpoint_load() does. What can fail comes before the
 * first change; only a device that breaks down meanwhile (KDAS_EBACKEND) leaves a mixture. Since 0.4. */
KDAS_API kdas_status kdas_checkpoint_restore(kdas_checkpoint *checkpoint,
                                             kdas_distiller  *distiller);
KDAS_END
#endif

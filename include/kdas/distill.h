/* kdas/distill.h - a distillation step, whole or in phases, and checkpoints. */
#ifndef KDAS_DISTILL_H
#define KDAS_DISTILL_H
#include <kdas/loss.h>
#include <kdas/model.h>
#include <kdas/optim.h>
#include <kdas/ranks.h>
KDAS_BEGIN

typedef struct kdas_distiller kdas_distiller;

typedef struct kdas_distiller_options {
    size_t  size;
    int32_t accumulate; /* micro-batches per update; their mean gradient is used; >= 1; default 1 */
    /* Measure the gradient norm of each term (kdas_loss_report.gradient); default 1. With 0, KD and
     * SGM share the backward of their common attention. With kdas_loss_options.share norms are
     * always measured. */
    int32_t gradient_norms;
    /* Decay of a moving average of the student's tensors, 0 <= ema < 1; after update t it is at
     * most (1 + t) / (10 + t). 0 (default): no average. Since 0.4. */
    float   ema;
    int32_t reserved; /* 0 */
    /* Ranks that train the same student, each on its own images: a step is then collective. NULL
     * (default): alone. See "Ranks" below. Since 0.4. */
    kdas_ranks *ranks;
} kdas_distiller_options;
/* Write the defaults; pass sizeof *options. Since 0.1. */
KDAS_API void kdas_distiller_options_init(kdas_distiller_options *options, size_t size);

/* Pair a student with its teacher, objective and optimizer; all must outlive the distiller. The
 * optimizer must be the student's. `teacher` is frozen: it runs inference only. It may be NULL if
 * the objective needs none or the host supplies its maps. The models share no memory except the
 * batch. KDAS_EINVAL, KDAS_ENOMEM. Since 0.1.
 *
 * Since 0.4: the models may have different numbers of maps; kdas_loss_options.pair says how they
 * are paired. A model without one-channel maps can still be the teacher or the student of features.
 * With kdas_loss_options.feature, the paired taps of both models are kept (as by
 * kdas_model_keep_tap), and `optim` trains the projections, until the distiller is destroyed; an
 * optimizer trains those of one distiller at a time. Taps may stay kept where it fails. Errors:
 * KDAS_EINVAL (features without a teacher model, or invalid pairs), KDAS_ENOTFOUND (no such tap),
 * KDAS_ESHAPE (both networks take only one size, and not the same: kdas_network.fixed). A step
 * refuses a batch of a size that a network does not take, before anything runs. */
KDAS_API kdas_status kdas_distiller_create(kdas_distiller **out, kdas_model *teacher,
                                           kdas_model *student, kdas_loss *loss, kdas_optim *optim,
                                           const kdas_distiller_options *options);
/* NULL is fine. Since 0.1. */
KDAS_API void kdas_distiller_destroy(kdas_distiller *distiller);

/* The objects it was created with. NULL if there is no teacher model, and for NULL. Since 0.4. */
KDAS_API kdas_model *kdas_distiller_teacher(const kdas_distiller *distiller);
KDAS_API kdas_model *kdas_distiller_student(const kdas_distiller *distiller);
KDAS_API kdas_loss  *kdas_distiller_loss(const kdas_distiller *distiller);
KDAS_API kdas_optim *kdas_distiller_optim(const kdas_distiller *distiller);
/* Read the options it was created with, defaults filled in. Set `size` first, as
 * kdas_distiller_options_init() does. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_distiller_get_options(const kdas_distiller   *distiller,
                                                kdas_distiller_options *options);

/* Parts of a step's time. On an asynchronous device a part ends when its work is submitted or
 * waited for. Since 0.4. */
typedef enum kdas_step_part {
    KDAS_STEP_TEACHER   = 0,
    KDAS_STEP_STUDENT   = 1, /* the student's forward */
    KDAS_STEP_OBJECTIVE = 2, /* objective and the student's backward */
    KDAS_STEP_UPDATE    = 3
} kdas_step_part;
/* Number of parts in these headers; a newer library may have more (kdas_step_report.parts). The
 * room of the array in a report never changes. */
#define KDAS_STEP_PARTS     4
#define KDAS_STEP_PART_ROOM 8

/* Result of a step. Set `size`. In arrays by kdas_term the first `terms` elements are valid, in
 * arrays by kdas_step_part the first `parts`; the others are 0. */
typedef struct kdas_step_report {
    size_t size;
    double total; /* as in kdas_loss_report, like the next three */
    double raw[KDAS_TERM_ROOM];
    double weighted[KDAS_TERM_ROOM];
    double gradient[KDAS_TERM_ROOM];
    double seconds[KDAS_STEP_PART_ROOM];
    double lr; /* learning rate of this step's update, or of the next one */
    /* Loss scale of this step's gradients; losses and norms do not include it. Since 0.3. */
    double  loss_scale;
    int32_t updated;      /* whether this step ended with an update */
    int32_t skipped;      /* whether its update was skipped for overflow. Since 0.3 */
    int32_t terms, parts; /* number of terms and of parts in the library. Since 0.4 */
} kdas_step_report;

/* Run a whole step on the batch: forward, backward and, after every `accumulate`-th batch, an
 * update. Nothing is allocated after the first step of a size.
 *
 * Batch: it is uploaded, unless kdas_batch_prefetch() has done so, and settled (kdas_batch_settle)
 * with the backward. A batch of another context than the distiller's is uploaded by each network. A
 * batch without masks (kdas_batch_wrap) and an objective with a segmentation term: KDAS_EINVAL.
 * Images without a label (kdas_batch_set_labelled, since 0.4) learn from the teacher, even if the
 * objective has no guidance: KDAS_ESTATE if there is no teacher.
 *
 * Report: `report` may be NULL. On a GPU with a NULL report, each update reads back only whether
 * the gradients are finite, and each step the norms that a share needs; the loss is not checked.
 *
 * Errors: an update that overflows at the optimizer's loss scale is skipped and its gradients are
 * zeroed (kdas_optim_options.loss_scale); this is not an error. KDAS_ENUMERIC: the loss is not
 * finite, or a gradient is not finite for another reason. If the student's forward or anything
 * before it fails, nothing changes. If backward or update fails (KDAS_ENUMERIC, KDAS_ECANCELLED and
 * others), the micro-batches since the last update are discarded: their gradients are zeroed;
 * running statistics, counters, random state and the means of a share are rolled back. If the
 * device fails during an update (KDAS_EBACKEND), part of the update may remain. Since 0.1. */
KDAS_API kdas_status kdas_distiller_step(kdas_distiller *distiller, kdas_batch *batch,
                                         kdas_step_report *report);

/* The phases of a step, for hosts that act between them: forward, then backward, then update.
 * Without an update, gradients continue to accumulate; kdas_model_zero_gradients(student) clears
 * them. Do not change the batch between its forward and its backward, which reads it again: its
 * images, masks, weights and maps. Writes through kdas_batch_images() and the like, or to the
 * floats of kdas_batch_wrap(), are not detected. The guidance factor
 * (kdas_loss_set_guidance_factor) is read by forward and used by its backward. A failed phase has
 * the effects of a step that fails there.
 * KDAS_ESTATE, and nothing changes, if: the order is wrong; the batch was changed by a call or
 * destroyed, or its loader has gone on and fills it anew (since 0.4); the forward's results are
 * gone, because student or teacher has run, keeps a new tap or has reallocated for a larger size
 * (kdas_model_memory, kdas_segmenter_create); or the update's gradients were zeroed. Since 0.1. */
KDAS_API kdas_status kdas_distiller_forward(kdas_distiller *distiller, kdas_batch *batch);
KDAS_API kdas_status kdas_distiller_backward(kdas_distiller *distiller, kdas_step_report *report);
KDAS_API kdas_status kdas_distiller_update(kdas_distiller *distiller, kdas_step_report *report);

/* Set the host's own teacher maps for the batch of the next forward: 1 to 8, paired as in
 * kdas_loss_evaluate(). They are copied. Call it before each forward if there is no teacher model
 * and the batch has no maps. Between a forward and its backward it sets those of the next forward.
 * On failure, maps set before stay. (Since 0.4 a batch can have one map per image, which guides
 * every output; see kdas_batch_set_teacher().) KDAS_EINVAL, KDAS_ESHAPE, KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_distiller_set_teacher_maps(kdas_distiller  *distiller,
                                                     const kdas_maps *maps);

/* Copy the moving average of the student (kdas_distiller_options.ema) into `to`, a model of the
 * same name in any context. Parameters and running statistics are averaged over the updates made;
 * batch counters and facts are the student's. Before the first update the average is the student.
 * KDAS_EINVAL
 * (another model), KDAS_ESTATE (no average is kept), KDAS_ENOMEM. Since 0.4. */
KDAS_API kdas_status kdas_distiller_read_average(kdas_distiller *distiller, kdas_model *to);

/* ---- Ranks -----------------------------------------------------------------------------------
 *
 * Over ranks (kdas_distiller_options.ranks) all ranks make the same calls of a distiller in the same order: create, step or
 * phases, gather. Each step is one of the batch that all ranks' batches make together. Gradients, losses and norms are those of
 * that batch, with the same bits on all ranks, and students stay equal to the bit. Batches may be of different numbers
 * of images. With own batch norms, and for feature guidance "normalised", statistics are each rank's own; after each update
 * the running ones are the means over the ranks.
 *
 * kdas_distiller_create() compares networks, options, and the values of student and teacher: KDAS_EINVAL on all ranks, with a
 * sentence, where they differ. Random draws of rank 0 are those of a student alone; other ranks have their own.
 *
 * A call that fails on one rank fails on all, with the status and the sentence of the first rank that failed, and with the
 * effects that the call documents. Report, guidance factor and what a host changes between calls must be alike: a
 * report that one rank reads costs all the same. KDAS_EBACKEND: a rank is gone; the student is as after the last update.
 * KDAS_ESTATE: ranks are at different micro-batches of an update; or an update was made on some ranks alone, because a device has
 * failed on another, until a checkpoint is loaded.
 *
 * Gradients are summed while a backward runs, if it is that of kdas_distiller_step() with which the update comes, and if the
 * device computes in the host's memory; else before the update. */

/* Collective: gather what micro-batches have accumulated since the last update at rank 0, so that its checkpoint holds all
 * of it. Steps may follow. Without ranks, and between updates, it does nothing. A checkpoint of gradients that were not gathered
 * is refused: KDAS_ESTATE. Each rank loads the checkpoint that rank 0 has saved; the number of ranks may differ. On failure the
 * micro-batches are discarded. KDAS_EINVAL, KDAS_ESTATE (they wait on some ranks alone, and stay), KDAS_EBACKEND. Since 0.4. */
KDAS_API kdas_status kdas_distiller_gather(kdas_distiller *distiller);

/* ---- Checkpoint ------------------------------------------------------------------------------ */

/* Progress of the host, stored in a checkpoint. */
typedef struct kdas_progress {
    size_t   size;
    int64_t  epoch;      /* completed epochs; 0 to 2^53 */
    int64_t  position;   /* batches returned by the loader; for kdas_loader_seek(); 0 to 2^53 */
    uint64_t seed;       /* of the run */
    double   best;       /* best validation score so far; finite */
    int64_t  best_epoch; /* 0 to 2^53 */
} kdas_progress;

/* Save student with its facts, its moving average if any, optimizer state, step counts, random
 * state, options and progress. The file is written to a temporary name, synced and renamed, so a
 * crash leaves the previous checkpoint intact. `notes` (may be NULL) is stored as text, e.g. the
 * command line. KDAS_EINVAL, KDAS_EIO, KDAS_ENOMEM; KDAS_ENUMERIC (since 0.4): a weight or moment is
 * not finite, and the file stays as it was. Since 0.1. */
KDAS_API kdas_status kdas_checkpoint_save(const kdas_distiller *distiller, const char *path,
                                          const kdas_progress *progress, const char *notes);
/* Load a checkpoint into a distiller created alike. The whole file is read and compared first; if
 * it is refused, nothing changes. A run resumed at the end of a step gives the same bits as an
 * unbroken one in the same precision. `progress` may be NULL.
 *
 * Of what differs, some is refused; the rest is taken from the file or from the distiller, and
 * logged as a warning. docs/training.md has the table. In short:
 * - Must match: model, drop path, rule, objective and pairs of features.
 * - From the distiller: precision; decay of the average; between updates, `accumulate`; and the
 *   lengths of the schedule (`total` unless 0, `step_every`, `warmup`), so a run can be extended.
 * - From the file: all other options of the optimizer.
 * - If the file has no moving average, it starts from the student at the next update.
 * - Files of earlier versions lack some records; those are not compared.
 * The last two are logged.
 *
 * KDAS_ENOTFOUND (no such file), KDAS_EIO, KDAS_EFORMAT (not a checkpoint, truncated, damaged),
 * KDAS_EINVAL (of another run; the message names the difference), KDAS_ENOMEM. Since 0.1. */
KDAS_API kdas_status kdas_checkpoint_load(kdas_distiller *distiller, const char *path,
                                          kdas_progress *progress);

/* A record of the host in a checkpoint: text or numbers, e.g. settings to compare before resuming,
 * or sums to restore. Names that begin with "run." belong to kdas_train(); docs/training.md lists
 * them. Plain value: fill every member. Since 0.4. */
typedef struct kdas_record {
    const char   *name;    /* 1 to 200 of A-Z a-z 0-9 . _ -; unique in a checkpoint */
    const char   *text;    /* UTF-8; NULL for numbers */
    const double *numbers; /* restored bit by bit; NULL for text */
    int64_t       count;   /* of numbers, 1 to 2^20; 0 for text */
} kdas_record;

/* kdas_checkpoint_save() with `count` records of the host, at most 1000. KDAS_EINVAL (an invalid
 * record; the message names it), and as kdas_checkpoint_save(). Since 0.4. */
KDAS_API kdas_status kdas_checkpoint_save_records(const kdas_distiller *distiller, const char *path,
                                                  const kdas_progress *progress, const char *notes,
                                                  const kdas_record *records, int64_t count);

/* kdas_checkpoint_load() in two calls, for hosts that inspect a file first: open it, read what you
 * need, then restore or not. The handle keeps the file open. What it returns is valid while it
 * lives. */
typedef struct kdas_checkpoint kdas_checkpoint;

/* Open a checkpoint and verify the whole file. KDAS_ENOTFOUND, KDAS_EIO, KDAS_EFORMAT, KDAS_ENOMEM.
 * Since 0.4. */
KDAS_API kdas_status kdas_checkpoint_open(kdas_checkpoint **out, kdas_context *context,
                                          const char *path);
/* NULL is fine. Since 0.4. */
KDAS_API void kdas_checkpoint_destroy(kdas_checkpoint *checkpoint);
/* Read the progress; set `size` first. KDAS_EINVAL. Since 0.4. */
KDAS_API kdas_status kdas_checkpoint_progress(const kdas_checkpoint *checkpoint,
                                              kdas_progress         *progress);
/* The notes, "" if there are none (NULL: NULL). Since 0.4. */
KDAS_API const char *kdas_checkpoint_notes(const kdas_checkpoint *checkpoint);
/* Find a record of the host by name; or get record `i`, in byte order of the names. NULL if there
 * is none, and for NULL. Since 0.4. */
KDAS_API const kdas_record *kdas_checkpoint_find(const kdas_checkpoint *checkpoint,
                                                 const char            *name);
KDAS_API const kdas_record *kdas_checkpoint_record(const kdas_checkpoint *checkpoint, int64_t i);
/* Load the state into a distiller, with the comparisons and errors of kdas_checkpoint_load(). All
 * that can fail happens before the first change; only a device failure afterwards (KDAS_EBACKEND)
 * leaves a mixed state. Since 0.4. */
KDAS_API kdas_status kdas_checkpoint_restore(kdas_checkpoint *checkpoint,
                                             kdas_distiller  *distiller);
KDAS_END
#endif

/* train.h - the inside of a run: what it keeps in its checkpoint, and the table of its epochs. A
 * run uses the library through its public headers, as a host does. Of the inside it uses src/base,
 * src/io and resume.h. */
#ifndef KD_TRAIN_H
#define KD_TRAIN_H
#include <kdas/train.h>
#include "base/base.h"
#include "distill/resume.h"

/* Sums over the steps of an epoch, in the order of a checkpoint. */
enum {
    KD_SUM_TOTAL,
    KD_SUM_STEPS,
    KD_SUM_IMAGES,
    KD_SUM_SECONDS, /* of steps; validation and files are not counted */
    KD_SUM_WAITED,  /* the part of them spent waiting for data        */
    KD_SUM_LR,      /* of the last step, not a sum                    */
    KD_SUM_TERMS    /* from here on the terms, each with its kinds    */
};
enum { KD_SUM_RAW, KD_SUM_WEIGHTED, KD_SUM_GRADIENT, KD_SUM_KINDS };
enum { KD_SUMS = KD_SUM_TERMS + KDAS_TERMS * KD_SUM_KINDS };
#define KD_SUM_OF(term, kind) (KD_SUM_TERMS + (term)*KD_SUM_KINDS + (kind))

/* ---- train_resume.c: the run's own records in last.kdas ---- */

/* The run's data and settings, as the records "run." of its checkpoint. Texts are the arguments'.
 * KDAS_ENOMEM, KDAS_EBACKEND. */
kdas_status kd_train_facts(kd_facts *facts, const kdas_distiller *d, const kdas_loader *loader,
                           const kdas_dataset *validation, const kdas_train_options *options);

/* A checkpoint that a run may resume from. */
typedef struct kd_train_file {
    kdas_checkpoint *checkpoint;
    kdas_progress    progress;
    double           sum[KD_SUMS]; /* zeros where the file has none */
    bool             has_sums;
    kd_facts         facts;
    kd_resume        resume;
} kd_train_file;

/* Open it and compare; `f` comes zeroed, and must be closed also on failure. `ours`
 * must outlive it. */
kdas_status kd_train_file_open(kd_train_file *f, kdas_context *ctx, const char *path,
                               const kd_facts *ours);
/* Restore it into the distiller, the last step that can fail, and log the differences. */
kdas_status kd_train_file_restore(kd_train_file *f, kdas_distiller *d);
void        kd_train_file_close(kd_train_file *f);

/* ---- train_log.c: log.csv, a header and a line for each epoch ---- */

typedef struct kd_train_log {
    kdas_context *ctx;
    char         *path;
    char         *text; /* all of the file */
    size_t        used, capacity;
} kd_train_log;

/* An epoch, for its line in the log. */
typedef struct kd_train_row {
    int64_t       epoch, step;
    const double *sum;                              /* KD_SUMS                 */
    double        validation_dice, validation_loss; /* below 0: not validated */
    bool          best;
    double        loss_scale; /* of the next update                */
    int64_t       skipped;    /* updates so far, in the whole run  */
} kd_train_row;

/* Start a log, or continue the file's lines up to epoch `keep`; later lines belong to epochs that
 * the checkpoint does not have yet, and that will be run again. The file is not touched. */
kdas_status kd_train_log_init(kd_train_log *log, kdas_context *ctx, const char *path, int64_t keep);
void        kd_train_log_finish(kd_train_log *log);
/* Add a line and replace the file. */
kdas_status kd_train_log_add(kd_train_log *log, const kd_train_row *row);

#endif

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

/* Whether there is a teacher model, and something reads it. */
bool kd_train_reads_teacher(const kdas_distiller *d, const kdas_dataset *frames);

/* A checkpoint that a run may go on from. */
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
/* Restore it into the distiller, the last step that can fail, and unless `quiet` log the differences. */
kdas_status kd_train_file_restore(kd_train_file *f, kdas_distiller *d, bool quiet);
void        kd_train_file_close(kd_train_file *f);

/* ---- train_ranks.c: what several ranks do together; all of it is collective ---- */

/* Compare what all ranks must have in common: data, settings, and the student's values; KDAS_EINVAL names what differs. */
kdas_status kd_train_agree(kdas_ranks *ranks, const kd_facts *facts, const kdas_distiller *d,
                           const kdas_train_options *options);
kdas_status kd_train_agree_values(kdas_ranks *ranks, const kdas_distiller *d);

/* A file of rank 0 that the others have in memory, under a path of their own. */
typedef struct kd_train_copy {
    int  fd; /* -1: none */
    char path[40];
} kd_train_copy;
/* `path`: rank 0's. The others' copy is read at copy->path until it is closed; rank 0 has none. `copy` comes with an fd of
 * -1, and must be closed also on failure. */
kdas_status kd_train_copy_open(kd_train_copy *copy, kdas_context *ctx, kdas_ranks *ranks,
                               const char *path);
void        kd_train_copy_close(kd_train_copy *copy);

/* ---- run_folder.c ---- */

/* KDAS_ESTATE: the folder was removed or renamed meanwhile, and another run holds what now has its
 * name. NULL is fine. */
kdas_status kd_train_folder_check(const kdas_run_folder *folder, const char *path);

/* ---- train_note.c: the facts of the student's weights ---- */

typedef struct kd_train_notes {
    int64_t height, width;                        /* of validation frames */
    char    seed[24], frames[20], validation[20]; /* "": there is none */
} kd_train_notes;

void kd_train_notes_init(kd_train_notes *notes, const kdas_loader *loader,
                         const kdas_dataset *validation, const kdas_train_options *options);
/* What holds for the whole run. Steps of batches of other sizes, and the first step, which forgets
 * what loaded weights knew, may have changed it. */
kdas_status kd_train_note(const kd_train_notes *notes, kdas_model *student);
/* Of the model that was validated; `dice` below 0: it was not. */
kdas_status kd_train_note_epoch(kdas_model *model, int64_t epoch, double dice);
/* Warn where the teacher runs at another size than it was trained for. */
void kd_train_compare_teacher(const kdas_model *teacher, const kdas_loader *loader);

/* ---- train_manifest.c: run.json ---- */

enum { KD_MANIFEST_WEIGHTS = 16, KD_RESUME_NUMBERS = 4, KD_MOST_RESUMES = 10000 };

/* A file that a model's values came from. */
typedef struct kd_train_weights {
    const char *role;
    char       *path;
    int64_t     bytes; /* -1: it cannot be read */
    char        hash[32];
} kd_train_weights;

typedef struct kd_train_manifest {
    kdas_context    *ctx;
    char            *path;
    kd_train_weights weights[KD_MANIFEST_WEIGHTS];
    int              weight_count;
    /* Hashes of the student's files when the run began, with blanks between; "": there were none, or an
     * earlier version has begun it */
    char             student[KD_MANIFEST_WEIGHTS * 32];
    double           started; /* seconds since 1970; -1: an earlier version has begun the run */
    double          *resumes; /* of each: when, after which epoch, batch of it, and step */
    int64_t          resume_count;
    size_t           resume_room;
} kd_train_manifest;

/* What each file is written of. */
typedef struct kd_train_saved {
    const kdas_distiller     *distiller;
    const kdas_loader        *loader;
    const kdas_dataset       *validation; /* NULL: there is none */
    const kdas_train_options *options;
    const kd_facts           *facts;
    const kdas_progress      *progress;
    int64_t                   steps; /* of the whole run */
} kd_train_saved;

/* `m` comes zeroed, and must be finished also on failure. Reads the files of weights.
 * KDAS_ENOMEM. */
kdas_status kd_train_manifest_init(kd_train_manifest *m, kdas_context *ctx, const char *folder,
                                   const kdas_distiller *d);
void        kd_train_manifest_finish(kd_train_manifest *m);
/* Go on from a checkpoint at `path` that stands at `at`, with `batches` in an epoch. A student's file that
 * is not the one of the beginning has no effect: it is warned of. KDAS_EFORMAT: a record that cannot be. */
kdas_status kd_train_manifest_resume(kd_train_manifest *m, const kdas_checkpoint *c,
                                     const char *path, const kdas_progress *at, int64_t batches);
/* What goes into the checkpoint, at most three records; they are the manifest's. Returns how many. */
int         kd_train_manifest_records(const kd_train_manifest *m, kdas_record *to);
kdas_status kd_train_manifest_save(const kd_train_manifest *m, const kd_train_saved *s);

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

/* checkpoint.h - the inside of checkpoints: a distiller's settings as records of the file, and what
 * writing and reading share. */
#ifndef KD_CHECKPOINT_H
#define KD_CHECKPOINT_H
#include <kdas/distill.h>
#include "distill/resume.h"
#include "distill/distiller.h"
#include "distill/feature_inside.h"
#include "io/container.h"
#include "loss/loss.h"
#include "model/model.h"
#include "optim/optim.h"

/* The prefix of the names of host records. It keeps them apart from the library's. */
#define KD_HOST_PREFIX "host."


/* ---- checkpoint_facts.c: all settings of a distiller that a resume compares ---- */

typedef struct kd_checkpoint_facts {
    kdas_context *ctx;
    kd_facts      list;
    char         *no_decay; /* ours, since a resume replaces the optimizer's */
    char          pairs[KD_FEATURE_PAIRS];
} kd_checkpoint_facts;

/* Of a distiller; other texts are its parts'. Finish it also on failure. */
kdas_status kd_checkpoint_facts_init(kd_checkpoint_facts *facts, const kdas_distiller *d);
void        kd_checkpoint_facts_finish(kd_checkpoint_facts *facts);
/* Defaults for records that a file of an earlier version lacks. */
void kd_checkpoint_defaults(kd_facts *facts);
/* Those facts of a file whose names `like` has, those that it lacks left out; texts are the file's.
 * KDAS_EFORMAT: of another type. */
kdas_status kd_checkpoint_read_facts(kd_facts *facts, kd_container *file, const kd_facts *like);
/* The optimizer's options to resume with: *o begins as our options, and the table's KD_FROM_FILE
 * rows are taken from the file. KDAS_EFORMAT: an impossible value. */
kdas_status kd_checkpoint_take_optim(kdas_optim_options *o, const kd_facts *theirs,
                                     const char *path);

/* ---- checkpoint_open.c ---- */

/* The most that a count in a checkpoint can be: as far as doubles have all whole numbers. */
#define KD_MOST_COUNT (INT64_C(1) << 53)

/* A whole number from 0 to `most`. KDAS_ENOTFOUND; KDAS_EFORMAT: another one. */
kdas_status kd_checkpoint_get_count(kd_container *file, const char *record, int64_t most,
                                    int64_t *out);
/* What holds for a progress wherever it comes from: NULL, or the name of the wrong member and its
 * range, "epoch is not from 0 to 2^53". */
const char *kd_checkpoint_progress_fault(const kdas_progress *p);

struct kdas_checkpoint {
    kdas_context *ctx;
    kd_container *file;
    kdas_progress progress;
    kdas_record  *record; /* of the host, by name */
    int64_t       count;
};

#endif

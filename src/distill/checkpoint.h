/* checkpoint.h - the inside of checkpoints: the facts of a distiller that travel in them, and what writing and reading
 * share. */
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

/* Records of hosts have this before their names, so that they meet none of ours. */
#define KD_HOST_PREFIX "host."

/* ---- checkpoint_facts.c: all that a distiller is told and that a resume compares ---- */

typedef struct kd_checkpoint_facts {
    kdas_context *ctx;
    kd_facts      list;
    char         *no_decay; /* ours, since a resume replaces the optimizer's */
    char          pairs[KD_FEATURE_PAIRS];
} kd_checkpoint_facts;

/* Of a distiller; other texts are its parts'. Finish it whatever becomes of this. */
kdas_status kd_checkpoint_facts_init(kd_checkpoint_facts *facts, const kdas_distiller *d);
void        kd_checkpoint_facts_finish(kd_checkpoint_facts *facts);
/* What a file of an earlier version was, in the records that came later. */
void kd_checkpoint_usual(kd_facts *facts);
/* Those facts of a file whose names `like` has, those that it lacks left out; texts are the file's. KDAS_EFORMAT: of
 * another type. */
kdas_status kd_checkpoint_read_facts(kd_facts *facts, kd_container *file, const kd_facts *like);
/* The optimizer's options to go on with: *o, which are ours, with what the table takes from the file. KDAS_EFORMAT: a
 * value that cannot be. */
kdas_status kd_checkpoint_take_optim(kdas_optim_options *o, const kd_facts *theirs,
                                     const char *path);

/* ---- checkpoint_open.c ---- */

struct kdas_checkpoint {
    kdas_context *ctx;
    kd_container *file;
    kdas_progress progress;
    kdas_record  *record; /* of the host, by name */
    int64_t       count;
};

#endif

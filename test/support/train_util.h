/* train_util.h - what the tests of whole runs share: a rig with frames and a loader, a host that
 * watches and interferes, and log.csv taken apart. */
#ifndef KD_TEST_TRAIN_UTIL_H
#define KD_TEST_TRAIN_UTIL_H
#include "support/run_util.h"

#define KD_TEST_FRAMES  8
#define KD_TEST_BATCHES 4 /* of two frames */

/* ---- A run's parts ---- */

/* What the host saw, and when it asks for what. */
typedef struct kd_test_witness {
    kd_test_rig     *rig;
    int              steps, epochs; /* events */
    kdas_train_state last_step, last_epoch;
    kdas_step_report report;
    double           totals; /* of the epoch under way, and of how many steps      */
    int64_t          seen;
    int              stop_at;               /* return 1 at this step of the run; 0: never         */
    int              cancel_at;             /* cancel the context there                           */
    int              poison_at;             /* put a NaN into the weights there                   */
    int              stop_at_epoch;         /* return 1 at the end of this epoch                  */
    char             copy_at_epoch[2][600]; /* copy the first file to the second after epoch 1  */
} kd_test_witness;

typedef struct kd_test_training {
    kd_test_rig        rig;
    kdas_dataset      *frames, *validation;
    kdas_loader       *loader;
    kdas_train_options options;
    kd_test_witness    saw;
} kd_test_training;

/* Two epochs into `out`, which may be NULL, watched by `saw`. */
void kd_test_train_make(kd_test_training *s, const kd_test_rig_options *o, const char *out);
/* Train with the validation frames. */
kdas_status kd_test_train(kd_test_training *s);
void        kd_test_train_finish(kd_test_training *s);
/* A student that learns alone: half the work. */
kd_test_rig_options kd_test_alone(void);

/* ---- Files ---- */

void kd_test_copy(const char *from, const char *to);

/* A log.csv taken apart. */
typedef struct kd_test_table {
    char *text, *line[64], *cell[64][32];
    int   lines, cells; /* the header counts as a line */
} kd_test_table;

/* Free t->text afterwards. */
void        kd_test_table_read(kd_test_table *t, const char *path);
const char *kd_test_table_cell(const kd_test_table *t, int line, const char *column);

#endif

/* told.h - a run and all that it can be told, for tests of what a resume makes of a difference. */
#ifndef KD_TEST_TOLD_H
#define KD_TEST_TOLD_H
#include "support/run_util.h"

/* All that a run can be told. */
typedef struct kd_test_told {
    kd_test_rig_options rig;
    kdas_loader_options loader;
    kdas_train_options  train;
    kdas_scene_options  frames, validation;
    bool                unvalidated;
    float               teacher_shift; /* added to a number of the teacher's values */
} kd_test_told;

/* What came of it. Its log goes to kd_test_said. */
typedef struct kd_test_run {
    kd_test_told  told;
    kd_test_rig   rig;
    kdas_dataset *frames, *validation;
    kdas_loader  *loader;
} kd_test_run;

/* Lines "W text" for warnings, "I text" for the rest of the log of all runs. */
extern char kd_test_said[1 << 15];
void kd_test_keep_line(void *user, kdas_log_level level, const char *text); /* a kdas_log_fn */
/* How many lines hold both parts. */
int kd_test_said_count(const char *a, const char *b);

/* Two epochs of two batches, of which the first is made, into the folder "out" of the running test; 32 x 32, by the
 * paper's objective with a teacher. A run that goes on from there has nothing left to do but to read its checkpoint. */
kd_test_told kd_test_told_usual(void);
void         kd_test_run_make(kd_test_run *run, const kd_test_told *told);
kdas_status  kd_test_run_train(kd_test_run *run);
void         kd_test_run_finish(kd_test_run *run);
/* Make it, train, and finish: the file is left. */
void kd_test_run_whole(const kd_test_told *told);

/* All of a distiller's state, as the bytes of a checkpoint without notes and progress, from malloc. */
unsigned char *kd_test_state(const kdas_distiller *distiller, size_t *n);
/* Fail the running test unless the state is still these bytes. */
void kd_test_assert_state(const kdas_distiller *distiller, const unsigned char *state, size_t n,
                          const char *what);

#endif

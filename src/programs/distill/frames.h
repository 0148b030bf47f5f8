/* frames.h - the frames of a run: to train on, held out, and the test sets. */
#ifndef PROGRAMS_FRAMES_H
#define PROGRAMS_FRAMES_H
#include <kdas/data.h>
#include "distill/settings.h"

typedef struct frames {
    kdas_dataset *train, *validation; /* validation NULL: nothing is held out */
    bool          val_listed; /* by a list, else it was split off and shares what was left out */
    kdas_dataset *labelled;   /* those of `train` with masks; NULL: all have */
    /* What a teacher trained here learns from; NULL: from the same, as far as they have masks */
    kdas_dataset  *teacher_train, *teacher_validation;
    kdas_dataset **tests;
    char         **test_names; /* those of the folders, or of the list */
    int            test_count;
} frames;

/* Open the folders that kdas_layout_find() finds in DIR, and add frames without masks and a
 * teacher's maps to those that are trained on. False after a sentence. */
bool frames_open(frames *f, kdas_context *context, const settings *s);
void frames_close(frames *f);
/* Write synthetic frames into such folders: s->scenes to train on, a test set "scenes", and where
 * the teacher has frames of its own, TeacherDataset. */
bool frames_make(kdas_context *context, const settings *s, const char *dir);
#endif

/* work.h - all that kdas-distill makes: its frames, trainings and figures. */
#ifndef PROGRAMS_WORK_H
#define PROGRAMS_WORK_H
#include <kdas/train.h>
#include "distill/frames.h"
#include "distill/scores/scores.h"
#include "distill/train.h"

/* All of a run: a student for each preset (a row) and seed. */
typedef struct work {
    settings          settings;
    kdas_context     *context;
    kdas_run_folder  *folder; /* --out: no other run may write into it     */
    kdas_run_folder **held;   /* of its trainings, as far as they are there */
    int               held_count;
    frames            frames;
    kdas_model       *teacher;  /* frozen; NULL: there is none               */
    training          teaching; /* the teacher's own, if it was trained here */
    training         *runs;     /* (row_count, seeds of settings)            */
    int               row_count;
    char             *made;   /* the demo's folder of frames                    */
    scores            scores; /* the teacher, if there is one, then the rows */
} work;

training   *work_run(const work *w, int row, int seed);
const char *work_row_name(const work *w, int row);
#endif

/* tell.h - the summary, and the files for other programs. */
#ifndef DOCTOR_TELL_H
#define DOCTOR_TELL_H
#include "doctor/checks.h"
#include "doctor/settings.h"

typedef struct patient {
    settings s;
    frames   frames;
    pairs    pairs;
    findings found;
    uint8_t *leave; /* for each frame, why it should be left out; see frames_to_leave */
} patient;

/* "TrainDataset" of "data/TrainDataset/": the last part of a folder's path; with the part before if
 * several folders have the same. To be freed. */
char *folder_label(const frames *f, int which);
/* A kind in a sentence: "3 masks are inverted". */
char *finding_sentence(const findings *f, finding_kind kind);
/* How many test frames share a picture (or a video) with training, and with how many training
 * frames. */
void count_shared(const patient *p, bool video, int64_t *test, int64_t *train);

/* The whole in a sentence where no finding says it; else NULL. Static. */
const char *tell_verdict(const patient *p);
/* What training frames of one video mean; NULL: there are none. To be freed. */
char *tell_within(const patient *p);
/* Print the summary. */
void tell_summary(const patient *p);
/* One row for each finding. False after a sentence, here and below. */
bool tell_csv(const patient *p);
/* Names of the training frames to keep, or of those to leave out. */
bool tell_list(const patient *p, const char *path, bool keep);
/* Write DIR/doctor.html (page.c). False after a sentence or when the user asked to stop. */
bool tell_report(const patient *p, kdas_context *context);
#endif

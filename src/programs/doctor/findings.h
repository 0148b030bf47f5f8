/* findings.h - the list of what was found. */
#ifndef DOCTOR_FINDINGS_H
#define DOCTOR_FINDINGS_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum finding_kind {
    FOUND_IDENTICAL,
    FOUND_DUPLICATE,
    FOUND_SEQUENCE,
    FOUND_MASK_DIFFERS,
    FOUND_MASK_EMPTY,
    FOUND_MASK_FULL,
    FOUND_MASK_INVERTED,
    FOUND_MASK_SPECKLED,
    FOUND_MASK_GREY,
    FOUND_MASK_REPEATED,
    FOUND_FRAME_SMALL,
    FOUND_FRAME_BLACK,
    FOUND_FRAME_CONSTANT,
    FOUND_UNREADABLE,
    FOUND_KINDS
} finding_kind;

typedef struct finding {
    finding_kind kind;
    int          folder;     /* in `frames` */
    int64_t      a, b;       /* frames in `frames`; -1: none */
    double       similarity; /* of a pair; NaN: none */
    char        *detail;     /* a sentence's part, owned */
} finding;

typedef struct findings {
    finding        *list;
    int64_t         count, room;
    int             folder; /* being opened; what cannot be used there belongs to it */
    pthread_mutex_t lock;
} findings;

/* The word of a kind in tables, "mask-empty". */
const char *finding_word(finding_kind kind);
/* Add a finding, from any thread; `detail` passes to the list. */
void findings_add(findings *f, finding what);
/* Order: kind, most similar first, then the frames' order. */
void    findings_sort(findings *f);
int64_t findings_of(const findings *f, finding_kind kind);
void    findings_free(findings *f);
#endif

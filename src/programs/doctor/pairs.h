/* pairs.h - frames that show the same: copies, and neighbours in one video. */
#ifndef DOCTOR_PAIRS_H
#define DOCTOR_PAIRS_H
#include "doctor/frames.h"

typedef struct limits {
    double duplicate; /* least similarity of two files of one picture       */
    double sequence;  /* of two frames of one video                         */
    double named;     /* the same, if their numbers follow each other and their sizes are equal */
    double dice;      /* least Dice of the masks of two files of one picture */
} limits;

typedef struct pair {
    int64_t a, b; /* in `frames`, a < b */
    float   similarity, dice;
    uint8_t variant; /* of b */
    bool    identical;
} pair;

typedef struct pairs {
    pair   *list; /* ordered by a, then b */
    int64_t count;
    int64_t compared;  /* pairs whose maps were compared */
    int    *sequence;  /* of each frame; -1: none */
    int     sequences; /* with two frames or more */
} pairs;

/* Compare all frames, on several threads and ranks. Kept are pairs with `sequence` or more, and those of
 * following numbers with `named` or more. False when the user asked to stop. */
bool pairs_find(pairs *p, const frames *f, const limits *at, int threads, const group *g);
void pairs_free(pairs *p);
/* Whether a pair is two files of one picture. */
static inline bool pair_is_copy(const pair *p, const limits *at)
{
    return p->identical || p->similarity >= at->duplicate;
}
#endif

/* checks.h - from what was measured to what is reported. */
#ifndef DOCTOR_CHECKS_H
#define DOCTOR_CHECKS_H
#include "doctor/pairs.h"

/* Masks and frames, each by itself, and masks that many frames share. */
void check_frames(findings *found, const frames *f);
/* Pairs, the masks of copies, and sequences of which training and test both have frames. */
void check_pairs(findings *found, const frames *f, const pairs *p, const limits *at);

/* What a training frame may be left out for. */
enum {
    LEAVE_COPIES    = 1, /* a copy of a test frame              */
    LEAVE_SEQUENCES = 2, /* of one video with a test frame      */
    LEAVE_MASKS     = 4, /* a mask that is full or inverted     */
    LEAVE_FILES     = 8, /* cannot be decoded, black, constant  */
    LEAVE_REPEATS   = 16 /* a copy of an earlier training frame */
};
/* For each frame, the reasons why it should be left out; 0 for frames to keep and test frames. To
 * be freed. */
uint8_t *frames_to_leave(const findings *found, const frames *f, const pairs *p, const limits *at);
#endif

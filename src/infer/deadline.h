/* deadline.h - how long recent frames took, and whether the next one can be done in time. All
 * times are seconds from the begin of a call. kdas/infer.h has the rule. */
#ifndef KD_DEADLINE_H
#define KD_DEADLINE_H
#include "base/base.h"

/* One frame alone, such as that of a warm-up, says little: at least so many decide. */
enum { KD_DEADLINE_LEAST = 3 };
enum { KD_DEADLINE_FRAMES = 16, KD_DEADLINE_REPEATS = 4, KD_DEADLINE_MOST_REPEATS = 1000 };
#define KD_DEADLINE_MOST 3600.0

typedef struct kd_deadline {
    double  seconds; /* 0: none */
    int32_t limit;   /* repeated frames in a row */
    int32_t in_row;  /* so many are */
    int64_t frames;  /* since the estimate began; frame i is in i % KD_DEADLINE_FRAMES */
    double  whole[KD_DEADLINE_FRAMES];
    double  output[KD_DEADLINE_FRAMES]; /* the part that a repeated frame takes, too */
} kd_deadline;

/* The time that `share` of the recent frames did not exceed; 0: there are none. */
double kd_deadline_estimate(const kd_deadline *d, double share);
/* May the next frame be repeated, as far as the deadline knows? */
bool kd_deadline_may_repeat(const kd_deadline *d);
/* Is it not worth beginning? */
bool kd_deadline_hopeless(const kd_deadline *d);
/* When a frame that is not through the network is given up. */
double kd_deadline_stop(const kd_deadline *d);

/* What became of a frame. */
void kd_deadline_computed(kd_deadline *d, double whole, double output);
void kd_deadline_given_up(kd_deadline *d);
void kd_deadline_repeated(kd_deadline *d); /* at once */
/* Frames to come are of another kind. */
void kd_deadline_forget(kd_deadline *d);

#endif

/* feature.h - feature guidance of the student's taps by the teacher's: the kinds, and the graph
 * of all pairs at their sizes. */
#ifndef KD_FEATURE_H
#define KD_FEATURE_H
#include "loss/loss.h"

#define KD_MAX_PAIRS 8

/* A row of feature.c's table. s (N,H,W,C) is the student's tap, projected to the teacher's
 * channels and resized to its size. t (N,H,W,C) is the teacher's tap, a constant. Returns the
 * unweighted value (1,1,1,1). */
typedef struct kd_feature_kind {
    const char *name;
    bool        projects; /* else s keeps its own channels */
    kd_node *(*build)(kd_graph *g, kd_node *s, kd_node *t, const kdas_loss_options *o);
} kd_feature_kind;
/* NULL with the message set (KDAS_ENOTFOUND). "none" gives a row without a build function. */
const kd_feature_kind *kd_feature_find(const char *name);

/* A teacher's and a student's tap, and their shapes in a batch. */
typedef struct kd_feature_pair {
    const char *teacher, *student;
    kdas_desc   teacher_shape, student_shape;
} kd_feature_pair;

/* Add the term of all pairs to `g`. Inputs: "teacher.<tap>" and "student.<tap>". Parameters:
 * "projection<i>.weight" (teacher's channels, student's channels). Output: "feature", the
 * unweighted mean over the pairs. */
kd_node *kd_feature_build(kd_graph *g, const kd_feature_kind *kind, const kdas_loss_options *o,
                          const kd_feature_pair *pair, int pairs);
/* The name of a tap's input, in `to`. */
#define KD_FEATURE_NAME 96
void kd_feature_input(char to[KD_FEATURE_NAME], const char *whose, const char *tap);

#endif

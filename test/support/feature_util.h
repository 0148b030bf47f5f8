/* feature_util.h - what the tests of feature guidance share. */
#ifndef KD_TEST_FEATURE_UTIL_H
#define KD_TEST_FEATURE_UTIL_H
#include "support/run_util.h"

/* The kinds, and how many. */
extern const char *const kd_test_features[];
enum { KD_TEST_FEATURES = 4 };

/* The usual rig with segmentation and one kind of features ("none": without). */
kd_test_rig_options kd_test_with_feature(const char *feature);
/* Images of 32 x 32 that depend on the name. */
kdas_batch *kd_test_feature_batch(kdas_context *ctx, int64_t n, const char *name);
/* All projections as one block from malloc; NULL without any. */
float *kd_test_projections(const kd_test_rig *rig, int64_t *count);
/* Fail the running test unless two rigs' projections have the same bits. */
void kd_test_assert_same_projections(const kd_test_rig *a, const kd_test_rig *b);

#endif

/* small_nets.h - small networks that are no rows of models.def, with any number of maps and any taps: for what a network's
 * record means. */
#ifndef KD_TEST_SMALL_NETS_H
#define KD_TEST_SMALL_NETS_H
#include "model/model.h"
#include "support/run_util.h"

/* The variant of a network with so many maps ("P1" ...) and taps ("s1", "s2" ... "s32") at the strides whose bits are
 * set. */
#define KD_TEST_SMALL(maps, strides) ((maps) | (strides) << 4)
enum {
    KD_TEST_USUAL_STRIDES = 4 | 8 | 16 | 32,
    KD_TEST_NOT_IDLE      = 64 /* without "unused" */,
    KD_TEST_NO_NORM       = 128 /* nor a batch norm */
};

/* Six convolutions of 4 channels at strides 1 to 32, a head for each map, and "unused", a convolution with batch norm that
 * never runs. */
void kd_test_build_small(kd_graph *g, kd_node *image, int variant, float drop_path);

/* The record of such a network; `rules` is kept. */
kd_model_def kd_test_small_def(const char *name, int variant, const kd_model_rules *rules);

/* A rig of such networks on the CPU; `teacher` may be NULL. The status of kdas_distiller_create(). To be finished by
 * kd_test_rig_finish(). */
kdas_status kd_test_small_rig(kd_test_rig *rig, const kd_model_def *student,
                              const kd_model_def *teacher, const kd_test_rig_options *o);
/* A batch of images, and masks, that depend on the name. */
kdas_batch *kd_test_small_batch(kdas_context *ctx, int64_t n, int64_t side, const char *name);

#endif

/* live_util.h - what the tests of deadlines share: a network on the slow device, frames, and segmenters whose
 * clock is the test's. */
#ifndef KD_TEST_LIVE_UTIL_H
#define KD_TEST_LIVE_UTIL_H
#include <kdas/infer.h>
#include "support/run_util.h"

enum { KD_TEST_LIVE_SIDE = 64, KD_TEST_LIVE_W = 90, KD_TEST_LIVE_H = 60, KD_TEST_LIVE_FRAMES = 3 };

typedef struct kd_test_live_rig {
    kd_test_meter meter;
    kdas_context *ctx;
    kdas_model   *model;
    uint8_t       pixels[KD_TEST_LIVE_FRAMES][KD_TEST_LIVE_W * KD_TEST_LIVE_H * 3];
    kdas_view     frames[KD_TEST_LIVE_FRAMES];
    long          steps;     /* kernels of a frame */
    float         threshold; /* that divides the frames */
} kd_test_live_rig;

extern kd_test_live_rig kd_test_live;

/* A checked fixture: fills kd_test_live. */
void kd_test_live_setup(void);
void kd_test_live_teardown(void);

/* Draw the frames anew: as they were at first. */
void kd_test_live_draw(void);

kdas_segmenter_options kd_test_live_options(double deadline);
kdas_segmenter        *kd_test_live_open_with(const kdas_segmenter_options *options);
kdas_segmenter        *kd_test_live_open(double deadline);
/* From here on the network takes so many seconds. */
void kd_test_live_take(double seconds);
/* n frames: C computed, P repeated at once, L given up. Every call keeps what the words mean. */
const char *kd_test_live_run(kdas_segmenter *s, int n);

#endif

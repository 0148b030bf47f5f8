/* metric_util.h - what the tests of the measures share: an evaluator whose memory is counted and
 * can run out, and short ways to add images and look at figures. */
#ifndef KD_TEST_METRIC_UTIL_H
#define KD_TEST_METRIC_UTIL_H
#include <kdas/metric.h>

/* Memory of the contexts made here. */
typedef struct kd_test_memory {
    long live; /* blocks not yet freed                         */
    long fail; /* allocations until one fails, once; < 0: none */
} kd_test_memory;
extern kd_test_memory kd_test_heap;

kdas_context *kd_test_context(int threads);

/* One evaluator a test, made by a checked fixture; finish asserts that all memory is back. */
extern kdas_context   *kd_ctx;
extern kdas_evaluator *kd_eval;
void                   kd_test_evaluator_start(void);
void                   kd_test_evaluator_finish(void);

/* Packed GREY8 pixels. */
kdas_view kd_test_grey(const void *data, int64_t width, int64_t height);
/* Add to kd_eval without a name. */
void kd_test_add(const void *prediction, const void *truth, int64_t width, int64_t height);
/* Figure of image i, or of the set where i < 0. */
double kd_test_figure(const kdas_evaluator *evaluator, int64_t i, kdas_metric metric);
/* Fail the running test unless kd_eval's figure is within `tolerance`; NaN equals NaN. */
void kd_test_assert_figure(int64_t i, kdas_metric metric, double want, double tolerance);
/* A map that is high on an ellipse, noise over it, and the ellipse: both (H,W), made from `name`.
 */
void kd_test_pair(uint8_t *map, uint8_t *mask, int64_t width, int64_t height, const char *name);

#endif

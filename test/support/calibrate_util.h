/* calibrate_util.h - what the tests of calibration and of its files share. */
#ifndef KD_TEST_CALIBRATE_UTIL_H
#define KD_TEST_CALIBRATE_UTIL_H
#include <kdas/quantize.h>
#include <stdbool.h>

/* For inference; `quantize`, `wide` as in kdas_model_options. */
kdas_model *kd_test_grids_model(kdas_context *ctx, const char *name, int32_t quantize,
                                const char *wide);
/* Finished, on four batches of four images of side x side (kd_test_batch). The model has its ranges. */
kdas_calibrator *kd_test_calibrated(kdas_model *model, const kdas_calibrator_options *options,
                                    int64_t side);
/* Whether the range of that name is (0, 0). */
bool kd_test_range_is_empty(const kdas_model *model, const char *name);

#endif

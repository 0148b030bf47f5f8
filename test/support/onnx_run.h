/* onnx_run.h - runs an ONNX file that onnx_walk.h has read: every op by its definition in opset 17, in double, plainly. */
#ifndef KD_TEST_ONNX_RUN_H
#define KD_TEST_ONNX_RUN_H
#include "support/onnx_walk.h"

/* A value; whole numbers and truth values are doubles, too. Trailing axes beyond the rank are 1. */
typedef struct kd_test_onnx_value {
    const char *name;
    int         type; /* 1: f32; 2: u8; 3: s8; 6: int32; 7: int64, whose quotients round toward zero */
    int         rank;
    int64_t     dim[WALK_RANK], count;
    double     *v;
} kd_test_onnx_value;

typedef struct kd_test_onnx_run {
    kd_test_onnx_value *value;
    int                 values;
} kd_test_onnx_run;

/* Run it on an image of these dims. An op or attribute that is not known here fails the running test. To be freed by
 * kd_test_onnx_run_free(). */
kd_test_onnx_run kd_test_onnx_forward(const kd_test_onnx *o, const float *image,
                                      const int64_t dims[4]);
void             kd_test_onnx_run_free(kd_test_onnx_run *run);
/* A value by its name; fails the running test where there is none. */
const kd_test_onnx_value *kd_test_onnx_value_of(const kd_test_onnx_run *run, const char *name);

#endif

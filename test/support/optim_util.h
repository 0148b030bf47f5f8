/* optim_util.h - what the tests of optimizers share: a model of four parameters and a buffer, none
 * of a size that fills its place, and an optimizer of it. */
#ifndef KD_TEST_OPTIM_UTIL_H
#define KD_TEST_OPTIM_UTIL_H
#include "optim/optim.h"
#include "support/run_util.h"

enum {
    KD_TEST_ENTRIES = 5,
    KD_TEST_LARGEST = 33 * 31 /* numbers of the largest of them, head.weight */
};

typedef struct kd_test_optim {
    kdas_context *ctx;
    kd_params    *params;
    kdas_optim   *optim;
} kd_test_optim;

/* The parameters alone, each filled from its name, on a context of their own. */
void kd_test_optim_params(kd_test_optim *s, const char *device, kd_test_meter *memory);
/* And the optimizer. */
void kd_test_optim_make(kd_test_optim *s, const char *device, const kdas_optim_options *options);
void kd_test_optim_finish(kd_test_optim *s);
/* Gradients of step t, different for each parameter. */
void kd_test_optim_gradients(kd_test_optim *s, int t, double scale);
/* The defaults with another rule. */
kdas_optim_options kd_test_optim_options(const char *rule);

#endif

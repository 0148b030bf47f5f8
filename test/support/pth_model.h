/* pth_model.h - files of PyTorch with all tensors of a network, one value each, under any names. */
#ifndef KD_TEST_PTH_MODEL_H
#define KD_TEST_PTH_MODEL_H
#include <kdas/model.h>
#include <stdbool.h>
#include "support/pth.h"

/* How the names of a model's tensors are written. False: leave this one out. */
typedef bool (*kd_test_naming)(char *to, size_t size, const char *name);

bool kd_test_is_counter(const char *name);
/* A network that is not trained. */
kdas_model *kd_test_weights_model(kdas_context *ctx, const char *network);
/* All tensors of the model, `front` before their names (`name_by` NULL: its own). */
void kd_test_pth_model(kd_test_pth *p, const kdas_model *m, const char *front,
                       kd_test_naming name_by, float value);
/* A file of nothing else. */
void kd_test_pth_write_model(const char *path, const kdas_model *m, const char *front,
                             kd_test_naming name_by, float value);
/* Whether every value of the tensors whose names begin so is this one; counters do not count. */
bool kd_test_all_are(const kdas_model *m, const char *beginning, float value);

#endif

/* state.h - a saved copy of a model's statistics, counters and random state. */
#ifndef KD_STATE_H
#define KD_STATE_H
#include <kdas/model.h>
#include "base/context.h"

/* Starts as zeros. The first keep allocates memory. */
typedef struct kd_model_state {
    float   *statistics; /* device memory */
    int64_t *counter;    /* by index of the parameters */
    uint64_t forwards;
    uint64_t version; /* of the parameters at that time */
    bool     kept;
} kd_model_state;

kdas_status kd_model_state_keep(kd_model_state *state, const kdas_model *model);
/* Nothing is restored if parameters have been written since, because the copy no longer fits the
 * model. */
kdas_status kd_model_state_put_back(const kd_model_state *state, kdas_model *model);
void        kd_model_state_finish(kd_model_state *state, kdas_context *ctx);

#endif

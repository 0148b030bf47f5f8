/* state.h - a model's statistics, counters and random state, kept aside. */
#ifndef KD_STATE_H
#define KD_STATE_H
#include <kdas/model.h>
#include "base/context.h"

/* Begins as zeros; memory is taken by the first keep. */
typedef struct kd_model_state {
    float   *statistics; /* device memory */
    int64_t *counter;    /* by index of the parameters */
    uint64_t forwards;
    uint64_t version; /* of the parameters then */
    bool     kept;
} kd_model_state;

kdas_status kd_model_state_keep(kd_model_state *state, const kdas_model *model);
/* Nothing is put back where parameters have been written since: the model is another one. */
kdas_status kd_model_state_put_back(const kd_model_state *state, kdas_model *model);
void        kd_model_state_finish(kd_model_state *state, kdas_context *ctx);

#endif

/* param_inside.h - what param.c and param_check.c share. */
#ifndef KD_PARAM_INSIDE_H
#define KD_PARAM_INSIDE_H
#include <pthread.h>
#include "graph/param.h"

struct kd_params {
    kdas_context    *ctx;
    kd_param_entry **entry;
    size_t           count, capacity;
    bool             sealed;
    int64_t          trainable, running, total; /* elements, including gaps */
    float           *values, *grads;
    uint64_t         version, stats_version;
    uint64_t         given; /* versions that are not an update's */
    uint64_t         seed;  /* of the entries that are undrawn */
    pthread_mutex_t  drawing;
    bool             undrawn; /* any entry; read and written atomically */
    struct kd_pack  *packs;
    struct {
        uint64_t version, stats_version, given;
    } checked;       /* of what kd_params_check() has found finite */
    double *squares; /* on the device; NULL: no check has needed it */
    bool    spoilt;  /* the gradients are incomplete: see kd_params_spoil_grads() */
};

#endif

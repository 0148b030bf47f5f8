/* settings.h - what the graph keeps for each context. */
#ifndef KD_GRAPH_SETTINGS_H
#define KD_GRAPH_SETTINGS_H
#include "base/context.h"

typedef struct kd_graph_settings {
    bool    unfused;    /* run op by op as built, without fusion: for comparisons               */
    bool    fuse_all;   /* fuse blocks of few rows, too: for tests                              */
    bool    uncaptured; /* run call by call, also on devices with graphs: for comparisons       */
    bool    exchanges;  /* EXCHANGE nodes also in a group of one: for comparisons               */
    bool    warned_uncaptured; /* a failed capture has been logged */
    int64_t bucket; /* elements of a bucket of gradients (buckets.h); 0: the usual, for tests */
} kd_graph_settings;

/* For reading. Returns the defaults until a setting is changed. */
const kd_graph_settings *kd_graph_settings_of(const kdas_context *ctx);
/* For writing. NULL: KDAS_ENOMEM. */
kd_graph_settings *kd_graph_settings_change(kdas_context *ctx);

#endif

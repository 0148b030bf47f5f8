/* settings.h - what the graph keeps for each context. */
#ifndef KD_GRAPH_SETTINGS_H
#define KD_GRAPH_SETTINGS_H
#include "base/context.h"

typedef struct kd_graph_settings {
    bool unfused;         /* programs run op by op, as they were built: for comparisons           */
    bool uncaptured;      /* and call by call, also on devices with graphs: for comparisons       */
    bool told_uncaptured; /* a program could not be captured, and the log has a line about it */
} kd_graph_settings;

/* To be read: the defaults until somebody has changed one. */
const kd_graph_settings *kd_graph_settings_of(const kdas_context *ctx);
/* To be changed. NULL: KDAS_ENOMEM. */
kd_graph_settings *kd_graph_settings_change(kdas_context *ctx);

#endif

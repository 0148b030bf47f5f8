/* settings.c - what the graph keeps for each context. */
#include "graph/settings.h"

static const kd_part_type settings_part = { .size = sizeof(kd_graph_settings) };

const kd_graph_settings *kd_graph_settings_of(const kdas_context *ctx)
{
    static const kd_graph_settings defaults = { 0 };
    const kd_graph_settings       *s        = kd_context_part(ctx, &settings_part);

    return s ? s : &defaults;
}

kd_graph_settings *kd_graph_settings_change(kdas_context *ctx)
{
    void *s = NULL;

    return kd_context_part_make(&s, ctx, &settings_part) == KDAS_OK ? s : NULL;
}

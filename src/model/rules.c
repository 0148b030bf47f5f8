/* rules.c - what a network's record says: the sizes that it takes, its colours, its answer. */
#include <string.h>
#include "data/batch.h"
#include "model/model.h"

const kd_model_rules kd_rules_common = { 0 };

/* ---- sizes ---- */

int64_t kd_model_side(const kd_model_def *def) { return def->rules->side ? def->rules->side : 32; }

kdas_status kd_check_size(const kd_model_def *def, int64_t n, int64_t h, int64_t w)
{
    int side = def ? def->rules->side : 0;

    if (n < 1 || n > KD_MAX_BATCH)
        return kd_fail(KDAS_EINVAL, "a batch of %lld images; it must be 1 to %d", (long long)n,
                       KD_MAX_BATCH);
    if (side && (h != side || w != side))
        return kd_fail(KDAS_ESHAPE, "'%s' takes images of %dx%d alone, not of %lldx%lld", def->name,
                       side, side, (long long)h, (long long)w);
    if (h < 32 || w < 32 || h > KD_MAX_SIDE || w > KD_MAX_SIDE || h % 32 || w % 32)
        return kd_fail(KDAS_ESHAPE,
                       "the size %lldx%lld will not do: sides are multiples of 32 up to %d",
                       (long long)h, (long long)w, KD_MAX_SIDE);
    return KDAS_OK;
}

kdas_status kdas_model_check_size(const kdas_model *m, int64_t height, int64_t width)
{
    if (!m) return kd_fail(KDAS_EINVAL, "kdas_model_check_size: the model is NULL");
    return kd_check_size(m->def, 1, height, width);
}

/* ---- the backbone ---- */

const char *kd_model_backbone(const kd_model_def *def)
{
    return def->rules->backbone ? def->rules->backbone : KD_BACKBONE;
}

/* ---- the answer ---- */

int32_t kdas_model_answer(const kdas_model *m)
{
    int32_t maps = kdas_model_maps(m);

    return maps && m->def->rules->last ? maps - 1 : 0;
}

/* ---- colours ---- */

/* The order in which a network has the channels of RGB. */
static const char *order_of(const int32_t source[3])
{
    static const char orders[][4] = { "RGB", "RBG", "GRB", "GBR", "BRG", "BGR" };

    for (size_t i = 0; i < KD_COUNT(orders); i++)
        if (orders[i][0] == "RGB"[source[0]] && orders[i][1] == "RGB"[source[1]] &&
            orders[i][2] == "RGB"[source[2]])
            return orders[i];
    return "mixed";
}

/* Its channel c is factor x + offset of x = (v - mean) / deviation, as batches have it. So it is
 * (v - mean of its own) / (deviation of its own). */
static void put_colours(kdas_network *to, const kdas_recolour_attr *own)
{
    static const kdas_recolour_attr none   = { { 0, 1, 2 }, { 1, 1, 1 }, { 0, 0, 0 } };
    const kdas_recolour_attr       *colour = own ? own : &none;

    to->colour = order_of(colour->source);
    for (int c = 0; c < 3; c++) {
        int    from      = colour->source[c];
        double deviation = (double)kd_batch_deviation[from] / (double)colour->factor[c];

        to->deviation[c] = (float)deviation;
        to->mean[c] = (float)((double)kd_batch_mean[from] - (double)colour->offset[c] * deviation);
    }
}

/* ---- the record for hosts ---- */

void kd_network_describe(kdas_network *to, const kd_model_def *def)
{
    int64_t side = def->rules->side ? def->rules->side : KDAS_DEFAULT_SIDE;

    *to = (kdas_network){ .size   = sizeof *to,
                          .name   = def->name,
                          .height = side,
                          .width  = side,
                          .fixed  = def->rules->side != 0,
                          .last   = def->rules->last };
    put_colours(to, def->rules->colours);
}

kdas_status kdas_network_describe(const char *name, kdas_network *out)
{
    const kd_model_def *def;
    kdas_network        network;

    if (!name || !out) return kd_fail(KDAS_EINVAL, "kdas_network_describe: name or out is NULL");
    KD_RETURN(kd_check_report(&out->size, "kdas_network"));
    def = kd_model_def_find(name);
    if (!def) return KDAS_ENOTFOUND;
    kd_network_describe(&network, def);
    return kd_give_options(out, &network, sizeof network, "kdas_network");
}

/* pack.c - see pack.h. */
#include "graph/pack.h"
#include <string.h>

static bool same(const kd_pack *a, const kd_pack *b)
{
    return a->key && a->key == b->key && a->kernel == b->kernel && a->bytes == b->bytes &&
           a->norm == b->norm && a->rounded == b->rounded && a->weights == b->weights &&
           memcmp(a->param, b->param, sizeof a->param) == 0;
}

static void destroy(kdas_context *ctx, kd_pack *pack)
{
    kd_device_free(ctx, pack->memory);
    kd_device_free(ctx, pack->weight);
    kd_device_free(ctx, pack->bias);
    kd_free(ctx, pack);
}

static kdas_status fill(kdas_context *ctx, kd_pack *pack)
{
    if (pack->bytes && !(pack->memory = kd_device_alloc(ctx, pack->bytes))) return KDAS_ENOMEM;
    if (!pack->weights) return KDAS_OK;
    pack->weight = kd_device_alloc(ctx, pack->weights * sizeof(float));
    if (!pack->weight) return KDAS_ENOMEM;
    pack->bias = kd_device_alloc(ctx, pack->biases * sizeof(float));
    return pack->bias ? KDAS_OK : KDAS_ENOMEM;
}

kdas_status kd_pack_take(kd_pack **out, kdas_context *ctx, kd_pack **list, const kd_pack *wanted)
{
    kd_pack *pack = NULL;

    *out = NULL;
    for (pack = list ? *list : NULL; pack; pack = pack->next)
        if (same(pack, wanted)) {
            pack->users++;
            *out = pack;
            return KDAS_OK;
        }
    pack = kd_calloc(ctx, 1, sizeof *pack);
    if (!pack) return KDAS_ENOMEM;
    *pack       = *wanted;
    pack->users = 1;
    if (fill(ctx, pack) != KDAS_OK) {
        destroy(ctx, pack);
        return KDAS_ENOMEM;
    }
    if (list) {
        pack->next = *list;
        *list      = pack;
    }
    *out = pack;
    return KDAS_OK;
}

void kd_pack_release(kdas_context *ctx, kd_pack **list, kd_pack *pack)
{
    if (!pack || --pack->users > 0) return;
    for (kd_pack **at = list; at && *at; at = &(*at)->next)
        if (*at == pack) {
            *at = pack->next;
            break;
        }
    destroy(ctx, pack);
}

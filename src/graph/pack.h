/* pack.h - packs: parameters in the layouts of kernels, and weights with a folded batch norm.
 * They are kept beside the parameters. Programs that read the same pack share it, so that
 * another size needs no second copy. */
#ifndef KD_PACK_H
#define KD_PACK_H
#include "graph/device.h"
#include "graph/param.h"

typedef struct kd_pack kd_pack;
struct kd_pack {
    /* the key: programs with an equal key share the pack */
    const kdas_kernel *kernel;
    uint64_t           key; /* kdas_plan.pack_key; 0: not shared */
    size_t             bytes;
    int                param[KDAS_MAX_INPUTS]; /* of inputs 1 and on; -1: none         */
    int                norm;                   /* the folded norm's scale; -1: none     */
    bool               stats;                  /* it depends on statistics, too          */
    bool               rounded;                /* the weights are rounded to 8 bits      */
    size_t             weights, biases; /* numbers of the changed weight and bias; 0: as they are */
    /* the contents */
    void    *memory; /* device memory, filled by the kernel's pack(); NULL: not needed */
    float   *weight, *bias;
    uint64_t version, stats_version; /* of the parameters when filled; 0: never */
    int      users;
    kd_pack *next;
};

/* Find or make the pack that `wanted` describes. Release each pack that is taken. `list` may be
 * NULL: then it is made. */
kdas_status kd_pack_take(kd_pack **out, kdas_context *ctx, kd_pack **list, const kd_pack *wanted);
void        kd_pack_release(kdas_context *ctx, kd_pack **list, kd_pack *pack);

#endif

/* pack.h - parameters in the layouts of kernels, and weights that a batch norm was folded into: kept beside the
 * parameters and shared by all programs that read the same, so that another size costs no second copy. */
#ifndef KD_PACK_H
#define KD_PACK_H
#include "graph/device.h"
#include "graph/param.h"

typedef struct kd_pack kd_pack;
struct kd_pack {
    /* what it is of: programs that agree in these share it */
    const kdas_kernel *kernel;
    uint64_t           key; /* kdas_plan.pack_key; 0: it is not shared */
    size_t             bytes;
    int                param[KDAS_MAX_INPUTS]; /* of inputs 1 and on; -1: none         */
    int                norm;                   /* the folded norm's scale; -1: none     */
    size_t             weights, biases;        /* numbers of the folded weight and bias */
    /* what there is */
    void    *memory; /* device memory, filled by the kernel's pack(); NULL: none is wanted */
    float   *weight, *bias;
    uint64_t version, stats_version; /* of the parameters when filled; 0: never */
    int      users;
    kd_pack *next;
};

/* The pack that `wanted` describes, found or made; each take is released. `list` may be NULL: it is made. */
kdas_status kd_pack_take(kd_pack **out, kdas_context *ctx, kd_pack **list, const kd_pack *wanted);
void        kd_pack_release(kdas_context *ctx, kd_pack **list, kd_pack *pack);

#endif

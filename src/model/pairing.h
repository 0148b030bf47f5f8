/* pairing.h - which tensor of a file belongs to which of a network's. */
#ifndef KD_PAIRING_H
#define KD_PAIRING_H
#include <kdas/model.h>
#include "graph/param.h"
#include "io/weights.h"
#include "model/names.h"

typedef struct kd_pairing {
    kdas_context        *ctx;
    const kd_params     *params;
    const char          *network; /* its name, for sentences */
    const kd_weights    *file;
    const char          *prefix, *part; /* of kdas_load_options */
    int                 *order;         /* entries by name */
    int                  set;           /* the choice */
    kd_renaming          renaming;
    const kd_st_tensor **tensor; /* by entry; NULL: not in the file */
} kd_pairing;

/* Memory for the pairing of a network's parameters with a file; all are borrowed. */
kdas_status kd_pairing_begin(kd_pairing *p, kdas_context *ctx, const kd_params *params,
                             const char *network, const kd_weights *file);
void        kd_pairing_end(kd_pairing *p);

/* The entry for a tensor of the file, under the chosen renaming; -1: none. `name`: what it was
 * looked up by. */
int  kd_pairing_entry(const kd_pairing *p, const char *tensor, char name[KD_NAME_ROOM]);
bool kd_pairing_same_shape(const kd_param_entry *e, const kd_st_tensor *t);
/* Whether a file of the network may lack the entry: counters of batches, and what no op reads. */
static inline bool kd_pairing_may_lack(const kd_param_entry *e)
{
    return e->init.kind == KD_COUNTER || kd_param_is_idle(e);
}

/* Choose the set and the renaming of which most tensors fit the entries by name and shape; of
 * equals, the one that changes names least. `entry`: the set's name, or NULL for any. Returns how
 * many fit in *fits. KDAS_ENOTFOUND: no such set. KDAS_EINVAL: several sets fit equally; the
 * sentence lists them. */
kdas_status kd_pairing_choose(kd_pairing *p, const char *entry, int64_t *fits);
/* Pair by the choice. Fails with the name of the first tensor that is missing, unknown or of
 * another shape. */
kdas_status kd_pairing_make(kd_pairing *p, bool partial, bool extra);

/* Add to the sentence of a failed pairing what the tensors are: another network's, a backbone. */
kdas_status kd_pairing_explain(const kd_pairing *p, kdas_status status);

#endif

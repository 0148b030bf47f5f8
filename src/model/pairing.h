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
    const char          *words;         /* that its names begin with; others do not count */
    size_t               words_length;  /* 0: all names count */
    kd_renaming          renaming;
    const kd_st_tensor **tensor; /* by entry; NULL: not in the file */
    /* The second half of an entry whose tensor is the first; or NULL. */
    const kd_st_tensor **second;
    /* The first of the tensors of another shape that no op reads, and their number: left out. */
    const kd_st_tensor *left;
    int                 lefts;
    int                 ranges; /* of grids that the network does not have: left out */
} kd_pairing;

#define KD_SCALE_SUFFIX "_scale" /* of the tensor with the scales of one in 8 bits */

/* Memory for the pairing of a network's parameters with a file; all are borrowed. */
kdas_status kd_pairing_begin(kd_pairing *p, kdas_context *ctx, const kd_params *params,
                             const char *network, const kd_weights *file);
void        kd_pairing_end(kd_pairing *p);

/* Tensor `i` of the chosen set; NULL: it does not count: it lacks the chosen words in front, or is
 * the counter of an average or one of thop's. */
const kd_st_tensor *kd_pairing_tensor(const kd_pairing *p, int64_t i);
/* The entry for a tensor of the file, under the chosen renaming; -1: none. `name`: what it was
 * looked up by. `piece`: which part of the entry it is. */
int  kd_pairing_entry(const kd_pairing *p, const char *tensor, char name[KD_NAME_ROOM],
                      kd_piece *piece);
bool kd_pairing_same_shape(const kd_param_entry *e, const kd_st_tensor *t, kd_piece piece);
/* Whether a file of the network may lack the entry: counters of batches, ranges of grids, and what
 * no op reads. */
static inline bool kd_pairing_may_lack(const kd_param_entry *e)
{
    return e->init.kind == KD_COUNTER || kd_param_is_range(e) || kd_param_is_idle(e);
}

/* Choose the set and the renaming of which most tensors fit the entries by name and shape; of
 * equals, the one that changes names least. `entry`: the set's name, or the words that some of its
 * names begin with, or both with a full stop between; NULL for any. It is borrowed. Returns how many
 * fit in *fits. KDAS_ENOTFOUND: no such set. KDAS_EINVAL: several sets fit equally; the sentence
 * lists them. */
kdas_status kd_pairing_choose(kd_pairing *p, const char *entry, int64_t *fits);
/* Choose the renaming alone, where set and words are known. Returns how many fit. */
int64_t kd_pairing_rename(kd_pairing *p);
/* Bytes of the words that all names of the set that count begin with, their full stop included. */
size_t kd_pairing_common(const kd_pairing *p);
/* Pair by the choice. Fails with the name of the first tensor that is missing, unknown or of
 * another shape, unless no op reads it. */
kdas_status kd_pairing_make(kd_pairing *p, bool partial, bool extra);

/* Add to the sentence of a failed pairing what the tensors are: another network's, a backbone. */
kdas_status kd_pairing_explain(const kd_pairing *p, kdas_status status);

#endif

/* facts.h - what weights know of themselves: texts by key, which travel in the metadata of
 * files. */
#ifndef KD_MODEL_FACTS_H
#define KD_MODEL_FACTS_H
#include <kdas/model.h>
#include "base/base.h"
#include "io/safetensors.h"

#define KD_FACT_PREFIX     "kdas."  /* of the keys in a safetensors file's metadata */
#define KD_FACT_CHECKPOINT "facts." /* of the keys in a checkpoint's                */
#define KD_FACTS_FORMAT    1 /* "kdas.format": which facts a file has, and how they are written */

enum { KD_MOST_FACTS = 256, KD_LONGEST_KEY = 64, KD_LONGEST_FACT = 4096 };

typedef struct kd_model_fact {
    char  *key, *value;
    size_t room; /* bytes of `value` */
    bool   host; /* set by the host: the library does not replace it */
} kd_model_fact;

/* In order of their keys. Zeros: none. */
typedef struct kd_model_facts {
    kd_model_fact *fact;
    size_t         count, capacity;
} kd_model_facts;

void kd_model_facts_clear(kd_model_facts *facts, kdas_context *ctx);
/* KDAS_EINVAL: a key or value that no file can have. */
kdas_status kd_model_facts_check(const char *key, const char *value);
/* Set one, or remove it (`value` NULL). A value that is not longer than the one before allocates
 * nothing. KDAS_EINVAL, KDAS_ENOMEM: nothing has changed. */
kdas_status kd_model_facts_set(kd_model_facts *facts, kdas_context *ctx, const char *key,
                               const char *value, bool host);
/* NULL: there is none. */
const kd_model_fact *kd_model_facts_find(const kd_model_facts *facts, const char *key);
/* Set all of `from`, or only those that the host has set. */
kdas_status kd_model_facts_add(kd_model_facts *facts, kdas_context *ctx, const kd_model_facts *from,
                               bool host_only);
/* Set those of a file's texts whose keys begin with `prefix`. What is the file's own (version,
 * format) and what is out of bounds is left out. */
kdas_status kd_model_facts_read(kd_model_facts *facts, kdas_context *ctx,
                                const kd_safetensors *file, const char *prefix);

/* Put the list in the place of the model's; it gets the model's old one. */
void kd_model_facts_take(kdas_model *model, kd_model_facts *facts);

#endif

/* loader_ranks.c - loaders of several ranks: before each makes its share of the same batches, they compare what batches are
 * made of. */
#include <stdio.h>
#include "base/text.h"
#include "data/loader.h"
#include "ranks/ranks.h"

typedef struct setting {
    const char *name;
    double      value;
} setting;

static kdas_status agree_number(kdas_ranks *ranks, const char *name, double value)
{
    char text[40];

    kd_format(text, sizeof text, "%.9g", value);
    return kdas_ranks_agree(ranks, name, text);
}

/* All options but `workers` and `ahead`, which each rank may choose. */
static kdas_status agree_options(const kdas_loader_options *o)
{
#define NAMED(option)                        \
    {                                        \
        "loader." #option, (double)o->option \
    }
    const setting settings[] = { NAMED(batch),       NAMED(height),    NAMED(width),
                                 NAMED(scale_count), NAMED(shuffle),   NAMED(augment),
                                 NAMED(rotation),    NAMED(drop_last), NAMED(scale_min),
                                 NAMED(scale_max),   NAMED(crop),      NAMED(crop_aspect),
                                 NAMED(brightness),  NAMED(contrast),  NAMED(saturation),
                                 NAMED(hue),         NAMED(blur),      NAMED(cutout),
                                 NAMED(empty_share) };
#undef NAMED
    char seed[24];

    for (size_t i = 0; i < KD_COUNT(settings); i++)
        KD_RETURN(agree_number(o->ranks, settings[i].name, settings[i].value));
    for (int64_t i = 0; o->scales && i < o->scale_count; i++)
        KD_RETURN(agree_number(o->ranks, "scale of the loader", (double)o->scales[i]));
    kd_format(seed, sizeof seed, "%llu", (unsigned long long)o->seed);
    return kdas_ranks_agree(o->ranks, "loader.seed", seed);
}

kdas_status kd_loader_agree(const kdas_loader_options *o, const kdas_dataset *dataset,
                            kdas_status mine)
{
    char hash[24];

    KD_RETURN(kd_ranks_meet(o->ranks, KD_RANKS_AT_LOADER, 0, mine, NULL, 0));
    if (kdas_ranks_count(o->ranks) == 1) return KDAS_OK;
    KD_RETURN(agree_options(o));
    kd_format(hash, sizeof hash, "%016llx", (unsigned long long)kdas_dataset_hash(dataset));
    return kdas_ranks_agree(o->ranks, "hash of the loader's frames", hash);
}

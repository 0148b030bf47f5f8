/* weights.h - the network of a file of weights, for inference, and the size that it runs at. */
#ifndef PROGRAMS_WEIGHTS_H
#define PROGRAMS_WEIGHTS_H
#include <kdas/model.h>
#include <stdbool.h>

/* What the programs say of --size where they take weights. */
#define WEIGHTS_SIZE_HELP \
    "input of the network (the size that the weights were\ntrained for; 352 if they do not say)"

/* Load weights into the network that --model names; NULL: the one that the file names, else `usual`. NULL for both where
 * the file names none: false after a sentence, as for every failure. */
bool weights_open(kdas_model **out, kdas_context *context, const char *network, const char *usual,
                  const char *path);
/* Fill in a size of zeros, that of --size where it was not given; where the weights do not say it, a warning does. The
 * sentence about what is run, "polyp_pvt_b0 at 96x96, as --size says", is to be freed. */
char *weights_size(const kdas_model *model, int64_t size[2]);
#endif

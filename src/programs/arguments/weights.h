/* weights.h - the network of a file of weights, for inference, and the size that it runs at. */
#ifndef PROGRAMS_WEIGHTS_H
#define PROGRAMS_WEIGHTS_H
#include <kdas/model.h>
#include <stdbool.h>

/* What the programs say of --size where they take weights. */
#define WEIGHTS_SIZE_HELP                                                                          \
    "input of the network (the size that the weights were\ntrained for; if they do not say, 352, " \
    "or the only one\nthat the network takes)"

/* The row of an option table that chooses among several networks in a file. */
#define WEIGHTS_ENTRY_OPTION(to)                                                                \
    {                                                                                           \
        OPTION_TEXT, "--weights-entry", "NAME", &(to), 0, 0,                                    \
            "of a file with several sets of weights, the one to take:\na dictionary of a .pth " \
            "file, e.g. model or ema.module,\nor the words in front of its names, e.g. student" \
    }

/* The network of the programs that use one, where neither an option nor the weights name it. */
#define WEIGHTS_USUAL "polyp_pvt_b0"

/* The network of a file of weights: `network`, as option `with` ("--model") names it, or where it
 * is NULL the one that the file names, else `usual`. NULL after a sentence: the file is of another
 * one. The text is static, or the caller's. */
const char *weights_network(kdas_context *context, const char *network, const char *usual,
                            const char *path, const char *with);
/* A model for inference alone, with the weights of a file, or of its `entry` if it has several sets
 * (NULL: any); NULL after a sentence. */
kdas_model *weights_open(kdas_context *context, const char *network, const char *path,
                         const char *entry);
/* The same, made by these options. */
kdas_model *weights_open_as(kdas_context *context, const char *network, const char *path,
                            const char *entry, const kdas_model_options *options);
/* False after a sentence: --dtype int8 was asked for, and the weights are of no model on 8-bit grids. */
bool weights_fit_dtype(const kdas_model *model, const char *path);
/* Whether a network takes only one size, which `size` then gets unless it is NULL. False without a
 * model. */
bool network_size(const kdas_model *model, int64_t size[2]);
/* Fill in a size of zeros, that of --size where it was not given; where the weights do not say it,
 * a warning does. The sentence about what is run, "polyp_pvt_b0 at 96x96, as --size says", is to be
 * freed; NULL after one about a size that the network does not take. */
char *weights_size(const kdas_model *model, int64_t size[2]);
#endif

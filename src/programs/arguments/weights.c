/* weights.c - the network of a file of weights. */
#include "arguments/weights.h"
#include <string.h>
#include "system/say.h"

/* The name as a text that stays. */
static const char *keep(const char *network)
{
    const char *name;

    for (int32_t i = 0; (name = kdas_model_name(i)); i++)
        if (!strcmp(name, network)) return name;
    return NULL;
}

const char *weights_network(kdas_context *context, const char *network, const char *usual,
                            const char *path, const char *with)
{
    kdas_file  *file = NULL;
    const char *its, *name = network;

    if (!ok(kdas_file_open(&file, context, path))) return NULL;
    its = kdas_file_network(file);
    if (its && network && strcmp(its, network) != 0) {
        say_error("'%s' has the weights of %s, not of %s: leave out %s, or name %s", path, its,
                  network, with, its);
        name = NULL;
    } else if (!network && its) {
        name = keep(its);
        if (!name)
            say_error("'%s' has the weights of '%s', a network that this libkdas does not know",
                      path, its);
    } else if (!network) {
        name = usual;
    }
    kdas_file_destroy(file);
    return name;
}

kdas_model *weights_open(kdas_context *context, const char *network, const char *path,
                         const char *entry)
{
    kdas_model_options options;

    kdas_model_options_init(&options, sizeof options);
    options.trainable = 0;
    return weights_open_as(context, network, path, entry, &options);
}

bool weights_fit_dtype(const kdas_model *model, const char *path)
{
    if (kdas_context_precision(kdas_model_context(model)) != KDAS_PRECISION_INT8 ||
        kdas_model_quantized(model) != KDAS_QUANTIZE_NONE)
        return true;
    say_error("--dtype int8: '%s' has no ranges to compute with integers by; make a file that has: "
              "kdas-quantize --weights %s --data DIR --out FILE",
              path, path);
    return false;
}

kdas_model *weights_open_as(kdas_context *context, const char *network, const char *path,
                            const char *entry, const kdas_model_options *options)
{
    kdas_load_options load;
    kdas_model       *model = NULL;

    kdas_load_options_init(&load, sizeof load);
    load.entry = entry;
    return ok(kdas_model_open(&model, context, network, path, options, &load)) ? model : NULL;
}

bool network_size(const kdas_model *model, int64_t size[2])
{
    kdas_network network = { .size = sizeof network };

    if (!model || kdas_network_describe(kdas_model_network(model), &network) != KDAS_OK ||
        !network.fixed)
        return false;
    if (size) {
        size[0] = network.height;
        size[1] = network.width;
    }
    return true;
}

char *weights_size(const kdas_model *model, int64_t size[2])
{
    int64_t     own[2];
    bool        known = kdas_model_input_size(model, &own[0], &own[1]), told = size[0] != 0;
    const char *why = told                        ? "as --size says"
                      : network_size(model, NULL) ? "the only size that it takes"
                      : known                     ? "the size that its weights were trained for"
                                                  : "the default";

    if (!told) {
        size[0] = own[0];
        size[1] = own[1];
    }
    if (!ok(kdas_model_check_size(model, size[0], size[1]))) return NULL;
    if (!told && !known)
        say_error("warning: the weights do not say for which size they were trained: %s runs at "
                  "%lldx%lld; --size tells another",
                  kdas_model_network(model), (long long)size[0], (long long)size[1]);
    return text_of("%s at %lldx%lld, %s", kdas_model_network(model), (long long)size[0],
                   (long long)size[1], why);
}

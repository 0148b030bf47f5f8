/* weights.c - the network of a file of weights. */
#include "arguments/weights.h"
#include "system/say.h"

bool weights_open(kdas_model **out, kdas_context *context, const char *network, const char *usual,
                  const char *path)
{
    kdas_model_options options;
    kdas_file         *file = NULL;

    kdas_model_options_init(&options, sizeof options);
    options.trainable = 0;
    if (!network) {
        bool named;

        if (!ok(kdas_file_open(&file, context, path))) return false;
        named = kdas_file_network(file) != NULL;
        kdas_file_destroy(file);
        if (!named && !usual) {
            say_error("'%s' does not say of which network it is: give --model", path);
            return false;
        }
        if (!named) network = usual;
    }
    return ok(kdas_model_open(out, context, network, path, &options));
}

char *weights_size(const kdas_model *model, int64_t size[2])
{
    int64_t     own[2];
    bool        known = kdas_model_input_size(model, &own[0], &own[1]), told = size[0] != 0;
    const char *why = told    ? "as --size says"
                      : known ? "the size that its weights were trained for"
                              : "the default";

    if (!told) {
        size[0] = own[0];
        size[1] = own[1];
    }
    if (!told && !known)
        say_error("warning: the weights do not say for which size they were trained: %s runs at "
                  "%lldx%lld; --size tells another",
                  kdas_model_network(model), (long long)size[0], (long long)size[1]);
    return text_of("%s at %lldx%lld, %s", kdas_model_network(model), (long long)size[0],
                   (long long)size[1], why);
}

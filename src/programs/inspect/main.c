/* kdas-inspect - look into a network: its layers, what can be distilled, and what it costs.
 * Without a model's name: all models. */
#define KDAS_EXPERIMENTAL
#include <kdas/model.h>
#include <stdlib.h>
#include <string.h>
#include "arguments/args.h"
#include "arguments/context.h"
#include "inspect/file.h"
#include "system/files.h"
#include "system/say.h"

typedef struct settings {
    const char *model;
    int64_t     size[2], batch;
    machine     machine;
} settings;

static int read_settings(settings *s, int argc, char **argv)
{
    const option options[] = {
        { OPTION_SIZE, "--size", "N|HxW", s->size, 0, 0,
          "of the input (352; of a FILE, the size that its weights were\ntrained for)" },
        { OPTION_WHOLE, "--batch", "N", &s->batch, 1, 4096,
          "images, for the memory of a step (1)" },
        MACHINE_OPTIONS(s->machine),
    };
    const program p = {
        .name  = "kdas-inspect",
        .usage = "MODEL [option]...\nFILE [option]...\n[option]...",
        .about =
            "Print a network's layers, taps, outputs and cost; or what a file is: weights of any\n"
            "program (safetensors or .pth) or a checkpoint, with all that it says of itself.\n"
            "Without either, list all networks.",
        .options = options,
        .count   = COUNT(options),
        .after = "MACs are multiply-accumulates of every convolution, linear, attention and graph\n"
                 "product, without biases; thop is what the Python counter of that name reports.\n"
                 "Both count one image."
    };
    int rest, code;

    *s   = (settings){ .batch = 1 };
    code = args_read(&p, argc, argv, &rest);
    if (code < 0 && rest > 1)
        code = args_wrong(&p, "one model or file at a time, not '%s' as well", argv[2]);
    if (rest) s->model = argv[1];
    return code;
}

static bool is_network(const char *text)
{
    const char *name;

    for (int32_t i = 0; (name = kdas_model_name(i)); i++)
        if (!strcmp(name, text)) return true;
    return false;
}

/* What is neither a network's name nor a file: a name that was mistyped. */
static bool is_neither(const char *text)
{
    return !is_network(text) && !strchr(text, '/') && !path_exists(text);
}

/* Say so: the library knows the nearest name. */
static bool refuse_name(kdas_context *context, const char *text)
{
    kdas_model *model = NULL;

    if (kdas_model_create(&model, context, text, NULL) == KDAS_ENOTFOUND)
        say_error("there is no file '%s', and %s", text, kdas_last_error());
    else
        say_error("%s", kdas_last_error());
    return false;
}

/* ---- All models ------------------------------------------------------------------------------ */

static bool list_models(kdas_context *context, const settings *s)
{
    const char *name;

    printf("%-16s %14s %12s %12s   at %lldx%lld\n", "model", "parameters", "GMACs", "thop G",
           (long long)s->size[0], (long long)s->size[1]);
    for (int32_t i = 0; (name = kdas_model_name(i)); i++) {
        int64_t parameters;
        double  macs, thop;

        if (!ok(kdas_model_cost(context, name, s->size[0], s->size[1], KDAS_COUNT_MACS, &parameters,
                                &macs)) ||
            !ok(kdas_model_cost(context, name, s->size[0], s->size[1], KDAS_COUNT_THOP, NULL,
                                &thop))) {
            return false;
        }
        printf("%-16s %14lld %12.3f %12.3f\n", name, (long long)parameters, macs / 1e9, thop / 1e9);
    }
    return true;
}

/* ---- One model ------------------------------------------------------------------------------- */

/* "2x88x88x64": (N,H,W,C) without leading ones where there is no image. */
static const char *dims_text(char *text, size_t size, const int64_t dims[4])
{
    snprintf(text, size, "%lldx%lldx%lldx%lld", (long long)dims[0], (long long)dims[1],
             (long long)dims[2], (long long)dims[3]);
    return text;
}

static bool print_layers(kdas_model *model, const settings *s, double *macs, double *thop)
{
    kdas_layer   layer  = { .size = sizeof layer };
    kdas_layers *layers = NULL;
    bool         done   = ok(kdas_layers_create(&layers, model, s->size[0], s->size[1]));
    char         dims[96];

    *macs = *thop = 0;
    if (!done) return false;
    printf("%-46s %-13s %-18s %11s %12s\n", "layer", "op", "output (N,H,W,C)", "parameters",
           "MMACs");
    for (int32_t i = 0; done && i < kdas_layers_count(layers); i++) {
        done = ok(kdas_layers_at(layers, i, &layer));
        if (!done) break;
        printf("%-46s %-13s %-18s %11lld %12.3f\n", layer.name, layer.op,
               dims_text(dims, sizeof dims, layer.dims), (long long)layer.parameters,
               layer.macs / 1e6);
        *macs += layer.macs;
        *thop += layer.thop;
    }
    kdas_layers_destroy(layers);
    return done;
}

static bool print_tensors(const kdas_model *model)
{
    int32_t trainable, buffers = 0, count = kdas_model_tensors(model);

    for (int32_t i = 0; i < count; i++) {
        if (kdas_model_tensor(model, i, NULL, NULL, &trainable)) buffers += !trainable;
    }
    printf("%-16s %lld in %d tensors, and %d buffers\n", "parameters",
           (long long)kdas_model_parameters(model), count - buffers, buffers);
    return true;
}

static double mebibytes(size_t bytes) { return (double)bytes / (1024 * 1024); }

static bool print_memory(kdas_model *model, const settings *s)
{
    static const struct {
        const char *name;
        kdas_mode   mode;
        int         copies; /* of the parameters: value, gradient, two moments of AdamW */
    } kinds[] = { { "inference", KDAS_MODE_INFER, 1 }, { "training step", KDAS_MODE_TRAIN, 4 } };

    for (int i = 0; i < COUNT(kinds); i++) {
        size_t arena, packed,
            values = 4 * (size_t)kdas_model_parameters(model) * (size_t)kinds[i].copies;

        if (!ok(kdas_model_memory(model, kinds[i].mode, s->batch, s->size[0], s->size[1], &arena,
                                  &packed))) {
            return false;
        }
        printf("%-16s %.1f MiB: activations %.1f, weights%s %.1f, kernels' layouts %.1f\n",
               kinds[i].name, mebibytes(arena + packed + values), mebibytes(arena),
               i ? " with gradients and moments" : "", mebibytes(values), mebibytes(packed));
    }
    return true;
}

/* Run it once on black images, to see what comes out where. */
static bool print_places(kdas_context *context, kdas_model *model, const settings *s)
{
    kdas_batch *batch = NULL;
    const char *name;
    int64_t     dims[4];
    char        text[96];
    bool        done = true;

    for (int32_t i = 0; done && (name = kdas_model_tap(model, i)); i++)
        done = ok(kdas_model_keep_tap(model, name));
    done = done && ok(kdas_batch_create(&batch, context, s->batch, s->size[0], s->size[1])) &&
           ok(kdas_model_forward(model, KDAS_MODE_INFER, batch));
    if (done) puts("\ntaps and outputs (N,H,W,C)");
    for (int32_t i = 0; done && (name = kdas_model_tap(model, i)); i++) {
        done = ok(kdas_model_tap_dims(model, name, dims));
        if (done) printf("  tap     %-28s %s\n", name, dims_text(text, sizeof text, dims));
    }
    for (int32_t i = 0; done && i < kdas_model_outputs(model); i++) {
        name = kdas_model_output(model, i, dims);
        printf("  output  %-28s %s\n", name, dims_text(text, sizeof text, dims));
    }
    kdas_batch_destroy(batch);
    return done;
}

static bool inspect(kdas_context *context, const settings *s)
{
    kdas_model *model = NULL;
    double      macs, thop;
    bool        done = ok(kdas_model_create(&model, context, s->model, NULL)) &&
                print_layers(model, s, &macs, &thop);

    if (done) {
        printf("\n%s, %lld images of %lldx%lld\n", s->model, (long long)s->batch,
               (long long)s->size[0], (long long)s->size[1]);
        print_tensors(model);
        printf("%-16s %.3f G an image\n%-16s %.3f G an image\n", "MACs", macs / 1e9, "thop FLOPs",
               thop / 1e9);
        done = print_memory(model, s) && print_places(context, model, s);
    }
    kdas_model_destroy(model);
    return done;
}

int main(int argc, char **argv)
{
    kdas_context *context = NULL;
    settings      s;
    int           code;
    bool          done;

    say_as("kdas-inspect");
    code = read_settings(&s, argc, argv);
    if (code >= 0) return code;
    done = context_open(&context, &s.machine);
    if (done && s.model && is_neither(s.model)) {
        done = refuse_name(context, s.model);
    } else if (done && s.model && !is_network(s.model)) {
        done = file_inspect(context, s.model, s.size);
    } else if (done) {
        if (!s.size[0]) s.size[0] = s.size[1] = KDAS_DEFAULT_SIDE;
        done = s.model ? inspect(context, &s) : list_models(context, &s);
    }
    kdas_context_destroy(context);
    return done ? EXIT_FINE : EXIT_FAILED;
}

/* kdas-inspect - look into a network: its layers, what can be distilled, and what it costs.
 * Without a model's name: all models. */
#define KDAS_EXPERIMENTAL
#include <kdas/model.h>
#include <stdlib.h>
#include <string.h>
#include "arguments/args.h"
#include "arguments/context.h"
#include "inspect/file.h"
#include "inspect/table.h"
#include "system/files.h"
#include "system/say.h"

typedef struct settings {
    const char *model;
    int64_t     size[2], batch;
    bool        table;
    machine     machine;
} settings;

static int read_settings(settings *s, int argc, char **argv)
{
    const option options[] = {
        { OPTION_SIZE, "--size", "N|HxW", s->size, 0, 0,
          "of the input (352, or the only one that the network takes; of\na FILE, the size that "
          "its "
          "weights were trained for)" },
        { OPTION_WHOLE, "--batch", "N", &s->batch, 1, 4096,
          "images, for the memory of a step (1)" },
        { OPTION_FLAG, "--table", NULL, &s->table, 0, 0,
          "print the costs that the KDAS paper gives of the networks that\nit compares, counted "
          "again" },
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
                 "product, without biases; thop and fvcore are what the Python counters of those\n"
                 "names report. All count one image."
    };
    int rest, code;

    *s   = (settings){ .batch = 1 };
    code = args_read(&p, argc, argv, &rest);
    if (code < 0 && rest > 1)
        code = args_wrong(&p, "one model or file at a time, not '%s' as well", argv[2]);
    if (rest) s->model = argv[1];
    if (code < 0 && s->table && (rest || s->size[0]))
        code = args_wrong(&p, "--table has its own networks and sizes");
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

/* The size to look at a network at: --size, unless it takes only one. */
static bool size_of(const char *name, const settings *s, kdas_network *network, int64_t size[2])
{
    const bool told = s->size[0] != 0;

    *network = (kdas_network){ .size = sizeof *network };
    if (!ok(kdas_network_describe(name, network))) return false;
    size[0] = told ? s->size[0] : network->height;
    size[1] = told ? s->size[1] : network->width;
    return true;
}

static bool list_models(kdas_context *context, const settings *s)
{
    const char *name;

    printf("%-22s %14s %12s %12s %12s   %s\n", "model", "parameters", "GMACs", "thop G", "fvcore G",
           "size");
    for (int32_t i = 0; (name = kdas_model_name(i)); i++) {
        static const kdas_count_rule rules[] = { KDAS_COUNT_MACS, KDAS_COUNT_THOP,
                                                 KDAS_COUNT_FVCORE };
        kdas_network                 network;
        int64_t                      parameters, size[2];
        double                       cost[COUNT(rules)];

        if (!size_of(name, s, &network, size)) return false;
        if (network.fixed) size[0] = size[1] = network.height; /* a list leaves none out */
        for (int k = 0; k < COUNT(rules); k++)
            if (!ok(kdas_model_cost(context, name, size[0], size[1], rules[k], &parameters,
                                    &cost[k])))
                return false;
        printf("%-22s %14lld %12.3f %12.3f %12.3f   %lldx%lld%s\n", name, (long long)parameters,
               cost[0] / 1e9, cost[1] / 1e9, cost[2] / 1e9, (long long)size[0], (long long)size[1],
               network.fixed ? ", the only one" : "");
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

static bool print_layers(kdas_model *model, const settings *s, kdas_layer *sum)
{
    kdas_layer   layer  = { .size = sizeof layer };
    kdas_layers *layers = NULL;
    bool         done   = ok(kdas_layers_create(&layers, model, s->size[0], s->size[1]));
    char         dims[96];

    *sum = (kdas_layer){ .size = sizeof *sum };
    if (!done) return false;
    printf("%-46s %-13s %-18s %11s %12s\n", "layer", "op", "output (N,H,W,C)", "parameters",
           "MMACs");
    for (int32_t i = 0; done && i < kdas_layers_count(layers); i++) {
        done = ok(kdas_layers_at(layers, i, &layer));
        if (!done) break;
        printf("%-46s %-13s %-18s %11lld %12.3f\n", layer.name, layer.op,
               dims_text(dims, sizeof dims, layer.dims), (long long)layer.parameters,
               layer.macs / 1e6);
        sum->macs += layer.macs;
        sum->thop += layer.thop;
        sum->fvcore += layer.fvcore;
    }
    kdas_layers_destroy(layers);
    return done;
}

static bool print_tensors(const kdas_model *model)
{
    int32_t trainable, rank, idle = 0, buffers = 0, count = kdas_model_tensors(model);
    int64_t learnt = 0, dims[4], n;

    for (int32_t i = 0; i < count; i++) {
        kdas_model_tensor(model, i, &rank, dims, &trainable);
        n = 1;
        for (int32_t k = 0; k < rank; k++)
            n *= dims[k];
        if (trainable) learnt += n;
        idle += kdas_model_idle(model, i);
        buffers += !trainable && !kdas_model_idle(model, i);
    }
    printf("%-16s %lld in %d tensors, and %d buffers\n", "parameters", (long long)learnt,
           count - idle - buffers, buffers);
    if (idle)
        printf("%-16s %lld parameters; %d tensors that files have and no layer reads\n", "unused",
               (long long)(kdas_model_parameters(model) - learnt), idle);
    return true;
}

/* What sets it apart from other networks. */
static void print_rules(const kdas_model *model, const kdas_network *n)
{
    int32_t maps = kdas_model_maps(model);
    bool    own  = strcmp(n->colour, "RGB") != 0;

    if (n->fixed)
        printf("%-16s %lldx%lld alone\n", "takes", (long long)n->height, (long long)n->width);
    else
        printf("%-16s sides that are multiples of 32\n", "takes");
    own = own || n->mean[0] != 0.485f || n->deviation[0] != 0.229f;
    printf("%-16s %s, (v - mean) / deviation, mean %.4g %.4g %.4g, deviation %.4g %.4g %.4g%s\n",
           "colours", n->colour, (double)n->mean[0], (double)n->mean[1], (double)n->mean[2],
           (double)n->deviation[0], (double)n->deviation[1], (double)n->deviation[2],
           own ? ": made of the batch's, which are ImageNet's" : "");
    if (maps > 1) printf("%-16s %s\n", "answer", n->last ? "its last map" : "the sum of its maps");
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
    kdas_model  *model = NULL;
    kdas_layer   sum;
    kdas_network network = { .size = sizeof network };
    bool         done    = ok(kdas_network_describe(s->model, &network)) &&
                ok(kdas_model_create(&model, context, s->model, NULL)) &&
                print_layers(model, s, &sum);

    if (done) {
        printf("\n%s, %lld images of %lldx%lld\n", s->model, (long long)s->batch,
               (long long)s->size[0], (long long)s->size[1]);
        print_rules(model, &network);
        print_tensors(model);
        printf("%-16s %.3f G an image\n%-16s %.3f G an image\n%-16s %.3f G an image\n", "MACs",
               sum.macs / 1e9, "thop FLOPs", sum.thop / 1e9, "fvcore FLOPs", sum.fvcore / 1e9);
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
    } else if (done && s.table) {
        done = table_print(context);
    } else if (done && s.model) {
        kdas_network network;

        done = size_of(s.model, &s, &network, s.size) && inspect(context, &s);
    } else if (done) {
        done = list_models(context, &s);
    }
    kdas_context_destroy(context);
    return done ? EXIT_FINE : EXIT_FAILED;
}

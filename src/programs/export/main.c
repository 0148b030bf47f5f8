/* kdas-export - write a trained network as an ONNX file, for ONNX Runtime, OpenVINO, TensorRT and
 * others. */
#include <kdas/export.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "arguments/args.h"
#include "arguments/context.h"
#include "arguments/weights.h"
#include "system/files.h"
#include "system/say.h"

typedef struct settings {
    const char *model, *weights, *entry, *out;
    int64_t     size[2], batch;
    int64_t     input, layout, maps; /* kdas_onnx_input, kdas_onnx_layout, kdas_onnx_maps */
    bool        free_size, free_batch, sigmoid, floats, quiet;
    machine     machine;
} settings;

static int read_settings(settings *s, int argc, char **argv)
{
    const option options[] = {
        { OPTION_TEXT, "--weights", "FILE", &s->weights, 0, 0,
          "trained weights: safetensors or .pth" },
        WEIGHTS_ENTRY_OPTION(s->entry),
        { OPTION_TEXT, "--model", "MODEL", &s->model, 0, 0,
          "their network, a name that kdas-inspect lists (the one that they\nname, "
          "else " WEIGHTS_USUAL ")" },
        { OPTION_TEXT, "--out", "FILE", &s->out, 0, 0, "the file to write, e.g. student.onnx" },
        { OPTION_GROUP, "What comes in", NULL, NULL, 0, 0, NULL },
        { OPTION_SIZE, "--size", "N|HxW", s->size, 0, 0, WEIGHTS_SIZE_HELP },
        { OPTION_FLAG, "--free-size", NULL, &s->free_size, 0, 0,
          "any size of multiples of 32, chosen at each run" },
        { OPTION_WHOLE, "--batch", "N", &s->batch, 1, 4096, "images (1)" },
        { OPTION_FLAG, "--free-batch", NULL, &s->free_batch, 0, 0,
          "any number of images, chosen at each run" },
        { OPTION_CHOICE, "--input", "normalised|unit|bytes", &s->input, 0, 0,
          "RGB floats: (v - mean) / deviation (default), or 0..1 or 0..255,\n"
          "which the network then normalises itself" },
        { OPTION_CHOICE, "--layout", "nchw|nhwc", &s->layout, 0, 0, "of input and outputs (nchw)" },
        { OPTION_GROUP, "What comes out", NULL, NULL, 0, 0, NULL },
        { OPTION_CHOICE, "--maps", "sum|each", &s->maps, 0, 0,
          "the sum of the maps (default), which is to be thresholded,\nor each map" },
        { OPTION_FLAG, "--sigmoid", NULL, &s->sigmoid, 0, 0, "probabilities instead of logits" },
        { OPTION_FLAG, "--floats", NULL, &s->floats, 0, 0,
          "floats alone, of weights that were made for 8-bit integers" },
        { OPTION_GROUP, "Program", NULL, NULL, 0, 0, NULL },
        { OPTION_FLAG, "--quiet", NULL, &s->quiet, 0, 0, "print errors only" },
        MACHINE_OPTIONS(s->machine),
    };
    const program p = {
        .name    = "kdas-export",
        .usage   = "--weights FILE [--model MODEL] --out FILE.onnx [option]...",
        .about   = "Write a trained network as an ONNX file (opset 17; f32, or 8-bit integers).",
        .options = options,
        .count   = COUNT(options),
        .after   = "docs/onnx.md shows how to feed the file."
    };
    int rest, code;

    *s   = (settings){ .batch = 1 };
    code = args_read(&p, argc, argv, &rest);
    if (code >= 0) return code;
    if (rest) return args_wrong(&p, "'%s' is not wanted", argv[1]);
    if (!s->weights)
        return args_wrong(&p, "--weights is missing: which file holds the trained network?");
    if (!s->out) return args_wrong(&p, "--out is missing: where shall the ONNX file go?");
    if (!strcmp(s->out, "-"))
        return args_wrong(&p, "--out wants a file: an ONNX file does not go to standard output");
    if (same_file(s->out, s->weights))
        return args_wrong(&p, "--out '%s' would replace the weights", s->out);
    return -1;
}

static kdas_onnx_options onnx_options(const settings *s)
{
    kdas_onnx_options o;

    kdas_onnx_options_init(&o, sizeof o);
    o.batch   = s->free_batch ? KDAS_ONNX_FREE : s->batch;
    o.height  = s->free_size ? KDAS_ONNX_FREE : s->size[0];
    o.width   = s->free_size ? KDAS_ONNX_FREE : s->size[1];
    o.input   = (int32_t)s->input;
    o.layout  = (int32_t)s->layout;
    o.maps    = (int32_t)s->maps;
    o.sigmoid = s->sigmoid;
    o.floats  = s->floats;
    return o;
}

/* What was written, of which size. */
static void report(const settings *s, const char *what)
{
    struct stat file;

    if (s->quiet || stat(s->out, &file) != 0) return;
    printf("%s: %s, %.1f MB\n", s->out, what, (double)file.st_size / 1e6);
}

static bool export_file(kdas_context *context, settings *s)
{
    kdas_onnx_options options;
    kdas_model       *model;
    char             *what = NULL;
    bool              done;

    s->model = weights_network(context, s->model, WEIGHTS_USUAL, s->weights, "--model");
    model    = s->model ? weights_open(context, s->model, s->weights, s->entry) : NULL;
    if (!model) return false;
    what    = s->free_size ? text_of("%s at any size", s->model) : weights_size(model, s->size);
    options = onnx_options(s);
    done    = what && ok(kdas_model_export_onnx(model, s->out, &options));
    if (done) report(s, what);
    free(what);
    kdas_model_destroy(model);
    return done;
}

int main(int argc, char **argv)
{
    kdas_context *context = NULL;
    settings      s;
    int           code;
    bool          done;

    say_as("kdas-export");
    code = read_settings(&s, argc, argv);
    if (code >= 0) return code;
    done = context_open(&context, &s.machine) && export_file(context, &s);
    kdas_context_destroy(context);
    return done ? EXIT_FINE : EXIT_FAILED;
}

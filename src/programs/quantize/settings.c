/* settings.c - see settings.h. */
#include "quantize/settings.h"
#include <string.h>
#include "arguments/args.h"
#include "arguments/masks.h"
#include "arguments/weights.h"
#include "system/files.h"
#include "system/output.h"
#include "system/say.h"

static int check(const program *p, const settings *s, int rest, char **argv)
{
    if (rest) return args_wrong(p, "'%s' is not wanted", argv[1]);
    if (!s->weights)
        return args_wrong(p, "--weights is missing: which file holds the trained network?");
    if (!s->data)
        return args_wrong(p, "--data is missing: on which frames shall the ranges be found?");
    if (!s->out) return args_wrong(p, "--out is missing: where shall the weights go?");
    if (!strcmp(s->out, "-"))
        return args_wrong(p, "--out wants a file: weights do not go to standard output");
    if (same_file(s->out, s->weights))
        return args_wrong(p, "--out '%s' would replace the weights", s->out);
    if (s->list && same_file(s->out, s->list))
        return args_wrong(p, "--out '%s' would replace the list of frames", s->out);
    if (s->csv && s->list && same_file(s->csv, s->list))
        return args_wrong(p, "--csv '%s' would replace the list of frames", s->csv);
    if (s->csv && (same_file(s->csv, s->weights) || output_same(s->csv, s->out)))
        return args_wrong(p, "--csv '%s' would replace the weights", s->csv);
    output_claim(s->csv);
    return -1;
}

int settings_read(settings *s, int argc, char **argv)
{
    const option options[] = {
        { OPTION_TEXT, "--weights", "FILE", &s->weights, 0, 0,
          "trained weights: safetensors or .pth" },
        WEIGHTS_ENTRY_OPTION(s->entry),
        { OPTION_TEXT, "--model", "MODEL", &s->model, 0, 0,
          "their network, a name that kdas-inspect lists (the one that they\nname, "
          "else " WEIGHTS_USUAL ")" },
        { OPTION_TEXT, "--out", "FILE", &s->out, 0, 0,
          "the file to write, e.g. student-int8.safetensors" },
        { OPTION_SIZE, "--size", "N|HxW", s->size, 0, 0, WEIGHTS_SIZE_HELP },
        { OPTION_GROUP, "Frames", NULL, NULL, 0, 0, NULL },
        { OPTION_TEXT, "--data", "DIR", &s->data, 0, 0,
          "frames like those that the network will see: a folder with\nimages and masks, or one "
          "with TrainDataset" },
        { OPTION_WHOLE, "--frames", "N", &s->frames, 1, 1e9, "find the ranges on N of them (64)" },
        { OPTION_WHOLE, "--held-out", "N", &s->held_out, 0, 1e9,
          "measure the Dice before and after on at most N of the others\n(100); 0: do not" },
        { OPTION_FLAG, "--no-masks", NULL, &s->no_masks, 0, 0,
          "the frames have no masks: no Dice is measured" },
        { OPTION_TEXT, "--list", "FILE", &s->list, 0, 0,
          "only the frames that the file names, one in a line" },
        { OPTION_FLAG, "--skip-bad", NULL, &s->skip_bad, 0, 0,
          "leave out frames that cannot be used" },
        { OPTION_FLAG, "--resize-masks", NULL, &s->resize_masks, 0, 0,
          "resize masks of another size to their images'" },
        MASK_OPTIONS(s->mask_rule, s->allow_empty),
        { OPTION_GROUP, "Ranges", NULL, NULL, 0, 0, NULL },
        { OPTION_CHOICE, "--method", "min-max|percentile|mse", &s->method, 0, 0,
          "how a range is chosen: all values, all but the largest and the\nsmallest, or the least "
          "square error (default)" },
        { OPTION_REAL, "--percentile", "X", &s->percentile, 50, 100, "for that method (99.99)" },
        { OPTION_GROUP, "Layers", NULL, NULL, 0, 0, NULL },
        { OPTION_TEXT, "--wide", "NAME,...", &s->wide, 0, 0,
          "layers that stay off grids (the network's own: its first and\nlast ones), or none" },
        { OPTION_WHOLE, "--most-wide", "N", &s->most_wide, 0, 10000,
          "keep up to N more wide, those with the largest output error (0)" },
        { OPTION_REAL, "--wide-error", "X", &s->wide_error, 0, 10,
          "of those with an output error above X (0.05)" },
        { OPTION_WHOLE, "--probes", "N", &s->probes, 0, 64,
          "frames to measure output errors on (4); 0: do not" },
        { OPTION_GROUP, "Program", NULL, NULL, 0, 0, NULL },
        { OPTION_TEXT, "--csv", "FILE", &s->csv, 0, 0,
          "write the table of layers in full precision; -: to standard\noutput" },
        { OPTION_FLAG, "--quiet", NULL, &s->quiet, 0, 0, "print errors only" },
        PLACE_OPTIONS(s->machine),
    };
    const program p = {
        .name  = "kdas-quantize",
        .usage = "--weights FILE --data DIR --out FILE [option]...",
        .about =
            "Put a trained network on 8-bit grids, by the values that it has on frames: its file\n"
            "is a quarter as large, and a CPU that can computes it with integers.",
        .options = options,
        .count   = COUNT(options),
        .after =
            "Errors are relative. docs/int8.md explains the table. Integers are used by programs\n"
            "with --dtype int8 or auto."
    };
    int rest, code;

    *s   = (settings){ .method     = 2,
                       .frames     = 64,
                       .held_out   = 100,
                       .probes     = 4,
                       .percentile = 99.99,
                       .wide_error = 0.05 };
    code = args_read(&p, argc, argv, &rest);
    return code >= 0 ? code : check(&p, s, rest, argv);
}

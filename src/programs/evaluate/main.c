/* kdas-evaluate - the field's table of measures, for maps on disk or for a model on folders. */
#include <errno.h>
#include <kdas/metric.h>
#include <kdas/model.h>
#include <kdas/train.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "arguments/args.h"
#include "arguments/context.h"
#include "arguments/group.h"
#include "arguments/masks.h"
#include "arguments/weights.h"
#include "system/csv.h"
#include "system/files.h"
#include "system/output.h"
#include "system/say.h"
#include "system/stop.h"
#include "system/streams.h"

/* ---- Settings -------------------------------------------------------------------------------- */

static struct {
    const char *predictions, *masks, *model, *weights, *entry, *csv, *per_image, *list;
    bool        data, skip_bad, resize_masks, resize_predictions, allow_empty;
    int64_t     size[2], mask_rule;
    machine     machine;
    group       group;
} set_to;

static const option options[] = {
    { OPTION_GROUP, "Maps on disk" },
    { OPTION_TEXT, "--predictions", "DIR", &set_to.predictions,
      .help = "maps: 255 times the min-max normalised probability" },
    { OPTION_TEXT, "--masks", "DIR", &set_to.masks,
      .help = "their masks, of the same names and sizes;\na mask NAME has the "
              "prediction NAME, NAME_probability\nor NAME_mask" },
    { OPTION_FLAG, "--resize-predictions", NULL, &set_to.resize_predictions,
      .help = "resize maps of another size to their masks'" },
    { OPTION_GROUP, "A model" },
    { OPTION_TEXT, "--weights", "FILE", &set_to.weights,
      .help = "its weights: safetensors or .pth" },
    WEIGHTS_ENTRY_OPTION(set_to.entry),
    { OPTION_TEXT, "--model", "MODEL", &set_to.model,
      .help = "network, e.g. lite_fpn1 (the one that the weights name,\nelse " WEIGHTS_USUAL ")" },
    { OPTION_FLAG, "--data", "DIR...", &set_to.data,
      .help = "sets: folders that hold images/ and masks/" },
    { OPTION_FLAG, "--resize-masks", NULL, &set_to.resize_masks,
      .help = "resize masks of another size to their images'" },
    { OPTION_SIZE, "--size", "N|HxW", set_to.size, .help = WEIGHTS_SIZE_HELP },
    MACHINE_OPTIONS(set_to.machine),
    GROUP_OPTIONS(set_to.group),
    { OPTION_GROUP, "Frames" },
    { OPTION_TEXT, "--list", "FILE", &set_to.list,
      .help = "only the frames that the file names, one in a line" },
    { OPTION_FLAG, "--skip-bad", NULL, &set_to.skip_bad,
      .help = "leave out frames that cannot be used, and say which" },
    MASK_OPTIONS(set_to.mask_rule, set_to.allow_empty),
    { OPTION_GROUP, "Output" },
    { OPTION_TEXT, "--csv", "FILE", &set_to.csv,
      .help = "write every metric of every set, in full precision;\n-: to standard output" },
    { OPTION_TEXT, "--per-image", "FILE", &set_to.per_image,
      .help = "write every metric of every image, the same way" },
};

static const program self = {
    "kdas-evaluate",
    "--predictions DIR --masks DIR [option]...\n"
    "--weights FILE --data DIR... [--model MODEL] [--size N] [option]...",
    "Prints the field's table, a row for each set: means over thresholds and images, and the best\n"
    "value of the set's mean curve. docs/metrics.md defines each metric.",
    options,
    COUNT(options),
    NULL,
};

/* The tables may replace neither the input nor each other. */
static int check_tables(void)
{
    const char *const table[] = { set_to.csv, set_to.per_image };
    const char *const name[]  = { "--csv", "--per-image" };

    for (int i = 0; i < 2; i++) {
        if (!table[i]) continue;
        if (set_to.weights && same_file(table[i], set_to.weights))
            return args_wrong(&self, "%s '%s' would replace the weights", name[i], table[i]);
        if (set_to.list && same_file(table[i], set_to.list))
            return args_wrong(&self, "%s '%s' would replace the list", name[i], table[i]);
    }
    if (output_same(table[0], table[1]))
        return args_wrong(&self, "--csv and --per-image are the same file, '%s'", table[0]);
    output_claim(table[0]);
    output_claim(table[1]);
    return -1;
}

/* -1 if the options make one of the two kinds of run, else the exit code. */
static int check_settings(int folders)
{
    if (set_to.predictions || set_to.masks) {
        if (set_to.model || set_to.weights || set_to.data)
            return args_wrong(&self, "--predictions and --masks do not go with a model");
        if (!set_to.predictions || !set_to.masks)
            return args_wrong(&self, "--predictions and --masks must both be given");
        if (folders) return args_wrong(&self, "there are folders without --data");
        if (set_to.resize_masks) return args_wrong(&self, "--resize-masks goes with --data");
        return -1;
    }
    if (!set_to.weights || !set_to.data)
        return args_wrong(&self, "give --predictions and --masks, or --weights and --data");
    if (!folders) return args_wrong(&self, "--data wants folders");
    if (set_to.list && folders > 1) return args_wrong(&self, "--list goes with one folder");
    if (set_to.resize_predictions)
        return args_wrong(&self, "--resize-predictions goes with --predictions");
    return -1;
}

/* ---- Frames ---------------------------------------------------------------------------------- */

/* Nothing stays decoded: each frame is read once more after the check, and memory is the same for
 * a set of any size. */
static kdas_dataset_options dataset_options(void)
{
    kdas_dataset_options settings;

    kdas_dataset_options_init(&settings, sizeof settings);
    settings.bad_file    = set_to.skip_bad ? KDAS_BAD_FILE_SKIP : KDAS_BAD_FILE_REFUSE;
    settings.fit_masks   = set_to.resize_masks || set_to.resize_predictions;
    settings.list        = set_to.list;
    settings.mask_rule   = (int32_t)set_to.mask_rule;
    settings.allow_empty = set_to.allow_empty;
    settings.cache       = 0;
    /* ranks decode their own frames alone; with --skip-bad all must leave out the same ones */
    settings.check = !set_to.group.ranks || set_to.skip_bad;
    return settings;
}

/* What was left out of a set, one line each, for the end of the run. */
static char *left_out;

static void remember_left_out(const char *dir, const kdas_dataset *frames)
{
    for (int64_t i = 0; i < kdas_dataset_skipped(frames); i++) {
        char *more =
            text_of("%sleft out of %s: %s: %s\n", left_out ? left_out : "", dir,
                    kdas_dataset_skipped_name(frames, i), kdas_dataset_skipped_reason(frames, i));

        free(left_out);
        left_out = more;
    }
}

/* Opened on all ranks, or on none. */
static bool all_opened(kdas_status status) { return group_all(&set_to.group, ok(status)); }

/* ---- Scoring: functions return false after a sentence ---------------------------------------- */

static bool score_maps(kdas_evaluator *set, kdas_context *context)
{
    kdas_dataset_options settings = dataset_options();
    kdas_dataset        *frames   = NULL;
    bool fine = all_opened(kdas_dataset_open_predictions(&frames, context, set_to.predictions,
                                                         set_to.masks, &settings)) &&
                ok(kdas_evaluate_predictions(set, frames, 0));

    if (fine) remember_left_out(set_to.predictions, frames);
    kdas_dataset_destroy(frames);
    return group_all(&set_to.group, fine && !stop_asked());
}

static bool model_open(kdas_model **out, kdas_context *context)
{
    const char *network =
        weights_network(context, set_to.model, WEIGHTS_USUAL, set_to.weights, "--model");
    char *text;

    *out = network ? weights_open(context, network, set_to.weights, set_to.entry) : NULL;
    if (!*out || !weights_fit_dtype(*out, set_to.weights)) return false;
    text = weights_size(*out, set_to.size);
    if (!text) return false;
    puts(text);
    free(text);
    return true;
}

static bool score_model(kdas_evaluator *set, kdas_context *context, kdas_model *model,
                        const char *dir)
{
    kdas_dataset_options settings = dataset_options();
    kdas_dataset        *frames   = NULL;
    bool                 fine = all_opened(kdas_dataset_open(&frames, context, dir, &settings)) &&
                ok(kdas_evaluate(set, model, frames, set_to.size[0], set_to.size[1], 0));

    if (fine) remember_left_out(dir, frames);
    kdas_dataset_destroy(frames);
    return fine;
}

/* ---- Output ---------------------------------------------------------------------------------- */

/* Headings of the field's table: the metrics in their order, without those at one threshold. */
static const char *const headings[] = {
    "meanDic", "meanIoU", "wFm",     "Sm",     "meanEm",  "mae",    "maxEm",
    "maxDic",  "maxIoU",  "meanSen", "maxSen", "meanSpe", "maxSpe",
};

static double figure(const kdas_evaluator *set, int64_t i, int metric)
{
    double value = 0;

    ok(kdas_evaluator_get(set, i, (kdas_metric)metric, &value)); /* the set has images */
    return value;
}

/* The last part of a folder's path, to be freed. */
static char *label_of(const char *dir)
{
    size_t end = strlen(dir), start;

    while (end > 1 && dir[end - 1] == '/')
        end--;
    for (start = end; start > 0 && dir[start - 1] != '/';)
        start--;
    return text_of("%.*s", (int)(end - start), dir + start);
}

static void print_heading(void)
{
    printf("%-16s", "set");
    for (int m = 0; m < COUNT(headings); m++)
        printf(" %7s", headings[m]);
    printf("\n");
    fflush(stdout);
}

static void print_row(const char *dir, const kdas_evaluator *set)
{
    long long empty = (long long)kdas_evaluator_empty(set);
    char     *label = label_of(dir);

    printf("%-16s", label);
    for (int m = 0; m < COUNT(headings); m++)
        printf(" %7.3f", figure(set, -1, m));
    printf("\n");
    fflush(stdout);
    if (empty)
        say_error("warning: %lld of %lld masks of '%s' are empty; their Dice, IoU and wFm are 0",
                  empty, (long long)kdas_evaluator_count(set), label);
    free(label);
}

static void put_figures(FILE *to, const kdas_evaluator *set, int64_t i)
{
    for (int m = 0; m < KDAS_METRICS; m++)
        fprintf(to, ",%.17g", figure(set, i, m));
    fputc('\n', to);
}

static void put_table(FILE *to, char **dirs, int count, kdas_evaluator **sets, bool each_image)
{
    fputs(each_image ? "set,image" : "set,images,empty", to);
    for (int m = 0; m < KDAS_METRICS; m++)
        fprintf(to, ",%s", kdas_metric_name((kdas_metric)m));
    fputc('\n', to);
    for (int d = 0; d < count; d++) {
        int64_t images = kdas_evaluator_count(sets[d]);
        char   *label  = label_of(dirs[d]);

        if (!each_image) {
            csv_text(to, label);
            fprintf(to, ",%lld,%lld", (long long)images, (long long)kdas_evaluator_empty(sets[d]));
            put_figures(to, sets[d], -1);
        }
        for (int64_t i = 0; each_image && i < images; i++) {
            csv_text(to, label);
            fputc(',', to);
            csv_text(to, kdas_evaluator_name(sets[d], i));
            put_figures(to, sets[d], i);
        }
        free(label);
    }
}

static bool write_table(const char *path, char **dirs, int count, kdas_evaluator **sets,
                        bool each_image)
{
    output to;

    if (!output_open(&to, path)) return false;
    put_table(to.file, dirs, count, sets, each_image);
    return output_close(&to);
}

/* ---- The run --------------------------------------------------------------------------------- */

/* One row for each of `dirs`. */
static bool run(char **dirs, int count, kdas_evaluator **sets, kdas_context *context,
                kdas_model *model)
{
    for (int i = 0; i < count; i++) {
        if (!ok(kdas_evaluator_create(&sets[i], context)) ||
            !ok(kdas_evaluator_share(sets[i], set_to.group.ranks)))
            return false;
        if (model ? !score_model(sets[i], context, model, dirs[i]) : !score_maps(sets[i], context))
            return false;
        if (i == 0) print_heading();
        print_row(dirs[i], sets[i]);
        if (streams_lost() && !set_to.csv && !set_to.per_image && !set_to.group.ranks)
            break; /* the rest is for nobody */
    }
    if (left_out) printf("\n%s", left_out);
    fflush(stdout);
    if (!group_first(&set_to.group)) return true;
    return (!set_to.csv || write_table(set_to.csv, dirs, count, sets, false)) &&
           (!set_to.per_image || write_table(set_to.per_image, dirs, count, sets, true));
}

/* Ranks with other numbers of sets would wait for each other. */
static bool agree_on_sets(int count)
{
    char *text = text_of("%d, of %s", count, set_to.weights ? "a model" : "maps");
    bool  same = group_agrees(&set_to.group, "number of sets", text);

    free(text);
    return same;
}

int main(int argc, char **argv)
{
    kdas_context    *context = NULL;
    kdas_model      *model   = NULL;
    kdas_evaluator **sets;
    char           **dirs, *maps;
    int              count, code;
    bool             fine;

    say_as(self.name);
    code = args_read(&self, argc, argv, &count);
    if (code < 0) code = check_settings(count);
    if (code < 0) code = check_tables();
    if (code >= 0) return code;

    maps  = (char *)set_to.predictions;
    dirs  = maps ? &maps : argv + 1;
    count = maps ? 1 : count;
    sets  = need((size_t)count * sizeof *sets);
    fine  = context_open(&context, &set_to.machine);
    if (fine) {
        stop_on_signal(context);
        fine = group_join(&set_to.group, context, &set_to.machine) && agree_on_sets(count) &&
               group_all(&set_to.group, !set_to.weights || model_open(&model, context)) &&
               run(dirs, count, sets, context, model);
        stop_on_signal(NULL);
    }
    code = fine ? EXIT_FINE : stop_asked() ? EXIT_INTERRUPTED : EXIT_FAILED;
    code = group_code(&set_to.group, code);
    for (int i = 0; i < count; i++)
        kdas_evaluator_destroy(sets[i]);
    free(sets);
    free(left_out);
    kdas_model_destroy(model);
    group_leave(&set_to.group);
    kdas_context_destroy(context);
    return code;
}

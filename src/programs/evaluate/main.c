/* kdas-evaluate - the field's table of measures, for maps on disk or for a model on folders. */
#include <dirent.h>
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
#include "arguments/masks.h"
#include "system/files.h"
#include "system/say.h"
#include "system/stop.h"

/* ---- Settings -------------------------------------------------------------------------------- */

static struct {
    const char *predictions, *masks, *model, *weights, *csv, *per_image;
    bool        data, allow_empty;
    int64_t     size[2], mask_rule;
    machine     machine;
} set_to = { .size = { 352, 352 } };

static const option options[] = {
    { OPTION_GROUP, "Maps on disk" },
    { OPTION_TEXT, "--predictions", "DIR", &set_to.predictions,
      .help = "maps: 255 times the min-max normalised probability" },
    { OPTION_TEXT, "--masks", "DIR", &set_to.masks,
      .help = "their masks, of the same base names and sizes" },
    { OPTION_GROUP, "A model" },
    { OPTION_TEXT, "--model", "NAME", &set_to.model, .help = "network, e.g. polyp_pvt_b0" },
    { OPTION_TEXT, "--weights", "FILE", &set_to.weights, .help = "its weights, safetensors" },
    { OPTION_FLAG, "--data", "DIR...", &set_to.data,
      .help = "sets: folders that hold images/ and masks/" },
    { OPTION_SIZE, "--size", "N", set_to.size, .help = "of the network's input: N or HxW (352)" },
    MACHINE_OPTIONS(set_to.machine),
    { OPTION_GROUP, "Masks" },
    MASK_OPTIONS(set_to.mask_rule, set_to.allow_empty),
    { OPTION_GROUP, "Output" },
    { OPTION_TEXT, "--csv", "FILE", &set_to.csv,
      .help = "write every metric of every set, in full precision" },
    { OPTION_TEXT, "--per-image", "FILE", &set_to.per_image,
      .help = "write every metric of every image likewise" },
};

static const program self = {
    "kdas-evaluate",
    "--predictions DIR --masks DIR [--csv FILE] [--per-image FILE]\n"
    "--model NAME --weights FILE --data DIR... [--size N] [--csv FILE] [...]",
    "Prints the field's table, a row for each set: means over thresholds and images, and the best\n"
    "value of the set's mean curve. docs/metrics.md defines each metric.",
    options,
    COUNT(options),
    "Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
};

/* -1 if the options make one of the two kinds of run, else the exit code. */
static int check_settings(int folders)
{
    if (set_to.predictions || set_to.masks) {
        if (set_to.model || set_to.weights || set_to.data)
            return args_wrong(&self, "--predictions and --masks do not go with a model");
        if (!set_to.predictions || !set_to.masks)
            return args_wrong(&self, "--predictions and --masks must both be given");
        if (folders) return args_wrong(&self, "there are folders without --data");
        return -1;
    }
    if (!set_to.model || !set_to.weights || !set_to.data)
        return args_wrong(&self, "give --predictions and --masks or --model, --weights, --data");
    if (!folders) return args_wrong(&self, "--data wants folders");
    return -1;
}

/* ---- A folder of images, in order of their base names ---------------------------------------- */

typedef struct image {
    char *path, *name; /* name: without folder and ending */
} image;

typedef struct folder {
    image *images;
    int    count;
} folder;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const image *)a)->name, ((const image *)b)->name);
}

static bool is_image(const char *file)
{
    static const char *const endings[] = { ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff" };
    const char              *dot       = strrchr(file, '.');

    for (int i = 0; dot && dot != file && i < COUNT(endings); i++)
        if (!strcasecmp(dot, endings[i])) return true;
    return false;
}

static void folder_close(folder *f)
{
    for (int i = 0; i < f->count; i++) {
        free(f->images[i].path);
        free(f->images[i].name);
    }
    free(f->images);
}

/* False after a sentence: no such folder, no images, two of one base name. */
static bool folder_open(folder *f, const char *path)
{
    DIR           *dir = opendir(path);
    struct dirent *entry;

    *f = (folder){ 0 };
    if (!dir) {
        say_error("cannot open the folder '%s': %s", path, strerror(errno));
        return false;
    }
    while ((entry = readdir(dir))) {
        if (!is_image(entry->d_name)) continue;
        f->images = need_more(f->images, (size_t)(f->count + 1) * sizeof *f->images);
        f->images[f->count++] =
            (image){ text_of("%s/%s", path, entry->d_name), base_name(entry->d_name) };
    }
    closedir(dir);
    if (f->count == 0) {
        say_error("the folder '%s' has no PNG, JPEG, BMP or TIFF images", path);
        return false;
    }
    qsort(f->images, (size_t)f->count, sizeof *f->images, by_name);
    for (int i = 1; i < f->count; i++) {
        if (by_name(&f->images[i - 1], &f->images[i])) continue;
        say_error("'%s' and '%s' have the same base name", f->images[i - 1].path,
                  f->images[i].path);
        return false;
    }
    return true;
}

/* ---- Scoring: functions return false after a sentence ---------------------------------------- */

/* The rule by which all masks of a folder are read. */
static bool find_rule(kdas_mask_rule *rule, kdas_context *context, const folder *masks)
{
    const char **paths;
    bool         fine;

    *rule = (kdas_mask_rule)set_to.mask_rule;
    if (*rule != KDAS_MASK_AUTO) return true;
    paths = need((size_t)masks->count * sizeof *paths);
    for (int i = 0; i < masks->count; i++)
        paths[i] = masks->images[i].path;
    fine = ok(kdas_mask_find_rule(context, paths, masks->count, rule));
    free(paths);
    if (fine && *rule != KDAS_MASK_BRIGHT)
        say_error("warning: the masks of '%s' are not simply 0 and 255; they are read by the mask "
                  "rule '%s'",
                  set_to.masks, kdas_mask_rule_name(*rule));
    return fine;
}

static bool add_pair(kdas_evaluator *set, kdas_context *context, const image *map,
                     const image *mask, kdas_mask_rule rule)
{
    kdas_image *p = NULL, *g = NULL;
    bool        fine;

    fine = ok(kdas_image_load(&p, context, map->path, KDAS_PIXEL_GREY8)) &&
           ok(kdas_mask_load(&g, context, mask->path, rule));
    if (fine) {
        kdas_view a = kdas_image_view(p), b = kdas_image_view(g);

        fine = a.width == b.width && a.height == b.height;
        if (fine)
            fine = ok(kdas_evaluator_add(set, mask->name, &a, &b));
        else
            say_error("'%s' is %lld x %lld, but its mask '%s' is %lld x %lld", map->path,
                      (long long)a.width, (long long)a.height, mask->path, (long long)b.width,
                      (long long)b.height);
    }
    kdas_image_destroy(p);
    kdas_image_destroy(g);
    return fine;
}

static bool score_maps(kdas_evaluator *set, kdas_context *context)
{
    folder maps = { 0 }, masks = { 0 };
    bool   fine = folder_open(&maps, set_to.predictions) && folder_open(&masks, set_to.masks);
    kdas_mask_rule rule = KDAS_MASK_AUTO;

    fine = fine && find_rule(&rule, context, &masks);
    for (int i = 0; fine && i < masks.count && !stop_asked(); i++) {
        const image *mask = &masks.images[i];
        const image *map  = bsearch(mask, maps.images, (size_t)maps.count, sizeof *map, by_name);

        fine = map && add_pair(set, context, map, mask, rule);
        if (!map) say_error("'%s' has no prediction in '%s'", mask->path, set_to.predictions);
    }
    if (fine && maps.count > masks.count)
        say_error("warning: predictions without a mask in '%s', left out: %d", set_to.predictions,
                  maps.count - masks.count);
    folder_close(&maps);
    folder_close(&masks);
    return fine && !stop_asked();
}

static bool model_open(kdas_model **out, kdas_context *context)
{
    kdas_model_options settings;

    kdas_model_options_init(&settings, sizeof settings);
    settings.trainable = 0;
    return ok(kdas_model_create(out, context, set_to.model, &settings)) &&
           ok(kdas_model_load(*out, set_to.weights, NULL));
}

static bool score_model(kdas_evaluator *set, kdas_context *context, kdas_model *model,
                        const char *dir)
{
    kdas_dataset        *frames = NULL;
    kdas_dataset_options reading;
    bool                 fine;

    kdas_dataset_options_init(&reading, sizeof reading);
    reading.mask_rule   = (int32_t)set_to.mask_rule;
    reading.allow_empty = set_to.allow_empty;
    fine                = ok(kdas_dataset_open(&frames, context, dir, &reading)) &&
           ok(kdas_evaluate(set, model, frames, set_to.size[0], set_to.size[1], 0));
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

/* A text as a field of a table: in quotes, quotes doubled. */
static void put_text(FILE *to, const char *text)
{
    fputc('"', to);
    for (; *text; text++) {
        if (*text == '"') fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
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
            put_text(to, label);
            fprintf(to, ",%lld,%lld", (long long)images, (long long)kdas_evaluator_empty(sets[d]));
            put_figures(to, sets[d], -1);
        }
        for (int64_t i = 0; each_image && i < images; i++) {
            put_text(to, label);
            fputc(',', to);
            put_text(to, kdas_evaluator_name(sets[d], i));
            put_figures(to, sets[d], i);
        }
        free(label);
    }
}

/* A device, a pipe or a link, e.g. /dev/stdout: written to as it is, never replaced. */
static bool is_special(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0 && !S_ISREG(info.st_mode);
}

/* A file is written under another name and renamed, so that `path` is whole or untouched. */
static bool write_table(const char *path, char **dirs, int count, kdas_evaluator **sets,
                        bool each_image)
{
    bool  direct = is_special(path);
    char *name   = text_of("%s%s", path, direct ? "" : ".tmp");
    FILE *to     = fopen(name, "w");
    bool  fine   = to != NULL;

    if (to) {
        put_table(to, dirs, count, sets, each_image);
        fine = fflush(to) == 0 && !ferror(to);
        fine = fclose(to) == 0 && fine;
        if (fine && !direct) fine = rename(name, path) == 0;
    }
    if (!fine) {
        say_error("cannot write '%s': %s", path, strerror(errno));
        if (to && !direct) remove(name);
    }
    free(name);
    return fine;
}

/* ---- The run --------------------------------------------------------------------------------- */

/* One row for each of `dirs`. */
static bool run(char **dirs, int count, kdas_evaluator **sets, kdas_context *context,
                kdas_model *model)
{
    print_heading();
    for (int i = 0; i < count; i++) {
        if (!ok(kdas_evaluator_create(&sets[i], context))) return false;
        if (model ? !score_model(sets[i], context, model, dirs[i]) : !score_maps(sets[i], context))
            return false;
        if (kdas_evaluator_count(sets[i]) == 0) {
            say_error("'%s' has no frames", dirs[i]);
            return false;
        }
        print_row(dirs[i], sets[i]);
    }
    return (!set_to.csv || write_table(set_to.csv, dirs, count, sets, false)) &&
           (!set_to.per_image || write_table(set_to.per_image, dirs, count, sets, true));
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
    if (code >= 0) return code;

    maps  = (char *)set_to.predictions;
    dirs  = maps ? &maps : argv + 1;
    count = maps ? 1 : count;
    sets  = need((size_t)count * sizeof *sets);
    fine  = context_open(&context, &set_to.machine);
    if (fine) {
        stop_on_signal(context);
        fine = (!set_to.model || model_open(&model, context)) &&
               run(dirs, count, sets, context, model);
        stop_on_signal(NULL);
    }
    for (int i = 0; i < count; i++)
        kdas_evaluator_destroy(sets[i]);
    free(sets);
    kdas_model_destroy(model);
    kdas_context_destroy(context);
    return fine ? EXIT_FINE : stop_asked() ? EXIT_INTERRUPTED : EXIT_FAILED;
}

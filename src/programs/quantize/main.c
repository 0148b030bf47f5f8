/* kdas-quantize - from a trained network to one on 8-bit grids, by frames alone. */
#include <kdas/metric.h>
#include <kdas/quantize.h>
#include <kdas/train.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "arguments/weights.h"
#include "quantize/settings.h"
#include "quantize/table.h"
#include "system/files.h"
#include "system/output.h"
#include "system/say.h"
#include "system/stop.h"

/* ---- Frames: functions return false after a sentence ------------------------------------------ */

enum { SPLIT_SEED = 1, HELD_OUT_SEED = 2 };

static bool open_all(kdas_dataset **out, kdas_context *context, const settings *s)
{
    kdas_dataset_options options;
    kdas_layout         *layout = NULL;
    kdas_status          status;

    kdas_dataset_options_init(&options, sizeof options);
    options.bad_file    = s->skip_bad ? KDAS_BAD_FILE_SKIP : KDAS_BAD_FILE_REFUSE;
    options.unlabelled  = s->no_masks;
    options.fit_masks   = s->resize_masks;
    options.mask_rule   = (int32_t)s->mask_rule;
    options.allow_empty = s->allow_empty;
    options.list        = s->list;
    options.cache       = 0;
    status              = kdas_dataset_open(out, context, s->data, &options);
    if (status == KDAS_ENOTFOUND && kdas_layout_find(&layout, context, s->data) == KDAS_OK)
        status = kdas_dataset_open(out, context, kdas_layout_train(layout), &options);
    else if (status == KDAS_ENOTFOUND) /* with its own sentence */
        status = kdas_dataset_open(out, context, s->data, &options);
    kdas_layout_destroy(layout);
    return ok(status);
}

/* Nothing that is read is written over. */
static bool is_safe(const char *option, const char *path, const kdas_dataset *frames)
{
    for (int64_t i = 0; path && i < kdas_dataset_count(frames); i++) {
        const char *image = kdas_dataset_image_path(frames, i);
        const char *mask  = kdas_dataset_mask_path(frames, i);

        if ((image && same_file(path, image)) || (mask && same_file(path, mask))) {
            say_error("%s '%s' would replace a frame or its mask: choose another file", option,
                      path);
            return false;
        }
    }
    return true;
}

static bool open_frames(kdas_dataset **out, kdas_context *context, const settings *s)
{
    return open_all(out, context, s) && is_safe("--out", s->out, *out) &&
           is_safe("--csv", s->csv, *out);
}

/* `wanted` frames of a set at random, and the others; all where it has no more. */
static bool take(kdas_dataset **some, kdas_dataset **others, const kdas_dataset *from,
                 int64_t wanted, uint64_t seed)
{
    int64_t count = kdas_dataset_count(from);
    double  share = wanted >= count ? 1 : (double)wanted / (double)count;

    return ok(kdas_dataset_split(others, some, from, share, seed));
}

/* The frames to calibrate on, or the ones to measure on. Always the same ones. */
static bool frames_for(kdas_dataset **out, kdas_context *context, const settings *s, bool held_out)
{
    kdas_dataset *all = NULL, *some = NULL, *others = NULL, *left = NULL;
    bool fine = open_frames(&all, context, s) && take(&some, &others, all, s->frames, SPLIT_SEED);

    *out = NULL;
    if (fine && held_out && kdas_dataset_count(others))
        fine = take(out, &left, others, s->held_out, HELD_OUT_SEED);
    if (fine && !held_out) {
        *out = some;
        some = NULL;
    }
    kdas_dataset_destroy(all);
    kdas_dataset_destroy(some);
    kdas_dataset_destroy(others);
    kdas_dataset_destroy(left);
    return fine;
}

/* ---- Dice ------------------------------------------------------------------------------------ */

static bool dice_of(double *dice, int64_t *count, kdas_model *model, const settings *s)
{
    kdas_context   *context = kdas_model_context(model);
    kdas_dataset   *frames  = NULL;
    kdas_evaluator *set     = NULL;
    bool            fine    = frames_for(&frames, context, s, true);

    *count = fine && frames ? kdas_dataset_count(frames) : 0;
    if (*count)
        fine = ok(kdas_evaluator_create(&set, context)) &&
               ok(kdas_evaluate(set, model, frames, s->size[0], s->size[1], 0)) &&
               ok(kdas_evaluator_get(set, -1, KDAS_METRIC_MEAN_DICE, dice));
    kdas_evaluator_destroy(set);
    kdas_dataset_destroy(frames);
    return fine;
}

/* With integers, in a context of its own. *dice is NaN where the device has none. */
static bool dice_with_integers(double *dice, const settings *s)
{
    kdas_context_options options = context_options(&s->machine);
    kdas_context        *context = NULL;
    kdas_model          *model   = NULL;
    kdas_status          status;
    int64_t              count;
    bool                 fine;

    *dice             = NAN;
    options.precision = KDAS_PRECISION_INT8;
    status            = kdas_context_create(&context, &options);
    if (status == KDAS_EUNSUPPORTED) return true;
    if (!ok(status)) return false;
    stop_on_signal(context);
    model = weights_open(context, s->model, s->out, NULL);
    fine  = model && dice_of(dice, &count, model, s);
    stop_on_signal(NULL);
    kdas_model_destroy(model);
    kdas_context_destroy(context);
    return fine;
}

static bool compare(kdas_model *model, const settings *s)
{
    kdas_context *context = kdas_model_context(model);
    kdas_model   *whole   = NULL;
    double        before, simulated = 0, integers;
    int64_t       count;
    bool          fine;

    if (s->no_masks || !s->held_out || s->quiet) return true;
    whole = weights_open(context, s->model, s->weights, s->entry);
    fine  = whole && dice_of(&before, &count, whole, s);
    if (fine && !count) {
        printf("no Dice: all frames were needed for the ranges\n");
    } else if (fine) {
        fine = dice_of(&simulated, &count, model, s);
        stop_on_signal(NULL);
        fine = fine && dice_with_integers(&integers, s);
        if (fine) {
            printf("mean Dice of %lld other frames: %.4f as it was, %.4f on grids",
                   (long long)count, before, simulated);
            if (isnan(integers))
                printf(" (this device has no integers)\n");
            else
                printf(", %.4f with integers\n", integers);
        }
    }
    kdas_model_destroy(whole);
    return fine;
}

/* ---- Calibration ----------------------------------------------------------------------------- */

static bool model_open(kdas_model **out, kdas_context *context, settings *s)
{
    kdas_model_options options;
    char *wide = s->wide ? text_of("%s", strcmp(s->wide, "none") ? s->wide : "") : NULL, *text;

    for (char *c = wide; c && *c; c++)
        if (*c == ',') *c = ' ';
    kdas_model_options_init(&options, sizeof options);
    options.trainable = 0;
    options.quantize  = KDAS_QUANTIZE_INT8;
    options.wide      = wide;
    s->model          = weights_network(context, s->model, WEIGHTS_USUAL, s->weights, "--model");
    *out = s->model ? weights_open_as(context, s->model, s->weights, s->entry, &options) : NULL;
    free(wide);
    text = *out ? weights_size(*out, s->size) : NULL;
    if (text && !s->quiet) puts(text);
    free(text);
    return text != NULL;
}

static kdas_calibrator_options calibrator_options(const settings *s)
{
    kdas_calibrator_options o;

    kdas_calibrator_options_init(&o, sizeof o);
    o.method       = (int32_t)s->method;
    o.percentile   = (float)s->percentile;
    o.probe_frames = (int32_t)s->probes;
    o.most_wide    = (int32_t)s->most_wide;
    o.wide_error   = (float)s->wide_error;
    if (s->frames < o.least_frames) o.least_frames = (int32_t)s->frames; /* as it was asked for */
    return o;
}

/* The library says it, too, but knows neither folder nor option. */
static bool are_enough(const kdas_dataset *frames, const settings *s)
{
    int64_t count = kdas_dataset_count(frames), least = calibrator_options(s).least_frames;

    if (count >= least) return true;
    say_error(
        "'%s' has %lld frame%s to find ranges on, and %lld are wanted at least; --frames %lld "
        "takes %s",
        s->data, (long long)count, count == 1 ? "" : "s", (long long)least, (long long)count,
        count == 1 ? "the one" : "what there is");
    return false;
}

static bool calibrate(kdas_calibrator *calibrator, kdas_context *context, const settings *s)
{
    kdas_dataset *frames = NULL;
    bool          fine   = frames_for(&frames, context, s, false) && are_enough(frames, s) &&
                ok(kdas_calibrator_add_dataset(calibrator, frames, s->size[0], s->size[1], 0)) &&
                ok(kdas_calibrator_finish(calibrator));

    kdas_dataset_destroy(frames);
    return fine;
}

static void tell_sizes(const settings *s)
{
    struct stat to, from;

    if (stat(s->out, &to) != 0 || stat(s->weights, &from) != 0) return;
    printf("%s: %.2f MB; %s: %.2f MB\n", s->out, (double)to.st_size / 1e6, s->weights,
           (double)from.st_size / 1e6);
    fflush(stdout);
}

static bool write_all(kdas_calibrator *calibrator, kdas_model *model, const settings *s)
{
    if (!s->quiet) {
        printf("ranges of %lld frames\n", (long long)kdas_calibrator_frames(calibrator));
        table_print(calibrator, s->wide_error);
    }
    if (s->csv && !table_write(calibrator, s->csv)) return false;
    if (!ok(kdas_model_save(model, s->out))) return false;
    if (!s->quiet) tell_sizes(s);
    return true;
}

static bool run(kdas_context *context, settings *s)
{
    kdas_calibrator_options options = calibrator_options(s);
    kdas_model             *model = NULL, *best = NULL;
    kdas_calibrator        *calibrator = NULL;
    bool                    fine = output_ready(s->out) && (!s->csv || output_ready(s->csv)) &&
                model_open(&model, context, s) &&
                ok(kdas_calibrator_create(&calibrator, model, &options)) &&
                calibrate(calibrator, context, s) && ok(kdas_calibrator_make(&best, calibrator)) &&
                write_all(calibrator, best, s);

    kdas_calibrator_destroy(calibrator);
    kdas_model_destroy(model);
    fine = fine && compare(best, s);
    kdas_model_destroy(best);
    return fine;
}

int main(int argc, char **argv)
{
    kdas_context *context = NULL;
    settings      s;
    int           code;
    bool          fine;

    say_as("kdas-quantize");
    code = settings_read(&s, argc, argv);
    if (code >= 0) return code;
    fine = context_open(&context, &s.machine);
    if (fine) {
        stop_on_signal(context);
        fine = run(context, &s);
        stop_on_signal(NULL);
    }
    kdas_context_destroy(context);
    return fine ? EXIT_FINE : stop_asked() ? EXIT_INTERRUPTED : EXIT_FAILED;
}

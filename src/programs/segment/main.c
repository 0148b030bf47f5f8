/* kdas-segment - draw the polyps in frames: for each IMAGE a mask of the frame's own size,
 * OUT/NAME_mask.png (0 and 255), and OUT/NAME_overlay.png, the frame with the mask's area tinted
 * and its outline drawn; pixels outside the mask are the frame's own. With --maps it writes the
 * network's probability maps instead, for a student to learn from. With --raw it stands in a
 * pipe of raw video: frames on standard input, masks or tinted frames on standard output. */
#include <kdas/data.h>
#include <kdas/infer.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "arguments/args.h"
#include "arguments/context.h"
#include "arguments/weights.h"
#include "pictures/picture.h"
#include "segment/inputs.h"
#include "segment/live.h"
#include "segment/stream.h"
#include "system/files.h"
#include "system/say.h"
#include "system/stop.h"
#include "system/written.h"

typedef struct settings {
    const char *model, *weights, *entry, *out, *raw;
    int64_t     size[2];
    machine     machine;
    double      threshold, smoothing, hysteresis, deadline; /* ms */
    bool        probability, overlay, quiet, maps, skip_bad, force, timing;
    int64_t     maps_as, repeat_limit;
    int64_t     matrix, range; /* kdas_matrix, kdas_range */
    kdas_view   format;        /* of raw frames           */
    char      **arguments;
    int         count;
    inputs      images; /* of the arguments */
    written    *own;    /* what earlier runs have written into `out` */
} settings;

enum { MAPS_PNG16, MAPS_PNG8, MAPS_LOGITS }; /* --maps-as */

static int check_pictures(const program *p, const settings *s)
{
    if (s->overlay || s->smoothing > 0 || s->hysteresis > 0)
        return args_wrong(p, "--overlay, --smoothing and --hysteresis go with --raw");
    if (s->matrix || s->range) return args_wrong(p, "--matrix and --range go with --raw");
    if (s->deadline > 0 || s->repeat_limit || s->timing)
        return args_wrong(p, "--deadline, --repeat-limit and --timing go with --raw");
    if (!s->out) return args_wrong(p, "--out is missing: where shall the pictures go?");
    if (!strcmp(s->out, "-"))
        return args_wrong(p, "--out wants a folder; --raw writes video to standard output");
    if (s->count == 0) return args_wrong(p, "there is no image to segment");
    if (s->maps && s->probability)
        return args_wrong(p, "--maps and --probability exclude each other");
    return -1;
}

/* What a stream wants, and what only a stream can have. */
static int check_settings(const program *p, settings *s)
{
    const char *wrong;

    if (!s->weights)
        return args_wrong(p, "--weights is missing: which file holds the trained network?");
    if (!s->raw) return check_pictures(p, s);
    wrong = stream_format(&s->format, s->raw);
    if (wrong) return args_wrong(p, "--raw %s, not '%s'", wrong, s->raw);
    if ((s->matrix || s->range) && !stream_is_yuv(&s->format))
        return args_wrong(p, "--matrix and --range go with nv12, yuv420p and p010le, not '%s'",
                          s->raw);
    s->format.matrix = (kdas_matrix)s->matrix;
    s->format.range  = (kdas_range)s->range;
    if (s->out) return args_wrong(p, "--raw writes to standard output: --out is not wanted");
    if (s->maps) return args_wrong(p, "--maps goes with --out, not with --raw");
    if (s->count > 1 || (s->count == 1 && strcmp(s->arguments[0], "-") != 0))
        return args_wrong(p, "--raw reads standard input: '%s' is not wanted", s->arguments[0]);
    if (s->overlay && s->probability)
        return args_wrong(p, "--overlay and --probability: standard output takes one of them");
    if (s->threshold >= 0 && s->hysteresis > s->threshold)
        return args_wrong(p, "--hysteresis is %g, above the threshold of %g", s->hysteresis,
                          s->threshold);
    if (s->repeat_limit && s->deadline == 0)
        return args_wrong(p, "--repeat-limit goes with --deadline");
    if (isatty(STDOUT_FILENO))
        return args_wrong(p, "--raw writes video to standard output, which is a terminal");
    return -1;
}

static int read_settings(settings *s, int argc, char **argv)
{
    const option options[] = {
        { OPTION_TEXT, "--weights", "FILE", &s->weights, 0, 0,
          "trained weights: safetensors or .pth" },
        { OPTION_TEXT, "--model", "MODEL", &s->model, 0, 0,
          "their network, a name that kdas-inspect lists (the one that they\nname, "
          "else " WEIGHTS_USUAL ")" },
        WEIGHTS_ENTRY_OPTION(s->entry),
        { OPTION_TEXT, "--out", "DIR", &s->out, 0, 0, "folder for the pictures" },
        { OPTION_FLAG, "--force", NULL, &s->force, 0, 0,
          "replace files in it that kdas-segment did not write, or that\nwere changed since" },
        { OPTION_SIZE, "--size", "N|HxW", s->size, 0, 0, WEIGHTS_SIZE_HELP },
        { OPTION_REAL, "--threshold", "X", &s->threshold, 0, 1,
          "probability from which it is polyp (that of the weights,\n0.5 if they do not say)" },
        { OPTION_FLAG, "--probability", NULL, &s->probability, 0, 0,
          "write NAME_probability.png, too; in a stream: probabilities for masks" },
        { OPTION_FLAG, "--maps", NULL, &s->maps, 0, 0,
          "write nothing but NAME.png, the probabilities at the network's size,\n"
          "as kdas-distill --teacher-maps reads them" },
        { OPTION_CHOICE, "--maps-as", "png16|png8|logits", &s->maps_as, 0, 0,
          "grey of 16 bits (default) or 8, or NAME.safetensors" },
        MACHINE_OPTIONS(s->machine),
        { OPTION_FLAG, "--skip-bad", NULL, &s->skip_bad, 0, 0,
          "images that cannot be used are named, and are no failure" },
        { OPTION_FLAG, "--quiet", NULL, &s->quiet, 0, 0, "print errors only" },
        { OPTION_GROUP, "Video in a pipe", NULL, NULL, 0, 0, NULL },
        { OPTION_TEXT, "--raw", "WxH:FORMAT", &s->raw, 0, 0,
          "frames come on standard input: gray, rgb24, bgr24, rgba, bgra,\n"
          "nv12, yuv420p, p010le; masks go to standard output (gray)" },
        { OPTION_CHOICE, "--matrix", "auto|bt601|bt709", &s->matrix, 0, 0,
          "of YUV frames; auto (default): bt709 from 720 rows on, else bt601" },
        { OPTION_CHOICE, "--range", "limited|full", &s->range, 0, 0, "of their samples (limited)" },
        { OPTION_FLAG, "--overlay", NULL, &s->overlay, 0, 0,
          "write the frames instead, masks as a tint on them" },
        { OPTION_REAL, "--smoothing", "X", &s->smoothing, 0, 0.999,
          "weight of the past in each probability (0)" },
        { OPTION_REAL, "--hysteresis", "X", &s->hysteresis, 0, 1,
          "probability down to which polyp stays polyp (off)" },
        { OPTION_REAL, "--deadline", "MS", &s->deadline, 0, 600000,
          "milliseconds for a frame; one that cannot be done in time\nrepeats the last result "
          "(off)" },
        { OPTION_WHOLE, "--repeat-limit", "N", &s->repeat_limit, 1, 1000,
          "at most N frames in a row are repeated; the next one is\ncomputed to its end (4)" },
        { OPTION_FLAG, "--timing", NULL, &s->timing, 0, 0,
          "print the times of the stages at the end, also with --quiet" },
    };
    const program p = { .name  = "kdas-segment",
                        .usage = "--weights FILE --out DIR [option]... IMAGE|DIR...\n"
                                 "--weights FILE --raw WxH:FORMAT [option]... [-]",
                        .about =
                            "Segment polyps in colonoscopy frames (JPEG, PNG, BMP, TIFF, or raw "
                            "video in a pipe).",
                        .options = options,
                        .count   = COUNT(options),
                        .after =
                            "Writes NAME_mask.png and NAME_overlay.png at each frame's own size, "
                            "or with --maps\nmaps to teach a student with. Of a DIR, all images in "
                            "DIR/images or in DIR and the\nfolders below are read; NAME is then "
                            "their path below it." };
    int           code;

    *s   = (settings){ .threshold = (double)KDAS_THRESHOLD_OWN };
    code = args_read(&p, argc, argv, &s->count);
    if (code >= 0) return code;
    s->arguments = argv + 1;
    return check_settings(&p, s);
}

/* Endings of what is written for each image; how many there are. */
static int kinds_of(const settings *s, const char *kinds[3])
{
    int count = 0;

    if (s->maps) {
        kinds[count++] = s->maps_as == MAPS_LOGITS ? ".safetensors" : ".png";
    } else {
        kinds[count++] = "_mask.png";
        kinds[count++] = "_overlay.png";
        if (s->probability) kinds[count++] = "_probability.png";
    }
    return count;
}

/* Whether --out has no file of others, or one that was changed, that would be replaced. */
static bool others_are_safe(const settings *s, const char *const *kinds, int count)
{
    char   *first   = NULL;
    int64_t foreign = 0;

    for (int64_t i = 0; i < s->images.count * count && !s->force; i++) {
        char *name = text_of("%s%s", s->images.list[i / count].name, kinds[i % count]);

        if (!written_may_replace(s->own, name) && foreign++ == 0)
            first = name;
        else
            free(name);
    }
    if (foreign)
        say_error("'%s/%s'%s would be replaced, and kdas-segment did not write %s, or %s changed "
                  "since: choose another --out, or give --force",
                  s->out, first, foreign > 1 ? " and other files" : "", foreign > 1 ? "them" : "it",
                  foreign > 1 ? "they were" : "it was");
    free(first);
    return !foreign;
}

/* Maps in safetensors are not written over the weights. */
static bool weights_are_safe(const settings *s, const char *kind)
{
    bool safe = true;

    for (int64_t i = 0; i < s->images.count && safe; i++) {
        char *path = text_of("%s/%s%s", s->out, s->images.list[i].name, kind);

        safe = !same_file(path, s->weights);
        if (!safe) say_error("'%s' would be written over the weights: choose another --out", path);
        free(path);
    }
    return safe;
}

/* Nothing is written twice, or over an image, or over a file of others: found before anything is
 * written. */
static bool images_are_safe(settings *s)
{
    const char *kinds[3];
    int         count = kinds_of(s, kinds);

    s->own = written_open(s->out);
    return inputs_differ(&s->images, kinds[0]) &&
           inputs_are_safe(&s->images, s->out, kinds, count) && weights_are_safe(s, kinds[0]) &&
           others_are_safe(s, kinds, count);
}

/* The folder in --out that a name with slashes wants. */
static bool target_ready(const settings *s, const char *name)
{
    const char *slash = strrchr(name, '/');
    char       *dir;
    bool        done;

    if (!slash) return true;
    dir  = text_of("%s/%.*s", s->out, (int)(slash - name), name);
    done = path_exists(dir) || folder_ready(dir);
    free(dir);
    return done;
}

static bool save(kdas_context *context, const settings *s, const char *name, const char *kind,
                 const void *pixels, const kdas_view *like, kdas_pixel pixel)
{
    kdas_view view = { pixels, like->width, like->height, 0, pixel };
    char     *file = text_of("%s_%s.png", name, kind), *place = written_place(s->own, file);
    bool      done = written_put(s->own, file, place, ok(kdas_image_save(context, place, &view)));

    free(file);
    return done;
}

static bool segment(kdas_context *context, const settings *s, kdas_segmenter *segmenter,
                    const input *in)
{
    const char *path = in->path, *name = in->name;
    kdas_image *image = NULL;
    kdas_view   frame;
    uint8_t    *mask;
    size_t      pixels, inside = 0;
    bool        done;

    if (!ok(kdas_image_load(&image, context, path, KDAS_PIXEL_RGB8))) return false;
    frame  = kdas_image_view(image);
    pixels = (size_t)(frame.width * frame.height);
    mask   = need(pixels);
    done   = true;
    if (s->probability) {
        done = ok(kdas_segmenter_probability(segmenter, &frame, mask, 0)) &&
               save(context, s, name, "probability", mask, &frame, KDAS_PIXEL_GREY8);
    }
    done = done && ok(kdas_segmenter_mask(segmenter, &frame, mask, 0)) &&
           save(context, s, name, "mask", mask, &frame, KDAS_PIXEL_GREY8);
    if (done) {
        uint8_t *rgb = kdas_image_pixels(image);

        picture_overlay(rgb, mask, frame.width, frame.height, colour_student,
                        picture_line(frame.width, frame.height));
        done = save(context, s, name, "overlay", rgb, &frame, KDAS_PIXEL_RGB8);
        for (size_t i = 0; i < pixels; i++)
            inside += mask[i] > 127;
    }
    if (done && !s->quiet) {
        printf("%s: %lldx%lld, %.1f %% polyp\n", path, (long long)frame.width,
               (long long)frame.height, 100.0 * (double)inside / (double)pixels);
        fflush(stdout);
    }
    free(mask);
    kdas_image_destroy(image);
    return done;
}

/* ---- Maps for a student ---- */

static bool save_map(kdas_context *context, const settings *s, const input *in, const float *logits)
{
    char  *name  = text_of("%s.%s", in->name, s->maps_as == MAPS_LOGITS ? "safetensors" : "png");
    char  *place = written_place(s->own, name);
    size_t count = (size_t)(s->size[0] * s->size[1]);
    bool   done;

    if (s->maps_as == MAPS_PNG8) {
        uint8_t  *p    = need(count);
        kdas_view view = { p, s->size[1], s->size[0], 0, KDAS_PIXEL_GREY8 };

        for (size_t i = 0; i < count; i++)
            p[i] = (uint8_t)(255 / (1 + exp(-(double)logits[i])) + 0.5);
        done = ok(kdas_image_save(context, place, &view));
        free(p);
    } else {
        done = ok(kdas_map_save(context, place, logits, s->size[0], s->size[1]));
    }
    done = written_put(s->own, name, place, done);
    if (done && !s->quiet) {
        printf("%s: %s/%s\n", in->path, s->out, name);
        fflush(stdout);
    }
    free(name);
    return done;
}

/* The network's map of a frame: the mean of the logits of its answer's maps, since each map of a
 * student is compared with it. The frame is brought to the network's size first, so that map and frame have
 * the same pixels. */
static bool write_map(kdas_context *context, const settings *s, kdas_segmenter *segmenter,
                      int outputs, const input *in)
{
    kdas_image *image = NULL, *fitted = NULL;
    float      *logits = need((size_t)(s->size[0] * s->size[1]) * sizeof *logits);
    bool        done   = ok(kdas_image_load(&image, context, in->path, KDAS_PIXEL_RGB8));
    kdas_view   view   = kdas_image_view(image);

    done = done && ok(kdas_image_resize(&fitted, context, &view, s->size[1], s->size[0]));
    view = kdas_image_view(fitted);
    done = done && ok(kdas_segmenter_logits(segmenter, &view, logits));
    for (int64_t i = 0; done && i < s->size[0] * s->size[1]; i++)
        logits[i] /= (float)outputs;
    done = done && save_map(context, s, in, logits);
    kdas_image_destroy(image);
    kdas_image_destroy(fitted);
    free(logits);
    return done;
}

/* Frames that cannot be used are named and passed over; how many there were decides the exit
 * code. */
static int segment_all(kdas_context *context, const settings *s, kdas_segmenter *segmenter,
                       int outputs)
{
    int64_t failed = s->images.bad, all = s->images.bad + s->images.count;

    for (int64_t i = 0; i < s->images.count && !stop_asked(); i++) {
        const input *in = &s->images.list[i];

        if (!target_ready(s, in->name)) return EXIT_FAILED;
        if (s->maps ? !write_map(context, s, segmenter, outputs, in)
                    : !segment(context, s, segmenter, in))
            failed++;
    }
    if (stop_asked()) return EXIT_INTERRUPTED;
    if (failed)
        say_error(s->skip_bad && failed < all ? "%lld of %lld images left out"
                                              : "%lld of %lld images failed",
                  (long long)failed, (long long)all);
    return failed && (!s->skip_bad || failed == all) ? EXIT_FAILED : EXIT_FINE;
}

static kdas_segmenter_options segmenter_options(const settings *s)
{
    kdas_segmenter_options options;

    kdas_segmenter_options_init(&options, sizeof options);
    options.height         = s->size[0];
    options.width          = s->size[1];
    options.threshold      = (float)s->threshold;
    options.smoothing      = (float)s->smoothing;
    options.hysteresis     = (float)s->hysteresis;
    options.repeat_limit   = (int32_t)s->repeat_limit;
    options.frame_deadline = 1e-3 * s->deadline;
    options.frame_height   = s->format.height; /* 0 for pictures: of any size */
    options.frame_width    = s->format.width;
    return options;
}

/* What runs at which size; standard output may be a stream of video. False after a sentence. */
static bool introduce(settings *s, const kdas_model *model)
{
    char *text = weights_size(model, s->size);

    if (!text) return false;
    if (s->raw && !s->quiet) fprintf(stderr, "%s: %s\n", say_name(), text);
    if (!s->raw && !s->quiet) puts(text);
    free(text);
    return true;
}

static bool open_segmenter(kdas_segmenter **out, kdas_model **model, kdas_context *context,
                           settings *s)
{
    kdas_segmenter_options options;

    s->model = weights_network(context, s->model, WEIGHTS_USUAL, s->weights, "--model");
    *model   = s->model ? weights_open(context, s->model, s->weights, s->entry) : NULL;
    if (!*model || !weights_fit_dtype(*model, s->weights) || !introduce(s, *model)) return false;
    options = segmenter_options(s);
    return ok(kdas_segmenter_create(out, *model, &options));
}

static int run(settings *s)
{
    kdas_context   *context   = NULL;
    kdas_model     *model     = NULL;
    kdas_segmenter *segmenter = NULL;
    int             code      = EXIT_FAILED;

    if (context_open(&context, &s->machine) &&
        (s->raw || (inputs_open(&s->images, context, s->arguments, s->count, s->out) &&
                    images_are_safe(s) && folder_ready(s->out))) &&
        open_segmenter(&segmenter, &model, context, s)) {
        live_output output = s->overlay       ? LIVE_OVERLAY
                             : s->probability ? LIVE_PROBABILITY
                                              : LIVE_MASK;

        stop_on_signal(context);
        code = s->raw ? live_run(segmenter, &s->format, output, s->timing || !s->quiet)
                      : segment_all(context, s, segmenter,
                                    kdas_model_maps(model) - kdas_model_answer(model));
        stop_on_signal(NULL);
    }
    inputs_close(&s->images);
    written_close(s->own);
    kdas_segmenter_destroy(segmenter);
    kdas_model_destroy(model);
    kdas_context_destroy(context);
    return code;
}

int main(int argc, char **argv)
{
    settings s;
    int      code;

    say_as("kdas-segment");
    code = read_settings(&s, argc, argv);
    return code >= 0 ? code : run(&s);
}

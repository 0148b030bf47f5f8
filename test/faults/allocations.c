/* allocations.c - a host whose memory runs out. It makes the calls of a whole life: open, load, train by steps and by
 * kdas_train, segment, export, write and read checkpoints. Before a call succeeds, it fails once for each of its
 * allocations (the context's hooks return NULL): with KDAS_ENOMEM and a sentence, with the outputs and the files as they
 * were. The call that follows has all the memory. The results of the life must be those of one without failures, bit by
 * bit, and at its end all memory is given back.
 *
 *   allocations [--every] [--lasting] DIR
 *
 * --every: each allocation of each call (of kdas_train each 31st); else few of calls that make many. --lasting: once an allocation has failed,
 * all others of the call do. Prints a table; ends with "N passed, N failed". */
#include <kdas/kdas.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "starved.h"

enum { SIDE = 64, FRAMES = 6, STEPS = 3 };

/* ---- A life ---------------------------------------------------------------------------------------- */

typedef struct setup {
    const char *name, *network, *preset, *feature;
    float       ema;
    int32_t     accumulate, workers, precision;
    bool        ranks; /* whether all objects have the handle of a group of one */
} setup;

typedef struct world {
    kdas_context    *ctx;
    kdas_ranks      *ranks;
    kdas_dataset    *all, *frames, *validation;
    kdas_loader     *loader;
    kdas_model      *teacher, *student, *average, *opened;
    kdas_loss       *loss;
    kdas_optim      *optim;
    kdas_distiller  *distiller;
    kdas_segmenter  *segmenter;
    kdas_evaluator  *evaluator;
    kdas_image      *image, *mask;
    kdas_checkpoint *checkpoint;
    kdas_file       *file;
    kdas_model      *on_grids, *calibrated;
    kdas_calibrator *calibrator;
} world;

static void end(world *w)
{
    kdas_file_destroy(w->file);
    kdas_calibrator_destroy(w->calibrator);
    kdas_model_destroy(w->calibrated);
    kdas_model_destroy(w->on_grids);
    kdas_checkpoint_destroy(w->checkpoint);
    kdas_image_destroy(w->image);
    kdas_image_destroy(w->mask);
    kdas_evaluator_destroy(w->evaluator);
    kdas_segmenter_destroy(w->segmenter);
    kdas_distiller_destroy(w->distiller);
    kdas_optim_destroy(w->optim);
    kdas_loss_destroy(w->loss);
    kdas_model_destroy(w->opened);
    kdas_model_destroy(w->average);
    kdas_model_destroy(w->student);
    kdas_model_destroy(w->teacher);
    kdas_loader_destroy(w->loader);
    kdas_dataset_destroy(w->validation);
    kdas_dataset_destroy(w->frames);
    kdas_dataset_destroy(w->all);
    kdas_ranks_destroy(w->ranks);
    kdas_context_destroy(w->ctx);
    *w = (world){ 0 };
}

/* ---- A collective of one rank ---------------------------------------------------------------------- */

static kdas_status enter(void **group, const kdas_collective_host *host,
                         const kdas_collective_options *options)
{
    (void)options;
    *group = (host->alloc)(host->user, 64);
    if (!*group) return KDAS_ENOMEM;
    memcpy(*group, &host, sizeof host);
    return KDAS_OK;
}

static void leave(void *group)
{
    const kdas_collective_host *host;

    memcpy(&host, group, sizeof host);
    (host->free)(host->user, group);
}

static int32_t     first(void *group) { return (void)group, 0; }
static int32_t     only(void *group) { return (void)group, 1; }
static kdas_status met(void *group) { return (void)group, KDAS_OK; }
static void        describe(void *group, char *text, size_t size)
{
    (void)group;
    snprintf(text, size, "one rank");
}
static kdas_status sum(void *group, void *values, size_t count, int32_t type)
{
    return (void)group, (void)values, (void)count, (void)type, KDAS_OK;
}
static kdas_status broadcast(void *group, void *bytes, size_t count, int32_t root)
{
    return (void)group, (void)bytes, (void)count, (void)root, KDAS_OK;
}
static void give_up(void *group, int32_t code) { (void)group, (void)code; }

static const kdas_collective collective_of_one = {
    .abi       = KDAS_COLLECTIVE_ABI,
    .size      = sizeof collective_of_one,
    .name      = "one",
    .open      = enter,
    .close     = leave,
    .rank      = first,
    .count     = only,
    .describe  = describe,
    .sum       = sum,
    .broadcast = broadcast,
    .barrier   = met,
    .abort     = give_up,
};

static bool join_ranks(world *w, const setup *s)
{
    kdas_ranks_options o;
    double             value = 3;
    bool               fine  = false;

    if (!s->ranks) return true;
    kdas_ranks_options_init(&o, sizeof o);
    o.table = &collective_of_one;
    CREATE(w->ranks, kdas_ranks_create(&w->ranks, w->ctx, &o));
    CALL(kdas_ranks_agree(w->ranks, "what both have", "text"));
    CALL_OUT(kdas_ranks_sum(w->ranks, &value, 1), &value, sizeof value, NULL);
    CALL(kdas_ranks_barrier(w->ranks));
    fine = true;
done:
    return fine;
}

/* ---- The calls ------------------------------------------------------------------------------------- */

static void context_options(kdas_context_options *o, const setup *s)
{
    kdas_context_options_init(o, sizeof *o);
    o->threads   = 1;
    o->alloc     = take;
    o->free      = give;
    o->precision = s->precision;
}

static void options_of(const setup *s, kdas_loss_options *loss, kdas_optim_options *optim,
                       kdas_distiller_options *d, kdas_loader_options *loader)
{
    kdas_loss_options_init(loss, sizeof *loss);
    kdas_loss_options_preset(loss, s->preset);
    if (s->feature) loss->feature = s->feature;
    kdas_optim_options_init(optim, sizeof *optim);
    kdas_distiller_options_init(d, sizeof *d);
    d->ema        = s->ema;
    d->accumulate = s->accumulate;
    kdas_loader_options_init(loader, sizeof *loader);
    loader->batch  = 2;
    loader->height = loader->width = SIDE;
    loader->workers                = s->workers;
    loader->crop                   = 0.5f;
    loader->hue                    = 0.1f;
    loader->blur                   = 0.5f;
}

/* Frames on disk, the teacher's weights; without failures. */
static bool prepare(void)
{
    kdas_context      *ctx     = NULL;
    kdas_model        *teacher = NULL;
    kdas_scene_options scene;
    bool               fine = false;

    mkdir(in_dir("frames"), 0777);
    mkdir(in_dir("frames/images"), 0777);
    mkdir(in_dir("frames/masks"), 0777);
    kdas_scene_options_init(&scene, sizeof scene);
    scene.width = scene.height = 96;
    if (kdas_context_create(&ctx, NULL) != KDAS_OK) goto done;
    for (int i = 0; i < FRAMES; i++) {
        kdas_image *image = NULL, *mask = NULL;
        kdas_view   of_image, of_mask;
        char        name[64];

        if (kdas_scene_draw(&image, &mask, ctx, i, &scene) != KDAS_OK) goto done;
        of_image = kdas_image_view(image);
        of_mask  = kdas_image_view(mask);
        snprintf(name, sizeof name, i % 2 ? "frames/images/%d.png" : "frames/images/%d.jpg", i);
        fine = kdas_image_save(ctx, in_dir(name), &of_image) == KDAS_OK;
        snprintf(name, sizeof name, "frames/masks/%d.png", i);
        fine = fine && kdas_image_save(ctx, in_dir(name), &of_mask) == KDAS_OK;
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
        if (!fine) goto done;
    }
    fine = kdas_model_create(&teacher, ctx, "lite_fpn0", NULL) == KDAS_OK &&
           kdas_model_save(teacher, in_dir("teacher.safetensors")) == KDAS_OK;
done:
    if (!fine) printf("FAILED: the files of the test: %s\n", kdas_last_error());
    kdas_model_destroy(teacher);
    kdas_context_destroy(ctx);
    return fine;
}

static bool open_all(world *w, const setup *s)
{
    kdas_context_options   context;
    kdas_loss_options      loss;
    kdas_optim_options     optim;
    kdas_distiller_options distiller;
    kdas_loader_options    loader;
    kdas_model_options     frozen, trained;
    bool                   fine = false;

    context_options(&context, s);
    options_of(s, &loss, &optim, &distiller, &loader);
    kdas_model_options_init(&frozen, sizeof frozen);
    frozen.trainable = 0;
    kdas_model_options_init(&trained, sizeof trained);
    CREATE(w->ctx, kdas_context_create(&w->ctx, &context));
    if (!join_ranks(w, s)) goto done;
    loader.ranks = distiller.ranks = trained.ranks = w->ranks;
    CREATE(w->all, kdas_dataset_open(&w->all, w->ctx, in_dir("frames"), NULL));
    CREATE(w->frames, kdas_dataset_split(&w->frames, &w->validation, w->all, 0.34, 3));
    CREATE(w->loader, kdas_loader_create(&w->loader, w->frames, &loader));
    CREATE(w->teacher, kdas_model_create(&w->teacher, w->ctx, "lite_fpn0", &frozen));
    CALL(kdas_model_load(w->teacher, in_dir("teacher.safetensors"), NULL));
    CREATE(w->student, kdas_model_create(&w->student, w->ctx, s->network, &trained));
    CREATE(w->loss, kdas_loss_create(&w->loss, w->ctx, &loss));
    CREATE(w->optim, kdas_optim_create(&w->optim, w->student, &optim));
    CREATE(w->distiller, kdas_distiller_create(&w->distiller, w->teacher, w->student, w->loss,
                                               w->optim, &distiller));
    fine = true;
done:
    return fine;
}

static bool make_steps(world *w, int count)
{
    kdas_step_report report = { .size = sizeof report };
    bool             fine   = false;

    for (int i = 0; i < count; i++) {
        kdas_batch *batch = NULL;

        CALL_OUT(kdas_loader_next(w->loader, &batch), &batch, sizeof batch, NULL);
        if (!batch) CALL_OUT(kdas_loader_next(w->loader, &batch), &batch, sizeof batch, NULL);
        CALL_OUT(kdas_distiller_step(w->distiller, batch, &report), &report, sizeof report, NULL);
        add(&report.total, sizeof report.total);
        add(report.gradient, sizeof report.gradient);
    }
    fine = true;
done:
    return fine;
}

static bool keep_files(world *w, const setup *s)
{
    kdas_progress progress   = { .size = sizeof progress, .epoch = 1, .seed = 7, .best = 0.5 },
                  read       = { .size = sizeof read };
    kdas_record       record = { .name = "host.note", .text = "a note" };
    kdas_onnx_options onnx;
    bool              fine = false;

    kdas_onnx_options_init(&onnx, sizeof onnx);
    onnx.height = onnx.width = SIDE;
    WRITE(kdas_model_save(w->student, in_dir("files/student.safetensors")));
    WRITE(kdas_checkpoint_save_records(w->distiller, in_dir("files/last.kdas"), &progress, "notes",
                                       &record, 1));
    WRITE(kdas_model_export_onnx(w->student, in_dir("files/student.onnx"), &onnx));
    if (s->ema > 0) {
        CREATE(w->average, kdas_model_create(&w->average, w->ctx, s->network, NULL));
        CALL(kdas_distiller_read_average(w->distiller, w->average));
        WRITE(kdas_model_save(w->average, in_dir("files/average.safetensors")));
    }
    CREATE(w->file, kdas_file_open(&w->file, w->ctx, in_dir("files/student.safetensors")));
    CREATE(w->opened, kdas_model_open(&w->opened, w->ctx, NULL, in_dir("files/student.safetensors"),
                                      NULL, NULL));
    if (!make_steps(w, 1)) goto done; /* which the checkpoint takes back */
    CALL_OUT(kdas_checkpoint_load(w->distiller, in_dir("files/last.kdas"), &read), &read,
             sizeof read, NULL);
    CREATE(w->checkpoint, kdas_checkpoint_open(&w->checkpoint, w->ctx, in_dir("files/last.kdas")));
    CALL(kdas_checkpoint_restore(w->checkpoint, w->distiller));
    CALL(kdas_loader_seek(w->loader, STEPS));
    if (!make_steps(w, 1)) goto done;
    WRITE(kdas_model_save(w->student, in_dir("files/after.safetensors")));
    fine = true;
done:
    return fine;
}

static bool calibrate(world *w)
{
    kdas_model_options      model;
    kdas_calibrator_options options;
    bool                    fine = false;

    kdas_model_options_init(&model, sizeof model);
    model.quantize = KDAS_QUANTIZE_INT8;
    kdas_calibrator_options_init(&options, sizeof options);
    options.least_frames = 1;
    options.probe_frames = 0;
    CREATE(w->on_grids, kdas_model_create(&w->on_grids, w->ctx, "lite_fpn0", &model));
    CREATE(w->calibrator, kdas_calibrator_create(&w->calibrator, w->on_grids, &options));
    CALL(kdas_calibrator_add_dataset(w->calibrator, w->validation, SIDE, SIDE, 1));
    CALL(kdas_calibrator_finish(w->calibrator));
    CREATE(w->calibrated, kdas_calibrator_make(&w->calibrated, w->calibrator));
    WRITE(kdas_model_save(w->calibrated, in_dir("files/int8.safetensors")));
    fine = true;
done:
    return fine;
}

static bool look(world *w)
{
    static uint8_t         mask[96 * 96];
    static float           logits[96 * 96];
    kdas_segmenter_options options;
    kdas_view              view;
    double                 value = 0;
    bool                   fine  = false;

    kdas_segmenter_options_init(&options, sizeof options);
    options.height = options.width = SIDE;
    options.smoothing              = 0.5f;
    CREATE(w->segmenter, kdas_segmenter_create(&w->segmenter, w->opened, &options));
    CALL(kdas_segmenter_warm_up(w->segmenter, 96, 96, KDAS_PIXEL_RGB8));
    for (int64_t i = 0; i < 3; i++) {
        CALL_OUT(kdas_dataset_get(&w->image, &w->mask, w->all, i), &w->image, sizeof w->image,
                 NULL);
        view = kdas_image_view(w->image);
        CALL_OUT(kdas_segmenter_mask(w->segmenter, &view, mask, 0), mask, sizeof mask, NULL);
        CALL_OUT(kdas_segmenter_logits(w->segmenter, &view, logits), logits, sizeof logits, NULL);
        add(mask, sizeof mask);
        add(logits, sizeof logits);
        PAINT(kdas_image_save(w->ctx, in_dir("pictures/frame.png"), &view));
        PAINT(kdas_map_save(w->ctx, in_dir("pictures/map.safetensors"), logits, 96, 96));
        kdas_image_destroy(w->image);
        kdas_image_destroy(w->mask);
        w->image = w->mask = NULL;
    }
    CREATE(w->evaluator, kdas_evaluator_create(&w->evaluator, w->ctx));
    CALL(kdas_evaluator_share(w->evaluator, w->ranks));
    CALL(kdas_evaluate(w->evaluator, w->opened, w->validation, SIDE, SIDE, 0));
    CALL_OUT(kdas_evaluator_get(w->evaluator, -1, KDAS_METRIC_DICE_50, &value), &value,
             sizeof value, NULL);
    add(&value, sizeof value);
    fine = calibrate(w);
done:
    return fine;
}

/* A life with or without failures; the digest of its results. */
static uint64_t live(const setup *s, bool with_faults)
{
    world w = { 0 };

    faults = with_faults;
    digest = 0xcbf29ce484222325ull;
    taken = given = 0;
    empty_folder(in_dir("files"));
    empty_folder(in_dir("pictures"));
    (void)(open_all(&w, s) && make_steps(&w, STEPS) && keep_files(&w, s) && look(&w));
    end(&w);
    claim(taken == given, "the end", 0, "memory is not given back");
    return digest ^ folder_hash(in_dir("files")) ^ (folder_hash(in_dir("pictures")) << 1);
}

/* ---- kdas_train -------------------------------------------------------------------------------------- */

static kdas_status train(world *w, const char *out)
{
    kdas_train_options o;

    kdas_train_options_init(&o, sizeof o);
    o.epochs     = 2;
    o.out        = out;
    o.save_every = 1;
    o.resume     = 1;
    return kdas_train(w->distiller, w->loader, w->validation, &o);
}

/* Weights of the best epoch; log.csv has the seconds, and last.kdas when it began. */
static uint64_t trained(world *w, const char *out)
{
    char best[700];

    snprintf(best, sizeof best, "%s/best.safetensors", out);
    if (kdas_model_save(w->student, in_dir("student.safetensors")) != KDAS_OK) return 0;
    return hash_of(best) ^ (hash_of(in_dir("student.safetensors")) << 1);
}

/* A run in which the allocation `k` fails, and one that takes it up: the hash of its results; 0: it has none. *more:
 * whether there was such an allocation. */
static uint64_t train_with(const setup *s, long k, bool *more)
{
    world       w      = { 0 };
    uint64_t    result = 0;
    char        out[600];
    kdas_status st;

    snprintf(out, sizeof out, "%s", in_dir("run"));
    empty_folder(out);
    taken = given = 0;
    faults        = false;
    if (!open_all(&w, s)) goto done;
    failed_once = false;
    fail_at     = k ? taken + k : 0;
    st          = train(&w, out);
    fail_at     = 0;
    *more       = failed_once;
    if (st != KDAS_OK) {
        claim(st == KDAS_ENOMEM && kdas_last_error()[0], "kdas_train", k, kdas_status_name(st));
        claim(!has_temporary(out), "kdas_train", k, "leaves a temporary file");
        end(&w);
        claim(taken == given, "kdas_train", k, "memory is not given back");
        if (!open_all(&w, s)) goto done;
        st = train(&w, out);
    }
    claim(st == KDAS_OK, "kdas_train", k, "cannot be resumed");
    if (st == KDAS_OK) result = trained(&w, out);
done:
    end(&w);
    claim(taken == given, "kdas_train", k, "memory is not given back at the end");
    return result;
}

static void train_through(const setup *s, long first, long stride)
{
    bool     more = true;
    int      row  = row_of("kdas_train");
    uint64_t good = train_with(s, 0, &more);

    rows[row].calls++;
    more = true;
    for (long k = first; more; k += stride) {
        uint64_t is = train_with(s, k, &more);

        claim(is == good, "kdas_train", k, "ends with other bits");
        if (more) rows[row].failures++;
        if (more) rows[row].allocations = k > rows[row].allocations ? k : rows[row].allocations;
        if (every && rows[row].failures % 50 == 0)
            printf("  %s: kdas_train, allocation %ld\n", s->name, k);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    static const setup setups[] = {
        { "kdas, features, average", "lite_fpn0", "kdas", "normalised", 0.9f, 2, 0,
          KDAS_PRECISION_F32, true },
        { "baseline, bf16 if able", "lite_fpn0", "baseline", NULL, 0, 1, 0,
          KDAS_PRECISION_BF16_IF_ABLE, false },
        { "paper, two workers", "polyp_pvt_b0", "paper", NULL, 0.9f, 1, 2, KDAS_PRECISION_F32,
          false },
    };
    int count = 2; /* the third has threads of its own, and is long */

    for (int i = 1; i < argc; i++) {
        every |= !strcmp(argv[i], "--every");
        lasting |= !strcmp(argv[i], "--lasting");
        if (argv[i][0] != '-') dir = argv[i];
    }
    if (!dir || !prepare()) return 2;
    if (every) count = 3;
    for (int i = 0; i < count; i++) {
        uint64_t good, is;

        life_name = setups[i].name;
        good      = live(&setups[i], false);
        is        = live(&setups[i], true);
        claim(is == good, "the life", 0, "has other results than without failures");
        if (every) printf("  %s: %ld checks\n", life_name, passed);
        fflush(stdout);
        if (setups[i].workers == 0) train_through(&setups[i], 1, every ? 31 : 1499);
    }
    printf("%-32s %6s %12s %9s %9s\n", "allocations of", "calls", "of a call", "failed",
           "survived");
    for (int i = 0; i < row_count; i++)
        printf("%-32s %6ld %12ld %9ld %9ld\n", rows[i].name, rows[i].calls,
               rows[i].allocations /
                   (rows[i].calls && strcmp(rows[i].name, "kdas_train") ? rows[i].calls : 1),
               rows[i].failures, rows[i].survived);
    printf("%ld passed, %ld failed\n", passed, failed);
    return failed != 0;
}

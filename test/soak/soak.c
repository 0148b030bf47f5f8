/* soak.c - a host that works for long, by public functions alone: it trains, evaluates, saves, loads, exports and segments
 * frames of many sizes, over and over, and requires that nothing grows: the library's memory (counted by the hooks), the
 * process's memory, its descriptors, its threads.
 *
 *   soak minutes M   all of these for M minutes
 *   soak frames N    N frames by one segmenter
 *
 * Ends with "N passed, N failed". */
#include <dirent.h>
#include <kdas/kdas.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRY(call)                                                         \
    do {                                                                  \
        if ((call) != KDAS_OK) {                                          \
            printf("%s:%d: %s\n", __FILE__, __LINE__, kdas_last_error()); \
            goto done;                                                    \
        }                                                                 \
    } while (0)

/* Rounds before the figures count. By then every size has been seen, and every buffer that is kept is there. */
enum { WARM_UP = 12, SIDE = 64, MOST_SIDE = 400 };
/* What the process may grow by after that, over any time. The library's own bytes may not grow at all. The rest is the C
 * library's: blocks of threads that ended and of odd sizes stay in its arenas. */
#define SLACK ((int64_t)24 << 20)

/* ---- What is measured ------------------------------------------------------------------------ */

typedef struct figures {
    int64_t held;     /* bytes that the library holds, by the hooks */
    int64_t resident; /* bytes of the process */
    int     descriptors, threads;
} figures;

static atomic_llong held;

/* The size stands before each block; 16 bytes keep its alignment. */
static void *take(void *user, size_t bytes)
{
    char *memory = bytes <= SIZE_MAX - 16 ? malloc(bytes + 16) : NULL;

    (void)user;
    if (!memory) return NULL;
    memcpy(memory, &bytes, sizeof bytes);
    atomic_fetch_add(&held, (long long)bytes);
    return memory + 16;
}

static void give(void *user, void *memory)
{
    size_t bytes;

    (void)user;
    if (!memory) return;
    memcpy(&bytes, (char *)memory - 16, sizeof bytes);
    atomic_fetch_sub(&held, (long long)bytes);
    free((char *)memory - 16);
}

static int entries_of(const char *dir)
{
    DIR *d     = opendir(dir);
    int  count = 0;

    while (d && readdir(d))
        count++;
    if (d) closedir(d);
    return count;
}

static figures look(void)
{
    figures f    = { .held        = atomic_load(&held),
                     .descriptors = entries_of("/proc/self/fd"),
                     .threads     = entries_of("/proc/self/task") - 2 };
    FILE   *file = fopen("/proc/self/statm", "r");
    long    all, resident;

    if (file && fscanf(file, "%ld %ld", &all, &resident) == 2)
        f.resident = resident * sysconf(_SC_PAGESIZE);
    if (file) fclose(file);
    return f;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void tell(double since, int64_t rounds, int64_t frames, const figures *f)
{
    printf("%7.1f min %7lld rounds %9lld frames   library %8.2f MiB   process %8.2f MiB   %d "
           "descriptors   %d threads\n",
           (now() - since) / 60, (long long)rounds, (long long)frames, (double)f->held / 0x1p20,
           (double)f->resident / 0x1p20, f->descriptors, f->threads);
    fflush(stdout);
}

static int require(int holds, const char *what)
{
    if (!holds) printf("FAILED: %s\n", what);
    return !holds;
}

static int compare(const figures *first, const figures *last)
{
    int failed = 0;

    failed +=
        require(last->held == first->held, "the library holds as many bytes as after the warm-up");
    failed += require(last->resident <= first->resident + SLACK, "the process has grown by 24 MiB at most");
    failed += require(last->descriptors == first->descriptors, "as many descriptors are open");
    failed += require(last->threads == first->threads, "as many threads run");
    printf("%d passed, %d failed\n", 4 - failed, failed);
    return failed;
}

/* ---- Frames ---------------------------------------------------------------------------------- */

static uint32_t drawn = 1;

static int draw(int below) /* 0 .. below - 1 */
{
    drawn = drawn * 1664525u + 1013904223u;
    return (int)((uint64_t)drawn * (uint64_t)below >> 32);
}

static uint8_t pixels[MOST_SIDE * MOST_SIDE * 4], mask[MOST_SIDE * MOST_SIDE];

/* A frame of a size and a format out of many, which come back. */
static kdas_view next_frame(void)
{
    static const int sides[]   = { 33, 64, 97, 128, 240, 320, 400, 1 };
    static const int formats[] = { KDAS_PIXEL_RGB8, KDAS_PIXEL_BGRA8, KDAS_PIXEL_GREY8 };

    kdas_view view = {
        .data = pixels, .width = sides[draw(8)], .height = sides[draw(8)], .pixel = formats[draw(3)]
    };

    for (int k = 0; k < 64; k++)
        pixels[draw(sizeof pixels)] = (uint8_t)draw(256);
    return view;
}

static int64_t frames_done;

static kdas_status segment(kdas_segmenter *segmenter, int count)
{
    kdas_status status = KDAS_OK;

    for (int k = 0; k < count && status == KDAS_OK; k++) {
        kdas_view view = next_frame();

        status = k % 2 ? kdas_segmenter_mask(segmenter, &view, mask, 0)
                       : kdas_segmenter_probability(segmenter, &view, mask, 0);
        frames_done++;
    }
    if (status ==
        KDAS_OK) { /* the buffers are those of the last size, so that is always the same */
        kdas_view view = {
            .data = pixels, .width = SIDE, .height = SIDE, .pixel = KDAS_PIXEL_RGB8
        };

        status = kdas_segmenter_mask(segmenter, &view, mask, 0);
        frames_done++;
    }
    return status;
}

/* ---- A round: everything once ---------------------------------------------------------------- */

typedef struct host {
    kdas_context   *context;
    kdas_dataset   *scenes;
    kdas_loader    *loader;
    kdas_model     *teacher, *student;
    kdas_loss      *loss;
    kdas_optim     *optim;
    kdas_distiller *distiller;
    kdas_evaluator *evaluator;
    kdas_segmenter *segmenter;
    char            dir[64], weights[96], onnx[96], run[96];
} host;

static kdas_status open_context(kdas_context **out)
{
    kdas_context_options options;

    kdas_context_options_init(&options, sizeof options);
    options.alloc = take;
    options.free  = give;
    return kdas_context_create(out, &options);
}

static kdas_status open_scenes(host *h)
{
    kdas_scene_options scenes;

    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 8;
    scenes.width = scenes.height = SIDE;
    return kdas_dataset_synthetic(&h->scenes, h->context, &scenes);
}

/* One for each round: how many batches wait in it varies. */
static kdas_status open_loader(host *h)
{
    static const float  scales[] = { 0.5f, 1.0f };
    kdas_loader_options loader;

    kdas_loader_options_init(&loader, sizeof loader);
    loader.batch  = 4;
    loader.height = loader.width = SIDE;
    loader.scales                = scales;
    loader.scale_count           = 2;
    return kdas_loader_create(&h->loader, h->scenes, &loader);
}

static void close_host(host *h)
{
    kdas_segmenter_destroy(h->segmenter);
    kdas_evaluator_destroy(h->evaluator);
    kdas_distiller_destroy(h->distiller);
    kdas_loader_destroy(h->loader);
    kdas_dataset_destroy(h->scenes);
    kdas_optim_destroy(h->optim);
    kdas_loss_destroy(h->loss);
    kdas_model_destroy(h->student);
    kdas_model_destroy(h->teacher);
    kdas_context_destroy(h->context);
}

static int open_host(host *h)
{
    kdas_segmenter_options options;

    kdas_segmenter_options_init(&options, sizeof options);
    options.height = options.width = SIDE;
    snprintf(h->dir, sizeof h->dir, "/tmp/kdas-soak-XXXXXX");
    if (!mkdtemp(h->dir)) return 0;
    snprintf(h->weights, sizeof h->weights, "%s/student.safetensors", h->dir);
    snprintf(h->onnx, sizeof h->onnx, "%s/student.onnx", h->dir);
    snprintf(h->run, sizeof h->run, "%s/run", h->dir);
    TRY(open_context(&h->context));
    TRY(open_scenes(h));
    TRY(kdas_model_create(&h->teacher, h->context, "lite_fpn1", NULL));
    TRY(kdas_model_create(&h->student, h->context, "lite_fpn0", NULL));
    TRY(kdas_loss_create(&h->loss, h->context, NULL));
    TRY(kdas_optim_create(&h->optim, h->student, NULL));
    TRY(kdas_distiller_create(&h->distiller, h->teacher, h->student, h->loss, h->optim, NULL));
    TRY(kdas_evaluator_create(&h->evaluator, h->context));
    TRY(kdas_segmenter_create(&h->segmenter, h->student, &options));
    return 1;
done:
    return 0;
}

static int train(host *h)
{
    kdas_step_report   report = { .size = sizeof report };
    kdas_train_options options;
    kdas_batch        *batch;

    TRY(open_loader(h));
    for (;;) {
        TRY(kdas_loader_next(h->loader, &batch));
        if (!batch) break;
        TRY(kdas_distiller_step(h->distiller, batch, &report));
    }
    kdas_train_options_init(&options, sizeof options); /* a run with its files, written anew */
    options.epochs    = 1;
    options.max_steps = 2;
    options.out       = h->run;
    TRY(kdas_loader_seek(h->loader, 0));
    TRY(kdas_train(h->distiller, h->loader, NULL, &options));
    kdas_loader_destroy(h->loader);
    h->loader = NULL;
    return 1;
done:
    return 0;
}

/* Another host in the same process: everything new, and gone again. */
static int visit(const host *h)
{
    kdas_context   *context   = NULL;
    kdas_model     *model     = NULL;
    kdas_segmenter *segmenter = NULL;
    int             good      = 0;

    TRY(open_context(&context));
    TRY(kdas_model_open(&model, context, NULL, h->weights, NULL, NULL));
    TRY(kdas_segmenter_create(&segmenter, model, NULL)); /* of the size that it was trained for */
    TRY(segment(segmenter, 2));
    if (kdas_model_load(model, h->onnx, NULL) == KDAS_OK) goto done; /* no file of weights */
    good = 1;
done:
    kdas_segmenter_destroy(segmenter);
    kdas_model_destroy(model);
    kdas_context_destroy(context);
    return good;
}

static int round_of(host *h)
{
    if (!train(h)) return 0;
    kdas_evaluator_reset(h->evaluator);
    TRY(kdas_evaluate(h->evaluator, h->student, h->scenes, SIDE, SIDE, 3));
    TRY(segment(h->segmenter, 8));
    TRY(kdas_model_save(h->student, h->weights));
    TRY(kdas_model_export_onnx(h->student, h->onnx, NULL));
    return visit(h);
done:
    return 0;
}

static void remove_files(const host *h)
{
    static const char *const names[] = { "student.safetensors",
                                         "student.onnx",
                                         "run/last.kdas",
                                         "run/run.json",
                                         "run/best.safetensors",
                                         "run/log.csv",
                                         "run" };
    char                     path[160];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", h->dir, names[i]);
        remove(path);
    }
    if (rmdir(h->dir) != 0) printf("left: %s\n", h->dir);
}

static int soak(double minutes)
{
    host    h     = { 0 };
    double  since = now(), told = since;
    figures first = { 0 }, last = { 0 };
    int64_t rounds = 0;
    int     failed = !open_host(&h);

    while (!failed && (rounds <= WARM_UP || now() - since < 60 * minutes)) {
        failed = !round_of(&h);
        last   = look();
        /* The first rounds differ in what they have seen; the most of them is what later ones keep to. */
        if (++rounds <= WARM_UP) first = last;
        if (rounds == WARM_UP || now() - told > 60)
            tell(since, rounds, frames_done, &last), told = now();
    }
    tell(since, rounds, frames_done, &last);
    close_host(&h);
    remove_files(&h);
    if (failed) {
        printf("0 passed, 1 failed\n");
        return 1;
    }
    failed = compare(&first, &last);
    return failed + require(atomic_load(&held) == 0, "everything was given back");
}

static int many_frames(int64_t count)
{
    kdas_context   *context   = NULL;
    kdas_model     *model     = NULL;
    kdas_segmenter *segmenter = NULL;
    double          since = now(), told = since;
    figures         first  = { 0 }, last;
    int             failed = 1;

    kdas_segmenter_options options;

    kdas_segmenter_options_init(&options, sizeof options);
    options.height = options.width = SIDE;
    options.smoothing              = 0.5f;
    options.hysteresis             = 0.4f;
    TRY(open_context(&context));
    TRY(kdas_model_create(&model, context, "lite_fpn0", NULL));
    TRY(kdas_segmenter_create(&segmenter, model, &options));
    for (int64_t n = 0; n < count; n += 50) {
        TRY(segment(segmenter, 50));
        if (n == 500) first = look();
        last = look();
        if (now() - told > 60) tell(since, 0, frames_done, &last), told = now();
    }
    tell(since, 0, frames_done, &last);
    failed = compare(&first, &last);
done:
    kdas_segmenter_destroy(segmenter);
    kdas_model_destroy(model);
    kdas_context_destroy(context);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "minutes") == 0) return soak(atof(argv[2])) != 0;
    if (argc == 3 && strcmp(argv[1], "frames") == 0 && atoll(argv[2]) > 500)
        return many_frames(atoll(argv[2])) != 0;
    fprintf(stderr, "usage: soak minutes M | soak frames N (more than 500)\n");
    return 2;
}

/* check_hooks.c - with memory hooks set, the library takes all of its memory from them: files, data, training,
 * inference. malloc and its kin are this program's here, and each call counts but those that the C library
 * and the compute libraries make for themselves. */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <kdas/kdas.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/files.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0 /* a sanitizer's own */
#else
#define OWN_MALLOC 1
#endif

static atomic_long        hooked, freed; /* by the hooks                                          */
static atomic_long        passed_by;     /* calls of malloc by the library                        */
static atomic_uintptr_t   culprit;       /* from where the first came, as addr2line wants it      */
static _Thread_local bool in_test;       /* the test's own calls, of Check as well, do not count */

#define LIBRARY(call)                                 \
    __extension__({                                   \
        __auto_type got_ = (in_test = false, (call)); \
        in_test          = true;                      \
        got_;                                         \
    })
#define LIBRARY_DOES(call) (void)LIBRARY(((call), 0))

#if OWN_MALLOC
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern char  __executable_start;

/* Where the code lies that may call malloc: the C library and what computes. */
static struct range {
    uintptr_t from, to;
} theirs[64];
static size_t theirs_count;

static int note_theirs(struct dl_phdr_info *info, size_t size, void *unused)
{
    static const char *const names[] = { "/libc.so",      "/ld-linux",       "/libdnnl.so",
                                         "/libopenblas",  "/libgomp.so",     "/libgcc_s",
                                         "/libstdc++.so", "/libgfortran.so", "/libmkldnn.so",
                                         "/libtbb" };

    (void)size;
    (void)unused;
    for (size_t n = 0; n < KD_COUNT(names); n++)
        for (int i = 0; strstr(info->dlpi_name, names[n]) && i < info->dlpi_phnum; i++)
            if (info->dlpi_phdr[i].p_flags & PF_X && theirs_count < KD_COUNT(theirs)) {
                uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;

                theirs[theirs_count++] = (struct range){ from, from + info->dlpi_phdr[i].p_memsz };
            }
    return 0;
}

static void find_theirs(void) { dl_iterate_phdr(note_theirs, NULL); }

static void note(void *from)
{
    uintptr_t at = (uintptr_t)from, none = 0;

    if (in_test) return;
    for (size_t i = 0; i < theirs_count; i++)
        if (at >= theirs[i].from && at < theirs[i].to) return;
    atomic_fetch_add(&passed_by, 1);
    atomic_compare_exchange_strong(&culprit, &none, at - (uintptr_t)&__executable_start);
}
#define NOTE() note(__builtin_return_address(0))

void *malloc(size_t bytes)
{
    NOTE();
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t size)
{
    NOTE();
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t bytes)
{
    NOTE();
    return __libc_realloc(old, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    NOTE();
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    NOTE();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    void *got = __libc_memalign(alignment, bytes);

    NOTE();
    if (!got) return ENOMEM;
    *out = got;
    return 0;
}
#else
#define __libc_malloc malloc
static void find_theirs(void) {}
#endif

static void *hook_alloc(void *user, size_t bytes)
{
    (void)user;
    atomic_fetch_add(&hooked, 1);
    return __libc_malloc(bytes);
}

static void hook_free(void *user, void *memory)
{
    (void)user;
    atomic_fetch_add(&freed, 1);
    free(memory);
}

static kdas_context *context(bool hooks)
{
    kdas_context_options o;
    kdas_context        *ctx;

    kdas_context_options_init(&o, sizeof o);
    o.threads = 2;
    if (hooks) {
        o.alloc = hook_alloc;
        o.free  = hook_free;
    }
    kd_assert_ok(LIBRARY(kdas_context_create(&ctx, &o)));
    return ctx;
}

/* ---- The fixture ---- */

static kdas_context *ctx;

static void setup(void)
{
    in_test = true;
    find_theirs();
    atomic_store(&passed_by, 0); /* Check's, up to here */
    atomic_store(&culprit, 0);
    kd_test_folder_make();
    ctx = context(true);
}

static void teardown(void)
{
    LIBRARY_DOES(kdas_context_destroy(ctx));
    kd_test_folder_remove();
    ck_assert_int_gt(atomic_load(&hooked), 0);
    ck_assert_int_eq(atomic_load(&hooked), atomic_load(&freed));
    ck_assert_msg(atomic_load(&passed_by) == 0,
                  "%ld allocations passed by the hooks, the first at 0x%lx",
                  atomic_load(&passed_by), (unsigned long)atomic_load(&culprit));
}

static kdas_model *model(int32_t trainable)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.trainable = trainable;
    kd_assert_ok(LIBRARY(kdas_model_create(&m, ctx, "polyp_pvt_b0", &o)));
    return m;
}

/* Four frames of 40 x 32 in the folder, as PNG and JPEG, with masks. */
static kdas_dataset *frames(void)
{
    static const char *const kinds[] = { "images/%d.png", "images/%d.jpg" };
    kdas_scene_options       o;
    kdas_dataset            *dataset;
    char                     name[32];

    mkdir(kd_test_path("images"), 0777);
    mkdir(kd_test_path("masks"), 0777);
    kdas_scene_options_init(&o, sizeof o);
    o.width  = 40;
    o.height = 32;
    for (int i = 0; i < 4; i++) {
        kdas_image *image, *mask;
        kdas_view   view;

        kd_assert_ok(LIBRARY(kdas_scene_draw(&image, &mask, ctx, i, &o)));
        snprintf(name, sizeof name, kinds[i % 2], i);
        view = kdas_image_view(image);
        kd_assert_ok(LIBRARY(kdas_image_save(ctx, kd_test_path(name), &view)));
        snprintf(name, sizeof name, "masks/%d.png", i);
        view = kdas_image_view(mask);
        kd_assert_ok(LIBRARY(kdas_image_save(ctx, kd_test_path(name), &view)));
        LIBRARY_DOES(kdas_image_destroy(image));
        LIBRARY_DOES(kdas_image_destroy(mask));
    }
    kd_assert_ok(LIBRARY(kdas_dataset_open(&dataset, ctx, kd_test_path(NULL), NULL)));
    return dataset;
}

static kdas_loader *loader_of(kdas_dataset *dataset, int workers)
{
    kdas_loader_options o;
    kdas_loader        *loader;

    kdas_loader_options_init(&o, sizeof o);
    o.batch  = 2;
    o.height = o.width = 32;
    o.workers          = workers;
    o.blur = o.cutout = 1;
    o.crop            = 0.5f;
    kd_assert_ok(LIBRARY(kdas_loader_create(&loader, dataset, &o)));
    return loader;
}

/* ---- What is looked at ---- */

#if OWN_MALLOC
/* Or the tests below could not fail. */
START_TEST(an_allocation_that_passes_by_is_seen)
{
    kdas_context *plain = context(false);

    LIBRARY_DOES(kdas_context_destroy(plain));
    ck_assert_int_gt(atomic_load(&passed_by), 0);
    atomic_store(&passed_by, 0);
}
END_TEST
#endif

START_TEST(images_come_from_the_hooks)
{
    kdas_dataset *dataset = frames();
    kdas_image   *image, *small;
    kdas_view     view;

    kd_assert_ok(
        LIBRARY(kdas_image_load(&image, ctx, kd_test_path("images/0.png"), KDAS_PIXEL_RGB8)));
    view = kdas_image_view(image);
    kd_assert_ok(LIBRARY(kdas_image_resize(&small, ctx, &view, 16, 16)));
    LIBRARY_DOES(kdas_image_destroy(small));
    LIBRARY_DOES(kdas_image_destroy(image));
    kd_assert_ok(
        LIBRARY(kdas_image_load(&image, ctx, kd_test_path("images/1.jpg"), KDAS_PIXEL_GREY8)));
    LIBRARY_DOES(kdas_image_destroy(image));
    kd_test_write(kd_test_path("bad.png"), "\x89PNG\r\n\x1A\n", 8);
    kd_assert_status(
        LIBRARY(kdas_image_load(&image, ctx, kd_test_path("bad.png"), KDAS_PIXEL_RGB8)),
        KDAS_EFORMAT);
    LIBRARY_DOES(kdas_dataset_destroy(dataset));
}
END_TEST

START_TEST(models_are_saved_and_loaded_in_them)
{
    kdas_model *m = model(0), *other = model(0);

    kd_assert_ok(LIBRARY(kdas_model_save(m, kd_test_path("m.safetensors"))));
    kd_assert_ok(LIBRARY(kdas_model_load(other, kd_test_path("m.safetensors"), NULL)));
    kd_assert_ok(LIBRARY(kdas_model_export_onnx(m, kd_test_path("m.onnx"), NULL)));
    kd_test_write(kd_test_path("bad.safetensors"), "\3\0\0\0\0\0\0\0{\"a", 11);
    kd_assert_status(LIBRARY(kdas_model_load(other, kd_test_path("bad.safetensors"), NULL)),
                     KDAS_EFORMAT);
    LIBRARY_DOES(kdas_model_destroy(m));
    LIBRARY_DOES(kdas_model_destroy(other));
}
END_TEST

START_TEST(datasets_and_maps_come_from_them)
{
    kdas_dataset *dataset = frames(), *rest, *part, *both;
    kdas_loader  *loader;
    float         logits[32 * 40];
    char          name[32];

    for (int i = 0; i < 32 * 40; i++)
        logits[i] = (float)(i % 40 - 20);
    mkdir(kd_test_path("maps"), 0777);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, i % 2 ? "maps/%d.png" : "maps/%d.safetensors", i);
        kd_assert_ok(LIBRARY(kdas_map_save(ctx, kd_test_path(name), logits, 32, 40)));
    }
    kd_assert_ok(LIBRARY(kdas_dataset_add_maps(dataset, kd_test_path("maps"))));
    kd_assert_ok(LIBRARY(kdas_dataset_split(&rest, &part, dataset, 0.5, 1)));
    kd_assert_ok(LIBRARY(kdas_dataset_join(&both, part, rest)));
    loader = loader_of(both, _i);
    for (int i = 0; i < 6; i++) {
        kdas_batch *batch;

        kd_assert_ok(LIBRARY(kdas_loader_next(loader, &batch)));
    }
    LIBRARY_DOES(kdas_loader_destroy(loader));
    LIBRARY_DOES(kdas_dataset_destroy(rest));
    LIBRARY_DOES(kdas_dataset_destroy(part));
    LIBRARY_DOES(kdas_dataset_destroy(both));
    LIBRARY_DOES(kdas_dataset_destroy(dataset));
}
END_TEST

START_TEST(a_run_and_its_checkpoints_come_from_them)
{
    kdas_dataset      *dataset = frames();
    kdas_loader       *loader  = loader_of(dataset, 1);
    kdas_model        *teacher = model(0), *student = model(1);
    kdas_loss         *loss;
    kdas_optim        *optim;
    kdas_distiller    *d;
    kdas_train_options o;
    kdas_progress      progress = { .size = sizeof progress };

    kd_assert_ok(LIBRARY(kdas_context_profile(ctx, 1)));
    kd_assert_ok(LIBRARY(kdas_loss_create(&loss, ctx, NULL)));
    kd_assert_ok(LIBRARY(kdas_optim_create(&optim, student, NULL)));
    kd_assert_ok(LIBRARY(kdas_distiller_create(&d, teacher, student, loss, optim, NULL)));
    kdas_train_options_init(&o, sizeof o);
    o.out = kd_test_path("run");
    for (o.epochs = 1; o.epochs <= 2; o.epochs++) {
        kd_assert_ok(LIBRARY(kdas_train(d, loader, dataset, &o)));
        o.resume = 1;
    }
    kd_assert_ok(LIBRARY(kdas_checkpoint_save(d, kd_test_path("c.kdas"), &progress, "notes")));
    kd_assert_ok(LIBRARY(kdas_checkpoint_load(d, kd_test_path("c.kdas"), &progress)));
    LIBRARY_DOES(kdas_distiller_destroy(d));
    LIBRARY_DOES(kdas_optim_destroy(optim));
    LIBRARY_DOES(kdas_loss_destroy(loss));
    LIBRARY_DOES(kdas_model_destroy(student));
    LIBRARY_DOES(kdas_model_destroy(teacher));
    LIBRARY_DOES(kdas_loader_destroy(loader));
    LIBRARY_DOES(kdas_dataset_destroy(dataset));
}
END_TEST

START_TEST(inference_and_figures_come_from_them)
{
    static uint8_t  pixels[3 * 64 * 48], mask[64 * 48];
    const kdas_view frame = { pixels, 64, 48, 0, KDAS_PIXEL_RGB8 },
                    truth = { mask, 64, 48, 0, KDAS_PIXEL_GREY8 };
    kdas_segmenter_options o;
    kdas_segmenter        *segmenter;
    kdas_evaluator        *evaluator;
    kdas_timing_report     report = { .size = sizeof report };
    kdas_model            *m      = model(0);
    double                 dice;

    kdas_segmenter_options_init(&o, sizeof o);
    o.height = o.width = 32;
    kd_assert_ok(LIBRARY(kdas_segmenter_create(&segmenter, m, &o)));
    kd_assert_ok(LIBRARY(kdas_evaluator_create(&evaluator, ctx)));
    for (int i = 0; i < 3; i++) {
        kd_assert_ok(LIBRARY(kdas_segmenter_mask(segmenter, &frame, mask, 0)));
        kd_assert_ok(LIBRARY(kdas_evaluator_add(evaluator, "frame", &truth, &truth)));
    }
    kd_assert_ok(LIBRARY(kdas_segmenter_timing(segmenter, &report)));
    kd_assert_ok(LIBRARY(kdas_evaluator_get(evaluator, -1, KDAS_METRIC_MEAN_DICE, &dice)));
    LIBRARY_DOES(kdas_evaluator_destroy(evaluator));
    LIBRARY_DOES(kdas_segmenter_destroy(segmenter));
    LIBRARY_DOES(kdas_model_destroy(m));
}
END_TEST

static Suite *hooks_suite(void)
{
    Suite *s = suite_create("hooks");
    TCase *t = tcase_create("hooks");

    tcase_add_checked_fixture(t, setup, teardown);
#if OWN_MALLOC
    tcase_add_test(t, an_allocation_that_passes_by_is_seen);
#else
    printf("SKIP: malloc is a sanitizer's, nothing that passes by the hooks is seen\n");
#endif
    tcase_add_test(t, images_come_from_the_hooks);
    tcase_add_test(t, models_are_saved_and_loaded_in_them);
    tcase_add_loop_test(t, datasets_and_maps_come_from_them, 0, 2);
    tcase_add_test(t, a_run_and_its_checkpoints_come_from_them);
    tcase_add_test(t, inference_and_figures_come_from_them);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(hooks_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_fork_loader.c - a host forks while the loader's workers are in the middle of anything: decoding, keeping a frame,
 * waiting. The child destroys all that it has from its parent, and the parent's batches keep their bits. */
#include <check.h>
#include <kdas/kdas.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/child.h"
#include "support/files.h"
#include "support/run_util.h"

enum { FRAMES = 12, SIDE = 64, FORKS = 120 };

typedef struct parts {
    kdas_context *ctx;
    kdas_dataset *frames;
    kdas_loader  *loader;
} parts;

/* A folder of frames as JPEG and PNG, masks, and a teacher's maps of both kinds. */
static void write_frames(kdas_context *ctx)
{
    static float       logits[80 * 96];
    kdas_scene_options s;
    char               name[64];

    kdas_scene_options_init(&s, sizeof s);
    s.width  = 96;
    s.height = 80;
    for (int i = 0; i < 80 * 96; i++)
        logits[i] = (float)(i % 31) - 15;
    for (int i = 0; i < FRAMES; i++) {
        kdas_image *image, *mask;
        kdas_view   view;

        kd_assert_ok(kdas_scene_draw(&image, &mask, ctx, i, &s));
        snprintf(name, sizeof name, "images/f%02d.%s", i, i % 2 ? "png" : "jpg");
        view = kdas_image_view(image);
        kd_assert_ok(kdas_image_save(ctx, kd_test_path(name), &view));
        snprintf(name, sizeof name, "masks/f%02d.png", i);
        view = kdas_image_view(mask);
        kd_assert_ok(kdas_image_save(ctx, kd_test_path(name), &view));
        snprintf(name, sizeof name, "maps/f%02d.%s", i, i % 3 ? "png" : "safetensors");
        kd_assert_ok(kdas_map_save(ctx, kd_test_path(name), logits, 80, 96));
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
}

/* `cache` bytes of frames are kept: 0 makes workers decode all the time. */
static void make_parts(parts *p, int32_t workers, size_t cache)
{
    kdas_dataset_options d;
    kdas_loader_options  l;

    p->ctx = kd_test_device("cpu", NULL);
    write_frames(p->ctx);
    kdas_dataset_options_init(&d, sizeof d);
    d.cache = cache;
    kd_assert_ok(kdas_dataset_open(&p->frames, p->ctx, kd_test_path(NULL), &d));
    kd_assert_ok(kdas_dataset_add_maps(p->frames, kd_test_path("maps")));
    kdas_loader_options_init(&l, sizeof l);
    l.batch  = 3;
    l.height = l.width = SIDE;
    l.workers          = workers;
    l.blur             = 1;
    l.crop             = 0.5f;
    kd_assert_ok(kdas_loader_create(&p->loader, p->frames, &l));
}

static void destroy_parts(parts *p)
{
    kdas_loader_destroy(p->loader);
    kdas_dataset_destroy(p->frames);
    kdas_context_destroy(p->ctx);
}

static void setup(void)
{
    kd_test_folder_make();
    for (const char *const *dir = (const char *const[]){ "images", "masks", "maps", NULL }; *dir;
         dir++)
        mkdir(kd_test_path(*dir), 0777);
}

/* ---- the child ---- */

static int refuse_and_destroy(void *what)
{
    parts       p    = *(parts *)what;
    kdas_batch *next = NULL;
    kdas_image *image, *mask;

    kd_child_assert_status(kdas_loader_next(p.loader, &next), KDAS_ESTATE);
    kd_child_assert(next == NULL);
    kd_child_assert_status(kdas_loader_seek(p.loader, 0), KDAS_ESTATE);
    kd_child_assert_status(kdas_dataset_get(&image, &mask, p.frames, 0), KDAS_ESTATE);
    kd_child_assert(kdas_loader_batches(p.loader) == FRAMES / 3);
    kd_child_assert(kdas_dataset_count(p.frames) == FRAMES);
    destroy_parts(&p);
    return 0;
}

static int destroy_alone(void *what)
{
    parts p = *(parts *)what;

    destroy_parts(&p);
    return 0;
}

/* And what it forks itself. */
static int fork_again(void *what)
{
    pid_t grandchild = fork();
    int   status;

    if (grandchild == 0) _exit(refuse_and_destroy(what));
    if (waitpid(grandchild, &status, 0) != grandchild || status != 0) return 1;
    return refuse_and_destroy(what);
}

/* ---- tests ---- */

static const struct {
    int32_t workers;
    size_t  cache;
} rings[] = { { 1, 0 }, { 4, 0 }, { 4, 60000 }, { 3, 1 << 30 } };

static uint64_t hash_of(kdas_batch *batch)
{
    size_t n = (size_t)kdas_batch_count(batch) * SIDE * SIDE;

    return kd_hash_bytes(kdas_batch_images(batch), 3 * n * sizeof(float)) ^
           kd_mix64(kd_hash_bytes(kdas_batch_masks(batch), n * sizeof(float))) ^
           kd_mix64(1 + kd_hash_bytes(kdas_batch_teacher(batch), n * sizeof(float)));
}

static uint64_t next_hash(kdas_loader *loader)
{
    kdas_batch *batch = NULL;

    while (!batch)
        kd_assert_ok(kdas_loader_next(loader, &batch));
    return hash_of(batch);
}

START_TEST(a_loader_at_work_is_destroyed_in_a_child_of_any_moment)
{
    kd_random r = kd_random_make(3, (uint64_t)_i);
    parts     p, twin;

    make_parts(&p, rings[_i].workers, rings[_i].cache);
    make_parts(&twin, 0, 1 << 30);
    for (int i = 0; i < FORKS; i++) {
        struct timespec pause = { 0, (long)kd_random_below(&r, 3000000) };

        if (kd_random_below(&r, 4) == 0) { /* somewhere else, and back: slots are given anew */
            kd_assert_ok(kdas_loader_seek(p.loader, i + 2));
            kd_assert_ok(kdas_loader_seek(p.loader, i));
        }
        if (kd_random_below(&r, 2))
            nanosleep(&pause, NULL); /* else at once: the workers have just begun */
        kd_test_in_child(i % 10 ? refuse_and_destroy : fork_again, &p);
        ck_assert_uint_eq(next_hash(p.loader), next_hash(twin.loader));
    }
    destroy_parts(&p);
    destroy_parts(&twin);
}
END_TEST

/* Another thread of the host reads batches and moves the loader while this one forks: the loader's lock is held at most
 * moments. */
typedef struct reader {
    parts       p;
    atomic_bool stop;
    kdas_status st;
} reader;

static void *read_on(void *what)
{
    reader     *r = what;
    kdas_batch *batch;

    for (int64_t i = 0; !atomic_load(&r->stop) && r->st == KDAS_OK; i++) {
        r->st = i % 5 ? kdas_loader_next(r->p.loader, &batch)
                      : kdas_loader_seek(r->p.loader, i * 7 % 40);
    }
    return NULL;
}

START_TEST(a_fork_of_another_thread_than_the_reader_hangs_nobody)
{
    pthread_t thread;
    reader    r = { .stop = false };

    make_parts(&r.p, 3, 60000);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_on, &r), 0);
    for (int i = 0; i < FORKS; i++)
        kd_test_in_child(refuse_and_destroy, &r.p);
    atomic_store(&r.stop, true);
    pthread_join(thread, NULL);
    kd_assert_ok(r.st);
    destroy_parts(&r.p);
}
END_TEST

/* Destroying joins the parent's workers while it forks; children see every state of that, too. */
START_TEST(a_loader_that_is_made_and_destroyed_between_forks_hangs_nobody)
{
    parts p;

    make_parts(&p, 4, 0);
    for (int i = 0; i < 20; i++) {
        kdas_loader_options l;

        kdas_loader_options_init(&l, sizeof l);
        l.batch  = 2;
        l.height = l.width = SIDE;
        l.workers          = 3;
        kdas_loader_destroy(p.loader);
        kd_assert_ok(kdas_loader_create(&p.loader, p.frames, &l));
        kd_test_in_child(destroy_alone, &p);
    }
    destroy_parts(&p);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("fork_loader");
    TCase   *t     = tcase_create("loader");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(t, setup, kd_test_folder_remove);
    tcase_add_loop_test(t, a_loader_at_work_is_destroyed_in_a_child_of_any_moment, 0,
                        KD_COUNT(rings));
    tcase_add_test(t, a_loader_that_is_made_and_destroyed_between_forks_hangs_nobody);
    tcase_add_test(t, a_fork_of_another_thread_than_the_reader_hangs_nobody);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_fork.c - hosts that fork after computing: in the child, what was made before is refused with a sentence and
 * destroyed without a hang, and a new context is made wherever it can compute. Each test forks once more (child.h). */
#include <check.h>
#include <kdas/kdas.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "data/dataset.h"
#include "support/check_util.h"
#include "support/child.h"
#include "support/far_device.h"
#include "support/files.h"
#include "support/run_util.h"
#include "support/thread_ranks.h"

enum { SIDE = 32, PIXELS = SIDE * SIDE };

/* ---- what a parent has ---- */

typedef struct parts {
    kd_test_rig      rig;
    kd_test_meter    meter;
    kdas_segmenter  *segmenter;
    kdas_dataset    *dataset;
    kdas_loader     *loader;
    kdas_batch      *batch;
    kdas_evaluator  *evaluator;
    kdas_model      *on_grids;
    kdas_calibrator *calibrator;
    kdas_ranks      *ranks;
} parts;

static kdas_ranks_options alone; /* a group of one */
static uint8_t            frame_bytes[3 * PIXELS], mask_bytes[PIXELS];
static const kdas_view    frame = { frame_bytes, SIDE, SIDE, 0, KDAS_PIXEL_RGB8 };
static const kdas_view    plane = { mask_bytes, SIDE, SIDE, 0, KDAS_PIXEL_GREY8 };

static void make_data(parts *p, int32_t workers)
{
    kdas_scene_options  scenes;
    kdas_loader_options o;

    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = 12;
    scenes.width = scenes.height = 64;
    kd_assert_ok(kdas_dataset_synthetic(&p->dataset, p->rig.ctx, &scenes));
    kdas_loader_options_init(&o, sizeof o);
    o.batch = 2;
    o.width = o.height = SIDE;
    o.workers          = workers;
    kd_assert_ok(kdas_loader_create(&p->loader, p->dataset, &o));
    kd_assert_ok(kdas_batch_create(&p->batch, p->rig.ctx, 2, SIDE, SIDE));
    kd_assert_ok(kdas_evaluator_create(&p->evaluator, p->rig.ctx));
}

static void make_calibrator(parts *p)
{
    kdas_model_options o;

    kdas_model_options_init(&o, sizeof o);
    o.quantize = KDAS_QUANTIZE_INT8;
    kd_assert_ok(kdas_model_create(&p->on_grids, p->rig.ctx, "lite_fpn0", &o));
    kd_assert_ok(kdas_calibrator_create(&p->calibrator, p->on_grids, NULL));
}

/* All that there is, on a device, after a step and half of another one. */
static void make_parts(parts *p, const char *device, int32_t workers)
{
    kd_test_rig_options o = kd_test_rig_usual();

    memset(p, 0, sizeof *p);
    o.device        = device;
    o.meter         = &p->meter;
    o.distiller.ema = 0.9f;
    kd_test_rig_make(&p->rig, &o);
    make_data(p, workers);
    make_calibrator(p);
    alone = kd_test_group_of_one();
    kd_assert_ok(kdas_ranks_create(&p->ranks, p->rig.ctx, &alone));
    kd_assert_ok(kdas_segmenter_create(&p->segmenter, p->rig.teacher, NULL));
    kd_test_rig_step(&p->rig, 0);
    kd_assert_ok(kdas_distiller_forward(p->rig.distiller, p->batch));
    kd_assert_ok(kdas_model_save(p->rig.student, kd_test_path("student.safetensors")));
    kd_assert_ok(kdas_checkpoint_save(p->rig.distiller, kd_test_path("run.kdas"), NULL, NULL));
}

static void destroy_parts(parts *p)
{
    kdas_loader_destroy(p->loader);
    kdas_dataset_destroy(p->dataset);
    kdas_batch_destroy(p->batch);
    kdas_calibrator_destroy(p->calibrator);
    kdas_model_destroy(p->on_grids);
    kdas_segmenter_destroy(p->segmenter);
    kdas_evaluator_destroy(p->evaluator);
    kdas_ranks_destroy(p->ranks);
    kd_test_rig_finish(&p->rig);
}

/* ---- what is refused ---- */

static float                 floats[1 << 20]; /* room for what is read */
static uint8_t               bytes[3 * PIXELS];
static double                number;
static kdas_image           *image;
static kdas_profile_roofline roof            = { .size = sizeof roof };
static const float *const    no_gradients[2] = { NULL, NULL };
static const float *const    host_maps[1]    = { floats };
static const kdas_maps       maps            = {
                     .maps = 1, .count = 2, .height = SIDE, .width = SIDE, .map = host_maps
};

/* Each call on `p`; those that make something put it into *made. */
/* clang-format off */
#define CALLS                                                                                              \
    CALL(context_wait, kdas_context_wait(p->rig.ctx))                                                       \
    CALL(profile_measure, kdas_profile_measure_roofline(p->rig.ctx, &roof))                                          \
    CALL(model_create, kdas_model_create((kdas_model **)made, p->rig.ctx, "pvt_v2_b0", NULL))               \
    CALL(model_load, kdas_model_load(p->rig.student, kd_test_path("student.safetensors"), NULL))            \
    CALL(model_open, kdas_model_open((kdas_model **)made, p->rig.ctx, NULL,                                 \
         kd_test_path("student.safetensors"), NULL, NULL))                                                  \
    CALL(model_save, kdas_model_save(p->rig.student, kd_test_path("again.safetensors")))                    \
    CALL(model_export_onnx, kdas_model_export_onnx(p->rig.student, kd_test_path("student.onnx"), NULL))     \
    CALL(model_copy, kdas_model_copy(p->rig.student, p->rig.teacher))                                       \
    CALL(model_read, kdas_model_read(p->rig.student, 0, floats))                                            \
    CALL(model_hash, kdas_model_hash(p->rig.student, &(uint64_t){ 0 }))                                     \
    CALL(model_write, kdas_model_write(p->rig.student, 0, floats))                                          \
    CALL(model_read_gradient, kdas_model_read_gradient(p->rig.student, 0, floats))                          \
    CALL(model_zero_gradients, kdas_model_zero_gradients(p->rig.student))                                   \
    CALL(model_forward, kdas_model_forward(p->rig.student, KDAS_MODE_TRAIN, p->batch))                      \
    CALL(model_infer, kdas_model_forward(p->rig.teacher, KDAS_MODE_INFER, p->batch))                        \
    CALL(model_read_output, kdas_model_read_output(p->rig.student, "P1", floats))                           \
    CALL(model_backward, kdas_model_backward(p->rig.student, no_gradients))                                 \
    CALL(model_add_gradient, kdas_model_add_gradient(p->rig.student, "P1", floats))                         \
    CALL(model_memory, kdas_model_memory(p->rig.student, KDAS_MODE_INFER, 1, 64, 64, NULL, NULL))           \
    CALL(loss_create, kdas_loss_create((kdas_loss **)made, p->rig.ctx, NULL))                               \
    CALL(loss_evaluate, kdas_loss_evaluate(p->rig.loss, &maps, &maps, floats, NULL, NULL))                  \
    CALL(loss_weighted, kdas_loss_evaluate_weighted(p->rig.loss, &maps, &maps, floats, NULL, NULL, NULL))   \
    CALL(optim_create, kdas_optim_create((kdas_optim **)made, p->rig.student, NULL))                        \
    CALL(optim_step, kdas_optim_step(p->rig.optim))                                                         \
    CALL(optim_gradient_norm, kdas_optim_gradient_norm(p->rig.optim, &number))                              \
    CALL(distiller_create, kdas_distiller_create((kdas_distiller **)made, p->rig.teacher,                   \
         p->rig.student, p->rig.loss, p->rig.optim, NULL))                                                  \
    CALL(distiller_step, kdas_distiller_step(p->rig.distiller, p->batch, NULL))                             \
    CALL(distiller_forward, kdas_distiller_forward(p->rig.distiller, p->batch))                             \
    CALL(distiller_backward, kdas_distiller_backward(p->rig.distiller, NULL))                               \
    CALL(distiller_update, kdas_distiller_update(p->rig.distiller, NULL))                                   \
    CALL(distiller_gather, kdas_distiller_gather(p->rig.distiller))                                         \
    CALL(batch_prefetch, kdas_batch_prefetch(p->batch))                                                     \
    CALL(batch_upload, kdas_batch_upload(p->batch))                                                         \
    CALL(batch_wrap, kdas_batch_wrap((kdas_batch **)made, p->rig.ctx, 1, 32, 32, floats, NULL))             \
    CALL(calibrator_create, kdas_calibrator_create((kdas_calibrator **)made, p->on_grids, NULL))            \
    CALL(calibrator_add, kdas_calibrator_add(p->calibrator, p->batch))                                      \
    CALL(calibrator_add_dataset, kdas_calibrator_add_dataset(p->calibrator, p->dataset, 32, 32, 0))         \
    CALL(calibrator_finish, kdas_calibrator_finish(p->calibrator))                                          \
    CALL(calibrator_make, kdas_calibrator_make((kdas_model **)made, p->calibrator))                         \
    CALL(model_trim, kdas_model_trim(p->rig.student, 0))                                                    \
    CALL(model_mark, kdas_model_mark(p->rig.student))                                                       \
    CALL(model_rollback, kdas_model_rollback(p->rig.student))                                               \
    CALL(loss_run, kdas_loss_run(p->rig.loss, p->rig.student, p->rig.teacher, p->batch, NULL, NULL))        \
    CALL(save_records, kdas_checkpoint_save_records(p->rig.distiller, kd_test_path("again.kdas"), NULL, NULL, NULL, 0)) \
    CALL(set_teacher_maps, kdas_distiller_set_teacher_maps(p->rig.distiller, &maps))                        \
    CALL(read_average, kdas_distiller_read_average(p->rig.distiller, p->rig.student))                       \
    CALL(checkpoint_save, kdas_checkpoint_save(p->rig.distiller, kd_test_path("again.kdas"), NULL, NULL))   \
    CALL(checkpoint_load, kdas_checkpoint_load(p->rig.distiller, kd_test_path("run.kdas"), NULL))           \
    CALL(train, kdas_train(p->rig.distiller, p->loader, NULL, NULL))                                        \
    CALL(run_folder_open, kdas_run_folder_open((kdas_run_folder **)made, p->rig.ctx, kd_test_path(NULL)))  \
    CALL(evaluate, kdas_evaluate(p->evaluator, p->rig.teacher, p->dataset, SIDE, SIDE, 0))                  \
    CALL(evaluate_predictions, kdas_evaluate_predictions(p->evaluator, p->dataset, 0))                         \
    CALL(segmenter_create, kdas_segmenter_create((kdas_segmenter **)made, p->rig.teacher, NULL))            \
    CALL(segmenter_logits, kdas_segmenter_logits(p->segmenter, &frame, floats))                             \
    CALL(segmenter_mask, kdas_segmenter_mask(p->segmenter, &frame, bytes, 0))                               \
    CALL(segmenter_probability, kdas_segmenter_probability(p->segmenter, &frame, bytes, 0))                 \
    CALL(segmenter_overlay, kdas_segmenter_overlay(p->segmenter, &frame, bytes, 0, NULL))                   \
    CALL(segmenter_warm_up, kdas_segmenter_warm_up(p->segmenter, SIDE, SIDE, KDAS_PIXEL_RGB8))              \
    CALL(batch_create, kdas_batch_create((kdas_batch **)made, p->rig.ctx, 1, SIDE, SIDE))                   \
    CALL(batch_set, kdas_batch_set(p->batch, 0, &frame, &plane))                                            \
    CALL(batch_set_teacher, kdas_batch_set_teacher(p->batch, 0, &plane))                                    \
    CALL(batch_set_weights, kdas_batch_set_weights(p->batch, 0, &plane))                                    \
    CALL(batch_set_labelled, kdas_batch_set_labelled(p->batch, 0, 0))                                       \
    CALL(dataset_open, kdas_dataset_open((kdas_dataset **)made, p->rig.ctx, kd_test_path(NULL), NULL))      \
    CALL(dataset_open_predictions, kdas_dataset_open_predictions((kdas_dataset **)made, p->rig.ctx, kd_test_path(NULL), kd_test_path(NULL), NULL)) \
    CALL(dataset_synthetic, kdas_dataset_synthetic((kdas_dataset **)made, p->rig.ctx, NULL))                \
    CALL(dataset_get, kdas_dataset_get(&image, (kdas_image **)made, p->dataset, 0))                         \
    CALL(dataset_add_maps, kdas_dataset_add_maps(p->dataset, kd_test_path(NULL)))                           \
    CALL(loader_create, kdas_loader_create((kdas_loader **)made, p->dataset, NULL))                         \
    CALL(loader_next, kdas_loader_next(p->loader, (kdas_batch **)made))                                     \
    CALL(loader_seek, kdas_loader_seek(p->loader, 3))                                                       \
    CALL(ranks_create, kdas_ranks_create((kdas_ranks **)made, p->rig.ctx, &alone))                          \
    CALL(ranks_agree, kdas_ranks_agree(p->ranks, "text", "text"))                                           \
    CALL(ranks_vote, kdas_ranks_vote(p->ranks, KDAS_OK))                                                    \
    CALL(ranks_sum, kdas_ranks_sum(p->ranks, &number, 1))                                                   \
    CALL(ranks_broadcast, kdas_ranks_broadcast(p->ranks, &number, sizeof number, 0))                        \
    CALL(ranks_barrier, kdas_ranks_barrier(p->ranks))
/* clang-format on */

#define CALL(name, call)                                  \
    static kdas_status call_##name(parts *p, void **made) \
    {                                                     \
        (void)made;                                       \
        return call;                                      \
    }
CALLS
#undef CALL

static const struct {
    const char *name;
    kdas_status (*run)(parts *p, void **made);
} calls[] = {
#define CALL(name, call) { #name, call_##name },
    CALLS
#undef CALL
};

/* Every call is refused with a sentence about the fork, and what it would make is NULL or as it was. */
static int refuses_all(parts *p)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        void       *made = p;
        kdas_status st   = calls[i].run(p, &made);

        if (st == KDAS_ESTATE && strstr(kdas_last_error(), "forked") && (!made || made == p))
            continue;
        fprintf(stderr, "%s gives %s, '%s'\n", calls[i].name, kdas_status_name(st),
                kdas_last_error());
        return 1;
    }
    return 0;
}

/* What needs nothing but memory answers as it did. */
static int answers(parts *p)
{
    kd_child_assert(kdas_context_threads(p->rig.ctx) == 2);
    kd_child_assert(kdas_model_parameters(p->rig.student) > 3000000);
    kd_child_assert(strcmp(kdas_dataset_name(p->dataset, 3), "scene-000003") == 0);
    kd_child_assert(kdas_optim_updates(p->rig.optim) >= 1);
    kd_child_assert(kdas_loader_batches(p->loader) == 6);
    kd_child_assert_status(kdas_optim_set_lr(p->rig.optim, 0.5f), KDAS_OK);
    kd_child_assert_status(kdas_evaluator_add(p->evaluator, "one", &plane, &plane), KDAS_OK);
    kd_child_assert_status(kdas_image_create(&image, p->rig.ctx, SIDE, SIDE, KDAS_PIXEL_RGB8),
                           KDAS_OK);
    kdas_image_destroy(image);
    kdas_context_cancel(p->rig.ctx);
    kdas_context_resume(p->rig.ctx);
    return 0;
}

static int refuse_and_destroy(void *what)
{
    parts *p = what;

    kd_child_assert(refuses_all(p) == 0);
    kd_child_assert(answers(p) == 0);
    destroy_parts(p);
    return 0;
}

static int refuse_and_give_all_back(void *what)
{
    parts *p = what;

    kd_child_assert(refuse_and_destroy(p) == 0);
    /* all but the collective's group, which is not closed in a child */
    kd_child_assert(atomic_load(&p->meter.taken) == atomic_load(&p->meter.given_back) + 1);
    return 0;
}

START_TEST(what_was_made_before_a_fork_is_refused_and_given_back)
{
    parts p;

    make_parts(&p, "cpu", 0);
    kd_test_in_child(refuse_and_give_all_back, &p);
    kd_assert_ok(kdas_distiller_backward(p.rig.distiller, NULL)); /* the parent goes on */
    kd_test_rig_step(&p.rig, 1);
    destroy_parts(&p);
    kd_test_assert_given_back(&p.meter);
}
END_TEST

/* Workers that wait hold a condition: to destroy it would take as long as to join them. */
START_TEST(a_loader_is_destroyed_without_its_workers)
{
    kdas_batch *batch;
    parts       p;

    make_parts(&p, "cpu", 3);
    kd_test_in_child(refuse_and_destroy, &p); /* at work, perhaps */
    for (int i = 0; i < 3; i++)
        kd_assert_ok(kdas_loader_next(p.loader, &batch));
    sleep(1);
    kd_test_in_child(refuse_and_destroy, &p); /* waiting */
    destroy_parts(&p);
    kd_test_assert_given_back(&p.meter);
}
END_TEST

START_TEST(a_lock_that_another_thread_held_stops_nobody)
{
    parts            p;
    pthread_mutex_t *lock;

    make_parts(&p, "cpu", 0);
    lock = &p.dataset->entry[0].frames->lock;
    pthread_mutex_lock(lock); /* to the child it is all the same whose it is */
    kd_test_in_child(refuse_and_give_all_back, &p);
    pthread_mutex_unlock(lock);
    destroy_parts(&p);
}
END_TEST

/* ---- a device with memory of its own ---- */

static int leave_the_device_alone(void *what)
{
    kd_test_far before = kd_far;

    kd_child_assert(refuse_and_destroy(what) == 0);
    kd_child_assert(kd_far.blocks == before.blocks && kd_far.graphs == before.graphs);
    kd_child_assert(atomic_load(&kd_far.host_blocks) == atomic_load(&before.host_blocks));
    kd_child_assert(kd_far.waits == before.waits && kd_far.syncs == before.syncs);
    kd_child_assert(kd_far.downloads == before.downloads && kd_far.uploads == before.uploads);
    return 0;
}

START_TEST(a_device_with_its_own_memory_is_left_alone)
{
    kdas_batch *batch;
    parts       p;

    make_parts(&p, "far", 0);
    for (int i = 1; i < 4; i++) /* there are records */
        kd_test_rig_step(&p.rig, i);
    ck_assert_int_gt(kd_far.graphs, 0);
    kd_assert_ok(kdas_loader_next(p.loader, &batch));
    kd_assert_ok(kdas_batch_prefetch(batch)); /* and an upload under way */
    kd_test_in_child(leave_the_device_alone, &p);
    kd_test_rig_step(&p.rig, 5);
    destroy_parts(&p);
    kd_test_far_assert_empty();
    kd_test_assert_given_back(&p.meter);
}
END_TEST

/* ---- a context of the child's own ---- */

static kdas_status try_context(kdas_context **out, int32_t threads)
{
    kdas_context_options o;

    kdas_context_options_init(&o, sizeof o);
    o.threads = threads;
    return kdas_context_create(out, &o);
}

/* Compute with so many threads from beginning to end; NULL, or what went wrong. */
static void *compute(void *threads)
{
    kdas_context *ctx;
    kdas_model   *model;
    kdas_batch   *batch;
    const char   *wrong = NULL;

    if (try_context(&ctx, *(int32_t *)threads) != KDAS_OK) return "no context";
    if (kdas_model_create(&model, ctx, "pvt_v2_b0", NULL) != KDAS_OK) return "no model";
    if (kdas_batch_create(&batch, ctx, 2, 64, 64) != KDAS_OK) return "no batch";
    for (int i = 0; i < 3 && !wrong; i++)
        if (kdas_model_forward(model, KDAS_MODE_TRAIN, batch) != KDAS_OK) wrong = "no forward";
    kdas_batch_destroy(batch);
    kdas_model_destroy(model);
    kdas_context_destroy(ctx);
    return (void *)wrong;
}

static int32_t one = 1, two = 2, four = 4;

static int compute_by_four(void *what)
{
    (void)what;
    kd_child_assert(compute(&four) == NULL);
    return 0;
}

/* The parent's threads are not the child's concern: contexts of the child make their own. */
START_TEST(a_child_computes_with_threads_of_its_own)
{
    ck_assert_ptr_null(compute(&one));
    kd_test_in_child(compute_by_four, NULL);
    ck_assert_ptr_null(compute(&two));
    kd_test_in_child(compute_by_four, NULL);
    ck_assert_ptr_null(compute(&four));
}
END_TEST

static int destroy_and_compute(void *what)
{
    kdas_context_destroy(what);
    kd_child_assert(compute(&four) == NULL);
    return 0;
}

/* Its threads sleep, or look for work, at the moment of the fork. */
START_TEST(a_child_computes_beside_a_context_with_threads)
{
    kdas_context *ctx;
    kdas_model   *model;
    kdas_batch   *batch;

    kd_assert_ok(try_context(&ctx, 3));
    kd_assert_ok(kdas_model_create(&model, ctx, "pvt_v2_b0", NULL));
    kd_assert_ok(kdas_batch_create(&batch, ctx, 2, 64, 64));
    for (int i = 0; i < 3; i++) {
        kd_assert_ok(kdas_model_forward(model, KDAS_MODE_TRAIN, batch));
        kd_test_in_child(compute_by_four, NULL);
    }
    kdas_batch_destroy(batch);
    kdas_model_destroy(model);
    usleep(50000);
    kd_test_in_child(destroy_and_compute, ctx);
    kdas_context_destroy(ctx);
}
END_TEST

/* Another thread's team is not the child's concern. */
typedef struct other {
    sem_t computed, go_on;
    void *wrong;
} other;

static void *compute_and_wait(void *what)
{
    other *o = what;

    o->wrong = compute(&two);
    sem_post(&o->computed);
    sem_wait(&o->go_on);
    return NULL;
}

START_TEST(a_child_computes_where_another_thread_had_a_team)
{
    pthread_t thread;
    other     o = { .wrong = NULL };

    sem_init(&o.computed, 0, 0);
    sem_init(&o.go_on, 0, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, compute_and_wait, &o), 0);
    sem_wait(&o.computed);
    ck_assert_ptr_null(o.wrong);
    kd_test_in_child(compute_by_four, NULL);
    sem_post(&o.go_on);
    pthread_join(thread, NULL);
}
END_TEST

/* ---- forked in the middle ---- */

/* A host whose memory hook holds one allocation up. */
typedef struct holder {
    int         hold_at; /* which one, counted from 1 */
    int         asked;
    sem_t       held, go_on;
    kdas_status st;
} holder;

static void *held_alloc(void *user, size_t n)
{
    holder *h = user;

    if (++h->asked == h->hold_at) {
        sem_post(&h->held);
        sem_wait(&h->go_on);
    }
    return malloc(n);
}

static void plain_free(void *user, void *memory)
{
    (void)user;
    free(memory);
}

static void *create_and_destroy(void *what)
{
    holder              *h = what;
    kdas_context_options o;
    kdas_context        *ctx;

    kdas_context_options_init(&o, sizeof o);
    o.threads    = 1;
    o.alloc      = held_alloc;
    o.free       = plain_free;
    o.alloc_user = h;
    h->st        = kdas_context_create(&ctx, &o);
    kdas_context_destroy(ctx);
    return NULL;
}

static int no_context_at_all(void *what)
{
    kdas_context *ctx = what;

    kd_child_assert_status(try_context(&ctx, 1), KDAS_ESTATE);
    kd_child_assert(ctx == NULL && strstr(kdas_last_error(), "inside of libkdas"));
    return 0;
}

START_TEST(a_child_that_was_forked_in_the_middle_of_a_call_gets_no_context)
{
    holder    h = { .hold_at = 2 }; /* that of the device; the first is the context */
    pthread_t thread;

    sem_init(&h.held, 0, 0);
    sem_init(&h.go_on, 0, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, create_and_destroy, &h), 0);
    sem_wait(&h.held);
    kd_test_in_child(no_context_at_all, &h);
    sem_post(&h.go_on);
    pthread_join(thread, NULL);
    kd_assert_ok(h.st);
    kd_test_in_child(compute_by_four, NULL); /* nothing is under way any more */
}
END_TEST

static int fork_again(void *what)
{
    parts p;

    (void)what;
    make_parts(&p, "cpu", 0);
    kd_test_in_child(refuse_and_give_all_back, &p);
    destroy_parts(&p);
    return 0;
}

START_TEST(a_childs_own_context_belongs_to_it_alone)
{
    kdas_context *ctx;

    kd_assert_ok(try_context(&ctx, 1)); /* forks are counted from here on */
    kd_test_in_child(fork_again, NULL);
    kdas_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("fork");
    TCase   *old = tcase_create("made before"), *fresh = tcase_create("made in the child");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(old, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(old, what_was_made_before_a_fork_is_refused_and_given_back);
    tcase_add_test(old, a_loader_is_destroyed_without_its_workers);
    tcase_add_test(old, a_lock_that_another_thread_held_stops_nobody);
    tcase_add_test(old, a_device_with_its_own_memory_is_left_alone);
    tcase_add_test(old, a_childs_own_context_belongs_to_it_alone);
    suite_add_tcase(suite, old);
    tcase_add_test(fresh, a_child_computes_with_threads_of_its_own);
    tcase_add_test(fresh, a_child_computes_beside_a_context_with_threads);
    tcase_add_test(fresh, a_child_computes_where_another_thread_had_a_team);
    tcase_add_test(fresh, a_child_that_was_forked_in_the_middle_of_a_call_gets_no_context);
    suite_add_tcase(suite, fresh);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

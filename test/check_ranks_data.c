/* check_ranks_data.c - the loader of several ranks: their shares are together the batches of one loader. */
#include <check.h>
#include <kdas/kdas.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/files.h"
#include "support/thread_ranks.h"

/* ---- shares ---- */

/* What all ranks are asked for. */
typedef struct plan {
    int64_t             frames, batch;
    float               empty; /* share of frames without a polyp */
    kdas_loader_options loader;
    const float        *scales;
} plan;

static plan plan_of(int64_t frames, int64_t batch)
{
    plan p = { .frames = frames, .batch = batch };

    kdas_loader_options_init(&p.loader, sizeof p.loader);
    p.loader.batch  = batch;
    p.loader.height = p.loader.width = 32;
    p.loader.seed                    = 3;
    p.loader.blur                    = 0.5f;
    p.loader.cutout                  = 0.5f;
    p.loader.hue                     = 0.1f;
    p.loader.crop                    = 0.6f;
    return p;
}

static kdas_dataset *scenes(kdas_context *ctx, const plan *p)
{
    kdas_scene_options o;
    kdas_dataset      *frames;

    kdas_scene_options_init(&o, sizeof o);
    o.count = p->frames;
    o.width = o.height = 40;
    o.empty            = p->empty;
    kd_assert_ok(kdas_dataset_synthetic(&frames, ctx, &o));
    return frames;
}

/* The images of the share from number `from` on are those of the whole batch. */
static void assert_same_images(kdas_batch *share, kdas_batch *whole, int64_t from)
{
    int64_t height = kdas_batch_height(share), width = kdas_batch_width(share);
    int64_t n = kdas_batch_count(share);

    ck_assert(kd_test_same_bits(kdas_batch_images(share),
                                kdas_batch_images(whole) + from * height * width * 3,
                                (size_t)(n * height * width * 3) * sizeof(float)));
    ck_assert(kd_test_same_bits(kdas_batch_masks(share),
                                kdas_batch_masks(whole) + from * height * width,
                                (size_t)(n * height * width) * sizeof(float)));
}

/* The next batch of both; false at the end of an epoch, which both reach together. */
static bool compare_next(kd_test_seat *s, kdas_loader *own, kdas_loader *whole, double *images)
{
    int         ranks = kdas_ranks_count(s->ranks);
    kdas_batch *share, *all;
    int64_t     m, from;
    double      n;

    kd_assert_ok(kdas_loader_next(own, &share));
    kd_assert_ok(kdas_loader_next(whole, &all));
    /* of an incomplete batch with fewer images than ranks there are no shares */
    while (all && kdas_batch_count(all) < ranks) { /* at each scale */
        ck_assert_ptr_null(share);
        kd_assert_ok(kdas_loader_next(whole, &all));
    }
    ck_assert_int_eq(share == NULL, all == NULL);
    if (!share) return false;
    m    = kdas_batch_count(all);
    from = s->rank * m / ranks;
    ck_assert_int_eq(kdas_batch_count(share), (s->rank + 1) * m / ranks - from);
    ck_assert_int_gt(kdas_batch_count(share), 0);
    assert_same_images(share, all, from);
    n = (double)kdas_batch_count(share);
    kd_assert_ok(kdas_ranks_sum(s->ranks, &n, 1)); /* none is missing, none comes twice */
    ck_assert_double_eq(n, (double)m);
    *images += n;
    return true;
}

static void compare_epochs(kd_test_seat *s)
{
    const plan         *p      = s->user;
    kdas_dataset       *frames = scenes(s->ctx, p);
    kdas_loader_options o = p->loader, one = p->loader;
    kdas_loader        *own, *whole;
    int64_t             batches = 0;
    double              images  = 0;

    o.ranks   = s->ranks;
    o.workers = s->rank % 2; /* they need not have as many */
    one.batch *= kdas_ranks_count(s->ranks);
    kd_assert_ok(kdas_loader_create(&own, frames, &o));
    kd_assert_ok(kdas_loader_create(&whole, frames, &one));
    for (int epoch = 0; epoch < 2; epoch++)
        while (compare_next(s, own, whole, &images))
            batches++;
    ck_assert_int_eq(batches, 2 * kdas_loader_batches(own));
    ck_assert_int_eq(kdas_loader_position(own), batches);
    ck_assert(images > 0);
    kdas_loader_destroy(own);
    kdas_loader_destroy(whole);
    kdas_dataset_destroy(frames);
}

static void on_one_to_four(plan *p)
{
    for (int n = 1; n <= 4; n++) {
        kd_test_group_options o = kd_test_group_of(n);

        kd_test_on_ranks(&o, compare_epochs, p);
    }
}

START_TEST(shares_are_together_the_batches_of_one_loader)
{
    plan p = plan_of(13, 2);

    on_one_to_four(&p);
}
END_TEST

START_TEST(batches_of_one_image_a_rank_are_shared)
{
    plan p = plan_of(5, 1); /* a last batch of 1 image, of fewer than 2 and 4 ranks */

    on_one_to_four(&p);
}
END_TEST

START_TEST(scales_are_made_in_step)
{
    static const float scale[] = { 1, 2, 3 };
    plan               p       = plan_of(7, 2);

    p.loader.scales      = scale;
    p.loader.scale_count = 3;
    on_one_to_four(&p);
}
END_TEST

START_TEST(incomplete_batches_are_dropped_alike)
{
    plan p = plan_of(11, 2);

    p.loader.drop_last = 1;
    on_one_to_four(&p);
}
END_TEST

START_TEST(frames_without_a_polyp_come_as_often)
{
    plan p = plan_of(10, 2);

    p.empty              = 0.4f;
    p.loader.empty_share = 0.7f;
    on_one_to_four(&p);
}
END_TEST

/* ---- positions ---- */

static void seek(kd_test_seat *s)
{
    const plan         *p      = s->user;
    kdas_dataset       *frames = scenes(s->ctx, p);
    kdas_loader_options o = p->loader, one = p->loader;
    kdas_loader        *own, *whole;
    double              images = 0;

    o.ranks   = s->ranks;
    one.batch = o.batch * kdas_ranks_count(s->ranks);
    kd_assert_ok(kdas_loader_create(&own, frames, &o));
    kd_assert_ok(kdas_loader_create(&whole, frames, &one));
    for (int64_t to = 0; to < 2 * kdas_loader_batches(own); to += 3) {
        kd_assert_ok(kdas_loader_seek(own, to));
        kd_assert_ok(kdas_loader_seek(whole, to));
        ck_assert(compare_next(s, own, whole, &images));
        ck_assert_int_eq(kdas_loader_position(own), to + 1);
    }
    kdas_loader_destroy(own);
    kdas_loader_destroy(whole);
    kdas_dataset_destroy(frames);
}

START_TEST(a_position_is_that_of_one_loader)
{
    plan                  p = plan_of(21, 2);
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, seek, &p);
}
END_TEST

/* ---- what cannot be shared ---- */

static void refuse(kd_test_seat *s)
{
    plan          p      = plan_of(2, 1);
    kdas_dataset *frames = scenes(s->ctx, &p);
    kdas_loader  *loader = (kdas_loader *)s;

    p.loader.ranks = s->ranks;
    kd_assert_status(kdas_loader_create(&loader, frames, &p.loader), KDAS_EINVAL);
    kd_assert_sentence("2 frames cannot be shared by 3 ranks");
    ck_assert_ptr_null(loader);
    kdas_dataset_destroy(frames);

    p                  = plan_of(5, 2);
    frames             = scenes(s->ctx, &p);
    p.loader.ranks     = s->ranks;
    p.loader.drop_last = 1;
    kd_assert_status(kdas_loader_create(&loader, frames, &p.loader), KDAS_EINVAL);
    kd_assert_sentence("5 frames fill no batch of 6, and drop_last is set");
    kdas_dataset_destroy(frames);
}

START_TEST(too_few_frames_are_refused)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, refuse, NULL);
}
END_TEST

/* ---- agreement ---- */

enum { BATCH, SEED, AUGMENT, SCALE, FRAMES, WRONG, DIFFERENCES };

static const char *const differences[DIFFERENCES] = {
    [BATCH]   = "rank 1 has another loader.batch than rank 0: '3' and not '2'",
    [SEED]    = "rank 1 has another loader.seed than rank 0: '4' and not '3'",
    [AUGMENT] = "rank 1 has another loader.augment than rank 0: '0' and not '1'",
    [SCALE]   = "rank 1 has another scale of the loader than rank 0: '2' and not '1'",
    [FRAMES]  = "rank 1 has another hash of the loader's frames than rank 0",
    [WRONG]   = "rank 1: kdas_loader_options: blur is 5",
};

static void differ(kd_test_seat *s)
{
    static const float usual[] = { 1 }, twice[] = { 2 };

    for (int i = 0; i < DIFFERENCES; i++) {
        bool          other  = s->rank == 1;
        plan          p      = plan_of(other && i == FRAMES ? 9 : 8, 2);
        kdas_dataset *frames = scenes(s->ctx, &p);
        kdas_loader  *loader = (kdas_loader *)s;

        p.loader.ranks       = s->ranks;
        p.loader.workers     = s->rank;
        p.loader.scales      = other && i == SCALE ? twice : usual;
        p.loader.scale_count = 1;
        p.loader.batch += other && i == BATCH;
        p.loader.seed += other && i == SEED;
        if (other && i == AUGMENT) p.loader.augment = 0;
        if (other && i == WRONG) p.loader.blur = 5;
        kd_assert_status(kdas_loader_create(&loader, frames, &p.loader), KDAS_EINVAL);
        ck_assert_ptr_null(loader);
        kd_assert_sentence(differences[i]);
        kdas_dataset_destroy(frames);
    }
}

START_TEST(loaders_that_differ_are_refused_on_all)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, differ, NULL);
}
END_TEST

/* Each allocation of rank 1 fails once. */
static void run_out_of_memory(kd_test_seat *s)
{
    kd_test_meter *meter  = s->ctx->alloc_user;
    plan           p      = plan_of(8, 2);
    kdas_dataset  *frames = scenes(s->ctx, &p);
    kdas_loader   *loader = NULL;
    kdas_status    st     = KDAS_ENOMEM;

    p.loader.ranks   = s->ranks;
    p.loader.workers = 0; /* which would take memory at the same time */
    for (long k = 1; st != KDAS_OK; k++) {
        if (s->rank == 1) meter->fail_at = meter->fail_to = meter->taken + k;
        st             = kdas_loader_create(&loader, frames, &p.loader);
        meter->fail_at = meter->fail_to = 0;
        ck_assert_msg(st == KDAS_OK || st == KDAS_ENOMEM, "%s", kdas_last_error());
        ck_assert((loader != NULL) == (st == KDAS_OK));
        kd_assert_ok(kdas_ranks_barrier(s->ranks)); /* so all have the same status */
    }
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(frames);
}

START_TEST(a_rank_without_memory_makes_no_loader_on_any)
{
    kd_test_group_options o = kd_test_group_of(2);

    kd_test_on_ranks(&o, run_out_of_memory, NULL);
}
END_TEST

static void note(void *user, kdas_log_level level, const char *text)
{
    if (level == KDAS_LOG_INFO && strstr(text, "too few for")) strcpy(user, text);
}

static void leave_out(kd_test_seat *s)
{
    char               said[300] = "";
    kdas_context      *ctx       = kd_test_logging(NULL, note, said);
    plan               p         = plan_of(7, 1);
    kdas_ranks_options o;
    kdas_dataset      *frames;
    kdas_loader       *loader = NULL;
    kdas_ranks        *ranks;

    kdas_ranks_options_init(&o, sizeof o);
    o.table        = &kd_test_collective;
    o.communicator = s;
    kd_assert_ok(kdas_ranks_create(&ranks, ctx, &o));
    frames         = scenes(ctx, &p);
    p.loader.ranks = s->ranks;
    kd_assert_status(kdas_loader_create(&loader, frames, &p.loader), KDAS_EINVAL);
    kd_assert_sentence("ranks are of another context");
    p.loader.ranks = ranks;
    kd_assert_ok(kdas_loader_create(&loader, frames, &p.loader));
    ck_assert_int_eq(kdas_loader_batches(loader), 2);
    ck_assert_str_eq(said, "an epoch ends before its last batch, whose 1 images are too few for 3 "
                           "ranks");
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(frames);
    kdas_ranks_destroy(ranks);
    kdas_context_destroy(ctx);
}

START_TEST(a_batch_that_is_left_out_is_logged)
{
    kd_test_group_options o = kd_test_group_of(3);

    kd_test_on_ranks(&o, leave_out, NULL);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("ranks_data");
    TCase   *tests = tcase_create("loader");
    SRunner *runner;
    int      failed;

    tcase_add_test(tests, shares_are_together_the_batches_of_one_loader);
    tcase_add_test(tests, batches_of_one_image_a_rank_are_shared);
    tcase_add_test(tests, scales_are_made_in_step);
    tcase_add_test(tests, incomplete_batches_are_dropped_alike);
    tcase_add_test(tests, frames_without_a_polyp_come_as_often);
    tcase_add_test(tests, a_position_is_that_of_one_loader);
    tcase_add_test(tests, too_few_frames_are_refused);
    tcase_add_test(tests, loaders_that_differ_are_refused_on_all);
    tcase_add_test(tests, a_rank_without_memory_makes_no_loader_on_any);
    tcase_add_test(tests, a_batch_that_is_left_out_is_logged);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* check_ranks_train.c - runs of several ranks: what they agree on, who writes, how they end, and how they go on. */
#include <check.h>
#include <kdas/kdas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "support/check_util.h"
#include "support/files.h"
#include "support/small_nets.h"
#include "support/thin.h"
#include "support/thread_ranks.h"

enum { FRAMES = 14, STEPS = 4 /* of an epoch, of 4 images but the last of 2 */, MOST = 4 };

/* ---- a run of a rank ---- */

/* What is asked of the ranks, and what became of each. */
typedef struct plan {
    int64_t batch, epochs, save_every, frames, accumulate;
    bool    resume, alone; /* alone: no ranks in loader and distiller */
    bool    norms;         /* the student has batch norms */
    float   lr;
    int     stop_rank, stop_at, cancel_rank, cancel_at; /* steps from 1; 0: never */
    int     other;                                      /* this rank has another ... */
    enum { NOTHING, SEED, LR, EPOCHS, VALIDATION, PATIENCE, NO_RANKS, LOSS } what;
    char out[MOST][600]; /* each rank's folder; "": none */
    struct {
        kdas_status      status;
        char             sentence[700];
        float           *weights; /* at the end, malloc */
        size_t           count;
        int              steps, epochs; /* events */
        int64_t          position;
        kdas_train_state last;
        double           total;                /* of the last step */
        long             calls[2 * STEPS + 1]; /* of the group, before and after each step */
    } result[MOST];
} plan;

static plan plan_of(int64_t batch)
{
    return (plan){
        .batch = batch, .epochs = 2, .frames = FRAMES, .accumulate = 1, .lr = 1e-3f, .other = -1
    };
}

static void plan_finish(plan *p)
{
    for (int r = 0; r < MOST; r++)
        free(p->result[r].weights);
}

typedef struct rank_run {
    kd_test_seat *seat;
    plan         *plan;
} rank_run;

static int watch(void *user, const kdas_train_state *s)
{
    rank_run *run  = user;
    plan     *p    = run->plan;
    int       rank = run->seat->rank;

    p->result[rank].steps += s->event == KDAS_EVENT_STEP;
    p->result[rank].epochs += s->event == KDAS_EVENT_EPOCH;
    p->result[rank].last  = *s;
    p->result[rank].total = s->report->total;
    if (s->event == KDAS_EVENT_EPOCH) return 0;
    p->result[rank].calls[s->step] = kd_test_group_calls(run->seat);
    if (p->cancel_at == s->step && p->cancel_rank == rank) kdas_context_cancel(run->seat->ctx);
    return p->stop_at == s->step && p->stop_rank == rank;
}

static kdas_dataset *scenes(kdas_context *ctx, int64_t count, uint64_t seed)
{
    kdas_scene_options o;
    kdas_dataset      *frames;

    kdas_scene_options_init(&o, sizeof o);
    o.count = count;
    o.seed  = seed;
    o.width = o.height = 36;
    kd_assert_ok(kdas_dataset_synthetic(&frames, ctx, &o));
    return frames;
}

static kdas_loader *loader_of(const kd_test_seat *s, const plan *p, bool differs,
                              kdas_dataset *frames)
{
    kdas_loader_options o;
    kdas_loader        *loader;

    kdas_loader_options_init(&o, sizeof o);
    o.batch  = p->batch;
    o.height = o.width = 32;
    o.ranks            = p->alone || (differs && p->what == NO_RANKS) ? NULL : s->ranks;
    kd_assert_ok(kdas_loader_create(&loader, frames, &o));
    return loader;
}

/* It may compare settings already. */
static kdas_status make_distiller(kdas_distiller **d, const kd_test_seat *s, const plan *p,
                                  bool differs, kdas_model *student, kdas_loss **loss,
                                  kdas_optim **optim)
{
    kdas_loss_options      lo;
    kdas_optim_options     oo;
    kdas_distiller_options o;

    kdas_loss_options_init(&lo, sizeof lo);
    kd_assert_ok(kdas_loss_options_preset(&lo, "baseline"));
    if (differs && p->what == LOSS) lo.seg_weight = 0.5f;
    kd_assert_ok(kdas_loss_create(loss, s->ctx, &lo));
    kdas_optim_options_init(&oo, sizeof oo);
    oo.lr = differs && p->what == LR ? 0.5f : p->lr;
    kd_assert_ok(kdas_optim_create(optim, student, &oo));
    kdas_distiller_options_init(&o, sizeof o);
    o.ranks      = p->alone ? NULL : s->ranks;
    o.accumulate = (int32_t)p->accumulate;
    return kdas_distiller_create(d, NULL, student, *loss, *optim, &o);
}

static void take_result(plan *p, int rank, kdas_status st, kdas_model *student, kdas_loader *loader)
{
    p->result[rank].status = st;
    snprintf(p->result[rank].sentence, sizeof p->result[rank].sentence, "%s",
             st == KDAS_OK ? "" : kdas_last_error());
    free(p->result[rank].weights);
    p->result[rank].weights  = kd_test_weights(student, &p->result[rank].count);
    p->result[rank].position = kdas_loader_position(loader);
}

static void train(kd_test_seat *s)
{
    plan          *p       = s->user;
    rank_run       run     = { s, p };
    bool           differs = s->rank == p->other;
    kd_model_rules rules   = { 0 };
    kd_model_def   def =
        kd_test_small_def("small", KD_TEST_SMALL(p->norms ? 2 : 1, KD_TEST_USUAL_STRIDES), &rules);
    kdas_dataset      *frames     = scenes(s->ctx, p->frames, 1);
    kdas_dataset      *validation = scenes(s->ctx, 5 + (differs && p->what == VALIDATION), 2);
    kdas_loader       *loader     = loader_of(s, p, differs, frames);
    kdas_train_options o;
    kdas_model_options m;
    kdas_model        *student;
    kdas_loss         *loss;
    kdas_optim        *optim;
    kdas_distiller    *d;
    kdas_status        st;

    kdas_model_options_init(&m, sizeof m);
    m.seed = 3 + (differs && p->what == SEED);
    kd_assert_ok(kd_model_create(&student, s->ctx, &def, &m));
    st = make_distiller(&d, s, p, differs, student, &loss, &optim);
    kdas_train_options_init(&o, sizeof o);
    o.epochs     = p->epochs + (differs && p->what == EPOCHS);
    o.patience   = differs && p->what == PATIENCE ? 9 : 0;
    o.save_every = p->save_every;
    o.resume     = p->resume;
    o.out        = p->out[s->rank][0] ? p->out[s->rank] : NULL;
    o.progress   = watch;
    o.user       = &run;
    if (st == KDAS_OK) st = kdas_train(d, loader, validation, &o);
    take_result(p, s->rank, st, student, loader);
    kdas_distiller_destroy(d);
    kdas_optim_destroy(optim);
    kdas_loss_destroy(loss);
    kdas_model_destroy(student);
    kdas_loader_destroy(loader);
    kdas_dataset_destroy(frames);
    kdas_dataset_destroy(validation);
}

static void on_ranks(int n, plan *p)
{
    kd_test_group_options o = kd_test_group_of(n);

    kd_test_on_ranks(&o, train, p);
}

static void into(plan *p, const char *folder)
{
    for (int r = 0; r < MOST; r++) {
        char name[60];

        snprintf(name, sizeof name, r ? "%s-%d" : "%s", folder, r);
        snprintf(p->out[r], sizeof p->out[r], "%s", kd_test_path(name));
    }
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

static void assert_all(const plan *p, int n, kdas_status st, const char *sentence)
{
    for (int r = 0; r < n; r++) {
        ck_assert_msg(p->result[r].status == st, "rank %d: %s: %s", r,
                      kdas_status_name(p->result[r].status), p->result[r].sentence);
        if (sentence && !strstr(p->result[r].sentence, sentence))
            ck_abort_msg("rank %d says: %s", r, p->result[r].sentence);
    }
}

static void assert_same_first_student(const plan *a, const plan *b)
{
    ck_assert_uint_eq(a->result[0].count, b->result[0].count);
    ck_assert(kd_test_same_bits(a->result[0].weights, b->result[0].weights,
                                a->result[0].count * sizeof(float)));
}

/* ---- who writes, and what all see ---- */

START_TEST(the_first_rank_alone_writes_and_all_see_the_same)
{
    plan           p = plan_of(2);
    size_t         n;
    unsigned char *json;

    into(&p, "out");
    on_ranks(2, &p);
    assert_all(&p, 2, KDAS_OK, NULL);
    ck_assert_int_eq(kd_test_entries(p.out[0]), 4);
    ck_assert(!is_there(p.out[1]));
    ck_assert_int_eq(p.result[0].steps, 2 * STEPS);
    ck_assert_int_eq(p.result[1].steps, 2 * STEPS);
    ck_assert_int_eq(p.result[1].epochs, 2);
    ck_assert_double_eq(p.result[0].last.validation_dice, p.result[1].last.validation_dice);
    ck_assert_double_eq(p.result[0].last.validation_loss, p.result[1].last.validation_loss);
    ck_assert_double_eq(p.result[0].last.best_dice, p.result[1].last.best_dice);
    ck_assert_int_eq(p.result[0].last.best_epoch, p.result[1].last.best_epoch);
    ck_assert_double_gt(p.result[1].last.validation_loss, 0);
    json = kd_test_read(kd_test_path("out/run.json"), &n);
    ck_assert_ptr_nonnull(strstr((char *)json, "\"ranks\": 2"));
    ck_assert_ptr_nonnull(strstr((char *)json, "\"batch\": 4"));
    free(json);
    plan_finish(&p);
}
END_TEST

START_TEST(a_folder_that_cannot_be_made_fails_all)
{
    plan p = plan_of(2);

    kd_test_write(kd_test_path("file"), "x", 1);
    into(&p, "file/out");
    on_ranks(2, &p);
    assert_all(&p, 2, KDAS_EIO, "rank 0: ");
    ck_assert_int_eq(p.result[0].steps + p.result[1].steps, 0);
    plan_finish(&p);
}
END_TEST

/* ---- agreement ---- */

static void assert_differs(int what, const char *sentence)
{
    plan p = plan_of(2);

    into(&p, "out");
    p.other = 1;
    p.what  = what;
    on_ranks(3, &p);
    assert_all(&p, 3, KDAS_EINVAL, sentence);
    ck_assert_str_eq(p.result[0].sentence, p.result[2].sentence);
    ck_assert_int_eq(p.result[0].steps, 0);
    plan_finish(&p);
}

START_TEST(what_differs_is_named_before_anything_is_made)
{
    assert_differs(LR, "rank 1 has another optim.lr than rank 0: '0.5' and not '0.001");
    assert_differs(LOSS, "rank 1 has another loss.seg_weight than rank 0: '0.5' and not '1'");
    assert_differs(EPOCHS, "rank 1 has another number of epochs than rank 0: '3' and not '2'");
    assert_differs(VALIDATION, "rank 1 has another hash of the validation frames than rank 0");
    assert_differs(PATIENCE, "rank 1 has another set of options than rank 0: 'save_every 0, "
                             "patience 9");
    ck_assert(!is_there(kd_test_path("out")));
    assert_differs(SEED, "rank 1 has another hash of the student's values than rank 0");
}
END_TEST

START_TEST(loader_and_distiller_have_the_same_ranks)
{
    plan p = plan_of(2);

    p.what  = NO_RANKS;
    p.other = 0;
    on_ranks(1, &p);
    assert_all(&p, 1, KDAS_EINVAL,
               "the loader's ranks are not those of the distiller, it has none");
    plan_finish(&p);
}
END_TEST

/* ---- stopping and going on ---- */

/* The run that nothing interrupts. */
static plan unbroken(int n, int64_t batch)
{
    plan p = plan_of(batch);

    on_ranks(n, &p);
    assert_all(&p, n, KDAS_OK, NULL);
    return p;
}

START_TEST(a_stop_on_one_rank_stops_all_at_the_same_step)
{
    plan whole = unbroken(2, 2), p = plan_of(2);

    into(&p, "out");
    p.stop_rank = 1;
    p.stop_at   = 3;
    on_ranks(2, &p);
    assert_all(&p, 2, KDAS_ECANCELLED, "stopped after step 3 of 8");
    for (int r = 0; r < 2; r++) {
        ck_assert_int_eq(p.result[r].steps, 3);
        ck_assert_int_eq(p.result[r].position, 3);
    }
    p.stop_at = 0;
    p.resume  = true;
    into(&p, "out");
    p.cancel_rank = 1;
    p.cancel_at   = STEPS + 1;
    p.save_every  = 2;
    on_ranks(2, &p);
    assert_all(&p, 2, KDAS_ECANCELLED, "stopped after step 5 of 8");
    p.cancel_at = 0;
    on_ranks(2, &p);
    assert_all(&p, 2, KDAS_OK, NULL);
    ck_assert_int_eq(p.result[1].last.step, 2 * STEPS);
    assert_same_first_student(&whole, &p);
    ck_assert(!is_there(p.out[1]));
    on_ranks(2, &p); /* nothing is left to do */
    assert_all(&p, 2, KDAS_OK, NULL);
    assert_same_first_student(&whole, &p);
    plan_finish(&whole);
    plan_finish(&p);
}
END_TEST

START_TEST(a_run_goes_on_with_as_many_images_on_other_ranks)
{
    plan p = plan_of(2);

    into(&p, "out");
    p.stop_at = 3;
    on_ranks(2, &p);
    assert_all(&p, 2, KDAS_ECANCELLED, NULL);
    p.stop_at = 0;
    p.resume  = true;
    p.batch   = 1; /* of 2 ranks: 2 images, not 4 */
    on_ranks(2, &p);
    assert_all(&p, 2, KDAS_EINVAL, "rank 0: ");
    assert_all(&p, 2, KDAS_EINVAL,
               "batch size is 4, here it is 2; images of a rank times ranks must be the "
               "former value to go on");
    p.batch   = 4; /* of one process */
    p.alone   = true;
    p.stop_at = 5;
    memset(p.result[0].sentence, 0, 1);
    on_ranks(1, &p);
    assert_all(&p, 1, KDAS_ECANCELLED, "stopped after step 5 of 8");
    p.alone   = false;
    p.stop_at = 0;
    p.batch   = 2;
    on_ranks(2, &p);
    assert_all(&p, 2, KDAS_OK, NULL);
    ck_assert_int_eq(p.result[1].last.step, 2 * STEPS);
    plan_finish(&p);
}
END_TEST

/* An epoch ends in the midst of an update; until then each rank's running statistics are its own. */
START_TEST(all_ranks_validate_the_same_student)
{
    plan p = plan_of(2);

    p.accumulate = 3;
    p.norms      = true;
    on_ranks(2, &p);
    assert_all(&p, 2, KDAS_OK, NULL);
    ck_assert_int_eq(p.result[0].epochs, 2);
    ck_assert(kd_test_same_bits(p.result[0].weights, p.result[1].weights,
                                p.result[0].count * sizeof(float)));
    plan_finish(&p);
}
END_TEST

/* ---- a rank is lost ---- */

/* Lose rank 1 after so many calls, then go on with a new group. Returns whether rank 0 has saved. */
static bool lose_and_go_on(plan *p, long calls, const plan *whole)
{
    kd_test_group_options o = kd_test_group_of(2);
    bool                  saved;

    o.lost  = 1;
    o.calls = (int)calls;
    kd_test_on_ranks(&o, train, p);
    assert_all(p, 2, KDAS_EBACKEND, NULL);
    ck_assert_ptr_nonnull(strstr(p->result[1].sentence, "rank 1 is lost"));
    ck_assert_ptr_nonnull(strstr(p->result[0].sentence, "a rank did not answer"));
    saved     = strstr(p->result[0].sentence, "; the run is saved after step ") != NULL;
    p->resume = true;
    on_ranks(2, p);
    assert_all(p, 2, KDAS_OK, NULL);
    assert_same_first_student(whole, p);
    return saved;
}

/* Lose it with each call of the step after step `first`, and of the end of the epoch. */
static void lose_at_each_call(int64_t accumulate, int first)
{
    plan        whole = plan_of(2);
    const long *calls = whole.result[1].calls;
    int         saved = 0, lost = 0;

    whole.accumulate = accumulate;
    on_ranks(2, &whole);
    for (int step = first; step <= STEPS; step += STEPS - first)
        for (long call = calls[step]; call < calls[step + 1]; call++) {
            plan p = plan_of(2);
            char name[20];

            p.accumulate = accumulate;
            snprintf(name, sizeof name, "out%d", lost++);
            into(&p, name);
            saved += lose_and_go_on(&p, call, &whole);
            plan_finish(&p);
        }
    ck_assert_int_gt(lost, 3);
    ck_assert_int_eq(saved, lost);
    plan_finish(&whole);
}

START_TEST(a_lost_rank_ends_the_run_which_can_go_on) { lose_at_each_call(1, 2); }
END_TEST

START_TEST(steps_that_wait_for_their_update_are_made_again) { lose_at_each_call(2, 3); }
END_TEST

int main(void)
{
    Suite   *suite = suite_create("ranks_train");
    TCase   *tests = tcase_create("runs"), *before = tcase_create("before a run");
    SRunner *runner;
    int      failed;

    kd_test_thin_networks();
    tcase_add_checked_fixture(tests, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(tests, the_first_rank_alone_writes_and_all_see_the_same);
    tcase_add_test(before, a_folder_that_cannot_be_made_fails_all);
    tcase_add_test(before, what_differs_is_named_before_anything_is_made);
    tcase_add_test(before, loader_and_distiller_have_the_same_ranks);
    tcase_add_test(tests, a_stop_on_one_rank_stops_all_at_the_same_step);
    tcase_add_test(tests, a_run_goes_on_with_as_many_images_on_other_ranks);
    tcase_add_test(tests, all_ranks_validate_the_same_student);
    tcase_add_test(tests, a_lost_rank_ends_the_run_which_can_go_on);
    tcase_add_test(tests, steps_that_wait_for_their_update_are_made_again);
    tcase_add_checked_fixture(before, kd_test_folder_make, kd_test_folder_remove);
    tcase_set_timeout(tests, 100);
    tcase_set_timeout(before, 100);
    suite_add_tcase(suite, before);
    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

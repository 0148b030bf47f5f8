/* check_train.c - whole runs: what they tell, what they keep, and that a broken one can be taken up
 * with the same bits. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/base.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"

#define FRAMES  8
#define BATCHES 4 /* of two frames */

/* ---- a run's parts ---- */

/* What the host saw, and when it asks for what. */
typedef struct witness {
    kd_test_rig     *rig;
    int              steps, epochs; /* events */
    kdas_train_state last_step, last_epoch;
    kdas_step_report report;
    double           totals; /* of the epoch under way, and of how many steps      */
    int64_t          seen;
    int              stop_at;               /* return 1 at this step of the run; 0: never         */
    int              cancel_at;             /* cancel the context there                           */
    int              poison_at;             /* put a NaN into the weights there                   */
    int              stop_at_epoch;         /* return 1 at the end of this epoch                  */
    char             copy_at_epoch[2][600]; /* copy the first file to the second after epoch 1  */
} witness;

typedef struct subject {
    kd_test_rig        rig;
    kdas_dataset      *frames, *validation;
    kdas_loader       *loader;
    kdas_train_options options;
    witness            saw;
} subject;

static void copy_file(const char *from, const char *to)
{
    size_t         n;
    unsigned char *bytes = kd_test_read(from, &n);

    kd_test_write(to, bytes, n);
    free(bytes);
}

static void poison(kdas_model *model)
{
    int32_t i = kdas_model_find(model, "out_CFM.bias");

    kd_assert_ok(kdas_model_write(model, i, &(float){ NAN }));
}

static int watch(void *user, const kdas_train_state *s)
{
    witness *w = user;

    if (s->event == KDAS_EVENT_EPOCH) {
        w->epochs++;
        w->last_epoch = *s;
        w->totals     = 0;
        w->seen       = 0;
        if (w->copy_at_epoch[0][0] && s->epoch == 1)
            copy_file(w->copy_at_epoch[0], w->copy_at_epoch[1]);
        return w->stop_at_epoch == s->epoch;
    }
    w->steps++;
    w->last_step = *s;
    w->report    = *s->report;
    w->totals += s->report->total;
    if (++w->seen == s->batch) /* not taken up within the epoch */
        ck_assert_double_eq_tol(s->mean_total, w->totals / (double)s->batch, 1e-9);
    if (w->poison_at == s->step) poison(w->rig->student);
    if (w->cancel_at == s->step) kdas_context_cancel(w->rig->ctx);
    return w->stop_at == s->step;
}

static void make_data(subject *s, int workers)
{
    kdas_scene_options  scenes;
    kdas_loader_options l;

    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = FRAMES;
    scenes.width = scenes.height = 48;
    kd_assert_ok(kdas_dataset_synthetic(&s->frames, s->rig.ctx, &scenes));
    scenes.seed  = 2;
    scenes.count = 3;
    scenes.width = 60;
    kd_assert_ok(kdas_dataset_synthetic(&s->validation, s->rig.ctx, &scenes));
    kdas_loader_options_init(&l, sizeof l);
    l.batch  = 2;
    l.height = l.width = 32;
    l.workers          = workers;
    kd_assert_ok(kdas_loader_create(&s->loader, s->frames, &l));
}

static void make(subject *s, const kd_test_rig_options *o, const char *out)
{
    memset(s, 0, sizeof *s);
    kd_test_rig_make(&s->rig, o);
    make_data(s, 1);
    kdas_train_options_init(&s->options, sizeof s->options);
    s->options.epochs   = 2;
    s->options.out      = out;
    s->options.seed     = 5;
    s->options.progress = watch;
    s->options.user     = &s->saw;
    s->saw.rig          = &s->rig;
}

static kdas_status train(subject *s)
{
    return kdas_train(s->rig.distiller, s->loader, s->validation, &s->options);
}

static void finish(subject *s)
{
    kdas_loader_destroy(s->loader);
    kdas_dataset_destroy(s->frames);
    kdas_dataset_destroy(s->validation);
    kd_test_rig_finish(&s->rig);
}

/* A student that learns alone: half the work. */
static kd_test_rig_options alone(void)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.teacher = NULL;
    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    return o;
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

/* ---- log.csv ---- */

typedef struct table {
    char *text, *line[64], *cell[64][32];
    int   lines, cells; /* the header counts as a line */
} table;

static void read_table(table *t, const char *path)
{
    size_t n;

    memset(t, 0, sizeof *t);
    t->text = (char *)kd_test_read(path, &n);
    ck_assert_uint_gt(n, 0);
    ck_assert_int_eq(t->text[n - 1], '\n');
    for (char *at = t->text, *next; *at; at = next) {
        int cells = 0;

        next              = strchr(at, '\n') + 1;
        *strchr(at, '\n') = 0;
        t->line[t->lines] = at;
        for (char *cell = at; cell; cells++) {
            char *comma = strchr(cell, ',');

            t->cell[t->lines][cells] = cell;
            if (comma) *comma++ = 0;
            cell = comma;
        }
        if (t->lines++ == 0) t->cells = cells;
        ck_assert_int_eq(cells, t->cells);
    }
}

static const char *cell(const table *t, int line, const char *column)
{
    for (int i = 0; i < t->cells; i++)
        if (strcmp(t->cell[0][i], column) == 0) return t->cell[line][i];
    ck_abort_msg("log.csv has no column '%s'", column);
    return NULL;
}

/* Two logs agree in all but what a clock says. */
static void assert_same_logs(const char *a, const char *b)
{
    static const char *const clocks[] = { "images_per_second", "seconds", "waited" };
    table                    ta, tb;

    read_table(&ta, a);
    read_table(&tb, b);
    ck_assert_int_eq(ta.lines, tb.lines);
    for (int i = 0; i < ta.lines; i++)
        for (int k = 0; k < ta.cells; k++) {
            bool clock = false;

            for (size_t c = 0; c < KD_COUNT(clocks); c++)
                clock |= strcmp(ta.cell[0][k], clocks[c]) == 0;
            if (!clock) ck_assert_str_eq(ta.cell[i][k], tb.cell[i][k]);
        }
    free(ta.text);
    free(tb.text);
}

/* ---- a whole run ---- */

START_TEST(a_run_tells_its_steps_and_epochs_in_order)
{
    kd_test_rig_options o = kd_test_rig_usual();
    subject             s;
    const witness      *w = &s.saw;

    make(&s, &o, NULL);
    kd_assert_ok(train(&s));
    ck_assert_int_eq(w->steps, 2 * BATCHES);
    ck_assert_int_eq(w->epochs, 2);
    ck_assert_int_eq(w->last_step.step, 2 * BATCHES);
    ck_assert_int_eq(w->last_step.steps, 2 * BATCHES);
    ck_assert_int_eq(w->last_step.batch, BATCHES);
    ck_assert_int_eq(w->last_step.batches, BATCHES);
    ck_assert_int_eq(w->last_step.epoch, 2);
    ck_assert_int_eq(w->last_step.epochs, 2);
    ck_assert_double_gt(w->last_step.images_per_second, 0);
    ck_assert_double_gt(w->last_step.seconds, 0);
    ck_assert_double_ge(w->last_step.waited, 0);
    for (int t = 0; t < KDAS_TERMS; t++)
        ck_assert_double_gt(w->report.raw[t], 0);
    ck_assert_int_eq(w->last_epoch.epoch, 2);
    ck_assert_double_ge(w->last_epoch.validation_dice, 0);
    ck_assert_double_gt(w->last_epoch.validation_loss, 0);
    ck_assert_double_ge(w->last_epoch.best_dice, w->last_epoch.validation_dice);
    ck_assert_int_eq(w->last_epoch.is_best, w->last_epoch.best_epoch == 2);
    ck_assert_double_eq(w->last_epoch.seconds_left, 0);
    ck_assert_int_eq(kdas_optim_updates(s.rig.optim), 2 * BATCHES);
    finish(&s);
}
END_TEST

START_TEST(a_run_leaves_three_files_and_a_line_for_each_epoch)
{
    kd_test_rig_options o   = kd_test_rig_usual();
    const char         *out = kd_test_path("deep/er");
    subject             s;
    table               t;

    make(&s, &o, out);
    s.options.epochs = 3;
    kd_assert_ok(train(&s));
    ck_assert_int_eq(kd_test_entries(out), 3);
    ck_assert(is_there(kd_test_path("deep/er/last.kdas")));
    ck_assert(is_there(kd_test_path("deep/er/best.safetensors")));
    read_table(&t, kd_test_path("deep/er/log.csv"));
    ck_assert_int_eq(t.lines, 4);
    for (int i = 1; i < 4; i++) {
        double total = atof(cell(&t, i, "total"));

        ck_assert_int_eq(atoi(cell(&t, i, "epoch")), i);
        ck_assert_int_eq(atoi(cell(&t, i, "step")), i * BATCHES);
        ck_assert_double_eq_tol(atof(cell(&t, i, "seg_weighted")) +
                                    atof(cell(&t, i, "kd_weighted")) +
                                    atof(cell(&t, i, "sgm_weighted")),
                                total, 1e-6 * total);
        ck_assert_double_gt(atof(cell(&t, i, "kd_raw")), 0);
        ck_assert_double_gt(atof(cell(&t, i, "sgm_gradient")), 0);
        ck_assert_double_eq_tol(atof(cell(&t, i, "lr")), 1e-3, 1e-9);
        ck_assert_double_gt(atof(cell(&t, i, "images_per_second")), 0);
    }
    ck_assert_double_eq_tol(atof(cell(&t, 3, "validation_dice")), s.saw.last_epoch.validation_dice,
                            1e-8);
    ck_assert_double_eq_tol(atof(cell(&t, 3, "validation_loss")), s.saw.last_epoch.validation_loss,
                            1e-6);
    free(t.text);
    finish(&s);
}
END_TEST

/* The segmentation term of a model on the validation frames, through public calls. */
static double validation_loss_of(subject *s, kdas_model *model)
{
    float             map[2][32 * 32];
    const float      *maps[2] = { map[0], map[1] };
    kdas_maps         student = { maps, 2, 1, 32, 32 };
    kdas_loss_report  report  = { .size = sizeof report };
    kdas_loss_options o;
    kdas_loss        *loss;
    kdas_batch       *batch;
    kdas_image       *image, *mask;
    double            sum = 0;

    kdas_loss_options_init(&o, sizeof o);
    kd_assert_ok(kdas_loss_options_preset(&o, "baseline"));
    kd_assert_ok(kdas_loss_create(&loss, s->rig.ctx, &o));
    kd_assert_ok(kdas_batch_create(&batch, s->rig.ctx, 1, 32, 32));
    for (int i = 0; i < 3; i++) {
        kdas_view pixels, truth;

        kd_assert_ok(kdas_dataset_get(s->validation, i, &image, &mask));
        pixels = kdas_image_view(image);
        truth  = kdas_image_view(mask);
        kd_assert_ok(kdas_batch_set(batch, 0, &pixels, &truth));
        kd_assert_ok(kdas_model_forward(model, KDAS_MODE_INFER, batch));
        kd_assert_ok(kdas_model_read_output(model, "P1", map[0]));
        kd_assert_ok(kdas_model_read_output(model, "P2", map[1]));
        kd_assert_ok(
            kdas_loss_evaluate(loss, &student, NULL, kdas_batch_masks(batch), NULL, &report));
        sum += report.total;
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    kdas_batch_destroy(batch);
    kdas_loss_destroy(loss);
    return sum / 3;
}

START_TEST(validation_chooses_the_best_student_and_its_file_holds_it)
{
    kd_test_rig_options o = alone();
    kdas_evaluator     *evaluator;
    kdas_model         *best;
    double              dice;
    subject             s;

    o.optim.lr = 0.003f;
    make(&s, &o, kd_test_path("out"));
    s.options.epochs = 4;
    kd_assert_ok(train(&s));
    kd_assert_ok(kdas_model_create(&best, s.rig.ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_model_load(best, kd_test_path("out/best.safetensors"), NULL));
    kd_assert_ok(kdas_evaluator_create(&evaluator, s.rig.ctx));
    kd_assert_ok(kdas_evaluate(evaluator, best, s.validation, 32, 32, 0));
    ck_assert_int_eq(kdas_evaluator_count(evaluator), 3);
    kd_assert_ok(kdas_evaluator_get(evaluator, -1, KDAS_METRIC_DICE_50, &dice));
    ck_assert_double_eq(dice, s.saw.last_epoch.best_dice);
    ck_assert_int_ge(s.saw.last_epoch.best_epoch, 1);
    ck_assert_double_eq_tol(validation_loss_of(&s, s.rig.student), s.saw.last_epoch.validation_loss,
                            1e-5);
    kdas_evaluator_destroy(evaluator);
    kdas_model_destroy(best);
    finish(&s);
}
END_TEST

START_TEST(without_validation_the_last_epoch_is_the_best)
{
    kd_test_rig_options o = alone();
    kdas_model         *best;
    table               t;
    subject             s;

    make(&s, &o, kd_test_path("out"));
    kd_assert_ok(kdas_train(s.rig.distiller, s.loader, NULL, &s.options));
    ck_assert_int_eq(s.saw.last_epoch.is_best, 1);
    ck_assert_int_eq(s.saw.last_epoch.best_epoch, 2);
    ck_assert_double_eq(s.saw.last_epoch.validation_dice, -1);
    kd_assert_ok(kdas_model_create(&best, s.rig.ctx, "polyp_pvt_b0", NULL));
    kd_assert_ok(kdas_model_load(best, kd_test_path("out/best.safetensors"), NULL));
    kd_test_assert_same_weights(best, s.rig.student);
    read_table(&t, kd_test_path("out/log.csv"));
    ck_assert_str_eq(cell(&t, 2, "validation_dice"), "");
    free(t.text);
    kdas_model_destroy(best);
    finish(&s);
}
END_TEST

/* ---- broken and taken up ---- */

static const struct {
    int stop_at, cancel_at, stop_at_epoch, max_steps, accumulate;
} breaks[] = {
    { .stop_at = 2 },                  /* within an epoch, by the callback    */
    { .stop_at = 3, .accumulate = 2 }, /* a micro-batch waits                 */
    { .cancel_at = 1 },                /* by a cancel of the context          */
    { .stop_at = BATCHES },            /* the epoch's steps done, not judged  */
    { .stop_at_epoch = 1 },            /* the epoch done                      */
    { .max_steps = 6 },                /* by the limit of steps               */
    { .max_steps = BATCHES },          /* by a limit that is an epoch's end   */
    { .stop_at = 2 * BATCHES },        /* all steps done, not judged          */
};

START_TEST(a_broken_run_taken_up_gives_the_bits_of_an_unbroken_one)
{
    kd_test_rig_options o       = _i < 2 ? kd_test_rig_usual() : alone();
    bool                limited = breaks[_i].max_steps > 0;
    subject             s;
    kd_test_rig         whole;

    o.optim.schedule       = "poly";
    o.optim.total          = 20;
    o.distiller.accumulate = KD_MAX(breaks[_i].accumulate, 1);
    make(&s, &o, kd_test_path("whole"));
    kd_assert_ok(train(&s));
    whole = s.rig;
    s.rig = (kd_test_rig){ 0 };
    kdas_loader_destroy(s.loader);
    kdas_dataset_destroy(s.frames);
    kdas_dataset_destroy(s.validation);

    make(&s, &o, kd_test_path("part"));
    s.saw.stop_at       = breaks[_i].stop_at;
    s.saw.cancel_at     = breaks[_i].cancel_at;
    s.saw.stop_at_epoch = breaks[_i].stop_at_epoch;
    s.options.max_steps = breaks[_i].max_steps;
    kd_assert_status(train(&s), limited ? KDAS_OK : KDAS_ECANCELLED);
    ck_assert_int_le(s.saw.steps, 2 * BATCHES);
    finish(&s);

    o.model.seed = 999; /* a fresh process: nothing but the files is left */
    make(&s, &o, kd_test_path("part"));
    s.options.resume = 1;
    kd_assert_ok(train(&s));
    kd_test_assert_same_weights(s.rig.student, whole.student);
    assert_same_logs(kd_test_path("part/log.csv"), kd_test_path("whole/log.csv"));
    finish(&s);
    kd_test_rig_finish(&whole);
}
END_TEST

/* A cancel from another thread after a while. */
typedef struct alarm_clock {
    kdas_context *ctx;
    useconds_t    after; /* microseconds */
} alarm_clock;

static void *ring(void *user)
{
    const alarm_clock *clock = user;

    usleep(clock->after);
    kdas_context_cancel(clock->ctx);
    return NULL;
}

/* The cancel falls anywhere, within a step most likely; ever later, so that the run gets on. */
START_TEST(a_cancel_at_any_moment_leaves_whole_steps)
{
    kd_test_rig_options o     = alone();
    alarm_clock         clock = { .after = 20000 };
    kdas_status         st;
    pthread_t           thread;
    subject             whole, s;

    make(&whole, &o, NULL);
    kd_assert_ok(train(&whole));
    make(&s, &o, kd_test_path("part"));
    s.options.resume = 1;
    clock.ctx        = s.rig.ctx;
    do {
        clock.after += clock.after / 4;
        ck_assert_int_eq(pthread_create(&thread, NULL, ring, &clock), 0);
        st = train(&s);
        pthread_join(thread, NULL);
        kdas_context_resume(s.rig.ctx);
        ck_assert(st == KDAS_OK || st == KDAS_ECANCELLED);
    } while (st != KDAS_OK);
    kd_test_assert_same_weights(s.rig.student, whole.rig.student);
    finish(&whole);
    finish(&s);
}
END_TEST

START_TEST(a_kill_between_the_files_of_an_epoch_leaves_no_trace)
{
    kd_test_rig_options o = alone();
    subject             whole, s;

    make(&whole, &o, kd_test_path("whole"));
    kd_assert_ok(train(&whole));
    make(&s, &o, kd_test_path("part"));
    snprintf(s.saw.copy_at_epoch[0], sizeof s.saw.copy_at_epoch[0], "%s",
             kd_test_path("part/last.kdas"));
    snprintf(s.saw.copy_at_epoch[1], sizeof s.saw.copy_at_epoch[1], "%s", kd_test_path("kept"));
    kd_assert_ok(train(&s));
    finish(&s);
    /* log.csv and best.safetensors are of epoch 2 already, last.kdas is of epoch 1 */
    copy_file(kd_test_path("kept"), kd_test_path("part/last.kdas"));
    make(&s, &o, kd_test_path("part"));
    s.options.resume = 1;
    kd_assert_ok(train(&s));
    ck_assert_int_eq(s.saw.steps, BATCHES);
    kd_test_assert_same_weights(s.rig.student, whole.rig.student);
    assert_same_logs(kd_test_path("part/log.csv"), kd_test_path("whole/log.csv"));
    finish(&whole);
    finish(&s);
}
END_TEST

START_TEST(a_run_that_is_complete_has_nothing_to_resume)
{
    kd_test_rig_options o = alone();
    subject             s;

    make(&s, &o, kd_test_path("out"));
    s.options.epochs = 1;
    kd_assert_ok(train(&s));
    s.options.resume = 1;
    s.saw.steps = s.saw.epochs = 0;
    kd_assert_ok(train(&s));
    ck_assert_int_eq(s.saw.steps, 0);
    ck_assert_int_eq(s.saw.epochs, 0);
    s.options.epochs = 2; /* made longer */
    kd_assert_ok(train(&s));
    ck_assert_int_eq(s.saw.steps, BATCHES);
    ck_assert_int_eq(s.saw.last_epoch.epoch, 2);
    finish(&s);
}
END_TEST

START_TEST(a_checkpoint_of_another_seed_or_loader_is_refused)
{
    kd_test_rig_options o = alone();
    kdas_loader_options l;
    kdas_loader        *other;
    subject             s;

    make(&s, &o, kd_test_path("out"));
    s.saw.stop_at = 3;
    kd_assert_status(train(&s), KDAS_ECANCELLED);
    s.options.resume = 1;
    s.options.seed   = 6;
    kd_assert_status(train(&s), KDAS_EINVAL);
    kd_assert_sentence("seed");
    s.options.seed = 5;
    kdas_loader_options_init(&l, sizeof l);
    l.batch  = FRAMES; /* one batch an epoch */
    l.height = l.width = 32;
    kd_assert_ok(kdas_loader_create(&other, s.frames, &l));
    kd_assert_status(kdas_train(s.rig.distiller, other, s.validation, &s.options), KDAS_EINVAL);
    kd_assert_sentence("batches");
    kdas_loader_destroy(other);
    finish(&s);
}
END_TEST

START_TEST(checkpoints_come_as_often_as_asked)
{
    kd_test_rig_options o = alone();
    kdas_progress       p = { .size = sizeof p };
    subject             s;

    make(&s, &o, kd_test_path("out"));
    s.options.save_every = 3;
    s.options.notes      = "a note";
    s.saw.poison_at      = 3; /* so that step 4 is the run's end */
    kd_assert_status(train(&s), KDAS_ENUMERIC);
    kd_assert_ok(kdas_checkpoint_load(s.rig.distiller, kd_test_path("out/last.kdas"), &p));
    ck_assert_int_eq(p.epoch, 0);
    ck_assert_int_eq(p.position, 3);
    ck_assert_uint_eq(p.seed, 5);
    ck_assert_int_eq(kdas_optim_updates(s.rig.optim), 3);
    finish(&s);
}
END_TEST

/* ---- what goes wrong ---- */

START_TEST(a_loss_that_is_not_finite_ends_the_run_with_the_last_good_files)
{
    kd_test_rig_options o = alone();
    size_t              n, m;
    unsigned char      *before, *after;
    subject             s;

    make(&s, &o, kd_test_path("out"));
    s.options.epochs = 1;
    kd_assert_ok(train(&s));
    before           = kd_test_read(kd_test_path("out/last.kdas"), &n);
    s.options.epochs = 2;
    s.options.resume = 1;
    s.saw.poison_at  = BATCHES + 2;
    kd_assert_status(train(&s), KDAS_ENUMERIC);
    kd_assert_sentence("epoch 2, batch 3");
    after = kd_test_read(kd_test_path("out/last.kdas"), &m);
    ck_assert_uint_eq(n, m);
    ck_assert(kd_test_same_bits(before, after, n));
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 3);
    free(before);
    free(after);
    finish(&s);
}
END_TEST

START_TEST(a_folder_that_cannot_be_written_is_found_before_the_first_step)
{
    kd_test_rig_options o = alone();
    subject             s;

    kd_test_write(kd_test_path("file"), "x", 1);
    make(&s, &o, kd_test_path("file/out"));
    kd_assert_status(train(&s), KDAS_EIO);
    kd_assert_sentence("file");
    s.options.out = kd_test_path("file");
    kd_assert_status(train(&s), KDAS_EIO);
    s.options.out = "/proc/nothing/here";
    kd_assert_status(train(&s), KDAS_EIO);
    ck_assert_int_eq(s.saw.steps, 0);
    finish(&s);
}
END_TEST

/* Files may not grow past a megabyte: the first checkpoint cannot be written. */
START_TEST(a_full_disk_ends_the_run_and_leaves_nothing_half_written)
{
    kd_test_rig_options o     = alone();
    struct rlimit       limit = { 1 << 20, 1 << 20 };
    subject             s;

    make(&s, &o, kd_test_path("out"));
    s.options.save_every = 1;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    kd_assert_status(train(&s), KDAS_EIO);
    kd_assert_sentence("last.kdas");
    ck_assert_int_eq(s.saw.steps, 1);
    ck_assert_int_eq(kd_test_entries(kd_test_path("out")), 0);
    finish(&s);
}
END_TEST

START_TEST(a_checkpoint_that_is_damaged_is_not_passed_over)
{
    kd_test_rig_options o = alone();
    subject             s;

    make(&s, &o, kd_test_path("out"));
    s.saw.stop_at = 1;
    kd_assert_status(train(&s), KDAS_ECANCELLED);
    kd_test_write(kd_test_path("out/last.kdas"), "short", 5);
    s.options.resume = 1;
    kd_assert_status(train(&s), KDAS_EFORMAT);
    kd_assert_sentence("last.kdas");
    finish(&s);
}
END_TEST

START_TEST(options_out_of_range_are_refused)
{
    kd_test_rig_options o = alone();
    kdas_evaluator     *evaluator;
    subject             s;

    make(&s, &o, NULL);
    s.options.epochs = 0;
    kd_assert_status(train(&s), KDAS_EINVAL);
    s.options.epochs    = 1;
    s.options.max_steps = -1;
    kd_assert_status(train(&s), KDAS_EINVAL);
    s.options.max_steps  = 0;
    s.options.save_every = -1;
    kd_assert_status(train(&s), KDAS_EINVAL);
    s.options.save_every = 0;
    s.options.height     = 33;
    s.options.width      = 32;
    kd_assert_status(train(&s), KDAS_ESHAPE);
    s.options.height = 32;
    s.options.width  = 0; /* one side alone */
    kd_assert_status(train(&s), KDAS_ESHAPE);
    s.options.size = 0;
    kd_assert_status(train(&s), KDAS_EINVAL);
    kd_assert_status(kdas_train(NULL, s.loader, NULL, NULL), KDAS_EINVAL);
    kd_assert_status(kdas_train(s.rig.distiller, NULL, NULL, NULL), KDAS_EINVAL);
    ck_assert_int_eq(s.saw.steps, 0);

    kd_assert_ok(kdas_evaluator_create(&evaluator, s.rig.ctx));
    kd_assert_status(kdas_evaluate(NULL, s.rig.student, s.frames, 32, 32, 0), KDAS_EINVAL);
    kd_assert_status(kdas_evaluate(evaluator, NULL, s.frames, 32, 32, 0), KDAS_EINVAL);
    kd_assert_status(kdas_evaluate(evaluator, s.rig.student, NULL, 32, 32, 0), KDAS_EINVAL);
    kd_assert_status(kdas_evaluate(evaluator, s.rig.student, s.frames, 32, 32, -1), KDAS_EINVAL);
    kd_assert_status(kdas_evaluate(evaluator, s.rig.student, s.frames, 32, 31, 0), KDAS_ESHAPE);
    ck_assert_int_eq(kdas_evaluator_count(evaluator), 0);
    kdas_evaluator_destroy(evaluator);
    finish(&s);
}
END_TEST

START_TEST(an_evaluation_is_each_frame_segmented_at_its_own_size)
{
    kd_test_rig_options    o = alone();
    kdas_segmenter_options so;
    kdas_segmenter        *segmenter;
    kdas_evaluator        *all, *one;
    subject                s;

    make(&s, &o, NULL);
    kd_assert_ok(kdas_evaluator_create(&all, s.rig.ctx));
    kd_assert_ok(kdas_evaluator_create(&one, s.rig.ctx));
    kd_assert_ok(kdas_evaluate(all, s.rig.student, s.validation, 64, 32, 2));
    ck_assert_int_eq(kdas_evaluator_count(all), 2);
    kdas_segmenter_options_init(&so, sizeof so);
    so.height = 64;
    so.width  = 32;
    kd_assert_ok(kdas_segmenter_create(&segmenter, s.rig.student, &so));
    for (int i = 0; i < 2; i++) {
        float       logits[48 * 60];
        kdas_image *image, *mask;
        kdas_view   pixels, truth;

        kd_assert_ok(kdas_dataset_get(s.validation, i, &image, &mask));
        pixels = kdas_image_view(image);
        truth  = kdas_image_view(mask);
        kd_assert_ok(kdas_segmenter_logits(segmenter, &pixels, logits));
        kd_assert_ok(kdas_evaluator_add_logits(one, NULL, logits, &truth));
        ck_assert_str_eq(kdas_evaluator_name(all, i), kdas_dataset_name(s.validation, i));
        for (int m = 0; m < KDAS_METRIC_COUNT; m++) {
            double a, b;

            kd_assert_ok(kdas_evaluator_get(all, i, (kdas_metric)m, &a));
            kd_assert_ok(kdas_evaluator_get(one, i, (kdas_metric)m, &b));
            ck_assert(kd_test_same_bits(&a, &b, sizeof a));
        }
        kdas_image_destroy(image);
        kdas_image_destroy(mask);
    }
    kdas_segmenter_destroy(segmenter);
    kdas_evaluator_destroy(all);
    kdas_evaluator_destroy(one);
    finish(&s);
}
END_TEST

START_TEST(any_allocation_of_a_run_may_fail)
{
    kd_test_meter       meter    = { 0 };
    kd_test_rig_options o        = alone();
    kdas_status         st       = KDAS_ENOMEM;
    int                 failures = 0;
    subject             s;

    o.meter = &meter;
    make(&s, &o, kd_test_path("out"));
    s.options.epochs = 1;
    for (long k = 1; st != KDAS_OK; k += 1 + k / 3) {
        meter.fail_at = meter.taken + k;
        st            = train(&s);
        meter.fail_at = 0;
        if (st == KDAS_OK) break;
        kd_assert_status(st, KDAS_ENOMEM);
        failures++;
    }
    ck_assert_int_gt(failures, 10);
    finish(&s);
    kd_test_assert_given_back(&meter);
}
END_TEST

static Suite *train_suite(void)
{
    Suite *s     = suite_create("train");
    TCase *whole = tcase_create("whole runs");
    TCase *taken = tcase_create("broken and taken up");
    TCase *wrong = tcase_create("what goes wrong");

    tcase_add_checked_fixture(whole, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(whole, a_run_tells_its_steps_and_epochs_in_order);
    tcase_add_test(whole, a_run_leaves_three_files_and_a_line_for_each_epoch);
    tcase_add_test(whole, validation_chooses_the_best_student_and_its_file_holds_it);
    tcase_add_test(whole, without_validation_the_last_epoch_is_the_best);
    tcase_add_test(whole, an_evaluation_is_each_frame_segmented_at_its_own_size);
    suite_add_tcase(s, whole);

    tcase_add_checked_fixture(taken, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(taken, a_broken_run_taken_up_gives_the_bits_of_an_unbroken_one, 0,
                        KD_COUNT(breaks));
    tcase_add_test(taken, a_cancel_at_any_moment_leaves_whole_steps);
    tcase_add_test(taken, a_kill_between_the_files_of_an_epoch_leaves_no_trace);
    tcase_add_test(taken, a_run_that_is_complete_has_nothing_to_resume);
    tcase_add_test(taken, a_checkpoint_of_another_seed_or_loader_is_refused);
    tcase_add_test(taken, checkpoints_come_as_often_as_asked);
    suite_add_tcase(s, taken);

    tcase_add_checked_fixture(wrong, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(wrong, a_loss_that_is_not_finite_ends_the_run_with_the_last_good_files);
    tcase_add_test(wrong, a_folder_that_cannot_be_written_is_found_before_the_first_step);
    tcase_add_test(wrong, a_full_disk_ends_the_run_and_leaves_nothing_half_written);
    tcase_add_test(wrong, a_checkpoint_that_is_damaged_is_not_passed_over);
    tcase_add_test(wrong, options_out_of_range_are_refused);
    tcase_add_test(wrong, any_allocation_of_a_run_may_fail);
    suite_add_tcase(s, wrong);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(train_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* train_util.c - see train_util.h. */
#include "support/train_util.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/files.h"

/* ---- A run's parts ---- */

static void poison(kdas_model *model)
{
    int32_t i = kdas_model_find(model, "out_CFM.bias");

    kd_assert_ok(kdas_model_write(model, i, &(float){ NAN }));
}

static int watch(void *user, const kdas_train_state *s)
{
    kd_test_witness *w = user;

    if (s->event == KDAS_EVENT_EPOCH) {
        w->epochs++;
        w->last_epoch = *s;
        w->totals     = 0;
        w->seen       = 0;
        if (w->copy_at_epoch[0][0] && s->epoch == 1)
            kd_test_copy(w->copy_at_epoch[0], w->copy_at_epoch[1]);
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

static void make_data(kd_test_training *s, int workers)
{
    kdas_scene_options  scenes;
    kdas_loader_options l;

    kdas_scene_options_init(&scenes, sizeof scenes);
    scenes.count = KD_TEST_FRAMES;
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

void kd_test_train_make(kd_test_training *s, const kd_test_rig_options *o, const char *out)
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

kdas_status kd_test_train(kd_test_training *s)
{
    return kdas_train(s->rig.distiller, s->loader, s->validation, &s->options);
}

void kd_test_train_finish(kd_test_training *s)
{
    kdas_loader_destroy(s->loader);
    kdas_dataset_destroy(s->frames);
    kdas_dataset_destroy(s->validation);
    kd_test_rig_finish(&s->rig);
}

kd_test_rig_options kd_test_alone(void)
{
    kd_test_rig_options o = kd_test_rig_usual();

    o.teacher = NULL;
    kd_assert_ok(kdas_loss_options_preset(&o.loss, "baseline"));
    return o;
}

/* ---- Files ---- */

void kd_test_copy(const char *from, const char *to)
{
    size_t         n;
    unsigned char *bytes = kd_test_read(from, &n);

    kd_test_write(to, bytes, n);
    free(bytes);
}

void kd_test_table_read(kd_test_table *t, const char *path)
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

const char *kd_test_table_cell(const kd_test_table *t, int line, const char *column)
{
    for (int i = 0; i < t->cells; i++)
        if (strcmp(t->cell[0][i], column) == 0) return t->cell[line][i];
    ck_abort_msg("log.csv has no column '%s'", column);
    return NULL;
}

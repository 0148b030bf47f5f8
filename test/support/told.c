/* told.c - see told.h. */
#include "support/told.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/files.h"

char kd_test_said[1 << 15];

void kd_test_keep_line(void *user, kdas_log_level level, const char *text)
{
    size_t used = strlen(kd_test_said);

    (void)user;
    snprintf(kd_test_said + used, sizeof kd_test_said - used, "%c %s\n",
             level == KDAS_LOG_WARN ? 'W' : 'I', text);
}

int kd_test_said_count(const char *a, const char *b)
{
    int count = 0;

    for (const char *line = kd_test_said, *end; (end = strchr(line, '\n')); line = end + 1) {
        char copy[1024];

        snprintf(copy, sizeof copy, "%.*s", (int)(end - line), line);
        count += strstr(copy, a) && strstr(copy, b);
    }
    return count;
}

kd_test_told kd_test_told_usual(void)
{
    kd_test_told t = { .rig = kd_test_rig_usual() };

    t.rig.log = kd_test_keep_line;
    kdas_scene_options_init(&t.frames, sizeof t.frames);
    t.frames.count = 4;
    t.frames.width = t.frames.height = 48;
    t.validation                     = t.frames;
    t.validation.seed                = 2;
    t.validation.count               = 2;
    kdas_loader_options_init(&t.loader, sizeof t.loader);
    t.loader.batch  = 2;
    t.loader.height = t.loader.width = 32;
    kdas_train_options_init(&t.train, sizeof t.train);
    t.train.epochs    = 2;
    t.train.max_steps = 2;
    t.train.seed      = 5;
    t.train.height = t.train.width = 32;
    return t;
}

static void shift_teacher(kdas_model *teacher, float by)
{
    int32_t i = kdas_model_find(teacher, "out_CFM.bias");
    float   value;

    kd_assert_ok(kdas_model_read(teacher, i, &value));
    value += by;
    kd_assert_ok(kdas_model_write(teacher, i, &value));
}

void kd_test_run_make(kd_test_run *run, const kd_test_told *told)
{
    *run = (kd_test_run){ .told = *told };
    kd_test_rig_make(&run->rig, &told->rig);
    if (told->teacher_shift != 0) shift_teacher(run->rig.teacher, told->teacher_shift);
    kd_assert_ok(kdas_dataset_synthetic(&run->frames, run->rig.ctx, &told->frames));
    if (!told->unvalidated)
        kd_assert_ok(kdas_dataset_synthetic(&run->validation, run->rig.ctx, &told->validation));
    kd_assert_ok(kdas_loader_create(&run->loader, run->frames, &told->loader));
}

kdas_status kd_test_run_train(kd_test_run *run)
{
    kdas_train_options o = run->told.train;

    o.out = kd_test_path("out");
    return kdas_train(run->rig.distiller, run->loader, run->validation, &o);
}

void kd_test_run_finish(kd_test_run *run)
{
    kdas_loader_destroy(run->loader);
    kdas_dataset_destroy(run->frames);
    kdas_dataset_destroy(run->validation);
    kd_test_rig_finish(&run->rig);
}

void kd_test_run_whole(const kd_test_told *told)
{
    kd_test_run run;

    kd_test_run_make(&run, told);
    kd_assert_ok(kd_test_run_train(&run));
    kd_test_run_finish(&run);
}

unsigned char *kd_test_state(const kdas_distiller *distiller, size_t *n)
{
    const char *path = kd_test_path("state.kdas");

    kd_assert_ok(kdas_checkpoint_save(distiller, path, NULL, NULL));
    return kd_test_read(path, n);
}

void kd_test_assert_state(const kdas_distiller *distiller, const unsigned char *state, size_t n,
                          const char *what)
{
    size_t         now;
    unsigned char *is = kd_test_state(distiller, &now);

    ck_assert_msg(now == n && memcmp(is, state, n) == 0, "%s: the distiller's state has changed",
                  what);
    free(is);
}

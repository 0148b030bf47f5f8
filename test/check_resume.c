/* check_resume.c - every row of the table of what may differ between a checkpoint and those who go on from it: a run is
 * made, told that one thing otherwise, and taken up. What is refused leaves the student as it was; what is not stands in
 * the log, and is taken from where the table says. */
#include <check.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "distill/resume.h"
#include "io/container.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/forge.h"
#include "support/half_device.h"
#include "support/thin.h"
#include "support/told.h"

/* ---- what is told otherwise ---- */

typedef enum member { F32, F64, I32, I64, U64, TEXT } member;

/* A member of kd_test_told and its other value. */
typedef struct change {
    const char *record;
    kd_when     when;
    size_t      offset;
    member      type;
    double      number;
    const char *text;
    void (*before)(kd_test_told *t); /* what the run is besides, before and after; NULL: usual */
    void (*apply)(kd_test_told *t);  /* instead of a member */
    bool         by_load; /* by kdas_checkpoint_load: kdas_train refuses something else first */
    kd_test_edit edit;    /* or it cannot come about alone: the file is changed instead       */
} change;

static void with_features(kd_test_told *t)
{
    t->rig.loss.guidance = "none";
    t->rig.loss.feature  = "normalised";
}
static void waiting(kd_test_told *t) { t->rig.distiller.accumulate = 3; }
static void settled(kd_test_told *t) { t->rig.distiller.accumulate = 2; }
static void averaged(kd_test_told *t) { t->rig.distiller.ema = 0.9f; }
static void on_grids(kd_test_told *t) { t->rig.model.quantize = KDAS_QUANTIZE_INT8; }
static void ramped(kd_test_told *t) { t->train.ramp_down = 1; }
static void by_steps(kd_test_told *t) { t->rig.optim.schedule = "step"; }
static void by_poly(kd_test_told *t)
{
    t->rig.optim.schedule = "poly";
    t->rig.optim.total    = 60;
}
static void by_cosine(kd_test_told *t)
{
    t->rig.optim.schedule = "cosine";
    t->rig.optim.total    = 60;
}
static void in_f16(kd_test_told *t) { t->rig.adapt = kd_test_half_device; }
static void more_scales(kd_test_told *t)
{
    static const float scales[] = { 1, 2 };

    t->loader.scales      = scales;
    t->loader.scale_count = 2;
}

#define AT(member) offsetof(kd_test_told, member)
#define IN(record, member, type, ...)                    \
    {                                                    \
        record, KD_ALWAYS, AT(member), type, __VA_ARGS__ \
    }
#define OPTIM(member, type, ...)  IN("optim." #member, rig.optim.member, type, __VA_ARGS__)
#define LOSS(member, type, ...)   IN("loss." #member, rig.loss.member, type, __VA_ARGS__)
#define LOADER(member, type, ...) IN("run." #member, loader.member, type, __VA_ARGS__)
#define TRAIN(member, type, ...)  IN("run." #member, train.member, type, __VA_ARGS__)

static const change changes[] = {
    IN("model", rig.student, TEXT, .text = "lite_fpn0"),
    IN("model.drop_path", rig.model.drop_path, F32, 0.2),
    IN("model.quantize", rig.model.quantize, I32, KDAS_QUANTIZE_INT8),
    IN("model.wide", rig.model.wide, TEXT, .text = "out_CFM", .before = on_grids),
    IN("model.range_momentum", rig.model.range_momentum, F32, 0.5, .before = on_grids),
    { "precision", .apply = in_f16 },
    OPTIM(rule, TEXT, .text = "sgd"),
    OPTIM(lr, F32, 0.5),
    OPTIM(weight_decay, F32, 0.5),
    OPTIM(no_decay, TEXT, .text = "bias"),
    OPTIM(beta1, F32, 0.5),
    OPTIM(beta2, F32, 0.5),
    OPTIM(eps, F32, 0.5),
    OPTIM(momentum, F32, 0.5),
    OPTIM(nesterov, I32, 1),
    OPTIM(clamp, F32, 0.25),
    OPTIM(clip_norm, F32, 2),
    OPTIM(schedule, TEXT, .text = "step"),
    OPTIM(warmup, I64, 7),
    OPTIM(step_factor, F32, 0.5, .before = by_steps),
    OPTIM(step_every, I64, 7, .before = by_steps),
    OPTIM(power, F32, 2, .before = by_poly),
    OPTIM(lr_min, F32, 1e-6, .before = by_cosine),
    OPTIM(total, I64, 70, .before = by_cosine),
    OPTIM(loss_scale, F32, 512),
    OPTIM(loss_scale_every, I32, 7),
    LOSS(seg, TEXT, .text = "structure"),
    LOSS(guidance, TEXT, .text = "attention"),
    LOSS(sym, TEXT, .text = "sum"),
    LOSS(axis, TEXT, .text = "row"),
    LOSS(tau, F32, 3),
    LOSS(seg_weight, F32, 3),
    LOSS(guidance_weight, F32, 3),
    LOSS(input, TEXT, .text = "probability"),
    LOSS(similarity, TEXT, .text = "cosine"),
    LOSS(pair, TEXT, .text = "spread"),
    LOSS(distance, TEXT, .text = "squared"),
    LOSS(kd_weight, F32, 3),
    LOSS(sgm_weight, F32, 3),
    LOSS(share, F32, 0.5),
    LOSS(feature, TEXT, .text = "normalised"),
    LOSS(feature_taps, TEXT, .text = "cfm:cfm"),
    LOSS(feature_weight, F32, 3),
    LOSS(feature_tau, F32, 3),
    LOSS(feature_share, F32, 0.5),
    { "feature.teacher", KD_ALWAYS, AT(rig.teacher), TEXT, .text = "lite_fpn0",
      .before = with_features, .by_load = true },
    { "feature.pairs", .before = with_features,
      .edit = { "feature.pairs", KD_FORGE_TEXT, .text = "x1:x1" } },
    { "micro.accumulate", KD_ACCUMULATING, AT(rig.distiller.accumulate), I32, 4,
      .before = waiting },
    { "micro.accumulate", KD_BETWEEN_UPDATES, AT(rig.distiller.accumulate), I32, 4,
      .before = settled },
    { "average.decay", KD_ALWAYS, AT(rig.distiller.ema), F32, 0.5, .before = averaged },
    TRAIN(seed, U64, 6),
    IN("run.frames", frames.width, I64, 50),
    IN("run.validation", validation.width, I64, 50),
    IN("run.teacher", rig.teacher, TEXT, .text = "lite_fpn0"),
    IN("run.teacher_values", teacher_shift, F32, 1),
    LOADER(batch, I64, 4),
    LOADER(height, I64, 64),
    LOADER(width, I64, 64),
    { "run.ranks", .edit = { "host.run.ranks", KD_FORGE_NUMBER, 2 } },
    { "run.scales", .apply = more_scales },
    LOADER(drop_last, I32, 1),
    { "run.batches", .edit = { "host.run.batches", KD_FORGE_NUMBER, 3 } },
    IN("run.loader_seed", loader.seed, U64, 7),
    LOADER(shuffle, I32, 0),
    LOADER(empty_share, F32, 0),
    TRAIN(epochs, I64, 3),
    TRAIN(max_steps, I64, 1),
    TRAIN(ramp_up, F64, 1),
    TRAIN(ramp_down, F64, 1),
    IN("run.freeze_ranges", train.freeze_ranges, F64, 0.5, .before = on_grids),
    { "run.ramp_epochs", KD_ALWAYS, AT(train.epochs), I64, 3, .before = ramped },
    LOADER(augment, I32, 0),
    LOADER(rotation, F32, 30),
    LOADER(scale_min, F32, 0.5),
    LOADER(scale_max, F32, 2),
    LOADER(crop, F32, 0.5),
    LOADER(crop_aspect, F32, 2),
    LOADER(brightness, F32, 0.5),
    LOADER(contrast, F32, 0.5),
    LOADER(saturation, F32, 0.5),
    LOADER(hue, F32, 0.25),
    LOADER(blur, F32, 0.5),
    LOADER(cutout, F32, 0.5),
    IN("run.validation_height", train.height, I64, 64),
    IN("run.validation_width", train.width, I64, 64),
    { "run.evaluate_ema", KD_ALWAYS, AT(train.evaluate_ema), I32, 0, .before = averaged },
};

static const change *change_of(const kd_resume_row *row)
{
    for (size_t i = 0; i < KD_COUNT(changes); i++)
        if (strcmp(changes[i].record, row->record) == 0 && changes[i].when == row->when)
            return &changes[i];
    ck_abort_msg("no change for row '%s' of the table", row->record);
    return NULL;
}

static void apply(kd_test_told *t, const change *c)
{
    char *at = (char *)t + c->offset;

    if (c->apply) {
        c->apply(t);
        return;
    }
    if (c->edit.record) return;
    switch (c->type) {
    case F32: *(float *)at = (float)c->number; break;
    case F64: *(double *)at = c->number; break;
    case I32: *(int32_t *)at = (int32_t)c->number; break;
    case I64: *(int64_t *)at = (int64_t)c->number; break;
    case U64: *(uint64_t *)at = (uint64_t)c->number; break;
    case TEXT: *(const char **)at = c->text; break;
    }
}

/* ---- a row ---- */

static const char *description_of(const kd_resume_row *row)
{
    return row->what ? row->what : row->record;
}

/* The run that is taken up; files of runs that are told the same are made once. */
static void make_file(const change *c)
{
    static void (*made)(kd_test_told * t);
    static bool  any;
    kd_test_told t = kd_test_told_usual();

    if (!any || made != c->before) {
        if (c->before) c->before(&t);
        kd_test_run_whole(&t);
        rename(kd_test_path("out/last.kdas"), kd_test_path("kept.kdas"));
    }
    any  = true;
    made = c->before;
}

/* Whether two checkpoints have a record alike. */
static bool same_record(kdas_context *ctx, const char *a, const char *b, const char *record)
{
    kd_container *file[2];
    const char   *text[2];
    int64_t       value[2];
    bool          same;

    kd_assert_ok(kd_container_open(&file[0], ctx, a));
    kd_assert_ok(kd_container_open(&file[1], ctx, b));
    for (int i = 0; i < 2; i++) {
        const kd_st_tensor *t = kd_container_find(file[i], record);

        if (t)
            kd_assert_ok(kd_container_get(file[i], record, t->dtype, 0, NULL, &value[i]));
        else
            kd_assert_ok(kd_container_get_text(file[i], record, &text[i]));
    }
    same = kd_container_find(file[0], record) ? value[0] == value[1] : !strcmp(text[0], text[1]);
    for (int i = 0; i < 2; i++)
        kd_container_close(file[i]);
    return same;
}

/* Where a distiller's value was taken from: before.kdas is what was told here, kept.kdas the file. */
static void assert_taken(const kd_test_run *run, const kd_resume_row *row)
{
    const char *here = kd_test_path("before.kdas"), *file = kd_test_path("kept.kdas");
    const char *now       = kd_test_path("now.kdas");
    bool        from_file = row->rule == KD_FROM_FILE;

    if (strncmp(row->record, "run.", 4) == 0) return; /* not a distiller's */
    if (row->missing == KD_ABSENT) return;            /* nor in every file */
    kd_assert_ok(kdas_checkpoint_save(run->rig.distiller, now, NULL, NULL));
    ck_assert_msg(!same_record(run->rig.ctx, here, file, row->record), "%s does not differ",
                  row->record);
    ck_assert_msg(same_record(run->rig.ctx, now, from_file ? file : here, row->record),
                  "%s is not taken from %s", row->record, from_file ? "the file" : "here");
}

static void assert_goes_on(kd_test_run *run, const kd_resume_row *row, kdas_status st)
{
    static const char *const says[] = {
        [KD_FROM_FILE] = "goes on at", [KD_FROM_HERE] = "from here on", [KD_NOTED] = "from here on"
    };
    const char *level = row->rule == KD_NOTED ? "I " : "W ";
    kdas_model *kept;

    ck_assert_msg(st == KDAS_OK, "%s: %s", row->record, kdas_last_error());
    ck_assert_msg(kd_test_said_count(level, description_of(row)) == 1, "%s: the log says\n%s",
                  row->record, kd_test_said);
    ck_assert_msg(kd_test_said_count(description_of(row), says[row->rule]) == 1,
                  "%s: the log says\n%s", row->record, kd_test_said);
    ck_assert_msg(kd_test_said_count("W ", "goes on at") + kd_test_said_count("W ", "from here") ==
                      (row->rule != KD_NOTED),
                  "%s: the log says\n%s", row->record, kd_test_said);
    kd_assert_ok(kdas_model_create(&kept, run->rig.ctx, run->told.rig.student, NULL));
    kd_assert_ok(kdas_model_load(kept, kd_test_path("kept.safetensors"), NULL));
    kd_test_assert_same_weights(kept, run->rig.student);
    kdas_model_destroy(kept);
    assert_taken(run, row);
}

static void assert_refused(const kd_resume_row *row, kdas_status st)
{
    ck_assert_msg(st == KDAS_EINVAL, "%s: %s, '%s'", row->record, kdas_status_name(st),
                  kdas_last_error());
    kd_assert_sentence("is of another run");
    kd_assert_sentence(description_of(row));
    kd_assert_sentence("last.kdas");
    if (row->why) kd_assert_sentence(row->why);
    kd_assert_sentence(row->cure ? row->cure : "give it the former value to go on, or begin a new");
}

/* The weights of kept.kdas, for comparisons. */
static void keep_weights(const change *c)
{
    kd_test_told t = kd_test_told_usual();
    kd_test_run  run;

    if (c->before) c->before(&t);
    t.rig.model.seed = 99;
    kd_test_run_make(&run, &t);
    kd_assert_ok(kdas_checkpoint_load(run.rig.distiller, kd_test_path("kept.kdas"), NULL));
    kd_assert_ok(kdas_model_save(run.rig.student, kd_test_path("kept.safetensors")));
    kd_test_run_finish(&run);
}

static void walk(const kd_resume_row *row)
{
    const change  *c    = change_of(row);
    const char    *last = kd_test_path("out/last.kdas");
    kd_test_told   t    = kd_test_told_usual();
    double         factor;
    unsigned char *state;
    size_t         n;
    kd_test_run    run;
    kdas_status    st;

    if (c->before) c->before(&t);
    apply(&t, c);
    t.rig.model.seed = 1234; /* so that what is loaded shows */
    t.train.resume   = 1;
    kd_test_run_make(&run, &t);
    kd_test_forge(run.rig.ctx, kd_test_path("kept.kdas"), last, &c->edit, c->edit.record != NULL);
    state  = kd_test_state(run.rig.distiller, &n);
    factor = kdas_loss_guidance_factor(run.rig.loss);
    rename(kd_test_path("state.kdas"), kd_test_path("before.kdas"));
    kd_test_said[0] = 0;
    st = c->by_load ? kdas_checkpoint_load(run.rig.distiller, last, NULL) : kd_test_run_train(&run);
    if (row->rule == KD_REFUSED) {
        assert_refused(row, st);
        kd_test_assert_state(run.rig.distiller, state, n, row->record);
        ck_assert_double_eq(kdas_loss_guidance_factor(run.rig.loss), factor);
        ck_assert_int_eq(kd_test_said_count("W ", ""), 0); /* it speaks of what happens alone */
    } else {
        assert_goes_on(&run, row, st);
    }
    free(state);
    kd_test_run_finish(&run);
}

/* In parts, so that none takes long. */
enum { PARTS = 6 };

START_TEST(a_difference_becomes_of_what_the_table_says)
{
    const kd_resume_row *row;
    int                  rows = 0, each;

    while (kd_resume_row_at(rows))
        rows++;
    each = (rows + PARTS - 1) / PARTS;
    for (int i = _i * each; i < (_i + 1) * each && (row = kd_resume_row_at(i)); i++) {
        make_file(change_of(row));
        if (row->rule != KD_REFUSED) keep_weights(change_of(row));
        walk(row);
    }
}
END_TEST

START_TEST(every_change_has_its_row)
{
    int rows = 0;

    while (kd_resume_row_at(rows))
        rows++;
    ck_assert_int_eq(rows, (int)KD_COUNT(changes));
    for (int i = 0; i < rows; i++)
        change_of(kd_resume_row_at(i));
}
END_TEST

/* docs/training.md has the same table in words: a line with `record` in its first column, and in its second what becomes
 * of a difference. */
START_TEST(the_documents_have_every_row)
{
    static const char *const says[] = { [KD_REFUSED]   = "| refused",
                                        [KD_FROM_FILE] = "| the file's",
                                        [KD_FROM_HERE] = "| told here |",
                                        [KD_NOTED]     = "| told here, a line without a warning" };
    size_t                   n;
    char                    *text = (char *)kd_test_read("docs/training.md", &n);

    for (int i = 0; kd_resume_row_at(i); i++) {
        const kd_resume_row *row = kd_resume_row_at(i);
        char                 name[64], line[2048] = "";
        int                  lines = 0;

        snprintf(name, sizeof name, "`%s`", row->record);
        for (const char *at = text, *end; (end = strchr(at, '\n')); at = end + 1) {
            snprintf(line, sizeof line, "%.*s", (int)(end - at), at);
            lines += line[0] == '|' && strstr(line, name) && strstr(line, says[row->rule]);
        }
        ck_assert_msg(lines == 1, "docs/training.md has %d lines with %s and '%s'", lines, name,
                      says[row->rule]);
    }
    free(text);
}
END_TEST

/* ---- files of earlier versions ---- */

/* Where the record is in a file; kdas_train's seed is in the host's progress. */
static void name_in_file(char *to, size_t size, const kd_resume_row *row)
{
    bool run = strncmp(row->record, "run.", 4) == 0;

    if (strcmp(row->record, "run.seed") == 0)
        snprintf(to, size, "progress.seed");
    else
        snprintf(to, size, "%s%s", run ? "host." : "", row->record);
}

START_TEST(a_record_that_a_file_lacks_is_what_the_table_says)
{
    kd_test_told t = kd_test_told_usual();
    char         last[600], kept[600];
    kd_test_run  run;

    snprintf(last, sizeof last, "%s", kd_test_path("out/last.kdas"));
    snprintf(kept, sizeof kept, "%s", kd_test_path("kept.kdas"));
    kd_test_run_whole(&t);
    rename(last, kept);
    t.train.resume = 1;
    kd_test_run_make(&run, &t);
    for (int i = 0; kd_resume_row_at(i); i++) {
        const kd_resume_row *row = kd_resume_row_at(i);
        char                 name[64];
        kdas_status          st;

        name_in_file(name, sizeof name, row);
        if (row->when == KD_ACCUMULATING || !kd_test_has_record(run.rig.ctx, kept, name)) continue;
        kd_test_forge(run.rig.ctx, kept, last, &(kd_test_edit){ name, KD_FORGE_DROP }, 1);
        kd_test_said[0] = 0;
        st              = kd_test_run_train(&run);
        if (row->missing == KD_DAMAGED) {
            kd_assert_status(st, KDAS_EFORMAT);
            kd_assert_sentence(name);
            continue;
        }
        ck_assert_msg(st == KDAS_OK, "without %s: %s", name, kdas_last_error());
        ck_assert_msg(kd_test_said_count("passed over", "") == (row->missing == KD_NOT_COMPARED),
                      "without %s the log says\n%s", name, kd_test_said);
        ck_assert_int_eq(kd_test_said_count("passed over", description_of(row)),
                         row->missing == KD_NOT_COMPARED);
        ck_assert_int_eq(kd_test_said_count("W ", ""), 0);
    }
    kd_test_run_finish(&run);
}
END_TEST

START_TEST(a_file_of_0_1_is_taken_up)
{
    static const kd_test_edit later[] = {
        { "host.", KD_FORGE_DROP_ALL },
        { "scale.", KD_FORGE_DROP_ALL },
        { "optim.loss_scale", KD_FORGE_DROP_ALL }, /* and how often */
        { "precision", KD_FORGE_DROP },
        { "loss.input", KD_FORGE_DROP },
        { "loss.similarity", KD_FORGE_DROP },
        { "loss.pair", KD_FORGE_DROP },
        { "loss.distance", KD_FORGE_DROP },
        { "loss.kd_weight", KD_FORGE_DROP },
        { "loss.sgm_weight", KD_FORGE_DROP },
        { "loss.share", KD_FORGE_DROP },
        { "loss.feature", KD_FORGE_DROP_ALL },
    };
    kd_test_told t      = kd_test_told_usual();
    int          passed = 0;
    kd_test_run  run, whole;

    kd_test_run_make(&whole, &t);
    kd_assert_ok(kd_test_run_train(&whole));
    rename(kd_test_path("out/last.kdas"), kd_test_path("kept.kdas"));
    t.train.resume   = 1;
    t.rig.model.seed = 99;
    kd_test_run_make(&run, &t);
    kd_test_forge(run.rig.ctx, kd_test_path("kept.kdas"), kd_test_path("out/last.kdas"), later,
                  KD_COUNT(later));
    kd_test_said[0] = 0;
    kd_assert_ok(kd_test_run_train(&run));
    kd_test_assert_same_weights(run.rig.student, whole.rig.student);
    for (int i = 0; kd_resume_row_at(i); i++)
        passed += kd_resume_row_at(i)->missing == KD_NOT_COMPARED;
    ck_assert_int_eq(kd_test_said_count("I ", "passed over"), passed);
    ck_assert_int_eq(kd_test_said_count("I ", "no sums"), 1);
    ck_assert_int_eq(kd_test_said_count("W ", ""), 0);
    kd_test_run_finish(&run);
    t.rig.loss.kd_weight = 2; /* such a file was of what the defaults are */
    kd_test_run_make(&run, &t);
    kd_assert_status(kd_test_run_train(&run), KDAS_EINVAL);
    kd_assert_sentence("loss.kd_weight is 1, here it is 2");
    kd_test_run_finish(&run);
    kd_test_run_finish(&whole);
}
END_TEST

int main(void)
{
    Suite   *s      = suite_create("resume");
    TCase   *table  = tcase_create("the table");
    TCase   *older  = tcase_create("earlier versions");
    SRunner *runner = srunner_create(s);
    int      failed;

    kd_test_thin_networks();
    tcase_set_timeout(table, 300);
    tcase_set_timeout(older, 300);
    tcase_add_checked_fixture(table, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_checked_fixture(older, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(table, every_change_has_its_row);
    tcase_add_test(table, the_documents_have_every_row);
    tcase_add_loop_test(table, a_difference_becomes_of_what_the_table_says, 0, PARTS);
    suite_add_tcase(s, table);
    tcase_add_test(older, a_record_that_a_file_lacks_is_what_the_table_says);
    tcase_add_test(older, a_file_of_0_1_is_taken_up);
    suite_add_tcase(s, older);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

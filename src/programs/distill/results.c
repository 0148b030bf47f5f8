/* results.c - what a finished kdas-distill hands over: figures, pictures and the report. */
#include "distill/results.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "arguments/weights.h"
#include "distill/report/page.h"
#include "system/files.h"
#include "system/say.h"
#include "system/stop.h"

/* ---- Figures, as the trainings end ----------------------------------------------------------- */

void results_begin(work *w, bool has_teacher)
{
    static char *held     = "validation";
    stage        t        = { w->frames.tests, w->frames.test_names, w->frames.test_count };
    int          students = has_teacher ? 1 : 0;
    scores      *s        = &w->scores;

    if (!t.count && w->frames.validation) t = (stage){ &w->frames.validation, &held, 1 };
    scores_begin(s, &t, students + w->row_count, students, w->settings.seed_count,
                 w->settings.seeds);
    if (has_teacher) s->model_names[0] = "teacher";
    for (int row = 0; row < w->row_count; row++) {
        s->model_names[students + row] = work_row_name(w, row);
        if (!strcmp(w->settings.presets[row], "baseline") && w->row_count > 1) {
            s->baseline = students + row;
        }
    }
}

void results_end(work *w) { scores_end(&w->scores); }

/* What figures are of: the command, but for what no single training depends on; the library; the
 * frames; the values of the teacher and those that the student begins with, whose files may be others under the same
 * paths. NULL after a sentence. */
static char *key_of(const work *w, const training *t, const char *label)
{
    uint64_t teacher = 0;
    bool     fixed   = t == &w->teaching && !t->dir; /* it was trained elsewhere */
    char     start[40] = "";

    if ((fixed || t->teacher) && !ok(kdas_model_hash(w->teacher, &teacher))) return NULL;
    if (t->start) snprintf(start, sizeof start, ", start %016llx", (unsigned long long)t->start);
    return text_of("%s, libkdas %s, %s, seed %lld, frames %016llx, teacher %016llx%s",
                   w->settings.recipe, kdas_version_string(), label, (long long)t->seed,
                   (unsigned long long)kdas_dataset_hash(w->frames.train),
                   (unsigned long long)teacher, start);
}

/* Where they are kept: with the training, or for a teacher from a file in the run's own folder. */
static char *path_of(const work *w, const training *t)
{
    return t->dir ? text_of("%s/figures.txt", t->dir)
                  : text_of("%s/teacher.figures.txt", w->settings.out);
}

static bool known(work *w, const training *t, const char *label, int model, int seed)
{
    char *key = w->settings.resume ? key_of(w, t, label) : NULL, *path = path_of(w, t);
    bool  same =
        key && figures_load(scores_cells(&w->scores, model, seed), &w->scores.stage, key, path);

    free(key);
    free(path);
    return same;
}

/* The first rank has the files; the others need no figures. */
static bool known_to_all(work *w, const training *t, const char *label, int model, int seed)
{
    bool is = group_first(&w->settings.group) && known(w, t, label, model, seed);

    return group_told(&w->settings.group, &is) && is;
}

bool results_known(work *w, int row, int seed)
{
    return known_to_all(w, work_run(w, row, seed), w->settings.presets[row],
                        w->scores.students + row, seed);
}

bool results_teacher_known(work *w) { return known_to_all(w, &w->teaching, "teacher", 0, 0); }

static bool measure_set(const work *w, figures *f, kdas_model *model, int set)
{
    const stage    *t         = &w->scores.stage;
    kdas_evaluator *evaluator = NULL;
    kdas_ranks     *ranks     = w->settings.group.ranks; /* which notice a stop together */
    bool done = (ranks || !stop_asked()) && ok(kdas_evaluator_create(&evaluator, w->context)) &&
                ok(kdas_evaluator_share(evaluator, ranks)) &&
                ok(kdas_evaluate(evaluator, model, t->sets[set], w->settings.size[0],
                                 w->settings.size[1], 0)) &&
                figures_take(f, evaluator);

    kdas_evaluator_destroy(evaluator);
    return done;
}

static bool measure(work *w, const training *t, const char *label, kdas_model *model_of, int model,
                    int seed)
{
    scores  *s   = &w->scores;
    figures *f   = scores_cells(s, model, seed);
    char    *key = key_of(w, t, label), *path = path_of(w, t);
    char    *csv  = text_of("%s/scores.csv", w->settings.out);
    bool     done = group_all(&w->settings.group, key != NULL);

    for (int set = 0; set < s->stage.count && done; set++) {
        char line[200];

        snprintf(line, sizeof line, "measuring %s on %s", s->model_names[model],
                 s->stage.names[set]);
        if (!w->settings.quiet && isatty(STDOUT_FILENO)) say_redraw(line);
        done = measure_set(w, &f[set], model_of, set);
    }
    say_redraw(NULL);
    if (group_first(&w->settings.group))
        done = done && figures_save(f, &s->stage, key, path) && scores_write_csv(s, csv);
    done = group_all(&w->settings.group, done);
    free(key);
    free(path);
    free(csv);
    return done;
}

bool results_measure(work *w, int row, int seed)
{
    const training *t = work_run(w, row, seed);

    return measure(w, t, w->settings.presets[row], t->model, w->scores.students + row, seed);
}

bool results_measure_teacher(work *w)
{
    return measure(w, &w->teaching, "teacher", w->teacher, 0, 0);
}

/* ---- The end --------------------------------------------------------------------------------- */

/* The students of the first seed, as the files have them: trained models keep much more memory. */
static bool cast_open(cast *c, const work *w)
{
    bool done = true;

    *c = (cast){ .count = w->scores.models, .students = w->scores.students };
    for (int m = 0; m < c->count; m++)
        c->name[m] = w->scores.model_names[m];
    if (!w->settings.pictures || !w->scores.stage.count) return true;
    if (c->students) c->model[0] = w->teacher;
    for (int row = 0; row < w->row_count && done; row++) {
        char *best = text_of("%s/best.safetensors", work_run(w, row, 0)->dir);

        c->model[c->students + row] = weights_open(w->context, w->settings.student, best, NULL);
        done                        = c->model[c->students + row] != NULL;
        free(best);
    }
    return done;
}

static void cast_close(cast *c)
{
    for (int m = c->students; m < c->count; m++)
        kdas_model_destroy(c->model[m]);
}

static void print_skips(const char *set, const kdas_dataset *from, bool *first)
{
    for (int64_t i = 0; i < kdas_dataset_skipped(from); i++) {
        printf("%sleft out of %s: %s: %s\n", *first ? "\n" : "", set,
               kdas_dataset_skipped_name(from, i), kdas_dataset_skipped_reason(from, i));
        *first = false;
    }
}

/* Frames that --skip-bad left out. */
static void print_left_out(const frames *f)
{
    bool first = true;

    print_skips("training", f->train, &first);
    if (f->val_listed) print_skips("validation", f->validation, &first);
    for (int i = 0; i < f->test_count; i++)
        print_skips(f->test_names[i], f->tests[i], &first);
}

bool results_write(const work *w)
{
    char *csv     = text_of("%s/scores.csv", w->settings.out);
    char *summary = text_of("%s/summary.csv", w->settings.out);
    cast  c;
    bool  done = scores_write_csv(&w->scores, csv) && scores_write_summary(&w->scores, summary);

    if (done) {
        scores_print(&w->scores);
        if (!w->scores.stage.count)
            puts("\nnothing was measured: there are no test sets, and no frames were held out");
        print_left_out(&w->frames);
        done = cast_open(&c, w) && page_write(w, &c);
        cast_close(&c);
    }
    free(csv);
    free(summary);
    return done;
}

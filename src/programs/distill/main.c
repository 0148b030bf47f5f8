/* kdas-distill - train a small network under the guidance of a large one, and report on it.
 *
 * Everything that can be wrong with names, weights, folders and options is found before the first
 * step: then the teacher is trained, if that was asked for, then a student for every preset. */
#include <stdlib.h>
#include <string.h>
#include "arguments/args.h"
#include "arguments/weights.h"
#include "distill/results.h"
#include "system/files.h"
#include "system/say.h"
#include "system/stop.h"

/* A text that goes on; `more` may be NULL. */
static char *longer(char *text, const char *between, const char *more)
{
    char *all = text_of("%s%s%s", text, between, more ? more : "");

    free(text);
    return all;
}

/* Ranks of other trainings, or with other sets, would wait for each other: what decides the order of all that they do together
 * is compared before. */
static bool agree_on_trainings(const settings *s)
{
    char *text = text_of("%s teacher", s->teacher_epochs    ? "a trained"
                                       : s->teacher_weights ? "a given"
                                                            : "no");
    bool  same;

    if (s->demo) text = longer(text, ", demo", NULL);
    for (int i = 0; i < s->preset_count; i++)
        text = longer(text, i ? "," : ", preset ", s->presets[i]);
    for (int i = 0; i < s->seed_count; i++) {
        char *seed = text_of("%lld", (long long)s->seeds[i]);

        text = longer(text, i ? "," : ", seed ", seed);
        free(seed);
    }
    same = group_agrees(&s->group, "list of trainings", text);
    free(text);
    return same;
}

static bool agree_on_sets(const work *w)
{
    const stage *t    = &w->scores.stage;
    char        *text = text_of("%d", t->count);
    bool         same;

    for (int i = 0; i < t->count; i++) {
        char *set = text_of("%lld with hash %016llx", (long long)kdas_dataset_count(t->sets[i]),
                            (unsigned long long)kdas_dataset_hash(t->sets[i]));

        text = longer(text, i ? ", " : ": ", set);
        free(set);
    }
    same = group_agrees(&w->settings.group, "list of sets to measure on", text);
    free(text);
    return same;
}

static bool open_context(work *w)
{
    settings *s = &w->settings;

    if (!context_open(&w->context, &s->machine)) return false;
    stop_on_signal(w->context);
    if (!group_join(&s->group, w->context, &s->machine)) return false;
    s->quiet = s->quiet || !group_first(&s->group);
    return agree_on_trainings(s);
}

/* Before anything in it is replaced. The first rank has the folders. */
static bool hold_folder(work *w)
{
    bool held = !group_first(&w->settings.group) ||
                (folder_ready(w->settings.out) &&
                 ok(kdas_run_folder_open(&w->folder, w->context, w->settings.out)));

    return group_all(&w->settings.group, held);
}

/* A folder for one of several trainings, the run's own for the only one. */
static char *folder_of(const work *w, int row, int seed)
{
    const settings *s = &w->settings;
    char           *dir =
        s->preset_count > 1 ? text_of("%s/%s", s->out, s->presets[row]) : text_of("%s", s->out);
    char *deep = s->seeds_text ? text_of("%s/seed-%lld", dir, (long long)s->seeds[seed]) : NULL;

    if (!deep) return dir;
    free(dir);
    return deep;
}

/* What the user calls it: "paper", of several seeds "paper seed 2". */
static char *label_of(const work *w, int row, int seed)
{
    const char *name = work_row_name(w, row);

    return w->settings.seeds_text
               ? text_of("%s seed %lld", name, (long long)w->settings.seeds[seed])
               : text_of("%s", name);
}

/* Whether it reads a teacher's maps or features. */
static bool learns_from_teacher(const kdas_loss *loss)
{
    return kdas_loss_needs_teacher(loss) || kdas_loss_needs_taps(loss);
}

/* Say where a row loses its feature term, see settings_loss(). */
static void tell_features_off(const settings *s, const char *preset)
{
    settings          live = *s;
    kdas_loss_options loss;

    live.teacher_maps = NULL;
    if (!s->teacher_maps || settings_loss(&live, preset, &loss) != KDAS_OK) return;
    if (loss.feature && strcmp(loss.feature, "none") != 0) {
        say_error("warning: --teacher-maps has no features of the teacher: %s learns without them",
                  preset);
    }
}

/* Make a student with its objective. */
static bool begin_run(work *w, int row, int seed)
{
    const settings   *s = &w->settings;
    training         *t = work_run(w, row, seed);
    kdas_loss_options loss;

    return ok(settings_loss(s, s->presets[row], &loss)) &&
           training_begin(t, w->context, s, label_of(w, row, seed), s->student, &loss,
                          s->student_weights, s->backbone_weights, s->weights_entry, s->seeds[seed],
                          s->quantize, folder_of(w, row, seed));
}

/* Make the teacher, or what trains it. */
static bool prepare_teacher(work *w, bool needed)
{
    const settings   *s = &w->settings;
    kdas_loss_options loss;

    if (s->teacher_weights) {
        w->teacher =
            weights_open(w->context, s->teacher, s->teacher_weights, s->teacher_weights_entry);
        return w->teacher != NULL;
    }
    if (s->teacher_epochs) {
        if (!ok(settings_teacher_loss(s, &loss)) ||
            !training_begin(&w->teaching, w->context, s, text_of("teacher"), s->teacher, &loss,
                            NULL, s->teacher_backbone_weights, s->teacher_weights_entry, s->seed,
                            false, text_of("%s/teacher", s->out))) {
            return false;
        }
        w->teaching.epochs = s->teacher_epochs;
        if (s->teacher_lr > 0) w->teaching.lr = s->teacher_lr;
        return true;
    }
    if (s->teacher_maps) return true;
    if (needed || s->unlabelled) {
        say_error("%s a teacher: give --teacher-weights FILE, --teacher-epochs N or "
                  "--teacher-maps DIR",
                  needed ? "this objective needs" : "frames without masks need");
        return false;
    }
    return true;
}

/* The networks that options or weights name. */
static bool name_networks(kdas_context *context, settings *s)
{
    static const char usual_student[] = WEIGHTS_USUAL;

    if (s->student_weights)
        s->student =
            weights_network(context, s->student, usual_student, s->student_weights, "--student");
    else if (!s->student)
        s->student = usual_student;
    if (s->teacher_weights)
        s->teacher =
            weights_network(context, s->teacher, s->usual_teacher, s->teacher_weights, "--teacher");
    else if (!s->teacher)
        s->teacher = s->usual_teacher;
    return s->student && s->teacher;
}

/* Whether every objective can be evaluated with the networks that it is for. */
static bool networks_fit(const work *w, const kdas_model *teacher)
{
    bool fit = !w->teaching.model ||
               ok(kdas_loss_check(w->teaching.loss, w->teaching.model, NULL, NULL, NULL));

    for (int row = 0; row < w->row_count && fit; row++) {
        const training *t = work_run(w, row, 0);

        fit = ok(kdas_loss_check(t->loss, t->model, learns_from_teacher(t->loss) ? teacher : NULL,
                                 NULL, NULL));
    }
    return fit;
}

/* The size: that of --size, of a network that takes one alone, of the teacher's weights, of the
 * student's. */
static void find_size(settings *s, const kdas_model *teacher, const kdas_model *student)
{
    s->size_from = "as --size says";
    if (s->size[0]) return;
    s->size_from = "the only size that the teacher takes";
    if (network_size(teacher, s->size)) return;
    s->size_from = "the only size that the student takes";
    if (network_size(student, s->size)) return;
    s->size_from = "the size that the teacher's weights were trained for";
    if (teacher && kdas_model_input_size(teacher, &s->size[0], &s->size[1])) return;
    s->size_from = "the size that the student's weights were trained for";
    if (kdas_model_input_size(student, &s->size[0], &s->size[1])) return;
    s->size_from = s->demo ? "the demo's size" : "the default";
    s->size[0] = s->size[1] = s->usual_size;
}

/* Make a student of every row, with the first seed, and the teacher: so that what is wrong is said
 * at once. */
static bool prepare(work *w)
{
    settings         *s      = &w->settings;
    bool              needed = false;
    const kdas_model *teacher, *student;

    if (!name_networks(w->context, s)) return false;
    w->row_count = s->preset_count;
    w->runs      = need((size_t)(w->row_count * s->seed_count) * sizeof *w->runs);
    for (int row = 0; row < w->row_count; row++) {
        if (!begin_run(w, row, 0)) return false;
        tell_features_off(s, s->presets[row]);
        needed = needed || learns_from_teacher(work_run(w, row, 0)->loss);
    }
    if (!prepare_teacher(w, needed)) return false;
    teacher = w->teacher ? w->teacher : w->teaching.model;
    if (!networks_fit(w, teacher)) return false;
    student = work_run(w, 0, 0)->model;
    find_size(s, teacher, student);
    return (!teacher || ok(kdas_model_check_size(teacher, s->size[0], s->size[1]))) &&
           ok(kdas_model_check_size(student, s->size[0], s->size[1]));
}

/* ---- Training -------------------------------------------------------------------------------- */

/* The folder of training `i`, the teacher's last; NULL: it has none. To be freed. */
static char *folder_at(const work *w, int i)
{
    int count = w->row_count * w->settings.seed_count;

    if (i < count) return folder_of(w, i / w->settings.seed_count, i % w->settings.seed_count);
    return w->teaching.dir ? text_of("%s", w->teaching.dir) : NULL;
}

/* Another run may write into one of them alone. */
static bool hold_trainings(work *w)
{
    int  count = w->row_count * w->settings.seed_count + 1;
    bool done  = true;

    w->held = need((size_t)count * sizeof *w->held);
    for (int i = 0; i < count && done; i++) {
        char *dir = folder_at(w, i);

        if (dir && path_exists(dir))
            done = ok(kdas_run_folder_open(&w->held[w->held_count++], w->context, dir));
        free(dir);
    }
    return done;
}

/* Where a training cannot be resumed, it begins anew. */
static bool can_resume(const work *w, const char *dir)
{
    char *last = text_of("%s/last.kdas", dir), *known = text_of("%s/figures.txt", dir);
    bool  can = w->settings.resume && (path_exists(last) || path_exists(known));

    free(last);
    free(known);
    return can;
}

/* A run that starts anew leaves nothing of an earlier one to be taken for its own. */
static bool set_aside(const work *w)
{
    char *teacher = text_of("%s/teacher.figures.txt", w->settings.out);
    bool  done    = true;

    if (!w->settings.resume) remove(teacher);
    free(teacher);
    for (int i = 0; i <= w->row_count * w->settings.seed_count && done; i++) {
        char *dir = folder_at(w, i);

        if (dir && !can_resume(w, dir)) done = training_set_aside(dir);
        free(dir);
    }
    return done;
}

/* The first rank has its file, and the others its values. */
static kdas_model *open_teacher(work *w, const char *best)
{
    kdas_model_options options;
    kdas_model        *model = NULL;

    if (group_first(&w->settings.group))
        return weights_open(w->context, w->settings.teacher, best, NULL);
    kdas_model_options_init(&options, sizeof options);
    options.trainable = 0;
    return ok(kdas_model_create(&model, w->context, w->settings.teacher, &options)) ? model : NULL;
}

/* Train the teacher and keep its best epoch, frozen: without the memory that training takes. */
static bool teach(work *w)
{
    char  *best = text_of("%s/best.safetensors", w->teaching.dir);
    frames own  = w->frames;
    bool   done = true;

    if (own.labelled) own.train = own.labelled;
    if (own.teacher_train) {
        own.train      = own.teacher_train;
        own.validation = own.teacher_validation;
    }
    if (results_teacher_known(w)) {
        if (group_first(&w->settings.group)) training_remember(&w->teaching);
    } else {
        done = training_run(&w->teaching, &w->settings, &own);
    }
    training_release(&w->teaching);
    if (done) w->teacher = open_teacher(w, best);
    free(best);
    return done && group_all(&w->settings.group, w->teacher != NULL) &&
           group_copy(&w->settings.group, w->teacher);
}

/* Train and measure one student, unless an earlier call has. */
static bool study(work *w, int row, int seed)
{
    training *t = work_run(w, row, seed);
    bool      done;

    if (!group_all(&w->settings.group, t->model || begin_run(w, row, seed))) return false;
    t->teacher = learns_from_teacher(t->loss) || w->settings.unlabelled ? w->teacher : NULL;
    if (results_known(w, row, seed)) {
        if (group_first(&w->settings.group)) training_remember(t);
        done = true;
    } else {
        done = training_run(t, &w->settings, &w->frames) && results_measure(w, row, seed);
    }
    training_release(t);
    return done;
}

static void introduce(const work *w)
{
    const frames *f = &w->frames;

    if (w->settings.quiet) return;
    printf("libkdas %s on %s, in %s\n", kdas_version_string(), kdas_context_device(w->context),
           context_dtype(w->context));
    printf("%lld frames to train on", (long long)kdas_dataset_count(f->train));
    if (f->labelled) printf(" (%lld without masks)", (long long)kdas_dataset_unlabelled(f->train));
    printf(", %lld held out", f->validation ? (long long)kdas_dataset_count(f->validation) : 0);
    for (int i = 0; i < f->test_count; i++) {
        printf("%s %s %lld", i ? "," : "; test sets:", f->test_names[i],
               (long long)kdas_dataset_count(f->tests[i]));
    }
    printf("\nnetworks run at %lldx%lld, %s\n", (long long)w->settings.size[0],
           (long long)w->settings.size[1], w->settings.size_from);
    if (!f->test_count && !f->validation)
        puts("nothing will be measured: there are no test sets, and no frames are held out");
    fflush(stdout);
}

static bool open_frames(work *w)
{
    settings *s    = &w->settings;
    bool      done = true;

    if (s->demo) {
        s->data = w->made = text_of("%s/data", s->out);
        done = group_all(&s->group, !group_first(&s->group) || frames_make(w->context, s, w->made));
    }
    done = done && frames_open(&w->frames, w->context, s);
    for (int row = 0; row < w->row_count && done; row++)
        done = training_check(work_run(w, row, 0), s, &w->frames);
    return group_all(&s->group, done);
}

static bool run(work *w)
{
    const settings *s = &w->settings;
    bool            done =
        open_context(w) && hold_folder(w) && group_all(&s->group, prepare(w)) && open_frames(w);
    bool has_teacher = w->teacher || s->teacher_epochs;

    if (done) {
        results_begin(w, has_teacher);
        introduce(w);
        done = agree_on_sets(w);
    }
    if (done) {
        done = !group_first(&s->group) || (hold_trainings(w) && set_aside(w));
        done = group_all(&s->group, done) && (!s->teacher_epochs || teach(w));
    }
    if (done && has_teacher) done = results_teacher_known(w) || results_measure_teacher(w);
    for (int i = 0; i < w->row_count * s->seed_count && done; i++)
        done = study(w, i % w->row_count, i / w->row_count);
    done = done && group_all(&s->group, !group_first(&s->group) || results_write(w));
    say_redraw(NULL);
    return done;
}

static void end(work *w)
{
    stop_on_signal(NULL);
    for (int i = 0; w->runs && i < w->row_count * w->settings.seed_count; i++)
        training_end(&w->runs[i]);
    free(w->runs);
    training_end(&w->teaching);
    kdas_model_destroy(w->teacher);
    results_end(w);
    frames_close(&w->frames);
    for (int i = 0; i < w->held_count; i++)
        kdas_run_folder_destroy(w->held[i]);
    free(w->held);
    kdas_run_folder_destroy(w->folder);
    group_leave(&w->settings.group);
    kdas_context_destroy(w->context);
    free(w->made);
    settings_free(&w->settings);
}

int main(int argc, char **argv)
{
    work w    = { .row_count = 0 };
    int  code = 0;
    bool done;

    say_as("kdas-distill");
    code = settings_read(&w.settings, argc, argv);
    if (code >= 0) {
        settings_free(&w.settings);
        return code;
    }
    done = run(&w);
    code = stop_asked() ? EXIT_INTERRUPTED : done ? EXIT_FINE : EXIT_FAILED;
    code = group_code(&w.settings.group, code);
    if (code == EXIT_INTERRUPTED && group_first(&w.settings.group)) {
        const char *resume = w.settings.resume ? "" : " --resume";
        int         ranks  = (int)kdas_ranks_count(w.settings.group.ranks);

        if (ranks > 1)
            say_error("interrupted; on %d ranks '%s%s' goes on", ranks, w.settings.command, resume);
        else
            say_error("interrupted; '%s%s' goes on", w.settings.command, resume);
    }
    end(&w);
    return code;
}

/* kdas-distill - train a small network under the guidance of a large one, and report on it.
 *
 * Everything that can be wrong with names, weights, folders and options is found before the first
 * step: then the teacher is trained, if that was asked for, then a student for every preset. */
#include <stdlib.h>
#include "common_args.h"
#include "common_files.h"
#include "common_results.h"
#include "common_say.h"
#include "common_stop.h"

static bool open_context(work *w)
{
    if (!context_open(&w->context, &w->settings.machine)) return false;
    stop_on_signal(w->context);
    return true;
}

/* A folder for one of several trainings, the run's own for the only one. */
static char *folder_of(const work *w, const char *name)
{
    return name ? text_of("%s/%s", w->settings.out, name) : text_of("%s", w->settings.out);
}

/* Make every student with its objective, and the teacher or what trains it. */
static bool prepare(work *w)
{
    const settings   *s             = &w->settings;
    bool              several       = s->preset_count > 1;
    bool              needs_teacher = false;
    kdas_loss_options loss;

    for (int i = 0; i < s->preset_count; i++) {
        const char *name = several ? s->presets[i] : NULL;
        training   *row  = &w->rows[i];

        if (!ok(settings_loss(s, s->presets[i], &loss))) return false;
        w->row_count = i + 1;
        if (!training_begin(row, w->context, s, name ? name : "student", s->student, &loss,
                            s->student_weights, folder_of(w, name))) {
            return false;
        }
        needs_teacher = needs_teacher || kdas_loss_needs_teacher(row->loss);
    }
    if (s->teacher_weights) {
        w->teacher = frozen_model(w->context, s->teacher, s->teacher_weights);
        return w->teacher != NULL;
    }
    if (s->teacher_epochs) {
        if (!ok(settings_teacher_loss(s, &loss)) ||
            !training_begin(&w->teaching, w->context, s, "teacher", s->teacher, &loss, NULL,
                            folder_of(w, "teacher"))) {
            return false;
        }
        w->teaching.epochs = s->teacher_epochs;
        if (s->teacher_lr > 0) w->teaching.lr = s->teacher_lr;
        return true;
    }
    if (s->teacher_maps) return true;
    if (needs_teacher || s->unlabelled) {
        say_error("%s a teacher: give --teacher-weights FILE, --teacher-epochs N or "
                  "--teacher-maps DIR",
                  needs_teacher ? "this objective needs" : "frames without masks need");
        return false;
    }
    return true;
}

/* Train the teacher and keep its best epoch, frozen: without the memory that training takes. */
static bool teach(work *w)
{
    char *best = text_of("%s/best.safetensors", w->teaching.dir);
    frames labelled = w->frames;
    bool   done;

    if (labelled.labelled) labelled.train = labelled.labelled;
    done = training_run(&w->teaching, &w->settings, &labelled);

    kdas_model_destroy(w->teaching.model);
    w->teaching.model = NULL;
    if (done) w->teacher = frozen_model(w->context, w->settings.teacher, best);
    free(best);
    return done && w->teacher;
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
    putchar('\n');
    fflush(stdout);
}

static bool run(work *w)
{
    settings *s    = &w->settings;
    char     *made = NULL;
    bool      done = folder_ready(s->out) && open_context(w) && prepare(w);

    if (done && s->demo) {
        s->data = made = text_of("%s/data", s->out);
        done           = frames_make(w->context, s, made);
    }
    done = done && frames_open(&w->frames, w->context, s);
    for (int i = 0; i < w->row_count && done; i++) {
        done = training_check(&w->rows[i], s, &w->frames);
    }
    if (done) introduce(w);
    if (done && s->teacher_epochs) done = teach(w);
    for (int i = 0; i < w->row_count && done; i++) {
        w->rows[i].teacher =
            kdas_loss_needs_teacher(w->rows[i].loss) || s->unlabelled ? w->teacher : NULL;
        done               = training_run(&w->rows[i], s, &w->frames);
    }
    done = done && results_write(w);
    say_redraw(NULL);
    free(made);
    return done;
}

static void end(work *w)
{
    stop_on_signal(NULL);
    for (int i = 0; i < w->row_count; i++)
        training_end(&w->rows[i]);
    training_end(&w->teaching);
    kdas_model_destroy(w->teacher);
    frames_close(&w->frames);
    kdas_context_destroy(w->context);
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
    if (stop_asked()) {
        say_error("interrupted; '%s%s' goes on", w.settings.command,
                  w.settings.resume ? "" : " --resume");
    }
    end(&w);
    return code;
}

/* common_results.c - what a finished kdas-distill hands over: figures, pictures and the report. */
#include "common_results.h"
#include <stdlib.h>
#include <unistd.h>
#include "common_say.h"
#include "common_stop.h"

static cast find_cast(const work *w)
{
    cast c = { .count = 0 };

    if (w->teacher) {
        c.model[c.count]  = w->teacher;
        c.name[c.count++] = "teacher";
    }
    c.students = c.count;
    for (int i = 0; i < w->row_count; i++) {
        c.model[c.count]  = w->rows[i].model;
        c.name[c.count++] = w->rows[i].label;
    }
    return c;
}

static bool measure(const work *w, const cast *c, const stage *t, scores *s)
{
    for (int i = 0; i < t->count * c->count; i++) {
        int  set = i / c->count, model = i % c->count;
        char line[200];

        s->set_names[set]     = t->names[set];
        s->model_names[model] = c->name[model];
        if (stop_asked()) return false;
        snprintf(line, sizeof line, "measuring %s on %s", c->name[model], t->names[set]);
        if (!w->settings.quiet && isatty(STDOUT_FILENO)) say_redraw(line);
        if (!ok(kdas_evaluate(scores_cell(s, set, model), c->model[model], t->sets[set],
                              w->settings.size[0], w->settings.size[1], 0))) {
            return false;
        }
    }
    say_redraw(NULL);
    return true;
}

bool results_write(const work *w)
{
    char         *held     = "validation";
    kdas_dataset *held_set = w->frames.validation;
    cast          c        = find_cast(w);
    stage         t        = { w->frames.tests, w->frames.test_names, w->frames.test_count };
    scores        s;
    char         *csv;
    bool          done;

    if (!t.count && held_set) t = (stage){ &held_set, &held, 1 };
    if (!scores_begin(&s, w->context, t.count, c.count)) return false;
    csv  = text_of("%s/scores.csv", w->settings.out);
    done = measure(w, &c, &t, &s) && scores_write_csv(&s, csv);
    if (done) {
        scores_print(&s);
        done = page_write(w, &c, &t, &s);
    }
    free(csv);
    scores_end(&s);
    return done;
}

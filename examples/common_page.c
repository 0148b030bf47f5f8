/* common_page.c - what stands in kdas-distill's report.html, from top to bottom. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common_files.h"
#include "common_report.h"
#include "common_results.h"
#include "common_say.h"

/* ---- Figures at the top ---------------------------------------------------------------------- */

static void set_tile(report *r, const cast *c, const scores *s, int set)
{
    int    best = c->students;
    char   label[160], figure[32], note[160];
    double teacher = c->students ? scores_get(s, set, 0, KDAS_METRIC_MEAN_DICE) : NAN;

    for (int m = best + 1; m < c->count; m++) {
        if (scores_get(s, set, m, KDAS_METRIC_MEAN_DICE) >
            scores_get(s, set, best, KDAS_METRIC_MEAN_DICE)) {
            best = m;
        }
    }
    snprintf(label, sizeof label, "Mean Dice, %s", s->set_names[set]);
    snprintf(figure, sizeof figure, "%.3f", scores_get(s, set, best, KDAS_METRIC_MEAN_DICE));
    snprintf(note, sizeof note, isnan(teacher) ? "%s" : "%s; teacher %.3f", c->name[best], teacher);
    report_tile(r, label, figure, note);
}

static void model_tile(report *r, const work *w)
{
    int64_t student = 0, teacher = 0;
    double  macs = 0;
    char    figure[32], note[160];

    kdas_model_cost(&student, &macs, w->context, w->settings.student, w->settings.size[0],
                    w->settings.size[1], KDAS_COUNT_MACS);
    snprintf(figure, sizeof figure, "%.2f M", (double)student / 1e6);
    snprintf(note, sizeof note, "%.3f GMAC at %lldx%lld", macs / 1e9,
             (long long)w->settings.size[0], (long long)w->settings.size[1]);
    if (w->teacher) {
        kdas_model_cost(&teacher, NULL, w->context, w->settings.teacher, w->settings.size[0],
                        w->settings.size[1], KDAS_COUNT_MACS);
        snprintf(note, sizeof note, "of the teacher's %.2f M; %.3f GMAC", (double)teacher / 1e6,
                 macs / 1e9);
    }
    report_tile(r, "Parameters of the student", figure, note);
}

static void write_tiles(report *r, const work *w, const cast *c, const scores *s)
{
    const history *best    = &w->rows[0].history;
    double         seconds = w->teaching.history.seconds;
    char           figure[32], note[160];

    report_tiles_begin(r);
    for (int i = 0; i < w->row_count; i++) {
        if (w->rows[i].history.best_dice > best->best_dice) best = &w->rows[i].history;
        seconds += w->rows[i].history.seconds;
    }
    if (best->best_dice >= 0) {
        snprintf(figure, sizeof figure, "%.3f", best->best_dice);
        snprintf(note, sizeof note, "%s, epoch %lld", best->label, (long long)best->best_epoch);
        report_tile(r, "Best validation Dice", figure, note);
    }
    for (int set = 0; set < s->sets && set < 4; set++)
        set_tile(r, c, s, set);
    model_tile(r, w);
    snprintf(figure, sizeof figure, seconds < 5400 ? "%.1f min" : "%.1f h",
             seconds < 5400 ? seconds / 60 : seconds / 3600);
    snprintf(note, sizeof note, "%.1f images/s at the end",
             w->rows[w->row_count - 1].history.images_per_second);
    report_tile(r, "Training took", figure, note);
    report_tiles_end(r);
}

/* ---- Curves and pictures --------------------------------------------------------------------- */

static void write_curves(report *r, const work *w)
{
    static const int others[] = { 2, 3, 4, 5 };
    history          runs[MAX_MODELS];
    int              colours[MAX_MODELS], count = 0;

    if (w->teaching.label) {
        runs[count]      = w->teaching.history;
        colours[count++] = 0;
    }
    for (int i = 0; i < w->row_count; i++) {
        runs[count]      = w->rows[i].history;
        colours[count++] = i + 1 == w->row_count ? 1 : others[i % COUNT(others)];
    }
    report_section(r, "Curves",
                   "Loss terms as the paper writes them, before they are weighted; of each term "
                   "also the norm of "
                   "the gradient that it sends to the student's maps. Lines are moving means.");
    report_curves(r, runs, colours, count);
}

static bool embed(void *user, const char *jpeg, const char *caption)
{
    return report_picture(user, jpeg, "image/jpeg", caption);
}

static bool write_pictures(report *r, const work *w, const cast *c, const stage *t, const scores *s)
{
    const char *last = c->name[c->count - 1];
    char       *dir  = text_of("%s/overlays", w->settings.out);
    char       *text =
        text_of("Frames of each set from the worst to the best of '%s', evenly spaced in rank. "
                "Figures in captions are the frame's Dice at 0.5. The last panel compares %s "
                "with '%s'.",
                last, w->teacher ? "the teacher" : "the truth", last);
    bool done = folder_ready(dir);

    if (w->settings.pictures > 0 && t->count > 0) {
        report_section(r, "Pictures", text);
        report_legend(r);
        for (int set = 0; set < t->count && done; set++) {
            done = gallery_draw(w, c, t, s, set, dir, embed, r);
        }
    }
    free(dir);
    free(text);
    return done;
}

/* ---- Facts ----------------------------------------------------------------------------------- */

static void set_fact(report *r, const char *key, const kdas_dataset *set)
{
    char skipped[64] = "";

    if (kdas_dataset_skipped(set)) {
        snprintf(skipped, sizeof skipped, ", %lld files left out",
                 (long long)kdas_dataset_skipped(set));
    }
    report_fact(r, key, "%lld frames, split hash %016llx%s", (long long)kdas_dataset_count(set),
                (unsigned long long)kdas_dataset_hash(set), skipped);
}

static void objective_fact(report *r, const work *w, int row)
{
    kdas_loss_options o;

    if (settings_loss(&w->settings, w->settings.presets[row], &o) != KDAS_OK) return;
    report_fact(r, row ? "" : "Objective",
                "%s: seg %s, guidance %s, sym %s, axis %s, tau %g, weights %g and %g",
                w->settings.presets[row], o.seg, o.guidance, o.sym, o.axis, (double)o.tau,
                (double)o.seg_weight, (double)o.guidance_weight);
}

static void training_fact(report *r, const char *key, const training *t)
{
    const history *h = &t->history;

    report_fact(
        r, key,
        "lr %g; best epoch %lld of %lld; %.1f s, %.1f s of it waiting for frames; %.1f images/s",
        t->lr, (long long)h->best_epoch, (long long)t->epochs, h->seconds, h->waited,
        h->images_per_second);
}

static void write_facts(report *r, const work *w)
{
    const settings *s   = &w->settings;
    time_t          now = time(NULL);
    char            date[64], warmup[32];

    strftime(date, sizeof date, "%Y-%m-%d %H:%M %Z", localtime(&now));
    report_section(r, "How it was made",
                   "The frames held out chose the epoch; no test frame decided anything.");
    report_facts_begin(r);
    report_fact(r, "Command", "%s", s->command);
    report_fact(r, "Finished", "%s", date);
    report_fact(r, "Library", "libkdas %s, ABI %d", kdas_version_string(), kdas_abi());
    report_fact(r, "Device", "%s; %d threads, in %s", kdas_context_device(w->context),
                (int)kdas_context_threads(w->context), context_dtype(w->context));
    report_fact(r, "Networks", "student %s%s%s; teacher %s%s%s", s->student,
                s->student_weights ? " from " : "", s->student_weights ? s->student_weights : "",
                w->teacher        ? s->teacher
                : s->teacher_maps ? "maps"
                                  : "none",
                w->teacher && s->teacher_weights ? " from " : "",
                w->teacher && s->teacher_weights ? s->teacher_weights : "");
    if (s->teacher_maps) report_fact(r, "Teacher's maps", "%s", s->teacher_maps);
    if (s->unlabelled) report_fact(r, "Frames without masks", "%s", s->unlabelled);
    for (int i = 0; i < w->row_count; i++)
        objective_fact(r, w, i);
    snprintf(warmup, sizeof warmup, s->warmup < 0 ? "a quarter" : "%lld", (long long)s->warmup);
    report_fact(r, "Optimizer", "%s, weight decay %g, schedule %s, warm-up %s, clip %g",
                s->optimizer, s->weight_decay, s->schedule, warmup, s->clip);
    report_fact(r, "Batches", "%lld images of %lldx%lld, scales %s, %lld to an update",
                (long long)s->batch, (long long)s->size[0], (long long)s->size[1], s->scales_text,
                (long long)s->accumulate);
    report_fact(r, "Seed", "%lld", (long long)s->seed);
    set_fact(r, "Training", w->frames.train);
    if (w->frames.validation) set_fact(r, "Validation", w->frames.validation);
    for (int i = 0; i < w->frames.test_count; i++)
        set_fact(r, w->frames.test_names[i], w->frames.tests[i]);
    if (w->teaching.label) training_fact(r, "Run: teacher", &w->teaching);
    for (int i = 0; i < w->row_count; i++) {
        char key[80];

        snprintf(key, sizeof key, "Run: %s", w->rows[i].label);
        training_fact(r, key, &w->rows[i]);
    }
    report_facts_end(r);
}

/* ---- The page -------------------------------------------------------------------------------- */

static char *lead_text(const work *w)
{
    const settings *s    = &w->settings;
    const history  *h    = &w->rows[w->row_count - 1].history;
    double          made = h->epoch_count ? h->epochs[h->epoch_count - 1].epoch : 0;

    return text_of("%lld %s to train on, at %lldx%lld, %.3g epochs; objective%s %s.",
                   (long long)kdas_dataset_count(w->frames.train),
                   s->demo ? "synthetic frames" : "frames", (long long)s->size[0],
                   (long long)s->size[1], made, w->row_count > 1 ? "s" : "", s->presets_text);
}

bool page_write(const work *w, const cast *c, const stage *t, const scores *s)
{
    const settings *o     = &w->settings;
    char           *path  = text_of("%s/report.html", o->out);
    char           *title = w->teacher        ? text_of("%s, taught by %s", o->student, o->teacher)
                            : o->teacher_maps ? text_of("%s, taught by maps", o->student)
                                              : text_of("%s, without a teacher", o->student);
    char           *lead  = lead_text(w);
    report          r;
    bool            done = report_begin(&r, path, title, lead);

    if (done) {
        write_tiles(&r, w, c, s);
        if (s->sets) {
            report_section(&r, "Figures",
                           "Means over the frames of each set; of mae alone less is better.");
            report_scores(&r, s);
        }
        write_curves(&r, w);
        done = write_pictures(&r, w, c, t, s);
        write_facts(&r, w);
        done = report_end(&r, done) && done;
    }
    if (done) printf("\nreport    %s\npictures  %s/overlays\n", path, o->out);
    free(path);
    free(title);
    free(lead);
    return done;
}

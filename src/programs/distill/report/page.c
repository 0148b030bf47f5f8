/* page.c - what stands in kdas-distill's report.html, from top to bottom. */
#include "distill/report/page.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "distill/report/report.h"
#include "system/files.h"
#include "system/say.h"

/* ---- Figures at the top ---------------------------------------------------------------------- */

static double mean_dice(const scores *s, int set, int model)
{
    return scores_get(s, set, model, KDAS_METRIC_MEAN_DICE).mean;
}

static void set_tile(report *r, const scores *s, int set)
{
    int    best = s->students, used;
    char   label[160], figure[32], note[200];
    double teacher = s->students ? mean_dice(s, set, 0) : NAN;
    spread v;

    for (int m = best + 1; m < s->models; m++) {
        if (mean_dice(s, set, m) > mean_dice(s, set, best)) best = m;
    }
    v = scores_get(s, set, best, KDAS_METRIC_MEAN_DICE);
    snprintf(label, sizeof label, "Mean Dice, %s", s->stage.names[set]);
    snprintf(figure, sizeof figure, "%.3f", v.mean);
    used = snprintf(note, sizeof note, "%.80s", s->model_names[best]);
    if (v.count > 1) {
        used += snprintf(note + used, sizeof note - (size_t)used, ", spread %.3f", v.deviation);
    }
    if (!isnan(teacher)) {
        snprintf(note + used, sizeof note - (size_t)used, "; teacher %.3f", teacher);
    }
    report_tile(r, label, figure, note);
}

static void model_tile(report *r, const work *w)
{
    int64_t student = 0, teacher = 0;
    double  macs = 0;
    char    figure[32], note[160];

    kdas_model_cost(w->context, w->settings.student, w->settings.size[0], w->settings.size[1],
                    KDAS_COUNT_MACS, &student, &macs);
    snprintf(figure, sizeof figure, "%.2f M", (double)student / 1e6);
    snprintf(note, sizeof note, "%.3f GMAC at %lldx%lld", macs / 1e9,
             (long long)w->settings.size[0], (long long)w->settings.size[1]);
    if (w->teacher) {
        kdas_model_cost(w->context, w->settings.teacher, w->settings.size[0], w->settings.size[1],
                        KDAS_COUNT_MACS, &teacher, NULL);
        snprintf(note, sizeof note, "of the teacher's %.2f M; %.3f GMAC", (double)teacher / 1e6,
                 macs / 1e9);
    }
    report_tile(r, "Parameters of the student", figure, note);
}

static int run_count(const work *w) { return w->row_count * w->settings.seed_count; }

static void write_tiles(report *r, const work *w)
{
    const history *best    = &w->runs[0].history;
    double         seconds = w->teaching.history.seconds;
    char           figure[32], note[160];

    report_tiles_begin(r);
    for (int i = 0; i < run_count(w); i++) {
        if (w->runs[i].history.best_dice > best->best_dice) best = &w->runs[i].history;
        seconds += w->runs[i].history.seconds;
    }
    if (best->best_dice >= 0) {
        snprintf(figure, sizeof figure, "%.3f", best->best_dice);
        snprintf(note, sizeof note, "%s, epoch %lld", best->label, (long long)best->best_epoch);
        report_tile(r, "Best validation Dice", figure, note);
    }
    for (int set = 0; set < w->scores.stage.count && set < 4; set++)
        set_tile(r, &w->scores, set);
    model_tile(r, w);
    snprintf(figure, sizeof figure, seconds < 5400 ? "%.1f min" : "%.1f h",
             seconds < 5400 ? seconds / 60 : seconds / 3600);
    snprintf(note, sizeof note, "%.1f images/s at the end",
             w->runs[run_count(w) - 1].history.images_per_second);
    report_tile(r, "Training took", figure, note);
    report_tiles_end(r);
}

/* ---- Figures --------------------------------------------------------------------------------- */

static void write_scores(report *r, const work *w)
{
    const scores *s = &w->scores;
    char         *text;

    if (!s->stage.count) return;
    text = s->seeds > 1
               ? text_of("Means over the frames of each set and over %d seeds, with the "
                         "standard deviation over the seeds; of mae alone less is better.",
                         s->seeds)
               : text_of("Means over the frames of each set; of mae alone less is better.");
    report_section(r, "Figures", text);
    free(text);
    if (s->baseline >= 0 && s->seeds > 1) {
        text =
            text_of("Differences are between runs with the same seed: their mean, their standard "
                    "deviation, and how many have the sign of the mean. A row is clearly ahead "
                    "(and marked) if all have one sign and the mean is above %.2f standard "
                    "errors, the 95 %% quantile of Student's t.",
                    student_t(s->seeds - 1));
        report_text(r, text);
        free(text);
    }
    report_differences(r, s);
    report_scores(r, s);
}

/* ---- Curves and pictures --------------------------------------------------------------------- */

static void write_curves(report *r, const work *w)
{
    static const int others[] = { 2, 3, 4, 5 };
    history          runs[MAX_MODELS];
    int              colours[MAX_MODELS], count = 0;
    char            *text;

    if (w->teaching.label) {
        runs[count]      = w->teaching.history;
        colours[count++] = 0;
    }
    for (int i = 0; i < w->row_count; i++) {
        runs[count]       = work_run(w, i, 0)->history;
        runs[count].label = work_row_name(w, i);
        colours[count++]  = i + 1 == w->row_count ? 1 : others[i % COUNT(others)];
    }
    text =
        text_of("Loss terms as the paper writes them, before they are weighted; of each term also "
                "the norm of the gradient that it sends to the student's maps. Lines are moving "
                "means.");
    if (w->settings.seed_count > 1) {
        char *more =
            text_of("%s Of the students with seed %lld.", text, (long long)w->settings.seeds[0]);

        free(text);
        text = more;
    }
    report_section(r, "Curves", text);
    free(text);
    report_curves(r, runs, colours, count);
}

static bool embed(void *user, const char *jpeg, const char *caption)
{
    return report_picture(user, jpeg, "image/jpeg", caption);
}

static bool write_pictures(report *r, const work *w, const cast *c)
{
    const char *last = c->name[c->count - 1];
    char       *dir  = text_of("%s/overlays", w->settings.out);
    char       *text =
        text_of("Frames of each set from the worst to the best of '%s', evenly spaced in rank. "
                "Figures in captions are the frame's Dice at 0.5. The last panel compares %s "
                "with '%s'.",
                last, w->teacher ? "the teacher" : "the truth", last);
    bool done = folder_ready(dir);

    if (w->settings.pictures > 0 && w->scores.stage.count > 0) {
        report_section(r, "Pictures", text);
        report_legend(r);
        for (int set = 0; set < w->scores.stage.count && done; set++)
            done = gallery_draw(w, c, set, dir, embed, r);
    }
    free(dir);
    free(text);
    return done;
}

/* ---- Facts ----------------------------------------------------------------------------------- */

static void set_fact(report *r, const char *key, const kdas_dataset *set)
{
    report_fact(r, key, "%lld frames, split hash %016llx", (long long)kdas_dataset_count(set),
                (unsigned long long)kdas_dataset_hash(set));
}

/* What was left out of a set, and why. */
static void skip_facts(report *r, const char *key, const kdas_dataset *set)
{
    char *text = text_of("%s, left out", key);

    for (int64_t i = 0; i < kdas_dataset_skipped(set); i++)
        report_fact(r, i ? "" : text, "%s: %s", kdas_dataset_skipped_name(set, i),
                    kdas_dataset_skipped_reason(set, i));
    free(text);
}

static void set_facts(report *r, const frames *f)
{
    set_fact(r, "Training", f->train);
    skip_facts(r, "Training", f->train);
    if (f->validation) set_fact(r, "Validation", f->validation);
    if (f->val_listed) skip_facts(r, "Validation", f->validation);
    for (int i = 0; i < f->test_count; i++) {
        set_fact(r, f->test_names[i], f->tests[i]);
        skip_facts(r, f->test_names[i], f->tests[i]);
    }
    if (!f->validation && !f->test_count)
        report_fact(r, "Measured on", "nothing: no test sets, and no frames held out");
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

static void seed_fact(report *r, const settings *s)
{
    char text[MAX_SEEDS * 18] = "";
    int  used                 = 0;

    for (int i = 0; i < s->seed_count; i++) {
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%lld", i ? ", " : "",
                         (long long)s->seeds[i]);
    }
    if (s->seeds_text) {
        report_fact(r, "Seeds", "%s; split and teacher %lld", text, (long long)s->seed);
    } else {
        report_fact(r, "Seed", "%s", text);
    }
}

static void run_facts(report *r, const work *w)
{
    if (w->teaching.label) training_fact(r, "Run: teacher", &w->teaching);
    for (int i = 0; i < run_count(w); i++) {
        char *key = text_of("Run: %s", w->runs[i].label);

        training_fact(r, key, &w->runs[i]);
        free(key);
    }
}

static void grids_fact(report *r, const settings *s)
{
    const char *wide = s->wide ? s->wide : kdas_model_wide_layers(s->student);

    report_fact(r, "Integers",
                "layers on 8-bit grids but for %s; ranges of the last %g epochs stay",
                *wide && strcmp(wide, "none") ? wide : "none", s->freeze_ranges);
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
    report_fact(r, "Networks", "student %s%s%s%s; teacher %s%s%s", s->student,
                s->quantize ? " in int8" : "",
                s->student_weights || s->backbone_weights ? " from " : "",
                s->student_weights    ? s->student_weights
                : s->backbone_weights ? s->backbone_weights
                                      : "",
                w->teacher        ? s->teacher
                : s->teacher_maps ? "maps"
                                  : "none",
                w->teacher && s->teacher_weights ? " from " : "",
                w->teacher && s->teacher_weights ? s->teacher_weights : "");
    if (s->quantize) grids_fact(r, s);
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
    seed_fact(r, s);
    set_facts(r, &w->frames);
    run_facts(r, w);
    report_facts_end(r);
}

/* ---- The page -------------------------------------------------------------------------------- */

static char *lead_text(const work *w)
{
    const settings *s    = &w->settings;
    const history  *h    = &w->runs[run_count(w) - 1].history;
    double          made = h->epoch_count ? h->epochs[h->epoch_count - 1].epoch : 0;

    return text_of("%lld %s to train on, at %lldx%lld, %.3g epoch%s; objective%s %s.",
                   (long long)kdas_dataset_count(w->frames.train),
                   s->demo ? "synthetic frames" : "frames", (long long)s->size[0],
                   (long long)s->size[1], made, made == 1 ? "" : "s", w->row_count > 1 ? "s" : "",
                   s->presets_text);
}

bool page_write(const work *w, const cast *c)
{
    const settings *o     = &w->settings;
    const char     *int8  = o->quantize ? " in int8" : "";
    char           *path  = text_of("%s/report.html", o->out);
    char           *title = w->teacher ? text_of("%s%s, taught by %s", o->student, int8, o->teacher)
                            : o->teacher_maps ? text_of("%s%s, taught by maps", o->student, int8)
                                              : text_of("%s%s, without a teacher", o->student, int8);
    char           *lead = lead_text(w), *verdict = scores_verdict(&w->scores);
    report          r;
    bool            done = report_begin(&r, path, title, verdict, lead);

    if (done) {
        write_tiles(&r, w);
        write_scores(&r, w);
        write_curves(&r, w);
        done = write_pictures(&r, w, c);
        write_facts(&r, w);
        done = report_end(&r, done) && done;
    }
    if (done) printf("\nreport    %s\n", path);
    if (done && o->pictures && w->scores.stage.count) printf("pictures  %s/overlays\n", o->out);
    free(path);
    free(title);
    free(lead);
    free(verdict);
    return done;
}

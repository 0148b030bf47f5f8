/* report.c - the parts of report.html that only kdas-distill has: curves and tables. */
#include "distill/report/report.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "distill/report/chart.h"
#include "pictures/picture.h"
#include "system/say.h"

/* ---- Curves ---------------------------------------------------------------------------------- */

/* One number of every step; the member is given by its offset in step_point. */
static void step_lines(chart *c, const history *runs, const int *colours, int count, size_t offset)
{
    c->count = 0;
    for (int k = 0; k < count && c->count < CHART_SERIES; k++) {
        const history *h    = &runs[k];
        series        *line = &c->lines[c->count];
        bool           any  = false;

        *line   = (series){ .name = h->label, .colour = colours[k], .count = h->step_count };
        line->x = need((size_t)h->step_count * sizeof *line->x);
        line->y = need((size_t)h->step_count * sizeof *line->y);
        for (int64_t i = 0; i < h->step_count; i++) {
            line->x[i] = h->steps[i].epoch;
            memcpy(&line->y[i], (const char *)&h->steps[i] + offset, sizeof line->y[i]);
            any = any || line->y[i] != 0;
        }
        if (any) {
            c->count++;
        } else { /* a term that is off in this run is no curve at zero */
            free(line->x);
            free(line->y);
        }
    }
}

static void validation_lines(chart *c, const history *runs, const int *colours, int count)
{
    c->count = 0;
    for (int k = 0; k < count && c->count < CHART_SERIES; k++) {
        const history *h    = &runs[k];
        series        *line = &c->lines[c->count++];

        *line   = (series){ .name = h->label, .colour = colours[k] };
        line->x = need((size_t)h->epoch_count * sizeof *line->x);
        line->y = need((size_t)h->epoch_count * sizeof *line->y);
        for (int64_t i = 0; i < h->epoch_count; i++) {
            if (h->epochs[i].dice < 0) continue;
            line->x[line->count]   = h->epochs[i].epoch;
            line->y[line->count++] = h->epochs[i].dice;
        }
    }
}

static void write_and_free(report *r, chart *c)
{
    chart_write(r->file, c);
    for (int k = 0; k < c->count; k++) {
        free(c->lines[k].x);
        free(c->lines[k].y);
    }
}

void report_curves(report *r, const history *runs, const int *colours, int count)
{
    static const struct {
        const char *title;
        size_t      offset;
        bool        log_y, smooth;
    } shown[] = {
        { "Total loss", offsetof(step_point, total), false, true },
        { "Segmentation term", offsetof(step_point, raw[KDAS_TERM_SEG]), false, true },
        { "Distillation term (KD)", offsetof(step_point, raw[KDAS_TERM_KD]), true, true },
        { "Symmetrical structure term (SGM)", offsetof(step_point, raw[KDAS_TERM_SGM]), true,
          true },
        { "Feature term", offsetof(step_point, raw[KDAS_TERM_FEATURE]), true, true },
        { "Gradient sent by segmentation", offsetof(step_point, gradient[KDAS_TERM_SEG]), true,
          true },
        { "Gradient sent by KD", offsetof(step_point, gradient[KDAS_TERM_KD]), true, true },
        { "Gradient sent by SGM", offsetof(step_point, gradient[KDAS_TERM_SGM]), true, true },
        { "Gradient sent by features", offsetof(step_point, gradient[KDAS_TERM_FEATURE]), true,
          true },
        { "Learning rate", offsetof(step_point, lr), false, false },
    };
    chart c = { .title = "Validation Dice at 0.5", .x_label = "epoch", .dots = true };

    fputs("<ul class=\"legend\">", r->file);
    for (int k = 0; k < count; k++) {
        fprintf(r->file, "<li><i class=\"c%d\"></i>", colours[k]);
        html_element(r->file, "", runs[k].label, "</li>");
        for (int64_t i = 0; i < runs[k].step_count; i++)
            c.x_end = fmax(c.x_end, runs[k].steps[i].epoch);
    }
    fputs("</ul>\n<div class=\"grid2\">\n", r->file);
    validation_lines(&c, runs, colours, count);
    write_and_free(r, &c);
    c.dots = false;
    for (int i = 0; i < COUNT(shown); i++) {
        c.title  = shown[i].title;
        c.log_y  = shown[i].log_y;
        c.smooth = shown[i].smooth;
        step_lines(&c, runs, colours, count, shown[i].offset);
        write_and_free(r, &c);
    }
    fputs("</div>\n", r->file);
}

/* ---- Tables ---------------------------------------------------------------------------------- */

/* Figures that print alike share the place of honour. */
static bool is_top(const scores *s, int set, int model, kdas_metric metric)
{
    double mine = round(scores_get(s, set, model, metric).mean * 1000);

    for (int m = 0; m < s->models; m++) {
        double other = round(scores_get(s, set, m, metric).mean * 1000);

        if (metric == KDAS_METRIC_MAE ? other < mine : other > mine) return false;
    }
    return s->models > 1 && !isnan(mine);
}

static void write_row(report *r, const scores *s, int set, int model)
{
    html_element(r->file, "<tr><th>", s->model_names[model], "</th>");
    for (int k = 0; k < KDAS_METRICS; k++) {
        spread v = scores_get(s, set, model, (kdas_metric)k);

        fprintf(r->file, "<td%s>%.3f",
                is_top(s, set, model, (kdas_metric)k) ? " class=\"top\"" : "", v.mean);
        if (v.count > 1) fprintf(r->file, "<small>&plusmn;%.3f</small>", v.deviation);
        fputs("</td>", r->file);
    }
    fputs("</tr>\n", r->file);
}

void report_scores(report *r, const scores *s)
{
    for (int set = 0; set < s->stage.count; set++) {
        html_element(r->file, "<h3>", s->stage.names[set], "");
        fprintf(r->file,
                ", %lld frames</h3>\n<div class=\"table\"><table><thead><tr><th>model</th>",
                (long long)scores_cells(s, 0, 0)[set].frames);
        for (int k = 0; k < KDAS_METRICS; k++) {
            html_element(r->file, "<th>", kdas_metric_name((kdas_metric)k), "</th>");
        }
        fputs("</tr></thead><tbody>\n", r->file);
        for (int m = 0; m < s->models; m++)
            write_row(r, s, set, m);
        fputs("</tbody></table></div>\n", r->file);
    }
}

static void write_difference(report *r, const scores *s, int set, int model)
{
    paired p = scores_paired(s, set, model);

    fprintf(r->file, "<td%s>%+.3f<small>&plusmn;%.3f; %d of %d</small></td>",
            paired_is_clear(&p) && p.difference.mean > 0 ? " class=\"top\"" : "", p.difference.mean,
            p.difference.deviation, p.agree, p.difference.count);
}

void report_differences(report *r, const scores *s)
{
    if (s->baseline < 0 || s->seeds < 2) return;
    fputs("<h3>Mean Dice, difference to ", r->file);
    html_element(r->file, "", s->model_names[s->baseline],
                 "</h3>\n<div class=\"table narrow\"><table><thead><tr><th>model</th>");
    if (s->stage.count > 1) fputs("<th>mean of the sets</th>", r->file);
    for (int set = 0; set < s->stage.count; set++)
        html_element(r->file, "<th>", s->stage.names[set], "</th>");
    fputs("</tr></thead><tbody>\n", r->file);
    for (int m = s->students; m < s->models; m++) {
        if (!scores_compared(s, m)) continue;
        html_element(r->file, "<tr><th>", s->model_names[m], "</th>");
        for (int set = s->stage.count > 1 ? ALL_SETS : 0; set < s->stage.count; set++)
            write_difference(r, s, set, m);
        fputs("</tr>\n", r->file);
    }
    fputs("</tbody></table></div>\n", r->file);
}

/* ---- Pictures -------------------------------------------------------------------------------- */

void report_legend(report *r)
{
    const struct {
        colour      c;
        const char *text;
    } words[] = { { colour_truth, "truth" },
                  { colour_teacher, "teacher (in disagreement: the teacher alone)" },
                  { colour_student, "student (in disagreement: the student alone)" },
                  { colour_both, "both wrong" } };

    fputs("<ul class=\"legend\">", r->file);
    for (int i = 0; i < COUNT(words); i++) {
        fprintf(r->file, "<li><i class=\"patch\" style=\"background:#%02x%02x%02x\"></i>%s</li>",
                words[i].c.r, words[i].c.g, words[i].c.b, words[i].text);
    }
    fputs("</ul>\n", r->file);
}

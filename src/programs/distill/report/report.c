/* report.c - report.html, written from the top down. */
#include "distill/report/report.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "distill/report/chart.h"
#include "pictures/picture.h"
#include "system/files.h"
#include "system/say.h"

/* Colours c0 .. c5 of the curves agree with those of the pictures: teacher blue, student orange. */
static const char style[] =
    ":root{color-scheme:light "
    "dark;--page:#f7f8fa;--card:#fff;--ink:#1c2330;--soft:#5d6778;--line:#dfe3ea;"
    "--good:#e8f1ea;--c0:#2779b5;--c1:#d9730d;--c2:#3a8f5c;--c3:#9c4a97;--c4:#7a7f89;--c5:#a88400}"
    "\n"
    "@media(prefers-color-scheme:dark){:root{--page:#12151b;--card:#1a1e26;--ink:#e4e8ef;--soft:#"
    "98a2b3;"
    "--line:#2e3541;--good:#1f3328;--c0:#5db2ea;--c1:#ffa544;--c2:#68c48f;--c3:#d288cc;--c4:#"
    "a6adba;"
    "--c5:#d9bb4a}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);"
    "font:15px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',sans-serif}\n"
    "main{max-width:1180px;margin:0 auto;padding:40px 24px 72px}h1{font-size:27px;line-height:1.2;"
    "margin:0 0 6px;letter-spacing:-.01em}h2{font-size:19px;margin:44px 0 "
    "4px}h3{font-size:15px;margin:22px 0 8px}\n"
    ".verdict{font-size:17px;font-weight:600;margin:0 0 6px;max-width:80ch}small{display:block;"
    "font-size:11px;font-weight:400;color:var(--soft)}"
    ".lead,.text{color:var(--soft);margin:0 0 14px;max-width:80ch}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:"
    "24px 0}\n"
    ".tile,figure,.table,dl{background:var(--card);border:1px solid "
    "var(--line);border-radius:10px}\n"
    ".tile{padding:14px 16px}.tile b{display:block;font-size:25px;line-height:1.25;font-weight:600;"
    "font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:13px;display:block}\n"
    ".grid2{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:14px}\n"
    "figure{margin:0;padding:12px 14px "
    "8px}figcaption{font-size:13px;font-weight:600;margin-bottom:4px}\n"
    "svg{display:block;width:100%;height:auto}.tick,.mark{font-size:11px;fill:var(--soft);"
    "font-variant-numeric:tabular-nums}.mark{fill:var(--ink);font-weight:600}\n"
    ".grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.haze{fill:none;"
    "stroke-width:1;"
    "opacity:.28}.best{fill:none;stroke-width:1.5}\n"
    "path.c0,.best.c0{stroke:var(--c0)}path.c1,.best.c1{stroke:var(--c1)}path.c2,.best.c2{stroke:"
    "var(--c2)}"
    "path.c3,.best.c3{stroke:var(--c3)}path.c4,.best.c4{stroke:var(--c4)}path.c5,.best.c5{stroke:"
    "var(--c5)}\n"
    ".dot.c0{fill:var(--c0)}.dot.c1{fill:var(--c1)}.dot.c2{fill:var(--c2)}.dot.c3{fill:var(--c3)}"
    ".dot.c4{fill:var(--c4)}.dot.c5{fill:var(--c5)}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin:0 0 "
    "14px;padding:0;list-style:none;font-size:13px}"
    ".legend "
    "i{display:inline-block;width:22px;height:4px;border-radius:2px;margin-right:7px;vertical-"
    "align:middle}\n"
    "i.c0{background:var(--c0)}i.c1{background:var(--c1)}i.c2{background:var(--c2)}i.c3{background:"
    "var(--c3)}"
    "i.c4{background:var(--c4)}i.c5{background:var(--c5)}.legend "
    "i.patch{width:14px;height:14px;border-radius:3px;"
    "border:1px solid var(--line)}\n"
    ".table{overflow-x:auto}.narrow{width:fit-content;max-width:100%}table{border-collapse:"
    "collapse;width:100%;font-size:12.5px;"
    "font-variant-numeric:tabular-nums}th,td{padding:7px 6px;text-align:right;white-space:nowrap}"
    "th{color:var(--soft);font-weight:500}tr+tr td,tr+tr th{border-top:1px solid var(--line)}"
    "th:first-child{text-align:left;position:sticky;left:0;background:var(--card)}tbody "
    "th{color:var(--ink)}"
    "td.top{font-weight:700;background:var(--good)}\n"
    "figure.picture{margin-bottom:14px;padding:10px}figure.picture "
    "img{width:100%;height:auto;display:block;"
    "border-radius:6px}figure.picture figcaption{font-weight:400;color:var(--soft)}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 22px;padding:16px "
    "18px;margin:0;font-size:14px}"
    "dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}code{font:13px/1.5 ui-monospace,'SF "
    "Mono',Menlo,Consolas,monospace}\n"
    "@media(max-width:640px){main{padding:24px "
    "14px}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:10px}}\n"
    "@media print{figure,.tile,.table{break-inside:avoid}}\n";

static void element(FILE *file, const char *open, const char *text, const char *close)
{
    fputs(open, file);
    html_text(file, text);
    fputs(close, file);
}

bool report_begin(report *r, const char *path, const char *title, const char *verdict,
                  const char *subtitle)
{
    r->path = text_of("%s", path);
    r->part = text_of("%s.part", path);
    r->file = fopen(r->part, "w");
    if (!r->file) {
        say_error("cannot write '%s': %s", r->part, strerror(errno));
        free(r->path);
        free(r->part);
        return false;
    }
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
          r->file);
    element(r->file, "<title>", title, "</title>\n");
    fprintf(r->file, "<style>\n%s</style></head>\n<body><main>\n", style);
    element(r->file, "<h1>", title, "</h1>\n");
    if (verdict) element(r->file, "<p class=\"verdict\">", verdict, "</p>\n");
    element(r->file, "<p class=\"lead\">", subtitle, "</p>\n");
    return true;
}

bool report_end(report *r, bool keep)
{
    bool written;

    fputs("</main></body></html>\n", r->file);
    written = !ferror(r->file);
    if (fclose(r->file) != 0) written = false;
    if (written && keep && rename(r->part, r->path) != 0) written = false;
    if (!written) say_error("cannot write '%s': %s", r->path, strerror(errno));
    if (!written || !keep) remove(r->part);
    free(r->path);
    free(r->part);
    *r = (report){ 0 };
    return written;
}

void report_section(report *r, const char *title, const char *text)
{
    element(r->file, "<h2>", title, "</h2>\n");
    if (text) element(r->file, "<p class=\"text\">", text, "</p>\n");
}

void report_text(report *r, const char *text)
{
    element(r->file, "<p class=\"text\">", text, "</p>\n");
}

void report_tiles_begin(report *r) { fputs("<div class=\"tiles\">\n", r->file); }

void report_tile(report *r, const char *label, const char *figure, const char *note)
{
    element(r->file, "<div class=\"tile\"><span>", label, "</span>");
    element(r->file, "<b>", figure, "</b>");
    element(r->file, "<span>", note, "</span></div>\n");
}

void report_tiles_end(report *r) { fputs("</div>\n", r->file); }

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
        element(r->file, "", runs[k].label, "</li>");
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
    element(r->file, "<tr><th>", s->model_names[model], "</th>");
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
        element(r->file, "<h3>", s->stage.names[set], "");
        fprintf(r->file,
                ", %lld frames</h3>\n<div class=\"table\"><table><thead><tr><th>model</th>",
                (long long)scores_cells(s, 0, 0)[set].frames);
        for (int k = 0; k < KDAS_METRICS; k++) {
            element(r->file, "<th>", kdas_metric_name((kdas_metric)k), "</th>");
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
    element(r->file, "", s->model_names[s->baseline],
            "</h3>\n<div class=\"table narrow\"><table><thead><tr><th>model</th>");
    if (s->stage.count > 1) fputs("<th>mean of the sets</th>", r->file);
    for (int set = 0; set < s->stage.count; set++)
        element(r->file, "<th>", s->stage.names[set], "</th>");
    fputs("</tr></thead><tbody>\n", r->file);
    for (int m = s->students; m < s->models; m++) {
        if (!scores_compared(s, m)) continue;
        element(r->file, "<tr><th>", s->model_names[m], "</th>");
        for (int set = s->stage.count > 1 ? ALL_SETS : 0; set < s->stage.count; set++)
            write_difference(r, s, set, m);
        fputs("</tr>\n", r->file);
    }
    fputs("</tbody></table></div>\n", r->file);
}

/* ---- Pictures -------------------------------------------------------------------------------- */

static void write_base64(FILE *file, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < size; i += 3) {
        unsigned long word = (unsigned long)bytes[i] << 16;

        if (i + 1 < size) word |= (unsigned long)bytes[i + 1] << 8;
        if (i + 2 < size) word |= bytes[i + 2];
        fputc(digits[word >> 18 & 63], file);
        fputc(digits[word >> 12 & 63], file);
        fputc(i + 1 < size ? digits[word >> 6 & 63] : '=', file);
        fputc(i + 2 < size ? digits[word & 63] : '=', file);
    }
}

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

bool report_picture(report *r, const char *path, const char *type, const char *caption)
{
    size_t         size;
    unsigned char *bytes = file_bytes(path, &size);

    if (!bytes) return false;
    fputs("<figure class=\"picture\"><figcaption>", r->file);
    html_text(r->file, caption);
    fputs("</figcaption><img alt=\"", r->file);
    html_text(r->file, caption);
    fprintf(r->file, "\" src=\"data:%s;base64,", type);
    write_base64(r->file, bytes, size);
    fputs("\"></figure>\n", r->file);
    free(bytes);
    return true;
}

/* ---- Facts ----------------------------------------------------------------------------------- */

void report_facts_begin(report *r) { fputs("<dl>\n", r->file); }

void report_fact(report *r, const char *key, const char *format, ...)
{
    va_list list;
    char   *text;

    va_start(list, format);
    text = text_of_list(format, list);
    va_end(list);
    element(r->file, "<dt>", key, "</dt>");
    element(r->file, "<dd><code>", text, "</code></dd>\n");
    free(text);
}

void report_facts_end(report *r) { fputs("</dl>\n", r->file); }

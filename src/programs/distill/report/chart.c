/* chart.c - line charts as inline SVG; the page that holds them gives the colours. */
#include "distill/report/chart.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "html/page.h"
#include "system/say.h"

/* The picture and the frame of the axes in it, in SVG's units. */
enum { WIDTH = 400, HEIGHT = 220, LEFT = 52, RIGHT = 388, TOP = 12, BOTTOM = 186, POINTS = 300 };

/* ---- Axes ------------------------------------------------------------------------------------ */

typedef struct axes {
    double x_end, low, high, step; /* step: of y's marks, unless it runs in decades */
    bool   log_y;
} axes;

static double at_x(const axes *a, double x) { return LEFT + (RIGHT - LEFT) * x / a->x_end; }

static double at_y(const axes *a, double y)
{
    double part =
        a->log_y ? log(y / a->low) / log(a->high / a->low) : (y - a->low) / (a->high - a->low);

    return BOTTOM - (BOTTOM - TOP) * part;
}

static bool drawable(const chart *c, double y) { return isfinite(y) && (!c->log_y || y > 0); }

/* 1, 2 or 5 times a power of ten, so that about `wanted` steps make `span`. */
static double nice_step(double span, int wanted)
{
    double rough = span / wanted, power = pow(10, floor(log10(rough))), part = rough / power;

    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

static bool find_axes(const chart *c, axes *a)
{
    double low = INFINITY, high = -INFINITY;

    for (int k = 0; k < c->count; k++) {
        for (int64_t i = 0; i < c->lines[k].count; i++) {
            double y = c->lines[k].y[i];

            if (!drawable(c, y)) continue;
            low  = fmin(low, y);
            high = fmax(high, y);
        }
    }
    if (low > high) return false;
    *a = (axes){ .x_end = c->x_end > 0 ? c->x_end : 1, .log_y = c->log_y };
    if (c->log_y) {
        a->low  = pow(10, floor(log10(low)));
        a->high = pow(10, ceil(log10(high)));
        if (a->high / a->low < 9) a->high = 10 * a->low;
        return true;
    }
    if (low > 0 && low < 0.6 * high) low = 0;     /* a curve that falls far shows how far */
    if (high - low < 1e-12 + 1e-6 * fabs(high)) { /* a constant: leave room on both sides */
        low = low > 0 ? 0 : low - 1e-12 - 0.5 * fabs(low);
        high += 0.3 * fabs(high) + 1e-12;
    }
    a->step = nice_step(high - low, 4);
    a->low  = a->step * floor(low / a->step + 1e-9);
    a->high = a->step * ceil(high / a->step - 1e-9);
    return true;
}

static void write_axes(FILE *file, const chart *c, const axes *a)
{
    double x_step = nice_step(a->x_end, 5);
    int    ticks  = (int)lround(a->log_y ? log10(a->high / a->low) : (a->high - a->low) / a->step);
    int    skip   = a->log_y ? 1 + ticks / 6 : 1;

    for (int i = 0; i <= ticks; i += skip) {
        double value = a->log_y ? a->low * pow(10, i) : a->low + i * a->step;
        double y     = at_y(a, value);

        if (fabs(value) < 1e-9 * (a->high - a->low)) value = 0;
        fprintf(file, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, y, RIGHT);
        fprintf(file, "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n",
                LEFT - 6, y + 3.5, value);
    }
    if (x_step < 1 && a->x_end >= 1) x_step = 1;
    for (int i = 0; i * x_step <= a->x_end * (1 + 1e-9); i++) {
        fprintf(file,
                "<text class=\"tick\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>\n",
                at_x(a, i * x_step), BOTTOM + 15, i * x_step);
    }
    fprintf(file, "<path class=\"axis\" d=\"M%d %dH%d\"/>", LEFT, BOTTOM, RIGHT);
    fprintf(file, "<text class=\"tick\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", RIGHT, HEIGHT - 4);
    html_text(file, c->x_label);
    fputs("</text>\n", file);
}

/* ---- Lines ----------------------------------------------------------------------------------- */

/* At most POINTS points, each the mean of a run of neighbours. The caller frees x and y. */
static series thinned(const chart *c, const series *s)
{
    int64_t run = (s->count + POINTS - 1) / POINTS, used = 0;
    series  out = *s;

    out.count = 0;
    out.x     = need((size_t)(POINTS + 1) * sizeof *out.x);
    out.y     = need((size_t)(POINTS + 1) * sizeof *out.y);
    for (int64_t i = 0; i < s->count; i++) {
        if (drawable(c, s->y[i])) {
            out.x[out.count] += s->x[i];
            out.y[out.count] += s->y[i];
            used++;
        }
        if ((i + 1) % run && i + 1 < s->count) continue;
        if (!used) continue;
        out.x[out.count] /= (double)used;
        out.y[out.count] /= (double)used;
        out.count++;
        used = 0;
    }
    return out;
}

/* Mean over the points within `reach`, fewer at the ends. */
static double mean_around(const series *s, int64_t i, int64_t reach)
{
    int64_t span = reach;
    double  sum  = 0;

    if (i < span) span = i;
    if (s->count - 1 - i < span) span = s->count - 1 - i;
    for (int64_t k = i - span; k <= i + span; k++)
        sum += s->y[k];
    return sum / (double)(2 * span + 1);
}

static void write_path(FILE *file, const axes *a, const series *s, int64_t reach, const char *kind)
{
    fprintf(file, "<path class=\"%s c%d\" d=\"", kind, s->colour);
    for (int64_t i = 0; i < s->count; i++) {
        fprintf(file, "%c%.1f %.1f", i ? 'L' : 'M', at_x(a, s->x[i]),
                at_y(a, mean_around(s, i, reach)));
    }
    fputs("\"><title>", file);
    html_text(file, s->name);
    fputs("</title></path>\n", file);
}

static void write_dots(FILE *file, const axes *a, const series *s, bool alone)
{
    int64_t best = 0;

    for (int64_t i = 0; i < s->count; i++) {
        if (s->y[i] > s->y[best]) best = i;
        if (s->count <= 60) {
            fprintf(file, "<circle class=\"dot c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"2\"><title>",
                    s->colour, at_x(a, s->x[i]), at_y(a, s->y[i]));
            html_text(file, s->name);
            fprintf(file, " %g: %.4f</title></circle>", s->x[i], s->y[i]);
        }
    }
    fprintf(file, "<circle class=\"best c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/>", s->colour,
            at_x(a, s->x[best]), at_y(a, s->y[best]));
    if (alone) {
        double x = at_x(a, s->x[best]);

        fprintf(file, "<text class=\"mark\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%.3f</text>\n",
                x, at_y(a, s->y[best]) + 18,
                x > RIGHT - 30  ? "end"
                : x < LEFT + 30 ? "start"
                                : "middle",
                s->y[best]);
    }
}

static void write_line(FILE *file, const chart *c, const axes *a, const series *line, bool alone)
{
    series  s     = thinned(c, line);
    int64_t reach = c->smooth ? s.count / 40 : 0;

    if (s.count) {
        if (c->smooth && alone) write_path(file, a, &s, 0, "haze");
        write_path(file, a, &s, reach, "line");
        if (c->dots || s.count == 1) write_dots(file, a, &s, alone);
    }
    free(s.x);
    free(s.y);
}

void chart_write(FILE *file, const chart *c)
{
    axes a;
    int  shown = 0;

    if (!find_axes(c, &a)) return;
    for (int k = 0; k < c->count; k++)
        shown += c->lines[k].count > 0;
    fputs("<figure><figcaption>", file);
    html_text(file, c->title);
    fprintf(file, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH,
            HEIGHT);
    html_text(file, c->title);
    fputs("\">\n", file);
    write_axes(file, c, &a);
    for (int k = 0; k < c->count; k++)
        write_line(file, c, &a, &c->lines[k], shown == 1);
    fputs("</svg></figure>\n", file);
}

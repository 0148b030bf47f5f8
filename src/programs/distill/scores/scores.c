/* scores.c - figures of several models on several sets of frames, each with one or more
 * seeds. */
#include "distill/scores/scores.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "system/csv.h"
#include "system/output.h"
#include "system/say.h"

void scores_begin(scores *s, const stage *t, int models, int students, int seeds,
                  const int64_t *seed_values)
{
    *s             = (scores){ .stage       = *t,
                               .models      = models,
                               .students    = students,
                               .seeds       = seeds,
                               .baseline    = -1,
                               .seed_values = seed_values };
    s->model_names = need((size_t)models * sizeof *s->model_names);
    s->cells       = need((size_t)(models * seeds * t->count) * sizeof *s->cells);
}

void scores_end(scores *s)
{
    for (int i = 0; i < s->models * s->seeds * s->stage.count; i++)
        figures_free(&s->cells[i]);
    free(s->cells);
    free(s->model_names);
    *s = (scores){ 0 };
}

figures *scores_cells(const scores *s, int model, int seed)
{
    return s->cells + (size_t)(model * s->seeds + seed) * (size_t)s->stage.count;
}

int scores_seeds(const scores *s, int model) { return model < s->students ? 1 : s->seeds; }

/* ---- Over the seeds -------------------------------------------------------------------------- */

static double one(const scores *s, int set, int model, int seed, kdas_metric metric)
{
    const figures *cell = scores_cells(s, model, seed);
    double         sum  = 0;

    if (set != ALL_SETS) return cell[set].frames ? cell[set].value[metric] : NAN;
    for (int i = 0; i < s->stage.count; i++)
        sum += one(s, i, model, seed, metric);
    return sum / s->stage.count;
}

/* A value for each seed. The caller frees it. */
static double *each(const scores *s, int set, int model, kdas_metric metric)
{
    double *values = need((size_t)s->seeds * sizeof *values);

    for (int seed = 0; seed < scores_seeds(s, model); seed++)
        values[seed] = one(s, set, model, seed, metric);
    return values;
}

spread scores_get(const scores *s, int set, int model, kdas_metric metric)
{
    double *values = each(s, set, model, metric);
    spread  found  = spread_of(values, scores_seeds(s, model));

    free(values);
    return found;
}

bool scores_compared(const scores *s, int model)
{
    return s->baseline >= 0 && s->seeds > 1 && model >= s->students && model != s->baseline;
}

paired scores_paired(const scores *s, int set, int model)
{
    double *a = each(s, set, model, KDAS_METRIC_MEAN_DICE);
    double *b = each(s, set, s->baseline, KDAS_METRIC_MEAN_DICE);
    paired  p = paired_of(a, b, s->seeds);

    free(a);
    free(b);
    return p;
}

char *scores_verdict(const scores *s)
{
    int     rows   = s->models - s->students;
    double *values = need((size_t)(rows * s->seeds) * sizeof *values);
    contest c      = { .names    = s->model_names + s->students,
                       .values   = values,
                       .rows     = rows,
                       .seeds    = s->seeds,
                       .baseline = s->baseline < 0 ? -1 : s->baseline - s->students };
    char    text[600];

    for (int i = 0; i < rows * s->seeds; i++) {
        values[i] =
            one(s, ALL_SETS, s->students + i / s->seeds, i % s->seeds, KDAS_METRIC_MEAN_DICE);
    }
    if (s->stage.count && rows) contest_verdict(&c, text, sizeof text);
    free(values);
    return s->stage.count && rows ? text_of("%s", text) : NULL;
}

/* ---- The terminal ---------------------------------------------------------------------------- */

/* "0.753+-.006", or "0.753" of one seed. */
static void print_spread(spread v, bool sign, int wide)
{
    char text[48], tail[24];
    int  used = snprintf(text, sizeof text, sign ? "%+.3f" : "%.3f", v.mean);

    if (v.count > 1) {
        snprintf(tail, sizeof tail, "%.3f", v.deviation);
        snprintf(text + used, sizeof text - (size_t)used, "+-%s", tail + (tail[0] == '0'));
    }
    printf(" %*s", wide, text);
}

/* The figures that are quoted most; with a spread there is room for the first of them alone. */
static int quoted(const scores *s, const kdas_metric **out)
{
    static const kdas_metric plain[] = { KDAS_METRIC_MEAN_DICE, KDAS_METRIC_MEAN_IOU,
                                         KDAS_METRIC_WFM,       KDAS_METRIC_SM,
                                         KDAS_METRIC_MEAN_EM,   KDAS_METRIC_MAE,
                                         KDAS_METRIC_DICE_50,   KDAS_METRIC_IOU_50 };
    static const kdas_metric few[] = { KDAS_METRIC_MEAN_DICE, KDAS_METRIC_MEAN_IOU, KDAS_METRIC_WFM,
                                       KDAS_METRIC_MAE };

    *out = s->seeds > 1 ? few : plain;
    return s->seeds > 1 ? COUNT(few) : COUNT(plain);
}

static void print_set(const scores *s, int set, int name_wide)
{
    const kdas_metric *shown;
    int                columns = quoted(s, &shown), wide = s->seeds > 1 ? 11 : 8;

    printf("%*s", name_wide + 2, "");
    for (int k = 0; k < columns; k++)
        printf(" %*s", wide, kdas_metric_name(shown[k]));
    puts(s->seeds > 1 && s->baseline >= 0 ? "   Dice to baseline" : "");
    for (int m = 0; m < s->models; m++) {
        printf("  %-*s", name_wide, s->model_names[m]);
        for (int k = 0; k < columns; k++)
            print_spread(scores_get(s, set, m, shown[k]), false, wide);
        if (scores_compared(s, m)) {
            paired p = scores_paired(s, set, m);

            print_spread(p.difference, true, 13);
            printf(" %d/%d", p.agree, s->seeds);
        }
        putchar('\n');
    }
}

void scores_print(const scores *s)
{
    int   wide    = 8;
    char *verdict = scores_verdict(s);

    for (int m = 0; m < s->models; m++) {
        if ((int)strlen(s->model_names[m]) > wide) wide = (int)strlen(s->model_names[m]);
    }
    for (int set = 0; set < s->stage.count; set++) {
        printf("\n%s (%lld frames)\n", s->stage.names[set],
               (long long)scores_cells(s, 0, 0)[set].frames);
        print_set(s, set, wide);
    }
    if (s->stage.count > 1 && s->seeds > 1) {
        puts("\nmean of the sets");
        print_set(s, ALL_SETS, wide);
    }
    if (s->seeds > 1 && s->stage.count) {
        printf("\n+-: standard deviation over %d seeds%s\n", s->seeds,
               s->baseline < 0 ? "" : "; k/n: seeds whose difference has the sign of the mean");
    }
    if (verdict) printf("\n%s\n", verdict);
    free(verdict);
    fflush(stdout);
}

/* ---- Files ----------------------------------------------------------------------------------- */

typedef void (*write_fn)(const scores *s, FILE *file);

static bool write_file(const scores *s, const char *path, write_fn write)
{
    output to;

    if (!output_open(&to, path)) return false;
    write(s, to.file);
    return output_close(&to);
}

static void write_cell(const scores *s, FILE *file, int set, int model, int seed)
{
    const figures *cell = &scores_cells(s, model, seed)[set];

    if (!cell->frames) return;
    csv_text(file, s->stage.names[set]);
    fputc(',', file);
    csv_text(file, s->model_names[model]);
    fputc(',', file);
    if (model >= s->students) fprintf(file, "%lld", (long long)s->seed_values[seed]);
    fprintf(file, ",%lld,%lld", (long long)cell->frames, (long long)cell->empty);
    for (int k = 0; k < KDAS_METRICS; k++)
        fprintf(file, ",%.17g", cell->value[k]);
    fputc('\n', file);
}

static void write_cells(const scores *s, FILE *file)
{
    fputs("set,model,seed,frames,empty", file);
    for (int k = 0; k < KDAS_METRICS; k++)
        fprintf(file, ",%s", kdas_metric_name((kdas_metric)k));
    fputc('\n', file);
    for (int set = 0; set < s->stage.count; set++) {
        for (int model = 0; model < s->models; model++) {
            for (int seed = 0; seed < scores_seeds(s, model); seed++)
                write_cell(s, file, set, model, seed);
        }
    }
}

bool scores_write_csv(const scores *s, const char *path)
{
    return write_file(s, path, write_cells);
}

static void write_spread(FILE *file, spread v)
{
    fprintf(file, ",%.17g,", v.mean);
    if (v.count > 1) fprintf(file, "%.17g", v.deviation);
}

static void write_means(const scores *s, FILE *file)
{
    fputs("set,model,seeds,metric,mean,deviation,difference,difference_deviation,agree\n", file);
    for (int set = s->stage.count > 1 ? ALL_SETS : 0; set < s->stage.count; set++) {
        for (int i = 0; i < s->models * KDAS_METRICS; i++) {
            int         model  = i / KDAS_METRICS;
            kdas_metric metric = (kdas_metric)(i % KDAS_METRICS);

            csv_text(file, set < 0 ? "all" : s->stage.names[set]);
            fputc(',', file);
            csv_text(file, s->model_names[model]);
            fprintf(file, ",%d,%s", scores_seeds(s, model), kdas_metric_name(metric));
            write_spread(file, scores_get(s, set, model, metric));
            if (scores_compared(s, model) && metric == KDAS_METRIC_MEAN_DICE) {
                paired p = scores_paired(s, set, model);

                write_spread(file, p.difference);
                fprintf(file, ",%d\n", p.agree);
            } else {
                fputs(",,,\n", file);
            }
        }
    }
}

bool scores_write_summary(const scores *s, const char *path)
{
    return write_file(s, path, write_means);
}

/* common_scores.c - figures of several models on several sets of frames: printed, written,
 * compared. */
#include "common_scores.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common_say.h"

bool scores_begin(scores *s, kdas_context *context, int sets, int models)
{
    *s             = (scores){ .sets = sets, .models = models };
    s->set_names   = need((size_t)sets * sizeof *s->set_names);
    s->model_names = need((size_t)models * sizeof *s->model_names);
    s->cells       = need((size_t)(sets * models) * sizeof(kdas_evaluator *));
    for (int i = 0; i < sets * models; i++) {
        if (!ok(kdas_evaluator_create(&s->cells[i], context))) {
            scores_end(s);
            return false;
        }
    }
    return true;
}

void scores_end(scores *s)
{
    for (int i = 0; s->cells && i < s->sets * s->models; i++)
        kdas_evaluator_destroy(s->cells[i]);
    free(s->cells);
    free(s->set_names);
    free(s->model_names);
    *s = (scores){ 0 };
}

kdas_evaluator *scores_cell(const scores *s, int set, int model)
{
    return s->cells[set * s->models + model];
}

double scores_get(const scores *s, int set, int model, kdas_metric metric)
{
    const kdas_evaluator *cell = scores_cell(s, set, model);
    double                value;

    if (kdas_evaluator_count(cell) == 0) return NAN;
    return kdas_evaluator_get(cell, -1, metric, &value) == KDAS_OK ? value : NAN;
}

void scores_print(const scores *s)
{
    static const kdas_metric shown[] = { KDAS_METRIC_MEAN_DICE, KDAS_METRIC_MEAN_IOU,
                                         KDAS_METRIC_WFM,       KDAS_METRIC_SM,
                                         KDAS_METRIC_MEAN_EM,   KDAS_METRIC_MAE,
                                         KDAS_METRIC_DICE_50,   KDAS_METRIC_IOU_50 };
    int                      wide    = 8;

    for (int m = 0; m < s->models; m++) {
        if ((int)strlen(s->model_names[m]) > wide) wide = (int)strlen(s->model_names[m]);
    }
    for (int set = 0; set < s->sets; set++) {
        printf("\n%s (%lld frames)\n%*s", s->set_names[set],
               (long long)kdas_evaluator_count(scores_cell(s, set, 0)), wide + 2, "");
        for (int k = 0; k < COUNT(shown); k++)
            printf(" %8s", kdas_metric_name(shown[k]));
        putchar('\n');
        for (int m = 0; m < s->models; m++) {
            printf("  %-*s", wide, s->model_names[m]);
            for (int k = 0; k < COUNT(shown); k++)
                printf(" %8.3f", scores_get(s, set, m, shown[k]));
            putchar('\n');
        }
    }
    fflush(stdout);
}

bool scores_write_csv(const scores *s, const char *path)
{
    FILE *file = fopen(path, "w");
    bool  written;

    if (file) {
        fputs("set,model,frames,empty", file);
        for (int k = 0; k < KDAS_METRIC_COUNT; k++)
            fprintf(file, ",%s", kdas_metric_name((kdas_metric)k));
        fputc('\n', file);
        for (int i = 0; i < s->sets * s->models; i++) {
            int set = i / s->models, model = i % s->models;

            fprintf(file, "%s,%s,%lld,%lld", s->set_names[set], s->model_names[model],
                    (long long)kdas_evaluator_count(s->cells[i]),
                    (long long)kdas_evaluator_empty(s->cells[i]));
            for (int k = 0; k < KDAS_METRIC_COUNT; k++) {
                fprintf(file, ",%.17g", scores_get(s, set, model, (kdas_metric)k));
            }
            fputc('\n', file);
        }
    }
    written = file && !ferror(file);
    if (file && fclose(file) != 0) written = false;
    if (!written) say_error("cannot write '%s': %s", path, strerror(errno));
    return written;
}

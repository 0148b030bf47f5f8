/* figures.c - the figures of one model on one set of frames, and their file. */
#include "distill/scores/figures.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "system/files.h"
#include "system/output.h"
#include "system/say.h"

bool figures_take(figures *f, const kdas_evaluator *evaluator)
{
    bool done = true;

    *f      = (figures){ .frames = kdas_evaluator_count(evaluator),
                         .empty  = kdas_evaluator_empty(evaluator) };
    f->dice = need((size_t)f->frames * sizeof *f->dice);
    for (int k = 0; k < KDAS_METRICS && done; k++)
        done = ok(kdas_evaluator_get(evaluator, -1, (kdas_metric)k, &f->value[k]));
    for (int64_t i = 0; i < f->frames && done; i++)
        done = ok(kdas_evaluator_get(evaluator, i, KDAS_METRIC_DICE_50, &f->dice[i]));
    if (!done) figures_free(f);
    return done;
}

void figures_free(figures *f)
{
    free(f->dice);
    *f = (figures){ 0 };
}

/* ---- The file: lines of text ----------------------------------------------------------------- */

static char *first_lines(const char *key) { return text_of("kdas-distill figures 1\n%s\n", key); }

static char *set_line(const stage *t, int set)
{
    return text_of("set %s %016llx\n", t->names[set],
                   (unsigned long long)kdas_dataset_hash(t->sets[set]));
}

static void put(FILE *file, char *text)
{
    fputs(text, file);
    free(text);
}

bool figures_save(const figures *f, const stage *t, const char *key, const char *path)
{
    output to;

    if (!output_open(&to, path)) return false;
    put(to.file, first_lines(key));
    for (int set = 0; set < t->count; set++) {
        put(to.file, set_line(t, set));
        fprintf(to.file, "%lld %lld\n", (long long)f[set].frames, (long long)f[set].empty);
        for (int k = 0; k < KDAS_METRICS; k++)
            fprintf(to.file, "%.17g\n", f[set].value[k]);
        for (int64_t i = 0; i < f[set].frames; i++)
            fprintf(to.file, "%.17g\n", f[set].dice[i]);
    }
    fputs("end\n", to.file);
    return output_close(&to);
}

/* Step over `text`, which is freed; false where something else stands there. */
static bool take_text(const char **at, char *text)
{
    size_t length = strlen(text);
    bool   same   = !strncmp(*at, text, length);

    if (same) *at += length;
    free(text);
    return same;
}

static bool take_number(const char **at, double *out)
{
    char *end;

    *out = strtod(*at, &end);
    if (end == *at || (*end != '\n' && *end != ' ') || !isfinite(*out)) return false;
    *at = end + 1;
    return true;
}

static bool take_set(const char **at, figures *f, const stage *t, int set)
{
    int64_t frames = kdas_dataset_count(t->sets[set]);
    double  number[2];

    if (!take_text(at, set_line(t, set)) || !take_number(at, &number[0]) ||
        !take_number(at, &number[1]) || number[0] != (double)frames) {
        return false;
    }
    *f      = (figures){ .frames = frames, .empty = (int64_t)number[1] };
    f->dice = need((size_t)frames * sizeof *f->dice);
    for (int k = 0; k < KDAS_METRICS; k++)
        if (!take_number(at, &f->value[k])) return false;
    for (int64_t i = 0; i < frames; i++)
        if (!take_number(at, &f->dice[i]) || f->dice[i] < 0 || f->dice[i] > 1) return false;
    return true;
}

bool figures_load(figures *f, const stage *t, const char *key, const char *path)
{
    size_t         size;
    unsigned char *bytes = path_exists(path) ? file_bytes(path, &size) : NULL;
    char          *text;
    const char    *at;
    bool           same;

    if (!bytes) return false;
    at = text = text_of("%.*s", (int)size, (const char *)bytes);
    free(bytes);
    same = take_text(&at, first_lines(key));
    for (int set = 0; set < t->count && same; set++)
        same = take_set(&at, &f[set], t, set);
    same = same && !strcmp(at, "end\n");
    for (int set = 0; set < t->count && !same; set++)
        figures_free(&f[set]);
    free(text);
    return same;
}

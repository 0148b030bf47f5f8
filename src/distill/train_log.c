/* train_log.c - log.csv: every term of every epoch, for plots. The file is replaced as a whole, so
 * that it never ends in half a line, and a resumed run leaves no epoch twice. train.c calls this
 * file; it includes train.h for the rows, and calls nothing in train.c. */
#include <string.h>
#include "base/text.h"
#include "distill/train.h"
#include "io/file.h"

#define MAX_LOG (64u << 20) /* bytes */

enum { HEADER = 2048, LINE = 4096 };

/* Between the two there are three columns for each term: NAME_raw, NAME_weighted and
 * NAME_gradient. */
static const char first[] = "epoch,step,lr,total";
static const char last[] =
    ",images_per_second,seconds,waited,validation_dice,validation_loss,best,loss_scale,skipped\n";
/* The start of every version's header. Earlier versions may lack some of the later columns. */
static const char first_columns[] = "epoch,step,lr,total,seg_raw,";

static void write_header(char header[HEADER])
{
    int n = kd_format(header, HEADER, "%s", first);

    for (int t = 0; t < KDAS_TERMS; t++) {
        const char *name = kdas_term_name((kdas_term)t);

        n += kd_format(header + n, HEADER - (size_t)n, ",%s_raw,%s_weighted,%s_gradient", name,
                       name, name);
    }
    kd_format(header + n, HEADER - (size_t)n, "%s", last);
}

static kdas_status append(kd_train_log *log, const char *text, size_t n)
{
    KD_RETURN(kd_grow(log->ctx, (void **)&log->text, &log->capacity, log->used + n, 1));
    memcpy(log->text + log->used, text, n);
    log->used += n;
    return KDAS_OK;
}

static size_t cell_length(const char *cell) { return strcspn(cell, ",\n"); }

/* The cell of `line` in the column of `columns` whose name is the start of `name`; NULL: there is
 * no such column. */
static const char *find_cell(const char *columns, const char *line, const char *name)
{
    size_t length = cell_length(name);

    for (;;) {
        size_t wide = cell_length(columns), full = cell_length(line);

        if (wide == length && memcmp(columns, name, length) == 0) return line;
        if (columns[wide] != ',' || line[full] != ',') return NULL;
        columns += wide + 1;
        line += full + 1;
    }
}

/* Convert a line with other columns to ours. Missing columns are filled: the scale with 1,
 * the rest with 0. */
static kdas_status take_line(kd_train_log *log, const char *columns, const char *line)
{
    char header[HEADER];

    write_header(header);
    for (const char *name = header;; name += cell_length(name) + 1) {
        const char *cell = find_cell(columns, line, name);
        const char *end  = &name[cell_length(name)];

        if (!cell) cell = strncmp(name, "loss_scale,", 11) == 0 ? "1," : "0,";
        KD_RETURN(append(log, cell, cell_length(cell)));
        KD_RETURN(append(log, end, 1));
        if (*end == '\n') return KDAS_OK;
    }
}

/* Take over the whole lines of epochs 1 .. keep from a log of this kind, each once; another kind of
 * file is ignored. */
static kdas_status take_lines(kd_train_log *log, const char *text, int64_t keep, int64_t *taken)
{
    const char *line   = strchr(text, '\n'), *end;
    int64_t     before = 0;

    if (!line || strncmp(text, first_columns, strlen(first_columns)) != 0) return KDAS_OK;
    for (line++; (end = strchr(line, '\n')); line = end + 1) {
        const char *rest;
        int64_t     epoch;

        if (!kd_parse_whole(line, &rest, &epoch) || epoch <= before || epoch > keep) continue;
        KD_RETURN(take_line(log, text, line));
        before = epoch;
        ++*taken;
    }
    return KDAS_OK;
}

kdas_status kd_train_log_init(kd_train_log *log, kdas_context *ctx, const char *path, int64_t keep)
{
    char         header[HEADER];
    void        *text = NULL;
    size_t       size;
    int64_t      taken = 0;
    kd_path_kind kind;
    kdas_status  st = KDAS_OK;

    *log      = (kd_train_log){ .ctx = ctx };
    log->path = kd_strdup(ctx, path);
    if (!log->path) return KDAS_ENOMEM;
    write_header(header);
    KD_TRY(append(log, header, strlen(header)));
    KD_TRY(kd_look_at(&kind, path));
    if (kind == KD_PATH_FOLDER) {
        st = kd_fail(KDAS_EIO, "cannot write '%s': it is a folder", path);
        goto done;
    }
    if (keep < 1) goto done;
    if (kind == KD_PATH_FILE) {
        KD_TRY(kd_file_read_all(ctx, path, MAX_LOG, 1, &text, &size));
        KD_TRY(take_lines(log, text, keep, &taken));
    }
    if (taken < keep)
        kd_warn(ctx, "'%s' has only %lld of the %lld epochs before: the others stay missing", path,
                (long long)taken, (long long)keep);
done:
    kd_free(ctx, text);
    return st;
}

void kd_train_log_finish(kd_train_log *log)
{
    if (!log->ctx) return;
    kd_free(log->ctx, log->path);
    kd_free(log->ctx, log->text);
}

/* A cell that is empty where there was no validation. */
static const char *cell(char *to, size_t size, double value)
{
    if (value < 0) return "";
    kd_format(to, size, "%.9g", value);
    return to;
}

kdas_status kd_train_log_add(kd_train_log *log, const kd_train_row *row)
{
    const double *sum   = row->sum;
    double        steps = KD_MAX(sum[KD_SUM_STEPS], 1), seconds = sum[KD_SUM_SECONDS];
    char          line[LINE], dice[32], loss[32];
    int           n = kd_format(line, sizeof line, "%lld,%lld,%.9g,%.9g", (long long)row->epoch,
                                (long long)row->step, sum[KD_SUM_LR], sum[KD_SUM_TOTAL] / steps);

    for (int t = 0; t < KDAS_TERMS; t++)
        n += kd_format(line + n, sizeof line - (size_t)n, ",%.9g,%.9g,%.9g",
                       sum[KD_SUM_OF(t, KD_SUM_RAW)] / steps,
                       sum[KD_SUM_OF(t, KD_SUM_WEIGHTED)] / steps,
                       sum[KD_SUM_OF(t, KD_SUM_GRADIENT)] / steps);
    n += kd_format(line + n, sizeof line - (size_t)n, ",%.6g,%.6g,%.6g,%s,%s,%d,%.9g,%lld\n",
                   seconds > 0 ? sum[KD_SUM_IMAGES] / seconds : 0.0, seconds, sum[KD_SUM_WAITED],
                   cell(dice, sizeof dice, row->validation_dice),
                   cell(loss, sizeof loss, row->validation_loss), row->best, row->loss_scale,
                   (long long)row->skipped);
    KD_RETURN(append(log, line, (size_t)n));
    return kd_file_write_all(log->ctx, log->path, log->text, log->used);
}

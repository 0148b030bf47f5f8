/* train_log.c - log.csv: every term of every epoch, for plots. The file is replaced as a whole, so
 * that it never ends in half a line, and a resumed run leaves no epoch twice. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "distill/train.h"
#include "io/file.h"

#define MAX_LOG (64u << 20) /* bytes */

#define COLUMNS                                                                             \
    "epoch,step,lr,total,seg_raw,seg_weighted,seg_gradient,kd_raw,kd_weighted,kd_gradient," \
    "sgm_raw,sgm_weighted,sgm_gradient,images_per_second,seconds,waited,validation_dice,"   \
    "validation_loss,best"

static const char header[]     = COLUMNS ",loss_scale,skipped\n";
static const char old_header[] = COLUMNS "\n"; /* of before 0.3: the scale was 1 */

static kdas_status append(kd_train_log *log, const char *text, size_t n)
{
    KD_RETURN(kd_grow(log->ctx, (void **)&log->text, &log->capacity, log->used + n, 1));
    memcpy(log->text + log->used, text, n);
    log->used += n;
    return KDAS_OK;
}

/* Take over the whole lines of epochs 1 .. keep from a log of this kind; another file is let go. */
static kdas_status take_lines(kd_train_log *log, const char *text, int64_t keep)
{
    bool        old  = strncmp(text, old_header, strlen(old_header)) == 0;
    const char *rest = old ? ",1,0\n" : "\n", *line, *end;

    if (!old && strncmp(text, header, strlen(header)) != 0) return KDAS_OK;
    for (line = strchr(text, '\n') + 1; (end = strchr(line, '\n')); line = end + 1) {
        long long epoch = strtoll(line, NULL, 10);

        if (epoch < 1 || epoch > keep) continue;
        KD_RETURN(append(log, line, (size_t)(end - line)));
        KD_RETURN(append(log, rest, strlen(rest)));
    }
    return KDAS_OK;
}

kdas_status kd_train_log_init(kd_train_log *log, kdas_context *ctx, const char *path, int64_t keep)
{
    void       *text = NULL;
    size_t      size;
    kdas_status st = KDAS_OK;

    *log      = (kd_train_log){ .ctx = ctx };
    log->path = kd_strdup(ctx, path);
    if (!log->path) return KDAS_ENOMEM;
    KD_TRY(append(log, header, strlen(header)));
    if (keep < 1 || !kd_is_file(path)) goto done;
    KD_TRY(kd_file_read_all(ctx, path, MAX_LOG, 1, &text, &size));
    KD_TRY(take_lines(log, text, keep));
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
    snprintf(to, size, "%.9g", value);
    return to;
}

kdas_status kd_train_log_add(kd_train_log *log, const kd_train_row *row)
{
    const double *sum   = row->sum;
    double        steps = KD_MAX(sum[KD_SUM_STEPS], 1), seconds = sum[KD_SUM_SECONDS];
    char          line[1024], dice[32], loss[32];
    int           n = snprintf(line, sizeof line, "%lld,%lld,%.9g,%.9g", (long long)row->epoch,
                               (long long)row->step, sum[KD_SUM_LR], sum[KD_SUM_TOTAL] / steps);

    for (int t = 0; t < KDAS_TERMS; t++)
        n += snprintf(line + n, sizeof line - (size_t)n, ",%.9g,%.9g,%.9g",
                      sum[KD_SUM_RAW + t] / steps, sum[KD_SUM_WEIGHTED + t] / steps,
                      sum[KD_SUM_GRADIENT + t] / steps);
    n += snprintf(line + n, sizeof line - (size_t)n, ",%.6g,%.6g,%.6g,%s,%s,%d,%.9g,%lld\n",
                  seconds > 0 ? sum[KD_SUM_IMAGES] / seconds : 0.0, seconds, sum[KD_SUM_WAITED],
                  cell(dice, sizeof dice, row->validation_dice),
                  cell(loss, sizeof loss, row->validation_loss), row->best, row->loss_scale,
                  (long long)row->skipped);
    KD_RETURN(append(log, line, (size_t)n));
    return kd_file_write_all(log->ctx, log->path, log->text, log->used);
}

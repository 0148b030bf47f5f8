/* profile_table.c - where a figure's time goes: tables by op, by program and by node, against the machine's rates. */
#define KDAS_EXPERIMENTAL
#include "profile_table.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "arguments/context.h"
#include "settings.h"
#include "system/output.h"
#include "system/say.h"

enum { NODES = 20 }; /* in the table of the most expensive */

static kdas_profile_roofline roofline = { .size = sizeof roofline };
static kdas_precision half; /* the 16-bit type of networks, where roofline.gemm_bf16 is above 0 */
static output         tsv;
static double         threads; /* of the figure's context */

/* ---- The machine --------------------------------------------------------------------------------- */

static int measure_into(int pipe, const kdas_context_options *options)
{
    kdas_context *ctx;

    if (!ok(kdas_context_create(&ctx, options)) ||
        !ok(kdas_profile_measure_roofline(ctx, &roofline)))
        return 1;
    half = kdas_context_precision(ctx);
    if (half == KDAS_PRECISION_INT8) half = KDAS_PRECISION_BF16; /* of what is not integers */
    return write(pipe, &roofline, sizeof roofline) != sizeof roofline ||
           write(pipe, &half, sizeof half) != sizeof half;
}

/* A child, because the largest memory that a process ever had is what its figures report. */
bool profile_roofline(const kdas_context_options *options)
{
    int   ends[2], status = 0;
    pid_t child;
    bool  good;

    fflush(NULL);
    if (pipe(ends) || (child = fork()) < 0) {
        say_error("cannot start a process to measure the machine");
        return false;
    }
    if (child == 0) _exit(measure_into(ends[1], options));
    close(ends[1]);
    good = read(ends[0], &roofline, sizeof roofline) == sizeof roofline &&
           read(ends[0], &half, sizeof half) == sizeof half;
    close(ends[0]);
    waitpid(child, &status, 0);
    return good && !status; /* else the child has said why */
}

void profile_print_roofline(void)
{
    printf("# measured: gemm %.1f GFLOP/s (f32), ", 1e-9 * roofline.gemm);
    if (roofline.gemm_bf16 > 0)
        printf("%.1f GFLOP/s (%s), ", 1e-9 * roofline.gemm_bf16, precision_word(half));
    if (roofline.gemm_int8 > 0) printf("%.1f GOP/s (int8), ", 1e-9 * roofline.gemm_int8);
    printf("triad %.1f GB/s\n", 1e-9 * roofline.triad);
}

/* ---- The file ------------------------------------------------------------------------------------ */

bool profile_open(void)
{
    if (!set.profile_tsv) return true;
    if (!output_open(&tsv, set.profile_tsv)) return false;
    fputs("figure\truns\tprogram\top\tnode\tpart\tcalls\tseconds\tflop\tbytes\tprecision\tidle\n",
          tsv.file);
    return true;
}

bool profile_close(bool keep)
{
    if (!tsv.file) return true;
    if (keep) return output_close(&tsv);
    output_drop(&tsv);
    return true;
}

/* ---- Sums ---------------------------------------------------------------------------------------- */

typedef struct sum {
    const char *name, *part, *more; /* more: what stands at the line's end */
    double      calls, seconds, flop, bytes;
    double      least; /* seconds that the machine's rates leave at best */
    double      idle;  /* thread-seconds */
} sum;

/* A node is bound by its operations or its bytes, whichever take longer. */
static double least_seconds(const kdas_profile_row *r)
{
    bool   in_half = roofline.gemm_bf16 > 0 && r->precision == (int32_t)half;
    double rate    = in_half ? roofline.gemm_bf16 : roofline.gemm, work, moves;

    if (r->precision == KDAS_PRECISION_INT8 && roofline.gemm_int8 > 0) rate = roofline.gemm_int8;
    work  = r->flop / rate;
    moves = r->bytes / roofline.triad;
    return work > moves ? work : moves;
}

static void add(sum *to, const kdas_profile_row *r)
{
    to->calls += (double)r->calls;
    to->seconds += r->seconds;
    to->flop += r->flop;
    to->bytes += r->bytes;
    to->least += least_seconds(r);
    to->idle += r->idle;
}

/* The sum of this name and part among `count`; a new one at their end if there is none. */
static sum *sum_for(sum *sums, int *count, const char *name, const char *part)
{
    for (int i = 0; i < *count; i++)
        if (!strcmp(sums[i].name, name) && !strcmp(sums[i].part, part)) return &sums[i];
    sums[*count] = (sum){ .name = name, .part = part, .more = "" };
    return &sums[(*count)++];
}

static int dearest_first(const void *a, const void *b)
{
    double x = ((const sum *)a)->seconds, y = ((const sum *)b)->seconds;

    return (x < y) - (x > y);
}

/* ---- Tables -------------------------------------------------------------------------------------- */

static void print_sum(const sum *s, int width, double all, int64_t runs)
{
    double t = s->seconds > 0 ? s->seconds : 1e-12; /* below the clock's grain */

    printf("# %-*s  %-8s %8.1f %10.3f %5.1f%% %8.1f %7.1f %7.0f%% %4.0f%%%s%s\n", width, s->name,
           s->part, s->calls / (double)runs, 1e3 * s->seconds / (double)runs,
           100 * s->seconds / all, 1e-9 * s->flop / t, 1e-9 * s->bytes / t, 100 * s->least / t,
           100 * s->idle / (t * threads), *s->more ? "  " : "", s->more);
}

/* The dearest `most`, of those that take a thousandth of the time or more; the rest as one line. */
static void print_table(const char *title, sum *sums, int count, int most, int64_t runs)
{
    double all   = 0;
    int    width = (int)strlen(title), shown = 0;
    sum    rest = { .name = "(rest)", .part = "", .more = "" };

    for (int i = 0; i < count; i++)
        all += sums[i].seconds;
    qsort(sums, (size_t)count, sizeof *sums, dearest_first);
    for (; shown < count && shown < most && sums[shown].seconds >= 0.001 * all; shown++)
        if ((int)strlen(sums[shown].name) > width) width = (int)strlen(sums[shown].name);
    printf("#\n# %-*s  %-8s %8s %10s %6s %8s %7s %8s %5s\n", width, title, "part", "calls", "ms",
           "share", "GFLOP/s", "GB/s", "roofline", "idle");
    for (int i = 0; i < count; i++) {
        if (i < shown) {
            print_sum(&sums[i], width, all, runs);
            continue;
        }
        rest.calls += sums[i].calls;
        rest.seconds += sums[i].seconds;
        rest.flop += sums[i].flop;
        rest.bytes += sums[i].bytes;
        rest.least += sums[i].least;
        rest.idle += sums[i].idle;
    }
    if (shown < count) print_sum(&rest, width, all, runs);
}

static void print_tables(const kdas_profile_row *rows, int count, int64_t runs)
{
    sum *sums = need((size_t)count * sizeof *sums);
    int  used = 0;

    for (int i = 0; i < count; i++)
        add(sum_for(sums, &used, rows[i].op, kdas_profile_part_name(rows[i].part)), &rows[i]);
    print_table("op", sums, used, used, runs);
    used = 0;
    for (int i = 0; i < count; i++)
        add(sum_for(sums, &used, *rows[i].program ? rows[i].program : "(outside)",
                    kdas_profile_part_name(rows[i].part)),
            &rows[i]);
    print_table("program", sums, used, used, runs);
    for (int i = 0; i < count; i++) {
        sums[i] = (sum){ .name = *rows[i].node ? rows[i].node : rows[i].op,
                         .part = kdas_profile_part_name(rows[i].part),
                         .more = rows[i].program };
        add(&sums[i], &rows[i]);
    }
    print_table("node", sums, count, NODES, runs);
    puts("#");
    free(sums);
}

/* The calls of a run in their order, each with the time at which it begins where the ones before take their means. */
static void print_timeline(const kdas_profile_row *rows, int count)
{
    double at = 0;

    printf("# %10s %8s %5s %8s  %-8s  %s\n", "begin ms", "ms", "idle", "roofline", "part",
           "timeline");
    for (int i = 0; i < count; i++) {
        const kdas_profile_row *r = &rows[i];
        double mean = r->seconds / (double)r->calls, t = r->seconds > 0 ? r->seconds : 1e-12;

        printf("# %10.3f %8.3f %4.0f%% %7.0f%%  %-8s  %s  %s\n", 1e3 * at, 1e3 * mean,
               100 * r->idle / (t * threads), 100 * least_seconds(r) / t,
               kdas_profile_part_name(r->part), *r->node ? r->node : r->op, r->program);
        at += mean;
    }
    puts("#");
}

static void write_rows(const figure *f, const kdas_profile_row *rows, int count)
{
    for (int i = 0; tsv.file && i < count; i++) {
        const kdas_profile_row *r = &rows[i];

        fprintf(tsv.file, "%s\t%lld\t%s\t%s\t%s\t%s\t%lld\t%.9f\t%.0f\t%.0f\t%s\t%.9f\n", f->name,
                (long long)set.reps, r->program, r->op, r->node, kdas_profile_part_name(r->part),
                (long long)r->calls, r->seconds, r->flop, r->bytes, precision_word(r->precision),
                r->idle);
    }
}

static void print_share(const figure *f, double seconds)
{
    double rate = f->flop / seconds,
           best = roofline.gemm_bf16 > 0 ? roofline.gemm_bf16 : roofline.gemm;

    printf("# %s: %.1f GFLOP of multiply-accumulates, %.1f GFLOP/s, %.1f%% of the %s%sgemm rate\n",
           f->name, 1e-9 * f->flop, 1e-9 * rate, 100 * rate / best,
           roofline.gemm_bf16 > 0 ? precision_word(half) : "", roofline.gemm_bf16 > 0 ? " " : "");
}

bool profile_figure(kdas_context *ctx, const figure *f, double seconds)
{
    kdas_profile_row *rows;
    double            start, wall, inside = 0;
    int               count;
    bool              good;

    if (!ok(kdas_context_profile(ctx, 1)) || !f->run(f->state) || !ok(kdas_profile_reset(ctx)))
        return false;
    good    = true;
    threads = kdas_context_threads(ctx);
    start   = now();
    for (int64_t i = 0; good && i < set.reps; i++)
        good = f->run(f->state);
    wall  = now() - start;
    good  = ok(kdas_context_profile(ctx, 0)) && good;
    count = kdas_profile_count(ctx);
    rows  = need((size_t)count * sizeof *rows);
    for (int i = 0; good && i < count; i++) {
        rows[i].size = sizeof rows[i];
        good         = ok(kdas_profile_at(ctx, i, &rows[i]));
        inside += rows[i].seconds;
    }
    if (good) {
        print_share(f, seconds);
        printf("# profiled: %.3f ms a run, %.1f%% of it in rows. Roofline: the least time that the "
               "measured "
               "rates allow, of the time taken.\n",
               1e3 * wall / (double)set.reps, 100 * inside / wall);
        print_tables(rows, count, set.reps);
        if (set.timeline) print_timeline(rows, count);
        write_rows(f, rows, count);
    }
    free(rows);
    return good;
}

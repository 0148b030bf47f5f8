/* stats.c - what several seeds tell. */
#include "distill/scores/stats.h"
#include <math.h>
#include <stdio.h>

spread spread_of(const double *values, int count)
{
    spread s   = { .count = count, .mean = NAN, .deviation = NAN };
    double sum = 0, squares = 0;

    for (int i = 0; i < count; i++)
        sum += values[i];
    if (count > 0) s.mean = sum / count;
    for (int i = 0; i < count; i++)
        squares += (values[i] - s.mean) * (values[i] - s.mean);
    if (count > 1) s.deviation = sqrt(squares / (count - 1));
    return s;
}

/* Mean and squares as in spread_of, of differences that are stored nowhere. */
paired paired_of(const double *a, const double *b, int count)
{
    paired p   = { .difference = { .count = count, .mean = NAN, .deviation = NAN } };
    double sum = 0, squares = 0;

    for (int i = 0; i < count; i++)
        sum += a[i] - b[i];
    if (count > 0) p.difference.mean = sum / count;
    for (int i = 0; i < count; i++) {
        double off = a[i] - b[i] - p.difference.mean;

        squares += off * off;
        p.agree += sum > 0 ? a[i] > b[i] : sum < 0 ? a[i] < b[i] : a[i] == b[i];
    }
    if (count > 1) p.difference.deviation = sqrt(squares / (count - 1));
    return p;
}

double student_t(int freedom)
{
    static const double table[] = {
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
        2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
        2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    };
    int last = (int)(sizeof table / sizeof *table);

    if (freedom < 1) return INFINITY;
    return table[(freedom < last ? freedom : last) - 1];
}

bool paired_is_clear(const paired *p)
{
    const spread *d = &p->difference;

    if (d->count < 2 || p->agree < d->count) return false;
    return fabs(d->mean) > student_t(d->count - 1) * d->deviation / sqrt(d->count);
}

/* ---- Which row is ahead ---------------------------------------------------------------------- */

static const double *row_of(const contest *c, int row)
{
    return c->values + (size_t)row * (size_t)c->seeds;
}

/* The row of the largest mean but for `without`. */
static int best_but(const contest *c, int without)
{
    int    best      = -1;
    double best_mean = 0;

    for (int row = 0; row < c->rows; row++) {
        double mean = spread_of(row_of(c, row), c->seeds).mean;

        if (row == without || isnan(mean)) continue;
        if (best < 0 || mean > best_mean) {
            best      = row;
            best_mean = mean;
        }
    }
    return best;
}

int contest_leader(const contest *c)
{
    int best = best_but(c, -1);

    return best < 0 ? 0 : best;
}

static void one_seed(const contest *c, int leader, int other, char *text, size_t size)
{
    snprintf(
        text, size,
        "%s has the highest mean Dice, %.3f (%s: %.3f); one seed does not tell whether that is "
        "chance (--seeds 1,2,3).",
        c->names[leader], row_of(c, leader)[0], c->names[other], row_of(c, other)[0]);
}

static void several_seeds(const contest *c, int leader, int other, char *text, size_t size)
{
    paired p    = paired_of(row_of(c, leader), row_of(c, other), c->seeds);
    int    next = best_but(c, leader), used;

    if (!paired_is_clear(&p)) {
        snprintf(text, size,
                 "No row is clearly ahead: %s and %s are %.3f apart in mean Dice, with a spread of "
                 "%.3f over %d seeds (%d of %d agree).",
                 c->names[leader], c->names[other], p.difference.mean, p.difference.deviation,
                 c->seeds, p.agree, c->seeds);
        return;
    }
    used = snprintf(text, size,
                    "%s is ahead of %s by %.3f mean Dice (spread %.3f over %d seeds; all %d agree)",
                    c->names[leader], c->names[other], p.difference.mean, p.difference.deviation,
                    c->seeds, c->seeds);
    if (used < 0 || (size_t)used >= size) return;
    p = paired_of(row_of(c, leader), row_of(c, next), c->seeds);
    if (next == other || paired_is_clear(&p)) {
        snprintf(text + used, size - (size_t)used, ".");
    } else {
        snprintf(text + used, size - (size_t)used,
                 ", but not clearly of %s (%.3f, spread %.3f, %d of %d agree).", c->names[next],
                 p.difference.mean, p.difference.deviation, p.agree, c->seeds);
    }
}

void contest_verdict(const contest *c, char *text, size_t size)
{
    int    leader = contest_leader(c);
    int    other  = c->baseline >= 0 && c->baseline != leader ? c->baseline : best_but(c, leader);
    spread s      = spread_of(row_of(c, leader), c->seeds);

    if (other >= 0 && c->seeds > 1) {
        several_seeds(c, leader, other, text, size);
    } else if (other >= 0) {
        one_seed(c, leader, other, text, size);
    } else if (c->seeds > 1) {
        snprintf(text, size, "%s has a mean Dice of %.3f (spread %.3f over %d seeds).",
                 c->names[leader], s.mean, s.deviation, c->seeds);
    } else {
        snprintf(text, size, "%s has a mean Dice of %.3f.", c->names[leader], s.mean);
    }
}

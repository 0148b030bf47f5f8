/* part.c - an evaluation of a part of a batch, of which other ranks have the rest. All terms are means over images, so the
 * term of the whole batch is the sum of the parts' terms, each times its part of the images; and as gradients have that
 * factor too, the squares of their norms are sums over the parts. */
#include <math.h>
#include <string.h>
#include "loss/loss.h"

static double whole_norm(const kd_loss_part *part, double squares)
{
    return sqrt(squares) / part->scale;
}

int kd_loss_part_votes(const kdas_loss *loss, int maps)
{
    uint32_t terms = 0;

    for (int i = 0; kd_share_on(loss) && i < maps; i++)
        terms |= kd_loss_terms(loss, i, maps);
    for (int t = 0; t < KDAS_TERMS; t++)
        if (t != KDAS_TERM_SEG && (terms >> t & 1) && loss->share[t].count == 0) return 1;
    return 0;
}

kdas_status kd_loss_part_vote(kdas_loss *loss, kdas_status mine, double squares[KDAS_TERMS])
{
    kd_loss_part *part = loss->part;
    kdas_status   st   = kd_ranks_vote_sum(part->ranks, mine, squares, KDAS_TERMS);

    part->votes--;
    if (st == KDAS_OK) return st;
    part->agreed = true;
    return st;
}

void kd_loss_part_keep(kdas_loss *loss, int t, double raw, double squares, double times)
{
    kd_loss_part *part = loss->part;

    part->on |= 1u << t;
    part->raw[t]     = raw;
    part->squares[t] = squares;
    part->factor[t]  = kd_share_factor(loss, t);
    part->times[t]   = times;
}

static void warn_of_zero(kdas_loss *loss, int t)
{
    if (!(loss->part->measured >> t & 1) || loss->part->squares[t] != 0 || loss->warned[t]) return;
    loss->warned[t] = true;
    kd_warn(loss->ctx,
            "the %s term is switched on but sends a gradient of exactly zero to the student",
            kd_term_names[t]);
}

/* The sums are in part->raw and part->squares. */
static void report(kdas_loss *loss, kdas_loss_report *to)
{
    const kd_loss_part *part = loss->part;

    to->total = 0;
    for (int t = 0; t < KDAS_TERMS; t++) {
        bool on = part->on >> t & 1;

        to->on[t]       = on;
        to->raw[t]      = on ? part->raw[t] : 0;
        to->weighted[t] = on ? kd_loss_weight(loss, t) * part->factor[t] * part->raw[t] : 0;
        to->gradient[t] = on ? whole_norm(part, part->squares[t]) * part->times[t] : 0;
        to->total += to->weighted[t];
    }
    to->terms = KDAS_TERMS;
}

kdas_status kd_loss_part_finish(kdas_loss *loss, kdas_status mine, kdas_loss_report *to)
{
    kd_loss_part *part = loss->part;
    double        sum[2 * KDAS_TERMS], seg;

    for (int t = 0; t < KDAS_TERMS; t++) {
        sum[t]              = part->raw[t] * part->part;
        sum[KDAS_TERMS + t] = part->squares[t];
    }
    KD_RETURN(kd_ranks_vote_sum(part->ranks, mine, sum, 2 * KDAS_TERMS));
    memcpy(part->raw, sum, sizeof part->raw);
    memcpy(part->squares, sum + KDAS_TERMS, sizeof part->squares);
    if (to) report(loss, to);
    seg = whole_norm(part, part->squares[KDAS_TERM_SEG]);
    if (part->noted) loss->seg_norm = seg;
    for (int t = 0; t < KDAS_TERMS; t++) {
        warn_of_zero(loss, t);
        if (part->noted >> t & 1) kd_share_note(loss, t, seg, whole_norm(part, part->squares[t]));
    }
    return KDAS_OK;
}

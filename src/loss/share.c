/* share.c - limits of guidance: running means of the norms, and the factors computed from them. */
#include <math.h>
#include <string.h>
#include "loss/loss.h"

#define DECAY 0.9

static double share_limit(const kdas_loss *loss, int term)
{
    return (double)(term == KDAS_TERM_FEATURE ? loss->options.feature_share : loss->options.share);
}

bool kd_share_on(const kdas_loss *loss)
{
    return loss->options.share > 0 || loss->options.feature_share > 0;
}

bool kd_share_limits(const kdas_loss *loss, int term) { return share_limit(loss, term) > 0; }

bool kd_loss_guides(const kdas_loss *loss) { return loss->factor > 0; }

double kd_share_factor(const kdas_loss *loss, int term)
{
    const kd_share *s     = &loss->share[term];
    double          limit = 1;

    if (term == KDAS_TERM_SEG) return 1;
    if (kd_share_limits(loss, term) && s->count > 0 && s->term > 0)
        limit = KD_MIN(1, share_limit(loss, term) * s->seg / s->term);
    return limit * loss->factor;
}

void kd_share_note(kdas_loss *loss, int term, double seg_norm, double term_norm)
{
    kd_share *s = &loss->share[term];

    if (!isfinite(seg_norm) || !isfinite(term_norm)) return;
    s->seg  = s->count ? DECAY * s->seg + (1 - DECAY) * seg_norm : seg_norm;
    s->term = s->count ? DECAY * s->term + (1 - DECAY) * term_norm : term_norm;
    s->count++;
}

/* ---- for hosts ---- */

kdas_status kdas_loss_mark(kdas_loss *loss)
{
    if (!loss) return kd_fail(KDAS_EINVAL, "kdas_loss_mark: the loss is NULL");
    memcpy(loss->mark, loss->share, sizeof loss->mark);
    loss->marked = true;
    return KDAS_OK;
}

kdas_status kdas_loss_rollback(kdas_loss *loss)
{
    if (!loss) return kd_fail(KDAS_EINVAL, "kdas_loss_rollback: the loss is NULL");
    if (!loss->marked)
        return kd_fail(KDAS_ESTATE, "kdas_loss_rollback: no kdas_loss_mark() comes before it");
    memcpy(loss->share, loss->mark, sizeof loss->share);
    return KDAS_OK;
}

/* sampling.c - epochs with a share of empty frames, those without a polyp. A kind has n frames and
 * k places in an epoch. Each frame comes k / n times (rounded down). k mod n of them, drawn anew
 * for every epoch, come once more. */
#include "base/context.h"
#include "data/loader.h"

kdas_status kd_sampling_init(kd_loader_plan *plan, double share)
{
    kdas_context *ctx   = plan->dataset->ctx;
    uint8_t      *empty = kd_alloc(ctx, (size_t)plan->frames);
    kdas_status   st    = KDAS_OK;
    bool          is;

    if (!empty) return KDAS_ENOMEM;
    plan->empties = 0;
    for (int64_t i = 0; i < plan->frames; i++) {
        KD_TRY(kd_dataset_empty(&is, plan->dataset, i));
        empty[i] = is;
        plan->empties += is;
    }
    if (plan->empties == 0 || plan->empties == plan->frames) {
        kd_warn(
            ctx,
            "%s of the %lld frames has an empty mask: empty_share is %g, and they come as they are",
            plan->empties ? "every one" : "none", (long long)plan->frames, share);
        goto done;
    }
    plan->ask   = (int64_t)(share * (double)plan->frames + 0.5);
    plan->empty = empty;
    empty       = NULL;
done:
    kd_free(ctx, empty);
    return st;
}

/* Frames of a kind that are left, and how many of them come once more. */
typedef struct kind {
    int64_t times, left, extra;
} kind;

static kind kind_make(int64_t frames, int64_t wanted)
{
    return (kind){ wanted / frames, frames, wanted % frames };
}

/* How often the next frame of a kind comes: of `left` frames, `extra` are chosen, each choice as
 * likely. */
static int64_t times_of(kind *k, kd_random *r)
{
    bool chosen = kd_random_below(r, k->left--) < k->extra;

    k->extra -= chosen;
    return k->times + chosen;
}

void kd_sampling_views(const kd_loader_plan *plan, kd_random *r, int64_t *order)
{
    kind kinds[2] = { kind_make(plan->frames - plan->empties, plan->frames - plan->ask),
                      kind_make(plan->empties, plan->ask) };

    for (int64_t i = 0; i < plan->frames; i++) {
        int64_t times = times_of(&kinds[plan->empty[i]], r);

        for (int64_t k = 0; k < times; k++)
            *order++ = i + k * plan->frames;
    }
}

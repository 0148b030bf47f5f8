/* settings.c - a segmenter's options: defaults, ranges, and what its weights say. */
#include <string.h>
#include "infer/segmenter.h"

void kdas_segmenter_options_init(kdas_segmenter_options *options, size_t size)
{
    kdas_segmenter_options defaults = { .size = size, .threshold = KDAS_THRESHOLD_OWN };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

static kdas_status check_deadline(const kdas_segmenter_options *o)
{
    if (!(o->frame_deadline >= 0 && o->frame_deadline <= KD_DEADLINE_MOST))
        return kd_fail(KDAS_EINVAL, "segmenter: frame_deadline is %g seconds, not 0 to %g",
                       o->frame_deadline, KD_DEADLINE_MOST);
    if (o->repeat_limit < 1 || o->repeat_limit > KD_DEADLINE_MOST_REPEATS)
        return kd_fail(KDAS_EINVAL, "segmenter: repeat_limit is %d, not 1 to %d, or 0 for %d",
                       (int)o->repeat_limit, KD_DEADLINE_MOST_REPEATS, KD_DEADLINE_REPEATS);
    return KDAS_OK;
}

static kdas_status check_options(const kdas_segmenter_options *o)
{
    if (!(o->threshold >= 0 && o->threshold <= 1))
        return kd_fail(KDAS_EINVAL, "segmenter: threshold is %g, not 0 to 1", (double)o->threshold);
    if (!(o->smoothing >= 0 && o->smoothing < 1))
        return kd_fail(KDAS_EINVAL, "segmenter: smoothing is %g, not from 0 to below 1",
                       (double)o->smoothing);
    if (!(o->hysteresis >= 0 && o->hysteresis <= o->threshold))
        return kd_fail(KDAS_EINVAL, "segmenter: hysteresis is %g, not 0 to the threshold of %g",
                       (double)o->hysteresis, (double)o->threshold);
    KD_RETURN(check_deadline(o));
    if (o->frame_height == 0 && o->frame_width == 0) return KDAS_OK;
    if (o->frame_height < 1 || o->frame_width < 1 || o->frame_height > KDAS_IMAGE_MAX_SIDE ||
        o->frame_width > KDAS_IMAGE_MAX_SIDE)
        return kd_fail(KDAS_EINVAL, "segmenter: frames of %lldx%lld; sides are 1 to %d, or both 0",
                       (long long)o->frame_width, (long long)o->frame_height, KDAS_IMAGE_MAX_SIDE);
    return KDAS_OK;
}

/* Say, once for each model and size, that its weights expect another size, or that it is a
 * guess. */
static void compare_size(const kdas_segmenter_options *o, kdas_model *m, bool guess)
{
    int64_t height, width;
    bool    known = kdas_model_input_size(m, &height, &width);
    bool    wrong = known && (o->height != height || o->width != width);

    if (!(wrong || guess) || (m->warned[0] == o->height && m->warned[1] == o->width)) return;
    m->warned[0] = o->height;
    m->warned[1] = o->width;
    if (wrong)
        kd_warn(m->ctx,
                "'%s' runs at %lldx%lld, but its weights were trained at %lldx%lld (height x "
                "width)",
                m->def->name, (long long)o->height, (long long)o->width, (long long)height,
                (long long)width);
    else
        kd_warn(m->ctx,
                "'%s' runs at the default size of %lldx%lld: its weights do not say for which size "
                "they were trained",
                m->def->name, (long long)o->height, (long long)o->width);
}

/* Say where the weights were trained on colours of another scale or order. */
static void compare_colours(const kdas_model *m)
{
    static const char *const inputs[][2] = { { "mean", KDAS_INPUT_MEAN },
                                             { "deviation", KDAS_INPUT_DEVIATION },
                                             { "colour", KDAS_INPUT_COLOUR } };

    for (size_t i = 0; i < KD_COUNT(inputs); i++) {
        const char *fact = kdas_model_fact(m, inputs[i][0]);

        if (fact && strcmp(fact, inputs[i][1]) != 0)
            kd_warn(m->ctx,
                    "the weights of '%s' were trained with the %s '%.64s', but get inputs with "
                    "'%s'",
                    m->def->name, inputs[i][0], fact, inputs[i][1]);
    }
}

/* What the host leaves open is taken from the weights. */
kdas_status kd_segmenter_settle(kdas_segmenter_options *o, kdas_model *m)
{
    bool own = o->height == 0 && o->width == 0, known = true;

    if (own) known = kdas_model_input_size(m, &o->height, &o->width);
    if (o->repeat_limit == 0) o->repeat_limit = KD_DEADLINE_REPEATS;
    if (o->threshold == KDAS_THRESHOLD_OWN) o->threshold = kdas_model_threshold(m);
    KD_RETURN(kd_check_size(m->def, 1, o->height, o->width));
    KD_RETURN(check_options(o));
    compare_size(o, m, own && !known);
    compare_colours(m);
    return KDAS_OK;
}

/* options.c - the objective's settings: defaults, presets, checks.
 * It and loss.c call each other: create() frees a loss when it fails, evaluations read its
 * needs. */
#include <math.h>
#include <string.h>
#include "base/process.h"
#include "base/text.h"
#include "loss/feature.h"
#include "loss/loss.h"

void kdas_loss_options_init(kdas_loss_options *options, size_t size)
{
    kdas_loss_options defaults = { .size            = size,
                                   .seg             = "bce_dice",
                                   .guidance        = "attention+sgm",
                                   .sym             = "covariance",
                                   .axis            = "spatial",
                                   .tau             = 2,
                                   .seg_weight      = 1,
                                   .guidance_weight = 0.2f,
                                   .input           = "logits",
                                   .similarity      = "dot",
                                   .distance        = "kl",
                                   .pair            = "deep",
                                   .kd_weight       = 1,
                                   .sgm_weight      = 1,
                                   .share           = KDAS_SHARE_OFF,
                                   .feature         = "none",
                                   .feature_weight  = 1,
                                   .feature_tau     = 4,
                                   .feature_share   = KDAS_SHARE_OFF };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

#define MEMBER(member)                                       \
    {                                                        \
        "loss." #member, offsetof(kdas_loss_options, member) \
    }
const kd_loss_member kd_loss_texts[KD_LOSS_TEXTS] = {
    MEMBER(seg),        MEMBER(guidance), MEMBER(sym),     MEMBER(axis),         MEMBER(input),
    MEMBER(similarity), MEMBER(distance), MEMBER(feature), MEMBER(feature_taps), MEMBER(pair)
};
const kd_loss_member kd_loss_numbers[KD_LOSS_NUMBERS] = {
    MEMBER(tau),          MEMBER(seg_weight), MEMBER(guidance_weight), MEMBER(kd_weight),
    MEMBER(sgm_weight),   MEMBER(share),      MEMBER(feature_weight),  MEMBER(feature_tau),
    MEMBER(feature_share)
};

const char **kd_loss_text(kdas_loss_options *o, int i)
{
    return (const char **)((char *)o + kd_loss_texts[i].offset);
}

float *kd_loss_number(kdas_loss_options *o, int i)
{
    return (float *)((char *)o + kd_loss_numbers[i].offset);
}

/* ---- presets ---- */

/* Differences from the defaults. An omitted name or number keeps the default. */
static const struct {
    const char       *name;
    kdas_loss_options o;
} presets[] = {
    { "paper", { 0 } },
    { "baseline", { .guidance = "none" } },
    { "kl", { .guidance = "kl" } },
    { "attention", { .guidance = "attention" } },
    { "published_code",
      { .seg             = "structure_published",
        .guidance        = "published",
        .sym             = "sum",
        .axis            = "channel",
        .seg_weight      = 0.7f,
        .guidance_weight = 0.3f } },
    { "feature", { .guidance = "none", .feature = "channel" } },
    { "kdas",
      { .guidance        = "kl",
        .axis            = "pixel",
        .guidance_weight = 0.05f,
        .share           = 0.5f,
        .feature         = "channel",
        .feature_weight  = 3 } },
};

kdas_status kdas_loss_options_preset(kdas_loss_options *options, const char *preset)
{
    if (!options || !preset)
        return kd_fail(KDAS_EINVAL, "kdas_loss_options_preset: an argument is NULL");
    if (options->size < sizeof options->size)
        return kd_fail(KDAS_EINVAL, "kdas_loss_options: call the init function first");
    for (size_t i = 0; i < KD_COUNT(presets); i++) {
        kdas_loss_options o, change = presets[i].o;

        if (strcmp(presets[i].name, preset) != 0) continue;
        kdas_loss_options_init(&o, sizeof o);
        for (int k = 0; k < KD_LOSS_TEXTS; k++)
            if (*kd_loss_text(&change, k)) *kd_loss_text(&o, k) = *kd_loss_text(&change, k);
        for (int k = 0; k < KD_LOSS_NUMBERS; k++)
            if (*kd_loss_number(&change, k) != 0)
                *kd_loss_number(&o, k) = *kd_loss_number(&change, k);
        o.size = options->size;
        memcpy(options, &o, KD_MIN(o.size, sizeof o));
        return KDAS_OK;
    }
    return kd_fail(KDAS_ENOTFOUND, "there is no preset '%.32s'", preset);
}

/* ---- in words ---- */

static bool same_text(const char *a, const char *b) { return strcmp(a ? a : "", b ? b : "") == 0; }

/* How many members differ; each as " NAME VALUE" behind a comma, if there is room for text. */
static int differences(kdas_loss_options *o, kdas_loss_options *preset, char *text, size_t size)
{
    int    count = 0;
    size_t used  = 0;

    for (int k = 0; k < KD_LOSS_TEXTS; k++) {
        const char *value = *kd_loss_text(o, k);

        if (same_text(value, *kd_loss_text(preset, k))) continue;
        if (used < size)
            used += (size_t)kd_format(text + used, size - used, "%s %s %s", count ? "," : " with",
                                      strchr(kd_loss_texts[k].name, '.') + 1,
                                      value ? value : "(default)");
        count++;
    }
    for (int k = 0; k < KD_LOSS_NUMBERS; k++) {
        double value = (double)*kd_loss_number(o, k);

        if (*kd_loss_number(o, k) == *kd_loss_number(preset, k)) continue;
        if (used < size)
            used += (size_t)kd_format(text + used, size - used,
                                      value == (double)KDAS_SHARE_OFF ? "%s %s off" : "%s %s %.9g",
                                      count ? "," : " with",
                                      strchr(kd_loss_numbers[k].name, '.') + 1, value);
        count++;
    }
    return count;
}

kdas_status kdas_loss_options_describe(const kdas_loss_options *options, char *text, size_t size)
{
    kdas_loss_options o, preset = { .size = sizeof preset };
    int               fewest = KD_LOSS_TEXTS + KD_LOSS_NUMBERS + 1;
    size_t            best   = 0, used;

    if (!options || !text || size == 0)
        return kd_fail(KDAS_EINVAL, "kdas_loss_options_describe: an argument is NULL or 0");
    kdas_loss_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_loss_options"));
    for (size_t i = 0; i < KD_COUNT(presets); i++) {
        int count;

        KD_RETURN(kdas_loss_options_preset(&preset, presets[i].name));
        count = differences(&o, &preset, NULL, 0);
        if (count >= fewest) continue;
        fewest = count;
        best   = i;
    }
    KD_RETURN(kdas_loss_options_preset(&preset, presets[best].name));
    used = (size_t)kd_format(text, size, "%s", presets[best].name);
    if (used < size) differences(&o, &preset, text + used, size - used);
    return KDAS_OK;
}

/* ---- checks ---- */

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

/* `names`: the valid names, each followed by a space. */
static kdas_status check_name(const char *names, const char *name, const char *what)
{
    size_t length = strlen(name);

    for (const char *at = names; *at; at += strcspn(at, " ") + 1)
        if (strcspn(at, " ") == length && memcmp(at, name, length) == 0) return KDAS_OK;
    return kd_fail(KDAS_ENOTFOUND, "there is no %s '%.32s'", what, name);
}

static kdas_status check_names(const kdas_loss_options *o)
{
    if (!o->seg || !o->guidance || !o->sym || !o->axis)
        return kd_fail(KDAS_EINVAL, "loss: seg, guidance, sym or axis is NULL");
    if (!o->input || !o->similarity || !o->distance || !o->pair || !o->feature)
        return kd_fail(KDAS_EINVAL, "loss: input, similarity, distance, pair or feature is NULL");
    KD_RETURN(check_name("covariance sum correlation ", o->sym, "symmetrical structure"));
    KD_RETURN(check_name("spatial row channel pixel ", o->axis, "axis"));
    KD_RETURN(check_name("logits probability standardised ", o->input, "input of the guidance"));
    KD_RETURN(check_name("dot cosine ", o->similarity, "similarity"));
    KD_RETURN(check_name("kl squared pearson ", o->distance, "distance"));
    return kd_feature_find(o->feature) ? KDAS_OK : KDAS_ENOTFOUND;
}

static kdas_status check_weight(const char *name, float weight)
{
    if (weight >= 0 && weight < 1e9f) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "loss: %s is %g, not from 0 to below 1e9", name, (double)weight);
}

static kdas_status check_share(const char *name, float share, const kdas_loss_options *o)
{
    if (share == KDAS_SHARE_OFF) return KDAS_OK;
    if (!(share > 0 && share < 1e9f))
        return kd_fail(KDAS_EINVAL,
                       "loss: %s is %g, not above 0; KDAS_SHARE_OFF (%g) sets no limit", name,
                       (double)share, (double)KDAS_SHARE_OFF);
    if (o->seg_weight == 0)
        return kd_fail(KDAS_EINVAL, "loss: %s is a part of what seg sends, but seg_weight is 0",
                       name);
    return KDAS_OK;
}

static kdas_status check_numbers(const kdas_loss_options *o)
{
    if (!(o->tau > 0 && o->tau < 1e6f))
        return kd_fail(KDAS_EINVAL, "loss: tau is %g, not above 0", (double)o->tau);
    if (!(o->feature_tau > 0 && o->feature_tau < 1e6f))
        return kd_fail(KDAS_EINVAL, "loss: feature_tau is %g, not above 0", (double)o->feature_tau);
    KD_RETURN(check_weight("seg_weight", o->seg_weight));
    KD_RETURN(check_weight("guidance_weight", o->guidance_weight));
    KD_RETURN(check_weight("kd_weight", o->kd_weight));
    KD_RETURN(check_weight("sgm_weight", o->sgm_weight));
    KD_RETURN(check_weight("feature_weight", o->feature_weight));
    KD_RETURN(check_share("share", o->share, o));
    return check_share("feature_share", o->feature_share, o);
}

/* Combinations without a defined distance. docs/objective.md has the rules. */
static kdas_status check_together(const kdas_loss_options *o)
{
    if (is(o->guidance, "none")) return KDAS_OK;
    if (is(o->guidance, "published") && (!is(o->distance, "kl") || is(o->axis, "pixel")))
        return kd_fail(KDAS_EINVAL,
                       "loss: guidance \"published\" is what the published code computes: it takes "
                       "no distance \"%s\" over axis \"%s\"",
                       o->distance, o->axis);
    if (is(o->distance, "pearson") && !is(o->axis, "spatial") && !is(o->axis, "row"))
        return kd_fail(KDAS_EINVAL,
                       "loss: distance \"pearson\" wants axis \"spatial\" or \"row\", as one value "
                       "(\"%s\") has no correlation",
                       o->axis);
    if (!is(o->distance, "kl") || !is(o->axis, "pixel")) return KDAS_OK;
    if (!is(o->input, "logits"))
        return kd_fail(KDAS_EINVAL, "loss: axis \"pixel\" reads logits, not input \"%s\"",
                       o->input);
    if (is(o->guidance, "attention+sgm"))
        return kd_fail(KDAS_EINVAL, "loss: axis \"pixel\" has no meaning for the structure that "
                                    "the SGM compares: its entries are no logits of a pixel");
    return KDAS_OK;
}

/* ---- the objective itself ---- */

/* From here on the loss owns the strings. */
static kdas_status keep_texts(kdas_loss *loss)
{
    for (int i = 0; i < KD_LOSS_TEXTS; i++) {
        const char **at = kd_loss_text(&loss->options, i);

        if (!*at) continue;
        loss->text[i] = kd_strdup(loss->ctx, *at);
        if (!loss->text[i]) return KDAS_ENOMEM;
        *at = loss->text[i];
    }
    return KDAS_OK;
}

kdas_status kdas_loss_create(kdas_loss **out, kdas_context *ctx, const kdas_loss_options *options)
{
    kdas_loss_options  o;
    kdas_loss         *loss;
    const kd_guidance *guidance;
    const kd_seg      *seg;
    kd_pair            pair;

    if (!out) return kd_fail(KDAS_EINVAL, "kdas_loss_create: out is NULL");
    *out = NULL;
    if (!ctx) return kd_fail(KDAS_EINVAL, "kdas_loss_create: the context is NULL");
    KD_RETURN(kd_check_process(ctx));
    kdas_loss_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_loss_options"));
    KD_RETURN(kd_check_reserved(o.reserved, "kdas_loss_options"));
    KD_RETURN(check_names(&o));
    KD_RETURN(check_numbers(&o));
    if (!kd_pair_find(o.pair, &pair)) return KDAS_ENOTFOUND;
    if (!(seg = kd_seg_find(o.seg)) || !(guidance = kd_guidance_find(o.guidance)))
        return KDAS_ENOTFOUND;
    KD_RETURN(check_together(&o));
    loss = kd_calloc(ctx, 1, sizeof *loss);
    if (!loss) return KDAS_ENOMEM;
    loss->ctx          = ctx;
    loss->options      = o;
    loss->seg          = seg;
    loss->guidance     = guidance;
    loss->pair         = pair;
    loss->factor       = 1;
    loss->arena        = kd_arena_create(ctx);
    loss->weight_arena = kd_arena_create(ctx);
    loss->results      = kd_device_alloc(ctx, sizeof *loss->results);
    if (!loss->arena || !loss->weight_arena || !loss->results || keep_texts(loss) != KDAS_OK) {
        kdas_loss_destroy(loss);
        return KDAS_ENOMEM;
    }
    *out = loss;
    return KDAS_OK;
}

int32_t kdas_loss_needs_teacher(const kdas_loss *loss)
{
    return loss && (loss->guidance->kd || loss->guidance->sgm);
}

int32_t kdas_loss_needs_taps(const kdas_loss *loss)
{
    return loss && !is(loss->options.feature, "none") && loss->options.feature_weight > 0;
}

kdas_status kdas_loss_set_guidance_factor(kdas_loss *loss, double factor)
{
    if (!loss) return kd_fail(KDAS_EINVAL, "kdas_loss_set_guidance_factor: the loss is NULL");
    if (!(factor >= 0 && factor < 1e9))
        return kd_fail(KDAS_EINVAL, "loss: a guidance factor of %g is not 0 or above", factor);
    loss->factor = factor;
    return KDAS_OK;
}

double kdas_loss_guidance_factor(const kdas_loss *loss) { return loss ? loss->factor : NAN; }

kdas_context *kdas_loss_context(const kdas_loss *loss) { return loss ? loss->ctx : NULL; }

kdas_status kdas_loss_get_options(const kdas_loss *loss, kdas_loss_options *options)
{
    if (!loss) return kd_fail(KDAS_EINVAL, "kdas_loss_get_options: the loss is NULL");
    return kd_give_options(options, &loss->options, sizeof loss->options, "kdas_loss_options");
}

/* mask_rule.c - the rule for a set of mask files. A single file can be read in several ways (is a
 * mask of 0 and 3 class numbers, or noise?), so all files of a set decide together. */
#include "image/mask.h"
#include <string.h>
#include "base/context.h"

#define SOFT_CUT \
    16 /* a lossless file with many levels, the dimmest area twice as bright: soft edges */
#define CURE "choose the mask rule yourself (--mask-rule in the programs)"

const char *kdas_mask_rule_name(kdas_mask_rule rule)
{
    switch (rule) {
    case KDAS_MASK_AUTO: return "auto";
    case KDAS_MASK_BRIGHT: return "bright";
    case KDAS_MASK_NONZERO: return "nonzero";
    case KDAS_MASK_COLOUR: return "colour";
    case KDAS_MASK_ALPHA: return "alpha";
    }
    return NULL;
}

/* The first file of each kind, -1: none. */
typedef struct firsts {
    int64_t kind[KD_MASK_KINDS], alpha[KD_ALPHA_MIXED + 1];
    int64_t any, doubt;
    int64_t graded; /* dim, with JPEG's noise or soft edges: NONZERO would take them, too */
    bool    background;
} firsts;

static void note(int64_t *first, int64_t i)
{
    if (*first < 0) *first = i;
}

static firsts look(const kd_mask_set *set)
{
    firsts f;

    memset(&f, -1, sizeof f);
    f.background = false;
    for (int64_t i = 0; i < set->count; i++) {
        const kd_mask_survey *s = set->survey(set->user, i);

        if (!s) continue;
        note(&f.any, i);
        note(&f.kind[s->kind], i);
        if (s->alpha != KD_ALPHA_CLEAR || s->luma > 0) /* else it is empty by any rule */
            note(&f.alpha[s->alpha], i);
        if (s->lossy ? s->kind == KD_MASK_DIM || s->kind == KD_MASK_NOISE
                     : s->kind == KD_MASK_DIM && s->cut >= SOFT_CUT)
            note(&f.graded, i);
        if (s->doubt) note(&f.doubt, i);
        f.background |= s->background;
    }
    return f;
}

static const char *path_of(const kd_mask_set *set, int64_t i) { return set->path(set->user, i); }

static kdas_status no_background(const kd_mask_set *set, const firsts *f)
{
    return kd_fail(KDAS_EFORMAT,
                   "'%s' has no black pixel, and neither has another mask of its set, so it is not "
                   "clear what is background; make the background black, or " CURE,
                   path_of(set, f->any));
}

/* Some file has transparent pixels. */
static kdas_status rule_of_alpha(kdas_mask_rule *out, const kd_mask_set *set, const firsts *f)
{
    bool mixed  = f->alpha[KD_ALPHA_MIXED] >= 0;
    bool opaque = f->alpha[KD_ALPHA_OPAQUE] >= 0;

    if (!mixed && !opaque) {
        *out = KDAS_MASK_ALPHA;
        return KDAS_OK;
    }
    if (!mixed && f->alpha[KD_ALPHA_DARK] >= 0)
        return kd_fail(KDAS_EFORMAT,
                       "'%s' is black where it is not transparent, but '%s' of the same set has "
                       "nothing transparent: it is not clear whether alpha is the mask; save all "
                       "masks alike, or " CURE,
                       path_of(set, f->alpha[KD_ALPHA_DARK]),
                       path_of(set, f->alpha[KD_ALPHA_OPAQUE]));
    *out = KDAS_MASK_COLOUR;
    return f->background ? KDAS_OK : no_background(set, f);
}

/* Some file is grey with white, and none has colours. */
static kdas_status rule_of_white(kdas_mask_rule *out, const kd_mask_set *set, const firsts *f)
{
    int64_t dim = f->kind[KD_MASK_DIM];

    if (f->doubt >= 0)
        return kd_fail(KDAS_EFORMAT,
                       "'%s' has areas of the grey level %d and brighter ones, up to %d, and it is "
                       "not clear whether the darker ones are polyp; " CURE
                       ": 'bright' counts only values above 127, 'colour' all that is not black",
                       path_of(set, f->doubt), set->survey(set->user, f->doubt)->doubt,
                       set->survey(set->user, f->doubt)->level);
    if (dim >= 0)
        return kd_fail(KDAS_EFORMAT,
                       "the brightest value of '%s' is %d, but that of '%s' is %d: the masks of "
                       "one set have different scales, so it is not clear what is polyp; save all "
                       "as 0 and 255, or " CURE
                       ": 'bright' counts only values above 127, 'colour' all that is not black",
                       path_of(set, dim), set->survey(set->user, dim)->level,
                       path_of(set, f->kind[KD_MASK_LIGHT]),
                       set->survey(set->user, f->kind[KD_MASK_LIGHT])->level);
    *out = KDAS_MASK_BRIGHT;
    return KDAS_OK;
}

kdas_status kd_mask_set_rule(kdas_mask_rule *out, const kd_mask_set *set)
{
    firsts f    = look(set);
    bool   seen = f.alpha[KD_ALPHA_CLEAR] < 0 && f.alpha[KD_ALPHA_DRAWN] < 0 &&
                f.alpha[KD_ALPHA_DARK] < 0 && f.alpha[KD_ALPHA_MIXED] < 0;

    if (!seen) return rule_of_alpha(out, set, &f);
    if (f.kind[KD_MASK_COLOURED] < 0 && f.kind[KD_MASK_LIGHT] >= 0)
        return rule_of_white(out, set, &f);
    if (f.kind[KD_MASK_COLOURED] < 0 && f.kind[KD_MASK_DIM] < 0) {
        *out = KDAS_MASK_BRIGHT; /* nothing, or noise */
        return KDAS_OK;
    }
    if (!f.background) return no_background(set, &f);
    *out = f.kind[KD_MASK_COLOURED] >= 0 || f.graded >= 0 ? KDAS_MASK_COLOUR : KDAS_MASK_NONZERO;
    return KDAS_OK;
}

/* ---- Public ---------------------------------------------------------------------------------- */

/* Files of a host. */
typedef struct listed {
    const char *const *path;
    kd_mask_survey    *survey;
} listed;

static const char *listed_path(const void *user, int64_t i)
{
    return ((const listed *)user)->path[i];
}

static const kd_mask_survey *listed_survey(const void *user, int64_t i)
{
    return &((const listed *)user)->survey[i];
}

kdas_status kdas_mask_find_rule(kdas_context *context, const char *const *paths, int64_t count,
                                kdas_mask_rule *out)
{
    kdas_status    st    = KDAS_OK;
    listed         files = { paths, NULL };
    kdas_mask_rule rule;

    if (!context || !paths || !out)
        return kd_fail(KDAS_EINVAL, "kdas_mask_find_rule: the %s is NULL",
                       !context ? "context"
                       : !paths ? "list of paths"
                                : "rule");
    if (count < 1)
        return kd_fail(KDAS_EINVAL, "kdas_mask_find_rule: there are %lld files", (long long)count);
    files.survey = kd_calloc(context, (size_t)count, sizeof *files.survey);
    if (!files.survey) return KDAS_ENOMEM;
    for (int64_t i = 0; i < count; i++) {
        if (!paths[i]) {
            st = kd_fail(KDAS_EINVAL, "kdas_mask_find_rule: path %lld is NULL", (long long)i);
            goto done;
        }
        KD_TRY(kd_mask_survey_file(&files.survey[i], context, paths[i]));
    }
    KD_TRY(kd_mask_set_rule(&rule, &(kd_mask_set){ &files, count, listed_path, listed_survey }));
    *out = rule;
done:
    kd_free(context, files.survey);
    return st;
}

kdas_status kdas_mask_load(kdas_image **out, kdas_context *context, const char *path,
                           kdas_mask_rule rule)
{
    if (!out) return kd_fail(KDAS_EINVAL, "kdas_mask_load: out is NULL");
    *out = NULL;
    if (!context || !path)
        return kd_fail(KDAS_EINVAL, "kdas_mask_load: the %s is NULL", context ? "path" : "context");
    if (!kdas_mask_rule_name(rule))
        return kd_fail(KDAS_EINVAL, "kdas_mask_load: %d is no kdas_mask_rule", (int)rule);
    if (rule == KDAS_MASK_AUTO) KD_RETURN(kdas_mask_find_rule(context, &path, 1, &rule));
    return kd_mask_read(out, context, path, rule);
}

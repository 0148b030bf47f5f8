/* mask.c - one mask file: what it holds, and which of its pixels are polyp by a rule. */
#include "image/mask.h"
#include <stdlib.h>
#include <string.h>
#include "base/context.h"

#define LOSSY_FLOOR  32 /* JPEG's noise in black stays below                                   */
#define LABEL_LEVELS 8  /* a lossless file of no more levels has no soft edges                 */
#define CHROMA       32 /* colours differ by more than noise                                   */

typedef struct samples {
    uint8_t *pixels; /* (height,width,channels) */
    int64_t  width, height;
    int      channels;
    bool     lossy;
    bool     alpha; /* the last sample decides what can be seen */
    uint8_t  seen;  /* where alpha is above this                */
} samples;

/* ---- Reading --------------------------------------------------------------------------------- */

static int colours_of(const samples *s) { return s->channels <= 2 ? 1 : 3; }

static uint8_t luma_of(const uint8_t *p, int colours)
{
    return colours == 1 ? p[0] : kd_luma(p[0], p[1], p[2]);
}

static uint8_t level_of(const uint8_t *p, int colours)
{
    return colours == 1 ? p[0] : KD_MAX(KD_MAX(p[0], p[1]), p[2]);
}

static bool is_seen(const samples *s, const uint8_t *p)
{
    return !s->alpha || p[s->channels - 1] > s->seen;
}

static bool one_colour(const samples *s)
{
    size_t n = (size_t)(s->width * s->height), colours = (size_t)colours_of(s);

    for (size_t i = 1; i < n; i++)
        if (memcmp(s->pixels + i * (size_t)s->channels, s->pixels, colours) != 0) return false;
    return true;
}

/* Alpha of one value says nothing; but where it is 0 over one colour, there is nothing to see. */
static void look_at_alpha(samples *s)
{
    size_t  n = (size_t)(s->width * s->height), step = (size_t)s->channels;
    uint8_t low = 255, high = 0;

    for (size_t i = 0; i < n; i++) {
        uint8_t a = s->pixels[i * step + step - 1];

        low  = KD_MIN(low, a);
        high = KD_MAX(high, a);
    }
    s->alpha = low != high || (high == 0 && one_colour(s));
    s->seen  = high / 2;
}

static kdas_status samples_load(samples *out, kdas_context *ctx, const char *path)
{
    kd_image_info info;

    *out = (samples){ 0 };
    KD_RETURN(kd_image_load_samples(&out->pixels, &info, &out->channels, ctx, path, true));
    out->width  = info.width;
    out->height = info.height;
    out->lossy  = info.kind == KD_IMAGE_JPEG;
    if (out->channels % 2 == 0) look_at_alpha(out);
    return KDAS_OK;
}

/* ---- Looking at it --------------------------------------------------------------------------- */

/* Numbers of pixels. */
typedef struct counts {
    int64_t all[256], flat[256]; /* by level; flat: with four neighbours like it */
    int64_t joined;              /* painted, at least three neighbours like it   */
    int64_t seen, painted;       /* can be seen; of those above DARK             */
    int64_t coloured;            /* differ in their colours by more than CHROMA  */
    uint8_t luma_seen, luma;     /* the largest, of those seen, of all           */
} counts;

enum { DARK = 15 }; /* levels up to this are called black beside alpha */

/* The level of every pixel, and what is counted on the way. */
static void find_levels(uint8_t *level, counts *c, const samples *s)
{
    const uint8_t *p       = s->pixels;
    int            colours = colours_of(s);
    int64_t        n       = s->width * s->height;

    for (int64_t i = 0; i < n; i++, p += s->channels) {
        uint8_t luma = luma_of(p, colours);

        c->luma  = KD_MAX(c->luma, luma);
        level[i] = 0;
        if (is_seen(s, p)) {
            level[i]     = level_of(p, colours);
            c->luma_seen = KD_MAX(c->luma_seen, luma);
            c->seen++;
            c->painted += level[i] > DARK;
            if (colours == 3) c->coloured += level[i] - KD_MIN(KD_MIN(p[0], p[1]), p[2]) > CHROMA;
        }
        c->all[level[i]]++;
    }
}

static void find_flat(counts *c, const uint8_t *level, const samples *s)
{
    int slack = s->lossy ? 6 : 0;

    for (int64_t y = 0; y < s->height; y++) {
        const uint8_t *row   = level + y * s->width;
        const uint8_t *above = row - (y > 0 ? s->width : 0);
        const uint8_t *below = row + (y < s->height - 1 ? s->width : 0);

        for (int64_t x = 0; x < s->width; x++) {
            int v = row[x], like;

            if (!v) continue;
            like = (abs(v - row[x - (x > 0)]) <= slack) +
                   (abs(v - row[x + (x < s->width - 1)]) <= slack) + (abs(v - above[x]) <= slack) +
                   (abs(v - below[x]) <= slack);
            c->flat[v] += like == 4;
            c->joined += like >= 3;
        }
    }
}

/* The smallest number of flat pixels that is an area and no accident. */
static int64_t area(const samples *s) { return KD_MAX(16, s->width * s->height / 2048); }

/* The dimmest level, from `from` to `to`, that fills an area; 0: none. JPEG spreads a level over
 * its neighbours. */
static int dimmest(const counts *c, const samples *s, int from, int to, int64_t least)
{
    int slack = s->lossy ? 6 : 0;

    for (int v = from; v <= to; v++) {
        int64_t sum = 0;

        for (int k = KD_MAX(v - slack, 1); k <= KD_MIN(v + slack, 255); k++)
            sum += c->flat[k];
        if (sum >= least) return v;
    }
    return 0;
}

static int levels_of(const counts *c)
{
    int n = 0;

    for (int v = 0; v < 256; v++)
        n += c->all[v] > 0;
    return n;
}

static kd_mask_kind kind_of(const counts *c, const samples *s, int level)
{
    int64_t painted = s->width * s->height - c->all[0];
    int64_t enough  = s->lossy ? KD_MAX(8, s->width * s->height / 16384) : 1;

    if (level == 0) return KD_MASK_BLACK;
    if (s->lossy && level < LOSSY_FLOOR) return KD_MASK_NOISE;
    if (c->coloured >= enough) return KD_MASK_COLOURED;
    if (c->luma_seen > 127) return KD_MASK_LIGHT;
    return 2 * c->joined >= painted ? KD_MASK_DIM : KD_MASK_NOISE;
}

/* Levels above which pixels are painted, by rule COLOUR. */
static int cut_of(const counts *c, const samples *s, kd_mask_kind kind, int level)
{
    int flat;

    if (kind == KD_MASK_NOISE || kind == KD_MASK_BLACK) return 255;
    if (kind == KD_MASK_LIGHT) return 127; /* of luma */
    if (!s->lossy && levels_of(c) <= LABEL_LEVELS) return 0;
    flat = dimmest(c, s, s->lossy ? 2 * LOSSY_FLOOR : 1, 255, area(s));
    return KD_MAX((flat ? flat : level) / 2, s->lossy ? LOSSY_FLOOR : 0);
}

/* A grey file with white in it: does another level, up to 127, fill an area? Class numbers beside
 * 255 count only in a file that has no noise. */
static int doubt_of(const counts *c, const samples *s)
{
    int64_t near_white = 0;
    int     found      = 0;

    if (s->lossy) return dimmest(c, s, 48, 120, KD_MAX(64, s->width * s->height / 512));
    for (int v = 240; v < 255; v++)
        near_white += c->all[v];
    if (near_white == 0 && levels_of(c) <= LABEL_LEVELS) found = dimmest(c, s, 1, 31, area(s));
    return found ? found : dimmest(c, s, 32, 127, area(s));
}

static kd_mask_alpha alpha_of(const counts *c, const samples *s)
{
    if (!s->alpha) return KD_ALPHA_OPAQUE;
    if (s->seen == 0 && c->seen == 0) return KD_ALPHA_CLEAR;
    if ((c->seen - c->painted) * 20 < c->seen) return KD_ALPHA_DRAWN;
    return c->painted * 20 < c->seen && c->luma_seen <= 127 && c->coloured == 0 ? KD_ALPHA_DARK
                                                                                : KD_ALPHA_MIXED;
}

static kdas_status survey(kd_mask_survey *out, kdas_context *ctx, const samples *s)
{
    uint8_t     *level = kd_alloc(ctx, (size_t)(s->width * s->height));
    counts       c     = { 0 };
    int          high  = 255;
    kd_mask_kind kind;

    if (!level) return KDAS_ENOMEM;
    find_levels(level, &c, s);
    find_flat(&c, level, s);
    kd_free(ctx, level);
    while (high > 0 && !c.all[high])
        high--;
    kind = kind_of(&c, s, high);
    *out = (kd_mask_survey){ .kind  = (uint8_t)kind,
                             .alpha = (uint8_t)alpha_of(&c, s),
                             .lossy = s->lossy,
                             .luma  = c.luma,
                             .level = (uint8_t)high,
                             .cut   = (uint8_t)cut_of(&c, s, kind, high),
                             .doubt = (uint8_t)(kind == KD_MASK_LIGHT ? doubt_of(&c, s) : 0) };
    for (int v = 0; v < (s->lossy ? LOSSY_FLOOR : 1); v++)
        out->background |= c.all[v] > 0;
    return KDAS_OK;
}

kdas_status kd_mask_survey_file(kd_mask_survey *out, kdas_context *ctx, const char *path)
{
    kdas_status st;
    samples     s;

    KD_RETURN(samples_load(&s, ctx, path));
    st = survey(out, ctx, &s);
    kd_free(ctx, s.pixels);
    return st;
}

bool kd_mask_is_empty(bool *empty, const kd_mask_survey *survey, kdas_mask_rule rule)
{
    bool opaque = survey->alpha == KD_ALPHA_OPAQUE;

    *empty = rule == KDAS_MASK_BRIGHT ? survey->luma <= 127 : survey->level == 0;
    return rule == KDAS_MASK_BRIGHT || (opaque && rule == KDAS_MASK_NONZERO);
}

/* ---- Rules ----------------------------------------------------------------------------------- */

static bool is_polyp(const samples *s, const uint8_t *p, kdas_mask_rule rule,
                     const kd_mask_survey *survey)
{
    int colours = colours_of(s);

    switch (rule) {
    case KDAS_MASK_BRIGHT: return luma_of(p, colours) > 127;
    case KDAS_MASK_NONZERO: return is_seen(s, p) && level_of(p, colours) > 0;
    case KDAS_MASK_ALPHA: return is_seen(s, p);
    default:
        return is_seen(s, p) &&
               (survey->kind == KD_MASK_LIGHT ? luma_of(p, colours) > 127
                                              : level_of(p, colours) > survey->cut);
    }
}

kdas_status kd_mask_read(kdas_image **out, kdas_context *ctx, const char *path, kdas_mask_rule rule)
{
    kdas_status    st   = KDAS_OK;
    kdas_image    *mask = NULL;
    kd_mask_survey seen = { 0 };
    samples        s;

    *out = NULL;
    KD_RETURN(samples_load(&s, ctx, path));
    if (rule == KDAS_MASK_ALPHA && !s.alpha) {
        st = kd_fail(KDAS_EFORMAT,
                     "'%s' has no alpha channel, or one of a single value, so the mask rule "
                     "'alpha' does not fit it; choose another",
                     path);
        goto done;
    }
    if (rule == KDAS_MASK_COLOUR) KD_TRY(survey(&seen, ctx, &s));
    KD_TRY(kd_image_make(&mask, ctx, s.width, s.height, KDAS_PIXEL_GREY8));
    for (int64_t i = 0; i < s.width * s.height; i++)
        mask->pixels[i] = is_polyp(&s, s.pixels + i * s.channels, rule, &seen) ? 255 : 0;
    *out = mask;
done:
    kd_free(ctx, s.pixels);
    return st;
}

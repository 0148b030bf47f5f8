/* paint.c - from a planned scene to pixels, as a small renderer: a relief of the wall
 * (bumps, folds, domes of polyps), lit by a lamp beside the lens, with colour, vessels, wet
 * highlights, and what a camera adds: the black frame, a slight blur, grain. */
#include <string.h>
#include "scene/scene.h"
#include "base/plain_math.h"

/* The noises of a picture: cells along the shorter side, and amplitude. */
enum { WARP, PATCH, BUMP_1, BUMP_2, BUMP_3, BUMP_4, TONE_1, TONE_2, WET, PITS, NOISES };
static const struct {
    float cells, amount;
} noises[NOISES] = {
    [WARP]   = { 2.6f, 1 },   /* bends the folds                 */
    [PATCH]  = { 3.2f, 1 },   /* where folds are strong          */
    [BUMP_1] = { 5, 0.040f }, /* relief of the wall, four scales */
    [BUMP_2] = { 11, 0.015f },  [BUMP_3] = { 29, 0.0060f },
    [BUMP_4] = { 66, 0.0017f }, [TONE_1] = { 3.5f, 1.2f }, /* colour of the wall, two scales  */
    [TONE_2] = { 17, 0.45f },   [WET] = { 14, 1 },         /* where the wall is wet           */
    [PITS] = { 75, 1 },                                    /* texture of polyps               */
};

enum { ROWS = 4 };

/* Per-pixel data before lighting; all (height,width). */
struct canvas {
    kdas_context   *ctx;
    const kd_scene *scene;
    kd_noise        noise[NOISES];
    kd_noise        wobble;    /* of one polyp's boundary, while it is painted */
    float          *relief;    /* height above the wall                        */
    float          *shade;     /* share of the light that arrives              */
    float          *vessel;    /* 0 .. 1                                       */
    float          *cover;     /* 0 mucosa .. 1 polyp                          */
    uint8_t        *owner;     /* 1 + index of the polyp that covers           */
    float          *row[ROWS]; /* (width) each                                 */
};

static void canvas_finish(struct canvas *c)
{
    for (int i = 0; i < NOISES; i++)
        kd_noise_finish(&c->noise[i], c->ctx);
    kd_free(c->ctx, c->relief);
    kd_free(c->ctx, c->shade);
    kd_free(c->ctx, c->vessel);
    kd_free(c->ctx, c->cover);
    kd_free(c->ctx, c->owner);
    for (int i = 0; i < ROWS; i++)
        kd_free(c->ctx, c->row[i]);
}

static kdas_status canvas_init(struct canvas *c, kdas_context *ctx, const kd_scene *scene)
{
    size_t n    = (size_t)(scene->width * scene->height);
    bool   rows = true;

    *c        = (struct canvas){ .ctx = ctx, .scene = scene };
    c->relief = kd_calloc(ctx, n, sizeof(float));
    c->shade  = kd_calloc(ctx, n, sizeof(float));
    c->vessel = kd_calloc(ctx, n, sizeof(float));
    c->cover  = kd_calloc(ctx, n, sizeof(float));
    c->owner  = kd_calloc(ctx, n, 1);
    for (int i = 0; i < ROWS; i++) {
        c->row[i] = kd_calloc(ctx, (size_t)scene->width, sizeof(float));
        rows      = rows && c->row[i];
    }
    if (!rows || !c->relief || !c->shade || !c->vessel || !c->cover || !c->owner)
        return KDAS_ENOMEM;
    for (int i = 0; i < NOISES; i++)
        KD_RETURN(
            kd_noise_init(&c->noise[i], ctx, scene->seed + (uint64_t)i, noises[i].cells, scene));
    return KDAS_OK;
}

static float *noise_row(struct canvas *c, int which, int64_t y, float *row)
{
    memset(row, 0, (size_t)c->scene->width * sizeof *row);
    kd_noise_row(&c->noise[which], y, noises[which].amount, row);
    return row;
}

/* ---- Small functions of a number ---- */

static inline float clamp01(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
static inline float smooth(float x) /* 0 below 0, 1 above 1, an S between */
{
    x = clamp01(x);
    return x * x * (3 - 2 * x);
}
static inline float root(float x) { return __builtin_sqrtf(x); }

/* ---- The wall ---- */

/* A fold across one period: a slope that rises away from the lens to a ridge at 0.78, then falls.
 * */
static inline float fold_height(float t)
{
    return t < 0.78f ? smooth(t / 0.78f) : smooth((1 - t) / 0.22f);
}
/* The fold's shadow on the wall behind it: deepest right after the ridge. */
static inline float fold_shadow(float t)
{
    return t > 0.8f ? smooth((t - 0.8f) / 0.14f) : smooth(1 - t / 0.4f);
}

/* Light on what faces the lens at (px, py), r2 being its squared distance from the lumen: less
 * down the tube, less far from the lamp. */
static inline float open_shade(const kd_scene *s, float r2, float px, float py)
{
    float lx = px - s->light_x, ly = py - s->light_y;

    return r2 / (r2 + s->lumen_size * s->lumen_size) / (1 + 0.8f * (lx * lx + ly * ly));
}

/* Seen along a tube, a ring of the wall at depth z appears at radius 1/z around the lumen: folds
 * that are equally far apart in depth crowd towards the dark middle. */
static void paint_wall_row(struct canvas *c, int64_t y)
{
    const kd_scene *s      = c->scene;
    const float    *warp   = noise_row(c, WARP, y, c->row[0]);
    const float    *patch  = noise_row(c, PATCH, y, c->row[1]);
    float          *relief = c->relief + y * s->width, *shade = c->shade + y * s->width;
    float           py = ((float)y + 0.5f) / s->side, dy = (py - s->lumen_y) * s->lumen_squash;

    for (int64_t x = 0; x < s->width; x++) {
        float px = ((float)x + 0.5f) / s->side, dx = px - s->lumen_x;
        float r        = root(dx * dx + dy * dy);
        float bent     = KD_MAX(r + (0.05f + 0.45f * r) * s->fold_warp * warp[x], 0.0f);
        float phase    = s->fold_count / (bent + 0.12f) + s->fold_warp * (patch[x] + 1);
        float t        = phase - (float)(int32_t)phase;
        float strength = s->fold_depth * smooth(0.5f + 1.7f * patch[x]) * smooth(r / 0.2f);

        relief[x] = 0.11f * r * strength * fold_height(t);
        shade[x]  = open_shade(s, bent * bent, px, py) * (1 - 0.5f * strength * fold_shadow(t));
    }
    for (int i = BUMP_1; i <= BUMP_4; i++)
        kd_noise_row(&c->noise[i], y, noises[i].amount, relief);
}

/* ---- Polyps ---- */

/* One row of a polyp: q is 0 in its middle and 1 on its boundary, an ellipse bent by noise. The
 * mask is exactly q < 1; colour and relief pass over softly around it. */
static void paint_polyp_row(struct canvas *c, int index, int64_t y, int64_t left, int64_t right,
                            uint8_t *mask)
{
    const kd_scene       *s      = c->scene;
    const kd_scene_polyp *p      = &s->polyp[index];
    float                *wobble = c->row[0], *relief = c->relief + y * s->width;
    float                *cover = c->cover + y * s->width, *shade = c->shade + y * s->width;
    float                 soft        = 0.07f + 0.7f / (s->side * p->b);
    float                 dome_height = p->height * (0.35f + 0.65f * s->contrast);
    float                 py = ((float)y + 0.5f) / s->side, dy = py - p->y;
    float                 far_y = (p->y - s->lumen_y) * s->lumen_squash, far_x = p->x - s->lumen_x;
    float                 r2 = far_x * far_x + far_y * far_y;

    memset(wobble, 0, (size_t)s->width * sizeof *wobble);
    kd_noise_row(&c->wobble, y, 0.8f, wobble);
    for (int64_t x = left; x < right; x++) {
        float px = ((float)x + 0.5f) / s->side, dx = px - p->x;
        float u = (dx * p->cos + dy * p->sin) / p->a, v = (dy * p->cos - dx * p->sin) / p->b;
        float q = root(u * u + v * v);
        float inside, dome, open;

        /* bounded, so that the polyp and its shadow stay within 1.8 of its axes */
        q += KD_MAX(wobble[x], -0.35f) * KD_MIN(q, 1.0f);
        inside = smooth((1 + soft - q) / (2 * soft));
        dome   = KD_MAX(1 - q * q * 0.85f, 0.0f);
        dome *= 0.45f + 0.55f * dome;
        if (q < 1) mask[y * s->width + x] = 255;
        open      = open_shade(s, r2 + 0.03f, px, py); /* it stands before the folds' shadows */
        relief[x] = relief[x] * (1 - 0.6f * inside) + dome_height * dome;
        shade[x] *=
            1 - 0.30f * (0.2f + 0.8f * s->contrast) * smooth((1.35f - q) / 0.35f) * (1 - inside);
        shade[x] += (open - shade[x]) * inside;
        if (inside > cover[x]) {
            cover[x]                   = inside;
            c->owner[y * s->width + x] = (uint8_t)(index + 1);
        }
    }
}

static kdas_status paint_polyp(struct canvas *c, int index, uint8_t *mask)
{
    const kd_scene       *s     = c->scene;
    const kd_scene_polyp *p     = &s->polyp[index];
    float                 reach = 1.8f * p->a;
    int64_t               left  = KD_MAX((int64_t)((p->x - reach) * s->side), 0);
    int64_t               top   = KD_MAX((int64_t)((p->y - reach) * s->side), 0);
    int64_t               right = KD_MIN((int64_t)((p->x + reach) * s->side) + 1, s->width);
    int64_t               below = KD_MIN((int64_t)((p->y + reach) * s->side) + 1, s->height);

    KD_RETURN(kd_noise_init(&c->wobble, c->ctx, p->seed, 1.05f / p->a, s));
    for (int64_t y = top; y < below; y++)
        paint_polyp_row(c, index, y, left, right, mask);
    kd_noise_finish(&c->wobble, c->ctx);
    return KDAS_OK;
}

/* ---- Light and colour ---- */

struct light {
    float diffuse, highlight;
};

/* A lamp near the lens lights the relief's slope (gx, gy) at (px, py); the lens looks straight
 * down. */
static inline struct light light_at(const kd_scene *s, float px, float py, float gx, float gy)
{
    float lx = s->light_x - px, ly = s->light_y - py, lz = 0.85f;
    float n = root(gx * gx + gy * gy + 1), l = root(lx * lx + ly * ly + lz * lz);
    float hx = lx / l, hy = ly / l, hz = lz / l + 1;
    float h    = root(hx * hx + hy * hy + hz * hz);
    float lit  = (lz - gx * lx - gy * ly) / (n * l);
    float glow = (hz - gx * hx - gy * hy) / (n * h);

    glow = glow > 0 ? glow : 0;
    for (int i = 0; i < 7; i++) /* to the power 128 */
        glow *= glow;
    return (struct light){ lit > 0 ? lit : 0, glow };
}

/* Colour of the wall or a polyp at x, before light. */
static inline void colour_at(const struct canvas *c, float px, float py, int64_t at, float tone,
                             float pits, float colour[3])
{
    static const float blood[3] = { 0.13f, 0.20f, 0.12f };
    const kd_scene    *s        = c->scene;
    float              cover = c->cover[at], blood_here = c->vessel[at] * (1 - 0.8f * cover);

    for (int k = 0; k < 3; k++)
        colour[k] = s->mucosa[k] + s->tint[k] * tone - blood[k] * blood_here;
    for (int i = 0; i < s->blotches; i++) {
        const kd_scene_spot *b  = &s->blotch[i];
        float                dx = px - b->x, dy = py - b->y;
        float                d = 1 - (dx * dx + dy * dy) / (b->radius * b->radius);

        if (d <= 0) continue;
        for (int k = 0; k < 3; k++)
            colour[k] += b->colour[k] * b->amount * d * d * (1 - cover);
    }
    if (c->owner[at]) {
        const kd_scene_polyp *p      = &s->polyp[c->owner[at] - 1];
        float                 amount = cover * (0.12f + 1.35f * s->contrast);

        for (int k = 0; k < 3; k++)
            colour[k] += amount * (p->colour[k] + 0.12f * pits);
    }
}

/* 1 within the endoscope's picture, an octagon or less; 0 outside, with an edge of a pixel. */
static inline float frame_at(const kd_scene *s, float px, float py)
{
    float half_x = 0.5f * (float)s->width / s->side, half_y = 0.5f * (float)s->height / s->side;
    float dx = px > half_x ? px - half_x : half_x - px;
    float dy = py > half_y ? py - half_y : half_y - py;
    float ex = half_x - s->margin_x - dx, ey = half_y - s->margin_y - dy; /* to straight edges */
    float e = KD_MIN(ex, ey), corner = (ex + ey - s->corner) * 0.7071f;

    if (s->corner > 0) e = KD_MIN(e, corner);
    if (s->margin_x == 0 && s->margin_y == 0 && s->corner == 0) return 1;
    return clamp01(e * s->side + 0.5f);
}

static inline uint8_t to_byte(float v) { return (uint8_t)(clamp01(v) * 255 + 0.5f); }

static void light_row(struct canvas *c, int64_t y, uint8_t *rgb, uint8_t *mask)
{
    const kd_scene *s    = c->scene;
    int64_t         w    = s->width;
    float          *tone = noise_row(c, TONE_1, y, c->row[0]);
    const float    *wet = noise_row(c, WET, y, c->row[1]), *pits = noise_row(c, PITS, y, c->row[2]);
    const float    *here  = c->relief + y * w;
    const float    *above = y > 0 ? here - w : here, *below = y + 1 < s->height ? here + w : here;
    float           py = ((float)y + 0.5f) / s->side, slope = 0.5f * s->side;

    kd_noise_row(&c->noise[TONE_2], y, noises[TONE_2].amount, tone);
    for (int64_t x = 0; x < w; x++) {
        int64_t at = y * w + x;
        float   px = ((float)x + 0.5f) / s->side, frame = frame_at(s, px, py), shade = c->shade[at];
        float   gx = (here[KD_MIN(x + 1, w - 1)] - here[KD_MAX(x - 1, 0)]) * slope;
        float   gy = (below[x] - above[x]) * slope, shine, lit, colour[3];
        struct light light;

        if (frame < 0.5f) mask[at] = 0; /* invisible pixels are not marked */
        light = light_at(s, px, py, gx, gy);
        colour_at(c, px, py, at, tone[x], pits[x], colour);
        shine = 1.5f * light.highlight * shade * clamp01(-0.05f + 2.4f * wet[x]);
        lit   = s->brightness * shade * (0.22f + 0.98f * light.diffuse);
        for (int k = 0; k < 3; k++) {
            /* the little light from the depth is red */
            float dim = k == 0 ? 1 : 0.72f + 0.28f * clamp01(1.4f * shade);
            float v   = colour[k] * lit * dim + shine * (k == 0 ? 1 : 0.95f) + 0.012f;

            rgb[3 * at + k] = to_byte(0.025f + frame * (v - 0.025f));
        }
    }
}

/* A thin bright ring and a glint up left: an approximation of a bubble in the water. */
static void paint_bubble(const kd_scene *s, const kd_scene_spot *b, uint8_t *rgb)
{
    float   reach = 1.2f * b->radius;
    int64_t left  = KD_MAX((int64_t)((b->x - reach) * s->side), 0);
    int64_t top   = KD_MAX((int64_t)((b->y - reach) * s->side), 0);
    int64_t right = KD_MIN((int64_t)((b->x + reach) * s->side) + 1, s->width);
    int64_t below = KD_MIN((int64_t)((b->y + reach) * s->side) + 1, s->height);

    for (int64_t y = top; y < below; y++)
        for (int64_t x = left; x < right; x++) {
            float    px = ((float)x + 0.5f) / s->side, py = ((float)y + 0.5f) / s->side;
            float    dx = (px - b->x) / b->radius, dy = (py - b->y) / b->radius;
            float    r2 = dx * dx + dy * dy, gx = dx + 0.4f, gy = dy + 0.4f;
            float    ring = clamp01(1 - 5 * (r2 > 0.85f ? r2 - 0.85f : 0.85f - r2));
            float    glow = b->amount * (0.30f * ring + smooth(1 - 9 * (gx * gx + gy * gy)));
            uint8_t *p    = rgb + 3 * (y * s->width + x);

            glow *= frame_at(s, px, py);
            for (int k = 0; k < 3; k++)
                p[k] = to_byte((float)p[k] * (1 / 255.0f) * (1 - glow) + glow * 0.92f);
        }
}

/* ---- The camera ---- */

/* Blur a row of n samples by 1 2 1 both ways (`above`, `here`, `below` are the sharp rows; from
 * `here` to `to`) and add grain: per pixel one draw for all colours and a smaller one for each. */
static void camera_row(const kd_scene *s, int64_t y, const uint8_t *above, const uint8_t *here,
                       const uint8_t *below, uint8_t *to)
{
    for (int64_t x = 0; x < s->width; x++) {
        int64_t  l = 3 * KD_MAX(x - 1, 0), m = 3 * x, r = 3 * KD_MIN(x + 1, s->width - 1);
        uint64_t bits = kd_mix64(s->seed ^ kd_mix64((uint64_t)y << 32 | (uint64_t)x));
        float    all  = (float)((int32_t)(bits & 0xFFFF) + (int32_t)(bits >> 16 & 0xFFFF) - 0xFFFF);

        for (int k = 0; k < 3; k++, l++, m++, r++) {
            int32_t sum = above[l] + 2 * above[m] + above[r] + 2 * here[l] + 4 * here[m] +
                          2 * here[r] + below[l] + 2 * below[m] + below[r];
            float own = (float)(int32_t)(bits >> (32 + 10 * k) & 0x3FF) - 511.5f;

            to[m] = to_byte(((float)sum * (1 / 16.0f) +
                             s->grain * (all * (1 / 32768.0f) + own * (1 / 1024.0f))) *
                            (1 / 255.0f));
        }
    }
}

static kdas_status camera(kdas_context *ctx, const kd_scene *s, uint8_t *rgb)
{
    size_t   n    = (size_t)s->width * 3;
    uint8_t *keep = kd_alloc(ctx, 2 * n), *above, *here;

    if (!keep) return KDAS_ENOMEM;
    above = keep;
    here  = keep + n;
    memcpy(above, rgb, n);
    for (int64_t y = 0; y < s->height; y++) {
        uint8_t *row = rgb + (size_t)y * n, *swap = above;

        memcpy(here, row, n);
        camera_row(s, y, above, here, y + 1 < s->height ? row + n : here, row);
        above = here;
        here  = swap;
    }
    kd_free(ctx, keep);
    return KDAS_OK;
}

kdas_status kd_scene_paint(kdas_context *ctx, const kd_scene *scene, uint8_t *rgb, uint8_t *mask)
{
    kdas_status   st = KDAS_OK;
    struct canvas c;

    memset(mask, 0, (size_t)(scene->width * scene->height));
    KD_TRY(canvas_init(&c, ctx, scene));
    for (int64_t y = 0; y < scene->height; y++)
        paint_wall_row(&c, y);
    kd_scene_vessels(scene, c.vessel);
    for (int i = 0; i < scene->polyps; i++)
        KD_TRY(paint_polyp(&c, i, mask));
    for (int64_t y = 0; y < scene->height; y++)
        light_row(&c, y, rgb, mask);
    for (int i = 0; i < scene->bubbles; i++)
        paint_bubble(scene, &scene->bubble[i], rgb);
    st = camera(ctx, scene, rgb);
done:
    canvas_finish(&c);
    return st;
}

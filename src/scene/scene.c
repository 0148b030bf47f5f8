/* scene.c - synthetic scenes: options, and the random draws that define a frame. Each scene
 * has its own stream of random numbers, a function of (seed, index); contrast and size change
 * no draw. Each statement makes one draw, since compilers differ in the order of arguments and
 * of initialisers. */
#include <string.h>
#include "scene/scene.h"
#include "base/plain_math.h"

void kdas_scene_options_init(kdas_scene_options *options, size_t size)
{
    kdas_scene_options defaults = {
        .size = size, .seed = 1, .count = 64, .width = 352, .height = 352, .contrast = 0.5f
    };

    if (!options || size < sizeof size) return;
    memset(options, 0, size);
    memcpy(options, &defaults, KD_MIN(size, sizeof defaults));
}

kdas_status kd_scene_check(const kdas_scene_options *o, const char *what)
{
    if (o->count < 1 || o->count > INT32_MAX)
        return kd_fail(KDAS_EINVAL, "%s: count is %lld, not 1 to %d", what, (long long)o->count,
                       INT32_MAX);
    if (o->width < 32 || o->width > 4096 || o->height < 32 || o->height > 4096)
        return kd_fail(KDAS_EINVAL, "%s: %lldx%lld pixels; sides are 32 to 4096", what,
                       (long long)o->width, (long long)o->height);
    if (!(o->empty >= 0 && o->empty <= 1))
        return kd_fail(KDAS_EINVAL, "%s: empty is %g, not 0 to 1", what, (double)o->empty);
    if (!(o->contrast >= 0 && o->contrast <= 1))
        return kd_fail(KDAS_EINVAL, "%s: contrast is %g, not 0 to 1", what, (double)o->contrast);
    return KDAS_OK;
}

static float between(kd_random *r, double low, double high)
{
    return (float)kd_random_between(r, low, high);
}

static bool chance(kd_random *r, double share) { return kd_random_unit(r) < share; }

static void set_colour(float colour[3], float r, float g, float b)
{
    colour[0] = r;
    colour[1] = g;
    colour[2] = b;
}

/* Where the camera looks: along the tube (the lumen is in the picture), or at its wall (far
 * outside). */
static void plan_view(kd_scene *s, kd_random *r, float right, float bottom)
{
    bool  wall  = chance(r, 0.4);
    float turn  = between(r, 0, 1);
    float reach = wall ? between(r, 0.85, 1.3) : between(r, 0.0, 0.42);

    s->lumen_x      = right / 2 + reach * (float)kd_cos_turns(turn);
    s->lumen_y      = bottom / 2 + reach * (float)kd_sin_turns(turn);
    s->lumen_squash = between(r, 0.7, 1.4);
    s->lumen_size   = between(r, 0.10, 0.24);
    s->fold_count   = between(r, 0.75, 1.5);
    s->fold_depth   = between(r, 0.4, 1.0);
    s->fold_warp    = between(r, 0.6, 1.3);
    s->light_x      = right * between(r, 0.35, 0.65);
    s->light_y      = bottom * between(r, 0.35, 0.65);
    s->brightness   = between(r, 0.92, 1.18);
    s->vessels      = between(r, 0.0, 1.0);
    s->grain        = between(r, 1.0, 3.2);
    s->margin_x     = between(r, 0.0, 0.05);
    s->margin_y     = between(r, 0.0, 0.04);
    s->corner       = chance(r, 0.85) ? between(r, 0.06, 0.24) : 0;
}

static void plan_colours(kd_scene *s, kd_random *r)
{
    float pale = between(r, 0, 1);

    s->tint[0] = between(r, 0.02, 0.07);
    s->tint[1] = between(r, 0.05, 0.10);
    s->tint[2] = between(r, 0.01, 0.07);
    /* from a saturated orange-red to a pale pink */
    set_colour(s->mucosa, 0.74f + 0.08f * pale, 0.35f + 0.17f * pale, 0.24f + 0.19f * pale);
}

/* Pull a polyp's middle towards the picture's until it is `inset` away from the cut corner. */
static void keep_from_corner(const kd_scene *s, kd_scene_polyp *p, float inset, float right,
                             float bottom)
{
    float ex  = KD_MIN(p->x, right - p->x) - s->margin_x;
    float ey  = KD_MIN(p->y, bottom - p->y) - s->margin_y;
    float gap = (s->corner + inset - ex - ey) / 2;

    if (s->corner == 0 || gap <= 0) return;
    p->x += 2 * p->x < right ? gap : -gap;
    p->y += 2 * p->y < bottom ? gap : -gap;
}

/* Long diameters of 8% to 44% of the side. */
static void plan_polyp(kd_scene *s, kd_random *r, kd_scene_polyp *p, float right, float bottom)
{
    float size = between(r, 0, 1);
    float turn = between(r, 0, 0.5);
    int   kind = (int)kd_random_below(r, 3);
    float inset;

    p->a      = 0.04f + 0.18f * size;
    p->b      = p->a * between(r, 0.58, 1.0);
    p->height = p->b * between(r, 0.55, 1.1);
    p->cos    = (float)kd_cos_turns(turn);
    p->sin    = (float)kd_sin_turns(turn);
    inset     = 0.08f + 0.75f * p->a;
    p->x      = between(r, s->margin_x + inset, right - s->margin_x - inset);
    p->y      = between(r, s->margin_y + inset, bottom - s->margin_y - inset);
    keep_from_corner(s, p, inset, right, bottom);
    p->seed = kd_random_u64(r);
    switch (kind) {
    case 0: set_colour(p->colour, 0.03f, -0.17f, -0.12f); break;   /* reddened             */
    case 1: set_colour(p->colour, 0.12f, 0.10f, 0.10f); break;     /* paler than its ground */
    default: set_colour(p->colour, -0.14f, -0.16f, -0.08f); break; /* darker                */
    }
    for (int c = 0; c < 3; c++)
        p->colour[c] *= between(r, 0.8, 1.2);
}

static bool too_near(const kd_scene *s, const kd_scene_polyp *p)
{
    for (int i = 0; i < s->polyps; i++) {
        const kd_scene_polyp *q  = &s->polyp[i];
        float                 dx = p->x - q->x, dy = p->y - q->y, reach = 1.15f * (p->a + q->a);

        if (dx * dx + dy * dy < reach * reach) return true;
    }
    return false;
}

static void plan_polyps(kd_scene *s, kd_random *r, float empty, float right, float bottom)
{
    bool  none   = kd_random_unit(r) < empty;
    float draw   = between(r, 0, 1);
    int   wanted = draw < 0.72f ? 1 : draw < 0.93f ? 2 : KD_SCENE_POLYPS;

    for (int i = 0; i < wanted; i++) {
        kd_scene_polyp polyp;

        plan_polyp(s, r, &polyp, right, bottom);
        if (!none && !too_near(s, &polyp)) s->polyp[s->polyps++] = polyp;
    }
}

/* Patches with the colours of polyps but no edge and no dome, residue, and bubbles. */
static void plan_distractors(kd_scene *s, kd_random *r, float right, float bottom)
{
    float pool_x = between(r, 0, right);
    float pool_y = between(r, 0, bottom);

    s->blotches = (int)kd_random_below(r, KD_SCENE_BLOTCHES + 1);
    for (int i = 0; i < s->blotches; i++) {
        kd_scene_spot *b = &s->blotch[i];

        b->x      = between(r, 0, right);
        b->y      = between(r, 0, bottom);
        b->radius = between(r, 0.06, 0.22);
        b->amount = between(r, 0.4, 1.0);
        switch (kd_random_below(r, 4)) {
        case 0: set_colour(b->colour, 0.02f, -0.13f, -0.09f); break;
        case 1: set_colour(b->colour, 0.08f, 0.08f, 0.07f); break;
        case 2: set_colour(b->colour, -0.12f, -0.12f, -0.06f); break;
        default: set_colour(b->colour, 0.06f, 0.09f, -0.10f); break; /* yellow residue */
        }
    }
    s->bubbles = chance(r, 0.45) ? 1 + (int)kd_random_below(r, KD_SCENE_BUBBLES) : 0;
    for (int i = 0; i < s->bubbles; i++) {
        kd_scene_spot *b = &s->bubble[i];

        b->x      = pool_x + between(r, -0.12, 0.12);
        b->y      = pool_y + between(r, -0.12, 0.12);
        b->radius = between(r, 0.006, 0.026);
        b->amount = between(r, 0.3, 0.9);
    }
}

void kd_scene_plan(kd_scene *scene, const kdas_scene_options *o, int64_t i)
{
    kd_random r      = kd_random_make(o->seed, (uint64_t)i);
    float     side   = (float)KD_MIN(o->width, o->height);
    float     right  = (float)o->width / side;
    float     bottom = (float)o->height / side;

    *scene = (kd_scene){ .width    = o->width,
                         .height   = o->height,
                         .side     = side,
                         .contrast = o->contrast,
                         .seed     = kd_random_u64(&r) };
    plan_view(scene, &r, right, bottom);
    plan_colours(scene, &r);
    plan_polyps(scene, &r, o->empty, right, bottom);
    plan_distractors(scene, &r, right, bottom);
}

kdas_status kdas_scene_draw(kdas_image **image, kdas_image **mask, kdas_context *context, int64_t i,
                            const kdas_scene_options *options)
{
    kdas_status        st    = KDAS_OK;
    kdas_image        *frame = NULL, *truth = NULL;
    kdas_scene_options o;
    kd_scene           scene;

    if (image) *image = NULL;
    if (mask) *mask = NULL;
    if (!image || !mask || !context)
        return kd_fail(KDAS_EINVAL, "kdas_scene_draw: the %s is NULL",
                       !image  ? "image"
                       : !mask ? "mask"
                               : "context");
    kdas_scene_options_init(&o, sizeof o);
    KD_RETURN(kd_take_options(&o, sizeof o, options, "kdas_scene_options"));
    KD_RETURN(kd_scene_check(&o, "kdas_scene_options"));
    if (i < 0 || i >= o.count)
        return kd_fail(KDAS_EINVAL, "kdas_scene_draw: there is no scene %lld of %lld", (long long)i,
                       (long long)o.count);

    kd_scene_plan(&scene, &o, i);
    KD_TRY(kdas_image_create(&frame, context, o.width, o.height, KDAS_PIXEL_RGB8));
    KD_TRY(kdas_image_create(&truth, context, o.width, o.height, KDAS_PIXEL_GREY8));
    KD_TRY(kd_scene_paint(context, &scene, kdas_image_pixels(frame), kdas_image_pixels(truth)));
    *image = frame;
    *mask  = truth;
    frame = truth = NULL;
done:
    kdas_image_destroy(frame);
    kdas_image_destroy(truth);
    return st;
}

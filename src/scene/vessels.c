/* vessels.c - branching blood vessels: walks that bend at random, thin out, and split. */
#include "scene/scene.h"
#include "base/plain_math.h"

enum { WALKS = 48 }; /* waiting branches of a picture */

struct walk {
    float x, y, turn, width, length;
};

/* A soft disc; overlapping ones do not add up, so that a walk is an even line. */
static void stamp(const kd_scene *s, float *field, float x, float y, float width)
{
    float   radius = width * s->side + 0.6f, amount = KD_MIN(width * s->side * 1.4f, 1.0f);
    int64_t left = (int64_t)(x * s->side - radius), top = (int64_t)(y * s->side - radius);
    int64_t reach = (int64_t)(2 * radius) + 2;

    for (int64_t j = KD_MAX(top, 0); j < KD_MIN(top + reach, s->height); j++)
        for (int64_t i = KD_MAX(left, 0); i < KD_MIN(left + reach, s->width); i++) {
            float  dx = (float)i + 0.5f - x * s->side, dy = (float)j + 0.5f - y * s->side;
            float  v  = amount * (1 - (dx * dx + dy * dy) / (radius * radius));
            float *at = &field[j * s->width + i];

            if (v > *at) *at = v;
        }
}

void kd_scene_vessels(const kd_scene *s, float *field)
{
    enum { STEPS = 400 };
    kd_random r     = kd_random_make(s->seed, 1);
    float     right = (float)s->width / s->side, bottom = (float)s->height / s->side, step = 0.004f;
    int       count = 0;
    int       roots = (int)(s->vessels * 7);
    struct walk todo[WALKS];

    for (; count < roots; count++) { /* one draw a statement: their order must be fixed */
        struct walk *w = &todo[count];

        w->x      = (float)kd_random_between(&r, 0, right);
        w->y      = (float)kd_random_between(&r, 0, bottom);
        w->turn   = (float)kd_random_unit(&r);
        w->width  = (float)kd_random_between(&r, 0.0018, 0.0042);
        w->length = (float)kd_random_between(&r, 0.3, 0.9);
    }
    for (int used = 0; used < count; used++) {
        struct walk w    = todo[used];
        float       bend = 0;

        for (int i = 0; i < STEPS && w.length > 0 && w.width > 0.0007f; i++) {
            stamp(s, field, w.x, w.y, w.width);
            bend = 0.9f * bend + (float)kd_random_between(&r, -0.006, 0.006);
            w.turn += bend;
            w.x += step * (float)kd_cos_turns(w.turn);
            w.y += step * (float)kd_sin_turns(w.turn);
            w.length -= step;
            w.width *= 0.9975f;
            if (count < WALKS && kd_random_unit(&r) < 0.022) {
                float side = kd_random_unit(&r) < 0.5 ? -0.09f : 0.09f;

                todo[count++] =
                    (struct walk){ w.x, w.y, w.turn + side, 0.7f * w.width, 0.6f * w.length };
            }
        }
    }
}

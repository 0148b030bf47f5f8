/* augment.c - see augment.h. */
#include "distill/augment.h"
#include <stdlib.h>

enum { NONE, LIGHT, STRONG }; /* --augment's words in their order */

augmentation augment_default(void)
{
    return (augmentation){ .level       = LIGHT,
                           .rotation    = -1,
                           .crop        = -1,
                           .crop_aspect = -1,
                           .brightness  = -1,
                           .contrast    = -1,
                           .saturation  = -1,
                           .hue         = -1,
                           .blur        = -1,
                           .cutout      = -1 };
}

/* "A:B" into two factors; false where the text is not that. */
static bool read_scale(const char *text, float *low, float *high)
{
    char *end, *rest;

    *low = strtof(text, &end);
    if (end == text || *end != ':') return false;
    *high = strtof(end + 1, &rest);
    return rest != end + 1 && !*rest && *low >= 0.1f && *low <= *high && *high <= 10;
}

static bool any_of_its_own(const augmentation *a)
{
    return a->scale || a->rotation >= 0 || a->crop >= 0 || a->crop_aspect >= 0 ||
           a->brightness >= 0 || a->contrast >= 0 || a->saturation >= 0 || a->hue >= 0 ||
           a->blur >= 0 || a->cutout >= 0;
}

const char *augment_wrong(const augmentation *a)
{
    float low, high;

    if (a->level == NONE && any_of_its_own(a))
        return "--augment none excludes the other options of augmentation";
    if (a->scale && !read_scale(a->scale, &low, &high))
        return "--scale-jitter wants two factors from 0.1 to 10 like 0.75:1.25";
    return NULL;
}

static void set(float *to, double given)
{
    if (given >= 0) *to = (float)given;
}

void augment_options(const augmentation *a, kdas_loader_options *out)
{
    out->augment = a->level != NONE;
    if (a->level == STRONG) {
        out->crop       = 0.5f;
        out->scale_min  = 0.75f;
        out->scale_max  = 1.25f;
        out->brightness = out->contrast = out->saturation = 0.4f;
        out->hue                                          = 0.05f;
        out->blur = out->cutout = 0.3f;
    }
    if (a->scale) read_scale(a->scale, &out->scale_min, &out->scale_max);
    set(&out->rotation, a->rotation);
    set(&out->crop, a->crop);
    set(&out->crop_aspect, a->crop_aspect);
    set(&out->brightness, a->brightness);
    set(&out->contrast, a->contrast);
    set(&out->saturation, a->saturation);
    set(&out->hue, a->hue);
    set(&out->blur, a->blur);
    set(&out->cutout, a->cutout);
}

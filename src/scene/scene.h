/* scene.h - inside of the synthetic scenes: their parts, and the steps from parts to pixels.
 *
 * Places and lengths are in units of the shorter side, so that a scene looks the same at every
 * size; a pixel (x,y) is at ((x + 0.5) / side, (y + 0.5) / side). */
#ifndef KD_SCENE_H
#define KD_SCENE_H
#include <kdas/data.h>
#include "base/base.h"

enum { KD_SCENE_POLYPS = 3, KD_SCENE_BLOTCHES = 5, KD_SCENE_BUBBLES = 14 };

typedef struct kd_scene_polyp {
    float    x, y, cos, sin; /* centre, direction of the long axis                        */
    float    a, b;           /* half axes                                                 */
    float    height;         /* of its dome                                               */
    float    colour[3];      /* what a polyp adds to the mucosa's colour, before contrast */
    uint64_t seed;           /* of the boundary's wobble                                  */
} kd_scene_polyp;

/* A soft patch of another tint, or the ring of a bubble: things that are not polyps. */
typedef struct kd_scene_spot {
    float x, y, radius, amount;
    float colour[3];
} kd_scene_spot;

typedef struct kd_scene {
    int64_t  width, height;
    float    side, contrast;
    uint64_t seed; /* of everything below that is noise */

    float lumen_x, lumen_y, lumen_squash, lumen_size; /* the dark end of the tube */
    float fold_count, fold_depth, fold_warp;
    float light_x, light_y, brightness;
    float mucosa[3], tint[3];         /* base colour, and the direction in which it wanders */
    float margin_x, margin_y, corner; /* the black frame of the endoscope */
    float vessels;
    float grain;

    int            polyps, blotches, bubbles;
    kd_scene_polyp polyp[KD_SCENE_POLYPS];
    kd_scene_spot  blotch[KD_SCENE_BLOTCHES];
    kd_scene_spot  bubble[KD_SCENE_BUBBLES];
} kd_scene;

/* Check options as the public calls promise; `what` begins the sentence. */
kdas_status kd_scene_check(const kdas_scene_options *options, const char *what);
/* Make the random draws of scene i: layout and colours, no pixels. */
void kd_scene_plan(kd_scene *scene, const kdas_scene_options *options, int64_t i);
/* Paint it: rgb (height,width,3), mask (height,width) of 0 and 255. */
kdas_status kd_scene_paint(kdas_context *ctx, const kd_scene *scene, uint8_t *rgb, uint8_t *mask);
/* Trees of vessels into `field` (height,width), which is 0 before: 0 none, 1 a vessel's middle. */
void kd_scene_vessels(const kd_scene *scene, float *field);

/* ---- Smooth noise (noise.c): a cubic B-spline over a lattice of random numbers ---- */
typedef struct kd_noise {
    int64_t  width, columns, rows; /* pixels of a row; size of the lattice */
    float    step;                 /* cells for a pixel                    */
    float   *lattice;              /* (rows,columns), -1 .. 1              */
    float   *column;               /* (columns): the lattice at one y      */
    int32_t *first;                /* (width)                              */
    float   *weight;               /* (width,4)                            */
} kd_noise;
/* `cells` is the number of lattice cells along the shorter side. */
kdas_status kd_noise_init(kd_noise *noise, kdas_context *ctx, uint64_t seed, float cells,
                          const kd_scene *scene);
void        kd_noise_finish(kd_noise *noise, kdas_context *ctx);
/* row[x] += amount * noise at (x, y). */
void kd_noise_row(kd_noise *noise, int64_t y, float amount, float *row);

#endif

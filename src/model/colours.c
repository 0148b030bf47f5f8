/* colours.c - see colours.h. */
#include "model/colours.h"

/* ImageNet's mean and deviation, times 1000. */
enum { R_MEAN = 485, G_MEAN = 456, B_MEAN = 406, R_DEV = 229, G_DEV = 224, B_DEV = 225 };

#define OF(x) ((float)((x) / 1000.0))

const kdas_recolour_attr kd_colours_rgb = { .source = { 0, 1, 2 },
                                            .factor = { OF(R_DEV), OF(G_DEV), OF(B_DEV) },
                                            .offset = { OF(R_MEAN), OF(G_MEAN), OF(B_MEAN) } };

const kdas_recolour_attr kd_colours_bgr = { .source = { 2, 1, 0 },
                                            .factor = { OF(B_DEV), OF(G_DEV), OF(R_DEV) },
                                            .offset = { OF(B_MEAN), OF(G_MEAN), OF(R_MEAN) } };

/* The normalisation of a channel by the figures of another, and by 255 once more. */
#define FACTOR(dev, their_dev) ((float)((double)(dev) / (their_dev) / 255))
#define OFFSET(mean, their_mean, their_dev) \
    ((float)((double)((mean) - (their_mean)) / (their_dev) / 255))

const kdas_recolour_attr kd_colours_bgr_twice = {
    .source = { 2, 1, 0 },
    .factor = { FACTOR(B_DEV, R_DEV), FACTOR(G_DEV, G_DEV), FACTOR(R_DEV, B_DEV) },
    .offset = { OFFSET(B_MEAN, R_MEAN, R_DEV), OFFSET(G_MEAN, G_MEAN, G_DEV),
                OFFSET(R_MEAN, B_MEAN, B_DEV) },
};

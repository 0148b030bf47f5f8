/* colours.h - the colours of networks that were not trained on ImageNet's normalised RGB, for
 * kd_model_rules.colours. A batch's value is v = (p / 255 - mean) / deviation. */
#ifndef KD_COLOURS_H
#define KD_COLOURS_H
#include <kdas/backend.h>

/* p / 255, red first or blue first. */
extern const kdas_recolour_attr kd_colours_rgb, kd_colours_bgr;
/* (p / 255 - mean) / deviation / 255 of blue, green and red, with ImageNet's figures of red, green
 * and blue, in this order. */
extern const kdas_recolour_attr kd_colours_bgr_twice;

#endif

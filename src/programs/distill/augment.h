/* augment.h - the views of frames that a training shows: the options of augmentation, and what the
 * loader makes of them. */
#ifndef PROGRAMS_AUGMENT_H
#define PROGRAMS_AUGMENT_H
#include <kdas/data.h>
#include <stdbool.h>

typedef struct augmentation {
    int64_t     level; /* which of --augment's words         */
    const char *scale; /* "A:B", or NULL: as the level has it */
    /* below 0: as the level has them */
    double rotation, crop, crop_aspect, brightness, contrast, saturation, hue, blur, cutout;
} augmentation;

/* What no option has changed yet: "light". */
augmentation augment_default(void);
/* NULL, or a sentence about what cannot be meant. */
const char *augment_wrong(const augmentation *a);
void        augment_options(const augmentation *a, kdas_loader_options *out);

/* Rows of an option table that write to `a`. */
/* clang-format off */
#define AUGMENT_OPTIONS(a)                                                                      \
    { OPTION_CHOICE, "--augment", "none|light|strong", &(a).level, 0, 0,                        \
      "views of the frames (light): flips and rotation; strong:\n"                              \
      "also --crop 0.5 --scale-jitter 0.75:1.25 --blur 0.3\n"                                   \
      "--cutout 0.3, --hue 0.05 and 0.4 for the other colours" },                                \
    { OPTION_REAL, "--rotation", "X", &(a).rotation, 0, 180,                                    \
      "degrees, up to this either way (90)" },                                                  \
    { OPTION_REAL, "--crop", "X", &(a).crop, 0.01, 1,                                           \
      "cut out at least this share of the area (1: off)" },                                     \
    { OPTION_REAL, "--crop-aspect", "X", &(a).crop_aspect, 1, 4,                                \
      "stretch crops by up to this (1.333)" },                                                   \
    { OPTION_TEXT, "--scale-jitter", "A:B", &(a).scale, 0, 0,                                   \
      "zoom by a factor from A to B, 0.1 to 10 (1:1)" },                                        \
    { OPTION_REAL, "--brightness", "X", &(a).brightness, 0, 1,                                  \
      "multiply by up to 1 +- X (0)" },                                                         \
    { OPTION_REAL, "--contrast", "X", &(a).contrast, 0, 1, "the same for contrast (0)" },       \
    { OPTION_REAL, "--saturation", "X", &(a).saturation, 0, 1,                                  \
      "the same for saturation (0)" },                                                          \
    { OPTION_REAL, "--hue", "X", &(a).hue, 0, 0.5,                                              \
      "rotate the hue by up to this share of a full turn (0)" },                                  \
    { OPTION_REAL, "--blur", "P", &(a).blur, 0, 1, "probability of a blur (0)" },               \
    { OPTION_REAL, "--cutout", "P", &(a).cutout, 0, 1,                                          \
      "probability that a rectangle is covered (0)" }
/* clang-format on */
#endif

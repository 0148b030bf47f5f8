/* font.h - letters of 5 x 7 dots for captions in pictures. */
#ifndef PROGRAMS_FONT_H
#define PROGRAMS_FONT_H
#include <stdint.h>

/* Seven rows, top first, the low five bits of each from left to right. Lower case is written as
 * upper case, what the font lacks as an empty box. */
const uint8_t *font_rows(char letter);
#endif

/* picture.h - masks laid over frames, and sheets of such pictures side by side. Pixels
 * are RGB, (height,width,3) packed rows of bytes; masks (height,width), 0 and 255. */
#ifndef PROGRAMS_PICTURE_H
#define PROGRAMS_PICTURE_H
#include <kdas/image.h>
#include <stdbool.h>

typedef struct colour {
    uint8_t r, g, b;
} colour;

/* Told apart by people who see colours differently, too. */
extern const colour colour_truth, colour_teacher, colour_student, colour_both;

/* Tint what the mask covers and draw its outline, `line` pixels wide and inside the mask, so that
 * pixels outside are as they were. */
void picture_overlay(uint8_t *rgb, const uint8_t *mask, int64_t width, int64_t height, colour tint,
                     int line);
/* An outline that suits frames of this size. */
int picture_line(int64_t width, int64_t height);
/* Write text with its upper left corner at (x,y), letters 5 x 7 dots of `dot` pixels each. */
void picture_text(uint8_t *rgb, int64_t width, int64_t height, int64_t x, int64_t y, int dot,
                  colour ink, const char *text);

/* ---- Sheets: panels of one size in a row, each under its caption ----------------------------- */
typedef struct sheet {
    kdas_context *context;
    kdas_image   *image; /* the sheet itself              */
    kdas_image   *frame; /* the frame, resized to a panel */
    int           panels;
    int64_t       width, height; /* of a panel */
} sheet;

/* Make a sheet of dark ground for pictures of one frame. False after a sentence. */
bool sheet_begin(sheet *s, kdas_context *context, const kdas_view *frame, int panels);
void sheet_end(sheet *s);
/* Panel `i`: the frame alone; with a mask of the frame's size over it; or where two masks and
 * the truth differ (only_a, only_b, both wrong). */
bool sheet_frame(sheet *s, int i, const char *caption);
bool sheet_mask(sheet *s, int i, const char *caption, const kdas_view *mask, colour tint);
bool sheet_difference(sheet *s, int i, const char *caption, const kdas_view *truth,
                      const kdas_view *a, const kdas_view *b);
#endif

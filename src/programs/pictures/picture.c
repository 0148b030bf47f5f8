/* picture.c - masks laid over frames, and sheets of such pictures side by side. */
#include "pictures/picture.h"
#include <stdlib.h>
#include <string.h>
#include "pictures/font.h"
#include "system/say.h"

const colour colour_truth   = { 0xff, 0xff, 0xff };
const colour colour_teacher = { 0x56, 0xb4, 0xe9 };
const colour colour_student = { 0xff, 0xa0, 0x1e };
const colour colour_both    = { 0xe0, 0x4f, 0xb8 };

enum { PANEL_WIDTH = 240, MARGIN = 8, CAPTION = 24, DOT = 2 };
static const colour ground = { 0x16, 0x19, 0x20 }, ink = { 0xd8, 0xdd, 0xe6 };

static void blend(uint8_t *pixel, colour c, int share) /* share of c, 0..255 */
{
    pixel[0] = (uint8_t)((pixel[0] * (255 - share) + c.r * share + 127) / 255);
    pixel[1] = (uint8_t)((pixel[1] * (255 - share) + c.g * share + 127) / 255);
    pixel[2] = (uint8_t)((pixel[2] * (255 - share) + c.b * share + 127) / 255);
}

/* ---- Overlays -------------------------------------------------------------------------------- */

int picture_line(int64_t width, int64_t height)
{
    int64_t side = width < height ? width : height;

    return side < 300 ? 1 : (int)(side / 200);
}

/* Whether a pixel of the mask has one that is not within `reach`, along rows, columns or
 * diagonals. */
static bool at_edge(const uint8_t *mask, int64_t width, int64_t height, int64_t x, int64_t y,
                    int reach)
{
    for (int64_t dy = -reach; dy <= reach; dy++) {
        for (int64_t dx = -reach; dx <= reach; dx++) {
            int64_t u = x + dx, v = y + dy;

            if (dx * dx + dy * dy > reach * reach + reach || u < 0 || v < 0 || u >= width ||
                v >= height) {
                continue;
            }
            if (mask[v * width + u] < 128) return true;
        }
    }
    return false;
}

void picture_overlay(uint8_t *rgb, const uint8_t *mask, int64_t width, int64_t height, colour tint,
                     int line)
{
    kdas_view            frame = { rgb, width, height, 0, KDAS_PIXEL_RGB8 };
    kdas_view            where = { mask, width, height, 0, KDAS_PIXEL_GREY8 };
    kdas_overlay_options o;

    kdas_overlay_options_init(&o, sizeof o);
    memcpy(o.colour, (uint8_t[]){ tint.r, tint.g, tint.b }, sizeof o.colour);
    if (!ok(kdas_image_overlay(&frame, &where, rgb, 0, &o))) return;
    for (int64_t y = 0; y < height; y++) {
        for (int64_t x = 0; x < width; x++) {
            if (mask[y * width + x] >= 128 && at_edge(mask, width, height, x, y, line))
                blend(rgb + 3 * (y * width + x), tint, 255);
        }
    }
}

void picture_text(uint8_t *rgb, int64_t width, int64_t height, int64_t x, int64_t y, int dot,
                  colour c, const char *text)
{
    for (; *text; text++, x += 6 * dot) {
        const uint8_t *rows = font_rows(*text);

        for (int64_t v = y; v < y + 7 * dot; v++) {
            for (int64_t u = x; u < x + 5 * dot; u++) {
                bool lit = rows[(v - y) / dot] >> (4 - (u - x) / dot) & 1;

                if (lit && u >= 0 && v >= 0 && u < width && v < height)
                    blend(rgb + 3 * (v * width + u), c, 255);
            }
        }
    }
}

/* ---- Sheets ---------------------------------------------------------------------------------- */

bool sheet_begin(sheet *s, kdas_context *context, const kdas_view *frame, int panels)
{
    kdas_view view;
    uint8_t  *pixels;

    *s        = (sheet){ .context = context, .panels = panels, .width = PANEL_WIDTH };
    s->height = (PANEL_WIDTH * frame->height + frame->width / 2) / frame->width;
    if (s->height < 32) s->height = 32;
    if (s->height > 4 * PANEL_WIDTH) s->height = 4 * PANEL_WIDTH;
    if (!ok(kdas_image_resize(&s->frame, context, frame, s->width, s->height)) ||
        !ok(kdas_image_create(&s->image, context, MARGIN + panels * (s->width + MARGIN),
                              s->height + CAPTION + 2 * MARGIN, KDAS_PIXEL_RGB8))) {
        sheet_end(s);
        return false;
    }
    view   = kdas_image_view(s->image);
    pixels = kdas_image_pixels(s->image);
    for (int64_t i = 0; i < view.width * view.height; i++)
        blend(pixels + 3 * i, ground, 255);
    return true;
}

void sheet_end(sheet *s)
{
    kdas_image_destroy(s->image);
    kdas_image_destroy(s->frame);
    *s = (sheet){ 0 };
}

/* Put a panel's pixels in its place, and its caption above, cut to the panel's width. */
static void place(sheet *s, int i, const char *caption, const uint8_t *pixels)
{
    kdas_view view = kdas_image_view(s->image);
    uint8_t  *rgb  = kdas_image_pixels(s->image);
    int64_t   left = MARGIN + i * (s->width + MARGIN), top = MARGIN + CAPTION;
    char      text[PANEL_WIDTH / (6 * DOT) + 1];

    snprintf(text, sizeof text, "%s", caption);
    picture_text(rgb, view.width, view.height, left, MARGIN + (CAPTION - 7 * DOT) / 2 - 2, DOT, ink,
                 text);
    for (int64_t y = 0; y < s->height; y++) {
        memcpy(rgb + 3 * ((top + y) * view.width + left), pixels + 3 * y * s->width,
               (size_t)(3 * s->width));
    }
}

static uint8_t *copy_of_frame(const sheet *s)
{
    size_t   bytes  = (size_t)(3 * s->width * s->height);
    uint8_t *pixels = need(bytes);

    return memcpy(pixels, kdas_image_view(s->frame).data, bytes);
}

bool sheet_frame(sheet *s, int i, const char *caption)
{
    place(s, i, caption, kdas_image_view(s->frame).data);
    return true;
}

bool sheet_mask(sheet *s, int i, const char *caption, const kdas_view *mask, colour tint)
{
    kdas_image *small;
    uint8_t    *pixels;

    if (!ok(kdas_image_resize(&small, s->context, mask, s->width, s->height))) return false;
    pixels = copy_of_frame(s);
    picture_overlay(pixels, kdas_image_view(small).data, s->width, s->height, tint, 2);
    place(s, i, caption, pixels);
    free(pixels);
    kdas_image_destroy(small);
    return true;
}

/* Where the masks differ from each other or, together, from the truth; the frame is dimmed and
 * grey. */
static void paint_difference(const sheet *s, uint8_t *pixels, const uint8_t *truth,
                             const uint8_t *a, const uint8_t *b)
{
    for (int64_t i = 0; i < s->width * s->height; i++) {
        uint8_t *p    = pixels + 3 * i;
        uint8_t  grey = (uint8_t)((p[0] * 54 + p[1] * 183 + p[2] * 19) / 512);
        bool     on_a = a[i] > 127, on_b = b[i] > 127, is = truth[i] > 127;

        p[0] = p[1] = p[2] = grey;
        if (on_a != on_b) {
            blend(p, on_a ? colour_teacher : colour_student, 190);
        } else if (on_a != is) {
            blend(p, colour_both, 190);
        }
        if (is && at_edge(truth, s->width, s->height, i % s->width, i / s->width, 1)) {
            blend(p, colour_truth, 230);
        }
    }
}

bool sheet_difference(sheet *s, int i, const char *caption, const kdas_view *truth,
                      const kdas_view *a, const kdas_view *b)
{
    const kdas_view *from[3]  = { truth, a, b };
    kdas_image      *small[3] = { NULL, NULL, NULL };
    bool             done     = true;

    for (int k = 0; k < 3 && done; k++) {
        done = ok(kdas_image_resize(&small[k], s->context, from[k], s->width, s->height));
    }
    if (done) {
        uint8_t *pixels = copy_of_frame(s);

        paint_difference(s, pixels, kdas_image_view(small[0]).data, kdas_image_view(small[1]).data,
                         kdas_image_view(small[2]).data);
        place(s, i, caption, pixels);
        free(pixels);
    }
    for (int k = 0; k < 3; k++)
        kdas_image_destroy(small[k]);
    return done;
}

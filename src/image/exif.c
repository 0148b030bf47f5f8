/* exif.c - EXIF's orientation: how stored rows are turned to be seen. */
#include <string.h>
#include "image/image.h"

/* ---- Reading the tag ------------------------------------------------------------------------- */

typedef struct exif {
    const uint8_t *bytes;
    size_t         n;
    bool           big; /* the most significant byte comes first */
} exif;

static uint32_t get16(const exif *e, size_t at)
{
    const uint8_t *p = e->bytes + at;

    return e->big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t get32(const exif *e, size_t at)
{
    return e->big ? get16(e, at) << 16 | get16(e, at + 2) : get16(e, at + 2) << 16 | get16(e, at);
}

int kd_exif_orientation(const uint8_t *bytes, size_t n)
{
    enum { ORIENTATION = 0x0112, SHORT = 3, ENTRY = 12 };
    exif   e = { bytes, n, n && bytes[0] == 'M' };
    size_t at, count;

    if (n < 8 || (memcmp(bytes, "II*\0", 4) != 0 && memcmp(bytes, "MM\0*", 4) != 0)) return 1;
    at = get32(&e, 4);
    if (at > n || n - at < 2) return 1;
    count = get16(&e, at);
    at += 2;
    for (size_t i = 0; i < count && n - at >= ENTRY; i++, at += ENTRY) {
        if (get16(&e, at) != ORIENTATION || get16(&e, at + 2) != SHORT) continue;
        return get16(&e, at + 8) >= 1 && get16(&e, at + 8) <= 8 ? (int)get16(&e, at + 8) : 1;
    }
    return 1;
}

const char *kd_image_turn_note(const kd_image_info *frame, const kd_image_info *mask)
{
    bool differ = frame->width != mask->width || frame->height != mask->height;

    if (!differ || kd_image_stored_width(frame) != kd_image_stored_width(mask) ||
        kd_image_stored_height(frame) != kd_image_stored_height(mask))
        return "";
    return mask->turn >= 5 ? "; the mask's EXIF orientation turns it, and without it the sizes "
                             "would match: remove the tag from the mask, or save the frame turned"
                           : "; the frame's EXIF orientation turns it, and without it the sizes "
                             "would match: remove the tag from the frame, or save the mask turned";
}

/* ---- Turning --------------------------------------------------------------------------------- */

void kd_image_turn(void *to, const void *from, size_t size, const kd_image_info *info)
{
    /* Which corner of the stored rows is seen at the top left. */
    bool           right = info->turn == 2 || info->turn == 3 || info->turn == 7 || info->turn == 8;
    bool           lower = info->turn == 3 || info->turn == 4 || info->turn == 6 || info->turn == 7;
    int64_t        w = kd_image_stored_width(info), h = kd_image_stored_height(info);
    int64_t        step[2] = { right ? -1 : 1, lower ? -w : w }; /* along a stored row, down */
    int64_t        corner  = (right ? w - 1 : 0) + (lower ? h - 1 : 0) * w;
    int64_t        across = step[info->turn >= 5], down = step[info->turn < 5];
    uint8_t       *put = to;
    const uint8_t *all = from;

    for (int64_t y = 0; y < info->height; y++)
        for (int64_t x = 0; x < info->width; x++, put += size)
            memcpy(put, all + (size_t)(corner + x * across + y * down) * size, size);
}

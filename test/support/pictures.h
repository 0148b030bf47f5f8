/* pictures.h - images to test with, and image files built byte by byte. */
#ifndef KD_TEST_PICTURES_H
#define KD_TEST_PICTURES_H
#include "image/image.h"

/* Byte i of kd_test_picture; the script that asked Pillow used the same rule. */
uint8_t kd_test_value(int64_t i);
/* An image of those bytes. */
kdas_image *kd_test_picture(kdas_context *ctx, int64_t width, int64_t height, kdas_pixel pixel);
/* A smooth colour ramp, as JPEG likes it. */
kdas_image *kd_test_ramp(kdas_context *ctx, int64_t width, int64_t height);
/* Save it; a failure fails the running test. */
void kd_test_save(kdas_context *ctx, const char *path, const kdas_image *image);

/* Write a PNG of n bytes of raw rows (each begins with its filter's number), stored without
 * compression, to `to`. Returns the file's bytes: n + 68, and 12 + the palette's if it has one. */
size_t kd_test_png(uint8_t *to, uint32_t width, uint32_t height, int bits, int colour,
                   const void *palette, size_t palette_bytes, const uint8_t *rows, size_t n);
/* Give each chunk the checksum of what it now holds, so that an alteration reaches the decoder. */
void kd_test_mend_png(unsigned char *file, size_t n);

/* 3x2 pixels, 24 bits, lowest row first, rows padded to 12 bytes. */
extern const uint8_t kd_test_bmp[54 + 24];
/* A progressive JPEG, 16x16 grey, 40 + 10 x + 2 y, made by libjpeg. */
extern const uint8_t kd_test_progressive[293];

#endif

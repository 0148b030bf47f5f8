/* codec.c - the only file that uses stb_image and stb_image_write.
 *
 * Both run inside a session: their memory comes from the context's hooks and is kept in a list, and
 * fatal errors inside them (out of memory in the PNG writer, an assertion that fails on a damaged
 * file) leave by longjmp. The list is then freed. Nothing is printed, nothing aborts. */
#include <setjmp.h>
#include <string.h>
#include "io/crc.h"
#include "image/image.h"

/* A block that the codec holds; its bytes follow. */
struct block {
    struct block *next, **link;
    size_t        pad[2]; /* keeps the bytes aligned to 16 */
};

struct session {
    kdas_context *ctx;
    struct block *blocks;
    size_t        limit;  /* of one block: damaged files ask for more than their image can need */
    kdas_status   status; /* KDAS_OK until something fails */
    const char   *reason; /* the codec's words, or NULL: the sentence is set */
    jmp_buf       escape;

    /* the work: decode `bytes` to `to`, or encode `from` to `writer` */
    const kd_image_info *info;
    uint8_t             *bytes;
    size_t               end;
    bool                 open; /* a JPEG without an end marker */
    int                  channels;
    uint8_t             *to;
    uint16_t            *to16;
    const uint8_t       *from;
    const uint16_t      *from16;
    kd_writer           *writer;
};

static _Thread_local struct session *current;

static _Noreturn void codec_escape(kdas_status status, const char *reason)
{
    current->status = status;
    current->reason = reason;
    longjmp(current->escape, 1);
}

static void *codec_alloc(size_t n)
{
    struct block *b;

    if (n > current->limit) codec_escape(KDAS_EFORMAT, "its data are larger than its size allows");
    b = kd_calloc(current->ctx, 1, sizeof *b + n); /* zeros: a damaged file may leave holes */
    if (!b) codec_escape(KDAS_ENOMEM, NULL);
    b->next = current->blocks;
    b->link = &current->blocks;
    if (b->next) b->next->link = &b->next;
    current->blocks = b;
    return b + 1;
}

static void codec_free(void *memory)
{
    struct block *b = memory;

    if (!b) return;
    b--;
    *b->link = b->next;
    if (b->next) b->next->link = b->link;
    kd_free(current->ctx, b);
}

static void *codec_realloc(void *memory, size_t old, size_t n)
{
    void *wider = codec_alloc(n);

    if (memory) memcpy(wider, memory, KD_MIN(old, n));
    codec_free(memory);
    return wider;
}

#define CODEC_ASSERT(x) \
    ((x) ? (void)0 : codec_escape(KDAS_EFORMAT, "its data contradict themselves"))

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS           KDAS_IMAGE_MAX_SIDE
#define STBI_ASSERT(x)                CODEC_ASSERT(x)
#define STBI_MALLOC(n)                codec_alloc(n)
#define STBI_REALLOC_SIZED(p, old, n) codec_realloc(p, old, n)
#define STBI_FREE(p)                  codec_free(p)
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#define STBIW_ASSERT(x)                CODEC_ASSERT(x)
#define STBIW_MALLOC(n)                codec_alloc((size_t)(n))
#define STBIW_REALLOC_SIZED(p, old, n) codec_realloc(p, (size_t)(old), (size_t)(n))
#define STBIW_FREE(p)                  codec_free(p)
/* Both libraries overflow signed numbers in shifts and sums, and rely on wrapping: the Makefile
 * compiles this file with -fwrapv. */
/* Disabled functions stay declared, and GCC warns about them at the end of the file. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>

/* ---- Sessions -------------------------------------------------------------------------------- */

static kdas_status run(struct session *s, void (*work)(struct session *))
{
    current = s;
    if (setjmp(s->escape) == 0) work(s);
    while (s->blocks)
        codec_free(s->blocks + 1);
    current = NULL;
    return s->status;
}

/* ---- Decoding -------------------------------------------------------------------------------- */

enum { AHEAD = 8 }; /* more bytes than stb_image reads ahead */

/* Decode with these bytes between the data and the end marker. */
static stbi_uc *decode_jpeg_before(struct session *s, const char *ahead, int *w, int *h)
{
    stbi__context in;
    stbi__jpeg   *jpeg = codec_alloc(sizeof *jpeg); /* zeroed */
    stbi_uc      *pixels;
    int           components;

    memcpy(s->bytes + s->end, ahead, AHEAD);
    s->bytes[s->end + AHEAD]     = 0xFF;
    s->bytes[s->end + AHEAD + 1] = 0xD9;
    stbi__start_mem(&in, s->bytes, (int)(s->end + AHEAD + 2));
    jpeg->s = &in;
    stbi__setup_jpeg(jpeg);
    pixels = load_jpeg_image(jpeg, w, h, &components, s->channels);
    if (pixels && jpeg->nomore) codec_escape(KDAS_EFORMAT, "its coded data end early");
    return pixels;
}

/* stb_image reads zeros after the end of data. So zeros are inserted before the end marker. If it
 * still reaches the marker, the last scan lacks bits. Without an end marker in the file, the end
 * may lack fewer bits than that. Then the pixels must be the same with ones in place of the
 * zeros. */
static stbi_uc *decode_jpeg(struct session *s, int *w, int *h)
{
    static const char zeros[AHEAD] = { 0 }, ones[] = "\xFE\xFE\xFE\xFE\xFE\xFE\xFE\xFE";
    stbi_uc          *pixels, *again;
    size_t            mark = s->end;

    while (s->bytes[mark] == 0xFF)
        mark++;
    s->open = mark == s->end || s->bytes[mark] != 0xD9;
    pixels  = decode_jpeg_before(s, zeros, w, h);
    if (!pixels || !s->open) return pixels;
    again = decode_jpeg_before(s, ones, w, h);
    if (!again || memcmp(pixels, again, (size_t)*w * (size_t)*h * (size_t)s->channels) != 0)
        codec_escape(KDAS_EFORMAT, "its coded data end early");
    return pixels;
}

static void decode(struct session *s)
{
    int    w = 0, h = 0, components;
    size_t samples;
    void  *pixels;

    stbi__g_failure_reason = NULL; /* not every failure sets it */
    if (s->to16)
        pixels = stbi_load_16_from_memory(s->bytes, (int)s->end, &w, &h, &components, s->channels);
    else if (s->info->kind == KD_IMAGE_JPEG)
        pixels = decode_jpeg(s, &w, &h);
    else
        pixels = stbi_load_from_memory(s->bytes, (int)s->end, &w, &h, &components, s->channels);
    if (!pixels) {
        const char *reason = stbi_failure_reason();

        codec_escape(KDAS_EFORMAT, reason ? reason : "its data make no sense");
    }
    if (w != kd_image_stored_width(s->info) || h != kd_image_stored_height(s->info))
        codec_escape(KDAS_EFORMAT, "it says two different sizes");
    samples = (size_t)w * (size_t)h * (size_t)s->channels;
    if (s->to16)
        memcpy(s->to16, pixels, samples * sizeof *s->to16);
    else
        memcpy(s->to, pixels, samples);
}

static kdas_status decode_file(struct session *s, const char *path)
{
    const kd_image_info *info = s->info;

    /* 16-bit RGBA is 8 bytes a pixel; JPEG pads to whole blocks; chunks are appended to
     * doubling buffers. */
    s->limit =
        8 * (size_t)(info->width + 64) * (size_t)(info->height + 64) + 2 * s->end + (1u << 20);
    run(s, decode);
    if (s->reason && s->open)
        kd_fail(s->status, "'%s' is cut off: the JPEG image ends early", path);
    else if (s->reason)
        kd_fail(s->status, "'%s' is damaged: the decoder says \"%s\"", path, s->reason);
    return s->status;
}

kdas_status kd_codec_decode(kdas_context *ctx, uint8_t *to, int channels, const kd_image_info *info,
                            const char *path, uint8_t *bytes, size_t end)
{
    struct session s = {
        .ctx = ctx, .to = to, .channels = channels, .info = info, .bytes = bytes, .end = end
    };

    return decode_file(&s, path);
}

kdas_status kd_codec_decode16(kdas_context *ctx, uint16_t *to, int channels,
                              const kd_image_info *info, const char *path, uint8_t *bytes,
                              size_t end)
{
    struct session s = {
        .ctx = ctx, .to16 = to, .channels = channels, .info = info, .bytes = bytes, .end = end
    };

    return decode_file(&s, path);
}

/* ---- Encoding -------------------------------------------------------------------------------- */

static void put(void *user, void *data, int n)
{
    struct session *s = user;

    if (s->status == KDAS_OK) s->status = kd_writer_put(s->writer, data, (size_t)n);
}

static void store32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void put_chunk(struct session *s, const char *type, const uint8_t *data, uint32_t n)
{
    uint8_t head[8], tail[4];

    store32(head, n);
    memcpy(head + 4, type, 4);
    store32(tail, kd_crc32(kd_crc32(0, head + 4, 4), data, n));
    put(s, head, sizeof head);
    if (n) put(s, (void *)data, (int)n);
    put(s, tail, sizeof tail);
}

/* A grey PNG of 16 bits, which stb_image_write lacks. Rows are stored as differences from the row
 * above (filter 2), which suits maps. */
static void encode16(struct session *s)
{
    size_t   w = (size_t)s->info->width, h = (size_t)s->info->height, row = 2 * w;
    uint8_t  head[13] = { 0 }, *rows = codec_alloc(h * (row + 1)), *to = rows, *zipped;
    uint8_t *above = codec_alloc(row); /* zeros: above the first row */
    int      n;

    for (size_t y = 0; y < h; y++) {
        *to++ = 2;
        for (size_t i = 0; i < row; i++, to++) {
            uint8_t v = (uint8_t)(s->from16[y * w + i / 2] >> (i % 2 ? 0 : 8));

            *to      = (uint8_t)(v - above[i]);
            above[i] = v;
        }
    }
    zipped = stbi_zlib_compress(rows, (int)(to - rows), &n, 8);
    if (!zipped) codec_escape(KDAS_EIO, "it does not take these samples");
    store32(head, (uint32_t)w);
    store32(head + 4, (uint32_t)h);
    head[8] = 16;
    put(s, "\x89PNG\r\n\x1A\n", 8);
    put_chunk(s, "IHDR", head, sizeof head);
    put_chunk(s, "IDAT", zipped, (uint32_t)n);
    put_chunk(s, "IEND", NULL, 0);
}

kdas_status kd_codec_encode16(kdas_context *ctx, kd_writer *writer, const uint16_t *samples,
                              int64_t width, int64_t height)
{
    kd_image_info  info = { KD_IMAGE_PNG, width, height, 1, 16 };
    struct session s    = {
           .ctx = ctx, .limit = SIZE_MAX / 2, .info = &info, .from16 = samples, .writer = writer
    };

    run(&s, encode16);
    if (s.reason) kd_fail(s.status, "the image encoder says \"%s\"", s.reason);
    return s.status;
}

static void encode(struct session *s)
{
    int w = (int)s->info->width, h = (int)s->info->height, done;

    if (s->info->kind == KD_IMAGE_JPEG)
        done = stbi_write_jpg_to_func(put, s, w, h, s->channels, s->from, 90);
    else
        done = stbi_write_png_to_func(put, s, w, h, s->channels, s->from, w * s->channels);
    if (!done) codec_escape(KDAS_EIO, "it does not take these pixels");
}

kdas_status kd_codec_encode(kdas_context *ctx, kd_writer *writer, kd_image_kind kind,
                            const uint8_t *pixels, int64_t width, int64_t height, int channels)
{
    kd_image_info  info = { kind, width, height, channels };
    struct session s    = { .ctx      = ctx,
                            .limit    = SIZE_MAX / 2,
                            .info     = &info,
                            .channels = channels,
                            .from     = pixels,
                            .writer   = writer };

    run(&s, encode);
    if (s.reason) kd_fail(s.status, "the image encoder says \"%s\"", s.reason);
    return s.status;
}

/* tiff.c - the only file that uses libtiff: TIFF of grey, colours or a palette, of 1 to 16 bits,
 * in strips or tiles, of its first page. Errors and warnings come to a handler of the one file that
 * is read, so nothing is printed and nothing that the host may have set is changed. */
#include "image/image.h"

#ifndef KD_TIFF

bool kd_has_tiff(void) { return false; }

static kdas_status lacks_tiff(const char *path)
{
    return kd_fail(KDAS_EUNSUPPORTED,
                   "'%s' is a TIFF image, and this build of libkdas reads none: it was made "
                   "without libtiff 4.5",
                   path);
}

kdas_status kd_tiff_info(kd_image_info *out, kd_file *file)
{
    (void)out;
    return lacks_tiff(kd_file_path(file));
}

kdas_status kd_tiff_decode(kdas_context *ctx, uint16_t *to, int channels, const kd_image_info *info,
                           const char *path, const uint8_t *bytes, size_t n)
{
    (void)ctx, (void)to, (void)channels, (void)info, (void)bytes, (void)n;
    return lacks_tiff(path);
}

#else
#include <string.h>
#include <tiffio.h>
#include "base/text.h"

#define SPARE_MEMORY ((tmsize_t)16 << 20) /* of libtiff, beside what the file's size explains */
#define MAX_SAMPLES  6                    /* of a pixel; those after alpha are not used       */

bool kd_has_tiff(void) { return true; }

/* ---- A file as libtiff sees it --------------------------------------------------------------- */

typedef struct source {
    kd_file       *file;  /* read from here, or, if NULL, */
    const uint8_t *bytes; /* from memory                  */
    uint64_t       size, at;
    const char    *path;
    TIFF          *tiff;
    char           why[160]; /* libtiff's first error */
} source;

static tmsize_t read_bytes(thandle_t user, void *to, tmsize_t n)
{
    source  *s    = user;
    uint64_t left = s->at < s->size ? s->size - s->at : 0;
    size_t   take = (size_t)KD_MIN((uint64_t)KD_MAX(n, 0), left);

    if (s->file ? kd_file_read(s->file, s->at, to, take) != KDAS_OK : false) return -1;
    if (!s->file) memcpy(to, s->bytes + s->at, take);
    s->at += take;
    return (tmsize_t)take;
}

static tmsize_t write_nothing(thandle_t user, void *from, tmsize_t n)
{
    (void)user, (void)from, (void)n;
    return -1;
}

static toff_t seek_to(thandle_t user, toff_t at, int whence)
{
    source *s = user;

    s->at = whence == SEEK_SET ? at : whence == SEEK_CUR ? s->at + at : s->size + at;
    s->at = KD_MIN(s->at, s->size);
    return s->at;
}

static int    close_nothing(thandle_t user) { return user ? 0 : -1; }
static toff_t size_of(thandle_t user) { return ((source *)user)->size; }

static int keep_error(TIFF *tiff, void *user, const char *module, const char *format, va_list args)
{
    source *s = user;

    (void)tiff, (void)module;
    if (!s->why[0]) kd_vformat(s->why, sizeof s->why, format, args);
    return 1; /* no other handler is asked */
}

static int ignore_warning(TIFF *tiff, void *user, const char *module, const char *format,
                          va_list args)
{
    (void)tiff, (void)user, (void)module, (void)format, (void)args;
    return 1;
}

static kdas_status damaged(const source *s, const char *why)
{
    return kd_fail(KDAS_EFORMAT, "'%s' is damaged: %s%s%s", s->path,
                   s->why[0] ? "libtiff says \"" : "", s->why[0] ? s->why : why,
                   s->why[0] ? "\"" : "");
}

/* Open it; no single request of libtiff is larger than `most` and some spare memory. */
static kdas_status open_tiff(source *s, uint64_t most)
{
    TIFFOpenOptions *options = TIFFOpenOptionsAlloc();

    if (!options) return kd_fail(KDAS_ENOMEM, "libtiff has no memory to open '%s'", s->path);
    TIFFOpenOptionsSetErrorHandlerExtR(options, keep_error, s);
    TIFFOpenOptionsSetWarningHandlerExtR(options, ignore_warning, s);
    TIFFOpenOptionsSetMaxSingleMemAlloc(options, SPARE_MEMORY + (tmsize_t)most);
    s->tiff = TIFFClientOpenExt("TIFF", "rm", s, read_bytes, write_nothing, seek_to, close_nothing,
                                size_of, NULL, NULL, options);
    TIFFOpenOptionsFree(options);
    return s->tiff ? KDAS_OK : damaged(s, "its directory makes no sense");
}

static void close_tiff(source *s)
{
    if (s->tiff) TIFFClose(s->tiff);
}

/* ---- What it says ---------------------------------------------------------------------------- */

typedef struct layout {
    uint32_t width, height;
    uint16_t bits, samples, photometric;
    int      colours; /* samples of them: 1 or 3 */
    bool     alpha, planes, tiles;
    uint32_t tile_width, tile_height;
} layout;

static uint16_t tag(TIFF *tiff, uint32_t name, uint16_t without)
{
    uint16_t value = without;

    return TIFFGetFieldDefaulted(tiff, name, &value) ? value : without;
}

static bool is_packed_well(uint16_t compression)
{
    static const uint16_t known[] = { COMPRESSION_NONE,      COMPRESSION_PACKBITS,
                                      COMPRESSION_LZW,       COMPRESSION_ADOBE_DEFLATE,
                                      COMPRESSION_DEFLATE,   COMPRESSION_CCITTRLE,
                                      COMPRESSION_CCITTFAX3, COMPRESSION_CCITTFAX4 };

    for (size_t i = 0; i < KD_COUNT(known); i++)
        if (known[i] == compression) return TIFFIsCODECConfigured(compression);
    return false;
}

/* How many bytes one byte of the file can become. */
static uint64_t most_from_byte(uint16_t compression)
{
    switch (compression) {
    case COMPRESSION_NONE: return 1;
    case COMPRESSION_PACKBITS: return 64;
    case COMPRESSION_LZW: return 3000;
    case COMPRESSION_DEFLATE:
    case COMPRESSION_ADOBE_DEFLATE: return 1100;
    default: return KDAS_IMAGE_MAX_SIDE; /* CCITT: a bit for a white row */
    }
}

/* A small file cannot hold a large picture: refused before memory is taken. */
static kdas_status check_room(const source *s, const layout *l, uint16_t compression)
{
    uint64_t bytes = (uint64_t)l->width * l->height * l->samples * l->bits / 8;

    if (bytes / most_from_byte(compression) <= s->size) return KDAS_OK;
    return damaged(s, "it is too short for its size in pixels");
}

static kdas_status refuse(const source *s, const char *what, int value)
{
    return kd_fail(KDAS_EFORMAT,
                   "'%s': a TIFF of %s %d is not read; save it as PNG, or as a TIFF of 8 or 16 "
                   "bits, grey, RGB, RGBA or with a palette, packed by PackBits, LZW, deflate or "
                   "not at all",
                   s->path, what, value);
}

static kdas_status read_layout(layout *out, const source *s)
{
    TIFF    *t           = s->tiff;
    layout   l           = { 0 };
    uint16_t compression = tag(t, TIFFTAG_COMPRESSION, COMPRESSION_NONE);
    uint16_t format      = tag(t, TIFFTAG_SAMPLEFORMAT, SAMPLEFORMAT_UINT);

    TIFFGetField(t, TIFFTAG_IMAGEWIDTH, &l.width);
    TIFFGetField(t, TIFFTAG_IMAGELENGTH, &l.height);
    l.bits        = tag(t, TIFFTAG_BITSPERSAMPLE, 1);
    l.samples     = tag(t, TIFFTAG_SAMPLESPERPIXEL, 1);
    l.photometric = tag(t, TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
    l.planes      = tag(t, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG) == PLANARCONFIG_SEPARATE;
    l.tiles       = TIFFIsTiled(t);
    if (!is_packed_well(compression)) return refuse(s, "compression", compression);
    if (format != SAMPLEFORMAT_UINT && format != SAMPLEFORMAT_VOID && l.bits != 1)
        return refuse(s, "sample format", format);
    if (l.bits != 1 && l.bits != 2 && l.bits != 4 && l.bits != 8 && l.bits != 16)
        return refuse(s, "sample bits", l.bits);
    if (l.photometric == PHOTOMETRIC_RGB && l.samples >= 3)
        l.colours = 3;
    else if (l.photometric == PHOTOMETRIC_MINISBLACK || l.photometric == PHOTOMETRIC_MINISWHITE ||
             (l.photometric == PHOTOMETRIC_PALETTE && l.bits <= 8))
        l.colours = 1;
    else
        return refuse(s, "colour space", l.photometric);
    if (l.samples < 1 || l.samples > MAX_SAMPLES) return refuse(s, "samples", l.samples);
    l.alpha = l.samples > l.colours;
    if (l.tiles) {
        TIFFGetField(t, TIFFTAG_TILEWIDTH, &l.tile_width);
        TIFFGetField(t, TIFFTAG_TILELENGTH, &l.tile_height);
        if (!l.tile_width || !l.tile_height) return damaged(s, "its tiles have no size");
    }
    *out = l;
    return l.width <= KDAS_IMAGE_MAX_SIDE && l.height <= KDAS_IMAGE_MAX_SIDE
               ? check_room(s, &l, compression)
               : KDAS_OK; /* which is refused for its size */
}

kdas_status kd_tiff_info(kd_image_info *out, kd_file *file)
{
    source      s = { .file = file, .size = kd_file_size(file), .path = kd_file_path(file) };
    kdas_status st;
    layout      l;

    KD_TRY(open_tiff(&s, s.size));
    KD_TRY(read_layout(&l, &s));
    *out = (kd_image_info){ .kind   = KD_IMAGE_TIFF,
                            .width  = l.width,
                            .height = l.height,
                            .bits   = l.bits == 16 ? 16 : 8,
                            .turn   = tag(s.tiff, TIFFTAG_ORIENTATION, 1) };
    if (out->turn > 8) out->turn = 1;
    out->channels =
        (l.colours == 3 || l.photometric == PHOTOMETRIC_PALETTE ? 3 : 1) + (l.alpha ? 1 : 0);
done:
    close_tiff(&s);
    return st;
}

/* ---- Decoding -------------------------------------------------------------------------------- */

/* Where samples go. */
typedef struct target {
    uint16_t       *to; /* (height,width,channels) */
    int             channels;
    const layout   *l;
    const uint16_t *palette[3]; /* NULL: none */
    bool            narrow;     /* the palette has 8-bit numbers */
} target;

static uint32_t sample_at(const uint8_t *row, size_t i, int bits)
{
    uint16_t wide;

    if (bits == 8) return row[i];
    if (bits == 16) {
        memcpy(&wide, row + 2 * i, sizeof wide);
        return wide;
    }
    return row[i * (size_t)bits / 8] >> (8 - bits - i * (size_t)bits % 8) & ((1u << bits) - 1);
}

/* Put sample `s` of a stored pixel to its place: grey or a palette's colour goes to all of them. */
static void put_sample(const target *t, uint16_t *pixel, int s, uint32_t v)
{
    const layout *l       = t->l;
    bool          alpha   = t->channels % 2 == 0;
    int           colours = t->channels - alpha;
    uint32_t      most    = (1u << l->bits) - 1;

    if (s < l->colours && t->palette[0]) {
        for (int c = 0; c < colours; c++)
            pixel[c] = (uint16_t)(t->palette[c][v] >> (t->narrow ? 0 : 8));
        return;
    }
    if (s < l->colours && l->photometric == PHOTOMETRIC_MINISWHITE) v = most - v;
    if (l->bits < 8) v = v * 255 / most;
    if (s == l->colours) {
        if (alpha) pixel[colours] = (uint16_t)v;
    } else if (s < l->colours && l->colours == 1) {
        for (int c = 0; c < colours; c++)
            pixel[c] = (uint16_t)v;
    } else if (s < colours) {
        pixel[s] = (uint16_t)v;
    }
}

/* A stored row's n pixels from place (x, y) on; of planes, those of sample `plane`. */
static void put_row(const target *t, const uint8_t *row, size_t n, size_t x, size_t y, int plane)
{
    uint16_t *pixel = t->to + (y * t->l->width + x) * (size_t)t->channels;
    size_t    each  = t->l->planes ? 1 : t->l->samples;

    for (size_t i = 0; i < n; i++, pixel += t->channels)
        for (size_t s = 0; s < each; s++)
            put_sample(t, pixel, t->l->planes ? plane : (int)s,
                       sample_at(row, i * each + s, t->l->bits));
}

/* Whole strips are decoded, since PackBits of some writers runs on from row to row. */
static kdas_status decode_strips(const target *t, source *s, kdas_context *ctx, int plane)
{
    uint32_t    rows = 0;
    tmsize_t    each = TIFFScanlineSize(s->tiff);
    kdas_status st   = KDAS_OK;
    uint8_t    *strip;

    TIFFGetFieldDefaulted(s->tiff, TIFFTAG_ROWSPERSTRIP, &rows);
    rows = KD_MIN(rows, t->l->height);
    if (!rows || each < 1) return damaged(s, "its strips have no size");
    strip = kd_alloc(ctx, (size_t)each * rows);
    if (!strip) return KDAS_ENOMEM;
    for (uint64_t y = 0; st == KDAS_OK && y < t->l->height; y += rows) {
        uint32_t high = KD_MIN(rows, t->l->height - (uint32_t)y);
        uint32_t at   = TIFFComputeStrip(s->tiff, (uint32_t)y, (uint16_t)plane);

        if (TIFFReadEncodedStrip(s->tiff, at, strip, each * high) < each * high)
            st = damaged(s, "its rows end early");
        for (uint32_t i = 0; st == KDAS_OK && i < high; i++)
            put_row(t, strip + each * i, t->l->width, 0, (size_t)y + i, plane);
    }
    kd_free(ctx, strip);
    return st;
}

static kdas_status decode_tile(const target *t, source *s, uint8_t *tile, uint32_t x, uint32_t y,
                               int plane)
{
    const layout *l    = t->l;
    uint32_t      wide = KD_MIN(l->tile_width, l->width - x);
    uint32_t      high = KD_MIN(l->tile_height, l->height - y);

    if (TIFFReadTile(s->tiff, tile, x, y, 0, (uint16_t)plane) < 0)
        return damaged(s, "its tiles end early");
    for (uint32_t i = 0; i < high; i++)
        put_row(t, tile + (size_t)i * (size_t)TIFFTileRowSize(s->tiff), wide, x, y + i, plane);
    return KDAS_OK;
}

static kdas_status decode_tiles(const target *t, source *s, kdas_context *ctx, int plane,
                                uint64_t most)
{
    const layout *l    = t->l;
    tmsize_t      size = TIFFTileSize(s->tiff);
    kdas_status   st   = KDAS_OK;
    uint8_t      *tile;

    if (size < 1 || size > SPARE_MEMORY + (tmsize_t)most)
        return damaged(s, "its tiles are larger than its size allows");
    tile = kd_alloc(ctx, (size_t)size);
    if (!tile) return KDAS_ENOMEM;
    for (uint64_t y = 0; st == KDAS_OK && y < l->height; y += l->tile_height)
        for (uint64_t x = 0; st == KDAS_OK && x < l->width; x += l->tile_width)
            st = decode_tile(t, s, tile, (uint32_t)x, (uint32_t)y, plane);
    kd_free(ctx, tile);
    return st;
}

static void take_palette(target *t, TIFF *tiff)
{
    uint16_t *colour[3] = { NULL };

    if (t->l->photometric != PHOTOMETRIC_PALETTE ||
        !TIFFGetField(tiff, TIFFTAG_COLORMAP, &colour[0], &colour[1], &colour[2]))
        return;
    t->narrow = true;
    for (int c = 0; c < 3; c++) {
        t->palette[c] = colour[c];
        for (int i = 0; i < 1 << t->l->bits; i++)
            if (colour[c][i] > 255) t->narrow = false;
    }
}

/* Pixels without alpha of their own are opaque. */
static void fill_alpha(const target *t)
{
    size_t n = (size_t)t->l->width * t->l->height;

    for (size_t i = 0; i < n; i++)
        t->to[i * (size_t)t->channels + (size_t)t->channels - 1] = t->l->bits == 16 ? 65535 : 255;
}

kdas_status kd_tiff_decode(kdas_context *ctx, uint16_t *to, int channels, const kd_image_info *info,
                           const char *path, const uint8_t *bytes, size_t n)
{
    source      s    = { .bytes = bytes, .size = n, .path = path };
    uint64_t    most = (uint64_t)(info->width * info->height) * MAX_SAMPLES * 2 + 2 * n;
    layout      l;
    target      t = { .to = to, .channels = channels, .l = &l };
    kdas_status st;

    KD_TRY(open_tiff(&s, most));
    KD_TRY(read_layout(&l, &s));
    if (l.width != kd_image_stored_width(info) || l.height != kd_image_stored_height(info)) {
        st = damaged(&s, "it says two different sizes");
        goto done;
    }
    take_palette(&t, s.tiff);
    if (l.photometric == PHOTOMETRIC_PALETTE && !t.palette[0]) {
        st = damaged(&s, "its palette is missing");
        goto done;
    }
    if (channels % 2 == 0 && !l.alpha) fill_alpha(&t);
    for (int plane = 0; plane < (l.planes ? KD_MIN(l.samples, l.colours + 1) : 1); plane++)
        KD_TRY(l.tiles ? decode_tiles(&t, &s, ctx, plane, most)
                       : decode_strips(&t, &s, ctx, plane));
done:
    close_tiff(&s);
    return st;
}
#endif

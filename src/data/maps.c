/* maps.c - a teacher's maps on disk: 8- and 16-bit PNG of probabilities, safetensors of logits, and
 * their mean. What fits the budget of the frames' store is kept decoded until the end, as frames
 * are: 16-bit probabilities where all files are PNG, else floats. */
#include "base/process.h"
#include "data/maps.h"
#include <math.h>
#include <string.h>
#include "base/context.h"
#include "image/image.h"
#include "io/safetensors.h"

/* ---- Files ---- */

/* The tensor "P1", or the only one, as a map: leading dimensions of 1 are dropped. */
static kdas_status find_tensor(const kd_st_tensor **out, kd_map_file *map, kd_safetensors *file)
{
    const kd_st_tensor *t = kd_safetensors_find(file, "P1");

    if (!t && kd_safetensors_count(file) == 1) t = kd_safetensors_at(file, 0);
    if (!t)
        return kd_fail(KDAS_EFORMAT, "'%s' has %lld tensors, and none is called P1", map->path,
                       (long long)kd_safetensors_count(file));
    for (int i = 0; i < t->rank - 2; i++)
        if (t->dim[i] != 1)
            return kd_fail(KDAS_EFORMAT, "'%s': '%s' holds several maps; one is wanted, (H,W)",
                           map->path, t->name);
    if (t->dtype > KD_ST_BF16)
        return kd_fail(KDAS_EFORMAT, "'%s': '%s' is of type %s; logits are floats", map->path,
                       t->name, kd_st_dtype_name(t->dtype));
    if (t->rank < 2 || t->count < 1 || t->dim[t->rank - 2] > KDAS_IMAGE_MAX_SIDE ||
        t->dim[t->rank - 1] > KDAS_IMAGE_MAX_SIDE || t->count > KDAS_IMAGE_MAX_PIXELS)
        return kd_fail(KDAS_EFORMAT, "'%s': '%s' has not the shape of a map, (H,W)", map->path,
                       t->name);
    map->height = t->dim[t->rank - 2];
    map->width  = t->dim[t->rank - 1];
    *out        = t;
    return KDAS_OK;
}

static kdas_status open_logits(kd_map_file *map, kdas_context *ctx)
{
    kd_safetensors     *file;
    const kd_st_tensor *tensor;
    kdas_status         st;

    KD_RETURN(kd_safetensors_open(&file, ctx, map->path));
    st         = find_tensor(&tensor, map, file);
    map->least = 0x1p-24f; /* a float's step below 1 */
    if (st == KDAS_OK) map->bytes = tensor->bytes;
    kd_safetensors_close(file);
    return st;
}

static kdas_status open_png(kd_map_file *map, kdas_context *ctx)
{
    kd_file      *file;
    kd_image_info info;
    kdas_status   st;

    KD_RETURN(kd_image_open(&file, ctx, map->path));
    st         = kd_image_info_read(&info, file);
    map->bytes = kd_file_size(file);
    kd_file_close(file);
    KD_RETURN(st);
    KD_RETURN(kd_image_check_grey(&info, map->path));
    map->width  = info.width;
    map->height = info.height;
    map->least  = info.bits == 16 ? 0.5f / 65535 : 0.5f / 255;
    return KDAS_OK;
}

kdas_status kd_map_file_open(kd_map_file *out, kdas_context *ctx, const char *path)
{
    kdas_status st;

    *out = (kd_map_file){ .path   = kd_strdup(ctx, path),
                          .logits = kd_path_has_extension(path, ".safetensors") };
    if (!out->path) return KDAS_ENOMEM;
    st = out->logits ? open_logits(out, ctx) : open_png(out, ctx);
    if (st != KDAS_OK) kd_map_file_finish(out, ctx);
    return st;
}

void kd_map_file_finish(kd_map_file *file, kdas_context *ctx)
{
    kd_free(ctx, file->path);
    *file = (kd_map_file){ 0 };
}

/* ---- Decoding ---- */

static kdas_status check_size(const kd_map_file *map, int64_t width, int64_t height)
{
    if (width == map->width && height == map->height) return KDAS_OK;
    return kd_fail(KDAS_EFORMAT, "'%s' was %lldx%lld when it was found and is %lldx%lld now",
                   map->path, (long long)map->width, (long long)map->height, (long long)width,
                   (long long)height);
}

/* A PNG's samples, of 16 bits. */
static kdas_status decode_png(uint16_t **out, kdas_context *ctx, const kd_map_file *map)
{
    kd_image_info info;
    kdas_status   st;

    KD_RETURN(kd_image_load_grey16(out, &info, ctx, map->path));
    st = check_size(map, info.width, info.height);
    if (st == KDAS_OK) return st;
    kd_free(ctx, *out);
    *out = NULL;
    return st;
}

static kdas_status decode_logits(float *to, kdas_context *ctx, const kd_map_file *map)
{
    kdas_status         st   = KDAS_OK;
    kd_safetensors     *file = NULL;
    kd_map_file         now  = *map;
    const kd_st_tensor *tensor;

    KD_TRY(kd_safetensors_open(&file, ctx, map->path));
    KD_TRY(find_tensor(&tensor, &now, file));
    KD_TRY(check_size(map, now.width, now.height));
    KD_TRY(kd_safetensors_read_float(file, tensor, to));
    for (int64_t i = 0; i < map->width * map->height; i++) {
        if (!isfinite(to[i])) {
            st = kd_fail(KDAS_EFORMAT, "'%s' has logits that are not finite", map->path);
            goto done;
        }
        to[i] = 1 / (1 + expf(-to[i]));
    }
done:
    kd_safetensors_close(file);
    return st;
}

static void to_floats(float *to, const uint16_t *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = (float)from[i] / 65535.0f;
}

/* A file's probabilities, from kd_alloc. */
static kdas_status decode(float **out, kdas_context *ctx, const kd_map_file *map)
{
    kdas_status st      = KDAS_OK;
    int64_t     n       = map->width * map->height;
    uint16_t   *samples = NULL;
    float      *p       = kd_alloc(ctx, (size_t)n * sizeof *p);

    *out = NULL;
    if (!p) return KDAS_ENOMEM;
    if (map->logits) {
        KD_TRY(decode_logits(p, ctx, map));
    } else {
        KD_TRY(decode_png(&samples, ctx, map));
        to_floats(p, samples, n);
    }
    *out = p;
    p    = NULL;
done:
    kd_free(ctx, samples);
    kd_free(ctx, p);
    return st;
}

kdas_status kd_map_file_range(float range[2], kdas_context *ctx, const kd_map_file *file)
{
    int64_t n = file->width * file->height;
    float  *p;

    KD_RETURN(decode(&p, ctx, file));
    range[0] = range[1] = p[0];
    for (int64_t i = 1; i < n; i++) {
        range[0] = p[i] < range[0] ? p[i] : range[0];
        range[1] = p[i] > range[1] ? p[i] : range[1];
    }
    kd_free(ctx, p);
    return KDAS_OK;
}

/* ---- Maps ---- */

static kdas_status copy_file(kd_map_file *to, kdas_context *ctx, const kd_map_file *from)
{
    *to      = *from;
    to->path = kd_strdup(ctx, from->path);
    return to->path ? KDAS_OK : KDAS_ENOMEM;
}

kdas_status kd_map_create(kd_map **out, kd_frames *frames, const kd_map *before, kd_map_file *file)
{
    kdas_context *ctx   = frames->ctx;
    int32_t       count = before ? before->count + 1 : 1;
    kdas_status   st    = KDAS_OK;
    kd_map       *map   = kd_calloc(ctx, 1, sizeof *map);

    *out = NULL;
    if (map) map->file = kd_calloc(ctx, (size_t)count, sizeof *map->file);
    if (!map || !map->file) {
        kd_map_file_finish(file, ctx);
        kd_free(ctx, map);
        return KDAS_ENOMEM;
    }
    atomic_init(&map->users, 1);
    map->frames          = kd_frames_share(frames);
    map->count           = count;
    map->file[count - 1] = *file;
    *file                = (kd_map_file){ 0 };
    for (int32_t i = 0; i < count - 1; i++)
        KD_TRY(copy_file(&map->file[i], ctx, &before->file[i]));
    for (int32_t i = 0; i < count; i++) {
        const kd_map_file *f = &map->file[i];

        map->least += f->least / (float)count;
        if (f->width * f->height <= map->width * map->height) continue;
        map->width  = f->width;
        map->height = f->height;
    }
    *out = map;
    map  = NULL;
done:
    kd_map_drop(map);
    return st;
}

kd_map *kd_map_share(kd_map *map)
{
    if (map) atomic_fetch_add(&map->users, 1);
    return map;
}

/* Whether what is kept are 16-bit samples. */
static bool is_narrow(const kd_map *map)
{
    for (int32_t i = 0; i < map->count; i++)
        if (map->file[i].logits) return false;
    return true;
}

static uint64_t kept_bytes(const kd_map *map)
{
    return (uint64_t)(map->width * map->height) *
           (is_narrow(map) ? sizeof(uint16_t) : sizeof(float));
}

void kd_map_drop(kd_map *map)
{
    kdas_context *ctx;

    if (!map || atomic_fetch_sub(&map->users, 1) != 1) return;
    ctx = map->frames->ctx;
    if (map->kept && !kd_is_inherited(ctx)) {
        pthread_mutex_lock(&map->frames->lock);
        map->frames->used -= kept_bytes(map);
        pthread_mutex_unlock(&map->frames->lock);
    }
    for (int32_t i = 0; i < map->count; i++)
        kd_map_file_finish(&map->file[i], ctx);
    kd_frames_drop(map->frames);
    kd_free(ctx, map->kept);
    kd_free(ctx, map->file);
    kd_free(ctx, map);
}

uint64_t kd_map_hash(const kd_map *map)
{
    uint64_t h = (uint64_t)map->count;

    for (int32_t i = 0; i < map->count; i++) {
        const kd_map_file *f = &map->file[i];

        h = kd_mix64(h ^ kd_hash64(kd_path_base(f->path)));
        h = kd_mix64(h ^ ((uint64_t)f->width << 32 | (uint64_t)f->height));
        h = kd_mix64(h ^ f->bytes);
    }
    return h;
}

/* Add a file's probabilities, over the number of files, to the sum. */
static kdas_status add_file(float *sum, const kd_map *map, const kd_map_file *file)
{
    kdas_context *ctx = map->frames->ctx;
    kdas_status   st  = KDAS_OK;
    float        *p = NULL, *fitted = NULL;
    int64_t       n    = map->width * map->height;
    kdas_view     view = { NULL, file->width, file->height, 0, KDAS_PIXEL_GREYF32 };

    KD_TRY(decode(&p, ctx, file));
    if (file->width != map->width || file->height != map->height) {
        view.data = p;
        fitted    = kd_alloc(ctx, (size_t)n * sizeof *fitted);
        KD_TRY(fitted ? kd_resize_floats(ctx, fitted, map->width, map->height, &view)
                      : KDAS_ENOMEM);
    }
    for (int64_t i = 0; i < n; i++)
        sum[i] += (fitted ? fitted : p)[i] / (float)map->count;
done:
    kd_free(ctx, p);
    kd_free(ctx, fitted);
    return st;
}

/* The mean, from kd_alloc, of the type that is kept. */
static kdas_status decode_mean(void **out, const kd_map *map)
{
    kdas_context *ctx    = map->frames->ctx;
    kdas_status   st     = KDAS_OK;
    int64_t       n      = map->width * map->height;
    uint16_t     *narrow = NULL;
    float        *sum;

    *out = NULL;
    if (map->count == 1 && is_narrow(map)) {
        KD_RETURN(decode_png(&narrow, ctx, map->file));
        *out = narrow;
        return KDAS_OK;
    }
    sum = kd_calloc(ctx, (size_t)n, sizeof *sum);
    if (!sum) return KDAS_ENOMEM;
    for (int32_t i = 0; i < map->count; i++)
        KD_TRY(add_file(sum, map, &map->file[i]));
    if (is_narrow(map)) {
        narrow = kd_alloc(ctx, (size_t)n * sizeof *narrow);
        KD_TRY(narrow ? KDAS_OK : KDAS_ENOMEM);
        for (int64_t i = 0; i < n; i++)
            narrow[i] = (uint16_t)(KD_MIN(sum[i], 1.0f) * 65535.0f + 0.5f);
        *out = narrow;
    } else {
        *out = sum;
        sum  = NULL;
    }
done:
    kd_free(ctx, sum);
    return st;
}

/* Keep what was decoded if it fits and no other thread was first. True: ownership passes to the
 * map. */
static bool keep(kd_map *map, void *decoded)
{
    kd_frames *frames = map->frames;
    bool       kept;

    pthread_mutex_lock(&frames->lock);
    kept = !map->kept && kept_bytes(map) <= frames->budget - frames->used;
    if (kept) {
        map->kept = decoded;
        frames->used += kept_bytes(map);
    }
    pthread_mutex_unlock(&frames->lock);
    return kept;
}

/* The map's probabilities at its own size, from what was decoded. */
static kdas_status as_floats(float **out, const kd_map *map, const void *decoded)
{
    int64_t n = map->width * map->height;

    *out = kd_alloc(map->frames->ctx, (size_t)n * sizeof **out);
    if (!*out) return KDAS_ENOMEM;
    if (is_narrow(map))
        to_floats(*out, decoded, n);
    else
        memcpy(*out, decoded, (size_t)n * sizeof **out);
    return KDAS_OK;
}

static kdas_status fit(float **p, const kd_map *map, int64_t width, int64_t height)
{
    kdas_context *ctx  = map->frames->ctx;
    kdas_view     view = { *p, map->width, map->height, 0, KDAS_PIXEL_GREYF32 };
    float        *to;
    kdas_status   st;

    if (width == map->width && height == map->height) return KDAS_OK;
    to = kd_alloc(ctx, (size_t)(width * height) * sizeof *to);
    if (!to) return KDAS_ENOMEM;
    st = kd_resize_floats(ctx, to, width, height, &view);
    kd_free(ctx, *p);
    *p = to;
    return st;
}

kdas_status kd_map_read(float **out, kd_map *map, int64_t width, int64_t height)
{
    kdas_context *ctx = map->frames->ctx;
    kdas_status   st  = KDAS_OK;
    void         *own = NULL, *decoded;
    float        *p   = NULL;

    *out = NULL;
    KD_RETURN(kd_check_process(ctx));
    pthread_mutex_lock(&map->frames->lock);
    decoded = map->kept;
    pthread_mutex_unlock(&map->frames->lock);
    if (!decoded) {
        KD_RETURN(decode_mean(&decoded, map));
        own = keep(map, decoded) ? NULL : decoded;
    }
    KD_TRY(as_floats(&p, map, decoded));
    KD_TRY(fit(&p, map, width, height));
    *out = p;
    p    = NULL;
done:
    kd_free(ctx, own);
    kd_free(ctx, p);
    return st;
}

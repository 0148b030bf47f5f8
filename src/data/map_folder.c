/* map_folder.c - attach a teacher's maps from a folder to the frames of a dataset, and write such
 * maps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/context.h"
#include "base/process.h"
#include "data/dataset.h"
#include "data/pictures.h"
#include "image/image.h"
#include "io/safetensors.h"

static kdas_status list_maps(kd_pictures *maps, kdas_context *ctx, const char *dir)
{
    static const char *const endings[] = { ".png", ".safetensors", NULL };
    kd_path_kind             kind;

    KD_RETURN(kd_look_at(&kind, dir));
    if (kind != KD_PATH_FOLDER) return kd_fail(KDAS_ENOTFOUND, "there is no folder '%s'", dir);
    return kd_pictures_list(maps, ctx, dir, endings);
}

/* ---- Frames and files ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Two frames of one name would share a map. */
static kdas_status check_names(const kdas_dataset *dataset)
{
    const char **name = kd_alloc(dataset->ctx, (size_t)dataset->count * sizeof *name);
    kdas_status  st   = KDAS_OK;

    if (!name) return KDAS_ENOMEM;
    for (int64_t i = 0; i < dataset->count; i++)
        name[i] = kd_dataset_frame(dataset, i)->name;
    qsort(name, (size_t)dataset->count, sizeof *name, by_name);
    for (int64_t i = 1; i < dataset->count && st == KDAS_OK; i++)
        if (strcmp(name[i - 1], name[i]) == 0)
            st = kd_fail(KDAS_EINVAL,
                         "two frames are called '%s', so that their maps cannot be told apart",
                         name[i]);
    kd_free(dataset->ctx, name);
    return st;
}

static kdas_status check_found(const kdas_dataset *dataset, const kd_pictures *f)
{
    const char *first   = NULL;
    int64_t     missing = 0;

    for (int64_t i = 0; i < dataset->count; i++) {
        const char       *name = kd_dataset_frame(dataset, i)->name;
        const kd_picture *file = kd_pictures_find(f, name);

        if (!file && missing++ == 0) first = name;
        if (file && file + 1 < f->picture + f->count && strcmp(file[1].name, name) == 0)
            return kd_fail(KDAS_EFORMAT, "'%s' and '%s' are both maps of one frame%s", file[0].path,
                           file[1].path, kd_pictures_form(&file[0], &file[1]));
    }
    if (!missing) return KDAS_OK;
    return kd_fail(KDAS_ENOTFOUND,
                   "'%s' has no map for %lld of the %lld frames, the first '%s' (.png or "
                   ".safetensors)",
                   f->dir, (long long)missing, (long long)dataset->count, first);
}

/* Refuse maps that are all constant: probability maps of frames with polyps are not. Warn of maps
 * that hold 0 and 1 where 255 is meant. The first map usually decides. */
static kdas_status check_values(kdas_context *ctx, kd_map *const *map, int64_t count,
                                const char *dir)
{
    bool flat = true, dim = true;

    for (int64_t i = 0; i < count && (flat || dim); i++) {
        float range[2];

        KD_RETURN(kd_map_file_range(range, ctx, &map[i]->file[map[i]->count - 1]));
        flat = flat && range[0] == range[1];
        dim  = dim && range[1] < 1.5f / 255;
    }
    if (!flat && dim)
        kd_warn(ctx,
                "no map in '%s' has a probability above 1 / 255; an image holds the probability "
                "times 255 (65535 with 16 bits), not 0 and 1",
                dir);
    if (!flat) return KDAS_OK;
    return kd_fail(KDAS_EFORMAT,
                   "every map in '%s', such as '%s', has the same value in all its pixels: these "
                   "are no probability maps",
                   dir, kd_path_base(map[0]->file[map[0]->count - 1].path));
}

static void drop_all(kdas_context *ctx, kd_map **map, int64_t count)
{
    for (int64_t i = 0; map && i < count; i++)
        kd_map_drop(map[i]);
    kd_free(ctx, map);
}

/* New maps for all frames: the current files of each, and the folder's. */
static kdas_status make_maps(kd_map ***out, const kdas_dataset *dataset, const kd_pictures *f)
{
    kdas_context *ctx = dataset->ctx;
    kdas_status   st  = KDAS_OK;
    kd_map      **map = kd_calloc(ctx, (size_t)dataset->count, sizeof *map);

    if (!map) return KDAS_ENOMEM;
    for (int64_t i = 0; i < dataset->count; i++) {
        const kd_entry *e = &dataset->entry[i];
        kd_map_file     file;

        KD_TRY(kd_map_file_open(&file, ctx,
                                kd_pictures_find(f, kd_dataset_frame(dataset, i)->name)->path));
        KD_TRY(kd_map_create(&map[i], e->frames, e->map, &file));
    }
    *out = map;
    return KDAS_OK;
done:
    drop_all(ctx, map, dataset->count);
    return st;
}

kdas_status kdas_dataset_add_maps(kdas_dataset *dataset, const char *dir)
{
    kdas_status st  = KDAS_OK;
    kd_map    **map = NULL;
    kd_pictures f   = { 0 };

    if (!dataset || !dir)
        return kd_fail(KDAS_EINVAL, "kdas_dataset_add_maps: the %s is NULL",
                       dataset ? "folder" : "dataset");
    KD_RETURN(kd_check_process(dataset->ctx));
    if (!dataset->count) return kd_fail(KDAS_EINVAL, "kdas_dataset_add_maps: there are no frames");
    KD_TRY(check_names(dataset));
    KD_TRY(list_maps(&f, dataset->ctx, dir));
    KD_TRY(check_found(dataset, &f));
    KD_TRY(make_maps(&map, dataset, &f));
    KD_TRY(check_values(dataset->ctx, map, dataset->count, dir));
    for (int64_t i = 0; i < dataset->count; i++) {
        kd_map *before = dataset->entry[i].map;

        dataset->entry[i].map = map[i];
        map[i]                = before;
    }
done:
    drop_all(dataset->ctx, map, dataset->count);
    kd_pictures_finish(&f, dataset->ctx);
    return st;
}

int64_t kdas_dataset_maps(const kdas_dataset *dataset)
{
    return dataset && kd_dataset_has_maps(dataset) ? dataset->entry[0].map->count : 0;
}

/* ---- Writing ---- */

static kdas_status save_logits(kdas_context *ctx, const char *path, const float *logits,
                               int64_t height, int64_t width)
{
    kdas_status   st = KDAS_OK;
    kd_st_writer *writer;

    KD_RETURN(kd_st_writer_create(&writer, ctx));
    KD_TRY(kd_st_writer_put(writer, "P1", KD_ST_F32, 2, (int64_t[]){ height, width }, logits));
    st = kd_st_writer_save(writer, path, false);
done:
    kd_st_writer_destroy(writer);
    return st;
}

kdas_status kdas_map_save(kdas_context *context, const char *path, const float *logits,
                          int64_t height, int64_t width)
{
    kdas_view   view = { logits, width, height, 0, KDAS_PIXEL_GREYF32 };
    kdas_status st;
    float      *p;

    if (!context || !path)
        return kd_fail(KDAS_EINVAL, "kdas_map_save: the %s is NULL", context ? "path" : "context");
    KD_RETURN(kd_view_check(&view, "kdas_map_save"));
    for (int64_t i = 0; i < height * width; i++)
        if (!isfinite(logits[i]))
            return kd_fail(KDAS_EINVAL, "kdas_map_save: a logit for '%s' is not finite", path);
    if (kd_path_has_extension(path, ".safetensors"))
        return save_logits(context, path, logits, height, width);
    p = kd_alloc(context, (size_t)(height * width) * sizeof *p);
    if (!p) return KDAS_ENOMEM;
    for (int64_t i = 0; i < height * width; i++)
        p[i] = 1 / (1 + expf(-logits[i]));
    view.data = p;
    st        = kdas_image_save(context, path, &view);
    kd_free(context, p);
    return st;
}

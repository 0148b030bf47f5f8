/* pictures.c - list the files of a folder and of those below it that may be frames, masks or
 * maps. */
#include "data/pictures.h"
#include <stdlib.h>
#include <string.h>

static const char *const read_here[] = { ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", NULL };
static const char *const not_read[]  = { ".gif",  ".webp", ".jp2", ".avif",
                                         ".heic", ".ppm",  ".pgm", NULL };

static bool has_ending(const char *path, const char *const *endings)
{
    for (; *endings; endings++)
        if (kd_path_has_extension(path, *endings)) return true;
    return false;
}

/* A path without its last `ending` bytes, composed. */
static char *name_of(kdas_context *ctx, const char *path, size_t ending)
{
    char *cut = kd_printf(ctx, "%.*s", (int)(strlen(path) - ending), path);
    char *name;

    if (!cut) return NULL;
    name = kd_composed(ctx, cut);
    kd_free(ctx, cut);
    return name;
}

char *kd_picture_name(kdas_context *ctx, const char *path)
{
    bool image = has_ending(path, read_here) || has_ending(path, not_read);

    return name_of(ctx, path, image ? strlen(kd_path_extension(path)) : 0);
}

static kdas_status add(kd_pictures *p, kdas_context *ctx, const char *path, bool readable)
{
    kd_picture  one = { name_of(ctx, path, strlen(kd_path_extension(path))),
                        kd_path_join(ctx, p->dir, path), readable };
    kdas_status st  = one.name && one.path ? KDAS_OK : KDAS_ENOMEM;

    if (st == KDAS_OK)
        st = kd_grow(ctx, (void **)&p->picture, &p->capacity, p->count + 1, sizeof one);
    if (st == KDAS_OK) {
        p->picture[p->count++] = one;
        return KDAS_OK;
    }
    kd_free(ctx, one.name);
    kd_free(ctx, one.path);
    return st;
}

static int by_name(const void *a, const void *b)
{
    const kd_picture *p = a, *q = b;
    int               order = strcmp(p->name, q->name);

    return order ? order : strcmp(p->path, q->path);
}

static kdas_status pass_over(kd_pictures *p, kdas_context *ctx, const char *path)
{
    if (p->others++ > 0) return KDAS_OK;
    p->other = kd_strdup(ctx, path);
    return p->other ? KDAS_OK : KDAS_ENOMEM;
}

kdas_status kd_pictures_list(kd_pictures *p, kdas_context *ctx, const char *dir,
                             const char *const *endings)
{
    kdas_status st    = KDAS_OK;
    kd_names    names = { 0 };

    p->dir = kd_strdup(ctx, dir);
    if (!p->dir) return KDAS_ENOMEM;
    KD_TRY(kd_list_tree(&names, ctx, dir));
    for (size_t i = 0; i < names.count; i++) {
        bool readable = has_ending(names.name[i], endings ? endings : read_here);

        if (readable || (!endings && has_ending(names.name[i], not_read)))
            KD_TRY(add(p, ctx, names.name[i], readable));
        else
            KD_TRY(pass_over(p, ctx, names.name[i]));
    }
    if (p->count) qsort(p->picture, p->count, sizeof *p->picture, by_name);
done:
    kd_names_clear(&names, ctx);
    return st;
}

/* Whether the path has the name's own bytes. */
static bool is_composed(const kd_picture *p)
{
    size_t length = strlen(p->path) - strlen(kd_path_extension(p->path)), n = strlen(p->name);

    return length >= n && memcmp(p->path + length - n, p->name, n) == 0;
}

const char *kd_pictures_form(const kd_picture *a, const kd_picture *b)
{
    bool first = is_composed(a), second = is_composed(b);

    if (first && second) return "";
    if (first) return "; the second is written in Unicode's decomposed form (NFD)";
    if (second) return "; the first is written in Unicode's decomposed form (NFD)";
    return "; they are written in decomposed forms of Unicode";
}

void kd_pictures_finish(kd_pictures *p, kdas_context *ctx)
{
    for (size_t i = 0; i < p->count; i++) {
        kd_free(ctx, p->picture[i].name);
        kd_free(ctx, p->picture[i].path);
    }
    kd_free(ctx, p->picture);
    kd_free(ctx, p->other);
    kd_free(ctx, p->dir);
    *p = (kd_pictures){ 0 };
}

void kd_pictures_tell(const kd_pictures *p, kdas_context *ctx)
{
    if (p->others == 1)
        kd_warn(ctx, "'%s' in '%s' has no image's ending and is passed over", p->other, p->dir);
    else if (p->others)
        kd_warn(ctx, "%zu files in '%s' have no image's ending and are passed over, the first '%s'",
                p->others, p->dir, p->other);
}

size_t kd_pictures_place(const kd_pictures *p, const char *name)
{
    size_t low = 0, high = p->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (strcmp(p->picture[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const kd_picture *kd_pictures_find(const kd_pictures *p, const char *name)
{
    size_t at = kd_pictures_place(p, name);

    return at < p->count && strcmp(p->picture[at].name, name) == 0 ? &p->picture[at] : NULL;
}

size_t kd_pictures_same(const kd_pictures *p, size_t from, const char *name)
{
    size_t n = 0;

    while (from + n < p->count && strcmp(p->picture[from + n].name, name) == 0)
        n++;
    return n;
}

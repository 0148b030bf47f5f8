/* inputs.c - the images that kdas-segment is given: files, and all images in folders. */
#include "segment/inputs.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "system/files.h"
#include "system/say.h"

static void add(inputs *in, char *path, char *name)
{
    in->list              = need_more(in->list, (size_t)(in->count + 1) * sizeof *in->list);
    in->list[in->count++] = (input){ path, name };
}

/* Whether a file lies in the folder of results, which an earlier call may have filled. `out` is
 * resolved; NULL where there is none. */
static bool is_result(const char *path, const char *out)
{
    char  *real = out ? realpath(path, NULL) : NULL;
    size_t n    = out ? strlen(out) : 0;
    bool   is   = real && strncmp(real, out, n) == 0 && real[n] == '/';

    free(real);
    return is;
}

/* The folder of results if it is in `dir`, resolved, to be freed; else NULL. */
static char *results_in(const char *dir, const char *out)
{
    char *in = realpath(dir, NULL), *to = realpath(out, NULL);

    if (in && to && strncmp(in, to, strlen(in)) == 0 && to[strlen(in)] == '/') {
        free(in);
        return to;
    }
    free(in);
    free(to);
    return NULL;
}

static bool add_folder(inputs *in, kdas_context *context, const char *dir, const char *out)
{
    char                *results = results_in(dir, out);
    int64_t              before  = in->count, own;
    kdas_dataset        *frames  = NULL;
    kdas_dataset_options options;

    kdas_dataset_options_init(&options, sizeof options);
    options.unlabelled = 1;
    options.bad_file   = KDAS_BAD_FILE_SKIP;
    options.check      = 0; /* each is decoded once, when its turn comes */
    if (!ok(kdas_dataset_open(&frames, context, dir, &options))) {
        free(results);
        return false;
    }
    for (int64_t i = 0; i < kdas_dataset_count(frames); i++)
        if (!is_result(kdas_dataset_image_path(frames, i), results))
            add(in, text_of("%s", kdas_dataset_image_path(frames, i)),
                text_of("%s", kdas_dataset_name(frames, i)));
    own = kdas_dataset_count(frames) - (in->count - before);
    if (own && in->count == before) {
        say_error("all images of '%s' are in --out '%s', the folder for results: choose another "
                  "--out",
                  dir, out);
        free(results);
        kdas_dataset_destroy(frames);
        return false;
    }
    if (own)
        say_error("warning: %lld images in '%s' are results of before and are passed over",
                  (long long)own, out);
    free(results);
    in->bad += kdas_dataset_skipped(frames);
    kdas_dataset_destroy(frames);
    return true;
}

static bool is_folder(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool inputs_open(inputs *in, kdas_context *context, char **arguments, int count, const char *out)
{
    *in = (inputs){ 0 };
    for (int i = 0; i < count; i++) {
        const char *path = arguments[i], *slash = strrchr(path, '/');

        if (kdas_dataset_ignores(slash ? slash + 1 : path))
            say_error("warning: '%s' is no frame and is passed over", path);
        else if (!is_folder(path))
            add(in, text_of("%s", path), base_name(path));
        else if (!add_folder(in, context, path, out))
            return false;
    }
    if (!in->count) say_error("there is no image to segment");
    return in->count > 0;
}

void inputs_close(inputs *in)
{
    for (int64_t i = 0; i < in->count; i++) {
        free(in->list[i].path);
        free(in->list[i].name);
    }
    free(in->list);
    *in = (inputs){ 0 };
}

static int by_name(const void *a, const void *b)
{
    const input *p = a, *q = b;
    int          order = strcmp(p->name, q->name);

    return order ? order : strcmp(p->path, q->path);
}

bool inputs_differ(const inputs *in, const char *suffix)
{
    input *sorted = need((size_t)in->count * sizeof *sorted);
    bool   differ = true;

    memcpy(sorted, in->list, (size_t)in->count * sizeof *sorted);
    qsort(sorted, (size_t)in->count, sizeof *sorted, by_name);
    for (int64_t i = 1; i < in->count && differ; i++) {
        if (strcmp(sorted[i - 1].name, sorted[i].name) != 0) continue;
        say_error("'%s' and '%s' would both be written as '%s%s'", sorted[i - 1].path,
                  sorted[i].path, sorted[i].name, suffix);
        differ = false;
    }
    free(sorted);
    return differ;
}

/* ---- Nothing is written over an image ---- */

typedef struct place {
    dev_t       device;
    ino_t       inode;
    const char *path;
} place;

static int by_place(const void *a, const void *b)
{
    const place *p = a, *q = b;

    if (p->device != q->device) return p->device < q->device ? -1 : 1;
    return (p->inode > q->inode) - (p->inode < q->inode);
}

static bool place_of(place *out, const char *path)
{
    struct stat info;

    if (stat(path, &info) != 0) return false;
    *out = (place){ info.st_dev, info.st_ino, path };
    return true;
}

bool inputs_are_safe(const inputs *in, const char *out, const char *const *suffixes, int count)
{
    place  *places = need((size_t)in->count * sizeof *places);
    int64_t found  = 0;
    bool    safe   = true;

    for (int64_t i = 0; i < in->count; i++)
        found += place_of(&places[found], in->list[i].path);
    qsort(places, (size_t)found, sizeof *places, by_place);
    for (int64_t i = 0; i < in->count * count && safe; i++) {
        char *target = text_of("%s/%s%s", out, in->list[i / count].name, suffixes[i % count]);
        place at;
        const place *image = NULL;

        if (place_of(&at, target))
            image = bsearch(&at, places, (size_t)found, sizeof *places, by_place);
        if (image)
            say_error("'%s' would be written over the image '%s': choose another --out", target,
                      image->path);
        safe = !image;
        free(target);
    }
    free(places);
    return safe;
}

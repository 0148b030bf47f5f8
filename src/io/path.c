/* path.c - the text of paths, and folders: make them, list them. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/text.h"
#include "io/file.h"

/* ---- Text ------------------------------------------------------------------------------------ */

char *kd_path_join(kdas_context *ctx, const char *dir, const char *name)
{
    size_t n = strlen(dir);

    return kd_printf(ctx, "%s%s%s", dir, n == 0 || dir[n - 1] == '/' ? "" : "/", name);
}

const char *kd_path_base(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

const char *kd_path_extension(const char *path)
{
    const char *base = kd_path_base(path);
    const char *dot  = strrchr(base, '.');

    return dot && dot != base ? dot : base + strlen(base);
}

bool kd_path_has_extension(const char *path, const char *extension)
{
    return kd_same_letters(kd_path_extension(path), extension);
}

char *kd_path_stem(kdas_context *ctx, const char *path)
{
    const char *base = kd_path_base(path);

    return kd_printf(ctx, "%.*s", (int)(kd_path_extension(path) - base), base);
}

/* ---- Folders --------------------------------------------------------------------------------- */

bool kd_is_file(const char *path)
{
    struct stat s;

    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

bool kd_is_folder(const char *path)
{
    struct stat s;

    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

kdas_status kd_make_folders(kdas_context *ctx, const char *path)
{
    char  *part  = kd_strdup(ctx, path);
    size_t n     = strlen(path);
    int    error = n ? 0 : ENOENT;

    if (!part) return KDAS_ENOMEM;
    for (size_t i = 1; i <= n && !error; i++) {
        if (path[i] && path[i] != '/') continue;
        part[i] = 0;
        if (mkdir(part, 0777) != 0) {
            error = errno;
            if (kd_is_folder(part)) error = 0;
        }
        part[i] = path[i];
    }
    kd_free(ctx, part);
    if (!error) return KDAS_OK;
    return kd_fail(KDAS_EIO, "cannot make the folder '%s': %s", path, kd_error_text(error));
}

void kd_names_clear(kd_names *names, kdas_context *ctx)
{
    for (size_t i = 0; i < names->count; i++)
        kd_free(ctx, names->name[i]);
    kd_free(ctx, names->name);
    *names = (kd_names){ 0 };
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

kdas_status kd_list_folder(kd_names *out, kdas_context *ctx, const char *path)
{
    kdas_status    st = KDAS_OK;
    DIR           *dir;
    struct dirent *entry;

    kd_names_clear(out, ctx);
    dir = opendir(path);
    if (!dir)
        return kd_fail(errno == ENOENT || errno == ENOTDIR ? KDAS_ENOTFOUND : KDAS_EIO,
                       "cannot open the folder '%s': %s", path, kd_error_text(errno));
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.') continue;
        KD_TRY(
            kd_grow(ctx, (void **)&out->name, &out->capacity, out->count + 1, sizeof *out->name));
        out->name[out->count] = kd_strdup(ctx, entry->d_name);
        if (!out->name[out->count]) {
            st = KDAS_ENOMEM;
            goto done;
        }
        out->count++;
    }
    if (errno)
        st = kd_fail(KDAS_EIO, "cannot read the folder '%s': %s", path, kd_error_text(errno));
    else if (out->count)
        qsort(out->name, out->count, sizeof *out->name, by_bytes);
done:
    closedir(dir);
    if (st != KDAS_OK) kd_names_clear(out, ctx);
    return st;
}

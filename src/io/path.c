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

kdas_status kd_look_at(kd_path_kind *out, const char *path)
{
    struct stat s;
    int         error = stat(path, &s) == 0 ? 0 : errno;

    *out = KD_PATH_NONE;
    if (error == ENOENT || error == ENOTDIR) return KDAS_OK;
    if (error) return kd_fail(KDAS_EIO, "cannot look at '%s': %s", path, kd_error_text(error));
    *out = S_ISREG(s.st_mode) ? KD_PATH_FILE : S_ISDIR(s.st_mode) ? KD_PATH_FOLDER : KD_PATH_OTHER;
    return KDAS_OK;
}

kdas_status kd_check_folder(const char *path)
{
    kd_path_kind kind;

    KD_RETURN(kd_look_at(&kind, path));
    return kind == KD_PATH_FOLDER ? KDAS_OK
                                  : kd_fail(KDAS_ENOTFOUND, "there is no folder '%s'", path);
}

/* 0, or the errno. A folder that is new reaches the disk in the one above it, as a new file does. */
static int make_folder(const char *path)
{
    int         error = mkdir(path, 0777) == 0 ? 0 : errno;
    struct stat s;

    if (!error) return kd_sync_folder_of(path);
    if (kd_is_folder(path)) return 0;
    if (error != EEXIST) return error;
    return stat(path, &s) == 0 ? ENOTDIR : errno; /* a file, or a link that leads nowhere */
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
        error   = make_folder(part);
        part[i] = path[i];
    }
    kd_free(ctx, part);
    if (!error) return KDAS_OK;
    return kd_fail(KDAS_EIO, "cannot make the folder '%s': %s", path, kd_error_text(error));
}

bool kd_is_clutter(const char *name)
{
    static const char *const left[] = { "__MACOSX",  "@eaDir",       "#recycle",
                                        "@Recycle",  "$RECYCLE.BIN", "System Volume Information",
                                        "Thumbs.db", "ehthumbs.db",  "desktop.ini",
                                        "lost+found" };

    for (size_t i = 0; i < KD_COUNT(left); i++)
        if (kd_same_letters(name, left[i])) return true;
    return name[0] == '.';
}

void kd_names_clear(kd_names *names, kdas_context *ctx)
{
    for (size_t i = 0; i < names->count; i++)
        kd_free(ctx, names->name[i]);
    kd_free(ctx, names->name);
    *names = (kd_names){ 0 };
}

kdas_status kd_names_add(kd_names *names, kdas_context *ctx, char *name)
{
    kdas_status st = name ? KDAS_OK : KDAS_ENOMEM;

    if (st == KDAS_OK)
        st = kd_grow(ctx, (void **)&names->name, &names->capacity, names->count + 1,
                     sizeof *names->name);
    if (st == KDAS_OK)
        names->name[names->count++] = name;
    else
        kd_free(ctx, name);
    return st;
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
    int            error;

    kd_names_clear(out, ctx);
    dir   = opendir(path);
    error = dir ? 0 : errno;
    if (!dir)
        return kd_fail(error == ENOENT || error == ENOTDIR ? KDAS_ENOTFOUND : KDAS_EIO,
                       "cannot open the folder '%s': %s", path, kd_error_text(error));
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        if (kd_is_clutter(entry->d_name)) continue;
        KD_TRY(kd_names_add(out, ctx, kd_strdup(ctx, entry->d_name)));
    }
    error = errno;
    if (error)
        st = kd_fail(KDAS_EIO, "cannot read the folder '%s': %s", path, kd_error_text(error));
    else if (out->count)
        qsort(out->name, out->count, sizeof *out->name, by_bytes);
done:
    closedir(dir);
    if (st != KDAS_OK) kd_names_clear(out, ctx);
    return st;
}

/* Of folders: more are links that lead back, or to the same folders again and again. */
enum { MAX_DEPTH = 32, MAX_FOLDERS = 100000 };

/* List one folder of a tree: its files go to `out`, its folders to `folders`. */
static kdas_status list_level(kd_names *out, kd_names *folders, kdas_context *ctx, const char *path,
                              const char *below)
{
    kdas_status st    = KDAS_OK;
    kd_names    names = { 0 };
    char       *dir = kd_path_join(ctx, path, below), *full = NULL, *name = NULL;

    if (!dir) return KDAS_ENOMEM;
    KD_TRY(kd_list_folder(&names, ctx, dir));
    for (size_t i = 0; i < names.count; i++) {
        kd_path_kind kind;

        full = kd_path_join(ctx, dir, names.name[i]);
        name = kd_path_join(ctx, below, names.name[i]);
        st   = full && name ? kd_look_at(&kind, full) : KDAS_ENOMEM;
        if (st != KDAS_OK) {
            kd_free(ctx, name);
            goto done;
        }
        KD_TRY(kd_names_add(kind == KD_PATH_FOLDER ? folders : out, ctx, name));
        kd_free(ctx, full);
        full = NULL;
    }
done:
    kd_names_clear(&names, ctx);
    kd_free(ctx, full);
    kd_free(ctx, dir);
    return st;
}

static int depth_of(const char *path)
{
    int depth = 0;

    for (; *path; path++)
        depth += *path == '/';
    return depth;
}

kdas_status kd_list_tree(kd_names *out, kdas_context *ctx, const char *path)
{
    kdas_status st      = KDAS_OK;
    kd_names    folders = { 0 };

    kd_names_clear(out, ctx);
    KD_TRY(list_level(out, &folders, ctx, path, ""));
    for (size_t i = 0; i < folders.count; i++) {
        if (depth_of(folders.name[i]) >= MAX_DEPTH) {
            st = kd_fail(KDAS_EIO, "'%s' has folders in folders without end: '%s'", path,
                         folders.name[i]);
            goto done;
        }
        if (i >= MAX_FOLDERS) {
            st = kd_fail(KDAS_EIO, "'%s' has more than %d folders, by links that lead in circles?",
                         path, MAX_FOLDERS);
            goto done;
        }
        KD_TRY(list_level(out, &folders, ctx, path, folders.name[i]));
    }
    if (out->count) qsort(out->name, out->count, sizeof *out->name, by_bytes);
done:
    kd_names_clear(&folders, ctx);
    if (st != KDAS_OK) kd_names_clear(out, ctx);
    return st;
}

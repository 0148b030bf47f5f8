/* files.c - folders and paths, as far as the C library leaves them to us. */
#include "system/files.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "system/say.h"

bool path_exists(const char *path) { return access(path, F_OK) == 0; }

bool same_file(const char *a, const char *b)
{
    struct stat x, y;

    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

FILE *open_to_read(const char *path)
{
    int         fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat info;
    FILE       *file = NULL;
    int         why  = fd < 0 || fstat(fd, &info) != 0 ? errno : S_ISREG(info.st_mode) ? 0 : EINVAL;

    if (!why && !(file = fdopen(fd, "rb"))) why = errno;
    if (!file && fd >= 0) close(fd);
    if (!file) errno = why;
    return file;
}

static bool is_folder(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* mkdir -p: every prefix that ends before a slash, then the whole. */
static bool make_folders(const char *dir)
{
    char *path = text_of("%s", dir);
    bool  made = true;

    for (char *at = path + 1; made; at++) {
        char kept = *at;
        int  why;

        if (kept && kept != '/') continue;
        *at = '\0';
        why = mkdir(path, 0777) == 0 ? 0 : errno;
        if (why && !is_folder(path)) {
            struct stat info; /* EEXIST: what is in the way? */

            if (why == EEXIST) why = stat(path, &info) == 0 ? ENOTDIR : errno;
            say_error("cannot make the folder '%s': %s", path, strerror(why));
            made = false;
        }
        *at = kept;
        if (!kept) break;
    }
    free(path);
    return made;
}

bool folder_ready(const char *dir)
{
    char *probe;
    FILE *file;

    if (!make_folders(dir)) return false;
    probe = text_of("%s/.kdas-probe-%ld", dir, (long)getpid());
    file  = fopen(probe, "wb");
    if (!file) {
        say_error("cannot write into the folder '%s': %s", dir, strerror(errno));
    } else {
        fclose(file);
        remove(probe);
    }
    free(probe);
    return file != NULL;
}

char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name  = slash ? slash + 1 : path;
    const char *dot   = strrchr(name, '.');

    return text_of("%.*s", (int)(dot && dot != name ? dot - name : (long)strlen(name)), name);
}

unsigned char *file_bytes(const char *path, size_t *size)
{
    FILE          *file  = open_to_read(path);
    unsigned char *bytes = NULL;
    size_t         room  = 0;

    *size = 0;
    while (file && !feof(file) && !ferror(file)) {
        if (*size == room) bytes = need_more(bytes, room = room ? 2 * room : 65536);
        *size += fread(bytes + *size, 1, room - *size, file);
    }
    if (!file || ferror(file)) {
        say_error("cannot read '%s': %s", path, strerror(errno));
        free(bytes);
        bytes = NULL;
    }
    if (file) fclose(file);
    return bytes;
}

bool folder_has(const char *dir, const char *ending)
{
    DIR           *folder = opendir(dir);
    struct dirent *entry;
    bool           found = false;

    while (folder && !found && (entry = readdir(folder))) {
        size_t length = strlen(entry->d_name), tail = strlen(ending);

        found = length > tail && *entry->d_name != '.' &&
                !strcmp(entry->d_name + length - tail, ending);
    }
    if (folder) closedir(folder);
    return found;
}

/* written.c - see written.h. The list is a text, a line a file: size, FNV-1a hash of the content, name. A
 * file is written beside its place, then its line is appended, then it is moved. So whatever a run that is broken off
 * leaves at the place, the file of before or the new one, is in the list by its content. */
#define _GNU_SOURCE
#include "system/written.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "system/files.h"
#include "system/output.h"
#include "system/say.h"

#define LIST  ".written-by-kdas"
#define PLACE ".kdas-put-" /* and a process: a file that is not yet in its place */
#define KEPT  8 /* contents of a name that are remembered: runs that broke off leave several */

/* What a file was like. */
typedef struct stamp {
    unsigned long long size, hash;
} stamp;

typedef struct line {
    char *name;
    stamp was;
    long  order; /* in the list */
} line;

struct written {
    char *dir, *path;     /* of the list */
    line *lines;          /* by name, the newest first; the contents of a name differ */
    long  count, repeats; /* lines; those that say nothing new */
    char *swept;       /* the folder that was last looked through for what killed runs have left */
    FILE *file;        /* open for more, once something is noted */
    bool  unread, cut; /* the list cannot be read; its last line has no end */
};

/* `dir` NULL: the name is a path. False after a sentence. */
static bool stamp_of(stamp *out, const char *dir, const char *name)
{
    char         *path = text_of("%s%s%s", dir ? dir : "", dir ? "/" : "", name);
    FILE         *file = open_to_read(path);
    unsigned char part[16384];
    size_t        n;
    bool          fine = file != NULL;

    *out = (stamp){ 0, 0xcbf29ce484222325ull };
    while (file && (n = fread(part, 1, sizeof part, file)) > 0) {
        out->size += n;
        for (size_t i = 0; i < n; i++)
            out->hash = (out->hash ^ part[i]) * 0x100000001b3ull;
    }
    if (file && ferror(file)) fine = false;
    if (!fine) say_error("cannot read '%s': %s", path, strerror(errno));
    if (file) fclose(file);
    free(path);
    return fine;
}

static int by_name(const void *a, const void *b)
{
    const line *p = a, *q = b;
    int         order = strcmp(p->name, q->name);

    return order ? order : (p->order < q->order) - (p->order > q->order);
}

static bool same_stamp(const stamp *a, const stamp *b)
{
    return a->size == b->size && a->hash == b->hash;
}

/* Of the lines of a name, keep the newest of each content. */
static void settle(written *w)
{
    long kept = 0, first = 0; /* of the name, among those that are kept */

    qsort(w->lines, (size_t)w->count, sizeof *w->lines, by_name);
    for (long i = 0; i < w->count; i++) {
        bool known = false;

        if (kept > 0 && strcmp(w->lines[kept - 1].name, w->lines[i].name) != 0) first = kept;
        for (long k = first; k < kept; k++)
            known = known || same_stamp(&w->lines[k].was, &w->lines[i].was);
        if (known || kept - first == KEPT)
            free(w->lines[i].name);
        else
            w->lines[kept++] = w->lines[i];
    }
    w->repeats = w->count - kept;
    w->count   = kept;
}

/* A list may have been written by others: no name in it leads out of the folder. */
static bool is_inside(const char *name)
{
    if (*name == '/' || !*name) return false;
    for (const char *part = name; part; part = (part = strchr(part, '/')) ? part + 1 : NULL)
        if (!strncmp(part, "..", 2) && (!part[2] || part[2] == '/')) return false;
    return true;
}

static void read_list(written *w)
{
    FILE   *file = open_to_read(w->path);
    char   *text = NULL;
    size_t  room = 0;
    ssize_t n;

    while (file && (n = getline(&text, &room, file)) > 0) {
        stamp was;
        int   at = 0;

        w->cut = text[n - 1] != '\n';
        if (w->cut) break;
        text[n - 1] = '\0';
        if (sscanf(text, "%llu %llx%n", &was.size, &was.hash, &at) < 2 || text[at++] != ' ' ||
            !is_inside(text + at))
            continue;
        w->lines           = need_more(w->lines, (size_t)(w->count + 1) * sizeof *w->lines);
        w->lines[w->count] = (line){ text_of("%s", text + at), was, w->count };
        w->count++;
    }
    w->unread = file ? ferror(file) : errno != ENOENT && errno != ENOTDIR;
    if (w->unread) say_error("cannot read '%s': %s", w->path, strerror(errno));
    free(text);
    if (file) fclose(file);
}

written *written_open(const char *dir)
{
    written *w = need(sizeof *w);

    w->dir  = text_of("%s", dir);
    w->path = text_of("%s/" LIST, dir);
    read_list(w);
    if (w->count) settle(w);
    return w;
}

void written_close(written *w)
{
    if (!w) return;
    for (long i = 0; i < w->count; i++)
        free(w->lines[i].name);
    if (w->file) fclose(w->file);
    free(w->lines);
    free(w->swept);
    free(w->dir);
    free(w->path);
    free(w);
}

/* Whether nothing has this name; a link that leads nowhere has it, and what cannot be seen may. */
static bool is_free(const char *dir, const char *name)
{
    char       *path = text_of("%s/%s", dir, name);
    struct stat info;
    int         why  = lstat(path, &info) == 0 ? 0 : errno;
    bool        none = why == ENOENT || why == ENOTDIR;

    if (why && !none) say_error("cannot look at '%s': %s", path, strerror(why));

    free(path);
    return none;
}

bool written_may_replace(const written *w, const char *name)
{
    long  low = 0, high = w->count;
    stamp now;
    bool  own = false;

    if (is_free(w->dir, name)) return true;
    while (low < high) { /* the first line of the name */
        long middle = (low + high) / 2;

        if (strcmp(name, w->lines[middle].name) <= 0)
            high = middle;
        else
            low = middle + 1;
    }
    if (low == w->count || strcmp(name, w->lines[low].name) != 0 || !stamp_of(&now, w->dir, name))
        return false;
    for (; low < w->count && !own && !strcmp(name, w->lines[low].name); low++)
        own = same_stamp(&now, &w->lines[low].was);
    return own;
}

static bool put(FILE *file, const stamp *is, const char *name)
{
    return fprintf(file, "%llu %016llx %s\n", is->size, is->hash, name) > 0;
}

/* Open the list for more. If most of it is old, it is written anew before. */
static FILE *open_list(const written *w)
{
    output to;

    if (w->unread) return NULL; /* which was said */
    if (w->repeats > w->count && output_open(&to, w->path)) {
        for (long i = w->count; i-- > 0;) /* the newest last */
            put(to.file, &w->lines[i].was, w->lines[i].name);
        output_close(&to); /* the old list is good, too */
    }
    return fopen(w->path, "a");
}

static bool append(written *w, const stamp *is, const char *name)
{
    if (!w->file && (w->file = open_list(w)) && w->cut) fputc('\n', w->file);
    if (w->file && put(w->file, is, name) && fflush(w->file) == 0) return true;
    say_error("cannot write '%s': %s", w->path, strerror(errno));
    return false;
}

/* ---- Writing --------------------------------------------------------------------------------- */

/* Remove what processes that are gone have left in a folder, which ends in a slash or is empty. */
static void sweep(written *w, const char *folder)
{
    char          *path = text_of("%s/%s", w->dir, folder);
    DIR           *dir  = w->swept && !strcmp(w->swept, folder) ? NULL : opendir(path);
    struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        char *end, *file;
        long  pid;

        if (strncmp(entry->d_name, PLACE, strlen(PLACE)) != 0) continue;
        pid = strtol(entry->d_name + strlen(PLACE), &end, 10);
        if (pid < 1 || *end != '.' || kill((pid_t)pid, 0) == 0 || errno != ESRCH) continue;
        file = text_of("%s%s", path, entry->d_name);
        unlink(file);
        free(file);
    }
    if (dir) {
        closedir(dir);
        free(w->swept);
        w->swept = text_of("%s", folder);
    }
    free(path);
}

/* A link is written through and keeps its file; what is no file is the library's to refuse. */
static bool is_moved_to(const char *path)
{
    struct stat info;

    return lstat(path, &info) != 0 || S_ISREG(info.st_mode);
}

char *written_place(written *w, const char *name)
{
    const char *slash = strrchr(name, '/'), *dot = strrchr(name, '.');
    char       *folder = text_of("%.*s", (int)(slash ? slash - name + 1 : 0), name);
    char       *place  = text_of("%s/%s", w->dir, name);

    if (is_moved_to(place)) {
        free(place);
        sweep(w, folder);
        place = text_of("%s/%s" PLACE "%ld%s", w->dir, folder, (long)getpid(),
                        dot && (!slash || dot > slash) ? dot : ".");
    }
    free(folder);
    return place;
}

/* With the rights of the file that it replaces. */
static bool move(const char *place, const char *path)
{
    struct stat info;

    if (stat(path, &info) == 0) (void)!chmod(place, info.st_mode & 0777); /* some systems refuse */
    return output_move(place, path);
}

bool written_put(written *w, const char *name, char *place, bool made)
{
    char *path  = text_of("%s/%s", w->dir, name);
    bool  moves = strcmp(place, path) != 0, done;
    stamp now;

    done = made && stamp_of(&now, NULL, place) && (strchr(name, '\n') || append(w, &now, name)) &&
           (!moves || move(place, path));
    if (!done && moves) unlink(place);
    if (!done) say_error("'%s' is not written", path);
    free(path);
    free(place);
    return done;
}

void written_remove(written *w)
{
    for (long i = 0; i < w->count; i++) {
        char *path = text_of("%s/%s", w->dir, w->lines[i].name);

        if (written_may_replace(w, w->lines[i].name)) unlink(path);
        free(path);
    }
    if (!w->unread) unlink(w->path);
}

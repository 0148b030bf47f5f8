/* written.c - see written.h. The list is a text, a line a file: size, FNV-1a hash of the content, name. A
 * line is appended before a file is written, and another one when it has been, so that a run that is broken off
 * leaves the list complete; of several lines of a name the last one counts. */
#include "system/written.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "system/files.h"
#include "system/output.h"
#include "system/say.h"

#define LIST ".written-by-kdas"

/* What a file was like. */
typedef struct stamp {
    unsigned long long size, hash;
} stamp;

/* The line of a file that is about to be written: what then has the name is the program's. */
static const stamp begun = { ~0ull, 0 };

typedef struct line {
    char *name;
    stamp was;
    long  order; /* in the list */
} line;

struct written {
    char *dir, *path;     /* of the list */
    line *lines;          /* by name, one each */
    long  count, repeats; /* lines; those that were replaced by later ones */
    FILE *file;           /* open for more, once something is noted */
    bool  unread, cut;    /* the list cannot be read; its last line has no end */
};

/* False after a sentence. */
static bool stamp_of(stamp *out, const char *dir, const char *name)
{
    char         *path = text_of("%s/%s", dir, name);
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

    return order ? order : (p->order > q->order) - (p->order < q->order);
}

/* Of lines with one name, keep the last. */
static void settle(written *w)
{
    long kept = 0;

    qsort(w->lines, (size_t)w->count, sizeof *w->lines, by_name);
    for (long i = 0; i < w->count; i++) {
        if (i + 1 < w->count && !strcmp(w->lines[i].name, w->lines[i + 1].name))
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
    long        low = 0, high = w->count;
    stamp       now;
    const line *found = NULL;

    if (is_free(w->dir, name)) return true;
    while (low < high && !found) {
        long middle = (low + high) / 2;
        int  order  = strcmp(name, w->lines[middle].name);

        if (order == 0) found = &w->lines[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    if (found && found->was.size == begun.size) return true;
    return found && stamp_of(&now, w->dir, name) && now.size == found->was.size &&
           now.hash == found->was.hash;
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
        for (long i = 0; i < w->count; i++)
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

bool written_begin(written *w, const char *name)
{
    return strchr(name, '\n') || append(w, &begun, name);
}

bool written_note(written *w, const char *name)
{
    stamp now;

    return strchr(name, '\n') || (stamp_of(&now, w->dir, name) && append(w, &now, name));
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

/* output.c - tables and lists that a program writes into a file. */
#include "system/output.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "system/say.h"

/* A device, a pipe or a link, e.g. /dev/stdout: written to as it is, never replaced. */
static bool is_special(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0 && !S_ISREG(info.st_mode);
}

static int standard = -1; /* standard output, once it is claimed */

static bool is_standard(const char *path) { return strcmp(path, "-") == 0; }

void output_claim(const char *path)
{
    if (!path || !is_standard(path) || standard >= 0) return;
    fflush(stdout);
    standard = dup(STDOUT_FILENO);
    if (standard >= 0) dup2(STDERR_FILENO, STDOUT_FILENO);
}

bool output_same(const char *a, const char *b) { return a && b && strcmp(a, b) == 0; }

static bool open_standard(output *o)
{
    int copy = dup(standard >= 0 ? standard : STDOUT_FILENO);

    *o      = (output){ .path = "standard output" };
    o->file = copy >= 0 ? fdopen(copy, "w") : NULL;
    if (o->file) return true;
    say_error("cannot write to standard output: %s", strerror(errno));
    if (copy >= 0) close(copy);
    return false;
}

bool output_open(output *o, const char *path)
{
    if (is_standard(path)) return open_standard(o);
    *o      = (output){ .path = path, .part = is_special(path) ? NULL : text_of("%s.tmp", path) };
    o->file = fopen(o->part ? o->part : path, "w");
    if (o->file) return true;
    say_error("cannot write '%s': %s", path, strerror(errno));
    free(o->part);
    return false;
}

bool output_close(output *o)
{
    bool fine = fflush(o->file) == 0 && !ferror(o->file);

    fine = fclose(o->file) == 0 && fine;
    if (fine && o->part) fine = rename(o->part, o->path) == 0;
    if (!fine) {
        say_error("cannot write '%s': %s", o->path, strerror(errno));
        if (o->part) remove(o->part);
    }
    free(o->part);
    return fine;
}

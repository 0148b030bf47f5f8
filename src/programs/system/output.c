/* output.c - tables and lists that a program writes into a file. */
#include "system/output.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "system/say.h"

/* A device, a pipe or a link, e.g. /dev/stdout: written to as it is, never replaced. */
static bool is_special(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0 && !S_ISREG(info.st_mode);
}

bool output_open(output *o, const char *path)
{
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

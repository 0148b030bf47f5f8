/* written.h - which files of a folder a program wrote itself. A list in the folder, a hidden file,
 * has their names, sizes and hashes. So a program can run again into its own results, and does not
 * replace what is of others, or was changed since. */
#ifndef PROGRAMS_WRITTEN_H
#define PROGRAMS_WRITTEN_H
#include <stdbool.h>

typedef struct written written;

/* Read the list of a folder, which need not be there. To be closed. */
written *written_open(const char *dir);
void     written_close(written *w); /* NULL is fine */
/* Whether dir/name may be written: there is no such file, or it is as the program left it. */
bool written_may_replace(const written *w, const char *name);
/* Where to write what shall become dir/name: a hidden file beside it, with the same ending. To be given to
 * written_put(). */
char *written_place(written *w, const char *name);
/* Note what the file at `place` is like, and move it to dir/name. `made`: it was written; else, or if this fails, it
 * is removed. False after a sentence. A run that is broken off at any moment can be made again, and what others put at
 * the place since is not taken for the program's. */
bool written_put(written *w, const char *name, char *place, bool made);
/* Remove all files of the list that are as the program left them. */
void written_remove(written *w);
#endif

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
/* Note that dir/name, which may be replaced, is about to be written: a run that is broken off before
 * the next call can be made again. False after a sentence. */
bool written_begin(written *w, const char *name);
/* Note that dir/name has just been written. False after a sentence. */
bool written_note(written *w, const char *name);
/* Remove all files of the list that are as the program left them. */
void written_remove(written *w);
#endif

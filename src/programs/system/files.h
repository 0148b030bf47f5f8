/* files.h - folders and paths, as far as the C library leaves them to us. */
#ifndef PROGRAMS_FILES_H
#define PROGRAMS_FILES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Paths are made with text_of() and freed by the caller. Functions that return false have said
 * why. */

/* Make a folder with all above it, and prove that a file can be written there. */
bool folder_ready(const char *dir);
bool path_exists(const char *path);
/* Both are there, and are one file under two names or the same. */
bool same_file(const char *a, const char *b);
/* The part after the last slash without its ending: "x/frame.7.jpg" gives "frame.7". To be
 * freed. */
char *base_name(const char *path);
/* Open a file to read it; NULL with errno. What is no file, such as a pipe, is refused at once, with EINVAL. */
FILE *open_to_read(const char *path);
/* The whole file, to be freed; NULL after a sentence. */
unsigned char *file_bytes(const char *path, size_t *size);
/* Whether a file in the folder ends in `ending`; hidden ones do not count. */
bool folder_has(const char *dir, const char *ending);
#endif

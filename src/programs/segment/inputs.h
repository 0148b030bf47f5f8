/* inputs.h - the images that kdas-segment is given: files, and all images in folders. */
#ifndef PROGRAMS_INPUTS_H
#define PROGRAMS_INPUTS_H
#include <kdas/data.h>
#include <stdbool.h>

/* Results are called DIR/name_mask.png and so on; a name from a folder may have folders in it. */
typedef struct input {
    char *path, *name;
} input;

typedef struct inputs {
    input  *list;
    int64_t count;
    int64_t bad; /* files in folders that are no images after all; the library has named them */
} inputs;

/* Functions return false after a sentence.
 *
 * Take the arguments: a folder stands for the images that kdas_dataset_open() finds in it, but
 * for those in `out`, the folder of results. */
bool inputs_open(inputs *in, kdas_context *context, char **arguments, int count, const char *out);
void inputs_close(inputs *in);
/* No two images would be written to the same file OUT/name + suffix. */
bool inputs_differ(const inputs *in, const char *suffix);
/* None of the files OUT/name + suffix is one of the images. */
bool inputs_are_safe(const inputs *in, const char *out, const char *const *suffixes, int count);
#endif

/* file.h - all that a file is: weights of ours or of anybody, or a checkpoint. */
#ifndef PROGRAMS_INSPECT_FILE_H
#define PROGRAMS_INSPECT_FILE_H
#include <kdas/model.h>
#include <stdbool.h>

/* Print it, by its content and not its name. `size`: of the input that costs are for; zeros: that
 * of the weights, else 352. False after a sentence. */
bool file_inspect(kdas_context *context, const char *path, const int64_t size[2]);
#endif

/* table.h - the costs that the KDAS paper prints of the networks that it compares, made again. */
#ifndef PROGRAMS_INSPECT_TABLE_H
#define PROGRAMS_INSPECT_TABLE_H
#include <kdas/model.h>
#include <stdbool.h>

/* Print it; false after a sentence. */
bool table_print(kdas_context *context);

#endif

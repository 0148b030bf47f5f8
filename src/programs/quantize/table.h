/* table.h - what a calibration found, as a table of layers. */
#ifndef QUANTIZE_TABLE_H
#define QUANTIZE_TABLE_H
#include <kdas/quantize.h>
#include <stdbool.h>

/* For people, with the errors of the whole. `wide_error`: what a layer above it is wide for. */
void table_print(const kdas_calibrator *calibrator, double wide_error);
/* For programs. False after a sentence. */
bool table_write(const kdas_calibrator *calibrator, const char *path);
#endif

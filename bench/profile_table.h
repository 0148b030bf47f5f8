/* profile_table.h - where a figure's time goes: tables by op, by program and by node. */
#ifndef BENCH_PROFILE_TABLE_H
#define BENCH_PROFILE_TABLE_H
#include <kdas/kdas.h>
#include <stdbool.h>
#include "timing.h"

/* Measure the machine in a process of its own, whose memory does not count here, and print it. Before the first
 * context of this process. */
bool profile_roofline(const kdas_context_options *options);
void profile_print_roofline(void);
/* Open --profile-tsv; true if there is nothing to open. */
bool profile_open(void);
/* Put it in its place, or drop it. */
bool profile_close(bool keep);
/* Run the figure with the profile on, and print its tables. `seconds`: of a run without. */
bool profile_figure(kdas_context *ctx, const figure *f, double seconds);
#endif

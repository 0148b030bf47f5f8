/* work.c - the trainings of a kdas-distill by row and seed. */
#include "distill/work.h"

training *work_run(const work *w, int row, int seed)
{
    return &w->runs[row * w->settings.seed_count + seed];
}

const char *work_row_name(const work *w, int row)
{
    if (w->settings.preset_count > 1) return w->settings.presets[row];
    return w->settings.quantize ? "student int8" : "student";
}

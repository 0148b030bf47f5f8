/* watched.h - a copy of a model's network for calibration: in f32, its grids can be watched and set,
 * its weights rounded, layer by layer. */
#ifndef KD_WATCHED_H
#define KD_WATCHED_H
#include "model/model.h"

typedef struct kd_watched {
    kdas_context       *ctx;
    const kd_model_def *def;
    kd_model_form       form; /* borrows the model's wide layers */
    kd_params          *params;
    float              *values; /* of all parameters, as the model had them; by their offsets */
    kd_arena           *arena;
    kd_graph           *shape;   /* at the smallest size: layers and names */
    kd_program         *program; /* of the size n, h, w; NULL before the first run */
    int64_t             n, h, w;
    int32_t             maps, answer; /* kdas_model_maps(), kdas_model_answer() */
    kd_staging          images;
} kd_watched;

/* The values are those that the model has now; all ranges are empty. */
kdas_status kd_watched_create(kd_watched *out, const kdas_model *model);
/* Also of zeros. */
void kd_watched_finish(kd_watched *w);

/* Run on images in host memory, (n,h,w,3). `watch` NULL: nobody watches. */
kdas_status kd_watched_run(kd_watched *w, const float *images, int64_t n, int64_t height,
                           int64_t width, kd_watch_fn watch, void *user);
/* The answer of the last run, in memory of the context: the sigmoid of the sum of the answer's maps,
 * or all outputs without maps, one after the other. `count`: its floats. */
kdas_status kd_watched_answer(kd_watched *w, float **out, int64_t *count);

/* Set the range that is parameter `param`; NULL: empty. */
kdas_status kd_watched_set_range(kd_watched *w, int param, const float range[2]);
/* Round a layer's weights, parameter `param`; `error` receives the relative error unless it is NULL.
 * Restore undoes it. */
kdas_status kd_watched_round(kd_watched *w, int param, double *error);
kdas_status kd_watched_restore(kd_watched *w, int param);

#endif

/* calibrator.h - the inside of kdas_calibrator. */
#ifndef KD_CALIBRATOR_H
#define KD_CALIBRATOR_H
#include "quantize/histogram.h"
#include "quantize/watched.h"

/* A range: the operand of a QUANTIZE. */
typedef struct kd_calibrated_grid {
    int           param;        /* the range, in the parameters */
    bool          gelu;         /* GELU alone reads it */
    kd_histogram *seen, *fresh; /* of all batches that count; of the one that runs */
    float         range[2];
    double        error; /* relative, of the values */
    double        clipped;
} kd_calibrated_grid;

typedef struct kd_layer_on_grid {
    char  *name;
    int    grid;   /* index */
    int    weight; /* parameter; -1: none */
    double weight_error, output_error;
    bool   wide;
} kd_layer_on_grid;

/* Frames that are kept, all of one size. */
typedef struct kd_probe {
    float  *images; /* NULL: none yet */
    int64_t count, height, width;
} kd_probe;

struct kdas_calibrator {
    kdas_context           *ctx;
    kdas_model             *model;
    kdas_calibrator_options options;
    kd_watched              net;
    kd_calibrated_grid     *grid;
    kd_layer_on_grid       *layer;
    int                     grids, layers;
    int64_t                 frames;
    kd_probe                probe;
    bool                    finished;
    char                   *wide; /* kdas_calibrator_wide() */
    double                  error, error_with_wide;
};

/* Measure the errors of the network's answer, layer by layer and together, into the layers and
 * *all, for the ranges of `grid`. Without probe frames all are NaN. (errors.c) */
kdas_status kd_measure_layers(kdas_calibrator *c, kd_layer_on_grid *layer,
                              const kd_calibrated_grid *grid, double *all);
/* The same with all layers rounded that are not wide. */
kdas_status kd_measure_narrow(kdas_calibrator *c, const kd_layer_on_grid *layer,
                              const kd_calibrated_grid *grid, double *error);

#endif

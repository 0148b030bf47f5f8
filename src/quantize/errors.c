/* errors.c - what rounding a layer changes of the network's answer. */
#include <math.h>
#include "quantize/calibrator.h"

typedef struct answer {
    float  *value;
    int64_t count;
} answer;

static kdas_status run(kdas_calibrator *c, answer *out)
{
    const kd_probe *p = &c->probe;

    *out = (answer){ 0 };
    KD_RETURN(kd_watched_run(&c->net, p->images, p->count, p->height, p->width, NULL, NULL));
    return kd_watched_answer(&c->net, &out->value, &out->count);
}

/* The error of the present state against `whole`. */
static kdas_status compare(kdas_calibrator *c, const answer *whole, double *error)
{
    double change = 0, square = 0;
    answer a;

    KD_RETURN(run(c, &a));
    for (int64_t i = 0; i < a.count; i++) {
        double d = (double)a.value[i] - whole->value[i];

        change += d * d;
        square += (double)whole->value[i] * whole->value[i];
    }
    kd_free(c->ctx, a.value);
    *error = change > 0 ? sqrt(change / square) : 0;
    return KDAS_OK;
}

/* Put a layer on its grid, or off it. */
static kdas_status round_layer(kdas_calibrator *c, kd_layer_on_grid *l, const kd_calibrated_grid *g,
                               double *weight_error)
{
    KD_RETURN(kd_watched_set_range(&c->net, g[l->grid].param, g[l->grid].range));
    return l->weight < 0 ? KDAS_OK : kd_watched_round(&c->net, l->weight, weight_error);
}

static kdas_status restore_layer(kdas_calibrator *c, const kd_layer_on_grid *l,
                                 const kd_calibrated_grid *g)
{
    KD_RETURN(kd_watched_set_range(&c->net, g[l->grid].param, NULL));
    return l->weight < 0 ? KDAS_OK : kd_watched_restore(&c->net, l->weight);
}

static kdas_status restore_all(kdas_calibrator *c)
{
    for (int i = 0; i < c->layers; i++)
        KD_RETURN(restore_layer(c, &c->layer[i], c->grid));
    return KDAS_OK;
}

kdas_status kd_measure_layers(kdas_calibrator *c, kd_layer_on_grid *layer,
                              const kd_calibrated_grid *grid, double *all)
{
    answer      whole = { 0 };
    kdas_status st;

    *all = NAN;
    KD_TRY(restore_all(c)); /* a call before may have failed */
    if (c->probe.count) KD_TRY(run(c, &whole));
    for (int i = 0; i < c->layers; i++) {
        layer[i].weight_error = 0;
        layer[i].output_error = NAN;
        KD_TRY(round_layer(c, &layer[i], grid, &layer[i].weight_error));
        if (c->probe.count) KD_TRY(compare(c, &whole, &layer[i].output_error));
        KD_TRY(restore_layer(c, &layer[i], grid));
    }
    if (!c->probe.count) goto done;
    for (int i = 0; i < c->layers; i++)
        KD_TRY(round_layer(c, &layer[i], grid, NULL));
    KD_TRY(compare(c, &whole, all));
    KD_TRY(restore_all(c));
done:
    kd_free(c->ctx, whole.value);
    return st;
}

kdas_status kd_measure_narrow(kdas_calibrator *c, const kd_layer_on_grid *layer,
                              const kd_calibrated_grid *grid, double *error)
{
    answer      whole = { 0 };
    kdas_status st;

    *error = NAN;
    KD_TRY(restore_all(c));
    if (!c->probe.count) goto done;
    KD_TRY(run(c, &whole));
    for (int i = 0; i < c->layers; i++) {
        kd_layer_on_grid l = layer[i];

        if (!l.wide) KD_TRY(round_layer(c, &l, grid, NULL));
    }
    KD_TRY(compare(c, &whole, error));
    KD_TRY(restore_all(c));
done:
    kd_free(c->ctx, whole.value);
    return st;
}

/* stem.c - EfficientNet-Lite was trained on pixels u = (x - 127) / 128. Networks here get
 * ImageNet's normalisation v = (x / 255 - mean) / deviation. So u = scale v + offset for each
 * channel: the filters take the scale, and the mean of the batch norm behind them gives up what the
 * offset would have added. (At the picture's edge, where zeros are padded, the two differ.)
 *
 * The file does not say which pixels it was trained on, but two things show it: the published
 * classifier is in it, and the running mean is nearer to what a mean pixel of ImageNet gives for u
 * than to zero, which is what it gives for v. So a file that was rewritten before is left alone. */
#include <string.h>
#include "model/stem.h"

static const double mean[3] = { 0.485, 0.456, 0.406 }, deviation[3] = { 0.229, 0.224, 0.225 };

static double offset_of(int c) { return (255 * mean[c] - 127) / 128; }
static double scale_of(int c) { return 255 * deviation[c] / 128; }

static int entry(const kd_pairing *p, const char *name) { return kd_params_find(p->params, name); }

static bool has_classifier(const kd_pairing *p)
{
    bool head = false, classifier = false;

    for (int64_t i = 0; i < kd_weights_count(p->file, p->set); i++) {
        const char *name = kd_weights_at(p->file, p->set, i)->name;

        if (strlen(name) < p->renaming.strip) continue; /* the counter of an average */
        name += p->renaming.strip;
        head       = head || strcmp(name, "_conv_head.weight") == 0;
        classifier = classifier || strcmp(name, "_fc.weight") == 0;
    }
    return head && classifier;
}

/* What the offset adds to output `o` of the filters w (outputs,3,taps). */
static double added(const float *w, int64_t o, int64_t taps)
{
    double sum = 0;

    for (int c = 0; c < 3; c++)
        for (int64_t i = 0; i < taps; i++)
            sum += (double)w[(o * 3 + c) * taps + i] * offset_of(c);
    return sum;
}

bool kd_stem_adapt(const kd_pairing *p, float *const *values)
{
    int     k = entry(p, "backbone._conv_stem.weight"), b = entry(p, "backbone._bn0.running_mean");
    float  *w, *m;
    int64_t outputs, taps;
    double  far = 0, whole = 0;

    if (k < 0 || b < 0 || !values[k] || !values[b] || !has_classifier(p)) return false;
    w       = values[k];
    m       = values[b];
    outputs = kd_params_at(p->params, b)->count;
    taps    = kd_params_at(p->params, k)->count / outputs / 3;
    for (int64_t o = 0; o < outputs; o++) {
        double rest = m[o] - added(w, o, taps);

        far += rest * rest;
        whole += (double)m[o] * m[o];
    }
    if (far >= whole) return false;
    for (int64_t o = 0; o < outputs; o++) {
        m[o] = (float)(m[o] - added(w, o, taps));
        for (int c = 0; c < 3; c++)
            for (int64_t i = 0; i < taps; i++)
                w[(o * 3 + c) * taps + i] = (float)(w[(o * 3 + c) * taps + i] * scale_of(c));
    }
    return true;
}

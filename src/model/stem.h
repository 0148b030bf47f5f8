/* stem.h - backbones that were trained on pixels of another normalisation. */
#ifndef KD_STEM_H
#define KD_STEM_H
#include "model/pairing.h"

/* If the values are EfficientNet-Lite's as published, which were trained on (x - 127) / 128,
 * rewrite the stem's filters and its batch norm's mean for ImageNet's normalisation. `values`: by
 * entry; NULL where the file has none. True: they were rewritten. */
bool kd_stem_adapt(const kd_pairing *pairing, float *const *values);

#endif

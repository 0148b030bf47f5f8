/* tally.c - one pass over an image: counts of each value on polyp and on background. */
#include <string.h>
#include "metric/metric.h"

void kd_tally_make(kd_tally *out, const kd_pair *pair)
{
    memset(out, 0, sizeof *out);
    for (int64_t y = 0; y < pair->height; y++) {
        const uint8_t *p  = pair->prediction + y * pair->prediction_stride;
        const uint8_t *g  = pair->truth + y * pair->truth_stride;
        int64_t        on = 0;

        for (int64_t x = 0; x < pair->width; x++) {
            int class = kd_is_polyp(g[x]);

            out->count[class][p[x]]++;
            on += class;
            out->columns += class ? x : 0;
        }
        out->polyp += on;
        out->rows += on * y;
    }
    out->pixels = pair->width * pair->height;
}

kd_moments kd_tally_moments(const kd_tally *tally, int class)
{
    kd_moments m = { 0 };

    for (int v = 0; v < KD_LEVELS; v++) {
        m.n += tally->count[class][v];
        m.sum += v * tally->count[class][v];
        m.squares += v * v * tally->count[class][v];
    }
    return m;
}

double kd_moments_spread(kd_moments m)
{
    return (double)((__int128)m.n * m.squares - (__int128)m.sum * m.sum);
}

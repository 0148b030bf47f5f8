/* distance.c - the nearest polyp pixel of every pixel, in two linear passes.
 *
 * Down the columns first: the nearest polyp row in each column. Then along each row: the square
 * of the distance from pixel x to the nearest polyp pixel of column u is (x - u)^2 + h(u), a
 * parabola over x for each u, and the lower envelope of the parabolas is the answer (Felzenszwalb
 * and Huttenlocher 2012; Maurer, Qi and Raghavan 2003). All in integers, so ties are ties; they
 * go to the leftmost column and then to the upper row, as the indices of
 * scipy.ndimage.distance_transform_edt do. */
#include "metric/metric.h"

void kd_nearest_rows(int16_t *rows, int16_t *below, const kd_pair *pair)
{
    int64_t w = pair->width, h = pair->height;

    for (int64_t y = 0; y < h; y++) { /* rows: the polyp row at or above y */
        const uint8_t *g   = pair->truth + y * pair->truth_stride;
        int16_t       *row = rows + y * w;

        for (int64_t x = 0; x < w; x++)
            row[x] = kd_is_polyp(g[x]) ? (int16_t)y : y > 0 ? row[x - w] : KD_NONE;
    }
    for (int64_t x = 0; x < w; x++)
        below[x] = KD_NONE;
    for (int64_t y = h - 1; y >= 0; y--) { /* then the nearer of that and the one below */
        int16_t *row = rows + y * w;

        for (int64_t x = 0; x < w; x++) {
            int above = row[x];

            if (above == y) below[x] = (int16_t)y;
            if (above == KD_NONE || (below[x] != KD_NONE && below[x] - y < y - above))
                row[x] = below[x];
        }
    }
}

/* Is parabola v nowhere the lowest between its neighbours u < v < w? It is so if u and v meet
 * right of where v and w meet. A parabola that only touches the envelope stays: it is harmless.
 * Sides are at most KDAS_IMAGE_MAX_SIDE = 2^14, so the products stay below 2^44. */
static bool is_hidden(int64_t u, int64_t hu, int64_t v, int64_t hv, int64_t w, int64_t hw)
{
    return (v * v - u * u + hv - hu) * (w - v) > (w * w - v * v + hw - hv) * (v - u);
}

static inline int64_t square(int64_t a) { return a * a; }

void kd_nearest_in_row(int32_t *columns, int32_t *squares, int32_t *sites, const int16_t *rows,
                       int64_t y, int64_t width)
{
    int64_t count = 0, at = 0;

    for (int64_t x = 0; x < width; x++) {
        int64_t height = square(rows[x] - y);

        if (rows[x] == KD_NONE) continue;
        while (count > 1) {
            int64_t u = sites[count - 2], v = sites[count - 1];

            if (!is_hidden(u, square(rows[u] - y), v, square(rows[v] - y), x, height)) break;
            count--;
        }
        sites[count++] = (int32_t)x;
    }
    for (int64_t x = 0; x < width; x++) {
        int64_t nearest = square(sites[at] - x) + square(rows[sites[at]] - y);

        while (at + 1 < count) {
            int64_t next = square(sites[at + 1] - x) + square(rows[sites[at + 1]] - y);

            if (next >= nearest) break;
            nearest = next;
            at++;
        }
        columns[x] = sites[at];
        squares[x] = (int32_t)nearest;
    }
}

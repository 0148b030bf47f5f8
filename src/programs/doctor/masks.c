/* masks.c - what is measured of a mask. */
#include "doctor/masks.h"
#include <stdlib.h>
#include <string.h>
#include "system/say.h"

uint64_t bytes_hash(const uint8_t *bytes, int64_t count, uint64_t seed)
{
    uint64_t h = seed ^ 0x9E3779B97F4A7C15u;

    for (int64_t i = 0; i < count; i += 8) {
        uint64_t word = 0;

        memcpy(&word, bytes + i, (size_t)(count - i < 8 ? count - i : 8));
        h = (h ^ word) * 0xFF51AFD7ED558CCDu;
        h ^= h >> 32;
    }
    h *= 0xC4CEB9FE1A85EC53u;
    return h ^ h >> 29;
}

double mask_between(const uint8_t *grey, int64_t width, int64_t height)
{
    int     least = 255, largest = 0;
    int64_t count = 0;
    bool    is[256];

    for (int64_t i = 0; i < width * height; i++) {
        if (grey[i] < least) least = grey[i];
        if (grey[i] > largest) largest = grey[i];
    }
    for (int v = 0; v < 256; v++)
        is[v] = 8 * (v - least) > largest - least && 8 * (largest - v) > largest - least;
    for (int64_t y = 1; y < height - 1; y++) {
        for (int64_t x = 1; x < width - 1; x++) {
            const uint8_t *at = grey + y * width + x;

            count += is[at[0]] && is[at[-1]] && is[at[1]] && is[at[-width]] && is[at[width]];
        }
    }
    return (double)count / (double)(width * height);
}

/* ---- Components ------------------------------------------------------------------------------ */

static int32_t root(int32_t *parent, int32_t i)
{
    while (parent[i] != i)
        i = parent[i] = parent[parent[i]];
    return i;
}

static void join(int32_t *parent, int32_t a, int32_t b)
{
    a = root(parent, a);
    b = root(parent, b);
    if (a < b)
        parent[b] = a;
    else
        parent[a] = b;
}

/* Components of equal pixels that have less than `tiny` pixels; neighbours share an edge or a
 * corner. */
static int64_t count_specks(const uint8_t *mask, int64_t width, int64_t height, int64_t tiny)
{
    int64_t  pixels = width * height, specks = 0;
    int32_t *parent = need((size_t)pixels * sizeof *parent);
    int32_t *size   = need((size_t)pixels * sizeof *size);

    for (int64_t i = 0; i < pixels; i++) {
        int64_t x = i % width, before[4] = { i - 1, i - width - 1, i - width, i - width + 1 };
        bool    there[4] = { x > 0, x > 0 && i >= width, i >= width, x < width - 1 && i >= width };

        parent[i] = (int32_t)i;
        for (int k = 0; k < 4; k++) {
            if (there[k] && mask[i] == mask[before[k]])
                join(parent, (int32_t)i, (int32_t)before[k]);
        }
    }
    for (int64_t i = 0; i < pixels; i++)
        size[root(parent, (int32_t)i)]++;
    for (int64_t i = 0; i < pixels; i++)
        specks += size[i] > 0 && size[i] < tiny;
    free(parent);
    free(size);
    return specks;
}

void mask_measure(mask_facts *out, const uint8_t *mask, int64_t width, int64_t height)
{
    int64_t pixels = width * height, side = width < height ? width : height;
    int64_t wide = side / 50 > 1 ? side / 50 : 1, tiny = pixels / 10000 > 4 ? pixels / 10000 : 4;
    int64_t polyp = 0, edge = 0, edge_polyp = 0;

    for (int64_t i = 0; i < pixels; i++) {
        int64_t x = i % width, y = i / width;
        bool    on = mask[i] > 127;

        polyp += on;
        if (x >= wide && y >= wide && x < width - wide && y < height - wide) continue;
        edge++;
        edge_polyp += on;
    }
    *out = (mask_facts){ .covered = (double)polyp / (double)pixels,
                         .border  = (double)edge_polyp / (double)edge,
                         .specks  = count_specks(mask, width, height, tiny),
                         .hash    = bytes_hash(mask, pixels, (uint64_t)width) };
}

/* walk.c - the walk over public handles of test/support/walk_util.h, with each choice made by a byte of the input. */
#include <check.h>
#include "fuzz/fuzz.h"
#include "support/walk_util.h"

enum { MOST = 60 }; /* calls: a network is run by a few of them, which takes most of the time */

static void run(const uint8_t *data, size_t size)
{
    static kd_test_walk w;

    if (!size) return;
    kd_test_walk_begin(&w, 0);
    w.choice  = data;
    w.choices = KD_MIN(size, (size_t)8 * MOST);
    for (int k = 0; k < MOST && w.choices; k++)
        kd_test_walk_step(&w);
    kd_test_walk_end(&w);
}

static void seeds(void)
{
    kd_random r = kd_random_make(5, 5);
    uint8_t   seed[240];

    for (int k = 0; k < 8; k++) {
        const char name[] = { 'w', (char)('0' + k), 0 };

        for (size_t i = 0; i < sizeof seed; i++)
            seed[i] = (uint8_t)kd_random_below(&r, 256);
        kd_fuzz_seed(name, seed, 40u + 28u * (unsigned)k);
    }
}

const kd_fuzz_target kd_fuzz_walk = { "walk", run, NULL, seeds };

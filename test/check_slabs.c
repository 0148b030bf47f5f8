/* check_slabs.c - convolutions cut into slabs: every row of the side that is cut belongs to one slab, a slab has the rows
 * that it needs of the other side, and its padding makes it a convolution of its own. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "backend/cpu/slabs.h"
#include "support/check_util.h"

enum { MOST = 9, ROWS = 64 };

/* The first row of the wide side under a window, which may be outside. */
static int64_t top(const kd_rows *r, int64_t window) { return window * r->stride - r->pad; }

/* The windows of a slab, in its own rows, are those of the whole. */
static void assert_own_windows(const kd_rows *r, const kd_slab *s)
{
    for (int64_t w = 0; w < s->narrows; w++)
        ck_assert_int_eq(s->wide + w * r->stride - s->pad, top(r, s->narrow + w));
}

/* A slab of windows holds all rows under them; one of rows has all windows that reach them. */
static void assert_whole(const kd_rows *r, const kd_slab *s, kd_cut cut)
{
    for (int64_t w = 0; w < r->narrow; w++)
        for (int64_t row = KD_MAX(top(r, w), 0); row < KD_MIN(top(r, w) + r->window, r->wide);
             row++) {
            bool has_window = w >= s->narrow && w < s->narrow + s->narrows;
            bool has_row    = row >= s->wide && row < s->wide + s->wides;

            ck_assert(cut == KD_CUT_WIDE ? !has_row || has_window : !has_window || has_row);
        }
}

static void assert_cut(const kd_rows *r, kd_cut cut, int parts)
{
    kd_slab slab[MOST * KD_SLABS_OF_PART];
    int     n = kd_slabs_cut(slab, r, cut, parts), last = 0, seen[8][ROWS] = { 0 };
    int64_t rows = cut == KD_CUT_WIDE ? r->wide : r->narrow;

    ck_assert_int_ge(n, 1);
    ck_assert_int_le(n, parts * KD_SLABS_OF_PART);
    for (int i = 0; i < n; i++) {
        const kd_slab *s     = &slab[i];
        int64_t        begin = cut == KD_CUT_WIDE ? s->wide : s->narrow;
        int64_t        count = cut == KD_CUT_WIDE ? s->wides : s->narrows;

        ck_assert_int_ge(s->part, last);
        ck_assert_int_lt(s->part, parts);
        last = s->part;
        ck_assert(s->images == 1 || count == rows);
        ck_assert(s->wide >= 0 && s->narrow >= 0 && s->pad >= 0);
        ck_assert(s->wide + s->wides <= r->wide && s->narrow + s->narrows <= r->narrow);
        if (count < rows) assert_own_windows(r, s);
        assert_whole(r, s, cut);
        for (int64_t image = s->image; image < s->image + s->images; image++)
            for (int64_t row = begin; row < begin + count; row++)
                seen[image][row]++;
    }
    for (int64_t image = 0; image < r->images; image++)
        for (int64_t row = 0; row < rows; row++)
            ck_assert_int_eq(seen[image][row], 1);
}

/* All kinds of windows over all sizes; the rows below the last window are some, or none. */
START_TEST(every_row_belongs_to_one_slab)
{
    kd_random random = kd_random_make(7, (uint64_t)_i);

    for (int n = 0; n < 4000; n++) {
        kd_rows r = { .images = 1 + kd_random_below(&random, 7),
                      .wide   = 1 + kd_random_below(&random, ROWS - 1),
                      .stride = 1 + kd_random_below(&random, 4),
                      .window = 1 + kd_random_below(&random, 9) };

        r.pad     = kd_random_below(&random, r.window);
        r.pad_end = kd_random_below(&random, r.window);
        if (r.wide + r.pad + r.pad_end < r.window) continue;
        r.narrow = (r.wide + r.pad + r.pad_end - r.window) / r.stride + 1;
        if (r.narrow > ROWS) continue;
        assert_cut(&r, _i ? KD_CUT_WIDE : KD_CUT_NARROW, 1 + (int)kd_random_below(&random, MOST));
    }
}
END_TEST

/* Usual convolutions are cut, and evenly. */
START_TEST(shares_are_even)
{
    kd_slab slab[2 * KD_SLABS_OF_PART];
    kd_rows one = { 1, 44, 44, 1, 1, 1, 3 }, down = { 1, 88, 44, 2, 1, 0, 3 },
            three = { 3, 44, 44, 1, 1, 1, 3 };
    kd_rows eight = { 8, 11, 11, 1, 0, 0, 1 };

    for (int cut = 0; cut < 2; cut++) {
        ck_assert_int_eq(kd_slabs_cut(slab, &one, (kd_cut)cut, 2), 2);
        ck_assert_int_eq(slab[1].narrows, cut ? 23 : 22);
        ck_assert_int_eq(kd_slabs_cut(slab, &down, (kd_cut)cut, 2), 2);
        ck_assert_int_eq(kd_slabs_cut(slab, &three, (kd_cut)cut, 2), 4);
        ck_assert_int_eq(slab[3].images, 1);
        ck_assert_int_eq(kd_slabs_cut(slab, &eight, (kd_cut)cut, 2), 2);
        ck_assert_int_eq(slab[1].images, 4);
        ck_assert_int_eq(kd_slabs_cut(slab, &eight, (kd_cut)cut, 1), 1);
    }
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("slabs");
    TCase   *t     = tcase_create("slabs");
    SRunner *runner;
    int      failed;

    tcase_add_loop_test(t, every_row_belongs_to_one_slab, 0, 2);
    tcase_add_test(t, shares_are_even);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

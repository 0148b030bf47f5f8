/* check_cast.c - CAST's reference, by which every backend's is judged, against plain arithmetic: all 16-bit
 * numbers of both types, and floats beside every point where rounding turns. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "support/check_util.h"
#include "support/halves.h"
#include "support/op_run.h"

static const int32_t types[] = { KDAS_BF16, KDAS_F16 };

enum { HALVES = 65536 };

/* n numbers of one type into another, by the reference. */
static void cast(void *to, int32_t to_type, const void *from, int32_t from_type, int64_t n)
{
    kdas_cast_attr attr = { to_type };
    kdas_node_desc node = { .op = KDAS_OP_CAST, .inputs = 1, .attr = &attr };
    kdas_call      call = { .node = &node, .in = { (void *)from }, .out = to };

    node.in[0] = (kdas_desc){ from_type, 4, { 1, 1, 1, n } };
    kd_assert_ok(kd_op_find(KDAS_OP_CAST)->infer(&node));
    ck_assert_int_eq(node.out.dtype, to_type);
    kd_assert_ok(kd_op_reference(KDAS_OP_CAST)->forward(NULL, &call));
}

static uint16_t rounded(float f, int32_t type)
{
    uint16_t bits;

    cast(&bits, type, &f, KDAS_F32, 1);
    return bits;
}

static float value(uint16_t bits, int32_t type)
{
    float f;

    cast(&f, KDAS_F32, &bits, type, 1);
    return f;
}

START_TEST(every_half_has_its_value_and_comes_back)
{
    static uint16_t all[HALVES], back[HALVES];
    static float    floats[HALVES];
    int32_t         type = types[_i];

    for (int i = 0; i < HALVES; i++)
        all[i] = (uint16_t)i;
    cast(floats, KDAS_F32, all, type, HALVES);
    cast(back, type, floats, KDAS_F32, HALVES);
    for (int i = 0; i < HALVES; i++) {
        float want = kd_test_half_value((uint16_t)i, type);

        ck_assert_msg(isnan(want) ? isnan(floats[i]) : kd_test_same_bits(&floats[i], &want, 4),
                      "%04x is %a, not %a", i, floats[i], want);
        ck_assert_msg(isnan(want) ? isnan(kd_test_half_value(back[i], type)) : back[i] == i,
                      "%04x comes back as %04x", i, back[i]);
    }
}
END_TEST

/* Between each finite half and the next: the middle, and the floats on both sides of it. */
START_TEST(floats_go_to_the_nearest_half_and_ties_to_the_even_one)
{
    int32_t type = types[_i];
    int     last = type == KDAS_F16 ? 0x7bff : 0x7f7f;

    for (int i = 0; i <= last; i++) {
        float low  = kd_test_half_value((uint16_t)i, type);
        float step = low - kd_test_half_value((uint16_t)(i ? i - 1 : 1), type);
        float high = i < last ? kd_test_half_value((uint16_t)(i + 1), type) : low + step;
        float middle;

        if (isinf(high)) break; /* bf16's next one would be past the floats */
        middle = low + (high - low) / 2;
        ck_assert_int_eq(rounded(nextafterf(middle, low), type), i);
        ck_assert_int_eq(rounded(middle, type), i + (i & 1));
        ck_assert_int_eq(rounded(nextafterf(middle, high), type), i + 1);
        ck_assert_int_eq(rounded(-middle, type), 0x8000 | (i + (i & 1)));
    }
}
END_TEST

START_TEST(any_float_rounds_as_plain_arithmetic_has_it)
{
    int32_t type = types[_i];

    for (uint32_t k = 0; k < 400000; k++) {
        uint32_t bits = k * 10737u + (k & 0x2001u); /* over all exponents, both signs left out */
        float    f, want;
        uint16_t got;

        memcpy(&f, &bits, sizeof f);
        if (isnan(f)) continue;
        got  = rounded(k & 1 ? -f : f, type);
        want = kd_test_round_half(k & 1 ? -f : f, type);
        ck_assert_msg(got == kd_test_half_bits(want, type), "%a: %04x, not %a", f, got, want);
    }
}
END_TEST

/* By hand, so that the two ways above cannot be wrong together. */
START_TEST(known_numbers_round_as_the_formats_say)
{
    static const struct {
        int32_t  type;
        float    from;
        uint16_t bits;
        float    value;
    } known[] = {
        { KDAS_F16, 1, 0x3c00, 1 },
        { KDAS_F16, -2, 0xc000, -2 },
        { KDAS_F16, 0x1p-24f, 0x0001, 0x1p-24f },        /* the smallest */
        { KDAS_F16, 0x1p-25f, 0x0000, 0 },               /* a tie: to zero */
        { KDAS_F16, 0x1.000002p-25f, 0x0001, 0x1p-24f }, /* and just above it */
        { KDAS_F16, 0x3p-25f, 0x0002, 0x1p-23f },        /* a tie among subnormals */
        { KDAS_F16, -0x1p-40f, 0x8000, -0.0f },          /* keeps its sign */
        { KDAS_F16, 0x1.ffep-15f, 0x0400, 0x1p-14f },    /* up to the first normal one */
        { KDAS_F16, 0x1.002p0f, 0x3c00, 1 },             /* 1 + half a step: to even */
        { KDAS_F16, 0x1.006p0f, 0x3c02, 0x1.008p0f },    /* 1 + one and a half */
        { KDAS_F16, 65504, 0x7bff, 65504 },              /* the largest */
        { KDAS_F16, 0x1.ffdffep15f, 0x7bff, 65504 },     /* just below 65520 */
        { KDAS_F16, 65520, 0x7c00, INFINITY },
        { KDAS_F16, -3e38f, 0xfc00, -INFINITY },
        { KDAS_F16, INFINITY, 0x7c00, INFINITY },
        { KDAS_BF16, 1, 0x3f80, 1 },
        { KDAS_BF16, 0x1.01p0f, 0x3f80, 1 },
        { KDAS_BF16, 0x1.03p0f, 0x3f82, 0x1.04p0f },
        { KDAS_BF16, 3.4e38f, 0x7f80, INFINITY },
        { KDAS_BF16, 0x1p-133f, 0x0001, 0x1p-133f },
    };

    for (size_t i = 0; i < KD_COUNT(known); i++) {
        float got = value(rounded(known[i].from, known[i].type), known[i].type);

        ck_assert_int_eq(rounded(known[i].from, known[i].type), known[i].bits);
        ck_assert(kd_test_same_bits(&got, &known[i].value, sizeof got));
    }
    for (size_t i = 0; i < KD_COUNT(types); i++)
        ck_assert(isnan(value(rounded(NAN, types[i]), types[i])));
}
END_TEST

START_TEST(a_gradient_of_halves_is_added_in_floats)
{
    kd_op_case    test    = { .name  = "cast",
                              .op    = KDAS_OP_CAST,
                              .wants = 1,
                              .attr  = { .cast = { types[_i] } },
                              .in    = { { .desc = { KDAS_F32, 4, { 2, 3, 5, 7 } }, .scale = 1 } } };
    kd_op_options options = { .add = true };
    float         base[210];
    kd_op_run     run;

    kd_assert_ok(kd_op_open(&run, &test, NULL, NULL, &options));
    for (int i = 0; i < 210; i++) /* as backward sees them: the type's own values */
        run.dout[i] = kd_test_round_half(run.dout[i], types[_i]);
    kd_assert_ok(kd_op_forward(&run));
    kd_assert_ok(kd_op_backward(&run));
    kd_test_fill(base, 210, "cast.base0", 1, 0);
    for (int i = 0; i < 210; i++) {
        ck_assert_float_eq(((float *)run.out)[i], kd_test_round_half(run.in[0][i], types[_i]));
        ck_assert_float_eq(run.din[0][i], base[i] + run.dout[i]);
    }
    kd_op_close(&run);
}
END_TEST

static Suite *cast_suite(void)
{
    const int T     = KD_COUNT(types);
    Suite    *suite = suite_create("cast");
    TCase    *t     = tcase_create("the reference");

    tcase_add_loop_test(t, every_half_has_its_value_and_comes_back, 0, T);
    tcase_add_loop_test(t, floats_go_to_the_nearest_half_and_ties_to_the_even_one, 0, T);
    tcase_add_loop_test(t, any_float_rounds_as_plain_arithmetic_has_it, 0, T);
    tcase_add_test(t, known_numbers_round_as_the_formats_say);
    tcase_add_loop_test(t, a_gradient_of_halves_is_added_in_floats, 0, T);
    suite_add_tcase(suite, t);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(cast_suite());
    int      failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

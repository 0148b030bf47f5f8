/* check_conditioning.c - what large logits do to attention: docs/objective.md has the figures for more maps. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <kdas/kdas.h>
#include "support/check_util.h"
#include "support/run_util.h"

enum { WIDE = 96 };

/* One polyp, sure of itself: +-8 with soft edges and a little texture, as trained networks give. */
static void sure_map(float *map, const char *name, double x, double y0)
{
    for (int i = 0; i < WIDE; i++)
        for (int j = 0; j < WIDE; j++) {
            double r = hypot((i - y0) / 20, (j - x) / 26);

            map[i * WIDE + j] =
                (float)(8 * tanh(4 * (1 - r)) + 0.5 * kd_test_unit(name, (uint64_t)(i * WIDE + j)));
        }
}

/* Of the gradient's energy, the part in the `few` rows that have most of it; *norm receives its L2 norm. */
static double part_of_few_rows(const float *g, int few, double *norm)
{
    double row[WIDE] = { 0 }, all = 0, most = 0;

    for (int i = 0; i < WIDE * WIDE; i++)
        row[i / WIDE] += (double)g[i] * (double)g[i];
    for (int i = 0; i < WIDE; i++)
        all += row[i];
    for (int k = 0; k < few; k++) {
        int at = 0;

        for (int i = 1; i < WIDE; i++)
            if (row[i] > row[at]) at = i;
        most += row[at];
        row[at] = 0;
    }
    *norm = sqrt(all);
    return most / all;
}

static double part_for(const char *similarity, double *norm)
{
    static float      s[WIDE * WIDE], t[WIDE * WIDE], g[WIDE * WIDE], mask[WIDE * WIDE];
    const float      *sm[] = { s }, *tm[] = { t };
    float            *gm[]       = { g };
    kdas_maps         student_of = { sm, 1, 1, WIDE, WIDE }, teacher_of = { tm, 1, 1, WIDE, WIDE };
    kdas_loss_options o;
    kdas_loss        *loss;
    kdas_loss_report  r   = { .size = sizeof r };
    kdas_context     *ctx = kd_test_device("cpu", NULL);

    sure_map(s, "sure.s", 44, 50);
    sure_map(t, "sure.t", 50, 46);
    kdas_loss_options_init(&o, sizeof o);
    o.guidance   = "attention";
    o.similarity = similarity;
    o.seg_weight = 0;
    kd_assert_ok(kdas_loss_create(&loss, ctx, &o));
    kd_assert_ok(kdas_loss_evaluate(loss, &student_of, &teacher_of, mask, gm, &r));
    kdas_loss_destroy(loss);
    kdas_context_destroy(ctx);
    return part_of_few_rows(g, 9, norm);
}

/* docs/objective.md tells these figures; bench_conditioning prints them for other maps. */
START_TEST(large_logits_leave_dot_attention_to_few_rows_and_cosine_to_many)
{
    double dot_norm, cosine_norm, dot = part_for("dot", &dot_norm),
                                  cosine = part_for("cosine", &cosine_norm);

    ck_assert_msg(dot > 0.7, "9 of 96 rows have %.3f of the gradient's energy", dot);
    ck_assert_msg(cosine < 0.6, "9 of 96 rows have %.3f of the gradient's energy", cosine);
    ck_assert_msg(dot_norm > 3 * cosine_norm, "norms %g and %g", dot_norm, cosine_norm);
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("conditioning");
    TCase   *logits = tcase_create("large logits");
    SRunner *runner;
    int      failed;

    tcase_add_test(logits, large_logits_leave_dot_attention_to_few_rows_and_cosine_to_many);
    suite_add_tcase(suite, logits);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

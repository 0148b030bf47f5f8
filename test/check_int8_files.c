/* check_int8_files.c - files of models on grids: whole ones, damaged ones, and what of them the host may
 * choose. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/grid.h"
#include "io/safetensors.h"
#include "model/model.h"
#include "support/calibrate_util.h"
#include "support/check_util.h"
#include "support/files.h"
#include "support/run_util.h"

static const char *const WEIGHT = "lateral.0.weight";

/* What is changed in a file. */
typedef enum damage {
    WHOLE,
    NO_SCALES,
    SCALES_OF_INTEGERS,
    TOO_FEW_SCALES,
    NEGATIVE,
    ZERO,
    NOT_A_NUMBER,
    NO_NUMBERS, /* the weight is of floats, beside its scales */
    BELOW_GRID, /* one of its numbers is -128 */
    DAMAGES,
    RANGE_OF_RANK_2 /* all ranges are (2,1) */
} damage;

typedef struct copy {
    kd_st_writer *writer;
    void         *memory[1000];
    int           count;
} copy;

static void put(copy *c, const char *name, kd_st_dtype dtype, int rank, const int64_t *dims,
                const void *data, size_t bytes)
{
    void *own = malloc(bytes + 1);

    memcpy(own, data, bytes);
    c->memory[c->count++] = own;
    kd_assert_ok(kd_st_writer_put(c->writer, name, dtype, rank, dims, own));
}

static void put_scales(copy *c, const kd_st_tensor *t, float *scale, damage how)
{
    int64_t n = t->dim[0];

    switch (how) {
    case NO_SCALES: return;
    case SCALES_OF_INTEGERS:
        for (int64_t i = 0; i < n; i++)
            ((int8_t *)scale)[i] = 1;
        put(c, t->name, KD_ST_I8, 1, &n, scale, (size_t)n);
        return;
    case TOO_FEW_SCALES: n--; break;
    case NEGATIVE: scale[1] = -scale[1]; break;
    case ZERO: scale[1] = 0; break;
    case NOT_A_NUMBER: scale[1] = NAN; break;
    default: break;
    }
    put(c, t->name, KD_ST_F32, 1, &n, scale, (size_t)n * sizeof *scale);
}

/* A range of another shape. */
static void put_range(copy *c, const kd_st_tensor *t, const void *data)
{
    static const int64_t dims[2] = { 2, 1 };

    put(c, t->name, t->dtype, 2, dims, data, (size_t)t->bytes);
}

/* Write `from` again, with one weight damaged; `kind`: what it calls its quantisation, NULL: as it did. */
static void forge(kdas_context *ctx, const char *from, const char *to, damage how, const char *kind)
{
    kd_safetensors *file;
    copy            c = { 0 };
    const char     *key, *text;

    kd_assert_ok(kd_safetensors_open(&file, ctx, from));
    kd_assert_ok(kd_st_writer_create(&c.writer, ctx));
    for (int64_t i = 0; (text = kd_safetensors_text_at(file, i, &key)); i++)
        kd_assert_ok(kd_st_writer_put_text(
            c.writer, key, kind && strcmp(key, "kdas.quantization") == 0 ? kind : text));
    for (int64_t i = 0; i < kd_safetensors_count(file); i++) {
        const kd_st_tensor *t    = kd_safetensors_at(file, i);
        float              *data = malloc((size_t)t->count * sizeof(float) + t->bytes + 8);
        bool                ours = strncmp(t->name, WEIGHT, strlen(WEIGHT)) == 0;

        kd_assert_ok(kd_safetensors_read(file, t, data));
        if (ours && strlen(t->name) > strlen(WEIGHT)) {
            put_scales(&c, t, data, how);
        } else if (ours && how == NO_NUMBERS) {
            kd_assert_ok(kd_safetensors_read_float(file, t, data));
            put(&c, t->name, KD_ST_F32, t->rank, t->dim, data, (size_t)t->count * sizeof *data);
        } else if (how == RANGE_OF_RANK_2 && kd_is_range_name(t->name)) {
            put_range(&c, t, data);
        } else {
            if (ours && how == BELOW_GRID) ((int8_t *)data)[5] = -128;
            put(&c, t->name, t->dtype, t->rank, t->dim, data, (size_t)t->bytes);
        }
        free(data);
    }
    kd_assert_ok(kd_st_writer_save(c.writer, to, false));
    kd_st_writer_destroy(c.writer);
    kd_safetensors_close(file);
    for (int i = 0; i < c.count; i++)
        free(c.memory[i]);
}

static void save_model(kdas_context *ctx, const char *path)
{
    kdas_model_options o;
    kdas_model        *m;

    kdas_model_options_init(&o, sizeof o);
    o.quantize = KDAS_QUANTIZE_INT8;
    kd_assert_ok(kdas_model_create(&m, ctx, "lite_fpn0", &o));
    kd_assert_ok(kdas_model_save(m, path));
    kdas_model_destroy(m);
}

START_TEST(damaged_numbers_and_scales_are_refused_by_name)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kdas_model   *m   = NULL;
    char          whole[512], damaged[512];
    kdas_status   st;

    snprintf(whole, sizeof whole, "%s", kd_test_path("whole.safetensors"));
    snprintf(damaged, sizeof damaged, "%s", kd_test_path("damaged.safetensors"));
    save_model(ctx, whole);
    forge(ctx, whole, damaged, (damage)_i, NULL);
    st = kdas_model_open(&m, ctx, NULL, damaged, NULL, NULL);
    if (_i == WHOLE) {
        kd_assert_ok(st);
        ck_assert_int_eq(kdas_model_quantized(m), KDAS_QUANTIZE_INT8);
    } else {
        ck_assert_int_eq(st, KDAS_EFORMAT);
        kd_assert_sentence(damaged);
        kd_assert_sentence(WEIGHT);
    }
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* All weights are there, so a hint at the network or at its backbone would mislead. */
START_TEST(a_range_of_another_shape_is_told_without_a_hint)
{
    kdas_context *ctx = kd_test_device("cpu", NULL);
    kdas_model   *m   = NULL;
    char          whole[512], damaged[512];

    snprintf(whole, sizeof whole, "%s", kd_test_path("whole.safetensors"));
    snprintf(damaged, sizeof damaged, "%s", kd_test_path("damaged.safetensors"));
    save_model(ctx, whole);
    forge(ctx, whole, damaged, RANGE_OF_RANK_2, NULL);
    kd_assert_status(kdas_model_open(&m, ctx, NULL, damaged, NULL, NULL), KDAS_ESHAPE);
    kd_assert_sentence(KD_RANGE_SUFFIX "' has the shape (2,1), the model wants (2)");
    ck_assert_msg(!strchr(kdas_last_error(), ';'), "%s", kdas_last_error());
    kdas_context_destroy(ctx);
}
END_TEST

/* A file of a kind to come would be computed as floats, without a sign. */
START_TEST(an_unknown_kind_of_grids_is_refused_by_name)
{
    const char *const kinds[] = { "int4", "", "int8 ", "INT8", "e4m3\x1b[2J" };
    kdas_context     *ctx     = kd_test_device("cpu", NULL);
    kdas_model *m = NULL, *f = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_NONE, NULL);
    char        whole[512], other[512];

    snprintf(whole, sizeof whole, "%s", kd_test_path("whole.safetensors"));
    snprintf(other, sizeof other, "%s", kd_test_path("other.safetensors"));
    save_model(ctx, whole);
    for (size_t i = 0; i < KD_COUNT(kinds); i++) {
        char said[64];

        forge(ctx, whole, other, WHOLE, kinds[i]);
        snprintf(said, sizeof said, "is '%s'", i == 4 ? "e4m3?[2J" : kinds[i]);
        kd_assert_status(kdas_model_open(&m, ctx, NULL, other, NULL, NULL), KDAS_EFORMAT);
        kd_assert_sentence(other);
        kd_assert_sentence(said);
        kd_assert_status(kdas_model_load(f, other, NULL), KDAS_EFORMAT);
        kd_assert_sentence(said);
    }
    ck_assert_ptr_null(m);
    kdas_model_destroy(f);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(the_host_may_choose_the_wide_layers_of_a_file)
{
    kdas_context      *ctx = kd_test_device("cpu", NULL);
    kdas_model_options o;
    kdas_model        *m = NULL;
    const char        *path;

    kdas_model_options_init(&o, sizeof o);
    path = kd_test_path("whole.safetensors");
    save_model(ctx, path);
    kd_assert_ok(kdas_model_open(&m, ctx, NULL, path, NULL, NULL));
    ck_assert_str_eq(kdas_model_wide(m), kdas_model_wide_layers("lite_fpn0"));
    kdas_model_destroy(m);
    o.wide = "lateral.0 out";
    kd_assert_ok(kdas_model_open(&m, ctx, NULL, path, &o, NULL));
    ck_assert_str_eq(kdas_model_wide(m), "lateral.0 out");
    ck_assert_int_eq(kdas_model_quantized(m), KDAS_QUANTIZE_INT8);
    kdas_model_destroy(m);
    m      = NULL;
    o.wide = "zzz";
    ck_assert_int_eq(kdas_model_open(&m, ctx, NULL, path, &o, NULL), KDAS_ENOTFOUND);
    kd_assert_sentence("zzz");
    o.wide = NULL;
    for (int32_t bad = 2; bad > -2; bad -= 3) {
        o.quantize = bad;
        ck_assert_int_eq(kdas_model_open(&m, ctx, NULL, path, &o, NULL), KDAS_EINVAL);
    }
    ck_assert_ptr_null(m);
    kdas_context_destroy(ctx);
}
END_TEST

/* ---- files and copies of either kind ---- */

static int  lines;
static char line[512];

static void keep_line(void *user, kdas_log_level level, const char *text)
{
    (void)user;
    (void)level;
    if (!strstr(text, "8-bit grids")) return;
    lines++;
    strncpy(line, text, sizeof line - 1);
}

START_TEST(weights_of_either_kind_load_into_either)
{
    kdas_context     *ctx = kd_test_logging(NULL, keep_line, NULL);
    kdas_model       *m   = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_INT8, NULL);
    kdas_model       *f   = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_NONE, NULL);
    kdas_calibrator  *c   = kd_test_calibrated(m, NULL, 64);
    const char       *of  = "lateral.0.weight";
    static float      a[65536], o[65536];
    int64_t           dims[4];
    kdas_file        *file;
    kdas_load_options partial;

    kdas_calibrator_destroy(c);
    kd_assert_ok(kdas_model_save(m, kd_test_path("int8.safetensors")));
    kd_assert_ok(kdas_model_save(f, kd_test_path("f32.safetensors")));
    kd_assert_ok(kdas_file_open(&file, ctx, kd_test_path("int8.safetensors")));
    ck_assert_str_eq(kdas_file_fact(file, "quantization"), "int8");
    kdas_file_destroy(file);
    lines = 0;
    kd_assert_ok(kdas_model_load(f, kd_test_path("int8.safetensors"), NULL));
    ck_assert_int_eq(lines, 1);
    ck_assert_ptr_null(kdas_model_fact(f, "quantization"));
    kdas_model_tensor(m, kdas_model_find(m, of), NULL, dims, NULL);
    kd_assert_ok(kdas_model_read(m, kdas_model_find(m, of), a));
    kd_assert_ok(kdas_model_read(f, kdas_model_find(f, of), o));
    for (int64_t row = 0; row < dims[0]; row++) /* the values that the numbers stand for */
        kd_weights_round(a + row * dims[1], dims[1]);
    for (int64_t i = 0; i < dims[0] * dims[1]; i++)
        ck_assert_float_eq_tol(a[i], o[i], 1e-6f);
    ck_assert(!kd_test_range_is_empty(m, "lateral.3.input_range"));
    kdas_load_options_init(&partial, sizeof partial);
    partial.partial = 1; /* the host says that what the file lacks shall stay */
    kd_assert_ok(kdas_model_load(m, kd_test_path("f32.safetensors"), &partial));
    ck_assert(!kd_test_range_is_empty(m, "lateral.3.input_range"));
    kd_assert_ok(kdas_model_load(m, kd_test_path("f32.safetensors"), NULL)); /* of other weights */
    ck_assert(kd_test_range_is_empty(m, "lateral.3.input_range"));
    kdas_model_destroy(f);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

START_TEST(values_are_copied_between_models_of_either_kind)
{
    kdas_context    *ctx = kd_test_device("cpu", NULL);
    kdas_model      *m   = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_INT8, NULL);
    kdas_model      *f   = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_NONE, NULL);
    kdas_model      *w   = kd_test_grids_model(ctx, "lite_fpn0", KDAS_QUANTIZE_INT8, "lateral.3");
    kdas_calibrator *c   = kd_test_calibrated(m, NULL, 64);

    kdas_calibrator_destroy(c);
    kd_assert_ok(kdas_model_copy(w, m)); /* "lateral.3" has no range there, "out" none here */
    ck_assert_int_eq(kdas_model_find(w, "lateral.3.input_range"), -1);
    ck_assert(kd_test_range_is_empty(w, "out.input_range"));
    ck_assert(!kd_test_range_is_empty(w, "smooth.3.0.input_range"));
    kd_assert_ok(kdas_model_copy(f, m));
    kd_assert_ok(kdas_model_copy(m, f));
    ck_assert(kd_test_range_is_empty(m, "smooth.3.0.input_range"));
    kdas_model_destroy(w);
    kdas_model_destroy(f);
    kdas_model_destroy(m);
    kdas_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite   *suite = suite_create("int8 files");
    TCase   *t     = tcase_create("files");
    SRunner *runner;
    int      failed;

    tcase_add_checked_fixture(t, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_loop_test(t, damaged_numbers_and_scales_are_refused_by_name, 0, DAMAGES);
    tcase_add_test(t, a_range_of_another_shape_is_told_without_a_hint);
    tcase_add_test(t, an_unknown_kind_of_grids_is_refused_by_name);
    tcase_add_test(t, the_host_may_choose_the_wide_layers_of_a_file);
    suite_add_tcase(suite, t);
    t = tcase_create("either kind");
    tcase_add_checked_fixture(t, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(t, weights_of_either_kind_load_into_either);
    tcase_add_test(t, values_are_copied_between_models_of_either_kind);
    suite_add_tcase(suite, t);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

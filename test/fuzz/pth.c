/* pth.c - a file of any bytes as weights of PyTorch: archives, pickles, and the form before 1.6. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "fuzz/fuzz.h"
#include "io/pickle.h"
#include "io/weights.h"
#include "support/check_util.h"
#include "support/pth.h"
#include "support/pth_model.h"

/* Every value of a pickle and all that is asked of it. */
static void walk_pickle(kdas_context *ctx, const uint8_t *data, size_t size)
{
    kd_pickle *p;
    size_t     used = 0, length;
    bool       cut;
    int64_t    whole;
    char       name[64];

    if (!kd_fuzz_refused_well(kd_pickle_read(&p, ctx, data, size, &used, &cut), KDAS_OK)) return;
    ck_assert_uint_le(used, size);
    ck_assert_uint_lt(kd_pickle_root(p), kd_pickle_values(p));
    for (uint32_t i = 0; i < kd_pickle_values(p); i++) {
        uint32_t n = kd_pickle_count(p, i), seen = 0;

        ck_assert_uint_lt(kd_pickle_callable(p, i), kd_pickle_values(p));
        ck_assert_uint_lt(kd_pickle_args(p, i), kd_pickle_values(p));
        ck_assert_uint_lt(kd_pickle_state(p, i), kd_pickle_values(p));
        for (uint32_t c = kd_pickle_first(p, i); c && seen <= n; c = kd_pickle_next(p, c), seen++) {
            ck_assert_uint_lt(kd_pickle_key(p, c), kd_pickle_values(p));
            ck_assert_uint_lt(kd_pickle_item(p, c), kd_pickle_values(p));
        }
        ck_assert_uint_eq(seen, n);
        kd_pickle_whole(p, i, &whole);
        kd_pickle_global(p, i, name, sizeof name);
        if (kd_pickle_text(p, i, &length)) ck_assert_uint_le(length, size);
    }
    kd_pickle_free(p);
}

static void read_sets(kd_weights *w)
{
    for (int s = 0; s < kd_weights_sets(w); s++) {
        ck_assert_ptr_nonnull(kd_weights_set(w, s));
        for (int64_t i = 0; i < kd_weights_count(w, s); i++) {
            const kd_st_tensor *t = kd_weights_at(w, s, i);
            float              *values;

            ck_assert(t->count >= 0 && t->count == kd_st_elements(t->rank, t->dim));
            if (t->count > 1 << 20) continue; /* strides of 0: as large as one likes */
            values = malloc(sizeof(float) * (size_t)t->count + 1);
            kd_fuzz_refused_well(kd_weights_read(w, t, values), KDAS_OK);
            free(values);
        }
    }
}

static void run(const uint8_t *data, size_t size)
{
    kdas_context *ctx  = kd_fuzz_begin();
    const char   *path = kd_fuzz_file(data, size);
    kd_weights   *w;
    int64_t       tensors = -1;

    walk_pickle(ctx, data, size);
    if (kd_fuzz_refused_well(kd_weights_open(&w, ctx, path), KDAS_OK)) {
        read_sets(w);
        tensors = kd_weights_count(w, 0);
    }
    kd_weights_close(w);
    kd_fuzz_end();
    if (tensors >= 0) kd_fuzz_load(path, data, size, tensors);
}

/* ---- seeds ---- */

static void seed(const char *name, bool zip, bool model)
{
    const int64_t dims[] = { 1, 4, 1, 1 };
    const char   *path   = kd_fuzz_path(name);
    kd_test_pth   p;

    if (zip)
        kd_test_pth_begin_zip(&p);
    else
        kd_test_pth_begin(&p);
    p.values = 0;
    if (model) {
        kdas_model *m = kd_fuzz_small_model(kd_fuzz_device());

        kd_test_pth_model(&p, m, "", NULL, 0.5f);
        kdas_model_destroy(m);
    } else {
        kd_test_pth_open(&p, "model");
        kd_test_pth_put(&p, "head1.weight", 4, dims, 0.25f);
        kd_test_pth_put(&p, "head0.bias", 1, dims, 2);
        if (zip) kd_test_pth_put_count(&p, "norm.num_batches_tracked", 3);
        kd_test_pth_close(&p);
    }
    kd_test_pth_end(&p, path);
    kd_fuzz_seed_file(name, path);
}

#define SEED(name, text) kd_fuzz_seed(name, text, sizeof(text) - 1)

static void seeds(void)
{
    seed("old", false, false);
    seed("old_model", false, true);
    seed("zip", true, false);
    SEED("pickle0", "(dp0\nS'a'\np1\nI1\nsVb\np2\n(lp3\nF1.5\naL-7L\nasg0\n.");
    SEED("pickle4",
         "\x80\4\x95\x16\0\0\0\0\0\0\0}\x94(\x8C\1a\x94K\1\x8C\1b\x94]\x94(\x88\x89N\x8F\x94"
         "eu.");
    SEED("object",
         "\x80\2ccollections\nOrderedDict\nq\0)Rq\1(X\1\0\0\0aG?\xF0\0\0\0\0\0\0\x8A\1\5u}b.");
}

const kd_fuzz_target kd_fuzz_pth = { "pth", run, kd_fuzz_mutate_zip, seeds };

/* container.c - a file of any bytes as a checkpoint: the container, and what is read of it before a restore. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz/fuzz.h"
#include "io/container.h"
#include "support/check_util.h"

static void read_tensors(kd_container *c)
{
    for (int64_t i = 0; i < kd_container_count(c); i++) {
        const kd_st_tensor *t    = kd_container_at(c, i);
        char               *data = malloc(t->bytes + 1);
        int64_t             whole;
        uint64_t            natural;
        double              real;

        ck_assert_ptr_eq(kd_container_find(c, t->name), t);
        kd_assert_ok(kd_container_get(c, t->name, t->dtype, t->rank, t->dim, data));
        free(data);
        ck_assert_int_eq(kd_container_get_i64(c, t->name, &whole) == KDAS_OK,
                         t->dtype == KD_ST_I64 && t->rank == 0);
        ck_assert_int_eq(kd_container_get_u64(c, t->name, &natural) == KDAS_OK,
                         t->dtype == KD_ST_U64 && t->rank == 0);
        ck_assert_int_eq(kd_container_get_f64(c, t->name, &real) == KDAS_OK,
                         t->dtype == KD_ST_F64 && t->rank == 0);
    }
}

static void read_checkpoint(kdas_context *ctx, const char *path)
{
    kdas_checkpoint   *c;
    kdas_progress      progress = { .size = sizeof progress };
    const kdas_record *r;
    kdas_status        st = kdas_checkpoint_open(&c, ctx, path);

    ck_assert_msg(st == KDAS_OK || st == KDAS_EFORMAT || st == KDAS_ENOMEM ||
                      st == KDAS_ENOTFOUND || st == KDAS_ESHAPE,
                  "%s: %s", kdas_status_name(st), kdas_last_error());
    ck_assert_int_eq(c == NULL, st != KDAS_OK);
    if (!c) return;
    kd_assert_ok(kdas_checkpoint_progress(c, &progress));
    ck_assert_ptr_nonnull(kdas_checkpoint_notes(c));
    for (int64_t i = 0; (r = kdas_checkpoint_record(c, i)); i++) {
        ck_assert_ptr_eq(kdas_checkpoint_find(c, r->name), r);
        ck_assert_int_eq(r->text == NULL, r->count > 0);
    }
    kdas_checkpoint_destroy(c);
}

static void run(const uint8_t *data, size_t size)
{
    kdas_context *ctx  = kd_fuzz_begin();
    const char   *path = kd_fuzz_file(data, size), *name;
    kd_container *c;

    if (kd_fuzz_refused_well(kd_container_open(&c, ctx, path), KDAS_OK)) {
        read_tensors(c);
        for (int64_t i = 0; kd_container_text_at(c, i, &name); i++)
            ck_assert_ptr_nonnull(name);
    }
    kd_container_close(c);
    read_checkpoint(ctx, path);
    kd_fuzz_end();
}

static void seeds(void)
{
    static const double  sums[2]   = { 1.5, -2 };
    static const float   values[4] = { 0.25f, 1, -1, 2 };
    static const int64_t dims[]    = { 2, 2 };
    kdas_context        *ctx       = kd_fuzz_begin();
    kd_container_writer *w;

    kd_assert_ok(kd_container_create(&w, ctx));
    kd_assert_ok(kd_container_put_i64(w, "progress.epoch", 3));
    kd_assert_ok(kd_container_put_i64(w, "progress.position", 40));
    kd_assert_ok(kd_container_put_u64(w, "progress.seed", 7));
    kd_assert_ok(kd_container_put_f64(w, "progress.best", 0.75));
    kd_assert_ok(kd_container_put_i64(w, "progress.best_epoch", 2));
    kd_assert_ok(kd_container_put_text(w, "notes", "a command line"));
    kd_assert_ok(kd_container_put(w, "host.sums", KD_ST_F64, 1, dims, sums));
    kd_assert_ok(kd_container_put_text(w, "host.run.model", "small"));
    kd_assert_ok(kd_container_put(w, "model.head", KD_ST_F32, 2, dims, values));
    kd_assert_ok(kd_container_save(w, kd_fuzz_path("seed.kdas")));
    kd_container_discard(w);
    kd_fuzz_seed_file("seed.kdas", kd_fuzz_path("seed.kdas"));
    kd_fuzz_end();
}

const kd_fuzz_target kd_fuzz_container = { "container", run, kd_fuzz_mutate_safetensors, seeds };

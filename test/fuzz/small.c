/* small.c - files of weights against a small network. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz/fuzz.h"
#include "support/check_util.h"
#include "support/small_nets.h"

enum { TENSORS = 40 };

typedef struct small {
    kdas_model *model;
    float      *value[TENSORS];
    size_t      bytes[TENSORS];
} small;

kdas_model *kd_fuzz_small_model(kdas_context *ctx)
{
    static kd_model_def def;
    kdas_model_options  o;
    kdas_model         *m;

    def = kd_test_small_def("small", KD_TEST_SMALL(2, KD_TEST_USUAL_STRIDES), &kd_rules_common);
    kdas_model_options_init(&o, sizeof o);
    o.trainable = 0;
    kd_assert_ok(kd_model_create(&m, ctx, &def, &o));
    return m;
}

static void start(small *s)
{
    const char *own = kd_fuzz_path("own.safetensors");
    int64_t     dims[4];
    int32_t     rank;

    s->model = kd_fuzz_small_model(kd_fuzz_device());
    kd_assert_ok(kdas_model_save(s->model, own));
    kd_assert_ok(kdas_model_load(s->model, own, NULL)); /* the list of its files has room */
    ck_assert_int_le(kdas_model_tensors(s->model), TENSORS);
    for (int32_t i = 0; kdas_model_tensor(s->model, i, &rank, dims, NULL); i++) {
        s->bytes[i] = sizeof(float);
        for (int32_t k = 0; k < rank; k++)
            s->bytes[i] *= (size_t)dims[k];
        s->value[i] = malloc(s->bytes[i]);
        kd_assert_ok(kdas_model_read(s->model, i, s->value[i]));
    }
}

static bool changed(const small *s)
{
    float *now = malloc(1 << 16);
    bool   is  = false;

    for (int32_t i = 0; i < kdas_model_tensors(s->model); i++) {
        kd_assert_ok(kdas_model_read(s->model, i, now));
        is = is || memcmp(now, s->value[i], s->bytes[i]) != 0;
    }
    free(now);
    return is;
}

/* A model that has loaded something has other values, facts and files. */
static void drop(small *s)
{
    for (int32_t i = 0; i < kdas_model_tensors(s->model); i++)
        free(s->value[i]);
    kdas_model_destroy(s->model);
    s->model = NULL;
}

static void look(const char *path)
{
    kdas_file  *file;
    kdas_status st = kdas_file_open(&file, kd_fuzz_device(), path);
    const char *name, *key, *type, *last = "";
    int64_t     dims[8];
    int32_t     rank;

    ck_assert_int_eq(file == NULL, !kd_fuzz_refused_well(st, KDAS_OK));
    for (int64_t i = 0; (name = kdas_file_tensor(file, i, &type, &rank, dims)); i++) {
        ck_assert(strcmp(last, name) < 0 && type[0] && rank >= 0 && rank <= 8);
        last = name;
    }
    for (int64_t i = 0; (name = kdas_file_text(file, i, &key)); i++)
        ck_assert_ptr_nonnull(key);
    for (int32_t i = 0; (name = kdas_file_entry(file, i)); i++)
        ck_assert_ptr_nonnull(name);
    kdas_file_network(file);
    kdas_file_fact(file, "threshold");
    kdas_file_destroy(file);
}

void kd_fuzz_load(const char *path, const uint8_t *data, size_t size, int64_t tensors)
{
    uint64_t hash = kd_hash_bytes(data, size);

    if (tensors >= 8 || hash % 8 == 0) kd_fuzz_load_as(path, (unsigned)(hash >> 8));
}

void kd_fuzz_load_as(const char *path, unsigned how)
{
    static small       s;
    static const char *entries[] = { NULL, NULL, NULL, "", "model", "ema.module", "student" };
    static const char *parts[]   = { NULL, NULL, "level", "level2.", "head1." };
    size_t             before;
    kdas_load_options  o;
    kdas_status        st;
    char               why[600];

    if (!s.model) start(&s);
    before = kd_fuzz_used();
    look(path);
    kdas_load_options_init(&o, sizeof o);
    o.partial = how & 1;
    o.extra   = how >> 1 & 1;
    o.entry   = entries[how / 4 % KD_COUNT(entries)];
    o.part    = parts[how / 64 % KD_COUNT(parts)];
    if (!o.part && how / 1024 % 4 == 1) o.prefix = "level2.";
    st = kdas_model_load(s.model, path, &o);
    strncpy(why, kdas_last_error(), sizeof why - 1);
    why[sizeof why - 1] = 0;
    ck_assert_msg(st == KDAS_ESHAPE || st == KDAS_EINVAL || st == KDAS_ENOTFOUND ||
                      st == KDAS_EFORMAT || st == KDAS_ENOMEM || st == KDAS_OK ||
                      st == KDAS_ENUMERIC,
                  "%s: %s", kdas_status_name(st), why);
    if (st)
        ck_assert_msg(!changed(&s), "refused (%s), but the model has changed", why);
    else {
        drop(&s);
        return;
    }
    ck_assert_msg(kd_fuzz_used() == before, "%zu bytes were not given back",
                  kd_fuzz_used() - before);
}

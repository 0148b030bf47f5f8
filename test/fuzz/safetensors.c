/* safetensors.c - a file of any bytes as safetensors: opened, read, verified, and loaded into a network. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz/fuzz.h"
#include "io/weights.h"
#include "support/check_util.h"

static void read_tensors(kd_safetensors *file, size_t size)
{
    const char *last = "";

    for (int64_t i = 0; i < kd_safetensors_count(file); i++) {
        const kd_st_tensor *t     = kd_safetensors_at(file, i);
        char               *bytes = malloc(t->bytes + 1);
        float              *values;

        ck_assert(t->offset <= size && t->bytes <= size - t->offset);
        ck_assert(t->count >= 0 && t->count == kd_st_elements(t->rank, t->dim));
        ck_assert_int_lt(strcmp(last, t->name), i ? 0 : 1);
        ck_assert_ptr_eq(kd_safetensors_find(file, t->name), t);
        last = t->name;
        kd_assert_ok(kd_safetensors_read(file, t, bytes));
        free(bytes);
        if (t->count > (int64_t)(2 * size)) continue; /* of less than a byte: not numbers */
        values = malloc(sizeof(float) * (size_t)t->count + 1);
        kd_assert_status(kd_safetensors_read_float(file, t, values),
                         kd_st_is_number(t->dtype) ? KDAS_OK : KDAS_EFORMAT);
        free(values);
    }
}

static void run(const uint8_t *data, size_t size)
{
    kdas_context   *ctx  = kd_fuzz_begin();
    const char     *path = kd_fuzz_file(data, size), *key;
    kd_safetensors *file;
    int64_t         tensors = 0;
    bool            opened  = kd_fuzz_refused_well(kd_safetensors_open(&file, ctx, path), KDAS_OK);

    ck_assert_int_eq(file == NULL, !opened);
    if (opened) {
        tensors = kd_safetensors_count(file);
        read_tensors(file, size);
        for (int64_t i = 0; kd_safetensors_text_at(file, i, &key); i++)
            ck_assert_ptr_nonnull(kd_safetensors_text(file, key));
        kd_fuzz_refused_well(kd_safetensors_verify(file), KDAS_OK);
    }
    kd_safetensors_close(file);
    kd_fuzz_end();
    if (opened) kd_fuzz_load(path, data, size, tensors);
}

static void seed(const char *name, const char *header, size_t bytes)
{
    uint8_t  file[1024] = { 0 };
    uint64_t n          = strlen(header);

    memcpy(file, &n, 8);
    memcpy(file + 8, header, n);
    for (size_t i = 0; i < bytes; i++)
        file[8 + n + i] = (uint8_t)(i * 37);
    kd_fuzz_seed(name, file, 8 + n + bytes);
}

static void seeds(void)
{
    kdas_model *m = kd_fuzz_small_model(kd_fuzz_device());

    seed("empty", "{}", 0);
    seed("scalar", "{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4);
    seed("two",
         "{\"__metadata__\":{\"format\":\"pt\",\"k\\u00e9y\":\"v\"},"
         "\"head1.weight\":{\"dtype\":\"BF16\",\"shape\":[1,4,1,1],\"data_offsets\":[0,8]},"
         "\"norm.bias\":{\"dtype\":\"F64\",\"shape\":[4],\"data_offsets\":[8,40]}}  ",
         40);
    seed("kinds",
         "{\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F16\",\"shape\":[2,1],\"data_offsets\":[8,12]},"
         "\"c\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[12,12]},"
         "\"d\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[12,15]},"
         "\"e\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[15,16]},"
         "\"f\":{\"dtype\":\"BOOL\",\"shape\":[4],\"data_offsets\":[16,20]}}",
         20);
    seed("checked",
         "{\"__metadata__\":{\"checksum\":\"00000000\"},"
         "\"student.norm.bias\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
         16);
    kd_assert_ok(kdas_model_save(m, kd_fuzz_path("small.safetensors")));
    kd_fuzz_seed_file("small", kd_fuzz_path("small.safetensors"));
    kdas_model_destroy(m);
}

const kd_fuzz_target kd_fuzz_safetensors = { "safetensors", run, kd_fuzz_mutate_safetensors,
                                             seeds };

/* check_pytorch.c - files of PyTorch: what it wrote is read value by value in each form, what holds
 * no tensors is named, and no file, however damaged, does harm. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "io/pickle.h"
#include "io/weights.h"
#include "support/check_util.h"
#include "support/files.h"

static kd_test_memory memory;
static kdas_context   context, *ctx = &context;

static void setup(void)
{
    kd_test_folder_make();
    kd_test_bare_context(ctx, &memory);
}

static void teardown(void)
{
    kd_test_assert_balanced(&memory);
    kd_test_folder_remove();
}

/* A file that test/golden/make_pytorch.py made. */
static const char *stored(const char *name)
{
    static char path[256];

    snprintf(path, sizeof path, "test/golden/pytorch/%s", name);
    return path;
}

/* ---- Values ---- */

#define RAMP                        \
    {                               \
        -1, -0.5f, 0, 0.5f, 1, 1.5f \
    }

static const struct {
    const char *name;
    kd_st_dtype dtype;
    int         rank;
    int64_t     dim[3];
    float       value[8];
} tensors[] = {
    /* in order of name */
    { "bf16", KD_ST_BF16, 2, { 2, 3 }, RAMP },
    { "block", KD_ST_F32, 3, { 2, 2, 2 }, { 1, 1.5f, 2, 2.5f, 4, 4.5f, 5, 5.5f } },
    { "bool", KD_ST_BOOL, 1, { 3 }, { 1, 0, 1 } },
    { "empty", KD_ST_F32, 2, { 0, 3 }, { 0 } },
    { "f16", KD_ST_F16, 2, { 2, 3 }, RAMP },
    { "f32", KD_ST_F32, 2, { 2, 3 }, RAMP },
    { "f64", KD_ST_F64, 2, { 2, 3 }, RAMP },
    { "i16", KD_ST_I16, 1, { 3 }, { 1, -2, 3 } },
    { "i32", KD_ST_I32, 1, { 3 }, { 1, -2, 3 } },
    { "i64", KD_ST_I64, 0, { 0 }, { 7 } },
    { "i8", KD_ST_I8, 1, { 3 }, { 1, -2, 3 } },
    { "parameter", KD_ST_F32, 2, { 2, 3 }, RAMP },
    { "steps", KD_ST_F32, 1, { 5 }, { 0.75f, 2, 3.25f, 4.5f, 5.75f } },
    { "turned", KD_ST_F32, 2, { 3, 2 }, { -1, 0.5f, -0.5f, 1, 0, 1.5f } },
    { "u8", KD_ST_U8, 1, { 3 }, { 1, 2, 255 } },
    { "wide", KD_ST_F32, 2, { 2, 3 }, { 2.5f, 2.5f, 2.5f, 2.5f, 2.5f, 2.5f } },
};

static const char *const forms[] = { "zip.pth",           "zip_protocol5.pth", "zip_deflated.pth",
                                     "zip_big.pth",       "old.pth",           "old_protocol1.pth",
                                     "old_protocol4.pth", "wheel.whl" };

START_TEST(each_form_gives_every_value)
{
    kd_weights *w;
    float       got[8];

    kd_assert_ok(kd_weights_open(&w, ctx, stored(forms[_i])));
    ck_assert_int_eq(kd_weights_sets(w), 1);
    ck_assert_str_eq(kd_weights_set(w, 0), "");
    ck_assert_int_eq(kd_weights_count(w, 0), KD_COUNT(tensors));
    for (size_t i = 0; i < KD_COUNT(tensors); i++) {
        const kd_st_tensor *t = kd_weights_at(w, 0, (int64_t)i);

        ck_assert_str_eq(t->name, tensors[i].name);
        ck_assert_int_eq(t->dtype, tensors[i].dtype);
        ck_assert_int_eq(t->rank, tensors[i].rank);
        ck_assert_mem_eq(t->dim, tensors[i].dim, (size_t)t->rank * sizeof *t->dim);
        kd_assert_ok(kd_weights_read(w, t, got));
        ck_assert_msg(kd_test_same_bits(got, tensors[i].value, (size_t)t->count * sizeof *got),
                      "%s: other values", t->name);
    }
    kd_weights_close(w);
}
END_TEST

START_TEST(sets_are_named_by_their_keys)
{
    static const char *const want[] = { "", "model", "ema.module" };
    kd_weights              *w;

    kd_assert_ok(kd_weights_open(&w, ctx, stored("sets.pth")));
    ck_assert_int_eq(kd_weights_sets(w), 3);
    for (int s = 0; s < 3; s++)
        ck_assert_str_eq(kd_weights_set(w, s), want[s]);
    ck_assert_int_eq(kd_weights_count(w, 1), 2);
    ck_assert_str_eq(kd_weights_at(w, 2, 0)->name, "a.count");
    kd_weights_close(w);
}
END_TEST

START_TEST(a_type_without_conversion_does_not_hinder_the_others)
{
    kd_weights *w;
    float       got[6];

    kd_assert_ok(kd_weights_open(&w, ctx, stored("types.pth")));
    kd_assert_status(kd_weights_read(w, kd_weights_at(w, 0, 0), got), KDAS_EFORMAT);
    kd_assert_sentence("'f8'");
    kd_assert_sentence("F8_E4M3");
    kd_assert_ok(kd_weights_read(w, kd_weights_at(w, 0, 1), got));
    ck_assert(got[0] == -1 && got[5] == 1.5f);
    kd_assert_ok(kd_weights_read(w, kd_weights_at(w, 0, 2), got));
    ck_assert(got[0] == 1 && got[1] == 65535);
    kd_weights_close(w);
}
END_TEST

/* ---- Files without tensors ---- */

static const struct {
    const char *name, *what, *cure;
} refused[] = {
    { "module.pth", "a whole module ('__main__.Net')", "state_dict()" },
    { "module_old.pth", "a whole module ('__main__.Net')", "state_dict()" },
    { "script.pth", "TorchScript", "state_dict()" },
    { "no_tensors.pth", "no dictionary of tensors", "state_dict()" },
    { "sparse.pth", "_rebuild_sparse_tensor", "dense" },
    { "bare.pkl", "Python pickle", "state_dict()" },
    { "tar.pth", "tar archive", "unpack it" },
    { "holds_one.zip", "'package/models/net.safetensors'", "unpack it" },
    { "holds_page.zip", "a web page", "fetch the file again" },
    { "arrays.npz", "NumPy archive", "export it to safetensors" },
};

START_TEST(a_file_without_tensors_is_named_with_the_cure)
{
    kd_weights *w = (kd_weights *)&memory;

    kd_assert_status(kd_weights_open(&w, ctx, stored(refused[_i].name)), KDAS_EFORMAT);
    ck_assert_ptr_null(w);
    kd_assert_sentence(refused[_i].name);
    kd_assert_sentence(refused[_i].what);
    kd_assert_sentence(refused[_i].cure);
}
END_TEST

#define BYTES(text) text, sizeof text - 1

static const struct {
    const char *bytes;
    size_t      n;
    const char *what, *cure;
} kinds[] = {
    { BYTES(""), "an empty file", "fetch it again" },
    { BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:6fd5\nsize 14632768\n"),
      "Git LFS pointer", "git lfs pull" },
    { BYTES("<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title>"),
      "a web page (HTML)", "quota" },
    { BYTES("\xEF\xBB\xBF \n<HTML lang=en>"), "a web page (HTML)", "fetch the file again" },
    { BYTES("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"), "(XML)", "fetch" },
    { BYTES("{\"metadata\":{\"total_size\":1},\"weight_map\":{}}"), "JSON", "index" },
    { BYTES("Entry not found"), "a text", "fetch the file again" },
    { BYTES("\x89PNG\r\n\x1A\n\0\0\0\rIHDR"), "a PNG image", ".pth" },
    { BYTES("\xFF\xD8\xFF\xE0\0\x10JFIF"), "a JPEG image", "safetensors" },
    { BYTES("\x93NUMPY\1\0v\0{'descr'"), "a NumPy array", "safetensors" },
    { BYTES("\x89HDF\r\n\x1A\n\0\0\0\0"), "HDF5", "export it to safetensors" },
    { BYTES("\x08\x07\x12\x07pytorch\x1A\x05"
            "2.1.0:\x80\x80\x01\n"),
      "an ONNX model", "export its weights" },
    { BYTES("\x1F\x8B\x08\0\0\0\0\0\0\3"), "a gzip archive", "unpack it" },
    { BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "a file of zeros", "fetch it again" },
    { BYTES("PK\3\4\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "cut off or damaged", "export it" },
    { BYTES("PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "an empty zip archive", "fetch" },
    { BYTES("RIFF\x24\0\0\0AVI LIST"), "a video", "safetensors" },
    { BYTES("%PDF-1.7\n%\xE2\xE3\xCF\xD3\n"), "a PDF", "safetensors" },
};

START_TEST(another_kind_of_file_is_named_with_the_cure)
{
    const char *path = kd_test_path("weights.pth");
    kd_weights *w;

    kd_test_write(path, kinds[_i].bytes, kinds[_i].n);
    kd_assert_status(kd_weights_open(&w, ctx, path), KDAS_EFORMAT);
    kd_assert_sentence(path);
    kd_assert_sentence(kinds[_i].what);
    kd_assert_sentence(kinds[_i].cure);
}
END_TEST

START_TEST(a_folder_is_no_file_of_weights)
{
    kd_weights *w;

    kd_assert_status(kd_weights_open(&w, ctx, kd_test_path(NULL)), KDAS_EIO);
    kd_assert_sentence("is a folder");
    kd_assert_sentence("give the file in it");
    kd_assert_status(kd_weights_open(&w, ctx, kd_test_path("none")), KDAS_ENOTFOUND);
}
END_TEST

/* ---- Damage ---- */

/* Open a file, and read all that it has. */
static void read_all(const char *path)
{
    static float values[4096];
    kd_weights  *w;

    if (kd_weights_open(&w, ctx, path) != KDAS_OK) {
        ck_assert_ptr_null(w);
        ck_assert_str_ne(kdas_last_error(), "");
        return;
    }
    for (int s = 0; s < kd_weights_sets(w); s++)
        for (int64_t i = 0; i < kd_weights_count(w, s); i++)
            if (kd_weights_at(w, s, i)->count <= (int64_t)KD_COUNT(values))
                kd_weights_read(w, kd_weights_at(w, s, i), values);
    kd_weights_close(w);
}

START_TEST(a_file_that_is_cut_off_anywhere_is_refused)
{
    size_t         n;
    unsigned char *bytes = kd_test_read(stored(forms[_i]), &n);
    const char    *path  = kd_test_path("x");
    kd_weights    *w;

    for (size_t cut = 0; cut < n; cut += 1 + cut % 13) {
        kd_test_write(path, bytes, cut);
        kd_assert_status(kd_weights_open(&w, ctx, path), KDAS_EFORMAT);
        kd_assert_sentence(path);
    }
    free(bytes);
}
END_TEST

/* Change, remove or repeat some bytes. */
static size_t damage(unsigned char *to, const unsigned char *from, size_t n, kd_random *r)
{
    memcpy(to, from, n);
    for (int64_t k = kd_random_below(r, 6); k >= 0; k--) {
        size_t at = (size_t)kd_random_below(r, (int64_t)n);
        size_t m  = (size_t)kd_random_below(r, 9);

        m = KD_MIN(m, n - at - 1);
        switch (kd_random_below(r, 5)) {
        case 0: to[at] = (unsigned char)kd_random_below(r, 256); break;
        case 1: to[at] ^= (unsigned char)(1u << kd_random_below(r, 8)); break;
        case 2: memset(to + at, kd_random_below(r, 2) ? 0xFF : 0, m); break;
        case 3: memmove(to + at, to + at + m, n - at - m); break;
        default: memmove(to + at + m, to + at, n - at - m); break;
        }
    }
    return n;
}

static uint32_t le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The record of an entry in the directory; its name ends so. */
static unsigned char *record_of(unsigned char *bytes, size_t n, const char *end)
{
    size_t at = le32(bytes + n - 22 + 16), m = strlen(end);

    while (memcmp(bytes + at, "PK\1\2", 4) == 0) {
        size_t name = bytes[at + 28] | (size_t)bytes[at + 29] << 8;

        if (name >= m && memcmp(bytes + at + 46 + name - m, end, m) == 0) return bytes + at;
        at += 46 + name + bytes[at + 30] + ((size_t)bytes[at + 31] << 8) + bytes[at + 32];
    }
    ck_abort_msg("no entry %s", end);
    return NULL;
}

/* Read every value of every tensor of the file. */
static kdas_status read_every_tensor(const char *path)
{
    kd_weights *w;
    kdas_status st = kd_weights_open(&w, ctx, path);

    if (st != KDAS_OK) return st;
    for (int s = 0; s < kd_weights_sets(w) && st == KDAS_OK; s++)
        for (int64_t i = 0; i < kd_weights_count(w, s) && st == KDAS_OK; i++) {
            const kd_st_tensor *t = kd_weights_at(w, s, i);
            float              *v = malloc((size_t)t->count * sizeof *v + 1);

            if (kd_st_is_number(t->dtype)) st = kd_weights_read(w, t, v);
            free(v);
        }
    kd_weights_close(w);
    return st;
}

/* One bit of a stored entry is otherwise: of a storage, and of the pickle, whose text it may be. */
START_TEST(a_flipped_bit_in_a_stored_entry_is_told)
{
    static const char *const ends[] = { "/data/0", "/data.pkl" };
    const char              *path   = kd_test_path("x");
    size_t                   n, from;
    unsigned char           *bytes  = kd_test_read(stored("zip.pth"), &n);
    unsigned char           *record = record_of(bytes, n, ends[_i]);

    from = le32(record + 42);
    from += 30 + bytes[from + 26] + bytes[from + 28] + ((size_t)bytes[from + 29] << 8);
    bytes[from + le32(record + 24) / 2] ^= 1;
    kd_test_write(path, bytes, n);
    kd_assert_status(read_every_tensor(path), KDAS_EFORMAT);
    kd_assert_sentence(ends[_i]);
    kd_assert_sentence("its checksum differs");
    kd_assert_sentence(path);
    memset(record + 16, 0, 4); /* PyTorch was told to compute none */
    bytes[from + le32(record + 24) / 2] ^= 1;
    kd_test_write(path, bytes, n);
    kd_assert_ok(read_every_tensor(path));
    free(bytes);
}
END_TEST

START_TEST(damaged_files_do_no_harm)
{
    size_t         n;
    unsigned char *bytes = kd_test_read(stored(forms[_i]), &n), *bad = malloc(n);
    const char    *path = kd_test_path("x");
    kd_random      r    = kd_random_make(7, (uint64_t)_i);

    for (int round = 0; round < 400; round++) {
        kd_test_write(path, bad, damage(bad, bytes, n, &r));
        read_all(path);
    }
    free(bad);
    free(bytes);
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    static const char *const names[] = { "zip_deflated.pth", "old.pth", "sets.pth" };
    kd_weights              *w;
    kdas_status              st = KDAS_ENOMEM;

    for (long k = 1; st != KDAS_OK; k++) {
        memory.asked   = 0;
        memory.fail_at = k;
        st             = kd_weights_open(&w, ctx, stored(names[_i]));
        if (st != KDAS_OK) kd_assert_status(st, KDAS_ENOMEM);
        if (st == KDAS_OK) kd_weights_close(w);
    }
    memory.fail_at = 0;
}
END_TEST

/* ---- Pickles ---- */

static kdas_status read_pickle(const void *bytes, size_t n)
{
    kd_pickle  *p;
    size_t      used;
    bool        cut;
    kdas_status st = kd_pickle_read(&p, ctx, bytes, n, &used, &cut);

    kd_pickle_free(p);
    return st;
}

/* Nothing at all, and opcodes whose line does not even begin. */
START_TEST(a_pickle_of_no_bytes_is_cut_off)
{
    kd_assert_status(read_pickle(NULL, 0), KDAS_EFORMAT);
    kd_assert_sentence("cut off at byte 0");
    for (const char *op = "cpgILPi"; *op; op++) {
        kd_assert_status(read_pickle(op, 1), KDAS_EFORMAT);
        kd_assert_sentence("cut off at byte 1");
    }
}
END_TEST

START_TEST(a_call_in_a_pickle_is_a_record)
{
    static const char bytes[] = "cos\nsystem\n(U\x10touch harmed.txttR.";
    kd_pickle        *p;
    size_t            used, n;
    bool              cut;
    char              name[32];
    uint32_t          root;

    kd_assert_ok(kd_pickle_read(&p, ctx, bytes, sizeof bytes - 1, &used, &cut));
    ck_assert_uint_eq(used, sizeof bytes - 1);
    root = kd_pickle_root(p);
    ck_assert_int_eq(kd_pickle_kind_of(p, root), KD_PICKLE_OBJECT);
    kd_pickle_global(p, kd_pickle_callable(p, root), name, sizeof name);
    ck_assert_str_eq(name, "os.system");
    kd_pickle_text(p, kd_pickle_element(p, kd_pickle_args(p, root), 0), &n);
    ck_assert_uint_eq(n, 16);
    kd_pickle_free(p);
    ck_assert_int_eq(kd_test_entries(kd_test_path(NULL)), 0);
}
END_TEST

static const struct {
    const char *bytes;
    size_t      n;
    const char *why;
} bad_pickles[] = {
    { BYTES(""), "cut off" },
    { BYTES("."), "a value is missing" },
    { BYTES("}u."), "a mark is missing" },
    { BYTES("}(K\1u."), "a key has no value" },
    { BYTES("(u."), "a container is missing" },
    { BYTES("h\0."), "does not have" },
    { BYTES("Nr\xFF\xFF\xFF\xFF."), "memo is too long" },
    { BYTES("\x80\x06N."), "newer than 5" },
    { BYTES("X\xFF\xFF\xFF\xFFtext."), "cut off" },
    { BYTES("\x8D\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFtext."), "cut off" },
    { BYTES("K\1K\2R."), "no tuple" },
    { BYTES("K\1K\2\x93."), "no text" },
    { BYTES("\x82\1."), "opcode 0x82" },
    { BYTES("N(."), "a value is missing" },
    { BYTES("px\n."), "no number" },
    { BYTES("cos\nsystem"), "cut off" },
};

START_TEST(a_bad_pickle_is_refused)
{
    kd_assert_status(read_pickle(bad_pickles[_i].bytes, bad_pickles[_i].n), KDAS_EFORMAT);
    kd_assert_sentence(bad_pickles[_i].why);
}
END_TEST

START_TEST(the_number_of_values_is_bounded)
{
    size_t n     = (size_t)KD_PICKLE_MAX_VALUES + 2;
    char  *bytes = malloc(n);

    memset(bytes, 'N', n);
    kd_assert_status(read_pickle(bytes, n), KDAS_EFORMAT);
    kd_assert_sentence("too many values");
    memset(bytes, '2', n); /* one value many times */
    memcpy(bytes, "](K\1", 4);
    bytes[n - 1] = '.';
    bytes[n - 2] = 'e';
    kd_assert_ok(read_pickle(bytes, n));
    free(bytes);
}
END_TEST

START_TEST(a_value_that_holds_itself_is_searched_once)
{
    static const char root[]  = "}q\0X\1\0\0\0ah\0s."; /* a dictionary that is its own "a" */
    static const char front[] = "\x80\2\x8A\nl\xFC\x9C\x46\xF9 j\xA8P\x19.M\xE9\3.}.";
    char              file[128];
    kd_weights       *w;

    memcpy(file, front, sizeof front - 1);
    memcpy(file + sizeof front - 1, root, sizeof root - 1);
    memcpy(file + sizeof front + sizeof root - 2, "].", 2);
    kd_test_write(kd_test_path("x"), file, sizeof front + sizeof root);
    kd_assert_status(kd_weights_open(&w, ctx, kd_test_path("x")), KDAS_EFORMAT);
    kd_assert_sentence("no dictionary of tensors");
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("pytorch");
    TCase   *t = tcase_create("files");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, each_form_gives_every_value, 0, KD_COUNT(forms));
    tcase_add_test(t, sets_are_named_by_their_keys);
    tcase_add_test(t, a_type_without_conversion_does_not_hinder_the_others);
    tcase_add_loop_test(t, a_file_without_tensors_is_named_with_the_cure, 0, KD_COUNT(refused));
    tcase_add_loop_test(t, another_kind_of_file_is_named_with_the_cure, 0, KD_COUNT(kinds));
    tcase_add_test(t, a_folder_is_no_file_of_weights);
    tcase_add_loop_test(t, a_file_that_is_cut_off_anywhere_is_refused, 0, KD_COUNT(forms));
    tcase_add_loop_test(t, a_flipped_bit_in_a_stored_entry_is_told, 0, 2);
    tcase_add_loop_test(t, damaged_files_do_no_harm, 0, KD_COUNT(forms));
    tcase_add_loop_test(t, any_allocation_may_fail, 0, 3);
    tcase_add_test(t, a_pickle_of_no_bytes_is_cut_off);
    tcase_add_test(t, a_call_in_a_pickle_is_a_record);
    tcase_add_loop_test(t, a_bad_pickle_is_refused, 0, KD_COUNT(bad_pickles));
    tcase_add_test(t, the_number_of_values_is_bounded);
    tcase_add_test(t, a_value_that_holds_itself_is_searched_once);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

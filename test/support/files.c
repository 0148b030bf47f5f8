/* files.c - folders, bytes and counted memory of the tests of files. */
#define _GNU_SOURCE
#include "support/files.h"
#include <check.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- A context without a device ---- */

static void *counted_alloc(void *user, size_t bytes)
{
    kd_test_memory *m   = user;
    void           *got = NULL;

    if (++m->asked != m->fail_at) got = malloc(bytes);
    m->taken += got != NULL;
    return got;
}

static void counted_free(void *user, void *memory)
{
    ((kd_test_memory *)user)->given_back++;
    free(memory);
}

void kd_test_bare_context(kdas_context *context, kd_test_memory *memory)
{
    *memory  = (kd_test_memory){ 0 };
    *context = (kdas_context){
        .alloc = counted_alloc, .free = counted_free, .alloc_user = memory, .threads = 1
    };
}

void kd_test_assert_balanced(const kd_test_memory *memory)
{
    ck_assert_int_eq(memory->taken, memory->given_back);
}

/* ---- A folder for the running test ---- */

static char folder[256];

void kd_test_folder_make(void)
{
    const char *above = getenv("TMPDIR");

    snprintf(folder, sizeof folder, "%s/kdas-test-XXXXXX", above ? above : "/tmp");
    ck_assert_msg(mkdtemp(folder) != NULL, "cannot make the folder %s", folder);
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
    (void)s, (void)type, (void)ftw;
    return remove(path);
}

void kd_test_folder_remove(void)
{
    ck_assert_int_eq(nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

const char *kd_test_path(const char *name)
{
    static _Thread_local char path[16][512];
    static _Thread_local int  turn;

    if (!name) return folder;
    turn = (turn + 1) % 16;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

int kd_test_entries(const char *path)
{
    DIR *dir = opendir(path);
    int  n   = 0;

    ck_assert_msg(dir != NULL, "cannot open the folder %s", path);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n - 2; /* . and .. */
}

void kd_test_write(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");

    ck_assert_msg(f != NULL, "cannot write %s", path);
    ck_assert_uint_eq(n ? fwrite(data, 1, n, f) : 0, n);
    ck_assert_int_eq(fclose(f), 0);
}

unsigned char *kd_test_read(const char *path, size_t *n)
{
    FILE          *f = fopen(path, "rb");
    unsigned char *bytes;
    long           size;

    ck_assert_msg(f != NULL, "cannot read %s", path);
    fseek(f, 0, SEEK_END);
    size = ftell(f);
    rewind(f);
    bytes = malloc((size_t)size + 1);
    ck_assert_uint_eq(fread(bytes, 1, (size_t)size, f), (size_t)size);
    fclose(f);
    bytes[size] = 0;
    *n          = (size_t)size;
    return bytes;
}

void kd_test_assert_text(const char *path, const char *text)
{
    size_t n;
    char  *got = (char *)kd_test_read(path, &n);

    ck_assert_str_eq(got, text);
    free(got);
}

const char *kd_test_lay(const char *header, size_t n)
{
    const char    *path   = kd_test_path("laid.safetensors");
    uint64_t       length = strlen(header);
    unsigned char *file   = malloc(8 + length + n);

    memcpy(file, &length, 8);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < n; i++)
        file[8 + length + i] = (unsigned char)i;
    kd_test_write(path, file, 8 + length + n);
    free(file);
    return path;
}

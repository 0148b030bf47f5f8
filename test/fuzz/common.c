/* common.c - what the targets share. */
#define _GNU_SOURCE
#include "fuzz/fuzz.h"
#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/context.h"
#include "support/files.h"

/* ---- memory with a limit ---- */

static atomic_size_t used;

static void *limited_alloc(void *user, size_t bytes)
{
    void *got;

    (void)user;
    if (bytes > KD_FUZZ_MEMORY || atomic_load(&used) > KD_FUZZ_MEMORY - bytes) return NULL;
    got = malloc(bytes);
    if (got) atomic_fetch_add(&used, malloc_usable_size(got));
    return got;
}

static void limited_free(void *user, void *memory)
{
    (void)user;
    if (memory) atomic_fetch_sub(&used, malloc_usable_size(memory));
    free(memory);
}

size_t kd_fuzz_used(void) { return atomic_load(&used); }

static size_t before;

kdas_context *kd_fuzz_begin(void)
{
    static kdas_context context;

    before  = kd_fuzz_used();
    context = (kdas_context){ .alloc = limited_alloc, .free = limited_free, .threads = 1 };
    return &context;
}

void kd_fuzz_end(void)
{
    ck_assert_msg(kd_fuzz_used() == before, "%zu bytes were not given back",
                  kd_fuzz_used() - before);
}

kdas_context *kd_fuzz_device(void)
{
    static kdas_context *ctx;
    kdas_context_options o;
    kdas_status          st;

    if (ctx) return ctx;
    kdas_context_options_init(&o, sizeof o);
    o.threads = 1;
    o.alloc   = limited_alloc;
    o.free    = limited_free;
    st        = kdas_context_create(&ctx, &o);
    ck_assert_msg(st == KDAS_OK, "no context: %s", kdas_last_error());
    return ctx;
}

/* ---- files ---- */

const char *kd_fuzz_file(const uint8_t *data, size_t size)
{
    static char path[64];
    static int  fd = -1, owner;

    if (fd < 0 || owner != getpid()) {
        fd    = memfd_create("input", MFD_CLOEXEC);
        owner = getpid();
        ck_assert_int_ge(fd, 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    ck_assert_int_eq(pwrite(fd, data, size, 0), (ssize_t)size);
    return path;
}

static char folder[64];
static int  folder_owner;

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *ftw)
{
    (void)s, (void)type, (void)ftw;
    return remove(path);
}

static void remove_folder(void)
{
    if (folder_owner == getpid()) nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *kd_fuzz_path(const char *name)
{
    static char path[4][320];
    static int  turn;

    if (folder_owner != getpid()) {
        const char *above = getenv("TMPDIR");

        if (!above) above = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(folder, sizeof folder, "%s/kdas-fuzz-XXXXXX", above);
        ck_assert_ptr_nonnull(mkdtemp(folder));
        folder_owner = getpid();
        atexit(remove_folder);
    }
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

/* ---- statuses ---- */

bool kd_fuzz_refused_well(kdas_status st, kdas_status other)
{
    ck_assert_msg(st == KDAS_OK || st == KDAS_EFORMAT || st == KDAS_ENOMEM || st == other, "%s: %s",
                  kdas_status_name(st), kdas_last_error());
    ck_assert(st == KDAS_OK || kdas_last_error()[0]);
    return st == KDAS_OK;
}

/* ---- seeds ---- */

void (*kd_fuzz_keep_seed)(const char *name, const uint8_t *data, size_t size);

void kd_fuzz_seed(const char *name, const void *data, size_t size)
{
    kd_fuzz_keep_seed(name, data, size);
}

void kd_fuzz_seed_file(const char *name, const char *path)
{
    size_t         n;
    unsigned char *bytes = kd_test_read(path, &n);

    kd_fuzz_seed(name, bytes, n);
    free(bytes);
}

/* ---- numbers ---- */

uint8_t kd_fuzz_byte(kd_fuzz_bytes *b) { return b->at < b->end ? *b->at++ : 0; }

uint64_t kd_fuzz_number(kd_fuzz_bytes *b, int bytes)
{
    uint64_t x = 0;

    for (int i = 0; i < bytes; i++)
        x |= (uint64_t)kd_fuzz_byte(b) << 8 * i;
    return x;
}

const char *kd_fuzz_some_text(kd_fuzz_bytes *b, char *to, size_t max)
{
    size_t n = kd_fuzz_byte(b) % (max + 1), k = 0;

    for (size_t i = 0; i < n && b->at < b->end; i++) {
        to[k] = (char)kd_fuzz_byte(b);
        if (to[k]) k++;
    }
    to[k] = 0;
    return to;
}

int64_t kd_fuzz_whole(kd_fuzz_bytes *b)
{
    static const int64_t edge[] = { 0,
                                    1,
                                    -1,
                                    2,
                                    31,
                                    32,
                                    64,
                                    352,
                                    INT32_MAX,
                                    INT32_MIN,
                                    INT64_MAX,
                                    INT64_MIN,
                                    1LL << 32,
                                    1LL << 53,
                                    1LL << 62,
                                    16384,
                                    INT64_MAX - 63 };
    uint8_t              how    = kd_fuzz_byte(b);

    if (how < 128) return edge[how % KD_COUNT(edge)];
    return how < 192 ? (int8_t)kd_fuzz_byte(b) : (int64_t)kd_fuzz_number(b, how < 224 ? 4 : 8);
}

double kd_fuzz_real(kd_fuzz_bytes *b)
{
    static const double edge[] = { 0,         -0.0, 1,      -1,    0.5,   1e-30,      1e30,
                                   2,         1e38, 4e38,   1e308, 1e-45, 0.99999994, 1.0 / 0.0,
                                   0.0 / 0.0, 0.9,  -1e300, 1e6,   180,   16777216,   -1.0 / 0.0 };
    uint8_t             how    = kd_fuzz_byte(b);
    uint64_t            bits;
    double              x;

    if (how < 192) return edge[how % KD_COUNT(edge)];
    bits = kd_fuzz_number(b, 8);
    memcpy(&x, &bits, sizeof x);
    return x;
}

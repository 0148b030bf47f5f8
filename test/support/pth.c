/* pth.c - the pickle's opcodes are those of protocol 2. */
#include "support/pth.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "support/files.h"

static void add(kd_test_pth *p, const void *bytes, size_t n)
{
    if (p->size + n > p->room) {
        p->room  = 2 * (p->size + n);
        p->bytes = realloc(p->bytes, p->room);
    }
    memcpy(p->bytes + p->size, bytes, n);
    p->size += n;
}

static void op(kd_test_pth *p, const char *text) { add(p, text, strlen(text)); }

static void add_text(kd_test_pth *p, const char *text)
{
    uint32_t n = (uint32_t)strlen(text);

    op(p, "X");
    add(p, &n, sizeof n);
    op(p, text);
}

static void add_whole(kd_test_pth *p, int64_t x)
{
    int32_t whole = (int32_t)x;

    op(p, "J");
    add(p, &whole, sizeof whole);
}

void kd_test_pth_begin(kd_test_pth *p)
{
    *p = (kd_test_pth){ 0 };
    op(p, "\x80\2\x8A\nl\xFC\x9C\x46\xF9 j\xA8P\x19."); /* the magic number */
    op(p, "\x80\2M\xE9\3.");                            /* the version */
    op(p, "\x80\2}.");                                  /* the writer's machine */
    op(p, "\x80\2}(");
}

void kd_test_pth_begin_zip(kd_test_pth *p)
{
    *p = (kd_test_pth){ .zip = true };
    op(p, "\x80\2}(");
}

void kd_test_pth_open(kd_test_pth *p, const char *key)
{
    add_text(p, key);
    op(p, "}(");
}

void kd_test_pth_close(kd_test_pth *p) { op(p, "u"); }

static int room_of(const kd_test_pth *p)
{
    return p->zip ? (int)(sizeof p->value / sizeof(float)) : 16;
}

static int place_of(kd_test_pth *p, float value)
{
    for (int i = 0; i < p->values; i++)
        if (memcmp(&p->value[i], &value, sizeof value) == 0) return i;
    ck_assert_int_lt(p->values, room_of(p));
    p->value[p->values] = value;
    return p->values++;
}

/* A tensor of the storage `key`, from its element `at` on; all strides are 0. */
static void put(kd_test_pth *p, const char *name, const char *type, const char *key, int64_t room,
                int64_t at, int rank, const int64_t *dims)
{
    add_text(p, name);
    op(p, "ctorch._utils\n_rebuild_tensor_v2\n((");
    add_text(p, "storage");
    op(p, "ctorch\n");
    op(p, type);
    op(p, "\n");
    add_text(p, key);
    add_text(p, "cpu");
    add_whole(p, room);
    op(p, p->zip ? "tQ" : "NtQ");
    add_whole(p, at);
    op(p, "(");
    for (int i = 0; i < rank; i++)
        add_whole(p, dims[i]);
    op(p, "t(");
    for (int i = 0; i < rank; i++)
        add_whole(p, 0);
    op(p, "t\x89}tR");
}

void kd_test_pth_put(kd_test_pth *p, const char *name, int rank, const int64_t *dims, float value)
{
    put(p, name, "FloatStorage", "94", room_of(p), place_of(p, value), rank, dims);
}

void kd_test_pth_put_count(kd_test_pth *p, const char *name, int64_t value)
{
    ck_assert(p->zip);
    p->count = value;
    put(p, name, "LongStorage", "95", 1, 0, 0, NULL);
}

/* ---- The end ---- */

static void add_16(kd_test_pth *p, uint32_t x) { add(p, &(uint16_t){ (uint16_t)x }, 2); }
static void add_32(kd_test_pth *p, uint32_t x) { add(p, &x, 4); }

/* An entry as it is stored, and its record for the directory. */
static void add_entry(kd_test_pth *to, kd_test_pth *directory, const char *name, const void *bytes,
                      size_t n)
{
    uint32_t     crc = (uint32_t)crc32(0, bytes, (unsigned)n), at = (uint32_t)to->size;
    kd_test_pth *both[] = { to, directory };

    op(to, "PK\3\4");
    op(directory, "PK\1\2");
    add_16(directory, 20); /* made by version 2.0 */
    for (int i = 0; i < 2; i++) {
        add_16(both[i], 20); /* read by version 2.0 */
        for (int k = 0; k < 4; k++)
            add_16(both[i], 0); /* flags, stored, time, date */
        add_32(both[i], crc);
        add_32(both[i], (uint32_t)n);
        add_32(both[i], (uint32_t)n);
        add_16(both[i], (uint32_t)strlen(name));
        add_16(both[i], 0); /* nothing more about it */
    }
    for (int k = 0; k < 5; k++)
        add_16(directory, 0); /* comment, disk, attributes */
    add_32(directory, at);
    op(to, name);
    op(directory, name);
    add(to, bytes, n);
}

static void end_zip(kd_test_pth *p, const char *path)
{
    kd_test_pth to = { 0 }, directory = { 0 };
    uint32_t    at, size;

    op(p, "u.");
    add_entry(&to, &directory, "archive/data.pkl", p->bytes, p->size);
    add_entry(&to, &directory, "archive/byteorder", "little", 6);
    add_entry(&to, &directory, "archive/data/94", p->value, sizeof p->value);
    add_entry(&to, &directory, "archive/data/95", &p->count, sizeof p->count);
    add_entry(&to, &directory, "archive/version", "3\n", 2);
    at   = (uint32_t)to.size;
    size = (uint32_t)directory.size;
    add(&to, directory.bytes, directory.size);
    op(&to, "PK\5\6");
    add_32(&to, 0);
    add_16(&to, 5);
    add_16(&to, 5);
    add_32(&to, size);
    add_32(&to, at);
    add_16(&to, 0);
    kd_test_write(path, to.bytes, to.size);
    free(directory.bytes);
    free(to.bytes);
    free(p->bytes);
}

void kd_test_pth_end(kd_test_pth *p, const char *path)
{
    int64_t count = 16;

    if (p->zip) {
        end_zip(p, path);
        return;
    }
    op(p, "u.\x80\2](");
    if (p->values) add_text(p, "94");
    op(p, "e.");
    if (p->values) {
        add(p, &count, sizeof count);
        add(p, p->value, 16 * sizeof *p->value);
    }
    kd_test_write(path, p->bytes, p->size);
    free(p->bytes);
}

/* pth.c - the pickle's opcodes are those of protocol 2. */
#include "support/pth.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

void kd_test_pth_open(kd_test_pth *p, const char *key)
{
    add_text(p, key);
    op(p, "}(");
}

void kd_test_pth_close(kd_test_pth *p) { op(p, "u"); }

static int place_of(kd_test_pth *p, float value)
{
    for (int i = 0; i < p->values; i++)
        if (memcmp(&p->value[i], &value, sizeof value) == 0) return i;
    ck_assert_int_lt(p->values, 16);
    p->value[p->values] = value;
    return p->values++;
}

void kd_test_pth_put(kd_test_pth *p, const char *name, int rank, const int64_t *dims, float value)
{
    add_text(p, name);
    op(p, "ctorch._utils\n_rebuild_tensor_v2\n((");
    add_text(p, "storage");
    op(p, "ctorch\nFloatStorage\n");
    add_text(p, "94");
    add_text(p, "cpu");
    add_whole(p, 16);
    op(p, "NtQ");
    add_whole(p, place_of(p, value));
    op(p, "(");
    for (int i = 0; i < rank; i++)
        add_whole(p, dims[i]);
    op(p, "t(");
    for (int i = 0; i < rank; i++)
        add_whole(p, 0);
    op(p, "t\x89}tR");
}

void kd_test_pth_end(kd_test_pth *p, const char *path)
{
    int64_t count = 16;

    op(p, "u.\x80\2](");
    if (p->values) add_text(p, "94");
    op(p, "e.");
    if (p->values) {
        add(p, &count, sizeof count);
        add(p, p->value, sizeof p->value);
    }
    kd_test_write(path, p->bytes, p->size);
    free(p->bytes);
}

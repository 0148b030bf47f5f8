/* proto.c - see proto.h. */
#include <string.h>
#include "export/proto.h"

enum { VARINT = 0, BYTES = 2, FIXED32 = 5 }; /* wire types */

void kd_proto_init(kd_proto *p, kdas_context *ctx) { *p = (kd_proto){ .ctx = ctx }; }

void kd_proto_finish(kd_proto *p)
{
    kd_free(p->ctx, p->data);
    p->data = NULL;
    p->size = p->capacity = 0;
}

void kd_proto_clear(kd_proto *p) { p->size = 0; }

static void put(kd_proto *p, const void *data, size_t n)
{
    if (p->status != KDAS_OK || n == 0) return;
    p->status = kd_grow(p->ctx, (void **)&p->data, &p->capacity, p->size + n, 1);
    if (p->status != KDAS_OK) return;
    memcpy(p->data + p->size, data, n);
    p->size += n;
}

static void put_varint(kd_proto *p, uint64_t value)
{
    unsigned char bytes[10];
    size_t        n = 0;

    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (unsigned char)(value | 0x80);
    bytes[n++] = (unsigned char)value;
    put(p, bytes, n);
}

static void put_tag(kd_proto *p, int field, int wire)
{
    put_varint(p, (uint64_t)field << 3 | (uint64_t)wire);
}

void kd_proto_put_int(kd_proto *p, int field, int64_t value)
{
    put_tag(p, field, VARINT);
    put_varint(p, (uint64_t)value);
}

void kd_proto_put_float(kd_proto *p, int field, float value)
{
    put_tag(p, field, FIXED32);
    put(p, &value, sizeof value);
}

void kd_proto_put_head(kd_proto *p, int field, uint64_t bytes)
{
    put_tag(p, field, BYTES);
    put_varint(p, bytes);
}

void kd_proto_put_text(kd_proto *p, int field, const char *text)
{
    kd_proto_put_head(p, field, strlen(text));
    put(p, text, strlen(text));
}

void kd_proto_put_message(kd_proto *p, int field, const kd_proto *message)
{
    if (p->status == KDAS_OK) p->status = message->status;
    kd_proto_put_head(p, field, message->size);
    put(p, message->data, message->size);
}

/* repair.c - mutators for files that check themselves. An altered checksum or length would be refused at once, so each
 * alters a part of the file and then makes lengths and checksums those of what the file now holds. One in eight
 * inputs is altered anywhere and left so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "fuzz/fuzz.h"
#include "io/crc.h"
#include "io/safetensors.h"
#include "support/pictures.h"

/* ---- PNG: the checksums of chunks ---- */

size_t kd_fuzz_mutate_png(uint8_t *data, size_t size, size_t max, unsigned seed,
                          kd_fuzz_mutator *any)
{
    size = any(data, size, max);
    if (seed % 8 && size > 8 && memcmp(data, "\x89PNG", 4) == 0) kd_test_mend_png(data, size);
    return size;
}

/* ---- safetensors: the header's length, the length of the data, the checksum ---- */

static uint64_t header_of(const uint8_t *data, size_t size)
{
    uint64_t n = 0;

    for (int i = 0; i < 8; i++)
        n |= (uint64_t)data[i] << 8 * i;
    return KD_MIN(n, size - 8);
}

/* The largest end of a tensor that the header names, if there is room for it. */
static size_t data_end(const char *header, size_t n, size_t most)
{
    static const char mark[] = "\"data_offsets\":[";
    unsigned long     end    = 0;

    for (size_t i = 0; i + sizeof mark < n; i++) {
        unsigned long a, b;

        if (memcmp(header + i, mark, sizeof mark - 1) != 0) continue;
        if (sscanf(header + i + sizeof mark - 1, "%9lu,%9lu", &a, &b) == 2 && b > end) end = b;
    }
    return end <= most ? end : most;
}

static void mend_checksum(uint8_t *data, size_t size, size_t head)
{
    static const char mark[] = KD_ST_CHECKSUM_MARK;
    char              digits[9];

    for (size_t i = 8; i + sizeof mark - 1 + 8 <= 8 + head; i++) {
        uint8_t *at = data + i + sizeof mark - 1;

        if (memcmp(data + i, mark, sizeof mark - 1) != 0) continue;
        memset(at, '0', 8);
        snprintf(digits, sizeof digits, "%08x", (unsigned)kd_crc32(0, data, size));
        memcpy(at, digits, 8);
        return;
    }
}

size_t kd_fuzz_mutate_safetensors(uint8_t *data, size_t size, size_t max, unsigned seed,
                                  kd_fuzz_mutator *any)
{
    size_t   head, tail, wanted;
    uint8_t *kept, *text;

    if (size < 10 || max < size || seed % 8 == 0) return any(data, size, max);
    head = header_of(data, size);
    tail = size - 8 - head;
    if (seed / 8 % 4 || !tail) {
        kept = malloc(tail + 1);
        memcpy(kept, data + 8 + head, tail);
        head = any(data + 8, head, max - 8 - tail);
        memcpy(data + 8 + head, kept, tail);
        free(kept);
    } else {
        tail = any(data + 8 + head, tail, max - 8 - head);
    }
    text = malloc(head + 1);
    memcpy(text, data + 8, head);
    text[head] = 0;
    wanted     = data_end((char *)text, head, max - 8 - head);
    free(text);
    if (seed / 32 % 8) {
        if (wanted > tail) memset(data + 8 + head + tail, 0, wanted - tail);
        tail = wanted;
    }
    for (int i = 0; i < 8; i++)
        data[i] = (uint8_t)((uint64_t)head >> 8 * i);
    mend_checksum(data, 8 + head + tail, head);
    return 8 + head + tail;
}

/* ---- zip: entries laid anew, with their lengths, places and checksums ---- */

enum { MOST_ENTRIES = 32, LOCAL = 30, CENTRAL = 46, END = 22 };

typedef struct entry {
    char           name[64];
    size_t         name_size, size;
    uint16_t       method;
    uint32_t       unpacked;
    const uint8_t *bytes;
} entry;

static uint32_t get(const uint8_t *p, int bytes)
{
    uint32_t x = 0;

    for (int i = 0; i < bytes; i++)
        x |= (uint32_t)p[i] << 8 * i;
    return x;
}

static uint8_t *put(uint8_t *p, int bytes, size_t x)
{
    for (int i = 0; i < bytes; i++)
        *p++ = (uint8_t)(x >> 8 * i);
    return p;
}

/* Entries of the directory at the end, at most MOST_ENTRIES; 0: it is no archive that is understood here. */
static int read_zip(entry *e, const uint8_t *data, size_t size)
{
    size_t at, end = size >= END ? size - END : 0;
    int    n, count;

    while (end && get(data + end, 4) != 0x06054B50)
        end--;
    if (!end) return 0;
    count = (int)get(data + end + 10, 2);
    at    = get(data + end + 16, 4);
    for (n = 0; n < count && n < MOST_ENTRIES; n++) {
        size_t local, name;

        if (at > end || end - at < CENTRAL || get(data + at, 4) != 0x02014B50) return 0;
        e[n].method    = (uint16_t)get(data + at + 10, 2);
        e[n].size      = get(data + at + 20, 4);
        e[n].unpacked  = get(data + at + 24, 4);
        name           = get(data + at + 28, 2);
        e[n].name_size = KD_MIN(name, sizeof e[n].name);
        local          = get(data + at + 42, 4);
        if (local > end || end - local < LOCAL || end - at - CENTRAL < name) return 0;
        memcpy(e[n].name, data + at + CENTRAL, e[n].name_size);
        at += CENTRAL + name + get(data + at + 30, 2) + get(data + at + 32, 2);
        local += LOCAL + get(data + local + 26, 2) + get(data + local + 28, 2);
        if (local > end || e[n].size > end - local) return 0;
        e[n].bytes = data + local;
    }
    return n;
}

/* What a deflated entry unpacks to: its length and checksum. Damaged ones keep a checksum of what there is. */
static uint32_t unpack(entry *e)
{
    static uint8_t room[1 << 16];
    z_stream       z = { .next_in   = (Bytef *)(uintptr_t)e->bytes,
                         .avail_in  = (uInt)e->size,
                         .next_out  = room,
                         .avail_out = sizeof room };

    if (inflateInit2(&z, -15) != Z_OK) return 0;
    inflate(&z, Z_FINISH);
    e->unpacked = (uint32_t)z.total_out;
    inflateEnd(&z);
    return kd_crc32(0, room, e->unpacked);
}

static uint8_t *put_entry(uint8_t *to, entry *e, bool local, size_t at)
{
    uint32_t crc = e->method ? unpack(e) : kd_crc32(0, e->bytes, e->size);

    to = put(to, 4, local ? 0x04034B50 : 0x02014B50);
    if (!local) to = put(to, 2, 20);
    to = put(to, 2, 20);
    to = put(to, 2, 0);
    to = put(to, 2, e->method);
    to = put(to, 4, 0);
    to = put(to, 4, crc);
    to = put(to, 4, e->size);
    to = put(to, 4, e->method ? e->unpacked : e->size);
    to = put(to, 4, e->name_size); /* and nothing more about it */
    if (!local) {
        to = put(to, 4, 0);
        to = put(to, 4, 0);
        to = put(to, 2, 0);
        to = put(to, 4, at);
    }
    memcpy(to, e->name, e->name_size);
    to += e->name_size;
    if (local) memcpy(to, e->bytes, e->size);
    return to + (local ? e->size : 0);
}

/* The archive of these entries, to memory of `max`; 0: no room. */
static size_t write_zip(uint8_t *to, size_t max, entry *e, int count)
{
    size_t   at[MOST_ENTRIES], need = END, directory;
    uint8_t *p = to;

    for (int i = 0; i < count; i++)
        need += LOCAL + CENTRAL + 2 * e[i].name_size + e[i].size;
    if (need > max) return 0;
    for (int i = 0; i < count; i++) {
        at[i] = (size_t)(p - to);
        p     = put_entry(p, &e[i], true, 0);
    }
    directory = (size_t)(p - to);
    for (int i = 0; i < count; i++)
        p = put_entry(p, &e[i], false, at[i]);
    need = (size_t)(p - to) - directory;
    p    = put(p, 4, 0x06054B50);
    p    = put(p, 4, 0);
    p    = put(p, 2, (size_t)count);
    p    = put(p, 2, (size_t)count);
    p    = put(p, 4, need);
    p    = put(p, 4, directory);
    p    = put(p, 2, 0);
    return (size_t)(p - to);
}

size_t kd_fuzz_mutate_zip(uint8_t *data, size_t size, size_t max, unsigned seed,
                          kd_fuzz_mutator *any)
{
    entry    e[MOST_ENTRIES];
    int      count = max > size + 128 && seed % 8 ? read_zip(e, data, size) : 0;
    uint8_t *part, *whole;
    size_t   n;
    entry   *it;

    if (count < 1) return any(data, size, max);
    it = &e[seed / 8 % 2 ? 0 : seed / 16 % (unsigned)count]; /* the first is the pickle */
    n  = it->size + 64;
    if (seed / 512 % 16 == 0 && it->name_size) {
        it->name_size = any((uint8_t *)it->name, it->name_size, sizeof it->name);
        n             = 0;
    }
    part  = malloc(n + 1);
    whole = malloc(max);
    if (n) {
        memcpy(part, it->bytes, it->size);
        it->size  = any(part, it->size, n);
        it->bytes = part;
    }
    if (seed / 8192 % 64 == 0) *it = e[--count];
    n = write_zip(whole, max, e, count);
    if (n) memcpy(data, whole, n);
    free(whole);
    free(part);
    return n ? n : any(data, size, max);
}

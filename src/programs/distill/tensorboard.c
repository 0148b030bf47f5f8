/* tensorboard.c - scalars of a training as an event file that TensorBoard reads.
 *
 * The file is a sequence of records: the length (8 bytes, little-endian), a checksum of these
 * bytes, the data, a checksum of the data. The data is an Event of protocol buffers: wall_time = 1
 * (double), step = 2 (int64), file_version = 3 (string), summary = 5. A Summary has values (1),
 * each of a tag (1, string) and a simple_value (2, float). */
#include "distill/tensorboard.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "system/files.h"
#include "system/say.h"

/* An event that is being written; 512 bytes hold one scalar with its tag. */
enum { EVENT = 512, TAG = 128, VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
typedef struct message {
    uint8_t bytes[EVENT];
    size_t  size;
} message;

struct tensorboard {
    FILE    *file;
    char    *path;
    uint32_t table[256]; /* of the checksum */
};

/* ---- Records --------------------------------------------------------------------------------- */

/* CRC-32C (Castagnoli), rotated and shifted as the format wants it. */
static uint32_t checksum(const tensorboard *t, const uint8_t *bytes, size_t size)
{
    uint32_t c = 0xFFFFFFFFu;

    for (size_t i = 0; i < size; i++)
        c = t->table[(c ^ bytes[i]) & 0xFF] ^ c >> 8;
    c = ~c;
    return (c >> 15 | c << 17) + 0xA282EAD8u;
}

static void fill_table(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82F63B78u : 0);
    }
}

static void little_endian(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static void write_record(tensorboard *t, const message *m)
{
    uint8_t head[12], tail[4];

    little_endian(head, m->size, 8);
    little_endian(head + 8, checksum(t, head, 8), 4);
    little_endian(tail, checksum(t, m->bytes, m->size), 4);
    fwrite(head, 1, sizeof head, t->file);
    fwrite(m->bytes, 1, m->size, t->file);
    fwrite(tail, 1, sizeof tail, t->file); /* errors are found at the end */
}

/* ---- Protocol buffers ------------------------------------------------------------------------ */

static void put_varint(message *m, uint64_t value)
{
    do {
        m->bytes[m->size++] = (uint8_t)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
    } while (value >>= 7);
}

static void put_key(message *m, int field, int wire)
{
    put_varint(m, (uint64_t)(field << 3 | wire));
}

static void put_bytes(message *m, int field, const void *bytes, size_t size)
{
    put_key(m, field, BYTES);
    put_varint(m, size);
    memcpy(m->bytes + m->size, bytes, size);
    m->size += size;
}

/* An event begins with the time. */
static message event_now(void)
{
    struct timespec now;
    double          seconds;
    uint64_t        bits;
    message         m = { .size = 0 };

    clock_gettime(CLOCK_REALTIME, &now);
    seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    memcpy(&bits, &seconds, sizeof bits);
    put_key(&m, 1, FIXED64);
    little_endian(m.bytes + m.size, bits, 8);
    m.size += 8;
    return m;
}

static void write_scalar(tensorboard *t, int64_t step, double value, const char *tag)
{
    message  m = event_now(), one = { .size = 0 }, all = { .size = 0 };
    float    single = (float)value;
    uint32_t bits;

    memcpy(&bits, &single, sizeof bits);
    put_bytes(&one, 1, tag, strnlen(tag, TAG));
    put_key(&one, 2, FIXED32);
    little_endian(one.bytes + one.size, bits, 4);
    one.size += 4;
    put_bytes(&all, 1, one.bytes, one.size);
    put_key(&m, 2, VARINT);
    put_varint(&m, (uint64_t)step);
    put_bytes(&m, 5, all.bytes, all.size);
    write_record(t, &m);
}

/* ---- Trainings ------------------------------------------------------------------------------- */

tensorboard *tensorboard_begin(const char *dir, const char *run)
{
    static const char version[] = "brain.Event:2";
    static int        files; /* of this process: the names must differ */
    tensorboard      *t      = need(sizeof *t);
    char             *folder = text_of("%s/%s", dir, run);
    message           m      = event_now();

    for (char *c = folder + strlen(dir); *c; c++)
        if (*c == ' ') *c = '-';
    fill_table(t->table);
    t->path = text_of("%s/events.out.tfevents.%lld.kdas.%ld.%d", folder, (long long)time(NULL),
                      (long)getpid(), files++);
    if (folder_ready(folder)) {
        t->file = fopen(t->path, "wb");
        if (!t->file) say_error("cannot write '%s': %s", t->path, strerror(errno));
    }
    free(folder);
    if (!t->file) {
        free(t->path);
        free(t);
        return NULL;
    }
    put_bytes(&m, 3, version, strlen(version));
    write_record(t, &m);
    fflush(t->file);
    return t;
}

static void note_step(tensorboard *t, int64_t step, const kdas_step_report *r)
{
    char tag[TAG];

    write_scalar(t, step, r->total, "loss/total");
    write_scalar(t, step, r->lr, "lr");
    for (int i = 0; i < r->terms; i++) {
        const char *name = kdas_term_name((kdas_term)i);

        if (r->raw[i] == 0 && r->weighted[i] == 0) continue; /* off */
        snprintf(tag, sizeof tag, "raw/%s", name);
        write_scalar(t, step, r->raw[i], tag);
        snprintf(tag, sizeof tag, "weighted/%s", name);
        write_scalar(t, step, r->weighted[i], tag);
        snprintf(tag, sizeof tag, "gradient/%s", name);
        write_scalar(t, step, r->gradient[i], tag);
    }
}

void tensorboard_note(tensorboard *t, const kdas_train_state *state)
{
    if (!t) return;
    if (state->event != KDAS_EVENT_EPOCH) {
        note_step(t, state->step, state->report);
        return;
    }
    if (state->validation_dice >= 0) {
        write_scalar(t, state->step, state->validation_dice, "validation/dice");
        write_scalar(t, state->step, state->validation_loss, "validation/loss");
    }
    write_scalar(t, state->step, state->mean_total, "epoch/mean_loss");
    write_scalar(t, state->step, state->images_per_second, "epoch/images_per_second");
    fflush(t->file); /* a running TensorBoard shows it */
}

bool tensorboard_end(tensorboard *t)
{
    bool fine;

    if (!t) return true;
    fine = fflush(t->file) == 0 && !ferror(t->file);
    fine = fclose(t->file) == 0 && fine;
    if (!fine) say_error("cannot write '%s': %s", t->path, strerror(errno));
    free(t->path);
    free(t);
    return fine;
}

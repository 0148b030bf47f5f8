/* check_tensorboard.c - kdas-distill's event files, read by a walker of its own: bit by bit where the
 * writer has tables, and any message where the writer knows its fields. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "programs/distill/tensorboard.h"
#include "support/check_util.h"
#include "support/files.h"

/* ---- The walker ------------------------------------------------------------------------------ */

static uint32_t crc32c(const uint8_t *bytes, size_t n)
{
    uint32_t c = ~0u;

    for (size_t i = 0; i < 8 * n; i++) {
        uint32_t bit = (c ^ (uint32_t)(bytes[i / 8] >> i % 8)) & 1;

        c = c >> 1 ^ (bit ? 0x82F63B78u : 0);
    }
    return ~c;
}

static uint32_t masked(const uint8_t *bytes, size_t n)
{
    uint32_t c = crc32c(bytes, n);

    return (c >> 15 | c << 17) + 0xA282EAD8u;
}

static uint64_t number(const uint8_t *at, int bytes)
{
    uint64_t value = 0;

    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

typedef struct field {
    int            id, wire;
    uint64_t       value; /* of a number; the length of bytes */
    const uint8_t *bytes;
} field;

static const uint8_t *varint(const uint8_t *at, const uint8_t *end, uint64_t *out)
{
    *out = 0;
    for (int shift = 0;; shift += 7) {
        ck_assert(at < end && shift < 64);
        *out |= (uint64_t)(*at & 0x7F) << shift;
        if (!(*at++ & 0x80)) return at;
    }
}

/* The next field of a message; what follows it. */
static const uint8_t *next_field(const uint8_t *at, const uint8_t *end, field *f)
{
    uint64_t key;

    at       = varint(at, end, &key);
    *f       = (field){ .id = (int)(key >> 3), .wire = (int)(key & 7) };
    f->bytes = at;
    if (f->wire == 0) return varint(at, end, &f->value);
    if (f->wire == 2) {
        f->bytes = varint(at, end, &f->value);
        ck_assert(f->value <= (uint64_t)(end - f->bytes));
        return f->bytes + f->value;
    }
    ck_assert(f->wire == 1 || f->wire == 5);
    ck_assert(end - at >= (f->wire == 1 ? 8 : 4));
    f->value = number(at, f->wire == 1 ? 8 : 4);
    return at + (f->wire == 1 ? 8 : 4);
}

enum { EVENTS = 64 };

typedef struct event {
    double  time;
    int64_t step;
    char    version[32], tag[64];
    float   value;
} event;

static event events[EVENTS];
static int   count;

static void read_value(event *e, const uint8_t *at, const uint8_t *end)
{
    field f;

    while (at < end) {
        at = next_field(at, end, &f);
        if (f.id == 1) {
            ck_assert(f.wire == 2 && f.value < sizeof e->tag);
            memcpy(e->tag, f.bytes, f.value);
        } else {
            uint32_t bits = (uint32_t)f.value;

            ck_assert(f.id == 2 && f.wire == 5);
            memcpy(&e->value, &bits, sizeof bits);
        }
    }
}

static void read_event(event *e, const uint8_t *at, const uint8_t *end)
{
    field f, inner;

    *e = (event){ .step = -1 };
    while (at < end) {
        at = next_field(at, end, &f);
        if (f.id == 1) {
            ck_assert_int_eq(f.wire, 1);
            memcpy(&e->time, &f.value, sizeof f.value);
        } else if (f.id == 2) {
            ck_assert_int_eq(f.wire, 0);
            e->step = (int64_t)f.value;
        } else if (f.id == 3) {
            ck_assert(f.wire == 2 && f.value < sizeof e->version);
            memcpy(e->version, f.bytes, f.value);
        } else {
            ck_assert(f.id == 5 && f.wire == 2);
            ck_assert(next_field(f.bytes, f.bytes + f.value, &inner) == f.bytes + f.value);
            ck_assert(inner.id == 1 && inner.wire == 2);
            read_value(e, inner.bytes, inner.bytes + inner.value);
        }
    }
}

static void read_events(const char *path)
{
    size_t   n;
    uint8_t *bytes = kd_test_read(path, &n), *at = bytes;

    for (count = 0; at < bytes + n; count++) {
        uint64_t length = number(at, 8);

        ck_assert_int_lt(count, EVENTS);
        ck_assert_uint_eq(number(at + 8, 4), masked(at, 8));
        ck_assert_uint_eq(number(at + 12 + length, 4), masked(at + 12, length));
        read_event(&events[count], at + 12, at + 12 + length);
        at += length + 16;
    }
    ck_assert_ptr_eq(at, bytes + n);
    free(bytes);
}

static float value_of(const char *tag, int64_t step)
{
    for (int i = 0; i < count; i++)
        if (events[i].step == step && !strcmp(events[i].tag, tag)) return events[i].value;
    return NAN;
}

/* ---- The tests ------------------------------------------------------------------------------- */

START_TEST(the_walker_knows_the_checksum)
{
    ck_assert_uint_eq(crc32c((const uint8_t *)"123456789", 9), 0xE3069283u);
}
END_TEST

/* The only event file of a folder; the string is the caller's. */
static char *only_file(const char *folder)
{
    char  command[600], path[600];
    FILE *list;

    ck_assert_int_eq(kd_test_entries(folder), 1);
    snprintf(command, sizeof command, "echo '%s'/events.out.tfevents.*", folder);
    list = popen(command, "r");
    ck_assert(list && fgets(path, sizeof path, list));
    pclose(list);
    path[strcspn(path, "\n")] = '\0';
    return strdup(path);
}

START_TEST(every_step_and_epoch_is_a_record_that_can_be_read)
{
    kdas_step_report report = {
        .size = sizeof report, .terms = KDAS_TERMS, .total = 2.5, .lr = 1e-4
    };
    kdas_train_state state = { .size = sizeof state, .event = KDAS_EVENT_STEP, .report = &report };
    tensorboard     *board = tensorboard_begin(kd_test_path("board"), "paper seed 2");
    char            *file;

    ck_assert_ptr_nonnull(board);
    report.raw[KDAS_TERM_SEG]      = 1.25;
    report.weighted[KDAS_TERM_SEG] = 2.5;
    report.gradient[KDAS_TERM_SEG] = 0.125;
    state.step                     = 1;
    tensorboard_note(board, &state);
    state.step   = 300; /* a number of two bytes */
    report.total = -0.0078125;
    tensorboard_note(board, &state);
    state.event             = KDAS_EVENT_EPOCH;
    state.validation_dice   = 0.75;
    state.validation_loss   = 0.5;
    state.mean_total        = 1.5;
    state.images_per_second = 20;
    tensorboard_note(board, &state);
    state.step            = 301;
    state.validation_dice = -1; /* nothing was held out */
    tensorboard_note(board, &state);
    ck_assert(tensorboard_end(board));

    file = only_file(kd_test_path("board/paper-seed-2"));
    read_events(file);
    free(file);
    ck_assert_int_eq(count, 1 + 5 + 5 + 4 + 2);
    ck_assert_str_eq(events[0].version, "brain.Event:2");
    for (int i = 0; i < count; i++) {
        ck_assert(events[i].time > 1.6e9 && (!i || events[i].time >= events[i - 1].time));
        ck_assert_int_eq(events[i].step >= 0, i > 0);
    }
    ck_assert(value_of("loss/total", 1) == 2.5f && value_of("loss/total", 300) == -0.0078125f);
    ck_assert(value_of("lr", 1) == 1e-4f);
    ck_assert(value_of("raw/seg", 1) == 1.25f && value_of("weighted/seg", 1) == 2.5f);
    ck_assert(value_of("gradient/seg", 300) == 0.125f);
    ck_assert(isnan(value_of("raw/kd", 1))); /* off */
    ck_assert(value_of("validation/dice", 300) == 0.75f);
    ck_assert(value_of("epoch/mean_loss", 301) == 1.5f);
    ck_assert(isnan(value_of("validation/dice", 301)));
}
END_TEST

START_TEST(what_cannot_be_written_is_said)
{
    kd_test_write(kd_test_path("file"), "x", 1);
    ck_assert_ptr_null(tensorboard_begin(kd_test_path("file"), "run"));
    tensorboard_note(NULL, NULL);
    ck_assert(tensorboard_end(NULL));
}
END_TEST

int main(void)
{
    Suite   *suite  = suite_create("tensorboard");
    TCase   *tc     = tcase_create("tensorboard");
    SRunner *runner = srunner_create(suite);
    int      failed;

    tcase_add_checked_fixture(tc, kd_test_folder_make, kd_test_folder_remove);
    tcase_add_test(tc, the_walker_knows_the_checksum);
    tcase_add_test(tc, every_step_and_epoch_is_a_record_that_can_be_read);
    tcase_add_test(tc, what_cannot_be_written_is_said);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

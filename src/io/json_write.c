/* json_write.c - see json_write.h. */
#include <math.h>
#include <string.h>
#include "base/text.h"
#include "io/file.h"
#include "io/json_write.h"
#include "io/safetensors.h"

static void put(kd_json_out *out, const char *text, size_t n)
{
    if (out->status == KDAS_OK)
        out->status = kd_grow(out->ctx, (void **)&out->text, &out->capacity, out->used + n, 1);
    if (out->status != KDAS_OK) return;
    memcpy(out->text + out->used, text, n);
    out->used += n;
}

static void say(kd_json_out *out, const char *text) { put(out, text, strlen(text)); }

static void new_line(kd_json_out *out)
{
    say(out, "\n");
    for (int i = 0; i < out->depth; i++)
        say(out, "  ");
}

/* Bytes of the character at `text`; 0: it is no UTF-8. */
static size_t character(const char *text)
{
    for (size_t n = 1; n <= 4; n++) {
        if (n > 1 && text[n - 1] == 0) return 0;
        if (kd_st_is_utf8(text, n)) return n;
    }
    return 0;
}

static void put_string(kd_json_out *out, const char *text)
{
    char escape[8];

    say(out, "\"");
    for (size_t n; *text; text += KD_MAX(n, (size_t)1)) {
        unsigned char c = (unsigned char)*text;

        n = character(text);
        if (n == 0)
            say(out, "\xEF\xBF\xBD");
        else if (c == '"' || c == '\\')
            put(out, escape, (size_t)kd_format(escape, sizeof escape, "\\%c", c));
        else if (c < 0x20 || c == 0x7F)
            put(out, escape, (size_t)kd_format(escape, sizeof escape, "\\u%04x", c));
        else
            put(out, text, n);
    }
    say(out, "\"");
}

/* What stands before a value. */
static void lead(kd_json_out *out, const char *key)
{
    if (out->follows) say(out, ",");
    if (out->depth) new_line(out);
    out->follows = true;
    if (!key) return;
    put_string(out, key);
    say(out, ": ");
}

void kd_json_begin(kd_json_out *out, const char *key, char bracket)
{
    lead(out, key);
    put(out, &bracket, 1);
    out->depth++;
    out->follows = false;
}

void kd_json_end(kd_json_out *out, char bracket)
{
    out->depth--;
    if (out->follows) new_line(out);
    put(out, &bracket, 1);
    out->follows = true;
}

void kd_json_put_text(kd_json_out *out, const char *key, const char *text)
{
    lead(out, key);
    if (text)
        put_string(out, text);
    else
        say(out, "null");
}

void kd_json_put_whole(kd_json_out *out, const char *key, int64_t value)
{
    char digits[24];

    lead(out, key);
    put(out, digits, (size_t)kd_format(digits, sizeof digits, "%lld", (long long)value));
}

void kd_json_put_real(kd_json_out *out, const char *key, double value)
{
    char digits[32] = "null";

    lead(out, key);
    if (isfinite(value)) kd_format(digits, sizeof digits, "%.9g", value);
    say(out, digits);
}

kdas_status kd_json_save(kd_json_out *out, const char *path)
{
    say(out, "\n");
    KD_RETURN(out->status);
    return kd_file_write_all(out->ctx, path, out->text, out->used);
}

void kd_json_out_finish(kd_json_out *out)
{
    kd_free(out->ctx, out->text);
    out->text = NULL;
}

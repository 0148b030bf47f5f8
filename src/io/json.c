/* json.c - the text is checked against the grammar first, since jsmn accepts much that is not JSON;
 * then jsmn cuts it into tokens, and the strings are decoded. */
#include <limits.h>
#include <string.h>
#include "io/json.h"
#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#include <jsmn.h>

#define MAX_WHOLE ((int64_t)1 << 53) /* up to here every reader agrees on which integer it is */

struct kd_json {
    kdas_context *ctx;
    char         *text;
    jsmntok_t    *token;
    int           count;
};

static kdas_status not_json(size_t at, const char *why)
{
    return kd_fail(KDAS_EFORMAT, "not JSON at byte %zu: %s", at, why);
}

/* ---- The grammar ----------------------------------------------------------------------------- */

enum { VALUE = 1, KEY = 2, COLON = 4, COMMA = 8, CLOSE = 16 }; /* what may come next */

typedef struct scan {
    const char *text; /* ends with NUL */
    size_t      at, values, max_values;
    unsigned    want;
    int         depth;
    char        open[KD_JSON_MAX_DEPTH]; /* the brackets around `at` */
} scan;

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static int hex(char c)
{
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The code unit of an escape, "\u20AC", or -1. */
static int code_unit(const char *p)
{
    int unit = 0;

    if (p[0] != '\\' || p[1] != 'u') return -1;
    for (int i = 2; i < 6; i++) {
        if (hex(p[i]) < 0) return -1;
        unit = unit << 4 | hex(p[i]);
    }
    return unit;
}

/* The character of an escape and its bytes, a surrogate pair's both halves included;
 * -1: it is none. */
static int32_t escape(const char *p, size_t *bytes)
{
    static const char signs[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char       *sign = p[1] ? strchr(signs, p[1]) : NULL;
    int               unit = code_unit(p), low;

    *bytes = sign ? 2 : 6;
    if (sign) return meant[sign - signs];
    if (unit < 0xD800 || unit > 0xDFFF) return unit;
    low = code_unit(p + 6);
    if (unit > 0xDBFF || low < 0xDC00 || low > 0xDFFF) return -1;
    *bytes = 12;
    return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
}

static kdas_status scan_string(scan *s)
{
    const char *p = s->text + s->at + 1;

    while (*p != '"') {
        size_t  bytes = 1;
        int32_t c     = *p == '\\' ? escape(p, &bytes) : (unsigned char)*p;
        size_t  at    = (size_t)(p - s->text);

        if (*p == 0) return not_json(at, "a string has no end");
        if (c < 0) return not_json(at, "an escape that is none");
        if (c == 0) return kd_fail(KDAS_EFORMAT, "a string holds a NUL at byte %zu", at);
        if (c < ' ' && bytes == 1) return not_json(at, "a control character in a string");
        p += bytes;
    }
    s->at = (size_t)(p - s->text) + 1;
    return KDAS_OK;
}

static size_t digits(const char *p)
{
    size_t n = 0;

    while (is_digit(p[n]))
        n++;
    return n;
}

/* Bytes of the number, or of true, false or null at p; 0: it is none of them. */
static size_t scalar(const char *p)
{
    static const char *const words[] = { "true", "false", "null" };
    size_t                   n       = *p == '-', more;

    for (size_t i = 0; i < KD_COUNT(words); i++)
        if (strncmp(p, words[i], strlen(words[i])) == 0) return strlen(words[i]);
    more = p[n] == '0' ? 1 : digits(p + n);
    if (more == 0) return 0;
    n += more;
    if (p[n] == '.') {
        more = digits(p + n + 1);
        if (more == 0) return 0;
        n += 1 + more;
    }
    if (p[n] == 'e' || p[n] == 'E') {
        n += p[n + 1] == '+' || p[n + 1] == '-' ? 2 : 1;
        more = digits(p + n);
        if (more == 0) return 0;
        n += more;
    }
    return n;
}

/* One bracket, comma, colon or scalar. */
static kdas_status scan_next(scan *s)
{
    char     c    = s->text[s->at];
    char     in   = s->depth ? s->open[s->depth - 1] : 0;
    unsigned need = c == '}' || c == ']' ? CLOSE : c == ',' ? COMMA : c == ':' ? COLON : VALUE;

    if (c == 0) return not_json(s->at, "it ends too early");
    if (c == '"') need |= KEY;
    if (!(s->want & need) || (need == CLOSE && (c == '}') != (in == '{')))
        return not_json(s->at, "a character that may not be there");
    if ((s->want & need & VALUE) && ++s->values > s->max_values)
        return kd_fail(KDAS_EFORMAT, "too many values, more than %zu", s->max_values);
    if (c == '"') {
        s->want = s->want & KEY ? COLON : COMMA | CLOSE;
        return scan_string(s);
    }
    if (c == ',' || c == ':') {
        s->want = c == ',' && in == '{' ? KEY : VALUE;
    } else if (need == CLOSE) {
        s->depth--;
        s->want = COMMA | CLOSE;
    } else if (c == '{' || c == '[') {
        if (s->depth == KD_JSON_MAX_DEPTH) return not_json(s->at, "it is nested too deep");
        s->open[s->depth++] = c;
        s->want             = CLOSE | (c == '{' ? KEY : VALUE);
    } else {
        size_t n = scalar(s->text + s->at);

        if (n == 0) return not_json(s->at, "neither a value nor a bracket");
        s->at += n - 1;
        s->want = COMMA | CLOSE;
    }
    s->at++;
    return KDAS_OK;
}

/* An object or array and nothing after it. Leaves s->at where it ends. */
static kdas_status scan_text(scan *s, size_t size)
{
    if (s->text[0] != '{' && s->text[0] != '[')
        return not_json(0, "neither an object nor an array");
    s->want = VALUE;
    do {
        KD_RETURN(scan_next(s));
        while (s->depth && is_space(s->text[s->at]))
            s->at++;
    } while (s->depth);
    for (size_t i = s->at; i < size; i++)
        if (!is_space(s->text[i]))
            return kd_fail(KDAS_EFORMAT, "something follows the JSON at byte %zu", i);
    return KDAS_OK;
}

/* ---- Tokens ---------------------------------------------------------------------------------- */

static char *put_utf8(char *to, int32_t c)
{
    static const unsigned char lead[] = { 0, 0xC0, 0xE0, 0xF0 };
    int                        more   = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;

    *to++ = (char)(lead[more] | c >> 6 * more);
    while (more-- > 0)
        *to++ = (char)(0x80 | (c >> 6 * more & 0x3F));
    return to;
}

/* No escape is shorter than the character that it stands for. */
static void decode(char *text, const jsmntok_t *t)
{
    const char *from = text + t->start, *end = text + t->end;
    char       *to = text + t->start;

    while (from < end) {
        size_t bytes = 1;

        if (*from == '\\')
            to = put_utf8(to, escape(from, &bytes));
        else
            *to++ = *from;
        from += bytes;
    }
    *to = 0;
}

/* jsmn walks up from a value to its enclosing bracket, so the depth limit also limits the time. */
kdas_status kd_json_parse(kd_json **out, kdas_context *ctx, char *text, size_t size,
                          size_t max_values)
{
    scan        s  = { .text = text, .max_values = max_values };
    kdas_status st = KDAS_OK;
    kd_json    *json;
    jsmn_parser parser;
    size_t      tokens;

    *out = NULL;
    if (size > INT_MAX) return kd_fail(KDAS_EFORMAT, "too long, %zu bytes", size);
    KD_RETURN(scan_text(&s, size));
    tokens = 2 * s.values; /* each value may have a key */
    json   = kd_calloc(ctx, 1, sizeof *json);
    if (!json) return KDAS_ENOMEM;
    *json       = (kd_json){ .ctx = ctx, .text = text };
    json->token = kd_alloc(ctx, tokens * sizeof *json->token);
    if (!json->token) {
        st = KDAS_ENOMEM;
        goto done;
    }
    jsmn_init(&parser);
    json->count = jsmn_parse(&parser, text, s.at, json->token, (unsigned)tokens);
    if (json->count < 1) {
        st = not_json(parser.pos, "a text that cannot be cut into tokens");
        goto done;
    }
    for (int i = 0; i < json->count; i++)
        if (json->token[i].type == JSMN_STRING) decode(text, &json->token[i]);
    *out = json;
    json = NULL;
done:
    kd_json_free(json);
    return st;
}

void kd_json_free(kd_json *json)
{
    if (!json) return;
    kd_free(json->ctx, json->token);
    kd_free(json->ctx, json);
}

/* ---- Items ----------------------------------------------------------------------------------- */

bool kd_json_is_object(const kd_json *json, int item)
{
    return json->token[item].type == JSMN_OBJECT;
}

bool kd_json_is_array(const kd_json *json, int item)
{
    return json->token[item].type == JSMN_ARRAY;
}

bool kd_json_is_null(const kd_json *json, int item)
{
    return json->token[item].type == JSMN_PRIMITIVE && json->text[json->token[item].start] == 'n';
}

const char *kd_json_text(const kd_json *json, int item)
{
    const jsmntok_t *t = &json->token[item];

    return t->type == JSMN_STRING ? json->text + t->start : NULL;
}

int64_t kd_json_whole(const kd_json *json, int item)
{
    const jsmntok_t *t     = &json->token[item];
    int64_t          whole = 0;

    if (t->type != JSMN_PRIMITIVE) return -1;
    for (int i = t->start; i < t->end; i++) {
        if (!is_digit(json->text[i])) return -1;
        whole = whole * 10 + (json->text[i] - '0');
        if (whole > MAX_WHOLE) return -1;
    }
    return whole;
}

int kd_json_size(const kd_json *json, int item) { return json->token[item].size; }

static bool is_key(const kd_json *json, int item)
{
    int parent = json->token[item].parent;

    return parent >= 0 && json->token[parent].type == JSMN_OBJECT;
}

int kd_json_first(const kd_json *json, int parent)
{
    return json->token[parent].size ? parent + 1 : 0;
}

int kd_json_next(const kd_json *json, int item)
{
    int value = is_key(json, item) ? item + 1 : item, next = value + 1;

    while (next < json->count && json->token[next].start < json->token[value].end)
        next++;
    return next < json->count && json->token[next].parent == json->token[item].parent ? next : 0;
}

int kd_json_value(const kd_json *json, int key)
{
    (void)json;
    return key + 1;
}

/* text.c - see text.h. */
#include "base/text.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Made once, kept for the process's life. 0: it could not be made; then uselocale(0)
 * changes nothing. */
static locale_t c_locale(void)
{
    static _Atomic(locale_t) kept;
    locale_t                 made = atomic_load(&kept), none = (locale_t)0;

    if (made) return made;
    made = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!made || atomic_compare_exchange_strong(&kept, &none, made)) return made;
    freelocale(made); /* another thread was first */
    return none;
}

/* Of ASCII, and those of Latin 1 in UTF-8 (0xC2, 0x80 to 0x9F), which terminals obey, too. */
void kd_make_plain(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < ' ' || *c == 0x7F) *c = '?';
        if (*c == 0xC2 && c[1] >= 0x80 && c[1] <= 0x9F) c[0] = c[1] = '?';
    }
}

locale_t kd_locale_plain(void) { return uselocale(c_locale()); }
void     kd_locale_back(locale_t before) { uselocale(before); }

/* ---- A NaN has no sign ----
 * 0.0 / 0.0 is a NaN with the sign set on x86, which the C library prints as "-nan". So a text with
 * such a number in it is made piece by piece, with the NaN's sign taken off. */

typedef enum argument {
    NONE,
    INT,
    LONG,
    LONG_LONG,
    SIZE,
    DOUBLE,
    POINTER,
    UNKNOWN /* a conversion that nobody here uses: the text is left to the C library */
} argument;

/* A conversion of a format. */
typedef struct conversion {
    size_t   length; /* bytes, from its '%' */
    int      stars;  /* widths and precisions that are arguments */
    argument argument;
} conversion;

static argument argument_of(const char *length, size_t n, char letter)
{
    if (letter == '%') return NONE;
    if (strchr("sp", letter) && n == 0) return POINTER;
    if (strchr("aAeEfFgG", letter) && n == 0) return DOUBLE;
    if (letter == 'c' && n == 0) return INT;
    if (!letter || !strchr("diouxX", letter)) return UNKNOWN;
    if (n == 0 || length[0] == 'h') return INT;
    if (n == 1 && length[0] == 'l') return LONG;
    if (n == 2 && length[0] == 'l') return LONG_LONG;
    return n == 1 && length[0] == 'z' ? SIZE : UNKNOWN;
}

static conversion conversion_at(const char *format)
{
    conversion  c  = { .stars = 0 };
    const char *at = format + 1, *length;

    for (; *at && strchr("-+ #0'123456789.*", *at); at++)
        c.stars += *at == '*';
    length = at;
    at += strspn(at, "hlLzjt");
    c.argument = argument_of(length, (size_t)(at - length), *at);
    c.length   = (size_t)(at - format) + (*at != 0);
    return c;
}

/* Take a conversion's arguments off the list, its stars into `star`; true if it is a NaN with a
 * sign. */
static bool pass_over(const conversion *c, va_list *args, int star[2])
{
    double value;

    for (int i = 0; i < c->stars; i++)
        star[i] = va_arg(*args, int);
    switch (c->argument) {
    case INT: (void)va_arg(*args, int); break;
    case LONG: (void)va_arg(*args, long); break;
    case LONG_LONG: (void)va_arg(*args, long long); break;
    case SIZE: (void)va_arg(*args, size_t); break;
    case POINTER: (void)va_arg(*args, void *); break;
    case DOUBLE: value = va_arg(*args, double); return isnan(value) && signbit(value);
    default: break;
    }
    return false;
}

/* Whether the arguments have a NaN with a sign. */
static bool has_signed_nan(const char *format, va_list *args)
{
    bool found = false;
    int  star[2];

    while ((format = strchr(format, '%'))) {
        conversion c = conversion_at(format);

        if (c.argument == UNKNOWN || c.stars > 2) return false;
        found = pass_over(&c, args, star) || found;
        format += c.length;
    }
    return found;
}

/* One conversion, whose arguments are the next of the list. */
static int format_one(char *to, size_t size, const char *one, const conversion *c, va_list *args)
{
    va_list next;
    int     star[2], n;
    bool    nan;

    va_copy(next, *args);
    nan = pass_over(c, &next, star);
    if (!nan)
        n = vsnprintf(to, size, one, *args);
    else if (c->stars == 0)
        n = snprintf(to, size, one, (double)NAN);
    else if (c->stars == 1)
        n = snprintf(to, size, one, star[0], (double)NAN);
    else
        n = snprintf(to, size, one, star[0], star[1], (double)NAN);
    va_end(*args);
    va_copy(*args, next);
    va_end(next);
    return n;
}

/* The text piece by piece, without signs of NaNs. */
static int format_pieces(char *to, size_t size, const char *format, va_list *args)
{
    int total = 0;

    while (*format) {
        size_t     room = size > (size_t)total ? size - (size_t)total : 0;
        char      *at   = room ? to + total : NULL;
        conversion c    = { .length = strcspn(format, "%") };
        char       one[64];
        int        n;

        if (c.length) {
            n = snprintf(at, room, "%.*s", (int)c.length, format);
        } else {
            c = conversion_at(format);
            if (c.length >= sizeof one) return -1;
            snprintf(one, sizeof one, "%.*s", (int)c.length, format);
            n = format_one(at, room, one, &c, args);
        }
        if (n < 0) return n;
        total += n;
        format += c.length;
    }
    return total;
}

int kd_vformat(char *to, size_t size, const char *format, va_list args)
{
    locale_t before = kd_locale_plain();
    va_list  copy;
    int      n;

    va_copy(copy, args);
    if (has_signed_nan(format, &copy)) {
        va_end(copy);
        va_copy(copy, args);
        n = format_pieces(to, size, format, &copy);
    } else {
        n = vsnprintf(to, size, format, args);
    }
    va_end(copy);
    kd_locale_back(before);
    return n;
}

int kd_format(char *to, size_t size, const char *format, ...)
{
    va_list args;
    int     n;

    va_start(args, format);
    n = kd_vformat(to, size, format, args);
    va_end(args);
    return n;
}

bool kd_parse_whole(const char *text, const char **end, int64_t *out)
{
    int64_t value = 0, sign = 1;

    while (*text == ' ' || *text == '\t')
        text++;
    if (*text == '-') sign = -1;
    if (*text == '-' || *text == '+') text++;
    if (*text < '0' || *text > '9') return false;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, sign * (*text - '0'), &value))
            return false;
    *end = text;
    *out = value;
    return true;
}

bool kd_parse_real(const char *text, const char **end, double *out)
{
    locale_t before = kd_locale_plain();
    char    *stop;
    double   value = strtod(text, &stop);

    kd_locale_back(before);
    if (stop == text || !isfinite(value)) return false;
    *end = stop;
    *out = value;
    return true;
}

static int lower(char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; }

bool kd_same_letters(const char *a, const char *b)
{
    while (*a && lower(*a) == lower(*b)) {
        a++;
        b++;
    }
    return lower(*a) == lower(*b);
}

/* text.c - see text.h. */
#include "base/text.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

locale_t kd_locale_plain(void) { return uselocale(c_locale()); }
void     kd_locale_back(locale_t before) { uselocale(before); }

int kd_vformat(char *to, size_t size, const char *format, va_list args)
{
    locale_t before = kd_locale_plain();
    int      n      = vsnprintf(to, size, format, args);

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

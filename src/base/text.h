/* text.h - numbers as text. The one place where they are written and read: with a decimal point,
 * in any host locale (test/layers.sh looks for others). */
#ifndef KD_TEXT_H
#define KD_TEXT_H
#include <locale.h>
#include "base/base.h"

/* snprintf and vsnprintf in the C locale. A NaN is "nan", whatever its sign. */
int kd_format(char *to, size_t size, const char *format, ...) KD_PRINTF(3, 4);
int kd_vformat(char *to, size_t size, const char *format, va_list args) KD_PRINTF(3, 0);

/* A whole number, decimal digits after blanks and perhaps a sign; *end is what follows. False:
 * there is none, or it is out of range. */
bool kd_parse_whole(const char *text, const char **end, int64_t *out);

/* The same for a finite number with a decimal point, as strtod reads it in the C locale. */
bool kd_parse_real(const char *text, const char **end, double *out);

/* Make a text one line that a terminal shows as it is: a control character becomes '?'. */
void kd_make_plain(char *text);

/* Are they the same but for capitals, of A to Z alone? */
bool kd_same_letters(const char *a, const char *b);

/* Put the calling thread into the C locale, for libraries that follow it; and back. No
 * callback in between. */
locale_t kd_locale_plain(void);
void     kd_locale_back(locale_t before);

#endif

/* unicode.c - names in one Unicode form, by utf8proc. It works in our memory alone. */
#include <string.h>
#include <utf8proc.h>
#include "io/file.h"

static bool is_ascii(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text >= 0x80) return false;
    return true;
}

char *kd_composed(kdas_context *ctx, const char *text)
{
    const utf8proc_option_t form  = (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    utf8proc_ssize_t        bytes = (utf8proc_ssize_t)strlen(text), n;
    utf8proc_int32_t       *points;
    char                   *out;

    if (is_ascii(text)) return kd_strdup(ctx, text);
    n = utf8proc_decompose((const utf8proc_uint8_t *)text, bytes, NULL, 0, form);
    if (n < 0) return kd_strdup(ctx, text);
    points = kd_alloc(ctx, ((size_t)n + 1) * sizeof *points); /* and room for the final zero */
    if (!points) return NULL;
    n = utf8proc_decompose((const utf8proc_uint8_t *)text, bytes, points, n, form);
    if (n >= 0) n = utf8proc_reencode(points, n, form);
    out = kd_strdup(ctx, n >= 0 ? (const char *)points : text);
    kd_free(ctx, points);
    return out;
}

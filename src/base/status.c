/* status.c - status names, versions, and the per-thread sentence. Reporting never allocates. */
#include <string.h>
#include "base/text.h"

#define SENTENCE 512

static _Thread_local char sentence[SENTENCE];

kdas_status kd_fail(kdas_status status, const char *format, ...)
{
    char    text[SENTENCE]; /* arguments may point into the old sentence */
    va_list args;

    va_start(args, format);
    kd_vformat(text, sizeof text, format, args);
    va_end(args);
    kd_make_plain(text); /* names come from files of others */
    memcpy(sentence, text, sizeof text);
    return status;
}

kdas_status kd_fail_in(kdas_status status, const char *format, ...)
{
    char    text[SENTENCE];
    va_list args;
    int     used;

    va_start(args, format);
    used = kd_vformat(text, sizeof text, format, args);
    va_end(args);
    if (used >= 0 && used < SENTENCE - 3)
        kd_format(text + used, sizeof text - (size_t)used, ": %.*s", SENTENCE - 3 - used, sentence);
    kd_make_plain(text);
    memcpy(sentence, text, sizeof text);
    return status;
}

const char *kdas_last_error(void) { return sentence; }

const char *kdas_status_name(kdas_status status)
{
    switch (status) {
    case KDAS_OK: return "KDAS_OK";
    case KDAS_EINVAL: return "KDAS_EINVAL";
    case KDAS_ENOMEM: return "KDAS_ENOMEM";
    case KDAS_EIO: return "KDAS_EIO";
    case KDAS_EFORMAT: return "KDAS_EFORMAT";
    case KDAS_ENOTFOUND: return "KDAS_ENOTFOUND";
    case KDAS_ESHAPE: return "KDAS_ESHAPE";
    case KDAS_EUNSUPPORTED: return "KDAS_EUNSUPPORTED";
    case KDAS_ENUMERIC: return "KDAS_ENUMERIC";
    case KDAS_ECANCELLED: return "KDAS_ECANCELLED";
    case KDAS_EBACKEND: return "KDAS_EBACKEND";
    case KDAS_ESTATE: return "KDAS_ESTATE";
    }
    return "KDAS_E?";
}

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

int32_t     kdas_version(void) { return KDAS_VERSION; }
int32_t     kdas_abi(void) { return KDAS_ABI; }
const char *kdas_version_string(void)
{
    return TEXT(KDAS_VERSION_MAJOR) "." TEXT(KDAS_VERSION_MINOR) "." TEXT(KDAS_VERSION_PATCH);
}

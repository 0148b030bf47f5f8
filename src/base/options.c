/* options.c - size-first option structs: old programs pass shorter ones, newer
 * programs longer ones. */
#include <string.h>
#include "base/base.h"

kdas_status kd_take_options(void *ours, size_t ours_size, const void *theirs, const char *what)
{
    size_t size;

    if (!theirs) return KDAS_OK;
    memcpy(&size, theirs, sizeof size);
    if (size < sizeof size || size > 65536)
        return kd_fail(KDAS_EINVAL, "%s: size is %zu; call the init function first", what, size);
    if (size % sizeof size) /* no version of a struct ends inside a member */
        return kd_fail(KDAS_EINVAL, "%s: a size of %zu is no version's", what, size);
    for (size_t i = ours_size; i < size; i++)
        if (((const unsigned char *)theirs)[i])
            return kd_fail(KDAS_EINVAL, "%s: a member is set that this library (%s) does not know",
                           what, kdas_version_string());
    memcpy(ours, theirs, KD_MIN(size, ours_size));
    memcpy(ours, &ours_size, sizeof ours_size);
    return KDAS_OK;
}

kdas_status kd_check_reserved(int32_t reserved, const char *what)
{
    if (reserved == 0) return KDAS_OK;
    return kd_fail(KDAS_EINVAL, "%s: reserved is %d, not 0; call the init function first", what,
                   (int)reserved);
}

kdas_status kd_check_report(const size_t *size, const char *what)
{
    if (*size < sizeof *size || *size > 65536)
        return kd_fail(KDAS_EINVAL, "%s: size is not set (it is %zu)", what, *size);
    return KDAS_OK;
}

kdas_status kd_give_options(void *theirs, const void *ours, size_t ours_size, const char *what)
{
    size_t size;

    if (!theirs) return kd_fail(KDAS_EINVAL, "%s: the struct to fill is NULL", what);
    memcpy(&size, theirs, sizeof size);
    KD_RETURN(kd_check_report(&size, what));
    memset(theirs, 0, size);
    memcpy(theirs, ours, KD_MIN(size, ours_size));
    memcpy(theirs, &size, sizeof size);
    return KDAS_OK;
}

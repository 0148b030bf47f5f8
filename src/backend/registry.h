/* registry.h - finding a backend's table by name: built in, or a plug-in "libkdas-<name>.so". */
#ifndef KD_REGISTRY_H
#define KD_REGISTRY_H
#include <kdas/backend.h>
#include "base/base.h"

/* Find `name` (without an index). A plug-in is looked for in $KDAS_BACKEND_PATH (folders joined by ':'),
 * then in the folder "kdas" beside the library, and kept open until kd_backend_unload(*library).
 * KDAS_ENOTFOUND, or KDAS_EBACKEND with the reason (not a plug-in, another ABI number). */
kdas_status kd_backend_find(const kdas_backend **out, void **library, const char *name);
void        kd_backend_unload(void *library); /* NULL is fine */

/* "cuda:1" -> name "cuda" and index 1; an index defaults to 0. KDAS_EINVAL. */
kdas_status kd_backend_parse(char *name, size_t size, int32_t *index, const char *device);

#endif

/* registry.h - finding a backend's table by name: built in, or a plug-in "libkdas-<name>.so". */
#ifndef KD_REGISTRY_H
#define KD_REGISTRY_H
#include <kdas/backend.h>
#include "base/base.h"
#include "base/plugin.h"

/* Find `name` (without an index). A plug-in stays open until kd_plugin_close(); of a built-in backend there is none.
 * KDAS_ENOTFOUND, or KDAS_EBACKEND with the reason (not a plug-in, another ABI number). */
kdas_status kd_backend_find(const kdas_backend **out, kd_plugin *plugin, const char *name,
                            const char *plugin_path);
/* Can this library use the table? KDAS_EBACKEND with the reason if not; `path` is for its text. */
kdas_status kd_backend_check(const kdas_backend *table, const char *path);
/* A copy of a table that may be shorter or longer than ours: missing members are NULL. */
void kd_backend_take(kdas_backend *to, const kdas_backend *from);

/* Create a context on a given table, whatever options->device says. */
kdas_status kd_context_create_on(kdas_context **out, const kdas_context_options *options,
                                 const kdas_backend *table);

/* "cuda:1" -> name "cuda" and index 1; an index defaults to 0. KDAS_EINVAL. */
kdas_status kd_backend_parse(char *name, size_t size, int32_t *index, const char *device);

#endif

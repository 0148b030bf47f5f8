/* plugin.h - finding a plug-in "libkdas-<name>.so" and its entry. */
#ifndef KD_PLUGIN_H
#define KD_PLUGIN_H
#include "base/base.h"

typedef struct kd_plugin {
    void *library; /* NULL: none */
    void *entry;   /* its only export */
} kd_plugin;

/* What is looked for, and how a sentence says so. */
typedef struct kd_plugin_kind {
    const char *noun; /* "device" */
    const char *
        instead; /* "neither built in nor a": what comes before "plug-in libkdas-NAME.so in FOLDER" */
    const char *entry; /* the symbol */
    /* Whether the library can use what the entry gives; `path` is for the sentence. */
    kdas_status (*check)(void *entry, const char *path);
} kd_plugin_kind;

/* Search for `name` in plugin_path (folders joined by ':', or NULL), in $KDAS_BACKEND_PATH, and in the folder "kdas" beside the
 * library. The first file of the name is loaded or refused. It stays open until kd_plugin_close().
 * KDAS_ENOTFOUND, or KDAS_EBACKEND with the reason. */
kdas_status kd_plugin_find(kd_plugin *out, const kd_plugin_kind *kind, const char *name,
                           const char *plugin_path);
void        kd_plugin_close(kd_plugin *plugin); /* nothing loaded is fine */

/* KDAS_EBACKEND if the file of a shared object is truncated (plugin_file.c). */
kdas_status kd_plugin_file_check(const char *path);

#endif

/* plugin.c - see plugin.h. */
#define _GNU_SOURCE
#include "base/plugin.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Open one file and check what it gives. KDAS_ENOTFOUND: there is no such file. */
static kdas_status open_file(kd_plugin *out, const kd_plugin_kind *kind, const char *path)
{
    kdas_status st;

    if (access(path, F_OK) != 0) return kd_fail(KDAS_ENOTFOUND, "there is no plug-in '%s'", path);
    KD_RETURN(kd_plugin_file_check(path));
    out->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!out->library) return kd_fail(KDAS_EBACKEND, "'%s' cannot be loaded: %s", path, dlerror());
    out->entry = dlsym(out->library, kind->entry);
    st         = out->entry ? kind->check(out->entry, path)
                            : kd_fail(KDAS_EBACKEND, "'%s' is not a libkdas plug-in: it has no %s", path,
                                      kind->entry);
    if (st != KDAS_OK) kd_plugin_close(out);
    return st;
}

/* The folder "kdas" beside the shared library (or beside the program that links it statically). */
static void own_folder(char *folder, size_t size)
{
    static const char here;
    Dl_info           info;
    char             *slash;

    folder[0] = 0;
    if (!dladdr(&here, &info) || !info.dli_fname) return;
    snprintf(folder, size, "%s", info.dli_fname);
    slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
    else
        snprintf(folder, size, ".");
    if (strlen(folder) + 6 < size) strcat(folder, "/kdas");
}

/* Open the plug-in in a folder of n characters. KDAS_ENOTFOUND: it has none. */
static kdas_status find_in(kd_plugin *out, const kd_plugin_kind *kind, const char *name,
                           const char *folder, size_t n)
{
    char path[PATH_MAX];
    int  length =
        snprintf(path, sizeof path, "%.*s/libkdas-%s.so", (int)KD_MIN(n, PATH_MAX), folder, name);

    if (n == 0 || length >= (int)sizeof path) return KDAS_ENOTFOUND; /* no file has such a name */
    return open_file(out, kind, path);
}

/* Search folders joined by ':'; the first that has the plug-in decides. */
static kdas_status find_in_list(kd_plugin *out, const kd_plugin_kind *kind, const char *name,
                                const char *list)
{
    kdas_status st = KDAS_ENOTFOUND;

    while (list && *list && st == KDAS_ENOTFOUND) {
        size_t n = strcspn(list, ":");

        st = find_in(out, kind, name, list, n);
        list += n + (list[n] == ':');
    }
    return st;
}

kdas_status kd_plugin_find(kd_plugin *out, const kd_plugin_kind *kind, const char *name,
                           const char *plugin_path)
{
    const char *list = secure_getenv("KDAS_BACKEND_PATH");
    char        folder[PATH_MAX];
    kdas_status st;

    *out = (kd_plugin){ 0 };
    own_folder(folder, sizeof folder);
    st = find_in_list(out, kind, name, plugin_path);
    if (st == KDAS_ENOTFOUND) st = find_in_list(out, kind, name, list);
    if (st == KDAS_ENOTFOUND) st = find_in(out, kind, name, folder, strlen(folder));
    if (st == KDAS_ENOTFOUND)
        kd_fail(st, "there is no %s '%s': %s plug-in libkdas-%s.so in '%s'%s%s", kind->noun, name,
                kind->instead, name, folder, plugin_path ? " or plugin_path" : "",
                list ? " or KDAS_BACKEND_PATH" : "");
    return st;
}

void kd_plugin_close(kd_plugin *plugin)
{
    if (plugin->library) dlclose(plugin->library);
    *plugin = (kd_plugin){ 0 };
}

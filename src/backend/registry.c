/* registry.c - finds backends by name. It knows the table of a backend, but no particular plug-in. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backend/cpu/cpu.h"
#include "backend/registry.h"
#include "base/text.h"

static const kdas_backend *const built_in[] = { &kd_backend_cpu, &kd_backend_reference };

kdas_status kd_backend_parse(char *name, size_t size, int32_t *index, const char *device)
{
    const char *colon = strchr(device, ':');
    size_t      n     = colon ? (size_t)(colon - device) : strlen(device);
    const char *end;
    int64_t     value = 0;

    if (n == 0 || n >= size || memchr(device, '/', n))
        return kd_fail(KDAS_EINVAL, "'%.64s' is not a device name", device);
    if (colon && (!kd_parse_whole(colon + 1, &end, &value) || *end || value < 0 || value > 1024))
        return kd_fail(KDAS_EINVAL, "device '%.64s': the index is not a number from 0 to 1024",
                       device);
    memcpy(name, device, n);
    name[n] = 0;
    *index  = (int32_t)value;
    return KDAS_OK;
}

/* Functions of which a backend has all or none. */
static const struct {
    size_t      first, last; /* offsets in the table */
    const char *names;
} groups[] = {
    { offsetof(kdas_backend, host_alloc), offsetof(kdas_backend, host_free),
      "host_alloc and host_free" },
    { offsetof(kdas_backend, upload_async), offsetof(kdas_backend, upload_wait),
      "upload_async and upload_wait" },
    { offsetof(kdas_backend, capture_begin), offsetof(kdas_backend, graph_destroy),
      "capture_begin, capture_end, graph_launch and graph_destroy" },
};

typedef void (*any_fn)(void);

/* All functions of a table are adjacent pointers of one size. */
static int functions_in(const kdas_backend *table, size_t first, size_t last)
{
    int n = 0;

    for (size_t at = first; at <= last; at += sizeof(any_fn)) {
        any_fn fn;

        memcpy(&fn, (const char *)table + at, sizeof fn);
        n += fn != NULL;
    }
    return n;
}

/* How many of a group are there? */
static int functions_wanted(size_t first, size_t last)
{
    return (int)((last - first) / sizeof(any_fn)) + 1;
}

void kd_backend_take(kdas_backend *to, const kdas_backend *from)
{
    memset(to, 0, sizeof *to);
    memcpy(to, from, KD_MIN(from->size, sizeof *to));
}

kdas_status kd_backend_check(const kdas_backend *table, const char *path)
{
    const size_t first = offsetof(kdas_backend, probe), last = offsetof(kdas_backend, sync);
    kdas_backend ours;

    if (table->abi != KDAS_BACKEND_ABI)
        return kd_fail(KDAS_EBACKEND, "'%s' has backend ABI %u, this library has %d", path,
                       table->abi, KDAS_BACKEND_ABI);
    if (table->size < last + sizeof(any_fn))
        return kd_fail(KDAS_EBACKEND, "'%s': its table of %zu bytes ends before sync()", path,
                       table->size);
    kd_backend_take(&ours, table);
    if (!ours.name || functions_in(&ours, first, last) < functions_wanted(first, last))
        return kd_fail(KDAS_EBACKEND, "'%s': its table lacks a name or one of probe() .. sync()",
                       path);
    for (size_t i = 0; i < KD_COUNT(groups); i++) {
        int n = functions_in(&ours, groups[i].first, groups[i].last);

        if (n && n < functions_wanted(groups[i].first, groups[i].last))
            return kd_fail(KDAS_EBACKEND, "'%s': its table has some of %s, and not all", path,
                           groups[i].names);
    }
    return KDAS_OK;
}

/* Open one file and check its table. KDAS_ENOTFOUND: there is no such file. */
static kdas_status open_plugin(const kdas_backend **out, void **library, const char *path)
{
    kdas_backend_entry_fn entry;
    const kdas_backend   *table;
    void                 *symbol;
    kdas_status           st;

    if (access(path, F_OK) != 0) return kd_fail(KDAS_ENOTFOUND, "there is no plug-in '%s'", path);
    KD_RETURN(kd_plugin_file_check(path));
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!*library) return kd_fail(KDAS_EBACKEND, "'%s' cannot be loaded: %s", path, dlerror());
    symbol = dlsym(*library, KDAS_BACKEND_ENTRY);
    memcpy(&entry, &symbol, sizeof entry);
    table = symbol ? entry() : NULL;
    if (!symbol)
        st = kd_fail(KDAS_EBACKEND, "'%s' is not a libkdas plug-in: it has no %s", path,
                     KDAS_BACKEND_ENTRY);
    else if (!table)
        st = kd_fail(KDAS_EBACKEND, "'%s': its %s gives no table", path, KDAS_BACKEND_ENTRY);
    else
        st = kd_backend_check(table, path);
    if (st == KDAS_OK) {
        *out = table;
        return KDAS_OK;
    }
    dlclose(*library);
    *library = NULL;
    return st;
}

/* The folder "kdas" beside the shared library (or beside the program that links it statically). */
static void plugin_folder(char *folder, size_t size)
{
    Dl_info info;
    char   *slash;

    folder[0] = 0;
    if (!dladdr((const void *)&built_in, &info) || !info.dli_fname) return;
    snprintf(folder, size, "%s", info.dli_fname);
    slash = strrchr(folder, '/');
    if (slash)
        *slash = 0;
    else
        snprintf(folder, size, ".");
    if (strlen(folder) + 6 < size) strcat(folder, "/kdas");
}

/* Open the plug-in in a folder of n characters. KDAS_ENOTFOUND: it has none. */
static kdas_status find_in(const kdas_backend **out, void **library, const char *name,
                           const char *folder, size_t n)
{
    char path[PATH_MAX];
    int  length =
        snprintf(path, sizeof path, "%.*s/libkdas-%s.so", (int)KD_MIN(n, PATH_MAX), folder, name);

    if (n == 0 || length >= (int)sizeof path) return KDAS_ENOTFOUND; /* no file has such a name */
    return open_plugin(out, library, path);
}

/* Search folders joined by ':'; the first that has the plug-in decides. */
static kdas_status find_in_list(const kdas_backend **out, void **library, const char *name,
                                const char *list)
{
    kdas_status st = KDAS_ENOTFOUND;

    while (list && *list && st == KDAS_ENOTFOUND) {
        size_t n = strcspn(list, ":");

        st = find_in(out, library, name, list, n);
        list += n + (list[n] == ':');
    }
    return st;
}

kdas_status kd_backend_find(const kdas_backend **out, void **library, const char *name,
                            const char *plugin_path)
{
    const char *list = secure_getenv("KDAS_BACKEND_PATH");
    char        folder[PATH_MAX];
    kdas_status st;

    *library = NULL;
    for (size_t i = 0; i < KD_COUNT(built_in); i++)
        if (strcmp(built_in[i]->name, name) == 0) {
            *out = built_in[i];
            return KDAS_OK;
        }
    plugin_folder(folder, sizeof folder);
    st = find_in_list(out, library, name, plugin_path);
    if (st == KDAS_ENOTFOUND) st = find_in_list(out, library, name, list);
    if (st == KDAS_ENOTFOUND) st = find_in(out, library, name, folder, strlen(folder));
    if (st == KDAS_ENOTFOUND)
        kd_fail(st,
                "there is no device '%s': neither built in nor a plug-in libkdas-%s.so in '%s'%s%s",
                name, name, folder, plugin_path ? " or plugin_path" : "",
                list ? " or KDAS_BACKEND_PATH" : "");
    return st;
}

void kd_backend_unload(void *library)
{
    if (library) dlclose(library);
}

/* Can the device be used? If not, why not; the text buffer may always be written by plug-ins. */
static bool probe(const char *name, const char *plugin_path, char *why, size_t size)
{
    const kdas_backend *table;
    void               *library;
    char                base[64];
    int32_t             index;
    int                 score;

    why[0] = 0;
    if (!name) kd_fail(KDAS_EINVAL, "the device name is NULL");
    if (!name || kd_backend_parse(base, sizeof base, &index, name) != KDAS_OK ||
        kd_backend_find(&table, &library, base, plugin_path) != KDAS_OK) {
        snprintf(why, size, "%s", kdas_last_error());
        return false;
    }
    score = table->probe(index, why, size);
    kd_backend_unload(library);
    return score > 0;
}

int32_t kdas_backend_probe(const char *name, const char *plugin_path, char *why, size_t size)
{
    char reason[512];
    bool usable = probe(name, plugin_path, reason, sizeof reason);

    if (why && size) snprintf(why, size, "%s", usable ? "" : reason);
    return usable;
}

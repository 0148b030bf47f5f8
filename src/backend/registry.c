/* registry.c - backends by name. It knows the table, never a particular plug-in. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backend/cpu/cpu.h"
#include "backend/registry.h"

static const kdas_backend *const built_in[] = { &kd_backend_cpu, &kd_backend_reference };

kdas_status kd_backend_parse(char *name, size_t size, int32_t *index, const char *device)
{
    const char *colon = strchr(device, ':');
    size_t      n     = colon ? (size_t)(colon - device) : strlen(device);
    char       *end;
    long        value = 0;

    if (n == 0 || n >= size || memchr(device, '/', n))
        return kd_fail(KDAS_EINVAL, "'%.64s' is not a device name", device);
    if (colon) {
        value = strtol(colon + 1, &end, 10);
        if (end == colon + 1 || *end || value < 0 || value > 1024)
            return kd_fail(KDAS_EINVAL, "device '%.64s': the index is not a number from 0 to 1024",
                           device);
    }
    memcpy(name, device, n);
    name[n] = 0;
    *index  = (int32_t)value;
    return KDAS_OK;
}

/* Open one file and check its table. KDAS_ENOTFOUND: there is no such file. */
static kdas_status open_plugin(const kdas_backend **out, void **library, const char *path)
{
    kdas_backend_entry_fn entry;
    const kdas_backend   *table;
    void                 *symbol;

    if (access(path, F_OK) != 0) return kd_fail(KDAS_ENOTFOUND, "there is no plug-in '%s'", path);
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!*library) return kd_fail(KDAS_EBACKEND, "'%s' cannot be loaded: %s", path, dlerror());
    symbol = dlsym(*library, KDAS_BACKEND_ENTRY);
    memcpy(&entry, &symbol, sizeof entry);
    table = symbol ? entry() : NULL;
    if (table && table->abi == KDAS_BACKEND_ABI && table->size >= sizeof *table) {
        *out = table;
        return KDAS_OK;
    }
    if (!table)
        kd_fail(KDAS_EBACKEND, "'%s' is not a libkdas plug-in: it has no %s", path,
                KDAS_BACKEND_ENTRY);
    else
        kd_fail(KDAS_EBACKEND, "'%s' has backend ABI %u, this library has %d", path, table->abi,
                KDAS_BACKEND_ABI);
    dlclose(*library);
    *library = NULL;
    return KDAS_EBACKEND;
}

/* The folder "kdas" beside the shared library (or the program that it was linked into). */
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

kdas_status kd_backend_find(const kdas_backend **out, void **library, const char *name)
{
    char        path[PATH_MAX], folder[PATH_MAX];
    const char *list = getenv("KDAS_BACKEND_PATH");
    kdas_status st;

    *library = NULL;
    for (size_t i = 0; i < KD_COUNT(built_in); i++)
        if (strcmp(built_in[i]->name, name) == 0) {
            *out = built_in[i];
            return KDAS_OK;
        }
    while (list && *list) {
        size_t n = strcspn(list, ":");

        snprintf(path, sizeof path, "%.*s/libkdas-%s.so", (int)KD_MIN(n, 3000), list, name);
        st = open_plugin(out, library, path);
        if (st != KDAS_ENOTFOUND) return st;
        list += n + (list[n] == ':');
    }
    plugin_folder(folder, sizeof folder);
    snprintf(path, sizeof path, "%.3000s/libkdas-%s.so", folder, name);
    st = open_plugin(out, library, path);
    if (st == KDAS_ENOTFOUND)
        kd_fail(st, "there is no device '%s': neither built in nor a plug-in in '%s'", name,
                folder);
    return st;
}

void kd_backend_unload(void *library)
{
    if (library) dlclose(library);
}

int kdas_backend_probe(const char *name, char *why, size_t size)
{
    const kdas_backend *table;
    void               *library = NULL;
    char                base[64];
    int32_t             index;
    int                 score = 0;

    if (why && size) why[0] = 0;
    if (!name) kd_fail(KDAS_EINVAL, "the device name is NULL");
    if (!name || kd_backend_parse(base, sizeof base, &index, name) != KDAS_OK ||
        kd_backend_find(&table, &library, base) != KDAS_OK) {
        if (why && size) snprintf(why, size, "%s", kdas_last_error());
        return 0;
    }
    score = table->probe(index, why, size);
    kd_backend_unload(library);
    return score > 0;
}

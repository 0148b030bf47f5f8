/* registry.c - finds backends by name. It knows the table of a backend, but no particular plug-in. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
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

static kdas_status check_entry(void *symbol, const char *path)
{
    kdas_backend_entry_fn entry;
    const kdas_backend   *table;

    memcpy(&entry, &symbol, sizeof entry);
    table = entry();
    return table ? kd_backend_check(table, path)
                 : kd_fail(KDAS_EBACKEND, "'%s': its %s gives no table", path, KDAS_BACKEND_ENTRY);
}

kdas_status kd_backend_find(const kdas_backend **out, kd_plugin *plugin, const char *name,
                            const char *plugin_path)
{
    static const kd_plugin_kind kind = { "device", "neither built in nor a", KDAS_BACKEND_ENTRY,
                                         check_entry };
    kdas_backend_entry_fn       entry;

    *plugin = (kd_plugin){ 0 };
    for (size_t i = 0; i < KD_COUNT(built_in); i++)
        if (strcmp(built_in[i]->name, name) == 0) {
            *out = built_in[i];
            return KDAS_OK;
        }
    KD_RETURN(kd_plugin_find(plugin, &kind, name, plugin_path));
    memcpy(&entry, &plugin->entry, sizeof entry);
    *out = entry();
    return KDAS_OK;
}

/* Can the device be used? If not, why not; the text buffer may always be written by plug-ins. */
static bool probe(const char *name, const char *plugin_path, char *why, size_t size)
{
    const kdas_backend *table;
    kd_plugin           plugin;
    char                base[64];
    int32_t             index;
    int                 score;

    why[0] = 0;
    if (!name) kd_fail(KDAS_EINVAL, "the device name is NULL");
    if (!name || kd_backend_parse(base, sizeof base, &index, name) != KDAS_OK ||
        kd_backend_find(&table, &plugin, base, plugin_path) != KDAS_OK) {
        snprintf(why, size, "%s", kdas_last_error());
        return false;
    }
    score = table->probe(index, why, size);
    kd_plugin_close(&plugin);
    return score > 0;
}

int32_t kdas_backend_probe(const char *name, const char *plugin_path, char *why, size_t size)
{
    char reason[512];
    bool usable = probe(name, plugin_path, reason, sizeof reason);

    if (why && size) snprintf(why, size, "%s", usable ? "" : reason);
    return usable;
}

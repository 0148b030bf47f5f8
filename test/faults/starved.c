/* starved.c - see starved.h. */
#include "starved.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Memory that runs out ---------------------------------------------------------------------- */

atomic_long taken, given, fail_at;
atomic_bool failed_once;
bool        every, lasting;

void *take(void *user, size_t bytes)
{
    long  number = atomic_fetch_add(&taken, 1) + 1, at = fail_at;
    void *memory;

    (void)user;
    if (at && (number == at || (lasting && number > at))) {
        failed_once = true;
        atomic_fetch_add(&given, 1);
        return NULL;
    }
    memory = malloc(bytes ? bytes : 1);
    return memory;
}

void give(void *user, void *memory)
{
    (void)user;
    if (!memory) return;
    atomic_fetch_add(&given, 1);
    free(memory);
}

/* ---- What was found ---------------------------------------------------------------------------- */

starved_row rows[STARVED_ROWS];
int         row_count;
long        passed, failed;
const char *life_name;

void claim(bool right, const char *call, long k, const char *what)
{
    if (right) {
        passed++;
        return;
    }
    if (failed++ < 40)
        printf("FAILED: %s: %s, allocation %ld: %s (%s)\n", life_name, call, k, what,
               kdas_last_error());
}

int row_of(const char *call)
{
    int    i = 0;
    size_t n = strcspn(call, "(");

    while (i < row_count && (strncmp(rows[i].name, call, n) != 0 || rows[i].name[n]))
        i++;
    if (i == row_count && row_count < STARVED_ROWS - 1)
        snprintf(rows[row_count++].name, sizeof rows[0].name, "%.*s", (int)n, call);
    return i;
}

uint64_t digest;

void add(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < n; i++)
        digest = (digest ^ p[i]) * 0x100000001b3ull;
}

/* ---- Files ------------------------------------------------------------------------------------- */

const char *dir;
static char paths[16][600];

const char *in_dir(const char *name)
{
    static int next;
    char      *path = paths[next = (next + 1) % 16];

    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

uint64_t hash_of(const char *path)
{
    static uint64_t part[8192];
    uint64_t        hash = 0xcbf29ce484222325ull;
    FILE           *file = fopen(path, "rb");
    size_t          n;

    if (!file) return 0;
    while ((n = fread(part, 1, sizeof part, file)) > 0) {
        memset((char *)part + n, 0, (8 - n % 8) % 8);
        for (size_t i = 0; i < (n + 7) / 8; i++)
            hash = (hash ^ part[i]) * 0x9e3779b97f4a7c15ull;
        hash ^= n;
    }
    fclose(file);
    return hash;
}

uint64_t folder_hash(const char *path)
{
    DIR           *folder = opendir(path);
    struct dirent *entry;
    uint64_t       sum = 0;

    while (folder && (entry = readdir(folder))) {
        uint64_t hash = 0xcbf29ce484222325ull;
        char     whole[1200];

        if (entry->d_name[0] == '.') continue;
        for (const char *c = entry->d_name; *c; c++)
            hash = (hash ^ (unsigned char)*c) * 0x100000001b3ull;
        snprintf(whole, sizeof whole, "%s/%s", path, entry->d_name);
        sum += hash ^ hash_of(whole);
    }
    if (folder) closedir(folder);
    return sum;
}

bool has_temporary(const char *path)
{
    DIR           *folder = opendir(path);
    struct dirent *entry;
    bool           found = false;

    while (folder && (entry = readdir(folder)))
        found |= strstr(entry->d_name, ".tmp") != NULL;
    if (folder) closedir(folder);
    return found;
}

void empty_folder(const char *path)
{
    DIR           *folder = opendir(path);
    struct dirent *entry;

    while (folder && (entry = readdir(folder))) {
        char whole[1200];

        snprintf(whole, sizeof whole, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') unlink(whole);
    }
    if (folder) closedir(folder);
    mkdir(path, 0777);
}

/* ---- A call that fails for each of its allocations ------------------------------------------------ */

bool faults;

long after(long k) { return every ? k + 1 : k + 1 + k / 2; }

static unsigned char *kept;
static size_t         kept_room;
static uint64_t       kept_files;

void remember(const void *out, size_t bytes, const char *files)
{
    if (bytes > kept_room) kept = realloc(kept, kept_room = bytes);
    if (bytes) memcpy(kept, out, bytes);
    if (files) kept_files = folder_hash(files);
}

void judge(int row, const char *call, long k, kdas_status status, const void *out, size_t bytes,
           const char *files)
{
    if (!failed_once) { /* the call makes no more allocations */
        claim(status == KDAS_OK, call, k, "fails with all its memory");
        return;
    }
    rows[row].failures++;
    if (status == KDAS_OK) {
        rows[row].survived++;
        return;
    }
    claim(status == KDAS_ENOMEM, call, k, kdas_status_name(status));
    claim(kdas_last_error()[0] != 0, call, k, "has no sentence");
    if (bytes) claim(memcmp(kept, out, bytes) == 0, call, k, "changes its output");
    if (files) claim(folder_hash(files) == kept_files, call, k, "changes files");
    if (files) claim(!has_temporary(files), call, k, "leaves a temporary file");
}

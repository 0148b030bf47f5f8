/* cgroup.c - the CPU quota of the process's control groups.
 *
 * /proc/self/cgroup has a line "ID:CONTROLLERS:PATH" for each hierarchy; that of v2 has no
 * controllers. A line of /proc/self/mountinfo says where a hierarchy is mounted, and from which of
 * its groups on ("/" outside of containers). A group's limit holds for all below it, so the
 * tightest one between the process's group and the mount counts. */
#include <stdio.h>
#include <string.h>
#include "base/cores.h"
#include "base/text.h"

enum { LINE = 4096 };

typedef struct hierarchy {
    bool        v2;
    const char *root;  /* see kd_quota_cpus() */
    const char *group; /* "/..."              */
    int64_t     cpus;  /* the tightest quota so far; 0: none */
} hierarchy;

/* ---- files ---- */

static FILE *open_below(const char *root, const char *folder, const char *name)
{
    char path[3 * LINE];

    kd_format(path, sizeof path, "%s%s/%s", root, folder, name);
    return fopen(path, "re");
}

/* A whole line without its end; one that is too long is passed over. */
static bool read_line(FILE *file, char line[LINE])
{
    while (fgets(line, LINE, file)) {
        char *end = strchr(line, '\n');
        int   c;

        if (end || feof(file)) {
            if (end) *end = 0;
            return true;
        }
        while ((c = fgetc(file)) != EOF && c != '\n')
            continue;
    }
    return false;
}

/* Up to two numbers of a file's first line; "max" is -1. How many there are. */
static int read_numbers(const char *root, const char *folder, const char *name, int64_t number[2])
{
    FILE       *file = open_below(root, folder, name);
    char        line[LINE];
    const char *at = line;
    int         n  = 0;

    if (!file) return 0;
    if (!read_line(file, line)) line[0] = 0;
    fclose(file);
    if (strncmp(line, "max", 3) == 0) {
        number[n++] = -1;
        at += 3;
    }
    while (n < 2 && kd_parse_whole(at, &at, &number[n]))
        n++;
    return n;
}

/* ---- a group ---- */

static void read_quota(hierarchy *h, const char *folder)
{
    int64_t number[2] = { -1, 0 }, period[2]; /* microseconds of CPU time in each period */
    bool    found;

    if (h->v2) {
        found = read_numbers(h->root, folder, "cpu.max", number) == 2;
    } else {
        found = read_numbers(h->root, folder, "cpu.cfs_quota_us", number) >= 1 &&
                read_numbers(h->root, folder, "cpu.cfs_period_us", period) >= 1;
        number[1] = found ? period[0] : 0;
    }
    if (!found || number[0] <= 0 || number[1] <= 0) return;
    number[0] = KD_MAX(number[0] / number[1], 1);
    h->cpus   = h->cpus ? KD_MIN(h->cpus, number[0]) : number[0];
}

/* From the process's group up to the mount. `top` is the mounted group. */
static void climb(hierarchy *h, const char *mount, const char *top)
{
    size_t n     = strcmp(top, "/") ? strlen(top) : 0;
    size_t least = strcmp(mount, "/") ? strlen(mount) : 0;
    char   folder[2 * LINE];
    char  *slash;

    if (strncmp(h->group, top, n) != 0 || (h->group[n] && h->group[n] != '/')) return;
    kd_format(folder, sizeof folder, "%s%s", least ? mount : "", h->group + n);
    for (;;) {
        read_quota(h, folder);
        slash = strrchr(folder, '/');
        if (!slash || slash < folder + least) return;
        *slash = 0;
    }
}

/* ---- where it is mounted ---- */

/* Is `word` one of those in a list with commas? */
static bool lists(const char *list, const char *word)
{
    size_t n = strlen(word);

    for (;; list++) {
        if (strncmp(list, word, n) == 0 && (list[n] == ',' || list[n] == 0)) return true;
        list = strchr(list, ',');
        if (!list) return false;
    }
}

/* Blanks in mountinfo are written as "\040". */
static void unescape(char *text)
{
    char *to = text;

    for (; *text; text++) {
        bool octal = text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' &&
                     text[2] <= '7' && text[3] >= '0' && text[3] <= '7';

        *to++ =
            octal ? (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0')) : *text;
        if (octal) text += 3;
    }
    *to = 0;
}

/* ID PARENT DEVICE TOP MOUNT OPTIONS [MORE ...] - TYPE SOURCE SUPER-OPTIONS */
static void try_mount(hierarchy *h, char *line)
{
    char *field[6], *tail[3] = { NULL, NULL, NULL }, *state = NULL;
    char *rest = strstr(line, " - ");

    if (!rest) return;
    *rest = 0;
    for (int i = 0; i < 6; i++)
        if (!(field[i] = strtok_r(i ? NULL : line, " ", &state))) return;
    for (int i = 0; i < 3; i++)
        tail[i] = strtok_r(i ? NULL : rest + 3, " ", &state);
    if (!tail[2] || strcmp(tail[0], h->v2 ? "cgroup2" : "cgroup") != 0) return;
    if (!h->v2 && !lists(tail[2], "cpu")) return;
    unescape(field[3]);
    unescape(field[4]);
    climb(h, field[4], field[3]);
}

static void try_hierarchy(hierarchy *h)
{
    FILE *file = open_below(h->root, "/proc/self", "mountinfo");
    char  line[LINE];

    if (!file) return;
    while (read_line(file, line))
        try_mount(h, line);
    fclose(file);
}

int64_t kd_quota_cpus(const char *root)
{
    FILE   *file = open_below(root, "/proc/self", "cgroup");
    int64_t cpus = 0;
    char    line[LINE];

    if (!file) return 0;
    while (read_line(file, line)) {
        char     *controllers = strchr(line, ':');
        char     *group       = controllers ? strchr(controllers + 1, ':') : NULL;
        hierarchy h           = { .root = root };

        if (!group || strstr(group, "/..")) continue; /* outside of what this process can see */
        *group++ = 0;
        h.group  = group;
        h.v2     = controllers[1] == 0;
        if (!h.v2 && !lists(controllers + 1, "cpu")) continue;
        try_hierarchy(&h);
        if (h.cpus) cpus = cpus ? KD_MIN(cpus, h.cpus) : h.cpus;
    }
    fclose(file);
    return cpus;
}

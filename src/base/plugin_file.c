/* plugin_file.c - is the file of a shared object complete? The loader of the system maps what the headers promise; in a
 * truncated file the first access to a missing page ends the process with a bus error. */
#include <link.h>
#include <stdio.h>
#include <string.h>
#include "base/plugin.h"

/* Do `count` entries of `each` bytes from `at` lie within the file? */
static bool within(uint64_t at, uint64_t count, uint64_t each, uint64_t size)
{
    return at <= size && count * each <= size - at; /* no overflow: counts and sizes have 16 bits */
}

static bool read_at(FILE *file, uint64_t at, void *to, size_t bytes)
{
    return fseek(file, (long)at, SEEK_SET) == 0 && fread(to, bytes, 1, file) == 1;
}

/* Checks headers and segments. Any other kind of file is left to the loader, which refuses it. */
static bool is_whole(FILE *file, uint64_t size)
{
    ElfW(Ehdr) head;
    unsigned char magic[SELFMAG];

    if (!read_at(file, 0, magic, sizeof magic) || memcmp(magic, ELFMAG, SELFMAG) != 0) return true;
    if (!read_at(file, 0, &head, sizeof head)) return false;
    if (head.e_phentsize != sizeof(ElfW(Phdr))) return true;
    if (!within(head.e_phoff, head.e_phnum, head.e_phentsize, size) ||
        !within(head.e_shoff, head.e_shnum, head.e_shentsize, size))
        return false;
    for (int i = 0; i < head.e_phnum; i++) {
        ElfW(Phdr) part;

        if (!read_at(file, head.e_phoff + (uint64_t)i * sizeof part, &part, sizeof part))
            return false;
        if (!within(part.p_offset, 1, 0, size) || part.p_filesz > size - part.p_offset)
            return false;
    }
    return true;
}

kdas_status kd_plugin_file_check(const char *path)
{
    FILE *file  = fopen(path, "rb");
    long  size  = -1;
    bool  whole = false;

    if (!file) return kd_fail(KDAS_EBACKEND, "'%s' cannot be read", path);
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size >= 0) whole = is_whole(file, (uint64_t)size);
    fclose(file);
    return whole ? KDAS_OK
                 : kd_fail(KDAS_EBACKEND, "'%s' cannot be loaded: the file is cut off", path);
}

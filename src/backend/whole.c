/* whole.c - is a shared object's file all there? The loader maps what the file's headers promise without a look at
 * its length, and a process that touches a page past the file's end is killed. */
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include "backend/registry.h"

/* The end of the last piece of the file that the loader would map; 0: the headers cannot be read, or are none. */
static uint64_t mapped_end(FILE *file)
{
    ElfW(Ehdr) header;
    ElfW(Phdr) part;
    uint64_t end = 0;

    if (fread(&header, sizeof header, 1, file) != 1 ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof part ||
        fseek(file, (long)header.e_phoff, SEEK_SET) != 0)
        return 0;
    for (int i = 0; i < header.e_phnum; i++) {
        if (fread(&part, sizeof part, 1, file) != 1) return 0;
        if (part.p_type == PT_LOAD && part.p_offset + part.p_filesz > end)
            end = part.p_offset + part.p_filesz;
    }
    return end;
}

kdas_status kd_backend_whole(const char *path)
{
    FILE    *file = fopen(path, "rb");
    uint64_t end, length;

    if (!file) return KDAS_OK; /* the loader says why */
    end    = mapped_end(file);
    length = fseek(file, 0, SEEK_END) == 0 ? (uint64_t)ftell(file) : end;
    fclose(file);
    if (length >= end) return KDAS_OK;
    return kd_fail(KDAS_EBACKEND, "'%s' is cut off: it has %llu bytes of at least %llu", path,
                   (unsigned long long)length, (unsigned long long)end);
}

/* fatbin.c - list what device code an ELF file holds, where the toolkit comes without the tool for it. nvcc puts the
 * code of one source into a container in the section .nv_fatbin, once for each kind of card: machine code, or PTX,
 * which the driver compiles for cards that are newer.
 *
 * usage: fatbin FILE      prints a line for each container, such as "sm_75 sm_80 compute_75". Exit status 1: there
 * is none, or it is damaged. */
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0xba55ed50u

/* A container: this, then entries of `size` bytes in all. Little-endian. */
typedef struct container {
    uint32_t magic;
    uint16_t version, header;
    uint64_t size;
} container;

/* An entry: a header of `header` bytes that begins so, then `size` bytes of code, maybe compressed. */
typedef struct entry {
    uint16_t kind, version;
    uint32_t header;
    uint64_t size;
    uint32_t other[3];
    uint32_t arch; /* 75: compute capability 7.5 */
} entry;
enum { PTX = 1, MACHINE_CODE = 2 };

static int wrong(const char *path, const char *why)
{
    fprintf(stderr, "fatbin: %s: %s\n", path, why);
    return 1;
}

static unsigned char *read_all(const char *path, size_t *size)
{
    FILE          *file  = fopen(path, "rb");
    unsigned char *bytes = NULL;
    long           end   = 0;

    if (!file) return NULL;
    if (!fseek(file, 0, SEEK_END) && (end = ftell(file)) > 0 && !fseek(file, 0, SEEK_SET))
        bytes = malloc((size_t)end);
    if (bytes && fread(bytes, 1, (size_t)end, file) != (size_t)end) {
        free(bytes);
        bytes = NULL;
    }
    fclose(file);
    *size = (size_t)end;
    return bytes;
}

/* The section's place in the file; 0: it has none. */
static size_t find_section(const unsigned char *bytes, size_t size, const char *name,
                           size_t *length)
{
    Elf64_Ehdr file;
    Elf64_Shdr names, section;

    if (size < sizeof file || memcmp(bytes, ELFMAG, SELFMAG) || bytes[EI_CLASS] != ELFCLASS64)
        return 0;
    memcpy(&file, bytes, sizeof file);
    if (file.e_shstrndx >= file.e_shnum || file.e_shoff > size ||
        file.e_shnum > (size - file.e_shoff) / sizeof section)
        return 0;
    memcpy(&names, bytes + file.e_shoff + file.e_shstrndx * sizeof names, sizeof names);
    for (int i = 0; i < file.e_shnum; i++) {
        size_t at;

        memcpy(&section, bytes + file.e_shoff + (size_t)i * sizeof section, sizeof section);
        at = names.sh_offset + section.sh_name;
        if (at >= size || strnlen((const char *)bytes + at, size - at) == size - at) return 0;
        if (strcmp((const char *)bytes + at, name)) continue;
        if (section.sh_offset > size || section.sh_size > size - section.sh_offset) return 0;
        *length = section.sh_size;
        return section.sh_offset;
    }
    return 0;
}

/* Bytes of the container at `bytes`, of which `left` remain; 0: it is damaged. */
static size_t list_container(const unsigned char *bytes, size_t left)
{
    container whole;
    size_t    at, end;

    if (left < sizeof whole) return 0;
    memcpy(&whole, bytes, sizeof whole);
    if (whole.magic != MAGIC || whole.header < sizeof whole || whole.header > left ||
        whole.size > left - whole.header)
        return 0;
    at  = whole.header;
    end = at + whole.size;
    while (at < end) {
        entry e;

        if (end - at < sizeof e) return 0;
        memcpy(&e, bytes + at, sizeof e);
        if (e.header < sizeof e || e.header > end - at || e.size > end - at - e.header) return 0;
        if (e.kind == PTX || e.kind == MACHINE_CODE)
            printf("%s%s_%u", at > whole.header ? " " : "", e.kind == PTX ? "compute" : "sm",
                   e.arch);
        at += e.header + e.size;
    }
    printf("\n");
    return end;
}

int main(int argc, char **argv)
{
    const char    *path = argc > 1 ? argv[1] : "";
    unsigned char *bytes;
    size_t         size, start, length, at = 0;
    int            rc = 0;

    bytes = read_all(path, &size);
    if (!bytes) return wrong(path, "it cannot be read");
    start = find_section(bytes, size, ".nv_fatbin", &length);
    if (!start) rc = wrong(path, "it has no section .nv_fatbin");
    while (rc == 0 && at < length) {
        size_t step = list_container(bytes + start + at, length - at);

        if (!step) rc = wrong(path, "a container of device code is damaged");
        at += (step + 7) / 8 * 8; /* the next one is aligned */
    }
    free(bytes);
    return rc;
}

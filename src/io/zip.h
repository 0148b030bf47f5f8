/* zip.h - reading zip archives, with 64-bit sizes, whose entries are stored or deflated. */
#ifndef KD_ZIP_H
#define KD_ZIP_H
#include "base/base.h"
#include "io/file.h"

#define KD_ZIP_MAX_ENTRIES   200000
#define KD_ZIP_MAX_UNPACKED  ((uint64_t)2 << 30) /* bytes of a deflated entry's content */
#define KD_ZIP_MAX_DIRECTORY (64u << 20)         /* bytes */

typedef struct kd_zip_entry {
    const char *name;
    uint64_t    header; /* where its local header is */
    uint64_t    packed; /* bytes in the file */
    uint64_t    size;   /* bytes of the content */
    uint32_t    crc;    /* of the content; 0 of a stored entry: it may not have been computed */
    uint16_t    method; /* KD_ZIP_STORED, KD_ZIP_DEFLATED or another, which is not read */
    uint16_t    flags;
} kd_zip_entry;

enum { KD_ZIP_STORED = 0, KD_ZIP_DEFLATED = 8 };

typedef struct kd_zip kd_zip;

/* Read the directory at the end of `file`, which is borrowed. KDAS_EFORMAT (cut off, damaged, too
 * long, in several parts), KDAS_EIO, KDAS_ENOMEM. Sentences name the file. */
kdas_status kd_zip_open(kd_zip **out, kdas_context *ctx, kd_file *file);
void        kd_zip_close(kd_zip *zip); /* NULL is fine */

/* Entries in order of name. */
int64_t             kd_zip_count(const kd_zip *zip);
const kd_zip_entry *kd_zip_at(const kd_zip *zip, int64_t i);
const kd_zip_entry *kd_zip_find(const kd_zip *zip, const char *name); /* NULL: none */

/* Check that an entry can be read: its method, that it is not encrypted, that its bytes are in the
 * file, and that its size is possible for so many bytes. `*at`: where its bytes begin. */
kdas_status kd_zip_locate(kd_zip *zip, const kd_zip_entry *entry, uint64_t *at);
/* The whole content, to memory of its size, compared with its checksum. */
kdas_status kd_zip_read(kd_zip *zip, const kd_zip_entry *entry, void *to);
/* Compare a stored entry, whose bytes begin at `at`, with its checksum. A checksum of 0 is not
 * compared: PyTorch writes it for all entries where torch.serialization.set_crc32_options(False) is
 * in force. */
kdas_status kd_zip_check_stored(kd_zip *zip, const kd_zip_entry *entry, uint64_t at);

#endif

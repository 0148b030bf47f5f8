/* kind.h - what a file is, by its first bytes: for sentences about a file that is not what it
 * should be. */
#ifndef KD_KIND_H
#define KD_KIND_H
#include "base/base.h"
#include "io/file.h"

#define KD_KIND_HEAD 512 /* bytes that are looked at */

typedef struct kd_kind {
    const char *what; /* "a web page (HTML)"; NULL: not known        */
    const char *cure; /* what to do; NULL: that depends on who wants */
} kd_kind;

/* From the first n bytes, at most KD_KIND_HEAD, of a file of `size` bytes. */
kd_kind kd_kind_of(const unsigned char *head, size_t n, uint64_t size);
/* Whether it begins like a safetensors file: a length that fits the file, and a JSON object. */
bool kd_kind_is_safetensors(const unsigned char *head, size_t n, uint64_t size);
/* The same from the file. An unreadable file is of no known kind. */
kd_kind kd_kind_of_file(kd_file *file);
/* KDAS_EFORMAT with "'path' is not WANTED: it is WHAT; CURE", if the kind is known and was not
 * `wanted`; `cure` stands in where the kind has none. KDAS_OK without a sentence if it is not
 * known. */
kdas_status kd_kind_refuse(kd_kind kind, const char *path, const char *wanted, const char *cure);

#endif

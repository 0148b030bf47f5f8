/* json_write.h - writing JSON text (RFC 8259), indented, for files that people read, too. Failures
 * stick: the status at the end tells. */
#ifndef KD_JSON_WRITE_H
#define KD_JSON_WRITE_H
#include "base/base.h"

/* Zeros, and the context. */
typedef struct kd_json_out {
    kdas_context *ctx;
    char         *text;
    size_t        used, capacity;
    int           depth;
    bool          follows; /* something stands before in this object or array */
    kdas_status   status;
} kd_json_out;

/* `key` is NULL in an array and for the whole. A text may hold any bytes: what is not UTF-8 becomes
 * U+FFFD. A NULL text, and a number that is not finite, become null. */
void kd_json_begin(kd_json_out *out, const char *key, char bracket); /* '{' or '[' */
void kd_json_end(kd_json_out *out, char bracket);                    /* '}' or ']' */
void kd_json_put_text(kd_json_out *out, const char *key, const char *text);
void kd_json_put_whole(kd_json_out *out, const char *key, int64_t value);
void kd_json_put_real(kd_json_out *out, const char *key, double value);
/* Replace the file by the text and a newline. Returns the first failure, also of the calls
 * above. */
kdas_status kd_json_save(kd_json_out *out, const char *path);
void        kd_json_out_finish(kd_json_out *out);

#endif

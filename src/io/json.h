/* json.h - reading JSON text (RFC 8259). Tokens are in the context's memory, strings stay where
 * they are and are decoded in place. An item is a node that holds a value; items are numbered in
 * the order of the text, and 0 is the whole. */
#ifndef KD_JSON_H
#define KD_JSON_H
#include "base/base.h"

#define KD_JSON_MAX_DEPTH 128 /* levels, the outermost object's or array's included */

typedef struct kd_json kd_json;

/* Read an object or array. `text` is UTF-8 without NUL, followed by a NUL after its `size` bytes.
 * It is modified and must outlive `out`. KDAS_EFORMAT: not JSON, at which byte and why; a text with
 * more than `max_values` values, a string with a NUL. KDAS_ENOMEM. */
kdas_status kd_json_parse(kd_json **out, kdas_context *ctx, char *text, size_t size,
                          size_t max_values);
void        kd_json_free(kd_json *json); /* NULL is fine */

bool kd_json_is_object(const kd_json *json, int item);
bool kd_json_is_array(const kd_json *json, int item);
bool kd_json_is_null(const kd_json *json, int item);
/* A string's text, also of a key; NULL: it is no string. It lives as long as the text
 * that was read. */
const char *kd_json_text(const kd_json *json, int item);
/* A whole number from 0 to 2^53, written in digits alone; -1: it is none. */
int64_t kd_json_whole(const kd_json *json, int item);

/* How many members an object, or elements an array has. */
int kd_json_size(const kd_json *json, int item);
/* An object's first key, an array's first element, and the one after it; 0: there is none. */
int kd_json_first(const kd_json *json, int parent);
int kd_json_next(const kd_json *json, int item);
/* The value of a key. */
int kd_json_value(const kd_json *json, int key);

#endif

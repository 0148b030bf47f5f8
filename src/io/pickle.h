/* pickle.h - reading Python's pickles as plain data. Nothing of a pickle is ever run: a class or a
 * function is a name, a call of it is a record of the name and its arguments. The reader knows
 * protocols 0 to 5, but for the text forms of strings and reals of protocol 0. Values are numbered;
 * item 0 is "no such value", and every question about it has an empty answer. */
#ifndef KD_PICKLE_H
#define KD_PICKLE_H
#include "base/base.h"

#define KD_PICKLE_MAX_BYTES  (64u << 20)
#define KD_PICKLE_MAX_VALUES (2u << 20)

typedef enum kd_pickle_kind {
    KD_PICKLE_ABSENT, /* item 0 */
    KD_PICKLE_NONE,
    KD_PICKLE_BOOL,
    KD_PICKLE_WHOLE,
    KD_PICKLE_BIG, /* an integer beyond 64 bits; its value is not kept */
    KD_PICKLE_REAL,
    KD_PICKLE_TEXT,
    KD_PICKLE_BYTES,
    KD_PICKLE_TUPLE,
    KD_PICKLE_LIST,
    KD_PICKLE_DICT,
    KD_PICKLE_SET,
    KD_PICKLE_GLOBAL,    /* a class or function by its name              */
    KD_PICKLE_OBJECT,    /* a call of one, which was not made            */
    KD_PICKLE_PERSISTENT /* a value that lies outside the pickle, by key */
} kd_pickle_kind;

typedef struct kd_pickle kd_pickle;

/* Read one pickle from the front of `size` bytes. The bytes must outlive `out`. `*used`: bytes up
 * to its end. KDAS_EFORMAT: damaged, an opcode that is not known, too many values; `*cut` tells
 * whether it only lacks bytes at the end. KDAS_ENOMEM. Values may contain themselves. */
kdas_status kd_pickle_read(kd_pickle **out, kdas_context *ctx, const void *bytes, size_t size,
                           size_t *used, bool *cut);
void        kd_pickle_free(kd_pickle *pickle); /* NULL is fine */

uint32_t       kd_pickle_root(const kd_pickle *pickle);
uint32_t       kd_pickle_values(const kd_pickle *pickle); /* items are below this number */
kd_pickle_kind kd_pickle_kind_of(const kd_pickle *pickle, uint32_t item);
/* False: it is no whole number of 64 bits (a bool is none). */
bool kd_pickle_whole(const kd_pickle *pickle, uint32_t item, int64_t *out);
/* The bytes of a text, without a NUL behind them; NULL: it is no text. */
const char *kd_pickle_text(const kd_pickle *pickle, uint32_t item, size_t *length);
bool        kd_pickle_is_text(const kd_pickle *pickle, uint32_t item, const char *text);
/* "module.name" of a global, shortened to `size`; empty for other values. */
void kd_pickle_global(const kd_pickle *pickle, uint32_t item, char *to, size_t size);
bool kd_pickle_is_global(const kd_pickle *pickle, uint32_t item, const char *name);

/* The function or class of an object, its arguments (a tuple; of a persistent value, its key), and
 * the state that was set afterwards. */
uint32_t kd_pickle_callable(const kd_pickle *pickle, uint32_t item);
uint32_t kd_pickle_args(const kd_pickle *pickle, uint32_t item);
uint32_t kd_pickle_state(const kd_pickle *pickle, uint32_t item);

/* Elements of a tuple, list, set or dictionary, or those that were put into an object, are in
 * cells: the first, the one after it; 0: no more. A cell's key is 0 where there is none. */
uint32_t kd_pickle_count(const kd_pickle *pickle, uint32_t item);
uint32_t kd_pickle_first(const kd_pickle *pickle, uint32_t item);
uint32_t kd_pickle_next(const kd_pickle *pickle, uint32_t cell);
uint32_t kd_pickle_key(const kd_pickle *pickle, uint32_t cell);
uint32_t kd_pickle_item(const kd_pickle *pickle, uint32_t cell);
uint32_t kd_pickle_element(const kd_pickle *pickle, uint32_t item, uint32_t i);

#endif

/* starved.h - for a host whose memory runs out: the memory, the calls that are made without it, and what was found.
 * allocations.c makes the calls. */
#ifndef KD_STARVED_H
#define KD_STARVED_H
#include <kdas/kdas.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- Memory that runs out: hooks of a context ---------------------------------------------------- */

extern atomic_long taken, given;
extern atomic_long fail_at;        /* the allocation that fails, by its number in `taken`; 0: none */
extern atomic_bool failed_once;    /* one has */
extern bool        every, lasting; /* as the command line says */

void *take(void *user, size_t bytes);
void  give(void *user, void *memory);

/* ---- What was found ------------------------------------------------------------------------------ */

enum { STARVED_ROWS = 64 };

typedef struct starved_row {
    char name[40];
    long calls, allocations, failures, survived;
} starved_row;

extern starved_row rows[STARVED_ROWS];
extern int         row_count;
extern long        passed, failed;
extern const char *life_name;
extern uint64_t    digest; /* of all results of the life */

void claim(bool right, const char *call, long k, const char *what);
/* The row of a call, by the name of its function. */
int  row_of(const char *call);
void add(const void *bytes, size_t n); /* to the digest */

/* ---- Files --------------------------------------------------------------------------------------- */

extern const char *dir; /* all files of a life are in it */

const char *in_dir(const char *name);
uint64_t    hash_of(const char *path);
/* Files of the folder, in no order: their names and contents, as one number. */
uint64_t folder_hash(const char *path);
bool     has_temporary(const char *path);
void     empty_folder(const char *path);

/* ---- A call that fails for each of its allocations ------------------------------------------------ */

extern bool faults; /* whether memory runs out in this life */

/* The next allocation of a call to fail, after k: all of the first, then fewer. */
long after(long k);
/* What a call that fails must not change, and whether it has. */
void remember(const void *out, size_t bytes, const char *files);
void judge(int row, const char *call, long k, kdas_status status, const void *out, size_t bytes,
           const char *files);

/* Make a call as often as it fails for lack of memory, then once with all memory. `out`: `bytes` that a failed call must
 * not change; `files`: a folder that it must not. Ends the life if the call fails otherwise. */
#define CALL_OUT(call, out, bytes, files)                                        \
    do {                                                                         \
        kdas_status status_ = KDAS_ENOMEM;                                       \
        long        k_ = 1, first_ = taken;                                      \
        int         row_ = row_of(#call);                                        \
        while (faults && status_ != KDAS_OK) {                                   \
            remember(out, bytes, files);                                         \
            failed_once = false;                                                 \
            first_      = taken;                                                 \
            fail_at     = first_ + k_;                                           \
            status_     = (call);                                                \
            fail_at     = 0;                                                     \
            judge(row_, #call, k_, status_, out, bytes, files);                  \
            k_ = after(k_);                                                      \
        }                                                                        \
        if (!faults || status_ != KDAS_OK) status_ = (call);                     \
        if (!faults) rows[row_].allocations += taken - first_;                   \
        if (!faults) rows[row_].calls++;                                         \
        claim(status_ == KDAS_OK, #call, 0, "a call with all the memory fails"); \
        if (status_ != KDAS_OK) goto done;                                       \
    } while (0)
#define CALL(call)             CALL_OUT(call, NULL, 0, NULL)
#define CREATE(handle, create) CALL_OUT(create, &(handle), sizeof(handle), NULL)
#define WRITE(call)            CALL_OUT(call, NULL, 0, in_dir("files"))
#define PAINT(call)            CALL_OUT(call, NULL, 0, in_dir("pictures"))

#endif

/* files.h - for tests of files: a folder of their own, bytes on disk, and a context that is memory
 * alone, counted and able to run out. */
#ifndef KD_TEST_FILES_H
#define KD_TEST_FILES_H
#include <stddef.h>
#include "base/context.h"

/* ---- A context without a device ---- */

typedef struct kd_test_memory {
    long asked, taken, given_back;
    long fail_at; /* the request that fails, counted from 1; 0: none */
} kd_test_memory;

/* Ready the context and zero the counts of `memory`. */
void kd_test_bare_context(kdas_context *context, kd_test_memory *memory);
/* Fail the running test unless everything taken was given back. */
void kd_test_assert_balanced(const kd_test_memory *memory);

/* ---- A folder for the running test ---- */

/* Make it, and remove it with all that is in it. For setup and teardown. */
void kd_test_folder_make(void);
void kd_test_folder_remove(void);
/* "<folder>/name"; one of the last 16 that were asked for. NULL gives the folder itself. */
const char *kd_test_path(const char *name);
/* Entries in a folder, hidden ones too. */
int kd_test_entries(const char *path);

void kd_test_write(const char *path, const void *data, size_t n);
/* The file's bytes and a zero behind them, from malloc. */
unsigned char *kd_test_read(const char *path, size_t *n);
/* Fail the running test unless the file holds exactly this text. */
void kd_test_assert_text(const char *path, const char *text);

/* A safetensors file with this header and n bytes of data 0, 1, 2, ...; returns its path. */
const char *kd_test_lay(const char *header, size_t n);

#endif

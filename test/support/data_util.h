/* data_util.h - what the tests of data share: a context that is memory alone, a folder of frames,
 * and short ways to datasets and loaders. */
#ifndef KD_TEST_DATA_UTIL_H
#define KD_TEST_DATA_UTIL_H
#include <kdas/data.h>
#include <stdatomic.h>
#include "base/context.h"

/* ---- A context without a device, and a folder, both for the running test ---- */

/* Memory of the context. Loader threads use it too. */
typedef struct kd_test_supply {
    atomic_long taken, given_back;
    atomic_long fail_at; /* the allocation that fails, counted from 1; 0: none */
} kd_test_supply;
extern kd_test_supply      kd_data_memory;
extern kdas_context *const kd_data_ctx;
extern char                kd_data_log[4096]; /* its warnings; it may log nothing else */

/* A fixture: zeros the counts, empties the log and makes the folder of files.h with images/ and
 * masks/ in it; at the end asserts that all memory is back. */
void kd_test_data_start(void);
void kd_test_data_finish(void);
/* Run a shell's command, two strings put into a format; it must succeed. */
void kd_test_shell(const char *format, const char *a, const char *b);

/* ---- Frames in the folder ---- */

/* Byte i of the pixels that follow. */
uint8_t kd_test_byte(int64_t i);
/* "<folder>/<name>" written with pixels that depend on `salt`. */
void kd_test_write_picture(const char *name, int64_t width, int64_t height, kdas_pixel pixel,
                           int salt);
/* A frame `stem` with its mask, both PNG. */
void kd_test_write_pair(const char *stem, int64_t width, int64_t height);
/* A frame whose red is its mask, a disc; green and blue tell where a pixel was. */
void kd_test_write_disc(const char *name, int64_t width, int64_t height, double cx, double cy,
                        double r);
/* The folder as a dataset. */
kdas_dataset *kd_test_open_folder(int32_t bad_file, uint64_t cache);

/* ---- Loaders ---- */

kdas_loader_options kd_test_loader_options(int64_t batch, int64_t height, int64_t width);
kdas_loader        *kd_test_loader(kdas_dataset *dataset, const kdas_loader_options *o);
/* The next batch that is one, passing over the end of an epoch. */
kdas_batch *kd_test_next(kdas_loader *loader);
/* The names of all frames are these, with blanks between; the dataset is destroyed. */
void kd_test_names_are(kdas_dataset *dataset, const char *want);

#endif

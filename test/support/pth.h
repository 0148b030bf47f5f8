/* pth.h - writes files as PyTorch does, a zip archive, or as it did before 1.6. All elements of a
 * tensor are one value, so that a file of a whole network is small. */
#ifndef KD_TEST_PTH_H
#define KD_TEST_PTH_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kd_test_pth {
    unsigned char *bytes;
    size_t         size, room;
    bool           zip;
    float          value[1024]; /* of the storage; before 1.6 it has room for 16 */
    int            values;
    int64_t        count; /* the one number of the storage of whole numbers */
} kd_test_pth;

/* Begin a file with its outermost dictionary: as before 1.6, or a zip archive. */
void kd_test_pth_begin(kd_test_pth *p);
void kd_test_pth_begin_zip(kd_test_pth *p);
/* A dictionary within the one that is open; and its end. */
void kd_test_pth_open(kd_test_pth *p, const char *key);
void kd_test_pth_close(kd_test_pth *p);
/* A tensor of this shape whose elements all are `value`. */
void kd_test_pth_put(kd_test_pth *p, const char *name, int rank, const int64_t *dims, float value);
/* In a zip archive: a number of batches, which is an int64 scalar. They all have the last value. */
void kd_test_pth_put_count(kd_test_pth *p, const char *name, int64_t value);
/* Write it, and free the memory. */
void kd_test_pth_end(kd_test_pth *p, const char *path);

#endif

/* pth.h - writes files as PyTorch did before 1.6, with tensors of one value each, so that a file of a
 * whole network is small. */
#ifndef KD_TEST_PTH_H
#define KD_TEST_PTH_H
#include <stddef.h>
#include <stdint.h>

typedef struct kd_test_pth {
    unsigned char *bytes;
    size_t         size, room;
    float          value[16]; /* of the storage */
    int            values;
} kd_test_pth;

/* Begin a file with its outermost dictionary. */
void kd_test_pth_begin(kd_test_pth *p);
/* A dictionary within the one that is open; and its end. */
void kd_test_pth_open(kd_test_pth *p, const char *key);
void kd_test_pth_close(kd_test_pth *p);
/* A tensor of this shape whose elements all are `value`. */
void kd_test_pth_put(kd_test_pth *p, const char *name, int rank, const int64_t *dims, float value);
/* Write it, and free the memory. */
void kd_test_pth_end(kd_test_pth *p, const char *path);

#endif

/* cuda.h - the inside of the CUDA plug-in: the device, error reports, and what a kernel is. The plug-in includes
 * kdas/backend.h and nothing else of libkdas, and links to none of it. */
#ifndef KD_CUDA_H
#define KD_CUDA_H
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <kdas/backend.h>
#include <stdbool.h>
#ifdef KD_CUDNN
#include <cudnn.h>
#endif

#define KD_MIN(a, b)    ((a) < (b) ? (a) : (b))
#define KD_MAX(a, b)    ((a) > (b) ? (a) : (b))
#define KD_COUNT(array) (sizeof(array) / sizeof(array)[0])
#define KD_CEIL(a, b)   (((a) + (b)-1) / (b))
#define KD_ALIGN_UP(n)  (((n) + KDAS_ALIGNMENT - 1) & ~(size_t)(KDAS_ALIGNMENT - 1))
#define KD_RETURN(call)                         \
    do {                                        \
        kdas_status status_ = (call);           \
        if (status_ != KDAS_OK) return status_; \
    } while (0)

KDAS_BEGIN

/* ---- Kernels ------------------------------------------------------------------------------------- */

/* One op for one type of activations; members as in kdas_kernel, NULL: nothing to do. */
typedef struct kd_cuda_kernel {
    kdas_status (*prepare)(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan);
    void (*release)(kdas_device *device, void *state);
    kdas_status (*pack)(kdas_device *device, const kdas_call *call);
    kdas_status (*forward)(kdas_device *device, const kdas_call *call);
    kdas_status (*backward)(kdas_device *device, const kdas_call *call);
} kd_cuda_kernel;

/* table.c: all kernels. */
extern const kdas_kernel kd_cuda_kernels[];

/* ---- The device ------------------------------------------------------------------------------------ */

#define KD_CUDA_SUMS 1024

struct kdas_device {
    kdas_host      host;
    int            index, major, minor, processors; /* of the card */
    bool           deterministic, tf32;
    cudaStream_t   stream;   /* kernels and copies, in order   */
    cudaStream_t   ahead;    /* uploads that overlap with them */
    cudaEvent_t    computed; /* uploads ahead wait for it      */
    cublasHandle_t blas;
    void          *blas_work;
    double        *sums; /* KD_CUDA_SUMS of them: scratch of SUM_SQUARES, which has no plan */
#ifdef KD_CUDNN
    cudnnHandle_t dnn;
#endif
    char       *small; /* pinned memory through which small uploads go, a ring */
    size_t      small_at;
    const char *op;   /* what runs, for error texts: the name of an op or a call                  */
    kdas_status lost; /* not KDAS_OK: the card has failed for good; every later call returns this */
    char        name[64];
};

/* device.c */
int         kd_cuda_probe(int32_t index, char *why, size_t size);
kdas_status kd_cuda_open(kdas_device **out, const kdas_host *host,
                         const kdas_device_options *options);
void        kd_cuda_close(kdas_device *device);
void        kd_cuda_describe(kdas_device *device, char *text, size_t size);
int         kd_cuda_has_tf32(kdas_device *device);
void        kd_cuda_enter(kdas_device *device); /* makes its card current in the thread */

/* memory.c */
void       *kd_cuda_alloc(kdas_device *device, size_t bytes);
void        kd_cuda_free(kdas_device *device, void *memory);
kdas_status kd_cuda_upload(kdas_device *device, void *to, const void *from_host, size_t bytes);
kdas_status kd_cuda_download(kdas_device *device, void *to_host, const void *from, size_t bytes);
kdas_status kd_cuda_zero(kdas_device *device, void *memory, size_t bytes);
kdas_status kd_cuda_sync(kdas_device *device);
kdas_status kd_cuda_memory(kdas_device *device, size_t *available, size_t *total);
void       *kd_cuda_host_alloc(kdas_device *device, size_t bytes);
void        kd_cuda_host_free(kdas_device *device, void *memory);
kdas_status kd_cuda_upload_async(kdas_device *device, void *to, const void *from, size_t bytes);
kdas_status kd_cuda_upload_wait(kdas_device *device);

/* capture.c: a run as a CUDA graph. */
kdas_status kd_cuda_capture_begin(kdas_device *device);
kdas_status kd_cuda_capture_end(kdas_device *device, void **graph);
kdas_status kd_cuda_graph_launch(kdas_device *device, void *graph);
void        kd_cuda_graph_destroy(kdas_device *device, void *graph);

/* ---- Errors: error.c -------------------------------------------------------------------------------- */

/* KDAS_OK, or a status for the error and a sentence: "cuda:0: gelu: an illegal memory access was encountered". `what` may be
 * NULL. An error after which the card no longer answers is kept in device->lost. */
kdas_status kd_cuda_check(kdas_device *device, cudaError_t error, const char *what);
kdas_status kd_cuda_check_blas(kdas_device *device, cublasStatus_t status, const char *what);
#ifdef KD_CUDNN
kdas_status kd_cuda_check_dnn(kdas_device *device, cudnnStatus_t status, const char *what);
#endif
/* After a launch. */
kdas_status kd_cuda_launched(kdas_device *device, const char *kernel);

/* ---- Launching ----------------------------------------------------------------------------------- */

#define KD_BLOCK 256 /* threads of a block, unless a kernel says otherwise */

/* Blocks for n elements of a loop over EACH(): enough to fill the card, no more. */
unsigned kd_cuda_grid(const kdas_device *device, int64_t n);

/* ---- Matrix products: blas.c ----------------------------------------------------------------------- */

/* C = alpha op(A) op(B) + beta C, all row-major: C is m x n; A is m x k, or k x m where transposed; B is k x n, or
 * n x k. `lda` ...: elements from one row to the next. `batch` of them, `step_a` ... elements apart; 0 is taken
 * as 1. Sums are in f32. With beta 0, C is not read. */
typedef struct kd_cuda_product {
    int64_t     m, n, k;
    const void *a, *b;
    void       *c;
    int64_t     lda, ldb, ldc;
    bool        transpose_a, transpose_b;
    kdas_dtype  type; /* of A and B */
    kdas_dtype  type_c;
    float       alpha, beta;
    int64_t     batch, step_a, step_b, step_c;
    bool        exact; /* f32 without TF32, whatever was asked for */
} kd_cuda_product;
kdas_status kd_cuda_multiply(kdas_device *device, const kd_cuda_product *p);

/* ---- Sums down columns: op/columns.cu --------------------------------------------------------------- */

/* Gradients of biases and norms. The rows of a matrix are cut into parts; each is summed into a row of `parts`, and these are
 * added up in order: the same bits every time. */
int64_t kd_cuda_parts(int64_t rows);     /* number of parts                         */
int64_t kd_cuda_part_rows(int64_t rows); /* rows of a part; the last may be shorter */
size_t  kd_cuda_parts_bytes(int64_t rows, int64_t columns); /* of parts, for one matrix */
/* out[c] += the sum of parts[p][c] over p. */
kdas_status kd_cuda_add_parts(kdas_device *device, float *out, const float *parts, int64_t count,
                              int64_t columns);
/* out[c] += the sum of x[r][c] over r. `parts`: kd_cuda_parts_bytes(rows, columns). */
kdas_status kd_cuda_add_columns_f32(kdas_device *device, float *out, const void *x, int64_t rows,
                                    int64_t columns, float *parts);
kdas_status kd_cuda_add_columns_f16(kdas_device *device, float *out, const void *x, int64_t rows,
                                    int64_t columns, float *parts);
kdas_status kd_cuda_add_columns_bf16(kdas_device *device, float *out, const void *x, int64_t rows,
                                     int64_t columns, float *parts);

KDAS_END
#endif

/* columns.cu - column sums of a matrix, the same bits every time: see cuda.h. */
#include "backend/cuda/kernel.h"

/* parts[p][c] = the sum over part p of x[r][c]. A block has 32 columns by 8 rows: the lanes of a warp read neighbouring
 * columns (coalesced). */
KERNEL(columns_parts)
(const elem *x, float *parts, int64_t rows, int64_t columns, int64_t part_rows)
{
    __shared__ float sums[8][33];
    int64_t          c     = (int64_t)blockIdx.x * 32 + threadIdx.x % 32;
    int64_t          first = (int64_t)blockIdx.y * part_rows;
    int64_t          end   = first + part_rows < rows ? first + part_rows : rows;
    int              lane = threadIdx.x % 32, row = threadIdx.x / 32;
    float            sum = 0;

    for (int64_t r = first + row; c < columns && r < end; r += 8)
        sum += num(x[r * columns + c]);
    sums[row][lane] = sum;
    __syncthreads();
    if (row > 0 || c >= columns) return;
    for (int i = 1; i < 8; i++)
        sum += sums[i][lane];
    parts[blockIdx.y * columns + c] = sum;
}

#if !defined KD_TYPE_f16 && !defined KD_TYPE_bf16
/* Eight threads for a column: one alone would wait for the latency of memory once for each part. */
KERNEL(columns_add)(float *out, const float *parts, int64_t count, int64_t columns)
{
    __shared__ float sums[8][33];
    int64_t          c    = (int64_t)blockIdx.x * 32 + threadIdx.x % 32;
    int              lane = threadIdx.x % 32, row = threadIdx.x / 32;
    float            sum = 0;

    for (int64_t p = row; c < columns && p < count; p += 8)
        sum += parts[p * columns + c];
    sums[row][lane] = sum;
    __syncthreads();
    if (row > 0 || c >= columns) return;
    for (int i = 1; i < 8; i++)
        sum += sums[i][lane];
    out[c] += sum;
}
#endif

#ifdef KD_HOST

extern "C" kdas_status KD_TYPED(kd_cuda_add_columns)(kdas_device *device, float *out, const void *x,
                                                     int64_t rows, int64_t columns, float *parts)
{
    int64_t count = kd_cuda_parts(rows);

    KD_RETURN(LAUNCH(device, columns_parts, dim3((unsigned)KD_CEIL(columns, 32), (unsigned)count),
                     KD_BLOCK, (const elem *)x, parts, rows, columns, kd_cuda_part_rows(rows)));
    return kd_cuda_add_parts(device, out, parts, count, columns);
}

#if !defined KD_TYPE_f16 && !defined KD_TYPE_bf16
extern "C" {
extern const void *const kd_cuda_sample_kernel;
const void *const        kd_cuda_sample_kernel = (const void *)KD_TYPED(columns_add);
}

/* Enough parts to occupy every multiprocessor of a large card, of at least 64 rows each. */
int64_t kd_cuda_part_rows(int64_t rows) { return KD_MAX((int64_t)64, KD_CEIL(rows, (int64_t)256)); }

int64_t kd_cuda_parts(int64_t rows) { return KD_CEIL(rows, kd_cuda_part_rows(rows)); }

size_t kd_cuda_parts_bytes(int64_t rows, int64_t columns)
{
    return (size_t)(kd_cuda_parts(rows) * columns) * sizeof(float);
}

kdas_status kd_cuda_add_parts(kdas_device *device, float *out, const float *parts, int64_t count,
                              int64_t columns)
{
    if (columns == 0) return KDAS_OK;
    return LAUNCH(device, columns_add, (unsigned)KD_CEIL(columns, 32), KD_BLOCK, out, parts, count,
                  columns);
}
#endif

#endif

/* loss_boundary.cu - BOUNDARY: 1 + gain |box(y) - y|, box the window x window mean with zeros outside; y and out (N,H,W,C).
 *
 * First down the columns: a thread has a strip of one column and a running sum, which one row enters and one row leaves; each
 * strip starts its own. Then along the rows, from shared memory, which holds a pixel's neighbours. */
#include "backend/cuda/kernel.h"

#define STRIP 16       /* rows of a thread                         */
#define REACH KD_BLOCK /* elements on either side in shared memory */

/* sums[n,r,i] = the sum over rows r-half .. r+half of y[n,.,i], i of `row` = W C elements. Thread t has column t % row of strip
 * t / row; strips of all images in order. */
KERNEL(boundary_down)
(const float *y, float *sums, int64_t rows, int64_t row, int64_t strips, int64_t half, int64_t n)
{
    EACH(t, n)
    {
        int64_t      strip = t / row, image = strip / strips * rows * row + t % row;
        int64_t      first = strip % strips * STRIP;
        int64_t      end   = first + STRIP < rows ? first + STRIP : rows;
        int64_t      low   = first - half > 0 ? first - half : 0;
        int64_t      high  = first + half < rows ? first + half : rows;
        const float *from  = y + image;
        float       *to = sums + image, sum = 0;

        for (int64_t r = low; r < high; r++)
            sum += from[r * row];
        for (int64_t r = first; r < end; r++) {
            if (r + half < rows) sum += from[(r + half) * row];
            to[r * row] = sum;
            if (r >= half) sum -= from[(r - half) * row];
        }
    }
}

/* out, from sums along the rows. A block has KD_BLOCK elements of a row. If half C elements on either side are more than
 * REACH, it reads global memory instead of shared memory. */
KERNEL(boundary_along)
(const float *y, const float *sums, float *out, int64_t row, int64_t C, int64_t half, float share,
 float gain, unsigned blocks)
{
    __shared__ float near_by[KD_BLOCK + 2 * REACH];
    int64_t          at    = (int64_t)(blockIdx.x / blocks) * row; /* the row's first element */
    int64_t          first = (int64_t)(blockIdx.x % blocks) * KD_BLOCK, i = first + threadIdx.x;
    float            sum = 0;

    if (half * C <= REACH) {
        int most = KD_BLOCK + 2 * (int)(half * C);

        for (int k = threadIdx.x; k < most; k += KD_BLOCK) {
            int64_t j = first - half * C + k;

            near_by[k] = j >= 0 && j < row ? sums[at + j] : 0.0f;
        }
        __syncthreads();
        for (int k = threadIdx.x; k <= (int)threadIdx.x + 2 * (int)(half * C); k += (int)C)
            sum += near_by[k];
    } else {
        int64_t back = i / C < half ? i / C : half; /* pixels before this one */
        int64_t j = i - back * C, end = i + half * C < row ? i + half * C : row - 1;

        for (; i < row && j <= end; j += C)
            sum += sums[at + j];
    }
    if (i < row) out[at + i] = 1.0f + gain * fabsf(sum * share - y[at + i]);
}

#ifdef KD_HOST

static kdas_status prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan)
{
    (void)device;
    plan->work_forward = (size_t)elements(&node->out) * sizeof(float);
    return KDAS_OK;
}

static kdas_status forward(kdas_device *device, const kdas_call *call)
{
    const kdas_boundary_attr *a    = (const kdas_boundary_attr *)call->node->attr;
    const int64_t            *dim  = call->node->out.dim;
    int64_t                   rows = dim[1], C = dim[3], row = dim[2] * C, half = a->window / 2;
    int64_t                   strips = KD_CEIL(rows, (int64_t)STRIP), n = dim[0] * strips * row;
    float                     share  = (float)(1 / ((double)a->window * a->window));
    unsigned                  blocks = (unsigned)KD_CEIL(row, (int64_t)KD_BLOCK);

    KD_RETURN(LAUNCH_EACH(device, boundary_down, n, (const float *)call->in[0], (float *)call->work,
                          rows, row, strips, half, n));
    return LAUNCH(device, boundary_along, blocks * (unsigned)(dim[0] * rows), KD_BLOCK,
                  (const float *)call->in[0], (const float *)call->work, (float *)call->out, row, C,
                  half, share, a->gain, blocks);
}

KD_OP(boundary, prepare, NULL, NULL, forward, NULL)

#endif

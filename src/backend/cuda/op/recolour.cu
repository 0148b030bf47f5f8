/* recolour.cu - RECOLOUR: the channels of an image in another order, each with a scale and an offset. It reads images, which are
 * f32 for every network. */
#include "backend/cuda/kernel.h"

/* y[c] = factor[c] x[source[c]] + offset[c] */
typedef struct colours {
    int   source[3];
    float factor[3], offset[3];
} colours;

KERNEL(recolour_forward)(const float *x, float *y, colours k, int64_t pixels)
{
    EACH(i, pixels)
    for (int c = 0; c < 3; c++)
        y[3 * i + c] = k.factor[c] * x[3 * i + k.source[c]] + k.offset[c];
}

/* An input may have several outputs, or none. */
KERNEL(recolour_backward)(const float *dy, float *dx, colours k, int add, int64_t pixels)
{
    EACH(i, pixels)
    for (int s = 0; s < 3; s++) {
        float sum = 0;

        for (int c = 0; c < 3; c++)
            if (k.source[c] == s) sum += k.factor[c] * dy[3 * i + c];
        accumulate(&dx[3 * i + s], sum, add);
    }
}

#ifdef KD_HOST

static colours colours_of(const kdas_call *call)
{
    const kdas_recolour_attr *a = (const kdas_recolour_attr *)call->node->attr;
    colours                   k;

    for (int c = 0; c < 3; c++) {
        k.source[c] = a->source[c];
        k.factor[c] = a->factor[c];
        k.offset[c] = a->offset[c];
    }
    return k;
}

static kdas_status recolour_forward(kdas_device *device, const kdas_call *call)
{
    int64_t pixels = rows_of(&call->node->out);

    return LAUNCH_EACH(device, recolour_forward, pixels, (const float *)call->in[0],
                       (float *)call->out, colours_of(call), pixels);
}

static kdas_status recolour_backward(kdas_device *device, const kdas_call *call)
{
    int64_t pixels = rows_of(&call->node->out);

    if (!call->din[0]) return KDAS_OK;
    return LAUNCH_EACH(device, recolour_backward, pixels, (const float *)call->dout,
                       (float *)call->din[0], colours_of(call), adds(call, 0), pixels);
}

KD_OP(recolour, NULL, NULL, NULL, recolour_forward, recolour_backward)

#endif

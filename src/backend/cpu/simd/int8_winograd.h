/* int8_winograd.h - what int8_winograd.c has for int8_conv2d.c, in copies that multiply words. */
#ifndef KD_INT8_WINOGRAD_H
#define KD_INT8_WINOGRAD_H
#include "backend/cpu/simd/simd.h"

/* The kernel of the nodes for which it pays: 3x3 filters with stride 1. */
extern const kd_cpu_kernel KD_SIMD(int8_winograd);
bool                       KD_SIMD(int8_winograd_applies)(const kdas_node_desc *node);

#endif

/* integer.h - the integer forms of CONV2D, DWCONV2D, LINEAR and MIX_FFN in plain C (kdas/backend.h,
 * "Integer nodes"). They are the definition: every other integer kernel has the same bits. */
#ifndef KD_INTEGER_H
#define KD_INTEGER_H
#include "op/op.h"

enum { KD_RANGE_X = 3, KD_RANGE_OUT = 4 };          /* inputs of CONV2D, DWCONV2D, LINEAR */
enum { KD_FFN_RANGES = 8, KD_FFN_RANGE_COUNT = 4 }; /* inputs of MIX_FFN */

/* Whether the node is in its integer form. */
bool kd_is_integer(const kdas_node_desc *node);
/* Part of infer(): checks the ranges, the types and `post`. */
kdas_status kd_integer_check(const kdas_node_desc *node);
/* A reference kernel's prepare(): scratch for the integer form, if the node has it. */
kdas_status kd_integer_prepare(kdas_device *device, const kdas_node_desc *node, kdas_plan *plan);

kdas_status kd_integer_conv2d(const kdas_call *call);
kdas_status kd_integer_dwconv2d(const kdas_call *call);
kdas_status kd_integer_linear(const kdas_call *call);
kdas_status kd_integer_mix_ffn(const kdas_call *call);

#endif

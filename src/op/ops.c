/* ops.c - the list of ops by number. A new op needs its line in ops.def and nothing here. */
#include <stdio.h>
#include "graph/op.h"

const kd_op *kd_op_find(int32_t number)
{
    switch (number) {
#define OP(number, NAME, name) \
    case number: return &kd_op_##name;
#define UPDATE(number, NAME, name)
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    default: return NULL;
    }
}

const kdas_kernel *kd_update_find(int32_t number)
{
    switch (number) {
#define OP(number, NAME, name)
#define UPDATE(number, NAME, name) \
    case number: return &kd_update_##name;
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    default: return NULL;
    }
}

const char *kd_op_name(int32_t number)
{
    switch (number) {
#define OP(number, NAME, name) \
    case number: return #name;
#define UPDATE(number, NAME, name) OP(number, NAME, name)
#include <kdas/ops.def>
#undef OP
#undef UPDATE
    default: return "?";
    }
}

/* pickle_inside.h - a pickle's values: pickle.c makes them, pickle_values.c answers questions. */
#ifndef KD_PICKLE_INSIDE_H
#define KD_PICKLE_INSIDE_H
#include "io/pickle.h"

typedef struct kd_pickle_value {
    uint8_t  kind;
    uint32_t first, last, count; /* cells */
    union {
        int64_t whole;
        double  real;
        struct {
            uint32_t at, length; /* of a text; of a global's module */
            uint32_t name_at, name_length;
        };
        struct {
            uint32_t callable, args, state;
        };
    };
} kd_pickle_value;

typedef struct kd_pickle_cell {
    uint32_t key, item, next;
} kd_pickle_cell;

struct kd_pickle {
    kdas_context    *ctx;
    const char      *bytes;
    kd_pickle_value *value;
    size_t           values, value_capacity;
    kd_pickle_cell  *cell;
    size_t           cells, cell_capacity;
    uint32_t         root;
};

#endif

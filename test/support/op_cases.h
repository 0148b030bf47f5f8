/* op_cases.h - the table of cases that every op, on every backend, is tested with. */
#ifndef KD_TEST_OP_CASES_H
#define KD_TEST_OP_CASES_H
#include <kdas/backend.h>
#include <stdbool.h>

/* How an operand is filled; u is uniform in [-1, 1). */
typedef enum kd_test_values {
    KD_VALUES_UNIFORM = 0, /* shift + scale u                                              */
    KD_VALUES_BINARY,      /* 0 or 1                                                        */
    KD_VALUES_APART,       /* at least scale / 4 from `shift`, at most scale: for a kink   */
    KD_VALUES_RANKS,       /* a permutation of multiples of scale: no two are close         */
    KD_VALUES_TIES,        /* 0, 0.5 or 1: many equal ones                                  */
    KD_VALUES_RANGE        /* two: shift - scale, shift + scale                             */
} kd_test_values;

typedef struct kd_test_operand {
    kdas_desc      desc;
    kd_test_values values;
    float          scale, shift;
    bool           param; /* a parameter: its gradient is always added into */
} kd_test_operand;

typedef union kd_test_attr {
    kdas_conv_attr        conv;
    kdas_norm_attr        norm;
    kdas_standardize_attr standardize;
    kdas_scale_attr       scale;
    kdas_slice_attr       slice;
    kdas_crop_attr        crop;
    kdas_resize_attr      resize;
    kdas_pool_attr        pool;
    kdas_attention_attr   attention;
    kdas_matmul_attr      matmul;
    kdas_drop_attr        drop;
    kdas_window_attr      window;
    kdas_leaky_attr       leaky;
    kdas_recolour_attr    recolour;
    kdas_overlap_attr     overlap;
    kdas_boundary_attr    boundary;
    kdas_kl_attr          kl;
    kdas_normalize_attr   normalize;
    kdas_cast_attr        cast;
    kdas_quantize_attr    quantize;
    kdas_inverted_attr    inverted;
    kdas_adamw_attr       adamw;
    kdas_sgd_attr         sgd;
    kdas_desc             dims; /* RESHAPE */
} kd_test_attr;

typedef struct kd_op_case {
    const char     *name; /* op and what is special, "conv2d 7x7 s4 p3 3>32" */
    int32_t         op;
    uint32_t        flags;  /* KDAS_NODE_*                                              */
    int32_t         post;   /* kdas_post                                                */
    uint32_t        wants;  /* bit i: the gradient of input i is compared               */
    uint32_t        state;  /* of an UPDATE kernel, bit i: it writes input i            */
    int             inputs; /* 0: as many as are present; more: absent ones are counted */
    kd_test_attr    attr;
    kd_test_operand in[KDAS_MAX_INPUTS];
    bool            twin;         /* input 1 is input 0: the same memory, one gradient     */
    bool            large;        /* takes the reference more than some milliseconds       */
    double          tolerance;    /* against the reference, of the largest value; 0: 1e-5  */
    float           step;         /* of finite differences; 0: 0.03; negative: kinks, none */
    double          fd_tolerance; /* of the input's largest gradient; 0: 2e-4              */
} kd_op_case;

extern const kd_op_case kd_op_cases[];
extern const int        kd_op_case_count;

static inline double kd_case_tolerance(const kd_op_case *c)
{
    return c->tolerance > 0 ? c->tolerance : 1e-5;
}

#endif

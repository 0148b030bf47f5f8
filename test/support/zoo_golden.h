/* zoo_golden.h - networks against the code of their publishers: the tensors of its state_dict, a
 * fill of tensors and images that it was run with, and figures of the outputs that it gave in
 * float64. All functions fail the running test where something does not fit. */
#ifndef KD_TEST_ZOO_GOLDEN_H
#define KD_TEST_ZOO_GOLDEN_H
#include <kdas/kdas.h>
#include <stdbool.h>

typedef struct kd_zoo_network {
    const char *name;
    int64_t     parameters; /* all that the state_dict has, idle ones too */
    double      bf16;       /* zoo.def explains it */
    int         shifted;    /* and this output; -1: none */
} kd_zoo_network;

extern const kd_zoo_network kd_zoo_networks[]; /* zoo.def; ends with a name that is NULL */

/* A tensor of the state_dict, in its order. */
typedef struct kd_zoo_key {
    char    name[96];
    int     rank;
    int64_t dim[4], count;
    char    kind; /* 'p' trained, 'i' idle, 'b' buffer, 'c' counter */
} kd_zoo_key;

/* All of a network, from malloc. */
kd_zoo_key *kd_zoo_read_keys(const char *network, int *count);

/* The figures of one output. The elements are floor(i n / 7) of the map in NCHW. */
enum { KD_ZOO_MEAN, KD_ZOO_STD, KD_ZOO_MIN, KD_ZOO_MAX, KD_ZOO_ELEMENT, KD_ZOO_FIGURES = 11 };
typedef struct kd_zoo_row {
    bool    train; /* with the batch's statistics */
    int64_t n, h, w;
    int     output;
    double  figure[KD_ZOO_FIGURES];
    double  f32; /* the largest error of the publishers' code in float32 */
} kd_zoo_row;

/* All rows of a network, from malloc. Rows of one forward are neighbours. */
kd_zoo_row *kd_zoo_read_rows(const char *network, int *count);

/* Give every tensor the values of the rule: a draw for each element, from the tensor's place in the
 * state_dict. */
void kd_zoo_fill(kdas_model *model);
/* A batch that becomes the rule's image in the colours of the network itself. */
kdas_batch *kd_zoo_batch(const kdas_model *model, int64_t n, int64_t h, int64_t w);
/* Compare an output of the last forward with its row. In f32, elements and extremes may be off by
 * 2e-4 of the range of the map, mean and deviation by half of it, as in golden_models.c; and by four
 * times the error of the publishers' own code in float32, which has other sums than this one. In
 * training it is eight times: the transform of 3x3 convolutions has twice the rounding error of a
 * sum, and batch norms over few pixels amplify it. In bf16, by the
 * share in zoo.def of the largest magnitude, deviation and most means by half of it. */
void kd_zoo_assert_row(const kdas_model *model, const kd_zoo_row *row);

/* Run the model for each group of rows, and compare its outputs with them. Without `train`: only
 * the rows of evaluation, in the mode `eval`. A row for each output there must be. */
void kd_zoo_compare(kdas_model *m, bool train, kdas_mode eval);

#endif

/* exchange.h - EXCHANGE nodes of a program: the moments of a batch norm over the images of all ranks.
 *
 * All ranks run the same exchanges in the same order. A rank whose program fails between two of them takes part in the
 * next one and says so there: then all ranks fail together, and none waits for one that has gone. */
#ifndef KD_EXCHANGE_H
#define KD_EXCHANGE_H
#include "graph/program_inside.h"

/* What a program keeps for its exchanges. */
struct kd_exchanges {
    double *sum;   /* of the ranks: a flag, then the numbers */
    float  *own;   /* copies of operands, where the host cannot read the device's memory */
    double *share; /* by node: the part of all values that is this rank's, in the last forward */
    bool    begun; /* the forward or backward has come to its nodes */
};

/* Memory for the EXCHANGE nodes of the program; none: nothing. */
kdas_status kd_exchanges_create(kd_program *p);
void        kd_exchanges_destroy(kd_program *p);

static inline bool kd_is_exchange(const kd_program *p, int i)
{
    return p->exchanges && p->graph->node[i]->kind == KD_NODE_OP &&
           p->graph->node[i]->op == &kd_op_exchange;
}

/* Run node i. `mine`: what this rank's nodes before have returned; its sentence is the thread's last. `*all`: every rank
 * has failed here, and the run ends; else a failure is this rank's alone, and the next exchange tells the others. */
kdas_status kd_exchange_forward(kd_program *p, int i, kdas_status mine, bool *all);
kdas_status kd_exchange_backward(kd_program *p, int i, const kdas_call *call, kdas_status mine,
                                 bool *all);

/* A forward or a backward that has failed with `mine` before its nodes: take part in its first exchange. */
kdas_status kd_exchange_decline(kd_program *p, bool backward, kdas_status mine);

#endif

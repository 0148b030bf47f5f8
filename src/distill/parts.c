/* parts.c - getters of the objects and options that a distiller was created with. */
#include "distill/distiller.h"

kdas_model *kdas_distiller_teacher(const kdas_distiller *d) { return d ? d->teacher : NULL; }
kdas_model *kdas_distiller_student(const kdas_distiller *d) { return d ? d->student : NULL; }
kdas_loss  *kdas_distiller_loss(const kdas_distiller *d) { return d ? d->loss : NULL; }
kdas_optim *kdas_distiller_optim(const kdas_distiller *d) { return d ? d->optim : NULL; }

kdas_status kdas_distiller_get_options(const kdas_distiller *d, kdas_distiller_options *options)
{
    if (!d) return kd_fail(KDAS_EINVAL, "kdas_distiller_get_options: the distiller is NULL");
    return kd_give_options(options, &d->options, sizeof d->options, "kdas_distiller_options");
}

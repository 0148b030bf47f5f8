/* common_context.c - the context that a program's options ask for. */
#include "common_context.h"
#include "common_say.h"

_Static_assert(KDAS_PRECISION_F32 == 0 && KDAS_PRECISION_BF16 == 1 &&
                   KDAS_PRECISION_BF16_IF_ABLE == 2,
               "--dtype's alternatives are kdas_precision, counted");

kdas_context_options context_options(const machine *m)
{
    kdas_context_options options;

    kdas_context_options_init(&options, sizeof options);
    if (m->device) options.device = m->device;
    options.isa       = m->isa;
    options.threads   = (int32_t)m->threads;
    options.precision = (int32_t)m->precision;
    options.log       = say_log;
    return options;
}

bool context_open(kdas_context **out, const machine *m)
{
    kdas_context_options options = context_options(m);

    return ok(kdas_context_create(out, &options));
}

const char *context_dtype(const kdas_context *context)
{
    return kdas_context_precision(context) == KDAS_PRECISION_BF16 ? "bf16" : "f32";
}

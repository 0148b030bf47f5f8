/* context.c - the context that a program's options ask for. */
#include "arguments/context.h"
#include "system/say.h"

/* The words of --dtype in their order. */
static const struct {
    const char    *word;
    kdas_precision precision;
} dtypes[] = {
    { "f32", KDAS_PRECISION_F32 },   { "bf16", KDAS_PRECISION_BF16 },
    { "f16", KDAS_PRECISION_F16 },   { "tf32", KDAS_PRECISION_TF32 },
    { "auto", KDAS_PRECISION_AUTO }, { "int8", KDAS_PRECISION_INT8 },
};

kdas_context_options context_options(const machine *m)
{
    kdas_context_options options;

    kdas_context_options_init(&options, sizeof options);
    if (m->device) options.device = m->device;
    options.isa         = m->isa;
    options.threads     = (int32_t)m->threads;
    options.precision   = (int32_t)dtypes[m->dtype].precision;
    options.log         = say_log;
    options.pin_threads = m->pin;
    options.wait        = (int32_t)m->wait;
    return options;
}

bool context_open(kdas_context **out, const machine *m)
{
    kdas_context_options options = context_options(m);

    return ok(kdas_context_create(out, &options));
}

const char *precision_word(kdas_precision precision)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (dtypes[i].precision == precision) return dtypes[i].word;
    return "?";
}

const char *context_dtype(const kdas_context *context)
{
    return precision_word(kdas_context_precision(context));
}

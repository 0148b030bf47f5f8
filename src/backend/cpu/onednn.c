/* onednn.c - the device's part of oneDNN: its engine, the instruction set that it may use, its version. */
#include <stdio.h>
#include "backend/cpu/onednn_api.h"

kdas_status kd_onednn_failed(const kdas_host *host, dnnl_status_t s, const char *what,
                             const char *whose)
{
    if (s == dnnl_out_of_memory)
        return host->fail(KDAS_ENOMEM, "cpu: no memory for oneDNN to %s%s", what, whose);
    return host->fail(KDAS_EBACKEND, "cpu: oneDNN could not %s%s (its status %d)", what, whose,
                      (int)s);
}

/* The limit holds for the process, and asking for it settles it. So the first device decides, and no later one takes
 * instructions away from a device that has been opened. */
static dnnl_cpu_isa_t limit_isa(const kdas_host *host, const char *isa)
{
    const dnnl_cpu_isa_t most = !strcmp(isa, "avx512") ? dnnl_cpu_isa_avx512_core_bf16
                                : !strcmp(isa, "avx2") ? dnnl_cpu_isa_avx2
                                                       : dnnl_cpu_isa_sse41;
    const bool           any  = !strcmp(isa, "amx");
    dnnl_status_t        s    = any ? dnnl_success : dnnl_set_max_cpu_isa(most);
    dnnl_cpu_isa_t       got  = dnnl_get_effective_cpu_isa();

    /* an instruction set is a bit mask that includes the sets below it */
    if (s != dnnl_success && got & ~most)
        host->log(host->user, KDAS_LOG_INFO,
                  "cpu: oneDNN was in use already and keeps its instruction set; own kernels obey");
    return got;
}

static bool includes(dnnl_cpu_isa_t isa, dnnl_cpu_isa_t part) { return (isa & part) == part; }

bool kd_onednn_has_bf16(const kd_onednn *dnn)
{
    return includes(dnn->isa, dnnl_cpu_isa_avx512_core_bf16);
}

const char *kd_onednn_isa(const kd_onednn *dnn)
{
    return includes(dnn->isa, dnnl_cpu_isa_avx512_core_amx)    ? "amx"
           : includes(dnn->isa, dnnl_cpu_isa_avx512_core_bf16) ? "avx512 with bf16"
           : includes(dnn->isa, dnnl_cpu_isa_avx512_core)      ? "avx512 without bf16"
           : includes(dnn->isa, dnnl_cpu_isa_avx2)             ? "avx2"
                                                               : "plain";
}

kdas_status kd_onednn_open(kd_onednn **out, const kdas_host *host, const char *isa, int threads)
{
    const size_t  bytes = sizeof(kd_onednn) + (size_t)threads * sizeof(dnnl_stream_t);
    kd_onednn    *dnn   = host->alloc(host->user, bytes);
    dnnl_status_t s;

    *out = NULL;
    if (!dnn) return host->fail(KDAS_ENOMEM, "cpu: no memory for oneDNN's engine");
    memset(dnn, 0, bytes);
    dnn->host    = *host;
    dnn->threads = threads;
    dnn->isa     = limit_isa(host, isa);
    s            = dnnl_engine_create(&dnn->engine, dnnl_cpu, 0);
    for (int i = 0; i < threads && !s; i++)
        s = dnnl_stream_create(&dnn->stream[i], dnn->engine, dnnl_stream_default_flags);
    if (s) {
        kd_onednn_close(dnn);
        return kd_onednn_failed(host, s, "start", "");
    }
    *out = dnn;
    return KDAS_OK;
}

void kd_onednn_close(kd_onednn *dnn)
{
    kdas_host host;

    if (!dnn) return;
    host = dnn->host;
    for (int i = 0; i < dnn->threads; i++)
        if (dnn->stream[i]) dnnl_stream_destroy(dnn->stream[i]);
    if (dnn->engine) dnnl_engine_destroy(dnn->engine);
    host.free(host.user, dnn);
}

void kd_onednn_version(char *text, size_t size)
{
    const dnnl_version_t *v = dnnl_version();

    snprintf(text, size, "%d.%d.%d", v->major, v->minor, v->patch);
}

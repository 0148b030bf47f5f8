/* device.c - opens the CPU device: chooses the best instruction set that the CPU has and the limit allows, and stores the
 * thread count, which threads.c applies.
 *
 * The limit is the option `isa` or the environment variable KDAS_CPU_ISA, whichever is lower. oneDNN has one limit for the
 * process, that of the first device opened in it. A context with a lower limit than an earlier one limits our own kernels
 * only, and logs that. Under a lower limit of an earlier one there is no bf16: oneDNN's convolutions would fail. The
 * device's text says what oneDNN uses, since the bits depend on it. */
#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/cpu/cpu.h"
#include "backend/cpu/onednn.h"

enum { PLAIN, AVX2, AVX512, AMX }; /* rising */
static const char *const isa_names[] = { "plain", "avx2", "avx512", "amx" };

/* For f32 kernels: AMX adds nothing to AVX-512. */
static int isa_of_cpu(void)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
        return PLAIN;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return AVX2;
    return AVX512;
}

/* Lower *level to what `name` allows; NULL and "" allow all. */
static kdas_status limit_isa(const kdas_host *host, int *level, const char *name,
                             const char *source)
{
    if (!name || !*name) return KDAS_OK;
    for (int i = 0; i < (int)KD_COUNT(isa_names); i++) {
        if (strcmp(name, isa_names[i])) continue;
        *level = KD_MIN(*level, i);
        return KDAS_OK;
    }
    return host->fail(KDAS_EINVAL, "cpu: %s is '%.32s', not amx, avx512, avx2 or plain", source,
                      name);
}

/* Kernels for bf16 activations need the bf16 products of AVX-512; on other CPUs they would be slower than f32. The kernels
 * on AMX tiles are used only after a trial (amx.c). */
static kdas_status choose_half(const kd_cpu_code **out, const kdas_host *host, int limit, int level)
{
    static kd_cpu_verdict verdict;

    *out = level == AVX512 && __builtin_cpu_supports("avx512bf16") ? &kd_code_bf16 : NULL;
    if (!*out || limit < AMX || !kd_cpu_has_tiles()) return KDAS_OK;
    return kd_cpu_trusted(out, host, &kd_cpu_trial_bf16, &verdict, &kd_code_amx, &kd_code_bf16);
}

/* Kernels of integers: with VNNI in its form for AVX-512, else AVX-VNNI's, else with words by AVX2. AMX tiles as above. */
static kdas_status choose_integers(const kd_cpu_code **out, const kdas_host *host, int limit,
                                   int level)
{
    static kd_cpu_verdict verdict;
    unsigned              a, b, c, d;

    *out = NULL;
    if (level == AVX512 && __builtin_cpu_supports("avx512vnni"))
        *out = &kd_code_vnni;
    else if (level >= AVX2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1))
        *out = &kd_code_avxvnni;
    else if (level >= AVX2)
        *out = &kd_code_avx2_int8;
    if (*out != &kd_code_vnni || limit < AMX || !kd_cpu_has_int8_tiles()) return KDAS_OK;
    return kd_cpu_trusted(out, host, &kd_cpu_trial_int8, &verdict, &kd_code_amx_int8,
                          &kd_code_vnni);
}

/* An output of this size is evicted from the caches of any machine before its reader comes. (The size that the system reports
 * for the last-level cache is not reliable.) */
enum { LARGE = 16 << 20 };

static const kd_cpu_code *code_for(int level)
{
    return level == AVX512 ? &kd_code_avx512 : level == AVX2 ? &kd_code_avx2 : &kd_code_plain;
}

kdas_status kd_cpu_open(kdas_device **out, const kdas_host *host,
                        const kdas_device_options *options)
{
    kdas_device       *device;
    kdas_status        st;
    int                limit = AMX, level;
    const kd_cpu_code *half, *integer;

    *out = NULL;
    KD_RETURN(limit_isa(host, &limit, options->isa, "isa"));
    KD_RETURN(limit_isa(host, &limit, getenv("KDAS_CPU_ISA"), "KDAS_CPU_ISA"));
    level = KD_MIN(limit, isa_of_cpu());
    KD_RETURN(choose_half(&half, host, limit, level));
    KD_RETURN(choose_integers(&integer, host, limit, level));
    device = host->alloc(host->user, sizeof *device);
    if (!device) return host->fail(KDAS_ENOMEM, "cpu: no memory for the device");
    *device = (kdas_device){ .host    = *host,
                             .threads = KD_MAX(options->threads, 1),
                             .isa     = isa_names[level],
                             .code    = code_for(level),
                             .half    = half,
                             .integer = integer,
                             .large   = LARGE };
    st      = kd_onednn_open(&device->onednn, host, isa_names[limit], device->threads);
    if (st != KDAS_OK) {
        kd_cpu_close(device);
        return st;
    }
    device->held = half && !kd_onednn_has_bf16(device->onednn);
    if (device->held) device->half = NULL;
    *out = device;
    return KDAS_OK;
}

void kd_cpu_close(kdas_device *device)
{
    kdas_host host;

    if (!device) return;
    host = device->host;
    kd_onednn_close(device->onednn);
    host.free(host.user, device);
}

/* The processor's own name, or "x86-64". */
static void cpu_name(char name[49])
{
    unsigned int part[12];

    strcpy(name, "x86-64");
    for (unsigned int i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &part[4 * i], &part[4 * i + 1], &part[4 * i + 2],
                         &part[4 * i + 3]))
            return;
    memcpy(name, part, 48);
    name[48] = 0;
    for (size_t n = strlen(name); n > 0 && name[n - 1] == ' '; n--)
        name[n - 1] = 0;
}

static const char *text_of_integers(const kd_cpu_code *code)
{
    if (!code) return "";
    return code == &kd_code_avx2_int8 ? " + int8" : " + vnni";
}

void kd_cpu_describe(kdas_device *device, char *text, size_t size)
{
    char name[49], onednn[32], openblas[32];

    cpu_name(name);
    kd_onednn_version(onednn, sizeof onednn);
    kd_openblas_version(openblas, sizeof openblas);
    snprintf(text, size, "cpu: %s, %s%s%s%s%s, %d thread%s, oneDNN %s%s%s, %s", name, device->isa,
             device->half ? " + bf16" : "", device->half == &kd_code_amx ? " + amx" : "",
             text_of_integers(device->integer),
             device->integer == &kd_code_amx_int8 ? " + amx-int8" : "", device->threads,
             device->threads == 1 ? "" : "s", onednn,
             device->held ? " held in this process to " : " at ", kd_onednn_isa(device->onednn),
             openblas);
}

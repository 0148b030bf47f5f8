/* emulator.h - what a test may ask of the host emulation of CUDA, beside CUDA's own functions. A test that loads
 * the plug-in finds them with dlsym().
 *
 * Settings are environment variables, read when they matter:
 *   KDAS_EMULATOR_DEVICES  devices, 0 to 8; default 2
 *   KDAS_EMULATOR_CC       compute capability; default 8.0. Below 7.0 no kernel has code for it.
 *   KDAS_EMULATOR_MEMORY   bytes of each device; default 4 GiB
 *   KDAS_EMULATOR_DRIVER   0: there is no driver
 *   KDAS_EMULATOR_ORDER    of blocks, and of threads between two barriers: forward (default), backward, or
 *                          a number, the seed of a mixed one
 *   KDAS_EMULATOR_FAIL     n: the n-th kernel or library call from now on loses its device
 *   KDAS_EMULATOR_LOCK     0: the host can touch device memory between two runs of kernels
 *   KDAS_EMULATOR_CAPTURE  0: no stream can be captured; end, instantiate: captures begin, and that call fails */
#ifndef KD_EMULATOR_H
#define KD_EMULATOR_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
#define KD_EMULATOR_API __attribute__((visibility("default")))

/* Set a setting over the environment: name as above after KDAS_EMULATOR_; NULL: the environment's again. */
KD_EMULATOR_API void kd_emulator_set(const char *name, const char *value);
/* The last thing that went wrong, in a sentence; "" if nothing has. */
KD_EMULATOR_API const char *kd_emulator_message(void);
/* What lives: bytes of device memory over all devices, and the number of each. */
KD_EMULATOR_API size_t kd_emulator_used_bytes(void);
KD_EMULATOR_API int    kd_emulator_streams(void);
KD_EMULATOR_API int    kd_emulator_events(void);
KD_EMULATOR_API int    kd_emulator_graphs(void); /* instances, too */
KD_EMULATOR_API int    kd_emulator_host_blocks(void);
KD_EMULATOR_API int kd_emulator_handles(void); /* cuBLAS handles; cuDNN handles and descriptors */
/* Since the process began: kernels and library calls run, allocations of device memory made. */
KD_EMULATOR_API size_t kd_emulator_launches(void);
KD_EMULATOR_API size_t kd_emulator_allocations(void);

#ifdef __cplusplus
}
#endif
#endif

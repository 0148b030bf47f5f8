/* crc.h - CRC-32 (the polynomial of zip and PNG): tells damage from content. */
#ifndef KD_CRC_H
#define KD_CRC_H
#include <stddef.h>
#include <stdint.h>

/* Continue `crc` (0 at first) over n bytes. */
uint32_t kd_crc32(uint32_t crc, const void *data, size_t n);

#endif

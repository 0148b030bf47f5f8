/* map_util.h - a teacher's maps for tests: files of them, and what the loader makes of them. */
#ifndef KD_TEST_MAP_UTIL_H
#define KD_TEST_MAP_UTIL_H
#include <kdas/data.h>

/* A test's fixture: as kd_test_data_start(), with the folders "maps" and "more". */
void   kd_test_maps_start(void);
double kd_test_probability(float logit);
/* Write a grey file of 8-bit samples v(i) = (i * step + first) % 256. */
void kd_test_write_map(const char *name, int64_t width, int64_t height, int step, int first);
/* The map of frame i at width x height, as logits. */
void kd_test_map_of(float *out, kdas_dataset *dataset, int64_t i, int64_t width, int64_t height);
/* A folder of one frame "a", 40 x 32, without a map. */
kdas_dataset *kd_test_one_frame(void);

#endif

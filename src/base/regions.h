/* regions.h - OpenMP's parallel regions of the file that includes it run on the team that kd_team_use() named, not on
 * OpenMP's threads. GCC turns a region into a function and calls for it GOMP_parallel() of libgomp, and for the number of
 * the thread the two other functions. The assembler gives these three names of the library's own. The libgomp of the host and
 * of other libraries is not touched. Only `parallel` and `parallel for schedule(static)` may be used: other constructs call
 * other functions, and check_regions.sh fails. Clang with -fopenmp=libgomp ignores the pragmas: one thread does all.
 * Link-time optimisation would separate the names from the calls; the Makefile switches it off for these files. */
#ifndef KD_REGIONS_H
#define KD_REGIONS_H

#ifdef _OPENMP
__asm__(".set GOMP_parallel, kd_region\n"
        ".set omp_get_thread_num, kd_region_part\n"
        ".set omp_get_num_threads, kd_region_parts\n");
#endif

#endif

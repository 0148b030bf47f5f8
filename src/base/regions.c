/* regions.c - what regions.h puts in the place of libgomp's functions. */
#include "base/team.h"

/* The names are the assembler's, so no header declares the functions. */
void kd_region(void (*body)(void *data), void *data, unsigned threads, unsigned flags);
int  kd_region_part(void);
int  kd_region_parts(void);

typedef struct region {
    void (*body)(void *data);
    void *data;
    int   parts;
} region;

static _Thread_local struct {
    int part, parts; /* of the region that the thread runs; parts 0: none */
} here;

int kd_region_part(void) { return here.part; }
int kd_region_parts(void) { return here.parts ? here.parts : 1; }

static void run_part(void *job, int part)
{
    const region *r     = job;
    const int     outer = here.part, outer_parts = here.parts;

    here.part  = part;
    here.parts = r->parts;
    r->body(r->data);
    here.part  = outer;
    here.parts = outer_parts;
}

/* `threads`: that of num_threads(), 1 where an if() says no, 0 otherwise. */
void kd_region(void (*body)(void *data), void *data, unsigned threads, unsigned flags)
{
    const int parts = threads ? (int)threads : kd_team_parts();
    region    r     = { body, data, parts };

    (void)flags;
    kd_team_do(parts, run_part, &r);
}

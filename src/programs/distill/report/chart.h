/* chart.h - line charts as inline SVG; the page that holds them gives the colours. */
#ifndef PROGRAMS_CHART_H
#define PROGRAMS_CHART_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { CHART_SERIES = 20 };

/* Points in the order of x. Colours are the page's classes c0, c1, ... */
typedef struct series {
    const char *name;
    int         colour;
    int64_t     count;
    double     *x, *y;
} series;

typedef struct chart {
    const char *title;
    const char *x_label;
    double      x_end;  /* the axis runs from 0 to here                                 */
    bool        log_y;  /* decades; values that are not positive are left out           */
    bool        smooth; /* draw a moving mean; a lone series keeps its points as a haze */
    bool        dots;   /* mark every point, and the largest one with its value         */
    series      lines[CHART_SERIES];
    int         count;
} chart;

/* Write <figure>...</figure>; nothing where no line has a point. */
void chart_write(FILE *file, const chart *c);
#endif

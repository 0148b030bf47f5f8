/* page.h - what stands in kdas-distill's report.html, from top to bottom. */
#ifndef PROGRAMS_PAGE_H
#define PROGRAMS_PAGE_H
#include "distill/report/gallery.h"

/* Write the page, and the pictures in overlays/ that stand in it. False after a sentence or a cancel. */
bool page_write(const work *w, const cast *c);
#endif

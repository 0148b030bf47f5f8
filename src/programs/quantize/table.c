/* table.c - see table.h. */
#include "quantize/table.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "system/csv.h"
#include "system/output.h"
#include "system/say.h"

static bool layer_at(const kdas_calibrator *c, int32_t i, kdas_calibrated_layer *layer)
{
    *layer = (kdas_calibrated_layer){ .size = sizeof *layer };
    return ok(kdas_calibrator_layer(c, i, layer));
}

/* "  1.23%", or a dash for what was not measured. */
static void print_share(double value, int digits)
{
    if (isnan(value))
        printf(" %8s", "-");
    else
        printf(" %7.*f%%", digits, 100 * value);
}

static void print_whole(const kdas_calibrator *c)
{
    double all = NAN, with_wide = NAN;

    if (!ok(kdas_calibrator_error(c, &all, &with_wide)) || isnan(all)) return;
    printf("error of the network's answer with all of them rounded: %.2f%%", 100 * all);
    if (with_wide != all) printf("; without the wide ones: %.2f%%", 100 * with_wide);
    printf("\n");
}

void table_print(const kdas_calibrator *c, double wide_error)
{
    kdas_calibrated_layer l;

    printf("%-42s %10s %10s %8s %8s %8s %8s\n", "layer", "low", "high", "cut off", "input",
           "weights", "output");
    for (int32_t i = 0; i < kdas_calibrator_layers(c) && layer_at(c, i, &l); i++) {
        printf("%-42s %10.4g %10.4g", l.name, (double)l.low, (double)l.high);
        print_share(l.clipped, 3);
        print_share(l.input_error, 2);
        print_share(l.weight_error, 2);
        print_share(l.output_error, 2);
        if (l.wide) printf("  wide: above %.4g%%", 100 * wide_error);
        if (strcmp(l.grid, l.name) != 0) printf("  range of %s", l.grid);
        printf("\n");
    }
    print_whole(c);
    fflush(stdout);
}

bool table_write(const kdas_calibrator *c, const char *path)
{
    kdas_calibrated_layer l;
    output                to;

    if (!output_open(&to, path)) return false;
    fputs("layer,grid,low,high,clipped,input_error,weight_error,output_error,wide\n", to.file);
    for (int32_t i = 0; i < kdas_calibrator_layers(c) && layer_at(c, i, &l); i++) {
        csv_text(to.file, l.name);
        fputc(',', to.file);
        csv_text(to.file, l.grid);
        fprintf(to.file, ",%.9g,%.9g,%.17g,%.17g,%.17g,%.17g,%d\n", (double)l.low, (double)l.high,
                l.clipped, l.input_error, l.weight_error, l.output_error, l.wide);
    }
    return output_close(&to);
}

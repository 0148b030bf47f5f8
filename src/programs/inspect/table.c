/* table.c - see table.h. The paper's cells are those of arXiv 2312.08555, Tables 1 and 2. It does
 * not say how it counts: `size` is the one at which a counter gives its number, or its authors'. */
#include "inspect/table.h"
#include <stdio.h>
#include <string.h>
#include "arguments/args.h"
#include "system/say.h"

enum { NOTHING, UNET, UNETPP, PEFNET, CPS, COLONSEGNET, TRANSNETR, MMFIL, KDAS };

static const char *const notes[] = {
    [UNET] =
        "7.6 is near 7.76 M, the Keras U-Net of UNet++'s authors, and may be a slip. The network\n"
        "    here is a PyTorch one of the same structure.",
    [UNETPP] = "9.0 is the Keras UNet++, 9.04 M; the network here is the PyTorch one.",
    [PEFNET] = "No release of PEFNet has 28.0 M parameters; the released network is the one here.",
    [CPS]    = "HarDNet-CPS has no public code, and the paper leaves its cells empty: a row of "
               "literature.\n"
               "    hardnet_mseg is the open network of that family.",
    [COLONSEGNET] =
        "6.22 is 62.16 with its point misplaced: thop at 256 x 256 gives 62.16. thop counts\n"
        "    transposed convolutions stride^2 times too often; true are the GMACs beside it.",
    [TRANSNETR] =
        "thop at 256 x 256, the only size that TransNetR takes. 14.96 M of its parameters are a\n"
        "    stage that never runs.",
    [MMFIL] = "MMFIL-Net has no public code: both numbers are those of its own abstract, 6.68 M "
              "and 4.32 G.",
    [KDAS] =
        "2.01 is thop at 384 x 384. All of KDAS's code runs at 352 x 352, where thop gives 1.690,\n"
        "    fvcore 1.923 and the GMACs are 1.904.",
};

static const struct row {
    const char *name, *network;    /* NULL: no public code */
    double      parameters, flops; /* in M and G as printed; 0: no cell */
    int64_t     size;
    int         note;
} rows[] = {
    { "U-Net", "unet", 7.6, 0, 352, UNET },
    { "UNet++", "unetpp", 9.0, 0, 352, UNETPP },
    { "PraNet", "pranet", 32.6, 0, 352, NOTHING },
    { "MSNet", "msnet", 29.7, 0, 352, NOTHING },
    { "PEFNet", "pefnet", 28.0, 0, 256, PEFNET },
    { "HarDNet-CPS", NULL, 0, 0, 0, CPS },
    { "ColonSegNet", "colonsegnet", 5.0, 6.22, 256, COLONSEGNET },
    { "TransNetR", "transnetr", 27.3, 10.09, 256, TRANSNETR },
    { "MMFIL-Net", NULL, 6.7, 4.32, 0, MMFIL },
    { "KDAS", "polyp_pvt_b0", 3.7, 2.01, 384, KDAS },
};

typedef struct cost {
    int64_t parameters;
    double  rule[3];
} cost;

static bool is_known(const char *network)
{
    const char *name;

    for (int32_t i = 0; network && (name = kdas_model_name(i)); i++)
        if (!strcmp(name, network)) return true;
    return false;
}

static bool find_cost(cost *to, kdas_context *context, const struct row *r, int64_t size)
{
    static const kdas_count_rule rules[] = { KDAS_COUNT_MACS, KDAS_COUNT_THOP, KDAS_COUNT_FVCORE };

    for (int k = 0; k < COUNT(rules); k++)
        if (!ok(kdas_model_cost(context, r->network, size, size, rules[k], &to->parameters,
                                &to->rule[k])))
            return false;
    return true;
}

/* A number, or "-" where there is none. */
static void put_cell(int width, int digits, double value)
{
    if (value > 0)
        printf(" %*.*f", width, digits, value);
    else
        printf(" %*s", width, "-");
}

static bool print_row(kdas_context *context, const struct row *r)
{
    kdas_network network  = { .size = sizeof network };
    bool         known    = is_known(r->network);
    cost         c        = { 0 };
    char         size[32] = "-";

    if (known) {
        int64_t side;

        if (!ok(kdas_network_describe(r->network, &network))) return false;
        side = network.fixed ? network.height : r->size;
        if (!find_cost(&c, context, r, side)) return false;
        snprintf(size, sizeof size, "%lldx%lld", (long long)side, (long long)side);
    }
    printf("%-12s %-14s %-8s", r->name, known ? r->network : r->network ? "not here" : "-", size);
    put_cell(9, 2, (double)c.parameters / 1e6);
    put_cell(6, 1, r->parameters);
    for (int k = 0; k < COUNT(c.rule); k++)
        put_cell(9, 3, c.rule[k] / 1e9);
    put_cell(7, 2, r->flops);
    if (r->note) printf("   (%d)", r->note);
    putchar('\n');
    return true;
}

bool table_print(kdas_context *context)
{
    printf("%-12s %-14s %-8s %9s %6s %9s %9s %9s %7s\n", "paper's row", "network", "size",
           "params M", "paper", "GMACs", "thop G", "fvcore G", "paper");
    for (int i = 0; i < COUNT(rows); i++)
        if (!print_row(context, &rows[i])) return false;
    puts("\nRows and cells called \"paper\": arXiv 2312.08555, Tables 1 and 2. The paper names "
         "neither its\ncounter nor a size; each row has the size at which a counter gives its "
         "number, or else\nthat of its authors.");
    for (int i = 1; i < COUNT(notes); i++)
        printf("(%d) %s\n", i, notes[i]);
    return true;
}

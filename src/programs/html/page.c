/* page.c - pages of HTML, written from the top down. */
#include "html/page.h"
#include <stdlib.h>
#include <string.h>
#include "system/files.h"
#include "system/say.h"

/* Colours c0 .. c5 of the curves agree with those of the pictures: teacher blue, student orange. */
static const char style[] =
    ":root{color-scheme:light "
    "dark;--page:#f7f8fa;--card:#fff;--ink:#1c2330;--soft:#5d6778;--line:#dfe3ea;"
    "--good:#e8f1ea;--c0:#2779b5;--c1:#d9730d;--c2:#3a8f5c;--c3:#9c4a97;--c4:#7a7f89;--c5:#a88400}"
    "\n"
    "@media(prefers-color-scheme:dark){:root{--page:#12151b;--card:#1a1e26;--ink:#e4e8ef;--soft:#"
    "98a2b3;"
    "--line:#2e3541;--good:#1f3328;--c0:#5db2ea;--c1:#ffa544;--c2:#68c48f;--c3:#d288cc;--c4:#"
    "a6adba;"
    "--c5:#d9bb4a}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);"
    "font:15px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',sans-serif}\n"
    "main{max-width:1180px;margin:0 auto;padding:40px 24px 72px}h1{font-size:27px;line-height:1.2;"
    "margin:0 0 6px;letter-spacing:-.01em}h2{font-size:19px;margin:44px 0 "
    "4px}h3{font-size:15px;margin:22px 0 8px}\n"
    ".verdict{font-size:17px;font-weight:600;margin:0 0 6px;max-width:80ch}small{display:block;"
    "font-size:11px;font-weight:400;color:var(--soft)}"
    ".lead,.text{color:var(--soft);margin:0 0 14px;max-width:80ch}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:12px;margin:"
    "24px 0}\n"
    ".tile,figure,.table,dl{background:var(--card);border:1px solid "
    "var(--line);border-radius:10px}\n"
    ".tile{padding:14px 16px}.tile b{display:block;font-size:25px;line-height:1.25;font-weight:600;"
    "font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:13px;display:block}\n"
    ".grid2{display:grid;grid-template-columns:repeat(auto-fill,minmax(330px,1fr));gap:14px}\n"
    "figure{margin:0;padding:12px 14px "
    "8px}figcaption{font-size:13px;font-weight:600;margin-bottom:4px}\n"
    "svg{display:block;width:100%;height:auto}.tick,.mark{font-size:11px;fill:var(--soft);"
    "font-variant-numeric:tabular-nums}.mark{fill:var(--ink);font-weight:600}\n"
    ".grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}\n"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.haze{fill:none;"
    "stroke-width:1;"
    "opacity:.28}.best{fill:none;stroke-width:1.5}\n"
    "path.c0,.best.c0{stroke:var(--c0)}path.c1,.best.c1{stroke:var(--c1)}path.c2,.best.c2{stroke:"
    "var(--c2)}"
    "path.c3,.best.c3{stroke:var(--c3)}path.c4,.best.c4{stroke:var(--c4)}path.c5,.best.c5{stroke:"
    "var(--c5)}\n"
    ".dot.c0{fill:var(--c0)}.dot.c1{fill:var(--c1)}.dot.c2{fill:var(--c2)}.dot.c3{fill:var(--c3)}"
    ".dot.c4{fill:var(--c4)}.dot.c5{fill:var(--c5)}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 20px;margin:0 0 "
    "14px;padding:0;list-style:none;font-size:13px}"
    ".legend "
    "i{display:inline-block;width:22px;height:4px;border-radius:2px;margin-right:7px;vertical-"
    "align:middle}\n"
    "i.c0{background:var(--c0)}i.c1{background:var(--c1)}i.c2{background:var(--c2)}i.c3{background:"
    "var(--c3)}"
    "i.c4{background:var(--c4)}i.c5{background:var(--c5)}.legend "
    "i.patch{width:14px;height:14px;border-radius:3px;"
    "border:1px solid var(--line)}\n"
    ".table{overflow-x:auto}.narrow{width:fit-content;max-width:100%}table{border-collapse:"
    "collapse;width:100%;font-size:12.5px;"
    "font-variant-numeric:tabular-nums}th,td{padding:7px 6px;text-align:right;white-space:nowrap}"
    "th{color:var(--soft);font-weight:500}tr+tr td,tr+tr th{border-top:1px solid var(--line)}"
    "th:first-child{text-align:left;position:sticky;left:0;background:var(--card)}tbody "
    "th{color:var(--ink)}"
    "td.top{font-weight:700;background:var(--good)}\n"
    "figure.picture{margin-bottom:14px;padding:10px}figure.picture "
    "img{width:100%;height:auto;display:block;"
    "border-radius:6px}figure.picture figcaption{font-weight:400;color:var(--soft)}\n"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:6px 22px;padding:16px "
    "18px;margin:0;font-size:14px}"
    "dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}code{font:13px/1.5 ui-monospace,'SF "
    "Mono',Menlo,Consolas,monospace}\n"
    "@media(max-width:640px){main{padding:24px "
    "14px}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:10px}}\n"
    "@media print{figure,.tile,.table{break-inside:avoid}}\n";

void html_text(FILE *file, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<': fputs("&lt;", file); break;
        case '>': fputs("&gt;", file); break;
        case '&': fputs("&amp;", file); break;
        case '"': fputs("&quot;", file); break;
        default: fputc(*text, file);
        }
    }
}

void html_element(FILE *file, const char *open, const char *text, const char *close)
{
    fputs(open, file);
    html_text(file, text);
    fputs(close, file);
}

bool report_begin(report *r, const char *path, const char *title, const char *verdict,
                  const char *subtitle)
{
    *r = (report){ 0 };
    if (!output_open(&r->page, path)) return false;
    r->file = r->page.file;
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
          r->file);
    html_element(r->file, "<title>", title, "</title>\n");
    fprintf(r->file, "<style>\n%s</style></head>\n<body><main>\n", style);
    html_element(r->file, "<h1>", title, "</h1>\n");
    if (verdict) html_element(r->file, "<p class=\"verdict\">", verdict, "</p>\n");
    html_element(r->file, "<p class=\"lead\">", subtitle, "</p>\n");
    return true;
}

bool report_end(report *r, bool keep)
{
    fputs("</main></body></html>\n", r->file);
    r->file = NULL;
    if (keep) return output_close(&r->page);
    output_drop(&r->page);
    return true;
}

void report_section(report *r, const char *title, const char *text)
{
    html_element(r->file, "<h2>", title, "</h2>\n");
    if (text) html_element(r->file, "<p class=\"text\">", text, "</p>\n");
}

void report_text(report *r, const char *text)
{
    html_element(r->file, "<p class=\"text\">", text, "</p>\n");
}

void report_tiles_begin(report *r) { fputs("<div class=\"tiles\">\n", r->file); }

void report_tile(report *r, const char *label, const char *figure, const char *note)
{
    html_element(r->file, "<div class=\"tile\"><span>", label, "</span>");
    html_element(r->file, "<b>", figure, "</b>");
    html_element(r->file, "<span>", note, "</span></div>\n");
}

void report_tiles_end(report *r) { fputs("</div>\n", r->file); }

/* ---- Pictures -------------------------------------------------------------------------------- */

static void write_base64(FILE *file, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < size; i += 3) {
        unsigned long word = (unsigned long)bytes[i] << 16;

        if (i + 1 < size) word |= (unsigned long)bytes[i + 1] << 8;
        if (i + 2 < size) word |= bytes[i + 2];
        fputc(digits[word >> 18 & 63], file);
        fputc(digits[word >> 12 & 63], file);
        fputc(i + 1 < size ? digits[word >> 6 & 63] : '=', file);
        fputc(i + 2 < size ? digits[word & 63] : '=', file);
    }
}

bool report_picture(report *r, const char *path, const char *type, const char *caption)
{
    size_t         size;
    unsigned char *bytes = file_bytes(path, &size);

    if (!bytes) return false;
    fputs("<figure class=\"picture\"><figcaption>", r->file);
    html_text(r->file, caption);
    fputs("</figcaption><img alt=\"", r->file);
    html_text(r->file, caption);
    fprintf(r->file, "\" src=\"data:%s;base64,", type);
    write_base64(r->file, bytes, size);
    fputs("\"></figure>\n", r->file);
    free(bytes);
    return true;
}

/* ---- Facts ----------------------------------------------------------------------------------- */

void report_facts_begin(report *r) { fputs("<dl>\n", r->file); }

void report_fact(report *r, const char *key, const char *format, ...)
{
    va_list list;
    char   *text;

    va_start(list, format);
    text = text_of_list(format, list);
    va_end(list);
    html_element(r->file, "<dt>", key, "</dt>");
    html_element(r->file, "<dd><code>", text, "</code></dd>\n");
    free(text);
}

void report_facts_end(report *r) { fputs("</dl>\n", r->file); }

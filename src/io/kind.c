/* kind.c - files that are taken for weights, maps or frames by mistake. */
#include <string.h>
#include "base/text.h"
#include "io/kind.h"

#define POINTER "fetch the file that it stands for, with 'git lfs pull' or by the page's download"
#define AGAIN \
    "fetch the file again, and look at what the server says (a quota, a login, a moved link)"
#define UNPACK "unpack it, and give the file inside"

static const struct {
    size_t      at, size;
    const char *magic, *what, *cure;
} kinds[] = {
    { 0, 8, "\x89PNG\r\n\x1A\n", "a PNG image", NULL },
    { 0, 3, "\xFF\xD8\xFF", "a JPEG image", NULL },
    { 0, 4, "GIF8", "a GIF image", NULL },
    { 0, 4, "II*\0", "a TIFF image", NULL },
    { 0, 4, "MM\0*", "a TIFF image", NULL },
    { 8, 4, "WEBP", "a WebP image", NULL },
    { 8, 4, "AVI ", "a video (AVI)", NULL },
    { 4, 8, "ftypheic", "a HEIF image", NULL },
    { 4, 8, "ftypavif", "an AVIF image", NULL },
    { 4, 4, "ftyp", "a video (MP4)", NULL },
    { 0, 4, "\x1A\x45\xDF\xA3", "a video (Matroska)", NULL },
    { 128, 4, "DICM", "a DICOM image", NULL },
    { 0, 5, "%PDF-", "a PDF document", NULL },
    { 0, 6, "\x93NUMPY", "a NumPy array (.npy)", NULL },
    { 0, 4, "\x89HDF", "an HDF5 file, as Keras and MATLAB save", "export it to safetensors" },
    { 0, 6, "MATLAB", "a MATLAB file", "export it to safetensors" },
    { 4, 4, "TFL3", "a TensorFlow Lite model", "export its weights to safetensors" },
    { 0, 4, "GGUF", "a GGUF model", "export its weights to safetensors" },
    { 257, 5, "ustar", "a tar archive", UNPACK },
    { 0, 2, "\x1F\x8B", "a gzip archive", UNPACK },
    { 0, 6,
      "\xFD"
      "7zXZ\0",
      "an xz archive", UNPACK },
    { 0, 4, "\x28\xB5\x2F\xFD", "a zstd archive", UNPACK },
    { 0, 6, "7z\xBC\xAF\x27\x1C", "a 7z archive", UNPACK },
    { 0, 4, "Rar!", "a RAR archive", UNPACK },
    { 0, 3, "BZh", "a bzip2 archive", UNPACK },
    { 0, 4, "PK\3\4", "a zip archive, as PyTorch saves", "export it to safetensors" },
    { 0, 4, "PK\5\6", "an empty zip archive", AGAIN },
    { 0, 4,
      "\x7F"
      "ELF",
      "a program or library", NULL },
};

static bool blank(unsigned char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static bool begins(const unsigned char *p, size_t n, const char *word)
{
    char head[16] = { 0 };

    memcpy(head, p, KD_MIN(n, strlen(word)));
    return kd_same_letters(head, word);
}

/* Only characters that a text has, and some of them. */
static bool is_text(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!blank(p[i]) && (p[i] < ' ' || p[i] == 0x7F)) return false;
    return n > 0;
}

static kd_kind kind_of_text(const unsigned char *p, size_t n)
{
    while (n > 0 && (blank(*p) || *p >= 0x80)) /* or a byte order mark */
        p++, n--;
    if (begins(p, n, "version https:/") && n > 24 && memcmp(p, "version https://git-lfs", 23) == 0)
        return (kd_kind){ "a Git LFS pointer and not the file itself", POINTER };
    if (begins(p, n, "<!doctype html") || begins(p, n, "<html") || begins(p, n, "<head"))
        return (kd_kind){ "a web page (HTML) and not the file itself", AGAIN };
    if (begins(p, n, "<?xml") || begins(p, n, "<!--") || begins(p, n, "<error"))
        return (kd_kind){ "a web page or a server's message (XML) and not the file itself", AGAIN };
    if (n > 0 && (*p == '{' || *p == '['))
        return (kd_kind){ "a text (JSON)", "an index or a server's message has no data itself" };
    return (kd_kind){ "a text", "if a server wrote it, fetch the file again; else give another" };
}

/* A serialised ModelProto: the version of its format, then its producer, or its graph. */
static bool is_onnx(const unsigned char *p, size_t n)
{
    return n > 16 && p[0] == 0x08 && p[1] >= 3 && p[1] < 32 &&
           (p[2] == 0x3A || p[2] == 0x42 ||
            (p[2] == 0x12 && p[3] < n && is_text(p + 4, KD_MIN(p[3], n - 4))));
}

/* The length of a JSON header, and its first character. */
bool kd_kind_is_safetensors(const unsigned char *p, size_t n, uint64_t size)
{
    uint64_t length = 0;

    if (n < 10) return false;
    for (int i = 8; i-- > 0;)
        length = length << 8 | p[i];
    return length >= 2 && length <= size - 8 && (p[8] == '{' || blank(p[8]));
}

kd_kind kd_kind_of(const unsigned char *head, size_t n, uint64_t size)
{
    bool zeros = n > 0;

    if (size == 0) return (kd_kind){ "an empty file", "fetch it again" };
    if (kd_kind_is_safetensors(head, n, size))
        return (kd_kind){ "a file of tensors (safetensors)", NULL };
    for (size_t i = 0; i < KD_COUNT(kinds); i++)
        if (kinds[i].at + kinds[i].size <= n &&
            memcmp(head + kinds[i].at, kinds[i].magic, kinds[i].size) == 0)
            return (kd_kind){ kinds[i].what, kinds[i].cure };
    if (n >= 4 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5)
        return (kd_kind){ "a Python pickle, as PyTorch saves", "export it to safetensors" };
    if (is_onnx(head, n)) return (kd_kind){ "an ONNX model", "export its weights to safetensors" };
    if (is_text(head, n)) return kind_of_text(head, n);
    for (size_t i = 0; i < n; i++)
        zeros = zeros && head[i] == 0;
    if (zeros && n == KD_MIN(size, (uint64_t)KD_KIND_HEAD))
        return (kd_kind){ "a file of zeros, as an interrupted download leaves", "fetch it again" };
    return (kd_kind){ 0 };
}

kd_kind kd_kind_of_file(kd_file *file)
{
    unsigned char head[KD_KIND_HEAD];
    size_t        n = (size_t)KD_MIN(kd_file_size(file), sizeof head);

    if (kd_file_read(file, 0, head, n) != KDAS_OK) return (kd_kind){ 0 };
    return kd_kind_of(head, n, kd_file_size(file));
}

kdas_status kd_kind_refuse(kd_kind kind, const char *path, const char *wanted, const char *cure)
{
    if (!kind.what) return KDAS_OK;
    return kd_fail(KDAS_EFORMAT, "'%s' is not %s: it is %s; %s", path, wanted, kind.what,
                   kind.cure ? kind.cure : cure);
}

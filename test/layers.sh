#!/bin/bash
# layers.sh [ROOT] - prove the layers of the source tree:
# - A folder of src/ includes only from itself and from those before it in `order`, and the objects of the library refer
#   only to symbols that those define.
# - The CPU backend includes only what a plug-in may. The CUDA plug-in, which links to nothing of the library, includes only
#   kdas/backend.h, and the MPI plug-in only kdas/collective.h and kdas/base.h. Only the plug-ins and the emulator include
#   CUDA's and MPI's headers.
# - Examples and programs include only what a host may. Folders that programs share include nothing of a program, and
#   programs include nothing of each other.
# - Some files of src/ use only public functions, by their objects.
# - Numbers are written and read in one file.
# `make check-layers` builds the objects (OBJECTS) and the archive (ARCHIVE). Prints each include as FILE:LINE, and each
# symbol, that breaks a rule, then "N passed, N failed".
set -u
cd "${1:-$(dirname "$0")/..}" || exit 1
order=(base io image backend ranks op graph scene data nn model quantize export infer loss optim metric distill)
passed=0 failed=0

rank() # FOLDER: its place in the order, empty if it has none
{
    local i
    for i in "${!order[@]}"; do
        [ "${order[i]}" = "$1" ] && echo "$i"
    done
}

folder() # PATH below src/: the layer that it belongs to; a backend is one of its own
{
    case $1 in
    backend/*/* | ranks/mpi/*) cut -d/ -f1-2 <<<"$1" ;;
    *) cut -d/ -f1 <<<"$1" ;;
    esac
}

# An include in quotes: relative to the file, else to ROOT. Prints the path below ROOT.
resolve() # FILE NAME ROOT
{
    local path
    for path in "$(dirname "$1")/$2" "$3/$2"; do
        [ -f "$path" ] && realpath --relative-to="$3" "$path" && return
    done
    return 1
}

why_not_system() # FOLDER NAME: a reason why <NAME> may not be included there
{
    case $1:$2 in
    *:'a macro') echo "which file that is cannot be read here" ;;
    *:programs/*) echo "the library knows no program" ;;
    ranks/mpi:kdas/base.h | ranks/mpi:kdas/collective.h) ;;
    ranks/mpi:kdas/*) echo "the MPI plug-in knows only base.h and collective.h" ;;
    backend/*:kdas/base.h | backend/*:kdas/backend.h | backend/*:kdas/ops.def) ;;
    backend/*:kdas/*) echo "a backend knows only base.h, backend.h and ops.def" ;;
    *:kdas/*) [ -f "include/$2" ] || echo "there is no such public header" ;;
    backend/cuda:dnnl* | backend/cuda:oneapi/* | backend/cuda:*cblas* | backend/cuda:openblas*)
        echo "the CUDA plug-in needs no library of the CPU's" ;;
    backend/cuda:*) ;;
    ranks/mpi:mpi.h) ;;
    *:mpi.h) echo "MPI belongs to its plug-in" ;;
    *:cuda* | *:cublas* | *:cudnn*) echo "CUDA belongs to its plug-in" ;;
    backend/*) ;;
    *:dnnl* | *:oneapi/* | *:*cblas* | *:openblas* | *:lapack*) echo "compute libraries belong to a backend" ;;
    esac
}

why_not_ours() # FOLDER FILE NAME: a reason why "NAME" may not be included by FILE
{
    local path to
    path=$(resolve "$2" "$3" src) || { echo "no such file beside it or in src/"; return; }
    to=$(folder "$path")
    [ "$to" = "$1" ] && return
    [ "$to" = programs ] && { echo "the library knows no program"; return; }
    case $1 in
    backend/cuda | ranks/mpi) echo "a plug-in links to nothing of the library" ;;
    backend/*) [ "$to" = base ] || echo "a backend knows only base/ and itself" ;;
    backend) # the registry names the table of the built-in backend, and nothing else of it
        [ "$path" = backend/cpu/cpu.h ] || [ "$(rank "$to")" -lt "$(rank backend)" ] ||
            echo "$to is not above backend" ;;
    *)
        case $to in ranks/mpi) echo "the library knows no plug-in"; return ;; backend/*) echo "only the registry knows a particular backend"; return ;; esac
        [ -n "$(rank "$to")" ] && [ "$(rank "$to")" -lt "$(rank "$1")" ] || echo "$to is not above $1" ;;
    esac
}

is_program() { [ -f "src/programs/$1/main.c" ]; } # FOLDER of src/programs

# A host's files: public headers, the system's, and those of FOLDERs of src/programs.
why_not_host() # FILE INCLUDE FOLDER... ("shared": all that are no program)
{
    local file=$1 include=$2 name=${2:1:-1} path to folder
    shift 2
    case $include in
    '<a macro>') echo "which file that is cannot be read here"; return ;;
    '<kdas/'*) [ -f "include/$name" ] || echo "there is no such public header"; return ;;
    '<dnnl'* | '<oneapi'* | *cblas* | '<jsmn'* | '<stb'* | '<utf8proc'* | '<tiff'*) echo "a host stands on libkdas and the system alone"; return ;;
    '<'*) [ ! -f "src/programs/$name" ] || echo "the programs' own headers are included in quotes"; return ;;
    esac
    path=$(resolve "$file" "$name" src/programs) || { echo "no such file beside it or in src/programs"; return; }
    to=${path%%/*}
    for folder in "$@"; do
        [ "$to" = "$folder" ] && return
        [ "$folder" = shared ] && [ "$to" != .. ] && ! is_program "$to" && return
    done
    if [ "$to" = .. ]; then echo "it is not in src/programs"; else echo "it is kdas-$to's own"; fi
}

judge() # WHERE INCLUDE REASON
{
    if [ -z "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '%s: %s: %s\n' "$1" "$2" "$3"
    fi
}

# every_include FOLDER...: lines FILE:LINE:<name> or FILE:LINE:"name"
every_include()
{
    grep -rnE --include='*.[ch]' --include='*.cpp' --include='*.cu' --include='*.def' --include='*.inc' \
        '^[[:space:]]*#[[:space:]]*include' "$@" 2>/dev/null |
        sed -E 's/^([^:]*:[0-9]+:)[^<"]*(<[^>]*>|"[^"]*"|).*/\1\2/; s/:$/:<a macro>/'
}

while IFS=: read -r file line include; do
    case $file in src/programs/*) continue ;; esac
    layer=$(folder "${file#src/}")
    name=${include:1:-1}
    case $layer in
    backend/* | ranks/mpi) known=yes ;;
    *) known=$(rank "$layer") ;;
    esac
    if [ -z "$known" ]; then
        judge "$file:$line" "$include" "src/$layer has no place in the order"
    elif [ "${include:0:1}" = '<' ]; then
        judge "$file:$line" "$include" "$(why_not_system "$layer" "$name")"
    else
        judge "$file:$line" "$include" "$(why_not_ours "$layer" "$file" "$name")"
    fi
done < <(every_include src)

while IFS=: read -r file line include; do
    reason=
    case $include in
    '<kdas/'*) [ -f "include/${include:1:-1}" ] || reason="there is no such public header" ;;
    '<stddef.h>' | '<stdint.h>') ;;
    *) reason="a public header includes only <kdas/...>, <stddef.h> and <stdint.h>" ;;
    esac
    judge "$file:$line" "$include" "$reason"
done < <(every_include include)

# A sample is one file. A program has its own folder and the shared ones, which have each other. So have the parts of
# kdas-bench, beside what is in bench/; the bench_* there look inside the library.
while IFS=: read -r file line include; do
    case $include in
    '"'*) judge "$file:$line" "$include" "an example includes only <kdas/...> and system headers" ;;
    *) judge "$file:$line" "$include" "$(why_not_host "$file" "$include")" ;;
    esac
done < <(every_include examples)
while IFS=: read -r file line include; do
    own=${file#src/programs/}
    judge "$file:$line" "$include" "$(why_not_host "$file" "$include" "${own%%/*}" shared)"
done < <(every_include src/programs)
while IFS=: read -r file line include; do
    case $file in bench/bench_*.c) continue ;; esac
    case $include in
    '"'*/*) judge "$file:$line" "$include" "$(why_not_host "$file" "$include" shared)" ;;
    '"'*) judge "$file:$line" "$include" "$([ -f "bench/${include:1:-1}" ] || echo "no such file beside it")" ;;
    *) judge "$file:$line" "$include" "$(why_not_host "$file" "$include")" ;;
    esac
done < <(every_include bench)

# Numbers with a point become text, and text becomes numbers, in base/text.c alone: the C library's own functions follow
# the host's locale. Prints FILE:LINE where a statement ends that does so elsewhere.
by_locale() # FILE...
{
    awk 'BEGIN { RS = ";[^\n\"]*\n" }
        FNR == 1 { line = 0 }
        { line += gsub(/\n/, " ") + 1 }
        /(^|[^A-Za-z0-9_])(v[a-z]*printf|[a-z]*scanf|strto[a-z]+|ato(f|i|l|ll)|setlocale|localeconv|strn?casecmp) *\(/ ||
            /(^|[^A-Za-z0-9_])(f|d|s|sn|as)?printf *\(.*%[-+ #0-9.*]*[lL]?[aAeEfFgG]/ { print FILENAME ":" line }' "$@"
}
while IFS= read -r file; do
    bad=$(by_locale "$file" | paste -sd' ')
    [ "$file" = src/base/text.c ] || judge "${bad:-$file}" "a number" "${bad:+numbers are written and read by base/text.h}"
done < <(find src -path src/programs -prune -o -name '*.[ch]' -print -o -name '*.cu' -print | sort)

# Tests may look inside the library; CUDA is the emulator's and its suite's alone.
while IFS=: read -r file line include; do
    reason=
    case $file:$include in
    test/emulator/* | test/check_emulator*) ;;
    *:[\<\"]cuda[._]* | *:[\<\"]cublas* | *:[\<\"]cudnn*) reason="CUDA belongs to its plug-in and the emulator" ;;
    esac
    judge "$file:$line" "$include" "$reason"
done < <(every_include test bench)

# ---- Files that stand on public functions -------------------------------------------------------------
# FILES | WHAT ELSE | NAMES: the first two are files or folders of src/. An object of FILES refers to functions of the
# public headers (lib/libkdas.sym), of the C library, of those two lists, and to NAMES, and to nothing else of ours; and of
# all headers that it has seen, through others too, those in src/ belong to the two lists. The inside of a context is for
# none of them.
stand_on_public=(
    "distill/train.c distill/train_log.c distill/train_manifest.c distill/train_note.c distill/train_ranks.c distill/train_resume.c distill/train_start.c distill/evaluate.c distill/resume.c | base io ranks distill/train_run.h | kd_train_folder_check kd_settings_agree"
    # the step; what it has beside models, objective and optimizer reaches inside of them
    "distill/distiller.c distill/teacher.c distill/parts.c distill/note.c | base ranks distill/feature_step.h distill/ranks_step.h | kd_average_init kd_average_finish
    kd_average_update kd_feature_create kd_feature_destroy kd_feature_wanted kd_feature_run kd_feature_zero
    kd_ranks_step_create kd_ranks_step_destroy kd_ranks_step_vote kd_ranks_step_enter kd_ranks_step_forward kd_ranks_step_part kd_ranks_step_read
    kd_ranks_step_begin kd_ranks_step_end kd_ranks_step_reduce kd_ranks_step_average kd_ranks_step_updated
    kd_ranks_step_forget"
)
inside_only=" base/context.h "
objects=${OBJECTS:-build/release/src}

objects_of() # FILE OR FOLDER OF src/...
{
    local of
    for of in "$@"; do
        case $of in *.h) continue ;; esac
        if [ -d "src/$of" ]; then find "$objects/$of" -name '*.o'; else echo "$objects/${of%.c}.o"; fi
    done
}

belongs() # HEADER BELOW src/, FILE OR FOLDER...
{
    local header=$1 of
    shift
    case $inside_only in *" $header "*) return 1 ;; esac
    for of in "$@"; do
        case $header in "$of" | "$of"/* | "${of%.c}.h") return 0 ;; esac
    done
    return 1
}

for rule in "${stand_on_public[@]}"; do
    IFS='|' read -rd '' of_files of_others of_names <<<"$rule" || true
    read -ra files <<<"$of_files"
    read -ra others <<<"$of_others"
    mapfile -t lent < <(objects_of "${files[@]}" "${others[@]}")
    known=$(cat lib/libkdas.sym && tr -s ' \n' '\n' <<<"$of_names" && nm -g --defined-only "${lent[@]}" 2>&1 | awk 'NF == 3 { print $3 }')
    for file in "${files[@]}"; do
        object=$objects/${file%.c}.o
        if [ ! -f "$object" ] || [ ! -f "${object%.o}.d" ]; then
            judge "src/$file" "$object" "it is not built: make check-layers does that"
            continue
        fi
        while read -r symbol; do
            reason=
            grep -qxF "$symbol" <<<"$known" || reason="neither public nor of what that rule lists"
            judge "src/$file" "$symbol" "$reason"
        done < <(nm -u "$object" | awk '$2 ~ /^kd(as)?_/ { print $2 }')
        while read -r header; do
            reason=
            belongs "${header#src/}" "${files[@]}" "${others[@]}" || reason="seen by src/$file, to which it does not belong"
            judge "src/$file" "$header" "$reason"
        done < <(tr -s ' \\' '\n' <"${object%.o}.d" | sed 's/:$//' | grep '^src/.*\.h$' | sort -u)
    done
done

# ---- Layers by symbols -----------------------------------------------------------------------------------
# The same order, by what the linker sees: a member of the archive refers to no symbol that a folder below it in the
# list defines. The CPU backend refers to base alone; the registry alone to the CPU backend.
archive_members() # the objects of the library: those with a source in src/ that are not of programs, plug-ins or emulation
{
    local object source
    find "$objects" -name '*.o' -not -path "$objects/backend/cuda/*" -not -path "$objects/ranks/mpi/*" -not -path "$objects/programs/*" \
        -not -name '*.emulated*.o' | while read -r object; do
        source=${object#"$objects"/}
        source=${source%.o}
        [ -f "src/$source.c" ] || [[ $source =~ ^backend/cpu/simd/ && -f src/${source%.*}.c ]] && echo "$object"
    done
}
mapfile -t members < <(archive_members)
archive=${ARCHIVE:-lib/libkdas.a}
[ ${#members[@]} = "$(ar t "$archive" | wc -l)" ] ||
    judge "$archive" "$(ar t "$archive" | wc -l) members" "${#members[@]} objects were built for it: run make again"
while read -r user symbol owner reason; do
    judge "$user" "$symbol" "${reason:+$owner defines it: $reason}"
done < <({
    nm -A -g --defined-only "${members[@]}" | awk -v d="$objects/" '{ sub(d, "", $1); split($1, a, ":"); print "D", a[1], $NF }'
    nm -A -u "${members[@]}" | awk -v d="$objects/" '{ sub(d, "", $1); split($1, a, ":"); print "U", a[1], $NF }'
} | awk -v order="${order[*]}" '
    function layer(file, part) {
        split(file, part, "/")
        return part[1] == "backend" && part[2] == "cpu" ? "backend/cpu" : part[1]
    }
    BEGIN { n = split(order, name, " "); for (i = 1; i <= n; i++) rank[name[i]] = i }
    $1 == "D" { owner[$3] = $2 }
    $1 == "U" { user[++uses] = $2; symbol[uses] = $3 }
    END {
        for (i = 1; i <= uses; i++) {
            if (!(symbol[i] in owner)) continue
            from = layer(user[i]); to = layer(owner[symbol[i]]); reason = ""
            if (from == to) continue
            if (from == "backend/cpu" && to != "base") reason = "a backend knows only base and itself"
            else if (to == "backend/cpu" && from != "backend") reason = "only the registry knows a particular backend"
            else if (from != "backend/cpu" && to != "backend/cpu" && rank[to] > rank[from]) reason = to " is not above " from
            print user[i], symbol[i], owner[symbol[i]], reason
        }
    }')

printf '%d passed, %d failed\n' $passed $failed
[ $failed = 0 ]

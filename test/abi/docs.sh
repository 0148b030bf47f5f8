#!/bin/sh
# docs.sh HEADER... - every declared function has a docstring that says since when it is there, and which errors it
# returns if that is a status. A docstring holds for the declarations that follow it without a line between them.
# Prints what breaks the rule.
set -eu
awk '
FNR == 1 { doc = ""; inside = 0 }
inside { doc = doc " " $0; if (/\*\//) inside = 0; next }
/^\/\*/ { doc = $0; if (!/\*\//) inside = 1; next }
/^KDAS_API/ {
    where = FILENAME ":" FNR; text = $0
    while (text !~ /;/ && (getline line) > 0) text = text " " line
    name = text; sub(/\(.*/, "", name); sub(/.*[ *]/, "", name)
    gsub(/\n? \* /, " ", doc)
    if (doc == "") print where ": " name " has no docstring"
    else {
        if (doc !~ /[Ss]ince +0\.[0-9]/) print where ": " name " does not say since when"
        if (text ~ /^KDAS_API +kdas_status / && doc !~ /KDAS_E/) print where ": " name " does not say how it fails"
    }
    next
}
{ doc = "" }
' "$@" | { ! grep .; }

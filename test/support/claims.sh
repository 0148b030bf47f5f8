# claims.sh - for scripts of tests, which source it from the project's root: a claim is a sentence and a command that must
# succeed. The script has made the folder $tmp; the output of the last command is in $tmp/said.
passed=0 failed=0

claim() # TEXT COMMAND...
{
    local text=$1
    shift
    if "$@" >"$tmp/said" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$text"
        sed 's/^/    /' "$tmp/said" | tail -n 30
    fi
}

# The last line of the script: "N passed, N failed", and its exit status.
claims_end()
{
    printf '%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" = 0 ]
}

#!/usr/bin/env bash
# Checks the number of non-test lines per source file: above 500 prints a note, above 800 fails.
source "$(dirname "$0")/lib.sh"

soft=500
hard=800
failed=0
while IFS= read -r file; do
    case "$file" in
        */tests/* | */tests.rs | */tests.ts | *.test.* | */benches/* | */dist/*) continue ;;
        *.rs) lines=$(awk '/^#\[cfg\(test\)\]/ { exit } { n++ } END { print n + 0 }' "$file") ;;
        *) lines=$(wc -l <"$file") ;;
    esac
    if [ "$lines" -gt "$hard" ]; then
        echo "error: $file has $lines lines without its tests, more than $hard"
        failed=1
    elif [ "$lines" -gt "$soft" ]; then
        echo "note: $file has $lines lines without its tests, more than $soft"
    fi
done < <(git ls-files --cached --others --exclude-standard -- '*.rs' '*.ts' '*.tsx' '*.mjs' '*.js' '*.css' '*.sh')
exit "$failed"

# The most frequent words of a text, and the lines that two lists have in common.
set -euo pipefail

tr -cs '[:alpha:]' '\n' < words.txt | tr '[:upper:]' '[:lower:]' |
    sort | uniq -c | sort -k1,1nr -k2 | head -n 2 | tr -s ' ' | cut -d ' ' -f 2-

comm -12 <(printf '%s\n' b a c | sort) <(sort <<'LIST'
c
d
b
LIST
)

(exit 3) | true || printf 'a failure in a pipeline is seen: %s\n' "$?"

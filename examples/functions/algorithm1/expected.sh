#!/bin/sh
# Computes what every function in this folder must answer, with other tools and another formula: grep counts,
# and bc adds up with 40 digits. Of n occurrences the even numbers 0, 2, .. 2(m-1), m = (n+1)/2, give squares,
# whose sum is 4 * (m-1)m(2m-1)/6; the odd ones give roots.
#
#   sh expected.sh > expected.tsv
set -eu
cd "$(dirname "$0")"
LC_ALL=C
export LC_ALL

echo '# text	pattern	occurrences	result: see expected.sh'
line() {
    # As bytes: what is counted does not depend on the locale.
    n=$(grep -oF -e "$2" "texts/$1" | wc -l)
    m=$(((n + 1) / 2))
    result=$(BC_LINE_LENGTH=0 bc <<BC
scale = 40
s = 4 * ($m - 1) * $m * (2 * $m - 1) / 6
for (i = 1; i < $n; i += 2) s += sqrt(i)
s
BC
    )
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$n" "$result"
}
for text in alice gettysburg erlkoenig; do
    for pattern in e t ' ' an the here 'dedicat' Rabbit Vater; do line "$text.txt" "$pattern"; done
done
line erlkoenig.txt ä
line erlkoenig.txt 'ö'
line erlkoenig.txt –
line alice.txt '"'
line alice.txt ss

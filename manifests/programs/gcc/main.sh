# Compiles the program into the folder that is given, and runs it there.
set -eu
gcc -O2 -Wall -Werror -o "$1/hello" hello.c
"$1/hello"

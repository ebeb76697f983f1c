#include <stdio.h>

int main(void) {
    puts("hello from a compiled program");
    return 0;
}

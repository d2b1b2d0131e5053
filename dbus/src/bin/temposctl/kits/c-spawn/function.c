/*
 * A TEMPOS function as a program: the event comes on standard input, the answer goes to standard output, the exit
 * code says how it went (0: well), the last line of standard error why. TEMPOS_TOPIC, TEMPOS_ID and the event's
 * attributes are in the environment.
 */
#include <ctype.h>
#include <stdio.h>

int main(void)
{
    long bytes = 0;
    int c;
    while ((c = getchar()) != EOF) {
        putchar(toupper(c));
        bytes++;
    }
    if (bytes == 0) {
        fputs("the event is empty\n", stderr);
        return 1;
    }
    return fflush(stdout) == 0 ? 0 : 2;
}

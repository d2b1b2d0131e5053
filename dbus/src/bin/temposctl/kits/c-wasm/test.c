/* The function as a program of this machine, with what the node offers made of plain C. */
#include <stdio.h>

static char answer[64];
static unsigned length;

#include "{{ident}}.c"

int32_t tempos_write(const void *data, uint32_t bytes)
{
    if (bytes >= sizeof answer - length)
        return -1;
    memcpy(answer + length, data, bytes);
    length += bytes;
    answer[length] = '\0';
    return 0;
}

void tempos_explain(const char *sentence, uint32_t bytes)
{
    (void)sentence;
    (void)bytes;
}

static void check(int fine, const char *what)
{
    printf("%s  %s\n", fine ? "ok    " : "FAILED", what);
    if (!fine)
        exit(1);
}

int main(void)
{
    check(handle((const uint8_t *)"how loud?", 9) == 0 && strcmp(answer, "HOW LOUD?") == 0, "a text becomes loud");
    check(handle((const uint8_t *)"", 0) == 1, "an empty event is refused");
    return 0;
}

/* Calls the function as a node does. */
#include <stdio.h>
#include <stdlib.h>

#include "tempos_function.h"

static int32_t ask(const char *payload, char *answer, size_t room)
{
    char sentence[256];
    tempos_event event = {0};
    tempos_output output = {0};
    int32_t code;
    event.struct_bytes = sizeof event;
    event.payload = (const uint8_t *)payload;
    event.payload_bytes = strlen(payload);
    output.struct_bytes = sizeof output;
    output.data = (uint8_t *)answer;
    output.capacity = room - 1;
    output.error = sentence;
    output.error_capacity = sizeof sentence;
    code = tempos_handle(&event, &output);
    answer[output.length] = '\0';
    return code;
}

static void check(int fine, const char *what)
{
    printf("%s  %s\n", fine ? "ok    " : "FAILED", what);
    if (!fine)
        exit(1);
}

int main(void)
{
    char answer[64];
    check(ask("how loud?", answer, sizeof answer) == 0 && strcmp(answer, "HOW LOUD?") == 0, "a text becomes loud");
    check(ask("", answer, sizeof answer) == 1, "an empty event is refused");
    return 0;
}

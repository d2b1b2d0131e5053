/* A TEMPOS function: answers a text with the same in capital letters. */
#include <ctype.h>

#include "tempos_function.h"

int32_t tempos_handle(const tempos_event *event, tempos_output *output)
{
    size_t i;
    if (event->payload_bytes == 0)
        return tempos_fail(output, 1, "the event is empty");
    for (i = 0; i < event->payload_bytes; i++) {
        char loud = (char)toupper(event->payload[i]);
        if (tempos_write(output, &loud, 1) != 0)
            return 2; /* it does not fit; the node says so */
    }
    return 0;
}

/* A TEMPOS function: answers a text with the same in capital letters. */
#include <ctype.h>

#include "tempos_wasm.h"

int32_t handle(const uint8_t *event, uint32_t bytes)
{
    uint32_t i;
    if (bytes == 0)
        return tempos_fail(1, "the event is empty");
    for (i = 0; i < bytes; i++) {
        char loud = (char)toupper(event[i]);
        if (tempos_write(&loud, 1) != 0)
            return 2; /* it does not fit; the node says so */
    }
    return 0;
}

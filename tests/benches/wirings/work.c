/* Computes for 100 us of its deadline of 200, and answers with its event. */
#include <time.h>

#include "tempos_function.h"

int32_t tempos_work(const tempos_event *event, tempos_output *output)
{
    struct timespec begun, now;

    clock_gettime(CLOCK_MONOTONIC, &begun);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begun.tv_sec) * 1000000000L + now.tv_nsec - begun.tv_nsec < 100000L);
    return tempos_write(output, event->payload, event->payload_bytes);
}

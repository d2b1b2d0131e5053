/*
 * threshold.c: raises an alarm where a measurement is over its threshold.
 *
 * An event's payload is a line of measurements, `cpu=12.5 irq=3`. For the first one named MEASURE that is
 * over THRESHOLD it answers `alarm cpu=93.5 over 90`; for all others it makes no output event.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tempos_function.h"

#ifndef MEASURE
#define MEASURE "cpu"
#endif
#ifndef THRESHOLD
#define THRESHOLD 90.0
#endif
#define LINE_BYTES_MAX 1024

int32_t tempos_handle(const tempos_event *event, tempos_output *output)
{
    char line[LINE_BYTES_MAX + 1], alarm[128];
    const char *at = line;

    if (event->payload_bytes > LINE_BYTES_MAX)
        return tempos_fail(output, 1, "the line of measurements has more than 1024 bytes");
    if (event->payload_bytes > 0)
        memcpy(line, event->payload, event->payload_bytes);
    line[event->payload_bytes] = '\0'; /* a payload does not end with a NUL */

    while ((at = strstr(at, MEASURE "=")) != NULL) {
        int begins_word = at == line || at[-1] == ' ';
        char *end;
        double value;
        at += sizeof MEASURE;
        value = strtod(at, &end);
        if (begins_word && end != at) {
            if (value <= THRESHOLD)
                return 0;
            snprintf(alarm, sizeof alarm, "alarm " MEASURE "=%g over %g", value, (double)THRESHOLD);
            return tempos_write_text(output, alarm) == 0 ? 0 : 1;
        }
    }
    return tempos_fail(output, 2, "the line holds no measurement named " MEASURE "; write " MEASURE "=NUMBER");
}

/*
 * algorithm1.c: Algorithm 1 of the TEMPOS paper (Garbugli et al., IEEE Access 10, 2022) for the method dlf.
 *
 * The event is {"message": "...", "pattern": "..."}; the answer is {"occurrences":N,"result":X}.
 */
#define _GNU_SOURCE /* memmem(3) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "json.h"
#include "tempos_function.h"

/* How often the pattern is in the message, counted from the left; what was counted is not counted again. */
static size_t occurrences(struct text message, struct text pattern)
{
    const char *at = message.data, *end = message.data + message.bytes;
    size_t count = 0;
    while ((at = memmem(at, (size_t)(end - at), pattern.data, pattern.bytes)) != NULL) {
        count++;
        at += pattern.bytes;
    }
    return count;
}

static double powers_and_roots(size_t count)
{
    double result = 0;
    for (size_t i = 0; i < count; i++)
        result += i % 2 == 0 ? pow((double)i, 2) : sqrt((double)i);
    return result;
}

int32_t tempos_handle(const tempos_event *event, tempos_output *output)
{
    struct text message = {0}, pattern = {0};
    char *room, answer[96];
    size_t count;

    /* A text is never longer than the JSON that it is written in. */
    room = malloc(event->payload_bytes + 1);
    if (room == NULL)
        return tempos_fail(output, 3, "there is no memory for the event");
    if (!read_request((const char *)event->payload, event->payload_bytes, room, &message, &pattern)) {
        free(room);
        return tempos_fail(output, 1, "the event is not {\"message\": \"...\", \"pattern\": \"...\"}");
    }
    if (pattern.bytes == 0) {
        free(room);
        return tempos_fail(output, 2, "the pattern is empty");
    }
    count = occurrences(message, pattern);
    free(room);
    snprintf(answer, sizeof answer, "{\"occurrences\":%zu,\"result\":%.6f}", count, powers_and_roots(count));
    return tempos_write_text(output, answer) == 0 ? 0 : 1;
}

/*
 * control.c: Algorithm 1 of the TEMPOS paper (Garbugli et al., IEEE Access 10, 2022) on a line of counters: reads it,
 * counts a pattern in it, and alternates power and square root as often.
 *
 * The event is a line of words `key=value` of tempos-proc-producer. The answer is `occurrences=N result=X`, with the
 * words `producer`, `seq` and `t_ns` of the event: the sink tells by them which event it was and how long it took.
 * examples/functions/algorithm1 has the same on JSON, in four languages.
 */
#define _GNU_SOURCE /* memmem(3) */
#include <math.h>
#include <stdio.h>

#include "tempos_function.h"

#define PATTERN "1"
#define ANSWER_BYTES_MAX 256

/* The word that begins so, with a space before it, or nothing. */
static int copy_word(const tempos_event *event, const char *key, tempos_output *output)
{
    const char *at = (const char *)event->payload, *end = at + event->payload_bytes;
    size_t key_bytes = strlen(key);
    while (at < end) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        size_t bytes = (size_t)((space == NULL ? end : space) - at);
        if (bytes > key_bytes && memcmp(at, key, key_bytes) == 0)
            return tempos_write_text(output, " ") == 0 ? tempos_write(output, at, bytes) : -1;
        at += bytes + 1;
    }
    return 0;
}

int32_t tempos_handle(const tempos_event *event, tempos_output *output)
{
    const char *at = (const char *)event->payload, *end = at + event->payload_bytes;
    char answer[ANSWER_BYTES_MAX];
    size_t count = 0, i;
    double result = 0;

    if (event->payload_bytes == 0)
        return tempos_fail(output, 1, "the event is empty; it is a line of words key=value");
    while ((at = memmem(at, (size_t)(end - at), PATTERN, sizeof PATTERN - 1)) != NULL) {
        count++;
        at += sizeof PATTERN - 1;
    }
    for (i = 0; i < count; i++)
        result += i % 2 == 0 ? pow((double)i, 2) : sqrt((double)i);
    snprintf(answer, sizeof answer, "occurrences=%zu result=%.6f", count, result);
    if (tempos_write_text(output, answer) != 0 || copy_word(event, "producer=", output) != 0 ||
        copy_word(event, "seq=", output) != 0 || copy_word(event, "t_ns=", output) != 0)
        return 1;
    return 0;
}

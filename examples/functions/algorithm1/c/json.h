/* json.h: reads a flat JSON object of texts, and nothing else of JSON (RFC 8259). */
#ifndef JSON_H
#define JSON_H

#include <stddef.h>

/* UTF-8, without a NUL at its end. */
struct text {
    const char *data;
    size_t bytes;
};

/*
 * Reads the members `message` and `pattern`; others are passed over. `room` has as many bytes as the JSON: the
 * texts are put there. 1 where both were there, 0 where it is something else.
 */
int read_request(const char *json, size_t bytes, char *room, struct text *message, struct text *pattern);

#endif

/*
 * tempos_function.h: what a function for the invocation method `dlf` is.
 *
 * A function is a shared library (ELF, `cc -shared -fPIC`) that exports
 *
 *     int32_t tempos_handle(const tempos_event *event, tempos_output *output);
 *
 * The answer is 0 where it ended well, 1 to 255 where it failed (the number is the function's own).
 * It is called on a lane's thread, by several threads at once where the workflow's concurrency is above
 * one: it does not block, and it keeps no pointer that it was handed after it has returned. It runs inside
 * the node: if it crashes, the node goes with it; `wasm`, `spawn`, and `dlf` with isolation = "process" do not have
 * this weakness.
 *
 * Both structs begin with their size as the node knows it. They only grow at their ends, so a function
 * built against this header runs on later nodes; one that wants a later field compares the size first.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TEMPOS_FUNCTION_H
#define TEMPOS_FUNCTION_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An event. Every pointer may be null where its length is 0. */
typedef struct tempos_event {
    uint32_t struct_bytes;   /* the size of this struct as the node knows it */
    uint32_t level;          /* QoS level: 0 strict, 1 best-effort, others as declared */
    uint64_t id;             /* unique for this node */
    uint64_t source_time_ns; /* when it came to be, since the epoch (CLOCK_REALTIME); 0: unknown */
    uint64_t arrival_ns;     /* when it arrived here (CLOCK_MONOTONIC) */
    uint64_t deadline_ns;    /* when it is late (CLOCK_MONOTONIC); 0: never */
    const char *topic;       /* UTF-8, without a NUL at its end */
    size_t topic_bytes;
    const uint8_t *payload;
    size_t payload_bytes;
    const uint8_t *attributes; /* read them with tempos_attribute */
    size_t attributes_bytes;
} tempos_event;

/* Bits of tempos_output.flags. */
#define TEMPOS_OUTPUT_EMITTED 1u    /* there is an output, even if it is empty */
#define TEMPOS_OUTPUT_OVERFLOWED 2u /* more was written than fits: the invocation fails */

/* Where the output goes, and a sentence for the operator where the function fails. */
typedef struct tempos_output {
    uint32_t struct_bytes; /* the size of this struct as the node knows it */
    uint32_t flags;
    uint8_t *data;
    size_t capacity;
    size_t length;
    char *error;
    size_t error_capacity;
    size_t error_length;
} tempos_output;

/* What every function exports. */
int32_t tempos_handle(const tempos_event *event, tempos_output *output);

/* Appends to the output; 0, or -1 where it does not fit. Without any write there is no output event. */
static inline int tempos_write(tempos_output *output, const void *data, size_t bytes)
{
    if (bytes > output->capacity - output->length) {
        output->flags |= TEMPOS_OUTPUT_OVERFLOWED;
        return -1;
    }
    if (bytes > 0)
        memcpy(output->data + output->length, data, bytes);
    output->length += bytes;
    output->flags |= TEMPOS_OUTPUT_EMITTED;
    return 0;
}

/* Appends a text without its NUL. */
static inline int tempos_write_text(tempos_output *output, const char *text)
{
    return tempos_write(output, text, strlen(text));
}

/* Says in one sentence why the function fails, and answers `code` (1 to 255) for it to return. */
static inline int32_t tempos_fail(tempos_output *output, uint8_t code, const char *sentence)
{
    size_t bytes = strlen(sentence);
    if (bytes > output->error_capacity)
        bytes = output->error_capacity;
    memcpy(output->error, sentence, bytes);
    output->error_length = bytes;
    return code == 0 ? 1 : (int32_t)code;
}

/* Names the branch by which the output goes, of those in the workflow's `to`, and answers 0 for the function
 * to return: where it ends well, the place of the sentence holds the branch. */
static inline int32_t tempos_send_to(tempos_output *output, const char *branch)
{
    size_t bytes = strlen(branch);
    if (bytes > output->error_capacity)
        bytes = output->error_capacity;
    memcpy(output->error, branch, bytes);
    output->error_length = bytes;
    return 0;
}

/* Kinds of attribute values. */
#define TEMPOS_BYTES 0u
#define TEMPOS_TEXT 1u     /* UTF-8, without a NUL at its end */
#define TEMPOS_UNSIGNED 2u /* 8 bytes, little endian */
#define TEMPOS_SIGNED 3u   /* 8 bytes, little endian */
#define TEMPOS_ADDRESS 4u  /* 4 or 16 bytes and the port, big endian */

typedef struct tempos_value {
    uint32_t kind;
    const uint8_t *data;
    size_t bytes;
} tempos_value;

/* Finds the first attribute of that key; 1 where there is one. */
static inline int tempos_attribute(const tempos_event *event, const char *key, tempos_value *value)
{
    /* Each entry: key length (1 byte), kind (1), value length (2, little endian), key, value. */
    const uint8_t *at = event->attributes;
    size_t left = event->attributes_bytes, wanted = strlen(key);
    while (left >= 4) {
        size_t key_bytes = at[0], value_bytes = (size_t)at[2] | (size_t)at[3] << 8;
        if (key_bytes + value_bytes > left - 4)
            return 0;
        if (key_bytes == wanted && memcmp(at + 4, key, wanted) == 0) {
            value->kind = at[1];
            value->data = at + 4 + key_bytes;
            value->bytes = value_bytes;
            return 1;
        }
        at += 4 + key_bytes + value_bytes;
        left -= 4 + key_bytes + value_bytes;
    }
    return 0;
}

/* The number that an attribute of kind TEMPOS_UNSIGNED or TEMPOS_SIGNED holds; 1 where it is one. */
static inline int tempos_attribute_number(const tempos_event *event, const char *key, int64_t *number)
{
    tempos_value value;
    uint64_t bits = 0;
    int i;
    if (!tempos_attribute(event, key, &value) || value.bytes != 8 ||
        (value.kind != TEMPOS_UNSIGNED && value.kind != TEMPOS_SIGNED))
        return 0;
    for (i = 7; i >= 0; i--)
        bits = bits << 8 | value.data[i];
    *number = (int64_t)bits;
    return 1;
}

#ifdef __cplusplus
}
#endif

#endif

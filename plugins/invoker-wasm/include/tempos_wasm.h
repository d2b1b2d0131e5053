/*
 * tempos_wasm.h: what a function for the invocation method `wasm` is, as a core module in C.
 *
 * A function defines
 *
 *     int32_t handle(const uint8_t *event, uint32_t bytes);
 *
 * The answer is 0 where it ended well, 1 to 255 where it failed (the number is the function's own). The event
 * lies in memory that `alloc` gave out and belongs to the function. Build it as a reactor:
 *
 *     clang --target=wasm32-wasi -O2 -mexec-model=reactor -o f.wasm f.c
 *     python -m ziglang cc --target=wasm32-wasi -O2 -mexec-model=reactor -s -Wl,-z,stack-size=65536 -o f.wasm f.c
 *
 * Include this header in one file of the function: it defines the exports `alloc` and `free` there. Every call costs
 * some ten nanoseconds, and none of them waits.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TEMPOS_WASM_H
#define TEMPOS_WASM_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TEMPOS_IMPORT(name) __attribute__((import_module("tempos"), import_name(name)))
#define TEMPOS_EXPORT(name) __attribute__((export_name(name)))

/* What every function exports. */
TEMPOS_EXPORT("handle") int32_t handle(const uint8_t *event, uint32_t bytes);

/* Appends to the output; 0, or -1 where it does not fit. Without any write there is no output event. */
TEMPOS_IMPORT("write") int32_t tempos_write(const void *data, uint32_t bytes);

/* Says in one sentence why the function fails. */
TEMPOS_IMPORT("explain") void tempos_explain(const char *sentence, uint32_t bytes);

/* A line for the node's log. Lines are bounded in length and number; what is left out is counted there. */
#define TEMPOS_ERROR 0
#define TEMPOS_WARNING 1
#define TEMPOS_INFO 2
#define TEMPOS_DEBUG 3
TEMPOS_IMPORT("log") void tempos_log(int32_t severity, const char *line, uint32_t bytes);

/* The event's attribute of that key, as text (numbers in decimal, addresses as ADDRESS:PORT) or bytes. The
 * answer is its whole length, of which as much is written as there is room for; -1 where there is none. */
TEMPOS_IMPORT("attribute")
int32_t tempos_attribute(const char *key, uint32_t key_bytes, void *into, uint32_t room);

/* The same for a number; 1 where the attribute is one, else 0. */
TEMPOS_IMPORT("attribute_number")
int32_t tempos_attribute_number(const char *key, uint32_t key_bytes, int64_t *into);

/* The event's topic; the answer as for tempos_attribute. */
TEMPOS_IMPORT("topic") int32_t tempos_topic(char *into, uint32_t room);

/* The event's numbers. */
#define TEMPOS_ID 0             /* unique for this node */
#define TEMPOS_LEVEL 1          /* QoS level: 0 strict, 1 best-effort, others as declared */
#define TEMPOS_SOURCE_TIME_NS 2 /* when it came to be, since the epoch; 0: unknown */
#define TEMPOS_ARRIVAL_NS 3     /* when it arrived here (CLOCK_MONOTONIC of the node) */
#define TEMPOS_DEADLINE_NS 4    /* when it is late (the same clock); 0: never */
TEMPOS_IMPORT("event") int64_t tempos_event(int32_t number);

/* Appends a text without its NUL. */
static inline int32_t tempos_write_text(const char *text)
{
    return tempos_write(text, (uint32_t)strlen(text));
}

/* Says in one sentence why the function fails, and answers `code` (1 to 255) for it to return. */
static inline int32_t tempos_fail(uint8_t code, const char *sentence)
{
    tempos_explain(sentence, (uint32_t)strlen(sentence));
    return code == 0 ? 1 : (int32_t)code;
}

/* Room for an event, asked for by the node before each call; and the end of it where an instance is reused. */
TEMPOS_EXPORT("alloc") void *tempos_alloc_event(uint32_t bytes)
{
    return malloc(bytes == 0 ? 1 : bytes);
}

TEMPOS_EXPORT("free") void tempos_free_event(void *event, uint32_t bytes)
{
    (void)bytes;
    free(event);
}

#endif

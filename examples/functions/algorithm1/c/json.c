/* json.c: a flat JSON object of texts. Everything is checked against the end; nothing is assumed of the input. */
#include "json.h"

#include <string.h>

struct reader {
    const char *at, *end;
    char *room;
};

static void skip_blanks(struct reader *reader)
{
    while (reader->at < reader->end && strchr(" \t\r\n", *reader->at) != NULL && *reader->at != '\0')
        reader->at++;
}

/* Takes this character, with the blanks before it. */
static int take(struct reader *reader, char wanted)
{
    skip_blanks(reader);
    if (reader->at == reader->end || *reader->at != wanted)
        return 0;
    reader->at++;
    return 1;
}

/* The four hexadecimal digits of \uXXXX; -1 where they are none. */
static long hexadecimal(struct reader *reader)
{
    long value = 0;
    if (reader->end - reader->at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const char *digits = "0123456789abcdef", *digit;
        char c = *reader->at++;
        if (c >= 'A' && c <= 'F')
            c = (char)(c - 'A' + 'a');
        digit = c == '\0' ? NULL : strchr(digits, c);
        if (digit == NULL)
            return -1;
        value = value * 16 + (digit - digits);
    }
    return value;
}

/* Puts a character down as UTF-8, which is never longer than its \uXXXX. */
static void put(struct reader *reader, long c)
{
    if (c < 0x80) {
        *reader->room++ = (char)c;
    } else if (c < 0x800) {
        *reader->room++ = (char)(0xc0 | c >> 6);
        *reader->room++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *reader->room++ = (char)(0xe0 | c >> 12);
        *reader->room++ = (char)(0x80 | (c >> 6 & 0x3f));
        *reader->room++ = (char)(0x80 | (c & 0x3f));
    } else {
        *reader->room++ = (char)(0xf0 | c >> 18);
        *reader->room++ = (char)(0x80 | (c >> 12 & 0x3f));
        *reader->room++ = (char)(0x80 | (c >> 6 & 0x3f));
        *reader->room++ = (char)(0x80 | (c & 0x3f));
    }
}

/* What follows a backslash. */
static int read_escape(struct reader *reader)
{
    static const char written[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    const char *found;
    long c;
    if (reader->at == reader->end || *reader->at == '\0')
        return 0;
    found = strchr(written, *reader->at);
    if (found != NULL) {
        reader->at++;
        *reader->room++ = meant[found - written];
        return 1;
    }
    if (*reader->at++ != 'u' || (c = hexadecimal(reader)) < 0 || (c >= 0xdc00 && c < 0xe000))
        return 0;
    if (c >= 0xd800 && c < 0xdc00) {
        long low;
        if (reader->end - reader->at < 2 || reader->at[0] != '\\' || reader->at[1] != 'u')
            return 0;
        reader->at += 2;
        low = hexadecimal(reader);
        if (low < 0xdc00 || low >= 0xe000)
            return 0;
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    put(reader, c);
    return 1;
}

static int read_text(struct reader *reader, struct text *text)
{
    if (!take(reader, '"'))
        return 0;
    text->data = reader->room;
    while (reader->at < reader->end && *reader->at != '"') {
        unsigned char c = (unsigned char)*reader->at++;
        if (c < 0x20 || (c == '\\' && !read_escape(reader)))
            return 0;
        if (c != '\\')
            *reader->room++ = (char)c;
    }
    text->bytes = (size_t)(reader->room - text->data);
    return take(reader, '"');
}

static int is(struct text text, const char *word)
{
    return text.bytes == strlen(word) && memcmp(text.data, word, text.bytes) == 0;
}

int read_request(const char *json, size_t bytes, char *room, struct text *message, struct text *pattern)
{
    struct reader reader = {json, json == NULL ? json : json + bytes, room};
    int seen = 0;
    if (!take(&reader, '{'))
        return 0;
    do {
        struct text name, value;
        if (!read_text(&reader, &name) || !take(&reader, ':') || !read_text(&reader, &value))
            return 0;
        if (is(name, "message")) {
            *message = value;
            seen |= 1;
        } else if (is(name, "pattern")) {
            *pattern = value;
            seen |= 2;
        }
    } while (take(&reader, ','));
    if (!take(&reader, '}'))
        return 0;
    skip_blanks(&reader);
    return reader.at == reader.end && seen == 3;
}

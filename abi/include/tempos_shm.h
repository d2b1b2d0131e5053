/*
 * tempos_shm.h: events to a TEMPOS node of the same machine, and from it, over shared memory (adapter `shm`).
 * Header only, C11 or C++11 on Linux with GCC or Clang; the mirror of the Rust crate tempos-shm.
 *
 *     tempos_shm end;                                     a producer; the node need not be there yet
 *     if (tempos_shm_open(&end, "/run/press.shm", TEMPOS_SHM_PRODUCER) != 0) ...
 *     while (tempos_shm_send(&end, bytes, length, 1000) == TEMPOS_SHM_DISCONNECTED) ...
 *     tempos_shm_close(&end);
 *
 *     const void *frame; size_t length;                   a consumer: frames are lent where they lie
 *     int got = tempos_shm_receive(&end, &frame, &length, -1);
 *
 * Answers are TEMPOS_SHM_OK or a negative code. An end belongs to one thread at a time. Where the node goes,
 * calls answer TEMPOS_SHM_DISCONNECTED and look for it again, ten times a second at the most.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef TEMPOS_SHM_H
#define TEMPOS_SHM_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before any header: tempos_shm.h needs F_GET_SEALS, MSG_CMSG_CLOEXEC and the like"
#endif

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TEMPOS_SHM_PRODUCER 1u /* writes: an ingress channel listens */
#define TEMPOS_SHM_CONSUMER 2u /* reads: an egress channel listens */

#define TEMPOS_SHM_OK 0
#define TEMPOS_SHM_NOTHING (-1)      /* no frame in that time */
#define TEMPOS_SHM_FULL (-2)         /* no room in that time */
#define TEMPOS_SHM_DISCONNECTED (-3) /* nobody serves there now */
#define TEMPOS_SHM_TOO_LARGE (-4)    /* longer than the channel carries */
#define TEMPOS_SHM_REFUSED (-5)      /* the node says no: no place left, or the other kind of channel */
#define TEMPOS_SHM_BROKEN (-6)       /* the other side wrote nonsense; the connection was closed */
#define TEMPOS_SHM_SYSTEM (-7)       /* errno says why */

/* One end. Its fields are nobody's business but these functions'. */
typedef struct tempos_shm {
    struct sockaddr_un address;
    socklen_t address_bytes;
    uint32_t role;
    int socket;           /* -1: not connected */
    uint8_t *start;       /* the mapping: a page of words, then the ring twice; null: not greeted yet */
    size_t page_bytes;
    uint64_t capacity;
    uint64_t frame_bytes_max;
    uint64_t mine, shown; /* my position, and the one that the other side knows */
    uint64_t theirs;      /* the other side's when it was looked at last */
    uint64_t frames, shown_frames;
    uint64_t tried_ns;
    uint64_t connections; /* how often it has connected */
    uint64_t lost;        /* frames that were published and that no node will take any more */
    uint32_t unchecked;
} tempos_shm;

/* --- inside -------------------------------------------------------------------------------------------- */

enum { TEMPOS_SHM_TAIL = 128, TEMPOS_SHM_WRITTEN = 136, TEMPOS_SHM_HEAD = 256, TEMPOS_SHM_READ = 264,
       TEMPOS_SHM_SLEEPS = 384, TEMPOS_SHM_WAITS = 512 };

static inline uint64_t *tempos_shm_word_(const tempos_shm *end, int offset) {
    return (uint64_t *)(void *)(end->start + offset);
}
static inline uint64_t tempos_shm_load_(const tempos_shm *end, int offset) {
    return __atomic_load_n(tempos_shm_word_(end, offset), __ATOMIC_ACQUIRE);
}
static inline void tempos_shm_store_(const tempos_shm *end, int offset, uint64_t value) {
    __atomic_store_n(tempos_shm_word_(end, offset), value, __ATOMIC_RELEASE);
}
static inline uint8_t *tempos_shm_record_(const tempos_shm *end, uint64_t place) {
    return end->start + end->page_bytes + (place & (end->capacity - 1));
}
static inline uint64_t tempos_shm_bytes_(uint64_t length) { return (length + 8 + 7) & ~(uint64_t)7; }

static inline uint64_t tempos_shm_now_(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The connection ends; what the node had not taken is counted. */
static inline void tempos_shm_end_(tempos_shm *end) {
    if (end->start) {
        if (end->role == TEMPOS_SHM_PRODUCER) {
            uint64_t unread = end->shown_frames - tempos_shm_load_(end, TEMPOS_SHM_READ);
            if (unread <= end->capacity / 8) end->lost += unread;
        }
        munmap(end->start, end->page_bytes + 2 * end->capacity);
    }
    if (end->socket >= 0) close(end->socket);
    end->start = NULL;
    end->socket = -1;
}

static inline int tempos_shm_fails_(tempos_shm *end, int code) {
    int kept = errno;
    tempos_shm_end_(end);
    errno = kept;
    return code;
}

/* Quiets the own bell: 1 it rang, 0 it did not, -1 the connection has ended. */
static inline int tempos_shm_drain_(const tempos_shm *end) {
    char bytes[64];
    ssize_t got = recv(end->socket, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got > 0) return 1;
    return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* Rings the other side's bell: 0 where nobody is there. */
static inline int tempos_shm_ring_(const tempos_shm *end) {
    return send(end->socket, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 || errno == EAGAIN;
}

static inline int tempos_shm_map_(tempos_shm *end, int memory) {
    struct stat file;
    int seals = fcntl(memory, F_GET_SEALS), wanted = F_SEAL_SHRINK | F_SEAL_GROW;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), ring = (size_t)end->capacity;
    uint8_t *start;
    if (ring < page || (ring & (ring - 1)) != 0 || ring > ((size_t)1 << 30)) return TEMPOS_SHM_REFUSED;
    if (seals < 0 || (seals & wanted) != wanted || fstat(memory, &file) != 0 || (uint64_t)file.st_size != page + ring)
        return TEMPOS_SHM_REFUSED;
    start = (uint8_t *)mmap(NULL, page + 2 * ring, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return TEMPOS_SHM_SYSTEM;
    if (mmap(start, page + ring, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, memory, 0) == MAP_FAILED ||
        mmap(start + page + ring, ring, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, memory,
             (off_t)page) == MAP_FAILED) {
        munmap(start, page + 2 * ring);
        return TEMPOS_SHM_SYSTEM;
    }
    /* A child of fork(2) must not be a second writer. */
    madvise(start, page + 2 * ring, MADV_DONTFORK);
    end->start = start;
    end->page_bytes = page;
    return TEMPOS_SHM_OK;
}

/* Takes the greeting, where it has come. */
static inline int tempos_shm_greeted_(tempos_shm *end) {
    uint8_t bytes[64];
    union { struct cmsghdr header; char room[CMSG_SPACE(2 * sizeof(int))]; } control;
    struct iovec piece = { bytes, sizeof bytes };
    struct msghdr message;
    struct cmsghdr *first;
    uint32_t version, role;
    int memory = -1, code;
    ssize_t got;
    memset(&message, 0, sizeof message);
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.room;
    message.msg_controllen = sizeof control.room;
    got = recvmsg(end->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return TEMPOS_SHM_DISCONNECTED;
    if (got <= 0) return tempos_shm_fails_(end, TEMPOS_SHM_DISCONNECTED);
    first = CMSG_FIRSTHDR(&message);
    if (first && first->cmsg_level == SOL_SOCKET && first->cmsg_type == SCM_RIGHTS)
        memcpy(&memory, CMSG_DATA(first), sizeof memory);
    memcpy(&version, bytes + 8, 4);
    memcpy(&role, bytes + 12, 4);
    memcpy(&end->capacity, bytes + 16, 8);
    memcpy(&end->frame_bytes_max, bytes + 24, 8);
    if (got != (ssize_t)sizeof bytes || memcmp(bytes, "TMPOSSHM", 8) != 0 || version != 1 || role != end->role || memory < 0)
        code = TEMPOS_SHM_REFUSED;
    else
        code = tempos_shm_map_(end, memory);
    if (memory >= 0) close(memory);
    if (code != TEMPOS_SHM_OK) return tempos_shm_fails_(end, code);
    if (end->frame_bytes_max > end->capacity / 2 - 8) end->frame_bytes_max = end->capacity / 2 - 8;
    end->mine = end->shown = end->theirs = end->frames = end->shown_frames = 0;
    end->connections++;
    return TEMPOS_SHM_OK;
}

/* Sees to it that there is a connection. */
static inline int tempos_shm_join_(tempos_shm *end) {
    if (end->start) return TEMPOS_SHM_OK;
    if (end->socket < 0) {
        uint64_t now = tempos_shm_now_();
        if (end->tried_ns && now - end->tried_ns < 100000000u) return TEMPOS_SHM_DISCONNECTED;
        end->tried_ns = now;
        end->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (end->socket < 0) return TEMPOS_SHM_SYSTEM;
        if (connect(end->socket, (const struct sockaddr *)&end->address, end->address_bytes) != 0) {
            int absent = errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN;
            return tempos_shm_fails_(end, absent ? TEMPOS_SHM_DISCONNECTED : TEMPOS_SHM_SYSTEM);
        }
    }
    return tempos_shm_greeted_(end);
}

/* Waits for the bell or the greeting, or a moment where nobody is there. 0: the time is up. */
static inline int tempos_shm_pause_(const tempos_shm *end, uint64_t until) {
    struct pollfd asked = { end->socket, POLLIN, 0 };
    uint64_t now = tempos_shm_now_(), left = until > now ? (until - now + 999999) / 1000000 : 0;
    int most = end->start ? 0x7fffffff : 100;
    if (left == 0) return 0;
    poll(&asked, end->socket >= 0 ? 1 : 0, left < (uint64_t)most ? (int)left : most);
    return 1;
}

static inline uint64_t tempos_shm_until_(int timeout_ms) {
    return timeout_ms < 0 ? UINT64_MAX : tempos_shm_now_() + (uint64_t)timeout_ms * 1000000u;
}

/* Looks how far the reader is; 0 where that makes no sense. */
static inline int tempos_shm_look_head_(tempos_shm *end) {
    uint64_t head = tempos_shm_load_(end, TEMPOS_SHM_HEAD);
    if ((head & 7) != 0 || end->shown - head > end->shown - end->theirs) return 0;
    end->theirs = head;
    return 1;
}

static inline int tempos_shm_look_tail_(tempos_shm *end) {
    uint64_t tail = tempos_shm_load_(end, TEMPOS_SHM_TAIL);
    if ((tail & 7) != 0 || tail - end->mine > end->capacity) return 0;
    end->theirs = tail;
    return 1;
}

/* --- both ends ----------------------------------------------------------------------------------------- */

/* Makes an end of a channel at a path, or at "@NAME". It connects with the first call that needs it. */
static inline int tempos_shm_open(tempos_shm *end, const char *path, uint32_t role) {
    size_t length = strlen(path);
    memset(end, 0, sizeof *end);
    end->socket = -1;
    end->role = role;
    if (length == 0 || length >= sizeof end->address.sun_path || (length == 1 && path[0] == '@')) {
        errno = EINVAL;
        return TEMPOS_SHM_SYSTEM;
    }
    end->address.sun_family = AF_UNIX;
    memcpy(end->address.sun_path, path, length);
    if (path[0] == '@') end->address.sun_path[0] = 0;
    end->address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] != '@'));
    return TEMPOS_SHM_OK;
}

/* Ends it. What a producer has published is still delivered. */
static inline void tempos_shm_close(tempos_shm *end) {
    uint64_t lost = end->lost;
    tempos_shm_end_(end);
    end->lost = lost;
}

/* For a poll loop of one's own: readable when something happened; -1 where it is not connected. Another one
 * after each connection (see the field `connections`). */
static inline int tempos_shm_fd(const tempos_shm *end) { return end->socket; }

/* --- a producer ---------------------------------------------------------------------------------------- */

/* A frame of `length` bytes in the ring itself, to be written and then published; several may be lent before. */
static inline int tempos_shm_loan(tempos_shm *end, size_t length, void **frame) {
    uint64_t bytes = tempos_shm_bytes_(length);
    uint32_t stored = (uint32_t)length;
    int code = tempos_shm_join_(end);
    if (code != TEMPOS_SHM_OK) return code;
    if (length > end->frame_bytes_max) return TEMPOS_SHM_TOO_LARGE;
    if (end->capacity - (end->mine - end->theirs) < bytes) {
        if (!tempos_shm_look_head_(end)) return tempos_shm_fails_(end, TEMPOS_SHM_BROKEN);
        if (end->capacity - (end->mine - end->theirs) < bytes) {
            if (tempos_shm_drain_(end) < 0) return tempos_shm_fails_(end, TEMPOS_SHM_DISCONNECTED);
            return TEMPOS_SHM_FULL;
        }
    }
    memcpy(tempos_shm_record_(end, end->mine), &stored, sizeof stored);
    *frame = tempos_shm_record_(end, end->mine) + 8;
    end->mine += bytes;
    end->frames++;
    return TEMPOS_SHM_OK;
}

/* Sends all frames that were lent, with one wake-up at the most. */
static inline int tempos_shm_publish(tempos_shm *end) {
    int stands = 1;
    if (!end->start) return TEMPOS_SHM_DISCONNECTED;
    end->shown = end->mine;
    end->shown_frames = end->frames;
    tempos_shm_store_(end, TEMPOS_SHM_WRITTEN, end->frames);
    tempos_shm_store_(end, TEMPOS_SHM_TAIL, end->mine);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(tempos_shm_word_(end, TEMPOS_SHM_SLEEPS), __ATOMIC_RELAXED) != 0 &&
        __atomic_exchange_n(tempos_shm_word_(end, TEMPOS_SHM_SLEEPS), 0, __ATOMIC_RELAXED) != 0)
        stands = tempos_shm_ring_(end);
    else if (++end->unchecked % 256 == 0) /* a node that died awake is not woken any more */
        stands = tempos_shm_drain_(end) >= 0;
    return stands ? TEMPOS_SHM_OK : tempos_shm_fails_(end, TEMPOS_SHM_DISCONNECTED);
}

/* After TEMPOS_SHM_FULL, for a poll loop of one's own: 1, wait for tempos_shm_fd to be readable; 0, there is
 * room; or a negative code. */
static inline int tempos_shm_wants_room(tempos_shm *end, size_t length) {
    uint64_t bytes = tempos_shm_bytes_(length), quarter = end->capacity / 4;
    if (!end->start) return TEMPOS_SHM_DISCONNECTED;
    /* Quieted before it is waited for: what rings from now on is news. */
    if (tempos_shm_drain_(end) < 0) return tempos_shm_fails_(end, TEMPOS_SHM_DISCONNECTED);
    tempos_shm_store_(end, TEMPOS_SHM_WAITS, bytes > quarter ? bytes : quarter);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!tempos_shm_look_head_(end)) return tempos_shm_fails_(end, TEMPOS_SHM_BROKEN);
    if (end->capacity - (end->mine - end->theirs) < bytes) return 1;
    tempos_shm_store_(end, TEMPOS_SHM_WAITS, 0);
    return 0;
}

/* Sends a frame; waits up to `timeout_ms` (-1: without limit) for room, and for the node where it is not there. */
static inline int tempos_shm_send(tempos_shm *end, const void *bytes, size_t length, int timeout_ms) {
    uint64_t until = timeout_ms == 0 ? 0 : tempos_shm_until_(timeout_ms);
    void *frame;
    for (;;) {
        int code = tempos_shm_loan(end, length, &frame), waits = 1;
        if (code == TEMPOS_SHM_OK) {
            memcpy(frame, bytes, length);
            return tempos_shm_publish(end);
        }
        if (code != TEMPOS_SHM_FULL && code != TEMPOS_SHM_DISCONNECTED) return code;
        if (timeout_ms == 0) return code;
        if (code == TEMPOS_SHM_FULL) waits = tempos_shm_wants_room(end, length);
        if (waits < 0) return waits;
        if (waits && !tempos_shm_pause_(end, until)) return code;
    }
}

/* --- a consumer ---------------------------------------------------------------------------------------- */

/* Gives the node the room of all frames that were received. They are not to be looked at any more. */
static inline void tempos_shm_release(tempos_shm *end) {
    uint64_t wanted;
    if (!end->start || end->shown == end->mine) return;
    end->shown = end->mine;
    tempos_shm_store_(end, TEMPOS_SHM_READ, end->frames);
    tempos_shm_store_(end, TEMPOS_SHM_HEAD, end->mine);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    wanted = __atomic_load_n(tempos_shm_word_(end, TEMPOS_SHM_WAITS), __ATOMIC_RELAXED);
    if (wanted > end->capacity) wanted = end->capacity;
    if (wanted != 0 && end->capacity - (end->theirs - end->mine) >= wanted &&
        __atomic_exchange_n(tempos_shm_word_(end, TEMPOS_SHM_WAITS), 0, __ATOMIC_RELAXED) != 0)
        tempos_shm_ring_(end);
}

/* For a poll loop of one's own: 1, wait for tempos_shm_fd to be readable; 0, there is a frame; or a negative
 * code. Releases what was received. */
static inline int tempos_shm_wants_frames(tempos_shm *end) {
    int heard;
    if (!end->start) return TEMPOS_SHM_DISCONNECTED;
    tempos_shm_release(end);
    heard = tempos_shm_drain_(end);
    tempos_shm_store_(end, TEMPOS_SHM_SLEEPS, 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!tempos_shm_look_tail_(end)) return tempos_shm_fails_(end, TEMPOS_SHM_BROKEN);
    if (end->theirs == end->mine) return heard < 0 ? tempos_shm_fails_(end, TEMPOS_SHM_DISCONNECTED) : 1;
    tempos_shm_store_(end, TEMPOS_SHM_SLEEPS, 0);
    return 0;
}

/* The next frame, lent until the next call; waits up to `timeout_ms` (-1: without limit). */
static inline int tempos_shm_receive(tempos_shm *end, const void **frame, size_t *length, int timeout_ms) {
    uint64_t until = timeout_ms == 0 ? 0 : tempos_shm_until_(timeout_ms);
    for (;;) {
        int code = tempos_shm_join_(end);
        if (code == TEMPOS_SHM_OK) {
            if (end->mine - end->shown >= end->capacity / 8) tempos_shm_release(end);
            if (end->mine == end->theirs && !tempos_shm_look_tail_(end)) return tempos_shm_fails_(end, TEMPOS_SHM_BROKEN);
            if (end->mine != end->theirs) {
                uint32_t stored;
                uint64_t bytes;
                memcpy(&stored, tempos_shm_record_(end, end->mine), sizeof stored);
                bytes = tempos_shm_bytes_(stored);
                if (bytes > end->theirs - end->mine) return tempos_shm_fails_(end, TEMPOS_SHM_BROKEN);
                *frame = tempos_shm_record_(end, end->mine) + 8;
                *length = stored;
                end->mine += bytes;
                end->frames++;
                return TEMPOS_SHM_OK;
            }
            code = tempos_shm_wants_frames(end);
            if (code < 0) return code;
            if (code == 0) continue;
            code = TEMPOS_SHM_NOTHING;
        } else if (code != TEMPOS_SHM_DISCONNECTED) {
            return code;
        }
        if (timeout_ms == 0 || !tempos_shm_pause_(end, until)) return code;
    }
}

#ifdef __cplusplus
}
#endif

#endif

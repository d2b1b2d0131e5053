/*
 * Receives numbered frames from a node over shared memory and keeps account of them.
 *
 *     consumer PATH COUNT     ends after so many frames, or after ten seconds without one
 *
 * cc -O2 -I abi/include -o consumer examples/shm/consumer.c
 */
#define _GNU_SOURCE
#include "tempos_shm.h"

#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words) {
    tempos_shm end;
    if (count != 3 || tempos_shm_open(&end, words[1], TEMPOS_SHM_CONSUMER) != TEMPOS_SHM_OK) {
        fprintf(stderr, "usage: consumer PATH COUNT\n");
        return 2;
    }
    uint64_t most = strtoull(words[2], NULL, 10), received = 0, next = 0, gaps = 0, first_ns = 0;
    int refused = 0;
    int code = TEMPOS_SHM_OK;
    while (received < most) {
        const void *frame;
        size_t length;
        uint64_t number;
        code = tempos_shm_receive(&end, &frame, &length, 10000);
        if (code == TEMPOS_SHM_DISCONNECTED && end.connections > 0 && end.socket < 0) continue; /* the node went */
        if (code == TEMPOS_SHM_REFUSED && refused++ < 100) { /* the one before us may still be going */
            usleep(50000);
            continue;
        }
        if (code != TEMPOS_SHM_OK) break;
        if (received++ == 0) first_ns = tempos_shm_now_();
        if (length < sizeof number) continue;
        memcpy(&number, frame, sizeof number);
        gaps += number != next;
        next = number + 1;
    }
    double seconds = (double)(tempos_shm_now_() - first_ns) / 1e9;
    tempos_shm_close(&end);
    printf("received %llu, gaps %llu, %.0f a second\n", (unsigned long long)received, (unsigned long long)gaps,
           received && seconds > 0 ? (double)received / seconds : 0.0);
    return received == most ? 0 : 1;
}

/*
 * Sends numbered frames of 256 bytes into a node over shared memory.
 *
 *     producer PATH COUNT     as fast as the node takes them; waits where it does not, and for the node itself
 *
 * cc -O2 -I abi/include -o producer examples/shm/producer.c
 */
#define _GNU_SOURCE
#include "tempos_shm.h"

#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words) {
    tempos_shm end;
    uint8_t frame[256] = {0};
    if (count != 3 || tempos_shm_open(&end, words[1], TEMPOS_SHM_PRODUCER) != TEMPOS_SHM_OK) {
        fprintf(stderr, "usage: producer PATH COUNT\n");
        return 2;
    }
    uint64_t most = strtoull(words[2], NULL, 10), number = 0;
    while (number < most) {
        memcpy(frame, &number, sizeof number);
        int code = tempos_shm_send(&end, frame, sizeof frame, 10000);
        if (code == TEMPOS_SHM_OK) number++;
        else if (code != TEMPOS_SHM_DISCONNECTED) {
            fprintf(stderr, "producer: code %d at frame %llu\n", code, (unsigned long long)number);
            return 1;
        }
    }
    tempos_shm_close(&end);
    printf("sent %llu, lost %llu, connections %llu\n", (unsigned long long)number, (unsigned long long)end.lost,
           (unsigned long long)end.connections);
    return 0;
}

/* SPDX-License-Identifier: MIT
 *
 * run_on TARGET PROGRAM ARGUMENTS...: runs a test of a target, or says that this CPU lacks it and returns 77.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <unistd.h>

#include "target.h"

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: run_on TARGET PROGRAM ARGUMENTS...\n");
        return 2;
    }
    if (!target_runs(argv[1])) {
        printf("SKIPPED: this CPU lacks target %s\n", argv[1]);
        return 77;
    }
    execv(argv[2], argv + 2);
    perror(argv[2]);
    return 2;
}

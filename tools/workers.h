/* SPDX-License-Identifier: MIT */
/* A small pool of POSIX threads behind the library's parallel_for. */
#ifndef REPLAY_WORKERS_H
#define REPLAY_WORKERS_H

#include "fia.h"

typedef struct worker_pool worker_pool;

/** n tasks at once, the caller's own thread included. NULL: threads cannot be had. */
worker_pool *worker_pool_start(int n);
void worker_pool_stop(worker_pool *pool);

/** fia_workers.parallel_for; pool is the worker_pool. */
void worker_pool_for(void *pool, int n, fia_task task, void *task_data);

#endif

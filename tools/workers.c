/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "workers.h"

#include <pthread.h>
#include <stdlib.h>

struct worker_pool {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pthread_t *threads;
    int n_threads;
    fia_task task; /* tasks next .. n-1 are to be taken; busy of those taken are not complete */
    void *task_data;
    int next, n, busy;
    int stop;
};

/* Takes tasks until none is left. Called and left with the lock held. */
static void take_tasks(worker_pool *pool) {
    while (pool->next < pool->n) {
        int index = pool->next++;
        ++pool->busy;
        (void)pthread_mutex_unlock(&pool->lock);
        pool->task(pool->task_data, index);
        (void)pthread_mutex_lock(&pool->lock);
        --pool->busy;
    }
    if (!pool->busy) (void)pthread_cond_broadcast(&pool->done);
}

static void *worker_main(void *argument) {
    worker_pool *pool = argument;
    (void)pthread_mutex_lock(&pool->lock);
    while (!pool->stop) {
        take_tasks(pool);
        if (!pool->stop) (void)pthread_cond_wait(&pool->work, &pool->lock);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return NULL;
}

worker_pool *worker_pool_start(int n) {
    worker_pool *pool = calloc(1, sizeof(*pool));
    if (!pool) return NULL;
    pool->threads = calloc((size_t)n, sizeof(*pool->threads));
    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)pthread_cond_init(&pool->work, NULL);
    (void)pthread_cond_init(&pool->done, NULL);
    while (pool->threads && pool->n_threads < n - 1) {
        if (pthread_create(&pool->threads[pool->n_threads], NULL, worker_main, pool)) break;
        ++pool->n_threads;
    }
    if (pool->threads && pool->n_threads == n - 1) return pool;
    worker_pool_stop(pool);
    return NULL;
}

void worker_pool_stop(worker_pool *pool) {
    int i;
    if (!pool) return;
    (void)pthread_mutex_lock(&pool->lock);
    pool->stop = 1;
    (void)pthread_cond_broadcast(&pool->work);
    (void)pthread_mutex_unlock(&pool->lock);
    for (i = 0; i < pool->n_threads; ++i) (void)pthread_join(pool->threads[i], NULL);
    (void)pthread_cond_destroy(&pool->done);
    (void)pthread_cond_destroy(&pool->work);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}

void worker_pool_for(void *argument, int n, fia_task task, void *task_data) {
    worker_pool *pool = argument;
    (void)pthread_mutex_lock(&pool->lock);
    pool->task = task;
    pool->task_data = task_data;
    pool->next = 0;
    pool->n = n;
    (void)pthread_cond_broadcast(&pool->work);
    take_tasks(pool);
    while (pool->busy) (void)pthread_cond_wait(&pool->done, &pool->lock);
    (void)pthread_mutex_unlock(&pool->lock);
}

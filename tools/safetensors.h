/* SPDX-License-Identifier: MIT */
/* Strict reader and writer of safetensors files. Nothing of a file is trusted. */
#ifndef REPLAY_SAFETENSORS_H
#define REPLAY_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "dtype.h"
#include "text.h"

enum { ST_MAX_DIMS = 6 };

typedef struct st_tensor {
    const char *name;
    const dtype_info *type;
    int ndim;
    int64_t shape[ST_MAX_DIMS];
    int64_t begin, end; /**< bytes, from the start of the data */
    void *data;         /**< exactly end - begin bytes, aligned for any type */
} st_tensor;

typedef struct st_pair {
    char *key, *value;
} st_pair;

/** Tensors and metadata, each sorted by name. */
typedef struct st_file {
    st_tensor *tensors;
    size_t n_tensors;
    st_pair *metadata;
    size_t n_metadata;
} st_file;

/** Reads and checks a whole file. Returns 0, or -1 with the reason; st_free is due either way. */
int st_read(const char *path, st_file *file, reason *why);
void st_free(st_file *file);

/** NULL: not there. */
const st_tensor *st_find(const st_file *file, const char *name);
const char *st_metadata(const st_file *file, const char *key);

/** Writes tensors (name, type, shape and data are used) with one metadata pair "op". Reorders the array. */
int st_write(const char *path, st_tensor *tensors, size_t n, const char *op, reason *why);

#endif

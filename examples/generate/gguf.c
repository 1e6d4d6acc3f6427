/* SPDX-License-Identifier: MIT */
#include "gguf.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Far above any real model. They keep the search for duplicates, a plain double loop, short on a hostile file. */
#define MAX_KEYS 4096u
#define MAX_TENSORS 16384u

int fail(error *e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof(e->text), format, args);
    va_end(args);
    return -1;
}

const char *gguf_printable(gguf_string s, char text[64]) {
    size_t i, n = s.length < 63 ? s.length : 63;
    for (i = 0; i < n; ++i) text[i] = s.at[i] >= ' ' && s.at[i] <= '~' ? s.at[i] : '?';
    text[n] = 0;
    return text;
}

int gguf_string_is(gguf_string s, const char *text) {
    return s.length == strlen(text) && memcmp(s.at, text, s.length) == 0;
}

static int same(gguf_string a, gguf_string b) { return a.length == b.length && memcmp(a.at, b.at, a.length) == 0; }

/* ---- cursor: the only place that moves through the file ---- */

typedef struct cursor {
    const uint8_t *start, *at, *end;
    error *e;
} cursor;

/* The next n bytes, or NULL when the file ends before. */
static const uint8_t *take(cursor *c, uint64_t n, const char *what) {
    const uint8_t *at = c->at;
    if (n > (uint64_t)(c->end - c->at)) {
        fail(c->e, "%s at byte %llu needs %llu bytes; the file has %llu more", what,
             (unsigned long long)(c->at - c->start), (unsigned long long)n, (unsigned long long)(c->end - c->at));
        return NULL;
    }
    c->at += n;
    return at;
}

/* GGUF is little-endian; this reads it on any host. */
static uint64_t little(const uint8_t *at, int bytes) {
    uint64_t v = 0;
    while (bytes--) v = v << 8 | at[bytes];
    return v;
}

static int take_u32(cursor *c, uint32_t *v, const char *what) {
    const uint8_t *at = take(c, 4, what);
    if (at) *v = (uint32_t)little(at, 4);
    return at ? 0 : -1;
}

static int take_u64(cursor *c, uint64_t *v, const char *what) {
    const uint8_t *at = take(c, 8, what);
    if (at) *v = little(at, 8);
    return at ? 0 : -1;
}

static int take_string(cursor *c, gguf_string *s, const char *what) {
    uint64_t n;
    if (take_u64(c, &n, what) || !(s->at = (const char *)take(c, n, what))) return -1;
    s->length = (size_t)n;
    return 0;
}

/* ---- metadata ---- */

/* Bytes of a value; 0: it has no fixed size. */
static int type_bytes(gguf_type type) {
    static const int bytes[GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return bytes[type];
}

static int take_type(cursor *c, gguf_type *type, gguf_string key) {
    char name[64];
    uint32_t v;
    if (take_u32(c, &v, "a value type")) return -1;
    if (v >= GGUF_TYPES)
        return fail(c->e, "key %s has value type %lu; allowed: 0 to 12", gguf_printable(key, name), (unsigned long)v);
    *type = (gguf_type)v;
    return 0;
}

static int take_elements(cursor *c, gguf_key *key) {
    char name[64];
    uint64_t i;
    int bytes = type_bytes(key->element);
    key->value = c->at;
    if (bytes && key->count > (uint64_t)(c->end - c->at) / (uint64_t)bytes)
        return fail(c->e, "key %s has %llu elements; the file ends before", gguf_printable(key->name, name),
                    (unsigned long long)key->count);
    if (bytes) c->at += key->count * (uint64_t)bytes;
    for (i = 0; !bytes && i < key->count; ++i) {
        gguf_string s;
        if (take_string(c, &s, "a string")) return -1;
    }
    for (i = 0; key->element == GGUF_BOOL && i < key->count; ++i)
        if (key->value[i] > 1)
            return fail(c->e, "key %s holds bool %d; allowed: 0, 1", gguf_printable(key->name, name), key->value[i]);
    key->bytes = (size_t)(c->at - key->value);
    return 0;
}

static int take_key(cursor *c, gguf_key *key) {
    char name[64];
    if (take_string(c, &key->name, "a key name") || take_type(c, &key->type, key->name)) return -1;
    key->element = key->type;
    key->count = 1;
    if (key->type == GGUF_ARRAY) {
        if (take_type(c, &key->element, key->name) || take_u64(c, &key->count, "an array length")) return -1;
        if (key->element == GGUF_ARRAY)
            return fail(c->e, "key %s is an array of arrays; none is known", gguf_printable(key->name, name));
    }
    return take_elements(c, key);
}

static int take_keys(cursor *c, gguf_file *file, uint64_t n) {
    char name[64];
    uint64_t i;
    if (n > MAX_KEYS) return fail(c->e, "the key count is %llu; allowed: 0 to %u", (unsigned long long)n, MAX_KEYS);
    file->keys = (gguf_key *)calloc(n ? (size_t)n : 1, sizeof(gguf_key));
    if (!file->keys) return fail(c->e, "no memory for %llu keys", (unsigned long long)n);
    for (; file->n_keys < n; ++file->n_keys) {
        gguf_key *key = &file->keys[file->n_keys];
        if (take_key(c, key)) return -1;
        for (i = 0; i < file->n_keys; ++i)
            if (same(file->keys[i].name, key->name))
                return fail(c->e, "key %s occurs twice", gguf_printable(key->name, name));
    }
    return 0;
}

/* ---- tensors ---- */

/* Elements and bytes of the smallest stored unit; 0: the type is not read here. */
static int block_of(uint32_t type, uint64_t *bytes) {
    *bytes = type == GGUF_TENSOR_F32 ? 4 : type == GGUF_TENSOR_F16 ? 2 : 34; /* Q8_0: an F16 scale, 32 int8 */
    return type == GGUF_TENSOR_F32 || type == GGUF_TENSOR_F16 ? 1 : type == GGUF_TENSOR_Q8_0 ? 32 : 0;
}

static int take_shape(cursor *c, gguf_tensor *t) {
    char name[64];
    uint64_t size, elements = 1;
    uint32_t n_dims, type;
    int i, block;
    if (take_string(c, &t->name, "a tensor name") || take_u32(c, &n_dims, "a dimension count")) return -1;
    gguf_printable(t->name, name);
    if (n_dims < 1 || n_dims > 4)
        return fail(c->e, "tensor %s has %lu dimensions; allowed: 1 to 4", name, (unsigned long)n_dims);
    t->n_dims = (int)n_dims;
    t->dim[1] = t->dim[2] = t->dim[3] = 1;
    for (i = 0; i < t->n_dims; ++i) {
        if (take_u64(c, &t->dim[i], "a dimension")) return -1;
        if (t->dim[i] < 1 || t->dim[i] > INT32_MAX || elements > (uint64_t)INT64_MAX / 4 / t->dim[i])
            return fail(c->e, "tensor %s has dimension %llu; allowed: 1 to 2147483647, and products that fit", name,
                        (unsigned long long)t->dim[i]);
        elements *= t->dim[i];
    }
    if (take_u32(c, &type, "a tensor type") || take_u64(c, &t->offset, "a tensor offset")) return -1;
    block = block_of(type, &size);
    if (!block)
        return fail(c->e, "tensor %s has type %lu; read here: F32 (0), F16 (1), Q8_0 (8)", name, (unsigned long)type);
    if (t->dim[0] % (uint64_t)block)
        return fail(c->e, "tensor %s has rows of %llu elements; its type needs a multiple of %d", name,
                    (unsigned long long)t->dim[0], block);
    t->type = (int)type;
    size *= elements / (uint64_t)block;
    if (size > SIZE_MAX)
        return fail(c->e, "tensor %s has %llu bytes; too many for this machine", name, (unsigned long long)size);
    t->bytes = (size_t)size;
    return 0;
}

static int take_tensors(cursor *c, gguf_file *file, uint64_t n) {
    if (n > MAX_TENSORS)
        return fail(c->e, "the tensor count is %llu; allowed: 0 to %u", (unsigned long long)n, MAX_TENSORS);
    file->tensors = (gguf_tensor *)calloc(n ? (size_t)n : 1, sizeof(gguf_tensor));
    if (!file->tensors) return fail(c->e, "no memory for %llu tensors", (unsigned long long)n);
    for (; file->n_tensors < n; ++file->n_tensors)
        if (take_shape(c, &file->tensors[file->n_tensors])) return -1;
    return 0;
}

/* Binds every tensor to its bytes: aligned, inside the file, overlapping no other, under a name of its own. */
static int place_tensors(cursor *c, gguf_file *file) {
    char name[64], other[64];
    int64_t alignment = 32;
    uint64_t i, j, start, room;
    if (gguf_get_int(file, "general.alignment", 8, 1 << 20, &alignment, c->e)) return -1;
    if (alignment & (alignment - 1))
        return fail(c->e, "general.alignment is %lld; allowed: powers of 2", (long long)alignment);
    start = (uint64_t)(c->at - c->start);
    start += (0 - start) & ((uint64_t)alignment - 1);
    room = start <= (uint64_t)(c->end - c->start) ? (uint64_t)(c->end - c->start) - start : 0;
    for (i = 0; i < file->n_tensors; ++i) {
        gguf_tensor *t = &file->tensors[i];
        gguf_printable(t->name, name);
        if (t->offset & ((uint64_t)alignment - 1))
            return fail(c->e, "tensor %s has offset %llu; allowed: multiples of %lld", name,
                        (unsigned long long)t->offset, (long long)alignment);
        if (t->offset > room || t->bytes > room - t->offset)
            return fail(c->e, "tensor %s has %llu bytes at offset %llu; the file has %llu bytes of tensor data", name,
                        (unsigned long long)t->bytes, (unsigned long long)t->offset, (unsigned long long)room);
        t->data = c->start + start + t->offset;
        for (j = 0; j < i; ++j) {
            const gguf_tensor *u = &file->tensors[j];
            if (same(t->name, u->name)) return fail(c->e, "tensor %s occurs twice", name);
            if (t->offset < u->offset + u->bytes && u->offset < t->offset + t->bytes)
                return fail(c->e, "tensor %s overlaps tensor %s", name, gguf_printable(u->name, other));
        }
    }
    return 0;
}

int gguf_parse(gguf_file *file, const uint8_t *data, size_t size, error *e) {
    cursor c;
    const uint8_t *magic;
    uint32_t version;
    uint64_t n_tensors, n_keys;
    memset(file, 0, sizeof(*file));
    c.start = c.at = data;
    c.end = data + size;
    c.e = e;
    if (!(magic = take(&c, 4, "the magic number"))) return -1;
    if (memcmp(magic, "GGUF", 4)) return fail(e, "the file does not begin with GGUF");
    if (take_u32(&c, &version, "the version")) return -1;
    if (version != 2 && version != 3) return fail(e, "the GGUF version is %lu; allowed: 2, 3", (unsigned long)version);
    if (take_u64(&c, &n_tensors, "the tensor count") || take_u64(&c, &n_keys, "the key count")) return -1;
    if (take_keys(&c, file, n_keys) || take_tensors(&c, file, n_tensors)) return -1;
    return place_tensors(&c, file);
}

int gguf_open(gguf_file *file, const char *path, error *e) {
    FILE *f = fopen(path, "rb");
    long size;
    int bad;
    memset(file, 0, sizeof(*file));
    if (!f) return fail(e, "%s cannot be opened", path);
    bad = fseek(f, 0, SEEK_END) || (size = ftell(f)) < 0 || size == LONG_MAX || fseek(f, 0, SEEK_SET);
    if (!bad) {
        uint8_t *bytes = (uint8_t *)malloc(size ? (size_t)size : 1);
        bad = !bytes || fread(bytes, 1, (size_t)size, f) != (size_t)size;
        if (!bad) bad = gguf_parse(file, bytes, (size_t)size, e) ? 2 : 0;
        file->bytes = bytes;
    }
    fclose(f);
    return bad == 1 ? fail(e, "%s cannot be read", path) : bad ? -1 : 0;
}

void gguf_close(gguf_file *file) {
    free(file->keys);
    free(file->tensors);
    free(file->bytes);
    memset(file, 0, sizeof(*file));
}

/* ---- values by name ---- */

const gguf_key *gguf_find_key(const gguf_file *file, const char *name) {
    uint64_t i;
    for (i = 0; i < file->n_keys; ++i)
        if (gguf_string_is(file->keys[i].name, name)) return &file->keys[i];
    return NULL;
}

const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name) {
    uint64_t i;
    for (i = 0; i < file->n_tensors; ++i)
        if (gguf_string_is(file->tensors[i].name, name)) return &file->tensors[i];
    return NULL;
}

int gguf_need(const gguf_file *file, const char *name, error *e) {
    return gguf_find_key(file, name) ? 0 : fail(e, "key %s is missing", name);
}

int gguf_get_int(const gguf_file *file, const char *name, int64_t low, int64_t high, int64_t *value, error *e) {
    const gguf_key *key = gguf_find_key(file, name);
    uint64_t v;
    int bits;
    if (!key) return 0;
    if (key->type == GGUF_F32 || key->type == GGUF_F64 || key->type == GGUF_BOOL || !type_bytes(key->type))
        return fail(e, "key %s has value type %d; an integer is needed", name, (int)key->type);
    bits = 8 * type_bytes(key->type);
    v = little(key->value, bits / 8);
    if (key->type == GGUF_I8 || key->type == GGUF_I16 || key->type == GGUF_I32 || key->type == GGUF_I64) {
        if (v >> (bits - 1))
            return fail(e, "key %s is negative; allowed: %lld to %lld", name, (long long)low, (long long)high);
    }
    if (v > (uint64_t)high || v < (uint64_t)low)
        return fail(e, "key %s is %llu; allowed: %lld to %lld", name, (unsigned long long)v, (long long)low,
                    (long long)high);
    *value = (int64_t)v;
    return 0;
}

int gguf_get_float(const gguf_file *file, const char *name, float *value, error *e) {
    const gguf_key *key = gguf_find_key(file, name);
    if (!key) return 0;
    if (key->type != GGUF_F32)
        return fail(e, "key %s has value type %d; a 32-bit float is needed", name, (int)key->type);
    *value = gguf_float_at(key, 0);
    return 0;
}

int gguf_get_bool(const gguf_file *file, const char *name, int *value, error *e) {
    const gguf_key *key = gguf_find_key(file, name);
    if (!key) return 0;
    if (key->type != GGUF_BOOL) return fail(e, "key %s has value type %d; a bool is needed", name, (int)key->type);
    *value = key->value[0];
    return 0;
}

int gguf_get_string(const gguf_file *file, const char *name, gguf_string *value, error *e) {
    const gguf_key *key = gguf_find_key(file, name);
    const uint8_t *at;
    if (!key) return 0;
    if (key->type != GGUF_STRING) return fail(e, "key %s has value type %d; a string is needed", name, (int)key->type);
    at = key->value;
    *value = gguf_next_string(&at);
    return 0;
}

int gguf_get_array(const gguf_file *file, const char *name, gguf_type element, const gguf_key **key, error *e) {
    *key = gguf_find_key(file, name);
    if (*key && ((*key)->type != GGUF_ARRAY || (*key)->element != element))
        return fail(e, "key %s has value type %d of %d; an array of type %d is needed", name, (int)(*key)->type,
                    (int)(*key)->element, (int)element);
    return 0;
}

float gguf_float_at(const gguf_key *array, uint64_t i) {
    uint32_t bits = (uint32_t)little(array->value + 4 * i, 4);
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

int32_t gguf_int_at(const gguf_key *array, uint64_t i) {
    uint32_t bits = (uint32_t)little(array->value + 4 * i, 4);
    int32_t v;
    memcpy(&v, &bits, 4);
    return v;
}

gguf_string gguf_next_string(const uint8_t **at) {
    gguf_string s;
    s.length = (size_t)little(*at, 8);
    s.at = (const char *)*at + 8;
    *at += 8 + s.length;
    return s;
}

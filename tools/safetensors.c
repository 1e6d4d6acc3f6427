/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include "safetensors.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    LENGTH_BYTES = 8,
    MAX_HEADER = 100000000, /* the limit of the reference implementation */
    MAX_NESTING = 3         /* header, tensor, shape */
};

/* ---- header text: what the JSON parser would let pass ---- */

/* Characters of the number that text begins with, or 0: RFC 8259, section 6. text ends with a NUL. */
static size_t json_number(const char *text) {
    static const char digits[] = "0123456789";
    size_t at = *text == '-', n = strspn(text + at, digits);
    if (n == 0 || (n > 1 && text[at] == '0')) return 0;
    at += n;
    if (text[at] == '.') {
        if (!(n = strspn(text + at + 1, digits))) return 0;
        at += 1 + n;
    }
    if (text[at] == 'e' || text[at] == 'E') {
        at += text[at + 1] == '+' || text[at + 1] == '-' ? 2 : 1;
        if (!(n = strspn(text + at, digits))) return 0;
        at += n;
    }
    return at;
}

/* The parser takes broken numbers, NUL and control characters inside strings and deep nesting; names are C strings here. */
static int check_header_text(const unsigned char *text, size_t n, reason *why) {
    size_t i = 0;
    int in_string = 0, depth = 0;
    while (i < n) {
        size_t length = utf8_sequence(text + i, n - i);
        unsigned char c = text[i];
        if (!length) return reason_set(why, "header: not UTF-8 at byte %zu", i);
        if (c < 0x20 && (in_string || (c != '\t' && c != '\n' && c != '\r'))) {
            return reason_set(why, "header: control character at byte %zu", i);
        }
        if (in_string && c == '\\') {
            if (n - i >= 6 && !memcmp(text + i, "\\u0000", 6)) {
                return reason_set(why, "header: NUL in a string at byte %zu", i);
            }
            if (++i < n && text[i] < 0x80 && text[i] >= 0x20) ++i;
            continue;
        }
        if (!in_string && (c == '-' || (c >= '0' && c <= '9'))) {
            if (!(length = json_number((const char *)text + i))) {
                return reason_set(why, "header: no JSON number at byte %zu", i);
            }
            i += length;
            continue;
        }
        if (c == '"') in_string = !in_string;
        if (!in_string && (c == '{' || c == '[') && ++depth > MAX_NESTING) {
            return reason_set(why, "header: nested deeper than %d", MAX_NESTING);
        }
        if (!in_string && (c == '}' || c == ']')) --depth;
        i += length;
    }
    return 0;
}

/* ---- header: JSON to tensors and metadata ---- */

static char *copy_text(const char *text) {
    size_t n = strlen(text) + 1;
    char *copy = malloc(n);
    if (copy) memcpy(copy, text, n);
    return copy;
}

/* Doubles hold integers up to 2^53 - 1 exactly; larger ones, fractions and negative ones are refused. */
static int json_size(const cJSON *item, int64_t *value) {
    double number = cJSON_IsNumber(item) ? item->valuedouble : -1.0;
    if (!(number >= 0 && number <= 9007199254740991.0)) return -1;
    *value = (int64_t)number;
    return (double)*value == number ? 0 : -1;
}

static int read_shape(const cJSON *array, st_tensor *tensor, reason *why) {
    const cJSON *item;
    if (!cJSON_IsArray(array)) return reason_set(why, "%s: shape is no list", tensor->name);
    tensor->ndim = 0;
    cJSON_ArrayForEach(item, array) {
        if (tensor->ndim == ST_MAX_DIMS) {
            return reason_set(why, "%s: shape has more than %d dimensions", tensor->name, ST_MAX_DIMS);
        }
        if (json_size(item, &tensor->shape[tensor->ndim++])) {
            return reason_set(why, "%s: shape holds something else than sizes", tensor->name);
        }
    }
    return 0;
}

static int read_offsets(const cJSON *array, st_tensor *tensor, reason *why) {
    const cJSON *item = cJSON_IsArray(array) ? array->child : NULL;
    if (!item || !item->next || item->next->next || json_size(item, &tensor->begin) ||
        json_size(item->next, &tensor->end)) {
        return reason_set(why, "%s: data_offsets is not [begin, end]", tensor->name);
    }
    if (tensor->begin > tensor->end) return reason_set(why, "%s: data_offsets end before they begin", tensor->name);
    return 0;
}

static int read_dtype(const cJSON *item, st_tensor *tensor, reason *why) {
    const char *name = cJSON_GetStringValue(item);
    if (!name) return reason_set(why, "%s: dtype is no string", tensor->name);
    tensor->type = dtype_by_name(name);
    return tensor->type ? 0 : reason_set(why, "%s: unknown dtype \"%s\"", tensor->name, name);
}

static int read_tensor(const cJSON *entry, st_tensor *tensor, reason *why) {
    const cJSON *field;
    int seen = 0;
    tensor->name = copy_text(entry->string);
    if (!tensor->name) return reason_set(why, "out of memory");
    if (!cJSON_IsObject(entry)) return reason_set(why, "%s: no {dtype, shape, data_offsets}", tensor->name);
    cJSON_ArrayForEach(field, entry) {
        int bit = !strcmp(field->string, "dtype")          ? 1
                  : !strcmp(field->string, "shape")        ? 2
                  : !strcmp(field->string, "data_offsets") ? 4
                                                           : 0;
        if (!bit) return reason_set(why, "%s: unknown field \"%s\"", tensor->name, field->string);
        if (seen & bit) return reason_set(why, "%s: %s stands there twice", tensor->name, field->string);
        seen |= bit;
        if (bit == 1 && read_dtype(field, tensor, why)) return -1;
        if (bit == 2 && read_shape(field, tensor, why)) return -1;
        if (bit == 4 && read_offsets(field, tensor, why)) return -1;
    }
    if (seen != 7) return reason_set(why, "%s: dtype, shape or data_offsets is missing", tensor->name);
    return 0;
}

static int read_metadata(const cJSON *entry, st_file *file, reason *why) {
    const cJSON *item;
    if (!cJSON_IsObject(entry)) return reason_set(why, "__metadata__ is no object");
    if (file->metadata) return reason_set(why, "__metadata__ stands there twice");
    file->metadata = calloc((size_t)cJSON_GetArraySize(entry) + 1, sizeof(*file->metadata));
    if (!file->metadata) return reason_set(why, "out of memory");
    cJSON_ArrayForEach(item, entry) {
        st_pair *pair = &file->metadata[file->n_metadata++];
        pair->key = copy_text(item->string);
        pair->value = cJSON_IsString(item) ? copy_text(item->valuestring) : NULL;
        if (!cJSON_IsString(item)) {
            return reason_set(why, "__metadata__: the value of \"%s\" is no string", item->string);
        }
        if (!pair->key || !pair->value) return reason_set(why, "out of memory");
    }
    return 0;
}

static int read_entries(const cJSON *root, st_file *file, reason *why) {
    const cJSON *entry;
    file->tensors = calloc((size_t)cJSON_GetArraySize(root) + 1, sizeof(*file->tensors));
    if (!file->tensors) return reason_set(why, "out of memory");
    cJSON_ArrayForEach(entry, root) {
        if (!strcmp(entry->string, "__metadata__")) {
            if (read_metadata(entry, file, why)) return -1;
        } else if (read_tensor(entry, &file->tensors[file->n_tensors++], why)) {
            return -1;
        }
    }
    return 0;
}

/* ---- checks over all entries ---- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const st_tensor *)a)->name, ((const st_tensor *)b)->name);
}

static int by_key(const void *a, const void *b) { return strcmp(((const st_pair *)a)->key, ((const st_pair *)b)->key); }

static int by_place(const void *a, const void *b) {
    const st_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int check_names(st_file *file, reason *why) {
    size_t i;
    if (file->n_tensors) qsort(file->tensors, file->n_tensors, sizeof(*file->tensors), by_name);
    if (file->n_metadata) qsort(file->metadata, file->n_metadata, sizeof(*file->metadata), by_key);
    for (i = 1; i < file->n_tensors; ++i) {
        if (!by_name(&file->tensors[i - 1], &file->tensors[i])) {
            return reason_set(why, "tensor \"%s\" stands there twice", file->tensors[i].name);
        }
    }
    for (i = 1; i < file->n_metadata; ++i) {
        if (!by_key(&file->metadata[i - 1], &file->metadata[i])) {
            return reason_set(why, "__metadata__: \"%s\" stands there twice", file->metadata[i].key);
        }
    }
    return 0;
}

static int check_sizes(const st_file *file, int64_t data_bytes, reason *why) {
    size_t i;
    for (i = 0; i < file->n_tensors; ++i) {
        const st_tensor *t = &file->tensors[i];
        int64_t bytes = dtype_tensor_bytes(t->type->bytes, t->ndim, t->shape), span = t->end - t->begin;
        if (bytes < 0) return reason_set(why, "%s: the element count overflows", t->name);
        if (t->end > data_bytes) {
            return reason_set(why, "%s: ends at byte %lld of the data, which has %lld", t->name, (long long)t->end,
                              (long long)data_bytes);
        }
        if (span != bytes) {
            return reason_set(why, "%s: shape and dtype make %lld bytes, data_offsets %lld", t->name, (long long)bytes,
                              (long long)span);
        }
    }
    return 0;
}

/* The tensors must tile the data: no hole, no overlap, nothing behind. Leaves them in the order of the data. */
static int check_places(st_file *file, int64_t data_bytes, reason *why) {
    int64_t at = 0;
    size_t i;
    if (file->n_tensors) qsort(file->tensors, file->n_tensors, sizeof(*file->tensors), by_place);
    for (i = 0; i < file->n_tensors; ++i) {
        const st_tensor *t = &file->tensors[i];
        if (t->begin < at) return reason_set(why, "%s: overlaps the tensor before it", t->name);
        if (t->begin > at) {
            return reason_set(why, "%s: a hole of %lld bytes before it", t->name, (long long)(t->begin - at));
        }
        at = t->end;
    }
    if (at != data_bytes) return reason_set(why, "%lld bytes behind the last tensor", (long long)(data_bytes - at));
    return 0;
}

/* ---- reading ---- */

static int parse_header(const char *text, size_t n, st_file *file, reason *why) {
    const char *end = NULL;
    cJSON *root;
    int bad;
    if (check_header_text((const unsigned char *)text, n, why)) return -1;
    if (n == 0 || text[0] != '{') return reason_set(why, "header: does not begin with '{'");
    root = cJSON_ParseWithLengthOpts(text, n + 1, &end, 0);
    if (!root) return reason_set(why, "header: no JSON at byte %zu", end ? (size_t)(end - text) : (size_t)0);
    end += strspn(end, " \t\r\n");
    if ((size_t)(end - text) != n) bad = reason_set(why, "header: more text behind the JSON object");
    else bad = read_entries(root, file, why);
    cJSON_Delete(root);
    return bad ? -1 : check_names(file, why);
}

/* One buffer of the exact size per tensor, so that a memory checker sees every read past its end. */
static int load_tensors(FILE *stream, st_file *file, reason *why) {
    size_t i;
    for (i = 0; i < file->n_tensors; ++i) {
        st_tensor *t = &file->tensors[i];
        size_t bytes = (size_t)(t->end - t->begin);
        t->data = malloc(bytes);
        if (!t->data && bytes) return reason_set(why, "%s: out of memory", t->name);
        if (bytes && fread(t->data, 1, bytes, stream) != bytes) return reason_set(why, "%s: cannot be read", t->name);
    }
    return 0;
}

static int read_stream(FILE *stream, st_file *file, reason *why) {
    unsigned char length[LENGTH_BYTES];
    struct stat status;
    uint64_t n = 0, size;
    char *header;
    int i, bad;
    if (fstat(fileno(stream), &status) || !S_ISREG(status.st_mode)) return reason_set(why, "not a regular file");
    size = (uint64_t)status.st_size;
    if (size < LENGTH_BYTES) return reason_set(why, "truncated: shorter than the 8 bytes of the header length");
    if (fread(length, 1, sizeof(length), stream) != sizeof(length)) return reason_set(why, "cannot be read");
    for (i = LENGTH_BYTES - 1; i >= 0; --i) n = n << 8 | length[i];
    if (n > size - LENGTH_BYTES) {
        return reason_set(why, "header length %llu goes past the end of the file (%llu bytes)", (unsigned long long)n,
                          (unsigned long long)size);
    }
    if (n > MAX_HEADER) return reason_set(why, "header length %llu; at most %d", (unsigned long long)n, MAX_HEADER);
    header = malloc((size_t)n + 1);
    if (!header) return reason_set(why, "out of memory");
    header[n] = 0;
    if (fread(header, 1, (size_t)n, stream) != n) bad = reason_set(why, "cannot be read");
    else bad = parse_header(header, (size_t)n, file, why);
    free(header);
    if (bad || check_sizes(file, (int64_t)(size - LENGTH_BYTES - n), why)) return -1;
    if (check_places(file, (int64_t)(size - LENGTH_BYTES - n), why) || load_tensors(stream, file, why)) return -1;
    if (file->n_tensors) qsort(file->tensors, file->n_tensors, sizeof(*file->tensors), by_name);
    return 0;
}

int st_read(const char *path, st_file *file, reason *why) {
    FILE *stream = fopen(path, "rb");
    int bad;
    memset(file, 0, sizeof(*file));
    if (!stream) return reason_set(why, "cannot be opened");
    bad = read_stream(stream, file, why);
    (void)fclose(stream);
    return bad;
}

void st_free(st_file *file) {
    size_t i;
    for (i = 0; i < file->n_tensors; ++i) {
        free((char *)file->tensors[i].name);
        free(file->tensors[i].data);
    }
    for (i = 0; i < file->n_metadata; ++i) {
        free(file->metadata[i].key);
        free(file->metadata[i].value);
    }
    free(file->tensors);
    free(file->metadata);
    memset(file, 0, sizeof(*file));
}

static int name_against(const void *name, const void *tensor) {
    return strcmp(name, ((const st_tensor *)tensor)->name);
}

static int key_against(const void *key, const void *pair) { return strcmp(key, ((const st_pair *)pair)->key); }

const st_tensor *st_find(const st_file *file, const char *name) {
    if (!file->n_tensors) return NULL;
    return bsearch(name, file->tensors, file->n_tensors, sizeof(*file->tensors), name_against);
}

const char *st_metadata(const st_file *file, const char *key) {
    const st_pair *pair = NULL;
    if (file->n_metadata) pair = bsearch(key, file->metadata, file->n_metadata, sizeof(*file->metadata), key_against);
    return pair ? pair->value : NULL;
}

/* ---- writing ---- */

/* Large elements first: readers that view the data in place want it aligned. */
static int by_element(const void *a, const void *b) {
    const st_tensor *x = a, *y = b;
    if (x->type->bytes != y->type->bytes) return x->type->bytes > y->type->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static cJSON *tensor_entry(const st_tensor *tensor) {
    cJSON *entry = cJSON_CreateObject(), *shape, *offsets;
    int i;
    (void)cJSON_AddStringToObject(entry, "dtype", tensor->type->name);
    shape = cJSON_AddArrayToObject(entry, "shape");
    for (i = 0; i < tensor->ndim; ++i) (void)cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensor->shape[i]));
    offsets = cJSON_AddArrayToObject(entry, "data_offsets");
    (void)cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)tensor->begin));
    (void)cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)tensor->end));
    return entry;
}

static char *make_header(st_tensor *tensors, size_t n, const char *op) {
    cJSON *root = cJSON_CreateObject(), *metadata = cJSON_AddObjectToObject(root, "__metadata__");
    int64_t at = 0;
    char *text;
    size_t i;
    (void)cJSON_AddStringToObject(metadata, "op", op);
    for (i = 0; i < n; ++i) {
        tensors[i].begin = at;
        at += dtype_tensor_bytes(tensors[i].type->bytes, tensors[i].ndim, tensors[i].shape);
        tensors[i].end = at;
        (void)cJSON_AddItemToObject(root, tensors[i].name, tensor_entry(&tensors[i]));
    }
    text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    return text;
}

static int write_stream(FILE *stream, const char *header, const st_tensor *tensors, size_t n) {
    unsigned char length[LENGTH_BYTES];
    size_t used = strlen(header), padded = (used + 7) / 8 * 8, i;
    int bad;
    for (i = 0; i < LENGTH_BYTES; ++i) length[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    bad = fwrite(length, 1, sizeof(length), stream) != sizeof(length) || fwrite(header, 1, used, stream) != used;
    for (i = used; i < padded; ++i) bad |= fputc(' ', stream) == EOF;
    for (i = 0; i < n; ++i) {
        size_t bytes = (size_t)(tensors[i].end - tensors[i].begin);
        bad |= bytes && fwrite(tensors[i].data, 1, bytes, stream) != bytes;
    }
    return bad;
}

int st_write(const char *path, st_tensor *tensors, size_t n, const char *op, reason *why) {
    FILE *stream;
    char *header;
    int bad;
    if (n) qsort(tensors, n, sizeof(*tensors), by_element);
    header = make_header(tensors, n, op);
    if (!header) return reason_set(why, "out of memory");
    stream = fopen(path, "wb");
    bad = !stream || write_stream(stream, header, tensors, n);
    if (stream && fclose(stream)) bad = 1;
    free(header);
    return bad ? reason_set(why, "%s cannot be written", path) : 0;
}

/* SPDX-License-Identifier: MIT
 *
 * Any bytes as a GGUF file, through parser, model and tokenizer of the text generator, and a step of three tokens where
 * it loads: refused with a sentence, or used, and never read out of bounds.
 */
#include "fuzz.h"
#include "../generate/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    error e;
    (void)load(data, size, 1, &e);
    return 0;
}

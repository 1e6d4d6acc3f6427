/* SPDX-License-Identifier: MIT
 *
 * The bodies, and nothing else: compiled once per target, compiler and chunk length.
 */
#define FIA_IMPLEMENTATION
#include "fia.h"

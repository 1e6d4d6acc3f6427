/* SPDX-License-Identifier: MIT
 *
 * Bodies after the public part, and asked for twice in one file.
 */
#include "fia.h"
#define FIA_IMPLEMENTATION
#include "fia.h"
#include "fia.h"

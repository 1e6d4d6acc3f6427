/* SPDX-License-Identifier: MIT */
#define FIA_IMPLEMENTATION
#include "fia.h"

int main(void) { return fia_version() == FIA_VERSION ? 0 : 1; }

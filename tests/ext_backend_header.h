/* SPDX-License-Identifier: MIT
 *
 * The smallest backend that FIA_BACKEND_H can name: it declines every call and tells how often it was asked.
 */
#ifndef FIA_TEST_EXT_BACKEND_HEADER_H
#define FIA_TEST_EXT_BACKEND_HEADER_H

extern int ext_backend_asked; /* of the program, so that the library itself has no writable data */

static fia_status ext_backend_plan(const char *op, const void *args, fia_plan *plan, fia_report *report) {
    static const char reason[] = "ext_backend_header declines every call";
    size_t i;
    (void)op, (void)args, (void)plan;
    ++ext_backend_asked;
    for (i = 0; report && i < sizeof(reason); ++i) report->text[i] = reason[i];
    return FIA_ERR_NOT_IN_BUILD;
}

static fia_status ext_backend_run(const char *op, const fia_plan *plan, const void *args, void *workspace,
                                  size_t workspace_bytes, fia_report *report) {
    (void)op, (void)plan, (void)args, (void)workspace, (void)workspace_bytes, (void)report;
    return FIA_ERR_BACKEND;
}

static void ext_backend_release(fia_plan *plan) { (void)plan; }

static const fia_backend fia_backend_of_build = {"ext_backend_header", ext_backend_plan, ext_backend_run,
                                                 ext_backend_release};

#endif

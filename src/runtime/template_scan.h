/*
 * template_scan.h - how deep a Jinja template nests, looked at before a recursive parser does.
 *
 * Threads: any. Source: the lexer of llama-common (common/jinja/lexer.cpp), whose idea of where a
 * tag begins and ends is followed.
 */
#ifndef RUNTIME_TEMPLATE_SCAN_H
#define RUNTIME_TEMPLATE_SCAN_H

#include "base/error.h"

/* Brackets of one tag, and blocks ({% if %}, {% for %}, ...) with each {% elif %} counted as a
 * block of its own. Templates of real models: 4 and 20. */
#define HS_TEMPLATE_DEPTH_MAX 200
/* Words, signs and strings of one tag: a chain of operators is as deep as it is long. Templates of
 * real models: below 600. */
#define HS_TEMPLATE_TAG_MAX 2000

/* One linear pass. Errors: HS_LIMIT for what nests deeper or is longer; whether the template is
 * right is for its parser to say. */
HS_CHECKED hs_status hs_template_scan(const char *source, struct hs_error *err);

#endif

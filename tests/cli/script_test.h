/*
 * script_test.h - text that other programs read: written to a file and given to them.
 */
#ifndef SCRIPT_TEST_H
#define SCRIPT_TEST_H

#include "api_test.h"

#include <sys/wait.h>

#include "api/status_map.h"
#include "help.h"

static struct hs_buf text = HS_BUF_INIT(HS_HELP_MAX_BYTES);

static inline int clear(void **state)
{
    (void)state;
    hs_buf_free(&text);
    return 0;
}

/* Run `command` with the text on its standard input; its exit code, its output in `output`. */
static inline int run(const char *command, char *output, size_t size)
{
    char line[1024], path[512];
    snprintf(path, sizeof path, "%s/help-%d", HS_TEST_TMP, (int)getpid());
    api_write_file(path, text.data, text.len);
    snprintf(line, sizeof line, "%s %s 2>&1", command, path);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    size_t len = fread(output, 1, size - 1, pipe);
    output[len] = '\0';
    int status = pclose(pipe);
    unlink(path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline bool has_tool(const char *name)
{
    char command[128];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", name);
    return system(command) == 0;
}

#endif

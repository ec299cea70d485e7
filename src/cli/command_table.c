/* command_table.c - the rows of commands.def as a table, and looking them up. */
#include <string.h>

#include "api/command.h"

static const struct hs_command commands[] = {
#define HS_COMMAND(name, args, min, max, run, settings, options, completes, flags, text, details)  \
    {name, args, min, max, run, settings, options, completes, flags, text, details},
#include "api/commands.def"
#undef HS_COMMAND
};

const struct hs_command *hs_commands(size_t *ret_n)
{
    *ret_n = sizeof commands / sizeof commands[0];
    return commands;
}

/* How many words of argv the name takes, 0 when they differ. */
static int match(const char *name, int argc, char *const *argv)
{
    int n = 0;
    while (*name) {
        size_t len = strcspn(name, " ");
        if (n >= argc || strlen(argv[n]) != len || strncmp(name, argv[n], len) != 0) {
            return 0;
        }
        n++;
        name += len + (name[len] == ' ');
    }
    return n;
}

const struct hs_command *hs_command_find(int argc, char *const *argv, int *ret_words)
{
    const struct hs_command *found = NULL;
    int n_found = 0;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        int n = match(commands[i].name, argc, argv);
        if (n > n_found) {
            found = &commands[i];
            n_found = n;
        }
    }
    if (found) {
        *ret_words = n_found;
    }
    return found;
}

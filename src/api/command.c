#include "api/command.h"

#include <string.h>

static const struct hs_option_row option_rows[] = {
#define HS_OPTION(id, name, short_flag, placeholder, text) {name, short_flag, placeholder, text},
#include "api/options.def"
#undef HS_OPTION
};

const struct hs_option_row *hs_option_row(enum hs_option_id id)
{
    return &option_rows[id];
}

bool hs_command_list_has(const char *list, const char *name)
{
    if (strcmp(list, "*") == 0) {
        return true;
    }
    size_t len = strlen(name);
    while (*list) {
        size_t word = strcspn(list, " ");
        if (word == len && strncmp(list, name, len) == 0) {
            return true;
        }
        list += word + (list[word] == ' ');
    }
    return false;
}

/* status.c - names and texts of hs_status, from status.def, and the version. */
#include "hyprstream.h"

const char *hs_status_name(hs_status status)
{
    switch (status) {
#define HS_STATUS(name, value, text)                                                               \
    case HS_##name:                                                                                \
        return "HS_" #name;
#include "hyprstream/status.def"
#undef HS_STATUS
    }
    return "HS_UNKNOWN";
}

const char *hs_status_text(hs_status status)
{
    switch (status) {
#define HS_STATUS(name, value, text)                                                               \
    case HS_##name:                                                                                \
        return text;
#include "hyprstream/status.def"
#undef HS_STATUS
    }
    return "unknown status";
}

const char *hs_version(void)
{
    return HS_VERSION;
}

/*
 * sd_notify.h - telling the service manager how a service is doing.
 *
 * Threads: none; the environment is read.
 * Source:  sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names.
 */
#ifndef API_SD_NOTIFY_H
#define API_SD_NOTIFY_H

#include <stdbool.h>

/* "READY=1" and the like, one assignment a line. false: nobody wants to know, or it was not
 * possible to tell. */
bool hs_sd_notify(const char *state);

#endif

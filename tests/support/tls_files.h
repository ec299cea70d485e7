/* tls_files.h - a certificate for localhost with its key, made for a test. */
#ifndef TLS_FILES_H
#define TLS_FILES_H

#include <stdbool.h>

/* PEM files; password: of the key, NULL for none. false: something failed. */
bool tls_files_write(const char *cert_path, const char *key_path, const char *password);

#endif

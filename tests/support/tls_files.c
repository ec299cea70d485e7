#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdio.h>

#include "tls_files.h"

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1,
                               0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    X509_sign(cert, key, EVP_sha256());
    return cert;
}

bool tls_files_write(const char *cert_path, const char *key_path, const char *password)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = make_certificate(key);
    FILE *file = fopen(cert_path, "w");
    bool is_good = file != NULL && PEM_write_X509(file, cert) == 1;
    is_good = file != NULL && fclose(file) == 0 && is_good;
    file = fopen(key_path, "w");
    is_good = is_good && file != NULL &&
              PEM_write_PrivateKey(file, key, password == NULL ? NULL : EVP_aes_128_cbc(), NULL, 0,
                                   NULL, (void *)(uintptr_t)password) == 1;
    is_good = file != NULL && fclose(file) == 0 && is_good;
    X509_free(cert);
    EVP_PKEY_free(key);
    return is_good;
}

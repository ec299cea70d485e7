/* The main function of a fuzz target outside the fuzz preset: feeds it every file of the folders
 * named as arguments. */
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEED_BYTES_MAX (16u << 20)

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    uint8_t *data = malloc(SEED_BYTES_MAX);
    if (data == NULL) {
        fclose(file);
        return 1;
    }
    size_t size = fread(data, 1, SEED_BYTES_MAX, file);
    int failed = ferror(file);
    fclose(file);
    /* A copy of just that size, so that a sanitizer sees the first byte read past it. */
    uint8_t *input = realloc(data, size > 0 ? size : 1);
    if (!failed && input != NULL)
        LLVMFuzzerTestOneInput(input, size);
    free(input);
    return failed;
}

int main(int argc, char **argv)
{
    int n_files = 0, n_failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *folder = opendir(argv[i]);
        if (folder == NULL) {
            perror(argv[i]);
            return 1;
        }
        for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
            if (entry->d_name[0] == '.')
                continue;
            char path[PATH_MAX];
            if (snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name) >= (int)sizeof path)
                return 1;
            n_failed += replay_file(path);
            n_files++;
        }
        closedir(folder);
    }
    printf("%d files replayed\n", n_files);
    return n_failed == 0 && n_files > 0 ? 0 : 1;
}

/* Tests of models/families.h: the table itself, and its facts against the sources of llama.cpp. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <glob.h>

#include <cmocka.h>

#include "models/families.h"

/* ---- the table ---- */

static void rows_are_sorted_and_found(void **state)
{
    (void)state;
    assert_true(hs_model_family_count() > 0);
    for (size_t i = 0; i < hs_model_family_count(); i++) {
        const struct hs_model_family *row = hs_model_family_at(i);
        assert_ptr_equal(hs_model_family_find(row->architecture), row);
        if (i > 0) {
            assert_true(strcmp(hs_model_family_at(i - 1)->architecture, row->architecture) < 0);
        }
    }
    assert_null(hs_model_family_at(hs_model_family_count()));
    assert_null(hs_model_family_at(SIZE_MAX));
}

static void unknown_architectures_have_no_row(void **state)
{
    (void)state;
    const char *const unknown[] = {"", "qwen", "qwen3 ", "QWEN3", "zzz", "(unknown)", "\xFF"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_null(hs_model_family_find(unknown[i]));
    }
}

/* Names separated by single commas, none twice. */
static void check_targets(const char *targets)
{
    char list[256];
    assert_true(strlen(targets) < sizeof(list));
    strcpy(list, targets);
    for (char *name = list; name != NULL;) {
        char *comma = strchr(name, ',');
        size_t len = comma == NULL ? strlen(name) : (size_t)(comma - name);
        assert_true(len > 0);
        assert_true(strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789_") == len);
        for (char *later = comma; later != NULL; later = strchr(later + 1, ',')) {
            assert_false(strncmp(later + 1, name, len) == 0 &&
                         (later[1 + len] == ',' || later[1 + len] == '\0'));
        }
        name = comma == NULL ? NULL : comma + 1;
    }
}

static void rows_are_complete(void **state)
{
    (void)state;
    for (size_t i = 0; i < hs_model_family_count(); i++) {
        const struct hs_model_family *row = hs_model_family_at(i);
        assert_true(row->title[0] != '\0');
        assert_true(row->hf_class[0] != '\0');
        check_targets(row->lora_targets);
        assert_int_equal(row->reasoning_start == NULL, row->reasoning_end == NULL);
        if (row->reasoning_start != NULL) {
            /* The runtime hands tags on in arrays of 32 bytes. */
            assert_in_range(strlen(row->reasoning_start), 1, 31);
            assert_in_range(strlen(row->reasoning_end), 1, 31);
            assert_string_not_equal(row->reasoning_start, row->reasoning_end);
            assert_true(row->is_decoder);
        }
    }
}

/* From the model cards of the families that the project promises first. */
static void known_families(void **state)
{
    (void)state;
    const struct hs_model_family *row = hs_model_family_find("qwen3");
    assert_non_null(row);
    assert_string_equal(row->hf_class, "Qwen3ForCausalLM");
    assert_string_equal(row->reasoning_start, "<think>");
    assert_string_equal(row->reasoning_end, "</think>");
    assert_int_equal(row->rope_permute, HS_ROPE_PERMUTE_NONE);
    assert_true(row->is_decoder);
    row = hs_model_family_find("llama");
    assert_non_null(row);
    assert_int_equal(row->rope_permute, HS_ROPE_PERMUTE_LLAMA);
    assert_null(row->reasoning_start);
    row = hs_model_family_find("bert");
    assert_non_null(row);
    assert_false(row->is_decoder);
}

/* ---- against llama.cpp's sources ---- */

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    assert_true(size >= 0);
    rewind(file);
    char *text = malloc((size_t)size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)size, file), (size_t)size);
    text[size] = '\0';
    fclose(file);
    return text;
}

static char *read_source(const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", HS_LLAMA_SRC, name);
    char *text = read_file(path);
    if (text == NULL) {
        print_message("skipped: llama.cpp's %s is not here\n", name);
        skip();
    }
    return text;
}

/* "LLM_ARCH_QWEN3" of "qwen3", from the table LLM_ARCH_NAMES. */
static bool find_enum_name(const char *source, const char *architecture, char name[64])
{
    const char *end = strstr(source, "LLM_ARCH_UNKNOWN");
    char quoted[80];
    snprintf(quoted, sizeof(quoted), "\"%s\"", architecture);
    const char *at = strstr(source, quoted);
    if (at == NULL || at > end) {
        return false;
    }
    while (at > source && *at != '{') {
        at--;
    }
    return sscanf(at, "{ %63[A-Z0-9_]", name) == 1;
}

static void architectures_exist_in_llama_cpp(void **state)
{
    (void)state;
    char *source = read_source("src/llama-arch.cpp");
    for (size_t i = 0; i < hs_model_family_count(); i++) {
        char name[64];
        const char *architecture = hs_model_family_at(i)->architecture;
        if (!find_enum_name(source, architecture, name)) {
            fail_msg("llama.cpp has no architecture '%s'", architecture);
        }
    }
    free(source);
}

static void every_class_has_a_converter(void **state)
{
    (void)state;
    glob_t files;
    if (glob(HS_LLAMA_SRC "/conversion/*.py", 0, NULL, &files) != 0) {
        print_message("skipped: llama.cpp's conversion/ is not here\n");
        skip();
    }
    bool *has_converter = calloc(hs_model_family_count(), sizeof(*has_converter));
    assert_non_null(has_converter);
    for (size_t f = 0; f < files.gl_pathc; f++) {
        char *source = read_file(files.gl_pathv[f]);
        assert_non_null(source);
        for (size_t i = 0; i < hs_model_family_count(); i++) {
            char quoted[128];
            snprintf(quoted, sizeof(quoted), "\"%s\"", hs_model_family_at(i)->hf_class);
            has_converter[i] = has_converter[i] || strstr(source, quoted) != NULL;
        }
        free(source);
    }
    globfree(&files);
    for (size_t i = 0; i < hs_model_family_count(); i++) {
        if (!has_converter[i]) {
            fail_msg("no converter registers '%s'", hs_model_family_at(i)->hf_class);
        }
    }
    free(has_converter);
}

static void lora_targets_are_tensors_of_checkpoints(void **state)
{
    (void)state;
    char *source = read_source("gguf-py/gguf/tensor_mapping.py");
    for (size_t i = 0; i < hs_model_family_count(); i++) {
        char list[256];
        snprintf(list, sizeof(list), "%s", hs_model_family_at(i)->lora_targets);
        char *rest = NULL;
        for (char *name = strtok_r(list, ",", &rest); name != NULL;
             name = strtok_r(NULL, ",", &rest)) {
            char component[128];
            snprintf(component, sizeof(component), ".%s\"", name);
            if (strstr(source, component) == NULL) {
                fail_msg("%s: no checkpoint has a tensor '%s'", hs_model_family_at(i)->architecture,
                         name);
            }
        }
    }
    free(source);
}

/* The first "return LLAMA_ROPE_TYPE_..." behind the architecture's case. */
static bool is_rope_norm(const char *switch_text, const char *enum_name)
{
    char label[80];
    snprintf(label, sizeof(label), "case %s:", enum_name);
    const char *at = strstr(switch_text, label);
    assert_non_null(at);
    const char *result = strstr(at, "LLAMA_ROPE_TYPE_");
    assert_non_null(result);
    return strncmp(result, "LLAMA_ROPE_TYPE_NORM", strlen("LLAMA_ROPE_TYPE_NORM")) == 0;
}

/* q and k are permuted so that llama.cpp can rotate consecutive values: only its NORM type does. */
static void permuted_families_rotate_consecutive_values(void **state)
{
    (void)state;
    char *names = read_source("src/llama-arch.cpp");
    char *model = read_source("src/llama-model.cpp");
    const char *switch_text = strstr(model, "llama_rope_type llama_model_rope_type(");
    assert_non_null(switch_text);
    size_t n_permuted = 0;
    for (size_t i = 0; i < hs_model_family_count(); i++) {
        const struct hs_model_family *row = hs_model_family_at(i);
        char enum_name[64];
        assert_true(find_enum_name(names, row->architecture, enum_name));
        bool is_permuted = row->rope_permute == HS_ROPE_PERMUTE_LLAMA;
        if (is_permuted && !is_rope_norm(switch_text, enum_name)) {
            fail_msg("'%s' is permuted but not rotated so", row->architecture);
        }
        n_permuted += is_permuted ? 1 : 0;
    }
    assert_true(n_permuted > 0);
    free(names);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_sorted_and_found),
        cmocka_unit_test(unknown_architectures_have_no_row),
        cmocka_unit_test(rows_are_complete),
        cmocka_unit_test(known_families),
        cmocka_unit_test(architectures_exist_in_llama_cpp),
        cmocka_unit_test(every_class_has_a_converter),
        cmocka_unit_test(lora_targets_are_tensors_of_checkpoints),
        cmocka_unit_test(permuted_families_rotate_consecutive_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

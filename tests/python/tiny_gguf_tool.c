/*
 * tiny_gguf_tool - writes the tiny models of tests/support for the tests in Python.
 *
 *   tiny_gguf_tool say PATH TEXT    answers every message with TEXT (through a ChatML template)
 *   tiny_gguf_tool cycle PATH       answers " aa ab ac ..." without an end
 *   tiny_gguf_tool plain PATH TEXT  says TEXT after a newline; has no chat template
 *   tiny_gguf_tool history PATH     every token depends on all that came before
 *   ... NAME                        as the last argument: general.name
 */
#include <stdio.h>
#include <string.h>

#include "tiny_gguf.h"

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: tiny_gguf_tool say|plain|cycle|history PATH [TEXT] [NAME]\n");
        return 2;
    }
    bool speaks = strcmp(argv[1], "say") == 0 || strcmp(argv[1], "plain") == 0;
    int32_t next[TINY_GGUF_N_VOCAB];
    struct tiny_gguf_spec spec;
    tiny_gguf_defaults(&spec);
    spec.chat_template = strcmp(argv[1], "plain") == 0 ? NULL : tiny_gguf_chatml;
    if (speaks && argc > 3) {
        tiny_gguf_next_unset(next);
        /* a prompt of ChatML ends with "assistant\n" */
        if (!tiny_gguf_spell(next, TINY_GGUF_BYTE0 + '\n', argv[3], TINY_GGUF_IM_END)) {
            fprintf(stderr, "this text needs a token twice: %s\n", argv[3]);
            return 1;
        }
        spec.next = next;
    } else if (strcmp(argv[1], "history") == 0) {
        spec.kind = TINY_GGUF_HISTORY;
    }
    int name = speaks ? 4 : 3;
    spec.name = argc > name ? argv[name] : spec.name;
    return tiny_gguf_write(&spec, argv[2]) ? 0 : 1;
}

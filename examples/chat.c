/*
 * chat.c - a whole program on hyprstream's embedding API: asks a model one question and prints the
 * answer as it comes. It needs nothing but hyprstream.h:
 *
 *     cc chat.c $(pkg-config --cflags --libs hyprstream) -o chat     (README.md: "From C")
 *     ./chat SmolLM2-135M-Instruct.Q4_1.gguf "Why is the sky blue?"
 */
#include <hyprstream.h>

#include <stdio.h>

static int report(const struct hs_error *err)
{
    fprintf(stderr, "chat: %s\n", err->message);
    if (err->hint[0] != '\0')
        fprintf(stderr, "      %s\n", err->hint);
    return 1;
}

static int print_answer(hs_stream *stream)
{
    struct hs_error err;
    struct hs_event event;

    for (;;) {
        if (hs_stream_next(stream, -1, &event, &err) != HS_OK)
            return report(&err);
        if (event.type == HS_EVENT_DONE)
            break;
        if (event.type == HS_EVENT_TEXT) {
            fwrite(event.text, 1, event.text_len, stdout);
            fflush(stdout);
        }
    }
    putchar('\n');
    if (event.finish == HS_FINISH_ERROR)
        return report(&event.error);
    fprintf(stderr, "%d tokens, %.1f a second\n", event.usage.completion_tokens,
            1000.0 * event.usage.completion_tokens / event.usage.decode_ms);
    return 0;
}

static int chat(hs_engine *engine, const char *path, const char *prompt)
{
    struct hs_error err;
    struct hs_model_params model;
    struct hs_session_params session;
    struct hs_generate_params generate;
    char model_id[HS_ID_MAX], session_id[HS_ID_MAX];
    hs_stream *stream;

    hs_model_params_defaults(&model);
    if (hs_engine_load_model(engine, path, NULL, &model, model_id, &err) != HS_OK)
        return report(&err);

    hs_session_params_defaults(&session);
    session.model_id = model_id;
    session.system = "You are a helpful assistant.";
    if (hs_engine_create_session(engine, &session, session_id, &err) != HS_OK)
        return report(&err);

    hs_generate_params_defaults(&generate);
    generate.max_tokens = 128;
    generate.sampling.temp = 0; /* the likeliest token each time */
    if (hs_engine_generate(engine, session_id, prompt, &generate, &stream, &err) != HS_OK)
        return report(&err);
    int status = print_answer(stream);
    hs_stream_free(stream);
    return status;
}

int main(int argc, char **argv)
{
    struct hs_error err;
    struct hs_engine_params params;
    hs_engine *engine;

    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL.gguf PROMPT\n", argv[0]);
        return 2;
    }
    hs_engine_params_defaults(&params);
    if (hs_engine_create(&params, &engine, &err) != HS_OK)
        return report(&err);
    int status = chat(engine, argv[1], argv[2]);
    hs_engine_free(engine);
    return status;
}

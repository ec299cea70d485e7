/* schemas.c - what requests and answers look like, for /openapi.json. */
#include "rest.h"

static const char schemas[] =
    "{\"ChatRequest\":{\"type\":\"object\",\"required\":[\"messages\"],\"properties\":{"
    "\"model\":{\"type\":\"string\"},"
    "\"messages\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"object\","
    "\"required\":[\"role\",\"content\"],\"properties\":{\"role\":{\"enum\":[\"system\","
    "\"developer\",\"user\",\"assistant\"]},\"content\":{\"type\":[\"string\",\"array\"]}}}},"
    "\"stream\":{\"type\":\"boolean\"},\"max_completion_tokens\":{\"type\":\"integer\"},"
    "\"temperature\":{\"type\":\"number\",\"minimum\":0,\"maximum\":100},"
    "\"top_p\":{\"type\":\"number\",\"minimum\":0,\"maximum\":1},"
    "\"n\":{\"type\":\"integer\",\"minimum\":1},\"seed\":{\"type\":\"integer\"},"
    "\"stop\":{\"type\":[\"string\",\"array\"]},\"logprobs\":{\"type\":\"boolean\"},"
    "\"top_logprobs\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":20}}},"
    "\"CompletionRequest\":{\"type\":\"object\",\"required\":[\"prompt\"],\"properties\":{"
    "\"model\":{\"type\":\"string\"},\"prompt\":{\"type\":[\"string\",\"array\"]},"
    "\"stream\":{\"type\":\"boolean\"},\"max_tokens\":{\"type\":\"integer\"},"
    "\"temperature\":{\"type\":\"number\",\"minimum\":0,\"maximum\":100},"
    "\"echo\":{\"type\":\"boolean\"},\"n\":{\"type\":\"integer\",\"minimum\":1}}},"
    "\"Answer\":{\"type\":\"object\",\"required\":[\"id\",\"object\",\"created\",\"model\","
    "\"choices\",\"usage\"],\"properties\":{\"id\":{\"type\":\"string\"},"
    "\"object\":{\"type\":\"string\"},\"created\":{\"type\":\"integer\"},"
    "\"model\":{\"type\":\"string\"},\"choices\":{\"type\":\"array\","
    "\"items\":{\"type\":\"object\"}},\"usage\":{\"type\":\"object\"}}},"
    "\"Model\":{\"type\":\"object\",\"required\":[\"id\",\"object\",\"created\",\"owned_by\"],"
    "\"properties\":{\"id\":{\"type\":\"string\"}}},"
    "\"ModelList\":{\"type\":\"object\",\"required\":[\"object\",\"data\"],\"properties\":{"
    "\"data\":{\"type\":\"array\",\"items\":{\"type\":\"object\"}}}},"
    "\"Health\":{\"type\":\"object\",\"required\":[\"status\"],\"properties\":{"
    "\"status\":{\"type\":\"string\"}}},"
    "\"Status\":{\"type\":\"object\",\"required\":[\"version\",\"started\",\"http\",\"models\"],"
    "\"properties\":{\"version\":{\"type\":\"string\"},\"started\":{\"type\":\"integer\"},"
    "\"resident_bytes\":{\"type\":\"integer\"},\"http\":{\"type\":\"object\"},"
    "\"models\":{\"type\":\"array\",\"items\":{\"type\":\"object\"}}}},"
    "\"TokenizeRequest\":{\"type\":\"object\",\"required\":[\"content\"],\"properties\":{"
    "\"content\":{\"type\":\"string\"},\"add_special\":{\"type\":\"boolean\"},"
    "\"parse_special\":{\"type\":\"boolean\"},\"with_pieces\":{\"type\":\"boolean\"}}},"
    "\"DetokenizeRequest\":{\"type\":\"object\",\"required\":[\"tokens\"],\"properties\":{"
    "\"tokens\":{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":0}}}},"
    "\"TemplateRequest\":{\"type\":\"object\",\"required\":[\"messages\"],\"properties\":{"
    "\"messages\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"type\":\"object\"}}}}}";

const char *hs_rest_schemas(void)
{
    return schemas;
}

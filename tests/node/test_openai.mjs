// test_openai.mjs - OpenAI's client for Node.js against a running server, which test_node.py starts:
// HS_SERVER is its address, HS_SAY, HS_CALLER,
// HS_CYCLE and HS_EMBED are the names of its models.
import assert from "node:assert/strict";
import test from "node:test";

const env = process.env;
const {default: OpenAI} = await import(`${env.HS_NODE_MODULES}/openai/index.mjs`);

const ANSWER = "Hello world, my friend";
const TIMEOUT = 60000; // milliseconds; generous, as the machine may be busy
const HI = [{role: "user", content: "Hi"}];
const client = new OpenAI({baseURL: `${env.HS_SERVER}/v1`, apiKey: "none", maxRetries: 0,
    timeout: TIMEOUT});

async function countBusy(model) {
    const reply = await fetch(`${env.HS_SERVER}/slots?model=${model}`);
    return (await reply.json()).filter((slot) => slot.is_processing).length;
}

async function waitBusy(model, n) {
    const end = Date.now() + TIMEOUT;
    while (await countBusy(model) !== n) {
        assert.ok(Date.now() < end, `not ${n} slots are busy`);
        await new Promise((done) => setTimeout(done, 10));
    }
}

test("a chat", async () => {
    const answer = await client.chat.completions.create({model: env.HS_SAY, messages: HI});
    assert.equal(answer.choices[0].message.content, ANSWER);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.total_tokens,
        answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("a stream", async () => {
    const stream = await client.chat.completions.create({model: env.HS_SAY, messages: HI,
        stream: true, stream_options: {include_usage: true}});
    const chunks = [];
    for await (const chunk of stream) {
        chunks.push(chunk);
    }
    assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), ANSWER);
    assert.ok(chunks.at(-1).usage.completion_tokens > 0);
});

test("the helper for streams", async () => {
    const runner = client.chat.completions.stream({model: env.HS_SAY, messages: HI});
    let text = "";
    runner.on("content", (delta) => { text += delta; });
    assert.equal(await runner.finalContent(), ANSWER);
    assert.equal(text, ANSWER);
});

test("completions and stop strings", async () => {
    const answer = await client.completions.create({model: env.HS_CYCLE, prompt: " hs",
        max_tokens: 10, stop: ["zz", " i"]});
    assert.equal(answer.choices[0].text, " ht");
    assert.equal(answer.choices[0].finish_reason, "stop");
});

// What the grammar leaves open is nothing, so that any model answers this.
const SCHEMA = {type: "object", properties: {city: {enum: ["Paris"]}}, required: ["city"],
    additionalProperties: false};

test("a JSON schema", async () => {
    const answer = await client.chat.completions.parse({model: env.HS_SAY, messages: HI,
        response_format: {type: "json_schema", json_schema: {name: "place", strict: true,
            schema: SCHEMA}}});
    assert.deepEqual(JSON.parse(answer.choices[0].message.content), {city: "Paris"});
});

test("a round trip of a tool", async () => {
    const tools = [{type: "function", function: {name: "weather", parameters: SCHEMA}}];
    const asked = {model: env.HS_CALLER, messages: HI, tools, parallel_tool_calls: false,
        tool_choice: {type: "function", function: {name: "weather"}}};
    const answer = await client.chat.completions.create(asked);
    const [call] = answer.choices[0].message.tool_calls;
    assert.equal(answer.choices[0].finish_reason, "tool_calls");
    assert.equal(call.function.name, "weather");
    assert.deepEqual(JSON.parse(call.function.arguments), {city: "Paris"});
    const final = await client.chat.completions.stream(asked).finalMessage();
    assert.deepEqual(JSON.parse(final.tool_calls[0].function.arguments), {city: "Paris"});
    const after = await client.chat.completions.create({model: env.HS_SAY, tools,
        messages: [...HI, answer.choices[0].message,
            {role: "tool", tool_call_id: call.id, content: "It rains."}]});
    assert.equal(after.choices[0].message.content, ANSWER);
});

test("embeddings", async () => {
    const fields = {model: env.HS_EMBED, input: ["a b", "c"]};
    const packed = await client.embeddings.create(fields); // base64 on the wire
    const plain = await client.embeddings.create({...fields, encoding_format: "float"});
    assert.equal(packed.data.length, 2);
    const length = Math.hypot(...plain.data[0].embedding);
    assert.ok(Math.abs(length - 1) < 1e-5, `${length}`);
    packed.data[1].embedding.forEach((value, i) => {
        assert.ok(Math.abs(value - plain.data[1].embedding[i]) < 1e-6);
    });
});

test("models", async () => {
    const names = [];
    for await (const model of client.models.list()) {
        names.push(model.id);
    }
    assert.deepEqual(names, [env.HS_SAY, env.HS_CALLER, env.HS_CYCLE, env.HS_EMBED]);
});

test("errors are the client's own classes", async () => {
    const fields = {model: env.HS_SAY, messages: HI};
    await assert.rejects(client.chat.completions.create({...fields, temperature: -1}), (error) => {
        assert.ok(error instanceof OpenAI.BadRequestError);
        assert.equal(error.param, "temperature");
        return true;
    });
    await assert.rejects(client.chat.completions.create({...fields, model: "gpt-4"}), (error) => {
        assert.ok(error instanceof OpenAI.NotFoundError);
        assert.equal(error.code, "model_not_found");
        return true;
    });
});

test("a stream that is aborted frees its slot", async () => {
    const stream = await client.chat.completions.create({model: env.HS_CYCLE, messages: HI,
        stream: true});
    for await (const chunk of stream) {
        if (chunk.choices[0].delta.content) {
            await waitBusy(env.HS_CYCLE, 1);
            break; // which aborts it
        }
    }
    await waitBusy(env.HS_CYCLE, 0);
});

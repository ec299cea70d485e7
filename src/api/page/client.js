/*
 * client.js - the server's endpoints as the page needs them. Addresses are relative to the page, so
 * that it works behind a proxy's path, too.
 */

const KEY = "hyprstream.key";
const BROKEN = "The connection to the server broke before the answer was complete.";

// What the server refused, or why it cannot be reached (status 0).
export class ApiError extends Error {
    constructor(status, message) {
        super(message);
        this.status = status;
    }
}

async function refusal(response) {
    const text = await response.text().catch(() => "");
    let message = `The server answered ${response.status} ${response.statusText}`.trim();
    try {
        message = JSON.parse(text).error.message || message;
    } catch {
        // something between this page and the server answered, in its own words
    }
    return new ApiError(response.status, message);
}

// The events of a stream: [name, data] of each.
export async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let name = "message";
    let data = [];
    try {
        for (;;) {
            const {value, done} = await reader.read();
            if (done) {
                return;
            }
            const lines = (rest + value).split("\n");
            rest = lines.pop();
            for (const line of lines.map((text) => text.replace(/\r$/, ""))) {
                if (line.startsWith("data:")) {
                    data.push(line.slice(line[5] === " " ? 6 : 5));
                } else if (line.startsWith("event:")) {
                    name = line.slice(6).trim();
                } else if (line === "" && data.length > 0) {
                    yield [name, data.join("\n")];
                    name = "message";
                    data = [];
                }
            }
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}

function parse(data) {
    let chunk;
    try {
        chunk = JSON.parse(data);
    } catch {
        throw new ApiError(0, "The server sent something that is no JSON.");
    }
    if (chunk.error) {
        throw new ApiError(chunk.error.code ?? 500, chunk.error.message);
    }
    return chunk;
}

// What the server chose for an answer, and why; undefined: it was not asked to.
function routed({headers}) {
    const names = headers.get("x-hyprstream-adapters");
    return names === null ? undefined : {
        route: headers.get("x-hyprstream-route") ?? "",
        adapters: names === "none" ? [] : names.split(", ").map((entry) => {
            const colon = entry.lastIndexOf(":");
            return {name: entry.slice(0, colon), scale: Number(entry.slice(colon + 1))};
        }),
    };
}

export class Client {
    // askKey(message): resolves to a key, or null when the person has none.
    constructor(askKey) {
        this.askKey = askKey;
        this.asking = null;
    }

    async send(method, path, body, signal) {
        const key = sessionStorage.getItem(KEY);
        const headers = body === undefined ? {} : {"Content-Type": "application/json"};
        if (key) {
            headers.Authorization = `Bearer ${key}`;
        }
        let response;
        try {
            response = await fetch(new URL(path, document.baseURI), {
                method, headers, signal, body: body === undefined ? undefined
                    : JSON.stringify(body)});
        } catch (error) {
            if (error.name === "AbortError") {
                throw error;
            }
            throw new ApiError(0, "The server cannot be reached. Is it running?");
        }
        if (response.status === 401 && await this.renewKey(key)) {
            return this.send(method, path, body, signal);
        }
        if (!response.ok) {
            throw await refusal(response);
        }
        return response;
    }

    // Ask once, however many requests were refused; whether there is another key now.
    async renewKey(refused) {
        if (sessionStorage.getItem(KEY) !== refused) {
            return true;
        }
        this.asking ??= this.askKey(refused ? "The server does not know this key." : "");
        const key = await this.asking;
        this.asking = null;
        if (!key) {
            return false;
        }
        sessionStorage.setItem(KEY, key);
        return true;
    }

    hasKey() {
        return sessionStorage.getItem(KEY) !== null;
    }

    forgetKey() {
        sessionStorage.removeItem(KEY);
    }

    async json(path) {
        return (await this.send("GET", path)).json();
    }

    async models() {
        return (await this.json("v1/models")).data;
    }

    props(model) {
        return this.json(`props?model=${encodeURIComponent(model)}`);
    }

    // The chunks of an answer, the first with the adapters that were chosen; an error that comes in
    // mid-stream is thrown.
    async* chat(body, signal) {
        const response = await this.send("POST", "v1/chat/completions",
            {...body, stream: true, stream_options: {include_usage: true}}, signal);
        yield {routed: routed(response)};
        for await (const [, data] of events(response.body)) {
            if (data === "[DONE]") {
                return;
            }
            yield parse(data);
        }
        throw new ApiError(0, BROKEN);
    }

    // The same of an answer in a session.
    async* generate(path, body, signal) {
        const response = await this.send("POST", path, {...body, stream: true}, signal);
        yield {routed: routed(response)};
        for await (const [name, data] of events(response.body)) {
            const {text, model, usage, finish_reason: finish} = parse(data);
            const delta = name === "text" ? {content: text}
                : name === "reasoning" ? {reasoning_content: text} : {};
            yield {model, usage: usage && {...usage,
                prompt_tokens_details: {cached_tokens: usage.cached_tokens}},
            choices: [{delta, finish_reason: finish}]};
            if (name === "done") {
                return;
            }
        }
        throw new ApiError(0, BROKEN);
    }
}

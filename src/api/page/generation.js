/*
 * generation.js - one answer while it comes. It goes on when another conversation is looked at.
 */

export class Generation {
    // chunks(signal): what comes, in the form of Client.chat; onChange() after every piece, onEnd()
    // once.
    constructor(node, chunks, {onChange, onEnd}) {
        Object.assign(this, {node, chunks, onChange, onEnd});
        this.abort = new AbortController();
        this.started = performance.now();
        this.first = null;
        this.done = this.run();
    }

    stop() {
        this.abort.abort();
    }

    async run() {
        try {
            for await (const chunk of this.chunks(this.abort.signal)) {
                this.take(chunk);
            }
        } catch (error) {
            if (error.name === "AbortError") {
                this.node.finish = "stopped";
            } else {
                this.node.error = error.message;
            }
        }
        this.onEnd(this);
    }

    take(chunk) {
        const choice = chunk.choices?.[0];
        const delta = choice?.delta ?? {};
        const {node} = this;
        node.model = chunk.model ?? node.model;
        Object.assign(node, chunk.routed);
        if (delta.content || delta.reasoning_content) {
            const now = performance.now();
            this.first ??= now;
            this.last = now;
        }
        if (delta.reasoning_content) {
            node.reasoning = (node.reasoning ?? "") + delta.reasoning_content;
        }
        node.content += delta.content ?? "";
        node.finish = choice?.finish_reason ?? node.finish;
        if (chunk.usage) {
            this.measure(chunk.usage);
        }
        this.onChange(this);
    }

    measure(usage) {
        const seconds = (this.last - this.first) / 1000;
        const completion = usage.completion_tokens;
        this.node.stats = {
            prompt: usage.prompt_tokens,
            cached: usage.prompt_tokens_details?.cached_tokens ?? 0,
            completion,
            wait: this.first === null ? 0 : (this.first - this.started) / 1000,
            speed: completion > 1 && seconds > 0 ? (completion - 1) / seconds : 0,
        };
    }
}

/*
 * sessions.js - conversations that the server keeps (/api/v1/sessions): those of `hyprstream chat
 * --session`, too. They have one branch: a question that is changed, or an answer that is made
 * again, replaces what followed.
 */
import {Conversation, newId} from "./conversations.js";

const PATH = "api/v1/sessions";
const NAME_MAX = 40;

// A name that the server's folders can have, after a title.
function nameOf(title) {
    const words = title.normalize("NFD").replace(/[^A-Za-z0-9]+/g, "-").slice(0, NAME_MAX)
        .toLowerCase().replace(/^-+|-+$/g, "");
    return `${words || "conversation"}-${newId().slice(0, 4)}`;
}

export class Session extends Conversation {
    // info: as the server lists it; settings: what requests send along.
    constructor(info, settings) {
        super({id: `session:${info.id}`, title: info.id, changed: info.updated * 1000,
            settings: {...settings, model: info.model ?? settings.model,
                adapters: info.lora?.length > 0 ? info.lora : undefined}});
        this.name = info.id;
        this.isLoaded = false;
        this.isRouted = info.lora === "auto"; // every turn chooses, whoever asks
    }

    // Its messages, from the server. `index` is a message's place there.
    take(messages) {
        const texts = (list) => JSON.stringify(list.map(({role, content}) => [role, content]));
        const shown = messages.filter(({role}) => ["user", "assistant"].includes(role));
        if (this.isLoaded && texts(this.path()) === texts(shown)) {
            return; // what is here knows more: how long the answers took
        }
        const {changed} = this;
        this.nodes = [];
        this.leaf = null;
        this.isLoaded = true;
        this.first = messages[0]?.role === "system" ? 1 : 0;
        this.settings.system = this.first === 1 ? messages[0].content : undefined;
        messages.forEach((message, index) => {
            if (["user", "assistant"].includes(message.role)) {
                const node = this.add(this.leaf, message.role, message.content);
                Object.assign(node, {index, id: `${this.id}:${index}`,
                    reasoning: message.reasoning_content});
                this.leaf = node.id;
            }
        });
        this.changed = changed;
    }

    add(parent, role, content) {
        const index = parent === null ? this.first : this.node(parent).index + 1;
        return Object.assign(super.add(parent, role, content), {index});
    }

    // Drop what follows `parent` (null: everything).
    cut(parent) {
        this.leaf = parent;
        this.nodes = this.path();
    }

    // How many of the server's messages end with `parent`.
    count(parent) {
        return parent === null ? this.first : this.node(parent).index + 1;
    }
}

export class Sessions {
    constructor(client) {
        this.client = client;
    }

    // Those there are; null: this server keeps none.
    async list(settings) {
        try {
            const {data} = await this.client.json(PATH);
            return data.map((info) => new Session(info, settings))
                .sort((a, b) => b.changed - a.changed);
        } catch (error) {
            if (error.status === 404) {
                return null;
            }
            throw error;
        }
    }

    address(session, rest = "") {
        return `${PATH}/${encodeURIComponent(session.name)}${rest}`;
    }

    async post(path, body) {
        return (await this.client.send("POST", path, body)).json();
    }

    async load(session) {
        session.take((await this.client.json(this.address(session))).messages);
    }

    // One with the messages of a conversation. lora: as requests name adapters.
    async create(conversation, title, model, lora) {
        const {settings} = conversation;
        const session = new Session(await this.post(PATH, {name: nameOf(title),
            model, lora, ...settings.system ? {system: settings.system} : {}}), settings);
        const messages = conversation.messages(conversation.leaf)
            .filter(({role}) => role !== "system");
        const answer = messages.length === 0 ? {messages: settings.system
            ? [{role: "system", content: settings.system}] : []}
            : await this.post(this.address(session, "/messages"), {messages});
        session.take(answer.messages);
        return session;
    }

    remove(session) {
        return this.client.send("DELETE", this.address(session));
    }

    setSystem(session, system) {
        return this.client.send("PATCH", this.address(session), {system});
    }

    async truncate(session, parent) {
        if (parent !== session.leaf) {
            await this.post(this.address(session, "/truncate"),
                {n_messages: session.count(parent)});
            session.cut(parent);
        }
    }

    // The chunks of an answer, in the form of Client.chat.
    async* generate(session, body, signal) {
        if (body.lora === "auto" && !session.isRouted) {
            await this.client.send("PATCH", this.address(session), {lora: "auto"}, signal);
        }
        session.isRouted = body.lora === undefined ? session.isRouted : body.lora === "auto";
        yield* this.client.generate(this.address(session, "/generate"), body, signal);
    }
}

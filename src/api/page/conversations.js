/*
 * conversations.js - conversations and where they are kept: in this browser, one entry of
 * localStorage each.
 *
 * The messages of a conversation are a tree: a question that was edited and an answer that was made
 * again stand beside the old ones, and `leaf` names the end of the branch that is shown.
 */

import {checkedAdapters} from "./adapters.js";

const PREFIX = "hyprstream.chat.";
const FORMAT = "hyprstream-conversations";
const TITLE_MAX = 60;
const STATS = ["prompt", "cached", "completion", "wait", "speed"];
const ROLES = ["user", "assistant"];

export function newId() {
    return [...crypto.getRandomValues(new Uint8Array(12))]
        .map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function titleOf(text) {
    const line = text.trim().replace(/\s+/g, " ");
    return line.length <= TITLE_MAX ? line : `${line.slice(0, TITLE_MAX - 1).trimEnd()}…`;
}

export class Conversation {
    constructor(fields = {}) {
        this.id = newId();
        this.title = "";
        this.changed = Date.now();
        this.settings = {};
        this.nodes = [];
        this.leaf = null;
        Object.assign(this, fields);
    }

    node(id) {
        return this.nodes.find((node) => node.id === id);
    }

    // The messages that are shown, first to last.
    path() {
        const path = [];
        for (let node = this.node(this.leaf); node; node = this.node(node.parent)) {
            path.unshift(node);
        }
        return path;
    }

    // A message behind `parent` (null: the first one), shown from now on.
    add(parent, role, content) {
        const node = {id: newId(), parent, role, content};
        this.nodes.push(node);
        this.leaf = node.id;
        this.changed = Date.now();
        if (this.title === "" && role === "user") {
            this.title = titleOf(content);
        }
        return node;
    }

    // The message and its alternatives, oldest first.
    siblings(node) {
        return this.nodes.filter((other) => other.parent === node.parent);
    }

    // Show the branch of `node`, to its newest end.
    show(node) {
        let end = node;
        for (;;) {
            const next = this.nodes.findLast((other) => other.parent === end.id);
            if (!next) {
                break;
            }
            end = next;
        }
        this.leaf = end.id;
    }

    remove(node) {
        this.nodes = this.nodes.filter((other) => other !== node);
        this.leaf = node.parent;
    }

    // As the server's endpoints want it.
    messages(leaf) {
        const messages = [];
        for (let node = this.node(leaf); node; node = this.node(node.parent)) {
            if (node.content !== "" || node.role === "user") {
                messages.unshift({role: node.role, content: node.content});
            }
        }
        if (this.settings.system) {
            messages.unshift({role: "system", content: this.settings.system});
        }
        return messages;
    }

    toMarkdown() {
        const names = {user: "You", assistant: "Assistant"};
        const parts = [`# ${this.title || "Conversation"}`];
        if (this.settings.system) {
            parts.push("## System", this.settings.system);
        }
        this.path().forEach((node) => parts.push(`## ${names[node.role]}`, node.content));
        return parts.join("\n\n") + "\n";
    }

    toJSON() {
        const {id, title, changed, settings, nodes, leaf} = this;
        return {id, title, changed, settings, nodes, leaf};
    }
}

// ---- reading what may have been written by anybody ----

const isText = (value) => typeof value === "string";

function checkedNode(raw, known) {
    if (!isText(raw?.id) || !ROLES.includes(raw.role) || !isText(raw.content) ||
        known.has(raw.id) || (raw.parent !== null && !known.has(raw.parent))) {
        return null;
    }
    const node = {id: raw.id, parent: raw.parent, role: raw.role, content: raw.content};
    for (const key of ["reasoning", "error", "finish", "model", "route"]) {
        if (isText(raw[key])) {
            node[key] = raw[key];
        }
    }
    if (Array.isArray(raw.adapters)) {
        node.adapters = checkedAdapters(raw.adapters);
    }
    if (STATS.every((key) => Number.isFinite(raw.stats?.[key]))) {
        node.stats = Object.fromEntries(STATS.map((key) => [key, raw.stats[key]]));
    }
    return node;
}

function checkedSettings(raw) {
    const settings = Object.fromEntries(Object.entries(raw ?? {}).filter(([, value]) =>
        isText(value) || Number.isFinite(value)));
    return {...settings, adapters: checkedAdapters(raw?.adapters)};
}

function checked(raw) {
    if (!Array.isArray(raw?.nodes)) {
        return null;
    }
    const known = new Set();
    const nodes = [];
    for (const item of raw.nodes) {
        const node = checkedNode(item, known);
        if (node === null) {
            return null;
        }
        known.add(node.id);
        nodes.push(node);
    }
    return new Conversation({
        id: isText(raw.id) ? raw.id : newId(),
        title: isText(raw.title) ? titleOf(raw.title) : "",
        changed: Number.isFinite(raw.changed) ? raw.changed : Date.now(),
        settings: checkedSettings(raw.settings), nodes,
        leaf: known.has(raw.leaf) ? raw.leaf : nodes.at(-1)?.id ?? null,
    });
}

// A list of {role, content}, as other programs write it.
function fromMessages(raw) {
    const conversation = new Conversation();
    for (const message of raw) {
        if (!isText(message?.role) || !isText(message.content)) {
            return null;
        }
        if (ROLES.includes(message.role)) {
            conversation.add(conversation.leaf, message.role, message.content);
        } else {
            conversation.settings.system = message.content;
        }
    }
    return conversation;
}

// The conversations of a file's text; an Error says what is wrong with it.
export function readConversations(text) {
    let raw;
    try {
        raw = JSON.parse(text);
    } catch {
        throw new Error("This file is no JSON.");
    }
    const messages = Array.isArray(raw) ? raw : raw?.messages;
    const found = Array.isArray(messages) ? [fromMessages(messages)]
        : raw?.format === FORMAT && Array.isArray(raw.conversations)
            ? raw.conversations.map(checked) : [];
    if (found.length === 0 || found.includes(null)) {
        throw new Error("This file holds no conversation that this page can read.");
    }
    found.forEach((conversation) => {
        conversation.id = newId(); // beside the one it may be a copy of
    });
    return found;
}

export function writeConversations(conversations) {
    return JSON.stringify({format: FORMAT, version: 1, conversations}, null, 1) + "\n";
}

// ---- keeping them ----

export class BrowserStore {
    // All that are kept, newest first. What cannot be read is left alone.
    list() {
        try {
            return Object.keys(localStorage).map((key) => this.read(key)).filter(Boolean)
                .sort((a, b) => b.changed - a.changed);
        } catch {
            return []; // a browser that keeps nothing
        }
    }

    read(key) {
        if (!key.startsWith(PREFIX)) {
            return null;
        }
        try {
            return checked(JSON.parse(localStorage.getItem(key)));
        } catch {
            return null;
        }
    }

    // Whether there was room for it.
    save(conversation) {
        try {
            localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
            return true;
        } catch {
            return false;
        }
    }

    remove(conversation) {
        localStorage.removeItem(PREFIX + conversation.id);
    }

    // Call `changed(id)` when another window of this page changes one.
    watch(changed) {
        addEventListener("storage", (event) => {
            if (event.key === null || event.key.startsWith(PREFIX)) {
                changed(event.key?.slice(PREFIX.length) ?? null);
            }
        });
    }
}

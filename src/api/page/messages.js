/*
 * messages.js - the messages of a conversation as they are shown, and what can be done with each.
 */
import {adaptersText} from "./adapters.js";
import {copyButton, el, icon, iconButton} from "./dom.js";
import {MarkdownView} from "./markdown_view.js";

const FINISHES = {
    length: "The answer ends here: it reached its limit of tokens, or the context is full.",
    stopped: "Stopped.",
};

const number = new Intl.NumberFormat();
const LONG = 2000; // characters of a question that is scrolled in its place

const rate = new Intl.NumberFormat(undefined, {minimumFractionDigits: 1, maximumFractionDigits: 1});

function statsText(stats, adapters) {
    const parts = [`${number.format(stats.completion)} ${stats.completion === 1 ? "token"
        : "tokens"}`];
    if (stats.speed > 0) {
        parts.push(`${stats.speed < 100 ? rate.format(stats.speed)
            : number.format(Math.round(stats.speed))} tokens/s`);
    }
    parts.push(`first after ${rate.format(stats.wait)} s`);
    parts.push(`prompt ${number.format(stats.prompt)}` +
        (stats.cached > 0 ? ` (${number.format(stats.cached)} cached)` : ""));
    return [...parts, ...adapters ? [adapters] : []].join(" · ");
}

// ---- an answer ----

class AnswerView {
    constructor(node, actions) {
        this.node = node;
        this.actions = actions;
        this.body = el("div", {class: "prose", dir: "auto"});
        this.reasoning = null;
        this.note = el("div", {class: "note"});
        this.bar = el("div", {class: "actions"});
        this.root = el("li", {class: "message answer", "data-id": node.id, "aria-label": "Answer"},
            [this.body, this.note, this.bar]);
        this.text = new MarkdownView(this.body);
        this.isDone = false;
    }

    // Gives the text of blocks that became complete, to be read out.
    update(isRunning) {
        if (this.isDone) {
            return "";
        }
        const {node, root} = this;
        root.classList.toggle("is-running", isRunning);
        root.setAttribute("aria-busy", String(isRunning));
        this.showReasoning(isRunning);
        const complete = this.text.update(node.content, !isRunning);
        if (!isRunning) {
            this.isDone = true;
            this.end();
        }
        return complete.map((block) => block.textContent).join("\n");
    }

    showReasoning(isRunning) {
        const {node} = this;
        if (!node.reasoning) {
            return;
        }
        if (this.reasoning === null) {
            const title = el("span");
            const body = el("div", {class: "prose", dir: "auto"});
            const details = el("details", {class: "reasoning"},
                [el("summary", {}, [icon("thought"), title]), body]);
            this.root.prepend(details);
            this.reasoning = {title, text: new MarkdownView(body), length: 0};
        }
        const isThinking = isRunning && node.content === "";
        this.reasoning.title.textContent = isThinking ? "Thinking…" : "Thoughts";
        if (this.reasoning.length !== node.reasoning.length || !isRunning) {
            this.reasoning.text.update(node.reasoning, !isRunning);
            this.reasoning.length = node.reasoning.length;
        }
    }

    end() {
        const {node, actions} = this;
        if (node.error) {
            const retry = el("button", {type: "button", class: "button"}, ["Try again"]);
            retry.addEventListener("click", () => actions.retry(node));
            this.note.append(el("div", {class: "error", role: "alert"},
                [el("p", {}, [node.error]), retry]));
        } else if (FINISHES[node.finish]) {
            this.note.append(el("div", {class: "finish"}, [FINISHES[node.finish]]));
            if (node.content !== "" && actions.canGoOn(node)) {
                const more = el("button", {type: "button", class: "button"}, ["Go on"]);
                more.addEventListener("click", () => actions.goOn(node));
                this.note.firstChild.append(more);
            }
        }
    }

    showActions(siblings) {
        const {node, actions} = this;
        const parts = siblingButtons(node, siblings, actions);
        if (node.content !== "") {
            parts.push(copyButton("Copy the answer", () => node.content));
        }
        if (!node.error) {
            parts.push(iconButton("again", "Answer again", () => actions.regenerate(node)));
        }
        if (node.stats) {
            parts.push(el("span", {class: "stats", title: node.route ?? null}, [
                statsText(node.stats, adaptersText(node))]));
        }
        this.bar.replaceChildren(...parts);
    }
}

// ---- a question ----

class QuestionView {
    constructor(node, actions) {
        this.node = node;
        this.actions = actions;
        const isLong = node.content.length > LONG || node.content.split("\n").length > 20;
        this.bubble = el("div", isLong
            ? {class: "bubble is-long", dir: "auto", tabindex: "0", role: "group",
                "aria-label": "Long question"}
            : {class: "bubble", dir: "auto"}, [node.content]);
        this.bar = el("div", {class: "actions"});
        this.root = el("li", {class: "message question", "data-id": node.id,
            "aria-label": "Question"}, [this.bubble, this.bar]);
    }

    update() {
        return "";
    }

    showActions(siblings) {
        const {node, actions} = this;
        this.editButton = iconButton("edit", "Edit and ask again", () => this.edit());
        this.bar.replaceChildren(...siblingButtons(node, siblings, actions),
            copyButton("Copy the question", () => node.content), this.editButton);
    }

    edit() {
        const area = el("textarea", {dir: "auto", "aria-label": "The question, to be changed",
            rows: String(Math.min(this.node.content.split("\n").length + 1, 12))});
        area.value = this.node.content;
        const cancel = el("button", {type: "button", class: "button quiet"}, ["Cancel"]);
        const send = el("button", {type: "submit", class: "button primary"}, ["Ask again"]);
        const form = el("form", {class: "edit"}, [area, el("div", {class: "buttons"},
            [cancel, send])]);
        const close = () => {
            form.replaceWith(this.bubble);
            this.bar.hidden = false;
            this.editButton.focus();
        };
        cancel.addEventListener("click", close);
        form.addEventListener("submit", (event) => {
            event.preventDefault();
            if (area.value.trim() !== "") {
                close();
                this.actions.resend(this.node, area.value);
            }
        });
        form.addEventListener("keydown", (event) => {
            if (event.key === "Escape") {
                event.stopPropagation();
                close();
            } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing &&
                event.target === area) {
                event.preventDefault();
                form.requestSubmit();
            }
        });
        this.bubble.replaceWith(form);
        this.bar.hidden = true;
        area.focus();
    }
}

function siblingButtons(node, siblings, actions) {
    if (siblings.length < 2) {
        return [];
    }
    const at = siblings.indexOf(node);
    const step = (name, label, to) => {
        const button = iconButton(name, label, () => actions.show(siblings[to]));
        button.disabled = siblings[to] === undefined;
        return button;
    };
    return [el("span", {class: "siblings"}, [
        step("previous", "The version before", at - 1),
        el("span", {}, [`${at + 1}/${siblings.length}`]),
        step("next", "The next version", at + 1),
    ])];
}

// ---- the list ----

export class MessageList {
    // actions: {show, regenerate, retry, canGoOn, goOn, resend}(node, ...)
    constructor(root, actions) {
        this.root = root;
        this.actions = actions;
        this.views = new Map();
        this.conversation = null;
    }

    // Bring the list up to date. isRunning(node): an answer that still comes.
    show(conversation, isRunning) {
        if (this.conversation !== conversation) {
            this.views.clear();
            this.conversation = conversation;
        }
        const path = conversation.path();
        const roots = path.map((node) => {
            const view = this.view(node);
            if (!isRunning(node)) {
                view.update(false);
                view.showActions(conversation.siblings(node));
            }
            return view.root;
        });
        if (roots.length !== this.root.childElementCount ||
            roots.some((root, i) => this.root.children[i] !== root)) {
            this.root.replaceChildren(...roots);
        }
    }

    view(node) {
        let view = this.views.get(node.id);
        if (!view) {
            view = node.role === "user" ? new QuestionView(node, this.actions)
                : new AnswerView(node, this.actions);
            this.views.set(node.id, view);
        }
        return view;
    }

    // Its view shows an end that it no longer has.
    forget(node) {
        this.views.delete(node.id);
    }

    // Show more of an answer that comes, or its end; gives what is complete now, to be read out.
    update(node, isRunning) {
        return this.views.get(node.id)?.update(isRunning) ?? "";
    }
}

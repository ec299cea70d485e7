/*
 * sidebar.js - the list of conversations, and the menu of each.
 */
import {el, icon, iconButton} from "./dom.js";

const DAY = 24 * 60 * 60 * 1000;

function groupOf(changed, now) {
    const today = new Date(now).setHours(0, 0, 0, 0);
    return changed >= today ? "Today" : changed >= today - DAY ? "Yesterday"
        : changed >= today - 6 * DAY ? "This week" : "Before";
}

function matches(conversation, words) {
    const text = [conversation.title, ...conversation.nodes.map((node) => node.content)]
        .join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
}

// A list of commands beside a button, with the keys of a menu.
class Menu {
    constructor(root) {
        this.root = root;
        root.addEventListener("keydown", (event) => this.onKey(event));
        root.addEventListener("toggle", (event) => {
            if (event.newState === "closed" && this.owner) {
                this.owner.setAttribute("aria-expanded", "false");
            }
        });
    }

    // commands: [[label, icon, function], ...]
    open(owner, commands) {
        this.owner = owner;
        this.root.replaceChildren(...commands.map(([label, name, run]) => {
            const item = el("button", {type: "button", role: "menuitem", tabindex: "-1"},
                [icon(name), label]);
            item.addEventListener("click", () => {
                this.root.hidePopover();
                owner.focus();
                run();
            });
            return item;
        }));
        owner.setAttribute("aria-expanded", "true");
        this.root.showPopover();
        const place = owner.getBoundingClientRect();
        const {width, height} = this.root.getBoundingClientRect();
        this.root.style.left = `${Math.max(8, Math.min(place.left, innerWidth - width - 8))}px`;
        this.root.style.top = `${Math.min(place.bottom + 4, innerHeight - height - 8)}px`;
        this.root.firstElementChild.focus();
    }

    onKey(event) {
        const items = [...this.root.children];
        const at = items.indexOf(document.activeElement);
        const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1}[event.key];
        if (to !== undefined) {
            event.preventDefault();
            items.at(to % items.length).focus();
        } else if (event.key === "Escape" || event.key === "Tab") {
            event.preventDefault();
            event.stopPropagation();
            this.root.hidePopover();
            this.owner.focus();
        }
    }
}

export class Sidebar {
    // actions: {open, rename, remove, saveMarkdown, saveJson, copyToServer}(conversation)
    constructor(root, menu, actions) {
        this.list = root.querySelector("#conversations");
        this.search = root.querySelector("#search");
        this.menu = new Menu(menu);
        this.actions = actions;
        this.search.addEventListener("input", () => this.draw());
    }

    // sessions: those that the server keeps; null: it keeps none.
    show(conversations, sessions, current, isRunning) {
        Object.assign(this, {conversations, sessions, current, isRunning});
        this.draw();
    }

    draw() {
        const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
        const found = this.conversations.filter((conversation) => matches(conversation, words));
        const groups = new Map();
        for (const item of found) {
            const title = groupOf(item.changed, Date.now());
            groups.set(title, [...groups.get(title) ?? [], item]);
        }
        const kept = (this.sessions ?? []).filter((session) => matches(session, words));
        if (kept.length > 0) {
            groups.set("On the server", kept);
        }
        const focused = document.activeElement?.closest?.("[data-conversation]");
        this.list.replaceChildren(...[...groups].map(([title, items]) =>
            el("section", {}, [
                el("h2", {}, [title]), el("ul", {}, items.map((item) => this.item(item))),
            ])));
        if (groups.size === 0) {
            this.list.append(el("p", {class: "hint"}, [words.length > 0
                ? "No conversation has these words." : "Your conversations will be listed here."]));
        }
        if (focused) {
            const id = focused.dataset.conversation;
            this.list.querySelector(`[data-conversation="${CSS.escape(id)}"] button`)?.focus();
        }
    }

    item(conversation) {
        const isCurrent = conversation === this.current;
        const title = conversation.title || "New conversation";
        const open = el("button", {type: "button", class: "title", dir: "auto",
            "aria-current": isCurrent ? "true" : null, title}, [title]);
        open.addEventListener("click", () => this.actions.open(conversation));
        const more = iconButton("more", `More for ${title}`,
            () => this.menu.open(more, this.commands(conversation)));
        more.setAttribute("aria-haspopup", "menu");
        more.setAttribute("aria-expanded", "false");
        return el("li", {"data-conversation": conversation.id,
            class: this.isRunning(conversation) ? "is-running" : null}, [open, more]);
    }

    commands(conversation) {
        const {actions} = this;
        const isLocal = this.conversations.includes(conversation);
        return [
            ["Rename…", "edit", actions.rename, isLocal],
            ["Save as Markdown", "download", actions.saveMarkdown, true],
            ["Save as JSON", "download", actions.saveJson, true],
            ["Copy to the server", "upload", actions.copyToServer,
                isLocal && this.sessions !== null],
            ["Delete…", "trash", actions.remove, true],
        ].filter(([, , , isOffered]) => isOffered)
            .map(([label, name, run]) => [label, name, () => run(conversation)]);
    }
}

/*
 * app.js - the page: one conversation is shown, any number are kept, each may have one answer
 * coming.
 */
import {AdapterPanel, pickedText, requestAdapters} from "./adapters.js";
import {acceptFiles} from "./attach.js";
import {Client} from "./client.js";
import {BrowserStore, Conversation, readConversations, titleOf, writeConversations}
    from "./conversations.js";
import {askKey, askTitle, askWhether} from "./dialogs.js";
import {download, el, icon} from "./dom.js";
import {Generation} from "./generation.js";
import {MessageList} from "./messages.js";
import {Session, Sessions} from "./sessions.js";
import {latestSettings, requestFields, SettingsDialog} from "./settings.js";
import {Sidebar} from "./sidebar.js";

const SAVE_MS = 2000; // how often an answer that comes is kept
const NEAR_END = 48; // pixels; who is nearer follows the answer
const NARROW = matchMedia("(max-width: 760px)");
const TOUCH = matchMedia("(pointer: coarse)");
const DARK = matchMedia("(prefers-color-scheme: dark)");
const SUGGESTIONS = [
    "Explain how a tide works, in three sentences.",
    "Write a Python function that merges two sorted lists.",
    "Make a table of the planets with their diameters.",
];

const number = new Intl.NumberFormat();
const at = (id) => document.getElementById(id);

class App {
    constructor() {
        this.client = new Client(askKey);
        this.store = new BrowserStore();
        this.sessions = new Sessions(this.client);
        this.kept = null; // those the server keeps
        this.running = new Map(); // conversation id: Generation
        this.models = [];
        this.adapters = []; // of all models: {id, parent}
        this.defaults = new Map(); // model: what its /props say
        this.isFollowing = true;
        this.settings = new SettingsDialog(at("settings-dialog"));
        this.adapterPanel = new AdapterPanel(at("adapters"), (picked) => this.pickAdapters(picked));
        this.messages = new MessageList(at("messages"), {
            show: (node) => this.showBranch(node),
            regenerate: (node) => this.regenerate(node),
            retry: (node) => this.retry(node),
            goOn: (node) => this.goOn(node),
            canGoOn: () => !(this.conversation instanceof Session),
            resend: (node, text) => this.ask(node.parent, text),
        });
        this.sidebar = new Sidebar(at("sidebar"), at("item-menu"), {
            open: (conversation) => this.open(conversation),
            rename: (conversation) => this.rename(conversation),
            remove: (conversation) => this.remove(conversation),
            saveMarkdown: (conversation) => this.whenLoaded(conversation, () => download(
                `${fileName(conversation)}.md`, "text/markdown", conversation.toMarkdown())),
            saveJson: (conversation) => this.whenLoaded(conversation, () => download(
                `${fileName(conversation)}.json`, "application/json",
                writeConversations([conversation]))),
            copyToServer: (conversation) => this.copyToServer(conversation),
        });
        this.conversations = this.store.list();
        this.store.watch((id) => this.reload(id));
        this.listen();
        this.showSidebar(!NARROW.matches);
        this.showTheme();
        this.begin();
        this.connect();
    }

    // ---- events ----

    listen() {
        const on = (id, type, run) => at(id).addEventListener(type, run);
        on("new", "click", () => this.begin());
        on("menu", "click", () => this.showSidebar(at("sidebar").inert));
        on("backdrop", "click", () => this.showSidebar(false));
        on("theme", "click", () => this.switchTheme());
        on("open-settings", "click", () => this.openSettings());
        on("open-adapters", "click", () => this.showAdapters(at("adapters").hidden));
        on("forget-key", "click", () => {
            this.client.forgetKey();
            this.connect();
        });
        on("model", "change", () => this.chooseModel(at("model").value));
        on("attach", "click", () => at("attach-file").click());
        acceptFiles(at("question"), at("attach-file"), (text) => this.notify(text));
        on("import", "click", () => at("import-file").click());
        on("import-file", "change", () => this.importFile());
        on("export", "click", () => download("hyprstream-conversations.json", "application/json",
            writeConversations(this.conversations)));
        on("latest", "click", () => this.follow());
        on("stop", "click", () => this.stop());
        on("question", "input", () => this.fitQuestion());
        on("question", "keydown", (event) => this.onQuestionKey(event));
        on("composer", "submit", (event) => {
            event.preventDefault();
            this.send();
        });
        on("scroll", "scroll", () => this.onScroll());
        at("problem").querySelector("button").addEventListener("click", () => this.connect());
        document.addEventListener("keydown", (event) => this.onKey(event));
        addEventListener("pagehide", () => this.conversations
            .filter((item) => this.running.has(item.id)).forEach((item) => this.save(item)));
        document.addEventListener("visibilitychange", () => this.refreshSessions());
        NARROW.addEventListener("change", () => this.showSidebar(!NARROW.matches));
        DARK.addEventListener("change", () => this.showTheme());
        for (const text of SUGGESTIONS) {
            const button = el("button", {type: "button", class: "button"}, [text]);
            button.addEventListener("click", () => this.ask(null, text));
            at("suggestions").append(button);
        }
    }

    onKey(event) {
        const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
        const isAsked = document.querySelector("dialog[open]") !== null;
        if (event.key === "Escape" && !isAsked) {
            if (NARROW.matches && !at("sidebar").inert) {
                this.showSidebar(false);
                at("menu").focus();
            } else {
                this.stop();
            }
        } else if (event.key === "/" && !isTyping && !isAsked) {
            event.preventDefault();
            at("question").focus();
        }
    }

    onQuestionKey(event) {
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            this.send();
        } else if (event.key === "ArrowUp" && at("question").value === "" && !this.generation()) {
            const last = this.conversation.path().findLast((node) => node.role === "user");
            if (last) {
                event.preventDefault();
                this.messages.view(last).edit();
            }
        }
    }

    onScroll() {
        const box = at("scroll");
        this.isFollowing = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
        at("latest").hidden = this.isFollowing;
    }

    follow() {
        const box = at("scroll");
        box.scrollTop = box.scrollHeight;
        this.isFollowing = true;
        at("latest").hidden = true;
    }

    // ---- the server ----

    async connect() {
        const problem = at("problem");
        try {
            const all = await this.client.models();
            this.models = all.filter(({parent}) => !parent);
            this.adapters = all.filter(({parent}) => parent);
            this.kept = await this.sessions.list(latestSettings());
            problem.hidden = true;
        } catch (error) {
            problem.querySelector("p").textContent = error.message;
            problem.hidden = false;
        }
        at("model").replaceChildren(...this.models.map(({id}) => el("option", {value: id}, [id])));
        this.showModel();
        this.loadDefaults();
        this.draw();
    }

    // What other programs did with the server's sessions meanwhile.
    async refreshSessions() {
        if (document.hidden || this.kept === null) {
            return;
        }
        try {
            const found = await this.sessions.list(latestSettings());
            this.kept = found?.map((session) => {
                const known = this.kept.find(({id}) => id === session.id);
                return known ? Object.assign(known, {changed: session.changed}) : session;
            }) ?? null;
            this.drawSidebar();
        } catch {
            // whoever asks something next is told
        }
    }

    // The model that answers this conversation: its own as long as the server has it.
    model(conversation = this.conversation) {
        const chosen = this.models.find(({id}) => id === conversation.settings.model);
        return chosen ?? this.models[0];
    }

    chooseModel(id) {
        this.conversation.settings.model = id;
        if (this.conversations.includes(this.conversation)) {
            this.save(this.conversation);
        }
        this.loadDefaults();
        this.showAdapters();
    }

    // The names of those that fit the conversation's model.
    adapterNames(conversation = this.conversation) {
        const id = this.model(conversation)?.id;
        return this.adapters.filter(({parent}) => parent === id).map((adapter) => adapter.id);
    }

    showAdapters(isOpen = !at("adapters").hidden) {
        const names = this.adapterNames();
        const button = at("open-adapters");
        button.hidden = names.length === 0;
        button.setAttribute("aria-label", pickedText(this.lora(this.conversation)));
        at("adapters").hidden = !isOpen || names.length === 0;
        button.setAttribute("aria-expanded", String(!at("adapters").hidden));
        this.adapterPanel.show(names, this.conversation.settings.adapters);
    }

    async pickAdapters(picked) {
        const {conversation} = this;
        conversation.settings.adapters = picked;
        if (this.conversations.includes(conversation)) {
            this.save(conversation);
        }
        this.showAdapters();
        if (!at("adapter-again").checked) {
            return;
        }
        const running = this.running.get(conversation.id);
        running?.stop();
        await running?.done;
        const last = conversation.node(conversation.leaf);
        if (last?.role === "assistant" && conversation === this.conversation) {
            this.regenerate(last);
        }
    }

    showModel() {
        const model = this.model();
        at("model").hidden = this.models.length < 2;
        at("model").value = model?.id ?? "";
        at("only-model").textContent = this.models.length === 1 ? model.id : "";
        at("forget-key").hidden = !this.client.hasKey();
        this.showAdapters();
        this.showUsage();
    }

    async loadDefaults() {
        const id = this.model()?.id;
        if (id === undefined || this.defaults.has(id)) {
            return;
        }
        try {
            const props = await this.client.props(id);
            this.defaults.set(id, props.default_generation_settings?.params);
        } catch {
            // the form then shows no defaults; requests will say what is wrong
        }
    }

    openSettings() {
        const {conversation} = this;
        this.settings.open(conversation.settings, this.defaults.get(this.model()?.id), (made) => {
            const {model, system, adapters} = conversation.settings;
            conversation.settings = {...made, ...model !== undefined && {model},
                ...adapters !== undefined && {adapters}};
            if (this.conversations.includes(conversation)) {
                this.save(conversation);
            }
            if (conversation instanceof Session && made.system !== system) {
                this.attempt(async () => {
                    await this.sessions.setSystem(conversation, made.system ?? "");
                    await this.sessions.load(conversation);
                    this.draw();
                });
            }
        });
    }

    // ---- questions and answers ----

    generation() {
        return this.running.get(this.conversation.id);
    }

    async send() {
        const text = at("question").value;
        if (text.trim() === "" || this.generation()) {
            return;
        }
        at("question").value = "";
        this.fitQuestion();
        if (!await this.ask(this.conversation.leaf, text)) {
            at("question").value ||= text;
            this.fitQuestion();
        }
    }

    // Do what may fail at the server; whether it did not.
    async attempt(run) {
        try {
            await run();
            return true;
        } catch (error) {
            this.notify(error.message);
            return false;
        }
    }

    // Ask behind `parent`; whether it could be asked.
    async ask(parent, text) {
        if (this.generation() || this.isAsking) {
            return false;
        }
        this.isAsking = true;
        const conversation = await this.prepare(this.conversation, parent, text);
        this.isAsking = false;
        if (conversation) {
            this.answer(conversation, conversation.add(parent, "user", text));
        }
        return conversation !== null;
    }

    // The conversation to ask in: a new session when the first question is to be kept in one; a
    // session without what followed `parent`; otherwise the same. null: the server refused.
    async prepare(conversation, parent, text) {
        if (conversation instanceof Session) {
            return await this.attempt(() => this.sessions.truncate(conversation, parent))
                ? conversation : null;
        }
        if (conversation.nodes.length > 0 || this.kept === null || at("keep").value !== "server") {
            return conversation;
        }
        let session = null;
        await this.attempt(async () => {
            session = await this.sessions.create(conversation, titleOf(text), this.model()?.id,
                this.lora(conversation));
            this.kept.push(session);
            this.conversation = this.conversation === conversation ? session : this.conversation;
        });
        return session;
    }

    async regenerate(node) {
        const {conversation} = this;
        const question = conversation.node(node.parent);
        if (this.generation()) {
            return;
        }
        if (!(conversation instanceof Session)) {
            this.answer(conversation, question);
            return;
        }
        const isLast = node.id === conversation.leaf;
        if (isLast) {
            conversation.cut(question.id);
        }
        if (await this.attempt(() => this.sessions.truncate(conversation, question.id))) {
            this.answer(conversation, question, isLast ? {regenerate: true} : {});
        }
    }

    async retry(node) {
        const {conversation} = this;
        if (this.generation()) {
            return;
        }
        if (!(conversation instanceof Session)) {
            conversation.remove(node);
            this.answer(conversation, conversation.node(node.parent));
            return;
        }
        // the server knows how far it got
        const {content} = conversation.node(node.parent);
        if (await this.attempt(() => this.sessions.load(conversation))) {
            const last = conversation.node(conversation.leaf);
            if (last?.role === "user" && last.content === content) {
                this.answer(conversation, last, {});
            } else if (last && node.isAgain) {
                this.regenerate(last);
            } else {
                this.ask(conversation.leaf, content);
            }
        }
    }

    // More of an answer that was cut.
    goOn(node) {
        const {conversation} = this;
        if (!this.generation()) {
            const messages = conversation.messages(node.id);
            node.error = undefined;
            this.messages.forget(node);
            this.run(conversation, node, (signal) => this.client.chat(
                this.body(conversation, {messages, continue_final_message: true}), signal));
        }
    }

    // Answer a question. fields: how, in a session.
    answer(conversation, question, fields = {prompt: question.content}) {
        const messages = conversation.messages(question.id);
        const node = conversation.add(question.id, "assistant", "");
        node.isAgain = fields.regenerate;
        const lora = this.lora(conversation);
        node.adapters = Array.isArray(lora) ? lora : undefined; // the server says what it chose
        this.run(conversation, node, conversation instanceof Session
            ? (signal) => this.sessions.generate(conversation, this.body(conversation, fields),
                signal)
            : (signal) => this.client.chat(this.body(conversation, {messages}), signal));
    }

    body(conversation, fields) {
        const lora = this.lora(conversation);
        return {model: this.model(conversation)?.id ?? "",
            ...requestFields(conversation.settings), ...lora && {lora}, ...fields};
    }

    lora(conversation) {
        return requestAdapters(conversation.settings, this.adapterNames(conversation));
    }

    // Generate into `node`.
    run(conversation, node, chunks) {
        if (!this.conversations.includes(conversation) && !(conversation instanceof Session)) {
            this.conversations.push(conversation);
        }
        node.finish = "stopped"; // as which it is kept, should this window be closed meanwhile
        let savedAt = performance.now();
        this.running.set(conversation.id, new Generation(node, chunks, {
            onChange: () => {
                this.scheduleUpdate(conversation, node);
                if (performance.now() - savedAt > SAVE_MS) {
                    savedAt = performance.now();
                    this.save(conversation);
                }
            },
            onEnd: () => this.onEnd(conversation, node),
        }));
        this.save(conversation);
        this.draw();
        this.follow();
        this.focusQuestion();
        at("announce").textContent = "Answering";
    }

    // Draw at most once a frame, and when drawing takes long, leave the browser time between.
    scheduleUpdate(conversation, node) {
        if (this.isScheduled || conversation !== this.conversation) {
            return;
        }
        this.isScheduled = true;
        const wait = Math.max(0, 3 * (this.drawMs ?? 0) - 16);
        setTimeout(() => requestAnimationFrame(() => {
            this.isScheduled = false;
            if (conversation === this.conversation && this.generation()?.node === node) {
                this.updateAnswer(node);
            }
        }), wait);
    }

    updateAnswer(node) {
        const started = performance.now();
        const complete = this.messages.update(node, true);
        if (complete !== "") {
            at("announce").textContent = complete;
        }
        if (this.isFollowing) {
            this.follow();
        }
        this.drawMs = performance.now() - started;
    }

    onEnd(conversation, node) {
        this.running.delete(conversation.id);
        conversation.changed = Date.now();
        if (this.conversations.includes(conversation)) { // not deleted meanwhile
            this.save(conversation);
        }
        if (conversation !== this.conversation) {
            this.drawSidebar();
            return;
        }
        const rest = this.messages.update(node, false);
        this.draw();
        if (this.isFollowing) {
            this.follow();
        }
        at("announce").textContent = node.error ? "" : `${rest}\nThe answer is complete.`;
    }

    stop() {
        this.generation()?.stop();
    }

    showBranch(node) {
        if (!this.generation()) {
            this.conversation.show(node);
            this.save(this.conversation);
            this.draw();
            const item = at("messages").querySelector(`[data-id="${CSS.escape(node.id)}"]`);
            item?.querySelector(".siblings button:enabled").focus();
        }
    }

    // ---- conversations ----

    begin() {
        this.open(new Conversation({settings: latestSettings()}));
    }

    async open(conversation) {
        this.opening = conversation;
        if (!await this.whenLoaded(conversation, () => {}) || this.opening !== conversation) {
            return; // or another one was opened since
        }
        this.conversation = conversation;
        this.draw();
        this.follow();
        this.showModel();
        this.loadDefaults();
        if (NARROW.matches) {
            this.showSidebar(false);
        }
        this.focusQuestion();
    }

    // Do something with a conversation once its messages are here; whether they are.
    whenLoaded(conversation, run) {
        return this.attempt(async () => {
            if (conversation instanceof Session && !this.running.has(conversation.id)) {
                await this.sessions.load(conversation);
            }
            run();
        });
    }

    copyToServer(conversation) {
        this.attempt(async () => {
            const session = await this.sessions.create(conversation, conversation.title,
                this.model(conversation)?.id, this.lora(conversation));
            this.kept.push(session);
            await this.open(session);
        });
    }

    save(conversation) {
        if (conversation instanceof Session) {
            return;
        }
        if (!this.store.save(conversation)) {
            this.notify("This browser has no more room: export and delete some conversations.");
        }
    }

    // Another window changed something.
    reload(id) {
        if (id !== null && this.running.has(id)) {
            return;
        }
        const kept = new Map(this.conversations.filter((item) => this.running.has(item.id))
            .map((item) => [item.id, item]));
        this.conversations = this.store.list().map((item) => kept.get(item.id) ?? item);
        const same = this.conversations.find((item) => item.id === this.conversation.id);
        if (same) {
            this.conversation = same;
            this.draw();
        } else {
            this.drawSidebar();
        }
    }

    async rename(conversation) {
        const title = await askTitle(conversation.title);
        if (title) {
            conversation.title = title;
            this.save(conversation);
            this.draw();
        }
    }

    async remove(conversation) {
        const name = conversation.title || "this conversation";
        if (!await askWhether(`Delete “${name}”?`, "Delete")) {
            return;
        }
        if (conversation instanceof Session) {
            this.running.get(conversation.id)?.stop();
            if (!await this.attempt(() => this.sessions.remove(conversation))) {
                return;
            }
            this.kept = this.kept.filter((item) => item !== conversation);
        } else {
            this.conversations = this.conversations.filter((item) => item !== conversation);
            this.running.get(conversation.id)?.stop();
            this.store.remove(conversation);
        }
        if (conversation === this.conversation) {
            this.begin();
        } else {
            this.drawSidebar();
        }
    }

    async importFile() {
        const input = at("import-file");
        const [file] = input.files;
        if (!file) {
            return;
        }
        try {
            const found = readConversations(await file.text());
            found.forEach((conversation) => this.save(conversation));
            this.conversations.push(...found);
            this.open(found[0]);
        } catch (error) {
            this.notify(error.message);
        }
        input.value = "";
    }

    // ---- drawing ----

    draw() {
        const generation = this.generation();
        const title = this.conversation.title || "New conversation";
        at("title").textContent = title;
        document.title = this.conversation.title ? `${title} – hyprstream` : "hyprstream";
        at("welcome").hidden = this.conversation.nodes.length > 0;
        at("keeping").hidden = this.kept === null;
        at("messages").classList.toggle("is-running", Boolean(generation));
        this.messages.show(this.conversation, (node) => generation?.node === node);
        at("send").hidden = Boolean(generation);
        at("stop").hidden = !generation;
        this.fitQuestion();
        this.showUsage();
        if (generation) {
            this.updateAnswer(generation.node);
        }
        this.drawSidebar();
    }

    drawSidebar() {
        this.conversations.sort((a, b) => b.changed - a.changed);
        this.kept?.sort((a, b) => b.changed - a.changed);
        this.sidebar.show(this.conversations, this.kept, this.conversation,
            (conversation) => this.running.has(conversation.id));
        at("export").disabled = this.conversations.length === 0;
    }

    // How full the context is, as of the last answer.
    showUsage() {
        const stats = this.conversation.path().findLast((node) => node.stats)?.stats;
        const size = this.model()?.meta?.n_ctx;
        at("usage").textContent = stats && size
            ? `${number.format(stats.prompt + stats.completion)} of ${number.format(size)} ` +
                "tokens of context" : "";
    }

    fitQuestion() {
        const area = at("question");
        area.style.height = "auto";
        area.style.height = `${area.scrollHeight}px`;
        at("send").disabled = area.value.trim() === "";
    }

    // A phone's keyboard would hide what is to be read.
    focusQuestion() {
        if (!TOUCH.matches) {
            at("question").focus();
        }
    }

    notify(text) {
        const notice = at("notice");
        notice.textContent = text;
        clearTimeout(this.noticeTimer);
        this.noticeTimer = setTimeout(() => {
            notice.textContent = "";
        }, 8000);
    }

    showSidebar(isOpen) {
        document.body.classList.toggle("has-sidebar", isOpen);
        at("sidebar").inert = !isOpen;
        at("menu").setAttribute("aria-expanded", String(isOpen));
        at("backdrop").hidden = !isOpen || !NARROW.matches;
        if (isOpen && NARROW.matches) {
            at("new").focus();
        }
    }

    // ---- dark and light ----

    isDark() {
        const {theme} = document.documentElement.dataset;
        return theme ? theme === "dark" : DARK.matches;
    }

    switchTheme() {
        const theme = this.isDark() ? "light" : "dark";
        document.documentElement.dataset.theme = theme;
        try {
            localStorage.setItem("hyprstream.theme", theme);
        } catch {
            // then it lasts as long as the page
        }
        this.showTheme();
    }

    showTheme() {
        at("theme").setAttribute("aria-pressed", String(this.isDark()));
        at("theme").replaceChildren(icon(this.isDark() ? "sun" : "moon"));
    }
}

function fileName(conversation) {
    const name = conversation.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
    return name || "conversation";
}

new App();

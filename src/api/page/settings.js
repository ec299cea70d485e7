/*
 * settings.js - what a conversation sends along with its messages, and the form for it. A field
 * that is empty is not sent: the server's own setting applies, which the form shows in grey.
 */
import {el} from "./dom.js";

const LATEST = "hyprstream.settings";

const NUMBERS = [
    {name: "temperature", label: "Temperature", min: 0, max: 100, step: 0.05,
        hint: "0 always takes the likeliest word; more is more varied"},
    {name: "top_p", label: "Top P", min: 0, max: 1, step: 0.01,
        hint: "keep the likeliest words of this total probability"},
    {name: "top_k", label: "Top K", min: 0, max: 1048576, step: 1,
        hint: "keep so many of the likeliest words; 0: all"},
    {name: "min_p", label: "Min P", min: 0, max: 1, step: 0.01,
        hint: "drop words less likely than this part of the likeliest"},
    {name: "repeat_penalty", label: "Repeat penalty", min: 0.01, max: 100, step: 0.01,
        hint: "above 1 makes repetition less likely"},
    {name: "seed", label: "Seed", min: 0, max: 4294967294, step: 1, empty: "a new one each time",
        hint: "the same seed gives the same answer again"},
    {name: "max_tokens", label: "Longest answer", min: 1, max: 1048576, step: 1,
        hint: "in tokens"},
];

// What the fields of a request look like: settings to the body's members.
export function requestFields(settings) {
    const fields = {};
    for (const {name} of NUMBERS) {
        if (Number.isFinite(settings[name])) {
            fields[name] = settings[name];
        }
    }
    const stop = (settings.stop ?? "").split("\n").filter((line) => line !== "");
    if (stop.length > 0) {
        fields.stop = stop;
    }
    if (settings.thinking) {
        fields.enable_thinking = settings.thinking === "on";
    }
    return fields;
}

// What a new conversation begins with: the settings made last.
export function latestSettings() {
    try {
        return JSON.parse(localStorage.getItem(LATEST)) ?? {};
    } catch {
        return {};
    }
}

function keepLatest(settings) {
    try {
        localStorage.setItem(LATEST, JSON.stringify(settings));
    } catch {
        // without room new conversations begin with the server's settings
    }
}

function defaultText(spec, defaults) {
    const value = defaults?.[spec.name];
    if (spec.empty || !Number.isFinite(value)) {
        return spec.empty ?? "";
    }
    return value < 0 ? "no limit" : String(Number(value.toFixed(4)));
}

function numberField(spec, settings, defaults) {
    const id = `setting-${spec.name}`;
    const input = el("input", {id, name: spec.name, type: "number", min: String(spec.min),
        max: String(spec.max), step: "any", inputmode: "decimal",
        placeholder: defaultText(spec, defaults), "aria-describedby": `${id}-hint`,
        value: Number.isFinite(settings[spec.name]) ? String(settings[spec.name]) : null});
    if (spec.step === 1) {
        input.setAttribute("step", "1");
    }
    return el("div", {class: "field"}, [
        el("label", {for: id}, [spec.label]), input,
        el("p", {id: `${id}-hint`, class: "hint"}, [spec.hint]),
    ]);
}

function textField(name, label, hint, rows, value) {
    const id = `setting-${name}`;
    const area = el("textarea", {id, name, rows: String(rows), dir: "auto",
        "aria-describedby": `${id}-hint`});
    area.value = value ?? "";
    return el("div", {class: "field wide"}, [
        el("label", {for: id}, [label]), area,
        el("p", {id: `${id}-hint`, class: "hint"}, [hint]),
    ]);
}

function thinkingField(value) {
    const options = [["", "as the server does"], ["on", "yes"], ["off", "no"]];
    const select = el("select", {id: "setting-thinking", name: "thinking",
        "aria-describedby": "setting-thinking-hint"}, options.map(([key, label]) =>
        el("option", {value: key, selected: key === (value ?? "") ? "" : null}, [label])));
    return el("div", {class: "field"}, [
        el("label", {for: "setting-thinking"}, ["Reasoning"]), select,
        el("p", {id: "setting-thinking-hint", class: "hint"},
            ["whether a model that can reason does so first"]),
    ]);
}

function readForm(form) {
    const settings = {};
    for (const {name} of NUMBERS) {
        const input = form.elements[name];
        if (input.value !== "") {
            settings[name] = input.valueAsNumber;
        }
    }
    for (const name of ["system", "stop", "thinking"]) {
        if (form.elements[name].value.trim() !== "") {
            settings[name] = form.elements[name].value;
        }
    }
    return settings;
}

// The dialog of index.html. `open` shows it; `onChange(settings)` when it is confirmed.
export class SettingsDialog {
    constructor(dialog) {
        this.dialog = dialog;
        this.form = dialog.querySelector("form");
        this.fields = dialog.querySelector(".fields");
        this.form.addEventListener("submit", (event) => {
            event.preventDefault();
            const settings = readForm(this.form);
            keepLatest(settings);
            this.onChange(settings);
            this.dialog.close();
        });
        dialog.querySelector("[data-reset]").addEventListener("click", () => this.fill({}));
        dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    }

    open(settings, defaults, onChange) {
        this.defaults = defaults;
        this.onChange = onChange;
        this.fill(settings);
        this.dialog.showModal();
    }

    fill(settings) {
        this.fields.replaceChildren(
            textField("system", "System prompt", "what the model is told before the conversation",
                4, settings.system),
            ...NUMBERS.map((spec) => numberField(spec, settings, this.defaults)),
            thinkingField(settings.thinking),
            textField("stop", "Stop before", "texts that end the answer, one in each line", 2,
                settings.stop));
    }
}

/*
 * adapters.js - the panel that picks adapters for a conversation and moves their scales, or has the
 * server choose them for each question. Until then requests name none and the server's own scales
 * apply.
 */
import {el} from "./dom.js";

const SHOWN_MAX = 50; // of those that are not picked; the search finds the others
const SCALE_MAX = 2;
const SCALE_STEP = 0.05;
const AUTO = "auto"; // as requests say it, too

const scaleText = new Intl.NumberFormat(undefined, {minimumFractionDigits: 2,
    maximumFractionDigits: 2});

// As a request names them, of those that there are; undefined: the server decides.
export function requestAdapters({adapters}, names) {
    return adapters === AUTO ? names.length > 0 ? AUTO : undefined
        : adapters?.filter(({name}) => names.includes(name));
}

// What an answer was made with, in a few words; "" when that is not known.
export function adaptersText({adapters = [], route}) {
    const list = adapters.map(({name, scale}) => `${name} ${scaleText.format(scale)}`).join(", ");
    return route === undefined ? list : `auto: ${list || "no adapter"}`;
}

// What is picked, in words for the button.
export function pickedText(picked) {
    return picked === AUTO ? "Adapters, chosen for each question"
        : picked?.length > 0 ? `Adapters, ${picked.length} picked` : "Adapters";
}

// Settings that may have been written by anybody.
export function checkedAdapters(raw) {
    return raw === AUTO ? AUTO : !Array.isArray(raw) ? undefined
        : raw.filter((item) => typeof item?.name === "string" && Number.isFinite(item.scale))
            .map(({name, scale}) => ({name, scale}));
}

export class AdapterPanel {
    // The section of index.html. onChange(adapters): others were picked, or a scale was moved; a
    // list of {name, scale}, "auto" or undefined.
    constructor(root, onChange) {
        this.root = root;
        this.onChange = onChange;
        this.list = root.querySelector("ul");
        this.search = root.querySelector("[type=search]");
        this.more = root.querySelector("[data-more]");
        this.auto = root.querySelector("[data-auto]");
        this.isSet = root.querySelector("[data-default]");
        this.search.addEventListener("input", () => this.draw());
        this.auto.addEventListener("change", () => {
            this.onChange(this.auto.checked ? AUTO : undefined);
        });
        this.isSet.addEventListener("click", () => {
            this.onChange(undefined);
        });
    }

    // names: the adapters of the model; adapters: as onChange gives them.
    show(names, adapters) {
        const shown = JSON.stringify([names, adapters]);
        this.names = names;
        this.auto.checked = adapters === AUTO;
        this.isSet.disabled = adapters === undefined;
        this.picked = Array.isArray(adapters) ? Object.fromEntries(adapters.map(({name, scale}) =>
            [name, scale])) : undefined;
        if (shown !== this.shown) {
            this.shown = shown;
            this.draw();
        }
    }

    draw() {
        const wanted = this.search.value.trim().toLowerCase();
        const isPicked = (name) => this.picked?.[name] !== undefined;
        const others = this.names.filter((name) => !isPicked(name) &&
            name.toLowerCase().includes(wanted));
        const shown = [...this.names.filter(isPicked), ...others.slice(0, SHOWN_MAX)];
        this.list.replaceChildren(...shown.map((name) => this.row(name)));
        this.more.textContent = others.length > SHOWN_MAX
            ? `and ${others.length - SHOWN_MAX} more: search for them`
            : this.names.length > 0 && shown.length === 0 ? "none of that name" : "";
        this.search.hidden = this.names.length < 8;
    }

    row(name) {
        const scale = this.picked?.[name];
        const value = scale ?? 1;
        const check = el("input", {type: "checkbox"});
        const slider = el("input", {type: "range", min: "0", max: String(SCALE_MAX),
            step: String(SCALE_STEP), "aria-label": `Scale of ${name}`,
            disabled: scale === undefined ? "" : null});
        const output = el("output", {}, [scaleText.format(value)]);
        check.checked = scale !== undefined;
        slider.value = String(value);
        check.addEventListener("change", () => {
            slider.disabled = !check.checked;
            this.set(name, check.checked ? slider.valueAsNumber : undefined);
        });
        slider.addEventListener("input", () => {
            output.value = scaleText.format(slider.valueAsNumber);
        });
        slider.addEventListener("change", () => this.set(name, slider.valueAsNumber));
        return el("li", {}, [el("label", {}, [check, el("span", {dir: "auto"}, [name])]), slider,
            output]);
    }

    // The rows stay where they are while they are used.
    set(name, scale) {
        const {[name]: _, ...others} = this.picked ?? {};
        this.picked = scale === undefined ? others : {...others, [name]: scale};
        const adapters = Object.entries(this.picked).map(([key, value]) =>
            ({name: key, scale: value}));
        this.shown = JSON.stringify([this.names, adapters]);
        this.onChange(adapters);
    }
}

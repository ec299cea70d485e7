/*
 * dom.js - elements without markup: names, attributes and text nodes only.
 */

// An element. An attribute that is null is left out; children are nodes or text.
export function el(name, attributes = {}, children = []) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        if (value !== null) {
            element.setAttribute(key, value);
        }
    }
    element.append(...children);
    return element;
}

// The address when a link may lead there, or null: web and mail addresses only, written in full.
export function safeHref(href) {
    if (!/^(?:https?:\/\/|mailto:)/i.test(href)) {
        return null;
    }
    try {
        const url = new URL(href);
        return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
    } catch {
        return null;
    }
}

const SVG = "http://www.w3.org/2000/svg";

// A drawing of index.html's collection.
export function icon(name) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "icon");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS(SVG, "use");
    use.setAttribute("href", `#icon-${name}`);
    svg.append(use);
    return svg;
}

// A button with a drawing, and words for those who do not see it.
export function iconButton(name, label, onClick, className = "") {
    const button = el("button", {type: "button", class: `icon-button ${className}`.trim(),
        "aria-label": label, title: label}, [icon(name)]);
    button.addEventListener("click", onClick);
    return button;
}

// A button that copies what `text()` gives.
export function copyButton(label, text) {
    const button = iconButton("copy", label, async () => {
        await copyText(text());
        button.replaceChildren(icon("check"));
        button.setAttribute("aria-label", "Copied");
        setTimeout(() => {
            button.replaceChildren(icon("copy"));
            button.setAttribute("aria-label", label);
        }, 1500);
    });
    return button;
}

// Pages that are neither from this machine nor over HTTPS have no clipboard: they copy a selection.
export async function copyText(text) {
    try {
        await navigator.clipboard.writeText(text);
        return;
    } catch {
        // not there, or not allowed
    }
    const area = el("textarea", {class: "off-screen", readonly: ""});
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
}

// Offer `text` as a file to keep.
export function download(name, type, text) {
    const url = URL.createObjectURL(new Blob([text], {type}));
    const link = el("a", {href: url, download: name});
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
}

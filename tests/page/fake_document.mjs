// fake_document.mjs - as much of a browser's document as the page's renderers use: elements,
// attributes, text. There is no way to make an element from markup in it.

function escape(text) {
    return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
        .replaceAll('"', "&quot;");
}

class Text {
    constructor(text) {
        this.textContent = String(text);
        this.parent = null;
    }

    remove() {
        this.parent.children.splice(this.parent.children.indexOf(this), 1);
    }

    get html() {
        return escape(this.textContent);
    }
}

const VOID = new Set(["br", "hr", "input"]);

class Element {
    constructor(name) {
        this.name = name;
        this.attributes = new Map();
        this.children = [];
        this.parent = null;
    }

    setAttribute(key, value) {
        this.attributes.set(key, String(value));
    }

    getAttribute(key) {
        return this.attributes.get(key) ?? null;
    }

    append(...nodes) {
        for (const node of nodes) {
            const child = node instanceof Element || node instanceof Text ? node : new Text(node);
            child.parent = this;
            this.children.push(child);
        }
    }

    remove() {
        this.parent.children.splice(this.parent.children.indexOf(this), 1);
    }

    addEventListener() {}

    get textContent() {
        return this.children.map((child) => child.textContent).join("");
    }

    // Every element of that name below this one.
    all(name) {
        return this.children.flatMap((child) => child instanceof Element
            ? [...(child.name === name ? [child] : []), ...child.all(name)] : []);
    }

    // `attributes`: the names of those to be written.
    write(attributes) {
        const given = [...this.attributes].filter(([key]) => attributes.includes(key))
            .map(([key, value]) => ` ${key}="${escape(value)}"`).join("");
        const inner = this.children.map((child) => child instanceof Text ? child.html
            : child.write(attributes)).join("");
        return VOID.has(this.name) ? `<${this.name}${given} />`
            : `<${this.name}${given}>${inner}</${this.name}>`;
    }
}

export function installFakeDocument() {
    globalThis.document = {
        createElement: (name) => new Element(name),
        createElementNS: (space, name) => new Element(name),
        createTextNode: (text) => new Text(text),
    };
    return new Element("main");
}

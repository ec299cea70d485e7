/*
 * highlight.js - colours for code: comments, strings, numbers and keywords of common languages.
 * It knows words, not grammars, and runs over each character once.
 */
import {el} from "./dom.js";

const words = (text) => new Set(text.split(" "));

const C_LIKE = {line: ["//"], block: [["/*", "*/"]], quotes: "\"'"};
const SCRIPT = {line: ["#"], block: [], quotes: "\"'"};

const FAMILIES = [
    ["c h cpp c++ cc cxx hpp cuda glsl objc", {...C_LIKE, keywords: words("alignas alignof auto " +
        "bool break case catch char class concept const constexpr continue default delete do " +
        "double else enum explicit export extern false final float for friend goto if inline int " +
        "long mutable namespace new noexcept nullptr NULL operator override private protected " +
        "public register requires restrict return short signed sizeof static static_assert " +
        "struct switch template this throw true try typedef typename union unsigned using " +
        "virtual void volatile while #include #define #ifdef #ifndef #endif #if #else #pragma")}],
    ["js javascript jsx mjs ts typescript tsx", {...C_LIKE, quotes: "\"'`", keywords: words(
        "abstract any as async await boolean break case catch class const continue debugger " +
        "declare default delete do else enum export extends false finally for from function get " +
        "if implements import in infer instanceof interface is keyof let namespace never new " +
        "null number of private protected public readonly return set static string super switch " +
        "symbol this throw true try type typeof undefined unknown var void while with yield")}],
    ["java kotlin kt scala csharp cs c# swift dart php go golang rust rs zig", {...C_LIKE,
        keywords: words("abstract as async await base bool boolean break byte case catch chan " +
            "char class const continue crate data default defer delegate do double dyn else enum " +
            "extends extern fallthrough false final finally float fn for foreach fun func " +
            "function go goto guard i32 i64 u8 u32 u64 usize f32 f64 str if impl implements " +
            "import in init instanceof int interface internal is let long loop map match mod " +
            "move mut namespace new nil null object operator out override package private " +
            "protected pub public range readonly record ref return sealed select self Self " +
            "short static string struct super switch synchronized this throw throws trait true " +
            "try type typeof unsafe use using val var virtual void volatile when where while " +
            "yield String Vec Option Some None Ok Err Result")}],
    ["py python python3", {...SCRIPT, block: [], quotes: "\"'", isTripled: true, keywords: words(
        "and as assert async await break case class continue def del elif else except False " +
        "finally for from global if import in is lambda match None nonlocal not or pass raise " +
        "return self True try while with yield")}],
    ["sh bash shell zsh console fish dockerfile makefile make", {...SCRIPT, keywords: words(
        "if then else elif fi for while until do done case esac in function return local export " +
        "readonly set unset shift source exit echo cd test FROM RUN COPY CMD ENTRYPOINT ENV ARG " +
        "WORKDIR EXPOSE")}],
    ["rb ruby perl pl r julia jl elixir ex cmake nim", {...SCRIPT, keywords: words("alias and " +
        "begin break case class def defmodule do else elsif elseif end endif ensure false for " +
        "foreach function if in include let library local module my next nil not or our puts " +
        "raise redo require rescue retry return self set struct sub super then true undef unless " +
        "until use using when while yield TRUE FALSE NULL")}],
    ["yaml yml toml ini conf", {...SCRIPT, keywords: words("true false null yes no on off")}],
    ["json jsonc json5", {...C_LIKE, quotes: "\"", keywords: words("true false null")}],
    ["sql postgresql mysql sqlite", {line: ["--"], block: [["/*", "*/"]], quotes: "'\"",
        ignoresCase: true, keywords: words("add all alter and as asc begin between by case cast " +
        "check column commit constraint create cross default delete desc distinct drop else end " +
        "exists foreign from full group having if in index inner insert integer into is join key " +
        "left like limit not null offset on or order outer primary references returning right " +
        "rollback select set table text then union unique update using values varchar view when " +
        "where with")}],
    ["lua haskell hs ada", {line: ["--"], block: [["--[[", "]]"], ["{-", "-}"]], quotes: "\"",
        keywords: words("and break case class data deriving do else elseif end false for " +
        "function goto if import in instance let local module nil not of or repeat return then " +
        "true type until where while")}],
    ["html xml svg xhtml vue markup", {line: [], block: [["<!--", "-->"]], quotes: "\"'",
        isMarkup: true, keywords: new Set()}],
    ["css scss less", {line: [], block: [["/*", "*/"]], quotes: "\"'", keywords: words(
        "@media @import @font-face @keyframes @supports @layer !important inherit initial none " +
        "auto")}],
    ["diff patch", {isDiff: true}],
];

const LANGUAGES = new Map(FAMILIES.flatMap(([names, rules]) =>
    names.split(" ").map((name) => [name, rules])));

const WORD = /[@#!]?[\p{L}_$][\p{L}\p{N}_$-]*/uy;
const CODE_WORD = /[@#!]?[\p{L}_$][\p{L}\p{N}_$]*/uy;
const NUMBER =
    /(?:0[xX][\da-fA-F_]+|0[bB][01_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)[a-zA-Z]{0,3}/y;
const TAG = /<\/?[A-Za-z][\w:.-]*|\/?>/y;
const SPACE = /[\s,;(){}[\]]+/y;

function match(pattern, text, at) {
    pattern.lastIndex = at;
    return pattern.exec(text)?.[0];
}

// To the closing quote, or the end of the line where strings end there.
function stringEnd(text, at, rules) {
    const quote = text[at];
    const triple = quote.repeat(3);
    if (rules.isTripled && text.startsWith(triple, at)) {
        const end = text.indexOf(triple, at + 3);
        return end < 0 ? text.length : end + 3;
    }
    for (let i = at + 1; i < text.length; i++) {
        if (text[i] === quote) {
            return i + 1;
        }
        if (text[i] === "\n" && quote !== "`") {
            return i;
        }
        i += text[i] === "\\" ? 1 : 0;
    }
    return text.length;
}

function commentEnd(text, at, rules) {
    for (const [open, close] of rules.block) {
        if (text.startsWith(open, at)) {
            const end = text.indexOf(close, at + open.length);
            return end < 0 ? text.length : end + close.length;
        }
    }
    if (rules.line.some((open) => text.startsWith(open, at))) {
        const end = text.indexOf("\n", at);
        return end < 0 ? text.length : end;
    }
    return at;
}

// The piece at `at`: [kind or null, end].
function piece(text, at, rules) {
    const space = match(SPACE, text, at);
    if (space) {
        return [null, at + space.length];
    }
    const comment = commentEnd(text, at, rules);
    if (comment > at) {
        return ["comment", comment];
    }
    if (rules.quotes.includes(text[at])) {
        return ["string", stringEnd(text, at, rules)];
    }
    const tag = rules.isMarkup ? match(TAG, text, at) : undefined;
    if (tag) {
        return ["keyword", at + tag.length];
    }
    const word = match(rules.keywords.has("@media") ? WORD : CODE_WORD, text, at);
    if (word) {
        const isKeyword = rules.keywords.has(rules.ignoresCase ? word.toLowerCase() : word);
        const isCall = text[at + word.length] === "(";
        return [isKeyword ? "keyword" : isCall ? "call" : null, at + word.length];
    }
    const number = match(NUMBER, text, at);
    return number ? ["number", at + number.length] : [null, at + 1];
}

function diff(text) {
    return text.split(/(?<=\n)/).map((line) => {
        const kind = line.startsWith("+") ? "added" : line.startsWith("-") ? "removed"
            : line.startsWith("@@") ? "keyword" : null;
        return kind ? el("span", {class: `hl-${kind}`}, [line]) : line;
    });
}

// The text as nodes: spans of the classes hl-comment, hl-string, ... and plain text.
export function highlight(text, language) {
    const rules = LANGUAGES.get(language.toLowerCase());
    if (!rules) {
        return [text];
    }
    if (rules.isDiff) {
        return diff(text);
    }
    const nodes = [];
    let plain = 0;
    let at = 0;
    while (at < text.length) {
        const [kind, end] = piece(text, at, rules);
        if (kind !== null) {
            nodes.push(text.slice(plain, at), el("span", {class: `hl-${kind}`},
                [text.slice(at, end)]));
            plain = end;
        }
        at = end;
    }
    nodes.push(text.slice(plain));
    return nodes.filter((node) => node !== "");
}

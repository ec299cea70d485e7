// browser.mjs - what the tests of the page in a browser share: a server with tiny models whose
// answers are known, a headless Chromium, and pages that must not complain or run foreign script.
import assert from "node:assert/strict";
import {execFileSync, spawn} from "node:child_process";
import {existsSync, mkdtempSync, rmSync} from "node:fs";
import {tmpdir} from "node:os";
import {join} from "node:path";
import {createInterface} from "node:readline";

const env = process.env;
const {chromium} = await import(`${env.HS_NODE_MODULES}/playwright-core/index.mjs`);

export const ANSWER = "Hello world, my friend";
const TIMEOUT = 60000; // milliseconds; generous, as the machine may be busy

const folder = mkdtempSync(join(tmpdir(), "page-"));
const servers = [];
let browser = null;

export function model(kind, ...text) {
    const path = join(folder, `${kind}.gguf`);
    if (!existsSync(path)) {
        execFileSync(env.HS_TINY_GGUF_TOOL, [kind, path, ...text]);
    }
    return path;
}

// NAME=PATH of an adapter for the tiny Llamas; what they say does not depend on it.
export function adapter(name) {
    const path = join(folder, `adapter-${name}`);
    execFileSync(env.HS_TINY_GGUF_TOOL, ["adapter", path, "0.5"]);
    return `${name}=${path}`;
}

function runEnv(home) {
    return {PATH: env.PATH, HOME: folder, HYPRSTREAM_HOME: join(folder, home), LANG: "C.UTF-8",
        HYPRSTREAM_THREADS: "1", TMPDIR: folder};
}

export function hyprstream(home, ...args) {
    return execFileSync(env.HYPRSTREAM, args, {env: runEnv(home), encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"]}).trim();
}

// The address of a server of its own; `home` names its folder for state.
export async function serve(home, ...args) {
    const child = spawn(env.HYPRSTREAM, ["serve", "--port", "0", ...args],
        {env: runEnv(home), stdio: ["ignore", "ignore", "pipe"]});
    servers.push(child);
    const lines = [];
    for await (const line of createInterface(child.stderr)) {
        lines.push(line);
        const found = /^listening on (\S+?),/.exec(line);
        if (found) {
            child.stderr.resume();
            return found[1];
        }
    }
    throw new Error(lines.join("\n"));
}

export function findChromium() {
    return env.PATH.split(":").map((path) => join(path, "chromium")).find(existsSync);
}

export async function start() {
    browser = await chromium.launch({executablePath: findChromium(),
        args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]});
}

export async function finish() {
    await browser?.close();
    servers.forEach((child) => child.kill("SIGTERM"));
    await Promise.all(servers.map((child) => child.exitCode !== null
        || new Promise((resolve) => child.once("exit", resolve))));
    rmSync(folder, {recursive: true, force: true});
}

// Where a picture of the page goes.
export function picture(name) {
    return {path: join(env.HS_ARTIFACTS, `page-${name}.png`)};
}

// Run `body(page)` in a window of its own; afterwards nothing may have been complained about.
// expected: patterns of the messages in the console that belong to the test.
export async function visit(url, body, {expected = [], ...options} = {}) {
    const context = await browser.newContext({viewport: {width: 1100, height: 760},
        colorScheme: "light", reducedMotion: "reduce", acceptDownloads: true, ...options});
    context.setDefaultTimeout(TIMEOUT);
    const faults = [];
    const page = await context.newPage();
    page.on("console", (message) => {
        if (["error", "warning"].includes(message.type()) &&
            !expected.some((pattern) => pattern.test(message.text()))) {
            faults.push(message.text());
        }
    });
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("dialog", (dialog) => {
        faults.push(`dialog: ${dialog.message()}`);
        dialog.dismiss();
    });
    page.on("popup", (popup) => faults.push(`popup: ${popup.url()}`));
    page.on("request", (request) => {
        if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(url)) {
            faults.push(`asked for ${request.url()}`);
        }
    });
    await page.exposeFunction("pwned", () => faults.push("foreign script ran"));
    await page.addInitScript(() => {
        window.violations = [];
        document.addEventListener("securitypolicyviolation", (event) => {
            window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
        });
    });
    try {
        await page.goto(url);
        await body(page, context);
    } catch (error) {
        await page.screenshot(picture("failed")).catch(() => {});
        throw new Error(`${error.message}\n${faults.join("\n")}`, {cause: error});
    }
    assert.deepEqual(await page.evaluate(() => window.violations), []);
    assert.deepEqual(faults, []);
    await context.close();
}

// ---- doing what people do ----

export async function ask(page, text) {
    await page.fill("#question", text);
    await page.press("#question", "Enter");
}

// The last answer's text once it is complete.
export async function answer(page) {
    await page.waitForSelector(".answer:last-child[aria-busy=false]");
    return page.locator(".answer:last-child > .prose").innerText();
}

// Answer completions with these texts in turn (the last one again and again), each as a stream of
// its pieces, or what `make(body)` gives. Gives the bodies that were asked.
export async function script(page, make) {
    const bodies = [];
    await page.route("**/v1/chat/completions", async (route) => {
        const body = route.request().postDataJSON();
        bodies.push(body);
        await route.fulfill(make(body, bodies.length));
    });
    return bodies;
}

export function stream(deltas, {usage = true, end = "data: [DONE]\n\n"} = {}) {
    const chunks = deltas.map((delta) => ({choices: [{index: 0,
        delta: typeof delta === "string" ? {content: delta} : delta, finish_reason: null}]}));
    chunks.push({choices: [{index: 0, delta: {}, finish_reason: "stop"}]});
    if (usage) {
        chunks.push({choices: [], usage: {prompt_tokens: 20, completion_tokens: deltas.length,
            total_tokens: 20 + deltas.length, prompt_tokens_details: {cached_tokens: 12}}});
    }
    return {status: 200, contentType: "text/event-stream",
        body: chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join("") + end};
}

export function refusal(status, message, headers = {}) {
    return {status, headers, contentType: "application/json",
        body: JSON.stringify({error: {message, type: "x", param: null, code: null}})};
}

// Wait until `check()` gives something true.
export async function until(check, what) {
    const end = Date.now() + TIMEOUT;
    for (;;) {
        const value = await check();
        if (value) {
            return value;
        }
        assert.ok(Date.now() < end, what);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

/*
 * attach.js - text files put into a question: chosen, dropped on the page or pasted. Their text
 * goes where the cursor is, as a block of code under the file's name.
 */

const BYTES_MAX = 1 << 20; // of one file

function block(name, text) {
    const longest = Math.max(2, ...(text.match(/`{3,}/g) ?? []).map((run) => run.length));
    const fence = "`".repeat(longest + 1);
    const suffix = /\.([a-z0-9]{1,10})$/i.exec(name)?.[1] ?? "";
    return `${name}:\n${fence}${suffix}\n${text}${text.endsWith("\n") ? "" : "\n"}${fence}\n`;
}

async function read(file) {
    if (file.size > BYTES_MAX) {
        throw new Error(`${file.name} is too large: at most 1 MiB of text fit.`);
    }
    const text = await file.text();
    if (text.includes("\0") || text.includes("\ufffd")) {
        throw new Error(`${file.name} is no text.`);
    }
    return block(file.name, text.replace(/\r\n?/g, "\n"));
}

// area: the question; input: an <input type=file>; notify(message) says what cannot be taken.
export function acceptFiles(area, input, notify) {
    const take = async (files) => {
        for (const file of files) {
            try {
                const text = await read(file);
                const before = area.value.slice(0, area.selectionStart);
                const gap = before === "" || before.endsWith("\n\n") ? ""
                    : before.endsWith("\n") ? "\n" : "\n\n";
                area.setRangeText(gap + text, area.selectionStart, area.selectionEnd, "end");
            } catch (error) {
                notify(error.message);
            }
        }
        area.dispatchEvent(new Event("input"));
        area.focus();
    };
    input.addEventListener("change", async () => {
        await take([...input.files]);
        input.value = "";
    });
    area.addEventListener("paste", (event) => {
        if (event.clipboardData.files.length > 0 && !event.clipboardData.types.includes(
            "text/plain")) {
            event.preventDefault();
            take([...event.clipboardData.files]);
        }
    });
    document.addEventListener("dragover", (event) => {
        if (event.dataTransfer.types.includes("Files")) {
            event.preventDefault();
        }
    });
    document.addEventListener("drop", (event) => {
        if (event.dataTransfer.files.length > 0) {
            event.preventDefault();
            take([...event.dataTransfer.files]);
        }
    });
}

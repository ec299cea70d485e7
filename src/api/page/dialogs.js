/*
 * dialogs.js - questions of the page itself, asked in index.html's dialogs.
 */

// Show `dialog`; resolves to what `value()` gives when its form is sent, null otherwise.
function ask(dialog, value) {
    const form = dialog.querySelector("form");
    return new Promise((resolve) => {
        let answer = null;
        const onSubmit = (event) => {
            event.preventDefault();
            answer = value();
            dialog.close();
        };
        const cancel = dialog.querySelector("[data-close]");
        const onCancel = () => dialog.close();
        form.addEventListener("submit", onSubmit);
        cancel.addEventListener("click", onCancel);
        dialog.addEventListener("close", () => {
            form.removeEventListener("submit", onSubmit);
            cancel.removeEventListener("click", onCancel);
            resolve(answer);
        }, {once: true});
        dialog.showModal();
    });
}

export function askKey(message) {
    const dialog = document.getElementById("key-dialog");
    const input = dialog.querySelector("input");
    const problem = dialog.querySelector(".error");
    input.value = "";
    problem.textContent = message;
    problem.hidden = message === "";
    return ask(dialog, () => input.value.trim());
}

export function askTitle(title) {
    const dialog = document.getElementById("title-dialog");
    const input = dialog.querySelector("input");
    input.value = title;
    const answer = ask(dialog, () => input.value.trim());
    input.select();
    return answer;
}

export async function askWhether(question, action) {
    const dialog = document.getElementById("confirm-dialog");
    dialog.querySelector("h2").textContent = question;
    dialog.querySelector("[type=submit]").textContent = action;
    return await ask(dialog, () => true) === true;
}

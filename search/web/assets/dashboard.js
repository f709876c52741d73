// Above optuna-dashboard: the way back to the answer, and what read-only means.
"use strict";
const readOnly = document.currentScript.dataset.rights === "read-only";
const HINT = "Read-only: start search.dashboard with --allow-writes to create, rename, delete or write notes.";
const CHANGES = /^(create|rename|delete|remove|upload|edit|save|new)\b/i;

function bar() {
  const line = document.createElement("div");
  line.id = "archsearch";
  const back = document.createElement("a");
  line.append(back);
  if (readOnly) {
    const hint = document.createElement("span");
    hint.textContent = HINT;
    line.append(hint);
  }
  document.body.prepend(line);
  follow(back);
  setInterval(follow, 500, back); // its pages change without a load
}

function follow(back) {
  const study = location.pathname.match(/\/studies\/(\d+)/);
  const trial = new URLSearchParams(location.search).get("numbers");
  const one = study && /^\d+$/.test(trial || "") ? `/trials/${trial}` : "";
  back.href = study ? `/studies/${study[1]}${one}` : "/";
  back.textContent = one ? `← Trial ${trial} and its twins` : study ? "← The answer of this study" : "← All answers";
  if (readOnly) document.querySelectorAll("button").forEach(refuse);
}

function refuse(button) {
  // a button that the server would refuse says so before it is pressed
  const pencil = button.querySelector("[data-testid=EditIcon]") ? "edit" : "";
  const name = button.getAttribute("aria-label") || button.textContent.trim() || pencil;
  if (CHANGES.test(name) && !button.dataset.archsearch) {
    button.dataset.archsearch = "refused";
    button.title = HINT;
    button.addEventListener("click", (event) => event.stopImmediatePropagation() || event.preventDefault(), true);
  }
}

document.readyState === "loading" ? addEventListener("DOMContentLoaded", bar) : bar();

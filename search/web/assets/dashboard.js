// Above optuna-dashboard: the way back to the answer, and what read-only means.
"use strict";
const readOnly = document.currentScript.dataset.rights === "read-only";
const HINT = "read-only: start search.dashboard with --allow-writes to create, rename, delete or write notes";

function bar() {
  const line = document.createElement("div");
  line.id = "archsearch";
  const back = document.createElement("a");
  line.append(back);
  if (readOnly) {
    const hint = document.createElement("span");
    hint.textContent = `Read-only: what creates, renames, deletes or writes needs --allow-writes.`;
    line.append(hint);
  }
  document.body.prepend(line);
  const follow = () => {
    const study = location.pathname.match(/\/studies\/(\d+)/);
    back.href = study ? `/studies/${study[1]}` : "/";
    back.textContent = study ? "← The answer of this study" : "← Answers of all studies";
  };
  follow();
  setInterval(follow, 500); // its pages change without a load
}

document.readyState === "loading" ? addEventListener("DOMContentLoaded", bar) : bar();

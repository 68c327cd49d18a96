// Keys of the reconciliation queue; everything works by mouse, tab and plain forms as well.
"use strict";
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const queue = document.querySelector("main");
  if (!queue.querySelector("[data-queue]")) return;
  if (event.key === "/") {
    const search = document.getElementById("f-q");
    if (search) { event.preventDefault(); search.focus(); }
    return;
  }
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const lines = [...queue.querySelectorAll("[data-line]")];
    const now = lines.findIndex((line) => line.getAttribute("aria-current"));
    const next = lines[now + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) { event.preventDefault(); next.click(); }
    return;
  }
  const form = event.key === "p" ? queue.querySelector("form[data-partial]")
    : queue.querySelector(`form[data-key="${CSS.escape(event.key)}"]`);
  if (form) {
    event.preventDefault();
    const folded = form.closest("details");
    if (folded) folded.open = true;
    // A key chooses, Enter confirms: money never moves by one press.
    (form.querySelector("input:not([type=hidden])") || form.querySelector("button")).focus();
  }
});

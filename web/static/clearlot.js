// The one small script of every page: theme, clocks from the server's time, money readings, file progress, messages.
// Everything works without it.
"use strict";
(() => {
  const chinese = document.documentElement.lang.startsWith("zh");
  // A table that scrolls sideways can be scrolled by keyboard, also where nothing in it takes the focus.
  for (const box of document.querySelectorAll(".scroll:not([tabindex])")) if (box.scrollWidth > box.clientWidth && !box.querySelector("a, button, input, select")) box.tabIndex = 0;
  const clearlot = window.clearlot = { offset: 0 };

  // --- time: the server's, never the device's; a live page sets a better offset from its pings
  const rendered = Date.parse(document.body.dataset.clock);
  if (rendered) clearlot.offset = rendered - performance.timeOrigin - (performance.getEntriesByType("navigation")[0]?.responseStart ?? 0);
  clearlot.now = () => performance.timeOrigin + performance.now() + clearlot.offset;

  const two = (n) => String(n).padStart(2, "0");
  clearlot.left = (ms) => {
    const s = Math.max(0, Math.ceil(ms / 1000)), d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
    if (d) return `${d} ${chinese ? "天" : "d"} ${two(h)}:${two(m)}:${two(s % 60)}`;
    return h ? `${two(h)}:${two(m)}:${two(s % 60)}` : `${two(m)}:${two(s % 60)}`;
  };
  const tick = () => {
    const now = clearlot.now();
    for (const clock of document.querySelectorAll("[data-closes-at]")) {
      if (clock.dataset.phase === "paused") continue;
      const left = Date.parse(clock.dataset.closesAt) - now;
      const text = left > 0 ? clearlot.left(left) : clock.dataset.phase === "closed" ? "—" : chinese ? "正在确认结果" : "Confirming the result";
      if (clock.textContent !== text) clock.textContent = text;
      clock.classList.toggle("soon", left > 0 && left <= Number(clock.dataset.window || 300) * 1000);
    }
  };
  tick();
  setInterval(tick, 250);

  // --- the lot's zone stands on the page; the reader's own stands second, where it differs
  const readers = () => {
    for (const time of document.querySelectorAll("[data-zone] > time:only-child")) {
      const at = new Date(time.dateTime), form = { year: "numeric", month: chinese ? "numeric" : "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
      const write = (more) => new Intl.DateTimeFormat(chinese ? "zh-Hans" : "en-GB", { ...form, ...more }).format(at);
      if (write({ timeZone: time.parentElement.dataset.zone }) === write({})) continue;
      const own = document.createElement("span");
      own.className = "muted";
      own.textContent = ` · ${write({ timeZoneName: "short" })}`;
      time.after(own);
    }
  };
  readers();
  document.addEventListener("htmx:after:swap", readers);

  // --- messages for readers of the screen
  clearlot.say = (text) => { document.getElementById("say").textContent = text; };
  clearlot.alert = (text) => { document.getElementById("alert").textContent = text; };
  clearlot.toast = (text) => {
    const toast = document.createElement("div");
    toast.className = "toast";
    toast.textContent = text;
    document.getElementById("toasts").append(toast);
    let timer;
    const start = () => { timer = setTimeout(() => toast.remove(), 8000); };
    toast.addEventListener("pointerenter", () => clearTimeout(timer));
    toast.addEventListener("pointerleave", start);
    start();
  };

  // --- theme: the switch flips what is shown now and keeps it
  const theme = document.getElementById("theme");
  theme?.addEventListener("click", (event) => {
    event.preventDefault();
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    const url = new URL(theme.href);
    url.searchParams.set("theme", root.dataset.theme);
    fetch(url, { credentials: "same-origin" });
    document.dispatchEvent(new Event("clearlot:theme"));
  });

  // --- money: what was typed, read back; the server decides
  const group = (digits) => digits.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  clearlot.reading = (text, currency, places) => {
    const match = /^(\d{1,15})(?:\.(\d+))?$/.exec(text);
    if (!match || (match[2] || "").length > places) return "";
    const whole = match[1].replace(/^0+(?=\d)/, ""), fraction = (match[2] || "").padEnd(places, "0");
    const full = (chinese && currency === "CNY" ? "¥" : currency + " ") + group(whole) + (places ? "." + fraction : "");
    const value = Number(text);
    const aid = (size, word) => {
      const short = (value / size).toFixed(2).replace(/\.?0+$/, ""), exact = Number(short) * size === value;
      return chinese ? `（${exact ? "" : "约 "}${short} ${word}）` : ` (${exact ? "" : "about "}${short} ${word})`;
    };
    const yuan = currency === "CNY" ? "元" : "";
    if (chinese) return full + (value >= 1e8 ? aid(1e8, "亿" + yuan) : value >= 1e4 ? aid(1e4, "万" + yuan) : "");
    return full + (value >= 1e9 ? aid(1e9, "billion") : value >= 1e6 ? aid(1e6, "million") : "");
  };
  document.addEventListener("input", (event) => {
    const input = event.target;
    if (!input.dataset?.money) return;
    const reading = document.getElementById("r-" + input.name);
    if (!reading) return;
    const places = Number(input.dataset.places || 2);
    const text = clearlot.reading(input.value, input.dataset.money, places);
    reading.textContent = text || (input.value ? (chinese ? `只能填写数字，最多 ${places} 位小数` : `Digits only, at most ${places} decimals`) : "");
  });

  // --- a form is posted once; its buttons wait for the answer
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.sent) { event.preventDefault(); return; }
    if (form.method !== "post" || form.hasAttribute("hx-post")) return;
    form.dataset.sent = "1";
    setTimeout(() => form.querySelectorAll("button").forEach((button) => { button.disabled = true; }), 0);
  });
  addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach((form) => {
    delete form.dataset.sent;
    form.querySelectorAll("button").forEach((button) => { button.disabled = false; });
  }));

  // --- files: drop, and progress in bytes
  for (const drop of document.querySelectorAll("[data-drop]")) {
    const input = drop.querySelector("input[type=file]");
    for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
    for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.remove("over"); });
    drop.addEventListener("drop", (event) => { if (event.dataTransfer?.files.length) input.files = event.dataTransfer.files; });
    const form = input.form, bar = drop.querySelector("progress"), line = drop.querySelector("[data-progress]");
    form?.addEventListener("submit", (event) => {
      event.preventDefault();
      event.stopPropagation();
      const sending = new XMLHttpRequest();
      bar.hidden = false;
      sending.upload.addEventListener("progress", (at) => {
        if (!at.lengthComputable) return;
        bar.max = at.total;
        bar.value = at.loaded;
        line.textContent = `${(at.loaded / 1048576).toFixed(1)} / ${(at.total / 1048576).toFixed(1)} MB`;
      });
      sending.addEventListener("load", () => {
        if (sending.responseURL && new URL(sending.responseURL).pathname !== new URL(form.action).pathname) location.assign(sending.responseURL);
        else { document.open(); document.write(sending.responseText); document.close(); }
      });
      sending.addEventListener("error", () => { bar.hidden = true; line.textContent = chinese ? "未发送成功，请重试。" : "Not sent. Try again."; });
      sending.open("POST", form.action);
      sending.send(new FormData(form));
    });
  }

  // --- after an answer with faults, the list of them has the focus
  const focus = () => document.querySelector("[data-focus]")?.focus();
  focus();
  document.addEventListener("htmx:after:swap", focus);
})();

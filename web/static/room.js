// The bidding room and every page with live lots: one socket, parts swapped by sequence, the server's clock, and the
// confirm step in place.  Everything works without it, by plain form posts.  The protocol: docs/live-protocol.md.
"use strict";
(() => {
  const { clearlot } = window;
  const room = document.getElementById("room"), board = document.querySelector("[data-board]");
  if (!room && !board) return;
  const $ = (id) => document.getElementById(id);
  const chinese = document.documentElement.lang.startsWith("zh");
  const words = room ? JSON.parse(room.dataset.words) : {};
  const fill = (text, facts) => text.replace(/%\((\w+)\)s/g, (_, name) => facts[name]);
  const group = (digits) => digits.replace(/\B(?=(\d{3})+(?!\d))/g, ",");
  // "1305000.00" as people read it: as the server's filter has it without decimals where there are none.
  const figure = (text, keep) => { const [whole, part] = text.split("."); return group(whole) + (part && (keep || Number(part)) ? "." + part : ""); };
  // Decimals are a choice for the whole room; lists of lots go without where there are none.
  const withDecimals = Boolean(room) && room.dataset.places !== "0";
  const minorOf = 10 ** Number(room?.dataset.decimals ?? 2);
  const money = (text, currency) => (chinese && currency === "CNY" ? "¥" : currency + " ") + figure(text, withDecimals);
  const zone = room?.dataset.zone;
  const clockText = (ms, parts = 3) => new Date(ms).toLocaleTimeString("en-GB", { timeZone: zone, hourCycle: "h23", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: parts || undefined });
  const kept = (name, value) => { try { if (value === undefined) return localStorage.getItem(name); localStorage.setItem(name, value); } catch { /* private mode */ } return null; };

  // --- the socket -----------------------------------------------------------------------------
  // Nothing is queued for later: what is pressed offline goes by form, or not at all.
  let socket = null, tries = 0, heard = 0, lostSince = 0, missedFrom = 0, ledBefore = false;
  let seenBids = null;  // what a new socket said first of the auction; none before it did
  const waiting = new Map();  // command id -> what to do with its ack
  const signedIn = room ? room.dataset.signedIn === "yes" : document.querySelector(".watch") !== null;

  const send = (message) => socket?.readyState === WebSocket.OPEN && (socket.send(JSON.stringify(message)), true);
  const connect = () => {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`, ["clearlot.v1"]);
    socket.onopen = () => { tries = 0; watchAll(); ping(); };
    socket.onmessage = (event) => { heard = performance.now(); const message = JSON.parse(event.data); (on[message.type] ?? (() => {}))(message); };
    socket.onclose = (event) => {
      socket = seenBids = null;
      if (event.code === 1008) return poll();
      setTimeout(connect, Math.min(10000, 200 * 2 ** tries++) * (0.5 + Math.random() / 2));
    };
  };
  const ping = () => send({ type: "ping", id: String(Math.round(performance.now())) });
  setInterval(() => { if (socket?.readyState === WebSocket.OPEN) ping(); }, 2000);
  // A guest has no socket; a page whose socket is gone asks, too.
  let polling = null;
  const poll = () => { if (!polling && room) polling = setInterval(askLive, 5000); };
  const askLive = async () => {
    try {
      const answer = await fetch(`/auctions/${room.dataset.auction}/live`, { credentials: "same-origin" });
      if (answer.ok) { swapParts(await answer.text()); heard = performance.now(); if (!socket) link("polled"); }
    } catch { /* the banner says it */ }
  };
  setInterval(() => {
    const silent = performance.now() - heard;
    if (!signedIn || !heard) return;
    if (silent > 4000 && !lostSince) lost();
    if (silent < 4000 && lostSince && socket?.readyState === WebSocket.OPEN && seenBids !== null) back();
  }, 500);

  const banner = $("connection");
  function lost() {
    lostSince = Date.now();
    missedFrom = Number($("standing")?.dataset.bids || 0);
    ledBefore = $("strip-position")?.firstElementChild?.classList.contains("lead") ?? false;
    const time = clockText(clearlot.now() - (performance.now() - heard), 0);
    banner.textContent = fill(words.lost ?? "", { time });
    banner.className = "banner";
    banner.hidden = !room;
    for (const id of ["strip-live", "standing"]) $(id)?.classList.add("old");
    link("lost", time);
    clearlot.alert(banner.textContent);
    if (room) poll();
  }
  function back() {
    lostSince = 0;
    clearInterval(polling);
    polling = null;
    for (const id of ["strip-live", "standing"]) $(id)?.classList.remove("old");
    if (!room) return;
    const bids = Math.max(seenBids, Number($("standing").dataset.bids)) - missedFrom;
    banner.textContent = bids === 1 ? words.back_one : bids ? fill(words.back, { bids: group(String(bids)) }) : words.back_none;
    banner.className = "banner back";
    clearlot.alert(banner.textContent);
    // It stays until somebody is there to read it.
    const shown = Date.now(), read = () => {
      if (Date.now() - shown < 5000) return;
      for (const name of ["pointerdown", "keydown"]) removeEventListener(name, read, true);
      if (!lostSince) banner.hidden = true;
    };
    for (const name of ["pointerdown", "keydown"]) addEventListener(name, read, true);
    refreshMine();
  }
  function link(state, time) {
    const place = $("link");
    if (!place) return;
    place.dataset.state = state;
    $("link-words").textContent = state === "live" ? `${words.live} ${Math.round(roundTrip)} ms` : state === "polled" ? words.polled : fill(words.as_of, { time });
  }

  // --- the clock: the server's, by the median of the last round trips -------------------------
  let roundTrip = 0;
  const offsets = [];
  function pong(message) {
    const now = performance.now(), sent = Number(message.id);
    offsets.push({ trip: now - sent, offset: Date.parse(message.clock) - (performance.timeOrigin + (now + sent) / 2) });
    if (offsets.length > 9) offsets.shift();
    const byTrip = [...offsets].sort((a, b) => a.trip - b.trip), middle = byTrip[Math.floor(byTrip.length / 2)];
    roundTrip = middle.trip;
    clearlot.offset = middle.offset;
    link("live");
    if ($("round-trip")) $("round-trip").textContent = `${Math.round(roundTrip)} ms`;
  }
  if (room) setInterval(() => {
    $("server-clock").textContent = clockText(clearlot.now(), 0);
    const standing = $("standing"), window_ = Number(room.dataset.window), next = $("next-end");
    if (standing.dataset.phase === "open" && window_ && next) {
      const left = Number(standing.dataset.closes) - clearlot.now();
      if (left > 0 && left <= window_) next.textContent = fill(words.next_end, { time: clockText(clearlot.now() + window_, 0) });
      for (const s of [600, 300, 60, 30, 10]) if (left > (s - 1) * 1000 && left <= s * 1000 && said !== s) { said = s; clearlot.say(clearlot.left(s * 1000)); }
    }
  }, 1000);
  let said = 0;

  // --- messages -------------------------------------------------------------------------------
  const on = {
    pong,
    watching(message) { seenBids = message.standing.bids; if (!room) card(message.standing, false); },
    standing(message) { if (!room) card(message, true); },
    part(message) { swapParts(message.html); },
    entries(message) { for (const entry of message.entries) addEntry(entry); },
    ack(message) { waiting.get(message.id)?.(message); },
    outbid(message) { refreshMine(); outbid(message); },
    leading(message) { refreshMine(); clearlot.alert(fill(words.leading, { price: money(message.price, room.dataset.currency) })); },
    limit() { refreshMine(); },
    busy(message) { const again = waiting.get(message.id); if (again) setTimeout(() => again.resend(), message.retry_after_ms); },
    unknown(message) { on.busy(message); },
    error(message) {
      if (message.code === "rate_limited" && message.id) return on.busy(message);
      if (message.id && waiting.has(message.id)) waiting.get(message.id).byForm();
    },
  };
  function watchAll() {
    if (room) return void send({ type: "watch", auction: Number(room.dataset.auction), want: "page", language: room.dataset.language, since: Number(room.dataset.since) });
    for (const one of document.querySelectorAll("[data-auction]")) send({ type: "watch", auction: Number(one.dataset.auction), want: "standing" });
  }

  // --- lists of lots ----------------------------------------------------------------------------
  function card(standing, isNew) {
    const place = $(`card-${standing.auction}`);
    if (!place) return;
    const set = (name, text) => { const field = place.querySelector(`[data-field=${name}]`); if (field && field.textContent !== text) { field.textContent = text; tint(field); } };
    if (standing.price !== null) set("price", money(standing.price, place.dataset.currency));
    set("bids", group(String(standing.bids)));
    const clock = place.querySelector("[data-field=clock] time");
    if (clock) { clock.dataset.closesAt = standing.closes_at; clock.dataset.phase = standing.phase; }
    if (!isNew) return;
    place.classList.add("moved");
    setTimeout(() => place.classList.remove("moved"), 1500);
    const note = $("moved");
    if (standing.phase === "closed" && note) { note.hidden = false; note.firstElementChild.textContent = note.dataset.words; }
  }

  // --- parts ------------------------------------------------------------------------------------
  function tint(element) { element.classList.remove("changed"); void element.offsetWidth; element.classList.add("changed"); }
  let pressed = false;
  addEventListener("pointerdown", (event) => { pressed = Boolean(event.target.closest?.("#quick, #bottombar, #confirm")); }, true);
  for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => setTimeout(() => { pressed = false; askAnew(); if (held) { const html = held; held = null; swapParts(html); } }, 0), true);
  let held = null;

  function swapParts(html) {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    for (const part of [...fresh.content.children]) {
      const shown = $(part.id);
      if (!shown || Number(part.dataset.sequence) <= Number(shown.dataset.sequence)) continue;
      // A push never changes a label under a finger.
      if (part.id === "quick" && pressed) { held = html; continue; }
      const focused = document.activeElement, inside = shown.contains(focused), at = inside ? [...shown.querySelectorAll("button")].indexOf(focused) : -1;
      if (part.id === "standing") standingChanged(shown, part);
      shown.replaceWith(part);
      if (part.id === "standing") askAnew();
      if (part.id === "quick") { keepToLimit(part); bottomBar(); if (at >= 0) part.querySelectorAll("button")[at]?.focus(); }
    }
  }
  // What is pushed is the same for all: buttons that would be refused to this bidder go, and the server says why.
  function keepToLimit(quick) {
    const limit = Number($("mine").dataset.limit ?? Infinity);
    for (const button of quick.querySelectorAll("button")) if (Math.round(Number(button.value) * minorOf) > limit) button.remove();
    if (!quick.querySelector("button")) refreshMine();
  }
  let sayAt = 0;
  function standingChanged(before, after) {
    if (before.querySelector("[data-price]")?.dataset.price !== after.querySelector("[data-price]")?.dataset.price) tint(after.querySelector("[data-price]"));
    if (before.dataset.phase !== after.dataset.phase) setTimeout(refreshMine, 300);
    if (Number(after.dataset.extensions) > Number(before.dataset.extensions)) clearlot.alert(fill(words.moved, { time: clockText(Number(after.dataset.closes), 0) }));
    else if (Date.now() - sayAt > 5000) { sayAt = Date.now(); clearlot.say(after.dataset.say); }
  }
  // The standing has passed what is being confirmed: the server gives the confirm anew, for the new minimum, unpressed.
  function askAnew() {
    const confirm = $("confirm"), amount = confirm?.querySelector("[name=amount]");
    if (!amount || pressed || confirm.dataset.sent || Math.round(Number(amount.value) * minorOf) >= Number($("standing").dataset.minimum)) return;
    if (confirm.dataset.asked === $("standing").dataset.sequence) return;
    confirm.dataset.asked = $("standing").dataset.sequence;
    const data = new FormData(confirm);
    data.set("confirmed", "");
    data.set("step", "review");
    fetch(confirm.getAttribute("action"), { method: "POST", body: new URLSearchParams(data), credentials: "same-origin", headers: { "HX-Request": "true" } })
      .then((response) => response.text())
      .then((text) => {
        if ($("confirm") !== confirm || confirm.dataset.sent || !text.includes('id="mine"')) return;
        if (pressed) { delete confirm.dataset.asked; return; }
        showMine(text, true);
        if ($("passed")) clearlot.alert($("passed").textContent);
      })
      .catch(() => { delete confirm.dataset.asked; });
  }
  let asking = false, askAgain = false;
  async function refreshMine(answer) {
    if (!room || room.dataset.signedIn !== "yes" || !$("mine")) return;
    // What a person types or is confirming stays; the next quiet moment brings the rest.
    if (!answer && ($("confirm") || document.activeElement?.closest?.("#mine input"))) { positionOnly = true; }
    if (asking && !answer) { askAgain = true; return; }
    asking = true;
    try {
      const response = await fetch(`/auctions/${room.dataset.auction}/mine${answer ? `?answer=${answer}` : ""}`, { credentials: "same-origin", headers: { "HX-Request": "true" } });
      if (response.ok) showMine(await response.text(), Boolean(answer));
    } catch { /* the banner says it */ } finally {
      asking = false;
      if (askAgain) { askAgain = false; refreshMine(); }
    }
  }
  let positionOnly = false;
  function showMine(html, all) {
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    const part = fresh.content.querySelector("#mine"), shown = $("mine");
    if (!part || !shown) return;
    const chip = part.querySelector(".position .chip");
    if (chip) $("strip-position").replaceChildren(chip.cloneNode(true));
    else $("strip-position").replaceChildren();
    if (ledBefore && !lostSince && chip) {
      ledBefore = false;
      banner.textContent += ` ${chip.classList.contains("lead") ? words.back_leading : words.back_outbid}`;
      clearlot.alert(banner.textContent);
    }
    if (positionOnly && !all) {
      positionOnly = false;
      const place = shown.querySelector(".position");
      if (place && part.querySelector(".position")) place.replaceWith(part.querySelector(".position"));
      return;
    }
    positionOnly = false;
    const opened = $("auto")?.open, answer = shown.querySelector(".answer");
    // An answer stays until the position changes: "leading" may come right behind it.
    if (!all && answer && part.dataset.position === shown.dataset.position) part.prepend(answer);
    shown.replaceWith(part);
    if (opened && $("auto")) $("auto").open = true;
    window.htmx?.process?.(part);
    const target = part.querySelector("[data-answer]");
    if (all && target) { target.focus({ preventScroll: true }); part.querySelector("#confirm .confirm-buttons, .answer")?.scrollIntoView({ block: "nearest" }); if (target.matches("[data-alert]")) clearlot.alert(target.textContent.replace(/\s+/g, " ").trim()); }
    bottomBar();
  }
  function bottomBar() {
    const bar = $("bottombar");
    if (!bar) return;
    const chip = $("strip-position").firstElementChild, leads = $("mine").dataset.position === "leading";
    const offers = leads ? [] : [...document.querySelectorAll("#bidform .match, #quick .first")].map((button) => button.cloneNode(true));
    for (const copy of offers) copy.setAttribute("form", "bidform");
    const more = document.createElement("button");
    more.id = "more";
    more.type = "button";
    more.setAttribute("aria-controls", "mine");
    more.addEventListener("click", () => sheet(!document.body.classList.contains("sheet-open")));
    // Who may match has two offers, which take a row of their own, beneath.
    const isPair = offers.length > 1;
    bar.classList.toggle("pair", isPair);
    bar.replaceChildren(...(chip ? [chip.cloneNode(true)] : []), ...(isPair ? [more, ...offers] : [...offers, more]));
    document.body.classList.add("has-bar");
    sheetWords();
  }
  // On a phone: all one's controls over the lower half, under the strip, which stays.
  function sheet(open) {
    document.body.classList.toggle("sheet-open", open);
    sheetWords();
    if (open) $("mine").focus({ preventScroll: true });
    else $("more")?.focus();
  }
  function sheetWords() {
    const open = document.body.classList.contains("sheet-open"), more = $("more");
    more.textContent = open ? words.less : words.more;
    more.setAttribute("aria-expanded", String(open));
  }

  // --- bidding --------------------------------------------------------------------------------
  // The form is the way; the socket is the fast lane for what needs no confirmation any more.  One key per try.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.matches(".bidform, #confirm") || !room) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (form.dataset.sent) return;
    const data = new FormData(form);
    if (event.submitter?.name) data.set(event.submitter.name, event.submitter.value);
    form.dataset.sent = "1";
    for (const button of document.querySelectorAll("#mine button, #bottombar button[name]")) button.disabled = true;
    const confirmed = form.id === "confirm";
    if (confirmed && socket?.readyState === WebSocket.OPEN && !lostSince) bySocket(form, data);
    else byForm(form, data);
  }, true);
  function sentNote(text) {
    let note = $("sent");
    if (!note) { note = document.createElement("p"); note.id = "sent"; note.className = "note"; $("mine").prepend(note); }
    note.textContent = text;
  }
  function bySocket(form, data) {
    const id = data.get("command_id"), auction = Number(room.dataset.auction);
    const message = form.dataset.live === "proxy" ? { type: "set_proxy", id, auction, maximum: data.get("maximum") } : { type: "bid", id, auction, amount: data.get("amount") };
    sentNote(fill(words.sent, { time: clockText(clearlot.now(), 0) }));
    let done = false;
    const timer = setTimeout(() => { if (!done) { sentNote(words.checking); finish.byForm(); } }, 3000);
    const finish = (ack) => { if (done) return; done = true; clearTimeout(timer); waiting.delete(id); refreshMine(ack.sequence); };
    finish.resend = () => { if (!done) send(message); };
    finish.byForm = () => { if (done) return; done = true; clearTimeout(timer); waiting.delete(id); byForm(form, data); };
    waiting.set(id, finish);
    if (!send(message)) finish.byForm();
  }
  async function byForm(form, data) {
    sentNote(fill(words.sent, { time: clockText(clearlot.now(), 0) }));
    try {
      const action = form.getAttribute("action");
      const response = await fetch(action, { method: "POST", body: new URLSearchParams(data), credentials: "same-origin", headers: { "HX-Request": "true" } });
      const text = await response.text();
      if (text.includes('id="mine"')) return showMine(text, true);
      location.reload();
    } catch {
      // Nobody knows: the same key again is harmless, so the page itself asks.
      sentNote(words.checking);
      setTimeout(() => byForm(form, data), 2000);
    }
  }
  document.addEventListener("click", (event) => {
    if (event.target.id === "back") { event.preventDefault(); refreshMine("0"); }
  });

  // --- bids and plot ----------------------------------------------------------------------------
  const table = $("bidtable")?.tBodies[0];
  function addEntry(entry) {
    room.dataset.since = entry.sequence;
    if (!table) return;
    const at = Date.parse(entry.at), extended = entry.events.some((one) => one.type === "extended");
    for (const one of entry.events) {
      if (one.type !== "bid" && one.type !== "auto_bid") continue;
      if (table.querySelector(`[data-entry="${entry.sequence}"][data-bidder="${one.bidder}"][data-how="${one.type}"]`)) continue;
      table.querySelector(".none")?.remove();
      const row = table.insertRow(0);
      Object.assign(row.dataset, { entry: entry.sequence, at, minor: Math.round(Number(one.amount) * minorOf), how: one.type, bidder: one.bidder });
      if (extended) row.dataset.extended = "";
      const cells = [entry.sequence, fill(words.bidder, { number: one.bidder }), figure(one.amount, withDecimals), clockText(at), words[one.type] + (extended ? ` · ${words.extended}` : "")];
      cells.forEach((text, index) => { const cell = row.insertCell(); cell.textContent = text; if (index === 0 || index === 2) cell.className = "n"; });
      points.push({ at, value: Number(one.amount), how: one.type, bidder: one.bidder, extended });
      while (table.rows.length > 400) table.deleteRow(-1);
    }
    draw();
  }
  const points = [];
  for (const row of [...(table?.rows ?? [])].reverse()) if (row.dataset.minor) points.push({ at: Number(row.dataset.at), value: Number(row.dataset.minor) / minorOf, how: row.dataset.how, bidder: row.dataset.bidder, extended: "extended" in row.dataset });
  let plot = null, drawn = 0;
  function draw() {
    if (!room || !window.uPlot || points.length < 2) return;
    if (!drawn) drawn = requestAnimationFrame(() => { drawn = 0; drawNow(); });
  }
  function drawNow() {
    const place = $("plot"), style = getComputedStyle(document.documentElement), color = (name) => style.getPropertyValue(name).trim();
    const me = room.dataset.bidder;
    const data = [points.map((p) => p.at / 1000), points.map((p) => p.value), points.map((p) => (String(p.bidder) === me ? p.value : null))];
    if (room.dataset.openReserve) data.push(points.map(() => Number(room.dataset.openReserve) / minorOf));
    place.hidden = false;
    if (plot) return plot.setData(data);
    const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line") } };
    const short = (value) => (chinese ? (value >= 1e8 ? `${+(value / 1e8).toFixed(3)} 亿` : value >= 1e4 ? `${+(value / 1e4).toFixed(2)} 万` : String(value)) : value >= 1e6 ? `${+(value / 1e6).toFixed(3)} m` : group(String(value)));
    const series = [{}, { label: words.price, stroke: color("--plot-1"), width: 2, paths: uPlot.paths.stepped({ align: 1 }), points: { size: 5, fill: color("--surface") } },
      { label: words.you, stroke: color("--plot-2"), paths: () => null, points: { show: true, size: 8, fill: color("--plot-2") } }];
    if (room.dataset.openReserve) series.push({ label: words.reserve, stroke: color("--plot-4"), width: 1, dash: [4, 4], points: { show: false } });
    const extensions = (u) => {
      u.ctx.save();
      u.ctx.strokeStyle = color("--closing");
      for (const p of points) if (p.extended) { const x = u.valToPos(p.at / 1000, "x", true); u.ctx.beginPath(); u.ctx.moveTo(x, u.bbox.top); u.ctx.lineTo(x, u.bbox.top + u.bbox.height); u.ctx.stroke(); }
      u.ctx.restore();
    };
    plot = new uPlot({ width: place.clientWidth - 16, height: 220, series, hooks: { drawClear: [extensions] }, scales: { y: { range: (_, low, high) => { const pad = (high - low || high * 0.01) * 0.1; return [low - pad, high + pad]; } } },
      axes: [{ ...axis, values: (_, ticks, __, ___, step) => ticks.map((s) => clockText(s * 1000, step < 1 ? 3 : 0)), space: 90 }, { ...axis, size: 80, label: room.dataset.currency, values: (_, ticks) => ticks.map(short) }], legend: { show: false } }, data, place);
  }
  if (room) {
    addEventListener("load", draw);
    document.addEventListener("clearlot:theme", () => { plot?.destroy(); plot = null; draw(); });
    addEventListener("resize", () => plot?.setSize({ width: $("plot").clientWidth - 16, height: 220 }));
  }

  // --- outbid: sound and title, off until chosen --------------------------------------------------
  let sound = kept("clearlot-sound") === "on", letters = kept("clearlot-letters") !== "off";
  const title = document.title;
  function beep() {
    const audio = new AudioContext(), tone = audio.createOscillator(), gain = audio.createGain();
    tone.frequency.value = 660;
    gain.gain.setValueAtTime(0.15, audio.currentTime);
    gain.gain.exponentialRampToValueAtTime(0.001, audio.currentTime + 0.4);
    tone.connect(gain).connect(audio.destination);
    tone.start();
    tone.stop(audio.currentTime + 0.4);
  }
  function outbid(message) {
    const text = fill(words.outbid, { minimum: message.minimum ? money(message.minimum, room.dataset.currency) : "" });
    clearlot.alert(text);
    if (!sound) return;
    beep();
    document.title = `▼ ${text}`;
    addEventListener("focus", () => { document.title = title; }, { once: true });
    if (document.hasFocus()) setTimeout(() => { document.title = title; }, 5000);
  }
  if (room && $("options")) {
    $("options").hidden = false;
    const show = () => { $("sound").textContent = sound ? words.sound_on : words.sound_off; $("letters").textContent = letters ? words.keys_on : words.keys_off; };
    $("sound").addEventListener("click", () => { sound = !sound; kept("clearlot-sound", sound ? "on" : "off"); show(); });
    $("try-sound").addEventListener("click", beep);
    $("letters").addEventListener("click", () => { letters = !letters; kept("clearlot-letters", letters ? "on" : "off"); show(); });
    $("help").addEventListener("click", () => { $("keys").hidden = !$("keys").hidden; });
    show();
  }
  // No single key places a bid.
  document.addEventListener("keydown", (event) => {
    if (!room) return;
    if (event.key === "Escape" && $("confirm")) { $("back").click(); return; }
    if (event.key === "Escape" && document.body.classList.contains("sheet-open")) { sheet(false); return; }
    if (!letters || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    const free = document.querySelector("#freeform [name=amount]");
    const act = {
      b: () => free?.focus(),
      m: () => { const least = document.querySelector("#quick .first"); if (free && least) { free.value = least.value; free.dispatchEvent(new Event("input", { bubbles: true })); free.closest("form").querySelector("button").focus(); } },
      a: () => { const auto = $("auto"); if (auto) { auto.open = true; auto.querySelector("input[name=maximum]")?.focus(); } },
      j: () => $("bids")?.focus(),
      "?": () => $("help").click(),
    }[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  if (room) bottomBar();
  if (signedIn && (room || document.querySelector("[data-auction]"))) connect();
  else if (room) { link("polled"); poll(); }
})();

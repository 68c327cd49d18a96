// The verifier of docs/proof.md, written a second time: from that page, in another language, on Node alone.
//
//   node verify.mjs JOURNAL [--head SEQUENCE:HASH] [--proof FILE]... [--keys FILE]
//   node verify.mjs -          one request a line on stdin, one answer a line on stdout (for the tests)
//
// A request is {"journal": base64, "head": [sequence, hash] or null, "proofs": [...], "keys": {...} or null}.

import { createHash, createPublicKey, verify as verifySignature } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

class Unreadable extends Error {}

const unreadable = (why) => {
  throw new Unreadable(why);
};
const sha256 = (...parts) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const max = (first, ...rest) => rest.reduce((a, b) => (a > b ? a : b), first);

// --- canonical JSON: whole numbers only, as BigInt; objects as Maps, in their order ---------------------------------

function parse(text) {
  let at = 0;
  const space = () => {
    while (at < text.length && " \t\n\r".includes(text[at])) at += 1;
  };
  const word = (expected, value) => {
    if (!text.startsWith(expected, at)) unreadable("word");
    at += expected.length;
    return value;
  };
  const string = () => {
    const start = at;
    at += 1;
    while (text[at] !== '"') {
      if (at >= text.length) unreadable("string");
      at += text[at] === "\\" ? 2 : 1;
    }
    at += 1;
    return JSON.parse(text.slice(start, at));
  };
  const number = () => {
    const found = /^-?(0|[1-9][0-9]*)/.exec(text.slice(at, at + 400));
    if (!found || ".eE".includes(text[at + found[0].length] || " ")) unreadable("number");
    at += found[0].length;
    return BigInt(found[0]);
  };
  const value = (depth) => {
    if (depth > 60) unreadable("depth");
    space();
    const first = text[at];
    let made;
    if (first === "{") {
      made = new Map();
      at += 1;
      space();
      if (text[at] === "}") at += 1;
      else
        for (;;) {
          space();
          if (text[at] !== '"') unreadable("name");
          const name = string();
          space();
          word(":");
          made.set(name, value(depth + 1));
          if (text[at] === ",") at += 1;
          else {
            word("}");
            break;
          }
        }
    } else if (first === "[") {
      made = [];
      at += 1;
      space();
      if (text[at] === "]") at += 1;
      else
        for (;;) {
          made.push(value(depth + 1));
          if (text[at] === ",") at += 1;
          else {
            word("]");
            break;
          }
        }
    } else if (first === '"') made = string();
    else if (first === "t") made = word("true", true);
    else if (first === "f") made = word("false", false);
    else if (first === "n") made = word("null", null);
    else made = number();
    space();
    return made;
  };
  const whole = value(0);
  if (at !== text.length) unreadable("more");
  return whole;
}

function canonical(value) {
  if (value instanceof Map)
    return `{${[...value].map(([name, each]) => `${canonical(name)}:${canonical(each)}`).join(",")}}`;
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "string" && !value.isWellFormed()) unreadable("text");
  return JSON.stringify(value);
}

function readCanonical(text) {
  const value = parse(text);
  if (canonical(value) !== text) unreadable("bytes");
  return value;
}

const whole = (value) => (typeof value === "bigint" ? value : unreadable("whole number"));
const hex = (text) => (typeof text === "string" && /^[0-9a-f]{64}$/.test(text) ? Buffer.from(text, "hex") : unreadable("hex"));
const names = (map, wanted) => map instanceof Map && [...map.keys()].join() === wanted;

// --- Merkle trees ----------------------------------------------------------------------------------------------------

const LEAF = Buffer.of(0);
const NODE = Buffer.of(1);
const leafHash = (data) => sha256(LEAF, data);
const nodeHash = (left, right) => sha256(NODE, left, right);

function root(leaves) {
  if (leaves.length === 1) return leaves[0];
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  return nodeHash(root(leaves.slice(0, split)), root(leaves.slice(split)));
}

// RFC 9162, 2.1.3.2
function includes(leaf, index, size, path, expected) {
  if (index < 0n || index >= size) return false;
  let fn = index;
  let sn = size - 1n;
  let r = leaf;
  for (const p of path) {
    if (sn === 0n) return false;
    if (fn & 1n || fn === sn) {
      r = nodeHash(p, r);
      while (!(fn & 1n) && fn) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else r = nodeHash(r, p);
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n && r.equals(expected);
}

// RFC 9162, 2.1.4.2
function grows(first, firstRoot, second, secondRoot, path) {
  if (first < 0n || first > second) return false;
  if (first === 0n) return firstRoot.equals(sha256()) && path.length === 0;
  if (first === second) return firstRoot.equals(secondRoot) && path.length === 0;
  const hashes = (first & (first - 1n)) === 0n ? [firstRoot, ...path] : [...path];
  if (hashes.length === 0) return false;
  let fn = first - 1n;
  let sn = second - 1n;
  while (fn & 1n) [fn, sn] = [fn >> 1n, sn >> 1n];
  let fr = hashes[0];
  let sr = hashes[0];
  for (const c of hashes.slice(1)) {
    if (sn === 0n) return false;
    if (fn & 1n || fn === sn) {
      fr = nodeHash(c, fr);
      sr = nodeHash(c, sr);
      while (!(fn & 1n) && fn) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else sr = nodeHash(sr, c);
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n && fr.equals(firstRoot) && sr.equals(secondRoot);
}

// --- events ------------------------------------------------------------------------------------------------------------

const INT = "int";
const MAYBE = "int or null";
const TEXT = "text";
const EVENTS = {
  admitted: { bidder: INT, priority_rank: MAYBE },
  barred: { bidder: INT },
  opened: {},
  bid: { bidder: INT, amount_minor: INT },
  auto_bid: { bidder: INT, amount_minor: INT },
  extended: { closes_at_ms: INT, extensions: INT, cause: TEXT },
  paused: { reason: TEXT },
  resumed: { opens_at_ms: INT, closes_at_ms: INT },
  rescheduled: { opens_at_ms: INT, closes_at_ms: INT, reason: TEXT },
  withdrawn: { reason: TEXT },
  closed: {
    result: TEXT, closed_at_ms: INT, bidder: MAYBE, price_minor: MAYBE, runner_up: MAYBE, runner_up_minor: MAYBE,
  },
};
const FITS = {
  [INT]: (value) => typeof value === "bigint",
  [MAYBE]: (value) => value === null || typeof value === "bigint",
  [TEXT]: (value) => typeof value === "string",
};

function readEvent(data) {
  const kind = data.get("type");
  if (kind === "created") {
    if (!names(data, "type,terms")) unreadable("created");
    return { type: kind, terms: data.get("terms") };
  }
  const spec = EVENTS[kind] ?? unreadable("event");
  if (!names(data, ["type", ...Object.keys(spec)].join())) unreadable("event names");
  for (const [name, type] of Object.entries(spec)) if (!FITS[type](data.get(name))) unreadable("event value");
  return Object.fromEntries(data);
}

// --- terms of an English auction ------------------------------------------------------------------------------------

class Terms {
  constructor(data) {
    const rules = data.get("ruleset");
    const [bidding, timing, soft] = [rules.get("bidding"), rules.get("timing"), rules.get("soft_close")];
    const increments = bidding.get("increments");
    const optional = (map, name) => (map.has(name) ? whole(map.get(name)) : null);
    this.auction = whole(data.get("auction_id"));
    this.format = rules.get("format");
    this.opening = whole(data.get("opening_minor"));
    this.opensAt = whole(data.get("opens_at_ms"));
    this.closesAt = whole(data.get("closes_at_ms"));
    this.step = optional(data, "step_minor");
    this.reserveKind = data.get("reserve");
    this.reserve = optional(data, "reserve_minor");
    this.table = increments.get("table").map((row) => row.map(whole));
    this.share = optional(increments, "share_bp");
    this.wholeSteps = increments.get("whole_steps");
    this.proxy = bidding.get("proxy");
    this.leaderMayRaise = bidding.get("leader_may_raise");
    this.grace = whole(timing.get("grace_ms"));
    this.resumeLeast = whole(timing.get("resume_least_ms"));
    this.outage = timing.get("outage");
    this.countdown = optional(timing, "countdown_ms");
    this.soft = soft && {
      window: whole(soft.get("window_ms")),
      extension: whole(soft.get("extension_ms")),
      anchor: soft.get("anchor"),
      most: optional(soft, "most_extensions"),
      hardEnd: optional(soft, "hard_end_ms"),
    };
    this.nearWindow = this.soft ? this.soft.window : this.resumeLeast;
  }

  increment(price) {
    if (this.step !== null) return this.step;
    if (this.share !== null) return (price * this.share + 9_999n) / 10_000n;
    return this.table.filter(([from]) => from <= price).at(-1)[1];
  }
}

// --- one journal ---------------------------------------------------------------------------------------------------------

class Journal {
  constructor() {
    this.problems = [];
    this.notes = [];
    this.opened = [];
    this.hashes = new Map();
    this.lines = new Map();
    this.hash = Buffer.alloc(32);
    this.sequence = 0n;
    this.auction = 0n;
    this.atMs = 0n;
    this.terms = null;
    this.outcome = null;
  }

  problem(code, line = this.number) {
    this.problems.push([line, code]);
  }

  need(holds, code) {
    if (!holds) this.problem(code);
  }

  line(number, line) {
    this.number = number;
    let parts;
    let entry;
    let events;
    try {
      parts = readLine(line);
      entry = readCanonical(parts.get("public"));
      if (!names(entry, "auction,sequence,at_ms,events") && !names(entry, "auction,sequence,at_ms,arrived_ms,events"))
        unreadable("entry names");
      for (const name of ["auction", "sequence", "at_ms"]) whole(entry.get(name));
      events = entry.get("events").map(readEvent);
    } catch {
      this.problem("unreadable");
      return false;
    }
    const [sequence, atMs, auction] = [entry.get("sequence"), entry.get("at_ms"), entry.get("auction")];
    const overtaken = entry.has("arrived_ms");
    const arrivedMs = overtaken ? entry.get("arrived_ms") : atMs;
    if (typeof arrivedMs !== "bigint") {
      this.problem("unreadable");
      return false;
    }
    const commitment = hex(parts.get("commitment"));
    const stated = hex(parts.get("hash"));
    this.need(sha256(this.hash, parts.get("public"), commitment).equals(stated), "chain");
    this.hash = stated;
    this.hashes.set(sequence, parts.get("hash"));
    this.lines.set(sequence, number);
    this.need(sequence === this.sequence + 1n, "sequence");
    this.need(number === 1 || auction === this.auction, "auction");
    const inOrder = atMs >= this.atMs && (!overtaken || (arrivedMs >= 0n && arrivedMs < atMs && atMs === this.atMs));
    this.need(inOrder, "time");
    [this.sequence, this.auction, this.atMs] = [sequence, auction, max(atMs, this.atMs)];
    try {
      const facts = this.facts(parts, commitment);
      if (this.terms === null) return this.create(events, auction, facts);
      this.entry(events, arrivedMs, atMs);
    } catch {
      this.problem("unreadable");
      return false;
    }
    return true;
  }

  facts(parts, commitment) {
    let facts = [];
    if (parts.has("private")) {
      const text = parts.get("private");
      const old = text.startsWith('","events":[', 41);
      const made = old ? sha256(text) : root(text.split("\n").map((each) => leafHash(each)));
      this.need(made.equals(commitment), "commitment");
      if (made.equals(commitment))
        facts = old ? parse(text).get("events") : text.split("\n").slice(1).map((each) => parse(each).get("fact"));
    }
    for (const one of parts.get("facts") ?? []) {
      const path = one.get("path").map(hex);
      const good = includes(leafHash(one.get("fact")), one.get("index"), one.get("of"), path, commitment);
      this.need(good, "commitment");
      if (good) facts.push(parse(one.get("fact")).get("fact"));
    }
    this.opened.push(...facts.map((fact) => [this.sequence, fact]));
    return facts;
  }

  create(events, auction, facts) {
    if (events.length !== 1 || events[0].type !== "created") {
      this.problem("not_created");
      return false;
    }
    const terms = new Terms(events[0].terms);
    this.need(terms.auction === auction, "auction");
    if (terms.format !== "english") {
      this.problem("unknown_format");
      return false;
    }
    this.terms = terms;
    this.opensAt = terms.opensAt;
    this.closesAt = terms.closesAt;
    this.hardEnd = terms.soft?.hardEnd != null ? terms.closesAt + terms.soft.hardEnd : null;
    this.reserve = terms.reserve;
    for (const fact of facts)
      if (fact.get("type") === "reserve_set" && terms.reserveKind === "hidden") this.reserve = fact.get("reserve_minor");
    this.bidders = [];
    this.leader = null;
    this.price = 0n;
    this.rival = 0n;
    this.minimum = terms.opening;
    this.bids = 0;
    this.extensions = 0n;
    this.isOpen = false;
    this.pausedAt = null;
    this.withdrawn = false;
    return true;
  }

  entry(events, arrivedMs, atMs) {
    if (events.length) this.need(!this.withdrawn && this.outcome === null, "after_end");
    const bids = events.filter((each) => each.type === "bid" || each.type === "auto_bid");
    const isAboutBids = (each) => bids.includes(each) || (bids.length && each.type === "extended");
    if (bids.length) {
      this.need(this.pausedAt === null, "paused");
      this.need(this.opensAt <= arrivedMs && arrivedMs < this.closesAt, "not_in_time");
      this.need(this.isOpen || events.some((each) => each.type === "opened"), "opened");
      const extended = events.filter((each) => each.type === "extended");
      const due = this.extension(arrivedMs);
      const same =
        extended.length === (due ? 1 : 0) &&
        extended.every((each) => Object.keys(due).every((name) => each[name] === due[name]));
      this.need(same, "extension");
      this.checkBids(bids);
      for (const each of extended) this.moveEnd(each);
    }
    for (const each of events) if (!isAboutBids(each)) this.common(each, arrivedMs, atMs);
  }

  extension(arrivedMs) {
    const { countdown, soft } = this.terms;
    if (countdown !== null && this.leader === null)
      return { closes_at_ms: arrivedMs + countdown, extensions: 0n, cause: "first_bid" };
    if (!soft || arrivedMs < this.closesAt - soft.window) return null;
    if (soft.most !== null && this.extensions >= soft.most) return null;
    let end = (soft.anchor === "from_bid" ? arrivedMs : this.closesAt) + soft.extension;
    if (this.hardEnd !== null && end > this.hardEnd) end = this.hardEnd;
    return end > this.closesAt ? { closes_at_ms: end, extensions: this.extensions + 1n, cause: "bid" } : null;
  }

  checkBids(bids) {
    const terms = this.terms;
    const own = bids.filter((each) => each.type === "bid");
    const automatic = bids.filter((each) => each.type === "auto_bid");
    if (own.length !== 1 || automatic.length > 1) return this.problem("bids");
    const [bid] = own;
    const [auto] = automatic;
    const bidder = this.bidders[Number(bid.bidder) - 1];
    if (!bidder) return this.problem("bidder");
    this.need(!bidder.barred, "barred");
    if (auto && !this.bidders[Number(auto.bidder) - 1]) return this.problem("bidder");
    if (terms.wholeSteps && terms.step)
      for (const each of bids) this.need((each.amount_minor - terms.opening) % terms.step === 0n, "not_a_step");
    if (!auto) return this.checkSingle(bidder, bid);
    const fits = terms.proxy !== "off" && this.leader !== null && this.bidders[Number(auto.bidder) - 1] === this.leader;
    this.need(fits && bidder !== this.leader, "auto_bid");
    this.need(bid.amount_minor >= this.minimum, "below_minimum");
    if (bids[0] === bid) {
      const most = bid.amount_minor + terms.increment(bid.amount_minor);
      this.need(bid.amount_minor <= auto.amount_minor && auto.amount_minor <= most, "auto_bid");
    } else this.need(this.price < auto.amount_minor && auto.amount_minor < bid.amount_minor, "auto_bid");
    for (const each of bids) this.applyBid(each);
  }

  checkSingle(bidder, bid) {
    const terms = this.terms;
    const leads = bidder === this.leader;
    let least = this.minimum;
    if (leads && terms.proxy === "off") this.need(terms.leaderMayRaise, "already_leading");
    else if (leads) least = this.price + 1n;
    else if (this.leader && bidder.rank !== null && (this.leader.rank === null || bidder.rank < this.leader.rank))
      least = this.price;
    this.need(bid.amount_minor >= least, "below_minimum");
    if (terms.proxy === "always" && (terms.reserveKind !== "hidden" || this.reserve !== null)) {
      const rival = leads ? this.rival : this.price;
      const most = max(rival ? rival + terms.increment(rival) : 0n, terms.opening, this.reserve ?? 0n);
      this.need(bid.amount_minor <= most, "above_needed");
    }
    this.applyBid(bid);
  }

  applyBid({ bidder, amount_minor: amount }) {
    const who = this.bidders[Number(bidder) - 1];
    if (who !== this.leader) {
      this.rival = this.price;
      this.leader = who;
    }
    this.bids += 1;
    this.price = amount;
    who.offered = amount;
    who.order = this.bids;
    this.minimum = amount + this.terms.increment(amount);
  }

  moveEnd({ closes_at_ms: closesAt, extensions, cause }) {
    if (this.hardEnd !== null && cause !== "bid") this.hardEnd += closesAt - this.closesAt;
    this.closesAt = closesAt;
    if (extensions !== undefined) this.extensions = extensions;
  }

  common(event, arrivedMs, atMs) {
    const terms = this.terms;
    switch (event.type) {
      case "admitted": {
        const number = Number(event.bidder);
        this.need(number >= 1 && number <= this.bidders.length + 1, "bidder");
        if (number > this.bidders.length) this.bidders.push({ number: BigInt(this.bidders.length + 1), order: 0 });
        Object.assign(this.bidders.at(number - 1), { rank: event.priority_rank, barred: false });
        break;
      }
      case "barred":
        this.need(event.bidder >= 1n && event.bidder <= BigInt(this.bidders.length), "bidder");
        this.bidders.at(Number(event.bidder) - 1).barred = true;
        break;
      case "opened":
        this.need(!this.isOpen && max(arrivedMs, atMs) >= this.opensAt, "opened");
        this.isOpen = true;
        break;
      case "extended": {
        const least = arrivedMs + terms.resumeLeast;
        const near = arrivedMs >= this.closesAt - terms.nearWindow;
        const fits =
          event.cause === "busy"
            ? near && arrivedMs < this.closesAt && this.closesAt < event.closes_at_ms && event.closes_at_ms === least
            : event.cause === "outage" && near && terms.outage === "extend" &&
              event.closes_at_ms >= max(least, this.closesAt);
        this.need(fits && event.extensions === this.extensions, "extension");
        this.moveEnd(event);
        break;
      }
      case "paused":
        this.need(this.pausedAt === null, "paused");
        this.pausedAt = atMs;
        break;
      case "resumed": {
        if (this.pausedAt === null) this.problem("resumed");
        else {
          let left = max(0n, this.closesAt - max(this.pausedAt, this.opensAt));
          if (left <= terms.nearWindow) left = max(left, terms.resumeLeast);
          const opensAt = this.opensAt <= this.pausedAt ? this.opensAt : max(this.opensAt, atMs);
          const fits = event.opens_at_ms === opensAt && event.closes_at_ms === max(opensAt, atMs) + left;
          this.need(fits, "resumed");
        }
        this.opensAt = event.opens_at_ms;
        this.moveEnd(event);
        this.pausedAt = null;
        break;
      }
      case "rescheduled":
        this.need(
          (this.pausedAt !== null || !this.isOpen) && atMs <= event.opens_at_ms && event.opens_at_ms < event.closes_at_ms,
          "rescheduled",
        );
        this.opensAt = event.opens_at_ms;
        this.isOpen = false;
        this.moveEnd(event);
        this.pausedAt = null;
        break;
      case "withdrawn":
        this.need(this.pausedAt !== null || atMs < this.closesAt, "withdrawn");
        this.withdrawn = true;
        break;
      case "closed": {
        this.need(atMs >= this.closesAt + terms.grace && this.pausedAt === null, "closed_early");
        const right = this.ending();
        const secret = terms.reserveKind === "hidden" && this.reserve === null && this.leader;
        if (secret && ["sold", "reserve_not_met"].includes(event.result)) right.result = event.result;
        this.need(Object.keys(right).every((name) => event[name] === right[name]), "outcome");
        this.outcome = event;
        break;
      }
      default:
        this.problem("foreign_event");
    }
  }

  ending() {
    const end = { closed_at_ms: this.closesAt, bidder: null, price_minor: null, runner_up: null, runner_up_minor: null };
    if (!this.leader) return { result: "unsold", ...end };
    let second = null;
    for (const each of this.bidders) {
      if (each === this.leader || !each.order || each.barred) continue;
      if (!second || each.offered > second.offered || (each.offered === second.offered && each.order > second.order))
        second = each;
    }
    return {
      ...end,
      result: this.price >= (this.reserve ?? 0n) ? "sold" : "reserve_not_met",
      bidder: this.leader.number,
      price_minor: this.price,
      runner_up: second ? second.number : null,
      runner_up_minor: second ? second.offered : null,
    };
  }

  // --- what was given beside the journal: problems have line 0 ---------------------------------------------------------

  head(sequence, hash) {
    if (this.hashes.get(sequence) !== hash)
      this.problem("other_head", this.lines.get(sequence) ?? this.lines.size + 1);
  }

  document(document, keys) {
    const known = this.problems.length + this.notes.length;
    try {
      if (document.has("text")) this.signed(document, keys);
      if (document.get("checkpoint")) this.signed(document.get("checkpoint"), keys, "checkpoint");
      if (document.get("log")) {
        const log = document.get("log");
        const leaf = readCanonical(log.get("leaf"));
        if (!names(leaf, "type,auction,sequence,at_ms,hash") || leaf.get("type") !== "checkpoint") unreadable("leaf");
        whole(leaf.get("at_ms"));
        this.ofJournal(leaf.get("auction"), leaf);
        const tree = this.signed(log.get("tree_head"), keys, "tree_head");
        const path = log.get("path").map(hex);
        const leafed = leafHash(log.get("leaf"));
        if (!includes(leafed, whole(log.get("index")), tree.get("size"), path, hex(tree.get("root"))))
          this.problem("inclusion", 0);
        this.notes.push("log");
      }
      if (document.get("consistency")) {
        const grown = document.get("consistency");
        const first = this.signed(grown.get("first"), keys, "tree_head");
        const second = this.signed(grown.get("second"), keys, "tree_head");
        const [from, to] = [first.get("size"), second.get("size")];
        if (!grows(from, hex(first.get("root")), to, hex(second.get("root")), grown.get("path").map(hex)))
          this.problem("consistency", 0);
        this.notes.push("grown");
      }
    } catch {
      this.problem("proof_unreadable", 0);
    }
    if (known === this.problems.length + this.notes.length) this.problem("proof_unreadable", 0);
  }

  signed(document, keys, kind = null) {
    const text = document.get("text");
    const said = readCanonical(text);
    const keyId = document.get("key_id");
    if (said.get("key") !== keyId || (kind && said.get("type") !== kind)) unreadable("kind");
    this.signature(document, text, keyId, whole(said.get("signed_ms")), keys);
    if (said.get("type") === "receipt") {
      this.ofJournal(said.get("auction"), said);
      this.ofJournal(said.get("auction"), said.get("checkpoint"));
    } else if (said.get("type") === "checkpoint") this.ofJournal(said.get("auction"), said);
    else if (said.get("type") !== "tree_head") unreadable("kind");
    this.notes.push(said.get("type"));
    return said;
  }

  signature(document, text, keyId, signedMs, keys) {
    let publicKey;
    if (keys === null) {
      publicKey = base64(document.get("public_key"));
      if (keyName(publicKey) !== keyId) this.problem("unknown_key", 0);
    } else {
      const known = keys.get("keys").find((each) => each.get("key_id") === keyId);
      if (!known) return this.problem("unknown_key", 0);
      publicKey = base64(known.get("public_key"));
      if (keyName(publicKey) !== keyId) this.problem("unknown_key", 0);
      const until = known.get("until_ms");
      if (signedMs < known.get("from_ms") || (until !== null && signedMs >= until)) this.problem("key_not_valid", 0);
    }
    const key = createPublicKey({
      key: { kty: "OKP", crv: "Ed25519", x: publicKey.toString("base64url") },
      format: "jwk",
    });
    if (!verifySignature(null, Buffer.from(text), key, base64(document.get("signature")))) this.problem("signature", 0);
  }

  ofJournal(auction, said) {
    if (auction !== this.auction) this.problem("auction", 0);
    else this.head(said.get("sequence"), said.get("hash"));
  }
}

const keyName = (publicKey) => sha256(publicKey).toString("hex").slice(0, 16);

function base64(text) {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : unreadable("base64");
}

function readLine(line) {
  const parts = readCanonical(line);
  const wanted = ["public", "commitment", "hash", "private", "facts"].filter((name) => parts.has(name));
  if (!names(parts, wanted.join()) || wanted.length < 3) unreadable("parts");
  hex(parts.get("commitment"));
  hex(parts.get("hash"));
  for (const name of ["public", "private"]) if (typeof (parts.get(name) ?? "") !== "string") unreadable(name);
  for (const one of parts.get("facts") ?? []) {
    if (!names(one, "fact,index,of,path")) unreadable("facts");
    whole(one.get("index"));
    whole(one.get("of"));
    one.get("path").forEach(hex);
    readCanonical(one.get("fact"));
  }
  return parts;
}

function readLines(bytes) {
  const lines = [];
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(10, start);
    let line = null; // cut off, or not text
    if (end >= 0)
      try {
        line = strict.decode(bytes.subarray(start, end));
      } catch {
        line = null;
      }
    lines.push(line);
    start = end < 0 ? bytes.length : end + 1;
  }
  return lines;
}

export function verify({ journal, head = null, proofs = [], keys = null }) {
  const made = new Journal();
  const lines = readLines(journal);
  for (const [at, line] of lines.entries()) {
    if (line === null) {
      made.problem("unreadable", at + 1);
      break;
    }
    if (!made.line(at + 1, line)) break;
  }
  if (!lines.length) made.problem("empty", 1);
  if (head) made.head(head[0], head[1]);
  for (const each of proofs) made.document(each, keys);
  return made;
}

function answer(made) {
  return {
    good: made.problems.length === 0,
    problems: made.problems,
    auction: Number(made.auction),
    sequence: Number(made.sequence),
    hash: made.hash.toString("hex"),
    // As texts: amounts go beyond what a double holds.
    outcome: made.outcome && canonical(new Map(Object.entries(made.outcome))),
    opened: made.opened.map(([sequence, fact]) => [Number(sequence), canonical(fact)]),
  };
}

if (process.argv[2] === "-") {
  for await (const line of createInterface({ input: process.stdin })) {
    const request = parse(line);
    const head = request.get("head");
    const made = verify({
      journal: Buffer.from(request.get("journal"), "base64"),
      head,
      proofs: request.get("proofs") ?? [],
      keys: request.get("keys") ?? null,
    });
    process.stdout.write(`${JSON.stringify(answer(made))}\n`);
  }
} else if (process.argv[2]) {
  const given = { journal: readFileSync(process.argv[2]), proofs: [] };
  for (let at = 3; at + 1 < process.argv.length; at += 2) {
    const [name, value] = [process.argv[at], process.argv[at + 1]];
    if (name === "--head") given.head = [BigInt(value.split(":")[0]), value.split(":")[1]];
    if (name === "--proof") given.proofs.push(parse(readFileSync(value, "utf8").trim()));
    if (name === "--keys") given.keys = parse(readFileSync(value, "utf8").trim());
  }
  const made = answer(verify(given));
  for (const [line, code] of made.problems) console.log(line ? `line ${line}: ${code}` : `proof: ${code}`);
  if (made.good) console.log(`good: auction ${made.auction}, ${made.sequence} entries\nhead ${made.sequence}:${made.hash}`);
  process.exitCode = made.good ? 0 : 1;
}

// The web console of pgagroal. It reads the events of /api/events, and draws what they say.
// Text reaches the page through textContent alone, so that a name can't be markup.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const svgSpace = "http://www.w3.org/2000/svg";
  const lostAfter = 5000; // ms without an event after which the figures are old
  const again = 10000;    // ms until a refused page asks again
  const shown = 600;      // samples in the charts, ten minutes

  // make returns an element with attributes and children. A child that is no node is text.
  function make(tag, attributes, ...children) {
    const el = svgTags.has(tag) ? document.createElementNS(svgSpace, tag) : document.createElement(tag);
    for (const [k, v] of Object.entries(attributes || {})) if (v || v === 0) el.setAttribute(k, v);
    for (const c of children) if (c !== undefined && c !== null && c !== "") el.append(c);
    return el;
  }
  const svgTags = new Set(["svg", "g", "rect", "path", "text", "circle"]);

  // changed reports whether a part of the page must be drawn anew. Otherwise it is left alone:
  // a screen reader would read it again, and a person would lose the place.
  const drawn = {};
  function changed(part, of) {
    const text = JSON.stringify(of);
    if (drawn[part] === text) return false;
    drawn[part] = text;
    return true;
  }

  // fill shows rows in a table. Cells that are as they were stay: somebody may be reading them.
  // A cell has the text t, and may have the class c, the colour m of a mark, a line s below,
  // and be the head h of its row.
  function fill(id, rows) {
    const body = $(id).tBodies[0];
    while (body.rows.length > rows.length) body.lastElementChild.remove();
    rows.forEach((cells, i) => {
      const tr = body.rows[i] || body.appendChild(make("tr"));
      cells.forEach((c, j) => {
        const key = JSON.stringify(c), old = tr.cells[j];
        if (old && old.shows === key) return;
        const td = make(c.h ? "th" : "td", { scope: c.h && "row", class: c.c }, c.m ? make("span", { class: "mark " + c.m }, c.t) : c.t, c.s && make("div", { class: "dim" }, c.s));
        td.shows = key;
        if (old) old.replaceWith(td);
        else tr.append(td);
      });
    });
  }

  // --- words and numbers ---

  const units = (v, names, step) => {
    let i = 0;
    while (v >= step && i < names.length - 1) { v /= step; i++; }
    return (v >= 100 || i === 0 && Number.isInteger(v) ? v.toFixed(0) : v.toFixed(1)) + " " + names[i];
  };
  const bytes = (v) => units(v, ["B", "kB", "MB", "GB", "TB"], 1024);
  const figure = (v) => v >= 1e4 ? units(v, ["", "k", "M", "G"], 1000) : v >= 100 || Number.isInteger(v) ? v.toFixed(0) : v.toFixed(1);
  function time(seconds) {
    if (seconds === null || seconds === undefined) return "–";
    if (seconds < 1e-3) return (seconds * 1e6).toFixed(0) + " µs";
    if (seconds < 1) return (seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0) + " ms";
    if (seconds < 120) return seconds.toFixed(1) + " s";
    if (seconds < 7200) return (seconds / 60).toFixed(0) + " min";
    if (seconds < 48 * 3600) return (seconds / 3600).toFixed(0) + " h";
    return (seconds / 86400).toFixed(0) + " days";
  }
  const two = (n) => String(n).padStart(2, "0");
  function clock(date, millis) {
    const d = new Date(date);
    const t = two(d.getHours()) + ":" + two(d.getMinutes()) + ":" + two(d.getSeconds());
    return millis ? t + "." + String(d.getMilliseconds()).padStart(3, "0") : t;
  }
  function day(date) {
    const d = new Date(date);
    return d.getFullYear() + "-" + two(d.getMonth() + 1) + "-" + two(d.getDate()) + " " + clock(date);
  }

  // --- the verdict and the alarms ---

  const running = (f) => ["warn", "A script is running", f.Run.Hook + " since " + time(f.Run.Elapsed) + " of at most " + time(f.Run.Timeout) + ". " + (f.Reason || "")];

  // verdict is the worst thing that there is to say, in one sentence.
  function verdict(s) {
    const f = s.FailoverStatus;
    const primary = f.Primary ? f.Primary + " is the primary" : "There is no primary";
    if (s.SplitBrain) return ["bad", "Split brain", "Two servers say that they are the primary. " + (f.Reason || "")];
    if (f.Run && f.Run.Hook !== "notify") return running(f);
    if (f.Held) return ["bad", "Clients are held", (f.HeldReason || f.Reason || "") + ""];
    if (!s.Writable) return ["bad", "Clients can't write", s.Reason || ""];
    if (f.Phase !== "open" && f.Phase !== "notify") return ["warn", "Phase " + f.Phase, f.Reason || ""];
    if (f.Alarms.length) return ["warn", "Clients can write", primary + ", but something needs an operator."];
    if (f.Run) return running(f); // clients can write already while standbys are told of the new primary
    if (s.Status !== "Running") return ["warn", s.Status, primary + "."];
    const unwell = servers(s).map((x) => [x.f.Server, look(x.sv)]).filter(([, l]) => l[0] === "bad" || l[0] === "warn");
    if (unwell.length) return ["warn", "Clients can write", primary + ". " + unwell.map(([name, l]) => name + " is " + l[1]).join(", ") + "."];
    if (f.Paused) return ["warn", "Failover is paused", primary + ". Nothing is promoted until failover resume."];
    return ["good", "All is well", "Clients can write. " + primary + "."];
  }

  function drawVerdict(s) {
    const v = verdict(s);
    document.title = (v[0] === "good" ? "" : v[1] + " – ") + "pgagroal";
    if (!changed("verdict", v)) return;
    $("verdict").className = "verdict " + v[0];
    $("verdictWord").textContent = v[1] + (v[2] ? ":" : "");
    $("verdictWhy").textContent = v[2];
  }

  // drawLost has the verdict say that nothing is known any more. The next sample draws it anew.
  function drawLost() {
    delete drawn.verdict;
    document.title = "No news – pgagroal";
    $("verdict").className = "verdict bad";
    $("verdictWord").textContent = "No news" + (status ? " since " + clock(status.Timestamp) + ":" : "");
    $("verdictWhy").textContent = status ? "what is below is old" : "";
  }

  function drawAlarms(alarms) {
    if (!changed("alarms", alarms)) return;
    $("alarms").hidden = alarms.length === 0;
    $("alarms").replaceChildren(...alarms.map((a) => make("li", null, make("b", null, "Alarm: "), a)));
  }

  // --- servers ---

  // look is how a server looks: the class of its colour, and words that say the same.
  function look(sv) {
    const state = sv.State + (sv.Qualifier ? " (" + sv.Qualifier + ")" : "");
    if (sv.Qualifier === "split brain" || sv.State === "Failed") return ["bad", state];
    if (sv.State === "Failover" || sv.Qualifier) return ["warn", state];
    if (sv.Status !== "Running" && sv.Health !== "UNKNOWN") return ["bad", state + ", down"];
    if (sv.State === "Primary" || sv.State === "Not init (primary)") return ["good", state];
    return ["info", state];
  }

  // behind says how far a standby is behind.
  function behind(sv, r) {
    if (sv.Behind === undefined || sv.Behind === null) return "";
    const lag = r && r.LagSeconds ? ", " + time(r.LagSeconds) : "";
    return sv.Behind === 0 ? "caught up" : bytes(sv.Behind) + lag;
  }

  // servers returns all in the order of the configuration.
  function servers(s) {
    return s.FailoverStatus.Servers.map((f) => ({
      f, sv: s.Servers[f.Server] || {}, standby: s.Standbys[f.Server], r: s.Replication[f.Server] || {},
    }));
  }

  function drawServers(s) {
    const rows = servers(s).map(({ f, sv, r }) => {
      const [kind, word] = look(sv);
      return [
        { h: 1, t: f.Server, s: f.Host + ":" + f.Port }, { c: "t", m: kind, t: word },
        { c: "t", t: f.ProbeAge < 0 ? "none" : f.Probe + ", " + time(f.ProbeAge) + " ago" + (f.Failures ? ", " + f.Failures + " failed" : "") },
        { c: "n", t: String(f.Timeline || "–") }, { c: "t", t: f.LSN || "–" }, { c: "n", t: behind(sv, r) || "–" },
        { t: [f.Reason, f.EndedBy ? "It ends with: " + f.EndedBy : ""].filter(Boolean).join(". ") },
      ];
    });
    fill("servers", rows);
    drawPicture(s);
  }

  // label returns a line of text in the picture, cut to what fits.
  function label(x, y, text, cls, most) {
    const cut = text.length > most ? text.slice(0, most - 1) + "…" : text;
    return make("text", { x, y, class: cls }, cut);
  }

  function box(x, y, w, h, kind, lines) {
    const g = make("g", null, make("rect", { x, y, width: w, height: h, rx: 9, class: "box " + kind }));
    let at = y + 23;
    for (const [text, cls] of lines) if (text) { g.append(label(x + 13, at, text, cls, Math.floor(w / 7.6))); at += 19; }
    return g;
  }

  // drawPicture draws clients, pgagroal, the primary and the standbys: from left to right, or
  // on a narrow screen from top to bottom.
  function drawPicture(s) {
    const all = servers(s), f = s.FailoverStatus;
    const width = $("picture").clientWidth;
    const narrow = width < 640;
    const facts = all.map(({ f, sv, standby, r }) => [f.Server, f.Host, f.Port, look(sv), f.Timeline, behind(sv, r), standby]);
    const key = [narrow, Math.round(width / 40), facts, f.Primary, f.Held, f.Phase, s.Clients, s.Writable];
    if (!changed("picture", key)) return;
    const heads = all.filter((x) => x.f.Server === f.Primary || x.sv.State === "Primary" || x.sv.Qualifier === "split brain");
    const rest = all.filter((x) => !heads.includes(x));
    const w = narrow ? 330 : 250, h = 93, gap = 18;
    const rows = Math.max(heads.length, rest.length, 1);
    const across = narrow ? 370 : 1000;
    const down = narrow ? (1 + all.length) * (h + 40) + 10 : rows * (h + gap) + 10;
    const place = (column, i, of) => narrow
      ? [20, 5 + (column === 0 ? 0 : column === 1 ? 1 + i : 1 + heads.length + i) * (h + 40)]
      : [column * 370 + 5, 5 + (down - of * (h + gap)) / 2 + i * (h + gap)];
    const svg = make("svg", { viewBox: "0 0 " + across + " " + down, role: "img", "aria-label": told(s, all) });
    const links = make("g"), boxes = make("g");
    const where = new Map();
    const put = (x, column, i, of) => { where.set(x.f.Server, place(column, i, of)); };
    heads.forEach((x, i) => put(x, 1, i, heads.length));
    rest.forEach((x, i) => put(x, 2, i, rest.length));
    const self = place(0, 0, 1);
    const c = s.Clients;
    boxes.append(box(self[0], self[1], w, h, s.Writable ? "good" : "bad", [
      ["pgagroal", "name"], [s.Writable ? "open" : f.Held ? "holds clients" : "clients can't write", "state " + (s.Writable ? "good" : "bad")],
      [c.active + " active, " + c.idle + " idle", ""], [(c.waiting + c.held) + " waiting", "small"]]));
    for (const x of heads) {
      const mine = x.f.Server === f.Primary;
      links.append(link(self, where.get(x.f.Server), w, h, narrow, mine && s.Writable ? "clients" : "shut"));
    }
    for (const x of rest) {
      const from = sender(x, heads, all, f);
      if (!from || x.sv.State !== "Replica") continue;
      const ok = x.standby && x.standby.Streaming;
      links.append(link(where.get(from), where.get(x.f.Server), w, h, narrow, ok ? "stream" : "broken"));
    }
    for (const x of all) {
      const [kind, word] = look(x.sv), [bx, by] = where.get(x.f.Server);
      const stream = x.sv.State === "Replica" ? (x.standby && x.standby.Streaming ? "streams" : "doesn't stream") : "";
      boxes.append(box(bx, by, w, h, kind, [
        [x.f.Server, "name"], [word, "state " + kind],
        [[stream, behind(x.sv, x.r)].filter(Boolean).join(", "), ""],
        [x.f.Host + ":" + x.f.Port + (x.f.Timeline ? ", timeline " + x.f.Timeline : ""), "small"]]));
    }
    svg.append(links, boxes);
    $("picture").replaceChildren(svg);
  }

  // sender returns the server from which a standby streams: the one with the host that its
  // receiver names, or else the primary.
  function sender(x, heads, all, f) {
    const by = x.standby && all.find((o) => o !== x && o.f.Host === x.standby.PrimaryHost && String(o.f.Port) === x.standby.PrimaryPort);
    return by ? by.f.Server : heads.some((o) => o.f.Server === f.Primary) ? f.Primary : heads.length ? heads[0].f.Server : "";
  }

  function link(from, to, w, h, narrow, kind) {
    let d;
    if (!narrow && from[0] < to[0]) {
      const x1 = from[0] + w, y1 = from[1] + h / 2, x2 = to[0], y2 = to[1] + h / 2, m = (x1 + x2) / 2;
      d = `M${x1} ${y1}C${m} ${y1} ${m} ${y2} ${x2} ${y2}`;
    } else if (narrow) {
      const x = from[0] + 4, y1 = from[1] + h / 2, y2 = to[1] + h / 2;
      d = to[1] - from[1] <= h + 41 ? `M${from[0] + w / 2} ${from[1] + h}L${to[0] + w / 2} ${to[1]}` : `M${x} ${y1}C${x - 28} ${y1} ${x - 28} ${y2} ${x} ${y2}`;
    } else {
      const x = from[0] + w, y1 = from[1] + h / 2, y2 = to[1] + h / 2;
      d = `M${x} ${y1}C${x + 40} ${y1} ${x + 40} ${y2} ${x} ${y2}`;
    }
    return make("path", { d, class: "link " + kind });
  }

  // told says in words what the picture shows.
  function told(s, all) {
    const list = all.map(({ f, sv, standby, r }) => f.Server + ": " + look(sv)[1] +
      (sv.State === "Replica" ? (standby && standby.Streaming ? ", streams" : ", doesn't stream") : "") + (behind(sv, r) ? ", " + behind(sv, r) : ""));
    return "pgagroal is " + (s.Writable ? "open to clients" : "closed to clients") + ". " + list.join(". ") + ".";
  }

  // --- failover ---

  // usual is the order of the phases of a failover. Others are shown while they last.
  const usual = ["open", "suspect", "fencing", "choosing", "running", "verifying"];
  const kindOf = { open: "good", held: "bad", suspect: "warn", starting: "info" };

  function drawPhases(s) {
    const f = s.FailoverStatus;
    const list = usual.includes(f.Phase) ? usual : [...usual, f.Phase];
    const at = usual.indexOf(f.Phase);
    if (changed("phases", [list, f.Phase])) {
      $("phases").replaceChildren(...list.map((p, i) => p === f.Phase
        ? make("li", { "aria-current": "step", class: kindOf[p] || "warn" }, p)
        : make("li", { class: at > 0 && i > 0 && i < at ? "done" : "" }, p)));
    }
    const last = s.Changes[s.Changes.length - 1];
    const since = last && last.Phase === f.Phase ? "For " + time(Math.max(0, (new Date(s.Timestamp) - new Date(last.Time)) / 1000)) + ". " : "";
    $("phaseWhy").textContent = since + (f.Reason || "");
    const run = f.Run;
    facts("failoverFacts", [
      ["Failover", !f.Enabled ? "off" : f.Paused ? "paused" : f.Mode || "on"],
      ["Primary", f.Primary || "none"],
      ["Epoch", f.Epoch], ["Timeline", f.Timeline || "–"],
      ["Failovers", f.Runs],
      ["Clients held", f.Held ? "for " + time(s.HeldSeconds) : "no"],
      ["Last position", f.LastLSN ? f.LastLSN : "–"],
      (f.Runner.Connected || f.Enabled && f.Mode !== "follow") && ["Script runner", !f.Runner.Connected ? "not there" : f.Runner.DigestMatch ? "ready" : "has read other files"],
      (f.Enabled || f.StateDir) && ["state_dir", f.StateDirWritable ? "writable" : "can't be written"],
      run && ["Script", run.Hook + ", " + time(run.Elapsed) + " of at most " + time(run.Timeout), "long"],
      ...Object.entries(f.Runner.Problems || {}).map(([hook, why]) => [hook, why, "long"]),
      (f.Enabled || f.StateDir) && f.StateDirError && ["state_dir", f.StateDirError, "long"],
    ]);
  }

  function facts(id, list) {
    list = list.filter(Boolean);
    if (!changed(id, list)) return;
    $(id).replaceChildren(...list.map(([k, v, cls]) => make("div", { class: cls || "" }, make("dt", null, k), make("dd", null, String(v)))));
  }

  function drawChanges(s) {
    fill("changes", s.Changes.map((c, i) => {
      const next = s.Changes[i + 1];
      return [{ c: "t", t: clock(c.Time, true) }, { c: "t", t: c.Phase },
        { c: "n", t: next ? time((new Date(next.Time) - new Date(c.Time)) / 1000) : "until now" }, { t: c.Reason || "" }];
    }).reverse());
  }

  const open = new Set(); // entries of the history whose details are shown
  function drawHistory(list) {
    const kind = (e) => e.signal || e.timed_out || e.exit || /^(refused|failed|unknown|lost)/.test(e.result || "") || e.kind === "no_candidate" ? "bad" : e.kind === "failover" || e.kind === "verified" ? "good" : "";
    const items = list.slice(-100).reverse().filter((e) => e.time).map((e) => {
      const id = e.time + e.kind;
      const change = e.old || e.new ? (e.old || "–") + " → " + (e.new || "–") : "";
      const more = [
        e.lsn && "position " + e.lsn, e.timeline && "timeline " + e.timeline, e.epoch && "epoch " + e.epoch,
        e.exit !== undefined && e.exit !== null && "exit " + e.exit, e.signal && "signal " + e.signal, e.timed_out && "time-out",
        ...Object.entries(e.durations || {}).map(([k, v]) => k + " " + v),
        ...(e.candidates || []).map((c) => c.name + ": " + c.verdict + (c.lsn ? ", " + c.lsn : "")), ...(e.probes || []),
      ].filter(Boolean);
      const d = more.length ? make("details", open.has(id) ? { open: "open" } : null, make("summary", null, "Details"), make("ul", null, ...more.map((m) => make("li", null, m)))) : null;
      if (d) d.addEventListener("toggle", () => d.open ? open.add(id) : open.delete(id));
      return make("li", { class: kind(e) }, make("time", { datetime: e.time }, day(e.time)), " ", make("b", null, e.kind), " ", change,
        make("div", null, [e.result, e.reason].filter(Boolean).join(": ")), d);
    });
    $("history").replaceChildren(...items);
    $("historyMore").textContent = items.length === 0 ? "Nothing has happened yet." : list.length > 100 ? "Older entries: pgagroal-cli failover history." : "";
  }

  // --- clients, pools, processes ---

  const clientStates = ["active", "idle", "waiting", "held", "login", "unplaced"];
  function drawClients(s) {
    const c = s.Clients, total = clientStates.reduce((n, k) => n + c[k], 0);
    if (changed("bar", c)) {
      let x = 0;
      $("clientBar").replaceChildren(make("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none" }, ...clientStates.map((k) => {
        const w = total ? c[k] / total * 1000 : 0, r = make("rect", { x: x.toFixed(1), y: 0, width: w.toFixed(1), height: 10, class: k });
        x += w;
        return r;
      })));
    }
    facts("clients", [
      ["Active", c.active], ["Idle", c.idle], ["Waiting", c.waiting], ["Held", c.held], ["Logging in", c.login + c.unplaced],
      ["Connections", s.TotalConnections + " of " + s.MaxConnections],
    ]);
    const x = s.Sample;
    facts("now", [
      ["Queries", x ? figure(x.Queries) + "/s" : "–"], ["Transactions", x ? figure(x.Transactions) + "/s" : "–"],
      ["Query, median", x ? time(x.QueryP50) : "–"], ["Query, 99 %", x ? time(x.QueryP99) : "–"], ["Wait, 99 %", x ? time(x.WaitP99) : "–"],
      ["Sent, received", x ? bytes(x.Sent) + "/s, " + bytes(x.Received) + "/s" : "–"],
    ]);
  }

  function drawPools(s) {
    fill("pools", s.Pools.map((p) => [
      { h: 1, t: p.Database }, { t: p.Username }, { t: p.Server || "none" },
      { c: "n", t: String(p.Active) }, { c: "n", t: String(p.Idle) }, { c: "n", m: p.Waiting && "warn", t: String(p.Waiting) },
    ]));
    const off = (s.Databases || []).filter((d) => !d.Enabled).map((d) => d.Database);
    const full = s.Limits.filter((l) => l.Waiting || l.ActiveConnections >= l.MaxConnections)
      .map((l) => "The limit of " + l.Database + " and " + l.Username + " is used up: " + l.ActiveConnections + " of " + l.MaxConnections + ", " + l.Waiting + " waiting.");
    $("poolsMore").textContent = [
      s.Pools.length === 0 ? "No client has connected yet." : "", s.PoolsLeftOut ? s.PoolsLeftOut + " other pools with less to do." : "",
      off.length ? "Disabled: " + off.join(", ") + "." : "", ...full].filter(Boolean).join(" ");
  }

  let before = null; // the last status, for the use of the processor
  function drawSelf(s) {
    const seconds = before ? (new Date(s.Timestamp) - new Date(before.Timestamp)) / 1000 : 0;
    const was = new Map(before ? before.Processes.map((p) => [p.Process, p.CPUSeconds]) : []);
    fill("processes", s.Processes.map((p) => {
      const used = seconds > 0 && was.has(p.Process) ? Math.max(0, (p.CPUSeconds - was.get(p.Process)) / seconds * 100).toFixed(0) + " %" : "–";
      return [{ h: 1, t: p.Process }, { c: "n", t: used }, { c: "n", t: p.ResidentBytes ? bytes(p.ResidentBytes) : "–" },
        { c: "n", t: p.AnswerSeconds === undefined ? "" : time(p.AnswerSeconds) }];
    }));
    if (seconds > 0 || !before) before = s;
    const soon = s.Certificates.map((c) => [c, (new Date(c.Ends) - new Date(s.Timestamp)) / 86400000]).sort((a, b) => a[1] - b[1]);
    facts("self", [
      ["Leases", s.Leases.Used + " used, " + s.Leases.Waiting + " waiting"],
      soon.length && ["First certificate to end", soon[0][0].Server + ": " + (soon[0][1] < 0 ? "has ended" : "in " + Math.floor(soon[0][1]) + " days")],
      s.Confinement.Lacking && s.Confinement.Lacking.length && ["Not confined by", s.Confinement.Lacking.join("; "), "long"],
    ]);
  }

  // --- charts ---

  let samples = [], charts = [];
  const plots = [
    { title: "Throughput, per second", series: [["Queries", "Queries", "--one"], ["Transactions", "Transactions", "--two"]], as: figure },
    { title: "Time of a query", series: [["median", "QueryP50", "--one"], ["99 %", "QueryP99", "--two"], ["wait, 99 %", "WaitP99", "--three"]], as: time },
    { title: "Clients", series: [["clients", "Clients", "--one"], ["active", "Active", "--two"], ["waiting", "Waiting", "--three"]], as: figure },
    { title: "Bytes, per second", series: [["to servers", "Sent", "--one"], ["to clients", "Received", "--two"]], as: bytes },
  ];

  const data = (p) => [samples.map((x) => x.Time), ...p.series.map((q) => samples.map((x) => x[q[1]]))];

  function makeCharts() {
    const css = getComputedStyle(document.documentElement), colour = (name) => css.getPropertyValue(name).trim();
    for (const c of charts) c.plot.destroy();
    charts = [];
    $("charts").replaceChildren(...plots.map((p) => {
      const inside = make("div", { role: "img" }), fig = make("figure", null, make("figcaption", null, p.title), inside);
      charts.push({ p, inside });
      return fig;
    }));
    const axis = { stroke: colour("--dim"), grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false } };
    for (const c of charts) {
      c.plot = new uPlot({
        width: Math.max(200, c.inside.clientWidth), height: 150, cursor: { y: false }, legend: { live: true },
        scales: { y: { range: (u, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
        axes: [{ ...axis, values: (u, list) => list.map((t) => clock(t * 1000)), space: 90 }, { ...axis, values: (u, list) => list.map(c.p.as), size: 62 }],
        series: [{ label: "at", value: (u, t) => t === null ? "–" : clock(t * 1000) }, ...c.p.series.map((q, i) => ({
          label: q[0], stroke: colour(q[2]), width: 2, dash: i === 2 ? [6, 4] : undefined, points: { show: false },
          value: (u, v) => v === null || v === undefined ? "–" : c.p.as(v),
        }))],
      }, data(c.p), c.inside);
    }
  }

  function drawCharts() {
    const last = samples[samples.length - 1];
    for (const c of charts) {
      c.plot.setData(data(c.p));
      if (last && !(c.plot.cursor.left >= 0)) c.plot.setLegend({ idx: samples.length - 1 });
      c.inside.setAttribute("aria-label", c.p.title + (last ? ": " + c.p.series.map((q) => q[0] + " " + (last[q[1]] === null ? "none" : c.p.as(last[q[1]]))).join(", ") : ": nothing yet"));
    }
  }

  function addSamples(list) {
    for (const x of list) {
      const last = samples[samples.length - 1];
      if (last && x.Time <= last.Time) continue;
      // A line across a time in which nobody looked would be made up.
      if (last && x.Time - last.Time > 15) samples.push({ Time: last.Time + 1 });
      samples.push(x);
    }
    samples = samples.slice(-shown).map((x) => {
      for (const p of plots) for (const q of p.series) if (x[q[1]] === undefined) x[q[1]] = null;
      return x;
    });
    drawCharts();
  }

  // --- the stream ---

  let source = null, heard = 0, status = null;

  function live(kind, text) {
    if (!changed("live", [kind, text])) return;
    $("live").className = "live " + kind;
    $("liveText").textContent = text;
    document.body.classList.toggle("stale", kind === "off");
    if (kind === "off") drawLost();
  }

  function draw(s) {
    status = s;
    live("on", "live, " + clock(s.Timestamp));
    if (changed("version", s.ServerVersion)) $("version").textContent = s.ServerVersion;
    drawVerdict(s);
    drawAlarms(s.FailoverStatus.Alarms);
    drawServers(s);
    drawPhases(s);
    drawChanges(s);
    drawClients(s);
    drawPools(s);
    drawSelf(s);
  }

  const lost = () => "no news" + (status ? " since " + clock(status.Timestamp) : "");

  function start() {
    if (source || document.hidden) return;
    heard = Date.now();
    source = new EventSource("/api/events");
    const on = (name, take) => source.addEventListener(name, (e) => { heard = Date.now(); take(JSON.parse(e.data)); });
    on("status", draw);
    on("samples", addSamples);
    on("history", (h) => drawHistory(h.History));
    on("failure", (f) => live("off", lost() + ": " + f.Message));
    source.onerror = () => {
      live("off", lost());
      if (source && source.readyState === EventSource.CLOSED) { // refused: the browser doesn't ask again
        stop();
        setTimeout(start, again);
      }
    };
  }

  function stop() {
    if (source) source.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stop();
      live("", "stopped while nobody looks");
    } else {
      start();
    }
  });
  setInterval(() => { if (source && Date.now() - heard > lostAfter) live("off", lost()); }, 1000);

  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => {
      for (const c of charts) c.plot.setSize({ width: Math.max(200, c.inside.clientWidth), height: 150 });
      if (status) drawPicture(status);
    }, 150);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { makeCharts(); drawCharts(); });

  makeCharts();
  drawCharts();
  start();
})();

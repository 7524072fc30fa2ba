"use strict";
(() => {
  const TOKEN = "eccos-token", THEME = "eccos-theme";
  const SILENCE_MS = 25000;  // without a byte: the stream is dead, although nobody closed it
  const FIRST_PAUSE_MS = 500, LONGEST_PAUSE_MS = 5000;
  const POINTS = 600;  // of the charts: five minutes at two a second
  const BAD = -1;
  const $ = id => document.getElementById(id);

  // Everything from the kernel is set as text, never as markup.
  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = String(text);
    if (className) made.className = className;
    return made;
  }
  function write(id, text) { const node = $(id); if (node.textContent !== text) node.textContent = text; }
  const isNumber = value => typeof value === "number" && isFinite(value);
  const quality = value => isNumber(value) ? value.toFixed(3) : "–";
  const count = value => isNumber(value) ? value.toLocaleString("en") : "–";
  function dollars(value) {
    if (!isNumber(value)) return "–";
    if (value === 0) return "$0";
    const size = Math.abs(value), digits = size >= 0.01 ? 3 : 2;
    return "$" + value.toLocaleString("en", size >= 100 ? { maximumFractionDigits: 0 } : { minimumSignificantDigits: digits, maximumSignificantDigits: digits });
  }
  const perThousand = value => isNumber(value) ? dollars(1000 * value) : "–";  // of one call: too small to compare
  function share(cost, other) {
    if (!isNumber(cost) || !isNumber(other) || other <= 0) return "–";
    const percent = 100 * (cost / other - 1);
    return Math.abs(percent) >= 1000 ? (cost / other).toFixed(0) + " × as much"
      : Math.abs(percent).toFixed(0) + " % " + (percent <= 0 ? "less" : "more");
  }
  function headers(more) {
    const token = sessionStorage.getItem(TOKEN);
    return { ...(token ? { Authorization: "Bearer " + token } : {}), ...more };
  }

  // Theme: the system's, unless chosen here.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const THEMES = ["system", "dark", "light"];
  function showTheme() {
    const chosen = sessionStorage.getItem(THEME) || "system";
    document.documentElement.dataset.theme = chosen === "system" ? (system.matches ? "dark" : "light") : chosen;
    write("theme", "Theme: " + chosen);
    for (const chart of charts) if (chart.plot) { chart.plot.destroy(); chart.plot = null; }  // the legend keeps its colors
  }
  $("theme").addEventListener("click", () => {
    const chosen = sessionStorage.getItem(THEME) || "system";
    sessionStorage.setItem(THEME, THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length]);
    showTheme();
  });
  system.addEventListener("change", showTheme);

  // Charts.
  const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const charts = [
    { id: "rate-chart", labels: ["calls/s"], colors: ["--bar"] },
    { id: "load-chart", labels: ["in use", "slots", "waiting"], colors: ["--bar", "--soft", "--warn"] },
  ].map(chart => ({ ...chart, data: [[], ...chart.labels.map(() => [])] }));
  function drawChart(chart, values) {
    chart.data[0].push(Date.now() / 1000);
    values.forEach((value, place) => chart.data[place + 1].push(value));
    if (chart.data[0].length > POINTS) for (const column of chart.data) column.shift();
    if (document.hidden || typeof uPlot === "undefined") return;
    if (!chart.plot) {
      const axis = { stroke: () => color("--soft"), grid: { stroke: () => color("--line"), width: 1 }, ticks: { stroke: () => color("--line") } };
      const clock = seconds => new Date(1000 * seconds).toLocaleTimeString("en-GB");
      const number = { value: (plot, value) => isNumber(value) ? value.toLocaleString("en", { maximumFractionDigits: 1 }) : "–" };
      chart.plot = new uPlot({
        width: $(chart.id).clientWidth || 300, height: 160, cursor: { drag: { x: false, y: false } },
        scales: { y: { range: (plot, low, high) => [0, Math.max(1, high * 1.1)] } },
        series: [{ label: "at", value: (plot, value) => isNumber(value) ? clock(value) : "–" }, ...chart.labels.map((label, place) => ({ ...number, label, stroke: () => color(chart.colors[place]), width: 2, points: { show: false } }))],
        axes: [{ ...axis, space: 90, size: 32, values: (plot, ticks) => ticks.map(clock) }, { ...axis, size: 48 }],
      }, chart.data, $(chart.id));
    } else chart.plot.setData(chart.data);
    // The legend has the values under the pointer, else the last ones.
    if (!(chart.plot.cursor.left >= 0)) chart.plot.setLegend({ idx: chart.data[0].length - 1 });
  }
  addEventListener("resize", () => {
    for (const chart of charts) if (chart.plot) chart.plot.setSize({ width: $(chart.id).clientWidth, height: 160 });
  });

  // Rows are kept by key, so that focus and selection survive an update.
  function rows(body, items, key, make, update) {
    const found = new Map([...body.children].map(row => [row.dataset.key, row]));
    items.forEach((item, place) => {
      let row = found.get(String(key(item)));
      if (row) found.delete(row.dataset.key);
      else { row = make(item); row.dataset.key = String(key(item)); }
      update(row, item);
      if (body.children[place] !== row) body.insertBefore(row, body.children[place] || null);
    });
    for (const row of found.values()) row.remove();
  }
  function cells(row, texts) {
    texts.forEach((text, place) => { const cell = row.children[place]; if (text !== null && cell.textContent !== text) cell.textContent = text; });
  }
  function makeRow(classes) {
    const row = element("tr");
    for (const name of classes) row.append(element("td", "", name));
    return row;
  }

  function showCores(cores) {
    rows($("cores").tBodies[0], Object.entries(cores), ([name]) => name, () => {
      const row = makeRow(["name", "", "wrap", "number", "number"]);
      row.children[1].append(element("progress"), element("span"));
      row.children[2].append(element("span", "", "badge"), element("span", "", "cause"));
      return row;
    }, (row, [name, core]) => {
      cells(row, [name, null, null, count(core.completed), count(core.failed)]);
      row.children[0].title = name;
      const bar = row.children[1].firstChild;
      bar.max = Math.max(1, core.quota || 1); bar.value = core.in_flight || 0;
      bar.setAttribute("aria-label", "slots in use at " + name);
      row.children[1].lastChild.textContent = " " + count(core.in_flight) + " / " + count(core.quota);
      const badge = row.children[2].firstChild;
      badge.textContent = core.state || "–";
      badge.className = "badge " + (["ok", "paused", "half-open", "open"].includes(core.state) ? core.state : "");
      row.children[2].lastChild.textContent = core.cause ? " " + core.cause : "";
    });
  }

  function showComparison(status) {
    const totals = status.totals || {}, baselines = status.baselines || {};
    const list = [["ECCOS", totals.predicted_quality, totals.cost_usd, null]];
    for (const [key, label] of [["best", "all to the best core"], ["cheapest", "all to the cheapest core"]]) {
      const base = baselines[key];
      if (base) list.push([label + ": " + base.core, base.predicted_quality, base.cost_usd, totals.cost_usd]);
    }
    rows($("compare").tBodies[0], list, item => item[0], () => makeRow(["wrap", "number", "number", "number"]),
      (row, item) => cells(row, [item[0], quality(item[1]), dollars(item[2]), item[3] === null ? "" : share(item[3], item[2])]));
    const best = baselines.best;
    write("cost", dollars(totals.cost_usd));
    write("cost-note", best && totals.cost_usd !== undefined ? share(totals.cost_usd, best.cost_usd) + " than all to " + best.core : "");
    write("quality", quality(totals.predicted_quality));
    const owed = isNumber(status.quality_owed) && status.quality_owed > 0 ? "; owed: " + status.quality_owed.toFixed(2) + " calls" : "";
    write("quality-note", "target " + quality(status.quality_target) + owed);
  }

  function showLearning(status) {
    const learning = status.learning || {}, delivered = status.delivered || {};
    write("learned", count(learning.learned) + " outcome" + (learning.learned === 1 ? "" : "s"));
    const notes = [count(learning.refits) + " new fits"];
    const shifts = Object.entries(learning.shifts || {}).filter(entry => Math.abs(entry[1]) >= 0.005);
    if (shifts.length) notes.push("changed: " + shifts.map(([core, shift]) => core + " " + (shift > 0 ? "+" : "−") + Math.abs(shift).toFixed(2)).join(", "));
    if (delivered.graded) notes.push("promised " + quality(delivered.promised) + ", delivered " + quality(delivered.delivered) + " in " + count(delivered.graded) + " graded call" + (delivered.graded === 1 ? "" : "s"));
    else notes.push("no call graded yet");
    write("learning-note", notes.join("; "));
  }

  let before = null;
  function showLoad(status) {
    const totals = status.totals || {}, now = performance.now();
    const done = (totals.completed || 0) + (totals.failed || 0);
    let rate = null;
    if (before && done >= before.done && now > before.now) rate = 1000 * (done - before.done) / (now - before.now);
    before = { done, now };
    const cores = Object.values(status.cores || {});
    const sum = name => cores.reduce((total, core) => total + (core[name] || 0), 0);
    write("calls", count(totals.completed) + " done");
    write("calls-note", count(totals.failed) + " failed, " + count(status.pending) + " waiting; decided in " + (isNumber(totals.decision_ms_p99) ? totals.decision_ms_p99.toFixed(1) : "–") + " ms (p99)");
    drawChart(charts[0], [rate]);
    drawChart(charts[1], [sum("in_flight"), sum("quota"), status.pending || 0]);
    const agents = Object.entries(status.pending_by_agent || {});
    $("nobody").hidden = agents.length > 0;
    rows($("agents"), agents, item => item[0], () => element("li"), (row, item) => { row.textContent = item[0] + ": " + count(item[1]); });
  }

  // Decisions. While someone points at the list or is in it, it does not move away; its rows still change.
  const box = $("decisions-box");
  function showDecisions(list) {
    const held = box.matches(":hover") || box.contains(document.activeElement);
    const body = $("decisions").tBodies[0];
    write("frozen", held && body.children.length ? "held still while you are in it" : "");
    if (held && body.children.length) {
      const now = new Map(list.map(decision => [String(decision.call), decision]));
      for (const row of body.children) if (now.has(row.dataset.key)) updateDecision(row, now.get(row.dataset.key));
    } else rows(body, list, decision => decision.call, makeDecision, updateDecision);
  }
  function makeDecision(decision) {
    const row = makeRow(["", "name", "name", "number", "number", "wrap", "", ""]);
    const open = element("button", decision.call, "link");
    open.type = "button";
    open.setAttribute("aria-label", "show decision on call " + decision.call);
    open.addEventListener("click", () => showDetails(decision.call));
    row.children[0].append(open);
    for (const [text, value, label] of [["good", 1, "good"], ["bad", 0, "bad"]]) {
      const thumb = element("button", text);
      thumb.type = "button";
      thumb.dataset.grade = value;
      thumb.setAttribute("aria-label", "grade call " + decision.call + " as " + label);
      thumb.addEventListener("click", () => grade(decision.call, value, row));
      row.children[7].append(thumb, " ");
    }
    return row;
  }
  function updateDecision(row, decision) {
    const plan = decision.plan && decision.plan.cores && decision.plan.cores.length > 1
      ? " (" + decision.plan.kind + ": " + decision.plan.cores.join(", ") + ")" : "";
    const attempt = decision.attempt > 1 ? " (attempt " + decision.attempt + ")" : "";
    cells(row, [null, decision.agent, (decision.core || "–") + plan, quality(decision.predicted_quality), perThousand(decision.predicted_cost), (decision.reason || "") + attempt, decision.outcome, null]);
    row.children[6].className = decision.outcome === "failed" ? "failed" : "";
    mark(row, decision.quality, decision.outcome === "in flight" || decision.outcome === undefined);
  }
  function mark(row, value, tooEarly) {
    for (const thumb of row.querySelectorAll("[data-grade]")) {
      thumb.setAttribute("aria-pressed", String(value === Number(thumb.dataset.grade)));
      if (tooEarly !== undefined) thumb.disabled = tooEarly;
    }
  }
  async function grade(call, value, row) {
    try {
      const answer = await fetch("feedback", { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify({ call, quality: value }) });
      const said = await answer.json();
      if (answer.ok) { mark(row, value); write("graded", "Call " + call + " graded as " + (value ? "good" : "bad") + "."); }
      else write("graded", "Call " + call + " not graded: " + said.error);
    } catch (error) { write("graded", "Call " + call + " not graded: the kernel does not answer."); }
  }
  async function showDetails(call) {
    let decision = null, fault = "";
    try {
      const answer = await fetch("decisions?call=" + encodeURIComponent(call), { headers: headers() });
      const said = await answer.json();
      if (answer.ok) decision = said.decisions[0]; else fault = said.error;
    } catch (error) { fault = "the kernel does not answer"; }
    write("details-title", "Call " + call);
    const facts = $("facts");
    facts.replaceChildren();
    const fact = (name, text) => { if (text !== "" && text !== null && text !== undefined) facts.append(element("dt", name), element("dd", text)); };
    if (!decision) fact("not shown", fault);
    else {
      fact("agent", decision.agent); fact("core", decision.core); fact("reason", decision.reason);
      fact("outcome", decision.outcome);
      fact("waited", decision.waited_s.toFixed(3) + " s");
      fact("decided in", decision.decision_ms.toFixed(2) + " ms");
      fact("grade", decision.quality);
      fact("not served by", Object.entries(decision.failures || {}).map(([core, why]) => core + ": " + why).join("\n"));
      fact("plan", decision.plan && (decision.plan.cores || []).length > 1 ? JSON.stringify(decision.plan) : "");
      fact("stages", (decision.stages || []).map(stage => JSON.stringify(stage)).join("\n"));
      fact("text", decision.text);
    }
    const estimates = Object.entries(decision ? decision.estimates : {}).sort((one, other) => one[1].cost - other[1].cost);
    rows($("estimates").tBodies[0], estimates, item => item[0], () => makeRow(["wrap", "number", "number"]), (row, item) => {
      cells(row, [item[0], quality(item[1].quality), perThousand(item[1].cost)]);
      row.className = item[0] === decision.core ? "chosen" : "";
    });
    $("details").hidden = false;
    $("details").focus();
    $("details").scrollIntoView({ block: "nearest" });
  }
  const closeDetails = () => { $("details").hidden = true; };
  $("close").addEventListener("click", closeDetails);
  addEventListener("keydown", event => { if (event.key === "Escape") closeDetails(); });

  function show(status) {
    if (status.error) { write("link", status.error); return; }
    write("version", status.version || "");
    const health = $("health");
    health.textContent = status.healthy === false ? "unhealthy" : status.scheduler && status.scheduler !== "eccos" ? status.scheduler : "healthy";
    health.className = "badge " + (status.healthy === false ? "open" : "ok");
    rows($("reasons"), status.reasons || [], reason => reason, () => element("li"), (row, reason) => { row.textContent = reason; });
    showCores(status.cores || {});
    showComparison(status);
    showLearning(status);
    showLoad(status);
    showDecisions(status.decisions || []);
    document.documentElement.dataset.events = Number(document.documentElement.dataset.events || 0) + 1;
  }

  // The stream. EventSource cannot send a token, so the events are read from a fetch.
  const pause = ms => new Promise(done => setTimeout(done, ms));
  async function stream(onEvent) {
    const control = new AbortController();
    let dog = setTimeout(() => control.abort(), SILENCE_MS);
    try {
      const answer = await fetch("events", { headers: headers({ Accept: "text/event-stream" }), signal: control.signal, cache: "no-store" });
      if (answer.status === 401) return BAD;
      if (!answer.ok) { const said = await answer.json(); throw new Error(said.error || "status " + answer.status); }
      const reader = answer.body.getReader(), decoder = new TextDecoder();
      let left = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return 0;
        clearTimeout(dog);
        dog = setTimeout(() => control.abort(), SILENCE_MS);
        const parts = (left + decoder.decode(value, { stream: true })).split("\n\n");
        left = parts.pop();
        const last = parts.filter(part => part.startsWith("data: ")).pop();
        if (last) onEvent(JSON.parse(last.slice(6)));
      }
    } finally { clearTimeout(dog); }
  }
  async function watch() {
    let wait = FIRST_PAUSE_MS;
    for (;;) {
      let ended = 0, why = "";
      try {
        ended = await stream(status => { wait = FIRST_PAUSE_MS; write("link", ""); $("ask").hidden = true; show(status); });
      } catch (error) { why = error instanceof TypeError || error.name === "AbortError" ? "" : ": " + error.message; }
      if (ended === BAD) {
        write("refused", sessionStorage.getItem(TOKEN) ? "The kernel does not accept this token." : "");
        sessionStorage.removeItem(TOKEN);
        write("link", "");
        await new Promise(done => {
          $("ask").hidden = false;
          $("token").focus();
          $("ask").onsubmit = event => { event.preventDefault(); sessionStorage.setItem(TOKEN, $("token").value.trim()); $("token").value = ""; done(); };
        });
        continue;
      }
      $("health").textContent = "no connection";
      $("health").className = "badge paused";
      write("link", "The kernel does not answer" + why + "; trying again");
      await pause(wait);
      wait = Math.min(2 * wait, LONGEST_PAUSE_MS);
    }
  }
  showTheme();
  watch();
})();

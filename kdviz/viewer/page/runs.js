// Runs: a list that follows them, and the curves of those that are ticked, laid over one another.

const runs = { rows: new Map(), curves: new Map(), ticked: null, metrics: ["top-1 on val", "training loss"] };
const COLUMNS = ["run", "state", "epoch", "images/s", "top-1 or AP", "method", "student", "data"];

function epochs(run) {
  return run.epochs === null ? String(run.epoch) : `${run.epoch} / ${run.epochs}`;
}

function fillRow(row, run) {
  const cells = row.children;
  cells[1].replaceChildren(h("span", { class: `state ${run.state}`, title: run.note }, run.state));
  cells[2].textContent = epochs(run);
  cells[3].textContent = short(run.rate, 5);
  const called = run.measure === "top-1" ? "" : `${run.measure} `;
  cells[4].textContent = run.score === null ? "–" : `${called}${percent(run.score)} ${run.split}`;
  cells[5].textContent = run.method || "–";
  cells[6].textContent = [run.student, run.seed === null ? null : `seed ${run.seed}`].filter(Boolean).join(", ");
  cells[7].textContent = run.data || "–";
}

function newRow(run, look) {
  const box = h("input", { type: "checkbox", checked: runs.ticked.has(run.id), onchange: () => {
    if (box.checked) runs.ticked.add(run.id);
    else runs.ticked.delete(run.id);
    drawCurves();
  } });
  const classes = ["name", "", "number", "number", "number", "optional", "optional", "optional"];
  const after = { 2: "epochs", 3: "images/s" }; // on a phone, where the columns have no heads
  const row = h("tr", { "data-run": run.id }, classes.map((one, at) => h("td", { class: one, "data-after": after[at] })));
  row.firstChild.append(h("label", {}, box, h("span", { class: `swatch ${look}` }), h("span", {}, run.name)));
  return row;
}

// The section, made once; later only what changed in it.
async function showRuns(section, list) {
  section.hidden = list.length === 0;
  if (!runs.ticked) {
    const latest = [...list].sort((a, b) => b.changed - a.changed).slice(0, 6);
    runs.ticked = new Set(latest.map((one) => one.id));
  }
  if (!runs.body && list.length) {
    runs.body = h("tbody");
    runs.charts = h("div", { class: "charts" });
    runs.notes = h("div", {});
    section.replaceChildren(h("h2", { id: "runs-heading" }, "Runs"),
      h("div", { class: "wide" }, h("table", {}, h("thead", {}, h("tr", {}, COLUMNS.map((one, at) => h("th", { scope: "col", class: at > 4 ? "optional" : at > 1 && at < 5 ? "number" : null }, one)))), runs.body)),
      runs.notes, runs.charts);
  }
  if (!runs.body) return;
  let changed = false;
  list.forEach((run, at) => {
    const known = runs.rows.get(run.id);
    if (!known && run.state === "running") runs.ticked.add(run.id);
    const entry = known || { look: `s${runs.rows.size % 8}` };
    entry.row = entry.row || newRow(run, entry.look);
    if (!known || known.run.epoch !== run.epoch || known.run.changed !== run.changed) {
      runs.curves.delete(run.id);
      changed = true;
    }
    entry.run = run;
    fillRow(entry.row, run);
    runs.rows.set(run.id, entry);
    if (runs.body.children[at] !== entry.row) runs.body.insertBefore(entry.row, runs.body.children[at] || null);
  });
  for (const [id, entry] of runs.rows) {
    if (list.some((one) => one.id === id)) continue;
    entry.row.remove();
    runs.rows.delete(id);
    changed = true;
  }
  const noted = list.filter((one) => one.note && one.state === "failed");
  runs.notes.replaceChildren(...noted.map((one) => h("p", { class: "bad" }, `${one.name}: ${one.note}`)));
  if (changed) await drawCurves();
}

async function drawCurves() {
  const shown = [...runs.rows.values()].filter((one) => runs.ticked.has(one.run.id));
  for (const { run } of shown) {
    if (!runs.curves.has(run.id)) runs.curves.set(run.id, await ask(`/api/curves?id=${run.id}`));
  }
  const columns = [...new Set(shown.flatMap(({ run }) => Object.keys(runs.curves.get(run.id).columns)))];
  if (columns.length === 0) {
    runs.charts.replaceChildren(h("p", { class: "soft" }, "No run that is ticked has a finished epoch."));
    return;
  }
  const charts = runs.metrics.map((metric, at) => {
    const name = columns.includes(metric) ? metric : columns[Math.min(at, columns.length - 1)];
    const share = /^(top-1|AP)/.test(name) ? 100 : 1;
    const series = shown.filter(({ run }) => runs.curves.get(run.id).columns[name]).map(({ run, look }) => {
      const { epoch, columns: all } = runs.curves.get(run.id);
      return { name: run.name, look, x: epoch, y: all[name].map((one) => (one === null ? null : share * one)) };
    });
    const pick = select(`curve ${at + 1}`, columns.map((one) => [one, one]), name, (value) => {
      runs.metrics[at] = value;
      drawCurves();
    });
    return h("div", {}, pick, lineChart({ name, xname: "epoch", yname: share > 1 ? `${name}, per cent` : name, series }));
  });
  const focused = document.activeElement && document.activeElement.getAttribute("aria-label");
  const inside = runs.charts.contains(document.activeElement);
  runs.charts.replaceChildren(...charts);
  if (inside) [...runs.charts.querySelectorAll("[aria-label]")].find((one) => one.getAttribute("aria-label") === focused)?.focus();
}

function showTables(section, list) {
  section.hidden = list.length === 0;
  section.replaceChildren(h("h2", { id: "tables-heading" }, "Tables"), ...list.map((one) => {
    if (one.error) return h("p", { class: "bad" }, one.error);
    const counts = `${one.done} of ${one.total} runs done, ${one.running} running, ${one.waiting} waiting${one.failed ? `, ${one.failed} failed` : ""}`;
    return h("div", {}, h("h3", {}, one.name), h("progress", { max: Math.max(1, one.total), value: one.done, "aria-label": `${one.name}: ${counts}` }), h("p", { class: "soft" }, counts),
      one.now.length ? h("p", { class: "soft" }, `running: ${one.now.join(", ")}`) : null,
      one.errors.map((line) => h("p", { class: "bad" }, `${line.id}: ${line.line}`)));
  }));
}

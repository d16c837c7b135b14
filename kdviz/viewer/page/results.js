// A result: its view by kind, what is chosen in it, its facts and its numbers to take away.

const bar = (...buttons) => h("div", { class: "row" }, buttons);

// Buttons of which one is pressed; `pick(name)` is called with the pressed one, at first with `first`.
function choice(label, names, first, pick, titles = names) {
  const buttons = names.map((name, at) => h("button", { type: "button", onclick: () => press(name) }, titles[at]));
  const press = (name) => {
    buttons.forEach((one, at) => one.setAttribute("aria-pressed", names[at] === name));
    pick(name);
  };
  press(names.includes(first) ? first : names[0]);
  return h("div", { class: "row", role: "group", "aria-label": label }, buttons);
}

function select(label, options, chosen, pick) {
  const box = h("select", { "aria-label": label, onchange: () => pick(box.value) }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return box;
}

// `choose(what)` puts the choice into the address; `chosen` is what the address says at first.
const VIEWS = {
  grid: (view) => {
    const place = h("div");
    const titles = view.panels.map((one) => one.title);
    const bars = choice("what is drawn", view.panels.map((one) => one.name), null, (name) => place.replaceChildren(surface(view, view.panels.find((one) => one.name === name))), titles);
    return h("div", {}, view.panels.length > 1 ? bars : null, place);
  },
  lines: (view) => h("div", { class: "charts" }, view.panels.map((one) => lineChart({
    name: one.title, xname: view.xname, yname: one.unit ? `${one.title} (${one.unit})` : one.title,
    series: one.lines.map((y, at) => ({ name: one.lines.length > 1 ? `line ${at + 1}` : one.title, look: `s${at % 8}`, x: view.x, y })),
  }))),
  histogram: (view, { samples, images, choose, chosen }) => {
    const [, space, net, bin] = chosen.match(/^bin:(\w+):(\w+):(\d+)$/) || [];
    const place = h("div");
    let nets = [];
    let which = net;
    const parts = view.spaces.map((one) => {
      nets = Object.keys(one.counts);
      const show = (at, who = which) => {
        const behind = one.behind[who][at];
        const channel = new Map(behind.ids.map((id, i) => [id, behind.channels[i]]));
        choose(`bin:${one.name}:${who}:${at}`);
        images.show(place, `${who}'s ${one.name} from ${short(one.edges[at])} to ${short(one.edges[at + 1])}`, behind.ids,
          { count: behind.count, note: (id) => `class in the bin: ${className(samples.names, channel.get(id))}` });
      };
      if (one.behind && space === one.name && one.behind[net] && one.behind[net][bin]) queueMicrotask(() => show(Number(bin), net));
      return histogram({
        name: one.name, xname: one.name === "logit" ? "logit" : `probability at temperature ${short(view.temperature)}`, edges: one.edges,
        series: nets.map((who) => ({ name: who, look: who === "teacher" ? "teacher" : "s1", counts: one.counts[who] })),
        choose: one.behind ? (at) => show(at) : null, chosen: space === one.name ? Number(bin) : undefined,
        describe: one.behind ? (at) => `; ${one.behind[which][at].count} images` : null,
      });
    });
    which = nets.includes(net) ? net : nets[nets.length - 1];
    const whose = h("div", { class: "row" }, h("span", {}, "A bin shows images by the values of the"), choice("whose values", nets, which, (who) => (which = who)));
    const without = h("p", { class: "soft" }, "Images behind the bins need this net's logits (.nc), which kdviz histogram writes beside its result.");
    place.append(view.spaces[0].behind ? whose : without, h("div", { class: "charts" }, parts));
    return place;
  },
  tau: (view, { samples, images, choose, chosen }) => {
    const level = `${Math.round(100 * view.level)} % interval`;
    const means = view.means.length ? table(["student against teacher", "mean", level], view.means.map(([name, mean, low, high]) => [name.replaceAll("_", "-"), short(mean, 4), `${short(low, 4)} to ${short(high, 4)}`])) : null;
    return h("div", {}, means, tauTail(samples, images, choose, chosen));
  },
  samples: (view, { samples, images, choose, chosen }) => {
    const parts = [];
    if (samples.tau) parts.push(h("h3", {}, "Kendall's τ of each sample"), tauTail(samples, images, choose, chosen));
    if (samples.student) parts.push(confusion(samples, images, choose, chosen));
    if (samples.embeddings.length) parts.push(embedding(samples, images, choose, chosen));
    return h("div", {}, parts);
  },
  confusion: (view, { samples, images, choose, chosen }) => confusion(samples, images, choose, chosen, "teacher"),
  cells: (view, { samples, images, choose, chosen }) => flips(samples, images, choose, chosen) || h("p", {}, "No labels, so that nothing is right or wrong."),
  embedding: (view, { samples, images, choose, chosen }) => embedding(samples, images, choose, chosen),
  cases: (view) => h("div", {}, view.pairs.map((pair) => h("div", { class: "pair" }, h("ul", { class: "cards" }, pair.map((one) =>
    card({ ...one, names: view.names, notes: [`KL ${short(one.kl, 3)} nats`] })))))),
  table: (view) => {
    const { measured, std, published } = view.cells;
    const cell = (r, c) => {
      const value = measured[r][c];
      if (value === null) return published[r][c] === null ? "–" : h("span", { class: "soft" }, `(${short(published[r][c])})`);
      const spread = std && std[r][c] !== null ? ` ± ${short(std[r][c], 2)}` : "";
      return h("span", {}, `${value.toFixed(2)}${spread}`, published[r][c] === null ? "" : h("span", { class: "soft" }, ` (${short(published[r][c])})`));
    };
    return table([view.title, ...view.columns], view.rows.map((row, r) => [row, ...view.columns.map((_, c) => cell(r, c))]), "Measured: mean ± standard deviation over seeds; in brackets: as printed.");
  },
};

function tauTail(samples, images, choose, chosen) {
  const known = samples.tau.map((one, at) => [one, samples.ids[at]]).filter((one) => one[0] !== null).sort((a, b) => a[0] - b[0]);
  if (known.length === 0) return h("p", { class: "soft" }, "No sample has a τ.");
  const [low, high] = [known[0][0], known[known.length - 1][0]];
  const width = (high - low) / 40 || 0.01;
  const edges = Array.from({ length: 41 }, (_, at) => low + at * width);
  const bins = edges.slice(1).map(() => []);
  for (const [tau, id] of known) bins[Math.min(39, Math.floor((tau - low) / width))].push(id);
  const place = h("div");
  const show = (at) => {
    choose(`tau:${at}`);
    images.show(place, `τ from ${short(edges[at], 3)} to ${short(edges[at + 1], 3)}`, bins[at]);
  };
  const tail = () => {
    choose("low-tau");
    images.show(place, "The lowest 5 % of τ", known.slice(0, Math.max(1, Math.ceil(known.length / 20))).map((one) => one[1]));
  };
  const bin = (chosen.match(/^tau:(\d+)$/) || [])[1];
  if (chosen === "low-tau") queueMicrotask(tail);
  else if (bin !== undefined && bins[bin]) queueMicrotask(() => show(Number(bin)));
  place.append(
    histogram({ name: "Kendall's τ", xname: "Kendall's τ (b)", edges, series: [{ name: "samples", look: "s0", counts: bins.map((one) => one.length) }], choose: show, chosen: bin === undefined ? undefined : Number(bin) }),
    bar(h("button", { type: "button", id: "low-tau", onclick: tail }, "Show the lowest 5 % of τ")));
  return place;
}

function confusion(samples, images, choose, chosen, preferred = "label") {
  const names = (at) => className(samples.names, at);
  const first = (net) => net.top.map((one) => one[0]);
  const columns = first(samples.student);
  const sides = {};
  if (samples.target) sides.label = samples.target;
  if (samples.teacher) sides.teacher = first(samples.teacher);
  const classes = Math.max(samples.names ? samples.names.length : 0, ...columns.map((one) => one + 1), ...Object.values(sides).flat().map((one) => one + 1));
  const [, side, row, column] = chosen.match(/^cell:(\w+):(\d+):(\d+)$/) || [];
  const place = h("div");
  const draw = (who) => {
    const cells = new Map(); // few of the cells of many classes are filled
    sides[who].forEach((one, at) => cells.set(one * classes + columns[at], (cells.get(one * classes + columns[at]) || 0) + 1));
    const counts = classes > 1000 ? null : Array.from({ length: classes }, (_, r) => Array.from({ length: classes }, (_, c) => cells.get(r * classes + c) || 0));
    const show = (r, c) => {
      choose(`cell:${who}:${r}:${c}`);
      images.show(place, `${who} ${names(r)}, student ${names(c)}`, samples.ids.filter((_, at) => sides[who][at] === r && columns[at] === c));
    };
    const most = [...cells].map(([cell, count]) => [count, Math.floor(cell / classes), cell % classes]).filter(([, r, c]) => r !== c).sort((a, b) => b[0] - a[0]).slice(0, 12);
    place.replaceChildren(
      counts ? matrix({ name: "Confusion", counts, names, rowname: who, columnname: "student", choose: show, chosen: who === side ? [Number(row), Number(column)] : null }) : h("p", {}, `${classes} classes are too many to draw`),
      h("div", { class: "row", role: "group", "aria-label": "most confused" }, most.map(([count, r, c]) => h("button", { type: "button", onclick: () => show(r, c) }, `${names(r)} → ${names(c)} (${count})`))));
    if (who === side && row < classes && column < classes) queueMicrotask(() => show(Number(row), Number(column)));
  };
  const kinds = Object.keys(sides);
  if (kinds.length === 0) return null;
  return h("div", {}, h("h3", {}, "Which class the student puts where"), choice("rows", kinds, side || preferred, draw, kinds.map((one) => `by ${one}`)), place, flips(samples, images, choose, chosen));
}

// The four cells teacher right or wrong x student right or wrong.
function flips(samples, images, choose, chosen) {
  if (!samples.target || !samples.teacher) return null;
  const ids = { "1:1": [], "1:0": [], "0:1": [], "0:0": [] };
  samples.target.forEach((one, at) => ids[`${Number(samples.teacher.top[at][0] === one)}:${Number(samples.student.top[at][0] === one)}`].push(samples.ids[at]));
  const say = (right) => (right === "1" ? "right" : "wrong");
  const show = (key) => {
    choose(`four:${key}`);
    const [teacher, student] = key.split(":");
    images.show(place, `Teacher ${say(teacher)}, student ${say(student)}`, ids[key]);
  };
  const key = chosen.startsWith("four:") ? chosen.slice(5) : "";
  if (ids[key]) queueMicrotask(() => show(key));
  const place = h("div");
  const cell = (one) => h("button", { type: "button", onclick: () => show(one), "aria-label": `teacher ${say(one[0])}, student ${say(one[2])}: ${ids[one].length} samples` }, String(ids[one].length));
  place.append(h("div", { class: "wide" }, h("table", { class: "four" }, h("tbody", {},
    h("tr", {}, h("td"), h("th", { scope: "col" }, "student right"), h("th", { scope: "col" }, "student wrong")),
    ["1", "0"].map((one) => h("tr", {}, h("th", { scope: "row" }, `teacher ${say(one)}`), h("td", {}, cell(`${one}:1`)), h("td", {}, cell(`${one}:0`))))))));
  return place;
}

function embedding(samples, images, choose, chosen) {
  const place = h("div");
  const [, first, sample] = chosen.match(/^point:(\d+):(\d+)$/) || [];
  const right = (at) => !samples.student || !samples.target || samples.student.top[at][0] === samples.target[at];
  const label = (at) => (samples.target ? className(samples.names, samples.target[at]) : "");
  const draw = (which) => {
    const { name, x, y } = samples.embeddings[which];
    const at = String(which) === first ? samples.ids.indexOf(Number(sample)) : -1;
    const show = (at) => {
      choose(`point:${which}:${samples.ids[at]}`);
      const near = x.map((one, i) => [(one - x[at]) ** 2 + (y[i] - y[at]) ** 2, i]).filter((one) => x[one[1]] !== null && one[1] !== at).sort((a, b) => a[0] - b[0]).slice(0, 11);
      images.show(place, `Sample ${samples.ids[at]} and the samples nearest to it`, [at, ...near.map((one) => one[1])].map((i) => samples.ids[i]));
    };
    const parts = [{ name: "student right", look: "s0" }, { name: "student wrong", look: "s1" }];
    place.replaceChildren(scatter({ name, x, y, looks: (at) => (right(at) ? "--s0" : "--s1"), legend: parts, describe: (at) => `sample ${samples.ids[at]} ${label(at)}, student ${right(at) ? "right" : "wrong"}`, choose: show, chosen: at }));
    if (at >= 0) queueMicrotask(() => show(at));
  };
  const options = samples.embeddings.map((one, at) => [String(at), one.name]);
  draw(Number(first) < options.length ? Number(first) : 0);
  return h("div", {}, h("h3", {}, "Embedding"), select("embedding", options, first || "0", (value) => draw(Number(value))), place);
}

// Each measure of the student and of the nets beside it, with its interval.
function numbersTable({ measure, compared, mean, low, high }) {
  const cell = (r, c) => (mean[r][c] === null ? "–" : low[r][c] === null ? short(mean[r][c], 3) : `${short(mean[r][c], 3)}\n[${short(low[r][c], 3)}, ${short(high[r][c], 3)}]`);
  return table(["", ...compared], measure.map((name, r) => [name, ...compared.map((_, c) => cell(r, c))]));
}

function figures(result) {
  if (result.figures.length === 0) return h("p", { class: "soft" }, "There is no figure of this kind; its numbers are below.");
  return h("div", {}, result.figures.map((style) => {
    const request = `/figure?id=${result.id}&style=${style}`;
    const source = answers ? answers[request] : request;
    return source ? h("p", {}, h("img", { class: "figure", src: source, alt: `${result.kind}: ${style}`, loading: "lazy" })) : null;
  }));
}

function downloads(result) {
  const link = (name, form) => {
    const request = `/download?id=${result.id}&table=${encodeURIComponent(name)}&as=${form}`;
    const file = `${result.kind}_${name}.${form}`;
    if (!answers) return h("a", { href: request, download: file }, form);
    const text = answers[request];
    if (text === undefined) return null;
    return h("a", { href: `#`, download: file, onclick: (event) => save(event, file, text) }, form);
  };
  const lines = result.tables.map((name) => [name, link(name, "csv"), link(name, "tex")]).filter((one) => one[1]);
  if (!lines.length) return null;
  return h("details", {}, h("summary", {}, "The figures' numbers (csv, or tex for pgfplots)"),
    table(["over", "", ""], lines));
}

function save(event, file, text) {
  event.preventDefault();
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  h("a", { href: url, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// The whole detail of a result; `chosen` is the part of the address that says what is chosen inside it.
async function resultDetail(id, chosen, choose) {
  const result = await ask(`/api/result?id=${id}`);
  const view = result.view;
  const wants = view && ["histogram", "tau", "samples", "confusion", "cells", "embedding"].includes(view.type) && result.samples;
  const samples = wants ? await ask(`/api/samples?id=${result.samples}`) : null;
  const images = wants ? panel(result.samples, samples) : null;
  return h("div", {},
    h("h3", {}, `${result.kind}${result.label ? `: ${result.label}` : ""}`),
    h("p", { class: "soft" }, result.name),
    result.finding ? h("p", {}, result.finding) : null,
    result.numbers ? numbersTable(result.numbers) : null,
    view ? VIEWS[view.type](view, { samples, images, choose, chosen }) : figures(result),
    result.caption ? h("p", { class: "soft" }, result.caption) : null,
    downloads(result),
    h("details", {}, h("summary", {}, "Where it comes from"), table(["attribute", "value"], result.facts)));
}

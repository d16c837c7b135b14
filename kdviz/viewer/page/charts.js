// Lines and histograms as SVG, read by pointer and by arrow keys.

const MARGIN = { left: 50, right: 10, top: 26, bottom: 40 };

function scale(low, high, from, to, log) {
  const f = log ? Math.log10 : (value) => value;
  const [a, b] = [f(low), f(high)];
  const place = (value) => from + ((f(value) - a) / (b - a || 1)) * (to - from);
  place.ticks = log ? powers(low, high) : ticks(low, high);
  return place;
}

function ticks(low, high, most = 6) {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / most));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => span / one <= most);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(Number((at * step).toPrecision(12)));
  return found;
}

function powers(low, high) {
  const found = [];
  const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const step = Math.max(1, Math.ceil((last - first + 1) / 6));
  for (let at = first; at <= last; at += step) found.push(10 ** at);
  return found.length > 1 ? found : ticks(low, high).filter((one) => one > 0);
}

function frame(width, height, x, y, xname, yname) {
  const bottom = height - MARGIN.bottom;
  return [
    y.ticks.map((one) => [
      svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(one), y2: y(one) }),
      svg("text", { x: MARGIN.left - 6, y: y(one) + 4, "text-anchor": "end" }, short(one)),
    ]),
    x.ticks.map((one) => svg("text", { x: x(one), y: bottom + 16, "text-anchor": "middle" }, short(one))),
    svg("text", { x: (MARGIN.left + width) / 2, y: height - 6, "text-anchor": "middle" }, xname),
    svg("text", { x: 2, y: 12 }, yname),
  ];
}

function legend(series) {
  return h("ul", { class: "legend" }, series.map((one) => h("li", {}, h("span", { class: `swatch ${one.look}` }), h("span", {}, one.name))));
}

// Arrow keys move a cursor along `count` places, Home and End to its ends, Enter and space choose.
function keys(element, { count, at, move, choose }) {
  element.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: at() + 1, ArrowLeft: at() - 1, Home: 0, End: count - 1 };
    if (event.key in steps) move(Math.min(count - 1, Math.max(0, steps[event.key])));
    else if ((event.key === "Enter" || event.key === " ") && choose) choose(at());
    else return;
    event.preventDefault();
  });
}

// Series {name, look, x, y} as lines; `y` may hold null. The readout says all values at the cursor.
function lineChart({ name, xname, yname, series }) {
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const xs = [...new Set(series.flatMap((one) => one.x))].sort((a, b) => a - b);
  const ys = series.flatMap((one) => one.y).filter((one) => one !== null);
  if (ys.length === 0) return h("p", { class: "soft" }, `${name}: nothing to show yet`);
  let [low, high] = [Math.min(...ys), Math.max(...ys)];
  const log = low > 0 && high / low > 50;
  if (low === high) [low, high] = [low - Math.abs(low || 1) / 10, high + Math.abs(high || 1) / 10];
  const [left, right] = xs.length > 1 ? [xs[0], xs[xs.length - 1]] : [xs[0] - 1, xs[0] + 1];
  let cursor = -1;
  const box = sized((width) => {
    const height = Math.min(300, Math.max(200, width * 0.55));
    const x = scale(left, right, MARGIN.left + 6, width - MARGIN.right - 8);
    const y = scale(low, high, height - MARGIN.bottom - 4, MARGIN.top + 4, log);
    if (xs.every(Number.isInteger)) x.ticks = x.ticks.filter(Number.isInteger);
    const lines = series.map((one) => {
      const points = one.x.map((at, i) => [at, one.y[i]]).filter((point) => point[1] !== null);
      const path = points.map(([a, b], i) => `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
      const dots = points.length <= 40 ? points.map(([a, b]) => svg("circle", { class: "dot", cx: x(a), cy: y(b), r: 2.5 })) : [];
      return svg("g", { class: one.look }, svg("path", { class: "series", d: path }), dots);
    });
    const mark = svg("line", { class: "cursor", y1: MARGIN.top, y2: height - MARGIN.bottom, x1: -9, x2: -9 });
    const picture = svg("svg", { width, height, tabindex: 0, role: "img", "aria-label": `${name}: ${series.map((one) => one.name).join(", ")}. Arrow keys read the values.` },
      frame(width, height, x, y, xname, log ? `${yname} (log)` : yname), lines, mark);
    const move = (at) => {
      cursor = at;
      for (const end of ["x1", "x2"]) mark.setAttribute(end, x(xs[at]));
      const values = series.map((one) => [one.name, one.y[one.x.indexOf(xs[at])]]).filter((one) => one[1] !== undefined && one[1] !== null);
      readout.textContent = `${xname} ${short(xs[at])}: ${values.map(([who, value]) => `${who} ${short(value)}`).join("; ") || "no value"}`;
    };
    keys(picture, { count: xs.length, at: () => cursor, move });
    picture.addEventListener("pointermove", (event) => {
      const at = event.clientX - picture.getBoundingClientRect().left;
      move(xs.reduce((best, one, i) => (Math.abs(x(one) - at) < Math.abs(x(xs[best]) - at) ? i : best), 0));
    });
    return picture;
  });
  return h("figure", {}, box, series.length > 1 ? legend(series) : null, readout);
}

// Counts {name, look, counts} over bins with these edges; a bin is chosen by click or Enter.
function histogram({ name, xname, edges, series, describe, choose, chosen }) {
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const bins = edges.length - 1;
  const shares = series.map((one) => {
    const total = one.counts.reduce((sum, count) => sum + count, 0) || 1;
    return one.counts.map((count) => count / total);
  });
  const positive = shares.flat().filter((one) => one > 0);
  const [low, high] = [Math.min(...positive) / 1.5, Math.max(...positive) * 1.1];
  const log = high / low > 50;
  let cursor = chosen ?? -1;
  const box = sized((width) => {
    const height = Math.min(320, Math.max(220, width * 0.45));
    const floor = height - MARGIN.bottom;
    const x = scale(edges[0], edges[bins], MARGIN.left, width - MARGIN.right);
    const y = scale(log ? low : 0, high, floor, MARGIN.top, log);
    const top = (share) => (share > 0 ? y(share) : floor);
    const outlines = series.map((one, i) => {
      const steps = shares[i].map((share, at) => `L${x(edges[at]).toFixed(1)} ${top(share).toFixed(1)}L${x(edges[at + 1]).toFixed(1)} ${top(share).toFixed(1)}`).join("");
      const path = `M${x(edges[0])} ${floor}${steps}L${x(edges[bins])} ${floor}`;
      return svg("g", { class: one.look }, i === 0 ? svg("path", { class: "area", d: path }) : null, svg("path", { class: "series", d: path }));
    });
    const shade = svg("rect", { class: "chosen", y: MARGIN.top, height: floor - MARGIN.top, width: 0, x: 0 });
    const move = (at) => {
      cursor = at;
      if (at < 0) return;
      shade.setAttribute("x", x(edges[at]));
      shade.setAttribute("width", x(edges[at + 1]) - x(edges[at]));
      readout.textContent = `${xname} ${short(edges[at])} to ${short(edges[at + 1])}: ${series.map((one) => `${one.name} ${one.counts[at]}`).join(", ")}${describe ? describe(at) : ""}`;
    };
    const pick = (at) => {
      move(at);
      if (choose) choose(at);
    };
    const hits = Array.from({ length: bins }, (_, at) =>
      svg("rect", { class: "hit", "data-bin": at, x: x(edges[at]), width: Math.max(1, x(edges[at + 1]) - x(edges[at])), y: MARGIN.top, height: floor - MARGIN.top, onclick: () => pick(at), onpointerenter: () => move(at) }));
    const use = choose ? "Arrow keys move along the bins, Enter shows the images of one." : "Arrow keys move along the bins.";
    const picture = svg("svg", { width, height, tabindex: 0, role: "application", "aria-label": `${name}: histogram. ${use}` },
      frame(width, height, x, y, xname, log ? "share of values (log)" : "share of values"), outlines, shade, hits);
    keys(picture, { count: bins, at: () => cursor, move, choose: choose ? (at) => at >= 0 && pick(at) : null });
    move(cursor);
    return picture;
  });
  return h("figure", {}, box, legend(series), readout);
}

// A surface over a plane, turned by mouse, touch and keys: painter's algorithm on a canvas.

// Nine colours of viridis; between them straight lines in RGB.
const VIRIDIS = [[68, 1, 84], [72, 40, 120], [62, 74, 137], [49, 104, 142], [38, 130, 142], [31, 158, 137], [53, 183, 121], [109, 205, 89], [253, 231, 37]];

function viridis(share, light = 1) {
  const at = Math.min(0.9999, Math.max(0, share)) * (VIRIDIS.length - 1);
  const [a, b] = [VIRIDIS[Math.floor(at)], VIRIDIS[Math.floor(at) + 1]];
  return `rgb(${a.map((one, i) => Math.round((one + (b[i] - one) * (at % 1)) * light)).join(",")})`;
}

const camera = { turn: -0.65, tilt: 0.7, zoom: 1 }; // shared, so that the next surface is seen from the same side

// Heights of a panel as shares of its range; on a log scale where all are positive and far apart.
function heights(panel) {
  const flat = panel.values.flat().filter((one) => one !== null);
  const [low, high] = [Math.min(...flat), Math.max(...flat)];
  const log = low > 0 && high / low > 10;
  const f = log ? Math.log10 : (value) => value;
  const share = (value) => (f(value) - f(low)) / (f(high) - f(low) || 1);
  const marks = log ? powers(low, high) : ticks(low, high, 5);
  return { share, log, ticks: marks.filter((one) => one >= low * (1 - 1e-9) && one <= high * (1 + 1e-9) || !log), low, high };
}

function surface(view, panel) {
  const scaled = heights(panel);
  const canvas = h("canvas", { class: "surface", tabindex: 0, role: "application", "aria-label": `${panel.title} over two directions: from ${short(scaled.low)} to ${short(scaled.high)}. Arrow keys turn it, plus and minus zoom, 0 turns it back.` });
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const unit = panel.unit ? ` ${panel.unit}` : "";
  const points = view.y.map((b, j) => view.x.map((a, i) => point(view, scaled, a, b, panel.values[j][i])));
  let [width, height] = [0, 0];
  let screen = [];

  function draw() {
    if (!width) return;
    const pen = board(canvas, width, height);
    const project = projection(width, height);
    screen = points.map((row) => row.map((one) => (one ? { ...project(one), at: one } : null)));
    drawBox(pen, project, view, scaled, "back");
    drawFacets(pen, screen);
    drawBox(pen, project, view, scaled, "front");
    drawMarks(pen, project, view, panel, scaled);
  }

  const box = sized((now) => {
    width = now;
    height = Math.round(Math.min(520, Math.max(300, now * 0.72)));
    draw();
    return canvas;
  });
  const turn = (by, up) => {
    camera.turn += by;
    camera.tilt = Math.min(1.55, Math.max(0, camera.tilt + up));
    draw();
  };
  const zoom = (by) => {
    camera.zoom = Math.min(3, Math.max(0.6, camera.zoom * by));
    draw();
  };
  const reset = () => {
    Object.assign(camera, { turn: -0.65, tilt: 0.7, zoom: 1 });
    draw();
  };
  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    held = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (held) {
      turn((event.clientX - held[0]) / 150, (event.clientY - held[1]) / 150);
      held = [event.clientX, event.clientY];
      return;
    }
    const place = canvas.getBoundingClientRect();
    const near = nearest(screen.flat().filter(Boolean), event.clientX - place.left, event.clientY - place.top);
    if (near) readout.textContent = `α ${short(near.at.alpha, 3)}, β ${short(near.at.beta, 3)}: ${short(near.at.value, 5)}${unit}`;
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (held = null));
  canvas.addEventListener("keydown", (event) => {
    const does = { ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, 0.08), ArrowDown: () => turn(0, -0.08), "+": () => zoom(1.15), "=": () => zoom(1.15), "-": () => zoom(1 / 1.15), 0: reset }[event.key];
    if (!does) return;
    does();
    event.preventDefault();
  });
  const buttons = [["Turn left", "↺", () => turn(-0.25, 0)], ["Turn right", "↻", () => turn(0.25, 0)], ["Zoom in", "+", () => zoom(1.2)], ["Zoom out", "−", () => zoom(1 / 1.2)], ["Turn back", "reset", reset]];
  const bar = h("div", { class: "row" }, buttons.map(([name, sign, does]) => h("button", { type: "button", "aria-label": name, title: name, onclick: does }, sign)));
  const scaleText = `Height and colour: ${panel.title}${panel.unit ? ` (${panel.unit})` : ""}${scaled.log ? ", on a log scale" : ""}; facets between the points that were measured.`;
  return h("figure", {}, box, bar, readout, h("figcaption", {}, scaleText));
}

function span(axis, value) {
  const [low, high] = [axis[0], axis[axis.length - 1]];
  return (2 * (value - low)) / (high - low || 1) - 1;
}

function point(view, scaled, alpha, beta, value) {
  if (value === null) return null;
  return { x: span(view.x, alpha), y: span(view.y, beta), z: 1.2 * scaled.share(value) - 0.6, share: scaled.share(value), alpha, beta, value };
}

// Orthographic: `depth` grows away from the reader.
function projection(width, height) {
  const size = camera.zoom * Math.min((width - 80) / 2.83, height / 2.75);
  const [cos, sin] = [Math.cos(camera.turn), Math.sin(camera.turn)];
  const [up, flat] = [Math.cos(camera.tilt), Math.sin(camera.tilt)];
  return ({ x, y, z }) => {
    const [right, away] = [x * cos - y * sin, x * sin + y * cos];
    return { sx: width / 2 + size * right, sy: height / 2 - size * (z * up + away * flat), depth: away * up - z * flat };
  };
}

function drawFacets(pen, screen) {
  const facets = [];
  for (let j = 0; j + 1 < screen.length; j++) {
    for (let i = 0; i + 1 < screen[j].length; i++) {
      const corners = [screen[j][i], screen[j][i + 1], screen[j + 1][i + 1], screen[j + 1][i]];
      if (corners.every(Boolean)) facets.push({ corners, depth: corners.reduce((sum, one) => sum + one.depth, 0) });
    }
  }
  facets.sort((a, b) => b.depth - a.depth);
  pen.lineWidth = 0.6;
  for (const { corners } of facets) {
    const share = corners.reduce((sum, one) => sum + one.at.share, 0) / 4;
    const slope = (corners[1].at.z - corners[0].at.z) * 4 - (corners[3].at.z - corners[0].at.z) * 2;
    pen.fillStyle = viridis(share, 0.88 + 0.12 * Math.tanh(slope));
    pen.strokeStyle = viridis(share, 0.7);
    pen.beginPath();
    corners.forEach((one, at) => (at ? pen.lineTo(one.sx, one.sy) : pen.moveTo(one.sx, one.sy)));
    pen.closePath();
    pen.fill();
    pen.stroke();
  }
}

// The floor with its two axes, and the upright edge farthest to the left with the heights.
function drawBox(pen, project, view, scaled, part) {
  const [line, soft] = ["--line", "--soft"].map(inkOf);
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) => ({ x, y, z: -0.6 }));
  const flat = corners.map(project);
  pen.strokeStyle = line;
  pen.fillStyle = soft;
  pen.font = "12px system-ui, sans-serif";
  pen.lineWidth = 1;
  if (part === "back") {
    pen.beginPath();
    flat.forEach((one, at) => (at ? pen.lineTo(one.sx, one.sy) : pen.moveTo(one.sx, one.sy)));
    pen.closePath();
    pen.stroke();
    return;
  }
  const nearestCorner = flat.reduce((best, one, at) => (one.depth < flat[best].depth ? at : best), 0);
  const write = (text, { sx, sy }, from) => {
    pen.textAlign = sx < from.sx ? "right" : "left";
    pen.fillText(text, sx + (sx < from.sx ? -6 : 6), sy + 12);
  };
  const centre = project({ x: 0, y: 0, z: -0.6 });
  for (const [name, axis, along] of [["α", view.x, "x"], ["β", view.y, "y"]]) {
    const across = along === "x" ? "y" : "x";
    const side = corners[nearestCorner][across];
    const place = (value) => project({ [along]: span(axis, value), [across]: side, z: -0.6 });
    const corner = along === "y" ? axis[(corners[nearestCorner].y + 1) / 2 ? axis.length - 1 : 0] : null; // one number there
    for (const value of ticks(axis[0], axis[axis.length - 1], 4)) if (value !== corner) write(short(value, 3), place(value), centre);
    const middle = project({ [along]: 0.25, [across]: 1.28 * side, z: -0.6 });
    write(name, middle, centre);
  }
  const left = flat.reduce((best, one, at) => (one.sx < flat[best].sx ? at : best), 0);
  const edge = (z) => project({ ...corners[left], z });
  pen.beginPath();
  pen.moveTo(edge(-0.6).sx, edge(-0.6).sy);
  pen.lineTo(edge(0.6).sx, edge(0.6).sy);
  pen.stroke();
  pen.textAlign = "right";
  for (const value of scaled.ticks) {
    const { sx, sy } = edge(1.2 * scaled.share(value) - 0.6);
    pen.fillText(short(value, 3), sx - 6, sy + 4);
  }
}

// Trained weights and checkpoints on pins; a run's path as a line on the surface.
function drawMarks(pen, project, view, panel, scaled) {
  const places = view.marks.x.map((a, at) => {
    const [i, j] = [closest(view.x, a), closest(view.y, view.marks.y[at])];
    const under = point(view, scaled, view.x[i], view.y[j], panel.values[j][i]);
    return under && { ...under, x: span(view.x, a), y: span(view.y, view.marks.y[at]), name: view.marks.names[at] };
  }).filter(Boolean);
  pen.strokeStyle = pen.fillStyle = "#d43d2a";
  pen.lineWidth = 2;
  pen.textAlign = "center";
  if (view.marks.path) {
    pen.beginPath();
    places.map(project).forEach((one, at) => (at ? pen.lineTo(one.sx, one.sy) : pen.moveTo(one.sx, one.sy)));
    pen.stroke();
  }
  places.forEach((one, at) => {
    const [foot, head] = [project(one), project({ ...one, z: view.marks.path ? one.z : 0.75 })];
    pen.beginPath();
    pen.moveTo(foot.sx, foot.sy);
    pen.lineTo(head.sx, head.sy);
    pen.stroke();
    pen.beginPath();
    pen.arc(foot.sx, foot.sy, 3, 0, 7);
    pen.fill();
    if (!view.marks.path || at === 0 || at === places.length - 1) label(pen, one.name, head);
  });
}

// A name that can be read on any colour.
function label(pen, text, { sx, sy }) {
  pen.save();
  pen.strokeStyle = inkOf("--card");
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  pen.strokeText(text, sx, sy - 7);
  pen.fillStyle = inkOf("--ink");
  pen.fillText(text, sx, sy - 7);
  pen.restore();
}

function closest(axis, value) {
  return axis.reduce((best, one, at) => (Math.abs(one - value) < Math.abs(axis[best] - value) ? at : best), 0);
}

function nearest(places, x, y, reach = 40) {
  let [best, least] = [null, reach ** 2];
  for (const one of places) {
    const distance = (one.sx - x) ** 2 + (one.sy - y) ** 2;
    if (distance < least) [best, least] = [one, distance];
  }
  return best;
}

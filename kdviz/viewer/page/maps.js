// A confusion matrix and an embedding on canvases; cells and points are chosen by pointer or keys.

// counts[row][column]; the diagonal is agreement and drawn apart.
function matrix({ name, counts, names, rowname, columnname, choose, chosen }) {
  const size = counts.length;
  const most = Math.max(1, ...counts.flatMap((row, r) => row.filter((_, c) => c !== r)));
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const canvas = h("canvas", { class: "map", tabindex: 0, role: "application", "aria-label": `${name}: rows are ${rowname}, columns ${columnname}. Arrow keys move, Enter shows the images of a cell.` });
  let [cell, at] = [1, chosen || [0, 0]];
  const move = (row, column) => {
    at = [Math.min(size - 1, Math.max(0, row)), Math.min(size - 1, Math.max(0, column))];
    draw();
    readout.textContent = `${rowname} ${names(at[0])}, ${columnname} ${names(at[1])}: ${counts[at[0]][at[1]]}`;
  };
  function draw() {
    const side = cell * size;
    const pen = board(canvas, side + 2, side + 2);
    pen.strokeStyle = inkOf("--line");
    pen.strokeRect(0.5, 0.5, side + 1, side + 1);
    counts.forEach((row, r) => row.forEach((count, c) => {
      if (!count) return;
      pen.fillStyle = r === c ? inkOf("--soft") : inkOf("--s1");
      pen.globalAlpha = r === c ? 0.25 : 0.3 + 0.7 * Math.sqrt(count / most);
      pen.fillRect(1 + c * cell, 1 + r * cell, Math.max(1, cell - (cell > 6 ? 1 : 0)), Math.max(1, cell - (cell > 6 ? 1 : 0)));
    }));
    pen.globalAlpha = 1;
    pen.strokeStyle = inkOf("--mark");
    pen.lineWidth = 2;
    pen.strokeRect(at[1] * cell, at[0] * cell, cell + 2, cell + 2);
  }
  const under = (event) => {
    const place = canvas.getBoundingClientRect();
    return [Math.floor((event.clientY - place.top - 1) / cell), Math.floor((event.clientX - place.left - 1) / cell)];
  };
  canvas.addEventListener("pointermove", (event) => move(...under(event)));
  canvas.addEventListener("click", (event) => {
    move(...under(event));
    choose(...at);
  });
  canvas.addEventListener("keydown", (event) => {
    const [r, c] = at;
    const to = { ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1] }[event.key];
    if (to) move(...to);
    else if (event.key === "Enter" || event.key === " ") choose(...at);
    else return;
    event.preventDefault();
  });
  const box = sized((width) => {
    cell = Math.max(2, Math.floor((Math.min(width, 560) - 2) / size));
    draw();
    return canvas;
  });
  return h("figure", {}, box, readout, h("figcaption", {}, `Rows: ${rowname}; columns: ${columnname}. Grey: the same class; stronger: more samples.`));
}

// Points {x, y, look} in a plane.
function scatter({ name, x, y, looks, legend: parts, describe, choose, chosen }) {
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const canvas = h("canvas", { class: "map", tabindex: 0, role: "application", "aria-label": `${name}: an embedding. Arrow keys move to the next point, Enter shows its image and those nearest.` });
  const known = x.map((one, i) => i).filter((i) => x[i] !== null && y[i] !== null);
  const range = (values) => {
    const some = known.map((i) => values[i]);
    return [Math.min(...some), Math.max(...some)];
  };
  const [[left, right], [low, high]] = [range(x), range(y)];
  let [width, height, at, screen] = [0, 0, chosen ?? -1, []];
  function draw() {
    if (!width) return;
    const pen = board(canvas, width, height);
    const [sx, sy] = [scale(left, right, 10, width - 10), scale(low, high, height - 10, 10)];
    screen = known.map((i) => ({ i, sx: sx(x[i]), sy: sy(y[i]) }));
    pen.strokeStyle = inkOf("--line");
    pen.strokeRect(0.5, 0.5, width - 1, height - 1);
    pen.globalAlpha = 0.75;
    for (const one of screen) {
      pen.fillStyle = inkOf(looks(one.i));
      pen.beginPath();
      pen.arc(one.sx, one.sy, 2.6, 0, 7);
      pen.fill();
    }
    pen.globalAlpha = 1;
    const chosen = screen.find((one) => one.i === at);
    if (chosen) {
      pen.strokeStyle = inkOf("--ink");
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(chosen.sx, chosen.sy, 7, 0, 7);
      pen.stroke();
    }
  }
  const move = (i) => {
    at = i;
    draw();
    readout.textContent = describe(i);
  };
  const under = (event) => {
    const place = canvas.getBoundingClientRect();
    return nearest(screen, event.clientX - place.left, event.clientY - place.top, 30);
  };
  canvas.addEventListener("pointermove", (event) => under(event) && move(under(event).i));
  canvas.addEventListener("click", (event) => {
    if (!under(event)) return;
    move(under(event).i);
    choose(at);
  });
  canvas.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) move(next(screen, at, way));
    else if ((event.key === "Enter" || event.key === " ") && at >= 0) choose(at);
    else return;
    event.preventDefault();
  });
  const box = sized((now) => {
    width = Math.min(now, 640);
    height = Math.round(width * 0.75);
    draw();
    return canvas;
  });
  return h("figure", {}, box, legend(parts), readout);
}

// The nearest point that lies more in this direction than beside it.
function next(screen, from, [dx, dy]) {
  const here = screen.find((one) => one.i === from);
  if (!here) return screen.reduce((best, one) => (one.sx < best.sx ? one : best)).i;
  let [best, least] = [here, Infinity];
  for (const one of screen) {
    const [right, down] = [one.sx - here.sx, one.sy - here.sy];
    const along = right * dx + down * dy;
    const beside = Math.abs(right * dy) + Math.abs(down * dx);
    if (along > beside && along + beside < least) [best, least] = [one, along + beside];
  }
  return best.i;
}

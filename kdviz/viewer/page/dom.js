// Elements, numbers as texts, requests, and the part of the address that says what is shown.

// Every text becomes a text node, so that nothing that comes from a file is ever read as markup.
function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}

function h(tag, properties, ...children) {
  return filled(document.createElement(tag), properties, children);
}

function svg(tag, properties, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function short(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const plain = Number(value.toPrecision(digits));
  const text = plain !== 0 && Math.abs(plain) < 1e-3 ? plain.toExponential() : String(plain);
  return text.replaceAll("-", "−");
}

function percent(value, digits = 2) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`;
}

const answers = JSON.parse(document.getElementById("answers").textContent); // null where a server is asked

async function ask(request) {
  let found;
  if (answers) {
    found = answers[request];
    if (found === undefined) throw new Error("this was too large for the saved page");
  } else {
    const reply = await fetch(request);
    found = await reply.json();
  }
  if (found && found.error) throw new Error(found.error);
  return found;
}

// Images of samples by their number; a saved page has those that fitted into it.
async function imagesOf(source, samples) {
  if (!answers) return (await ask(`/api/images?id=${source}&samples=${samples.join(",")}`)).images;
  const kept = answers.images[source] || {};
  return Object.fromEntries(samples.filter((one) => kept[one]).map((one) => [one, kept[one]]));
}

function address() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

function setAddress(values) {
  const hash = `#${new URLSearchParams(values)}`;
  try {
    history.replaceState(null, "", hash);
  } catch {
    // a page inside a notebook has no address of its own
  }
}

// A box that is drawn anew whenever its width changes; `draw(width)` gives its content.
function sized(draw) {
  const box = h("div");
  let last = 0;
  box.redraw = () => {
    const focused = box.contains(document.activeElement);
    if (last > 0) box.replaceChildren(draw(last));
    if (focused) box.firstElementChild.focus();
  };
  new ResizeObserver(() => {
    const width = Math.floor(box.clientWidth);
    if (width > 0 && width !== last) {
      last = width;
      box.redraw();
    }
  }).observe(box);
  return box;
}

function table(head, rows, caption) {
  const line = (tag, cells) => h("tr", {}, cells.map((one, at) =>
    h(at === 0 && tag === "td" ? "th" : tag, { scope: tag === "th" ? "col" : at === 0 ? "row" : null, class: at > 0 ? "number" : null }, one)));
  return h("div", { class: "wide" }, h("table", {},
    caption ? h("caption", {}, caption) : null,
    h("thead", {}, line("th", head)),
    h("tbody", {}, rows.map((row) => line("td", row)))));
}

// A colour of the page, for a canvas.
function inkOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}

// A canvas of this size, sharp on every screen; its pen draws in CSS pixels.
function board(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

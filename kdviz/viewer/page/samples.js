// The images behind what was chosen, with teacher's and student's top five.

const PAGE = 24;

function className(names, at) {
  return names && names[at] !== undefined ? names[at] : `class ${at}`;
}

function topFive(title, net, names, target) {
  if (!net) return null;
  const lines = net.top.map((one, at) =>
    h("li", { class: one === target ? "right" : null },
      h("i", { style: { width: `${100 * (net.p[at] || 0)}%` } }),
      h("span", { title: className(names, one) }, className(names, one)),
      h("span", {}, percent(net.p[at], 1))));
  return h("div", {}, h("h4", {}, title), h("ol", { "aria-label": `${title}'s top five` }, lines));
}

function card({ id, image, target, names, student, teacher, notes }) {
  const label = target === null || target === undefined ? null : className(names, target);
  const said = student && label !== null ? (student.top[0] === target ? "student right" : "student wrong") : null;
  const picture = image ? h("img", { src: image, alt: label === null ? `sample ${id}` : `sample ${id}, labelled ${label}` }) : h("span", { class: "blank" }, "image …");
  return h("li", { class: "card", "data-sample": id },
    picture,
    h("div", {},
      h("p", {}, label === null ? `sample ${id}` : h("strong", {}, label)),
      label === null ? null : h("p", { class: "soft" }, `sample ${id}`),
      said ? h("p", { class: said.endsWith("wrong") ? "bad" : "soft" }, said) : null,
      notes.map((one) => h("p", { class: "soft" }, one))),
    h("div", { class: "tops" }, topFive("teacher", teacher, names, target), topFive("student", student, names, target)));
}

// A panel that shows samples of one source under the element in which they were chosen; `note(id)` says more of one.
function panel(source, samples) {
  const place = new Map(samples.ids.map((id, at) => [id, at]));
  const box = h("section", { "aria-label": "images", tabindex: -1, hidden: true });
  const of = (net, at) => net && { top: net.top[at], p: net.p[at] };
  const made = (id, note) => {
    const at = place.get(id);
    const notes = [];
    if (at === undefined) return card({ id, names: samples.names, notes: [note ? note(id) : ""] });
    if (samples.tau && samples.tau[at] !== null) notes.push(`τ ${short(samples.tau[at], 3)}`);
    if (samples.kl && samples.kl[at] !== null) notes.push(`KL ${short(samples.kl[at], 3)} nats`);
    if (note) notes.push(note(id));
    return card({ id, target: samples.target && samples.target[at], names: samples.names, student: of(samples.student, at), teacher: of(samples.teacher, at), notes });
  };
  box.show = (under, title, ids, { note, count } = {}) => {
    under.append(box);
    const list = h("ul", { class: "cards" });
    const said = h("p", { class: "soft", role: "status" });
    const more = h("button", { type: "button" }, "Show more");
    let shown = 0;
    const add = async () => {
      const part = ids.slice(shown, shown + PAGE);
      shown += part.length;
      const cards = part.map((id) => made(id, note));
      list.append(...cards);
      more.hidden = shown >= ids.length;
      try {
        said.textContent = part.length && !answers ? "Reading images …" : "";
        const images = part.length ? await imagesOf(source, part) : {};
        part.forEach((id, at) => {
          const blank = cards[at].querySelector(".blank");
          const img = images[id] && h("img", { src: images[id], alt: `sample ${id}` });
          if (img) blank.replaceWith(img);
          else blank.textContent = answers ? "image not in this saved page" : "no image";
        });
        said.textContent = "";
      } catch (error) {
        said.textContent = `No images: ${error.message}`;
        for (const one of cards) one.querySelector(".blank").textContent = "no image";
      }
    };
    more.addEventListener("click", add);
    const total = count === undefined ? ids.length : count;
    box.replaceChildren(h("h3", {}, title), h("p", { class: "soft" }, `${total} sample${total === 1 ? "" : "s"}${total > ids.length ? `, the first ${ids.length} shown` : ""}`), said, list, more);
    box.hidden = false;
    box.scrollIntoView({ block: "nearest" });
    return add();
  };
  return box;
}

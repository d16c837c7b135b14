// The page: asks again every two seconds what there is, and shows the result that the address names.

const EVERY = 2000; // milliseconds
const page = { seen: {}, result: null, stamp: null };
const part = (name) => document.getElementById(name);

// Whether a part of the overview differs from the last one.
function differs(name, value) {
  const text = JSON.stringify(value);
  const same = page.seen[name] === text;
  page.seen[name] = text;
  return !same;
}

function showList(results) {
  const groups = new Map();
  for (const one of results) {
    const folder = one.name.includes("/") ? one.name.slice(0, one.name.lastIndexOf("/")) : ".";
    groups.set(folder, [...(groups.get(folder) || []), one]);
  }
  const focused = document.activeElement && document.activeElement.dataset.result;
  part("list").replaceChildren(...[...groups].flatMap(([folder, some]) => [
    h("h3", {}, folder === "." ? part("title").textContent : folder),
    h("ul", {}, some.map((one) => h("li", {}, h("a", { href: `#result=${one.id}`, "data-result": one.id, "aria-current": one.id === page.result ? "true" : null },
      one.kind || "unreadable", " ", h("span", { class: "soft" }, one.name.slice(one.name.lastIndexOf("/") + 1)))))),
  ]));
  if (focused) part("list").querySelector(`[data-result="${focused}"]`)?.focus();
  if (results.length === 0) part("list").replaceChildren(h("p", { class: "soft" }, "No results (.nc) here yet."));
}

async function showResult(id, chosen) {
  page.result = id;
  for (const one of part("list").querySelectorAll("a")) {
    if (one.dataset.result === id) one.setAttribute("aria-current", "true");
    else one.removeAttribute("aria-current");
  }
  try {
    const choose = (what) => setAddress({ result: id, select: what });
    const detail = await resultDetail(id, chosen || "", choose);
    if (page.result === id) part("detail").replaceChildren(detail);
  } catch (error) {
    part("detail").replaceChildren(h("p", { class: "bad" }, error.message));
  }
}

function showPages(pages) {
  part("pages").hidden = pages.length === 0 || Boolean(answers);
  part("pages").replaceChildren(h("h2", { id: "pages-heading" }, "Reports"), h("ul", { class: "plain" }, pages.map((one) =>
    h("li", {}, h("a", { href: `/page?id=${one.id}`, target: "_blank", rel: "noopener" }, one.name)))));
}

async function update() {
  try {
    const found = await ask("/api/overview");
    part("status").textContent = "";
    part("status").classList.remove("bad");
    if (differs("title", found.title)) {
      part("title").textContent = found.title;
      document.title = `kdviz view: ${found.title}`;
      const saved = answers && answers["left out"].length ? ` Too large for this saved page: ${answers["left out"].join(", ")}.` : "";
      part("footer").textContent = `kdviz ${found.version}. ${answers ? "Saved page." : "Follows the folder every two seconds."}${saved}`;
    }
    if (differs("runs", found.runs)) await showRuns(part("runs"), found.runs);
    if (differs("tables", found.tables.map((one) => ({ ...one, at: null })))) showTables(part("tables"), found.tables);
    if (differs("pages", found.pages)) showPages(found.pages);
    if (differs("results", found.results)) showList(found.results);
    const first = found.results.find((one) => one.kind === "tau") || found.results[0];
    const shown = found.results.find((one) => one.id === page.result);
    const { result: named, select: chosen } = address();
    if (!page.result && (named || first)) {
      await showResult(named || first.id, chosen);
      if (named && !chosen) part("detail").scrollIntoView();
    }
    else if (shown && page.stamp !== null && shown.stamp !== page.stamp) await showResult(shown.id, address().select);
    page.stamp = (found.results.find((one) => one.id === page.result) || { stamp: null }).stamp;
  } catch (error) {
    part("status").textContent = `The server does not answer: ${error.message}`;
    part("status").classList.add("bad");
  }
}

addEventListener("hashchange", () => address().result && showResult(address().result, address().select));

// Canvases do not follow the colours of the page by themselves.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.result && showResult(page.result, address().select));

async function follow() {
  if (!document.hidden) await update();
  if (!answers) setTimeout(follow, EVERY);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("#list a");
  if (!link) return;
  event.preventDefault();
  setAddress({ result: link.dataset.result });
  showResult(link.dataset.result, "");
  if (matchMedia("(max-width: 760px)").matches) part("detail").scrollIntoView();
});

follow();

"use strict";
// Lists with search, filters and deep links. Every text becomes a text node: nothing in the data is ever markup.
(() => {
  const PAGE = 10;
  const data = JSON.parse(document.getElementById("data").textContent);

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };
  // Text in its own direction, its steering characters (written ⟦U+202E⟧ by the report) set apart.
  const said = (text) => {
    const parts = text.split(/(⟦U\+[0-9A-F]{4,6}⟧)/).map((part, i) =>
      i % 2 ? make("span", { class: "steer", title: "a character that is not shown as itself" }, part) : part);
    return parts.filter((part) => part !== "");
  };
  const own = (text) => make("bdi", { dir: "auto" }, ...said(text));
  const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
  const plain = (name) => name.replace(/_/g, " ");
  const ruleName = (rule) => plain(rule.split("-")[1] || rule);
  const texts = (side) => side.map(([, parts]) => (typeof parts === "string" ? parts : parts.join(""))).join(" ");

  const turns = (side, mark) => side.map(([role, parts]) => {
    if (!role && typeof parts === "string") return make("p", { class: "gap" }, parts);
    const body = typeof parts === "string" ? own(parts) : make("bdi", { dir: "auto" },
      ...parts.map((part, i) => make(i % 2 ? "mark" : "span", i % 2 ? { class: mark } : {}, ...said(part))));
    const attributes = { class: typeof parts === "string" ? "turn rest" : "turn" };
    return make("p", attributes, ...(role ? [make("span", { class: "role" }, role), " "] : []), body);
  });

  const lists = {
    replies: {
      rows: data.replies.rows,
      what: "prompts",
      filters: {
        source: { label: "Source", options: (r) => [r.source] },
        emotion: { label: "Emotion", options: (r) => [r.emotion] },
        caught: { label: "Replies", options: (r) => r.replies.some((a) => a.status !== "rated") ? ["caught by a gate or unrated"] : [] },
      },
      orders: {
        "as asked": null,
        ...Object.fromEntries(data.replies.models.slice(1).flatMap((model, i) => [
          [`${model} gains most`, (r) => gain(r, i + 1)],
          [`${model} loses most`, (r) => -gain(r, i + 1)],
        ])),
      },
      text: (r) => [r.emotion, ...r.messages.map((m) => m[1]), ...r.replies.map((a) => a.text)].join(" "),
      row: (r) => make("article", { class: "item", "data-id": r.id },
        make("header", {}, make("span", { class: "label" }, own(plain(r.emotion)), " · ", own(plain(r.source))), link("replies", r.id)),
        ...r.messages.map(([role, text]) => make("p", { class: "prompt" }, make("span", { class: "role" }, role), " ", own(text))),
        make("div", { class: "sides" }, ...r.replies.map((a, i) => make("div", { class: "side" },
          make("p", { class: "who" }, make("strong", {}, own(data.replies.models[i])), " ",
            a.status === "rated"
              ? make("span", { class: "index" }, number(a.index, 2))
              : make("span", { class: "tag bad" }, a.status === "degenerate" ? `broken: ${plain(a.reason)}` : "unrated")),
          make("p", { class: "reply" }, a.text.trim() ? own(a.text) : make("em", {}, "(empty)")),
          ...(a.status === "rated" ? [make("p", { class: "muted small" }, ...["feels with", "understands", "asks on"].flatMap((what, k) => [
              k ? " · " : "", make("span", { class: "nowrap" }, `${what} ${number(a.mechanisms[k], 1)}`)]))] : []))))),
    },
    pairs: {
      rows: data.pairs,
      what: "pairs",
      filters: {
        kind: { label: "Kind", options: (r) => [r.kind] },
        source: { label: "Source", options: (r) => [r.source] },
        rule: { label: "Rule", options: (r) => [r.rule] },
      },
      range: { label: "Score at least", value: (r) => r.score },
      orders: { "least alike first": null, "most alike first": (r) => r.score },
      text: (r) => [r.detail, ...r.labels, texts(r.a), texts(r.b), r.uid, r.other].join(" "),
      row: (r) => make("article", { class: "item", "data-id": r.uid },
        make("header", {}, make("span", { class: "label" },
          make("span", { class: "tag plain" }, `${r.kind}: ${ruleName(r.rule)}`), " ", own(plain(r.source)), ` · score ${number(r.score, 3)}`), link("pairs", r.uid)),
        make("div", { class: "sides" },
          make("div", { class: "side" }, make("p", { class: "who" }, make("strong", {}, r.kind === "close call" ? "One" : "Removed from train"), ...label(r.labels[0])), ...turns(r.a, "a")),
          make("div", { class: "side" }, make("p", { class: "who" }, make("strong", {}, r.kind === "close call" ? "The other" : `Stands in ${r.place}`), ...label(r.labels[1])), ...turns(r.b, "b"))),
        make("p", { class: "muted small" }, ...(r.detail ? [own(r.detail), " · "] : []), make("code", {}, `heartwood explain ${r.uid.slice(0, 12)}`))),
    },
  };
  const label = (text) => (text ? [" ", make("span", { class: "muted" }, own(text))] : []);
  const gain = (r, i) => (r.replies[i].index ?? 1) - (r.replies[0].index ?? 1);
  const link = (list, id) => make("a", { class: "permalink", href: `#${list}?id=${encodeURIComponent(id)}`, "aria-label": "Link to this entry" }, "link");

  const views = {};

  const build = (name, root) => {
    const list = lists[name];
    const controls = {};
    const bar = make("form", { class: "controls", role: "search", "aria-label": `Filter ${list.what}` });
    const field = (key, text, control) => {
      controls[key] = control;
      control.id = `${name}-${key}`;
      bar.append(make("label", { for: control.id }, make("span", {}, text), control));
    };
    field("q", "Search", make("input", { type: "search", placeholder: `in ${list.rows.length} ${list.what}`, autocomplete: "off" }));
    for (const [key, filter] of Object.entries(list.filters)) {
      const counts = new Map();
      for (const row of list.rows) for (const option of filter.options(row)) counts.set(option, (counts.get(option) || 0) + 1);
      const options = [...counts.keys()].sort();
      field(key, filter.label, make("select", {}, make("option", { value: "" }, "all"),
        ...options.map((option) => make("option", { value: option }, `${plain(option)} (${counts.get(option)})`))));
    }
    if (list.range) field("min", list.range.label, make("input", { type: "number", min: "0", max: "1", step: "0.01", placeholder: "0" }));
    field("order", "Order", make("select", {}, ...Object.keys(list.orders).map((order, i) => make("option", { value: i ? order : "" }, order))));
    const status = make("p", { class: "status muted", role: "status" });
    const out = make("div", { class: "items" });
    const more = make("button", { type: "button", class: "more" }, "Show more");
    const reset = make("button", { type: "button", class: "reset" }, "Clear");
    bar.append(reset);
    root.append(bar, status, out, more);
    const searched = new Map(list.rows.map((row) => [row, list.text(row).toLowerCase()]));
    let limit = PAGE;
    let only = "";

    const found = () => {
      const words = controls.q.value.toLowerCase().split(/\s+/).filter(Boolean);
      const least = list.range && controls.min.value !== "" ? Number(controls.min.value) : -Infinity;
      const rows = list.rows.filter((row) => (!only || (row.id || row.uid) === only)
        && words.every((word) => searched.get(row).includes(word))
        && Object.entries(list.filters).every(([key, filter]) => !controls[key].value || filter.options(row).includes(controls[key].value))
        && (!list.range || list.range.value(row) >= least));
      const order = list.orders[controls.order.value || Object.keys(list.orders)[0]];
      return order ? rows.map((row, i) => [row, i]).sort((a, b) => order(b[0]) - order(a[0]) || a[1] - b[1]).map(([row]) => row) : rows;
    };
    const show = () => {
      const rows = found();
      out.replaceChildren(...rows.slice(0, limit).map(list.row));
      status.textContent = rows.length
        ? `${Math.min(limit, rows.length)} of ${rows.length} ${list.what}${rows.length < list.rows.length ? ` that fit, of ${list.rows.length}` : ""}`
        : `No ${list.what} fit. Clear the search or a filter.`;
      more.hidden = rows.length <= limit;
    };
    const state = () => {
      const found = new URLSearchParams();
      if (only) found.set("id", only);
      for (const [key, control] of Object.entries(controls)) if (control.value) found.set(key, control.value);
      return found.toString();
    };
    const changed = () => {
      limit = PAGE;
      only = "";
      show();
      history.replaceState(null, "", `#${name}${state() ? `?${state()}` : ""}`);
    };
    bar.addEventListener("input", changed);
    bar.addEventListener("submit", (event) => event.preventDefault());
    reset.addEventListener("click", () => { bar.reset(); changed(); });
    more.addEventListener("click", () => {
      const first = limit;
      limit += PAGE;
      show();
      out.children[first].querySelector("a").focus();
    });
    views[name] = (params) => {
      for (const [key, control] of Object.entries(controls)) control.value = params.get(key) || "";
      for (const control of bar.querySelectorAll("select")) if (control.selectedIndex < 0) control.selectedIndex = 0;
      only = params.get("id") || "";
      limit = PAGE;
      show();
    };
    show();
  };
  for (const root of document.querySelectorAll("[data-list]")) build(root.dataset.list, root);

  // #section?key=value&... : the section comes into view, its list into the state.
  const follow = () => {
    const [name, query] = location.hash.slice(1).split("?");
    const section = document.getElementById(name);
    if (!section || section.tagName !== "SECTION") return;
    if (views[name]) views[name](new URLSearchParams(query || ""));
    section.scrollIntoView({ behavior: "instant" });
    section.focus({ preventScroll: true });
  };
  window.addEventListener("hashchange", follow);
  if (location.hash) follow();

  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) {
      for (const [id, a] of links) {
        if (id === entry.target.id) a.setAttribute("aria-current", "true");
        else a.removeAttribute("aria-current");
      }
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const section of document.querySelectorAll("main > section")) seen.observe(section);
})();

"use strict";
// Everything works without this script: it makes tables sort, and charts answer a pointer.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Tables: a button in each head, so that keys and pointers sort alike.
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.s === undefined ? cell.textContent : Number(cell.dataset.s);
  };
  const sort = (table, column, head) => {
    const up = head.getAttribute("aria-sort") === "descending" || !head.hasAttribute("aria-sort") && !head.classList.contains("n");
    all("th", table).forEach(th => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const numbers = head.classList.contains("n");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      // What has no number stands last, whichever way.
      if (numbers && (typeof x !== typeof y)) return typeof x === "number" ? -1 : 1;
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), undefined, {numeric: true});
      return up ? order : -order;
    });
    table.tBodies[0].append(...rows);
  };
  all("table.data").forEach(table => {
    if (table.tBodies[0].rows.length < 2) return;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, column, head));
      head.append(button);
    });
  });

  // In print every table is open.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open]):not(.zoom)");
    opened.forEach(details => { details.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach(details => { details.open = false; }));

  // Charts: pictures until they come into sight.
  const unpack = async id => {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), sign => sign.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  let ready = null;
  const load = async () => {
    const [vega, charts] = await Promise.all([unpack("vega"), unpack("charts")]);
    new Function(vega)();
    return JSON.parse(charts);
  };
  const scaled = (view, name, factor, shift) => {
    const scale = view.scale(name);
    const log = scale.type === "log";
    const [a, b] = scale.domain().map(v => log ? Math.log(v) : v);
    const [middle, half] = [(a + b) / 2 + shift * (b - a), (b - a) / 2 * factor];
    return [middle - half, middle + half].map(v => log ? Math.exp(v) : v);
  };
  const zoom = (view, factor, shift = 0) => {
    const signals = Object.keys(view.getState({signals: name => /^zoom_[a-z]$/.test(name)}).signals);
    signals.forEach(name => {
      const axis = name === "zoom_x" ? "x" : "y";
      if (axis === "y" && shift) return;
      view.signal(name, factor ? scaled(view, axis, factor, shift) : null);
    });
    view.runAsync();
  };
  const toolbar = (view, title) => {
    const menu = document.createElement("details");
    menu.className = "zoom";
    const open = document.createElement("summary");
    open.textContent = "\u22ef";
    open.title = "Zoom";
    open.setAttribute("aria-label", `Zoom: ${title}`);
    const bar = document.createElement("div");
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "Zoom");
    menu.append(open, bar);
    menu.addEventListener("keydown", event => {
      if (event.key !== "Escape") return;
      menu.open = false;
      open.focus();
    });
    [["+", "Zoom in", 0.6, 0], ["\u2212", "Zoom out", 1 / 0.6, 0], ["\u2190", "Move left", 1, -0.2], ["\u2192", "Move right", 1, 0.2], ["Reset", "Reset zoom", 0, 0]].forEach(([text, label, factor, shift]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.title = label;
      button.setAttribute("aria-label", label);
      button.addEventListener("click", () => zoom(view, factor, shift));
      bar.append(button);
    });
    return menu;
  };
  const draw = async figure => {
    ready = ready || load();
    const {config, specs} = await ready;
    const spec = specs[figure.dataset.chart];
    const plot = figure.querySelector(".plot");
    const live = document.createElement("div");
    live.className = "live";
    plot.prepend(live);
    const {view} = await window.vegaEmbed(live, spec, {renderer: "svg", actions: false, config, defaultStyle: false, tooltip: {disableDefaultStyle: true}});
    plot.querySelector(":scope > svg")?.remove();
    plot.removeAttribute("tabindex"); // the picture scrolls on a small screen, the chart fits
    if ("zoom_x" in view.getState({signals: name => name === "zoom_x"}).signals) {
      figure.append(toolbar(view, figure.querySelector("figcaption").textContent));
    }
    figure.dataset.drawn = "yes";
  };
  if (typeof DecompressionStream === "undefined") return;
  const seen = new IntersectionObserver(entries => entries.forEach(entry => {
    if (!entry.isIntersecting) return;
    seen.unobserve(entry.target);
    draw(entry.target);
  }), {rootMargin: "300px"});
  all("figure[data-chart]").forEach(figure => seen.observe(figure));
})();

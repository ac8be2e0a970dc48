"use strict";
// Draws the page anew each second, from what its process tells at "figures"; all text from there stays text.
(() => {
  const names = "http://www.w3.org/2000/svg";
  const by = id => document.getElementById(id);
  const element = (name, attributes, parent, text) => {
    const made = document.createElementNS(names, name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    if (text !== undefined) made.textContent = text;
    parent.append(made);
    return made;
  };
  const short = value => Math.abs(value) >= 1e4 || value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));

  // An axis: the place of a value from 0 to 1, and the values that are marked.
  const axis = (values, log, whole) => {
    let [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 10, high + (Math.abs(high) || 1) / 10];
    const to = log ? Math.log10 : v => v;
    const at = v => (to(v) - to(low)) / (to(high) - to(low));
    const from = part => log ? 10 ** (to(low) + part * (to(high) - to(low))) : low + part * (high - low);
    const marks = whole ? [...new Set([low, Math.round((low + high) / 2), high])] : [0, .25, .5, .75, 1].map(from);
    return {at, marks};
  };

  const chart = one => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = one.title;
    const curves = Object.entries(one.curves);
    const y = axis(curves.flatMap(([, values]) => values).filter(v => v !== null), one.log_y, false);
    figure.append(caption);
    if (!Number.isFinite(y.marks[0])) return figure;
    const whole = one.across === "epoch" || one.across === "trial";
    const x = axis(one.x.length < 2 && whole ? [one.x[0], one.x[0] + 1] : one.x, one.log_x, whole);
    const [left, right, low, high] = [52, 408, 196, 30];
    const place = (a, b) => [left + (right - left) * x.at(a), low - (low - high) * y.at(b)].map(v => v.toFixed(1));
    const widest = Math.max(...curves.map(([name]) => 6.4 * name.length + 34));
    const columns = Math.max(1, Math.floor((right - left) / widest));
    const more = 13 * (Math.ceil(curves.length / columns) - 1);
    const svg = element("svg", {viewBox: `0 ${-more} 420 ${236 + more}`, role: "img"}, figure);
    const shown = one.percent ? v => `${(100 * v).toFixed(1)}%` : short;
    y.marks.forEach(mark => {
      const at = low - (low - high) * y.at(mark);
      element("line", {x1: left, x2: right, y1: at, y2: at, class: "grid"}, svg);
      element("text", {x: left - 6, y: at + 4, "text-anchor": "end"}, svg, shown(mark));
    });
    (whole ? x.marks : [x.marks[0], x.marks[2], x.marks[4]]).forEach((mark, i, all) => {
      const end = i === all.length - 1 && i ? "end" : i ? "middle" : "start";
      element("text", {x: left + (right - left) * x.at(mark), y: 212, "text-anchor": end}, svg, whole ? mark : short(mark));
    });
    element("text", {x: (left + right) / 2, y: 230, "text-anchor": "middle", class: "across"}, svg, one.across);
    const said = [];
    curves.forEach(([name, values], number) => {
      const colour = `c${number % 6}`;
      const joined = one.joined.includes(name);
      const points = values.map((value, at) => [one.x[at], value]).filter(([, value]) => value !== null).map(([a, b]) => place(a, b));
      if (joined) element("polyline", {points: points.map(point => point.join(",")).join(" "), class: `line ${colour}`}, svg);
      if (!joined || points.length === 1) points.forEach(([cx, cy]) => element("circle", {cx, cy, r: 3, class: `dot ${colour}`}, svg));
      const [key, line] = [left + widest * (number % columns), 14 - more + 13 * Math.floor(number / columns)];
      if (joined) element("line", {x1: key, x2: key + 16, y1: line - 4, y2: line - 4, class: `line ${colour}`}, svg);
      else element("circle", {cx: key + 8, cy: line - 4, r: 3, class: `dot ${colour}`}, svg);
      element("text", {x: key + 20, y: line, class: `name ${colour}`}, svg, name);
      const last = values.filter(value => value !== null).at(-1);
      if (last !== undefined) said.push(`${name} ${shown(last)}`);
    });
    svg.setAttribute("aria-label", `${one.title}, by ${one.across}, last: ${said.join(", ")}`);
    return figure;
  };

  const table = one => {
    const region = document.createElement("div");
    region.className = "scroll";
    region.tabIndex = 0;
    region.setAttribute("role", "region");
    region.setAttribute("aria-label", one.caption);
    const made = document.createElement("table");
    made.createCaption().textContent = one.caption;
    const head = made.createTHead().insertRow();
    one.head.forEach(text => {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = text;
      head.append(cell);
    });
    const body = made.createTBody();
    one.rows.forEach(row => {
      const line = body.insertRow();
      row.forEach(cell => {
        const td = line.insertCell();
        if (cell.text === "best so far") line.className = "best";
        if (cell.link === undefined) td.textContent = cell.text;
        else {
          const link = document.createElement("a");
          link.href = cell.link;
          link.textContent = cell.text;
          td.append(link);
        }
      });
    });
    region.append(made);
    return region;
  };

  // What has not changed stays, so that neither focus nor scrolling nor a selection is lost.
  const drawn = {};
  const redraw = (id, parts, draw) => {
    const text = JSON.stringify(parts);
    if (drawn[id] === text) return;
    drawn[id] = text;
    const home = by(id);
    const focused = home.contains(document.activeElement) ? document.activeElement : null;
    const [link, name] = focused ? [focused.getAttribute("href"), focused.getAttribute("aria-label")] : [null, null];
    const scrolled = [...home.children].map(one => [one.scrollLeft, one.scrollTop]);
    home.replaceChildren(...parts.map(draw));
    [...home.children].forEach((one, at) => { [one.scrollLeft, one.scrollTop] = scrolled[at] || [0, 0]; });
    const again = [...home.querySelectorAll("a, [tabindex]")].find(one => focused && (link ? one.getAttribute("href") === link : one.getAttribute("aria-label") === name));
    if (again) again.focus({preventScroll: true});
  };
  const say = (id, text) => {
    if (by(id).textContent !== text) by(id).textContent = text;
  };
  const show = page => {
    document.title = page.of ? `${page.done} of ${page.of}: ${page.title}` : page.title;
    say("title", page.title);
    say("state", page.state);
    by("state").classList.remove("stale");
    const bar = by("progress");
    bar.hidden = !page.of;
    [bar.max, bar.value] = [page.of || 1, page.done];
    bar.setAttribute("aria-label", page.kind === "search" ? "Trials" : "Epochs");
    by("home").hidden = !page.home;
    say("conclusion", page.conclusion);
    say("note", page.note);
    redraw("charts", page.charts, chart);
    redraw("tables", page.tables, table);
  };
  let ended = false;
  const look = async () => {
    try {
      const answer = await fetch("figures");
      if (!answer.ok) throw new Error(answer.status);
      const page = await answer.json();
      show(page);
      ended = page.ended;
    } catch {
      if (!ended) {
        say("state", "This page is no longer served: the run has ended, its folder has gone, or xpnet has been stopped. What is shown is the last that was heard.");
        by("state").classList.add("stale");
      }
      return;
    }
    if (!ended) setTimeout(look, 1000);
  };
  look();
})();

/* What the theme's scripts add after loading gets what a keyboard and a screen reader need. */
(() => {
  const scrolls = "pre > code, .md-typeset__scrollwrap, .md-typeset__table, .output";
  const mend = () => {
    document.querySelectorAll(scrolls).forEach(one => {
      if (one.scrollWidth > one.clientWidth) one.setAttribute("tabindex", "0");
      else one.removeAttribute("tabindex");
    });
    /* A copy button is no landmark. */
    document.querySelectorAll("nav.md-code__nav:not([role])").forEach(one => one.setAttribute("role", "none"));
    document.documentElement.dataset.mended = "yes";
  };
  let asked = 0;
  const soon = () => { cancelAnimationFrame(asked); asked = requestAnimationFrame(mend); };
  new MutationObserver(soon).observe(document.documentElement, { childList: true, subtree: true });
  addEventListener("resize", soon);
  addEventListener("load", soon);
})();

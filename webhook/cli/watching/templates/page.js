"use strict";
// What the mouse or the keyboard points at is told beside it; arrow keys walk through a figure.
(() => {
  const tip = document.getElementById("tip");
  const show = (item) => {
    tip.replaceChildren(...item.getAttribute("aria-label").split("; ").map((line) => {
      const part = document.createElement("div");
      part.textContent = line;
      return part;
    }));
    tip.hidden = false;
    const at = item.getBoundingClientRect();
    const size = tip.getBoundingClientRect();
    const left = Math.min(Math.max(at.left + at.width / 2 - size.width / 2, 6), innerWidth - size.width - 6);
    const below = at.bottom + 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${below + size.height < innerHeight ? below : Math.max(at.top - size.height - 8, 6)}px`;
  };
  const hide = () => { tip.hidden = true; };
  for (const plot of document.querySelectorAll(".plot")) {
    const items = [...plot.querySelectorAll(".tip")];
    items.forEach((item, index) => { item.setAttribute("tabindex", index === 0 ? "0" : "-1"); });
    const over = (event) => {
      const item = event.target.closest(".tip");
      if (item) show(item); else hide();
    };
    plot.addEventListener("mouseover", over);
    plot.addEventListener("mouseleave", hide);
    plot.addEventListener("focusin", over);
    plot.addEventListener("focusout", hide);
    plot.addEventListener("keydown", (event) => {
      const now = items.indexOf(document.activeElement);
      const to = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: items.length - 1 }[event.key];
      if (event.key === "Escape") hide();
      if (now < 0 || to === undefined) return;
      event.preventDefault();
      const next = items[Math.min(Math.max(to, 0), items.length - 1)];
      items[now].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }
  // One page: A4 landscape less its margins is 277 x 190 mm, at 96 pixels an inch.
  const root = document.documentElement;
  addEventListener("beforeprint", () => {
    root.style.width = "1047px";
    root.style.zoom = Math.min(1, 700 / document.querySelector("main").getBoundingClientRect().height);
  });
  addEventListener("afterprint", () => { root.style.zoom = ""; root.style.width = ""; });
})();

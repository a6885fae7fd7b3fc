"use strict";
// The filter: a row is shown if it has every word, the finding, and one of the verdicts (or none is chosen).
(() => {
  const form = document.getElementById("filter");
  const words = document.getElementById("words");
  const code = document.getElementById("code");
  const shown = document.getElementById("shown");
  const none = document.getElementById("none");
  const rows = [...document.getElementById("rows").rows].map((row) => ({
    row, text: row.textContent.toLowerCase(), codes: row.dataset.codes.split(" "), verdict: row.dataset.verdict,
  }));
  const apply = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const verdicts = [...form.querySelectorAll("[name=verdict]:checked")].map((box) => box.value);
    let number = 0;
    for (const one of rows) {
      const fits = wanted.every((word) => one.text.includes(word))
        && (!code.value || one.codes.includes(code.value))
        && (!verdicts.length || verdicts.includes(one.verdict));
      if (one.row.hidden === fits) one.row.hidden = !fits;
      number += fits;
    }
    shown.textContent = `${number} of ${rows.length} workloads`;
    none.hidden = number > 0;
  };
  let later;
  words.addEventListener("input", () => { clearTimeout(later); later = setTimeout(apply, 120); });
  form.addEventListener("change", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  apply(); // a browser keeps what was typed before it went back
})();

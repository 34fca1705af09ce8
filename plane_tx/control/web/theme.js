/** The theme that was chosen, set before the first paint; that is why this is no module. */
(() => {
  const NAME = "plane-tx-theme";
  const THEMES = ["auto", "light", "dark"];

  function chosen() {
    const theme = localStorage.getItem(NAME);
    return THEMES.includes(theme) ? theme : "auto";
  }

  function show() {
    const theme = chosen();
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    const name = document.getElementById("theme-name");
    if (name) name.textContent = theme[0].toUpperCase() + theme.slice(1);
  }

  function next() {
    localStorage.setItem(NAME, THEMES[(THEMES.indexOf(chosen()) + 1) % THEMES.length]);
    show();
  }

  show();
  window.addEventListener("storage", show);
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", next);
  });
})();

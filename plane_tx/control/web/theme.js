/** The theme that was chosen, set before the first paint; that is why this is no module. */
(() => {
  const NAME = "plane-tx-theme";
  const THEMES = ["auto", "light", "dark"];

  let theme = stored();

  function stored() {
    try {
      const name = localStorage.getItem(NAME);
      return THEMES.includes(name) ? name : "auto";
    } catch {
      // A browser that lets pages store nothing.
      return "auto";
    }
  }

  function show() {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    const name = document.getElementById("theme-name");
    if (name) name.textContent = theme[0].toUpperCase() + theme.slice(1);
  }

  function next() {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    show();
    try {
      localStorage.setItem(NAME, theme);
    } catch {
      // It holds for as long as the page is open.
    }
  }

  function follow() {
    theme = stored();
    show();
  }

  show();
  window.addEventListener("storage", follow);
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", next);
  });
})();

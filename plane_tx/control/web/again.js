/**
 * Loads the page again when a part of it was lost on the way, at most three times.
 *
 * A browser drops what is under way when a network interface comes or goes, as with any container
 * on this box, and retries the page alone. This is no module, as it may be a module that is lost.
 */
(() => {
  const NAME = "plane-tx-reloads";
  const MOST = 3;
  const PAUSE_MS = 300;
  let lost = false;

  function lose({ target }) {
    if (lost || !(target instanceof HTMLScriptElement || target instanceof HTMLLinkElement)) return;
    lost = true;
    if (mayReload()) setTimeout(() => location.reload(), PAUSE_MS);
  }

  function mayReload() {
    try {
      const times = Number(sessionStorage.getItem(NAME));
      sessionStorage.setItem(NAME, String(times + 1));
      return times < MOST;
    } catch {
      // Where nothing can be stored nothing can be counted.
      return false;
    }
  }

  // Such events do not bubble.
  window.addEventListener("error", lose, true);
  window.addEventListener("load", () => {
    if (lost) return;
    try {
      sessionStorage.removeItem(NAME);
    } catch {
      // Nothing was stored.
    }
  });
})();

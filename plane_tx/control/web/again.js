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
    const times = Number(sessionStorage.getItem(NAME));
    if (times >= MOST) return;
    lost = true;
    sessionStorage.setItem(NAME, String(times + 1));
    setTimeout(() => location.reload(), PAUSE_MS);
  }

  // Such events do not bubble.
  window.addEventListener("error", lose, true);
  window.addEventListener("load", () => {
    if (!lost) sessionStorage.removeItem(NAME);
  });
})();

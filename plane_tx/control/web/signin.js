/** The dialog that asks for an API key when the server does, and what follows from one. */

import { key } from "./api.js";
import { board } from "./board.js";

const dialog = document.getElementById("sign-in");
const input = document.getElementById("sign-in-key");
const error = document.getElementById("sign-in-error");
const signOut = document.getElementById("sign-out");

/** Ask whenever the server answers 401; ask no more once it tells what it has. */
export function startSignIn() {
  window.addEventListener("plane:unauthorized", ({ detail }) => askForKey(detail.message));
  window.addEventListener("plane:key", showSignOut);
  board.addEventListener("hello", () => dialog.close());
  document.getElementById("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    take(input.value.trim());
  });
  document.getElementById("sign-in-cancel").addEventListener("click", () => dialog.close());
  signOut.addEventListener("click", leave);
  showSignOut();
}

/** @param {string} [message] what was wrong with the key there is */
export function askForKey(message = "") {
  // Before the first key there is nothing wrong yet.
  error.textContent = key.get() ? message : "";
  if (dialog.open) {
    input.select();
    return;
  }
  input.value = "";
  dialog.showModal();
}

function take(secret) {
  if (/^[!-~]+$/.test(secret)) key.set(secret);
  else error.textContent = "A key has letters, digits and signs of ASCII, and no spaces.";
}

function showSignOut() {
  signOut.hidden = !key.get();
}

/** What was shown to whoever had the key is not left to the next who comes. */
function leave() {
  key.forget();
  location.reload();
}

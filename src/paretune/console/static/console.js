// What the console's pages do: forms call the HTTP interface, pictures are drawn and marked, light and dark are switched.
// The rules: a change is sent once, with the session's CSRF token and, where it matters, the same idempotency key when it is tried again;
// what would change is shown before it is done; whatever goes wrong is said beside the button.
"use strict";

const token = () => document.querySelector("meta[name=csrf-token]").content;

// ---- light and dark
const preferred = window.matchMedia("(prefers-color-scheme: dark)");
function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : preferred.matches;
}
try { if (localStorage.theme) document.documentElement.dataset.theme = localStorage.theme; } catch { /* no storage: follow the system */ }
preferred.addEventListener("change", () => drawAll(document));

// ---- pictures
const drawn = new Map(); // id of the place -> view
function drawAll(root) {
  const themes = document.getElementById("themes");
  if (!themes || !window.vegaEmbed) return;
  const config = JSON.parse(themes.textContent)[isDark() ? "dark" : "light"];
  const lighter = JSON.parse(document.getElementById("on-dark").textContent);
  for (const holder of root.querySelectorAll("script[data-figure]")) {
    const place = document.getElementById(holder.dataset.figure);
    let text = holder.textContent;
    if (isDark()) for (const colour in lighter) text = text.replaceAll(colour, lighter[colour]);
    const options = { config, renderer: "svg", ast: true, actions: false, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
    const inner = document.createElement("div"); // styled by the drawing library, and so kept from htmx, which would copy its attributes
    inner.setAttribute("aria-hidden", "true"); // the place has a name, and the numbers stand in tables
    drawn.get(place.id)?.finalize(); // the picture before, with its timers
    drawn.delete(place.id);
    place.replaceChildren(inner);
    window.vegaEmbed(inner, JSON.parse(text), options).then(
      (result) => { drawn.set(place.id, result.view); mark(); },
      (error) => { place.textContent = `This picture cannot be drawn: ${error}`; },
    );
  }
}
function mark() {
  const marks = document.getElementById("marks"), view = drawn.get("front");
  if (!marks || !view) return;
  view.data("marked", JSON.parse(marks.textContent)).runAsync();
}

// ---- the dial
function sayDial() {
  const shown = document.querySelector("[data-alpha]"), place = document.getElementById("alpha");
  if (place && shown) place.textContent = shown.dataset.alpha;
  for (const output of document.querySelectorAll("output[data-of]")) {
    const input = document.querySelector(`input[name="${output.dataset.of}"]`);
    output.textContent = (input.value >= 0 ? "+" : "") + Number(input.value).toFixed(1);
  }
}

// ---- forms
function bodyOf(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled) continue;
    const kind = field.dataset.kind;
    if (kind === "flag") body[field.name] = field.type === "checkbox" ? field.checked : field.value === "yes";
    else if (field.value === "") continue;
    else if (kind === "percent") body[field.name] = Number((Number(field.value) / 100).toPrecision(12));
    else if (kind === "number" || kind === "integer") body[field.name] = Number(field.value);
    else body[field.name] = field.value;
  }
  if (form.dataset.expected !== undefined) body.expected = Number(form.dataset.expected);
  return body;
}
async function call(path, body, key) {
  const headers = { "accept": "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (token()) headers["x-csrf-token"] = token();
  if (key) headers["idempotency-key"] = key;
  const method = body === undefined && !key ? "GET" : "POST";
  const answer = await fetch(path, { method, headers, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  let told = {};
  try { if (text) told = JSON.parse(text); } catch { if (answer.ok) throw new Error("The answer is none of the console's. Look whether it was done."); }
  if (!answer.ok) {
    const fields = (told.errors || []).map((field) => `${field.where.replace("body/", "")}: ${field.why}`);
    const refused = new Error([told.detail || `${answer.status}`, told.hint, ...fields].filter(Boolean).join(". "));
    refused.isRefusal = answer.status < 500;
    throw refused;
  }
  return told;
}
function confirmed(lines, note) {
  const dialog = document.getElementById("confirm");
  document.getElementById("confirm-lines").textContent = lines.join("\n");
  document.getElementById("confirm-note").textContent = note;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}
const keys = new WeakMap();
async function send(form) {
  const body = bodyOf(form), path = form.dataset.call;
  if (form.dataset.key !== undefined && !keys.has(form)) keys.set(form, crypto.randomUUID());
  if (form.dataset.preview !== undefined) {
    const preview = await call(path, { ...body, preview: true });
    const lines = preview.changes.length ? preview.changes : ["Nothing."];
    if (!(await confirmed(lines, `Plan ${preview.before || "none"} becomes plan ${preview.version}.`))) return;
  } else if (form.dataset.ask !== undefined && !(await confirmed([form.dataset.ask], ""))) return;
  const empty = form.dataset.empty !== undefined;
  const told = await call(path, empty ? {} : body, keys.get(form));
  if (form.dataset.show !== undefined) {
    say(form, `Shown this once: ${told[form.dataset.show]}`);
    return;
  }
  keys.delete(form); // done; a page that comes back by the Back button asks anew
  window.location.assign(form.dataset.then.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(told[name])));
}
function say(form, words) {
  const place = form.querySelector(".said");
  place.textContent = words;
  place.hidden = false;
}
async function look(form) {
  const told = await call(form.dataset.get);
  say(form, told.whole ? `Everything is as it was written. Head: ${told.head}` : `Altered: ${told.problems.join("; ")}`);
}
document.addEventListener("submit", async (event) => {
  const form = event.target;
  const work = form.dataset.call !== undefined ? send : form.dataset.get !== undefined ? look : null;
  if (!work) return;
  event.preventDefault();
  const alert = form.querySelector("[role=alert]"), buttons = form.querySelectorAll("button");
  if (alert) alert.hidden = true;
  for (const button of buttons) button.disabled = true;
  try {
    await work(form);
  } catch (error) {
    if (error.isRefusal) keys.delete(form); // another try is another request; where no answer came, it may have been done already
    if (alert) { alert.textContent = error.message; alert.hidden = false; } else window.alert(error.message);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
});
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-theme-switch]")) return;
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try { localStorage.theme = theme; } catch { /* no storage: for this page only */ }
  drawAll(document);
});
document.addEventListener("input", sayDial);
document.addEventListener("htmx:afterSwap", (event) => { drawAll(document.getElementById(event.detail.target.id) || document.body); mark(); sayDial(); });
document.addEventListener("DOMContentLoaded", () => { drawAll(document); sayDial(); });

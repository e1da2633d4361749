// The query is what stands in the address, with the names that /search has for it.

const PAGE = 48;
const RERANK = 50;
const PICTURES = ["like", "unlike", "upload"];
const FILTERS = ["folder", "since", "until", "rerank", "group"];

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
let query = new URLSearchParams(location.search);
let about = { pictures: 0, can_match: false, name: "" };
let results = []; // what is shown, in order
let next = null; // where the next page begins
let asked = 0; // of answers, only that of the last question counts
let loading = false;
let current = 0; // the tile that the keyboard is at
let shown = 0; // the one that is shown large
const nearEnd = new IntersectionObserver(
  (entries) => entries[0].isIntersecting && $("more").click(),
  { rootMargin: "400px" },
);

// ---- From the address to the form, and back

function fieldText() {
  return [...query.getAll("text"), ...query.getAll("without").map((text) => `-${text}`)].join(" ");
}

function withFieldText(params, field) {
  params.delete("text");
  params.delete("without");
  const [wanted, ...unwanted] = ` ${field}`.split(/\s[-−](?=\S)/);
  if (wanted.trim()) params.append("text", wanted.trim());
  for (const text of unwanted) if (text.trim()) params.append("without", text.trim());
  return params;
}

function changed(change) {
  const params = new URLSearchParams(query);
  change(params);
  return params;
}

function go(params) {
  if (String(params) !== String(query)) {
    query = params;
    history.pushState(null, "", address());
  }
  show();
}

const address = () => (String(query) ? `/?${query}` : "/");
const isEmpty = () => !["text", "without", ...PICTURES].some((name) => query.has(name));

function fillForm() {
  $("folder").value = query.get("folder") ?? "";
  $("since").value = query.get("since") ?? "";
  $("until").value = query.get("until") ?? "";
  $("match").checked = query.has("rerank");
  $("group").checked = query.has("group");
  $("match").disabled = !about.can_match || !query.has("text");
  $("match-label").classList.toggle("off", $("match").disabled);
  $("clear").hidden = !FILTERS.some((name) => query.has(name));
  const words = fieldText() || (isEmpty() ? "" : "like a picture");
  document.title = [words, about.name || "Pictures"].filter(Boolean).join(" · ");
}

function drawTerms(names = {}) {
  const items = [];
  for (const [kind, id] of query) {
    if (!PICTURES.includes(kind)) continue;
    const item = $("term").content.firstElementChild.cloneNode(true);
    const label = names[`${kind} ${id}`] ?? (kind === "upload" ? "your picture" : `picture ${id}`);
    const image = item.querySelector("img");
    image.src = kind === "upload" ? `/uploads/${encodeURIComponent(id)}` : `/pictures/${id}/thumbnail`;
    image.alt = label;
    image.onerror = () => image.remove();
    item.classList.toggle("minus", kind === "unlike");
    item.querySelector("span").textContent = kind === "unlike" ? "without" : "like";
    const button = item.querySelector("button");
    button.setAttribute("aria-label", `Take away: ${kind === "unlike" ? "without" : "like"} ${label}`);
    button.onclick = () => {
      go(changed((params) => params.delete(kind, id)));
      $("text").focus();
    };
    items.push(item);
  }
  $("terms").replaceChildren(...items);
}

// ---- Asking the server

class Refused extends Error {
  constructor(status, text) {
    super(text.trim() || `The server answered ${status}.`);
    this.status = status;
  }
}

async function ask(path, options = {}, tries = 4) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(0, "The server does not answer. Is it still running? Start it again, and reload this page.");
  }
  if (response.status === 503 && tries > 1) {
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    return ask(path, options, tries - 1);
  }
  if (!response.ok) throw new Refused(response.status, await response.text());
  return response;
}

function searchPath(skip) {
  const params = new URLSearchParams(query);
  if (!params.has("text")) params.delete("rerank");
  params.set("count", PAGE);
  params.set("skip", skip);
  return `/search?${params}`;
}

async function show() {
  $("text").value = fieldText();
  await showResults();
}

async function showResults() {
  fillForm();
  drawTerms();
  current = 0;
  await load(0);
}

async function load(skip) {
  const mine = ++asked;
  loading = true;
  $("results").classList.add("waiting");
  say(skip ? "Looking for more…" : "Searching…");
  try {
    const response = await ask(searchPath(skip));
    const answer = await response.json();
    if (mine === asked) draw(answer, skip);
  } catch (error) {
    if (mine === asked) fail(error);
  } finally {
    if (mine === asked) {
      loading = false;
      $("results").classList.remove("waiting");
    }
  }
}

async function upload(file) {
  if (!file.type.startsWith("image/")) {
    fail(new Refused(415, "That is no picture. Drop a photo or a drawing, such as a JPEG or a PNG."));
    return;
  }
  const mine = ++asked;
  say("Looking at your picture…");
  const form = new FormData();
  form.append("picture", file);
  const filters = changed((params) => ["text", "without", "rerank", ...PICTURES].forEach((name) => params.delete(name)));
  filters.set("count", PAGE);
  try {
    const response = await ask(`/search?${filters}`, { method: "POST", body: form });
    const answer = await response.json();
    if (mine !== asked) return;
    query = new URL(response.url).searchParams;
    ["count", "skip"].forEach((name) => query.delete(name));
    history.pushState(null, "", address());
    $("text").value = fieldText();
    fillForm();
    draw(answer, 0);
  } catch (error) {
    if (mine === asked) fail(error);
  }
}

// ---- Drawing what was found

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

function tell(title, text) {
  $("empty").hidden = !title;
  $("empty").querySelector("h2").textContent = title;
  $("empty").querySelector("p").textContent = text;
}

function fail(error) {
  const titles = { 0: "No answer", 410: "That picture is gone", 413: "Too large", 415: "Not a picture", 503: "Very busy" };
  if (error.status === 410) query = changed((params) => params.delete("upload")); // not asked again
  results = [];
  next = null;
  drawTiles();
  drawTerms();
  tell(titles[error.status] ?? "That did not work", error.message);
  say(error.message, true); // for screen readers, what is seen stands below
  if (!(error instanceof Refused)) throw error;
}

function draw(answer, skip) {
  results = skip ? [...results, ...answer.results] : answer.results;
  next = answer.next;
  drawTerms(Object.fromEntries(answer.pictures.map((one) => [`${one.kind} ${one.id}`, one.name])));
  drawTiles(skip);
  if (results.length) {
    tell("", "");
    const shown = `${number(results.length)} of ${number(about.pictures)} pictures`;
    const time = `${Math.max(1, Math.round(answer.milliseconds))} ms`;
    const cut = answer.cut.length ? " · the end of so long a text was not read" : "";
    say(isEmpty() ? `${shown}, newest first` : `${shown}, best first · ${time}${cut}`);
  } else if (about.pictures) {
    say("No pictures");
    tell("Nothing here", "No picture passes these filters. Choose another folder or a longer time.");
  } else {
    say("No pictures");
    tell("The index is empty", "It knows no pictures yet: python -m vlmo_jax.search index PICTURES INDEX");
  }
  if (!skip) scrollTo({ top: 0 });
}

function drawTiles(from = 0) {
  const hadFocus = $("results").contains(document.activeElement);
  const tiles = results.slice(from).map((hit, offset) => tileOf(hit, from + offset));
  if (from) $("results").append(...tiles);
  else $("results").replaceChildren(...tiles);
  $("more").hidden = next === null;
  moveTo(Math.min(current, results.length - 1), hadFocus);
  nearEnd.unobserve($("more")); // looks anew, as the end may still be near
  nearEnd.observe($("more"));
}

const nameOf = (hit) => hit.caption || hit.name;
const percent = (value) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;

function tileOf(hit, position) {
  const tile = $("tile").content.firstElementChild.cloneNode(true);
  const [open, image, score, copies] = [".open", "img", ".score", ".copies"].map((name) => tile.querySelector(name));
  const ratio = Math.min(2.4, Math.max(0.6, hit.width / hit.height || 1));
  tile.style.flexGrow = ratio;
  tile.style.flexBasis = `calc(var(--row) * ${ratio})`;
  tile.style.aspectRatio = ratio;
  image.src = hit.thumbnail;
  image.alt = nameOf(hit);
  open.title = nameOf(hit);
  open.onclick = () => enlarge(position);
  open.onfocus = () => moveTo(position, false);
  score.hidden = hit.score === null;
  if (hit.probability !== null) {
    score.textContent = `match ${percent(hit.probability)}`;
    score.classList.toggle("sure", hit.probability >= 0.5);
  } else if (hit.score !== null) {
    score.textContent = hit.score.toFixed(3);
  }
  score.title = hit.score === null ? "" : `similarity ${hit.score.toFixed(3)}`;
  if (hit.duplicates.length) {
    copies.hidden = false;
    copies.textContent = `+${hit.duplicates.length}`;
    copies.title = `${hit.duplicates.length} copies`;
  }
  const [like, unlike] = [".like", ".unlike"].map((name) => tile.querySelector(name));
  like.setAttribute("aria-label", `More like ${nameOf(hit)}`);
  unlike.setAttribute("aria-label", `Without ${nameOf(hit)}`);
  like.onclick = () => moreLike(hit);
  unlike.onclick = () => withoutThis(hit);
  unlike.hidden = isEmpty();
  return tile;
}

function moreLike(hit) {
  leaveLarge();
  go(changed((params) => {
    ["text", "without", "rerank", ...PICTURES].forEach((name) => params.delete(name));
    params.append("like", hit.id);
  }));
}

function withoutThis(hit) {
  leaveLarge();
  go(changed((params) => params.append("unlike", hit.id)));
}

// ---- The keyboard in the grid: one tile is reached by Tab, the others by arrows

const openers = () => [...document.querySelectorAll("#results .open")];

function moveTo(position, focus = true) {
  current = Math.max(0, position);
  openers().forEach((opener, place) => {
    const tabIndex = place === current ? 0 : -1;
    opener.tabIndex = tabIndex;
    opener.parentElement.querySelectorAll(".actions button").forEach((button) => (button.tabIndex = tabIndex));
  });
  if (focus) openers()[current]?.focus();
}

function besides(direction) {
  const boxes = openers().map((opener) => opener.getBoundingClientRect());
  const here = boxes[current];
  const middle = (box) => box.left + box.width / 2;
  const rows = boxes.filter((box) => (direction > 0 ? box.top > here.top + 1 : box.top < here.top - 1)).map((box) => box.top);
  if (!rows.length) return current;
  const top = direction > 0 ? Math.min(...rows) : Math.max(...rows);
  const row = boxes.map((_, place) => place).filter((place) => Math.abs(boxes[place].top - top) < 1);
  return row.reduce((a, b) => (Math.abs(middle(boxes[b]) - middle(here)) < Math.abs(middle(boxes[a]) - middle(here)) ? b : a));
}

$("results").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !results.length) return;
  const last = results.length - 1;
  const places = {
    ArrowRight: () => Math.min(current + 1, last), ArrowLeft: () => Math.max(current - 1, 0),
    ArrowDown: () => besides(1), ArrowUp: () => besides(-1), Home: () => 0, End: () => last,
  };
  if (!(event.key in places)) return;
  event.preventDefault();
  moveTo(places[event.key]());
});

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select, dialog[open]")) {
    event.preventDefault();
    $("text").focus();
    $("text").select();
  }
});

// ---- One picture, large

function enlarge(position) {
  const hit = results[position];
  shown = position;
  const image = $("large-image");
  image.src = hit.thumbnail;
  image.alt = nameOf(hit);
  image.style.maxWidth = `min(100%, ${4 * hit.width}px)`; // small ones are not blown up to the window
  image.style.maxHeight = `${4 * hit.height}px`;
  const whole = new Image();
  whole.onload = () => {
    if (results[shown] === hit) image.src = whole.src;
  };
  whole.src = hit.original;
  $("large-title").textContent = nameOf(hit);
  const taken = hit.taken && new Date(hit.taken).toLocaleDateString("en", { dateStyle: "long" });
  $("large-facts").textContent = [
    hit.probability !== null && `match ${percent(hit.probability)}`,
    hit.score !== null && `similarity ${hit.score.toFixed(3)}`,
    hit.path, taken, `${number(hit.width)} × ${number(hit.height)}`,
    hit.duplicates.length && `${hit.duplicates.length} copies`,
  ].filter(Boolean).join(" · ");
  $("large-original").href = hit.original;
  $("large-like").onclick = () => moreLike(hit);
  $("large-unlike").onclick = () => withoutThis(hit);
  $("large-unlike").hidden = isEmpty();
  $("previous").disabled = position === 0;
  $("next").disabled = position === results.length - 1;
  if (!$("large").open) $("large").showModal();
}

function leaveLarge() {
  shown = 0;
  $("large").close();
}

const step = (by) => results[shown + by] && enlarge(shown + by);
$("previous").onclick = () => step(-1);
$("next").onclick = () => step(1);
$("close").onclick = () => $("large").close();
$("large").addEventListener("close", () => moveTo(shown));
$("large").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});

// ---- The form, pictures that are dropped or pasted, and the rest

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  go(changed((params) => withFieldText(params, $("text").value)));
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" && results.length) {
    event.preventDefault();
    moveTo(0);
  }
});
document.querySelector(".home").addEventListener("click", (event) => {
  event.preventDefault();
  go(new URLSearchParams());
});
for (const [id, name, value] of [
  ["folder", "folder", (field) => field.value], ["since", "since", (field) => field.value],
  ["until", "until", (field) => field.value], ["match", "rerank", (field) => field.checked && RERANK],
  ["group", "group", (field) => field.checked && "true"],
]) {
  $(id).addEventListener("change", () => go(changed((params) => {
    const chosen = value($(id));
    if (chosen) params.set(name, chosen);
    else params.delete(name);
  })));
}
$("clear").onclick = () => go(changed((params) => FILTERS.forEach((name) => params.delete(name))));
$("more").onclick = () => next !== null && !loading && load(next);
$("choose").onclick = () => $("file").click();
$("file").addEventListener("change", () => {
  if ($("file").files.length) upload($("file").files[0]);
  $("file").value = "";
});

function takeFrom(data) {
  const file = [...data.files].find((one) => one.type.startsWith("image/")) ?? data.files[0];
  if (file) upload(file);
  else fail(new Refused(415, "Only the address of a picture came, and this page fetches none. Save the picture, and drop the file."));
}

let depth = 0; // dragenter and dragleave come for each element on the way
const holdsPicture = (event) => [...event.dataTransfer.types].some((type) => type === "Files" || type === "text/uri-list");
addEventListener("dragenter", (event) => {
  if (holdsPicture(event)) $("drop").hidden = ++depth === 0;
});
addEventListener("dragleave", (event) => {
  if (holdsPicture(event) && --depth <= 0) $("drop").hidden = true;
});
addEventListener("dragover", (event) => holdsPicture(event) && event.preventDefault());
addEventListener("drop", (event) => {
  depth = 0;
  $("drop").hidden = true;
  if (!holdsPicture(event)) return;
  event.preventDefault();
  takeFrom(event.dataTransfer);
});
addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) {
    event.preventDefault();
    takeFrom(event.clipboardData);
  }
});
addEventListener("popstate", () => {
  query = new URLSearchParams(location.search);
  show();
});
async function begin() {
  $("text").value = fieldText(); // at once, and not again when the answers come: one may type by then
  try {
    about = await (await ask("/about")).json();
    for (const { name, pictures } of about.folders) {
      $("folder").append(new Option(`${name} (${number(pictures)})`, name));
    }
    $("folder-label").hidden = !about.folders.length;
    $("since-label").hidden = $("until-label").hidden = !about.first_taken;
    $("match-label").hidden = !about.can_match;
    $("since").min = $("until").min = about.first_taken ?? "";
    $("since").max = $("until").max = about.last_taken ?? "";
  } catch (error) {
    fail(error);
    return;
  }
  await showResults();
  if (matchMedia("(hover: hover)").matches && !location.search) $("text").focus();
}
begin();

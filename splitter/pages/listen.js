"use strict";

const song = JSON.parse(document.getElementById("song").textContent);
const $ = (id) => document.getElementById(id);
const TOO_FAR = 0.25; // seconds out of step: seek again
const IN_STEP = 0.004; // seconds out of step that are let be
const WAVE = 72; // CSS pixels of the waveform above a spectrogram
const CURVE = 48; // … and of a curve below
const CACHED = 6; // pictures of a stem that are kept decoded

// ---- the sound: an <audio> for each stem of each take, all in step -------------------------------

const tracks = song.takes.flatMap((take, index) =>
  take.tracks.map((track) => ({ ...track, take: index, audio: makeAudio(track) })));
const names = [...new Set(tracks.map((track) => track.name))]; // takes may have other stems
let master = chooseMaster();
const mix = { heard: 0, muted: new Set(), solo: new Set(), level: new Map(names.map((name) => [name, 0])) };
let playing = false;
let place = 0; // seconds, where playing is false or a seek is under way
let seeking = 0; // counts seeks: only the last one goes on
let settled = true; // no seek is under way
let loop = null; // {start, end} in seconds

/** Choose the stem that the others follow: the longest of those that can be played. */
function chooseMaster() {
  const sound = tracks.filter(({ audio }) => !audio.error);
  return (sound.length ? sound : tracks).reduce((longest, track) => (track.seconds > longest.seconds ? track : longest)).audio;
}

function makeAudio(track) {
  const audio = new Audio();
  audio.preload = "metadata";
  audio.preservesPitch = false; // what is out of step is bent, not stretched
  audio.addEventListener("error", () => {
    master = chooseMaster();
    complain(`${readable(track.url)} ${explain(audio.error)}`);
  });
  audio.addEventListener("timeupdate", () => audio === master && tick()); // timers of a hidden page are slow
  audio.src = track.url;
  return audio;
}

/** Say why a stem is not heard, as far as the browser tells. */
function explain(error) {
  if (error.code === MediaError.MEDIA_ERR_NETWORK) return "could not be read to its end. Is the connection, or the disk, still there?";
  if (error.code === MediaError.MEDIA_ERR_DECODE) return "cannot be played on: this browser does not understand a part of it.";
  return "cannot be played. Is it where it was when this page was made? If so, this browser may not know its format: convert it to flac, say.";
}

function readable(url) {
  try {
    return decodeURI(url);
  } catch { // a name of other bytes than UTF-8
    return url;
  }
}

function complain(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = false;
}

function isReady(audio) {
  return audio.error || (!audio.seeking && audio.readyState >= 3);
}

function whenReady(audio) {
  return new Promise((resolve) => {
    const events = ["seeked", "canplay", "canplaythrough", "error"];
    const check = () => {
      if (!isReady(audio)) return;
      events.forEach((event) => audio.removeEventListener(event, check));
      resolve();
    };
    events.forEach((event) => audio.addEventListener(event, check));
    check();
  });
}

/** Tell whether a stem can be played from a time on: a web server may send files from their beginning only. */
function reaches(audio, time) {
  const ranges = audio.seekable;
  const end = ranges.length ? ranges.end(ranges.length - 1) : Infinity; // nothing is known yet
  return audio.error || Math.min(time, audio.duration || Infinity) <= end + 0.1;
}

/** Move a stem to a time, unless it is there, or cannot go there and would begin again. */
function move(audio, time) {
  if (Math.abs(audio.currentTime - time) > IN_STEP && reaches(audio, time)) audio.currentTime = time;
}

function position() {
  return playing && settled ? master.currentTime : place;
}

async function seek(time) {
  const turn = ++seeking;
  settled = false;
  place = Math.min(Math.max(time, 0), Math.max(song.seconds - 0.05, 0));
  for (const { audio } of tracks) {
    audio.pause();
    audio.preload = "auto";
    audio.playbackRate = 1;
    move(audio, place);
  }
  show();
  await Promise.all(tracks.map(({ audio }) => whenReady(audio)));
  if (turn !== seeking) return;
  if (tracks.some(({ audio }) => !reaches(audio, place) && Math.abs(audio.currentTime - place) > TOO_FAR)) stay();
  if (playing) {
    try {
      await Promise.all(tracks.filter(({ audio }) => !audio.error && !audio.ended).map(({ audio }) => audio.play()));
    } catch (error) {
      if (turn === seeking) { playing = false; complain(`The browser does not play: ${error.message}`); }
    }
  }
  if (turn === seeking) settled = true;
  show();
}

/** Go on from where the stems are, since they cannot be played from where they were to go. */
function stay() {
  place = master.currentTime;
  loop = null;
  complain("This web server sends files only from their beginning; open the page from its folder, or use a server that answers range requests.");
  update();
}

function play() {
  playing = true;
  return seek(place >= song.seconds - 0.1 ? (loop ? loop.start : 0) : place);
}

function pause(time = position()) {
  place = time;
  playing = false;
  settled = true;
  seeking++; // a seek that is under way would play again
  tracks.forEach(({ audio }) => audio.pause());
  show();
}

/** Bring every stem back to the master's place: by its speed if it is near, by a seek if not. */
function keepStep() {
  if (!playing || !settled) return;
  const now = master.currentTime;
  for (const { audio } of tracks) {
    if (audio === master || audio.error || audio.ended) continue;
    const off = audio.currentTime - now;
    if (Math.abs(off) > TOO_FAR) move(audio, now);
    const bend = Math.abs(off) > IN_STEP ? Math.min(Math.max(-8 * off, -0.3), 0.3) : 0;
    if (audio.playbackRate !== 1 + bend) audio.playbackRate = 1 + bend;
  }
}

function tick() {
  if (!playing || !settled) return;
  const now = master.currentTime;
  // a loop may end with the song, or its rounded length a little later
  if (loop && (now >= loop.end || master.ended)) seek(loop.start);
  else if (master.ended) pause(song.seconds);
  else keepStep();
}

function isHeard(track) {
  const { name, take } = track;
  return take === mix.heard && (mix.solo.size ? mix.solo.has(name) : !mix.muted.has(name));
}

function applyMix() {
  for (const track of tracks) {
    const level = mix.level.get(track.name) ?? 0;
    track.audio.muted = !isHeard(track);
    track.audio.volume = level <= -40 ? 0 : 10 ** (level / 20);
  }
}

function toggle(set, name) {
  if (!set.delete(name)) set.add(name);
  update();
}

// ---- which take is heard; blind, nobody knows which ----------------------------------------------

let blind = null; // {pair: [take, take], wins: Map, same, rounds}
const shuffled = (list) => list.map((item) => [Math.random(), item]).sort((a, b) => a[0] - b[0]).map(([, item]) => item);

function hear(take) {
  mix.heard = take;
  update();
}

function hearOther() {
  const list = blind ? blind.pair : song.takes.map((_, index) => index);
  hear(list[(list.indexOf(mix.heard) + 1) % list.length]);
}

function startBlind() {
  blind = { pair: [], wins: new Map(song.takes.map((_, index) => [index, 0])), same: 0, rounds: 0 };
  nextRound();
  $("takes").firstElementChild.focus(); // the button that was pressed is hidden now
}

function nextRound() {
  blind.pair = shuffled(song.takes.map((_, index) => index)).slice(0, 2);
  hear(blind.pair[0]);
  $("score").textContent = `Round ${blind.rounds + 1}: hear 1 and 2, then say which is better.`;
}

function judge(better) {
  if (better === null) blind.same++;
  else blind.wins.set(blind.pair[better], blind.wins.get(blind.pair[better]) + 1);
  blind.rounds++;
  nextRound();
}

function reveal() {
  const wins = song.takes.map((take, index) => `${take.name} ${blind.wins.get(index)}`).join(", ");
  const text = `Better in ${blind.rounds} rounds: ${wins}; no difference ${blind.same}.`;
  blind = null;
  update();
  $("blind").focus();
  $("score").textContent = text;
}

function makeChoices() {
  const list = blind ? blind.pair : song.takes.map((_, index) => index);
  const box = $("takes"); // its buttons stay, and with them the focus
  while (box.children.length > list.length) box.lastElementChild.remove();
  while (box.children.length < list.length) {
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", () => hear(button.take));
    box.append(button);
  }
  list.forEach((take, index) => {
    const button = box.children[index];
    button.take = take;
    button.textContent = blind ? `Hear ${index + 1}` : song.takes[take].name;
    button.setAttribute("aria-pressed", take === mix.heard);
  });
}

// ---- pictures ------------------------------------------------------------------------------------

let view = { start: 0, seconds: Math.min(matchMedia("(max-width: 640px)").matches ? 8 : 20, song.seconds || 1) };
const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
for (const track of tracks) {
  track.peaks = new Int8Array(bytes(track.peaks).buffer);
  track.decoded = new Map(); // number of a picture → Image
}

/** Return a picture that is decoded, or null now, and draw again when it is. */
function picture(track, number) {
  let image = track.decoded.get(number);
  if (!image) {
    image = new Image();
    image.onload = drawStems;
    image.src = `data:image/webp;base64,${track.pictures[number]}`;
    if (track.decoded.size >= CACHED) track.decoded.delete(track.decoded.keys().next().value);
  } else track.decoded.delete(number);
  track.decoded.set(number, image); // the last one used is the last one dropped
  return image.complete && image.naturalWidth ? image : null;
}

function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

function drawWave(context, track, start, seconds, width, middle, half) {
  const columns = track.peaks.length / 2;
  context.beginPath();
  for (let x = 0; x < width; x++) {
    const first = Math.floor((start + (x / width) * seconds) / track.column);
    const last = Math.max(Math.floor((start + ((x + 1) / width) * seconds) / track.column), first + 1);
    let [low, high] = [127, -127];
    for (let column = first; column < Math.min(last, columns); column++) {
      low = Math.min(low, track.peaks[2 * column]);
      high = Math.max(high, track.peaks[2 * column + 1]);
    }
    if (low <= high) context.rect(x, middle - (high / 127) * half, 1, Math.max(((high - low) / 127) * half, 0.5));
  }
  context.fill();
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function drawOverview() {
  const [context, width, height] = prepare($("overview"));
  context.globalAlpha = 0.75;
  tracks.filter((track) => track.take === (blind ? 0 : mix.heard)).forEach((track, index) => {
    context.fillStyle = color(`--stem-${index % 4}`);
    drawWave(context, track, 0, song.seconds || 1, width, height / 2, height / 2);
  });
  context.globalAlpha = 1;
}

function mel(frequency) {
  return 2595 * Math.log10(1 + frequency / 700);
}

function drawSpectrogram(context, track, width, top, height) {
  const scale = width / view.seconds; // pixels a second
  const length = track.tile * track.column; // seconds
  const last = Math.min(Math.floor((view.start + view.seconds) / length), track.pictures.length - 1);
  for (let number = Math.floor(view.start / length); number <= last; number++) {
    const image = picture(track, number);
    if (!image) continue;
    context.drawImage(image, (number * length - view.start) * scale, top, image.naturalWidth * track.column * scale, height);
  }
  context.font = "11px system-ui, sans-serif";
  for (const frequency of [100, 500, 1000, 2000, 5000, 10000]) {
    if (frequency >= track.highest) continue;
    const y = Math.min(top + height - 6, top + height * (1 - (mel(frequency) - mel(track.lowest)) / (mel(track.highest) - mel(track.lowest))));
    context.fillStyle = "#fff";
    context.fillRect(0, y, 6, 1);
    context.fillText(frequency < 1000 ? `${frequency} Hz` : `${frequency / 1000} kHz`, 9, y + 4);
  }
}

function drawCurves(context, track, width, top, height) {
  track.curves.forEach((curve, index) => {
    const known = curve.values.filter((value) => value !== null);
    const low = Math.min(0, ...known), high = Math.max(1, ...known);
    context.strokeStyle = color(`--stem-${index % 4}`);
    context.beginPath();
    let down = false;
    curve.values.forEach((value, number) => {
      const x = (((number + 0.5) * curve.seconds - view.start) / view.seconds) * width;
      const y = top + height - 3 - ((value - low) / (high - low)) * (height - 6);
      if (value !== null && down) context.lineTo(x, y);
      else if (value !== null) context.moveTo(x, y);
      down = value !== null;
    });
    context.lineWidth = 1.5;
    context.stroke();
    context.fillStyle = color(`--stem-${index % 4}`);
    context.fillText(`${curve.name}, ${low.toFixed(0)} to ${high.toFixed(0)} dB`, 9 + 200 * index, top + 12);
  });
}

function drawStem(row) {
  const track = shown(row.name);
  row.section.classList.toggle("absent", !track && !blind);
  if (!track || blind) return;
  const curve = track.curves.length ? CURVE : 0;
  const [context, width, height] = prepare(row.canvas);
  context.fillStyle = color(`--stem-${row.index % 4}`);
  drawWave(context, track, view.start, view.seconds, width, WAVE / 2, WAVE / 2 - 2);
  drawSpectrogram(context, track, width, WAVE, height - WAVE - curve);
  if (curve) drawCurves(context, track, width, height - curve, curve);
  row.canvas.setAttribute("aria-label", `Waveform and spectrogram of ${row.name}, ${clock(view.start)} to ${clock(view.start + view.seconds)}`);
}

function drawStems() {
  rows.forEach(drawStem);
}

function shown(name) {
  return tracks.find((track) => track.take === mix.heard && track.name === name);
}

function span(element, start, end, from, seconds) {
  const left = Math.max((start - from) / seconds, 0), right = Math.min((end - from) / seconds, 1);
  element.style.display = right > left ? "block" : "none";
  element.style.left = `${100 * left}%`;
  element.style.width = `${100 * (right - left)}%`;
}

function head(element, at, from, seconds) {
  const share = (at - from) / seconds;
  element.style.display = share >= 0 && share <= 1 ? "block" : "none";
  element.style.left = `${100 * share}%`;
}

function clock(seconds) {
  const whole = Math.floor(seconds), hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60, rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** Turn the page of the detailed view when the place that is played has left it. */
function follow(at) {
  if (at >= view.start && at <= view.start + 0.95 * view.seconds) return false;
  const latest = Math.max(song.seconds - view.seconds, 0);
  const start = Math.min(Math.max(at - 0.1 * view.seconds, 0), latest);
  if (start === view.start) return false;
  view.start = start;
  return true;
}

function zoom(factor) {
  const at = position();
  view.seconds = Math.min(Math.max(view.seconds * factor, 2), Math.min(60, song.seconds || 1));
  view.start = Math.min(Math.max(at - view.seconds / 2, 0), Math.max(song.seconds - view.seconds, 0));
  drawStems();
  show();
}

/** Show where it plays: all that changes from frame to frame. */
function show() {
  const at = position();
  if (follow(at)) drawStems();
  const total = song.seconds || 1;
  head(document.querySelector("#whole .head"), at, 0, total);
  span(document.querySelector("#whole .view"), view.start, view.start + view.seconds, 0, total);
  span(document.querySelector("#whole .region"), loop?.start ?? 0, loop?.end ?? -1, 0, total);
  for (const row of rows) {
    head(row.head, at, view.start, view.seconds);
    span(row.region, loop?.start ?? 0, loop?.end ?? -1, view.start, view.seconds);
  }
  const text = `${clock(at)} of ${clock(song.seconds)}`;
  if ($("clock").textContent !== text) {
    $("clock").textContent = text;
    $("position").setAttribute("aria-valuetext", text);
  }
  if (document.activeElement !== $("position") || playing) $("position").value = at;
  if (($("play").textContent === "Pause") !== playing) $("play").textContent = playing ? "Pause" : "Play";
}

/** Show what the listener has chosen. */
function update() {
  applyMix();
  for (const row of rows) {
    row.mute.setAttribute("aria-pressed", mix.muted.has(row.name));
    row.solo.setAttribute("aria-pressed", mix.solo.has(row.name));
    const level = mix.level.get(row.name);
    row.fader.value = level;
    row.fader.setAttribute("aria-valuetext", level <= -40 ? "silent" : `${level} dB`);
    const track = shown(row.name);
    row.section.classList.toggle("silent", !track || !isHeard(track));
  }
  document.body.classList.toggle("blind", Boolean(blind));
  $("trial").hidden = !blind;
  $("blind").hidden = Boolean(blind);
  $("loop-clear").disabled = !loop;
  makeChoices();
  drawOverview();
  drawStems();
  show();
}

// ---- what the listener does ----------------------------------------------------------------------

function makeRow(name, index) {
  const section = $("stem").content.cloneNode(true).firstElementChild;
  const find = (selector) => section.querySelector(selector);
  const row = {
    name, index, section, canvas: find("canvas"), head: find(".head"), region: find(".region"),
    mute: find(".mute"), solo: find(".solo"), fader: find(".fader"),
  };
  section.setAttribute("aria-label", name);
  find("h2").textContent = name;
  row.mute.setAttribute("aria-label", `Mute ${name}`);
  row.mute.setAttribute("aria-keyshortcuts", String(index + 1));
  row.solo.setAttribute("aria-label", `Solo ${name}`);
  row.solo.setAttribute("aria-keyshortcuts", `Shift+${index + 1}`);
  row.fader.setAttribute("aria-label", `Level of ${name}`);
  row.mute.addEventListener("click", () => toggle(mix.muted, name));
  row.solo.addEventListener("click", () => toggle(mix.solo, name));
  row.fader.addEventListener("input", () => { mix.level.set(name, Number(row.fader.value)); update(); });
  point(row.canvas, () => view);
  $("stems").append(section);
  return row;
}

/** Make of a click on a picture a seek, and of a drag across it a loop. */
function point(canvas, visible) {
  let from = null;
  const time = (event) => {
    const box = canvas.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    return visible().start + share * visible().seconds;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    from = { x: event.clientX, time: time(event) };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!from) return;
    if (Math.abs(event.clientX - from.x) < 6) seek(from.time);
    else setLoop(Math.min(from.time, time(event)), Math.max(from.time, time(event)));
    from = null;
  });
  canvas.addEventListener("pointercancel", () => { from = null; });
}

function setLoop(start, end) {
  loop = end - start >= 0.1 ? { start, end } : null;
  if (loop && (position() < start || position() >= end)) seek(start);
  update();
}

function hearAll() {
  mix.muted.clear();
  mix.solo.clear();
  names.forEach((name) => mix.level.set(name, 0));
  update();
}

const actions = {
  play: () => (playing ? pause() : play()),
  back: () => seek(position() - 5),
  ahead: () => seek(position() + 5),
  "loop-start": () => setLoop(position(), loop && loop.end > position() + 0.1 ? loop.end : song.seconds),
  "loop-end": () => setLoop(loop && loop.start < position() ? loop.start : 0, position()),
  "loop-clear": () => setLoop(0, 0),
  closer: () => zoom(0.5),
  wider: () => zoom(2),
  blind: () => song.takes.length > 1 && startBlind(),
  "better-1": () => judge(0),
  "better-2": () => judge(1),
  "better-none": () => judge(null),
  reveal,
};
for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);

const keys = {
  " ": actions.play, ArrowLeft: actions.back, ArrowRight: actions.ahead, Home: () => seek(0),
  "[": actions["loop-start"], "]": actions["loop-end"], Escape: actions["loop-clear"],
  "+": actions.closer, "=": actions.closer, "-": actions.wider, 0: hearAll,
  x: () => song.takes.length > 1 && hearOther(),
  b: () => (blind ? reveal() : actions.blind()),
  ",": () => blind && judge(0), ".": () => blind && judge(1), "/": () => blind && judge(null),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const own = event.target.closest("button, summary, input");
  if (own && (own.type === "range" ? /^(Arrow|Home)/.test(event.key) : event.key === " ")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
  if (digit && names[digit[1] - 1] !== undefined) toggle(event.shiftKey ? mix.solo : mix.muted, names[digit[1] - 1]);
  else if (Object.hasOwn(keys, key)) keys[key]();
  else return;
  event.preventDefault();
});

const rows = names.map(makeRow);
$("position").max = song.seconds;
$("position").addEventListener("input", () => seek(Number($("position").value)));
point($("overview"), () => ({ start: 0, seconds: song.seconds }));
$("choice").hidden = song.takes.length < 2;
new ResizeObserver(() => { drawOverview(); drawStems(); }).observe($("stems"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update);
setInterval(tick, 50);
(function frame() {
  if (playing) show();
  requestAnimationFrame(frame);
})();
update();

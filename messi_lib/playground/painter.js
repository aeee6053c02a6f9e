// The mask painter. Strokes stay in the browser: one binary message goes to Python per finished stroke.
// The hole is one bit a pixel, row by row, most significant bit first (numpy.packbits); 1: redraw here.

const INK = [230, 46, 122]; // how much of it shows is the canvas's opacity
const DEPTH = 60; // steps that undo remembers
const ICONS = {
  brush: "M17.5 2.5 9 11M6 11q4 0 3.5 3.5-.5 3-6.5 3 2-1.5 1.5-3.5Q5 11 6 11z",
  eraser: "M3 12l8-8 6 5.5L10 17H7zM7.5 7.5l6 5.5M10 17h7",
  undo: "M7 3 3 7l4 4M3 7h9q5 0 5 5t-5 5H7",
  redo: "M13 3l4 4-4 4M17 7H8q-5 0-5 5t5 5h5",
  invert: "M10 3a7 7 0 1 0 0 14a7 7 0 1 0 0-14zM10 3v14M13 4.5v11M15.5 6.5v7",
  clear: "M3 5h14M7.5 5V3h5v2M5 5l1 12h8l1-12M8.5 8.5v5M11.5 8.5v5",
};
const HELP =
  "Keys: B brush, E eraser, [ and ] size, I invert, Delete clear, Ctrl+Z undo, Ctrl+Shift+Z redo. " +
  "The right mouse button and a pen's other end erase.";

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();
const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

function pack(context) {
  const { width, height } = context.canvas;
  const rgba = context.getImageData(0, 0, width, height).data;
  const bits = new Uint8Array(Math.ceil((width * height) / 8));
  for (let i = 0; i < width * height; i++) if (rgba[4 * i + 3] > 127) bits[i >> 3] |= 128 >> (i & 7);
  return bits;
}

function draw(context, bits) {
  const image = context.createImageData(context.canvas.width, context.canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const [ink] = new Uint32Array(Uint8Array.of(...INK, 255).buffer); // in this machine's byte order
  for (let i = 0; i < pixels.length; i++) if (bits[i >> 3] & (128 >> (i & 7))) pixels[i] = ink;
  context.putImageData(image, 0, 0);
}

function render({ model, el }) {
  const photo = make("img", { alt: "", draggable: "false" });
  const canvas = make("canvas", { tabindex: "0", role: "img" });
  const cursor = make("div", { class: "messi-cursor", hidden: "" });
  const status = make("span", { class: "messi-status", role: "status" });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let bits = new Uint8Array(0); // the hole, as Python has it or is about to have it
  let shown = null; // the bytes of the photo on screen
  let stroke = null; // {id, erase, x, y} while the pointer is down
  let [tool, undone, redone] = ["brush", [], []];

  // -- the hole and its history -----------------------------------------------------------------------
  const adopt = (next) => {
    bits = next;
    draw(context, bits);
    let count = 0;
    for (let byte of bits) for (; byte; byte &= byte - 1) count++;
    const share = ((100 * count) / (canvas.width * canvas.height || 1)).toFixed(1);
    status.textContent = count ? `hole: ${share} % of the photo` : "no hole painted";
    canvas.setAttribute("aria-label", `${model.get("label")}, ${status.textContent}. ${HELP}`);
    [undo.disabled, redo.disabled] = [!undone.length, !redone.length];
  };
  const remember = () => {
    undone = [...undone.slice(1 - DEPTH), bits];
    redone = [];
  };
  const send = (next) => {
    adopt(next);
    model.set("hole_bits", new DataView(next.slice().buffer));
    model.save_changes();
  };
  const commit = (next) => {
    if (same(next, bits)) return adopt(next); // nothing changed: no message
    remember();
    send(next);
  };
  const travel = (from, to) => {
    if (!from.length || stroke) return;
    to.push(bits);
    send(from.pop());
  };
  const back = () => travel(undone, redone);
  const forth = () => travel(redone, undone);
  const clear = () => commit(new Uint8Array(bits.length));
  const invert = () => {
    const next = bits.map((byte) => 255 - byte);
    const spare = 8 * next.length - canvas.width * canvas.height; // unused bits of the last byte stay 0
    next[next.length - 1] &= 256 - (1 << spare);
    commit(next);
  };

  // -- the tools --------------------------------------------------------------------------------------
  const button = (name, title, action) => {
    const node = make("button", { type: "button", title, "aria-label": title, "data-tool": name });
    node.innerHTML = `<svg viewBox="0 0 20 20" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`;
    node.onclick = action;
    return node;
  };
  const slider = (title, min, max, value) =>
    make("input", { type: "range", min, max, value, title, "aria-label": title });
  const choose = (name) => {
    tool = name;
    for (const node of [brush, eraser]) node.setAttribute("aria-pressed", node.dataset.tool === name);
  };
  const brush = button("brush", "Brush (B)", () => choose("brush"));
  const eraser = button("eraser", "Eraser (E)", () => choose("eraser"));
  const undo = button("undo", "Undo (Ctrl+Z)", back);
  const redo = button("redo", "Redo (Ctrl+Shift+Z)", forth);
  const size = slider("Brush size, % of the photo", 1, 30, model.get("brush"));
  const opacity = slider("Overlay opacity, %", 10, 90, Math.round(100 * model.get("opacity")));
  opacity.oninput = () => (canvas.style.opacity = opacity.value / 100);
  const diameter = () => (size.value / 100) * Math.max(canvas.width, canvas.height);
  const tools = make("div", { class: "messi-tools", role: "toolbar", "aria-label": "Painting tools" });
  tools.append(brush, eraser, make("label", {}, "size", size), undo, redo);
  tools.append(button("invert", "Invert (I)", invert), button("clear", "Clear (Delete)", clear));
  tools.append(make("label", {}, "overlay", opacity), status);

  // -- pointer: mouse, pen and finger alike; the capture keeps a stroke that leaves the photo ---------
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale, scale };
  };
  const follow = (event) => {
    const { x, y, scale } = point(event);
    cursor.hidden = event.pointerType === "touch";
    cursor.style.width = cursor.style.height = `${diameter() / scale}px`;
    cursor.style.transform = `translate(${x / scale}px, ${y / scale}px) translate(-50%, -50%)`;
  };
  const line = ({ x, y }) => {
    context.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
    context.strokeStyle = `rgb(${INK})`;
    context.lineCap = "round";
    context.lineWidth = diameter();
    context.beginPath();
    context.moveTo(stroke.x, stroke.y);
    context.lineTo(x + 0.01, y); // a line of no length, a tap, would draw nothing
    context.stroke();
    Object.assign(stroke, { x, y });
  };
  const finish = (event, keep) => {
    if (stroke?.id !== event.pointerId) return;
    stroke = null;
    commit(keep ? pack(context) : bits); // not kept: the browser took the pointer away (scroll, palm)
  };
  canvas.onpointerdown = (event) => {
    if (stroke || !bits.length) return; // a second finger
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const erase = tool === "eraser" || event.button === 2 || event.button === 5;
    stroke = { id: event.pointerId, erase, ...point(event) };
    line(stroke);
  };
  canvas.onpointermove = (event) => {
    follow(event);
    if (stroke?.id !== event.pointerId) return;
    const passed = event.getCoalescedEvents?.() ?? []; // the pen's positions between two frames
    for (const each of passed.length ? passed : [event]) line(point(each));
  };
  canvas.onpointerup = (event) => finish(event, true);
  canvas.onpointercancel = (event) => finish(event, false);
  canvas.onpointerleave = () => (cursor.hidden = true);
  canvas.oncontextmenu = (event) => event.preventDefault();

  // -- keyboard: while the painter has the focus; the notebook must not see the same keys -------------
  const keys = { b: () => choose("brush"), e: () => choose("eraser"), i: invert };
  Object.assign(keys, { "[": () => size.stepDown(), "]": () => size.stepUp() });
  Object.assign(keys, { delete: clear, backspace: clear });
  Object.assign(keys, { "ctrl+z": back, "ctrl+shift+z": forth, "ctrl+y": forth });
  const stage = make("div", { class: "messi-stage" }, photo, canvas, cursor);
  const root = make("div", { class: "messi-painter", role: "group", "aria-label": "Mask painter" });
  root.dataset.lmSuppressShortcuts = "true"; // in JupyterLab B would insert a cell
  root.append(tools, stage);
  root.onkeydown = (event) => {
    const held = (event.ctrlKey || event.metaKey ? "ctrl+" : "") + (event.shiftKey ? "shift+" : "");
    const action = keys[held + event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  };

  // -- what Python says: a new photo, or a new hole (found people) that undo can take back ------------
  const listen = () => {
    const next = bytesOf(model.get("hole_bits"));
    if (model.get("photo_bytes") !== shown) {
      shown = model.get("photo_bytes");
      URL.revokeObjectURL(photo.src);
      photo.src = URL.createObjectURL(new Blob([bytesOf(shown)]));
      [canvas.width, canvas.height] = [model.get("width"), model.get("height")];
      stage.style.setProperty("--ratio", canvas.width / canvas.height);
      [stroke, undone, redone] = [null, [], []];
      adopt(next);
    } else if (!same(next, bits)) {
      remember();
      adopt(next);
    }
  };
  model.on("change", listen);
  canvas.style.opacity = model.get("opacity");
  choose(tool);
  listen();
  el.append(root);
  return () => {
    model.off("change", listen);
    URL.revokeObjectURL(photo.src);
  };
}

export default { render };

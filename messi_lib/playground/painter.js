// The mask painter. Strokes stay in the browser: one binary message goes to Python per finished stroke.

const INK = [230, 46, 122]; // how much of it shows is the canvas's opacity
const DEPTH = 60; // steps that undo remembers
const TOOLS = {
  brush: "Brush (B)",
  eraser: "Eraser (E)",
  lasso: "Lasso (L)",
  fill: "Fill an enclosed area (F)",
  people: "Click a person to take or leave it (P)",
  pan: "Move the enlarged photo (H)",
};
const HELP =
  "Keys: B brush, E eraser, L lasso, F fill, P people, 1 to 9 one person, H pan, [ and ] size, " +
  "Shift [ and ] softness, arrows and Enter instead of the pointer, I invert, Delete clear, " +
  "Ctrl+Z undo, Ctrl+Shift+Z redo, plus, minus and 0 zoom, Escape gives a stroke up. " +
  "The right mouse button, Alt and a pen's other end erase; two fingers zoom; so does Ctrl with the wheel.";

function render({ model, el }) {
  const photo = make("img", { alt: "", draggable: "false" });
  const canvas = make("canvas", { tabindex: "0", role: "img", class: "messi-ink" });
  const hints = make("canvas", { class: "messi-hints" }); // outlines of people, and the lasso
  const cursor = make("div", { class: "messi-cursor", hidden: "" });
  const status = make("span", { class: "messi-status", role: "status" });
  const [context, above] = [canvas.getContext("2d"), hints.getContext("2d")];
  let [width, height] = [0, 0];
  let packed = new Uint8Array(0); // the hole as Python has it, or is about to have it
  let [ink, layer, shown] = [packed, packed, packed]; // the same a value a pixel, the stroke, and both
  let [found, labels] = [null, null]; // as Python sent it; number of the person at each pixel, or 0
  let picture = null; // the bytes of the photo on screen
  let stroke = null; // {id, erase, at, outline} while the pointer is down
  let drag = null; // {id, x, y} while the photo is being moved
  let [tool, undone, redone, dirty, spot, hovered, spaced] = ["brush", [], [], null, null, 0, false];

  // -- what is shown -----------------------------------------------------------------------------------
  const flush = () => {
    if (!dirty) return;
    const [x0, y0, x1, y1] = dirty;
    dirty = null;
    if (x1 <= x0 || y1 <= y0) return;
    const image = context.createImageData(x1 - x0, y1 - y0);
    for (let y = y0, k = 0; y < y1; y++) {
      for (let i = y * width + x0; i < y * width + x1; i++, k += 4) {
        if (!shown[i]) continue;
        [image.data[k], image.data[k + 1], image.data[k + 2]] = INK;
        image.data[k + 3] = shown[i];
      }
    }
    context.putImageData(image, x0, y0);
  };
  const show = (box) => {
    blend(shown, ink, layer, stroke?.erase, width, box);
    if (!dirty) requestAnimationFrame(flush); // at most once a frame
    const both = (i) => (i < 2 ? Math.min : Math.max)(dirty[i], box[i]);
    dirty = dirty ? [0, 1, 2, 3].map(both) : box;
  };
  const all = () => [0, 0, width, height];
  const outlines = () => {
    above.clearRect(0, 0, width, height);
    if (labels && tool === "people") {
      const image = above.createImageData(width, height);
      const thick = Math.max(1, Math.round(width / 500));
      for (let i = 0; i < labels.length; i++) {
        if (!labels[i]) continue;
        const mine = labels[i];
        const within = [1, width].every((one) => labels[i - thick * one] === mine && labels[i + thick * one] === mine);
        if (!within) image.data.set(mine === hovered ? [255, 214, 0, 255] : [255, 255, 255, 200], 4 * i);
      }
      above.putImageData(image, 0, 0);
    }
    if (!stroke?.outline) return;
    for (const [colour, dash] of [["#fff", []], ["#000", [6, 6]]]) {
      above.strokeStyle = colour;
      above.setLineDash(dash);
      above.lineWidth = Math.max(1.5, width / 400);
      above.stroke(new Path2D(`M${stroke.outline.map(({ x, y }) => `${x} ${y}`).join("L")}Z`));
    }
  };

  // -- the hole and its history ------------------------------------------------------------------------
  const adopt = (next) => {
    packed = next;
    ink = unpack(next, width * height);
    show(all());
    const count = ink.reduce((sum, value) => sum + (value > 0), 0);
    const share = ((100 * count) / (ink.length || 1)).toFixed(1);
    status.textContent = count ? `hole: ${share} % of the photo` : "no hole painted";
    canvas.setAttribute("aria-label", `${model.get("label")}, ${status.textContent}. ${HELP}`);
    [undo.disabled, redo.disabled] = [!undone.length, !redone.length];
  };
  const remember = () => {
    undone = [...undone.slice(1 - DEPTH), packed];
    redone = [];
  };
  const send = (next) => {
    adopt(next);
    model.set("ink", new DataView(next.slice().buffer));
    model.save_changes();
  };
  const commit = (values) => {
    const next = pack(values);
    if (same(next, packed)) return adopt(next); // nothing changed: no message
    remember();
    send(next);
  };
  const travel = (from, to) => {
    if (!from.length || stroke) return;
    to.push(packed);
    send(from.pop());
  };
  const back = () => travel(undone, redone);
  const forth = () => travel(redone, undone);
  const clear = () => commit(new Uint8Array(ink.length));
  const invert = () => commit(ink.map((value) => 255 - value));

  // -- the tools ---------------------------------------------------------------------------------------
  const slider = (title, min, max, value) =>
    make("input", { type: "range", min, max, value, title, "aria-label": title });
  const choices = Object.entries(TOOLS).map(([name, title]) => iconButton(name, title, () => choose(name)));
  const choose = (name) => {
    if (name === "people" && !labels) return;
    tool = name;
    for (const node of choices) node.setAttribute("aria-pressed", node.dataset.tool === name);
    const pointers = { pan: "grab", people: "pointer", brush: "none", eraser: "none" };
    canvas.style.cursor = pointers[name] ?? "crosshair";
    cursor.hidden = true;
    outlines();
  };
  const undo = iconButton("undo", "Undo (Ctrl+Z)", back);
  const redo = iconButton("redo", "Redo (Ctrl+Shift+Z)", forth);
  const size = slider("Brush size, % of the photo", 1, 30, model.get("brush"));
  const softness = slider("Brush softness, %", 0, 100, Math.round(100 * model.get("softness")));
  const opacity = slider("Overlay opacity, %", 10, 90, Math.round(100 * model.get("opacity")));
  opacity.oninput = () => (canvas.style.opacity = opacity.value / 100);
  const radius = () => Math.max(0.75, (size.value / 200) * Math.max(width, height));
  const soft = () => softness.value / 100;
  const stage = make("div", { class: "messi-stage" });
  const sheet = make("div", { class: "messi-sheet" }, photo, canvas, hints);
  stage.append(sheet, cursor);
  const closer = iconButton("closer", "Zoom in (+)", () => zoom.by(ZOOMS.step));
  const farther = iconButton("farther", "Zoom out (-)", () => zoom.by(1 / ZOOMS.step));
  const whole = iconButton("whole", "Whole photo (0)", () => zoom.fit());
  const zoom = zooming(stage, sheet, (factor) => {
    farther.disabled = whole.disabled = factor <= ZOOMS.least;
    closer.disabled = factor >= ZOOMS.most;
  });
  const named = (text, input) => make("label", {}, text, input);
  const group = (label, ...nodes) => make("div", { role: "group", "aria-label": label }, ...nodes);
  const tools = make("div", { class: "messi-tools", role: "toolbar", "aria-label": "Painting tools" });
  tools.append(
    group("Tools", ...choices),
    group("History", undo, redo, iconButton("invert", "Invert (I)", invert), iconButton("clear", "Clear (Delete)", clear)),
    group("View", farther, whole, closer),
    group("Brush and overlay", named("size", size), named("soft", softness), named("overlay", opacity)),
    status,
  );

  // -- one stroke, whatever leads it: mouse, pen, finger or keys ---------------------------------------
  const place = ({ x, y }) => Math.min(height - 1, Math.floor(y)) * width + Math.min(width - 1, Math.floor(x));
  const person = (at) => labels?.[place(at)] ?? 0;
  const toggle = (number) => number && labels?.includes(number) && model.send({ toggle: number });
  const begin = (id, at, erase) => {
    if (tool === "pan") return; // Enter moves nothing
    if (tool === "people") return toggle(person(at));
    stroke = { id, erase: erase || tool === "eraser", at };
    if (tool === "lasso") stroke.outline = [at];
    else if (tool !== "fill") show(stamp(layer, width, height, at, at, radius(), soft()));
    else if (ink[place(at)] > 127 === stroke.erase) {
      flood(ink, layer, width, height, Math.floor(at.x), Math.floor(at.y));
      show(all());
    }
  };
  const proceed = (at) => {
    if (stroke.outline) stroke.outline.push(at);
    else if (tool !== "fill") show(stamp(layer, width, height, stroke.at, at, radius(), soft()));
    stroke.at = at;
    if (stroke.outline) outlines();
  };
  const finish = (keep) => {
    if (!stroke) return;
    if (keep && stroke.outline) fillOutline(layer, width, height, stroke.outline);
    if (keep) blend(shown, ink, layer, stroke.erase, width, all());
    const next = keep ? shown.slice() : ink;
    layer.fill(0);
    stroke = null;
    outlines();
    commit(next);
  };

  // -- the pointer; its capture keeps a stroke that leaves the photo -----------------------------------
  const fingers = new Map();
  const onPage = ({ clientX, clientY }) => ({ x: clientX, y: clientY });
  const point = ({ clientX, clientY }) => {
    const box = canvas.getBoundingClientRect();
    const scale = width / box.width;
    return { x: (clientX - box.left) * scale, y: (clientY - box.top) * scale };
  };
  const inside = ({ x, y }) => x >= 0 && y >= 0 && x < width && y < height;
  const ring = ({ x, y }, visible) => {
    const [box, frame] = [canvas.getBoundingClientRect(), stage.getBoundingClientRect()];
    const scale = box.width / width;
    cursor.hidden = !visible || !["brush", "eraser"].includes(tool);
    cursor.style.width = cursor.style.height = `${2 * radius() * scale}px`;
    const [left, top] = [box.left - frame.left + x * scale, box.top - frame.top + y * scale];
    cursor.style.transform = `translate(${left}px, ${top}px) translate(-50%, -50%)`;
  };
  const follow = (event) => {
    const at = point(event);
    ring(at, event.pointerType !== "touch");
    if (tool !== "people" || hovered === person(at)) return;
    hovered = person(at);
    outlines();
  };
  canvas.onpointerdown = (event) => {
    if (!ink.length) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") {
      fingers.set(event.pointerId, onPage(event));
      if (fingers.size > 1) return finish(false); // a second finger: not painting, but zooming
    }
    const at = point(event);
    if (stroke || drag || (!inside(at) && tool !== "pan")) return;
    if (tool === "pan" || event.button === 1 || spaced) drag = { id: event.pointerId, ...onPage(event) };
    else begin(event.pointerId, at, event.button === 2 || event.button === 5 || event.altKey);
  };
  canvas.onpointermove = (event) => {
    if (fingers.has(event.pointerId)) {
      const before = [...fingers.values()];
      fingers.set(event.pointerId, onPage(event));
      if (fingers.size === 2) return zoom.pinch(before, [...fingers.values()]);
    }
    if (drag?.id === event.pointerId) {
      zoom.move(event.clientX - drag.x, event.clientY - drag.y);
      Object.assign(drag, onPage(event));
    }
    follow(event);
    if (stroke?.id !== event.pointerId) return;
    const passed = event.getCoalescedEvents?.() ?? []; // the pen's positions between two frames
    for (const each of passed.length ? passed : [event]) proceed(point(each));
  };
  const release = (event, keep) => {
    fingers.delete(event.pointerId);
    if (drag?.id === event.pointerId) drag = null;
    if (stroke?.id === event.pointerId) finish(keep);
  };
  canvas.onpointerup = (event) => release(event, true);
  canvas.onpointercancel = (event) => release(event, false); // the browser took it: scroll, palm
  canvas.onpointerleave = () => {
    cursor.hidden = true;
    hovered = 0;
    if (tool === "people") outlines();
  };
  canvas.oncontextmenu = (event) => event.preventDefault();

  // -- keyboard: while the painter has the focus; the notebook must not see the same keys --------------
  const step = (input, up) => (up ? input.stepUp() : input.stepDown());
  const walk = (dx, dy) => {
    const pace = Math.max(1, radius() / 2);
    spot ??= { x: width / 2, y: height / 2 };
    const within = (value, most) => Math.min(most - 0.5, Math.max(0.5, value));
    spot = { x: within(spot.x + dx * pace, width), y: within(spot.y + dy * pace, height) };
    ring(spot, true);
    if (stroke?.id === "keys") proceed(spot);
  };
  const press = () => {
    spot ??= { x: width / 2, y: height / 2 };
    if (stroke?.outline) return finish(true); // the second Enter closes the lasso
    begin("keys", spot, false);
    if (!stroke?.outline) finish(true);
  };
  const arrows = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
  const keys = { i: invert, delete: clear, backspace: clear, escape: () => finish(false) };
  for (const name of Object.keys(TOOLS)) keys[TOOLS[name].at(-2).toLowerCase()] = () => choose(name);
  for (const number of [1, 2, 3, 4, 5, 6, 7, 8, 9]) keys[number] = () => toggle(number);
  Object.assign(keys, { "[": () => step(size, false), "]": () => step(size, true) });
  Object.assign(keys, { "shift+{": () => step(softness, false), "shift+}": () => step(softness, true) });
  Object.assign(keys, { "ctrl+z": back, "ctrl+shift+z": forth, "ctrl+y": forth });
  for (const key of ["+", "=", "shift++"]) keys[key] = () => zoom.by(ZOOMS.step);
  Object.assign(keys, { "-": () => zoom.by(1 / ZOOMS.step), 0: () => zoom.fit() });
  const root = make("div", { class: "messi-painter", role: "group", "aria-label": "Mask painter" }, stage, tools);
  root.onkeydown = (event) => {
    keepKey(event);
    const held = (event.ctrlKey || event.metaKey ? "ctrl+" : "") + (event.shiftKey ? "shift+" : "");
    const key = event.key.toLowerCase();
    let action = keys[held + key];
    if (event.target === canvas && !held) {
      if (arrows[key]) action = () => walk(...arrows[key]);
      if (key === "enter") action = press;
      if (key === " ") action = () => (spaced = true);
    }
    if (!action || !ink.length) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  };
  root.onkeyup = (event) => event.key === " " && (spaced = false);
  canvas.addEventListener("blur", () => (spaced = false));

  // -- what Python says: a new photo, a new hole (which undo can take back), people --------------------
  const listen = () => {
    const next = bytesOf(model.get("ink"));
    if (model.get("photo_bytes") !== picture) {
      picture = model.get("photo_bytes");
      showBytes(photo, picture);
      [width, height] = [model.get("width"), model.get("height")];
      for (const node of [canvas, hints]) [node.width, node.height] = [width, height];
      stage.style.setProperty("--ratio", width / (height || 1));
      [layer, shown] = [new Uint8Array(width * height), new Uint8Array(width * height)];
      [stroke, drag, undone, redone, spot] = [null, null, [], [], null];
      zoom.fit();
      adopt(next);
    } else if (!same(next, packed)) {
      remember();
      adopt(next);
    }
    if (model.get("people_bytes") === found) return;
    found = model.get("people_bytes");
    labels = found.byteLength && found.byteLength === ink.length ? bytesOf(found) : null;
    choices.find((node) => node.dataset.tool === "people").disabled = !labels;
    if (labels) choose("people");
    else if (tool === "people") choose("brush");
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

// Before and after under one slider, the candidates as thumbnails, and what can be saved.

function view({ model, el }) {
  const before = make("img", { alt: "", draggable: "false" });
  const after = make("img", { alt: "", draggable: "false" });
  const [divider, handle] = [make("div", { class: "messi-divider" }), make("div", { class: "messi-handle" })];
  const slider = make("input", { type: "range", min: 0, max: 100, step: "any", value: 0 });
  slider.setAttribute("aria-label", "Divider: the photo on its left, the result on its right, %");
  const stage = make("div", { class: "messi-stage" }, after, before, divider, handle, slider);
  const thumbs = make("div", { class: "messi-thumbs", role: "radiogroup", "aria-label": "Candidates" });
  const status = make("span", { class: "messi-status", role: "status" });
  const save = (what, title) => {
    const node = iconButton("save", title, () => model.send({ save: what }));
    node.classList.add("messi-wide");
    node.dataset.tool = `save-${what}`;
    node.append(title);
    return node;
  };
  const tools = make("div", { class: "messi-tools", role: "toolbar", "aria-label": "Result" });
  tools.append(save("result", "Save result"), save("mask", "Save mask"), status);

  const divide = () => {
    before.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`;
    stage.style.setProperty("--at", `${slider.value}%`);
  };
  slider.oninput = divide;
  const seen = {};
  const fresh = (name) => model.get(name) !== seen[name] && (seen[name] = model.get(name));
  const listen = () => {
    if (fresh("before_bytes")) {
      showBytes(before, seen.before_bytes);
      before.onload = () => stage.style.setProperty("--ratio", before.naturalWidth / before.naturalHeight);
    }
    if (fresh("after_bytes")) {
      showBytes(after, seen.after_bytes);
      slider.value = 0; // a new result is shown whole
      divide();
    }
    if (fresh("thumbs")) {
      for (const image of thumbs.querySelectorAll("img")) URL.revokeObjectURL(image.src);
      const buttons = seen.thumbs.map((bytes, i) => {
        const image = make("img", { alt: "" });
        showBytes(image, bytes);
        const node = make("button", { type: "button", role: "radio", "aria-label": `Candidate ${i + 1}` }, image);
        node.onclick = () => {
          model.set("chosen", i);
          model.save_changes();
        };
        return node;
      });
      thumbs.replaceChildren(...buttons);
      thumbs.hidden = buttons.length < 2;
    }
    [...thumbs.children].forEach((node, i) => node.setAttribute("aria-checked", i === model.get("chosen")));
    status.textContent = model.get("caption");
  };
  const receive = (content, buffers) => {
    if (!content.file) return;
    const address = URL.createObjectURL(new Blob([bytesOf(buffers[0])], { type: content.mime }));
    make("a", { href: address, download: content.file }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000); // the download has long begun
  };
  model.on("change", listen);
  model.on("msg:custom", receive);
  listen();
  divide();
  const root = make("div", { class: "messi-viewer", role: "group", "aria-label": "Result" }, stage, thumbs, tools);
  root.onkeydown = keepKey;
  el.append(root);
  return () => {
    model.off("change", listen);
    model.off("msg:custom", receive);
  };
}

export default { render: view };

// What both widgets need to build their part of the page.

const ICONS = {
  brush: "M17.5 2.5 9 11M6 11q4 0 3.5 3.5-.5 3-6.5 3 2-1.5 1.5-3.5Q5 11 6 11z",
  eraser: "M3 12l8-8 6 5.5L10 17H7zM7.5 7.5l6 5.5M10 17h7",
  lasso: "M10 3c4.5 0 7.5 2 7.5 4.7S14.5 12.5 10 12.5 2.5 10.4 2.5 7.7 5.5 3 10 3zM5 11.5q-1.5 3 1.5 3.5T7 17.5",
  fill: "M9 3l7 7-6 6a1.5 1.5 0 0 1-2 0l-5-5a1.5 1.5 0 0 1 0-2zM6 2l3 3M3 10h13M17.5 13.5q1.5 2.3 0 3.5-1.5-1.2 0-3.5z",
  people: "M10 3.5a2.7 2.7 0 1 1 0 5.4 2.7 2.7 0 1 1 0-5.4zM4.5 17q0-6 5.5-6t5.5 6z",
  pan: "M10 2v16M2 10h16M10 2 8 4M10 2l2 2M10 18l-2-2M10 18l2-2M2 10l2-2M2 10l2 2M18 10l-2-2M18 10l-2 2",
  undo: "M7 3 3 7l4 4M3 7h9q5 0 5 5t-5 5H7",
  redo: "M13 3l4 4-4 4M17 7H8q-5 0-5 5t5 5h5",
  invert: "M10 3a7 7 0 1 0 0 14a7 7 0 1 0 0-14zM10 3v14M13 4.5v11M15.5 6.5v7",
  clear: "M3 5h14M7.5 5V3h5v2M5 5l1 12h8l1-12M8.5 8.5v5M11.5 8.5v5",
  closer: "M8.5 3a5.5 5.5 0 1 1 0 11 5.5 5.5 0 1 1 0-11zM12.5 12.5 17.5 17.5M8.5 6v5M6 8.5h5",
  farther: "M8.5 3a5.5 5.5 0 1 1 0 11 5.5 5.5 0 1 1 0-11zM12.5 12.5 17.5 17.5M6 8.5h5",
  whole: "M3 7V3h4M13 3h4v4M17 13v4h-4M7 17H3v-4",
  save: "M10 3v9M6.5 8.5 10 12l3.5-3.5M3.5 13v4h13v-4",
};

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice();

function iconButton(name, title, action) {
  const node = make("button", { type: "button", title, "aria-label": title, "data-tool": name });
  node.innerHTML = `<svg viewBox="0 0 20 20" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`;
  node.onclick = action;
  return node;
}

// In JupyterLab a B or an X that bubbles up would insert or cut a cell. Ctrl+S and its like still save.
function keepKey(event) {
  if (!event.ctrlKey && !event.metaKey && event.key !== "Tab") event.stopPropagation();
}

// A view's image from bytes that Python sent; the one before is forgotten.
function showBytes(image, view) {
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(new Blob([bytesOf(view)]));
}

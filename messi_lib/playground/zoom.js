// Zoom and pan of the sheet (photo and ink) within its stage: a CSS transform, nothing is redrawn.

const ZOOMS = { least: 1, most: 12, step: 1.5 };

function zooming(stage, sheet, changed) {
  const view = { zoom: 1, x: 0, y: 0 };
  const apply = () => {
    const { width, height } = stage.getBoundingClientRect();
    view.x = Math.min(0, Math.max(width * (1 - view.zoom), view.x)); // the sheet covers the stage
    view.y = Math.min(0, Math.max(height * (1 - view.zoom), view.y));
    sheet.style.transform = view.zoom === 1 ? "" : `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
    sheet.classList.toggle("messi-near", view.zoom >= 3); // pixels as pixels
    changed(view.zoom);
  };
  // Zoom by a factor with the point (x, y) of the page staying where it is; without one: the middle.
  const by = (factor, x, y) => {
    const box = stage.getBoundingClientRect();
    const zoom = Math.min(ZOOMS.most, Math.max(ZOOMS.least, view.zoom * factor));
    const [px, py] = [(x ?? box.left + box.width / 2) - box.left, (y ?? box.top + box.height / 2) - box.top];
    view.x = px - ((px - view.x) * zoom) / view.zoom;
    view.y = py - ((py - view.y) * zoom) / view.zoom;
    view.zoom = zoom;
    apply();
  };
  const move = (dx, dy) => {
    view.x += dx;
    view.y += dy;
    apply();
  };
  const fit = () => {
    Object.assign(view, { zoom: 1, x: 0, y: 0 });
    apply();
  };
  // Two fingers: their middle pans, their distance zooms. Positions [{x, y}, {x, y}] before and after.
  const pinch = (before, after) => {
    const middle = ([a, b]) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
    const span = ([a, b]) => Math.max(1, Math.hypot(a.x - b.x, a.y - b.y));
    const [was, is] = [middle(before), middle(after)];
    move(is.x - was.x, is.y - was.y);
    by(span(after) / span(before), is.x, is.y);
  };
  stage.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the notebook
      event.preventDefault();
      by(Math.exp(-event.deltaY / 300), event.clientX, event.clientY);
    },
    { passive: false },
  );
  return { by, move, fit, pinch, view };
}

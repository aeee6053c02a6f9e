// What is painted: a value of 0 to 255 for each pixel, row by row. Functions on arrays, without a page.
// Python joins this file, `zoom.js` and `painter.js` into the one module that a widget may have.

// How strongly a round brush covers a pixel whose centre lies `distance` from its path: 255 within the
// hard core, then a smooth step down to 0 at `radius`.
function coverage(distance, radius, softness) {
  const core = radius * (1 - softness);
  if (distance <= core) return 255;
  const left = (radius - distance) / (radius - core);
  return Math.round(255 * left * left * (3 - 2 * left));
}

// A stroke's straight piece into `layer`, where the larger value stays. Returns the box that it may
// have changed: [x0, y0, x1, y1], the end excluded.
function stamp(layer, width, height, from, to, radius, softness) {
  const x0 = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius));
  const y0 = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
  const x1 = Math.min(width, Math.ceil(Math.max(from.x, to.x) + radius));
  const y1 = Math.min(height, Math.ceil(Math.max(from.y, to.y) + radius));
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const square = dx * dx + dy * dy;
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      const [ax, ay] = [x + 0.5 - from.x, y + 0.5 - from.y];
      const along = square && Math.min(1, Math.max(0, (ax * dx + ay * dy) / square));
      const [bx, by] = [ax - along * dx, ay - along * dy];
      const far = bx * bx + by * by;
      if (far > radius * radius) continue;
      const value = softness ? coverage(Math.sqrt(far), radius, softness) : 255;
      if (value > layer[y * width + x]) layer[y * width + x] = value;
    }
  }
  return [x0, y0, Math.max(x0, x1), Math.max(y0, y1)];
}

// The inside of a closed outline (non-zero winding, so that a loop that crosses itself has no gaps):
// pixels whose centre lies in it become 255.
function fillOutline(layer, width, height, points) {
  for (let y = 0; y < height; y++) {
    const line = y + 0.5;
    const crossings = [];
    points.forEach((a, i) => {
      const b = points[(i + 1) % points.length];
      if (a.y <= line === b.y <= line) return;
      crossings.push([a.x + ((line - a.y) * (b.x - a.x)) / (b.y - a.y), a.y < b.y ? 1 : -1]);
    });
    crossings.sort((a, b) => a[0] - b[0]);
    let winding = 0;
    for (let k = 0; k + 1 < crossings.length; k++) {
      winding += crossings[k][1];
      const [start, end] = [crossings[k][0], crossings[k + 1][0]].map((x) => Math.ceil(x - 0.5));
      if (winding) layer.fill(255, y * width + Math.max(0, start), y * width + Math.min(width, Math.max(0, end)));
    }
  }
}

// The connected pixels around (x, y) that are as painted, or as empty, as that one become 255.
function flood(ink, layer, width, height, x, y) {
  const painted = ink[y * width + x] > 127;
  const open = (i) => !layer[i] && ink[i] > 127 === painted;
  const waiting = [[x, y]];
  while (waiting.length) {
    let [left, row] = waiting.pop();
    if (!open(row * width + left)) continue;
    while (left > 0 && open(row * width + left - 1)) left--;
    const begun = { [row - 1]: false, [row + 1]: false }; // one entry for each run of open pixels
    for (let i = left; i < width && open(row * width + i); i++) {
      layer[row * width + i] = 255;
      for (const other of [row - 1, row + 1]) {
        const enters = other >= 0 && other < height && open(other * width + i);
        if (enters && !begun[other]) waiting.push([i, other]);
        begun[other] = enters;
      }
    }
  }
}

// A brush keeps the larger value of each pixel, an eraser what it leaves. Into `result`, rows y0 to y1.
function blend(result, base, layer, erase, width, [x0, y0, x1, y1]) {
  for (let y = y0; y < y1; y++)
    for (let i = y * width + x0; i < y * width + x1; i++)
      result[i] = erase ? Math.min(base[i], 255 - layer[i]) : Math.max(base[i], layer[i]);
}

// What travels: one bit a pixel (most significant first, as numpy.packbits) where all values are 0 or
// 255, else the values themselves.
function pack(ink) {
  const bits = new Uint8Array(Math.ceil(ink.length / 8));
  for (let i = 0; i < ink.length; i++) {
    if (ink[i] === 255) bits[i >> 3] |= 128 >> (i & 7);
    else if (ink[i]) return ink.length > 1 ? ink.slice() : Uint8Array.of(128);
  }
  return bits;
}

function unpack(bytes, count) {
  if (bytes.length === count && count > 1) return bytes.slice();
  const ink = new Uint8Array(count);
  for (let i = 0; i < count; i++) if (bytes[i >> 3] & (128 >> (i & 7))) ink[i] = 255;
  return ink;
}

const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);

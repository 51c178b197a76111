// Reads points.bin, the binary columns of the map's points, which likewise/viewer/columns.py writes.
//
//   const table = parseColumns(await (await fetch("api/points.bin")).arrayBuffer());
//   table.rows, table.header, table.columns.x   // a number, an object, a Float32Array
//
// In a page that must not load anything: put this file and raster.js, as they are, into one
// <script type="module"> before your own code, and the bytes as base64:  parseColumns(fromBase64(text))

const TYPES = { float32: Float32Array, uint16: Uint16Array, int32: Int32Array, uint8: Uint8Array };

// {rows, header, columns: name → typed array}. A column with a scale becomes Float32Array: least + scale × number.
// Throws an Error that says what is wrong with the bytes.
export function parseColumns(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 8 || String.fromCharCode(...bytes.subarray(0, 4)) !== "LWC1") {
    throw new Error("these are no points of likewise");
  }
  const length = new DataView(buffer).getUint32(4, true);
  if (8 + length > bytes.length) throw new Error("the points are cut off");
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const columns = {};
  for (const { name, type, offset, scale, least } of header.columns) {
    const Type = TYPES[type];
    if (!Type) throw new Error(`the column ${name} is of an unknown type, ${type}`);
    if (8 + length + offset + header.rows * Type.BYTES_PER_ELEMENT > bytes.length) throw new Error("the points are cut off");
    const stored = new Type(buffer, 8 + length + offset, header.rows);
    columns[name] = scale === undefined ? stored : Float32Array.from(stored, (number) => least + scale * number);
  }
  return { rows: header.rows, header, columns };
}

export function fromBase64(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
  return bytes.buffer;
}

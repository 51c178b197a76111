// Asks the server. What it refuses becomes an Error with the server's sentence; so does the answer of a server that
// serves another run or index than when the page was opened, for its rows are other items.

let opened = null; // what was served then

async function asked(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
  const mark = response.headers.get("likewise-run"); // null: the answer is a proxy's
  opened = opened ?? mark;
  if (mark !== null && mark !== opened) throw new Error("the run or its index was made anew since this page was opened; reload the page.");
  if (response.ok) return response;
  let detail = `the server answered ${response.status}`;
  try {
    detail = (await response.json()).detail || detail;
  } catch {
    // the answer is not of this server
  }
  throw new Error(detail);
}

const sent = (value) => ({ method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(value) });

export const json = async (path, value) => (await asked(path, value === undefined ? {} : sent(value))).json();
export const bytes = async (path, value) => (await asked(path, value === undefined ? {} : sent(value))).arrayBuffer();
export const blob = async (path, value) => (await asked(path, sent(value))).blob();
export const upload = async (path, file) => (await asked(path, { method: "POST", body: file })).json();
export const pictureOf = (id) => `api/picture?id=${encodeURIComponent(id)}`;

export function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

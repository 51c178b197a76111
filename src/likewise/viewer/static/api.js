// Asks the server. What it refuses becomes an Error with the server's sentence.

async function asked(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer; is it still running?");
  }
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

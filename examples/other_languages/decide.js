// Weights for requests, from the bundle that `paretune export` wrote; no Python.
//
//   node decide.js BUNDLE < requests.jsonl
//
// One JSON object per line: {"features": {...}, "scalarisation": [0.4, 0.6]}. One line of {"weights", "action", "values"} comes back for each.
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const readline = require("node:readline");
const ort = require("onnxruntime-node");

// Every file must be what SHA256SUMS says: a flipped bit in a graph changes answers without an error.
function verified(folder) {
  for (const line of readFileSync(join(folder, "SHA256SUMS"), "utf8").trim().split("\n")) {
    const [sum, name] = line.split("  ");
    const found = createHash("sha256").update(readFileSync(join(folder, name))).digest("hex");
    if (found !== sum) throw new Error(`${name} differs from its checksum`);
  }
  return JSON.parse(readFileSync(join(folder, "serving.json"), "utf8"));
}

// One tensor per feature; what is not finite, of another size or absent where training never met that is refused by name.
function read(features, notes) {
  const feeds = {};
  for (const { name, kind, size, missing, absent } of notes) {
    const value = features[name] ?? null;
    if (value === null && !missing) throw new Error(`feature ${name} is missing`);
    if (kind === "text") {
      if (value !== null && typeof value !== "string") throw new Error(`feature ${name} is not text`);
      feeds[name] = new ort.Tensor("string", [value ?? absent], [1]);
    } else if (kind === "tokens") {
      if (!Array.isArray(value) || !value.every((token) => Number.isInteger(token) && token >= -1 && token < 2 ** 31)) {
        throw new Error(`feature ${name} is no list of tokens`);
      }
      const newest = size ? value.slice(-size) : [];
      const row = new Int32Array(size).fill(-1);
      row.set(newest, size - newest.length);
      feeds[name] = new ort.Tensor("int32", row, [1, size]);
    } else {
      const numbers = value === null ? Array(size).fill(NaN) : kind === "number" ? [value] : value;
      const row = Float32Array.from(numbers);
      const right = Array.isArray(numbers) && numbers.length === size && numbers.every((number) => typeof number === "number");
      if (value !== null && !(right && row.every(Number.isFinite))) throw new Error(`feature ${name} is not ${size} finite number(s)`);
      feeds[name] = new ort.Tensor("float32", row, kind === "number" ? [1] : [1, size]);
    }
  }
  return feeds;
}

async function main(folder) {
  const notes = verified(folder);
  const session = await ort.InferenceSession.create(join(folder, "policy.onnx"), { intraOpNumThreads: 1 });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { features, scalarisation } = JSON.parse(line);
    const feeds = read(features, notes.features);
    feeds.scalarisation = new ort.Tensor("float32", Float32Array.from(scalarisation), [1, scalarisation.length]);
    const { weights, action, values } = await session.run(feeds);
    console.log(JSON.stringify({ weights: [...weights.data], action: Number(action.data[0]), values: [...values.data] }));
  }
}

main(process.argv[2]).catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});

"use strict";

const { createHash } = require("node:crypto");
const { readFile, writeFile } = require("node:fs/promises");
const { Worker, isMainThread, parentPort } = require("node:worker_threads");

async function main() {
  const worker = new Worker(__filename);
  const sum = await new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  console.log("worker:", sum);
  await writeFile("/tmp/note", "skill\n");
  const hash = createHash("sha256").update(await readFile("/tmp/note"));
  console.log("file:", hash.digest("hex"));
}

if (isMainThread) {
  main();
} else {
  let sum = 0;
  for (let number = 0; number < 100; number += 1) {
    sum += number * number;
  }
  parentPort.postMessage(sum);
}

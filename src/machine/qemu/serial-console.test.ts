import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import { SerialConsole } from "./serial-console.ts";

test("a letter of several bytes arrives whole though its bytes came apart, and is in the output from the start", async () => {
  const [near, far] = duplexPair();
  const console = new SerialConsole(near);
  let heard = "";
  const stop = console.onOutput((text) => {
    heard += text;
  });
  const bytes = Buffer.from("grüß");
  for (const byte of bytes) {
    far.write(Uint8Array.of(byte));
    await new Promise(setImmediate);
  }
  stop();
  far.write("!");
  await new Promise(setImmediate);
  assert.equal(heard, "grüß");
  assert.equal(console.output, "grüß!");
});

test("what is typed goes to the guest, and a VM that goes away is no error", async () => {
  const [near, far] = duplexPair();
  const console = new SerialConsole(near);
  const typed = new Promise<string>((resolve) => {
    far.setEncoding("utf8").once("data", resolve);
  });
  console.send("ls\n");
  assert.equal(await typed, "ls\n");
  near.destroy(new Error("gone"));
  await new Promise(setImmediate);
  console.close();
});

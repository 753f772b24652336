// Liveness: silence is broken in time, and only the peer's silence ends a link.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Liveness } from "./liveness.ts";

test("a keepalive is due after a silence of our own, and the peer is gone after a longer one of its own", () => {
  const liveness = new Liveness({ keepaliveMs: 10, silenceMs: 40 });
  assert.equal(liveness.observe(1000, 0, 0), "fine");
  assert.equal(liveness.observe(1009, 0, 0), "fine");
  assert.equal(liveness.observe(1010, 0, 0), "keepalive-due");
  assert.equal(liveness.observe(1011, 24, 0), "fine");
  assert.equal(liveness.observe(1021, 24, 5), "keepalive-due");
  assert.equal(liveness.observe(1060, 99, 5), "fine");
  assert.equal(liveness.observe(1061, 99, 5), "peer-silent");
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { verdictOf } from "./baseline-report.ts";

const good = { verdict: "consistent", reasons: [] } as const;

test("a guest that answers pings, and has its VF again, has the verdict that its download gave it", () => {
  assert.deepEqual(verdictOf(good, { answersAfter: 1, lacksVf: false }), good);
  const corrupt = { verdict: "corrupt", reasons: ["The download."] } as const;
  assert.deepEqual(verdictOf(corrupt, { answersAfter: 1, lacksVf: false }), corrupt);
});

test("a guest that is silent after the move, or got no VF, is stalled; a corrupt one stays corrupt", () => {
  const silent = verdictOf(good, { answersAfter: 0, lacksVf: false });
  assert.equal(silent.verdict, "stalled");
  assert.match(silent.reasons.join(" "), /answered no ping/);
  const without = verdictOf(good, { answersAfter: 9, lacksVf: true });
  assert.equal(without.verdict, "stalled");
  assert.match(without.reasons.join(" "), /through a VF/);
  const both = verdictOf({ verdict: "corrupt", reasons: ["The download."] }, { answersAfter: 0, lacksVf: true });
  assert.equal(both.verdict, "corrupt");
  assert.equal(both.reasons.length, 3);
});

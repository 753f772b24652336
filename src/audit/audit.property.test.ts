import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SeededRandom } from "../base/random.ts";
import { audit } from "./audit.ts";
import { realScale, toyScale, type BenchOptions } from "./bench-guest.fixture.ts";
import { LegalHistoryMaker, type LegalHistory } from "./legal-history.fixture.ts";
import type { ReceiveCut } from "./verdict.ts";

const seeds = fc.integer({ min: 0, max: 0x7fff_ffff });
const smallRealScale: BenchOptions = { ...realScale, ringDescriptors: 16, memoryBytes: 512 * 1024, queues: 2 };

function checkHistory(history: LegalHistory): void {
  const verdict = audit(history.evidence);
  assert.deepEqual(
    verdict.corruptions.map(({ hazard, sentence }) => `${hazard}: ${sentence}`),
    [],
  );
  assert.equal(verdict.outcome, "consistent");
  assert.deepEqual(
    [verdict.frames.delivered, verdict.frames.discarded, verdict.frames.sentTwice],
    [history.framesDelivered, history.framesDiscarded, history.framesSentTwice],
  );
}

test("a random legal history with a random legal cut of every queue is consistent, and its frames are counted right", () => {
  fc.assert(
    fc.property(seeds, fc.integer({ min: 0, max: 120 }), (seed, steps) => {
      checkHistory(new LegalHistoryMaker(seed, toyScale).make(steps));
    }),
    { numRuns: 200 },
  );
  fc.assert(
    fc.property(seeds, (seed) => {
      checkHistory(new LegalHistoryMaker(seed, smallRealScale).make(200));
    }),
    { numRuns: 15 },
  );
});

test("one wrong byte is always caught outside the posted buffers, and never inside", () => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const history = new LegalHistoryMaker(seed, toyScale).make(60);
      const random = new SeededRandom(seed);
      const image = history.destinationMemory;
      for (let i = 0; i < 20; i++) {
        const address = random.below(image.length);
        const before = image[address] ?? 0;
        image[address] = before ^ (1 + random.below(255));
        const verdict = audit(history.evidence);
        assert.equal(verdict.outcome, history.isExcused(address) ? "consistent" : "corrupt", `address ${address}`);
        // A wrong byte in a ring moves the cut, so that more than this byte is not what it must be.
        const isCounted = verdict.outcome === "corrupt" && address >= history.ringsEnd;
        if (isCounted) assert.deepEqual([verdict.totals.bytes, verdict.totals.pages], [1, 1]);
        image[address] = before;
      }
    }),
    { numRuns: 40 },
  );
});

test("the random histories show what a legal cut has to cope with", () => {
  const seen = { carried: 0, insideFrame: 0, discarded: 0, sentTwice: 0, inFlightAtPause: 0, owed: 0 };
  for (let seed = 0; seed < 200; seed++) {
    const { evidence } = new LegalHistoryMaker(seed, toyScale).make(20 + (seed % 100));
    const { receive, frames } = audit(evidence);
    if (receive.some(({ descriptorsCarried }) => descriptorsCarried > 0)) seen.carried++;
    if (receive.some(({ isInsideFrame }) => isInsideFrame)) seen.insideFrame++;
    if (frames.discarded > 0) seen.discarded++;
    if (frames.sentTwice > 0) seen.sentTwice++;
    if (receive.some(isBehindPause)) seen.inFlightAtPause++;
    const heads = evidence.vfAtResume.registers["VFTDH"] ?? [];
    if (evidence.vfAtResume.transmit.queues.some(({ reported }, queue) => reported !== heads[queue])) seen.owed++;
  }
  for (const [what, times] of Object.entries(seen)) assert.ok(times > 0, `no history with ${what}`);
});

/** The cut lies before the head at the pause: write-backs were in flight and stayed behind. */
function isBehindPause({ cut, headAtPause, tail, ringDescriptors }: ReceiveCut): boolean {
  const toTail = (slot: number): number => (tail - slot + ringDescriptors) % ringDescriptors;
  return toTail(cut) > toTail(headAtPause);
}

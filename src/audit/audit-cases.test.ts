import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SeededRandom } from "../base/random.ts";
import { dmaTag, DmaPurpose } from "../iommu/dma-port.ts";
import { RXD_STAT_DD } from "../nic/descriptors.ts";
import { savedRows } from "../nic/register-state.ts";
import * as register from "../nic/registers.ts";
import { audit } from "./audit.ts";
import { realScale, toyScale } from "./bench-guest.fixture.ts";
import { LegalHistoryMaker } from "./legal-history.fixture.ts";
import { makeFrame } from "./saved-vf.fixture.ts";
import { droppedScene, legalScene, Scene, specimens } from "./specimens.fixture.ts";
import type { Verdict } from "./verdict.ts";

function assertConsistent(verdict: Verdict): void {
  assert.deepEqual(
    verdict.corruptions.map(({ hazard, sentence }) => `${hazard}: ${sentence}`),
    [],
  );
}

const hazardsOf = (verdict: Verdict): string[] => Object.keys(verdict.hazards);

test("a posted descriptor that still has DD from its last life is not taken for done", () => {
  const scene = new Scene({ ...toyScale, queues: 1 });
  scene.warmUp(20).pause();
  scene.receive();
  scene.cut(0);
  const verdict = audit(scene.evidence());
  assertConsistent(verdict);
  const cut = verdict.receive[0]?.cut ?? 0;
  const status = scene.image[scene.bench.slotAddress(0, cut) + 8] ?? 0;
  assert.equal(status & RXD_STAT_DD, RXD_STAT_DD);
  assert.equal(cut, scene.vfHead);
});

test("a frame that the pause itself cut is legal if the VF knows that it owes the end, and a half frame if not", () => {
  const scene = new Scene().warmUp();
  const beats = scene.bench.beats(0, makeFrame(scene.random, 5000));
  for (const beat of beats.take(2)) beat();
  scene.bench.pause();
  scene.cut(0);
  const verdict = audit(scene.evidence());
  assertConsistent(verdict);
  assert.equal(verdict.receive[0]?.isInsideFrame, true);
  const [queue] = scene.vfState.receive.queues;
  if (queue !== undefined) queue.frameInProgress = false;
  assert.deepEqual(hazardsOf(audit(scene.evidence())), ["half-frame"]);
});

test("write-backs in flight at the pause belong to the undecided slots, not to the driver's", () => {
  const scene = new Scene().warmUp();
  const beats = [...scene.bench.beats(0, makeFrame(scene.random, 60))];
  scene.bench.set(register.VFRDH(0), scene.head + 1);
  scene.bench.pause();
  scene.bench.set(register.VFRDH(0), scene.head - 1);
  scene.cut(0);
  for (const beat of beats) beat();
  const verdict = audit(scene.evidence());
  assertConsistent(verdict);
  assert.deepEqual([verdict.receive[0]?.cut, verdict.receive[0]?.headAtPause], [4, 5]);
  assert.equal(verdict.frames.discarded, 1);
});

test("buffers that arrive late make a done frame corrupt under the name late-write", () => {
  const scene = new Scene().warmUp().pause();
  const [buffer, writeBack] = [...scene.bench.beats(0, makeFrame(scene.random, 60), { relaxed: true })];
  writeBack?.();
  scene.bench.ledger.markDeviceStopped();
  scene.cut(0);
  buffer?.();
  assert.deepEqual(hazardsOf(audit(scene.evidence())), ["late-write"]);
});

test("a buffer that never landed behind its write-back is not passed over", () => {
  const scene = new Scene().warmUp().pause();
  const [, writeBack] = [...scene.bench.beats(0, makeFrame(scene.random, 60), { relaxed: true })];
  writeBack?.();
  const verdict = audit(scene.cut(0).evidence());
  assert.deepEqual(hazardsOf(verdict), ["relaxed-ordering"]);
});

test("dropped rings are legal without done descriptors, and excuse nothing but themselves and what was posted", () => {
  const scene = droppedScene();
  const verdict = audit(scene.evidence({ droppedRings: true }));
  assertConsistent(verdict);
  assert.ok(hazardsOf(audit(scene.evidence())).includes("register-mismatch"));
  scene.flip(scene.bench.cpuStart);
  assert.deepEqual(hazardsOf(audit(scene.evidence({ droppedRings: true }))), ["stale-cpu-page"]);
});

test("dropped rings whose head write-back is still armed are caught", () => {
  const scene = droppedScene().setRegister("VFTDWBAL", 0, 0x5001);
  assert.deepEqual(hazardsOf(audit(scene.evidence({ droppedRings: true }))), ["stale-head-writeback"]);
});

test("a completion that the destination's device still owes is not missed", () => {
  const scene = new Scene().warmUp();
  scene.bench.send(0, 1);
  scene.pause();
  scene.bench.sendFrame(0, false);
  scene.cut(0);
  assertConsistent(audit(scene.evidence()));
  scene.bench.reportSent(0);
  assertConsistent(audit(scene.evidence()));
  const [queue] = scene.vfState.transmit.queues;
  if (queue !== undefined) queue.reported = 5;
  assert.deepEqual(hazardsOf(audit(scene.evidence())), ["lost-completion"]);
});

test("context descriptors between the pause and the transmit head set the slots that are expected", () => {
  const scene = new Scene().warmUp();
  scene.bench.send(0, 1, { index: 1, value: 77 });
  scene.pause();
  const atPause = scene.bench.save();
  scene.bench.sendFrame(0);
  scene.cut(0);
  assertConsistent(audit(scene.evidence()));
  const { transmit } = scene.vfState;
  for (const queue of atPause.transmit.queues) queue.reported = 6;
  scene.vf = { ...scene.vfState, transmit: { ...transmit, queues: atPause.transmit.queues } };
  assert.deepEqual(hazardsOf(audit(scene.evidence())), ["context-slot"]);
});

test("frames that both devices send are counted, and are no corruption", () => {
  const scene = new Scene().warmUp();
  for (let i = 0; i < 3; i++) scene.bench.send(0, 2);
  scene.pause();
  scene.bench.sendFrame(0);
  scene.cut(0);
  scene.bench.sendFrame(0);
  scene.bench.sendFrame(0);
  const verdict = audit(scene.evidence());
  assertConsistent(verdict);
  assert.equal(verdict.frames.sentTwice, 2);
});

/** In pages of the CPU. */
const headWriteBackTo = 0x70_0000;
function headWriteBackScene(): Scene {
  const scene = new Scene();
  scene.bench.set(register.VFTDWBAL(0), headWriteBackTo | register.TDWBAL_HEAD_WB_ENABLE);
  scene.bench.send(0, 1);
  scene.bench.send(0, 1);
  return scene.pause();
}

/** Sends one frame, and reports it by writing the head instead of DD. */
function sendWithHeadWriteBack(scene: Scene): void {
  scene.bench.sendFrame(0, false);
  const head = scene.bench.get(register.VFTDH(0));
  const tag = dmaTag(DmaPurpose.txHeadWriteBack, 0, head, false);
  scene.bench.port.writeWords(headWriteBackTo, Uint32Array.of(head), 1, tag);
  const [state] = scene.bench.transmit;
  if (state !== undefined) state.reported = head;
}

test("with head write-back the image must show the head of the frames that are sent, and no other", () => {
  const scene = headWriteBackScene();
  sendWithHeadWriteBack(scene);
  scene.cut(0);
  sendWithHeadWriteBack(scene);
  assertConsistent(audit(scene.evidence()));
  for (const wrong of [0, 2]) {
    scene.spoil(headWriteBackTo, [wrong]);
    assert.deepEqual(hazardsOf(audit(scene.evidence())), ["lost-completion"]);
  }
});

test("a head written where the driver had not asked for it is caught on the source as well", () => {
  const scene = legalScene();
  const tag = dmaTag(DmaPurpose.txHeadWriteBack, 0, 4, false);
  scene.bench.port.writeWords(headWriteBackTo, Uint32Array.of(4), 1, tag);
  assert.deepEqual(hazardsOf(audit(scene.evidence())), ["stale-head-writeback"]);
});

test("done descriptors need no raised vector where an interrupt is pending or the driver polls", () => {
  const silent = { raisedEveryVector: false };
  const byCause = legalScene().setRegister("VTEICR", 0, 1);
  assertConsistent(audit(byCause.evidence(silent)));
  const byDevice = legalScene();
  const [queue] = byDevice.vfState.receive.queues;
  if (queue !== undefined) queue.causePending = true;
  assertConsistent(audit(byDevice.evidence(silent)));
  const byTable = legalScene();
  const { pci } = byTable.vfState;
  const msixVectors = pci.msixVectors.map((vector, index) => ({ ...vector, pending: index === 0 }));
  byTable.vf = { ...byTable.vfState, pci: { ...pci, msixVectors } };
  assertConsistent(audit(byTable.evidence(silent)));
  const nothingDone = new Scene().pause(0).cut(0);
  assertConsistent(audit(nothingDone.evidence(silent)));
});

test("a completion after the pause needs an interrupt too", () => {
  const scene = new Scene();
  scene.bench.send(0, 1);
  scene.pause(0);
  scene.bench.sendFrame(0);
  assert.deepEqual(hazardsOf(audit(scene.cut(0).evidence({ raisedEveryVector: false }))), ["lost-interrupt"]);
});

test("frames that the driver is known to have taken are not read-ahead", () => {
  const scene = new Scene().warmUp();
  const before = scene.bench.snapshot();
  const frames = [scene.receive(), scene.receive(), scene.receive()];
  for (let i = 0; i < 3; i++) scene.bench.poll(0, 1);
  scene.pause(0).cut(0);
  const { slot, buffer } = frames[2] ?? { slot: 0, buffer: 0 };
  scene.spoil(buffer, before.subarray(buffer, buffer + 60));
  assert.deepEqual(hazardsOf(audit(scene.evidence())), ["read-ahead"]);
  const driver = { receive: [{ nextToClean: slot + 1, isBetweenCheckAndWrite: false }] };
  assert.deepEqual(hazardsOf(audit(scene.evidence({ driver }))), ["released-since"]);
});

test("a dummy write after the write-back is found where the driver is known", () => {
  const scene = new Scene({ ...realScale, hashContents: true }).warmUp();
  const { buffer } = scene.receive();
  scene.bench.poke(buffer, 0xee);
  scene.pause(0).cut(0);
  assertConsistent(audit(scene.evidence()));
  const verdict = audit(scene.evidence({ driver: scene.bench.driverAtPause }));
  assert.deepEqual(hazardsOf(verdict), ["dummy-write-race"]);
});

test("a corruption says where, what, whose and whether it is old", () => {
  const scene = new Scene().warmUp().pause();
  const atPause = scene.bench.snapshot();
  const { slot, buffer } = scene.receive();
  scene.cut().spoil(buffer + 2, atPause.subarray(buffer + 2, buffer + 60));
  const [corruption, ...others] = audit(scene.evidence()).corruptions;
  assert.deepEqual(others, []);
  assert.deepEqual(corruption, {
    hazard: "read-ahead",
    sentence: `frame 6 of receive queue 0, descriptor ${slot}: ${corruption?.lengthBytes} bytes are not what the device wrote; the descriptor came along without its buffer`,
    address: `0x${(buffer + 5).toString(16)}`,
    lengthBytes: corruption?.lengthBytes,
    page: Math.floor(buffer / 4096),
    queue: 0,
    descriptor: slot,
    frame: 6,
    frameSummary: "UDP 10.0.2.2:7 > 10.0.2.15:9 len 18",
    expectedHex: "010200000000fe08004500002e000000",
    actualHex: "00".repeat(16),
    isStale: true,
  });
});

test("wrong bytes that were never there are not called stale", () => {
  const scene = legalScene();
  const [corruption] = audit(scene.flip(scene.bench.cpuStart).evidence()).corruptions;
  assert.equal(corruption?.isStale, false);
});

test("an image full of errors lists a few of each kind and counts all", () => {
  const scene = legalScene();
  const pageBytes = 4096;
  let wrong = 0;
  for (let page = scene.bench.cpuStart / pageBytes; page < 2048; page += 2, wrong++) scene.flip(page * pageBytes);
  scene.setRegister("VTEIAC", 0, 5).setRegister("VFRDH", 0, scene.vfHead + 1);
  const verdict = audit(scene.evidence(), { listedMax: 10 });
  assert.equal(verdict.corruptions.length, 10);
  assert.deepEqual(verdict.hazards, { "head-ahead": 1, "register-mismatch": 1, "stale-cpu-page": wrong });
  assert.deepEqual(verdict.totals, { corruptions: wrong + 2, frames: 0, pages: wrong, bytes: wrong });
  assert.deepEqual(new Set(verdict.corruptions.map(({ hazard }) => hazard)), new Set(hazardsOf(verdict)));
});

test("frames that add up are no corruption", () => {
  const scene = legalScene();
  const counters = { dropped: { a: 1, b: 2 }, heldBySource: 3, takenByDestination: 4 };
  const verdict = audit(
    scene.evidence({ counters: { ...counters, offered: scene.bench.ledger.framesCompleted + 10 } }),
  );
  assertConsistent(verdict);
  assert.deepEqual(
    [verdict.frames.delivered, verdict.frames.discarded, verdict.frames.dropped],
    [8, 2, { a: 1, b: 2 }],
  );
});

test("without a pause, or without what came after it, there is no verdict", () => {
  const scene = legalScene();
  const evidence = scene.evidence();
  const refusal = { name: "OperationError", code: "evidence-incomplete" };
  assert.throws(() => audit({ ...evidence, ledger: { ...evidence.ledger, pausedAt: -1 } }), refusal);
  assert.throws(() => audit({ ...evidence, ledger: { ...evidence.ledger, isIncomplete: true } }), refusal);
});

test("the verdict says what it did not look at, and says less when it was given more", () => {
  const scene = new Scene({ ...realScale, hashContents: true }).warmUp().pause().cut();
  const counters = { offered: scene.bench.ledger.framesCompleted, dropped: {}, heldBySource: 0, takenByDestination: 0 };
  const little = audit(legalScene().evidence());
  const much = audit(scene.evidence({ driver: scene.bench.driverAtPause, counters }));
  assert.equal(much.verifies.length, little.verifies.length + 3);
  assert.equal(much.doesNotVerify.length, little.doesNotVerify.length - 3);
});

test("whatever a guest programmed, the audit gives a verdict", () => {
  const values = fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0, 1, 0x80, 0x200_0000, 0xffff_ffff));
  const changes = fc.array(fc.tuple(fc.constantFrom(...savedRows), fc.nat(7), values), { maxLength: 6 });
  fc.assert(
    fc.property(fc.nat(1000), changes, fc.boolean(), (seed, list, droppedRings) => {
      const { evidence } = new LegalHistoryMaker(seed, toyScale).make(30);
      const registers = { ...evidence.vfAtPause.registers };
      for (const [row, index, value] of list) {
        registers[row.name] = (registers[row.name] ?? []).map((old, i) => (i === index % row.count ? value : old));
      }
      const vf = { ...evidence.vfAtPause, registers };
      const random = new SeededRandom(seed);
      const pick = <Value>(a: Value, b: Value): Value => (random.chance(0.5) ? a : b);
      const verdict = audit({
        ...evidence,
        droppedRings,
        vfAtPause: pick(vf, evidence.vfAtPause),
        vfAtSourceEnd: pick(vf, evidence.vfAtSourceEnd),
        vfAtResume: pick(vf, evidence.vfAtResume),
      });
      assert.equal(verdict.outcome === "consistent", verdict.totals.corruptions === 0);
    }),
    { numRuns: 150 },
  );
});

test("the specimens are the same with an IOMMU in between", () => {
  const scene = legalScene({ ...realScale, swapPages: true });
  assertConsistent(audit(scene.evidence()));
  scene.flip(scene.bench.slotAddress(0, scene.head + 5));
  assert.deepEqual(hazardsOf(audit(scene.evidence())), ["lost-descriptor-address"]);
  assert.deepEqual(hazardsOf(audit(specimens["ring-hole"]())), ["ring-hole"]);
});

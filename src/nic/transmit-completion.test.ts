import assert from "node:assert/strict";
import { test } from "node:test";
import { DmaPurpose, tagIndex, tagPurpose, tagRelaxedOrdering } from "../iommu/dma-port.ts";
import {
  BUFFERS_AT,
  DatapathGuest,
  plainFrame,
  transmitRingAt,
  transmittingGuest,
  TX_EOP,
  txContext,
  txData,
  txDone,
} from "./datapath.fixture.ts";
import { DCA_TXCTRL_DESC_WRO_EN, VFDCA_TXCTRL, VFTDBAL, VFTDWBAL, VFTXDCTL } from "./registers.ts";

function put(guest: DatapathGuest, bytes: Uint8Array, at = BUFFERS_AT): number {
  guest.memory.bytes().set(bytes, at);
  return at;
}

test("a ring that cannot be reached stops its queue, and only it, until it is disabled", () => {
  const guest = transmittingGuest({}, 2);
  guest.setRegister(VFTDBAL(0), 0x1000_0000);
  guest.transmit.queueChanged(0);
  guest.setTransmitTail(3);
  guest.send([txData(put(guest, plainFrame(60)), 60)], 1);
  guest.run(guest.transmit);
  assert.deepEqual(
    [0, 1].map((queue) => guest.transmit.ring(queue).condition),
    ["dma-fault", "ready"],
  );
  assert.deepEqual([guest.sent.length, guest.transmit.counters.descriptorFaults], [1, 1]);
  guest.setRegister(VFTXDCTL(0), 0);
  guest.transmit.queueChanged(0);
  guest.openTransmit(0);
  guest.send([txData(BUFFERS_AT, 60)]);
  guest.run(guest.transmit);
  assert.equal(guest.sent.length, 2);
});

test("completions wait for WTHRESH while there is more to send, and no longer", () => {
  const trace = (threshold: number, flushAfter = -1): string => {
    const guest = transmittingGuest({ descriptors: 64, control: threshold << 16 });
    const at = put(guest, plainFrame(60));
    guest.send(Array.from({ length: 10 }, () => txData(at, 60)));
    let events = "";
    guest.dma.addObserver({ after: () => void (events += "d") });
    for (let step = 0; ; step++) {
      const before = guest.sent.length;
      if (!guest.transmit.step()) return events;
      if (guest.sent.length === before) continue;
      events += "s";
      if (guest.sent.length === flushAfter) guest.transmit.flush(0);
    }
  };
  assert.equal(trace(0), "sd".repeat(10));
  assert.equal(trace(4), "ssssddddssssddddssdd");
  assert.equal(trace(127), `${"s".repeat(10)}${"d".repeat(10)}`);
  assert.equal(trace(8, 3), "sssdddsssssssddddddd");
});

test("head write-back puts VFTDH as a word where VFTDWBAL says, instead of DD", () => {
  const guest = new DatapathGuest();
  guest.setRegister(VFTDWBAL(0), 0x8004 | 1);
  guest.openTransmit(0, { descriptors: 16 });
  const tags: number[] = [];
  guest.dma.addObserver({ after: (...write) => void tags.push(...write) });
  const at = put(guest, plainFrame(60));
  guest.send([txContext({}), txData(at, 60), txData(at, 60)]);
  guest.run(guest.transmit);
  assert.equal(guest.sent.length, 2);
  const writes = Array.from({ length: tags.length / 3 }, (_, i) => tags.slice(i * 3, i * 3 + 3));
  const expected = writes.map(([address, length, tag = 0]) => [address, length, tagPurpose(tag), tagIndex(tag)]);
  assert.deepEqual(expected, [
    [0x8004, 4, DmaPurpose.txHeadWriteBack, 2],
    [0x8004, 4, DmaPurpose.txHeadWriteBack, 3],
  ]);
  assert.equal(guest.bytes(0x8004, 1)[0], 3);
  assert.notDeepEqual(guest.transmitDescriptor(2), txDone);
  assert.equal(guest.causes.length, 2);
});

test("write-backs carry the relaxed-ordering bit that VFDCA_TXCTRL asks for, on after a reset", () => {
  for (const [control, expected] of [
    [undefined, true],
    [0, false],
    [DCA_TXCTRL_DESC_WRO_EN, true],
  ] as const) {
    const guest = new DatapathGuest();
    if (control !== undefined) guest.setRegister(VFDCA_TXCTRL(0), control);
    guest.openTransmit();
    const seen: number[] = [];
    guest.dma.addObserver({ after: (address, _length, tag) => void seen.push(address, tag) });
    guest.send([txData(put(guest, plainFrame(60)), 60)]);
    guest.run(guest.transmit);
    const [address, tag = 0] = seen;
    assert.deepEqual(
      [address, tagRelaxedOrdering(tag), tagPurpose(tag)],
      [transmitRingAt(0), expected, DmaPurpose.txWriteBack],
    );
  }
});

test("queues take turns, a frame each", () => {
  const guest = transmittingGuest({ descriptors: 32 }, 3);
  for (const queue of [0, 1, 2]) {
    const at = put(guest, plainFrame(60, queue), BUFFERS_AT + queue * 64);
    guest.send(
      Array.from({ length: 4 + queue }, () => txData(at, 60, TX_EOP)),
      queue,
    );
  }
  guest.run(guest.transmit);
  assert.equal(guest.sent.map((frame) => frame[14]).join(""), "012012012012122");
});

test("restored between any two beats, every frame is sent once and every TX_RS descriptor gets its DD and its cause", () => {
  for (const threshold of [0, 4]) {
    for (let beats = 0; beats < 16; beats++) {
      const guest = transmittingGuest({ descriptors: 16, control: threshold << 16 });
      const at = put(guest, plainFrame(60));
      guest.send([
        txData(at, 60),
        txData(at, 30, 0),
        txData(at, 30),
        txData(at, 60, TX_EOP),
        txData(at, 60),
        txData(at, 60),
      ]);
      for (let i = 0; i < beats; i++) guest.transmit.step();
      const state = structuredClone(guest.transmit.save());
      const causes = guest.causes.length;
      const isDone = (slot: number): boolean => guest.transmitDescriptor(slot).join() === txDone.join();
      const wasAllDone = [0, 2, 4, 5].every(isDone);
      guest.transmit.restore(state);
      assert.deepEqual(guest.transmit.save(), state, `after ${beats} beats`);
      guest.run(guest.transmit);
      assert.equal(guest.sent.length, 5, `after ${beats} beats`);
      assert.deepEqual([0, 1, 2, 3, 4, 5].filter(isDone), [0, 2, 4, 5], `after ${beats} beats`);
      const isCauseDue = !wasAllDone || (state.queues[0]?.causePending ?? false);
      assert.equal(guest.causes.length > causes, isCauseDue, `after ${beats} beats`);
    }
  }
});

test("stopped, the unit sends nothing more and reports all that it sent", () => {
  const guest = transmittingGuest({ descriptors: 32, control: 16 << 16 });
  const at = put(guest, plainFrame(60));
  guest.send(Array.from({ length: 6 }, () => txData(at, 60)));
  guest.transmit.step();
  guest.transmit.step();
  guest.transmit.stop();
  assert.equal(guest.transmit.isAtFrameBoundary, false);
  guest.run(guest.transmit);
  assert.equal(guest.transmit.isAtFrameBoundary, true);
  assert.deepEqual([guest.sent.length, guest.transmitHead], [2, 2]);
  assert.deepEqual(
    [0, 1, 2].map((slot) => guest.transmitDescriptor(slot)[3]),
    [1, 1, 0],
  );
  guest.transmit.start();
  guest.run(guest.transmit);
  assert.equal(guest.sent.length, 6);
});

test("a frame left unfinished by a queue that was disabled is not searched for in its next life", () => {
  const guest = transmittingGuest();
  const at = put(guest, plainFrame(60));
  guest.send([txData(at, 20, 0), txData(at, 20, 0), txData(at, 20, 0)]);
  assert.equal(guest.transmit.step(), false);
  guest.setRegister(VFTXDCTL(0), 0);
  guest.transmit.queueChanged(0);
  guest.openTransmit();
  guest.send([txData(at, 60)]);
  guest.run(guest.transmit);
  assert.deepEqual(guest.sent, [plainFrame(60)]);
});

test("descriptors fetched from a ring are not used in the ring that replaces it", () => {
  const guest = transmittingGuest();
  const at = put(guest, plainFrame(60));
  guest.send([txData(at, 60), txData(at, 60)]);
  guest.transmit.step();
  const other = put(guest, plainFrame(61), at + 4096);
  guest.memory.words().set(txData(other, 61), (transmitRingAt(3) + 16) / 4);
  guest.setRegister(VFTDBAL(0), transmitRingAt(3));
  guest.transmit.queueChanged(0);
  guest.run(guest.transmit);
  assert.deepEqual(guest.sent, [plainFrame(60), plainFrame(61)]);
});

test("a queue disabled with completions owed writes none of them into memory that may be freed", () => {
  const guest = transmittingGuest();
  guest.send([txData(put(guest, plainFrame(60)), 60)]);
  guest.transmit.step();
  guest.setRegister(VFTXDCTL(0), 0);
  guest.transmit.queueChanged(0);
  const before = Uint8Array.from(guest.memory.bytes());
  assert.equal(guest.transmit.step(), false);
  assert.deepEqual(guest.memory.bytes(), before);
  guest.openTransmit();
  assert.equal(guest.transmitHead, 0);
  assert.equal(guest.transmit.step(), false);
});

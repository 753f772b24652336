// Running is stepping: what `run` does in a row is what one `step` after the other does, write for write.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { DmaStatus, DmaPort } from "../iommu/dma-port.ts";
import { frameTo, guestMac, otherMac, TestGuest } from "./guest.fixture.ts";
import * as r from "./registers.ts";

/** Notes every DMA write with its bytes, in one list with the interrupts and frames that come between. */
class TracingPort implements DmaPort {
  readonly #port: DmaPort;
  readonly #trace: string[];

  constructor(port: DmaPort, trace: string[]) {
    this.#port = port;
    this.#trace = trace;
  }

  readWords(iova: number, target: Uint32Array, count: number): DmaStatus {
    return this.#port.readWords(iova, target, count);
  }

  readBytes(iova: number, target: Uint8Array, targetOffset: number, length: number): DmaStatus {
    return this.#port.readBytes(iova, target, targetOffset, length);
  }

  writeWords(iova: number, source: Uint32Array, count: number, tag: number): DmaStatus {
    this.#trace.push(`write ${iova} tag ${tag}: ${source.slice(0, count).join(" ")}`);
    return this.#port.writeWords(iova, source, count, tag);
  }

  writeBytes(iova: number, source: Uint8Array, sourceOffset: number, length: number, tag: number): DmaStatus {
    this.#trace.push(`write ${iova} tag ${tag}: ${source.slice(sourceOffset, sourceOffset + length).join(" ")}`);
    return this.#port.writeBytes(iova, source, sourceOffset, length, tag);
  }
}

/** What happens to the VF from outside. */
const happening = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("receive" as const), frames: fc.integer({ min: 1, max: 80 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant("transmit" as const), frames: fc.integer({ min: 1, max: 9 }) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("work" as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("steps" as const), steps: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("poll" as const) }) },
  fc.record({ kind: fc.constant("throttle" as const), interval: fc.constantFrom(0, 0x8, 0x3e8) }),
  fc.record({ kind: fc.constant("later" as const), ms: fc.constantFrom(0.001, 0.3, 20) }),
  fc.record({ kind: fc.constant("link" as const), up: fc.boolean() }),
  fc.record({ kind: fc.constant("stop" as const) }),
  fc.record({ kind: fc.constant("busMaster" as const), on: fc.boolean() }),
  fc.record({ kind: fc.constant("queue" as const), on: fc.boolean() }),
  fc.record({ kind: fc.constant("restore" as const) }),
);
type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never;

interface History {
  readonly happenings: readonly Happening[];
  /** The guest sends from its interrupt handler, and the network sends frames back at once: both in the middle of a run. */
  readonly reacts: boolean;
  readonly prefetchDescriptors: number;
  /** Small buffers make frames of several descriptors; such a guest posts and does not look. */
  readonly bufferUnitBytes: number;
}

class Traced {
  readonly trace: string[] = [];
  readonly #guest: TestGuest;
  readonly #byRunning: boolean;
  readonly #looks: boolean;
  #fill = 0;

  constructor(history: History, byRunning: boolean) {
    this.#byRunning = byRunning;
    const { trace } = this;
    const guest: TestGuest = new TestGuest({
      wrapDma: (port) => new TracingPort(port, trace),
      messages: {
        deliver: (_low, _high, vector) => {
          trace.push(`message ${vector}`);
          if (history.reacts && vector === 0) this.#reply();
        },
      },
      uplink: {
        frame: (bytes) => {
          trace.push(`frame ${bytes.join(" ")}`);
          const echo = frameTo(guestMac, otherMac, bytes.length, bytes[20] ?? 0);
          if (history.reacts && ((bytes[20] ?? 0) & 1) === 1) guest.vf.receiveFrame(echo);
        },
      },
      datapath: { prefetchDescriptors: history.prefetchDescriptors, bufferUnitBytes: history.bufferUnitBytes },
    });
    this.#guest = guest;
    this.#looks = history.bufferUnitBytes === 1024;
    guest.vf.onWork = () => void trace.push("work");
    guest.boot();
    for (const happened of history.happenings) this.#happen(happened);
    this.#work();
    this.#note();
  }

  /** A driver that sends from its interrupt handler: a doorbell in the middle of a beat. */
  #reply(): void {
    if ((this.#fill++ & 3) === 0) this.#guest.transmit(frameTo(otherMac, guestMac, 64, this.#fill & 0xff));
  }

  #work(): void {
    const { vf } = this.#guest;
    if (this.#byRunning) vf.run();
    else while (vf.step());
  }

  #note(): void {
    const { vf } = this.#guest;
    this.trace.push(JSON.stringify(vf.save()), JSON.stringify(vf.statistics), `${vf.hasWork} ${vf.deadlineMs()}`);
  }

  #happen(happened: Happening): void {
    const guest = this.#guest;
    const { vf } = guest;
    switch (happened.kind) {
      case "receive":
        for (let i = 0; i < happened.frames; i++) {
          vf.receiveFrame(frameTo(guestMac, otherMac, 60 + (i % 9) * 300, this.#fill++ & 0xff));
        }
        break;
      case "transmit":
        for (let i = 0; i < happened.frames; i++) {
          guest.transmit(frameTo(otherMac, guestMac, 60 + i, this.#fill++ & 0xff));
        }
        break;
      case "work":
        this.#work();
        this.#note();
        break;
      case "steps":
        for (let i = 0; i < happened.steps; i++) vf.step();
        break;
      case "poll":
        if (this.#looks) guest.poll();
        else guest.post(8);
        guest.clean();
        break;
      case "throttle":
        guest.write(r.VTEITR(0), happened.interval);
        break;
      case "later":
        guest.clock.advance(happened.ms);
        break;
      case "link":
        vf.setLink({ up: happened.up, speedMbps: 10_000 });
        break;
      case "stop":
        vf.stop();
        this.#note();
        vf.start();
        break;
      case "busMaster":
        vf.writeConfiguration(0x04, 2, happened.on ? 0x0006 : 0x0002);
        break;
      case "queue":
        guest.write(r.VFRXDCTL(0), happened.on ? r.RXDCTL_ENABLE : 0);
        break;
      case "restore":
        vf.restore(vf.save());
        vf.start();
        break;
      default:
        happened satisfies never;
    }
  }
}

test("run writes, sends and interrupts exactly as one step after the other, and leaves the same state", () => {
  fc.assert(
    fc.property(
      fc.record({
        happenings: fc.array(happening, { minLength: 1, maxLength: 30 }),
        reacts: fc.boolean(),
        prefetchDescriptors: fc.constantFrom(0, 8),
        bufferUnitBytes: fc.constantFrom(1024, 128),
      }),
      (history) => {
        assert.deepEqual(new Traced(history, true).trace, new Traced(history, false).trace);
      },
    ),
    { numRuns: 200 },
  );
});

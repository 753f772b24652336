import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import type { OperationError } from "../base/errors.ts";
import { StreamDecoder } from "../network/stream-framing.ts";
import { StreamCable } from "./stream-cable.ts";

/** A socket whose writes complete when told to. */
class SlowSocket extends Duplex {
  readonly writes: Uint8Array[] = [];
  #complete: (() => void) | undefined;

  override _read(): void {}

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    assert.equal(this.#complete, undefined, "two writes at once");
    this.writes.push(Uint8Array.from(chunk));
    this.#complete = done;
  }

  async complete(): Promise<boolean> {
    const complete = this.#complete;
    this.#complete = undefined;
    complete?.();
    await new Promise(setImmediate);
    return complete !== undefined;
  }
}

interface Rig {
  readonly socket: SlowSocket;
  readonly cable: StreamCable;
  readonly got: Uint8Array[];
  readonly written: { frames: number; bytes: number };
  readonly ends: { unsentFrames: number; error: OperationError | undefined }[];
}

function rig(backlogBytesMax?: number): Rig {
  const socket = new SlowSocket();
  const got: Uint8Array[] = [];
  const written = { frames: 0, bytes: 0 };
  const ends: Rig["ends"] = [];
  const cable = new StreamCable(socket, {
    onFrame: (frame) => got.push(frame.slice()),
    onWritten: (frames, bytes) => {
      written.frames += frames;
      written.bytes += bytes;
    },
    onClosed: (end) => ends.push(end),
    ...(backlogBytesMax === undefined ? {} : { backlogBytesMax }),
  });
  return { socket, cable, got, written, ends };
}

const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

test("frames of one turn leave in one write, and every write holds whole frames and at most 32 KiB", async () => {
  const sizes = fc.array(fc.integer({ min: 14, max: 9000 }), { minLength: 1, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(sizes, async (lengths) => {
      const { socket, cable, written } = rig();
      const frames = lengths.map((length, index) => new Uint8Array(length).fill(index));
      for (const frame of frames) assert.equal(cable.send(frame), true);
      await turn();
      while (await socket.complete());
      const received: Uint8Array[] = [];
      for (const write of socket.writes) {
        assert.ok(write.length <= 32_768);
        // A decoder of its own for each write: it must begin and end on a frame's border.
        const before = received.length;
        new StreamDecoder({ onFrame: (frame) => received.push(frame.slice()) }).push(write);
        const bytes = received.slice(before).reduce((sum, frame) => sum + 4 + frame.length, 0);
        assert.equal(bytes, write.length);
      }
      assert.deepEqual(received, frames);
      const total = lengths.reduce((sum, length) => sum + length, 0);
      assert.deepEqual(written, { frames: frames.length, bytes: total });
      if (total + 4 * lengths.length <= 32_768) assert.equal(socket.writes.length, 1);
    }),
    { numRuns: 50 },
  );
});

test("a reader that is too slow makes the cable refuse frames, and what it never took is counted when the cable is pulled", async () => {
  const { socket, cable, written, ends } = rig(100_000);
  let taken = 0;
  while (cable.send(new Uint8Array(1000))) taken++;
  assert.equal(taken, 99);
  await turn();
  await socket.complete();
  assert.equal(written.frames, 32);
  assert.equal(cable.send(new Uint8Array(1000)), true);
  cable.close();
  cable.close();
  assert.deepEqual(ends, [{ unsentFrames: 100 - 32, error: undefined }]);
  assert.equal(cable.send(new Uint8Array(60)), false);
});

test("a stream that makes no sense unplugs the cable with a typed error, after the frames before it", async () => {
  const { socket, got, ends } = rig();
  socket.push(Uint8Array.of(0, 0, 0, 2, 7, 8, 0xff, 0xff, 0xff, 0xff, 1));
  await turn();
  assert.deepEqual(got, [Uint8Array.of(7, 8)]);
  assert.equal(ends.length, 1);
  assert.equal(ends[0]?.error?.code, "cable-garbled");
  assert.equal(socket.destroyed, true);
});

test("the other end going away ends the cable once, with its error if it had one", async () => {
  const quiet = rig();
  quiet.socket.push(null);
  await turn();
  assert.deepEqual(quiet.ends, [{ unsentFrames: 0, error: undefined }]);
  const broken = rig();
  broken.socket.destroy(new Error("reset"));
  await turn();
  assert.equal(broken.ends.length, 1);
  assert.equal(broken.ends[0]?.error?.code, "cable-broken");
});

test("a frame that fits no batch is refused", () => {
  const { cable } = rig();
  assert.equal(cable.send(new Uint8Array(32_768)), false);
  assert.equal(cable.send(new Uint8Array(15_872)), true);
});

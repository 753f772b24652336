import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ManualClock } from "../base/clock.ts";
import { cablePath, FabricServer } from "./fabric-server.ts";
import { PairedUplink, takersOf } from "./paired-uplink.ts";
import { StreamCable } from "./stream-cable.ts";

const FRAME_BYTES = 60;

function frameTo(firstByte: number, mark: number): Uint8Array {
  const frame = new Uint8Array(FRAME_BYTES).fill(mark);
  frame.set([firstByte, 0, 0, 0, 0, 9], 0);
  frame.set([2, 0, 0, 0, 0, mark], 6);
  return frame;
}

async function until(isSo: () => boolean): Promise<void> {
  for (let looks = 0; !isSo(); looks++) {
    assert.ok(looks < 5000, `it never came: ${isSo.toString()}`);
    await sleep(1);
  }
}

test("a frame for the pair alone has one taker, the VF while it takes any; one for many has both", () => {
  const [alone, broadcast] = [frameTo(0x02, 1), frameTo(0xff, 1)];
  assert.deepEqual(takersOf(alone, false), { vf: false, virtio: true });
  assert.deepEqual(takersOf(alone, true), { vf: true, virtio: false });
  assert.deepEqual(takersOf(broadcast, false), { vf: false, virtio: true });
  assert.deepEqual(takersOf(broadcast, true), { vf: true, virtio: true });
  assert.deepEqual(takersOf(new Uint8Array(0), false), { vf: false, virtio: true });
});

/** A pair on a fabric with one other station, and what each has got, by its mark. */
async function pairOn(t: TestContext, cables: { readonly hasVfCable: boolean }) {
  const directory = await mkdtemp(path.join(tmpdir(), "uw-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const fabric = new FabricServer({ clock: new ManualClock(0), seed: 1, onEvent() {} });
  t.after(() => fabric.close());
  for (const name of ["host", "host-vf", "other"]) await fabric.addCable(name, directory);
  const virtioSocketPath = path.join(directory, "net");
  const uplink = await PairedUplink.open({
    cable: cablePath(directory, "host"),
    ...(cables.hasVfCable ? { vfCable: cablePath(directory, "host-vf") } : {}),
    virtioSocketPath,
  });
  t.after(() => uplink.close());
  const got = { vf: [] as number[], virtio: [] as number[], other: [] as number[] };
  const plugged = (socketPath: string, into: number[]): StreamCable => {
    const onFrame = (frame: Uint8Array): void => void into.push(frame[11] ?? 0);
    return new StreamCable(connect(socketPath), { onFrame, onClosed() {} });
  };
  const virtio = plugged(virtioSocketPath, got.virtio);
  const other = plugged(cablePath(directory, "other"), got.other);
  t.after(() => [virtio, other].forEach((cable) => cable.close()));
  uplink.toVf = (frame) => void got.vf.push(frame[11] ?? 0);
  return { uplink, got, virtio, other };
}

test("both cards of a pair are behind one port of the fabric, and frames change over with the VF", async (t) => {
  const { uplink, got, virtio, other } = await pairOn(t, { hasVfCable: false });
  let vfTakes = false;
  uplink.vfTakesFrames = () => vfTakes;
  const comes = (list: number[], mark: number): Promise<void> => until(() => list.includes(mark));

  // Until both cables are in, what is sent is lost.
  await until(() => {
    virtio.send(frameTo(0x02, 1));
    return got.other.length > 0;
  });
  other.send(frameTo(0x02, 2));
  await comes(got.virtio, 2);
  vfTakes = true;
  other.send(frameTo(0x02, 3));
  await comes(got.vf, 3);
  other.send(frameTo(0xff, 4));
  await Promise.all([comes(got.vf, 4), comes(got.virtio, 4)]);
  uplink.fromVf.frame(frameTo(0x02, 5));
  await comes(got.other, 5);
  vfTakes = false;
  other.send(frameTo(0x02, 6));
  await comes(got.virtio, 6);
  assert.deepEqual(got.vf, [3, 4]);
  assert.deepEqual(got.virtio, [2, 4, 6]);
});

test("with a cable of its own the VF gets what comes over that, while it takes any, and nothing else", async (t) => {
  const { uplink, got, virtio, other } = await pairOn(t, { hasVfCable: true });
  let vfTakes = false;
  uplink.vfTakesFrames = () => vfTakes;
  await until(() => {
    virtio.send(frameTo(0xff, 9));
    return got.other.length > 0;
  });
  // The fabric knows the pair's address to be behind virtio-net's cable; then the VF sends.
  other.send(frameTo(0x02, 1));
  await until(() => got.virtio.includes(1));
  assert.equal(got.vf.length, 0);
  vfTakes = true;
  uplink.fromVf.frame(frameTo(0xff, 9));
  await until(() => {
    other.send(frameTo(0x02, 2));
    return got.vf.length > 0;
  });
  assert.deepEqual(new Set(got.vf), new Set([2]));
  other.send(frameTo(0xff, 3));
  await until(() => got.virtio.includes(3) && got.vf.includes(3));
  vfTakes = false;
  other.send(frameTo(0xff, 4));
  await until(() => got.virtio.includes(4));
  assert.ok(!got.vf.includes(4), "a VF that takes no more gets no more");
});

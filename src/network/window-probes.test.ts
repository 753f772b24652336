import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "../base/clock.ts";
import {
  destinationOf,
  ETHERNET_HEADER_BYTES,
  EtherType,
  sourceOf,
  writeEthernetHeader,
  writeU16,
} from "./ethernet.ts";
import { internetChecksum, IPV4_HEADER_BYTES, IpProtocol, writeIpv4Header } from "./ipv4.ts";
import { networkPlan } from "./plan.ts";
import { parseTcpFrame, TCP_HEADER_BYTES, TcpFlag, writeEmptySegment, type TcpHeader } from "./tcp.ts";
import { FLOWS_MAX, PROBE_MS, PROBES_MAX, WindowProbes } from "./window-probes.ts";

const { guestMac, guestIp, gatewayMac, gatewayIp } = networkPlan;
const TCP_AT = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES;
const guest = { source: guestIp, destination: gatewayIp, sourcePort: 40_000, destinationPort: 80 };
const uplink = { source: gatewayIp, destination: guestIp, sourcePort: 80, destinationPort: 40_000 };
const defaults = { sequence: 0, acknowledgment: 0, flags: TcpFlag.ack, window: 1000 };

function segment(fields: Partial<TcpHeader> & { dataBytes?: number }, from: typeof guest): Uint8Array {
  const { dataBytes = 0, ...changes } = fields;
  const frame = new Uint8Array(TCP_AT + TCP_HEADER_BYTES + dataBytes);
  const [source, destination] = from === guest ? [guestMac, gatewayMac] : [gatewayMac, guestMac];
  writeEthernetHeader(frame, { destination, source, etherType: EtherType.ipv4 });
  const header = { ...from, ...defaults, ...changes };
  writeEmptySegment(frame, header);
  writeIpv4Header(frame, ETHERNET_HEADER_BYTES, { ...header, protocol: IpProtocol.tcp }, TCP_HEADER_BYTES + dataBytes);
  return frame;
}

/** A flow in which the uplink has sent up to 5000, and the guest has acknowledged that with a window of 1000. */
function rig() {
  const clock = new ManualClock();
  const asked: Uint8Array[] = [];
  const probes = new WindowProbes({ clock, send: (frame) => void asked.push(frame.slice()) });
  const fromGuest = (fields: Partial<TcpHeader> & { dataBytes?: number }): void =>
    probes.fromGuest(segment({ acknowledgment: 5000, ...fields }, guest));
  const fromUplink = (fields: Partial<TcpHeader> & { dataBytes?: number }): void =>
    probes.fromUplink(segment(fields, uplink));
  /** Time passes, and what is due is done; gives how many questions that were. */
  const wait = (ms: number): number => {
    const before = asked.length;
    for (let i = 0; i < ms; i++) {
      clock.advance(1);
      if (probes.nextDueMs() <= clock.nowMs()) probes.service();
    }
    return asked.length - before;
  };
  fromUplink({ sequence: 4000, dataBytes: 1000, acknowledgment: 77, window: 256 });
  fromGuest({ sequence: 77 });
  return { probes, asked, fromGuest, fromUplink, wait };
}

test("a flow that waits for nobody is asked nothing", () => {
  const { probes, wait } = rig();
  assert.equal(probes.nextDueMs(), Infinity);
  assert.equal(wait(10 * PROBE_MS), 0);
});

test("a closed window is asked for in each interval of silence, until the guest opens it", () => {
  const { probes, fromGuest, wait } = rig();
  fromGuest({ window: 0 });
  assert.equal(wait(PROBE_MS - 1), 0);
  assert.equal(wait(1), 1);
  assert.equal(wait(2 * PROBE_MS), 2);
  fromGuest({ window: 0 });
  assert.equal(wait(PROBE_MS - 1), 0);
  assert.equal(wait(1), 1);
  fromGuest({ window: 1 });
  assert.equal(probes.nextDueMs(), Infinity);
  assert.equal(wait(10 * PROBE_MS), 0);
});

test("what is not acknowledged is asked for, and what is sent again meanwhile puts it off", () => {
  const { fromGuest, fromUplink, wait } = rig();
  fromUplink({ sequence: 5000, dataBytes: 1000 });
  assert.equal(wait(PROBE_MS - 1), 0);
  fromUplink({ sequence: 5000, dataBytes: 500 });
  assert.equal(wait(PROBE_MS - 1), 0);
  fromGuest({ acknowledgment: 5999 });
  assert.equal(wait(PROBE_MS), 1);
  fromGuest({ acknowledgment: 6000 });
  assert.equal(wait(10 * PROBE_MS), 0);
});

test("a question is the uplink's keep-alive: no data, one behind what is acknowledged, its checksums right", () => {
  const { asked, fromGuest, wait } = rig();
  fromGuest({ window: 0 });
  wait(PROBE_MS);
  const [frame] = asked;
  assert.ok(frame !== undefined);
  assert.equal(sourceOf(frame), gatewayMac);
  assert.equal(destinationOf(frame), guestMac);
  const header = { ...uplink, sequence: 4999, acknowledgment: 77, flags: TcpFlag.ack, window: 256 };
  assert.deepEqual(parseTcpFrame(frame), { ...header, dataBytes: 0 });
  const pseudo = frame.slice(TCP_AT - 12);
  pseudo.set(frame.subarray(TCP_AT - 8, TCP_AT));
  writeU16(pseudo, 8, IpProtocol.tcp);
  writeU16(pseudo, 10, TCP_HEADER_BYTES);
  assert.equal(internetChecksum(pseudo, 0, pseudo.length), 0);
});

test("sequence numbers may run over", () => {
  const { asked, fromGuest, fromUplink, wait } = rig();
  fromUplink({ flags: TcpFlag.syn | TcpFlag.ack, sequence: 0xffff_fffe });
  fromGuest({ acknowledgment: 0xffff_ffff });
  fromUplink({ sequence: 0xffff_ffff, dataBytes: 2 });
  assert.equal(wait(PROBE_MS), 1);
  assert.equal(parseTcpFrame(asked[0] as Uint8Array)?.sequence, 0xffff_fffe);
  fromGuest({ acknowledgment: 0 });
  assert.equal(wait(PROBE_MS), 1);
  assert.equal(parseTcpFrame(asked[1] as Uint8Array)?.sequence, 0xffff_ffff);
  fromGuest({ acknowledgment: 1 });
  assert.equal(wait(PROBE_MS), 0);
});

test("a connection is asked nothing before the guest's first acknowledgment, nor once it has ended", () => {
  const ends: readonly ((world: ReturnType<typeof rig>) => void)[] = [
    ({ fromGuest }) => fromGuest({ flags: TcpFlag.rst }),
    ({ fromGuest }) => fromGuest({ flags: TcpFlag.fin | TcpFlag.ack }),
    ({ fromUplink }) => fromUplink({ flags: TcpFlag.rst }),
    ({ fromUplink }) => fromUplink({ flags: TcpFlag.syn | TcpFlag.ack }),
    ({ probes }) => probes.forget(),
  ];
  for (const end of ends) {
    const world = rig();
    world.fromGuest({ window: 0 });
    end(world);
    assert.equal(world.wait(10 * PROBE_MS), 0, String(end));
  }
});

test("the uplink's FIN is asked for until it is acknowledged; after it a closed window bothers nobody", () => {
  const { fromGuest, fromUplink, wait } = rig();
  fromUplink({ flags: TcpFlag.fin | TcpFlag.ack, sequence: 5000 });
  assert.equal(wait(PROBE_MS), 1);
  fromGuest({ acknowledgment: 5001, window: 0 });
  assert.equal(wait(10 * PROBE_MS), 0);
});

test("a guest that answers nothing is given up after a minute, and asked again once it speaks", () => {
  const { fromGuest, wait } = rig();
  fromGuest({ window: 0 });
  assert.equal(wait(2 * PROBES_MAX * PROBE_MS), PROBES_MAX);
  fromGuest({ window: 0 });
  assert.equal(wait(PROBE_MS), 1);
});

test("of more flows than it remembers, it forgets the oldest", () => {
  const { probes, wait } = rig();
  for (let port = 1; port <= FLOWS_MAX + 1; port++) {
    probes.fromUplink(segment({ sequence: 1, destinationPort: port }, uplink));
    probes.fromGuest(segment({ acknowledgment: 1, window: 0, sourcePort: port }, guest));
  }
  assert.equal(wait(PROBE_MS), FLOWS_MAX);
});

test("frames cut short or damaged anywhere never make it throw, and none asks something of another flow", () => {
  const world = rig();
  const fields = { sequence: 6000, flags: TcpFlag.ack, dataBytes: 4 };
  fc.assert(
    fc.property(fc.boolean(), fc.nat(80), fc.nat(80), fc.nat(255), (isGuests, length, at, value) => {
      const frame = segment(fields, isGuests ? guest : uplink).slice(0, length);
      if (at < frame.length) frame[at] = value;
      if (isGuests) world.probes.fromGuest(frame);
      else world.probes.fromUplink(frame);
      world.wait(1);
    }),
    { seed: 1, numRuns: 2000 },
  );
  for (const frame of world.asked) assert.equal(parseTcpFrame(frame)?.dataBytes, 0);
});

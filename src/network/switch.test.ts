import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "../base/clock.ts";
import { SeededRandom } from "../base/random.ts";
import { announceFrames } from "./announce.ts";
import { conservationFaults, totalDropped } from "./counters.ts";
import { FRAME_BYTES_MAX, writeEthernetHeader } from "./ethernet.ts";
import { BROADCAST_MAC, type MacAddress } from "./mac.ts";
import type { MacTableOptions } from "./mac-table.ts";
import { EthernetSwitch, type MacMove } from "./switch.ts";
import type { PortOptions, SwitchPort } from "./switch-port.ts";

const guest = 0x0200_0000_0001 as MacAddress;
const other = 0x0200_0000_0002 as MacAddress;

function frame(source: number, destination: number, lengthBytes = 60): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  writeEthernetHeader(bytes, {
    source: source as MacAddress,
    destination: destination as MacAddress,
    etherType: 0x88b5,
  });
  return bytes;
}

interface Rig {
  readonly fabric: EthernetSwitch;
  readonly clock: ManualClock;
  readonly moves: MacMove[];
  readonly plug: (name: string, options?: Partial<PortOptions>) => { port: SwitchPort; got: Uint8Array[] };
}

function rig(macTable?: MacTableOptions): Rig {
  const clock = new ManualClock();
  const moves: MacMove[] = [];
  const fabric = new EthernetSwitch({
    clock,
    random: new SeededRandom(5),
    queueBytesMax: 4096,
    onMacMove: (move) => moves.push(move),
    ...(macTable === undefined ? {} : { macTable }),
  });
  const plug: Rig["plug"] = (name, options = {}) => {
    const got: Uint8Array[] = [];
    const accept = (bytes: Uint8Array): "sent" => {
      got.push(bytes.slice());
      return "sent";
    };
    const port = fabric.addPort({ name, sink: { accept }, ...options });
    port.setUp(true);
    return { port, got };
  };
  return { fabric, clock, moves, plug };
}

test("an unknown station is flooded for, a known one is not, and nothing goes back where it came from", () => {
  const { fabric, plug } = rig();
  const [a, b, c] = [plug("a"), plug("b"), plug("c")];
  a.port.receive(frame(guest, other));
  assert.deepEqual([a.got.length, b.got.length, c.got.length], [0, 1, 1]);
  b.port.receive(frame(other, guest));
  assert.deepEqual([a.got.length, b.got.length, c.got.length], [1, 1, 1]);
  a.port.receive(frame(guest, other));
  assert.deepEqual([a.got.length, b.got.length, c.got.length], [1, 2, 1]);
  a.port.receive(frame(guest, guest));
  assert.equal(a.port.counters().in.dropped["no-way-out"], 1);
  assert.deepEqual(conservationFaults(fabric.counters()), []);
});

test("an announcement from another port moves the station, once, and traffic follows it", () => {
  const { fabric, clock, moves, plug } = rig();
  const [source, destination, peer] = [plug("source"), plug("destination"), plug("peer")];
  source.port.receive(frame(guest, BROADCAST_MAC));
  clock.advance(7);
  for (const bytes of announceFrames(guest)) destination.port.receive(bytes);
  for (const bytes of announceFrames(guest)) destination.port.receive(bytes);
  assert.deepEqual(moves, [{ mac: guest, from: "source", to: "destination", atMs: 7 }]);
  assert.equal(fabric.counters().macMoves, 1);
  const before = source.got.length;
  peer.port.receive(frame(other, guest));
  assert.equal(source.got.length, before);
  assert.equal(destination.got.length, 2);
});

test("a station that was not heard of for the aging time is flooded for again, and its return is no move", () => {
  const { clock, moves, plug } = rig({ capacity: 8, ageMs: 100 });
  const [a, b, c] = [plug("a"), plug("b"), plug("c")];
  a.port.receive(frame(guest, BROADCAST_MAC));
  clock.advance(100);
  b.port.receive(frame(other, guest));
  assert.equal(c.got.length, 1);
  clock.advance(1);
  b.port.receive(frame(other, guest));
  assert.equal(c.got.length, 2);
  b.port.receive(frame(guest, BROADCAST_MAC));
  assert.deepEqual(moves, []);
});

test("a flood of invented source addresses does not grow the table, nor displace a live station", () => {
  const { fabric, clock, plug } = rig({ capacity: 16, ageMs: 1000 });
  const [a, b] = [plug("a"), plug("b")];
  plug("c");
  a.port.receive(frame(guest, BROADCAST_MAC));
  for (let i = 0; i < 5000; i++) b.port.receive(frame(0x0600_0000_0000 + i * 4, BROADCAST_MAC));
  assert.equal(fabric.counters().macsKnown, 16);
  assert.equal(fabric.counters().macsNotLearnt, 5000 - 15);
  const before = b.got.length;
  b.port.receive(frame(other, guest));
  assert.equal(a.got.length, 5001);
  clock.advance(1001);
  a.port.receive(frame(other, BROADCAST_MAC));
  assert.equal(fabric.counters().macsKnown, 1);
  assert.equal(b.got.length, before + 1);
});

test("a link that goes down gets nothing, forgets its stations, and drops what comes in", () => {
  const { fabric, plug } = rig();
  const [a, b, c] = [plug("a"), plug("b"), plug("c")];
  a.port.receive(frame(guest, BROADCAST_MAC));
  a.port.setUp(false);
  a.port.receive(frame(guest, BROADCAST_MAC));
  b.port.receive(frame(other, guest));
  assert.equal(a.got.length, 0);
  assert.equal(c.got.length, 2);
  assert.equal(a.port.counters().in.dropped["link-down"], 1);
  a.port.setUp(true);
  b.port.receive(frame(other, guest));
  assert.equal(a.got.length, 1);
  assert.deepEqual(conservationFaults(fabric.counters()), []);
});

test("malformed and reserved frames are dropped and counted by cause", () => {
  const { fabric, plug } = rig();
  const [a, b] = [plug("a"), plug("b")];
  for (let length = 0; length < 14; length++) a.port.receive(new Uint8Array(length));
  a.port.receive(frame(guest, other, FRAME_BYTES_MAX + 1));
  a.port.receive(frame(0x0100_0000_0001, other));
  a.port.receive(frame(0, other));
  a.port.receive(frame(guest, 0x0180_c200_000e));
  assert.equal(b.got.length, 0);
  const counters = a.port.counters();
  assert.equal(counters.in.dropped.malformed, 17);
  assert.equal(counters.in.dropped["no-way-out"], 1);
  assert.deepEqual(conservationFaults(fabric.counters()), []);
});

test("a port's filter keeps frames in without counting them as lost", () => {
  const { fabric, plug } = rig();
  const a = plug("a");
  const uplink = plug("uplink", { filter: (bytes) => bytes.length > 60 });
  a.port.receive(frame(guest, BROADCAST_MAC));
  a.port.receive(frame(guest, BROADCAST_MAC, 61));
  assert.equal(uplink.got.length, 1);
  assert.equal(uplink.port.counters().filtered, 1);
  assert.equal(totalDropped(uplink.port.counters().out), 0);
  assert.equal(a.port.counters().in.dropped["no-way-out"], 1);
  assert.deepEqual(conservationFaults(fabric.counters()), []);
});

test("the tap sees each frame come in before its copies go out, and the dropped ones with their cause", () => {
  const { fabric, plug } = rig();
  const [a] = [plug("a"), plug("b"), plug("c")];
  const seen: string[] = [];
  fabric.setTap((port, side, _bytes, dropped) => {
    seen.push([port.name, side, dropped ?? "ok"].join(" "));
  });
  a.port.receive(frame(guest, other));
  a.port.receive(frame(guest, guest));
  assert.deepEqual(seen, ["a in ok", "b out ok", "c out ok", "a in no-way-out"]);
});

test("conservation holds at every moment, whatever happens at the ports", () => {
  const action = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.tuple(fc.constant("frame"), fc.nat(3), fc.nat(6), fc.nat(7), fc.integer({ min: 0, max: 1600 })),
    },
    { weight: 1, arbitrary: fc.tuple(fc.constant("plug"), fc.nat(3), fc.nat(1), fc.constant(0), fc.constant(0)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant("speed"), fc.nat(3), fc.nat(2), fc.nat(3), fc.constant(0)) },
    { weight: 3, arbitrary: fc.tuple(fc.constant("wait"), fc.nat(20), fc.constant(0), fc.constant(0), fc.constant(0)) },
    { weight: 2, arbitrary: fc.tuple(fc.constant("sent"), fc.nat(3), fc.nat(1), fc.nat(3), fc.constant(0)) },
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 120 }), fc.boolean(), (actions, refuse) => {
      const { fabric, clock, plug } = rig({ capacity: 4, ageMs: 50 });
      const held = [0, 0, 0, 0];
      const ports = held.map((_, index) => {
        const accept = (): "queued" | "refused" => {
          if (refuse && (held[index] ?? 0) >= 3) return "refused";
          held[index] = (held[index] ?? 0) + 1;
          return "queued";
        };
        return plug(`port${index}`, { sink: { accept } }).port;
      });
      for (const [kind, index, x, y, length] of actions) {
        const port = ports[index % 4] as SwitchPort;
        if (kind === "frame")
          port.receive(
            frame(0x0200_0000_0000 + x * 4, y === 7 ? BROADCAST_MAC : 0x0200_0000_0000 + y * 4, Math.max(14, length)),
          );
        if (kind === "plug") port.setUp(x === 1);
        if (kind === "speed")
          port.setLink({ speedBitsPerSecond: [null, 1_000_000, 10_000_000][x] ?? null, lossRate: y / 4 });
        if (kind === "wait") {
          clock.advance(index / 4);
          fabric.service();
        }
        if (kind === "sent" && (held[index] ?? 0) > 0) {
          held[index] = (held[index] ?? 0) - 1;
          if (x === 1) port.noteSent(1, y);
          else port.noteUnplugged(1);
        }
        assert.deepEqual(conservationFaults(fabric.counters()), []);
      }
    }),
    { numRuns: 200 },
  );
});

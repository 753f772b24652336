import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.ts";
import { ackThinning, REPETITION_MS } from "./ack-thinning.ts";
import { EtherType, ETHERNET_HEADER_BYTES, writeEthernetHeader, writeU16, writeU32 } from "./ethernet.ts";
import { IPV4_HEADER_BYTES, writeIpv4Header } from "./ipv4.ts";
import { networkPlan } from "./plan.ts";

const TCP_AT = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES;

function segment(fields: { acknowledgment: number; flags?: number; dataBytes?: number; port?: number }): Uint8Array {
  const payloadBytes = 20 + (fields.dataBytes ?? 0);
  const frame = new Uint8Array(Math.max(60, TCP_AT + payloadBytes));
  const { guestMac: source, gatewayMac: destination, guestIp, gatewayIp } = networkPlan;
  writeEthernetHeader(frame, { destination, source, etherType: EtherType.ipv4 });
  writeIpv4Header(frame, ETHERNET_HEADER_BYTES, { source: guestIp, destination: gatewayIp, protocol: 6 }, payloadBytes);
  writeU16(frame, TCP_AT, fields.port ?? 40_000);
  writeU16(frame, TCP_AT + 2, 80);
  writeU32(frame, TCP_AT + 8, fields.acknowledgment);
  frame[TCP_AT + 12] = 5 << 4;
  frame[TCP_AT + 13] = fields.flags ?? 0x10;
  return frame;
}

test("of acknowledgments that say the same, one goes through in each interval", () => {
  const clock = new ManualClock();
  const passes = ackThinning(clock);
  assert.equal(passes(segment({ acknowledgment: 1 })), true);
  assert.equal(passes(segment({ acknowledgment: 1 })), false);
  clock.advance(REPETITION_MS);
  assert.equal(passes(segment({ acknowledgment: 1 })), true);
  assert.equal(passes(segment({ acknowledgment: 1 })), false);
});

test("an acknowledgment of more, of another flow, with data or with another flag goes through", () => {
  const passes = ackThinning(new ManualClock());
  assert.equal(passes(segment({ acknowledgment: 1 })), true);
  assert.equal(passes(segment({ acknowledgment: 2 })), true);
  assert.equal(passes(segment({ acknowledgment: 2, port: 40_001 })), true);
  assert.equal(passes(segment({ acknowledgment: 2, dataBytes: 1 })), true);
  assert.equal(passes(segment({ acknowledgment: 2, flags: 0x11 })), true);
});

test("a frame that is no TCP segment, or is cut short anywhere, goes through and never throws", () => {
  const whole = segment({ acknowledgment: 1 });
  const passes = ackThinning(new ManualClock());
  assert.equal(passes(whole), true);
  for (let length = 0; length < TCP_AT + 20; length++) assert.equal(passes(whole.subarray(0, length)), true);
});

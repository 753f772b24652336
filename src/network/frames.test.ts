import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OperationError } from "../base/errors.ts";
import { announceDelaysMs, announceFrames } from "./announce.ts";
import { ArpOperation, buildArpFrame, parseArpFrame } from "./arp.ts";
import { destinationOf, etherTypeOf, EtherType, sourceOf, wireBytes } from "./ethernet.ts";
import { echoFrameBytes, ECHO_PAYLOAD_OFFSET, parseEchoFrame, sealEchoFrame } from "./icmp.ts";
import { formatIpv4, internetChecksum, parseIpv4, parseIpv4Address, type Ipv4Address } from "./ipv4.ts";
import { BROADCAST_MAC, formatMac, isGroupMac, macAt, parseMac, writeMac, type MacAddress } from "./mac.ts";
import { networkPlan } from "./plan.ts";
import { gatewayFilter } from "./uplink-filter.ts";

const mac = fc.integer({ min: 0, max: 2 ** 48 - 1 }).map((value) => value as MacAddress);
const ip = fc.integer({ min: 0, max: 2 ** 32 - 1 }).map((value) => value as Ipv4Address);

test("a MAC address survives being written into a frame and into text", () => {
  fc.assert(
    fc.property(mac, (address) => {
      const bytes = new Uint8Array(8);
      writeMac(bytes, 1, address);
      assert.equal(macAt(bytes, 1), address);
      assert.equal(parseMac(formatMac(address)), address);
      assert.equal(parseMac(formatMac(address).toUpperCase().replaceAll(":", "-")), address);
      assert.equal(isGroupMac(address), ((bytes[1] ?? 0) & 1) === 1);
    }),
  );
  assert.equal(formatMac(networkPlan.peerMac), "02:00:0a:00:02:03");
});

test("an IPv4 address survives being written as text", () => {
  fc.assert(fc.property(ip, (address) => assert.equal(parseIpv4Address(formatIpv4(address)), address)));
});

test("text that is no address is refused with a typed error", () => {
  const codeOf = (parse: () => unknown): string => {
    try {
      parse();
    } catch (error) {
      if (error instanceof OperationError) return error.code;
      throw error;
    }
    return "accepted";
  };
  for (const text of [
    "",
    "02:00:0a:00:02",
    "02:00:0a:00:02:0g",
    "02000a000203",
    "02:00:0a:00:02:03:04",
    " 02:00:0a:00:02:03",
  ]) {
    assert.equal(
      codeOf(() => parseMac(text)),
      "mac-invalid",
      text,
    );
  }
  for (const text of ["", "10.0.2", "10.0.2.256", "10.0.2.3.4", "0x0a.0.2.3", "10.0.2.-1"]) {
    assert.equal(
      codeOf(() => parseIpv4Address(text)),
      "ipv4-address-invalid",
      text,
    );
  }
});

test("the Internet checksum of data that holds its own checksum is zero, at odd lengths too", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2, maxLength: 64 }), (data) => {
      data.fill(0, 0, 2);
      const sum = internetChecksum(data, 0, data.length);
      data[0] = sum >>> 8;
      data[1] = sum;
      assert.equal(internetChecksum(data, 0, data.length), 0);
    }),
  );
  // The example of RFC 1071, section 3.
  assert.equal(internetChecksum(Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7), 0, 8), 0x220d);
});

test("an ARP packet survives being built and parsed", () => {
  fc.assert(
    fc.property(mac, ip, mac, ip, fc.constantFrom(1, 2), (senderMac, senderIp, targetMac, targetIp, operation) => {
      const packet = { operation, senderMac, senderIp, targetMac, targetIp };
      const frame = buildArpFrame(targetMac, packet);
      assert.equal(frame.length, 60);
      assert.deepEqual(parseArpFrame(frame), packet);
    }),
  );
});

test("an echo survives being built and parsed, and any flipped bit behind the Ethernet header is noticed", () => {
  const payload = fc.uint8Array({ maxLength: 64 });
  const u16 = fc.integer({ min: 0, max: 0xffff });
  fc.assert(
    fc.property(payload, u16, u16, fc.nat(), (bytes, identifier, sequence, position) => {
      const frame = new Uint8Array(echoFrameBytes(bytes.length));
      frame.set(bytes, ECHO_PAYLOAD_OFFSET);
      const from = { mac: networkPlan.peerMac, ip: networkPlan.peerIp };
      const to = { mac: 2 as MacAddress, ip: networkPlan.guestIp };
      sealEchoFrame(frame, from, to, { type: 8, identifier, sequence });
      const echo = parseEchoFrame(frame);
      assert.ok(echo?.checksumValid);
      assert.deepEqual([echo.identifier, echo.sequence], [identifier, sequence]);
      assert.deepEqual(frame.subarray(echo.payloadStart, echo.payloadEnd), bytes);
      const bit = 14 * 8 + (position % ((frame.length - 14) * 8));
      frame[bit >>> 3] = (frame[bit >>> 3] ?? 0) ^ (1 << (bit & 7));
      assert.notEqual(parseEchoFrame(frame)?.checksumValid, true);
    }),
  );
});

test("no sequence of bytes makes a parser throw or read outside the frame", () => {
  const hostile = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.uint8Array({ minLength: 14, maxLength: 80 }).map((bytes) => {
      bytes.set([0x08, bytes.length & 1 ? 0x00 : 0x06], 12);
      bytes[14] = 0x45;
      return bytes;
    }),
  );
  const filter = gatewayFilter({ mac: networkPlan.gatewayMac, ip: networkPlan.gatewayIp });
  fc.assert(
    fc.property(hostile, fc.nat(90), (frame, offset) => {
      parseArpFrame(frame);
      etherTypeOf(frame);
      filter(frame);
      const echo = parseEchoFrame(frame);
      assert.ok(echo === undefined || (echo.payloadStart <= echo.payloadEnd && echo.payloadEnd <= frame.length));
      const packet = parseIpv4(frame, offset);
      assert.ok(packet === undefined || packet.payloadEnd <= frame.length);
    }),
    { numRuns: 2000 },
  );
});

test("an announcement is broadcast from the moved MAC: a RARP request, and a gratuitous ARP when the address is known", () => {
  const moved = parseMac("02:00:00:00:00:15");
  assert.equal(announceFrames(moved).length, 1);
  const [reverse, gratuitous] = announceFrames(moved, networkPlan.guestIp);
  assert.ok(reverse !== undefined && gratuitous !== undefined);
  for (const frame of [reverse, gratuitous]) {
    assert.equal(destinationOf(frame), BROADCAST_MAC);
    assert.equal(sourceOf(frame), moved);
  }
  assert.equal(etherTypeOf(reverse), EtherType.rarp);
  assert.equal(parseArpFrame(reverse), undefined);
  const packet = parseArpFrame(gratuitous);
  assert.equal(packet?.operation, ArpOperation.request);
  assert.equal(packet?.senderIp, packet?.targetIp);
  assert.deepEqual(
    announceDelaysMs,
    announceDelaysMs.toSorted((a, b) => a - b),
  );
});

test("the gateway filter lets out frames to the gateway and questions for it, and nothing else", () => {
  const { gatewayMac, gatewayIp, guestIp, peerIp, peerMac } = networkPlan;
  const admits = gatewayFilter({ mac: gatewayMac, ip: gatewayIp });
  const guest = { senderMac: 2 as MacAddress, senderIp: guestIp, targetMac: 0 as MacAddress };
  const question = (targetIp: Ipv4Address): Uint8Array =>
    buildArpFrame(BROADCAST_MAC, { operation: ArpOperation.request, ...guest, targetIp });
  assert.equal(admits(question(gatewayIp)), true);
  assert.equal(admits(question(peerIp)), false);
  assert.equal(admits(question(guestIp)), false);
  for (const frame of announceFrames(2 as MacAddress, guestIp)) assert.equal(admits(frame), false);
  const unicast = question(peerIp);
  writeMac(unicast, 0, gatewayMac);
  assert.equal(admits(unicast), true);
  writeMac(unicast, 0, peerMac);
  assert.equal(admits(unicast), false);
});

test("a minimum frame takes 84 byte times on the wire and a full one 1538", () => {
  assert.equal(wireBytes(42), 84);
  assert.equal(wireBytes(60), 84);
  assert.equal(wireBytes(1514), 1538);
});

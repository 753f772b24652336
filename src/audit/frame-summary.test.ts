import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { frameSummary } from "./frame-summary.ts";

const macs = "0200000000010200000000fe";
const summary = (hex: string, lengthBytes?: number): string | undefined => {
  const bytes = Uint8Array.fromHex(hex.replaceAll(" ", ""));
  return frameSummary(bytes, lengthBytes ?? bytes.length);
};

test("each kind of frame has its line", () => {
  const ipv4 = (protocol: string, totalBytes: string): string =>
    `${macs}0800 4500${totalBytes}0000400040${protocol}0000 0a000202 0a00020f`;
  assert.equal(
    summary(`${ipv4("06", "05d0")} 1f9080e8 0000007b 00000000 8010ffff00000000 ${"00".repeat(12)}`),
    "TCP 10.0.2.2:8080 > 10.0.2.15:33000 seq 123 len 1436",
  );
  assert.equal(
    summary(`${ipv4("06", "0028")} 1f9080e8 ffffffff 00000000 5011ffff00000000`),
    "TCP 10.0.2.2:8080 > 10.0.2.15:33000 FIN seq 4294967295 len 0",
  );
  assert.equal(summary(`${ipv4("11", "001c")} 00350035 00080000`), "UDP 10.0.2.2:53 > 10.0.2.15:53 len 0");
  assert.equal(
    summary(`${ipv4("01", "0054")} 0800 0000 0001 0007`),
    "ICMP 10.0.2.2 > 10.0.2.15 echo request seq 7 len 56",
  );
  assert.equal(summary(`${ipv4("01", "0038")} 0301 0000 00000000`), "ICMP 10.0.2.2 > 10.0.2.15 type 3 code 1 len 28");
  assert.equal(summary(ipv4("2f", "0054")), "IPv4 protocol 47 10.0.2.2 > 10.0.2.15 len 64");
  assert.equal(
    summary(ipv4("11", "0054").replace("40004011", "00b94011")),
    "IPv4 fragment 10.0.2.2 > 10.0.2.15 len 64",
  );
  const arp = (operation: string): string =>
    `${macs}0806 0001080006040${operation} 0200000000fe 0a000202 000000000000 0a00020f`;
  assert.equal(summary(arp("001")), "ARP who has 10.0.2.15, tell 10.0.2.2");
  assert.equal(summary(arp("002")), "ARP 10.0.2.2 is at 02:00:00:00:00:fe");
  const ipv6 = (next: string, rest: string): string =>
    `${macs}86dd 600000000010${next}ff fe800000000000000000000000000001 20010db8000000010000000000000002 ${rest}`;
  assert.equal(summary(ipv6("3a", "87000000 00000000")), "ICMPv6 [fe80::1] > [2001:db8:0:1::2] type 135 code 0 len 12");
  assert.equal(summary(ipv6("11", "00350035 00100000")), "UDP [fe80::1]:53 > [2001:db8:0:1::2]:53 len 8");
  assert.equal(
    summary(`${macs}8100 0064 0800${ipv4("11", "001c").slice(28)} 00350035 00080000`),
    "VLAN 100 UDP 10.0.2.2:53 > 10.0.2.15:53 len 0",
  );
  assert.equal(summary(`${macs}88cc 0000`, 60), "Ethernet 02:00:00:00:00:fe > 02:00:00:00:00:01 type 0x88cc len 60");
  assert.equal(summary(macs), undefined);
});

test("IPv6 addresses leave out their longest run of zeros, wherever it is", () => {
  const between = (source: string): string | undefined =>
    summary(`${macs}86dd 60000000000011ff ${source} ${"ff".repeat(16)}`)?.split(" ")[4];
  assert.equal(between("0".repeat(32)), "[::]");
  assert.equal(between(`${"0".repeat(31)}1`), "[::1]");
  assert.equal(between(`fe80${"0".repeat(28)}`), "[fe80::]");
  assert.equal(between("00010000000000020000000000000003"), "[1:0:0:2::3]");
});

test("no bytes make the summary throw", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => void frameSummary(bytes, bytes.length)));
  const known = fc.constantFrom("0800", "86dd", "0806", "8100");
  fc.assert(
    fc.property(known, fc.uint8Array({ maxLength: 60 }), (type, bytes) => void summary(macs + type + bytes.toHex())),
  );
});

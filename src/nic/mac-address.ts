// Ethernet addresses as text and bytes, and the questions asked of them.
import { assert } from "../base/assert.ts";

export const MAC_BYTES = 6;

/** `02:00:00:00:00:01`, lower case. */
export function macToText(mac: Uint8Array): string {
  return Array.from(mac.subarray(0, MAC_BYTES), (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** What macToText writes; upper case is taken too. The text must be of that form. */
export function macFromText(text: string): Uint8Array {
  assert(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text), `not a MAC address: ${text}`);
  return Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
}

function isMulticast(mac: Uint8Array): boolean {
  return ((mac[0] ?? 0) & 1) !== 0;
}

export function isZero(mac: Uint8Array): boolean {
  return mac.every((byte) => byte === 0);
}

/** An address a station may have: not multicast and not zero (is_valid_ether_addr). */
export function isStation(mac: Uint8Array): boolean {
  return !isMulticast(mac) && !isZero(mac);
}

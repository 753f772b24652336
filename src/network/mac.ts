// MAC addresses as 48-bit numbers: compared with ===, usable as map keys, never an object per frame.
import { OperationError } from "../base/errors.ts";

declare const brand: unique symbol;

/** A 48-bit MAC address; the first octet on the wire is the most significant. */
export type MacAddress = number & { readonly [brand]: "MacAddress" };

export const BROADCAST_MAC = 0xffff_ffff_ffff as MacAddress;
export const ZERO_MAC = 0 as MacAddress;

const HIGH_HALF = 0x1_0000_0000;
const textForm = /^[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}$/i;

/** Reads six octets; the caller has checked that they are there (missing ones count as zero). */
export function macAt(bytes: Uint8Array, offset: number): MacAddress {
  const high = ((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0);
  const low =
    ((bytes[offset + 2] ?? 0) << 24) |
    ((bytes[offset + 3] ?? 0) << 16) |
    ((bytes[offset + 4] ?? 0) << 8) |
    (bytes[offset + 5] ?? 0);
  return (high * HIGH_HALF + (low >>> 0)) as MacAddress;
}

export function writeMac(bytes: Uint8Array, offset: number, mac: MacAddress): void {
  const high = Math.floor(mac / HIGH_HALF);
  const low = mac >>> 0;
  bytes[offset] = high >>> 8;
  bytes[offset + 1] = high;
  bytes[offset + 2] = low >>> 24;
  bytes[offset + 3] = low >>> 16;
  bytes[offset + 4] = low >>> 8;
  bytes[offset + 5] = low;
}

/** True for multicast and broadcast: the group bit is the lowest bit of the first octet. */
export function isGroupMac(mac: MacAddress): boolean {
  return (Math.floor(mac / 0x100_0000_0000) & 1) !== 0;
}

/** Lower-case, with colons. */
export function formatMac(mac: MacAddress): string {
  return mac.toString(16).padStart(12, "0").replace(/..\B/g, "$&:");
}

/** Reads six hexadecimal octets with colons or hyphens between them. Throws OperationError `mac-invalid`. */
export function parseMac(text: string): MacAddress {
  if (!textForm.test(text)) {
    throw new OperationError({
      code: "mac-invalid",
      message: `"${text}" is not a MAC address`,
      advice: "Write six octets in hexadecimal, as in 02:00:0a:00:02:0f.",
      facts: { text },
    });
  }
  return Number.parseInt(text.replace(/[:-]/g, ""), 16) as MacAddress;
}

// The checksum of the wire: xxHash32 with seed 0, in WebAssembly.
//
// It finds accidents (TCP's 16-bit sum lets some pass, and so may a proxy or our own buffer handling), not attacks;
// those are TLS's business. Why this one: it hashes at several GB/s, far above the network, where a CRC in plain
// JavaScript does not reach one; 32 bits need no BigInt; and a change inside one aligned 32-bit word is always found,
// for every step from word to digest is a bijection.
import xxhash from "xxhash-wasm";

const hashes = await xxhash();

/** xxHash32 of the bytes, unsigned. */
export function checksum(bytes: Uint8Array): number {
  return hashes.h32Raw(bytes);
}

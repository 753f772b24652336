// The payload of the n-th ping: pseudo-random, so that bytes of another ping or of none are noticed.

/** Fills target from `offset` to its end with the payload of ping `index` under `seed` (xorshift32 over a mixed start). */
export function fillPingPayload(target: Uint8Array, offset: number, seed: number, index: number): void {
  let state = mix(seed ^ mix(index + 1));
  for (let at = offset; at < target.length; at += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    target[at] = state;
    // Stores beyond the end of a typed array are dropped, which ends the last word where the payload ends.
    target[at + 1] = state >>> 8;
    target[at + 2] = state >>> 16;
    target[at + 3] = state >>> 24;
  }
}

/** A bijective mix of 32 bits (the finalizer of MurmurHash3); never zero, where xorshift would stay. */
function mix(value: number): number {
  let mixed = value | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85eb_ca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35);
  mixed ^= mixed >>> 16;
  return mixed === 0 ? 1 : mixed;
}
